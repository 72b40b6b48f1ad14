"""IEEE binary32, computed instead of tabulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Format, Special, Unpacked
from .tables import check_codes, check_encode

__all__ = ["Binary32"]

_MAX = float(np.finfo(np.float32).max)
_NAN = np.uint32(0x7FC00000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@dataclass(frozen=True)
class Binary32(Format):
    """fp32, codes in uint32. Subnormals are kept; overflow saturates unless ``inf_nan`` is asked for."""

    name: str = "fp32"
    bits = 32
    family = "minifloat"
    signed = True
    exponent_bits = 8
    mantissa_bits = 23
    bias = 127
    specials = "ieee"
    overflow = "saturate"
    has_nan = True
    has_inf = True
    has_negative_zero = True
    nan_code = int(_NAN)
    inf_codes = (0x7F800000, 0xFF800000)
    max_code = 0x7F7FFFFF
    emax = 127
    max = _MAX
    min = -_MAX
    min_positive = 2.0**-149
    min_normal = 2.0**-126
    unit_exponent = -149
    max_units = ((1 << 24) - 1) << (127 - 23 + 149)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        codes = check_codes(self, codes).astype(np.uint32)
        with np.errstate(invalid="ignore"):   # signalling NaNs
            return codes.view(np.float32).astype(np.float64)

    def unpack(self, codes: np.ndarray) -> Unpacked:
        codes = check_codes(self, codes).astype(np.int64)
        field, mantissa = codes >> 23 & 255, codes & 0x7FFFFF
        special = np.where(field < 255, Special.NONE, np.where(mantissa == 0, Special.INF, Special.NAN))
        significand = np.where(field > 0, mantissa | 1 << 23, mantissa)
        return Unpacked((codes >> 31).astype(np.uint8), (np.maximum(field, 1) - 150).astype(np.int32),
                        np.where(special == 0, significand, 0), special.astype(np.uint8))

    def encode(self, values: np.ndarray, rounding: str = "nearest_even", *,
               random_bits: np.ndarray | None = None, overflow: str | None = None) -> np.ndarray:
        values, overflow = check_encode(self, values, rounding, random_bits, overflow)
        shape = values.shape
        if values.dtype == np.float32:
            codes = np.ascontiguousarray(values).view(np.uint32).copy()   # every mode keeps exact values
        else:
            codes = self._round(np.ascontiguousarray(values), rounding, random_bits, overflow)
        codes = codes.reshape(shape)
        return np.where((codes & _MAGNITUDE) > 0x7F800000, _NAN, codes)

    def _round(self, x: np.ndarray, rounding: str, random_bits: np.ndarray | None,
               overflow: str) -> np.ndarray:
        negative = np.signbit(x)
        magnitude = np.abs(x)
        finite = np.isfinite(x)
        magnitude[~finite] = 0
        # Weight of the result's least bit; scaling by it is exact because both are powers of two.
        exponent = np.maximum(np.frexp(magnitude)[1] - 24, -149)
        scaled = np.ldexp(magnitude, -exponent)
        whole = np.floor(scaled)
        fraction = scaled - whole
        odd = np.fmod(whole, 2) == 1
        if rounding == "nearest_even":
            away = (fraction > 0.5) | ((fraction == 0.5) & odd)
        elif rounding == "nearest_away":
            away = fraction >= 0.5
        elif rounding == "odd":
            away = (fraction > 0) & ~odd
        elif rounding == "toward_positive":
            away = (fraction > 0) & ~negative
        elif rounding == "toward_negative":
            away = (fraction > 0) & negative
        elif rounding == "stochastic":
            width = 8 * random_bits.dtype.itemsize
            away = np.floor(fraction * 2.0**width) + random_bits.astype(np.float64) >= 2.0**width
        else:
            away = np.zeros(x.shape, bool)
        result = np.ldexp(whole + away, exponent)
        over = result > _MAX
        with np.errstate(over="ignore"):
            codes = result.astype(np.float32).view(np.uint32)   # exact, or infinite where it overflows
        if over.any():
            to_max = np.full(x.shape, overflow == "saturate")
            if rounding in ("toward_zero", "odd"):
                to_max[:] = True
            elif rounding == "toward_positive":
                to_max |= negative
            elif rounding == "toward_negative":
                to_max |= ~negative
            codes = np.where(over & to_max, np.uint32(self.max_code), codes)
        codes = np.where(np.isinf(x), np.uint32(self.inf_codes[0]), codes)
        codes = np.where(np.isnan(x), _NAN, codes)
        return codes | (negative & ~np.isnan(x)).astype(np.uint32) << np.uint32(31)
