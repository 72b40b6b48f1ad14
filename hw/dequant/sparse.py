# amaranth: UnusedElaboratable=no
"""Sparse side path: the outliers of a weight matrix beside a dense engine (SqueezeLLM, arXiv 2306.07629).

::

    activation {codes, last} ──► two tiles of activations ──read──┐
                                     ▲ place                      ▼
    outlier {place, column, value} ──┴──► queue ──► value ──► LaneProduct x rows ──► + ──► sums ──► o {value}
                                                                                     ▲      │
                                                       of a column: all rows at once └──────┘ two banks

The activations are the dense engine's own stream, chunk by chunk. One outlier a cycle is multiplied with the
activations of all rows at its place along K and added to the sums of its column, which are as exact as the dense ones.
Its order within a tile is free: it waits until its chunk is there. Outliers of a tile are worked off while the dense
engine goes through the next one, and sums leave while the next ones grow.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.sparse import SparseDesign

from ..arith.cells import Adder
from ..arith.delay import late
from ..emit import shared
from ..mac.dot import cuts_of
from ..mac.product import LaneProduct
from .queue import Queue

__all__ = ["SparseSide", "chunk_layout", "outlier_layout", "sum_layout"]


def chunk_layout(design: SparseDesign) -> data.StructLayout:
    """Activation codes by row and lane, as the dense engine takes them; ``last`` ends a tile."""
    lanes = data.ArrayLayout(design.activation.bits, design.lanes)
    return data.StructLayout({"codes": data.ArrayLayout(lanes, design.rows), "last": 1})


def outlier_layout(design: SparseDesign) -> data.StructLayout:
    """An outlier: its place along K within the tile (``chunk * lanes + lane``), its column, its value.

    ``mask`` 0: it does not count (a tile without outliers needs an item to end with). ``last``: of its tile. ``emit``
    with ``last``: the sums are complete.
    """
    fields = {"lane": (design.lanes - 1).bit_length(), "chunk": (design.chunks - 1).bit_length(),
              "column": (design.columns - 1).bit_length()}
    return data.StructLayout({**{name: bits for name, bits in fields.items() if bits}, "value": design.value.bits,
                              "mask": 1, "last": 1, "emit": 1})


def sum_layout(design: SparseDesign) -> data.StructLayout:
    """A sum in units of ``2**design.exponent``, its flags, and ``last`` with the last column of the last row."""
    return data.StructLayout({"value": signed(design.sum_bits), **dict.fromkeys(design.flags, 1), "last": 1})


class SparseSide(wiring.Component):
    """The side path of one tile of results.

    One outlier each cycle; `latency` edges from the one that takes the last outlier of a result (all activations there,
    nothing waiting before it) to its first sum on ``o``, then one sum each cycle. `models.cost.cycles.sparse` has the
    exact cycles and the condition under which the dense engine never waits. Where there are more outliers than that,
    ``activation`` and ``outlier`` stop until there is room; nothing is lost.

    Parameters
    ----------
    design : SparseDesign

    Members
    -------
    activation : In(stream of chunk_layout)
        A tile ends with ``last``, or when it is ``design.tile`` weights long.
    outlier : In(stream of outlier_layout)
        Tile by tile; each tile ends with an item of ``last``.
    o : Out(stream of sum_layout)
        Row 0 first, in each row column 0 first.
    busy : Out(1)
        A tile has begun, or sums are not complete or not all taken.
    illegal : Out(1)
        Until reset: an outlier named a place or column that is not there (it does not count).
    stalls : Out(32)
        Cycles in which a chunk of activations had to wait.
    """

    def __init__(self, design: SparseDesign):
        self.design = design
        self.lane = LaneProduct(design.dot.activation, design.dot.weight, cuts_of(design.dot))
        # Read of the activations, choice of the lane, product: from the step of an outlier to its addition.
        self.front = 2 + design.dot.pipeline
        # Queue and step; the sum, its way out.
        self.latency = 1 + self.front + 2
        super().__init__({"activation": In(stream.Signature(chunk_layout(design))),
                          "outlier": In(stream.Signature(outlier_layout(design))),
                          "o": Out(stream.Signature(sum_layout(design))), "busy": Out(1), "illegal": Out(1),
                          "stalls": Out(32)})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"activation": d.activation.name, "value": d.value.name, "value_exponent": d.value_exponent,
                "lanes": d.lanes, "rows": d.rows, "columns": d.columns, "tile": d.tile, "depth": d.depth,
                "queue": d.queue, "specials": d.specials, "sum_bits": d.sum_bits, "exponent": d.exponent}

    @staticmethod
    def _late(m: Module, value: Value, edges: int, name: str, reset_less: bool = True) -> Value:
        for edge in range(edges):
            value = late(m, value, f"{name}_{edge + 1}", reset_less)
        return value

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        m.submodules.queue = queue = shared(Queue(outlier_layout(design), design.queue))
        wiring.connect(m, wiring.flipped(self.outlier), queue.i)
        item, waits = queue.o.payload, queue.o.valid
        self._tiles(m)
        lane, chunk, column = (item[name] if name in outlier_layout(design).members else Const(0, 0)
                               for name in ("lane", "chunk", "column"))

        # A step: the oldest outlier, once its activations are there; a tile's last, once they all are; that of a
        # result, once the sums before have left.
        step, ends = Signal(), Signal()
        emitting, bank = Signal(), Signal()
        there = chunk < self.count
        m.d.comb += [step.eq(waits & (there | self.complete) & (~item.last | self.complete)
                             & ~(item.last & item.emit & emitting)),
                     queue.o.ready.eq(step), self.release.eq(step & item.last),
                     ends.eq(self.release & item.emit), self.read_chunk.eq(chunk)]
        legal = there & (lane < design.lanes) & (column < design.columns)
        with m.If(step & item.mask & ~legal):
            m.d.sync += self.illegal.eq(1)
        begun = Signal()
        with m.If(ends):
            m.d.sync += [begun.eq(0), emitting.eq(1), bank.eq(~bank)]
        with m.Elif(step):
            m.d.sync += begun.eq(1)

        # Products of all rows, behind the read and a register, as memories are slow.
        lane_q, value_q = self._late(m, lane, 1, "lane"), self._late(m, item.value, 2, "value")
        products = []
        for row in range(design.rows):
            m.submodules[f"product{row}"] = unit = shared(self.lane)
            code = self.read_codes.word_select(row, design.lanes * design.activation.bits)
            chosen = self._late(m, code.word_select(lane_q, design.activation.bits), 1, f"code{row}")
            m.d.comb += [unit.a.eq(chosen), unit.w.eq(value_q)]
            products.append(unit)
        self.add = self._late(m, step & item.mask & legal, self.front, "add", False)
        self.add_before = self._late(m, Cat(column, bank), self.front - 1, "add_at")
        self.add_at = self._late(m, self.add_before, 1, "add_at_now")
        summed = self._late(m, ends, self.front, "summed", False)
        freed = self._sums(m, products, summed)
        with m.If(freed):
            m.d.sync += emitting.eq(0)
        m.d.comb += self.busy.eq(waits | self.filled | begun | emitting | self.o.valid)
        return m

    def _tiles(self, m: Module) -> None:
        """Two tiles of activations: one comes in, of the other the outliers are worked off; maybe of the same."""
        design, i = self.design, self.activation
        width = design.rows * design.lanes * design.activation.bits
        chunk_bits = (design.chunks - 1).bit_length()
        m.submodules.tiles = memory = Memory(shape=width, depth=2 << chunk_bits, init=[])
        write, read = memory.write_port(), memory.read_port()
        counts = [Signal(range(design.chunks + 1), name=f"count{side}") for side in range(2)]
        complete = [Signal(name=f"complete{side}") for side in range(2)]
        writes, reads = Signal(), Signal()      # side that comes in, side that is worked off
        self.count, self.complete = Signal(range(design.chunks + 1)), Signal()
        self.release, self.read_chunk = Signal(), Signal(chunk_bits)
        self.filled, self.read_codes = Signal(), read.data
        now = Mux(writes, counts[1], counts[0])
        take, ends = i.valid & i.ready, i.payload.last | (now == design.chunks - 1)
        m.d.comb += [i.ready.eq(~Mux(writes, complete[1], complete[0])), write.en.eq(take),
                     write.addr.eq(Cat(now[:chunk_bits], writes)), write.data.eq(i.payload.codes.as_value()),
                     read.en.eq(1), read.addr.eq(Cat(self.read_chunk, reads)),
                     self.count.eq(Mux(reads, counts[1], counts[0])),
                     self.complete.eq(Mux(reads, complete[1], complete[0])),
                     self.filled.eq((counts[0] != 0) | (counts[1] != 0))]
        for side in range(2):
            with m.If(take & (writes == side)):
                m.d.sync += [counts[side].eq(counts[side] + 1), complete[side].eq(ends)]
            # Never the side that takes something in this cycle: that one is not complete.
            with m.If(self.release & (reads == side)):
                m.d.sync += [counts[side].eq(0), complete[side].eq(0)]
        with m.If(take & ends):
            m.d.sync += writes.eq(~writes)
        with m.If(self.release):
            m.d.sync += reads.eq(~reads)
        with m.If(i.valid & ~i.ready):
            m.d.sync += self.stalls.eq(self.stalls + 1)

    def _sums(self, m: Module, products: list, summed: Value) -> Value:
        """A memory of sums for each row: both banks of all columns. Returns when the last sum of a bank leaves."""
        design, o = self.design, self.o
        column_bits = (design.columns - 1).bit_length()
        column, bank = self.add_at[:column_bits], self.add_at[-1]
        # Columns whose sum is not zero for want of outliers; of the column that comes next, a cycle ahead.
        touched = [Signal(design.columns, name=f"touched{side}") for side in range(2)]
        following = [Signal(design.columns, name=f"touched{side}_next") for side in range(2)]
        known = Signal(reset_less=True)
        m.d.sync += [known.eq(Mux(self.add_before[-1], following[1], following[0])
                              .bit_select(self.add_before[:column_bits], 1)),
                     *(now.eq(then) for now, then in zip(touched, following, strict=True))]
        active, leaving = Signal(), Signal()
        r, c = Signal(range(design.rows)), Signal(range(design.columns))
        fill, final = Signal(), Signal()
        shown = Mux(leaving, touched[1], touched[0]).bit_select(c, 1)
        word = data.StructLayout({name: field.shape for name, field in sum_layout(design) if name != "last"})
        rows = []
        for row, unit in enumerate(products):
            m.submodules[f"sums{row}"] = memory = Memory(shape=word.size, depth=2 << column_bits, init=[])
            write, read, out = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
            held, new = Signal(word, name=f"held{row}"), Signal(word, name=f"new{row}")
            m.submodules[f"add{row}"] = adder = shared(Adder(design.sum_bits, len(unit.value), design.sum_bits))
            events = {flag: getattr(unit, flag) for flag in design.flags}
            special = Cat(*events.values()).any() if events else Const(0, 1)
            m.d.comb += [read.addr.eq(self.add_at), out.addr.eq(Cat(c, leaving)), write.addr.eq(self.add_at),
                         held.eq(Mux(known, read.data, 0)), write.en.eq(self.add), write.data.eq(new),
                         adder.x.eq(held.value), adder.y.eq(unit.value),
                         # A special product only sets flags.
                         new.value.eq(Mux(special, held.value, adder.o)),
                         *(new[flag].eq(held[flag] | event) for flag, event in events.items())]
            if self.lane.has_carry:
                m.d.comb += adder.c.eq(unit.carry)
            rows.append(Mux(shown, out.data, 0))
        for side in range(2):
            m.d.comb += following[side].eq(touched[side])
            with m.If(self.add & (bank == side)):
                m.d.comb += following[side].bit_select(column, 1).eq(1)
            with m.If(fill & final & (leaving == side)):
                m.d.comb += following[side].eq(0)

        chosen = rows[0]
        for row in range(1, design.rows):
            chosen = Mux(r == row, rows[row], chosen)
        m.d.comb += [fill.eq(active & (~o.valid | o.ready)),
                     final.eq((r == design.rows - 1) & (c == design.columns - 1))]
        with m.If(summed):
            m.d.sync += [active.eq(1), leaving.eq(bank)]
        with m.If(fill):
            m.d.sync += [o.valid.eq(1), o.payload.eq(Cat(chosen, final)), c.eq(c + 1)]
            with m.If(c == design.columns - 1):
                m.d.sync += [c.eq(0), r.eq(Mux(r == design.rows - 1, 0, r + 1))]
            with m.If(final):
                m.d.sync += active.eq(0)
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        return fill & final
