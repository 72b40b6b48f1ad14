# amaranth: UnusedElaboratable=no
"""The way out of the core: groups added up in float32 where their scales are floats, channel scales, output format."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.dequant_streams import result_fields

from ..arith.float_add import FloatAdd, addend
from ..arith.float_convert import FloatUnpack
from ..arith.scale import Scaler
from ..emit import shared
from ..formats.encode import Encoder
from .array import result_layout as array_results

__all__ = ["ResultStage", "output_layout", "visit_layout"]


def output_layout(design: DequantDesign) -> data.StructLayout:
    """One result; ``last`` with the last one of a job."""
    return data.StructLayout(result_fields(design))


def visit_layout(design: DequantDesign) -> data.StructLayout:
    """What results of the array are about to come: rows and columns that count, whether the channels begin and end
    with them, whether the job does."""
    return data.StructLayout({"rows": design.array.rows.bit_length(), "columns": design.array.columns.bit_length(),
                              "first": 1, "final": 1, "last": 1})


class ResultStage(wiring.Component):
    """One result a cycle through one float32 adder and one multiplier.

    Results leave row by row, channel by channel. Sums of groups wait in a memory; one that is still in the adder is
    waited for (only where a tile has fewer results than the adder has stages).

    Members
    -------
    visit : In(stream of visit_layout)
        One for each emission of the array, in order.
    scale : In(stream of float32 codes), with ``channel_scale``
        Of the channels in order, once a tile.
    i : In(stream of the array's results)
    o : Out(stream of output_layout)
    idle : Out(1)
    """

    def __init__(self, design: DequantDesign):
        self.design = design
        self.sums = not design.array.sums_channel
        members = {"visit": In(stream.Signature(visit_layout(design))),
                   "i": In(stream.Signature(array_results(design.array))),
                   "o": Out(stream.Signature(output_layout(design))), "idle": Out(1)}
        if design.channel_scale:
            members["scale"] = In(stream.Signature(32))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"results_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, array = self.design, self.design.array
        visit = self.visit.payload
        row, column = Signal(range(array.rows)), Signal(range(array.columns))
        ready = Signal()                 # the pipeline takes a result
        go = Signal()                    # a column of the row on ``i``
        counts = Signal()
        m.d.comb += counts.eq((row < visit.rows) & (column < visit.columns))
        end_of_row = (column == array.columns - 1) | (column + 1 >= visit.columns) | (row >= visit.rows)
        scales = self._scales(m)
        have = self.visit.valid & self.i.valid & scales.ready
        wait = Signal()
        m.d.comb += [go.eq(have & ready & ~wait), self.i.ready.eq(go & end_of_row),
                     self.visit.ready.eq(go & end_of_row & self.i.payload.last)]
        with m.If(go):
            m.d.sync += column.eq(Mux(end_of_row, 0, column + 1))
            with m.If(end_of_row):
                m.d.sync += row.eq(Mux(self.i.payload.last, 0, row + 1))
        m.d.comb += scales.done.eq(self.visit.ready & self.visit.valid & visit.final)

        value = self.i.payload.values.as_value().word_select(column, 32)
        final = visit.final & counts
        last = visit.last & (row + 1 == visit.rows) & (column + 1 == visit.columns)
        factor = Array(scales.values)[column] if design.channel_scale else None
        self._pipeline(m, go, ready, wait, value, counts, final, last, factor, row, column)
        return m

    def _scales(self, m: Module):
        """The tile's channel scales, loaded while nothing is under way for the tile."""
        design, columns = self.design, self.design.array.columns

        class Held:
            ready: Value = Const(1, 1)
            values: list = []
            done = Signal(name="scales_done")

        held = Held()
        if not design.channel_scale:
            return held
        filled = Signal(range(columns + 1))
        held.values = [Signal(32, name=f"scale{c}", reset_less=True) for c in range(columns)]
        complete = Signal(name="scales_complete")
        m.d.comb += [complete.eq(self.visit.valid & (filled == self.visit.payload.columns)),
                     self.scale.ready.eq(self.visit.valid & ~complete)]
        with m.If(self.scale.valid & self.scale.ready):
            m.d.sync += filled.eq(filled + 1)
            with m.Switch(filled):
                for c in range(columns):
                    with m.Case(c):
                        m.d.sync += held.values[c].eq(self.scale.payload)
        with m.If(held.done):
            m.d.sync += filled.eq(0)
        held.ready = complete
        return held

    def _pipeline(self, m: Module, go: Value, ready: Signal, wait: Signal, value: Value, counts: Value, final: Value,
                  last: Value, factor: Value | None, row: Value, column: Value) -> None:
        """Adder, multiplier and encoder, with one enable; a result at its end stops all until it is taken."""
        design, array = self.design, self.design.array
        en = Signal()
        tags = data.StructLayout({"valid": 1, "final": 1, "last": 1})
        tag = Signal(tags, name="tag")
        m.d.comb += [tag.valid.eq(go & counts), tag.final.eq(go & final), tag.last.eq(last)]
        stages: list[Value] = []

        def later(thing: Value, edges: int, name: str, reset: bool = False) -> Value:
            for stage in range(edges):
                register = Signal(thing.shape(), name=f"{name}_{stage}", reset_less=not reset)
                with m.If(en):
                    m.d.sync += register.eq(thing)
                if reset:
                    stages.append(register)
                thing = register
            return thing

        now: Value = tag.as_value()
        if self.sums:
            cells = array.rows * array.columns
            m.submodules.sums = sums = Memory(shape=32, depth=cells, init=[])
            write, read = sums.write_port(), sums.read_port(domain="comb")
            m.submodules.add = add = shared(FloatAdd())
            cell = Signal(range(cells))
            m.d.comb += [cell.eq(row * array.columns + column), read.addr.eq(cell), add.en.eq(en),
                         add.a.eq(Mux(self.visit.payload.first, 0, read.data))]
            addend(m, add, value)
            now = later(now, add.latency, "added", True)
            clashes: list[Value] = []
            for stage in stages:
                cell = later(cell, 1, f"cell{len(clashes)}")
                clashes.append(stage[0] & (cell == read.addr))
            m.d.comb += [write.addr.eq(cell), write.data.eq(add.o), write.en.eq(en & now[0]),
                         wait.eq(Cat(clashes).any() & ~self.visit.payload.first)]
            if factor is not None:
                factor = later(factor, add.latency, "factor")
            value = add.o
        else:
            # Behind the choice of a column; what follows begins with a normalisation.
            now, value = later(now, 1, "taken", True), later(value, 1, "taken_value")
            if factor is not None:
                factor = later(factor, 1, "taken_factor")
        # From here on only results that are finished count.
        done = data.View(tags, now)
        now = (done.valid & done.final)
        finished, last = now, done.last
        if factor is not None:
            m.submodules.unpack_value = unpack = shared(FloatUnpack())
            m.submodules.unpack_scale = unpack_scale = shared(FloatUnpack())
            m.submodules.multiply = multiply = shared(Scaler(0, True, "chains"))
            m.d.comb += [unpack.en.eq(en), unpack.i.eq(value), unpack_scale.en.eq(en), unpack_scale.i.eq(factor),
                         multiply.en.eq(en)]
            for name in ("sign", "exponent", "significand", "nan", "inf"):
                m.d.comb += [getattr(multiply, f"a_{name}").eq(getattr(unpack, name)),
                             getattr(multiply, f"b_{name}").eq(getattr(unpack_scale, name))]
            edges = FloatUnpack.latency + multiply.latency
            finished, last = later(finished, edges, "scaled", True), later(last, edges, "scaled_last")
            value = multiply.g
        if design.output.name != "fp32":
            m.submodules.encode = encode = shared(Encoder([design.output]))
            m.d.comb += [encode.en.eq(en), encode.i.eq(value), encode.index.eq(0), encode.zero_point.eq(0)]
            finished = later(finished, encode.latency, "encoded", True)
            last = later(last, encode.latency, "encoded_last")
            value = encode.o
        held = Signal(output_layout(design), reset_less=True)
        m.d.comb += [en.eq(~self.o.valid | self.o.ready), ready.eq(en), self.o.payload.eq(held)]
        with m.If(en):
            m.d.sync += [self.o.valid.eq(finished), held.value.eq(value), held.last.eq(last)]
        m.d.comb += self.idle.eq(~self.o.valid & ~Value.cast(sum((s[0] for s in stages), Const(0, 4))).any())
