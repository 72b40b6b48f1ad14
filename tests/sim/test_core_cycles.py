"""Closed form of the core's cycles against its own counters, streams always ready; results checked on the way."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.design import Accumulator, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import core_registers
from bitkiln.sim.core_run import CoreModel, random_job, run_job

SEED = 7
COUNTERS = ("CYCLES", "COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN", "MACS")


def core(rows, columns, modes, *, kind="exact", links="broadcast", pipeline=0, **options) -> MatmulDesign:
    pe = MorphableDesign(modes, Accumulator(kind), pipeline=pipeline)
    return MatmulDesign(ArrayDesign(rows, columns, pe, links=links), **options)


SMALL = core(2, 2, ("int8", "int8xint4"), k_words=16, bus_bits=32)
# Other bus widths, lanes, links, queues, wide results, blocks.
OTHERS = {
    "blocks": core(3, 4, ("fp4", "fp8_e4m3"), k_words=64, output_lanes=2, block=("mxfp4", "nvfp4", "mxfp8_e4m3")),
    "systolic": core(3, 2, ("int4", "int8"), kind="int32", links="systolic", k_words=32, queue=1),
    "wide": core(2, 4, ("posit8_0", "posit16_1"), k_words=16, bus_bits=32, output_lanes=4),
    "pipelined": core(4, 3, ("int8", "int4"), pipeline=3, k_words=256, bus_bits=128, rules=("raw", "integer")),
    "fp32": core(2, 2, ("bf16", "int8"), kind="fp32", k_words=32, bus_bits=128),
    # One group a tile of several beats: jobs without blocks must not wait as blocks do.
    "raw": core(1, 1, ("fp8_e5m2",), k_words=16, bus_bits=32, rules=("raw",), block=("mxfp8_e5m2",)),
}


def compare(design: MatmulDesign, jobs: int, size: int) -> None:
    print(f"seed {SEED}")
    model, rng, registers = CoreModel(design), np.random.default_rng(SEED), core_registers(design)
    for _ in range(jobs):
        case = random_job(design, rng, size=size)
        model.write(registers["CTRL"].offset, registers["CTRL"].pack(clear_counters=1))
        run_job(model, case)
        seen = tuple(model.read(registers[name].offset)[1] for name in COUNTERS)
        wanted = matmul_cycles(design, case.job)
        assert seen == (wanted.cycles, wanted.compute, wanted.stall_a, wanted.stall_w, wanted.stall_drain,
                        wanted.macs), case.job


def test_counters_equal_the_model():
    compare(SMALL, 120, 24)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_counters_equal_the_model_of_other_cores(name):
    compare(OTHERS[name], 100, 70)
