"""Between result codes and bus beats: `ResultPacker` on the way out, `GroupReader` for partial sums on the way in.

A group is what the output lanes hold side by side: up to ``lanes`` neighbouring columns of one result row. Each row of
a tile begins with a new beat; codes are packed tight inside it.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign

from ..bus.axistream import beat_layout
from .jobs import by_index

__all__ = ["GroupReader", "ResultPacker", "result_widths"]

NIBBLE = 4


def result_widths(design: MatmulDesign) -> list[int]:
    """Bits of the result codes that this core can give."""
    widths = {design.output_format(name).bits for name in design.outputs} if set(design.rules) != {"raw"} else set()
    return sorted(widths | ({design.raw_bits} if "raw" in design.rules else set()))


class ResultPacker(wiring.Component):
    """Packs groups of codes into beats.

    Throughput one group each cycle, or one beat where a group is wider than the bus.

    Members
    -------
    codes : In(lanes * code_bits), count : In(range(lanes))
        Valid codes less one.
    width : In
        Index of the code width in ``result_widths``.
    valid, row_end, job_end : In(1); ready : Out(1)
        The group is taken in a cycle with ``valid`` and ``ready``; inputs stay until then.
    o : Out(stream of beat_layout)
    """

    def __init__(self, design: MatmulDesign):
        self.design, self.widths = design, result_widths(design)
        self.code_bits = max(self.widths)
        lanes = design.output_lanes
        super().__init__({
            "codes": In(lanes * self.code_bits), "count": In(range(lanes)),
            "width": In(range(len(self.widths))), "valid": In(1), "row_end": In(1), "job_end": In(1),
            "ready": Out(1), "o": Out(stream.Signature(beat_layout(design.bus_bits)))})

    def elaborate(self, platform) -> Module:
        m = Module()
        bus, lanes, nibbles = self.design.bus_bits, self.design.output_lanes, self.design.bus_bits // NIBBLE
        codes = [self.codes.word_select(lane, self.code_bits) for lane in range(lanes)]
        most = max(max(bus // (lanes * width), lanes * width // bus) for width in self.widths)
        at = Signal(range(most))  # group in the beat, or beat of the group

        sources, selects, valids, beat_ends, group_ends = [], [], [], [], []
        for width in self.widths:
            group = Cat(*[code[:width] for code in codes])
            bits = lanes * width
            if bits <= bus:
                per_beat = bus // bits
                sources.append(Cat(*[group] * per_beat))
                selects.append(Cat(*[at == n * NIBBLE // bits for n in range(nibbles)]))
                valids.append(Cat(*[self.count >= n * NIBBLE % bits // width for n in range(nibbles)]))
                beat_ends.append(at == per_beat - 1)
                group_ends.append(Const(1, 1))
            else:
                beats = bits // bus
                sources.append(group.word_select(at[:(beats - 1).bit_length()], bus))
                selects.append(Const((1 << nibbles) - 1, nibbles))
                first = [[self.count >= (beat * bus + n * NIBBLE) // width for beat in range(beats)]
                         for n in range(nibbles)]
                valids.append(Cat(*[by_index(at, row) for row in first]))
                beat_ends.append(Const(1, 1))
                ends = [((count + 1) * width - 1) // bus for count in range(lanes)]
                group_ends.append(at == by_index(self.count, ends))
        # Named, as every nibble takes a slice: of an expression each would be a copy.
        source, select, valid = Signal(bus), Signal(nibbles), Signal(nibbles)
        beat_end, group_end = Signal(), Signal()
        m.d.comb += [signal.eq(by_index(self.width, options)) for signal, options in (
            (source, sources), (select, selects), (valid, valids), (beat_end, beat_ends), (group_end, group_ends))]

        beat, held = Signal(data.StructLayout({"data": bus, "used": nibbles, "last": 1})), Signal()
        take = self.o.valid & self.o.ready
        insert = Signal()
        m.d.comb += [insert.eq(self.valid & (~held | take)), self.ready.eq((~held | take) & group_end)]
        fresh = held | (at == 0)  # nothing of the beat so far may stay
        done = Signal()
        # A group wider than the bus: each beat stands alone.
        m.d.comb += done.eq(beat_end | (group_end & self.row_end))
        wide = by_index(self.width, [int(lanes * width > bus) for width in self.widths])
        with m.If(insert):
            for n in range(nibbles):
                place = slice(n * NIBBLE, (n + 1) * NIBBLE)
                with m.If(select[n]):
                    m.d.sync += [beat.data[place].eq(source[place] & valid[n].replicate(NIBBLE)),
                                 beat.used[n].eq(valid[n])]
                with m.Elif(fresh | wide):
                    m.d.sync += [beat.data[place].eq(0), beat.used[n].eq(0)]
            m.d.sync += beat.last.eq(group_end & self.job_end)
            restart = Mux(wide, group_end, done)
            m.d.sync += at.eq(Mux(restart, 0, at + 1))
        m.d.sync += held.eq((insert & done) | (held & ~take))
        m.d.comb += [self.o.valid.eq(held), self.o.payload.data.eq(beat.data), self.o.payload.last.eq(beat.last),
                     self.o.payload.keep.eq(Cat(*[beat.used[2 * b] | beat.used[2 * b + 1]
                                                  for b in range(nibbles // 2)]))]
        return m


class GroupReader(wiring.Component):
    """Beats of partial sums to groups of ``lanes`` raw codes.

    Members
    -------
    i : In(stream of bus_bits)
    count : In(range(lanes)), row_end : In(1), wanted : In(1)
        Of the group that comes next; nothing is read before it is ``wanted``.
    group : Out(lanes * raw_bits), valid : Out(1); take : In(1)
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        lanes = design.output_lanes
        super().__init__({"i": In(stream.Signature(design.bus_bits)), "count": In(range(lanes)), "row_end": In(1),
                          "wanted": In(1), "group": Out(lanes * design.raw_bits), "valid": Out(1), "take": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        bus, raw, lanes = self.design.bus_bits, self.design.raw_bits, self.design.output_lanes
        bits = lanes * raw
        if bits <= bus:
            per_beat = bus // bits
            at = Signal(range(per_beat))
            ends = self.row_end | (at == per_beat - 1)
            m.d.comb += [self.group.eq(self.i.payload.word_select(at, bits)), self.valid.eq(self.i.valid),
                         self.i.ready.eq(self.take & ends)]
            with m.If(self.take):
                m.d.sync += at.eq(Mux(ends, 0, at + 1))
            return m
        beats = bits // bus
        at = Signal(range(beats))
        end = Signal()
        m.d.comb += end.eq(at == by_index(self.count, [((n + 1) * raw - 1) // bus for n in range(lanes)]))
        parts: list[Value] = []
        for beat in range(beats):
            part = Signal(bus, name=f"part{beat}")
            with m.If(at == beat):
                m.d.sync += part.eq(self.i.payload)
            parts.append(Mux(at == beat, self.i.payload, part))
        m.d.comb += [self.group.eq(Cat(*parts)), self.valid.eq(self.i.valid & end),
                     self.i.ready.eq(Mux(end, self.take, self.wanted))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += at.eq(Mux(end, 0, at + 1))
        return m
