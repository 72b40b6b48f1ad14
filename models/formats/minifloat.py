"""Small binary floats: sign, exponent field, mantissa field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError, nearest
from .base import Special, Unpacked
from .checks import check_integer
from .tables import OVERFLOWS, TableFormat

__all__ = ["SPECIALS", "Minifloat", "PowerOfTwo"]

SPECIALS = ("none", "nan", "ieee")


@dataclass(frozen=True)
class Minifloat(TableFormat):
    """``(-1)**s * 1.m * 2**(e - bias)``, with subnormals ``0.m * 2**(1 - bias)`` at exponent field 0.

    Parameters
    ----------
    exponent_bits : int
        1 to 8.
    mantissa_bits : int
        0 to 10. Sign, exponent and mantissa take 3 to 16 bits together (2 or more without sign).
    bias : int, optional
        Default ``2**(exponent_bits - 1) - 1``.
    specials : str
        ``none``: every code is finite; ``nan``: the all-ones exponent and mantissa is NaN (OCP E4M3);
        ``ieee``: the all-ones exponent holds Inf (mantissa 0) and NaN.
    overflow : str
        Policy of ``encode`` when none is asked for: ``saturate`` or ``inf_nan``.
    signed : bool
    name : str, optional
        Default ``e4m3`` and suffixes for what differs from the defaults (``e4m3_b5_ieee``).

    Source: OCP 8-bit Floating Point Specification 1.0, OCP Microscaling Formats 1.0, IEEE 754-2019.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    specials: str = "none"
    overflow: str = "saturate"
    signed: bool = True
    name: str | None = None
    family = "minifloat"

    def __post_init__(self):
        e, m = self.exponent_bits, self.mantissa_bits
        check_integer(e, "minifloat exponent_bits", 1, 8,
                      help="with no exponent bits it is a fixed-point number: fixed4_2, int4")
        check_integer(m, "minifloat mantissa_bits", 0, 10)
        low = 3 if self.signed else 2
        if not low <= self.bits <= 16:
            raise BitkilnError("out of range", where="minifloat width", got=self.bits,
                               expected=f"{low} to 16",
                               help=f"width = {int(self.signed)} sign + {e} exponent + {m} mantissa bits")
        default = (1 << (e - 1)) - 1
        if self.bias is None:
            object.__setattr__(self, "bias", default)
        check_integer(self.bias, "minifloat bias", -126, 127 + m)
        if self.specials not in SPECIALS:
            raise BitkilnError("unknown specials", where="minifloat specials", got=self.specials,
                               expected="none, nan or ieee", help=nearest(self.specials, SPECIALS))
        if self.overflow not in OVERFLOWS:
            raise BitkilnError("unknown overflow policy", where="minifloat overflow", got=self.overflow,
                               expected="saturate or inf_nan", help=nearest(self.overflow, OVERFLOWS))
        if self.specials == "ieee" and m == 0:
            raise BitkilnError("no code for NaN", where="minifloat specials", got="ieee with 0 mantissa bits",
                               expected="none or nan")
        if self.specials == "ieee" and e == 1:
            raise BitkilnError("no normal numbers", where="minifloat specials",
                               got="ieee with 1 exponent bit", expected="none or nan")
        if self.overflow == "inf_nan" and self.specials == "none":
            raise BitkilnError("contradictory options", where="minifloat overflow", got="inf_nan",
                               expected="saturate with specials none")
        if self.name is None:
            name = f"{'' if self.signed else 'u'}e{e}m{m}"
            if self.bias != default:
                name += f"_b{self.bias}".replace("-", "n")
            name += "" if self.specials == "none" else f"_{self.specials}"
            object.__setattr__(self, "name", name)

    @property
    def bits(self) -> int:
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def has_nan(self) -> bool:
        return self.specials != "none"

    @property
    def has_inf(self) -> bool:
        return self.specials == "ieee"

    @property
    def has_negative_zero(self) -> bool:
        return self.signed

    @property
    def _magnitude_mask(self) -> int:
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def nan_code(self) -> int | None:
        """Canonical NaN: positive, and quiet (first mantissa bit) where there is a choice."""
        if self.specials == "none":
            return None
        if self.specials == "nan":
            return self._magnitude_mask
        return self.inf_codes[0] | 1 << (self.mantissa_bits - 1)

    @property
    def inf_codes(self) -> tuple[int, int] | None:
        if self.specials != "ieee":
            return None
        code = ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        return code, code | self._magnitude_mask + 1 if self.signed else 0

    @property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        if self.specials == "ieee":
            return self.inf_codes[0] - 1
        return self._magnitude_mask - (self.specials == "nan")

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two (``floor(log2(max))``)."""
        exponent = self.max_code >> self.mantissa_bits
        return max(exponent, 1) - self.bias

    @property
    def max(self) -> float:
        exponent, mantissa = divmod(self.max_code, 1 << self.mantissa_bits)
        significand = mantissa | ((exponent > 0) << self.mantissa_bits)
        return significand * 2.0 ** (max(exponent, 1) - self.bias - self.mantissa_bits)

    @property
    def min_positive(self) -> float:
        # Without mantissa bits there are no subnormals: exponent field 0 is zero.
        return 2.0 ** (1 - self.bias - self.mantissa_bits)

    @property
    def min_normal(self) -> float:
        """Smallest normal number."""
        return 2.0 ** (1 - self.bias)

    def _next_beyond_max(self) -> float:
        field = max(self.max_code >> self.mantissa_bits, 1)
        return self.max + 2.0 ** (field - self.bias - self.mantissa_bits)

    def _definition(self) -> Unpacked:
        codes = np.arange(1 << self.bits, dtype=np.int64)
        sign = codes >> (self.exponent_bits + self.mantissa_bits)
        magnitude = codes & self._magnitude_mask
        field = magnitude >> self.mantissa_bits
        mantissa = magnitude & (1 << self.mantissa_bits) - 1
        significand = np.where(field > 0, mantissa | 1 << self.mantissa_bits, mantissa)
        exponent = np.maximum(field, 1) - self.bias - self.mantissa_bits
        special = np.zeros_like(codes)
        if self.specials == "nan":
            special[magnitude == self._magnitude_mask] = Special.NAN
        elif self.specials == "ieee":
            special[magnitude > self.inf_codes[0]] = Special.NAN
            special[magnitude == self.inf_codes[0]] = Special.INF
        significand[special != 0] = 0
        return Unpacked(sign, exponent, significand, special)


@dataclass(frozen=True)
class PowerOfTwo(TableFormat):
    """Unsigned exponent alone (E8M0): ``2**(code - bias)``, the top code NaN, no zero.

    Zero and negative values saturate at the smallest code. Source: OCP Microscaling Formats 1.0.
    """

    exponent_bits: int = 8
    bias: int | None = None
    name: str | None = None
    family = "minifloat"
    signed = False
    mantissa_bits = 0
    specials = "nan"
    overflow = "saturate"
    has_nan = True

    def __post_init__(self):
        check_integer(self.exponent_bits, "power of two exponent_bits", 2, 8)
        default = (1 << (self.exponent_bits - 1)) - 1
        if self.bias is None:
            object.__setattr__(self, "bias", default)
        check_integer(self.bias, "power of two bias", -126, 255)
        if self.name is None:
            suffix = "" if self.bias == default else f"_b{self.bias}".replace("-", "n")
            object.__setattr__(self, "name", f"ue{self.exponent_bits}m0{suffix}")

    @property
    def bits(self) -> int:
        return self.exponent_bits

    @property
    def nan_code(self) -> int:
        return (1 << self.bits) - 1

    @property
    def max(self) -> float:
        return 2.0 ** (self.nan_code - 1 - self.bias)

    @property
    def min_positive(self) -> float:
        return 2.0**-self.bias

    min_normal = min_positive

    def _next_beyond_max(self) -> float:
        return 2 * self.max

    def _definition(self) -> Unpacked:
        codes = np.arange(1 << self.bits, dtype=np.int64)
        nan = codes == self.nan_code
        return Unpacked(0 * codes, codes - self.bias, np.where(nan, 0, 1),
                        np.where(nan, Special.NAN, Special.NONE))
