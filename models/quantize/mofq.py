"""A format for each layer: integer or float of the same width (MoFQ), or the narrowest that is good enough.

Even steps suit values of one magnitude, floats suit values of many: at eight bits the largest of many Gaussian values
is some five deviations, and even steps lose less; a few values far out make every even step coarse. The choice costs
nothing in memory or time, for both have the same width and the same lanes (Zhang et al., "Integer or Floating Point?
New Outlooks for Low-Bit Quantization on Large Language Models", arXiv 2305.12356).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..design.morphable import Mode
from ..errors import BitkilnError
from .rtn import rtn

__all__ = ["PAIRS", "Choice", "adapt_layers", "choose", "choose_layers", "mode_noise"]

PAIRS = (("int8", "fp8_e4m3"), ("int4", "fp4"))


class _Layer(Protocol):
    name: str
    weight: np.ndarray

    def rows(self, x: np.ndarray) -> np.ndarray: ...


class _Network(Protocol):
    layers: Sequence[_Layer]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]: ...


@dataclass(frozen=True)
class Choice:
    """The better of some formats or modes, and the noise of each: squared error over squared magnitude."""

    name: str
    noise: dict[str, float]


def choose(tensor: np.ndarray, formats: Sequence[str] = PAIRS[0], *, axis: int | None = None,
           group: int | None = None, method: str = "auto", name: str = "tensor") -> Choice:
    """The format of least squared error; the first of equals.

    Parameters
    ----------
    tensor : ndarray
    formats : sequence of str
        Formats of one width.
    axis, group, method, name
        As for ``rtn``.
    """
    noise = {fmt: rtn(tensor, fmt, axis=axis, group=group, method=method, name=name).nmse(tensor) for fmt in formats}
    return Choice(min(noise, key=noise.get), noise)


def mode_noise(weight: np.ndarray, inputs: np.ndarray | None, mode: str, *, method: str = "auto",
               measure: str = "tensors", name: str = "layer") -> float:
    """Noise of one layer in a mode.

    Parameters
    ----------
    weight : ndarray (outputs, K)
        One scale for each output.
    inputs : ndarray (rows, K) or None
        Calibration rows, one scale for all. Without them only the weights count.
    measure : str
        ``tensors``: noise of the weights plus noise of the inputs (of the product, to first order, where errors are
        independent); ``output``: error of the quantised product itself.
    """
    formats = Mode.of(mode)
    weights = rtn(weight, formats.weight, axis=0, method=method, name=f"{name}.weight")
    if inputs is None:
        return weights.nmse(weight)
    entry = rtn(inputs, formats.activation, method=method, name=f"input of {name}")
    if measure == "tensors":
        return weights.nmse(weight) + entry.nmse(inputs)
    exact = np.asarray(inputs, np.float64) @ np.asarray(weight, np.float64).T
    power = np.sum(exact ** 2)
    error = np.sum((entry.dequantise() @ weights.dequantise().T - exact) ** 2)
    return float(error / power) if power else float(error and np.inf)


def _layer_noise(network: _Network, modes: Sequence[str], calibration: np.ndarray | None, method: str,
                 measure: str) -> dict[str, dict[str, float]]:
    """Noise of every layer in every mode."""
    if measure not in ("tensors", "output"):
        raise BitkilnError("unknown measure", where="measure", got=measure, expected="tensors or output")
    if measure == "output" and calibration is None:
        raise BitkilnError("no calibration data", where="calibration", expected="inputs, to measure outputs")
    inputs = [None] * len(network.layers) if calibration is None else network.forward(calibration)[1]
    return {layer.name: {mode: mode_noise(layer.weight, None if x is None else layer.rows(x), mode, method=method,
                                          measure=measure, name=layer.name) for mode in modes}
            for layer, x in zip(network.layers, inputs, strict=True)}


def choose_layers(network: _Network, pair: Sequence[str] = PAIRS[0], calibration: np.ndarray | None = None, *,
                  method: str = "auto", measure: str = "tensors") -> dict[str, Choice]:
    """The better mode of each layer.

    Parameters
    ----------
    network : models.workloads.layers.Network
    pair : sequence of str
        Modes of one width, such as ``("int8", "fp8_e4m3")``.
    calibration : ndarray, optional
        Inputs of the network; without them only weights are compared.

    Returns
    -------
    dict of str to Choice
        By layer; ``{name: choice.name ...}`` is a mapping for ``models.workloads.mixed``.
    """
    widths = {(mode.activation.bits, mode.weight.bits) for mode in map(Mode.of, pair)}
    if len(widths) != 1:
        raise BitkilnError("modes of different width", where="pair", got=", ".join(pair),
                           expected="modes of one width", help="adapt_layers weighs widths against each other")
    noise = _layer_noise(network, pair, calibration, method, measure)
    return {name: Choice(min(found, key=found.get), found) for name, found in noise.items()}


def adapt_layers(network: _Network, modes: Sequence[str], calibration: np.ndarray | None = None, *,
                 least_db: float = 20.0, method: str = "auto", measure: str = "output") -> dict[str, Choice]:
    """The cheapest mode of each layer whose signal is ``least_db`` above its noise; where none is, the quietest.

    Cheap is few bits a weight, then few bits an activation, then little noise (layer-adaptive precision, as for
    XR-NPE's modes).
    """
    noise = _layer_noise(network, modes, calibration, method, measure)
    limit = 10 ** (-least_db / 10)

    def cost(item: tuple[str, float]) -> tuple:
        mode, lost = item
        formats = Mode.of(mode)
        good = lost <= limit
        return not good, *((formats.weight.bits, formats.activation.bits) if good else ()), lost

    return {name: Choice(min(found.items(), key=cost)[0], found) for name, found in noise.items()}
