"""Delays: a register, and for long ones a small memory instead of a chain of them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["DelayLine", "late"]

SHORTEST = 4   # below, and for few bits in all, registers are smaller
FEWEST_BITS = 192


def late(m: Module, value: Value, name: str, reset_less: bool = True) -> Signal:
    """The value an edge later."""
    held = Signal(value.shape(), name=name, reset_less=reset_less)
    m.d.sync += held.eq(value)
    return held


class DelayLine(wiring.Component):
    """``o`` is ``i`` of ``length`` enabled edges before.

    Written round and round; its start does not matter, so nothing needs a reset.

    Members
    -------
    en : In(1)
    i : In(width)
    o : Out(width)
    """

    reset_less = True

    def __init__(self, width: int, length: int):
        self.width, self.length = width, length
        self.in_memory = length >= SHORTEST and width * length >= FEWEST_BITS
        super().__init__({"en": In(1), "i": In(width), "o": Out(width)})

    @property
    def module_name(self) -> str:
        return f"delay_{self.width}x{self.length}"

    @property
    def latency(self) -> int:
        return self.length

    def elaborate(self, platform) -> Module:
        m = Module()
        if not self.in_memory:
            value = self.i
            for stage in range(self.length):
                held = Signal(self.width, name=f"stage{stage}", reset_less=True)
                with m.If(self.en):
                    m.d.sync += held.eq(value)
                value = held
            m.d.comb += self.o.eq(value)
            return m
        depth = 1 << (self.length - 1).bit_length()
        m.submodules.memory = memory = Memory(shape=self.width, depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        place = Signal(range(depth), reset_less=True)
        with m.If(self.en):
            m.d.sync += place.eq(place + 1)
        # The read register is one edge, so what is read was written length - 1 edges ago.
        m.d.comb += [write.addr.eq(place), write.data.eq(self.i), write.en.eq(self.en),
                     read.addr.eq(place - (self.length - 1)), read.en.eq(self.en), self.o.eq(read.data)]
        return m
