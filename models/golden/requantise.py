"""From exact sums to result codes: bias, accumulation and the three output rules of the matmul core.

Where the rules leave a choice, this module is the definition:

* Sums are integers modulo ``2**raw_bits`` from the array to the rounding; bias and C wrap. In a core with an exact
  accumulator three codes of C and of raw results are not numbers: ``100...0`` NaN, ``011...1`` +Inf,
  ``100...01`` -Inf. They are sticky; +Inf and -Inf together are NaN. A finite sum that wraps into one of these codes
  is not told apart from it. int32 accumulators have no such codes.
* float32 sums (fp32 accumulators, block scales) take C first, then the bias; a sum of exactly zero is +0. Without C
  and bias nothing is added. Raw results are float32 codes with zeros above.
* The float rule rounds twice before the encoding: exact sum to float32, times the float32 scale. Both keep subnormals
  and overflow to infinity; a zero product has the sign of its factors (IEEE 754).
* Clamping compares as IEEE 754 does (-0 equals +0), first against the lower, then against the upper limit; NaN
  passes. In the integer rule the limits come before the output format's range.
* Infinities saturate at the output format's largest value of that sign, in posits too; an fp32 output keeps them.
  NaN becomes the format's canonical NaN or NaR.
* The integer rule takes 48 bits: a sum that C or the bias has driven further saturates there.
* ``invalid``: a NaN met a format without NaN (the result is the zero point), or, with the integer rule, the sum was
  NaN or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.matmul import INTEGER_BITS, Job, MatmulDesign
from ..errors import BitkilnError
from ..formats import Format, get_format
from ..formats.tables import code_dtype
from .wide import Wide

__all__ = ["FP32_NAN", "Records", "Sums", "float_sums", "integer_sums", "requantise", "special_raw"]

FP32_NAN = 0x7FC00000
HALF = 24   # bits of the lower part of a sum: both parts times a 31-bit multiplier fit int64


@dataclass(frozen=True)
class Records:
    """Per-channel parameters, one element for each of N columns.

    Attributes
    ----------
    bias : ndarray of int32
        Fixed point; with float32 sums (fp32 accumulators, block scales) the bits of a float32.
    scale : ndarray of uint32
        Integer rule: multiplier below 2**31; float rule: the code of a float32.
    shift : ndarray of uint8
        Integer rule, 0..62.
    """

    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, n: int, bias: object = 0, scale: object = 0, shift: object = 0) -> Records:
        """Records of N columns; floating values (rounded to float32) become codes, scalars serve all columns."""
        bias, scale = (value.astype(np.float32).view(np.int32) if value.dtype.kind == "f" else value
                       for value in (np.asarray(bias), np.asarray(scale)))
        limits = (("bias", bias, -1 << 31, (1 << 31) - 1), ("scale", scale, -1 << 31, (1 << 32) - 1),
                  ("shift", np.asarray(shift), 0, 62))
        for name, value, low, high in limits:
            if value.shape not in ((), (n,)):
                raise BitkilnError("wrong shape", where=f"records.{name}", got=value.shape, expected=f"({n},)")
            bad = value[(value < low) | (value > high)]
            if bad.size:
                raise BitkilnError("out of range", where=f"records.{name}", got=int(bad.flat[0]),
                                   expected=f"{low} to {high}")
        fill = np.zeros(n, np.int64)
        return cls((fill + bias).astype(np.int32), ((fill + scale) & 0xFFFFFFFF).astype(np.uint32),
                   (fill + shift).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.bias)

    def words(self) -> np.ndarray:
        """uint32 (N, 4): the 128-bit records as they travel, least significant word first."""
        zero = np.zeros(len(self), np.uint32)
        return np.stack([self.bias.view(np.uint32), self.scale, self.shift.astype(np.uint32), zero], axis=1)

    def columns(self, start: int, stop: int) -> Records:
        """The records of some columns."""
        return Records(self.bias[start:stop], self.scale[start:stop], self.shift[start:stop])


@dataclass(frozen=True)
class Sums:
    """Sums of (M, N) results: integers with flags beside them, or float32.

    Attributes
    ----------
    exact : Wide or None
        In units of ``2**product_exponent`` of the mode; without meaning where a flag is set.
    nan, inf_pos, inf_neg : bool ndarray (M, N)
        All False for float32, which holds them itself.
    value : float32 ndarray (M, N) or None
    """

    exact: Wide | None
    nan: np.ndarray
    inf_pos: np.ndarray
    inf_neg: np.ndarray
    value: np.ndarray | None = None


def integer_sums(design: MatmulDesign, values: np.ndarray, nan: object = False, inf_pos: object = False,
                 inf_neg: object = False) -> Sums:
    """Sums of integers (int64 or objects) and flags that broadcast against them."""
    values = np.asarray(values)
    flags = (np.broadcast_to(np.asarray(flag, bool), values.shape) for flag in (nan, inf_pos, inf_neg))
    return Sums(Wide.of(values, design.raw_bits), *flags)


def float_sums(codes: np.ndarray) -> Sums:
    """Sums of float32 codes (uint32)."""
    none = np.zeros(np.shape(codes), bool)
    return Sums(None, none, none, none, np.ascontiguousarray(codes, np.uint32).view(np.float32))


def requantise(design: MatmulDesign, job: Job, sums: Sums, *, records: Records | None = None,
               c: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Result codes and ``invalid`` of finished sums.

    Parameters
    ----------
    design : MatmulDesign
    job : Job
        Checked already; its m, n and k do not matter here.
    sums : Sums
    records : Records, optional
        With ``job.per_channel``.
    c : ndarray (M, N), optional
        Raw codes, with ``job.accumulate``.

    Returns
    -------
    codes : ndarray (M, N)
        uint8, uint16 or uint32 by the output format; raw results uint64, Python integers beyond 64 bits.
    invalid : bool ndarray (M, N)
    """
    none = np.zeros(sums.nan.shape, bool)
    if sums.value is not None:
        value = _float_bias(job, sums.value, records, c)
        if job.rule == "raw":
            return _raw_floats(design, value), none
        return _float_rule(job, value, records)
    sums = _integer_bias(design, job, sums, records, c)
    nan = sums.nan | (sums.inf_pos & sums.inf_neg)
    inf_pos, inf_neg = sums.inf_pos & ~nan, sums.inf_neg & ~nan
    if job.rule == "raw":
        return _raw_integers(design, sums.exact, nan, inf_pos, inf_neg), none
    if job.rule == "integer":
        return _integer_rule(job, sums.exact, nan, inf_pos, inf_neg, records)
    exponent = design.pe.modes[design.pe.index(job.mode)].dot().product_exponent
    with np.errstate(over="ignore"):
        value = sums.exact.float64(exponent).astype(np.float32)
    value = np.where(inf_pos, np.float32(np.inf), np.where(inf_neg, np.float32(-np.inf), value))
    return _float_rule(job, np.where(nan, np.float32(np.nan), value), records)


