"""The rounding accumulator: ``RNE(acc + exact sum)`` in float32.

Two forms with the same result: `Fp32Fma` aligns the accumulator to one product inside a narrow window;
`Fp32Adder` takes an exact sum of any number of lanes and is as wide as the whole exponent range.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import get_format

from ..emit import shared
from .normalise import normalise
from .round import FloatRounder
from .signed import Term, add_term

__all__ = ["Fp32Adder", "Fp32Fma", "fma_fits"]

FP32_UNIT = -149


def _specials(m: Module, unit: Fp32Adder | Fp32Fma) -> None:
    """Override ``o`` where the accumulator or this cycle's products are NaN or infinite."""
    ones, mantissa = unit.acc[23:31].all(), unit.acc[:23]
    infinite, nan = ones & ~mantissa.any(), ones & mantissa.any()
    positive, negative = infinite & ~unit.acc[-1], infinite & unit.acc[-1]
    if unit.specials:
        positive, negative, nan = positive | unit.inf_pos, negative | unit.inf_neg, nan | unit.nan
    with m.If(nan | (positive & negative)):
        m.d.comb += unit.o.eq(0x7FC00000)
    with m.Elif(positive):
        m.d.comb += unit.o.eq(0x7F800000)
    with m.Elif(negative):
        m.d.comb += unit.o.eq(0xFF800000)


def fma_fits(product_bits: int, unit_exponent: int) -> bool:
    """Whether one lane may take the narrow form: its products never reach below float32's least bit, and
    are no wider than its significand."""
    return unit_exponent >= FP32_UNIT and product_bits <= 24


class Fp32Fma(wiring.Component):
    """``o = RNE(acc + product)`` for one lane, combinational.

    The product stays in place in a window; the accumulator moves. Below the window it only leaves a sticky
    bit; above it the product is less than a quarter of the accumulator's last place, and its distance does
    not matter any more. No result is rounded in the subnormal range, for all addends are multiples of
    2**-149, so subnormals need a shift but no second rounding.

    Members
    -------
    acc : In(32); sign : In(1); value : In(shape); shift : In(bits)
        The product is ``(-1)**sign * value * 2**(shift + weight)``.
    nan, inf_pos, inf_neg : In(1), with ``specials``
    o : Out(32)
    """

    def __init__(self, value_shape: Shape, shift_bits: int, weight: int, specials: bool):
        self.value_shape, self.shift_bits, self.weight = Shape.cast(value_shape), shift_bits, weight
        self.specials = specials
        members = {"acc": In(32), "sign": In(1), "value": In(self.value_shape), "shift": In(shift_bits),
                   "o": Out(32)}
        if specials:
            members.update(nan=In(1), inf_pos=In(1), inf_neg=In(1))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        shape = f"{'s' if self.value_shape.signed else 'u'}{self.value_shape.width}"
        weight = f"{'m' if self.weight < 0 else 'p'}{abs(self.weight)}"
        return f"fp32_fma_{shape}_h{self.shift_bits}_{weight}" + ("_specials" if self.specials else "")

    def elaborate(self, platform) -> Module:
        m = Module()
        exponent, mantissa = self.acc[23:31], self.acc[:23]
        normal, ones = exponent.any(), exponent.all()
        acc_field = Cat(exponent[0] | ~normal, exponent[1:])
        significand = Signal(24)
        m.d.comb += significand.eq(Mux(ones, 0, Cat(mantissa, normal)))

        bits = self.value_shape.width - self.value_shape.signed
        magnitude, sign = Signal(bits), Signal()
        if self.value_shape.signed:
            m.d.comb += [magnitude.eq(Mux(self.value[-1], -self.value, self.value)),
                         sign.eq(self.sign ^ self.value[-1])]
        else:
            m.d.comb += [magnitude.eq(self.value), sign.eq(self.sign)]
        zero = Signal()
        m.d.comb += zero.eq(~magnitude.any())

        # Places, counted from the low end of 24 bits that only feed the sticky bit: the product at `below`,
        # the accumulator at `place`, between 0 and `top`.
        below = 24 + 26
        top = below + bits + 2
        field_bits = max(8, self.shift_bits) + 3
        distance = Signal(signed(field_bits))
        constant = FP32_UNIT - 1 - self.weight + below
        m.d.comb += distance.eq(acc_field - self.shift + constant)
        low, high = Signal(), Signal()
        m.d.comb += [low.eq(distance < 0), high.eq((distance > top) | zero)]
        place = Signal(top.bit_length())
        m.d.comb += place.eq(Mux(high, top, Mux(low, 0, distance)))
        moved = Signal(top + 24)
        m.d.comb += moved.eq(significand << place)
        width = top + 2  # the sticky bit below, a carry above
        window = Signal(width - 1)
        m.d.comb += window.eq(Cat(moved[:24].any(), moved[24:]))
        product = Cat(Const(0, below - 24 + 1), magnitude)
        total = Signal(signed(width + 1))
        opposite = sign ^ self.acc[-1]
        m.d.comb += total.eq(Mux(opposite, window - product, window + product))
        size = Signal(width)
        m.d.comb += size.eq(Mux(total[-1], -total, total))

        # Exponent field of the window's top bit: by the accumulator where the product is out of reach below.
        offset = width + 22  # from place 0 to the top bit, the sticky bit being place 23
        field = Signal(signed(field_bits))
        by_acc = acc_field + (FP32_UNIT - 1 - top + offset + 127)
        by_product = self.shift + (self.weight - below + offset + 127)
        m.d.comb += field.eq(Mux(high, by_acc, by_product))
        normalised, taken = normalise(m, "n", size, width - 1)
        shift_total = sum((Mux(skip, step, 0) for step, skip in taken[:1]), Const(0))
        binary = Cat(*[skip for _, skip in reversed(taken[1:])])
        result_field = Signal(signed(field_bits + 1))
        m.d.comb += result_field.eq(field - shift_total - binary)
        kept = normalised[width - 24:]
        guard, sticky = normalised[width - 25], normalised[:width - 25].any()
        up = guard & (sticky | kept[0])
        subnormal = Signal()
        m.d.comb += subnormal.eq(result_field <= 0)
        right = Signal(5)
        m.d.comb += right.eq(Mux(result_field < -23, 31, 1 - result_field))
        code = Signal(33)
        m.d.comb += code.eq(Mux(subnormal, kept >> right, Cat(Const(0, 23), (result_field - 1)[:9]) + kept + up))
        out_sign = self.acc[-1] ^ total[-1]
        overflow = code[31] | code[23:31].all()
        finite = Mux(normalised[-1], Mux(overflow, 0x7F800000, code[:31]), 0)
        # Exact zero is +0.
        m.d.comb += self.o.eq(Cat(finite[:31], out_sign & normalised[-1]))
        _specials(m, self)
        return m


