# amaranth: UnusedElaboratable=no
"""4-bit lanes of a merged PE that are too cheap to share anything.

A lane's product is ``(-1)**sign`` times a magnitude, which is xored into its section of the addend; the placing stage
fills that section with the sign. Powers of two (posit(4, 1)) need no multiplier: the exponent sum is predecoded into
four low and five high lines, and bit j of the product is ``low[j % 4] & high[j // 4]``.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format, Special

from ..arith.cells import Part
from ..arith.multiply import ArrayMultiplier
from ..emit import shared

__all__ = ["NibbleDecoder", "NibbleGate", "NibbleInsert", "NibbleLane", "NibbleTable", "insert_bits", "lane_layout"]

HIGHS = 5          # lines of the high part of an exponent sum: up to 16
NOTHING = 3        # high part of an exponent that stands for zero


def is_power(fmt: Format) -> bool:
    """Whether every value is zero or a power of two."""
    return all(v & (v - 1) == 0 for v in (abs(int(u)) for u in fmt.units(np.arange(1 << fmt.bits)))) and fmt.has_nan


def lane_layout(formats: tuple[Format, ...]) -> data.StructLayout:
    """One operand of a lane: sign, and what each format's product takes."""
    fields: dict[str, object] = {"sign": 1}
    for fmt in formats:
        fields[fmt.name] = data.StructLayout({"low": 2, "high": 2}) if is_power(fmt) else \
            unsigned(3 if fmt.family == "minifloat" else 4)
    return data.StructLayout(fields)


