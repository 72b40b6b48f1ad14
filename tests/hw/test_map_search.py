"""Map search as an engine: voxels in, every rulebook out, for both searches, under stalls; refused clouds."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.spconv.layouts import item_layout
from bitkiln.hw.spconv.search import MapSearch, search_job_layout
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.golden.spconv import canonicalise
from bitkiln.sim.octree_check import fields_of, pack, pack_voxels
from bitkiln.sim.search_check import check_searches, random_cloud
from bitkiln.sim.streams import build_streams

SEED = 23
STALLS = {"job": 0.3, "voxel": 0.3, "kept": 0.3, "item": 0.5}
DESIGNS = {search: MapDesign(depth=5, batch_bits=1, capacity=256, levels=(256, 200, 128, 16, 2), search=search,
                             queue=4, rows=4)
           for search in ("parity", "compact")}


@pytest.fixture(scope="module")
def models():
    return dict(zip(DESIGNS, build_streams([MapSearch(design) for design in DESIGNS.values()]), strict=True))


def cloud_of(design: MapDesign, indices: np.ndarray):
    side = 1 << design.depth
    return canonicalise(np.asarray(indices, np.int64).reshape(-1, 4), (side,) * 3, design.batches, depth=design.depth)


@pytest.mark.parametrize("search", DESIGNS)
def test_every_map_of_random_clouds(models, search):
    design, rng = DESIGNS[search], np.random.default_rng(SEED)
    clouds = [random_cloud(design, size, rng) for size in (150, 3, 80, 220)]
    plain = check_searches(design, models[search], clouds, levels=4, seed=SEED)
    stalled = check_searches(design, models[search], clouds, levels=4, stalls=STALLS, seed=SEED)
    print("seed", SEED)
    assert plain.maps == 80 and plain.pairs > 3000
    assert (plain.run.outputs["item"] == stalled.run.outputs["item"]).all()


@pytest.mark.parametrize("search", DESIGNS)
def test_empty_single_full_and_corners(models, search):
    design = DESIGNS[search]
    side = 1 << design.depth
    ends = np.stack(np.meshgrid(*[[0, side - 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cube = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    clouds = [np.zeros((0, 4)), np.array([[1, 7, 8, 9]]), np.column_stack([np.zeros(8, int), ends]), np.zeros((0, 4)),
              np.column_stack([np.ones(216, int), cube]), np.column_stack([np.zeros(216, int), side - 1 - cube])]
    found = check_searches(design, models[search], [cloud_of(design, each) for each in clouds], stalls=STALLS,
                           seed=SEED)
    assert found.voxels == 1 + 8 + 432


@pytest.mark.parametrize("search", DESIGNS)
@pytest.mark.parametrize("what", ["unsorted", "overflow", "rejected"])
def test_refused_clouds_give_no_map(models, search, what):
    design, rng = DESIGNS[search], np.random.default_rng(SEED)
    side = 1 << design.depth
    good = random_cloud(design, 60, rng).indices.astype(np.int64)
    if what == "unsorted":
        voxels = good[::-1]
    elif what == "overflow":
        cube = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        voxels = cloud_of(design, np.column_stack([np.zeros(512, int), cube])).indices.astype(np.int64)
    else:
        voxels = np.insert(good, 5, good[5], axis=0)
    load = {"load": 1, "shape_x": side, "shape_y": side, "shape_z": side, "batches": 2, "strict": what == "rejected"}
    jobs = [load, {"op": 0}, {"op": 2}]
    layout = search_job_layout(design)
    packed = pack(layout, **{name: np.array([int(job.get(name, 0)) for job in jobs]) for name, _ in layout})
    run = models[search].run({"job": packed, "voxel": pack_voxels(voxels)}, {"item": 2, "kept": len(voxels)},
                             stalls=STALLS, seed=SEED).check()
    found = fields_of(item_layout(design), run.outputs["item"])
    assert found["pair"].tolist() == [0, 0] and found["last"].tolist() == [1, 1]
    assert [run.ports[name] for name in ("unsorted", "overflow", "rejected")] == [
        int(what == name) for name in ("unsorted", "overflow", "rejected")]
    # The next cloud is as if nothing had been.
    check_searches(design, models[search], [cloud_of(design, good)], levels=2)
