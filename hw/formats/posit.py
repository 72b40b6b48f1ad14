"""Posit decoders without a normalising shifter.

The fraction stays where it lies in the code: regime bits are masked off and a hidden one is put just above the
fraction. The weight of the least bit then follows from the regime (and the exponent bits) alone, and the product
shifter, which has to align over the whole range anyway, does the rest.
"""

from __future__ import annotations

from functools import lru_cache

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

from ..arith.cells import Part
from ..emit import shared
from .decode import Decoder

__all__ = ["LinearPositDecoder", "PositDecoder"]


def _count(thermometer: list[Value], width: int) -> list[Value]:
    """Binary bits of the number of ones in a thermometer code (its first bit rises first)."""
    out = []
    for b in range(width):
        terms = []
        for low in range(1 << b, len(thermometer) + 1, 2 << b):  # the count is in [low, high)
            high = low + (1 << b)
            ends = high <= len(thermometer)
            terms.append(thermometer[low - 1] & ~thermometer[high - 1] if ends else thermometer[low - 1])
        bit: Value = terms[0]
        for term in terms[1:]:
            bit = bit | term
        out.append(bit)
    return out


class LinearPositDecoder(Decoder):
    """posit(n, 0): below one the code is fixed point already.

    For ``|x| < 1`` the significand is the code's magnitude with shift 0. From one on, with regime k, the regime ones
    are masked, the terminating zero becomes the hidden one, and the least bit weighs ``2**(2k+1)`` minpos; maxpos
    is 2 at the weight of the last regime. The two's complement is taken in LUTs, each bit flipping when the
    code is negative and a lower bit is set: no carry chain.
    """

    def __init__(self, fmt: Format, keep: bool = True):
        super().__init__(fmt, unsigned(fmt.bits - 2), 0, 2 * (fmt.bits - 3) + 1, keep=keep)

    def fields(self) -> list[tuple[int, int]]:
        n, rows = self.format.bits - 1, []
        for x in range(1 << n):
            if x >> (n - 1) == 0:
                rows.append((x, 0))
                continue
            ones = 1
            while ones < n and x >> (n - 1 - ones) & 1:
                ones += 1
            k = min(ones - 1, n - 2)
            if ones == n:  # maxpos
                rows.append((2, 2 * k - 1 if n - 2 < k else 2 * (n - 2) + 1))
                continue
            place = n - 1 - ones  # of the terminating zero
            rows.append((1 << place | x & ((1 << place) - 1), 2 * k + 1))
        return rows

    def elaborate(self, platform) -> Module:
        m = Module()
        n = self.format.bits - 1
        code, sign = self.code, self.code[n]
        magnitude, flip = [code[0]], Const(0, 1)
        for i in range(1, n):
            flip = flip | (sign & code[i - 1])
            magnitude.append(code[i] ^ flip)
        nonzero = flip | code[n - 1]  # where negative
        ones: dict[int, Value] = {n - 1: Const(1, 1)}  # all magnitude bits above i are one
        for i in range(n - 2, -1, -1):
            ones[i] = ones[i + 1] & magnitude[i + 1]
        bits = [magnitude[i] ^ ones[i] for i in range(n - 1)]
        bits[1] = bits[1] | (ones[0] & magnitude[0])
        regime = [ones[i] for i in range(n - 3, -1, -1)]
        m.d.comb += [self.sign.eq(sign), self.significand.eq(Cat(*bits)),
                     self.shift.eq(Cat(magnitude[n - 1], *_count(regime, len(regime).bit_length())))]
        if self.has_nan:
            m.d.comb += self.nan.eq(sign & ~nonzero)
        return m