class Fp32Adder(wiring.Component):
    """``o = RNE(acc + (value + carry) * 2**unit_exponent)``, combinational.

    The float32 accumulator is laid out as a fixed-point number over its whole range, so that the sum of any
    number of lanes is exact before the one rounding. Wide, but the only form that is exact for every order of
    magnitude of the lanes; docs/microarchitecture.md has the figures.

    Members
    -------
    acc : In(32); value : In(shape); carry : In(1)
    nan, inf_pos, inf_neg : In(1)
        Specials of this cycle's products, with ``specials``.
    o : Out(32)
    """

    def __init__(self, value_shape: Shape, unit_exponent: int, specials: bool):
        self.value_shape, self.unit_exponent, self.specials = Shape.cast(value_shape), unit_exponent, specials
        members = {"acc": In(32), "carry": In(1), "value": In(self.value_shape), "o": Out(32)}
        if specials:
            members.update(nan=In(1), inf_pos=In(1), inf_neg=In(1))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        u = self.unit_exponent
        shape = f"{'s' if self.value_shape.signed else 'u'}{self.value_shape.width}"
        return f"fp32_add_{shape}_{'m' if u < 0 else 'p'}{abs(u)}" + ("_specials" if self.specials else "")

    def elaborate(self, platform) -> Module:
        m = Module()
        unit = min(self.unit_exponent, FP32_UNIT)
        exponent, mantissa = self.acc[23:31], self.acc[:23]
        normal = exponent.any()
        ones = exponent.all()
        fixed = Signal(24 + 253 + 1 + FP32_UNIT - unit)
        shift = Cat(exponent[0] | ~normal, exponent[1:])
        significand = Signal(24)
        m.d.comb += significand.eq(Mux(ones, 0, Cat(mantissa, normal)))
        # The shift runs from 1: one more low bit, dropped again.
        m.d.comb += fixed.eq((Cat(Const(0, FP32_UNIT - unit), significand) << shift)[1:])
        value_width = self.value_shape.width + self.unit_exponent - unit
        width = max(len(fixed), value_width) + 2
        placed = Cat(Const(0, self.unit_exponent - unit), self.value)
        placed = placed.as_signed() if self.value_shape.signed else placed
        total = Signal(signed(width))
        # Two carries, the sum's and the negative accumulator's: the first rides in the bits below the sum where
        # there are any, else it takes an adder of its own.
        negative = self.acc[-1]
        acc_term = Term(Cat(fixed ^ negative.replicate(len(fixed)), negative).as_signed(), (negative,), 0)
        value_carry = Signal(signed(width))
        m.d.comb += value_carry.eq(placed + (self.carry << (self.unit_exponent - unit)))
        m.d.comb += total.eq(add_term(value_carry, acc_term))
        rounder = FloatRounder(width, unit, get_format("fp32"), overflow="inf_nan")
        m.submodules.round = unit_round = shared(rounder)
        m.d.comb += [unit_round.i.eq(total), self.o.eq(unit_round.o)]
        _specials(m, self)
        return m
