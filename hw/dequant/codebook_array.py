# amaranth: UnusedElaboratable=no
"""MACs behind codebook dequantisers: codes of NF4 or any other table by activations, scaled block by block.

::

    w {codes, block} ──► CodebookDequantiser (columns) ──► entries ─┬─► MatmulArray ──► BlockResults ──► o
                     └──► queue of masks ────────────────┐          │       ▲              ▲ scales
    a {codes} ───────────────────────────────────────────┴──────────┴───────┘
    second, table, level ──► dequantisers
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.design.morphable import WORD_BITS

from ..emit import shared
from ..mac.array import MatmulArray
from .block_results import BlockResults, result_layout
from .codebook import CodebookDequantiser, level_layout, table_layout
from .codebook import second_layout as column_second
from .queue import Queue

__all__ = ["CodebookArray", "activation_layout", "result_layout", "second_layout", "weight_layout"]


def activation_layout(design: CodebookArrayDesign) -> data.StructLayout:
    """Codes by row and lane."""
    return data.StructLayout({"codes": data.ArrayLayout(data.ArrayLayout(design.activation.bits, design.lanes),
                                                        design.rows)})


def weight_layout(design: CodebookArrayDesign) -> data.StructLayout:
    """Codes by column and lane, and the lanes that count; with ``last``, whether the sums are complete (``emit``).

    In a block's first chunk, by column: its table and its scale; with ``renew`` that scale and those of the blocks
    behind go by the next item of ``second``.
    """
    book, columns = design.codebook, design.columns
    fields = {"codes": data.ArrayLayout(data.ArrayLayout(book.code_bits, book.lanes), columns), "mask": book.lanes,
              "first": 1, "last": 1, "emit": 1}
    if book.select_bits:
        fields["table"] = data.ArrayLayout(book.select_bits, columns)
    if book.scale_bits:
        fields["scale"] = data.ArrayLayout(book.scale_bits, columns)
    if book.coded_scale:
        fields["renew"] = 1
    return data.StructLayout(fields)


def second_layout(design: CodebookArrayDesign) -> data.ArrayLayout:
    """By column: what 8-bit scale codes are multiplied by, and what is added then: codes of float32."""
    return data.ArrayLayout(column_second(design.codebook), design.columns)


class CodebookArray(wiring.Component):
    """One chunk of weights for each column and one word of activations for each row in each cycle.

    Each result is ``f = RNE(f + RNE(RNE(block sum) * scale))`` in float32 over its blocks, from +0; a block sum of an
    exact accumulator is rounded here for the first time. Blocks and sums follow each other without a gap where blocks
    are not shorter than `models.cost.cycles.codebook_array` says; else a block's last chunk waits.

    Parameters
    ----------
    design : CodebookArrayDesign

    Members
    -------
    w : In(stream of weight_layout)
    a : In(stream of activation_layout)
        One for each chunk, taken with its products. Masked lanes do not count, whatever they hold.
    second : In(stream of second_layout), with 8-bit scale codes
        Taken together with a chunk of ``first`` and ``renew``.
    table : In(stream of table_layout), level : In(stream of level_layout) with ``table8``
        Entries for all columns; taken only while no block is inside the dequantisers. They survive a reset.
    o : Out(stream of result_layout)
    busy : Out(1)
        A block or a sum has begun, or results were not taken.
    illegal : Out(1)
        Until reset: as of `CodebookDequantiser`.
    stalls : Out(32)
        Cycles in which both operands were there and a block's last words had to wait for the sums before.

    Attributes
    ----------
    latency : int
        Clock edges from the words that end a sum to its first result.
    """

    def __init__(self, design: CodebookArrayDesign):
        self.design = design
        self.dequantiser = CodebookDequantiser(design.codebook)
        self.array, self.results = MatmulArray(design.array), BlockResults(design)
        self.latency = self.array.latency + self.results.latency
        members = {"w": In(stream.Signature(weight_layout(design))),
                   "a": In(stream.Signature(activation_layout(design))),
                   "table": In(stream.Signature(table_layout(design.codebook))),
                   "o": Out(stream.Signature(result_layout(design))), "busy": Out(1), "illegal": Out(1),
                   "stalls": Out(32)}
        if design.codebook.coded_scale:
            members["second"] = In(stream.Signature(second_layout(design)))
        if design.scale == "table8":
            members["level"] = In(stream.Signature(level_layout(design.codebook)))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"activation": d.activation.name, "weight": d.weight.name, "rows": d.rows, "columns": d.columns,
                "lanes": d.lanes, "code_bits": d.code_bits, "tables": d.tables, "scale": d.scale, "offset": d.offset,
                "block": d.block, "accumulator": d.accumulator, "sum_bits": d.sum_bits, "exponent": d.exponent,
                "links": d.links, "implementation": d.implementation, "pipeline": d.pipeline,
                "multiplier": d.multiplier, "result_lanes": d.result_lanes, "store": d.store}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, w, a = self.design, self.w, self.a
        m.submodules.array = array = shared(self.array)
        m.submodules.results = results = shared(self.results)
        columns = self._dequantisers(m)

        # What the array needs of a chunk beside its entries. Whatever is inside a dequantiser fits in here.
        kept = data.StructLayout({"mask": design.lanes, "emit": 1})
        m.submodules.masks = masks = shared(Queue(kept, 2 * self.dequantiser.depth))
        m.d.comb += [masks.i.valid.eq(w.valid & w.ready), masks.i.payload.mask.eq(w.payload.mask),
                     masks.i.payload.emit.eq(w.payload.emit)]

        # A step: words of all columns (they come in the same cycle), activations, and room for the sums that end.
        step, room = Signal(), Signal()
        word = columns[0].o
        m.d.comb += [room.eq(~word.payload.last | results.free), a.ready.eq(word.valid & room),
                     step.eq(word.valid & a.valid & room), masks.o.ready.eq(step),
                     *(column.o.ready.eq(step) for column in columns)]
        with m.If(word.valid & a.valid & ~room):
            m.d.sync += self.stalls.eq(self.stalls + 1)

        # The first cycle after a reset sweeps what was in the array.
        boot = Signal(init=1)
        m.d.sync += boot.eq(0)
        words = [column.o.payload.word for column in columns]
        mask = Cat(bit.replicate(design.activation.bits) for bit in masks.o.payload.mask)
        m.d.comb += [array.a.eq(Cat(a.payload.codes[row].as_value() & mask for row in range(design.rows))),
                     array.w.eq(Cat(self._filled(value) for value in words)), array.mode.eq(0), array.en.eq(step),
                     array.last.eq(step & word.payload.last), array.clear.eq(boot), array.shift.eq(results.shift),
                     results.start.eq(array.last), results.emit.eq(masks.o.payload.emit),
                     results.result.eq(array.result)]
        if design.scale != "none":
            m.d.comb += results.scales.eq(Cat(column.o.payload.scale for column in columns))
        wiring.connect(m, results.o, wiring.flipped(self.o))
        m.d.comb += [self.busy.eq(columns[0].busy | ~results.idle),
                     self.illegal.eq(Cat(column.illegal for column in columns).any())]
        return m

    @staticmethod
    def _filled(word: Value) -> Value:
        """A column's operand word; weights narrower than activations leave its upper bits zero."""
        return Cat(word, Const(0, WORD_BITS - len(word))) if len(word) < WORD_BITS else word

    def _dequantisers(self, m: Module) -> list:
        """One for each column, all in step: what they take and give, they take and give in the same cycle."""
        design, w = self.design, self.w
        columns: list = []
        for number in range(design.columns):
            m.submodules[f"column{number}"] = column = shared(self.dequantiser)
            columns.append(column)
            p, q = w.payload, column.i.payload
            m.d.comb += [column.i.valid.eq(w.valid), q.codes.eq(p.codes[number]), q.mask.eq(p.mask),
                         q.first.eq(p.first), q.last.eq(p.last),
                         column.table.valid.eq(self.table.valid), column.table.payload.eq(self.table.payload)]
            if design.codebook.select_bits:
                m.d.comb += q.table.eq(p.table[number])
            if design.codebook.scale_bits:
                m.d.comb += q.scale.eq(p.scale[number])
            if design.codebook.coded_scale:
                m.d.comb += [q.renew.eq(p.renew), column.second.valid.eq(self.second.valid),
                             column.second.payload.eq(self.second.payload[number])]
            if design.scale == "table8":
                m.d.comb += [column.level.valid.eq(self.level.valid), column.level.payload.eq(self.level.payload)]
        first = columns[0]
        m.d.comb += [w.ready.eq(first.i.ready), self.table.ready.eq(first.table.ready)]
        if design.codebook.coded_scale:
            m.d.comb += self.second.ready.eq(first.second.ready)
        if design.scale == "table8":
            m.d.comb += self.level.ready.eq(first.level.ready)
        return columns
