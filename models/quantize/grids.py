"""Element types of weights: the values of their codes, and the nearest code of a value."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..formats import Format, get_format

__all__ = ["SPECIAL_TYPES", "element", "encode", "levels", "special_count", "type_bits"]

# Types with a special value per group, and the plain codebook of each choice, in the order of the selector.
SPECIAL_TYPES = {f"bitmod{bits}": tuple(f"bitmod{bits}_{kind}_{sign}" for kind in ("er", "ea")
                                        for sign in ("pos", "neg")) for bits in (3, 4)}


def special_count(name: str) -> int:
    """Special values that a group of this type chooses among; 0 for a type without."""
    return len(SPECIAL_TYPES.get(name, ()))


def element(name: str, special: int = 0) -> Format:
    """The format of a weight type, with its special value of index ``special``."""
    return get_format(SPECIAL_TYPES[name][special] if name in SPECIAL_TYPES else name)


def type_bits(name: str) -> int:
    """Bits of a code."""
    return element(name).bits


@cache
def levels(name: str, special: int = 0) -> np.ndarray:
    """float64 value of each code; a code without a meaning counts as 0."""
    fmt = element(name, special)
    values = np.nan_to_num(fmt.decode(np.arange(1 << fmt.bits)), nan=0.0, posinf=0.0, neginf=0.0) + 0.0
    values.setflags(write=False)
    return values


def encode(fmt: Format, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Nearest codes of ``values / scale``; zero where the scale is 0, and never the code of minus zero.

    The quotient is rounded to float64 once. Ties go to the even code, magnitudes beyond the format saturate.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        quotient = np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)
    codes = fmt.encode(quotient, overflow="saturate")
    if getattr(fmt, "has_negative_zero", False):
        codes[codes == 1 << (fmt.bits - 1)] = 0
    return codes
