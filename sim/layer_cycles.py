"""Cycles of a workload's layers on the RTL: what the cycle models predicted, simulated for one design.

Streams are always ready, as in the models. Units, arrays and bit-serial arrays take a layer's sums back to back; of a
long layer only some are simulated, and the rest counted by the period that those had. A core runs the layer's jobs,
each alone, with random operands, and its results are compared with the golden model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bitkiln.hw.dequant.array import BitSerialArray
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.hw.mac.stream import StreamDotUnit
from bitkiln.models.cost.mapping import core_jobs
from bitkiln.models.design import ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant_streams import special_terms
from bitkiln.models.design.registers import core_registers
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.bitserial import GroupStream
from bitkiln.models.workloads.shapes import LayerShape

from .batch import BatchModel
from .bitserial_check import pack_bits, pack_stream, random_activations
from .core_run import CoreModel, random_job, run_job
from .cycle_mac import array_cycles, pe_cycles
from .cycle_serial import span
from .products import products_of
from .streams import StreamModel

__all__ = ["MAX_CYCLES", "LayerCycles", "layer_cycles"]

MAX_CYCLES = 200_000        # of one job, or simulated dot products
ARRAY_CYCLES = 20_000       # of an array, whose schedules are tried one by one
LEAST_SUMS = 8              # of which a period is read
LEAST_TILES = 3
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
    design : DotDesign, MorphableDesign, ArrayDesign, MatmulDesign or BitSerialDesign
        Layers of other engines come back as not simulated.
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
    make = _RUNNERS.get(type(design))
    runner = None if make is None else make(design)
    for layer, mode in layers:
        key = (layer.m, layer.k, layer.n, layer.count, mode)
        if key not in known:
            known[key] = (LayerCycles(None, f"no runner for a {type(design).__name__}") if runner is None else
                          runner.layer(layer, mode, limit))
        found.append(known[key])
    return found


class _Dot:
    def __init__(self, design: DotDesign):
        self.design, self.model = design, None

    def layer(self, layer: LayerShape, mode: str, limit: int) -> LayerCycles:
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


class _Pe:
    def __init__(self, design: MorphableDesign):
        self.design, self.model = design, None

    def layer(self, layer: LayerShape, mode: str, limit: int) -> LayerCycles:
        words, sums = -(-layer.k // self.design.modes[self.design.index(mode)].lanes), layer.m * layer.n
        if layer.k > self.design.accumulator.depth or LEAST_SUMS * (words + 1) > limit:
            return LayerCycles(None, f"sums of {layer.k} products are too long to simulate")
        self.model = self.model or BatchModel(MorphablePe(self.design))
        count = min(sums, limit // (words + 1))
        return _continued(layer, lambda n: pe_cycles(self.model, self.design, Job(mode, 1, layer.k, n)), sums, count,
                          "sums")


class _Array:
    """Output-stationary: whole tiles, of which more than a few are counted by their period; weight-stationary: one
    column of passes, which are all alike."""

    def __init__(self, design: ArrayDesign):
        self.design, self.products = design, None

    def layer(self, layer: LayerShape, mode: str, limit: int) -> LayerCycles:
        design, limit = self.design, min(limit, ARRAY_CYCLES)
        words = -(-layer.k // design.pe.modes[design.pe.index(mode)].lanes)
        weight = design.dataflow == "weight"
        length = -(-words // design.rows) * (layer.m + design.rows) if weight else words * (LEAST_TILES + 1)
        if layer.k > design.pe.accumulator.depth or length > limit:
            return LayerCycles(None, f"{'passes' if weight else 'tiles'} of {length} cycles are too long to simulate")
        self.products = self.products or products_of(design)
        rng = np.random.default_rng(SEED)
        across = -(-layer.n // design.columns)
        if weight:
            passes = array_cycles(self.products, Job(mode, layer.m, layer.k, design.columns), rng)
            return LayerCycles(passes * across * layer.count,
                               f"passes of {min(design.columns, layer.n)} of {layer.n} columns simulated")
        tiles = -(-layer.m // design.rows) * across
        count = min(tiles, max(limit // max(words, design.rows), LEAST_TILES))
        return _continued(layer, lambda n: array_cycles(self.products, Job(mode, design.rows * n, layer.k,
                                                                           design.columns), rng), tiles, count, "tiles")


class _Serial:
    def __init__(self, design: BitSerialDesign):
        self.design, self.model = design, None

    def layer(self, layer: LayerShape, mode: str, limit: int) -> LayerCycles:
        design = self.design
        at, weight = next((i, weight) for i, weight in enumerate(design.weights) if weight.name == mode)
        passes = -(-layer.n // design.columns) * -(-layer.m // design.rows)
        groups = [design.group] * (layer.k // design.group) + [layer.k % design.group] * bool(layer.k % design.group)
        chunks = sum(-(-size // design.lanes) for size in groups)
        count = min(passes, max(limit // (chunks * weight.terms), LEAST_TILES))
        if chunks * weight.terms * count > 2 * limit or len(groups) > design.groups:
            return LayerCycles(None, f"channels of {chunks} chunks are too long to simulate")
        self.model = self.model or StreamModel(BitSerialArray(design))
        return _continued(layer, lambda n: self._channels(at, groups, n), passes, count, "passes")

    def _channels(self, at: int, groups: list[int], count: int) -> int:
        design, rng = self.design, np.random.default_rng(SEED)
        lengths = np.array(groups * count)
        total, sides = int(lengths.sum()), (design.columns, len(lengths))
        scale = rng.integers(0, 1 << design.scale_code_bits, (2, *sides))
        stream = GroupStream(random_activations(design, (design.rows, total), rng, 0.0),
                             rng.integers(0, 1 << design.code_bits, (design.columns, total)), lengths,
                             np.full(sides, at), rng.integers(0, 4, sides), scale[0], scale[1],
                             np.zeros(sides, np.int64), np.arange(len(lengths)) % len(groups) == len(groups) - 1)
        words = pack_stream(design, stream)
        inputs = {"w": words.w, "a": words.a} | (
            {"special": np.zeros(0, np.uint64)} if special_terms(design) else {})
        results = (count if design.sums_channel else len(lengths)) * design.rows
        return span(self.model.run(inputs, {"o": results}).check())


def _continued(layer: LayerShape, run: Callable[[int], int], whole: int, count: int, what: str) -> LayerCycles:
    """All parts of a layer by the cycles of ``count`` of them and, where there are more, of one more.

    ``run`` gives the cycles of so many parts; 0 where it found none.
    """
    cycles, period = run(count), 0
    if cycles and count < whole:
        period = run(count + 1) - cycles
    if not cycles or period < 0:
        return LayerCycles(None, "no schedule beside the model's gave the right sums")
    note = f"all {whole} {what} simulated" if count == whole else \
        f"{count + 1} of {whole} {what} simulated, the last {period} cycles after the one before"
    return LayerCycles((cycles + (whole - count) * period) * layer.count, note)


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


_RUNNERS: dict[type, Callable] = {DotDesign: _Dot, MorphableDesign: _Pe, ArrayDesign: _Array, MatmulDesign: _Core,
                                  BitSerialDesign: _Serial}
