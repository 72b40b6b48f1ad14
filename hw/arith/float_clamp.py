"""Limits of float32 values."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pipeline import Pipeline

__all__ = ["FloatClamp"]


def _less(a: Value, b: Value) -> Value:
    """``a < b`` as IEEE 754 compares numbers, neither being NaN."""
    x, y = a[:31], b[:31]
    below, equal = x < y, x == y
    both_zero = ~(x.any() | y.any())
    return Mux(a[31], Mux(b[31], ~below & ~equal, ~both_zero), ~b[31] & below)


def _is_nan(code: Value) -> Value:
    return code[23:31].all() & code[:23].any()


class FloatClamp(wiring.Component):
    """First against the lower, then against the upper limit; latency 2.

    Comparisons are those of IEEE 754: -0 equals +0, NaN passes, and a limit that is NaN limits nothing.

    Members
    -------
    en : In(1)
    active : In(1), low, high : In(32)
        Static.
    i : In(32)
        Float32 code, NaN only as 0x7FC00000.
    o : Out(32)
    """

    reset_less = True
    latency = 2
    module_name = "float_clamp"

    def __init__(self):
        super().__init__({"en": In(1), "active": In(1), "low": In(32), "high": In(32), "i": In(32), "o": Out(32)})

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        # The only NaN is greater than all limits in sign and magnitude, so that the lower one lets it pass.
        raise_it = self.active & _less(self.i, self.low) & ~_is_nan(self.low)
        value = pipe.hold(Mux(raise_it, self.low, self.i), "raised")
        lower_it = self.active & _less(self.high, value) & ~_is_nan(self.high) & ~value[22:31].all()
        m.d.comb += self.o.eq(pipe.hold(Mux(lower_it, self.high, value), "o_q"))
        return m
