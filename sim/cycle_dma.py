"""Random jobs from memory through the core with an AXI4 master; what each took beside its cycle model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitkiln.models.cost.cycles.dma import MemoryJob
from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.registers import core_registers
from bitkiln.models.errors import FAILED, BitkilnError

from .core_run import CoreModel, place_job, random_job
from .cycle_record import CycleRun, record

__all__ = ["memory_run", "memory_runs"]

COUNTERS = ("COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN", "STALL_C", "STALL_OUT", "MACS")
SIZE = 20               # largest M, K and N
MEMORY = 1 << 20
STEP, PATIENCE = 500, 400


def memory_run(model: CoreModel, rng: np.random.Generator, **fixed) -> CycleRun:
    """One random job after a reset, its results in memory checked; ``fixed`` as of `random_job`."""
    design: MatmulDesign = model.design
    registers = core_registers(design)

    def read(name: str) -> int:
        return model.read(registers[name].offset)[1]

    model.reset()       # whose turn it is on the bus would stay from the job before
    case = random_job(design, rng, **{"size": SIZE, **fixed})
    placed = place_job(design, case, int(rng.integers(64)) * 64, rng)
    for address, data in placed.pieces:
        model.memory_write(address, data)
    model.write(registers["CTRL"].offset, registers["CTRL"].pack(clear_counters=1))
    for address, value in [*placed.writes(design), (registers["CTRL"].offset, registers["CTRL"].pack(start=1))]:
        model.write(address, value)
    for _ in range(PATIENCE):
        model.step(STEP)
        if read("JOBS_DONE"):
            break
    address, wanted = placed.results
    if not np.array_equal(model.memory_read(address, len(wanted)), wanted):
        raise BitkilnError("core and golden model differ", where=str(case.job), got="other bytes in memory",
                           expected="the golden results", exit_code=FAILED)
    seen = {name: read(name) for name in COUNTERS if name in registers}
    job = case.job
    return record("matmul_core_dma", design, MemoryJob(job, placed.registers), read("CYCLES"), None, seen,
                  shape=(job.mode, job.m, job.k, job.n, job.order, job.rule, job.output, job.block))


def memory_runs(design: MatmulDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Random jobs, each alone, from a memory that answers at once."""
    model = CoreModel(design, memory=MEMORY)
    for _ in range(jobs):
        yield memory_run(model, rng)
    model.check_protocol()
