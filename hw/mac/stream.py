"""The dot unit behind streams: operands in, one result for each dot product out.

::

    i {a, w, last} ──► DotUnit (en = transfer) ──► acc, flags, o ──► result queue ──► o {acc, flags, o}
          ready ◄── slots free, not clearing            ▲
                    last ──► delay of the pipeline ─────┘ write

The dot unit cannot be stopped, so a beat is accepted only while a slot of the queue is free for every result that
is under way. ``i.ready`` and ``o.valid`` depend on registers alone: no combinational path crosses the unit in
either direction.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import DotDesign

from ..emit import shared
from .dot import DotUnit

__all__ = ["StreamDotUnit", "operand_layout", "result_layout"]


def operand_layout(design: DotDesign) -> data.StructLayout:
    """One beat: ``a`` and ``w`` (lane 0 in the least significant bits) and ``last`` of a dot product."""
    return data.StructLayout({"a": design.lanes * design.activation.bits, "w": design.lanes * design.weight.bits,
                              "last": 1})


def result_layout(design: DotDesign) -> data.StructLayout:
    """One result: ``acc``, the design's flags, and ``o`` where it has an output format."""
    fp32 = design.accumulator.kind == "fp32"
    fields = {"acc": 32 if fp32 else signed(design.accumulator_bits), **dict.fromkeys(design.flags, 1)}
    if design.output is not None:
        fields["o"] = design.output.bits
    return data.StructLayout(fields)


class StreamDotUnit(wiring.Component):
    """Dot products of any length, each ended by ``last``, one result each, in order.

    Latency: ``o.valid`` rises ``design.latency + 1`` edges after (and including) the edge that accepts ``last``.
    Throughput: one beat each cycle within a dot product, then one cycle of the dot unit's ``clear`` (it wins over
    ``en``, so it cannot share a cycle with a beat): ``n`` beats take ``n + 1`` cycles, with nothing else between
    them while results are taken at once. Back-pressure may come at any cycle; nothing is lost or repeated.

    Parameters
    ----------
    design : DotDesign

    Members
    -------
    i : In(stream of `operand_layout`)
    o : Out(stream of `result_layout`)
    """

    def __init__(self, design: DotDesign):
        self.design = design
        # A slot is taken at the edge that accepts ``last`` and free again, for a beat, latency + 2 edges later;
        # dot products of one beat come every two cycles.
        self.slots = (design.latency + 3) // 2
        # The control's registers and the accumulator, by name for the proofs.
        self.pending = Signal(range(self.slots + 1))   # results promised: under way or in the queue
        self.level = Signal(range(self.slots + 1))     # results in the queue
        self.under_way = Signal(design.latency)        # bit k: a result reaches the queue in latency - k edges
        self.clearing = Signal()
        self.write_at = Signal(range(self.slots))
        self.read_at = Signal(range(self.slots))
        self.acc = Signal(result_layout(design)["acc"].shape)
        self.queue = [Signal(result_layout(design), name=f"slot{n}", reset_less=True) for n in range(self.slots)]
        super().__init__({"i": In(stream.Signature(operand_layout(design))),
                          "o": Out(stream.Signature(result_layout(design)))})

    @property
    def module_name(self) -> str:
        return f"stream_{self.design.name}"

    @property
    def latency(self) -> int:
        return self.design.latency + 1

    @property
    def parameters(self) -> dict:
        return {**DotUnit(self.design).parameters, "result_slots": self.slots}

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.dot = dot = shared(DotUnit(self.design))
        accept = self.i.valid & self.i.ready
        ends = accept & self.i.payload.last
        take = self.o.valid & self.o.ready

        # The cycle after ``last`` belongs to the clear, which follows the beats through the pipeline. Reset is a
        # clear too: whatever the pipeline held before it is wiped by it.
        m.d.comb += self.acc.eq(dot.acc)
        m.d.comb += [dot.a.eq(self.i.payload.a), dot.w.eq(self.i.payload.w), dot.en.eq(accept),
                     dot.clear.eq(self.clearing | ResetSignal()),
                     self.i.ready.eq(~self.clearing & (self.pending != self.slots))]
        m.d.sync += self.clearing.eq(ends)
        m.d.sync += self.pending.eq(self.pending + ends - take)

        # The accumulator shows a result for one cycle, ``latency`` edges after its last beat.
        m.d.sync += self.under_way.eq(Cat(ends, self.under_way))
        arrives = self.under_way[-1]
        result = Signal(result_layout(self.design))
        for name in result_layout(self.design).members:
            m.d.comb += getattr(result, name).eq(getattr(dot, name))

        def following(at: Signal) -> Signal:
            return Mux(at == self.slots - 1, 0, at + 1)

        queue = Array(self.queue)
        with m.If(arrives):
            m.d.sync += [queue[self.write_at].eq(result), self.write_at.eq(following(self.write_at))]
        with m.If(take):
            m.d.sync += self.read_at.eq(following(self.read_at))
        m.d.sync += self.level.eq(self.level + arrives - take)
        m.d.comb += [self.o.valid.eq(self.level != 0), self.o.payload.eq(queue[self.read_at])]
        return m
