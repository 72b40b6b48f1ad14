"""Exact wide integers in NumPy: int64 where it fits, 32-bit limbs in int64 where not.

A limb array has shape ``(..., limbs)`` and means ``sum(limb[i] * 2**(32*i))``; limbs are signed and not
normalised, so that up to 2**30 of them add without overflow.
"""

from __future__ import annotations

import numpy as np

__all__ = ["limbs_of_shifted", "limbs_to_integers", "wrap_signed", "to_float64_odd"]

LIMB = 32
_MASK = (1 << LIMB) - 1


def limbs_of_shifted(value: np.ndarray, shift: np.ndarray, limbs: int) -> np.ndarray:
    """``value * 2**shift`` as limbs; |value| < 2**62, shift >= 0, the result must fit ``32*limbs`` bits."""
    negative = value < 0
    magnitude = np.abs(value).astype(np.uint64)
    at, bit = np.divmod(shift.astype(np.int64), LIMB)
    out = np.zeros((*value.shape, limbs + 3), np.int64)
    # Three limbs cover 62 + 31 bits: shift the two 32-bit halves on their own.
    low = (magnitude & np.uint64(_MASK)) << bit.astype(np.uint64)
    high = (magnitude >> np.uint64(LIMB)) << bit.astype(np.uint64)
    pieces = (low & np.uint64(_MASK), (low >> np.uint64(LIMB)) + (high & np.uint64(_MASK)), high >> np.uint64(LIMB))
    flat = out.reshape(-1, limbs + 3)
    row = np.arange(flat.shape[0])
    for i, piece in enumerate(pieces):
        signed = np.where(negative, -piece.astype(np.int64), piece.astype(np.int64))
        flat[row, at.reshape(-1) + i] = signed.reshape(-1)
    return out[..., :limbs]


def limbs_to_integers(limbs: np.ndarray) -> np.ndarray:
    """Python integers (object array without the last axis)."""
    total = limbs[..., -1].astype(object)
    for i in range(limbs.shape[-1] - 2, -1, -1):
        total = total * (1 << LIMB) + limbs[..., i].astype(object)
    return np.asarray(total, dtype=object)


def wrap_signed(values: np.ndarray, bits: int) -> np.ndarray:
    """``values`` modulo ``2**bits`` as two's complement (int64 in, int64 out for bits <= 62; else objects)."""
    if values.dtype != object:
        if bits >= 64:
            return values
        half = np.int64(1) << np.int64(bits - 1)
        if bits == 63:
            return (values.astype(object) + (1 << 62)) % (1 << 63) - (1 << 62)
        mask = (np.int64(1) << np.int64(bits)) - np.int64(1)
        return ((values + half) & mask) - half
    half = 1 << (bits - 1)
    return (values + half) % (1 << bits) - half


def _odd(value: int, exponent: int) -> float:
    """``value * 2**exponent`` rounded to odd at 53 bits (exactly where it has no more)."""
    magnitude = abs(value)
    excess = magnitude.bit_length() - 53
    if excess > 0:
        sticky = magnitude & ((1 << excess) - 1)
        magnitude = (magnitude >> excess) | (sticky != 0)
        exponent += excess
    result = float(np.ldexp(float(magnitude), exponent))
    return -result if value < 0 else result


def to_float64_odd(values: np.ndarray, exponent: int) -> np.ndarray:
    """``values * 2.0**exponent`` as float64, rounded to odd.

    A second rounding to nearest at 51 bits or fewer then equals one exact rounding (Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums", 2008). ``values`` int64 or object; results are normal float64.
    """
    if values.dtype != object:
        magnitude = np.abs(values)
        if magnitude.size == 0 or int(magnitude.max()) < 1 << 53:
            return np.ldexp(values.astype(np.float64), exponent)
        values = values.astype(object)
    out = np.empty(values.shape, np.float64)
    flat, source = out.reshape(-1), values.reshape(-1)
    for i, value in enumerate(source):
        flat[i] = _odd(int(value), exponent)
    return out