# Sums ----------------------------------------------------------------------------------------------


def _special_codes(bits: int) -> tuple[int, int, int]:
    """NaN, +Inf and -Inf among raw codes."""
    top = 1 << (bits - 1)
    return top, top - 1, top + 1


def special_raw(raw: Wide) -> list[np.ndarray]:
    """Where raw results of an exact accumulator are NaN, +Inf and -Inf."""
    codes = raw.codes()
    # A uint64 array compares with Python integers by value only as its own type.
    return [codes == (code if codes.dtype == object else np.uint64(code)) for code in _special_codes(raw.bits)]


def _integer_bias(design: MatmulDesign, job: Job, sums: Sums, records: Records | None, c: np.ndarray | None) -> Sums:
    """C and bias added; the special codes of C join the flags."""
    exact, flags, bits = sums.exact, [sums.nan, sums.inf_pos, sums.inf_neg], design.raw_bits
    if job.accumulate:
        addend = Wide.of(c, bits)
        exact = exact + addend
        if design.pe.accumulator.kind == "exact":
            flags = [flag | found for flag, found in zip(flags, special_raw(addend), strict=True)]
    if job.bias:
        bias = records.bias.astype(object) << (8 * job.bias_shift)
        exact = exact + Wide.of(bias[None], bits)
    return Sums(exact, *flags)


def _float_bias(job: Job, value: np.ndarray, records: Records | None, c: np.ndarray | None) -> np.ndarray:
    with np.errstate(all="ignore"):
        if job.accumulate:
            value = _positive_zero(value + (np.asarray(c).astype(np.uint64) & np.uint64(0xFFFFFFFF))
                                   .astype(np.uint32).view(np.float32))
        if job.bias:
            value = _positive_zero(value + records.bias.view(np.float32))
    return value


def _positive_zero(value: np.ndarray) -> np.ndarray:
    return np.where(value == 0, np.float32(0), value)


# Rules ---------------------------------------------------------------------------------------------


def _float_codes(value: np.ndarray) -> np.ndarray:
    codes = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return np.where(np.isnan(value), np.uint32(FP32_NAN), codes)


def _raw_floats(design: MatmulDesign, value: np.ndarray) -> np.ndarray:
    codes = _float_codes(value).astype(np.uint64)
    return codes if design.raw_bits <= 64 else codes.astype(object)


