"""Sequencer: one step of K each cycle, tile after tile, without a bubble while panels are there.

A tile's last word waits until the drain has taken the previous results out of the array (the result registers hold
one tile); with block scales every block ends like a tile.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign

from .jobs import by_index, job_layout
from .loader import SIDE_SLOTS, block_size_log2

__all__ = ["Sequencer", "tile_layout"]


def tile_layout(design: MatmulDesign) -> data.StructLayout:
    """What the drain must know of the results that an array's ``last`` left: valid rows and columns less one, side
    slots of the two panels, block number; first and last block of the tile, last tile of the job."""
    block_bits = 1
    if design.block:
        block_bits = max(1, (max(design.max_k(m) for m in design.pe.modes) // 2 - 1).bit_length())
    return data.StructLayout({"rows": range(design.rows), "columns": range(design.columns),
                              "a_slot": range(SIDE_SLOTS), "w_slot": range(SIDE_SLOTS), "block": block_bits,
                              "first": 1, "last": 1, "end": 1})


class Sequencer(wiring.Component):
    """Issues steps.

    Members
    -------
    job : In(job_layout), job_valid : In(1), job_done : Out(1)
    a_level, w_level : In
        Complete panels of each side; ``a_take``, ``w_take``: Out(1).
    free : In(1)
        The result registers may be overwritten.
    step : Out, a_slot, w_slot : Out, issue : Out(1), last : Out(1)
        The step to read in this cycle; ``last`` ends a tile or block.
    tile : Out(tile_layout)
        Valid with ``issue & last``.
    stall_a, stall_w, stall_drain : Out(1)
    macs : Out
        Useful products of the cycle three before.
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        products = design.rows * design.columns * max(mode.lanes for mode in design.pe.modes)
        super().__init__({
            "job": In(job_layout(design)), "job_valid": In(1), "job_done": Out(1),
            "a_level": In(2), "w_level": In(2), "a_take": Out(1), "w_take": Out(1), "free": In(1),
            "step": Out(range(design.k_words)), "a_slot": Out(range(SIDE_SLOTS)), "w_slot": Out(range(SIDE_SLOTS)),
            "issue": Out(1), "last": Out(1), "tile": Out(tile_layout(design)),
            "stall_a": Out(1), "stall_w": Out(1), "stall_drain": Out(1), "macs": Out(range(products + 1))})

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, tile = self.design, self.job, self.tile
        modes = design.pe.modes
        lanes_log2 = by_index(job.mode, [mode.lanes.bit_length() - 1 for mode in modes])
        final = Signal(range(design.k_words))  # last step of the tile
        m.d.comb += final.eq((job.k - 1) >> lanes_log2)

        row_base, column_base = Signal(17), Signal(17)
        rows_left, columns_left = Signal(signed(18)), Signal(signed(18))
        m.d.comb += [rows_left.eq(job.m - row_base - design.rows),
                     columns_left.eq(job.n - column_base - design.columns)]
        rows_end, columns_end = rows_left <= 0, columns_left <= 0
        m.d.comb += [tile.rows.eq(design.rows - 1 + Mux(rows_end, rows_left, 0)),
                     tile.columns.eq(design.columns - 1 + Mux(columns_end, columns_left, 0)),
                     tile.end.eq(rows_end & columns_end), tile.a_slot.eq(self.a_slot), tile.w_slot.eq(self.w_slot)]

        step_end, block_end = self.step == final, Signal()
        if design.block:
            # Words of a block less one: block size / lanes - 1.
            words_log2 = Signal(range(16))
            m.d.comb += words_log2.eq(block_size_log2(design, job.block) - lanes_log2)
            block_mask = Signal(10)
            m.d.comb += block_mask.eq((1 << words_log2) - 1)
            m.d.comb += block_end.eq((job.block != 0) & ((self.step & block_mask) == block_mask))
            m.d.comb += [tile.block.eq(self.step >> words_log2),
                         tile.first.eq((job.block == 0) | ((self.step >> words_log2) == 0))]
        else:
            m.d.comb += tile.first.eq(1)
        m.d.comb += [tile.last.eq(step_end), self.last.eq(step_end | block_end)]

        here = self.job_valid
        a_there, w_there = self.a_level != 0, self.w_level != 0
        ready = here & a_there & w_there
        m.d.comb += [self.issue.eq(ready & (~self.last | self.free)),
                     self.stall_a.eq(here & ~a_there), self.stall_w.eq(here & a_there & ~w_there),
                     self.stall_drain.eq(ready & self.last & ~self.free)]
        finished = self.issue & step_end
        inner_end = Mux(job.order, rows_end, columns_end)
        m.d.comb += [self.a_take.eq(finished & (job.order | inner_end)),
                     self.w_take.eq(finished & (~job.order | inner_end)),
                     self.job_done.eq(finished & tile.end)]
        with m.If(self.issue):
            m.d.sync += self.step.eq(Mux(step_end, 0, self.step + 1))
        m.d.sync += [self.a_slot.eq(self.a_slot + self.a_take), self.w_slot.eq(self.w_slot + self.w_take)]
        with m.If(finished):
            with m.If(job.order):  # rows inside columns
                m.d.sync += row_base.eq(row_base + design.rows)
                with m.If(rows_end):
                    m.d.sync += [row_base.eq(0), column_base.eq(column_base + design.columns)]
            with m.Else():
                m.d.sync += column_base.eq(column_base + design.columns)
                with m.If(columns_end):
                    m.d.sync += [column_base.eq(0), row_base.eq(row_base + design.rows)]
            with m.If(tile.end):
                m.d.sync += [row_base.eq(0), column_base.eq(0)]

        # Products of a step: the last one may use only some lanes. Counted a few cycles late, as the chain from the
        # tile's shape through two products to a wide counter would be the longest path of a core.
        over = job.k & ((1 << lanes_log2) - 1)
        rows, columns = Signal(range(design.rows + 1)), Signal(range(design.columns + 1))
        lanes, lanes_then = (Signal(range(max(mode.lanes for mode in modes) + 1), name=name)
                             for name in ("lanes", "lanes_then"))
        pairs = Signal(range(design.rows * design.columns + 1))
        m.d.sync += [rows.eq(tile.rows + 1), columns.eq(tile.columns + 1),
                     lanes.eq(Mux(self.issue, Mux(step_end & (over != 0), over, 1 << lanes_log2), 0)),
                     pairs.eq(rows * columns), lanes_then.eq(lanes), self.macs.eq(pairs * lanes_then)]
        return m
