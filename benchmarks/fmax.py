"""Post-route Fmax of pipelined units on ECP5 (LFE5U-25F, speed grade 6, out of context, median of 5 seeds)."""

from __future__ import annotations

from bitkiln.flow.pnr import place_and_route
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import DotDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=foundation ONLY=fmax"
PIPELINE = 4
TARGETS = {"fp4": 150, "fp6_e2m3": 150, "fp6_e3m2": 150, "int4": 150, "int8": 150, "fp8_e4m3": 150, "fp8_e5m2": 150,
           "posit4_1": 150, "posit8_0": 150, "ternary": 150, "int8xfp4": 150, "posit16_1": 100}


def run() -> list[Row]:
    rows = []
    for pe, goal in TARGETS.items():
        for lanes in (1, 4):
            design = DotDesign.from_pe(pe, lanes=lanes, pipeline=PIPELINE)
            metrics = place_and_route(to_verilog(DotUnit(design)), design.name, "ecp5", seeds=(1, 2, 3, 4, 5))
            metric = metrics.metrics[0]
            rows.append(Row(f"{pe}, {lanes} lane{'s' * (lanes > 1)}, pipeline {PIPELINE}", metric.value, "MHz", goal,
                            "higher", COMMAND, metric.note))
    return rows
