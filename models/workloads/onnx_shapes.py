"""Layer shapes and weights of an ONNX file (optional package ``onnx``; no runtime is needed).

Conv, ConvTranspose, Gemm and MatMul become layers; operators without matrix products are passed over, and every other
one is named in the result, so that a total is never silently too small. Weights may reach their layer through
operators on constants (Identity, Transpose, DequantizeLinear, ...), which are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..design.checks import check_integer
from ..errors import MISSING_TOOL, BitkilnError
from .onnx_graph import OnnxGraph
from .onnx_layers import LAYERS, PASSED, NodeLayer, NotUnderstood
from .shapes import MOST, Workload

__all__ = ["OnnxNetwork", "import_onnx"]


@dataclass(frozen=True)
class OnnxNetwork:
    """What an ONNX file holds.

    Attributes
    ----------
    workload : Workload
    weights : dict of str to ndarray
        By layer name, as stored: (n, k), or (count, n, k) where a layer is several products. A convolution's k runs
        over channel, row, column. Layers of the kind ``attention`` have none.
    biases : dict of str to ndarray (outputs,)
        Of the layers that have one in the same operator.
    unsupported : tuple of str
        ``operator (node): reason`` of everything that may hold products and is not counted.
    """

    workload: Workload
    weights: dict[str, np.ndarray]
    biases: dict[str, np.ndarray] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()


def _onnx() -> ModuleType:
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError:
        raise BitkilnError("missing package", where="onnx", got="not installed", expected="onnx 1.16 or later",
                           help="pip install 'bitkiln[onnx]'", exit_code=MISSING_TOOL) from None
    return onnx


def import_onnx(path: str | Path, *, batch: int = 1, dims: Mapping[str, int] | None = None,
                weights: bool = True) -> OnnxNetwork:
    """Layers and weights of an ONNX file.

    Parameters
    ----------
    path : str or Path
    batch : int
        Size of the inputs' first dimension where the file leaves it open.
    dims : mapping, optional
        Sizes of other named dimensions that the file leaves open, such as ``{"sequence": 128}``.
    weights : bool
        False reads shapes only: weights that a file keeps in another one need not be there.

    Raises
    ------
    BitkilnError
        Package missing (exit code 3), unreadable or incomplete file, open dimensions without a size, or no layer.
    """
    onnx = _onnx()
    check_integer(batch, "batch", 1, MOST)
    path = Path(path)
    model = _load(onnx, path, weights)
    opened = _close_dimensions(model, batch, dict(dims or {}), str(path))
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:      # the checker's exception types differ between versions
        raise BitkilnError("shapes cannot be inferred", where=str(path), got=str(error).splitlines()[0]) from None
    graph = OnnxGraph(onnx, model)
    layers: list[NodeLayer] = []
    unsupported = []
    for place, node in enumerate(model.graph.node):
        if graph.fold(node) or (node.op_type in PASSED and node.domain in ("", "ai.onnx")):
            continue
        name = node.name or f"{node.op_type}_{place}"
        read = LAYERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        try:
            if read is None:
                raise NotUnderstood("not supported")
            layer = read(name, node, graph)
            if graph.opaque.intersection(node.input):
                layer = replace(layer, weights=None)
                if weights:
                    unsupported.append(f"{node.op_type} ({name}): shape counted, weights not computed")
            layers.append(layer)
        except NotUnderstood as reason:
            unsupported.append(f"{node.op_type} ({name}): {reason}")
    if not layers:
        raise BitkilnError("no layers", where=str(path), got="; ".join(unsupported[:5]) or "no operator with weights",
                           expected="Conv, ConvTranspose, Gemm or MatMul")
    layers = _classes(_unique(layers))
    first = next((value for value in model.graph.input if value.name not in graph.constants
                  and value.type.tensor_type.shape.dim), None)
    batch = first.type.tensor_type.shape.dim[0].dim_value if first is not None else batch
    source = f"ONNX file {path.name}" + (f"; {opened}" if opened else "")
    workload = Workload(path.stem, tuple(each.shape for each in layers), source, batch)
    if not weights:
        return OnnxNetwork(workload, {}, {}, tuple(unsupported))
    return OnnxNetwork(workload, {each.shape.name: each.weights for each in layers if each.weights is not None},
                       {each.shape.name: each.bias for each in layers if each.bias is not None}, tuple(unsupported))


def _load(onnx: ModuleType, path: Path, weights: bool) -> Any:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise BitkilnError("cannot read", where=str(path), got=error.strerror or str(error),
                           expected="an ONNX file") from None
    except Exception as error:      # protobuf's DecodeError is not importable everywhere
        raise BitkilnError("not an ONNX file", where=str(path), got=str(error).splitlines()[0] if str(error) else None,
                           expected="a serialised ONNX model") from None
    if not model.graph.node:
        raise BitkilnError("not an ONNX file", where=str(path), got="no operators", expected="a serialised ONNX model")
    if weights:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        except Exception as error:      # the checker's exception types differ between versions
            raise BitkilnError("weights in another file", where=str(path), got=str(error).splitlines()[0],
                               expected="the file beside this one",
                               help="weights=False reads the shapes alone") from None
    return model


def _close_dimensions(model: Any, batch: int, dims: dict[str, int], where: str) -> str:
    """Give every open dimension of the inputs a size; returns what was chosen."""
    constants = {each.name for each in model.graph.initializer}
    chosen, unknown, used = [], [], set()
    for value in model.graph.input:
        if value.name in constants or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            name = dim.dim_param or f"{value.name}[{axis}]"
            if name in dims:
                size = check_integer(dims[name], f"dims {name}", 1, MOST)
                used.add(name)
            elif axis == 0:
                size = batch
            else:
                unknown.append(name)
                continue
            dim.dim_value = size        # a oneof: the name goes
            chosen.append(f"{name} = {size}")
    if unknown:
        names = sorted(set(unknown))
        raise BitkilnError("open dimensions", where=where, got=", ".join(names), expected="a size for each",
                           help="dims={" + ", ".join(f'"{name}": ...' for name in names) + "}")
    for name in dims:
        if name not in used:
            raise BitkilnError("no such open dimension", where=where, got=name, expected=", ".join(
                text.split(" = ")[0] for text in chosen) or "none: all sizes are fixed")
    # Stored sizes of inner tensors may carry the old names; inference makes them anew.
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return ", ".join(dict.fromkeys(chosen))


def _unique(layers: list[NodeLayer]) -> list[NodeLayer]:
    """Names that files use twice get a number."""
    seen: dict[str, int] = {}
    found = []
    for layer in layers:
        name = layer.shape.name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            layer = replace(layer, shape=replace(layer.shape, name=f"{name}#{seen[name]}"))
        found.append(layer)
    return found


def _classes(layers: list[NodeLayer]) -> list[NodeLayer]:
    """The first and the last layer with weights are what mixed precision usually treats apart."""
    weighted = [place for place, layer in enumerate(layers) if layer.shape.has_weights]
    classes = {weighted[0]: "first", weighted[-1]: "last"} if weighted else {}
    return [replace(layer, shape=replace(layer.shape, layer_class=classes[place])) if place in classes else layer
            for place, layer in enumerate(layers)]
