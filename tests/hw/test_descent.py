# amaranth: UnusedElaboratable=no
"""Map search by octree descent: golden maps, the event model's cycles, random stalls, resets and back-to-back jobs."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from bitkiln.hw.spconv.layouts import item_layout
from bitkiln.hw.spconv.row_queue import RowQueue
from bitkiln.hw.spconv.rows import RowItems
from bitkiln.models.cost.spconv.map_search import PER_LEVEL, descent_bound, descent_cycles, single_engine
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import ConvMap, build_tree, decode_keys, down2, encode_keys, stride3, submanifold
from bitkiln.sim.map_check import (
    Job,
    MapBench,
    Search,
    check_search,
    compare_items,
    compare_rows,
    cross_search,
    load_tree,
    other_tree,
    pack_jobs,
    row_fields,
    same,
    searches,
    wanted_items,
)
from bitkiln.sim.octree_check import fields_of
from bitkiln.sim.streams import StreamModel

SEED = 101
DEPTH, SIDE = 5, 32
DESIGN = MapDesign(depth=DEPTH, batch_bits=1, capacity=4096)
STALLS = {"row": 0.4, "item": 0.3, "job": 0.5}


def keys_of(points: np.ndarray, batch: object = 0, depth: int = DEPTH) -> np.ndarray:
    points = np.asarray(points).reshape(-1, 3)
    return np.unique(encode_keys(np.column_stack([np.broadcast_to(batch, len(points)), points]), depth))


def cube(side: int, at: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3) + np.array(at)


def terrain(points: int, side: int, seed: int) -> np.ndarray:
    """A rolling surface, some walls on it."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((2, points))
    height = 0.3 + 0.1 * np.sin(9 * x) + 0.06 * np.cos(7 * y + 3 * x)
    wall = rng.random(points) < 0.15
    x, height = np.where(wall, np.round(x * 6) / 6, x), np.where(wall, height + 0.3 * rng.random(points), height)
    return (np.stack([x, y, height], 1) * (side - 1)).astype(np.int64)


