"""The matmul core: exact sums of one job, then its output rule. Bit-exact for every mode and option."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.matmul import Job, MatmulDesign
from ..design.morphable import Mode
from ..errors import BitkilnError
from ..formats import BlockScaled, Format, Special, get_group_format
from ..workloads.matmul import matmul as dot_matmul
from .dot import _fp32_step
from .requantise import Records, Sums, float_sums, integer_sums, requantise, special_raw
from .wide import exact_product

__all__ = ["Records", "Result", "matmul", "raw_values"]


@dataclass(frozen=True)
class Result:
    """Results of one job, shape (M, N).

    Attributes
    ----------
    codes : ndarray
        uint8, uint16 or uint32 codes of the output format; raw results uint64, or Python integers in an object
        array where ``design.raw_bits`` is more than 64.
    invalid : bool ndarray
        The sum did not fit the output format (see ``golden.requantise``).
    overflow : bool ndarray
        Sticky overflow of an int32 accumulator during this job.
    """

    codes: np.ndarray
    invalid: np.ndarray
    overflow: np.ndarray


def matmul(design: MatmulDesign, job: Job, a: np.ndarray, w: np.ndarray, *, c: np.ndarray | None = None,
           records: Records | None = None, a_scales: np.ndarray | None = None,
           w_scales: np.ndarray | None = None) -> Result:
    """What the core computes for one job.

    Parameters
    ----------
    design : MatmulDesign
    job : Job
    a : integer ndarray (M, K)
        Activation codes.
    w : integer ndarray (N, K)
        Weight codes.
    c : ndarray (M, N), with ``job.accumulate``
        Raw codes to add, as an earlier job with rule ``raw`` gave them.
    records : Records of N columns, with ``job.per_channel``
    a_scales, w_scales : integer ndarray (M, blocks) and (N, blocks), with ``job.block``
        Scale codes; the last block may be shorter.
    """
    job = job.check(design)
    mode = design.pe.modes[design.pe.index(job.mode)]
    a = _codes(a, mode.activation, "a", (job.m, job.k))
    w = _codes(w, mode.weight, "w", (job.n, job.k))
    _expect(job.per_channel, records, "records", "job.per_channel")
    if job.per_channel and len(records) != job.n:
        raise BitkilnError("wrong shape", where="records", got=len(records), expected=f"{job.n} records")
    _expect(job.accumulate, c, "c", "job.accumulate")
    if job.accumulate:
        c = _raw_codes(design, c, (job.m, job.n))
    for name, scales, rows in (("a_scales", a_scales, job.m), ("w_scales", w_scales, job.n)):
        _expect(job.block is not None, scales, name, "job.block")
        if job.block is not None:
            group = get_group_format(job.block)
            _codes(scales, group.scale, name, (rows, -(-job.k // group.block_size)))
    overflow = np.zeros((job.m, job.n), bool)
    kind = design.pe.accumulator.kind
    if job.block is not None:
        sums = _blocks(get_group_format(job.block), mode, a, w, np.asarray(a_scales), np.asarray(w_scales))
    elif kind == "exact":
        sums = _exact(design, mode, a, w)
    else:
        done = dot_matmul(design.pe.dot(mode), a, w)
        sums = float_sums(done.acc) if kind == "fp32" else integer_sums(design, done.acc)
        overflow = done.overflow
    return Result(*requantise(design, job, sums, records=records, c=c), overflow)


def raw_values(design: MatmulDesign, job: Job, codes: np.ndarray) -> np.ndarray:
    """Raw codes as float64: rounded to odd where the sum has more bits; NaN and infinities by their codes."""
    codes = np.asarray(codes)
    if design.floating or job.block is not None:
        return codes.astype(np.uint32).view(np.float32).astype(np.float64)
    exponent = design.pe.modes[design.pe.index(job.mode)].dot().product_exponent
    raw = integer_sums(design, codes).exact
    value = np.asarray(raw.float64(exponent))
    if design.pe.accumulator.kind == "exact":
        for found, number in zip(special_raw(raw), (np.nan, np.inf, -np.inf), strict=True):
            value[found] = number
    return value


# Operands ------------------------------------------------------------------------------------------


def _expect(wanted: bool, value: object, name: str, by: str) -> None:
    if wanted and value is None:
        raise BitkilnError("operand missing", where=name, expected=f"an array with {by}")
    if value is not None and not wanted:
        raise BitkilnError("unexpected operand", where=name, expected=f"none without {by}")


def _codes(codes: np.ndarray, fmt: Format, name: str, shape: tuple[int, int]) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.dtype.kind not in "ui":
        raise BitkilnError("wrong dtype", where=name, got=str(codes.dtype), expected="integer codes",
                           help="encode values with format.encode first")
    if codes.shape != shape:
        raise BitkilnError("wrong shape", where=name, got=codes.shape, expected=str(shape))
    bad = (codes < 0) | (codes >> fmt.bits != 0)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BitkilnError("code outside the format", where=f"{name}{list(at)}", got=int(codes[at]),
                           expected=f"0 to {(1 << fmt.bits) - 1} ({fmt.name})")
    return codes


def _raw_codes(design: MatmulDesign, c: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """C as ``requantise`` takes it: uint64, or objects."""
    c = np.asarray(c)
    if c.shape != shape:
        raise BitkilnError("wrong shape", where="c", got=c.shape, expected=str(shape))
    if c.dtype.kind not in "uiO":
        raise BitkilnError("wrong dtype", where="c", got=str(c.dtype), expected="raw codes (integers)")
    low, high = int(c.min()), int(c.max())
    if low < 0 or high >> design.raw_bits:
        raise BitkilnError("code outside the raw width", where="c", got=low if low < 0 else high,
                           expected=f"0 to 2**{design.raw_bits} - 1")
    return c.astype(np.uint64) if design.raw_bits <= 64 else c.astype(object)


# Sums ----------------------------------------------------------------------------------------------


class _Events:
    """Which rows of an operand meet special codes."""

    def __init__(self, fmt: Format, codes: np.ndarray):
        u = fmt.unpack(codes)
        sign = u.sign.astype(bool)
        self.nan, self.inf = u.special == Special.NAN, u.special == Special.INF
        number = (u.special == Special.NONE) & (u.significand != 0)
        self.zero = ~(number | self.nan | self.inf)   # a code without meaning counts as zero
        # Signs of what an infinity may meet: numbers and infinities.
        self.positive, self.negative = (number | self.inf) & ~sign, (number | self.inf) & sign
        self.inf_pos, self.inf_neg = self.inf & ~sign, self.inf & sign


def _meet(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(M, N): whether some k has both."""
    return (a.astype(np.float32) @ w.astype(np.float32).T) > 0


