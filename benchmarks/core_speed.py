"""How long it takes to make and to simulate arrays and cores."""

from __future__ import annotations

import os
import resource
import tempfile
import time

import numpy as np

from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.array import MatmulArray
from bitkiln.hw.mac.core import MatmulCore
from bitkiln.models.design import XR_NPE_MODES, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.report.table import Row
from bitkiln.sim.core_run import CoreModel, random_job, run_job
from bitkiln.sim.runner import run_bench

COMMAND = "make bench SUITE=matmul ONLY=core_speed"
SEED = 5


def _emission() -> Row:
    start = time.perf_counter()
    text = to_verilog(MatmulArray(ArrayDesign(16, 16, MorphableDesign(XR_NPE_MODES))))
    return Row("Verilog of a 16x16 array of XR-NPE modes", round(time.perf_counter() - start, 1), "s", 30,
               command=COMMAND, note=f"{text.count(chr(10) + 'endmodule')} modules, {len(text) / 1e6:.2f} MB")


def _build_and_run(jobs: int) -> list[Row]:
    design = MatmulDesign(ArrayDesign(4, 4, MorphableDesign(XR_NPE_MODES)))
    kept = os.environ.get("BITKILN_BUILD")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BITKILN_BUILD"] = folder   # nothing from before
        try:
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            model = CoreModel(design)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        finally:
            os.environ.pop("BITKILN_BUILD") if kept is None else os.environ.update(BITKILN_BUILD=kept)
    rows = [Row("simulation model of a 4x4 core of XR-NPE modes, from nothing", round(seconds, 1), "s", 180,
                command=COMMAND,
                note=f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.0f} CPU s of children")]
    rng = np.random.default_rng(SEED)
    cases = [random_job(design, rng) for _ in range(jobs)]
    first, start = model.cycles, time.perf_counter()
    for case in cases:
        run_job(model, case)
    speed = (model.cycles - first) / (time.perf_counter() - start)
    rows.append(Row("C++ path, random jobs", round(speed), "cycles/s", None, command=COMMAND,
                    note=f"{jobs} jobs, {model.cycles - first:,} cycles, results compared"))
    return rows


def _cocotb() -> Row:
    """Simulated cycles by CPU time of the bench process, start-up apart."""
    design = MatmulDesign(ArrayDesign(4, 4, MorphableDesign(XR_NPE_MODES)))
    result = run_bench(MatmulCore(design), "bitkiln.sim.benches.matmul_core", seed=SEED,
                       parameters={"design": design, "seed": SEED, "jobs": 20, "size": 40})
    return Row("cocotb bench of a 4x4 core, every channel through cocotbext-axi",
               round(result.cycles / result.facts["cpu_seconds"]), "cycles/s", 2000, "higher", COMMAND,
               f"{result.cycles:,} cycles, {result.vectors:,} results compared; CPU time")


def run() -> list[Row]:
    return [_emission(), *_build_and_run(100), _cocotb()]
