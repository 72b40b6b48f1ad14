"""Integers with a zero-point: steps over the whole range of a group instead of its largest magnitude."""

from __future__ import annotations

import numpy as np

from ..formats.checks import check_integer
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import store
from .symmetric import INTS, assemble, default_scale_format

__all__ = ["asymmetric_codes", "from_range", "rtn_asym", "unsigned"]


def unsigned(values: np.ndarray, scale: np.ndarray, zero: np.ndarray,
             top: np.ndarray | int) -> np.ndarray:
    """Integers 0..top of ``values / scale + zero`` (a scale of 0: the zero-point), ties to even before the shift."""
    with np.errstate(over="ignore", under="ignore"):
        steps = np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)
    return np.clip(np.rint(np.clip(steps, -1e6, 1e6)) + zero, 0, top)


def zero_point(bottom: np.ndarray, scale: np.ndarray, top: np.ndarray | int) -> np.ndarray:
    """``clip(round(-bottom / scale), 0, top)``; 0 where the scale is 0."""
    with np.errstate(over="ignore", under="ignore"):
        steps = np.divide(-bottom, scale, out=np.zeros_like(bottom), where=scale != 0)
    return np.clip(np.rint(np.clip(steps, 0, 1e6)), 0, top)


def asymmetric_codes(grouped: Grouped, bits: np.ndarray | int, scale: np.ndarray,
                     bottom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two's complement codes (N, K) and zero-points int16 (N, G) with effective scales.

    Parameters
    ----------
    bits : int or ndarray of int (N, G)
    scale : ndarray (N, G)
    bottom : ndarray (N, G)
        Real lower end of the range, not above 0.
    """
    bits = np.broadcast_to(bits, grouped.count)
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    zero = zero_point(bottom, scale, top)
    codes = np.empty(grouped.rows.shape, np.uint8)
    for rows in grouped.slabs():
        step, shift, most, middle = (grouped.expand(array[rows]) for array in (scale, zero, top, half))
        level = unsigned(grouped.rows[rows], step, shift, most)
        codes[rows] = (level - middle).astype(np.int64) & most
    return codes, (zero - half).astype(np.int16)


def from_range(method: str, grouped: Grouped, bits: int, bottom: np.ndarray, top: np.ndarray, scale: str | None,
               zero_bits: int | None = None) -> GroupQuantized:
    """Asymmetric integers over given ranges (N, G), in units; zero is inside each."""
    stored = store(default_scale_format(grouped, scale), grouped.real((top - bottom) / ((1 << bits) - 1)))
    codes, zero = asymmetric_codes(grouped, bits, stored.values(), grouped.real(bottom))
    return assemble(method, grouped, (f"int{bits}",), stored, codes, zero=zero, zero_bits=zero_bits or bits)


def rtn_asym(tensor: np.ndarray, bits: int, group: int | None = 128, *, scale: str | None = None,
             zero_bits: int | None = None, name: str = "tensor") -> GroupQuantized:
    """Asymmetric integers: ``scale = (max - min) / (2**b - 1)``, ``z = round(-min / scale)``.

    The range always includes zero, so that a group of one sign keeps its zero-point among the codes and saturates
    nowhere (implementations that leave zero out clamp z and clip such groups). ``q = round(w / scale) + z`` and ``z``
    are clamped to ``0 .. 2**b - 1`` and stored less ``2**(b-1)``: ``value = (code - zero) * scale``.

    Parameters
    ----------
    bits : int
        2 to 8.
    zero_bits : int, optional
        Width in which zero-points are stored, ``bits`` to 16; default ``bits``.
    tensor, group, scale, name
        As for ``rtn_sym``.
    """
    bits = check_bits(bits, INTS, "rtn_asym")
    if zero_bits is not None:
        check_integer(zero_bits, "zero_bits", int(bits), 16)
    grouped = Grouped(tensor, group, name)
    return from_range("rtn_asym", grouped, bits, grouped.bottom, grouped.top, scale, zero_bits)
