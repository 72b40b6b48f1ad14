"""MAC engines and map search behind `engine_cycles.cycles_of`; the models themselves are elsewhere."""

from __future__ import annotations

import numpy as np

from ...design import ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from ...design.morphable import WORD_BITS
from ...design.spconv import OFFSET_BITS, MapDesign
from ...formats import get_format
from ..spconv.map_jobs import SEARCHED, MapJob, MapLoad, job_map, map_job_cycles, map_load_cycles
from ..spconv.octree import build_cycles
from .cycles import matmul_cycles, panel_beats
from .engine_cycles import EngineCycles, expect_job, rest
from .mac_cycles import (
    DotJob,
    array_period,
    array_total,
    dot_total,
    pe_total,
    weight_total,
)

__all__ = ["array_cycles", "core_cycles", "core_traffic", "dot_cycles", "map_cycles", "pe_cycles"]

VOXEL_BITS = 4 * 32


def dot_cycles(design: DotDesign, job: DotJob) -> EngineCycles:
    """Dot products through the unit behind streams."""
    expect_job(job, {"DotJob": DotJob})
    total, words = dot_total(design, job), sum(job.words(design.lanes))
    beat = design.lanes * (design.activation.bits + design.weight.bits) / 8
    result = (design.accumulator_bits + len(design.flags)) / 8
    return EngineCycles(total, words, rest(total, words, clear=len(job.lengths) - 1), sum(job.lengths), design.lanes,
                        {"i": words * beat, "o": len(job.lengths) * result}, {"i": beat, "o": result})


def pe_cycles(design: MorphableDesign, job: Job) -> EngineCycles:
    """All sums of a product, one after the other through one PE."""
    expect_job(job, {"Job": Job})
    mode = design.modes[design.index(job.mode)]
    sums, words, total = job.m * job.n, -(-job.k // mode.lanes), pe_total(design, job)
    word, result = WORD_BITS / 8, design.accumulator_bits / 8
    return EngineCycles(total, sums * words, rest(total, sums * words, clear=sums), sums * job.k, mode.lanes,
                        {"a": sums * words * word, "w": sums * words * word, "acc": sums * result},
                        {"a": word, "w": word, "acc": result})


def array_cycles(design: ArrayDesign, job: Job) -> EngineCycles:
    """A product through an array of either dataflow."""
    expect_job(job, {"Job": Job})
    mode = design.pe.modes[design.pe.index(job.mode)]
    words, down, across = -(-job.k // mode.lanes), -(-job.m // design.rows), -(-job.n // design.columns)
    word = WORD_BITS / 8
    result = design.columns * (design.pe.accumulator_bits + len(design.pe.flags)) / 8
    widths = {"a": design.rows * word, "w": design.columns * word, "result": result}
    macs, peak = job.m * job.n * job.k, design.rows * design.columns * mode.lanes
    if design.dataflow == "weight":
        blocks = across * -(-words // design.rows)
        total, compute = weight_total(design, job), blocks * job.m
        return EngineCycles(total, compute, rest(total, compute, weights=blocks * design.rows), macs, peak,
                            {"a": compute * widths["a"], "w": blocks * design.rows * widths["w"],
                             "result": compute * result}, widths)
    tiles, total = down * across, array_total(design, job)
    held = (tiles - 1) * (array_period(design, words) - words)
    return EngineCycles(total, tiles * words, rest(total, tiles * words, results=held), macs, peak,
                        {"a": tiles * words * widths["a"], "w": tiles * words * widths["w"],
                         "result": tiles * design.rows * result}, widths)


def _panels(total: int, tile: int) -> list[int]:
    return [min(tile, total - at) for at in range(0, total, tile)]


def core_traffic(design: MatmulDesign, job: Job) -> dict[str, int]:
    """Beats of a job on each stream of the core."""
    rows, columns = _panels(job.m, design.rows), _panels(job.n, design.columns)
    passes = {"a": len(columns) if job.order == "w" else 1, "w": len(rows) if job.order == "a" else 1}
    beats = {side: passes[side] * sum(panel_beats(design, job, side, size) for size in sizes)
             for side, sizes in (("a", rows), ("w", columns))}

    def tiled(bits: int) -> int:
        return job.m * sum(-(-size * bits // design.bus_bits) for size in columns)

    if job.accumulate:
        beats["c"] = tiled(design.raw_bits)
    beats["o"] = tiled(design.raw_bits if job.rule == "raw" else get_format(job.output).bits)
    return beats


def core_cycles(design: MatmulDesign, job: Job) -> EngineCycles:
    """A job of the core; with descriptors a `dma.MemoryJob`."""
    if design.descriptors:
        from .dma import MemoryJob, memory_cycles

        expect_job(job, {"MemoryJob": MemoryJob})
        return memory_cycles(design, job)
    expect_job(job, {"Job": Job})
    found, bus = matmul_cycles(design, job.check(design)), design.bus_bits // 8
    beats = core_traffic(design, job)
    counters = {"COMPUTE": found.compute, "STALL_A": found.stall_a, "STALL_W": found.stall_w,
                "STALL_DRAIN": found.stall_drain, "MACS": found.macs}
    return EngineCycles(
        found.cycles, found.compute, rest(found.cycles, found.compute, a=found.stall_a, w=found.stall_w,
                                          results=found.stall_drain), found.macs, found.peak,
        {name: count * bus for name, count in beats.items()}, dict.fromkeys(beats, bus), counters=counters)


def map_cycles(design: MapDesign, job: MapJob | MapLoad) -> EngineCycles:
    """A load or a map of the map search engine."""
    expect_job(job, {"MapJob": MapJob, "MapLoad": MapLoad})
    if isinstance(job, MapLoad):
        total, keys = map_load_cycles(design, job), len(job.keys)
        waits = build_cycles(design, job.keys, job.mask).waits
        kept = (design.index_bits + 1) / 8
        return EngineCycles(total, keys, rest(total, keys, nodes=waits), keys, 1,
                            {"voxel": keys * VOXEL_BITS / 8, "kept": keys * kept},
                            {"voxel": VOXEL_BITS / 8, "kept": kept}, unit="voxel")
    conv, total = job_map(design, job.check(design)), map_job_cycles(design, job)
    pair = (design.out_bits + OFFSET_BITS + design.index_bits) / 8
    # A row without pairs has an item of its own, and so has a map without rows.
    counts = np.bincount(conv.out, minlength=conv.rows)
    empty = int((counts == 0).sum()) if job.op in SEARCHED else 0
    none = int(conv.pairs + empty == 0)
    return EngineCycles(total, conv.pairs, rest(total, conv.pairs, empty=empty + none), conv.pairs, 1,
                        {"item": conv.pairs * pair}, {"item": pair}, unit="pair")
