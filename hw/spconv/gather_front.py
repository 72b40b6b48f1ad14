"""Work items to pairs: the mask of the input row is read, and the addresses of its words and weights are made.

::

    i ──► masks {mask_base + in} ──► by lane ──► something to do? ──► o
      └─► in * in_stride ──► + in_base ──────►     no: dropped
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from .features import row_bits, word_bits
from .gather_layouts import STRIDE_BITS, pair_layout
from .layouts import work_layout

__all__ = ["GatherFront", "job_members"]


def job_members(design: GatherDesign) -> dict:
    """What is the same for all items of a job.

    ``groups``: words of an input row that count, 1 or more. ``in_base``: word of row 0. ``in_stride``: words from one
    row to the next. ``mask_base``: mask of row 0.
    """
    return {"groups": In(range(design.groups + 1)), "in_base": In(word_bits(design)), "in_stride": In(STRIDE_BITS),
            "mask_base": In(row_bits(design))}


class GatherFront(wiring.Component):
    """One item each cycle, two edges to ``o``; what neither computes nor begins, ends or releases anything is dropped.

    It is dropped when ``o`` is ready: where items can go does not depend on what they are.

    Members
    -------
    i : In(stream of work_layout)
    groups, in_base, in_stride, mask_base : In
        `job_members`.
    mask_en, mask_row : Out; mask : In
        Read port of the masks: one edge, holds without enable.
    o : Out(stream of pair_layout)
    pair, empty : Out(1)
        A pair leaves, dropped or not; it has no channel that is not zero.
    busy : Out(1)
    """

    latency = 2

    def __init__(self, design: GatherDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(work_layout(design))), **job_members(design), "mask_en": Out(1),
                          "mask_row": Out(row_bits(design)), "mask": In(design.channels),
                          "o": Out(stream.Signature(pair_layout(design))), "pair": Out(1), "empty": Out(1),
                          "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_front"

    def elaborate(self, platform) -> Module:
        m = Module()
        d, item = self.design, self.i.payload
        reading, waiting = Signal(), Signal()     # an item's mask is being read; a pair waits
        take, move, leave, drop = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [self.i.ready.eq(~reading | move), take.eq(self.i.valid & self.i.ready),
                     move.eq(reading & (~waiting | leave)), leave.eq(waiting & self.o.ready),
                     self.mask_en.eq(take & item.pair), self.mask_row.eq(self.mask_base + getattr(item, "in")),
                     self.busy.eq(reading | waiting)]
        with m.If(take):
            m.d.sync += reading.eq(1)
        with m.Elif(move):
            m.d.sync += reading.eq(0)
        with m.If(move):
            m.d.sync += waiting.eq(1)
        with m.Elif(leave):
            m.d.sync += waiting.eq(0)

        held = Signal(work_layout(d), name="item", reset_less=True)
        offset = Signal(word_bits(d), reset_less=True)
        o = Signal(pair_layout(d), name="pair_held", reset_less=True)
        is_pair = Signal(reset_less=True)
        with m.If(take):
            m.d.sync += [held.eq(item), offset.eq(getattr(item, "in") * self.in_stride)]
        with m.If(move):
            m.d.sync += [is_pair.eq(held.pair), o.word.eq(self.in_base + offset), o.weight.eq(held.weight * d.groups),
                         *[getattr(o, name).eq(getattr(held, name))
                           for name in ("slot", "out", "first", "final", "release", "last")]]
            for lane in range(d.lanes):
                m.d.sync += o.masks[lane].eq(Cat(self.mask[group * d.lanes + lane] & held.pair & (self.groups > group)
                                                 for group in range(d.groups)))
        some = Signal()
        m.d.comb += [some.eq(o.masks.as_value().any()),
                     drop.eq(~(some | o.first | o.final | o.release | o.last)),
                     self.o.payload.eq(o), self.o.valid.eq(waiting & ~drop), self.pair.eq(leave & is_pair),
                     self.empty.eq(~some)]
        return m
