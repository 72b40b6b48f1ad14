"""AXI4-Stream: the bus, its payload as an Amaranth stream, and a skid buffer."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AxiStream", "SkidBuffer", "beat_layout", "from_axi", "to_axi"]


class AxiStream(wiring.Signature):
    """AXI4-Stream, seen by the sender.

    Parameters
    ----------
    data_bits : int
        A multiple of 8.
    keep, last : bool
        Whether there are ``tkeep`` (one bit a byte) and ``tlast``.

    Members
    -------
    tdata : Out(data_bits), tkeep : Out(data_bits // 8), tlast : Out(1), tvalid : Out(1), tready : In(1)
    """

    def __init__(self, data_bits: int, *, keep: bool = False, last: bool = True):
        self.data_bits, self.keep, self.last = data_bits, keep, last
        super().__init__({"tdata": Out(data_bits), **({"tkeep": Out(data_bits // 8)} if keep else {}),
                          **({"tlast": Out(1)} if last else {}), "tvalid": Out(1), "tready": In(1)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiStream) and (self.data_bits, self.keep, self.last) == (
            other.data_bits, other.keep, other.last)

    def __repr__(self) -> str:
        return f"AxiStream({self.data_bits}, keep={self.keep}, last={self.last})"


def beat_layout(data_bits: int) -> data.StructLayout:
    """One beat of results: ``data``, ``keep`` (one bit a byte), ``last``."""
    return data.StructLayout({"data": data_bits, "keep": data_bits // 8, "last": 1})


def from_axi(m: Module, axi: wiring.PureInterface, o: wiring.PureInterface) -> None:
    """Connect an incoming AXI4-Stream to a stream of plain data or of `beat_layout`, without logic.

    Parameters
    ----------
    m : Module
    axi : interface of AxiStream, flipped
    o : interface of stream.Signature
        What is missing on the bus (``tlast``, ``tkeep``) must not be in the layout.
    """
    m.d.comb += [o.valid.eq(axi.tvalid), axi.tready.eq(o.ready)]
    if not isinstance(o.payload, data.View):
        m.d.comb += o.payload.eq(axi.tdata)
        return
    for name in o.payload.shape().members:
        m.d.comb += o.payload[name].eq(getattr(axi, f"t{name}"))


def to_axi(m: Module, i: wiring.PureInterface, axi: wiring.PureInterface) -> None:
    """Connect a stream of plain data or of `beat_layout` to an outgoing AXI4-Stream, without logic."""
    m.d.comb += [axi.tvalid.eq(i.valid), i.ready.eq(axi.tready)]
    if not isinstance(i.payload, data.View):
        m.d.comb += axi.tdata.eq(i.payload)
        return
    for name in i.payload.shape().members:
        m.d.comb += getattr(axi, f"t{name}").eq(i.payload[name])


class SkidBuffer(wiring.Component):
    """Cuts every combinational path of a stream: ``i.ready``, ``o.valid`` and ``o.payload`` are flip-flops.

    Full throughput, one cycle of latency. Two places: the output register, and a spare one for the beat that arrives
    in the cycle in which the receiver stops.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload.

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
    """

    latency = 1

    def __init__(self, shape):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        width = Shape.cast(shape).width
        self.module_name = f"skid_{width}"
        self.parameters = {"bits": width}
        self.room = Signal(init=1)   # the spare place is free
        self.spare = Signal(width, reset_less=True)
        self.held = Signal()         # the output register is taken
        self.front = Signal(width, reset_less=True)

    def elaborate(self, platform) -> Module:
        m = Module()
        i, o = self.i, self.o
        m.d.comb += [i.ready.eq(self.room), o.valid.eq(self.held), Value.cast(o.payload).eq(self.front)]
        moves = ~self.held | o.ready   # the output register can be filled
        m.d.sync += self.room.eq(moves | (self.room & ~i.valid))
        arriving = Value.cast(i.payload)
        with m.If(self.room):
            m.d.sync += self.spare.eq(arriving)
        with m.If(moves):
            m.d.sync += [self.held.eq(i.valid | ~self.room), self.front.eq(Mux(self.room, arriving, self.spare))]
        return m
