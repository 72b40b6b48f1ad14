"""Steady-state utilisation of the core's RTL, and the closed form of its cycles against its counters.

The bus feeds the array: one operand is held, the other needs its columns' words each cycle, so ``bus_bits`` is 16 times
the columns. First fill and last drain are reported apart.
"""

from __future__ import annotations

import numpy as np

from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.design import ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import core_registers
from bitkiln.models.golden.matmul import matmul
from bitkiln.report.table import Row
from bitkiln.sim.core_run import CoreModel, JobCase, random_job, run_job

COMMAND = "make bench SUITE=matmul ONLY=core_utilisation"
SEED = 11
MODES = ("fp4", "posit8_0", "int8")
SHAPES = 200
COUNTERS = ("CYCLES", "COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN", "MACS")


def core(rows: int, columns: int, **options) -> MatmulDesign:
    options = {"bus_bits": 16 * columns, "k_words": 256, **options}
    return MatmulDesign(ArrayDesign(rows, columns, MorphableDesign(MODES)), **options)


def counters(model: CoreModel, case: JobCase) -> dict[str, int]:
    """Counters of one job alone, its result beats checked."""
    registers = core_registers(model.design)
    model.write(registers["CTRL"].offset, registers["CTRL"].pack(clear_counters=1))
    run_job(model, case)
    return {name: model.read(registers[name].offset)[1] for name in COUNTERS}


def dense(design: MatmulDesign, mode: str, words: int, tiles: int, rng: np.random.Generator) -> JobCase:
    """A job of whole tiles: ``tiles`` rows of tiles by as many columns."""
    chosen = design.pe.modes[design.pe.index(mode)]
    output = {"rule": "integer", "output": "int8", "scale": 1 << 20, "shift": 30} if chosen.name == "int8" else \
        {"rule": "float", "output": mode, "scale": 2.0 ** -4}
    job = Job(mode, design.rows * tiles, words * chosen.lanes, design.columns * tiles, **output).check(design)
    a, w = (rng.integers(0, 1 << fmt.bits, (count, job.k)) for fmt, count in
            ((chosen.activation, job.m), (chosen.weight, job.n)))
    result = matmul(design, job, a, w)
    return JobCase(job, a, w, None, None, None, None, result.codes, bool(result.invalid.any()),
                   bool(np.any(result.overflow)))


def run() -> list[Row]:
    rows, rng = [], np.random.default_rng(SEED)
    for size in (4, 8):
        design = core(size, size)
        model = CoreModel(design)
        for mode in MODES:
            case = dense(design, mode, max(64, size), 4, rng)
            seen, wanted = counters(model, case), matmul_cycles(design, case.job)
            steady = seen["CYCLES"] - wanted.fill - wanted.drain
            used = seen["MACS"] / (wanted.peak * steady)
            rows.append(Row(f"{size}x{size}, {mode}, 16 tiles of {max(64, size)} words: utilisation", round(used, 4),
                            "of peak MACs", 0.95, "higher", COMMAND,
                            f"bus {design.bus_bits} bits per operand and cycle; {seen['CYCLES']} cycles, of which "
                            f"first fill {wanted.fill}, last drain {wanted.drain}"))
    design = core(3, 4, bus_bits=64, k_words=64)
    model = CoreModel(design)
    different = 0
    for _ in range(SHAPES):
        case = random_job(design, rng)
        seen, wanted = counters(model, case), matmul_cycles(design, case.job)
        different += tuple(seen.values()) != (wanted.cycles, wanted.compute, wanted.stall_a, wanted.stall_w,
                                              wanted.stall_drain, wanted.macs)
    rows.append(Row(f"closed form against the RTL's counters, {SHAPES} random shapes and modes: different", different,
                    "jobs", 0, command=COMMAND, note=f"seed {SEED}; more cores: tests/sim/test_core_cycles.py"))
    return rows