class RegimeRun(Part):
    """``same[i]``: ``above`` and every code bit from the top down to i equals ``lead``.

    Runs of four keep ABC from building a prefix tree (21 LUTs instead of 14 for 16 bits).
    """

    def __init__(self, width: int, keep: bool = True):
        super().__init__({"code": In(width), "lead": In(1), "above": In(1), "same": Out(width)},
                         f"regime_run_{width}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        above: Value = self.above
        for i in reversed(range(len(self.code))):
            m.d.comb += self.same[i].eq(above & (self.code[i] == self.lead))
            above = self.same[i]
        return m


class RegimeCount(Part):
    """Thermometer code to its binary count."""

    def __init__(self, width: int, keep: bool = True):
        super().__init__({"thermometer": In(width), "count": Out(width.bit_length())}, f"regime_count_{width}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        bits = _count(list(self.thermometer), len(self.count))
        if self.keep_hierarchy:  # fewer LUTs, but deeper
            bits[0] = self.thermometer.xor()
        m.d.comb += self.count.eq(Cat(*bits))
        return m


class ExponentSelect(Part):
    """The exponent bits after a regime of ``count + 2`` code bits, zeros where cut off."""

    def __init__(self, bits: int, es: int, keep: bool = True):
        self.bits, self.es = bits, es
        super().__init__({"code": In(bits), "count": In((bits - 2).bit_length()), "exponent": Out(es)},
                         f"posit_exponent_{bits}_{es}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        code, count, at = self.code, self.count, self.bits - 4
        for i in range(self.es):
            level: list[Value] = [code[at - k - i] if at - k - i >= 0 else Const(0, 1) for k in range(1 << len(count))]
            for b in range(len(count)):
                level = [Mux(count[b], level[j + 1], level[j]) for j in range(0, len(level), 2)]
            m.d.comb += self.exponent[self.es - 1 - i].eq(level[0] ^ code[-1])
        return m


class FractionMask(Part):
    """Hidden digit (1, or -2 of a negative code) and fraction in place: one LUT4 a bit."""

    def __init__(self, bits: int, es: int, keep: bool = True):
        self.es, self.fraction_bits = es, bits - 3 - es
        super().__init__({"code": In(bits), "same": In(bits - 1), "significand": Out(signed(self.fraction_bits + 2))},
                         f"posit_fraction_{bits}_{es}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        code, sign, same, out = self.code, self.code[-1], self.same, self.significand
        m.d.comb += out[self.fraction_bits + 1].eq(sign)
        m.d.comb += out[0].eq(Mux(same[self.es + 1] & ~same[0], ~sign, code[0]))
        for i in range(1, self.fraction_bits + 1):
            hidden, above = same[i + self.es], same[i + self.es + 1]
            m.d.comb += out[i].eq(Mux(above, Mux(hidden, sign, ~sign), code[i]))
        return m


class PositDecoder(Decoder):
    """posit(n, es) with a two's complement significand: no operand is negated.

    A negative code is decoded as it is, its hidden digit being -2 and its exponent bits complemented. Zero gives
    significand 0 and any shift, NaR any of both.
    """

    def __init__(self, fmt: Format, keep: bool = True):
        self.bits, self.es = fmt.bits, fmt.es
        self.fraction_bits = fmt.bits - 3 - fmt.es
        self._rows = _rows(fmt.bits, fmt.es)
        high = max(shift for _, shift in self._rows)
        self.shift_bits = high.bit_length()
        super().__init__(fmt, signed(self.fraction_bits + 2), 0, high, shift_bits=self.shift_bits, keep=keep)

    def fields(self) -> list[tuple[int, int]]:
        return self._rows

    def elaborate(self, platform) -> Module:
        m = Module()
        bits, es, fraction_bits, keep = self.bits, self.es, self.fraction_bits, self.keep
        code, top, sign = self.code, bits - 2, self.code[-1]
        same: list[Value] = [Const(0, 1)] * top + [Const(1, 1)]  # code bits top..i are all equal
        at, above = top, Const(1, 1)
        if not keep:  # pipelined: each from the code itself
            same[:top] = [~(code[i:top] ^ code[top].replicate(top - i)).any() for i in range(top)]
            at = 0
        while at:
            low = max(at - 4, 0)
            m.submodules[f"run{low}"] = run = shared(RegimeRun(at - low, keep))
            m.d.comb += [run.code.eq(code[low:at]), run.lead.eq(code[top]), run.above.eq(above)]
            same[low:at] = list(run.same)
            at, above = low, run.same[0]
        if self.has_nan:
            m.d.comb += self.nan.eq(same[0] & sign & ~code[0])
        m.submodules.mask = mask = shared(FractionMask(bits, es, keep))
        m.d.comb += [mask.code.eq(code), mask.same.eq(Cat(*same)), self.significand.eq(mask.significand)]
        # Code bits equal to the first one, after it.
        m.submodules.count = count = shared(RegimeCount(top, keep))
        m.d.comb += count.thermometer.eq(Cat(*[same[top - i] for i in range(1, top + 1)]))
        run_length = count.count
        up = Signal()  # regime >= 0
        m.d.comb += up.eq(code[top] ^ sign)
        exponent = Signal(es)
        if es:
            if keep:
                m.submodules.exponent = select = shared(ExponentSelect(bits, es, keep))
                m.d.comb += [select.code.eq(code), select.count.eq(run_length), exponent.eq(select.exponent)]
            else:  # by the end of the run itself: it is there earlier than its length
                ends = [same[top - k] & ~same[top - k - 1] for k in range(top)]
                m.d.comb += exponent.eq(Cat(*[
                    Cat(*[ends[k] & code[top - 2 - k - i] for k in range(top - 1 - i)]).any() ^ sign
                    for i in reversed(range(es))]))
        # shift = 2**es * regime + exponent + min(run, fraction bits) + constant; -minpos adds one more.
        long, extra = same[top - fraction_bits - 1], Signal()
        m.d.comb += extra.eq(same[0] & ~up)
        lost = []
        for b in range((fraction_bits + 1).bit_length()):
            bit: Value = run_length[b]
            if any((k ^ fraction_bits) >> b & 1 for k in range(fraction_bits + 1, top + 1)):
                bit = (bit | long) if fraction_bits >> b & 1 else (bit & ~long)
            if (fraction_bits ^ fraction_bits + 1) >> b & 1:
                bit = (bit & ~extra) if fraction_bits >> b & 1 else (bit | extra)
            lost.append(bit)
        constant = ((bits - 2) << es) - fraction_bits
        regime = [b ^ ~up for b in run_length]
        regime += [~up] * (self.shift_bits - es - len(regime))
        regime = _add_constant(regime, constant >> es)
        low = constant & ((1 << es) - 1)
        m.d.comb += self.shift.eq(Cat(exponent, *regime) + Cat(*lost) + low)
        return m


def _add_constant(bits: list[Value], constant: int) -> list[Value]:
    """bits + constant modulo the width, as plain gates (no carry chain)."""
    out: list[Value] = []
    carry: Value | None = None
    for i, bit in enumerate(bits):
        if constant >> i & 1:
            out.append(~bit if carry is None else ~(bit ^ carry))
            carry = bit if carry is None else bit | carry
        else:
            out.append(bit if carry is None else bit ^ carry)
            carry = None if carry is None else bit & carry
    return out


@lru_cache(maxsize=16)
def _rows(bits: int, es: int) -> list[tuple[int, int]]:
    """`_split` of every code that is a number and not zero: every lane asks for it again."""
    return [_split(code, bits, es) for code in range(1 << bits) if code not in (0, 1 << (bits - 1))]


def _split(code: int, bits: int, es: int) -> tuple[int, int]:
    """Significand and shift that `PositDecoder` gives for a code (not zero, not NaR)."""
    top, fraction_bits = bits - 2, bits - 3 - es
    sign = code >> (bits - 1) & 1
    lead, run = code >> top & 1, 0
    while run < top and code >> (top - 1 - run) & 1 == lead:
        run += 1
    up = lead ^ sign
    first = top - 2 - run  # most significant exponent bit
    exponent = 0
    for i in range(es):
        exponent = 2 * exponent + ((code >> (first - i) & 1 if first - i >= 0 else 0) ^ sign)
    place = max(first - es + 1, 0)  # of the hidden one
    if run == top:
        significand = -1 if sign else code & 1
        lost = fraction_bits + (not up)
    else:
        significand = (code & ((1 << place) - 1)) + ((-2 if sign else 1) << place)
        lost = min(run, fraction_bits)
    regime = run if up else -run - 1
    return significand, (regime << es) + exponent + lost - fraction_bits + ((bits - 2) << es)
