"""What the sparse side path gives: exact integer sums of outliers times activations.

The order of outliers cannot show, for nothing is rounded. What belongs to a result is counted by tiles: activations by
their ``last`` chunk, outliers by their ``last`` item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.sparse import SparseDesign, SumDesign
from ..errors import BitkilnError
from ..formats import Special
from .bitserial import BitSerialResult
from .integers import to_float64_odd

__all__ = ["SparseStream", "SparseSums", "Totals", "add_dense", "sparse"]

FP32_NAN = 0x7FC00000


@dataclass(frozen=True)
class SparseStream:
    """Tiles one after the other.

    Attributes
    ----------
    activations : ndarray (R, K)
        Codes; K is the sum of all tiles' chunks times the lanes.
    chunks : ndarray (T,)
        Chunks of each tile.
    emit : bool ndarray (T,)
        The sums are complete with this tile.
    tile, chunk, lane, column, value : ndarray (N,)
        Of each outlier, tiles ascending. Every tile has one or more items; its last one ends it.
    mask : bool ndarray (N,)
        Items that count.
    """

    activations: np.ndarray
    chunks: np.ndarray
    emit: np.ndarray
    tile: np.ndarray
    chunk: np.ndarray
    lane: np.ndarray
    column: np.ndarray
    value: np.ndarray
    mask: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """bool (N,): the item ends its tile."""
        return np.append(self.tile[1:] != self.tile[:-1], np.ones(min(len(self.tile), 1), bool))

    @property
    def starts(self) -> np.ndarray:
        """(T,) first chunk of each tile."""
        return np.cumsum(self.chunks) - self.chunks


@dataclass(frozen=True)
class SparseSums:
    """Sums in the order in which results are complete.

    Attributes
    ----------
    value : ndarray of object (E, R, C)
        Integers in units of ``2**design.exponent``; what counts beside a special product.
    nan, inf_pos, inf_neg : bool ndarray (E, R, C)
        Special products among them: NaN (also infinity times zero), infinities.
    illegal : bool
        An outlier named a place or column that is not there.
    """

    value: np.ndarray
    nan: np.ndarray
    inf_pos: np.ndarray
    inf_neg: np.ndarray
    illegal: bool


def _check(design: SparseDesign, stream: SparseStream) -> None:
    total = int(stream.chunks.sum()) * design.lanes
    if stream.activations.shape != (design.rows, total):
        raise BitkilnError("shape mismatch", where="activations", got=str(stream.activations.shape),
                           expected=f"({design.rows}, {total})")
    if len(stream.chunks) and not 1 <= stream.chunks.min() <= stream.chunks.max() <= design.chunks:
        raise BitkilnError("tile length out of range", where="chunks",
                           got=f"{stream.chunks.min()} to {stream.chunks.max()}", expected=f"1 to {design.chunks}")
    if not np.array_equal(np.unique(stream.tile), np.arange(len(stream.chunks))) or (np.diff(stream.tile) < 0).any():
        raise BitkilnError("tiles without an end", where="tile", expected="items of every tile, ascending")


def sparse(design: SparseDesign, stream: SparseStream) -> SparseSums:
    """The side sums of a stream; outliers of places that are not there do not count."""
    _check(design, stream)
    activation, value = design.dot.activation, design.dot.weight
    legal = (stream.chunk < stream.chunks[stream.tile]) & (stream.lane < design.lanes) \
        & (stream.column < design.columns)
    at = np.flatnonzero(legal & stream.mask)
    place = (stream.starts[stream.tile[at]] + stream.chunk[at]) * design.lanes + stream.lane[at]
    result = np.cumsum(stream.emit) - stream.emit        # of each tile
    number, column = result[stream.tile[at]], stream.column[at]
    codes = stream.activations[:, place]

    shape = (int(stream.emit.sum()), design.rows, design.columns)
    events = _events(activation.unpack(codes), value.unpack(stream.value[at]))
    special = events[0] | events[1] | events[2]
    product = activation.units(codes).astype(object) * value.units(stream.value[at]).astype(object)
    product = np.where(special, 0, product)
    total = np.zeros(shape, object)
    nan, inf_pos, inf_neg = found = [np.zeros(shape, bool) for _ in events]
    # What comes behind the last complete result is not given out.
    some = number < shape[0]
    for n in np.flatnonzero(some):
        total[number[n], :, column[n]] += product[:, n]
        for flag, event in zip(found, events, strict=True):
            flag[number[n], :, column[n]] |= event[:, n]
    return SparseSums(total, nan, inf_pos, inf_neg, bool((stream.mask & ~legal).any()))


def _events(a, v) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN, +Inf and -Inf of products (R, N) of activations (R, N) and values (N,)."""
    zero = [(u.special == Special.NONE) & (u.significand == 0) for u in (a, v)]
    inf, lost = [u.special == Special.INF for u in (a, v)], [u.special == Special.NAN for u in (a, v)]
    nan = lost[0] | lost[1] | (inf[0] & zero[1]) | (zero[0] & inf[1])
    infinite = (inf[0] | inf[1]) & ~nan
    negative = (a.sign ^ v.sign).astype(bool)
    return nan, infinite & ~negative, infinite & negative


@dataclass(frozen=True)
class Totals:
    """Dense and sparse results together.

    Attributes
    ----------
    value : ndarray of object (E, R, C)
        Integers in units of ``2**design.exponent``.
    nan, inf_pos, inf_neg : bool ndarray (E, R, C)
    fp32 : ndarray of uint32 (E, R, C)
        Rounded once to nearest even.
    """

    value: np.ndarray
    nan: np.ndarray
    inf_pos: np.ndarray
    inf_neg: np.ndarray
    fp32: np.ndarray


def add_dense(design: SumDesign, dense: BitSerialResult, side: SparseSums) -> Totals:
    """Results of the array plus sums of the side path, in the same order."""
    if dense.value.shape != side.value.shape:
        raise BitkilnError("dense and sparse results differ in number", where="side", got=str(side.value.shape),
                           expected=str(dense.value.shape))
    value = dense.value.astype(object) * (1 << design.dense_shift) + side.value * (1 << design.side_shift)
    flags = dense.nan | side.nan, dense.pos | side.inf_pos, dense.neg | side.inf_neg
    number = np.where(flags[1], np.inf, np.where(flags[2], -np.inf, to_float64_odd(value, design.exponent)))
    with np.errstate(over="ignore"):
        codes = number.astype(np.float32).view(np.uint32)
    return Totals(value, *flags, np.where(flags[0] | (flags[1] & flags[2]), np.uint32(FP32_NAN), codes))
