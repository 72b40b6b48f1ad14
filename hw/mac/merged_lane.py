# amaranth: UnusedElaboratable=no
"""4-bit lanes of a merged PE that are too cheap to share anything.

A lane's product is ``(-1)**sign`` times a magnitude, which is xored into its section of the addend; the placing stage
fills that section with the sign. Powers of two (posit(4, 1)) need no multiplier: bit j of the product is
``pattern[j % 4] & high[j // 4]`` with a one-hot pattern of the exponent sum's low part and one line for each value of
its high part. Beside them E2M1, whose values are 1 or 3 times a power of two, takes the same path: its pattern is 1, 3
or 9 shifted by the low part.
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
PATTERN = 7        # bits of a significand product, 9 at most, shifted by up to 3


def is_power(fmt: Format) -> bool:
    """Whether every value is zero or a power of two."""
    return all(v & (v - 1) == 0 for v in (abs(int(u)) for u in fmt.units(np.arange(1 << fmt.bits)))) and fmt.has_nan


def scaled(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    """Formats of a lane that are multiplied by adding exponents: powers of two, and with them E2M1."""
    powers = any(is_power(fmt) for fmt in formats)
    return tuple(fmt for fmt in formats if is_power(fmt) or powers and fmt.family == "minifloat")


def lane_layout(formats: tuple[Format, ...]) -> data.StructLayout:
    """One operand of a lane: sign, and what each format's product takes."""
    fields: dict[str, object] = {"sign": 1}
    by_exponent = scaled(formats)
    if by_exponent:
        fields["scale"] = data.StructLayout({"low": 2, "high": 2, "three": 1})
    for fmt in formats:
        if fmt not in by_exponent:
            fields[fmt.name] = unsigned(3 if fmt.family == "minifloat" else 4)
    return data.StructLayout(fields)


class NibbleGate(Part):
    """A nibble, 0 in the modes of others."""

    def __init__(self, keep: bool = True):
        super().__init__({"code": In(4), "active": In(1), "o": Out(4)}, "nibble_gate", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.code & self.active.replicate(4))
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


