"""Matrix products of codes, each element what one dot unit would hold: fast, and equal to ``golden.dot``."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..design.dot import DotDesign
from ..errors import BitkilnError
from ..formats import Format, Special
from ..golden.dot import DotResult, dot, round_output
from ..golden.integers import wrap_signed

__all__ = ["lane_groups", "matmul", "matmul_by_dot", "zero_code"]

CHUNK = 1 << 20   # operand pairs that golden.dot unpacks at a time
EXACT = 53        # bits of a float64 significand


@cache
def zero_code(fmt: Format) -> int | None:
    """The lowest code whose value is 0, None where the format has no zero."""
    codes = np.arange(1 << fmt.bits, dtype=np.uint32)
    zero = (fmt.decode(codes) == 0) & (fmt.unpack(codes).special == Special.NONE)
    return int(codes[zero][0]) if zero.any() else None


def lane_groups(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows cut into cycles of ``lanes`` codes; the last cycle is filled with codes of zero.

    Parameters
    ----------
    a_codes : integer ndarray (M, K)
    w_codes : integer ndarray (N, K)

    Returns
    -------
    a (M, cycles, lanes), w (N, cycles, lanes)
    """
    a_codes, w_codes = np.asarray(a_codes), np.asarray(w_codes)
    if a_codes.ndim != 2 or w_codes.ndim != 2 or a_codes.shape[1] != w_codes.shape[1]:
        raise BitkilnError("shape mismatch", where="a and w", got=(a_codes.shape, w_codes.shape),
                           expected="(M, K) and (N, K)")
    missing = -a_codes.shape[1] % design.lanes
    if missing:
        zeros = zero_code(design.activation), zero_code(design.weight)
        if zeros == (None, None):
            raise BitkilnError("no zero to fill unused lanes with", where=f"{design.pe_name} matrix product",
                               got=a_codes.shape[1], expected=f"a multiple of {design.lanes} lanes as K")
        # One zero factor is enough; the other side is then an ordinary finite code.
        a_codes, w_codes = (np.pad(codes, ((0, 0), (0, missing)), constant_values=zero or 0)
                            for codes, zero in zip((a_codes, w_codes), zeros, strict=True))
    return tuple(codes.reshape(len(codes), -1, design.lanes) for codes in (a_codes, w_codes))


