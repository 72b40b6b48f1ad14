"""Exact dot products of any pair of formats: the golden model of the dot unit.

Products are integers in units of the product's least bit and are summed as integers: no float rounding
anywhere. Only the fp32 accumulator and an output format round, each once, from the exact integer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.dot import DotDesign
from ..errors import BitkilnError
from ..formats import Format, Special
from .integers import (
    limbs_of_shifted,
    limbs_to_integers,
    to_float64_odd,
    wrap_signed,
)

__all__ = ["DotResult", "dot", "trace", "round_output"]

FP32_NAN = 0x7FC00000


@dataclass(frozen=True)
class DotResult:
    """Results of N dot products (or of N clock cycles of a trace).

    Attributes
    ----------
    acc : ndarray (N,)
        The accumulator: signed integers (int64, or objects where wider than 62 bits); for ``fp32``
        accumulators uint32 codes.
    nan, inf_pos, inf_neg, illegal, overflow : bool ndarray (N,)
        Sticky flags; all False where the design has no such port.
    o : ndarray (N,) or None
        Output codes where the design has an output format.
    """

    acc: np.ndarray
    nan: np.ndarray
    inf_pos: np.ndarray
    inf_neg: np.ndarray
    illegal: np.ndarray
    overflow: np.ndarray
    o: np.ndarray | None

    def value(self, design: DotDesign) -> np.ndarray:
        """Accumulators as float64 (rounded to odd beyond 53 bits; NaN and infinities by the flags)."""
        if design.accumulator.kind == "fp32":
            return self.acc.astype(np.uint32).view(np.float32).astype(np.float64)
        value = to_float64_odd(self.acc, design.product_exponent)
        value = np.where(self.inf_pos, np.inf, np.where(self.inf_neg, -np.inf, value))
        return np.where(self.nan | (self.inf_pos & self.inf_neg), np.nan, value)


def _check(design: DotDesign, codes: np.ndarray, fmt: Format, name: str) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.dtype.kind not in "ui":
        raise BitkilnError("wrong dtype", where=name, got=str(codes.dtype), expected="integer codes",
                           help="encode values with format.encode first")
    if codes.ndim < 2 or codes.shape[-1] != design.lanes:
        raise BitkilnError("wrong shape", where=name, got=codes.shape,
                           expected=f"(..., cycles, {design.lanes} lanes)")
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >> fmt.bits):
        bad = int(np.flatnonzero((codes.reshape(-1) < 0) | (codes.reshape(-1) >> fmt.bits != 0))[0])
        raise BitkilnError("code outside the format", where=f"{name}[{bad}]", got=int(codes.reshape(-1)[bad]),
                           expected=f"0 to {(1 << fmt.bits) - 1} ({fmt.name})")
    return codes


class _Cycle:
    """Exact lane sums and special events of every cycle, shape (..., cycles)."""

    def __init__(self, design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray):
        a_codes = _check(design, a_codes, design.activation, "a")
        w_codes = _check(design, w_codes, design.weight, "w")
        if a_codes.shape != w_codes.shape:
            raise BitkilnError("shape mismatch", where="a and w", got=f"{a_codes.shape} and {w_codes.shape}",
                               expected="equal shapes (..., cycles, lanes)")
        a, w = design.activation.unpack(a_codes), design.weight.unpack(w_codes)
        significand = a.significand.astype(np.int64) * w.significand.astype(np.int64)
        shift = a.exponent.astype(np.int64) + w.exponent.astype(np.int64) - design.product_exponent
        shift = np.where(significand == 0, 0, shift)
        significand >>= np.maximum(-shift, 0)  # trailing zeros of unnormalised forms: exact
        shift = np.maximum(shift, 0)
        negative = (a.sign ^ w.sign).astype(bool)
        signed = np.where(negative, -significand, significand)
        self.sums_bits = (design.max_product * design.lanes).bit_length() + 1
        # A cumulative sum over a whole trace must fit too.
        terms = max(1, a_codes.shape[-2]) * design.lanes
        if (design.max_product * terms).bit_length() < 62:
            self.limbs = None
            self.sums = (signed << shift).sum(axis=-1)
        else:
            count = -(-self.sums_bits // 32) + 1
            self.limbs = limbs_of_shifted(signed, shift, count).sum(axis=-2)
            self.sums = None
        # Special values.
        a_nan, w_nan = a.special == Special.NAN, w.special == Special.NAN
        a_inf, w_inf = a.special == Special.INF, w.special == Special.INF
        a_zero = (a.special == Special.NONE) & (a.significand == 0)
        w_zero = (w.special == Special.NONE) & (w.significand == 0)
        a_zero |= a.special == Special.ILLEGAL
        w_zero |= w.special == Special.ILLEGAL
        inf = (a_inf & ~w_zero & ~w_nan) | (w_inf & ~a_zero & ~a_nan)
        nan = a_nan | w_nan | (a_inf & w_zero) | (w_inf & a_zero)
        self.nan = nan.any(axis=-1)
        self.inf_pos = (inf & ~negative).any(axis=-1)
        self.inf_neg = (inf & negative).any(axis=-1)
        # A cycle with a special product adds nothing: it only sets the flags.
        ordinary = ~(self.nan | self.inf_pos | self.inf_neg)
        if self.limbs is None:
            self.sums = self.sums * ordinary
        else:
            self.limbs = self.limbs * ordinary[..., None]
        illegal = (a.special == Special.ILLEGAL) | (w.special == Special.ILLEGAL)
        self.illegal = illegal.any(axis=-1)

    def integers(self) -> np.ndarray:
        return self.sums if self.limbs is None else limbs_to_integers(self.limbs)


def _running(per_cycle: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Running sums over axis 0 that restart after index ``start[t]`` (-1: from the beginning)."""
    total = np.cumsum(per_cycle, axis=0)
    base = np.where((start >= 0).reshape(-1, *[1] * (total.ndim - 1)), total[np.maximum(start, 0)], 0)
    return total - base


