"""A language model's matrices on the dequantising core as its GGUF file has them: nothing is quantised anew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..design.dequant import DequantDesign
from ..design.gguf import gguf_design
from ..design.layouts_blocks import BLOCKS
from ..errors import BitkilnError
from .gguf import GgufFile
from .gguf_core import MINIMA, GgufMatrix, matmul
from .smollm_net import Llama
from .smollm_serial import half_codes

__all__ = ["FileLlama", "quantised_types", "stored_bits"]


def quantised_types(file: GgufFile, names: Iterable[str]) -> tuple[str, ...]:
    """Block types of some tensors, each once, in order of appearance; float tensors have none."""
    return tuple(dict.fromkeys(file.info(name).type for name in names if file.info(name).type in BLOCKS))


def stored_bits(file: GgufFile, names: Iterable[str]) -> float:
    """Bits of a weight in the file, over some tensors."""
    found = [file.info(name) for name in names]
    return 8 * sum(info.bytes for info in found) / sum(int(np.prod(info.shape)) for info in found)


class FileLlama:
    """Products of a network with the blocks of its file, as `smollm_net.logits` takes them.

    Activations are rounded to float16 (nearest even, saturating); a product is what the core's results add up to
    (`gguf_core.matmul`), rounded to float32. Matrices of floats (f32, f16, bf16) are not for the core: their products
    are float32 ones of the host.

    Parameters
    ----------
    net : Llama
    file : GgufFile
        That its arrays are from.
    minima : str
        As of `GgufMatrix`: ``core`` or ``host``.

    Raises
    ------
    BitkilnError
        Not one matrix of the file is quantised, or another word for ``minima``.
    """

    def __init__(self, net: Llama, file: GgufFile, minima: str = "core"):
        if minima not in MINIMA:
            raise BitkilnError("unknown choice", where="minima", got=minima, expected=", ".join(MINIMA))
        self.net, self.file, self.minima = net, file, minima
        self.types = quantised_types(file, net.matrices)
        if not self.types:
            raise BitkilnError("no quantised matrix", where=str(file.path),
                               got=file.info(net.matrices[0]).type, expected=", ".join(BLOCKS))
        self.matrices: dict[str, GgufMatrix] = {}

    def quantised(self, name: str) -> bool:
        """Whether a matrix is made of blocks."""
        return self.file.info(name).type in BLOCKS

    def matrix(self, name: str, design: DequantDesign | None = None) -> GgufMatrix:
        """A matrix for a core, by default the smallest for its type; made at its first use."""
        type = self.file.info(name).type
        if name not in self.matrices:
            self.matrices[name] = GgufMatrix(gguf_design(type), type, self.file.integers(name), self.minima)
        kept = self.matrices[name]
        return kept if design is None else GgufMatrix(design, type, kept.blocks, self.minima)

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """float16 codes of activations."""
        return half_codes(rows)

    def __call__(self, name: str, rows: np.ndarray) -> np.ndarray:
        if not self.quantised(name):
            return rows @ self.net.arrays[name].T
        flat = rows.reshape(-1, rows.shape[-1])
        return matmul(self.matrix(name), self.codes(flat)).reshape(*rows.shape[:-1], -1).astype(np.float32)

    @property
    def bits_per_weight(self) -> float:
        """In the file, over all matrices."""
        return stored_bits(self.file, self.net.matrices)
