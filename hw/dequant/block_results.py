# amaranth: UnusedElaboratable=no
"""From the sums of an array's blocks to float32 results: conversion, block scale, addition to the sum so far.

::

    array ──► choice of the lanes ──► FixedToFp32 ──► Scaler ──► FloatAdd ──┬─► queue ──► o   (complete sums)
                                                      ▲ scale     ▲ f ◄─────┘ memory
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.codebook_array import CodebookArrayDesign

from ..arith.delay import DelayLine
from ..arith.fixed_to_fp32 import FixedToFp32
from ..arith.float_add import FloatAdd, addend
from ..arith.float_convert import FloatUnpack
from ..arith.scale import Scaler
from ..emit import shared
from ..mac.morphable import delayed
from ..mac.morphable import result_layout as sum_layout
from .queue import Queue

__all__ = ["BlockResults", "result_layout"]


def result_layout(design: CodebookArrayDesign) -> data.StructLayout:
    """Float32 codes of neighbouring columns; ``last`` with the last ones of a tile."""
    return data.StructLayout({"values": data.ArrayLayout(32, design.result_lanes), "last": 1})


class BlockResults(wiring.Component):
    """``result_lanes`` results a cycle, row 0 first, in each row column 0 first.

    Nothing behind the array ever stops: a complete sum leaves the array only when it has a place in the queue.

    Parameters
    ----------
    design : CodebookArrayDesign

    Members
    -------
    start : In(1)
        The last words of a block are at the array. Only while ``free``.
    emit : In(1), scales : In(columns * 32)
        With ``start``: the sums are complete with this block; its scales (not with scale ``none``).
    result : In, shift : Out(1)
        The array's.
    free : Out(1)
        A block may end.
    o : Out(stream of result_layout)
    idle : Out(1)
        No sum has begun, or all have been taken.

    Attributes
    ----------
    latency : int
        Edges from a sum on ``result`` to its result on ``o``.
    """

    def __init__(self, design: CodebookArrayDesign):
        self.design = design
        self.convert = FixedToFp32(design.sum_bits, design.exponent) if design.accumulator == "exact" else None
        self.multiply = Scaler(0, True, "chains") if design.scale != "none" else None
        # The adder's result is there behind the edge that writes it.
        self.before_scale = 1 + (self.convert.latency if self.convert else 0)
        self.before_add = self.before_scale + (FloatUnpack.latency + self.multiply.latency if self.multiply else 0)
        self.latency = self.before_add + FloatAdd.latency + 1
        self.depth = 1 << self.latency.bit_length()
        sums = design.columns * sum_layout(design.array.pe).size
        members = {"start": In(1), "emit": In(1), "result": In(sums), "shift": Out(1), "free": Out(1),
                   "o": Out(stream.Signature(result_layout(design))), "idle": Out(1)}
        if self.multiply:
            members["scales"] = In(32 * design.columns)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"results_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        lanes, groups, rows = design.result_lanes, design.groups, design.rows
        emit, fresh = Signal(), Signal(init=1)
        if self.multiply:
            scales = Signal(32 * design.columns, reset_less=True)
            with m.If(self.start):
                m.d.sync += scales.eq(self.scales)
        with m.If(self.start):
            m.d.sync += emit.eq(self.emit)

        # Sums are on ``result`` so many edges behind their last words.
        under_way = Signal(design.array.latency)
        m.d.sync += under_way.eq(Cat(self.start, under_way))
        leaving, active = Signal(), Signal()
        group, row = Signal(range(groups)), Signal(range(rows))
        owed = Signal(range(self.depth + 1))   # complete results that have left the array, but not the queue
        take, end_of_row, ends = Signal(), Signal(), Signal()
        m.d.comb += [active.eq(leaving | under_way[-1]), take.eq(active & (~emit | (owed != self.depth))),
                     end_of_row.eq(group == groups - 1), ends.eq(take & end_of_row & (row == rows - 1)),
                     self.shift.eq(take & end_of_row)]
        m.d.sync += leaving.eq(active & ~ends)
        with m.If(take):
            m.d.sync += group.eq(Mux(end_of_row, 0, group + 1))
            with m.If(end_of_row):
                m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
        with m.If(ends):
            m.d.sync += fresh.eq(emit)
        m.d.sync += owed.eq(owed + (take & emit) - (self.o.valid & self.o.ready))

        # The next block's sums replace these, and none overtakes a partial sum that is still in the adder.
        rest = max(FloatAdd.latency + 1 - design.array.latency - rows * groups, 0)
        done = delayed(m, ends, "done", rest, False)
        pending = Signal()
        with m.If(self.start):
            m.d.sync += pending.eq(1)
        with m.Elif(done):
            m.d.sync += pending.eq(0)
        m.d.comb += [self.free.eq(~pending), self.idle.eq(~pending & fresh & (owed == 0))]

        tags = data.StructLayout({"take": 1, "emit": 1, "fresh": 1, "last": 1})
        tag = Signal(tags)
        m.d.comb += [tag.take.eq(take), tag.emit.eq(take & emit), tag.fresh.eq(fresh), tag.last.eq(ends)]
        at_add = data.View(tags, delayed(m, tag.as_value(), "tag", self.before_add, False))
        at_end = data.View(tags, delayed(m, at_add.as_value(), "tag_added", FloatAdd.latency, False))
        sums = self.result.word_select(group, lanes * sum_layout(design.array.pe).size)
        sums = delayed(m, sums, "sums", 1)
        factors = self._late_scales(m, scales.word_select(group, 32 * lanes)) if self.multiply else None
        found = [self._lane(m, lane, sums, factors) for lane in range(lanes)]

        # One word of partial sums for each word of results.
        words = rows * groups
        m.submodules.sums = memory = Memory(shape=32 * lanes, depth=words, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        reads, writes = Signal(range(words)), Signal(range(words))
        for place, counts in ((reads, at_add.take), (writes, at_end.take)):
            with m.If(counts):
                m.d.sync += place.eq(Mux(place == words - 1, 0, place + 1))
        totals = []
        for lane, value in enumerate(found):
            m.submodules[f"add{lane}"] = add = shared(FloatAdd())
            addend(m, add, value)
            m.d.comb += [add.en.eq(1), add.a.eq(Mux(at_add.fresh, 0, read.data.word_select(lane, 32)))]
            totals.append(add.o)
        m.submodules.queue = queue = shared(Queue(result_layout(design), self.depth))
        m.d.comb += [read.addr.eq(reads), write.addr.eq(writes), write.data.eq(Cat(totals)), write.en.eq(at_end.take),
                     queue.i.valid.eq(at_end.emit), queue.i.payload.eq(Cat(*totals, at_end.last))]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _late_scales(self, m: Module, scales: Value) -> Value:
        """Those of the chosen columns, at the multiplier together with their sums."""
        m.submodules.scales = line = shared(DelayLine(len(scales), self.before_scale))
        m.d.comb += [line.en.eq(1), line.i.eq(scales)]
        return line.o

    def _lane(self, m: Module, lane: int, sums: Value, factors: Value | None) -> Value:
        """The scaled sum of one column, before its addition."""
        layout = sum_layout(self.design.array.pe)
        chosen = data.View(layout, sums.word_select(lane, layout.size))
        value = chosen.acc
        if self.convert:
            m.submodules[f"convert{lane}"] = convert = shared(self.convert)
            m.d.comb += convert.i.eq(value)
            for port, flag in (("nan", "nan"), ("pos", "inf_pos"), ("neg", "inf_neg")):
                m.d.comb += getattr(convert, port).eq(chosen[flag] if flag in layout.members else Const(0, 1))
            value = convert.o
        if factors is None:
            return value
        m.submodules[f"multiply{lane}"] = multiply = shared(self.multiply)
        m.d.comb += multiply.en.eq(1)
        for side, code in (("a", value), ("b", factors.word_select(lane, 32))):
            m.submodules[f"unpack_{side}{lane}"] = unpack = shared(FloatUnpack())
            m.d.comb += [unpack.en.eq(1), unpack.i.eq(code),
                         *(getattr(multiply, f"{side}_{name}").eq(getattr(unpack, name))
                           for name in ("sign", "exponent", "significand", "nan", "inf"))]
        return multiply.g