def matmul_by_dot(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> DotResult:
    """``matmul`` through ``golden.dot`` alone: every pair of rows written out. The reference; slow."""
    a, w = lane_groups(design, a_codes, w_codes)
    rows = max(1, CHUNK // max(1, w.size))
    parts = []
    for start in range(0, max(1, len(a)), rows):
        block = a[start:start + rows]
        pairs = np.broadcast_shapes(block[:, None].shape, w[None].shape)
        flat = (len(block) * len(w), *w.shape[1:])
        parts.append(dot(design, np.broadcast_to(block[:, None], pairs).reshape(flat),
                         np.broadcast_to(w[None], pairs).reshape(flat)))

    def join(key: str) -> np.ndarray | None:
        pieces = [getattr(part, key) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces).reshape(len(a), len(w))

    return DotResult(*(join(key) for key in ("acc", "nan", "inf_pos", "inf_neg", "illegal", "overflow", "o")))


def matmul(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> DotResult:
    """All dot products of the rows of ``a_codes`` with the rows of ``w_codes``.

    Element (m, n) equals, bit for bit, what ``golden.dot`` gives for row m and row n from a cleared
    accumulator. Integer sums go through float64 matrix products of limbs so narrow that every partial sum
    stays below 2**53: exact in any order. Special codes and possible overflows go to ``golden.dot``.

    Parameters
    ----------
    design : DotDesign
    a_codes : integer ndarray (M, K)
    w_codes : integer ndarray (N, K)

    Returns
    -------
    DotResult
        Fields of shape (M, N).
    """
    a, w = lane_groups(design, a_codes, w_codes)
    if design.accumulator.kind == "fp32":
        return _fp32(design, a, w)
    if _special(design.activation, a) or _special(design.weight, w):
        return matmul_by_dot(design, a_codes, w_codes)
    a_units = design.activation.units(a).reshape(len(a), -1)
    w_units = design.weight.units(w).reshape(len(w), -1)
    largest = a_units.shape[1] * _largest(a_units) * _largest(w_units)
    watched = design.has_overflow or design.accumulator.overflow == "saturate"
    if watched and largest >> (design.accumulator_bits - 1):
        return matmul_by_dot(design, a_codes, w_codes)
    acc = wrap_signed(_exact(a_units, w_units), design.accumulator_bits)
    acc = acc.astype(np.int64 if design.accumulator_bits <= 62 else object)
    return _result(design, acc)


def _result(design: DotDesign, acc: np.ndarray) -> DotResult:
    """A result without a flag."""
    no = np.zeros(acc.shape, bool)
    return DotResult(acc, no, no, no, no, no, round_output(design, acc, no, no, no))


def _special(fmt: Format, codes: np.ndarray) -> bool:
    return bool((fmt.has_nan or fmt.has_inf or fmt.has_illegal) and fmt.unpack(codes).special.any())


def _largest(units: np.ndarray) -> int:
    return int(np.abs(units).max()) if units.size else 0


def _exact(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``a @ w.T`` of integers (int64 or objects): int64 where 62 bits are enough, else objects."""
    a_bits, w_bits, terms = _largest(a).bit_length(), _largest(w).bit_length(), a.shape[1].bit_length()
    pieces = 1
    while -(-a_bits // pieces) - (-w_bits // pieces) + terms > EXACT:
        pieces += 1
    wide = a_bits + w_bits + terms > 62
    total = np.zeros((len(a), len(w)), object if wide else np.int64)
    a_limbs, a_step = _limbs(a, a_bits, pieces)
    w_limbs, w_step = _limbs(w, w_bits, pieces)
    for i, left in enumerate(a_limbs):
        for j, right in enumerate(w_limbs):
            part = (left @ right.T).astype(np.int64)
            total += (part.astype(object) if wide else part) << (i * a_step + j * w_step)
    return total


def _limbs(units: np.ndarray, bits: int, pieces: int) -> tuple[list[np.ndarray], int]:
    """Signed limbs as float64, the least significant first, and their width."""
    step = max(1, -(-bits // pieces))
    magnitude, sign = np.abs(units), np.where(units < 0, -1.0, 1.0)
    mask = (1 << step) - 1
    return [((magnitude >> (i * step)) & mask).astype(np.float64) * sign for i in range(pieces)], step


def _fp32(design: DotDesign, a: np.ndarray, w: np.ndarray) -> DotResult:
    """Per cycle ``RNE(acc + exact sum of the lane products)`` in float64 with its rounding error tracked.

    Products of two operands of at most 24 bits are exact in float64. Where the sum of the lanes is not, or
    something is not finite, golden.dot decides.
    """
    a_values, w_values = design.activation.decode(a), design.weight.decode(w)
    acc = np.zeros((len(a), len(w)), np.float32)
    doubtful = np.zeros(acc.shape, bool)
    with np.errstate(all="ignore"):
        for t in range(a.shape[1]):
            total = np.zeros(acc.shape)
            for lane in range(design.lanes):
                total, error = _two_sum(total, np.multiply.outer(a_values[:, t, lane], w_values[:, t, lane]))
                doubtful |= error != 0
            total, error = _two_sum(acc.astype(np.float64), total)
            # To odd, so that the second rounding to 24 bits is as good as one (Boldo and Melquiond 2008).
            even = (total.view(np.int64) & 1) == 0
            total = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
            # An exact zero is +0; what underflows keeps its sign.
            acc = np.where(total == 0, 0, total).astype(np.float32)
            doubtful |= ~np.isfinite(acc)
    acc = np.ascontiguousarray(acc).view(np.uint32)
    if _special(design.activation, a) or _special(design.weight, w):
        doubtful[:] = True
    m, n = np.nonzero(doubtful)
    rows = max(1, CHUNK // (a.shape[1] * design.lanes))
    exact = [dot(design, a[m[i:i + rows]], w[n[i:i + rows]]) for i in range(0, len(m), rows)]
    flags = [np.zeros(acc.shape, bool) for _ in range(5)]
    for i, part in zip(range(0, len(m), rows), exact, strict=True):
        at = m[i:i + rows], n[i:i + rows]
        acc[at] = part.acc
        for flag, name in zip(flags, ("nan", "inf_pos", "inf_neg", "illegal", "overflow"), strict=True):
            flag[at] = getattr(part, name)
    return DotResult(acc, *flags, round_output(design, acc, *flags[:3]))


def _two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounded sum and its exact error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)