class NibbleGate(Part):
    """A nibble for each format, 0 in the modes of others."""

    def __init__(self, count: int, keep: bool = True):
        self.count = count
        super().__init__({"code": In(4), "active": In(count), "o": Out(4 * count)}, f"nibble_gate_{count}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.o.eq(Cat(*[self.code & bit.replicate(4) for bit in self.active]))
        return m


class NibbleTable(Part):
    """Table of a nibble; an output is one LUT4."""

    def __init__(self, label: str, table: list[int], bits: int, keep: bool = True):
        self.table, self.bits = table, bits
        super().__init__({"code": In(4), "o": Out(bits)}, label, keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        done: dict[int, Value] = {}
        for b in range(self.bits):
            truth = sum(1 << code for code in range(16) if self.table[code] >> b & 1)
            if truth not in done:
                bit = Signal(name=f"bit{b}")
                m.d.comb += bit.eq(Cat(*[self.code == code for code in range(16) if truth >> code & 1]).any()
                                   if truth else 0)
                done[truth] = bit
            m.d.comb += self.o[b].eq(done[truth])
        return m


class NibbleDecoder(wiring.Component):
    """Operand of a lane from its code; everything 0 in modes without 4-bit lanes.

    Members
    -------
    code : In(4); active : In(formats)
        The mode's format, one-hot.
    o : Out(lane_layout); nan : Out(1)
    """

    def __init__(self, formats: tuple[Format, ...], keep: bool = True):
        self.formats, self.keep = formats, keep
        super().__init__({"code": In(4), "active": In(len(formats)), "o": Out(lane_layout(formats)), "nan": Out(1)})

    @property
    def module_name(self) -> str:
        return "nibble_" + "_".join(fmt.name for fmt in self.formats) + ("" if self.keep else "_flat")

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.gate = gate = shared(NibbleGate(len(self.formats), self.keep))
        m.d.comb += [gate.code.eq(self.code), gate.active.eq(self.active)]
        signs, nans = [], []
        for n, fmt in enumerate(self.formats):
            code, port = gate.o.word_select(n, 4), getattr(self.o, fmt.name)
            signs.append(code[3])
            if fmt.family == "minifloat":
                m.d.comb += port.eq(code[:3])
                continue
            units = [abs(int(v)) for v in fmt.units(np.arange(16))]
            power = is_power(fmt)
            table = [v.bit_length() - 1 if v else NOTHING << 2 for v in units] if power else units
            m.submodules[fmt.name] = unit = shared(NibbleTable(f"nibble_table_{fmt.name}" + "_flat" * (not self.keep),
                                                               table, 4, self.keep))
            m.d.comb += unit.code.eq(code)
            m.d.comb += Value.cast(port).eq(unit.o)
            if fmt.has_nan:
                nans.append(code == [int(s) for s in fmt.unpack(np.arange(16)).special].index(int(Special.NAN)))
        m.d.comb += [self.o.sign.eq(Cat(*signs).any()), self.nan.eq(Cat(*nans).any() if nans else 0)]
        return m


class ExponentHigh(Part):
    """High part of an exponent sum as one line for each value; none for zero."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(2), "w": In(2), "carry": In(1), "lines": Out(HIGHS)}, "nibble_exponent_high", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        total = Signal(3)
        m.d.comb += total.eq(Mux(self.a.all() | self.w.all(), 7, self.a + self.w))
        m.d.comb += self.lines.eq(Cat(*[Mux(self.carry, total == k - 1 if k else 0, total == k)
                                        for k in range(HIGHS)]))
        return m


class ExponentLow(Part):
    """Low part of an exponent sum as four lines, and its carry."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(2), "w": In(2), "lines": Out(4), "carry": Out(1)}, "nibble_exponent_low", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        total = Signal(3)
        m.d.comb += [total.eq(self.a + self.w), self.carry.eq(total[2])]
        m.d.comb += self.lines.eq(Cat(*[total[:2] == k for k in range(4)]))
        return m


class Fp4Product(Part):
    """Product of two E2M1 magnitudes in units of 1/4."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(3), "w": In(3), "o": Out(8)}, "nibble_product_fp4", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        significands = [Cat(x[0], x[1] | x[2]) for x in (self.a, self.w)]
        shifts = [Cat(x[2] & ~x[1], x[2] & x[1]) for x in (self.a, self.w)]
        product, shift = Signal(4), Signal(3)
        m.d.comb += [product.eq(significands[0] * significands[1]), shift.eq(shifts[0] + shifts[1])]
        m.d.comb += self.o.eq(product << shift)
        return m


class NibbleLane(wiring.Component):
    """Sign and magnitude of one lane's product.

    Members
    -------
    a, w : In(lane_layout)
    sign : Out(1)
    low : Out(4); high : Out(5)
        With a format of powers of two.
    product : Out(8)
        With any other format.
    """

    def __init__(self, formats: tuple[Format, ...], keep: bool = True):
        self.formats, self.keep = formats, keep
        self.powers = any(is_power(fmt) for fmt in formats)
        self.products = any(not is_power(fmt) for fmt in formats)
        layout = lane_layout(formats)
        members = {"a": In(layout), "w": In(layout), "sign": Out(1)}
        if self.powers:
            members.update(low=Out(4), high=Out(HIGHS))
        if self.products:
            members["product"] = Out(8)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return "nibble_lane_" + "_".join(fmt.name for fmt in self.formats) + ("" if self.keep else "_flat")

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.sign.eq(self.a.sign ^ self.w.sign)
        products: list[Value] = []
        for fmt in self.formats:
            a, w = getattr(self.a, fmt.name), getattr(self.w, fmt.name)
            if is_power(fmt):
                m.submodules.exponent_low = low = shared(ExponentLow(self.keep))
                m.submodules.exponent_high = high = shared(ExponentHigh(self.keep))
                m.d.comb += [low.a.eq(a.low), low.w.eq(w.low), self.low.eq(low.lines), high.a.eq(a.high),
                             high.w.eq(w.high), high.carry.eq(low.carry), self.high.eq(high.lines)]
                continue
            if fmt.family == "minifloat":
                m.submodules.fp4 = unit = shared(Fp4Product(self.keep))
                m.d.comb += [unit.a.eq(a), unit.w.eq(w)]
                products.append(unit.o)
            else:
                m.submodules.int4 = unit = shared(ArrayMultiplier(unsigned(4), unsigned(4), self.keep))
                m.d.comb += [unit.a.eq(a), unit.b.eq(w)]
                products.append(unit.o)
        if products:
            m.d.comb += self.product.eq(reduce(or_, products))
        return m


def insert_bits(formats: tuple[Format, ...]) -> int:
    """Bits of a lane's magnitude."""
    return max((max(abs(int(v)) for v in fmt.units(np.arange(16))) ** 2).bit_length() for fmt in formats)


class NibbleInsert(Part):
    """``y = x ^ magnitude`` over a lane's bits; never kept, so that LUT6 families merge it with the accumulator."""

    def __init__(self, formats: tuple[Format, ...]):
        self.formats, self.bits = formats, insert_bits(formats)
        self.powers = any(is_power(fmt) for fmt in formats)
        self.products = any(not is_power(fmt) for fmt in formats)
        exponents = {abs(int(v)).bit_length() - 1 for fmt in formats if is_power(fmt)
                     for v in fmt.units(np.arange(16)) if v}
        self.sums = {i + j for i in exponents for j in exponents}
        members = {"x": In(self.bits), "y": Out(self.bits)}
        if self.powers:
            members.update(low=In(4), high=In(HIGHS))
        if self.products:
            members["product"] = In(8)
        super().__init__(members, "nibble_insert_" + "_".join(fmt.name for fmt in formats), False)

    def elaborate(self, platform) -> Module:
        m = Module()
        for j in range(self.bits):
            bit: Value = Const(0, 1)
            if j in self.sums:
                bit = self.low[j % 4] & self.high[j // 4]
            if self.products and j < 8:
                bit = bit | self.product[j]
            m.d.comb += self.y[j].eq(self.x[j] ^ bit)
        return m
