"""A queue in distributed memory."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First in, first out; an item can leave in the cycle after it came, one each cycle.

    ``i.ready`` and ``o.valid`` depend on a counter alone: no path leads through.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        A power of two, 2 or more.

    Members
    -------
    i : In(stream of shape); o : Out(stream of shape)
    level : Out(range(depth + 1))
        Items inside.
    """

    latency = 1

    def __init__(self, shape, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Queue depth must be a power of two, 2 or more, not {depth!r}")
        self.shape, self.depth = shape, depth
        self.width = Shape.cast(shape).width
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)),
                          "level": Out(range(depth + 1))})

    @property
    def module_name(self) -> str:
        return f"queue_{self.width}x{self.depth}"

    @property
    def parameters(self) -> dict:
        return {"bits": self.width, "depth": self.depth}

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        put, take = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        tail, head, level = Signal(range(self.depth)), Signal(range(self.depth)), Signal(range(self.depth + 1))
        m.d.comb += [write.addr.eq(tail), write.data.eq(Value.cast(self.i.payload)), write.en.eq(put),
                     read.addr.eq(head), Value.cast(self.o.payload).eq(read.data),
                     self.i.ready.eq(level != self.depth), self.o.valid.eq(level != 0), self.level.eq(level)]
        m.d.sync += level.eq(level + put - take)
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
        with m.If(take):
            m.d.sync += head.eq(head + 1)
        return m
