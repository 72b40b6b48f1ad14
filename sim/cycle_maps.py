"""Random clouds and every map of them through the map search engine; what each job took beside its cycle model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitkiln.hw.spconv.search import MapSearch, search_job_layout
from bitkiln.models.cost.cycles.engine_cycles import cycles_of
from bitkiln.models.cost.spconv.map_jobs import MapJob, MapLoad
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_core import OPS
from bitkiln.models.golden.spconv import build_tree

from .cycle_record import CycleRun, record
from .octree_check import pack, pack_voxels
from .search_check import random_cloud
from .streams import StreamModel

__all__ = ["map_runs"]

VOXELS = 150


def map_runs(design: MapDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Clouds and maps of them, so many jobs in all: each begins when the one before has been taken."""
    side = 1 << design.depth
    packed, voxels, work = [], [], []
    while len(work) < jobs:
        cloud = random_cloud(design, int(rng.integers(1, min(VOXELS, design.capacity))), rng)
        tree = build_tree(cloud.keys, design.depth)
        packed.append({"load": 1, "shape_x": side, "shape_y": side, "shape_z": side, "batches": design.batches})
        voxels.append(pack_voxels(cloud.indices.astype(np.int64)))
        work.append(MapLoad(cloud.keys, np.ones(len(cloud.keys), bool)))
        for _ in range(int(rng.integers(1, 8))):
            op, level = int(rng.integers(len(OPS))), int(rng.integers(design.depth))
            packed.append({"op": op, "level": level})
            work.append(MapJob(tree, OPS[op], level))
    found = [cycles_of(design, job) for job in work]
    items = [each.work + each.stalls.get("empty", 0) for each in found if each.unit == "pair"]
    names = [name for name, _ in search_job_layout(design)]
    offered = np.concatenate(voxels)
    run = StreamModel(MapSearch(design)).run(
        {"job": pack(search_job_layout(design), **{name: np.array([job.get(name, 0) for job in packed])
                                                   for name in names}), "voxel": offered},
        {"item": sum(items), "kept": len(offered)}, timeout=100_000).check()
    for job, each, cycles in zip(work, found, np.diff(run.cycles["job"].astype(np.int64), prepend=-1), strict=True):
        shape = f"load of {each.work} voxels" if isinstance(job, MapLoad) else \
            f"{job.op} at level {job.level}, {each.work} pairs"
        yield record("map_search", design, job, cycles, shape=shape, found=each)
