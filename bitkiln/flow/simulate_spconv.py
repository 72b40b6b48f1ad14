"""The checks of the map search and of the sparse-convolution core: clouds and networks, every result compared."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..config import Resolved
from .simulate import Check, Options, Outcome, no_jobs
from .simulate_dot import run_bench

__all__ = ["bench", "core_steps", "search_steps"]

CLOUDS, VOXELS = 4, 600
SEARCH_STALLS = {"job": 0.2, "voxel": 0.3, "kept": 0.3, "item": 0.4}
CORE_STALLS = {"job": 0.2, "voxel": 0.3, "feature": 0.3, "weight": 0.3, "request": 0.3, "o": 0.4}
FRAME_VOXELS, BENCH_VOXELS = 1000, 60


def search_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``map_search``."""
    from ..hw.spconv.search import MapSearch
    from ..sim.streams import StreamModel

    no_jobs(options, "a map search")
    design = resolved.design
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(MapSearch(design))
    for name, stalls in (("maps", {}), ("maps, stalls", SEARCH_STALLS)):
        yield Check(name, "pairs", functools.partial(_maps, design, model, options.seed, stalls),
                    f"{CLOUDS} random clouds, every map of three levels{', stalls on every stream' if stalls else ''}")


def _maps(design: Any, model: Any, seed: int, stalls: dict[str, float]) -> Outcome:
    from ..sim.search_check import check_searches, random_cloud

    rng = np.random.default_rng(seed)
    clouds = [random_cloud(design, size, rng) for size in (VOXELS, 1, VOXELS // 2, VOXELS)[:CLOUDS]]
    found = check_searches(design, model, clouds, stalls=stalls, seed=seed)
    details = (f"{found.clouds} clouds, {found.voxels:,} voxels, {found.maps} maps in {found.run.total:,} cycles"
               f"{'; stalls on every stream' if stalls else ''}")
    return Outcome(found.pairs, 0, details, {"clouds": found.clouds, "voxels": found.voxels, "maps": found.maps,
                                             "cycles": found.run.total})


def core_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``spconv``."""
    from ..hw.spconv.engine import SpConvEngine
    from ..sim.streams import StreamModel

    no_jobs(options, "the checks take a network's jobs: the core")
    design = resolved.design
    yield Check("axi", "features", functools.partial(bench, resolved, options.seed),
                "cocotb bench, networks with stalls on every channel, errors, resets")
    options.progress(f"{resolved.name}: building the fast model")
    model = StreamModel(SpConvEngine(design))
    nets = ["encoder-decoder"] + ["dilating encoder"] * (design.trees == 2)
    for net in nets:
        for stalls in ({}, CORE_STALLS):
            yield Check(f"{net}{', stalls' if stalls else ''}", "features",
                        functools.partial(_network, design, model, options.seed, net, stalls),
                        f"{net} on a street scene{', stalls on every stream' if stalls else ''}")


def bench(resolved: Resolved, seed: int) -> Outcome:
    """The cocotb bench of a core."""
    parameters = {"design": resolved.design, "seed": seed, "voxels": BENCH_VOXELS}
    return run_bench(resolved, resolved.engine.bench, parameters, seed)


def _network(design: Any, model: Any, seed: int, kind: str, stalls: dict[str, float]) -> Outcome:
    from ..host.spconv import compile_network
    from ..sim.spconv_check import check_program, small_network

    run = small_network(design, kind, FRAME_VOXELS // 3 if stalls else FRAME_VOXELS, seed)
    program = compile_network(design, run)
    found = check_program(design, program, model, stalls=stalls, seed=seed)
    layers, voxels = len(run.layers), len(run.clouds[0])
    details = (f"{voxels} voxels, {layers} layers chained, {found.counters['PAIRS']:,} pairs in "
               f"{found.counters['CYCLES']:,} cycles{'; stalls on every stream' if stalls else ''}")
    checked = sum(each.size for each in program.expected.values())
    return Outcome(checked, 0, details, {"voxels": voxels, "layers": layers, **{
        name.lower(): value for name, value in found.counters.items()}})
