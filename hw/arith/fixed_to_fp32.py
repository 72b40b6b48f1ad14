# amaranth: UnusedElaboratable=no
"""An integer times a power of two known at run time, rounded to float32 once."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .float_convert import BIAS, EXPONENT_BITS, FLOAT_NAN, SIGNIFICAND_BITS, FixedToFloat
from .narrow import shifted_window
from .pipeline import Pipeline

__all__ = ["FixedToFp32"]

KEEP = SIGNIFICAND_BITS + 2   # a guard bit, and one that stands for all below it
INFINITY = 0xFF << 23


class FixedToFp32(wiring.Component):
    """``o = RNE(i * 2**exponent)`` in float32, subnormals kept; a result each cycle.

    Overflow gives infinity; zero is +0, a negative number that rounds to zero -0 (IEEE 754).

    Parameters
    ----------
    width : int
        Of the integer.
    base : int
        Constant part of the exponent.
    exponent_bits : int
        Of the part known at run time, signed; 0 for none.

    Members
    -------
    i : In(signed(width))
    exponent : In(signed(exponent_bits))
    nan, pos, neg : In(1)
        Override the integer: NaN, or an infinity (both infinities: NaN).
    o : Out(32)
    """

    reset_less = True

    def __init__(self, width: int, base: int, exponent_bits: int = 0):
        self.width, self.base, self.exponent_bits = width, base, exponent_bits
        self.convert_width = max(width, KEEP + 2)
        members = {"i": In(signed(width)), "nan": In(1), "pos": In(1), "neg": In(1), "o": Out(32)}
        if exponent_bits:
            members["exponent"] = In(signed(exponent_bits))
        super().__init__(members)
        self._convert = FixedToFloat(self.convert_width, KEEP, rounded=False)
        self.latency = self._convert.latency + 1

    @property
    def module_name(self) -> str:
        sign = "m" if self.base < 0 else "p"
        return f"fixed{self.width}_{sign}{abs(self.base)}_e{self.exponent_bits}_to_fp32"

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, Const(1, 1))
        m.submodules.convert = convert = shared(self._convert)
        # The top bit of the converted integer, less its sign, weighs 2**(convert_width - 2) units.
        pad = self.convert_width - self.width
        weight = self.base - pad + self.convert_width - 2 + BIAS
        stage = self._convert.weight_stage
        field = Signal(signed(EXPONENT_BITS))
        if self.exponent_bits:
            pipe.put("exponent", self.exponent, 0)
            m.d.comb += field.eq(pipe.at("exponent", stage) + weight)
        else:
            m.d.comb += field.eq(weight)
        m.d.comb += [convert.en.eq(1), convert.i.eq(Cat(Const(0, pad), self.i).as_signed()), convert.weight.eq(field)]
        for name in ("nan", "pos", "neg"):
            pipe.put(name, getattr(self, name), 0)
        nan, pos, neg = (pipe.at(name, self._convert.latency) for name in ("nan", "pos", "neg"))

        # Below the least normal number the significand falls by as many places as the exponent is too small.
        exponent, significand = convert.exponent, convert.significand
        small = exponent < 1
        short = Signal(signed(EXPONENT_BITS + 1))
        m.d.comb += short.eq(1 - exponent)
        limit = KEEP
        amount = Signal(range(limit + 1))
        m.d.comb += amount.eq(Mux(small, Mux(short > limit, limit, short), 0))
        window, sticky, _ = shifted_window(m, "small", significand, amount, KEEP, Const(0, 1))
        up = window[1] & (window[0] | sticky | window[2])
        code = Signal(EXPONENT_BITS + 23)
        # The hidden bit adds one to the exponent field; a carry out of the significand as well.
        base = Mux(small, 0, exponent - 1)
        m.d.comb += code.eq(Cat(Const(0, 23), base[:EXPONENT_BITS]) + window[2:] + up)
        large = ~small & (exponent >= 255)
        finite = Signal(31)
        m.d.comb += finite.eq(Mux(large | (code[23:] >= 255), INFINITY, code[:31]))
        some = significand[-1]
        result = Signal(32)
        m.d.comb += result.eq(Mux(some, Cat(finite, convert.sign), 0))
        with m.If(pos | neg):
            m.d.comb += result.eq(Cat(Const(INFINITY, 31), neg))
        with m.If(nan | (pos & neg)):
            m.d.comb += result.eq(FLOAT_NAN)
        m.d.comb += self.o.eq(pipe.hold(result, "o_q"))
        return m
