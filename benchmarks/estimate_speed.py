"""How many dot units a second are estimated: area with its interval, cycles and their product, on one core."""

from __future__ import annotations

import time

import numpy as np

from bitkiln.flow.samples import PAIRS
from bitkiln.models.cost.area.area import area_estimate
from bitkiln.models.cost.area.grid import unit_grid
from bitkiln.models.cost.mapping import map_layer
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.workloads.shapes_registry import get_workload
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=estimate_speed"
TARGET = 50_000         # estimates a second
WORKLOAD = "digits-cnn"
LANES, DEPTHS, PIPELINES = tuple(range(1, 17)), (64, 128, 256, 512, 1024, 2048, 4096, 16384), (0, 1, 2, 3, 4)
ROUNDS, SAMPLE = 3, 200


def run() -> list[Row]:
    name, workload = "ecp5", get_workload(WORKLOAD)
    pairs = tuple(pair for pair in PAIRS if not {"fp16", "bf16"} & set(pair.split("x")))    # exact sums only
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        grid = unit_grid(name, pairs, LANES, DEPTHS, PIPELINES, workload)
        times.append(time.process_time() - started)
    size = grid["area"].size
    note = f"{size} units of {len(pairs)} pairs of formats on {name}, processor time of one process"
    worst, compared, single = _single(name, pairs, grid, workload)
    return [Row("estimates in a grid, first call", size / times[0], "1/s", TARGET, better="higher",
                command=COMMAND, note=note),
            Row("estimates in a grid, formats known", size / min(times[1:]), "1/s", TARGET, better="higher",
                command=COMMAND, note=note),
            Row("estimates one by one", single, "1/s", command=COMMAND, note="area_estimate and map_layer"),
            Row("largest difference between the two", worst, "relative", 1e-9, command=COMMAND,
                note=f"{compared} of {SAMPLE} units drawn from the grid have an area")]


def _single(name: str, pairs: tuple[str, ...], grid: dict[str, np.ndarray], workload
            ) -> tuple[float | None, int, float]:
    """Largest relative difference of areas, intervals and cycles (None where none has an area), units that have an
    area, and single estimates a second."""
    random = np.random.default_rng(1)
    worst, spent, compared = 0.0, 0.0, 0
    for _ in range(SAMPLE):
        at = tuple(int(random.integers(size)) for size in grid["area"].shape)
        started = time.process_time()
        unit = DotDesign.from_pe(pairs[at[0]], lanes=LANES[at[1]], accumulator=Accumulator(depth=DEPTHS[at[2]]),
                                 pipeline=PIPELINES[at[3]])
        one = area_estimate(unit, name)
        cycles = sum(map_layer(unit, layer).cycles for layer in workload.layers)
        spent += time.process_time() - started
        compared += one.value is not None
        for value, key in ((one.value, "area"), (one.low, "low"), (one.high, "high"), (cycles, "cycles")):
            if (value is None) != bool(np.isnan(grid[key][at])):
                return float("inf"), compared, SAMPLE / spent
            if value:
                worst = max(worst, abs(grid[key][at] / value - 1))
    return float(worst) if compared else None, compared, SAMPLE / spent
