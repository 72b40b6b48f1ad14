"""LUT-sized parts that keep their hierarchy.

Yosys' ABC maps for depth and, across a flattened data path, spends 10-30 % more LUTs to get it. A kept module
whose outputs are functions of at most four inputs costs exactly one LUT4 each: area can be counted by hand
(docs/microarchitecture.md). Pipelined units want the depth back, so there the same parts are dissolved.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared

__all__ = ["Adder", "AndAdd", "AndAddFirst", "FullAdd", "Part", "ripple"]


class Part(wiring.Component):
    """Base of the parts: checked through the blocks that use them.

    ``keep`` decides about the hierarchy; the module name tells the two apart.
    """

    part = True
    label: str

    def __init__(self, members: dict, label: str, keep: bool):
        self.label, self.keep_hierarchy = label, keep
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.label + ("" if self.keep_hierarchy else "_flat")


class Adder(Part):
    """``o = x + y + c``, signed, on one carry chain.

    Kept, because Yosys otherwise fuses neighbouring adders into compressors of LUTs, which take more of them.
    """

    def __init__(self, x: int, y: int, o: int, keep: bool = True):
        self.widths = x, y, o
        super().__init__({"x": In(signed(x)), "y": In(signed(y)), "c": In(1), "o": Out(signed(o))},
                         f"add_s{x}_s{y}_s{o}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.x + self.y + self.c)
        return m


class AndAdd(Part):
    """Cell of an array multiplier: ``{carry, sum} = x + c + (a & b)``; two LUT4, the AND is free."""

    def __init__(self, keep: bool = True):
        super().__init__({"x": In(1), "c": In(1), "a": In(1), "b": In(1), "sum": Out(1), "carry": Out(1)},
                         "and_add", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        term = self.a & self.b
        m.d.comb += [self.sum.eq(self.x ^ self.c ^ term),
                     self.carry.eq((self.x & self.c) | (term & (self.x | self.c)))]
        return m


class AndAddFirst(Part):
    """``{carry, sum} = (a0 & b0) + (a1 & b1)``; two LUT4."""

    def __init__(self, keep: bool = True):
        super().__init__({"a0": In(1), "b0": In(1), "a1": In(1), "b1": In(1), "sum": Out(1), "carry": Out(1)},
                         "and_add_first", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        x, y = self.a0 & self.b0, self.a1 & self.b1
        m.d.comb += [self.sum.eq(x ^ y), self.carry.eq(x & y)]
        return m


class FullAdd(Part):
    """Full adder; two LUT4."""

    def __init__(self, keep: bool = True):
        super().__init__({"x": In(1), "y": In(1), "c": In(1), "sum": Out(1), "carry": Out(1)}, "full_add", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += [self.sum.eq(self.x ^ self.y ^ self.c),
                     self.carry.eq((self.x & self.y) | (self.c & (self.x | self.y)))]
        return m


def ripple(m: Module, name: str, xs: list[Value], ys: list[Value], keep: bool = True) -> list[Value]:
    """Sum bits of two little-endian bit lists in LUTs, without a carry chain; one bit longer than the longer."""
    out: list[Value] = []
    carry: Value = Const(0, 1)
    for i in range(max(len(xs), len(ys))):
        if i < len(xs) and i < len(ys) and i:
            m.submodules[f"{name}{i}"] = cell = shared(FullAdd(keep))
            m.d.comb += [cell.x.eq(xs[i]), cell.y.eq(ys[i]), cell.c.eq(carry)]
            out.append(cell.sum)
            carry = cell.carry
            continue
        if i < len(xs) and i < len(ys):
            out.append(xs[i] ^ ys[i])
            carry = xs[i] & ys[i]
            continue
        bit = xs[i] if i < len(xs) else ys[i]
        out.append(bit ^ carry)
        carry = bit & carry
    return [*out, carry]
