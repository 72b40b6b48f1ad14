"""How far synthesis itself is from any smooth model: the same unit with its accumulator one bit wider, eight times.

Each unit's area against the width of its accumulator should be a line: one more bit of adder and of register. What is
left beside the best line is the mapper's (ABC restructures a netlist anew for every width), and bounds the error of a
model that knows a design's structure and not the mapper's choices. Libraries as in `energy_reference`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from bitkiln.flow.calibrate import measure_sample
from bitkiln.flow.samples import Sample
from bitkiln.models.cost.area.area import technology
from bitkiln.models.cost.area.calibration import measured
from bitkiln.report.table import Row

from .energy_reference import libraries

COMMAND = "make bench SUITE=pareto ONLY=area_scatter"
UNITS = ("int4", "e1m2", "fp4", "int6", "fp6_e3m2xfp4", "posit8_0", "int8")
DEPTHS = tuple(1 << n for n in range(6, 15))
LIBRARIES = ("osu018", "sky130hd")      # beside ECP5: the one that misses its target, and one that does not


def unit_area(name: str, liberty: list[Path], pe: str, depth: int) -> float:
    """Area of a unit of two lanes in a technology."""
    keys = {"engine": "dot_unit", "pe": pe, "lanes": 2, "accumulator.depth": depth}
    return technology(name).total(measured(measure_sample(Sample("pe", keys, False), name, liberty), name))


def scatter(areas: np.ndarray) -> np.ndarray:
    """Relative distance of areas at widths one bit apart from the line through them."""
    bits = np.arange(len(areas))
    return np.abs(np.polyval(np.polyfit(bits, areas, 1), bits) / areas - 1)


def run() -> list[Row]:
    rows = []
    known = libraries()
    for name, liberty in {"ecp5": [], **{name: known[name] for name in LIBRARIES if name in known}}.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:        # each synthesis is a process
            areas = list(pool.map(lambda given, name=name, liberty=liberty: unit_area(name, liberty, *given),
                                  product(UNITS, DEPTHS)))
        found = {pe: scatter(each) for pe, each in zip(UNITS, np.reshape(areas, (len(UNITS), -1)), strict=True)}
        worst = max(found, key=lambda pe: found[pe].max())
        every = np.concatenate(list(found.values()))
        rows.append(Row(f"{name}: area beside a line in the accumulator's bits, mean (worst in the note)",
                        round(100 * float(every.mean()), 2), "%", None, "lower", COMMAND,
                        f"{len(UNITS)} units, {len(DEPTHS)} widths; worst {100 * found[worst].max():.1f} %: {worst}"))
    return rows
