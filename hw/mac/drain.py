"""Drain: result rows of a tile through the output lanes into beats, while the array computes the next tile.

::

    array.result ─► column group ─► register ─► OutputLane x lanes ─► ResultPacker ─► o
    records, scales, partial sums ──────┘            en (back-pressure) ◄──┘

A tile leaves in ``rows * ceil(columns / lanes)`` cycles (valid rows and columns only).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign

from ..bus.axistream import beat_layout
from ..emit import shared
from .jobs import by_index, job_layout
from .loader import SCALE_BITS, SIDE_SLOTS, scale_beats
from .output import OutputLane
from .packer import GroupReader, ResultPacker
from .sequencer import tile_layout

__all__ = ["Drain"]

BIAS, SCALE, SHIFT = (0, 32), (32, 32), (64, 6)  # places in a record


class Drain(wiring.Component):
    """Takes each finished tile (or block) out of the array.

    Members
    -------
    job : In(job_layout), job_valid : In(1), job_done : Out(1)
        ``job_done`` with the transfer of the job's last beat.
    tile : In(tile_layout), start : In(1)
        At the issue of a tile's last word: from then on ``free`` is low.
    arrived : In(1)
        Its first row is on ``result`` from this cycle on.
    free : Out(1)
        The array's result registers may be overwritten.
    result : In(columns * result_bits), shift : Out(1)
    row, beat, side_slot, data, scale_a_write, scale_w_write, record_write : In
        Write ports of scales and records, from the loaders (``w_`` and ``a_`` prefixes).
    c : In(stream of bus_bits), with accumulate
    o : Out(stream of beat_layout)
    invalid, overflow : Out(1)
        Strobes for the interrupt register.
    stall_c, stall_out : Out(1)
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        self.groups = -(-design.columns // design.output_lanes)
        self.result_bits = design.pe.accumulator_bits + len(design.pe.flags)
        bus = design.bus_bits
        members = {
            "job": In(job_layout(design)), "job_valid": In(1), "job_done": Out(1),
            "tile": In(tile_layout(design)), "start": In(1), "arrived": In(1), "free": Out(1),
            "result": In(design.columns * self.result_bits), "shift": Out(1),
            "w_row": In(range(design.columns)), "w_beat": In(8), "w_slot": In(range(SIDE_SLOTS)), "w_data": In(bus),
            "record_write": In(1),
            "o": Out(stream.Signature(beat_layout(design.bus_bits))), "invalid": Out(1), "overflow": Out(1),
            "stall_c": Out(1), "stall_out": Out(1)}
        if design.accumulate:
            members["c"] = In(stream.Signature(bus))
        if design.block:
            members.update({"a_row": In(range(design.rows)), "a_beat": In(8), "a_slot": In(range(SIDE_SLOTS)),
                            "a_data": In(bus), "a_scale_write": In(1), "w_scale_write": In(1)})
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, groups, lanes = self.design, self.job, self.groups, self.design.output_lanes
        lane_bits = (lanes - 1).bit_length()

        # One tile at a time is between its last word and its last group.
        tile = Signal(tile_layout(design))
        busy, here, flushing = Signal(), Signal(), Signal()
        m.d.comb += self.free.eq(~busy)
        with m.If(self.start):
            m.d.sync += [tile.eq(self.tile), busy.eq(1)]
        with m.If(self.arrived):
            m.d.sync += here.eq(1)

        row, group = Signal(range(design.rows)), Signal(range(groups))
        last_group = Signal(range(groups))
        m.d.comb += last_group.eq(tile.columns >> lane_bits)
        row_end = Signal()
        tile_end = Signal()
        count = Signal(range(lanes))
        m.d.comb += [row_end.eq(group == last_group), tile_end.eq(row_end & (row == tile.rows)),
                     count.eq(Mux(row_end, tile.columns, lanes - 1))]

        m.submodules.packer = packer = ResultPacker(design)
        outputs = [shared(OutputLane(design)) for _ in range(lanes)]
        advance, accept = Signal(), Signal()
        present = Signal()
        m.d.comb += present.eq(here & ~flushing)
        emits = tile.last  # of a job with blocks only the last block gives results
        if design.accumulate:
            m.submodules.partial = partial = GroupReader(design)
            wiring.connect(m, wiring.flipped(self.c), partial.i)
            needs = job.accumulate & emits
            m.d.comb += [partial.count.eq(count), partial.row_end.eq(row_end),
                         partial.wanted.eq(busy & ~flushing & needs), partial.take.eq(accept & needs),
                         accept.eq(present & advance & (partial.valid | ~needs)),
                         self.stall_c.eq(present & advance & needs & ~partial.valid)]
        else:
            m.d.comb += accept.eq(present & advance)
        m.d.comb += self.stall_out.eq(present & ~advance)

        # Blocks that come faster than the sum of a slot can be updated wait.
        loop = outputs[0].block_loop if design.block else 0
        if loop > 1:
            waiting = Signal(range(loop))
            with m.If(accept & (row == 0) & (group == 0) & (job.block != 0)):
                m.d.sync += waiting.eq(loop - 1)
            with m.Elif((waiting != 0) & advance):
                m.d.sync += waiting.eq(waiting - 1)
            with m.If((waiting != 0) & (row == 0) & (group == 0)):
                m.d.comb += present.eq(0)

        with m.If(accept):
            m.d.sync += group.eq(group + 1)
            with m.If(row_end):
                m.d.comb += self.shift.eq(1)
                m.d.sync += [group.eq(0), row.eq(row + 1)]
            with m.If(tile_end):
                m.d.sync += [row.eq(0), here.eq(0), busy.eq(0)]
                with m.If(tile.end & tile.last):
                    m.d.sync += flushing.eq(1)
        with m.If(self.job_done):
            m.d.sync += flushing.eq(0)

        # Lane inputs, one register after the choice of the group.
        valid = Signal()
        with m.If(advance):
            m.d.sync += valid.eq(accept)
        control: Value = Cat(count, row_end, tile_end & tile.end, emits & accept)
        stages = 1 + outputs[0].latency
        held = control
        for stage in range(stages):
            following = Signal(len(control), name=f"control{stage}")
            with m.If(advance):
                m.d.sync += following.eq(held)
            held = following
        end = len(count)
        m.d.comb += [packer.count.eq(held[:end]), packer.row_end.eq(held[end]), packer.job_end.eq(held[end + 1]),
                     packer.valid.eq(held[end + 2]), advance.eq(packer.ready | ~packer.valid)]
        widths = packer.widths
        chosen: Value = Const(0)
        if set(design.rules) != {"raw"}:
            chosen = by_index(job.output, [widths.index(design.output_format(name).bits) for name in design.outputs])
        if "raw" in design.rules:
            chosen = Mux(job.rule == 0, widths.index(design.raw_bits), chosen)
        m.d.comb += packer.width.eq(chosen)

        columns = [self.result.word_select(c, self.result_bits) for c in range(design.columns)]
        scales = self._scales(m, tile, row, group, advance) if design.block else None
        records = self._records(m, tile, group, advance)
        events = []
        for at, lane in enumerate(outputs):
            m.submodules[f"lane{at}"] = lane
            mine = [columns[g * lanes + at] for g in range(groups)]
            acc = Signal(self.result_bits, name=f"result{at}")
            with m.If(advance):
                m.d.sync += acc.eq(by_index(group, mine))
            i = lane.i
            m.d.comb += [lane.en.eq(advance), lane.valid.eq(valid), i.acc.eq(acc[:design.pe.accumulator_bits])]
            if design.pe.flags:
                m.d.comb += i.flags.eq(acc[design.pe.accumulator_bits:])
            if design.accumulate:
                c = Signal(design.raw_bits, name=f"c{at}")
                with m.If(advance):
                    m.d.sync += c.eq(partial.group.word_select(at, design.raw_bits))
                m.d.comb += i.c.eq(c)
            bias, scale, shift = records[at]
            m.d.comb += [i.bias.eq(bias), i.scale.eq(Mux(job.per_channel, scale, job.scale)),
                         i.shift.eq(Mux(job.per_channel, shift, job.shift))]
            if design.block:
                for name, value in zip(("sa", "sw"), (scales[0], scales[1][at]), strict=True):
                    m.d.comb += getattr(i, name).eq(value)
                place = Signal(range(design.rows * (1 << (groups - 1).bit_length())), name=f"place{at}")
                first, final = Signal(name=f"first{at}"), Signal(name=f"last{at}")
                with m.If(advance):
                    m.d.sync += [place.eq(Cat(group, row)), first.eq(tile.first), final.eq(tile.last)]
                m.d.comb += [i.slot.eq(place), i.first.eq(first), i.last.eq(final)]
            for name in ("mode", "rule", "output", "clamp", "bias", "accumulate", "block", "bias_shift", "zero_point",
                         "clamp_low", "clamp_high"):
                m.d.comb += getattr(lane.job, name).eq(getattr(job, name))
            m.d.comb += packer.codes.word_select(at, packer.code_bits).eq(lane.o)
            counted = packer.valid & packer.ready & (packer.count >= at)
            events.append((lane.invalid & counted, lane.overflow & counted))
        m.d.comb += [self.invalid.eq(Cat(*[e[0] for e in events]).any()),
                     self.overflow.eq(Cat(*[e[1] for e in events]).any())]

        wiring.connect(m, packer.o, wiring.flipped(self.o))
        m.d.comb += self.job_done.eq(self.o.valid & self.o.ready & self.o.payload.last)
        return m

    def _records(self, m: Module, tile: Value, group: Value, advance: Value) -> list[tuple[Value, Value, Value]]:
        """(bias, scale, shift) of each lane, one cycle after the group."""
        design, lanes = self.design, self.design.output_lanes
        lane_bits, group_bits = (lanes - 1).bit_length(), (self.groups - 1).bit_length()
        out = []
        for at in range(lanes):
            values = []
            for name, (low, width) in (("bias", BIAS), ("scale", SCALE), ("shift", SHIFT)):
                memory = Memory(shape=width, depth=SIDE_SLOTS << group_bits, init=[])
                m.submodules[f"{name}{at}"] = memory
                write, read = memory.write_port(), memory.read_port()
                part, place = divmod(low, design.bus_bits)
                m.d.comb += [write.addr.eq(Cat(self.w_row[lane_bits:lane_bits + group_bits], self.w_slot)),
                             write.data.eq(self.w_data[place:place + width]),
                             write.en.eq(self.record_write & (self.w_beat == part) & (self.w_row[:lane_bits] == at)),
                             read.addr.eq(Cat(group[:group_bits], tile.w_slot)), read.en.eq(advance)]
                values.append(read.data)
            out.append(tuple(values))
        return out

    def _scales(self, m: Module, tile: Value, row: Value, group: Value, advance: Value) -> tuple[Value, list[Value]]:
        """Scale codes of the row, and of each lane's column, one cycle after the group."""
        design, lanes = self.design, self.design.output_lanes
        lane_bits, group_bits = (lanes - 1).bit_length(), (self.groups - 1).bit_length()
        beat_bits = (scale_beats(design) - 1).bit_length()
        per_beat = design.bus_bits // SCALE_BITS
        byte = Signal(range(per_beat))
        with m.If(advance):
            m.d.sync += byte.eq(tile.block)
        beat = (tile.block >> (per_beat - 1).bit_length())[:beat_bits]

        def memory(name: str, depth: int, write_addr: Value, data: Value, strobe: Value, read_addr: Value) -> Value:
            made = Memory(shape=design.bus_bits, depth=depth, init=[])
            m.submodules[name] = made
            write, read = made.write_port(), made.read_port()
            m.d.comb += [write.addr.eq(write_addr), write.data.eq(data), write.en.eq(strobe),
                         read.addr.eq(read_addr), read.en.eq(advance)]
            return read.data.word_select(byte, SCALE_BITS)

        row_bits = (design.rows - 1).bit_length()
        sa = memory("scale_a", SIDE_SLOTS << (row_bits + beat_bits),
                    Cat(self.a_beat[:beat_bits], self.a_row[:row_bits], self.a_slot), self.a_data, self.a_scale_write,
                    Cat(beat, row[:row_bits], tile.a_slot))
        sw = [memory(f"scale_w{at}", SIDE_SLOTS << (group_bits + beat_bits),
                     Cat(self.w_beat[:beat_bits], self.w_row[lane_bits:lane_bits + group_bits], self.w_slot),
                     self.w_data, self.w_scale_write & (self.w_row[:lane_bits] == at),
                     Cat(beat, group[:group_bits], tile.w_slot)) for at in range(lanes)]
        return sa, sw
