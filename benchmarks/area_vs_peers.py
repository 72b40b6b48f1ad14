"""Area of one-lane exact units beside published open RTL, all under one synthesis script.

Every figure is measured: ours here and now, the peers' with the same commands on their own RTL (Yosys 0.70,
``synth_ecp5 -nodsp -nowidelut``; the sources are named in docs/microarchitecture.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=foundation ONLY=area_vs_peers"


@dataclass(frozen=True)
class Case:
    """One unit and the figures it is held against: LUT4, CCU2C and flip-flops on ECP5."""

    pe: str
    bits: int
    lut: float
    carry: float | None
    ff: int
    weighted: float | None = None  # limit of LUT4 + 2 * CCU2C
    depth: int = 1024
    specials: bool = True
    output: str | None = None
    ice40: int | None = None
    multiplier: str = "chains"
    note: str = ""

    @property
    def design(self) -> DotDesign:
        accumulator = Accumulator(depth=self.depth, bits=self.bits)
        return DotDesign.from_pe(self.pe, lanes=1, accumulator=accumulator, output=self.output,
                                 specials=self.specials, multiplier=self.multiplier)

    @property
    def label(self) -> str:
        label = f"{self.pe}, {self.bits}-bit accumulator"
        label += f", {self.output} output" if self.output else ""
        label += ", row adders in LUTs" if self.multiplier == "luts" else ""
        return label if self.specials else label + ", no NaN logic"


# The references and how they differ from ours in function.
SMALLER = "0.8 x LUT4, 0.85 x (LUT4 + 2 carry) of a verified reference MAC"
CASES = (
    Case("fp4", 20, 28, 10, 20, ice40=51, note="reference: table and folded sign, same function"),
    Case("int4", 20, 33, 14, 20, note="reference: product kept apart, same function"),
    Case("int8", 32, 168, 24, 32, multiplier="luts", note="reference: product kept apart, same function"),
    Case("posit8_0", 32, 0.8 * 236, 33, 33, 0.85 * (236 + 2 * 33), depth=127, note=SMALLER + " (236/33/33)"),
    Case("fp8_e4m3", 48, 0.8 * 129, 31, 48, 0.85 * (129 + 2 * 31), specials=False, note=SMALLER + " (129/31/48)"),
    Case("posit16_1", 128, 0.8 * 979, 101, 129, 0.85 * (979 + 2 * 101), multiplier="luts",
         note=SMALLER + " (979/101/129)"),
    Case("posit8_0", 32, 345, 46, 33, depth=127, output="posit8_0",
         note="Posit-FMA-Units FMA: rounds each step, pipelined (142 FF)"),
    Case("posit8_0", 32, 652, 76, 33, depth=127, output="posit8_0",
         note="Posit-FMA-Units quire MAC, pipelined (161 FF)"),
    Case("posit16_1", 128, 2844, 224, 129, output="posit16_1",
         note="Posit-FMA-Units quire MAC, pipelined (350 FF)"),
)
# Reference figures without a target in this project's plan: shown for orientation.
OTHERS = (
    Case("int8", 32, 168, None, 32, 168 + 2 * 24, note="the default: fewest LUT4 + 2 CCU2C, more carry cells"),
    Case("posit16_1", 128, 0.8 * 979, None, 129, 0.85 * (979 + 2 * 101),
         note="the default: fewest LUT4 + 2 CCU2C, more carry cells"),
    Case("fp8_e4m3", 48, 129, 31, 49, note="reference without NaN logic; ours with the sticky flag"),
    Case("posit4_1", 24, 31, 15, 24, depth=127, specials=False, note="reference without NaR flag"),
    Case("fp6_e2m3", 24, 66, 16, 24, note="reference sized, not bit-checked"),
    Case("fp6_e3m2", 32, 70, 19, 32, note="reference sized, not bit-checked"),
    Case("fp8_e5m2", 80, 157, 52, 80, specials=False, note="reference without NaN/Inf logic, sized only"),
)


def counts(design: DotDesign, target: str = "ecp5") -> tuple[int, int, int]:
    """LUTs, carry cells and flip-flops."""
    metrics = synthesise(to_verilog(DotUnit(design)), design.name, target)
    found = {metric.name: metric.value for metric in metrics.metrics}
    return int(found["lut"]), int(found.get("carry") or 0), int(found["ff"])


def run() -> list[Row]:
    rows = []
    for case in (*CASES, *OTHERS):
        lut, carry, ff = counts(case.design)
        row = {"command": COMMAND, "note": case.note}
        rows.append(Row(f"{case.label}: LUT4", lut, "LUT4", case.lut, **row))
        if case.carry is not None:
            rows.append(Row(f"{case.label}: carry", carry, "CCU2C", case.carry, **row))
        if case.weighted is not None:
            rows.append(Row(f"{case.label}: LUT4 + 2 carry", lut + 2 * carry, "cells", case.weighted, **row))
        rows.append(Row(f"{case.label}: flip-flops", ff, "FF", case.ff, **row))
        if case.ice40 is not None:
            rows.append(Row(f"{case.label}: iCE40 LUT4", counts(case.design, "ice40")[0], "LUT4", case.ice40, **row))
    for pe in ("fp4", "int4", "int8", "fp8_e4m3", "posit8_0", "posit16_1"):
        one = counts(DotDesign.from_pe(pe, lanes=1))
        four = counts(DotDesign.from_pe(pe, lanes=4))
        weight = [lut + 2 * carry for lut, carry, _ in (one, four)]
        rows.append(Row(f"{pe}: four lanes against four one-lane units", weight[1], "LUT4 + 2 CCU2C",
                        4 * weight[0] - 1, command=COMMAND,
                        note=f"one lane {one}, four lanes {four} (LUT4, CCU2C, FF)"))
    return rows