def _fp32_step(acc: np.ndarray, sums: np.ndarray, exponent: int) -> np.ndarray:
    """``RNE(acc + sums * 2**exponent)`` for finite float32 ``acc``; overflow gives infinity (IEEE 754)."""
    unit = min(exponent, -149)
    mantissa, e = np.frexp(acc.astype(np.float64))
    whole = np.ldexp(mantissa, 24).astype(np.int64).astype(object)  # float32 has 24 bits: exact
    shift = np.where(whole == 0, 0, e.astype(np.int64) - 24 - unit)
    # frexp normalises subnormals, so their low bits are zero and the right shift is exact.
    left = np.maximum(shift, 0).astype(object)
    right = np.maximum(-shift, 0).astype(object)
    exact = ((whole << left) >> right) + sums.astype(object) * (1 << (exponent - unit))
    with np.errstate(over="ignore"):
        return to_float64_odd(exact, unit).astype(np.float32)


def _fp32_run(design: DotDesign, cycle: _Cycle, en: np.ndarray | None, clear: np.ndarray | None) -> np.ndarray:
    """Accumulator codes after each step of axis 0; trailing axes are independent."""
    sums = cycle.integers()
    acc = np.zeros(sums.shape[1:], np.float32)
    out = np.empty(sums.shape, np.uint32)
    for t in range(sums.shape[0]):
        finite = np.isfinite(acc)
        new = acc.copy()
        if finite.any():
            new[finite] = _fp32_step(acc[finite], sums[t][finite], design.product_exponent)
        plus = cycle.inf_pos[t] | (np.isposinf(acc))
        minus = cycle.inf_neg[t] | (np.isneginf(acc))
        new = np.where(plus, np.float32(np.inf), np.where(minus, np.float32(-np.inf), new))
        nan = cycle.nan[t] | np.isnan(acc) | (plus & minus)
        if en is not None:
            new = np.where(en[t], new, acc)
            nan = np.where(en[t], nan, np.isnan(acc))
        codes = np.where(nan, np.uint32(FP32_NAN), new.astype(np.float32).view(np.uint32))
        if clear is not None:
            codes = np.where(clear[t], np.uint32(0), codes)
        out[t] = codes
        acc = np.asarray(codes, np.uint32).view(np.float32)
    return out