def _raw_integers(design: MatmulDesign, exact: Wide, nan: np.ndarray, inf_pos: np.ndarray,
                  inf_neg: np.ndarray) -> np.ndarray:
    codes = exact.codes()
    for flag, code in zip((nan, inf_pos, inf_neg), _special_codes(design.raw_bits), strict=True):
        codes[flag] = code
    return codes


def _limits(fmt: Format) -> tuple[int, int]:
    return (-1 << (fmt.bits - 1), (1 << (fmt.bits - 1)) - 1) if fmt.signed else (0, (1 << fmt.bits) - 1)


def _integer_codes(fmt: Format, value: np.ndarray) -> np.ndarray:
    """Codes of int64 values, saturated."""
    return (np.clip(value, *_limits(fmt)) & ((1 << fmt.bits) - 1)).astype(code_dtype(fmt.bits))


def _integer_rule(job: Job, exact: Wide, nan: np.ndarray, inf_pos: np.ndarray, inf_neg: np.ndarray,
                  records: Records | None) -> tuple[np.ndarray, np.ndarray]:
    """``clamp(RNE(S * scale * 2**-shift) + zero_point)``."""
    fmt = get_format(job.output)
    if job.per_channel:
        scale, shift = records.scale.astype(np.int64), records.shift.astype(np.int64)
    else:
        scale, shift = np.int64(job.scale), np.int64(job.shift)
    result = _scaled(exact.saturated(INTEGER_BITS), scale, shift) + job.zero_point
    low, high = _limits(fmt)
    result = np.where(inf_pos, high, np.where(inf_neg, low, np.where(nan, job.zero_point, result)))
    if job.clamp is not None:
        result = np.minimum(np.maximum(result, int(job.clamp[0])), int(job.clamp[1]))
    return _integer_codes(fmt, result), nan | inf_pos | inf_neg


def _scaled(values: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``RNE(values * scale * 2**-shift)`` of 48-bit values; from 2**38 on maybe a smaller number, beyond any format."""
    low = (values & ((1 << HALF) - 1)) * scale
    high = (values >> HALF) * scale + (low >> HALF)      # product = high * 2**24 + low
    low &= (1 << HALF) - 1
    right = np.maximum(shift - HALF, 0)
    left = np.maximum(HALF - shift, 0)
    # Shifts of 24 and more cut the high half; the low half is then a sticky rest.
    rest, half = high & ((np.int64(1) << right) - 1), (np.int64(1) << right) >> 1
    floor = high >> right
    above = (rest > half) | ((rest == half) & (low != 0))
    tie = (rest == half) & (low == 0)
    # A shift of exactly 24 has nothing but the low half behind the point.
    exactly = right == 0
    middle = 1 << (HALF - 1)
    above, tie = np.where(exactly, low > middle, above), np.where(exactly, low == middle, tie)
    large = floor + (above | (tie & (floor & 1 == 1)))
    # Smaller shifts keep the upper bits of the low half; high is bounded first, so that nothing is lost on the left.
    bounded = np.clip(high, -1 << 38, 1 << 38)
    cut = np.minimum(shift, HALF)
    floor = (bounded << left) + (low >> cut)
    rest, half = low & ((np.int64(1) << cut) - 1), (np.int64(1) << cut) >> 1
    up = (rest > half) | ((rest == half) & (half > 0) & (floor & 1 == 1))
    small = floor + up
    return np.clip(np.where(shift >= HALF, large, small), -1 << 40, 1 << 40)


def _float_rule(job: Job, value: np.ndarray, records: Records | None) -> tuple[np.ndarray, np.ndarray]:
    """Times the scale in float32, clamped, encoded."""
    scale = records.scale.view(np.float32) if job.per_channel else np.float32(job.scale)
    with np.errstate(all="ignore"):
        value = (value * scale).astype(np.float32)
        if job.clamp is not None:
            low, high = (np.float32(limit) for limit in job.clamp)
            value = np.where(value < low, low, value)
            value = np.where(value > high, high, value)
    nan, none = np.isnan(value), np.zeros(value.shape, bool)
    fmt = get_format(job.output)
    if fmt.name == "fp32":
        return _float_codes(value), none
    value = np.where(nan, 0, value.astype(np.float64))
    if fmt.family == "int":
        rounded = np.rint(np.clip(value, -2.0 ** 40, 2.0 ** 40)).astype(np.int64)
        return _integer_codes(fmt, rounded + job.zero_point), nan
    value = np.where(np.isinf(value), np.copysign(fmt.max, value), value)
    codes = fmt.encode(value, overflow="saturate")
    if not fmt.has_nan:
        return codes, nan
    return np.where(nan, codes.dtype.type(_nan_code(fmt)), codes), none


def _nan_code(fmt: Format) -> int:
    return int(fmt.encode(np.array([np.nan]))[0])
