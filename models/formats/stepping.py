"""Rounding as a monotone step function of the float's ordered bits.

``order_key`` maps float64 to int64 so that ``x < y`` exactly when ``key(x) < key(y)``, with -0.0 just below
+0.0 and the NaNs outside the infinities. Every deterministic rounding is monotone, so in these keys it is a
list of thresholds: ``code(x) = codes[number of thresholds <= key(x)]``. Thresholds are the first keys that
belong to the next code, which makes ties, signed zeros, overflow, infinities and NaN one rule, exact for
every float64 and rounding once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Grid", "Steps", "build_steps", "first_at_least", "order_key"]

INF_KEY = 0x7FF0 << 48
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


def order_key(values: np.ndarray) -> np.ndarray:
    """int64 keys in the order of the float64 ``values`` (key(+0.0) = 0, key(-0.0) = -1)."""
    with np.errstate(invalid="ignore"):   # signalling NaNs of float32
        bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    key = bits >> 63
    key &= _MAGNITUDE
    key ^= bits
    return key


class Grid(NamedTuple):
    """Finite values of a format in rising order, each with one code.

    ``first`` and ``last`` are the keys of the inputs equal to the value; they differ only for a zero without
    a sign, which stands for both -0.0 and +0.0.
    """

    values: np.ndarray  # float64
    codes: np.ndarray   # int64
    first: np.ndarray   # int64
    last: np.ndarray    # int64


class Steps(NamedTuple):
    """``codes[searchsorted(thresholds, key, "right")]``."""

    thresholds: np.ndarray  # int64, not falling
    codes: np.ndarray       # one more than thresholds

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        return self.codes[np.searchsorted(self.thresholds, keys, side="right")]


class Edge(NamedTuple):
    """What lies outside the finite range on one side."""

    beyond: int       # code of values that overflow
    first: int | None  # first key (going outwards, as a magnitude) that overflows; None: only infinity does
    infinity: int     # code of an infinite input


def first_at_least(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Key of the first float64 >= (low + high) / 2, and whether that float equals the midpoint.

    Exact: the sum's rounding error (two-sum) tells on which side of the float the midpoint lies.
    """
    total = low + high
    part = total - low
    error = (low - (total - part)) + (high - part)
    key = order_key(total / 2)
    key = np.where((total == 0) & (error == 0), -1, key)  # both zeros are at the midpoint
    return key + (error > 0), error == 0


def gap_thresholds(grid: Grid, rounding: str, ties: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """First key that rounds to the upper end of each gap between neighbouring grid values."""
    low, high = grid.values[:-1], grid.values[1:]
    after_low, at_high = grid.last[:-1] + 1, grid.first[1:]
    # Inside a gap around zero every input goes to the neighbour of its own sign.
    toward_zero = np.where(low >= 0, at_high, np.where(high <= 0, after_low, np.maximum(after_low, -1)))
    low_odd, high_odd = grid.codes[:-1] & 1, grid.codes[1:] & 1
    if rounding == "toward_zero":
        return toward_zero
    if rounding == "toward_negative":
        return at_high
    if rounding == "toward_positive":
        return after_low
    if rounding == "odd":
        return np.where(low_odd == high_odd, toward_zero, np.where(high_odd == 1, after_low, at_high))
    key, exact = first_at_least(low, high) if ties is None else ties
    if rounding == "nearest_away":
        tie_up = high + low >= 0
    else:  # to the even code; between codes of equal parity to the smaller magnitude
        tie_up = np.where(low_odd == high_odd, (high <= 0) | ((low < 0) & (-low >= high)), high_odd == 0)
    above = key + exact + (exact & (key == -1))  # a tie at zero has two keys
    up = np.where(tie_up, key, above)
    return np.clip(up, after_low, at_high)


def build_steps(grid: Grid, rounding: str, ties: tuple[np.ndarray, np.ndarray] | None,
                low_edge: Edge, high_edge: Edge, nan: int, dtype: type) -> Steps:
    """The whole step function, from the negative NaNs to the positive ones."""
    ups = gap_thresholds(grid, rounding, ties)
    first_finite = -INF_KEY if low_edge.first is None else -low_edge.first  # -key - 1 is the mirrored key
    thresholds = np.concatenate((
        [-INF_KEY - 1, -INF_KEY, first_finite], ups,
        [INF_KEY if high_edge.first is None else high_edge.first, INF_KEY, INF_KEY + 1])).astype(np.int64)
    codes = np.concatenate(([nan, low_edge.infinity, low_edge.beyond], grid.codes,
                            [high_edge.beyond, high_edge.infinity, nan])).astype(dtype)
    return Steps(thresholds, codes)