def _flags(mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN, +Inf and -Inf among the products of each pair of rows."""
    none = np.zeros((len(a), len(w)), bool)
    nan, inf_pos, inf_neg = none, none, none
    if not (mode.activation.has_nan or mode.weight.has_nan or mode.activation.has_inf or mode.weight.has_inf):
        return nan, inf_pos, inf_neg
    left, right = _Events(mode.activation, a), _Events(mode.weight, w)
    nan = left.nan.any(axis=1)[:, None] | right.nan.any(axis=1)[None]
    if left.inf.any() or right.inf.any():
        nan = nan | _meet(left.inf, right.zero) | _meet(left.zero, right.inf)
        inf_pos = (_meet(left.inf_pos, right.positive) | _meet(left.inf_neg, right.negative)
                   | _meet(left.positive, right.inf_pos) | _meet(left.negative, right.inf_neg))
        inf_neg = (_meet(left.inf_pos, right.negative) | _meet(left.inf_neg, right.positive)
                   | _meet(left.positive, right.inf_neg) | _meet(left.negative, right.inf_pos))
    return nan, inf_pos, inf_neg


def _exact(design: MatmulDesign, mode: Mode, a: np.ndarray, w: np.ndarray) -> Sums:
    """Exact sums. Rows with special codes get their flags; what the numbers beside them add up to is lost."""
    total = exact_product(mode.activation.units(a), mode.weight.units(w), design.raw_bits)
    return Sums(total, *_flags(mode, a, w))


def _blocks(group: BlockScaled, mode: Mode, a: np.ndarray, w: np.ndarray, a_scales: np.ndarray,
            w_scales: np.ndarray) -> Sums:
    """``f = RNE(f + S_b * a_scale * w_scale)`` in float32 over the blocks in ascending order, from +0.

    A product of scales and of a block sum up to 45 bits is exact in float64 (a scale has 4 significant bits); sums
    of more bits are added as Python integers.
    """
    a_units, w_units = mode.activation.units(a), mode.weight.units(w)
    exponent = mode.dot().product_exponent
    bits = 64 if (group.block_size * mode.dot().max_product).bit_length() < 62 else 128
    value = np.zeros((len(a), len(w)), np.float32)
    for b in range(a_scales.shape[1]):
        at = slice(b * group.block_size, (b + 1) * group.block_size)
        exact = exact_product(a_units[:, at], w_units[:, at], bits)
        block, fits = exact.int64()
        large = ~fits | ((block >> 44) != (block >> 63))
        nan, inf_pos, inf_neg = _flags(mode, a[:, at], w[:, at])
        scales = np.multiply.outer(group.scale.decode(a_scales[:, b]), group.scale.decode(w_scales[:, b]))
        nan = nan | (inf_pos & inf_neg)
        with np.errstate(all="ignore"):
            product = np.ldexp(block.astype(np.float64), exponent)
            product = np.where(inf_pos, np.inf, np.where(inf_neg, -np.inf, product))
            product = np.where(nan, np.nan, product) * scales
            new = _add(value, product)
        rows, columns = np.nonzero(large & ~(nan | inf_pos | inf_neg) & np.isfinite(scales) & np.isfinite(value))
        if len(rows):
            factor = (group.scale.units(a_scales[:, b]).astype(object)[rows]
                      * group.scale.units(w_scales[:, b]).astype(object)[columns])
            sums = exact.integers()[rows, columns] * factor
            new[rows, columns] = _fp32_step(value[rows, columns], sums, exponent + 2 * group.scale.unit_exponent)
        value = new
    return float_sums(value.view(np.uint32))


def _add(value: np.ndarray, product: np.ndarray) -> np.ndarray:
    """``RNE(value + product)`` in float32; ``product`` is an exact float64."""
    value = value.astype(np.float64)
    total = value + product
    part = total - value
    error = (value - (total - part)) + (product - part)
    # To odd, so that rounding to 24 bits afterwards is as good as one rounding.
    even = (total.view(np.int64) & 1) == 0
    odd = np.where(np.isfinite(total) & (error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)   # never -0 + -0: a block sum of zero is +0