def clouds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    corners = np.array([[x, y, z] for x in (0, SIDE - 1) for y in (0, SIDE - 1) for z in (0, SIDE - 1)])
    return {
        "empty": np.zeros(0, np.int64),
        "single": keys_of([[0, 0, 0]]),
        "single, last place of the last batch": keys_of([[SIDE - 1] * 3], 1),
        "corners": keys_of(corners, 1),
        "full 16^3": keys_of(cube(16, (16, 16, 16))),
        "full, across all octants": keys_of(cube(9, (12, 11, 13))),
        "the same cube in both batches": np.concatenate([keys_of(cube(7, (3, 4, 5)), b) for b in range(2)]),
        "chain": keys_of(np.repeat(np.arange(SIDE), 3).reshape(-1, 3)),
        "isolated": keys_of(rng.integers(0, SIDE // 3, (60, 3)) * 3),
        "sparse": keys_of(rng.integers(0, SIDE, (500, 3)), rng.integers(0, 2, 500)),
        "dense": keys_of(rng.integers(0, SIDE // 2, (3000, 3)), rng.integers(0, 2, 3000)),
        "surface": keys_of(terrain(2500, SIDE, SEED)),
    }


@pytest.fixture(scope="module")
def model() -> StreamModel:
    return StreamModel(MapBench(DESIGN, 2))


@pytest.mark.parametrize("name", clouds())
def test_every_level_and_mode_equals_the_golden_maps_and_the_event_model(name: str, model: StreamModel) -> None:
    tree = build_tree(clouds()[name], DEPTH)
    load_tree(DESIGN, model, tree)
    found = searches(DESIGN, tree)
    assert len(found) == 3 * DEPTH
    for search in found:
        run = check_search(DESIGN, model, tree.counts[-1], search)
        bound = descent_bound(DESIGN, tree, search.job.target, every=search.job.every, half=search.job.half)
        assert search.cycles.cycles <= bound + PER_LEVEL * DEPTH
        if not search.job.target:
            print(f"{name}{' every' * search.job.every}{' half' * search.job.half}: {len(run.outputs['row'])} rows in "
                  f"{search.cycles.cycles} cycles, bound {bound}, idle {search.cycles.upper_idle} + "
                  f"{search.cycles.leaf_idle}")
    if name == "full 16^3":
        assert found[0].maps[0].pairs == 46 ** 3
    if name == "empty":
        assert all(search.cycles.cycles < 2 * DEPTH for search in found)


@pytest.mark.parametrize("name", ["single", "sparse", "surface", "the same cube in both batches", "empty"])
@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_stalls_change_no_row_and_no_pair(name: str, seed: int, model: StreamModel) -> None:
    tree = build_tree(clouds()[name], DEPTH)
    load_tree(DESIGN, model, tree)
    print("seed", seed)
    for search in searches(DESIGN, tree):
        if not search.job.every or search.cycles.leaf + search.cycles.upper < 3000:
            # With ``every`` rows of two engines may come in another order: those of each level may not.
            levels = replace(search, cycles=replace(search.cycles, level=None)) if search.job.every else search
            check_search(DESIGN, model, tree.counts[-1], levels, stalls={**STALLS, "row": (seed % 2) * 0.5 + 0.2},
                         seed=seed)


def test_rows_wait_for_a_slow_consumer(model: StreamModel) -> None:
    """Everything fills up, and nothing is lost."""
    tree = build_tree(clouds()["dense"], DEPTH)
    load_tree(DESIGN, model, tree)
    for search in searches(DESIGN, tree)[:3]:
        search = replace(search, cycles=replace(search.cycles, level=None)) if search.job.every else search
        check_search(DESIGN, model, tree.counts[-1], search, stalls={"row": 0.97, "item": 0.9}, seed=SEED)


@pytest.mark.parametrize("name", ["empty", "single", "sparse", "surface", "corners", "full, across all octants"])
@pytest.mark.parametrize("kind", ["dilate", "drop"])
def test_outputs_of_another_tree(name: str, kind: str, model: StreamModel) -> None:
    """3^3 with stride 2 to all outputs that meet an input; 2^3 without the last slice of odd sides."""
    keys = clouds()[name]
    indices = decode_keys(keys, DEPTH)
    if kind == "dilate":
        golden = stride3(keys, DEPTH, "dilate")
    else:
        sides = indices[:, 1:].max(0) + 1 | 1 if len(keys) else np.ones(3, np.int64)
        sides = tuple(np.minimum(sides, SIDE - 1).tolist())
        keys = keys[(indices[:, 1:] < sides).all(1)]
        golden = down2(keys, DEPTH, sides, "drop")
    tree = build_tree(keys, DEPTH)
    search, walk = cross_search(DESIGN, tree, golden)
    load_tree(DESIGN, model, tree)
    load_tree(DESIGN, model, walk, 1)
    check_search(DESIGN, model, tree.counts[-1], search)
    check_search(DESIGN, model, tree.counts[-1], search, stalls=STALLS, seed=SEED)
    assert search.cycles.cycles <= descent_bound(DESIGN, walk, half=True, offset=True) + PER_LEVEL * DEPTH
    if name == "surface":
        assert golden.rows > 300 and golden.pairs > golden.rows


def test_neighbours_of_places_that_need_not_be_voxels(model: StreamModel) -> None:
    """Nodes of level 1 around the voxels of a cloud at half the size."""
    tree = build_tree(clouds()["surface"], DEPTH)
    places = keys_of(np.concatenate([terrain(900, SIDE // 2, SEED + 1), cube(3)]), depth=DEPTH - 1)
    where = {tuple(row): rank for rank, row in enumerate(decode_keys(tree.levels[1], DEPTH - 1).tolist())}
    pairs = []
    for out, (batch, *at) in enumerate(decode_keys(places, DEPTH - 1).tolist()):
        for k in range(27):
            rank = where.get((batch, at[0] + k // 9 - 1, at[1] + k // 3 % 3 - 1, at[2] + k % 3 - 1))
            pairs += [] if rank is None else [(out, k, rank)]
    golden = ConvMap(*np.array(pairs).T, places, tree.counts[1], 3)
    walk = other_tree(places, DEPTH)
    search = Search(Job(target=1, offset=True), (golden,), descent_cycles(DESIGN, walk, 1, offset=True))
    load_tree(DESIGN, model, tree)
    load_tree(DESIGN, model, walk, 1)
    check_search(DESIGN, model, tree.counts[-1], search)
    assert golden.rows > 200 and golden.pairs > golden.rows


def test_a_batch_without_outputs(model: StreamModel) -> None:
    """Its root is not visited, and the other batch's rows begin at rank 0."""
    keys = np.concatenate([keys_of([[30, 30, 30]]), keys_of([[1, 1, 1], [4, 5, 30]], 1)])
    for sides, batches in (((31, 31, 31), [1]), ((32, 32, 32), [0, 1]), ((5, 5, 31), [1])):
        kept = keys[(decode_keys(keys, DEPTH)[:, 1:] < sides).all(1)]
        tree, golden = build_tree(keys, DEPTH), down2(kept, DEPTH, sides, "drop")
        # Inputs keep their rows, those that are left out too.
        golden = replace(golden, inp=np.searchsorted(keys, kept)[golden.inp], inputs=len(keys))
        search, walk = cross_search(DESIGN, tree, golden)
        assert list(np.unique(decode_keys(golden.out_keys, DEPTH - 1)[:, 0])) == batches
        load_tree(DESIGN, model, tree)
        load_tree(DESIGN, model, walk, 1)
        check_search(DESIGN, model, tree.counts[-1], search)
    nothing = Search(Job(present=0), (submanifold(np.zeros(0, np.int64), DEPTH),),
                     descent_cycles(DESIGN, build_tree(np.zeros(0, np.int64), DEPTH)))
    check_search(DESIGN, model, tree.counts[-1], nothing)


def test_half_of_the_map(model: StreamModel) -> None:
    tree = build_tree(clouds()["surface"], DEPTH)
    load_tree(DESIGN, model, tree)
    search = searches(DESIGN, tree)[0]
    search = replace(search, job=replace(search.job, half_map=True))
    check_search(DESIGN, model, tree.counts[-1], search)
    assert wanted_items(search)["pair"].sum() == (search.maps[0].pairs - search.maps[0].rows) // 2


def test_pairs_of_all_levels_in_one_stream(model: StreamModel) -> None:
    tree = build_tree(clouds()["surface"], DEPTH)
    load_tree(DESIGN, model, tree)
    search = searches(DESIGN, tree)[1]
    wanted = [wanted_items(replace(search, maps=(each,))) for each in search.maps]
    assert search.job.every and len(wanted) == DEPTH
    run = model.run({"job": pack_jobs(DESIGN, [replace(search.job, items=True)], tree.counts[-1])},
                    {"item": sum(len(each["out"]) for each in wanted)}, resume=True, stalls={"item": 0.2}, seed=SEED)
    fields = fields_of(item_layout(DESIGN), run.check().outputs["item"])
    same(fields["last"], np.arange(len(fields["last"])) == len(fields["last"]) - 1, "last")
    for level, each in enumerate(wanted):
        at = fields["level"] == level
        for name in ("out", "k", "in", "pair", "row_last"):
            same(fields[name][at], each[name], f"{name} of level {level}")


def test_pairs_come_without_bubbles(model: StreamModel) -> None:
    """Row after row, a pair each cycle; rows of one pair as fast as the search finds them."""
    for name in ("full 16^3", "isolated", "surface"):
        tree = build_tree(clouds()[name], DEPTH)
        load_tree(DESIGN, model, tree)
        search = searches(DESIGN, tree)[0]
        items = wanted_items(search)
        job = pack_jobs(DESIGN, [replace(search.job, items=True)], tree.counts[-1])
        run = model.run({"job": job}, {"item": len(items["out"])}, resume=True).check()
        at = run.cycles["item"].astype(np.int64) - int(run.cycles["job"][0]) - 1
        # Each as soon as its row is there and the pair before has left.
        count, ready = np.arange(len(at)), search.cycles.rows[items["out"]] + RowItems.latency
        alone = np.maximum.accumulate(ready - count) + count
        if name == "isolated":
            same(at, alone, "cycles of the pairs")
        else:
            # The queue of rows fills up and the search waits, but there is always a row.
            same(at, at[0] + count, "cycles of the pairs")
            assert at[0] == alone[0]
    assert len(items["out"]) > 5000


def test_jobs_back_to_back(model: StreamModel) -> None:
    tree = build_tree(clouds()["sparse"], DEPTH)
    load_tree(DESIGN, model, tree)
    found = searches(DESIGN, tree)
    order = np.random.default_rng(SEED).permutation(np.repeat(np.arange(len(found)), 2))
    jobs = pack_jobs(DESIGN, [found[at].job for at in order], tree.counts[-1])
    rows = [sum(each.rows for each in found[at].maps) for at in order]
    for stalls in ({}, {"row": 0.2}):
        run = model.run({"job": jobs}, {"row": sum(rows)}, stalls=stalls, seed=SEED, resume=True).check()
        fields = row_fields(DESIGN, run.outputs["row"])
        ends = np.cumsum(rows)
        assert np.flatnonzero(fields["last"]).tolist() == (ends - 1).tolist()
        for at, end, count in zip(order, ends, rows, strict=True):
            search = found[at]
            if stalls and search.job.every:
                search = replace(search, cycles=replace(search.cycles, level=None))
            compare_rows(DESIGN, search, {name: values[end - count:end] for name, values in fields.items()}, "job")
    assert not run.ports["busy"]


def test_a_reset_in_any_cycle_forgets_the_search(model: StreamModel) -> None:
    tree = build_tree(clouds()["sparse"], DEPTH)
    load_tree(DESIGN, model, tree)
    first, second = searches(DESIGN, tree)[0], searches(DESIGN, tree)[4]
    roots = tree.counts[-1]
    for at in [*range(1, 60), 200, 333, 500]:
        job = first.job if at % 3 else replace(first.job, items=True)
        broken = model.run({"job": pack_jobs(DESIGN, [job], roots)}, {"row": 1 << 20}, stalls={"row": 0.5 * (at % 2)},
                           seed=at, limit=at + 1, partial=True, resume=True)
        assert broken.deadlock and broken.ports["busy"]
        model.run({}, {}, reset_at=[0], resume=True)
        search = first if at % 4 else second
        check_search(DESIGN, model, roots, search, items=at % 10 == 0)


def test_two_engines_take_the_longer_way_only() -> None:
    """The bound for two engines, the formula for one, and where the difference between them comes from."""
    points = terrain(20000, 256, SEED)
    keys = keys_of(points, depth=8)
    tree = build_tree(keys, 8)
    design = MapDesign(depth=8, batch_bits=0, capacity=32768)
    n, upper = tree.counts[0], sum(tree.counts[1:])
    model = descent_cycles(design, tree)
    print(f"{n} voxels, {upper} nodes: {model.cycles} cycles, bound {descent_bound(design, tree)}")
    assert model.upper == upper and model.leaf == n and single_engine(tree) == n + upper
    assert max(n, upper) <= model.cycles <= descent_bound(design, tree) + 8 * PER_LEVEL
    assert model.cycles < 0.8 * single_engine(tree)
    assert model.words_read == 8 * (n + upper)
    # More places between the engines bring it nearer to the busier one.
    wide = descent_cycles(design.with_options(queue=64), tree)
    assert max(n, upper) <= wide.cycles <= model.cycles
    pyramid = descent_cycles(design, tree, every=True)
    assert sum(tree.counts[:-1]) <= pyramid.cycles <= sum(tree.counts) + 8 * PER_LEVEL


@pytest.mark.parametrize("depth, side, points", [(6, 64, 3000), (9, 512, 6000), (11, 300, 2000), (12, 4096, 1500)])
def test_cycles_stay_within_their_bounds(depth: int, side: int, points: int) -> None:
    """Surfaces and scattered voxels in grids of every size, few and many places to wait."""
    rng = np.random.default_rng(SEED)
    for cloud in (terrain(points, side, SEED), rng.integers(0, side, (points, 3))):
        tree = build_tree(keys_of(cloud, depth=depth), depth)
        for queue in (8, 32):
            design = MapDesign(depth=depth, batch_bits=0, capacity=8192, queue=queue)
            for options in ({}, {"target": 1}, {"every": True}, {"half": True}, {"target": 2, "half": True}):
                cycles, bound = (each(design, tree, **options) for each in (descent_cycles, descent_bound))
                assert cycles.cycles <= bound + PER_LEVEL * depth
                assert cycles.cycles >= max(cycles.upper, cycles.leaf, len(cycles.rows))


def test_the_check_finds_a_wrong_map(model: StreamModel) -> None:
    tree = build_tree(clouds()["surface"], DEPTH)
    load_tree(DESIGN, model, tree)
    search = searches(DESIGN, tree)[0]
    roots, golden = tree.counts[-1], search.maps[0]
    inp = golden.inp.copy()
    inp[-1] += 1
    with pytest.raises(BitkilnError, match="pairs of level 0"):
        check_search(DESIGN, model, roots, replace(search, maps=(replace(golden, inp=inp),)))
    late = replace(search.cycles, rows=search.cycles.rows + (np.arange(golden.rows) == 7))
    with pytest.raises(BitkilnError, match="cycles"):
        check_search(DESIGN, model, roots, replace(search, cycles=late))
    wanted = wanted_items(search)
    with pytest.raises(BitkilnError, match="in of the pairs"):
        compare_items(wanted, {**wanted, "in": wanted["in"] ^ 1}, "items")


def test_what_cannot_be_asked() -> None:
    tree = build_tree(keys_of([[1, 2, 3]]), DEPTH)
    with pytest.raises(BitkilnError, match="no level below"):
        descent_cycles(DESIGN, tree, offset=True)
    with pytest.raises(ValueError, match="power of two"):
        RowQueue(8, 3)


# Other designs -------------------------------------------------------------------------------------


def check_all(design: MapDesign, keys: list[np.ndarray], *, stalls: dict[str, float]) -> int:
    model, jobs = StreamModel(MapBench(design)), 0
    for each in keys:
        tree = build_tree(each, design.depth)
        load_tree(design, model, tree)
        for search in searches(design, tree):
            check_search(design, model, tree.counts[-1], search)
            if not search.job.every:
                check_search(design, model, tree.counts[-1], search, stalls=stalls, seed=SEED)
            jobs += 1
    return jobs


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"depth": 1, "batch_bits": 2, "capacity": 64}, {"depth": 2, "batch_bits": 0, "capacity": 64, "queue": 2, "rows": 2},
    {"depth": 3, "batch_bits": 3, "capacity": 1024, "queue": 4, "rows": 4},
    {"depth": 16, "batch_bits": 1, "capacity": 256, "levels": (256,) * 13 + (128, 16, 2), "queue": 16},
    {"depth": 4, "batch_bits": 6, "capacity": 512, "queue": 64, "rows": 1024}])
def test_designs_of_every_size(options: dict) -> None:
    design = MapDesign(**options)
    rng = np.random.default_rng(SEED)
    most, side = min(design.levels[0], design.capacity // 2), 1 << design.depth
    keys = [np.zeros(0, np.int64)]
    for reach in (2, min(side, 8), side):
        for count in (1, most // 16 + 1, most // 2):
            points = side - 1 - rng.integers(0, reach, (count, 3))
            keys.append(keys_of(points, rng.integers(0, design.batches, count), design.depth))
    keys = [each for each in keys if all(
        count <= design.held(level) for level, count in enumerate(build_tree(each, design.depth).counts))]
    assert len(keys) >= 6
    assert check_all(design, keys, stalls=STALLS) == 3 * design.depth * len(keys)


@pytest.mark.slow
def test_a_hundred_thousand_voxels() -> None:
    """A terrain, level by level through the RTL."""
    depth = 9
    keys = keys_of(terrain(150_000, 330, SEED), depth=depth)
    tree = build_tree(keys, depth)
    assert len(keys) > 100_000
    # No more memory than needed: writing it down takes longer than anything else here.
    design = MapDesign(depth=depth, batch_bits=0, capacity=len(keys), levels=tree.counts[1:])
    model = StreamModel(MapBench(design))
    load_tree(design, model, tree)
    cycles = descent_cycles(design, tree)
    golden = submanifold(keys, depth)
    began = time.process_time()
    check_search(design, model, tree.counts[-1], Search(Job(), (golden,), cycles))
    print(f"{len(keys)} voxels, {golden.pairs} pairs, {cycles.cycles} cycles ({cycles.cycles / len(keys):.2f} a voxel, "
          f"bound {descent_bound(design, tree)}, one engine {single_engine(tree)}) in "
          f"{time.process_time() - began:.0f} s")
    assert time.process_time() - began < 30
