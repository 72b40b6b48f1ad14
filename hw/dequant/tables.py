"""Tables of a codebook dequantiser: written entry by entry, read by all lanes at once.

Two stores with the same ports. ``lutram``: a memory with a read port for each lane, of which FPGA tools make a copy
for each lane. ``registers``: flip-flops; the block's table is chosen once, then each lane has a multiplexer of 16 (or
8) entries. The whole dequantiser, four lanes of fp16 without scales, one table | eight (Yosys 0.70):

=============  =======================================================  ====================================
store          ECP5                                                     two-input gates + flip-flops
=============  =======================================================  ====================================
``lutram``     79 LUT4, 73 FF, 22 DPR16X4 | 537, 76, 135                1113 + 373 | 11522 + 2174
``registers``  864 LUT4, 329 FF, 6 DPR16X4 | 3468, 2124, 7              1133 + 373 | 3972 + 2174
=============  =======================================================  ====================================

A memory for each bit of an entry instead (bit-sliced) is never smaller: Yosys makes flip-flops of it on ECP5, and 64
RAM32M16 instead of 8 on UltraScale+.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.codebook import CodebookDesign

__all__ = ["CodebookTables"]


def _chosen(select: Value, values: list[Value]) -> Value:
    """``values[select]`` by a tree of two-way multiplexers; 0 beyond the last."""
    for bit in select:
        pairs = [(values[at], values[at + 1] if at + 1 < len(values) else 0) for at in range(0, len(values), 2)]
        values = [Mux(bit, high, low) for low, high in pairs]
    return values[0]


class CodebookTables(wiring.Component):
    """All tables; entries are 0 until written, and survive a reset.

    Parameters
    ----------
    design : CodebookDesign

    Members
    -------
    table : In(select_bits), with several tables
        Of this chunk; one that is not there reads as zeros.
    codes : In(lanes * code_bits); entries : Out(lanes * output bits)
        Combinational, lane 0 in the least significant bits.
    write_table : In(select_bits), with several tables
    write_code : In(code_bits); write_entry : In(output bits); write : In(1)
        One entry at the next edge. A table that is not there takes nothing.
    """

    reset_less = True

    def __init__(self, design: CodebookDesign):
        self.design = design
        members = {"codes": In(design.lanes * design.code_bits), "entries": Out(design.chunk_bits),
                   "write_code": In(design.code_bits), "write_entry": In(design.output.bits), "write": In(1)}
        if design.select_bits:
            members.update(table=In(design.select_bits), write_table=In(design.select_bits))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        d = self.design
        return f"tables_{d.store}_{d.tables}x{d.entries}x{d.output.bits}_l{d.lanes}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        codes = [self.codes.word_select(lane, design.code_bits) for lane in range(design.lanes)]
        written = Cat(self.write_code, self.write_table) if design.select_bits else self.write_code
        there = self.write_table < design.tables if design.select_bits else 1
        if design.store == "registers":
            entries = self._registers(m, codes, written)
        else:
            # Of a power of two, so that the address of a table that is not there reads as what was never written.
            m.submodules.memory = memory = Memory(shape=design.output.bits, init=[],
                                                  depth=design.entries << design.select_bits)
            port = memory.write_port()
            m.d.comb += [port.addr.eq(written), port.en.eq(self.write & there), port.data.eq(self.write_entry)]
            entries = []
            for code in codes:
                read = memory.read_port(domain="comb")
                m.d.comb += read.addr.eq(Cat(code, self.table) if design.select_bits else code)
                entries.append(read.data)
        m.d.comb += self.entries.eq(Cat(*entries))
        return m

    def _registers(self, m: Module, codes: list[Value], written: Value) -> list[Value]:
        design = self.design
        tables: list[list[Value]] = []
        for table in range(design.tables):
            tables.append([])
            for entry in range(design.entries):
                held = Signal(design.output.bits, name=f"table{table}_{entry}", reset_less=True)
                with m.If(self.write & (written == table * design.entries + entry)):
                    m.d.sync += held.eq(self.write_entry)
                tables[-1].append(held)
        chosen = tables[0]
        if design.select_bits:
            chosen = []
            for entry in range(design.entries):
                value = Signal(design.output.bits, name=f"chosen{entry}")
                m.d.comb += value.eq(_chosen(self.table, [table[entry] for table in tables]))
                chosen.append(value)
        return [_chosen(code, chosen) for code in codes]
