# amaranth: UnusedElaboratable=no
"""Codebook dequantiser: weight codes to the operand words of the matmul engines, each block's scale beside them.

::

    i {codes, block} ──┬──► queue of chunks ──► CodebookTables ──► word register ──► o {word, first, last, scale}
                       └──► ScaleDecoder ──► queue of scales ─────────┘
    second {step, offset} ────┘   ▲                  ▲
    level {code, value} ──────────┘ while idle       │
    table {table, code, entry} ──────────────────────┘ while idle

NF4 and any other table of 16 or 8 entries (QLoRA, arXiv 2305.14314; SqueezeLLM, arXiv 2306.07629: a table for each
output channel). A chunk leaves its queue when its block's scale is there.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.codebook import SHORTEST_QUEUE, CodebookDesign

from ..emit import shared
from .levels import ScaleDecoder
from .queue import Queue
from .tables import CodebookTables

__all__ = ["CodebookDequantiser", "chunk_layout", "level_layout", "second_layout", "table_layout", "word_layout"]


def chunk_layout(design: CodebookDesign) -> data.StructLayout:
    """Codes by lane, the lanes that count (the others give zeros), and in a block's first chunk what holds for the
    block; with ``renew`` its scale, and those of the blocks behind it, go by the next item of ``second``."""
    fields = {"codes": data.ArrayLayout(design.code_bits, design.lanes), "mask": design.lanes, "first": 1, "last": 1}
    if design.select_bits:
        fields["table"] = design.select_bits
    if design.scale_bits:
        fields["scale"] = design.scale_bits
    if design.coded_scale:
        fields["renew"] = 1
    return data.StructLayout(fields)


def second_layout(design: CodebookDesign) -> data.StructLayout:
    """What 8-bit scale codes are multiplied by, and what is added then: codes of float32."""
    return data.StructLayout({"step": 32, **({"offset": 32} if design.offset else {})})


def table_layout(design: CodebookDesign) -> data.StructLayout:
    """An entry of a table, as a code of the output format."""
    fields = {"table": design.select_bits} if design.select_bits else {}
    return data.StructLayout({**fields, "code": design.code_bits, "entry": design.output.bits})


def level_layout(design: CodebookDesign) -> data.StructLayout:
    """What a scale code of ``table8`` stands for: code of a float32."""
    return data.StructLayout({"code": 8, "value": 32})


def word_layout(design: CodebookDesign) -> data.StructLayout:
    """Entries, the first one in the low bits, zeros behind a block's end; the block's scale with each of its words."""
    fields = {"word": design.word_bits, "first": 1, "last": 1}
    return data.StructLayout(fields | ({"scale": 32} if design.scale_bits else {}))


class CodebookDequantiser(wiring.Component):
    """Looks up weight codes; one chunk of lanes each cycle.

    A word is there `latency` edges after the one that takes its last chunk, at most, where words are taken at once.
    Blocks of any length follow each other without a gap, each beginning a new word: blocks that fill whole words make
    the rows of W that the matmul core reads (elements packed tight, rows of whole beats), and only the last block of a
    row may end within a word.

    Parameters
    ----------
    design : CodebookDesign

    Members
    -------
    i : In(stream of chunk_layout)
    second : In(stream of second_layout), with 8-bit scale codes
        Taken together with a chunk of ``first`` and ``renew``.
    table : In(stream of table_layout)
        Taken only while ``busy`` is 0. An entry that is written in the cycle that takes a block's first chunk counts
        for that block. Tables are zeros until written and survive a reset.
    level : In(stream of level_layout), with ``table8``
        As ``table``.
    o : Out(stream of word_layout)
    busy : Out(1)
        A block has begun and its last word has not been taken.
    illegal : Out(1)
        Until reset: a block began within another one (it goes on in the same word, with the new table and scale), a
        chunk came outside of a block (it counts to the block before), or a block or entry named a table that is not
        there (zeros; nothing is written).

    Attributes
    ----------
    latency : int
        Clock edges.
    depth : int
        Of the queues: as many chunks as arrive while a scale is computed.
    """

    def __init__(self, design: CodebookDesign):
        self.design = design
        self.scale = ScaleDecoder(design) if design.coded_scale else None
        # A code is held for one edge, decoded, and queued for one: then its chunk can leave.
        self.wait = 1 + self.scale.latency + 1 if self.scale else 1
        self.depth = max(1 << self.wait.bit_length(), SHORTEST_QUEUE)
        self.latency = self.wait + 1
        members = {"i": In(stream.Signature(chunk_layout(design))), "table": In(stream.Signature(table_layout(design))),
                   "o": Out(stream.Signature(word_layout(design))), "busy": Out(1), "illegal": Out(1)}
        if self.scale:
            members["second"] = In(stream.Signature(second_layout(design)))
        if design.scale == "table8":
            members["level"] = In(stream.Signature(level_layout(design)))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"output": d.output.name, "lanes": d.lanes, "code_bits": d.code_bits, "tables": d.tables,
                "scale": d.scale, "offset": d.offset, "word_bits": d.word_bits, "store": d.store, "depth": self.depth}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, i = self.design, self.i
        self.leaves = Signal()   # the oldest chunk goes to the word register
        kept = data.StructLayout({name: field.shape for name, field in chunk_layout(design)
                                  if name not in ("scale", "renew")})
        m.submodules.chunks = chunks = shared(Queue(kept, self.depth))
        accept = i.valid & i.ready
        room: Value = chunks.i.ready
        if self.scale:
            renews = i.payload.first & i.payload.renew
            m.d.comb += self.second.ready.eq(i.valid & renews & chunks.i.ready)
            room = room & (~renews | self.second.valid)
        chunk = Signal(kept, name="chunk_in")
        m.d.comb += [i.ready.eq(room), chunks.i.valid.eq(accept), chunks.i.payload.eq(chunk),
                     *(chunk[name].eq(i.payload[name]) for name in kept.members)]

        # Blocks that have begun and not ended, and what can be wrong with them.
        inside = Signal()
        with m.If(accept):
            m.d.sync += inside.eq(~i.payload.last)
        m.d.comb += self.busy.eq(inside | chunks.o.valid | self.o.valid)
        wrong = accept & (i.payload.first == inside)
        tables = self._tables(m, chunks.o.payload)
        if design.select_bits and design.tables < 1 << design.select_bits:
            wrong = wrong | (accept & i.payload.first & (i.payload.table >= design.tables)) \
                | (tables.write & (self.table.payload.table >= design.tables))
        with m.If(wrong):
            m.d.sync += self.illegal.eq(1)

        scale = self._scales(m, accept, chunks.o.payload.first) if design.scale_bits else None
        self._words(m, chunks.o, tables.entries, scale)
        return m

    def _tables(self, m: Module, chunk: data.View) -> CodebookTables:
        """The tables, looked up for the chunk that leaves next."""
        design, write = self.design, self.table
        m.submodules.tables = tables = shared(CodebookTables(design))
        m.d.comb += [tables.codes.eq(chunk.codes.as_value()), tables.write.eq(write.valid & write.ready),
                     tables.write_code.eq(write.payload.code), tables.write_entry.eq(write.payload.entry),
                     write.ready.eq(~self.busy)]
        if design.select_bits:
            # A block's later chunks are looked up in the table of its first.
            held = Signal(design.select_bits, name="table_q")
            select = Signal(design.select_bits, name="table_now")
            m.d.comb += [select.eq(Mux(chunk.first, chunk.table, held)), tables.table.eq(select),
                         tables.write_table.eq(write.payload.table)]
            with m.If(self.leaves):
                m.d.sync += held.eq(select)
        return tables

    def _scales(self, m: Module, accept: Value, wanted: Value) -> Queue:
        """Queue of the scales of blocks whose first chunk is under way."""
        m.submodules.scales = scales = shared(Queue(32, self.depth))
        begins = accept & self.i.payload.first
        m.d.comb += scales.o.ready.eq(self.leaves & wanted)
        if self.scale is None:
            m.d.comb += [scales.i.valid.eq(begins), scales.i.payload.eq(self.i.payload.scale)]
            return scales
        m.submodules.scale = decoder = shared(self.scale)
        code, second = Signal(8, name="code", reset_less=True), Signal(second_layout(self.design), name="second_q")
        with m.If(begins):
            m.d.sync += code.eq(self.i.payload.scale)
            with m.If(self.i.payload.renew):
                m.d.sync += second.eq(self.second.payload)
        m.d.comb += [decoder.code.eq(code), decoder.step.eq(second.step)]
        if self.design.offset:
            m.d.comb += decoder.offset.eq(second.offset)
        if self.design.scale == "table8":
            m.d.comb += [decoder.write.eq(self.level.valid & self.level.ready), self.level.ready.eq(~self.busy),
                         decoder.write_code.eq(self.level.payload.code),
                         decoder.write_value.eq(self.level.payload.value)]
        under_way = Signal(1 + decoder.latency)
        m.d.sync += under_way.eq(Cat(begins, under_way))
        m.d.comb += [scales.i.valid.eq(under_way[-1]), scales.i.payload.eq(decoder.scale)]
        return scales

    def _words(self, m: Module, chunk, entries: Value, scales: Queue | None) -> None:
        """Chunks side by side in the word register, which offers itself when full or at the end of a block."""
        design, o, p = self.design, self.o, chunk.payload
        word = Signal(word_layout(design), name="word_q")
        there = ~p.first | scales.o.valid if scales is not None else Const(1, 1)
        m.d.comb += [self.leaves.eq(chunk.valid & there & (~o.valid | o.ready)), chunk.ready.eq(self.leaves),
                     o.payload.eq(word)]
        masked = Signal(design.chunk_bits, name="masked")
        bits = design.output.bits
        m.d.comb += masked.eq(Cat(entries.word_select(lane, bits) & p.mask[lane].replicate(bits)
                                  for lane in range(design.lanes)))
        at = Signal(range(design.chunks))
        fresh = at == 0
        full = (at == design.chunks - 1) | p.last
        with m.If(self.leaves):
            m.d.sync += [word.first.eq(p.first | (~fresh & word.first)), word.last.eq(p.last),
                         o.valid.eq(full), at.eq(Mux(full, 0, at + 1))]
            for place in range(design.chunks):
                part = word.word[place * design.chunk_bits:(place + 1) * design.chunk_bits]
                with m.If(at == place):
                    m.d.sync += part.eq(masked)
                with m.Elif(fresh):
                    m.d.sync += part.eq(0)
            if scales is not None:
                with m.If(p.first):
                    m.d.sync += word.scale.eq(scales.o.payload)
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
