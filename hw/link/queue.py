"""A queue in block RAM whose free places are told as a byte."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BlockQueue"]


class BlockQueue(wiring.Component):
    """First in, first out; two cycles from in to out, one item each cycle.

    It holds one item less than its memory could: so its level tells full from empty, and the free places are the
    level's bits inverted.

    Parameters
    ----------
    bits : int
    depth : int
        Words of the memory, a power of two, 2 to 256.

    Members
    -------
    clear : In(1)
        Forget everything.
    i : In(stream of bits), o : Out(stream of bits)
    level, room : Out(log2(depth))
        Items inside; items that still fit.
    """

    def __init__(self, bits: int, depth: int):
        self.bits, self.depth = bits, depth
        super().__init__({"clear": In(1), "i": In(stream.Signature(bits)), "o": Out(stream.Signature(bits)),
                          "level": Out(range(depth)), "room": Out(range(depth))})

    def elaborate(self, platform) -> Module:
        m = Module()
        # The port's register holds the head: an item can be read in the cycle after it was written, so the ports
        # never meet at an address and need not see through each other (which costs a register and a multiplexer).
        m.submodules.memory = memory = Memory(shape=self.bits, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        level, tail, head = (Signal(range(self.depth)) for _ in range(3))
        loaded = Signal()
        put, take = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.comb += [
            self.level.eq(level), self.room.eq(~level), self.i.ready.eq(~level.all()), self.o.valid.eq(loaded),
            write.addr.eq(tail), write.data.eq(self.i.payload), write.en.eq(put),
            read.addr.eq(head), read.en.eq((tail != head) & (~loaded | self.o.ready)), self.o.payload.eq(read.data),
        ]
        m.d.sync += [level.eq(level + put - take), tail.eq(tail + put), head.eq(head + read.en),
                     loaded.eq(read.en | (loaded & ~self.o.ready))]
        with m.If(self.clear):
            m.d.sync += [level.eq(0), tail.eq(0), head.eq(0), loaded.eq(0)]
        return m
