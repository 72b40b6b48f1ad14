"""Emission of a large array: identical units are converted and written once."""

from __future__ import annotations

import time

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.emit import shared, to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import DotDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=foundation ONLY=hierarchy"


class DotGrid(wiring.Component):
    """``rows`` x ``columns`` dot units; activations along the rows, weights along the columns."""

    reset_less = True

    def __init__(self, design: DotDesign, rows: int, columns: int):
        self.design, self.rows, self.columns = design, rows, columns
        super().__init__({
            "a": In(rows * design.lanes * design.activation.bits),
            "w": In(columns * design.lanes * design.weight.bits),
            "en": In(1), "clear": In(1),
            "acc": Out(rows * columns * design.accumulator_bits),
        })

    @property
    def module_name(self) -> str:
        return f"grid_{self.rows}x{self.columns}_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        results = []
        for row in range(self.rows):
            for column in range(self.columns):
                m.submodules[f"unit_{row}_{column}"] = unit = shared(DotUnit(self.design))
                m.d.comb += [unit.a.eq(self.a.word_select(row, len(unit.a))),
                             unit.w.eq(self.w.word_select(column, len(unit.w))),
                             unit.en.eq(self.en), unit.clear.eq(self.clear)]
                results.append(unit.acc)
        m.d.comb += self.acc.eq(Cat(results))
        return m


def run() -> list[Row]:
    start = time.perf_counter()
    text = to_verilog(DotGrid(DotDesign.from_pe("fp4"), 32, 32))
    seconds = time.perf_counter() - start
    modules = text.count("\nendmodule")
    return [Row("32 x 32 FP4 dot units: Verilog written", round(seconds, 2), "s", 10, command=COMMAND),
            Row("32 x 32 FP4 dot units: modules", modules, "modules", 19, command=COMMAND)]
