"""Integers and fixed-point numbers: two's complement or unsigned, one unit apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError
from .base import Unpacked
from .checks import check_integer
from .tables import TableFormat

__all__ = ["Fixed", "Int"]


class _Uniform(TableFormat):
    """Codes are integers ``k``; values are ``k * 2**-fraction_bits``."""

    def _definition(self) -> Unpacked:
        codes = np.arange(1 << self.bits, dtype=np.int64)
        integers = codes - (codes >> (self.bits - 1) << self.bits) if self.signed else codes
        zero = np.zeros_like(codes)
        return Unpacked(integers < 0, zero - self.fraction_bits, np.abs(integers), zero)

    @property
    def unit_exponent(self) -> int:
        return -self.fraction_bits

    @property
    def max_units(self) -> int:
        return 1 << (self.bits - 1) if self.signed else (1 << self.bits) - 1

    @property
    def max(self) -> float:
        return ((1 << (self.bits - self.signed)) - 1) * 2.0**self.unit_exponent

    @property
    def min(self) -> float:
        """Most negative value; 0 when unsigned."""
        return -self.max_units * 2.0**self.unit_exponent if self.signed else 0.0

    @property
    def min_positive(self) -> float:
        if self.max == 0:
            raise BitkilnError("no positive value", where=self.name, expected="2 bits or more when signed")
        return 2.0**self.unit_exponent


@dataclass(frozen=True)
class Int(_Uniform):
    """Two's complement or unsigned integer.

    Parameters
    ----------
    bits : int
        2 to 16 signed, 1 to 16 unsigned.
    signed : bool
    name : str, optional
        Default ``int8``, ``uint8``, ...
    """

    bits: int
    signed: bool = True
    name: str | None = None
    family = "int"
    fraction_bits = 0

    def __post_init__(self):
        prefix = "int" if self.signed else "uint"
        check_integer(self.bits, f"{prefix} bits", 2 if self.signed else 1, 16,
                      help="one signed bit would hold only 0 and -1; uint1 holds 0 and 1"
                      if self.bits == 1 else f"{prefix}16 is the widest")
        if self.name is None:
            object.__setattr__(self, "name", f"{prefix}{self.bits}")


@dataclass(frozen=True)
class Fixed(_Uniform):
    """Fixed-point number of ``bits`` bits in all, ``fraction_bits`` of them behind the point.

    Parameters
    ----------
    bits : int
        2 to 16 signed, 1 to 16 unsigned, sign included.
    fraction_bits : int
        0 to ``bits``.
    signed : bool
        Two's complement, else unsigned.
    name : str, optional
        Default ``fixed8_4`` (signed) or ``ufixed8_4``.
    """

    bits: int
    fraction_bits: int
    signed: bool = True
    name: str | None = None
    family = "fixed"

    def __post_init__(self):
        prefix = "fixed" if self.signed else "ufixed"
        check_integer(self.bits, f"{prefix} bits", 2 if self.signed else 1, 16)
        check_integer(self.fraction_bits, f"{prefix} fraction_bits", 0, self.bits,
                      help="fixed8_4 has 8 bits in all, 4 of them behind the point")
        if self.name is None:
            object.__setattr__(self, "name", f"{prefix}{self.bits}_{self.fraction_bits}")
