"""Panel loader: one operand stream into the double-buffered tile memories.

A panel is what one row tile of an operand needs: records (W only), scale rows, data rows; each row fills whole beats.
Data has two slots; records and scales have four, because the drain still reads those of a finished tile while the
panel after the next one comes in.

::

    i ──► [ mask of the last beat ] ──► bank[row].write {slot, beat}
     order, shapes ──► record | scale | data rows ──► panel done ──► level (0..2)
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.matmul import RECORD_BITS
from bitkiln.models.formats import get_group_format

from .jobs import by_index, job_layout

__all__ = ["DATA_SLOTS", "PanelLoader", "SIDE_SLOTS", "block_size_log2", "scale_beats"]

DATA_SLOTS = 2
SIDE_SLOTS = 4
SCALE_BITS = 8


def block_size_log2(design: MatmulDesign, block: Value) -> Value:
    """log2 of the block size of a job's block index (1..)."""
    return by_index(block, [0] + [get_group_format(name).block_size.bit_length() - 1 for name in design.block])


def scale_beats(design: MatmulDesign) -> int:
    """Beats of the longest scale row."""
    most = 1
    for name in design.block:
        group = get_group_format(name)
        blocks = -(-design.max_k(group.element.name) // group.block_size)
        most = max(most, -(-blocks * SCALE_BITS // design.bus_bits))
    return most


class PanelLoader(wiring.Component):
    """Loads panels in the order in which the array computes tiles, as far ahead as there are slots.

    One beat is taken each cycle; one cycle passes between two panels. ``take`` must never come with ``level`` 0.

    Parameters
    ----------
    design : MatmulDesign
    side : str
        ``a`` (rows of A) or ``w`` (rows of W, with records).

    Members
    -------
    i : In(stream of bus_bits)
    job : In(job_layout), job_valid : In(1), job_done : Out(1)
    take : In(1)
        The array is done with the oldest panel.
    level : Out(range(3))
        Panels that are complete and not taken.
    row, beat, slot, data, write : Out
        Write port of the data banks: row of the tile, beat of the row.
    side_slot, scale_write, record_write, part : Out
        Write strobes of scales (at ``row``, ``beat``) and of records (column ``row``, ``part`` of the record).
    """

    def __init__(self, design: MatmulDesign, side: str):
        self.design, self.side = design, side
        self.tile = design.rows if side == "a" else design.columns
        self.other_tile = design.columns if side == "a" else design.rows
        self.row_beats = design.k_words // design.words_per_beat
        self.record_beats = max(1, RECORD_BITS // design.bus_bits)
        self.beat_count = max(self.row_beats, scale_beats(design), self.record_beats)
        members = {
            "i": In(stream.Signature(design.bus_bits)),
            "job": In(job_layout(design)), "job_valid": In(1), "job_done": Out(1),
            "take": In(1), "level": Out(range(DATA_SLOTS + 1)),
            "row": Out(range(self.tile)), "beat": Out(range(self.beat_count)), "slot": Out(range(DATA_SLOTS)),
            "side_slot": Out(range(SIDE_SLOTS)), "data": Out(design.bus_bits), "write": Out(1)}
        if design.block:
            members["scale_write"] = Out(1)
        if side == "w":
            members["record_write"] = Out(1)
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, bus = self.design, self.job, self.design.bus_bits
        bits = [mode.activation.bits if self.side == "a" else mode.weight.bits for mode in design.pe.modes]
        size_log2 = by_index(job.mode, [b.bit_length() - 1 for b in bits])

        # Row length in beats, and the bits of its last beat.
        longest = design.k_words * 16
        row_bits = Signal(range(longest + bus))
        m.d.comb += row_bits.eq(job.k << size_log2)
        row_last = Signal(range(self.row_beats))
        m.d.comb += row_last.eq((row_bits - 1) >> (bus.bit_length() - 1))
        nibbles = Signal(range(bus // 4))
        m.d.comb += nibbles.eq(row_bits >> 2)
        mask = Cat(*[Cat((nibbles == 0) | (nibbles > n)).replicate(4) for n in range(bus // 4)])
        scale_last: Value | None = None
        if design.block:
            scale_last = Signal(range(scale_beats(design)))
            # ceil(ceil(k / block) / scales of a beat) - 1
            per_beat_log2 = (bus // SCALE_BITS).bit_length() - 1
            m.d.comb += scale_last.eq((job.k - 1) >> (block_size_log2(design, job.block) + per_beat_log2))

        mine, other = (job.m, job.n) if self.side == "a" else (job.n, job.m)
        held = job.order == (0 if self.side == "a" else 1)  # each own tile once
        # Rows before this tile; the tile's valid rows follow.
        base, other_base = Signal(17), Signal(17)
        left = Signal(17)
        m.d.comb += left.eq(mine - base)
        rows_last = Signal(range(self.tile))
        m.d.comb += rows_last.eq(Mux(left > self.tile, self.tile - 1, left - 1))
        own_end = left <= self.tile
        other_end = (other - other_base) <= self.other_tile

        sequence = Signal(range(SIDE_SLOTS))
        m.d.comb += [self.slot.eq(sequence), self.side_slot.eq(sequence),
                     self.data.eq(self.i.payload)]
        finished = Signal()
        m.d.sync += self.level.eq(self.level + finished - self.take)

        phases = ["data"]
        if design.block:
            phases.insert(0, "scales")
        if self.side == "w":
            phases.insert(0, "records")
        last_beat = {"data": row_last, "scales": scale_last, "records": self.record_beats - 1}
        wanted = {"data": 1, "scales": job.block != 0, "records": job.per_channel}
        transfer = self.i.valid & self.i.ready
        at_end = Signal()

        with m.FSM(name="phase"):
            with m.State("wait"):
                # A slot that is taken in this cycle counts from the next one.
                go = self.job_valid & (self.level != DATA_SLOTS)
                for at, phase in enumerate(phases):
                    with (m.Elif if at else m.If)(go & wanted[phase]):
                        m.next = phase
            for at, phase in enumerate(phases):
                with m.State(phase):
                    m.d.comb += [self.i.ready.eq(1), at_end.eq(self.beat == last_beat[phase])]
                    if phase == "data":
                        m.d.comb += self.write.eq(transfer)
                        with m.If(at_end):
                            m.d.comb += self.data.eq(self.i.payload & mask)
                    else:
                        m.d.comb += getattr(self, f"{phase[:-1]}_write").eq(transfer)
                    with m.If(transfer):
                        m.d.sync += self.beat.eq(Mux(at_end, 0, self.beat + 1))
                        with m.If(at_end):
                            m.d.sync += self.row.eq(Mux(self.row == rows_last, 0, self.row + 1))
                            with m.If(self.row == rows_last):
                                if phase == "data":
                                    m.d.comb += finished.eq(1)
                                    m.next = "wait"
                                elif phases[at + 1] == "data":
                                    m.next = "data"
                                else:  # records, then scales where the job has blocks
                                    with m.If(job.block != 0):
                                        m.next = "scales"
                                    with m.Else():
                                        m.next = "data"

        with m.If(finished):
            m.d.sync += [sequence.eq(sequence + 1), base.eq(base + self.tile)]
            with m.If(own_end):
                m.d.sync += [base.eq(0), other_base.eq(other_base + self.other_tile)]
                with m.If(held | other_end):
                    m.d.sync += other_base.eq(0)
                    m.d.comb += self.job_done.eq(1)
        return m
