"""A weight tensor as a matrix whose rows are cut into groups.

The tensor's first axis is the output channels (N), everything else lies along K. Groups follow each other along K; the
last one may be shorter. All searches run on ``unit``, where each group is scaled by a power of two so that its largest
magnitude is in [0.5, 1): exact for every float64 (subnormals only gain room), and no square overflows or vanishes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import numpy as np

from ..errors import BitkilnError
from .rtn import checked

__all__ = ["Grouped", "check_bits", "check_group", "matrix_shape"]

_Width = TypeVar("_Width", int, float)
SLAB = 1 << 19  # elements that are worked on at once: bounds the temporary arrays of large layers


def check_group(group: int | None, where: str = "group") -> int | None:
    """``group`` where it is a positive integer or None (the whole row)."""
    if group is None:
        return None
    if isinstance(group, bool) or not isinstance(group, (int, np.integer)):
        raise BitkilnError("not an integer", where=where, got=str(group), expected="a group size of 1 or more")
    if group < 1:
        raise BitkilnError("out of range", where=where, got=int(group), expected="a group size of 1 or more")
    return int(group)


def check_bits(bits: float, widths: tuple[_Width, ...], method: str) -> _Width:
    """The width among ``widths`` that equals ``bits``."""
    for width in widths:
        if bits == width and not isinstance(bits, bool):
            return width
    raise BitkilnError("width not offered", where="bits", got=str(bits),
                       expected=f"{', '.join(f'{width:g}' for width in widths)} for {method}")


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(N, K) of a tensor: the first axis and all others; a vector is one row."""
    if len(shape) < 2:
        return 1, int(np.prod(shape))
    return shape[0], int(np.prod(shape[1:]))


class Grouped:
    """Rows of a tensor and their groups.

    Parameters
    ----------
    tensor : array
        Finite real numbers, at least one.
    group : int or None
        Weights of a group; None, or more than a row has: the whole row.
    name : str
        For error messages.

    Attributes
    ----------
    shape : tuple of int
        Of the tensor.
    rows : ndarray of float64 (N, K)
    group : int
    starts : ndarray of int (G,)
        First column of each group.
    sizes : ndarray of int (G,)
    """

    def __init__(self, tensor: np.ndarray, group: int | None, name: str = "tensor"):
        values = checked(tensor, name)
        self.shape = values.shape
        self.rows = np.ascontiguousarray(values.reshape(matrix_shape(values.shape)))
        columns = self.rows.shape[1]
        self.group = min(check_group(group) or columns, columns)
        self.starts = np.arange(0, columns, self.group)
        self.sizes = np.diff(np.append(self.starts, columns))

    @property
    def count(self) -> tuple[int, int]:
        """(N, G)."""
        return self.rows.shape[0], len(self.starts)

    @cached_property
    def exponent(self) -> np.ndarray:
        """int (N, G): ``unit * 2**exponent`` is the group; 0 for a group of zeros."""
        return np.frexp(self.reduce(np.maximum, np.abs(self.rows)))[1].astype(np.int64)

    @cached_property
    def unit(self) -> np.ndarray:
        """float64 (N, K): the rows, each group's largest magnitude in [0.5, 1)."""
        return np.ldexp(self.rows, self.expand(-self.exponent))

    def real(self, unit_values: np.ndarray) -> np.ndarray:
        """Values of groups (N, G) from the unit scale to the tensor's, rounded once; saturates at float64's range."""
        with np.errstate(over="ignore", under="ignore"):
            found = np.ldexp(unit_values, self.exponent)
        return np.clip(found, -np.finfo(float).max, np.finfo(float).max)

    def expand(self, per_group: np.ndarray) -> np.ndarray:
        """(n, G) -> (n, K): each group's value at each of its columns."""
        return np.repeat(per_group, self.sizes, axis=1)

    def reduce(self, function: np.ufunc, values: np.ndarray) -> np.ndarray:
        """(n, K) -> (n, G): ``function`` over each group's columns."""
        return function.reduceat(values, self.starts, axis=1)

    def slabs(self) -> Iterator[slice]:
        """Slices of rows, some half a million weights each."""
        step = max(1, SLAB // self.rows.shape[1])
        for start in range(0, self.rows.shape[0], step):
            yield slice(start, start + step)

    @cached_property
    def top(self) -> np.ndarray:
        """Largest value of each group in units, at least 0: (N, G)."""
        return np.maximum(self.reduce(np.maximum, self.unit), 0.0)

    @cached_property
    def bottom(self) -> np.ndarray:
        """Smallest value of each group in units, at most 0: (N, G)."""
        return np.minimum(self.reduce(np.minimum, self.unit), 0.0)

    @cached_property
    def amax(self) -> np.ndarray:
        """Largest magnitude of each group in units: (N, G), 0 or [0.5, 1)."""
        return np.maximum(self.top, -self.bottom)

    def total(self, unit_errors: np.ndarray) -> float:
        """Sum of squared errors of all groups (given in units), relative to the largest group's scale."""
        return float(np.sum(np.ldexp(unit_errors, 2 * np.maximum(self.exponent - self.exponent.max(), -1000))))
