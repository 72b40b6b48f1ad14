"""The rounding accumulator: ``RNE(acc + exact sum)`` in float32."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import get_format

from ..emit import shared
from .round import FloatRounder
from .signed import Term, apply

__all__ = ["Fp32Adder"]

FP32_UNIT = -149


class Fp32Adder(wiring.Component):
    """``o = RNE(acc + (-value if sign else value) * 2**unit_exponent)``, combinational.

    The float32 accumulator is laid out as a fixed-point number over its whole range, so that the sum of any
    number of lanes is exact before the one rounding. Wide, but the only form that is exact for every order of
    magnitude of the lanes; docs/microarchitecture.md has the figures.

    Members
    -------
    acc : In(32); sign : In(1); value : In(shape)
    nan, inf_pos, inf_neg : In(1)
        Specials of this cycle's products, with ``specials``.
    o : Out(32)
    """

    def __init__(self, value_shape: Shape, unit_exponent: int, specials: bool):
        self.value_shape, self.unit_exponent, self.specials = Shape.cast(value_shape), unit_exponent, specials
        members = {"acc": In(32), "sign": In(1), "value": In(self.value_shape), "o": Out(32)}
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
        # Put the accumulator's sign off to the end: total = |acc| +- value, negated where acc is negative.
        opposite = self.sign ^ self.acc[-1]
        m.d.comb += total.eq(apply(fixed, Term(opposite, placed, 0)))
        signed_total = Signal(signed(width))
        m.d.comb += signed_total.eq(Mux(self.acc[-1], -total, total))
        rounder = FloatRounder(width, unit, get_format("fp32"), overflow="inf_nan")
        m.submodules.round = unit_round = shared(rounder)
        m.d.comb += [unit_round.i.eq(signed_total), self.o.eq(unit_round.o)]
        # Exact zero is +0 by the rounder; a tiny negative never rounds to zero, for sums are multiples of 2**-149
        # or are rounded with their sign.
        infinite = ones & ~mantissa.any()
        was_nan = ones & mantissa.any()
        positive = infinite & ~self.acc[-1]
        negative = infinite & self.acc[-1]
        nan = was_nan
        if self.specials:
            positive, negative, nan = positive | self.inf_pos, negative | self.inf_neg, nan | self.nan
        with m.If(nan | (positive & negative)):
            m.d.comb += self.o.eq(0x7FC00000)
        with m.Elif(positive):
            m.d.comb += self.o.eq(0x7F800000)
        with m.Elif(negative):
            m.d.comb += self.o.eq(0xFF800000)
        return m
