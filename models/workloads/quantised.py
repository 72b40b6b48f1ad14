"""A network in a dot unit's formats: codes in, exact accumulators out, float64 between the layers.

One layer: encode the activations with one scale, take all dot products of codes (the part that hardware
does), then ``y = accumulator value * (activation scale * channel scale) + bias`` and ReLU in float64. The
requantisation hardware that will do this step in integers is not modelled here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..design.dot import DotDesign
from ..errors import BitkilnError
from ..golden.dot import DotResult
from ..quantize.rtn import Quantized, rtn
from .layers import Layer, Network
from .matmul import matmul

__all__ = ["LayerRun", "Matmul", "QuantisedLayer", "QuantisedNetwork", "quantise_network"]

Matmul = Callable[[DotDesign, np.ndarray, np.ndarray], DotResult]


@dataclass(frozen=True)
class QuantisedLayer:
    """A layer with its weights as codes (one scale per output channel) and its input's scale."""

    layer: Layer
    weights: Quantized
    input_scale: float


@dataclass(frozen=True)
class LayerRun:
    """What one layer did with a batch: operand codes (rows, K) and results (rows, outputs)."""

    layer: QuantisedLayer
    codes: np.ndarray
    result: DotResult

    @property
    def macs(self) -> int:
        """Products that the network needs (padding lanes not counted)."""
        return self.codes.shape[0] * self.layer.layer.outputs * self.codes.shape[1]


@dataclass(frozen=True)
class QuantisedNetwork:
    """Layers quantised for the operand formats of ``design``."""

    network: Network
    design: DotDesign
    layers: tuple[QuantisedLayer, ...]

    def forward(self, x: np.ndarray, matmul: Matmul = matmul) -> tuple[np.ndarray, list[LayerRun]]:
        """Class scores and every intermediate.

        Parameters
        ----------
        x : ndarray, shape (images, channels, height, width)
        matmul : callable
            ``(design, a_codes (M, K), w_codes (N, K)) -> DotResult`` of shape (M, N): golden model or RTL.
        """
        design, runs = self.design, []
        x = np.asarray(x, np.float64)
        zero = int(design.activation.encode(np.zeros(1))[0])
        for item in self.layers:
            layer = item.layer
            codes = layer.rows(design.activation.encode(x / item.input_scale), zero)
            result = matmul(design, codes, item.weights.codes)
            runs.append(LayerRun(item, codes, result))
            y = result.value(design) * (item.input_scale * item.weights.scale.reshape(-1)) + layer.bias
            x = layer.fold(np.maximum(y, 0) if layer.relu else y, x)
        return x, runs


def quantise_network(network: Network, design: DotDesign, calibration: np.ndarray,
                     method: str = "auto") -> QuantisedNetwork:
    """Round-to-nearest codes of every weight, and activation scales from a float run on ``calibration``.

    Parameters
    ----------
    network : Network
    design : DotDesign
        Its activation and weight formats are used.
    calibration : ndarray, shape (images, channels, height, width)
    method : str
        How scales are chosen, see ``models.quantize.rtn``.
    """
    accumulator = design.accumulator
    for layer in network.layers:
        if accumulator.kind == "exact" and accumulator.bits is None and layer.terms > accumulator.depth:
            raise BitkilnError("accumulator too shallow", where=f"layer {layer.name}",
                               got=accumulator.depth, expected=f"a depth of at least {layer.terms} products",
                               help="raise accumulator.depth")
    _, inputs = network.forward(calibration)
    layers = []
    for layer, entry in zip(network.layers, inputs, strict=True):
        weights = rtn(layer.weight, design.weight, axis=0, method=method, name=f"{layer.name}.weight")
        entry = rtn(entry, design.activation, method=method, name=f"input of {layer.name}")
        layers.append(QuantisedLayer(layer, weights, float(entry.scale)))
    return QuantisedNetwork(network, design, tuple(layers))
