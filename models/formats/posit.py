"""Posits: sign, run-length regime, ``es`` exponent bits, fraction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Special, Unpacked
from .checks import check_integer
from .stepping import Steps, order_key
from .tables import TableFormat

__all__ = ["MAX_ES", "Posit"]

MAX_ES = 4


def decode_magnitudes(bits: int, es: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and significand of the positive codes 1 .. ``2**(bits-1) - 1``.

    The significand has ``max(bits - 3 - es, 0)`` fraction bits below its leading one.
    """
    codes = np.arange(1, 1 << (bits - 1), dtype=np.int64)
    body = bits - 1                         # bits after the sign
    first = codes >> (body - 1) & 1
    run = np.ones_like(codes)               # length of the run of equal leading bits
    running = np.ones_like(codes, dtype=bool)
    for position in range(body - 2, -1, -1):
        running &= (codes >> position & 1) == first
        run += running
    regime = np.where(first == 1, run - 1, -run)
    left = np.maximum(body - run - 1, 0)    # bits behind the regime and its stop bit
    rest = codes & (np.int64(1) << left) - 1
    # Exponent bits that are cut off are zeros.
    exponent = np.where(left >= es, rest >> np.maximum(left - es, 0), rest << np.maximum(es - left, 0))
    fraction_bits = np.maximum(left - es, 0)
    fraction = rest & (np.int64(1) << fraction_bits) - 1
    width = max(bits - 3 - es, 0)
    significand = (np.int64(1) << width) | fraction << (width - fraction_bits)
    return (regime << es) + exponent, significand


@dataclass(frozen=True)
class Posit(TableFormat):
    """posit(bits, es).

    Rounding works on the bit string: the tie between neighbouring codes c and c+1 is the value of the
    (bits+1)-bit string c1, ties go to the even code. Values beyond maxpos saturate, and no rounding mode
    turns a non-zero value into zero. NaN and infinities become NaR.

    Parameters
    ----------
    bits : int
        2 to 16.
    es : int
        Exponent bits, 0 to ``min(bits - 3, 4)`` (0 for 2 and 3 bits).
    name : str, optional
        Default ``posit8_0``.

    Source: Gustafson and Yonemoto 2017; Posit Standard 2022 (which fixes es = 2; posit8_0 and posit16_1 are
    the classic parameters).
    """

    bits: int
    es: int
    name: str | None = None
    family = "posit"
    signed = True
    has_nan = True
    overflow = "saturate"

    def __post_init__(self):
        check_integer(self.bits, "posit bits", 2, 16, help="posit names are positN_es, N from 2 to 16")
        limit = min(max(self.bits - 3, 0), MAX_ES)
        left = max(self.bits - 3, 0)
        reason = (f"beside the sign and the shortest regime (2 bits) {self.bits} bits leave {left}: further "
                  "exponent bits could never be stored" if limit < MAX_ES
                  else f"es above {MAX_ES} is not supported: its values leave the useful range of float64")
        check_integer(self.es, f"posit{self.bits} es", 0, limit, help=reason)
        if self.name is None:
            object.__setattr__(self, "name", f"posit{self.bits}_{self.es}")

    @property
    def nan_code(self) -> int:
        """NaR, 100...0."""
        return 1 << (self.bits - 1)

    @property
    def inf_codes(self) -> tuple[int, int]:
        return self.nan_code, self.nan_code

    @property
    def max_scale(self) -> int:
        """maxpos is ``2**max_scale``, minpos its reciprocal."""
        return (self.bits - 2) << self.es

    @property
    def max(self) -> float:
        return 2.0**self.max_scale

    @property
    def min(self) -> float:
        """Most negative value."""
        return -self.max

    @property
    def min_positive(self) -> float:
        return 2.0**-self.max_scale

    @property
    def fraction_bits(self) -> int:
        """Fraction bits of the most precise values; every significand is scaled to this width."""
        return max(self.bits - 3 - self.es, 0)

    @property
    def unit_exponent(self) -> int:
        return -self.max_scale

    @property
    def max_units(self) -> int:
        return 1 << 2 * self.max_scale

    def _definition(self) -> Unpacked:
        half = 1 << (self.bits - 1)
        scale, significand = decode_magnitudes(self.bits, self.es)
        codes = np.arange(1 << self.bits)
        magnitude = np.where(codes < half, codes, 2 * half - codes) - 1
        ordinary = codes % half != 0
        index = np.where(ordinary, magnitude, 0)
        return Unpacked(codes > half, np.where(ordinary, scale[index] - self.fraction_bits, 0),
                        np.where(ordinary, significand[index], 0),
                        np.where(codes == half, Special.NAN, Special.NONE))

    def _ties(self) -> tuple[np.ndarray, np.ndarray]:
        scale, significand = decode_magnitudes(self.bits + 1, self.es)
        width = max(self.bits - 2 - self.es, 0)
        longer = np.ldexp(significand.astype(np.float64), scale - width)   # codes 1, 2, 3, ...
        between = longer[2:-1:2]                                           # 3, 5, ...: between c and c + 1
        zero = longer[:1]                                                  # replaced in _adjust
        ties = np.concatenate((-between[::-1], -zero, zero, between))
        return order_key(ties), np.ones(ties.shape, bool)

    def _adjust(self, steps: Steps) -> None:
        zero = int(np.searchsorted(self._grid.values, 0))
        steps.thresholds[3 + zero - 1] = -1   # only -0.0 and 0.0 are zero
        steps.thresholds[3 + zero] = 1
