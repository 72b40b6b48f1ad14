"""Cycles of a workload's layers on the RTL: what the cycle models predicted, simulated for one design.

Streams are always ready, as in the models. A dot unit takes a layer's dot products back to back; of a long layer only
some are simulated, and the rest counted by the period that every one of those had. A core runs the layer's jobs, each
alone, with random operands, and its results are compared with the golden model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitkiln.hw.mac.stream import StreamDotUnit
from bitkiln.models.cost.mapping import core_jobs
from bitkiln.models.design import DotDesign, Job, MatmulDesign
from bitkiln.models.design.registers import core_registers
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.workloads.shapes import LayerShape

from .bitserial_check import pack_bits
from .core_run import CoreModel, random_job, run_job
from .streams import StreamModel

__all__ = ["MAX_CYCLES", "LayerCycles", "layer_cycles"]

MAX_CYCLES = 200_000        # of one job, or simulated dot products
LEAST_SUMS = 8              # of which a period is read
SEED = 1


@dataclass(frozen=True)
class LayerCycles:
    """One layer.

    Attributes
    ----------
    cycles : int or None
        Of all its jobs; None where it was not simulated.
    note : str
        What was simulated, or why it was not.
    """

    cycles: int | None
    note: str


def layer_cycles(design: object, layers: Sequence[tuple[LayerShape, str]], limit: int = MAX_CYCLES
                 ) -> list[LayerCycles]:
    """Simulate layers.

    Parameters
    ----------
    design : DotDesign or MatmulDesign
        Other engines have no stream interface that says when a job begins and ends: their layers come back as not
        simulated (`cycle_check` compares them job by job).
    layers : sequence of (LayerShape, str)
        With their modes.
    limit : int
        Longest job that is simulated [cycles].

    Raises
    ------
    BitkilnError
        Results that differ from the golden model; exit code 3 without Verilator or a C++ compiler.
    """
    known: dict[tuple, LayerCycles] = {}
    found = []
    runner: _Dot | _Core | None = None
    for layer, mode in layers:
        key = (layer.m, layer.k, layer.n, layer.count, mode)
        if key not in known:
            if isinstance(design, DotDesign):
                runner = runner or _Dot(design)
                known[key] = runner.layer(layer, limit)
            elif isinstance(design, MatmulDesign):
                runner = runner or _Core(design)
                known[key] = runner.layer(layer, mode, limit)
            else:
                known[key] = LayerCycles(None, "no stream interface to count at: compared by the cycle checks")
        found.append(known[key])
    return found


class _Dot:
    def __init__(self, design: DotDesign):
        self.design, self.model = design, None

    def layer(self, layer: LayerShape, limit: int) -> LayerCycles:
        words, sums = -(-layer.k // self.design.lanes), layer.m * layer.n
        count = min(sums, max(limit // (words + 1), LEAST_SUMS))
        if count < sums and count * (words + 1) > 2 * limit:
            return LayerCycles(None, f"dot products of {words} words are too long to simulate")
        self.model = self.model or StreamModel(StreamDotUnit(self.design))
        rng = np.random.default_rng(SEED)
        last = np.tile(np.arange(words) == words - 1, count)
        fields = [(rng.integers(0, 1 << fmt.bits, (len(last), self.design.lanes)), fmt.bits)
                  for fmt in (self.design.activation, self.design.weight)]
        run = self.model.run({"i": pack_bits([*fields, (last, 1)])}, {"o": count}).check()
        ends = run.cycles["o"].astype(np.int64)
        cycles = int(ends[-1]) - int(run.cycles["i"][0]) + 1
        note = f"all {sums} dot products simulated"
        if count < sums:
            periods = np.unique(np.diff(ends))
            if len(periods) > 1:
                return LayerCycles(None, f"results {periods.tolist()} cycles apart: no period to go on with")
            cycles += (sums - count) * int(periods[0])
            note = f"{count} of {sums} dot products simulated, all {int(periods[0])} cycles apart"
        return LayerCycles(cycles * layer.count, note)


class _Core:
    def __init__(self, design: MatmulDesign):
        # Counters only watch.
        self.design, self.model = design.with_options(counters=True), None
        self.seen: dict[Job, int] = {}

    def layer(self, layer: LayerShape, mode: str, limit: int) -> LayerCycles:
        from bitkiln.models.cost.cycles.cycles import matmul_cycles

        jobs = core_jobs(self.design, layer, mode)
        longest = max(matmul_cycles(self.design, job).cycles for job, _ in jobs)
        if longest > limit:
            return LayerCycles(None, f"a job of {longest:,} cycles is too long to simulate")
        return LayerCycles(sum(self._job(job) * times for job, times in jobs), f"{len(jobs)} jobs simulated")

    def _job(self, job: Job) -> int:
        if job in self.seen:
            return self.seen[job]
        self.model = self.model or CoreModel(self.design)
        registers = core_registers(self.design)
        case = random_job(self.design, np.random.default_rng(SEED), mode=job.mode, rule=job.rule, m=job.m, k=job.k,
                          n=job.n, order=job.order, output=job.output, block=job.block, per_channel=job.per_channel,
                          bias=job.bias, accumulate=job.accumulate)
        self.model.write(registers["CTRL"].offset, registers["CTRL"].pack(clear_counters=1))
        run_job(self.model, case)
        cycles = self.model.read(registers["CYCLES"].offset)[1]
        if not cycles:
            raise BitkilnError("counter stands still", where=self.design.name, got="0 cycles", exit_code=FAILED)
        self.seen[job] = cycles
        return cycles
