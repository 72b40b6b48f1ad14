"""The result of every low-bit weight quantiser: codes, scales and all metadata, as they would be stored.

A weight is ``(level - zero) * scale``, where the level is what its code means in the type of its group:

* the group's type is ``types[type_index]`` and, where that type has special values, the one that ``special_index``
  selects (BitMoD);
* ``zero`` moves integers (asymmetric INT: signed codes ``q - 2**(b-1)``, zero-point ``z - 2**(b-1)``);
* negative levels use ``negative_scale`` where there is one (AFPQ);
* columns flagged by ``salient`` are of type ``types[1]`` and use ``salient_scale`` (PTQ1.61);
* with ``codebook`` a code is an index into the row's own entries (SqueezeLLM);
* with ``pairs`` a code 1000 makes its neighbour an outlier (OliVe, ``models.quantize.pairs``).

Then the ``outliers`` are added, and columns are divided by ``input_scale`` (AWQ). Group g of a row holds the columns
``g * group`` to ``(g + 1) * group - 1``; the last one may be shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import footprint, scales
from .grids import levels, special_count
from .grouped import SLAB, matrix_shape
from .pairs import decode_pairs

__all__ = ["GroupQuantized"]


@dataclass(frozen=True, eq=False)
class GroupQuantized:
    """Codes, scales and metadata of a weight matrix of N output channels with K weights in G groups each.

    Attributes
    ----------
    method : str
        ``bitmod``, ``awq(rtn_asym)``, ...
    shape : tuple of int
        Of the tensor; its matrix view is (N, K) = (first axis, all others), a vector is one row.
    group : int
        Weights of a group, 1 to K.
    types : tuple of str
        Weight types that groups choose among (names of ``models.design.weights`` or ``models.formats``); empty with
        a codebook.
    codes : ndarray of uint8 or uint16 (N, K)
    scale_codes : ndarray (N, G)
        As stored: unsigned integers, codes of a float, or the bits of fp16 and fp32 as uint16 and uint32; zeros
        without meaning with ``scale_format`` none.
    scale_format : str
        One of ``models.quantize.scales.SCALE_FORMATS``.
    channel_scale : ndarray of float32 or None
        Second-level scales; entry i belongs to the groups ``i * scale_block`` to ``(i + 1) * scale_block - 1`` in
        row-major order (a row, the whole tensor, or 256 groups of NF4's double quantisation).
    type_index, special_index : ndarray of uint8 (N, G) or None
        None where there is one type, or no special value.
    zero : ndarray of int16 (N, G) or None
    zero_bits : int
        Stored bits of a zero-point.
    negative_scale_codes, salient_scale_codes : ndarray (N, G) or None
        Second arrays of scales, stored as the first.
    salient : ndarray of bool (K,) or None
    codebook : ndarray of float16 (N, entries) or None
        Rising within a row.
    outlier_row, outlier_column : ndarray of uint32 (count,); outlier_value : ndarray of float16 (count,)
        In row-major order; values are added to the dense ones.
    input_scale : ndarray of float32 (K,) or None
        What the tensor's columns were multiplied by.
    folded : bool
        Whether the operation before takes ``input_scale`` over, so that it is not stored here.
    pairs : bool
    alignment : int
        Bits of a memory word at which the codes of each group begin; 1: none.
    tensor_bits : int
        Bits of choices that hold for the whole tensor (its type).
    """

    method: str
    shape: tuple[int, ...]
    group: int
    types: tuple[str, ...]
    codes: np.ndarray
    scale_codes: np.ndarray
    scale_format: str = "fp32"
    channel_scale: np.ndarray | None = None
    scale_block: int = 1
    type_index: np.ndarray | None = None
    special_index: np.ndarray | None = None
    zero: np.ndarray | None = None
    zero_bits: int = 0
    negative_scale_codes: np.ndarray | None = None
    salient_scale_codes: np.ndarray | None = None
    salient: np.ndarray | None = None
    codebook: np.ndarray | None = None
    outlier_row: np.ndarray | None = None
    outlier_column: np.ndarray | None = None
    outlier_value: np.ndarray | None = None
    input_scale: np.ndarray | None = None
    folded: bool = True
    pairs: bool = False
    alignment: int = 1
    tensor_bits: int = 0

    # Scales ------------------------------------------------------------------------------------

    def _scale(self, codes: np.ndarray) -> np.ndarray:
        return scales.effective(self.scale_format, codes, self.channel_scale, self.scale_block)

    @cached_property
    def scale(self) -> np.ndarray:
        """float64 (N, G): exact effective scale."""
        return self._scale(self.scale_codes)

    @cached_property
    def negative_scale(self) -> np.ndarray | None:
        """float64 (N, G): scale of negative levels where it is another."""
        return None if self.negative_scale_codes is None else self._scale(self.negative_scale_codes)

    @cached_property
    def salient_scale(self) -> np.ndarray | None:
        """float64 (N, G): scale of the salient columns where it is another."""
        return None if self.salient_scale_codes is None else self._scale(self.salient_scale_codes)

    # Sizes -------------------------------------------------------------------------------------

    @property
    def matrix(self) -> tuple[int, int]:
        """(N, K)."""
        return matrix_shape(self.shape)

    @property
    def groups(self) -> int:
        """G, groups of a row."""
        return -(-self.matrix[1] // self.group)

    @property
    def sizes(self) -> np.ndarray:
        """int (G,): weights of each group of a row."""
        return np.minimum(self.group, self.matrix[1] - self.group * np.arange(self.groups))

    @cached_property
    def bits(self) -> dict[str, int]:
        """Stored bits of each part; they add up to the whole."""
        return footprint.stored_bits(self)

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over the number of weights."""
        return sum(self.bits.values()) / int(np.prod(self.shape))

    # Values ------------------------------------------------------------------------------------

    def _slabs(self) -> Iterator[slice]:
        rows, columns = self.matrix
        step = max(1, SLAB // columns)
        return (slice(start, start + step) for start in range(0, rows, step))

    def _expand(self, per_group: np.ndarray) -> np.ndarray:
        return np.repeat(per_group, self.sizes, axis=1)

    def levels(self, rows: slice = slice(None)) -> np.ndarray:
        """float64 (n, K): what the codes of ``rows`` mean, before zero-point and scale."""
        codes = self.codes[rows]
        if self.codebook is not None:
            return np.take_along_axis(self.codebook[rows].astype(np.float64), codes.astype(np.intp), axis=1)
        if self.pairs:
            return decode_pairs(codes, self.group)
        if self.salient is not None:
            plain, salient = (levels(name) for name in self.types)
            return np.where(self.salient, salient[codes & (len(salient) - 1)], plain[codes & (len(plain) - 1)])
        tables = [levels(name, special) for name in self.types for special in range(max(special_count(name), 1))]
        width = max(len(table) for table in tables)
        flat = np.concatenate([np.pad(table, (0, width - len(table))) for table in tables])
        index = self._table_index(rows)
        return flat[codes] if index is None else flat[self._expand(index * width) + codes]

    def _table_index(self, rows: slice) -> np.ndarray | None:
        """Which table each group uses, (n, G): tables are listed by type, then by special value."""
        if self.type_index is None and self.special_index is None:
            return None
        counts = np.array([max(special_count(name), 1) for name in self.types])
        types = np.zeros((len(self.codes[rows]), self.groups), np.intp) if self.type_index is None \
            else self.type_index[rows].astype(np.intp)
        index = (np.cumsum(counts) - counts)[types]
        return index if self.special_index is None else index + self.special_index[rows]

    def dequantise(self, *, scaled: bool = False) -> np.ndarray:
        """float64 weights of the tensor's shape.

        Exact wherever a product of level and scale has at most 53 bits: everything but normal floats (24-bit levels)
        with an integer scale code on a float32, which are rounded once, and the division by ``input_scale``.

        Parameters
        ----------
        scaled : bool
            Leave ``input_scale`` in: the weights that the hardware multiplies by.
        """
        found = np.empty(self.matrix)
        for rows in self._slabs():
            level = self.levels(rows)
            if self.zero is not None:
                level = level - self._expand(self.zero[rows])
            scale = self._expand(self.scale[rows])
            if self.negative_scale is not None:
                scale = np.where(level < 0, self._expand(self.negative_scale[rows]), scale)
            if self.salient_scale is not None and self.salient is not None:
                scale = np.where(self.salient, self._expand(self.salient_scale[rows]), scale)
            found[rows] = level * scale
        if self.outlier_value is not None:
            found[self.outlier_row, self.outlier_column] += self.outlier_value.astype(np.float64)
        if self.input_scale is not None and not scaled:
            found /= self.input_scale.astype(np.float64)
        return (found + 0.0).reshape(self.shape)

    def nmse(self, tensor: np.ndarray) -> float:
        """Squared error over squared magnitude of the original ``tensor`` (0 where both are 0)."""
        tensor = np.asarray(tensor, np.float64).reshape(self.shape)
        # By the largest magnitude, so that squares neither overflow nor vanish.
        largest = np.abs(tensor).max()
        if largest == 0:
            return float(np.inf if self.dequantise().any() else 0)
        exponent = -int(np.frexp(largest)[1])
        unit, found = np.ldexp(tensor, exponent), np.ldexp(self.dequantise(), exponent)
        return float(np.sum((found - unit) ** 2) / np.sum(unit ** 2))

    def sqnr_db(self, tensor: np.ndarray) -> float:
        """Signal to quantisation noise in decibels; infinite where nothing was lost."""
        nmse = self.nmse(tensor)
        return float(-10 * np.log10(nmse)) if nmse else float("inf")

    @property
    def zero_fraction(self) -> float:
        """Share of weights that are exactly zero: work that a zero-skipping engine saves."""
        return 1 - np.count_nonzero(self.dequantise(scaled=True)) / self.codes.size

    @property
    def type_shares(self) -> dict[str, float]:
        """Share of the groups that chose each type (with special values, each of them: ``bitmod4[2]``)."""
        names = [name if special_count(name) == 0 else f"{name}[{i}]" for name in self.types
                 for i in range(max(special_count(name), 1))]
        index = self._table_index(slice(None))
        if index is None:
            return dict.fromkeys(names[:1], 1.0)
        counts = np.bincount(index.ravel(), minlength=len(names))
        return {name: float(count / index.size) for name, count in zip(names, counts, strict=True)}
