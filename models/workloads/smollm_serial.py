"""A language model's matrices on the bit-serial engine: float16 activations, exact sums, weights of a few bits."""

from __future__ import annotations

import numpy as np

from ..design.bitserial import BitSerialDesign
from ..errors import BitkilnError
from ..quantize.methods import quantize
from .bitserial import EngineMatrix, design_for, matmul, product_of
from .smollm_net import Llama

__all__ = ["SerialLlama", "engine_matrix", "half_codes", "serial_design"]

# Name of a row of results: method, width and options of the quantiser. All of them give what the engine takes.
WEIGHTS = {
    "int8": ("rtn_sym", 8, {"scale": "uint8"}), "int6": ("rtn_sym", 6, {"scale": "uint8"}),
    "int4_asym": ("rtn_asym", 4, {"scale": "uint8"}), "fp4": ("fp", 4, {"scale": "uint8"}),
    "bitmod4": ("bitmod", 4, {}), "int3_asym": ("rtn_asym", 3, {"scale": "uint8"}),
    "fp3": ("fp", 3, {"scale": "uint8"}), "bitmod3": ("bitmod", 3, {}), "mxfp4": ("mxfp4", 4, {}),
    "nvfp4": ("nvfp4", 4, {}),
}


def engine_matrix(weights: str, matrix: np.ndarray, name: str, group: int = 128, **options) -> EngineMatrix:
    """A matrix quantised as a row of ``WEIGHTS`` says, for an engine of its own kind.

    Parameters
    ----------
    matrix : ndarray (N, K)
    group : int
        128, or the format's own (mxfp4 32, nvfp4 16).
    **options
        Of `BitSerialDesign`.
    """
    if weights not in WEIGHTS:
        raise BitkilnError("unknown weight format", where="weights", got=weights, expected=", ".join(WEIGHTS))
    method, bits, extra = WEIGHTS[weights]
    size = {"mxfp4": 32, "nvfp4": 16}.get(weights, min(group, matrix.shape[1]))
    quantised = quantize(method, matrix, bits, size, name=name, **extra)
    return EngineMatrix(design_for(quantised, **options), quantised)


def half_codes(rows: np.ndarray) -> np.ndarray:
    """float16 codes of activations: nearest even, saturating."""
    top = float(np.finfo(np.float16).max)
    return np.clip(rows, -top, top).astype(np.float16).view(np.uint16).astype(np.int64)


def serial_design(matrices: list[EngineMatrix]) -> BitSerialDesign:
    """One engine for matrices of one kind: the longest channel decides its width."""
    return matrices[0].design.with_options(groups=max(m.design.groups for m in matrices),
                                           group=max(m.design.group for m in matrices))


class SerialLlama:
    """Products of a network on the engine, as `smollm_net.logits` takes them.

    Activations are rounded to float16 (nearest even, saturating); a result is the engine's float32 times nothing else
    than the channel's scale.

    Parameters
    ----------
    net : Llama
    weights : str
        A key of ``WEIGHTS``.
    """

    def __init__(self, net: Llama, weights: str):
        self.net, self.weights = net, weights
        self.matrices: dict[str, EngineMatrix] = {}

    def matrix(self, name: str) -> EngineMatrix:
        """The quantised matrix of a name; made at its first use."""
        if name not in self.matrices:
            self.matrices[name] = engine_matrix(self.weights, self.net.arrays[name], name)
        return self.matrices[name]

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """float16 codes of activations."""
        return half_codes(rows)

    def __call__(self, name: str, rows: np.ndarray) -> np.ndarray:
        matrix = self.matrix(name)
        codes = self.codes(rows.reshape(-1, rows.shape[-1]))
        found = product_of(matrix, codes, matmul(matrix, codes))
        return found.reshape(*rows.shape[:-1], -1).astype(np.float32)

    @property
    def bits_per_weight(self) -> float:
        """Over the matrices used so far, all metadata counted."""
        stored = sum(sum(m.quantised.bits.values()) for m in self.matrices.values())
        return stored / sum(m.quantised.codes.size for m in self.matrices.values())