def round_output(design: DotDesign, acc: np.ndarray, nan: np.ndarray, inf_pos: np.ndarray,
                 inf_neg: np.ndarray) -> np.ndarray | None:
    """Codes of the output format, each rounded once to nearest even; None without an output format.

    NaN gives the output's canonical NaN, or 0 where it has none (the ``nan`` port still tells); infinities
    give infinity where the format has it, else they saturate.
    """
    if design.output is None:
        return None
    result = DotResult(acc, nan, inf_pos, inf_neg, nan, nan, None)
    value = result.value(design)
    value = np.where(value == 0, 0.0, value)
    if not design.output.has_nan:
        value = np.where(np.isnan(value), 0.0, value)
    return design.output.encode(value)


def _accumulate(design: DotDesign, cycle: _Cycle, en: np.ndarray, clear: np.ndarray) -> DotResult:
    """State after each of T cycles of one unit (axis 0 is time)."""
    length = en.shape[0]
    index = np.arange(length)
    start = np.maximum.accumulate(np.where(clear, index, -1)) if length else index
    active = en & ~clear
    acc_design = design.accumulator

    def sticky(events: np.ndarray) -> np.ndarray:
        return _running((events & active).astype(np.int64), start) > 0

    nan, inf_pos, inf_neg = sticky(cycle.nan), sticky(cycle.inf_pos), sticky(cycle.inf_neg)
    illegal = sticky(cycle.illegal)
    overflow = np.zeros(length, bool)
    if acc_design.kind == "fp32":
        for key in ("sums", "limbs", "nan", "inf_pos", "inf_neg"):
            if getattr(cycle, key) is not None:
                setattr(cycle, key, getattr(cycle, key)[:, None])
        acc = _fp32_run(design, cycle, en, clear)[:, 0]
        nan = inf_pos = inf_neg = np.zeros(length, bool)
    elif acc_design.overflow == "saturate":
        low, high = -(1 << 31), (1 << 31) - 1
        sums, acc, state, flag = cycle.integers(), np.zeros(length, np.int64), 0, False
        for t in range(length):
            if clear[t]:
                state, flag = 0, False
            elif en[t]:
                exact = state + int(sums[t])
                state = min(max(exact, low), high)
                flag |= exact != state
            acc[t], overflow[t] = state, flag
        overflow &= design.has_overflow
    else:
        if cycle.limbs is None:
            exact = _running(cycle.sums * active, start)
        else:
            exact = limbs_to_integers(_running(cycle.limbs * active[:, None], start))
        acc = wrap_signed(exact, design.accumulator_bits)
        if design.has_overflow:
            overflow = _running((acc != exact).astype(np.int64), start) > 0
    return _result(design, acc, nan, inf_pos, inf_neg, illegal, overflow)


def _result(design: DotDesign, acc: np.ndarray, nan: np.ndarray, inf_pos: np.ndarray, inf_neg: np.ndarray,
            illegal: np.ndarray, overflow: np.ndarray) -> DotResult:
    """A result whose flags are False where the design has no such port, output included."""
    nan, illegal = nan & design.has_nan, illegal & design.has_illegal
    inf_pos, inf_neg = inf_pos & design.has_inf, inf_neg & design.has_inf
    return DotResult(acc, nan, inf_pos, inf_neg, illegal, overflow,
                     round_output(design, acc, nan, inf_pos, inf_neg))


