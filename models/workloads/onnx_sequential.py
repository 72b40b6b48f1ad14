"""A classifier in an ONNX file as a `Network` that the engines run (optional package ``onnx``).

Conv and Gemm one after the other, Relu between them, Flatten once: what `layers.Network` can hold. Everything else is
refused by name, and what was read must give the reference evaluator's scores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BitkilnError
from .layers import Layer, Network
from .onnx_shapes import OnnxNetwork, import_onnx

__all__ = ["sequential_network"]

KEPT = ("Identity", "Dropout")      # nothing in inference
SUPPORTED = ("Conv", "Gemm", "Relu", "Flatten", "Softmax", "LogSoftmax", *KEPT)
TOLERANCE = 1e-4                    # float32 sums in another order
_HELP = "Conv (square, one group), Gemm, Relu and Flatten in a row; `bitkiln estimate` takes the shapes of any network"


def sequential_network(path: str | Path, x: np.ndarray) -> Network:
    """The network of a file.

    Parameters
    ----------
    path : str or Path
    x : ndarray (samples, ...)
        Some inputs: the first few are compared with the reference evaluator.

    Raises
    ------
    BitkilnError
        Exit code 3 without the package; a file that is no such network, or inputs that do not fit.
    """
    path = Path(path)
    found = import_onnx(path)
    import onnx

    graph = onnx.load(str(path)).graph
    layers = _layers(graph, found, str(path))
    network = Network(path.stem, tuple(layers))
    _compare(network, path, x)
    return network


def _layers(graph: Any, found: OnnxNetwork, where: str) -> list[Layer]:
    constants = {each.name for each in graph.initializer}
    names = iter(found.workload.layers)
    layers: list[Layer] = []
    at, ended = next((each.name for each in graph.input if each.name not in constants), ""), False
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        if node.op_type not in SUPPORTED:
            raise BitkilnError("operator that a sequential classifier has not", where=where, got=node.op_type,
                               expected=", ".join(SUPPORTED), help=_HELP)
        if ended or not node.input or node.input[0] != at:
            raise BitkilnError("not a sequential network", where=where, got=f"{node.op_type} ({node.name})",
                               expected="each operator on the result of the one before it", help=_HELP)
        at = node.output[0]
        if node.op_type in ("Conv", "Gemm"):
            layers.append(_layer(next(names), node.op_type, found, where))
        elif node.op_type == "Relu":
            if not layers:
                raise BitkilnError("Relu before the first layer", where=where, expected="Conv or Gemm first")
            layers[-1] = replace(layers[-1], relu=True)
        ended = node.op_type in ("Softmax", "LogSoftmax")       # the highest score stays the highest
    return layers


def _layer(shape: Any, operator: str, found: OnnxNetwork, where: str) -> Layer:
    weight = found.weights.get(shape.name)
    if weight is None or weight.ndim != 2:
        raise BitkilnError("layer without one weight matrix", where=f"{where} {shape.name}", got=operator,
                           expected="constant weights and one group", help=_HELP)
    bias = found.biases.get(shape.name, np.zeros(len(weight)))
    kernel, stride, padding = 0, 1, 0
    if operator == "Conv":
        geometry = shape.conv
        squares = [set(geometry.kernel), set(geometry.stride), set(geometry.padding)]
        if any(len(each) > 1 for each in squares) or geometry.dilation != (1, 1) or geometry.groups != 1:
            raise BitkilnError("convolution that is not square", where=f"{where} {shape.name}",
                               got=f"kernel {geometry.kernel}, stride {geometry.stride}, padding {geometry.padding}, "
                                   f"dilation {geometry.dilation}", expected="the same in all directions, dilation 1",
                               help=_HELP)
        kernel, stride, padding = geometry.kernel[0], geometry.stride[0], geometry.padding[0]
    return Layer(shape.name, np.asarray(weight, np.float64), np.asarray(bias, np.float64), kernel, stride, padding,
                 relu=False)


def _compare(network: Network, path: Path, x: np.ndarray) -> None:
    from onnx.reference import ReferenceEvaluator

    evaluator, few = ReferenceEvaluator(str(path)), np.asarray(x[:4], np.float32)
    try:
        # One by one: a file may fix its batch at 1.
        wanted = np.concatenate([evaluator.run(None, {evaluator.input_names[0]: few[i:i + 1]})[0]
                                 for i in range(len(few))])
        scores, _ = network.forward(few)
    except BitkilnError:
        raise
    except Exception as error:          # the evaluator raises many types
        raise BitkilnError("inputs do not fit the network", where=str(path), got=str(error).splitlines()[0][:120],
                           expected="x as the network takes it: (samples, channels, height, width) or (samples, "
                                    "features)") from None
    if _probabilities(path):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = scores / scores.sum(axis=1, keepdims=True)
        wanted = np.exp(wanted) if _probabilities(path) == "LogSoftmax" else wanted
    if scores.shape != wanted.shape or not np.allclose(scores, wanted, rtol=TOLERANCE,
                                                       atol=TOLERANCE * float(np.abs(wanted).max())):
        raise BitkilnError("not understood", where=str(path), got="scores that the reference evaluator does not give",
                           expected="a plain classifier", help=_HELP)


def _probabilities(path: Path) -> str:
    """The soft maximum at the end, if any."""
    import onnx

    last = onnx.load(str(path)).graph.node[-1].op_type
    return last if last in ("Softmax", "LogSoftmax") else ""
