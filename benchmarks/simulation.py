"""Speed of the two simulators on a 4-lane FP4 dot unit, and what building a unit costs."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.dot import trace
from bitkiln.report.table import Row, print_targets
from bitkiln.sim.batch import BatchModel, pack_lanes
from bitkiln.sim.dot_check import port_values
from bitkiln.sim.runner import run_bench

COMMAND = "make bench SUITE=foundation ONLY=simulation"
VECTORS = 4_000_000
CHECKED = 100_000
CYCLES = 60_000
BATCH_TARGET, COCOTB_TARGET, BUILD_TARGET = 2.0, 20_000, 4.0


def batch_rate(design: DotDesign) -> float:
    """Million vectors per CPU second, new operands each cycle, all outputs returned; the best of three.

    The first vectors are compared with the golden model, so that what is timed is also right.
    """
    model = BatchModel(design)
    rng = np.random.default_rng(1)
    a = rng.integers(0, 1 << design.activation.bits, (VECTORS, design.lanes))
    w = rng.integers(0, 1 << design.weight.bits, (VECTORS, design.lanes))
    clear = rng.random(VECTORS) < 0.01
    clear[0] = True
    inputs = {"a": pack_lanes(a, design.activation.bits), "w": pack_lanes(w, design.weight.bits),
              "en": np.ones(VECTORS, bool), "clear": clear}
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        outputs = model.run(inputs)
        best = min(best, time.process_time() - start)
    part = slice(0, CHECKED)
    golden = port_values(trace(design, a[part], w[part], inputs["en"][part], clear[part]), model.outputs)
    for name, wanted in golden.items():
        if not np.array_equal(outputs[name][part], wanted):
            raise BitkilnError("RTL and golden model differ", where=f"{design.name}.{name}", exit_code=FAILED)
    return VECTORS / best / 1e6


def cocotb_rate(design: DotDesign) -> tuple[float, int]:
    """Cycles per CPU second of the simulator process (new operands and a check every cycle), and vectors."""
    result = run_bench(DotUnit(design), "bitkiln.sim.benches.dot", seed=1, waves=False,
                       parameters={"design": design, "cycles": CYCLES, "seed": 1})
    return result.cycles / result.facts["cpu_seconds"], result.vectors


def build_seconds(design: DotDesign) -> tuple[float, float]:
    """Seconds to build a batch model in an empty cache, and those of another one once the runtime is there."""
    before = os.environ.get("BITKILN_BUILD")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BITKILN_BUILD"] = folder
        try:
            seconds = []
            for lanes in (design.lanes, design.lanes + 1):
                start = time.perf_counter()
                BatchModel(design.with_options(lanes=lanes))
                seconds.append(time.perf_counter() - start)
        finally:
            if before is None:
                del os.environ["BITKILN_BUILD"]
            else:
                os.environ["BITKILN_BUILD"] = before
    return seconds[0], seconds[1]


def run() -> list[Row]:
    design = DotDesign.from_pe("fp4", lanes=4)
    cold, warm = build_seconds(design)
    rate, vectors = cocotb_rate(design)
    return [
        Row("batch simulation, 4-lane fp4", round(batch_rate(design), 1), "million vectors / CPU s", BATCH_TARGET,
            "higher", COMMAND, f"{VECTORS:,} cycles, all outputs kept, first {CHECKED:,} equal to golden"),
        Row("cocotb, 4-lane fp4", round(rate), "cycles / CPU s", COCOTB_TARGET, "higher", COMMAND,
            f"new operands and a check every cycle, {vectors:,} checked; without the simulator's start"),
        Row("build of a batch model, runtime cached", round(warm, 2), "s", BUILD_TARGET, "lower", COMMAND,
            "elaboration, Verilog, Verilator, compiler"),
        Row("build of the first batch model, empty cache", round(cold, 2), "s", command=COMMAND,
            note="with the Verilator runtime"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None, help="also write the rows to this file")
    passed = print_targets(run(), parser.parse_args().json, title="simulation")
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