def trace(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray, en: np.ndarray,
          clear: np.ndarray) -> DotResult:
    """Ports of one unit after each clock edge.

    Parameters
    ----------
    a_codes, w_codes : integer ndarray (T, lanes)
    en, clear : bool ndarray (T,)
        Inputs sampled at edge t. The unit starts cleared; ``clear`` wins over ``en``.

    Returns
    -------
    DotResult of T rows: row t is what the ports show after edge t, the pipeline's delay included.
    """
    en, clear = np.asarray(en, bool), np.asarray(clear, bool)
    a_codes, w_codes = np.asarray(a_codes), np.asarray(w_codes)
    if not len(a_codes) == len(w_codes) == len(en) == len(clear):
        raise BitkilnError("shape mismatch", where="a, w, en, clear",
                           got=f"{len(a_codes)}, {len(w_codes)}, {len(en)}, {len(clear)} cycles",
                           expected="equal numbers of cycles")
    delay = min(design.pipeline, len(en))
    if delay:
        keep = len(en) - delay
        a_codes = np.concatenate([np.zeros_like(a_codes[:delay]), a_codes[:keep]])
        w_codes = np.concatenate([np.zeros_like(w_codes[:delay]), w_codes[:keep]])
        en = np.concatenate([np.zeros(delay, bool), en[:keep]])
        clear = np.concatenate([np.zeros(delay, bool), clear[:keep]])
    return _accumulate(design, _Cycle(design, a_codes, w_codes), en, clear)


def dot(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> DotResult:
    """N independent dot products from a cleared accumulator.

    Parameters
    ----------
    a_codes, w_codes : integer ndarray (N, K, lanes) or (K, lanes)
        K cycles of ``lanes`` operand pairs.

    Returns
    -------
    DotResult of N rows (one row for two-dimensional operands).
    """
    a_codes, w_codes = np.asarray(a_codes), np.asarray(w_codes)
    if a_codes.ndim == 2:
        a_codes, w_codes = a_codes[None], w_codes[None]
    if a_codes.ndim != 3:
        raise BitkilnError("wrong shape", where="a", got=a_codes.shape, expected="(N, cycles, lanes)")
    cycle = _Cycle(design, a_codes, w_codes)
    count = a_codes.shape[0]
    none = np.zeros(count, bool)
    nan, inf_pos = cycle.nan.any(axis=1), cycle.inf_pos.any(axis=1)
    inf_neg, illegal = cycle.inf_neg.any(axis=1), cycle.illegal.any(axis=1)
    overflow = none
    kind = design.accumulator.kind
    if kind == "fp32":
        for key in ("nan", "inf_pos", "inf_neg"):
            setattr(cycle, key, getattr(cycle, key).T)
        if cycle.limbs is None:
            cycle.sums = cycle.sums.T
        else:
            cycle.limbs = cycle.limbs.swapaxes(0, 1)
        steps = _fp32_run(design, cycle, None, None)
        acc = steps[-1] if len(steps) else np.zeros(count, np.uint32)
        nan = inf_pos = inf_neg = none
    elif design.accumulator.overflow == "saturate" or design.has_overflow:
        # Order matters for saturation, and the sticky flag looks at every step.
        sums = cycle.integers().astype(object)
        state, overflow = np.zeros(count, object), np.zeros(count, bool)
        half = 1 << (design.accumulator_bits - 1)
        saturate = design.accumulator.overflow == "saturate"
        for k in range(sums.shape[1]):
            exact = state + sums[:, k]
            state = np.clip(exact, -half, half - 1) if saturate else wrap_signed(exact, design.accumulator_bits)
            overflow |= state != exact
        overflow = overflow & design.has_overflow
        acc = state.astype(np.int64) if design.accumulator_bits <= 62 else state
    else:
        exact = cycle.sums.sum(axis=1) if cycle.limbs is None else limbs_to_integers(cycle.limbs.sum(axis=1))
        acc = wrap_signed(exact, design.accumulator_bits)
        if design.accumulator_bits <= 62 and acc.dtype == object:
            acc = acc.astype(np.int64)
    return _result(design, acc, nan, inf_pos, inf_neg, illegal, overflow)

