"""Multipliers of significands."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Multiplier"]


def _shape_name(shape: Shape) -> str:
    return f"{'s' if shape.signed else 'u'}{shape.width}"


class Multiplier(wiring.Component):
    """``o = a * b`` of two integers, each signed or unsigned; combinational.

    Keeps its hierarchy: fused with an adder by Yosys (``alumacc``) the pair would cost 1.4-2.2 times the LUTs.

    Members
    -------
    a, b : In(shape)
    o : Out(signed or unsigned, sum of the widths)
    """

    def __init__(self, a: Shape, b: Shape):
        self.a_shape, self.b_shape = Shape.cast(a), Shape.cast(b)
        width = self.a_shape.width + self.b_shape.width
        self.o_shape = Shape(width, signed=self.a_shape.signed or self.b_shape.signed)
        # A product by one bit is a row of ANDs: better seen by the surrounding logic.
        self.keep_hierarchy = min(self._plain(self.a_shape), self._plain(self.b_shape)) > 1
        super().__init__({"a": In(self.a_shape), "b": In(self.b_shape), "o": Out(self.o_shape)})

    @staticmethod
    def _plain(shape: Shape) -> int:
        return shape.width

    @property
    def module_name(self) -> str:
        return f"multiply_{_shape_name(self.a_shape)}_{_shape_name(self.b_shape)}"

    def elaborate(self, platform) -> Module:
        m = Module()
        a, b = self.a, self.b
        if a.shape() == Shape(1):
            m.d.comb += self.o.eq(Mux(a, b, 0))
        elif b.shape() == Shape(1):
            m.d.comb += self.o.eq(Mux(b, a, 0))
        else:
            m.d.comb += self.o.eq(a * b)
        return m
