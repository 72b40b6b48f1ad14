"""How far synthesis itself is from any smooth model: the same unit with its accumulator one bit wider, eight times.

Each unit's area against the width of its accumulator should be a line: one more bit of adder and of register. What is
left beside the best line is the mapper's (ABC restructures a netlist anew for every width), and bounds the error of a
model that knows a design's structure and not the mapper's choices. Libraries as in `energy_reference`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from bitkiln.config import load_design
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.report.table import Row

from .energy_reference import libraries

COMMAND = "make bench SUITE=pareto ONLY=area_scatter"
UNITS = ("int4", "e1m2", "fp4", "int6", "fp6_e3m2xfp4", "posit8_0", "int8")
DEPTHS = tuple(1 << n for n in range(6, 15))
PERIOD_PS = 1000
LIBRARIES = ("osu018", "sky130hd")      # beside ECP5: the one that misses its target, and one that does not


def unit_area(pe: str, depth: int, liberty: list) -> float:
    """Area of a unit of two lanes: LUT4 + 2 CCU2C on ECP5 (no liberty), else um2."""
    keys = {"engine": "dot_unit", "pe": pe, "lanes": 2, "accumulator.depth": depth}
    resolved = load_design(cli={key: (value, "benchmark") for key, value in keys.items()})
    verilog = to_verilog(resolved.component(), resolved.name)
    found = synthesise(verilog, resolved.name, "asic", liberty=liberty, period_ps=PERIOD_PS) if liberty else \
        synthesise(verilog, resolved.name, "ecp5")
    values = {metric.name: metric.value for metric in found.metrics}
    return values["area"] if liberty else values["lut"] + 2 * values["carry"]


def scatter(areas: np.ndarray) -> np.ndarray:
    """Relative distance of areas at widths one bit apart from the line through them."""
    bits = np.arange(len(areas))
    return np.abs(np.polyval(np.polyfit(bits, areas, 1), bits) / areas - 1)


def run() -> list[Row]:
    rows = []
    known = libraries()
    for name, liberty in {"ecp5": [], **{name: known[name] for name in LIBRARIES if name in known}}.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:        # each synthesis is a process
            areas = list(pool.map(lambda given, liberty=liberty: unit_area(*given, liberty), product(UNITS, DEPTHS)))
        found = {pe: scatter(each) for pe, each in zip(UNITS, np.reshape(areas, (len(UNITS), -1)), strict=True)}
        worst = max(found, key=lambda pe: found[pe].max())
        every = np.concatenate(list(found.values()))
        rows.append(Row(f"{name}: area beside a line in the accumulator's bits, mean (worst in the note)",
                        round(100 * float(every.mean()), 2), "%", None, "lower", COMMAND,
                        f"{len(UNITS)} units, {len(DEPTHS)} widths; worst {100 * found[worst].max():.1f} %: {worst}"))
    return rows
