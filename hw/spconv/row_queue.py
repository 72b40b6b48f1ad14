"""A queue in block memory, for a pipeline that knows how much room there is before it starts an item."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["RowQueue"]


class RowQueue(wiring.Component):
    """First in, first out. What is put comes out two edges later.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        A power of two, 2 or more.

    Members
    -------
    put : In(1); i : In(shape)
        An item; only while fewer than ``depth`` are inside, the one on ``o`` counted.
    o : Out(stream of shape)
    """

    latency = 2

    def __init__(self, shape, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Queue depth must be a power of two, 2 or more, not {depth!r}")
        self.shape, self.depth = shape, depth
        self.width = Shape.cast(shape).width
        super().__init__({"put": In(1), "i": In(shape), "o": Out(stream.Signature(shape))})

    @property
    def module_name(self) -> str:
        return f"row_queue_{self.width}x{self.depth}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[],
                                              attrs={"ram_style": "block", "no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))
        waiting = Signal(range(self.depth))     # never all of them: one is on ``o`` by then
        take = Signal()
        m.d.comb += [write.addr.eq(tail), write.data.eq(Value.cast(self.i)), write.en.eq(self.put),
                     take.eq((waiting != 0) & (~self.o.valid | self.o.ready)), read.en.eq(take), read.addr.eq(head),
                     Value.cast(self.o.payload).eq(read.data)]
        m.d.sync += [waiting.eq(waiting + self.put - take), tail.eq(tail + self.put), head.eq(head + take),
                     self.o.valid.eq(take | (self.o.valid & ~self.o.ready))]
        return m