class NibbleScale(Part):
    """1 or 3 and its exponent from the code of an E2M1 or, with ``power``, posit(4, 1) magnitude."""

    def __init__(self, plain: Format, power: Format, keep: bool = True):
        self.plain, self.power_format = plain, power
        super().__init__({"key": In(3), "power": In(1), "o": Out(5)}, f"nibble_scale_{plain.name}_{power.name}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        for fmt, chosen in ((self.plain, 0), (self.power_format, 1)):
            for key in range(8):
                with m.If((self.key == key) & (self.power == chosen)):
                    m.d.comb += self.o.eq(_scale(abs(int(fmt.units(key)))))
        return m


def _scale(units: int) -> int:
    """``lane_layout``'s scale of a magnitude."""
    if not units:
        return NOTHING << 2
    exponent = (units & -units).bit_length() - 1
    return exponent | (units >> exponent == 3) << 4


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
        active = dict(zip(self.formats, self.active, strict=True))
        by_exponent = scaled(self.formats)
        both = by_exponent if len(by_exponent) > 1 else ()
        signs, nan = [], Const(0, 1)
        if both:
            plain, power = sorted(both, key=is_power)
            # Codes of negative powers are two's complement: negated, both formats' codes have one order.
            negative, key = Signal(), Signal(3)
            code = self.code & (active[plain] | active[power]).replicate(4)
            m.d.comb += [negative.eq(code[3] & active[power]), key.eq(Mux(negative, -code[:3], code[:3]))]
            m.submodules.scale = scale = shared(NibbleScale(plain, power, self.keep))
            m.d.comb += [scale.key.eq(key), scale.power.eq(active[power]), Value.cast(self.o.scale).eq(scale.o)]
            signs.append(code[3])
            nan = negative & ~key.any()
        for fmt in self.formats:
            if fmt in both:
                continue
            m.submodules[f"gate_{fmt.name}"] = gate = shared(NibbleGate(self.keep))
            m.d.comb += [gate.code.eq(self.code), gate.active.eq(active[fmt])]
            signs.append(gate.o[3])
            if fmt.family == "minifloat":
                m.d.comb += getattr(self.o, fmt.name).eq(gate.o[:3])
                continue
            units = [abs(int(v)) for v in fmt.units(np.arange(16))]
            power = is_power(fmt)
            m.submodules[fmt.name] = unit = shared(NibbleTable(f"nibble_table_{fmt.name}" + "_flat" * (not self.keep),
                                                               [_scale(v) for v in units] if power else units, 4,
                                                               self.keep))
            m.d.comb += unit.code.eq(gate.o)
            m.d.comb += Value.cast(self.o.scale if power else getattr(self.o, fmt.name)).eq(unit.o)
            if power:
                nan = gate.o == [int(s) for s in fmt.unpack(np.arange(16)).special].index(int(Special.NAN))
        m.d.comb += [self.o.sign.eq(Cat(*signs).any()), self.nan.eq(nan)]
        return m


class ExponentTotal(Part):
    """Sum of the high parts of two exponents; 7 for zero."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(2), "w": In(2), "total": Out(3)}, "nibble_exponent_total", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.total.eq(Mux(self.a.all() | self.w.all(), 7, self.a + self.w))
        return m


class ExponentHigh(Part):
    """That sum and the carry of the low parts as one line for each value; none for zero."""

    def __init__(self, keep: bool = True):
        super().__init__({"total": In(3), "carry": In(1), "lines": Out(HIGHS)}, "nibble_exponent_high", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.lines.eq(Cat(*[Mux(self.carry, self.total == k - 1 if k else 0, self.total == k)
                                        for k in range(HIGHS)]))
        return m


class ExponentLow(Part):
    """Sum of the low parts of two exponents."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(2), "w": In(2), "total": Out(2), "carry": Out(1)}, "nibble_exponent_low", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += Cat(self.total, self.carry).eq(self.a + self.w)
        return m


class ScalePattern(Part):
    """Product of two significands, 1 or 3 each, shifted by the low part of the exponent sum."""

    def __init__(self, keep: bool = True):
        super().__init__({"a": In(1), "w": In(1), "low": In(2), "o": Out(PATTERN)}, "nibble_pattern", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.o.eq(Mux(self.a & self.w, 9, Mux(self.a | self.w, 3, 1)) << self.low)
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
    pattern : Out(7); high : Out(5)
        With formats that add exponents.
    product : Out(8)
        With any other format.
    """

    def __init__(self, formats: tuple[Format, ...], keep: bool = True):
        self.formats, self.keep = formats, keep
        self.scaled = scaled(formats)
        self.products = len(self.scaled) < len(formats)
        layout = lane_layout(formats)
        members = {"a": In(layout), "w": In(layout), "sign": Out(1)}
        if self.scaled:
            members.update(pattern=Out(PATTERN), high=Out(HIGHS))
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
        if self.scaled:
            a, w = self.a.scale, self.w.scale
            m.submodules.exponent_low = low = shared(ExponentLow(self.keep))
            m.submodules.exponent_total = total = shared(ExponentTotal(self.keep))
            m.submodules.exponent_high = high = shared(ExponentHigh(self.keep))
            m.submodules.scale_pattern = pattern = shared(ScalePattern(self.keep))
            m.d.comb += [low.a.eq(a.low), low.w.eq(w.low), total.a.eq(a.high), total.w.eq(w.high),
                         high.total.eq(total.total), high.carry.eq(low.carry), self.high.eq(high.lines),
                         pattern.a.eq(a.three), pattern.w.eq(w.three), pattern.low.eq(low.total),
                         self.pattern.eq(pattern.o)]
        for fmt in self.formats:
            if fmt in self.scaled:
                continue
            a, w = getattr(self.a, fmt.name), getattr(self.w, fmt.name)
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
        self.scaled = scaled(formats)
        self.products = len(self.scaled) < len(formats)
        exponents = {abs(int(v)).bit_length() - 1 for fmt in self.scaled for v in fmt.units(np.arange(16)) if v}
        self.sums = {i + j for i in exponents for j in exponents}
        members = {"x": In(self.bits), "y": Out(self.bits)}
        if self.scaled:
            members.update(pattern=In(PATTERN), high=In(HIGHS))
        if self.products:
            members["product"] = In(8)
        super().__init__(members, "nibble_insert_" + "_".join(fmt.name for fmt in formats), False)

    def elaborate(self, platform) -> Module:
        m = Module()
        threes = len(self.scaled) > 1
        for j in range(self.bits):
            bit: Value = Const(0, 1)
            if j in self.sums:
                bit = self.pattern[j % 4] & self.high[j // 4]
            if threes and 4 <= j < PATTERN:
                # Only with an exponent sum below 4: two threes reach 4 at most, a three and a power of two 5.
                bit = bit | self.pattern[j]
            if self.products and j < 8:
                bit = bit | self.product[j]
            m.d.comb += self.y[j].eq(self.x[j] ^ bit)
        return m
