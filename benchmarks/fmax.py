"""Post-route Fmax of pipelined units on ECP5 (LFE5U-25F, speed grade 6, out of context, median of 5 seeds)."""

from __future__ import annotations

from bitkiln.flow.pnr import place_and_route
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import MAX_PIPELINE, DotDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=foundation ONLY=fmax"
# Lanes -> pipeline depth: one lane has no adder tree, and the two stages of the tree would only delay it.
PIPELINE = {1: 4, 4: MAX_PIPELINE}
SEEDS = (1, 2, 3, 4, 5)
SMALL, WIDE = 150, 100  # MHz
TARGETS = {**dict.fromkeys(("fp4", "fp6_e2m3", "fp6_e3m2", "int4", "int8", "fp8_e4m3", "fp8_e5m2", "posit4_1",
                            "posit8_0", "ternary", "int8xfp4", "int8xternary", "fp8_e4m3xfp4"), SMALL),
           "posit16_1": WIDE, "int16": WIDE}


def run() -> list[Row]:
    rows = []
    for pe, goal in TARGETS.items():
        for lanes, depth in PIPELINE.items():
            design = DotDesign.from_pe(pe, lanes=lanes, pipeline=depth)
            metrics = place_and_route(to_verilog(DotUnit(design)), design.name, "ecp5", seeds=SEEDS)
            metric = metrics.metrics[0]
            area = ", ".join(f"{metrics.cells.get(cell, 0)} {cell}" for cell in ("TRELLIS_COMB", "TRELLIS_FF"))
            note = f"{metric.note}, +-{metric.error} MHz; {area}, these registers included"
            rows.append(Row(f"{pe}, {lanes} lane{'s' * (lanes > 1)}, pipeline {depth}", metric.value, "MHz", goal,
                            "higher", COMMAND, note))
    return rows
