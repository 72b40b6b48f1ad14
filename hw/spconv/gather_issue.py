"""One pair at a time: each cycle every lane takes its next channel that is not zero, until all lanes are done.

::

    pair {masks} ──► lane 0: 0 1 1 0 ──► word + 1, then + 2
                     lane 1: 0 0 0 1 ──► word + 3, then idle       the next pair follows without a gap
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from .gather_layouts import pair_layout, step_layout

__all__ = ["Issue", "ItemIssue", "offset_by", "place_of"]

WITHOUT_CHAIN = 8     # bits of a mask whose lowest one is found by LUTs alone


def place_of(m: Module, bits: Value, name: str) -> tuple[Value, Value, Value]:
    """The lowest bit of a mask that is set, as a number; the mask without it; whether nothing is left then."""
    width = len(bits)
    place, rest = Signal(range(max(width, 2)), name=f"{name}_place"), Signal(width, name=f"{name}_rest")
    if width <= WITHOUT_CHAIN:
        m.d.comb += [rest[bit].eq(bits[bit] & bits[:bit].any()) for bit in range(1, width)]
    else:
        m.d.comb += rest.eq(bits & (bits - 1))
    for at in reversed(range(width)):
        with m.If(bits[at]):
            m.d.comb += place.eq(at)
    return place, rest, ~rest.any()


def offset_by(base: Value, place: Value, groups: int) -> Value:
    """``base + place`` where base is a multiple of ``groups``."""
    shift = groups.bit_length() - 1
    return Cat(place[:shift], base[shift:]) if groups == 1 << shift else base + place


class Issue(wiring.Component):
    """Pairs to steps of the lanes.

    Members
    -------
    i : In(stream of pair_layout)
    run : In(1)
        Without it no step is taken.
    valid : Out(1); o : Out(step_layout)
        A step is taken in this cycle.
    released : Out(1)
        The weights of a tile have been read for the last time, now or before.
    busy, stall : Out(1)
        A pair or a row is inside; it waits for ``run``.
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(pair_layout(design))), "run": In(1), "valid": Out(1),
                          "o": Out(step_layout(design)), "released": Out(1), "busy": Out(1), "stall": Out(1)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_issue"


class ItemIssue(Issue):
    """Steps of the lanes with ``pack`` item.

    A pair takes as many cycles as the lane with the most channels that are not zero; one without any, which begins or
    ends something, takes one. ``released`` comes with the last step that reads the tile.
    """

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        pair = Signal(pair_layout(d), name="held", reset_less=True)
        there, begun, end = Signal(), Signal(), Signal()
        lanes = [place_of(m, pair.masks[lane], f"lane{lane}") for lane in range(d.lanes)]
        m.d.comb += [end.eq(Cat(single for _, _, single in lanes).all()), self.valid.eq(there & self.run),
                     self.i.ready.eq(~there | (self.run & end)), self.busy.eq(there),
                     self.stall.eq(there & ~self.run),
                     self.released.eq(self.valid & end & pair.release)]
        with m.If(self.i.ready):
            m.d.sync += [there.eq(self.i.valid), begun.eq(0), pair.eq(self.i.payload)]
        with m.Elif(self.run):
            m.d.sync += [begun.eq(1), *[pair.masks[lane].eq(rest) for lane, (_, rest, _) in enumerate(lanes)]]

        token = self.o.token
        m.d.comb += [token.start.eq(~begun), token.end.eq(end), token.first.eq(pair.first), token.slot.eq(pair.slot),
                     token.out.eq(pair.out), token.row.eq(pair.final), token.last.eq(pair.last),
                     token.leave.eq(pair.final | pair.last)]
        for lane, (place, _, _) in enumerate(lanes):
            m.d.comb += [self.o.active[lane].eq(pair.masks[lane].any()), self.o.words[lane].eq(pair.word + place),
                         self.o.weights[lane].eq(offset_by(pair.weight, place, d.groups))]
        return m
