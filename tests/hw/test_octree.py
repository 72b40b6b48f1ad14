"""Octree of voxels: every token, write and cycle of the builder, its memories, and the maps between two levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bitkiln.hw.spconv.encoder import VoxelEncoder, saturating
from bitkiln.hw.spconv.layouts import item_layout, key_layout, node_write_layout
from bitkiln.models.cost.spconv.octree import build_cycles, build_cycles_unhindered, level_map_cycles
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import build_tree, decode_keys
from bitkiln.models.golden.spconv_cloud import encode_keys
from bitkiln.sim import octree_check
from bitkiln.sim.octree_check import (
    OPS,
    accept,
    check_build,
    check_clear,
    check_encoder,
    check_maps,
    check_memories,
    clear,
    fields_of,
    held,
    keys_of,
    odd_voxels,
    pack_voxels,
    swapped_pairs,
    tree_of,
)
from bitkiln.sim.octree_path import FLAGS, TreePath
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 83
print(f"seed {SEED}")
DESIGNS = {
    "cube": MapDesign(depth=4, capacity=4096),
    "small": MapDesign(depth=3, batch_bits=2, capacity=40, levels=(20, 9, 3)),
    "compact": MapDesign(depth=5, batch_bits=1, capacity=300, levels=(250, 150, 60, 13, 2), search="compact"),
    "flat": MapDesign(depth=1, batch_bits=3, capacity=16, levels=(5,)),
    "deep": MapDesign(depth=11, capacity=4096),
}
STALLS = {"i": 0.3, "o": 0.4}


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    found = build_streams([TreePath(design) for design in DESIGNS.values()])
    return dict(zip(DESIGNS, found, strict=True))


def random_cloud(design: MapDesign, rows: int, seed: int, *, spread: float = 1.0) -> np.ndarray:
    """Ascending, without the same voxel twice; ``spread``: share of the grid along each axis."""
    rng = np.random.default_rng(seed)
    side = max(int(spread * (1 << design.depth)), 1)
    low = rng.integers(0, (1 << design.depth) - side + 1, 3)
    indices = np.concatenate([rng.integers(0, design.batches, (rows, 1)), low + rng.integers(0, side, (rows, 3))], 1)
    return decode_keys(np.unique(encode_keys(indices, design.depth)), design.depth).astype(np.int64)


def surface(design: MapDesign, rows: int, seed: int) -> np.ndarray:
    """A wavy ground around the middle of the grid, as a laser scanner sees it: dense nearby, sparse far away."""
    rng = np.random.default_rng(seed)
    side = 1 << design.depth
    r, turn = 120 * rng.random(rows) ** 1.5, rng.random(rows) * 2 * np.pi
    x, y = side / 2 + r * np.cos(turn), side / 2 + r * np.sin(turn)
    z = side / 4 + 6 * np.sin(x / 30) * np.cos(y / 40)
    indices = np.stack([np.zeros(rows), x, y, z], axis=1).astype(np.int64)
    return decode_keys(np.unique(encode_keys(indices, design.depth)), design.depth).astype(np.int64)


def fitting(design: MapDesign, indices: np.ndarray) -> np.ndarray:
    """As many of the first voxels as the memories hold."""
    keys, good = keys_of(design, indices, held(design))
    return indices[accept(design, keys, good).keep]


def every_map(design: MapDesign) -> list[tuple[str, int]]:
    return [(op, level) for level in range(design.depth) for op in OPS]


@pytest.mark.parametrize("name", DESIGNS)
def test_random_clouds(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    words = pairs = 0
    for seed, (rows, spread) in enumerate([(1, 1), (2, 1), (7, 0.3), (20, 1), (60, 0.2), (400, 0.3), (400, 1)]):
        indices = fitting(design, random_cloud(design, rows, SEED + seed, spread=spread))
        tree = tree_of(design, indices)
        for stalls in (0, STALLS):
            check_build(design, model, indices, stalls=stalls, seed=seed)
            words += check_memories(design, model, tree, stalls=0.3 if stalls else 0, seed=seed)
            pairs += check_maps(design, model, tree, every_map(design), seed=seed,
                                stalls={"item": 0.4, "job": 0.2} if stalls else 0)
    assert words > 40 and pairs > 900


def test_a_surface(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["deep"], models["deep"]
    indices = fitting(design, surface(design, 6000, SEED))
    assert len(indices) > 3000
    tree = tree_of(design, indices)
    run = check_build(design, model, indices)
    # Words wait for each other now and then, but the upper levels cost next to nothing.
    assert build_cycles_unhindered(design, len(indices)) < int(run.cycles["finished"][0]) - 1 < 1.1 * len(indices)
    assert check_memories(design, model, tree) == sum(tree.counts[1:])
    assert check_maps(design, model, tree, every_map(design)) == 10 * tree.counts[0] + 2 * sum(
        tree.counts[1:-1]) + 8 * sum(tree.counts[1:-1])
    check_build(design, model, indices, stalls=STALLS, seed=SEED)


@pytest.mark.parametrize("name", DESIGNS)
def test_an_empty_cloud(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    outside = np.array([[0, -1, 0, 0], [design.batches, 0, 0, 0], [0, 0, 0, 1 << design.depth]])
    for indices in (np.zeros((0, 4), np.int64), outside[:1], outside):
        run = check_build(design, model, indices)
        tree = tree_of(design, indices)
        assert tree.counts == (0,) * (design.depth + 1) and int(run.cycles["finished"][0]) <= design.depth + 6
        jobs = every_map(design)
        assert check_maps(design, model, tree, jobs) == check_maps(design, model, tree, jobs, stalls=0.5) == 0


@pytest.mark.parametrize("name", DESIGNS)
def test_a_single_voxel(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    most = (1 << design.depth) - 1
    for voxel in ((0, 0, 0, 0), (design.batches - 1, most, most, most), (0, most, 0, 0), (0, 0, most // 2, most)):
        indices = np.array([voxel])
        run = check_build(design, model, indices)
        tree = tree_of(design, indices)
        assert tree.counts == (1,) * (design.depth + 1)
        assert int(run.cycles["finished"][0]) == 1 + build_cycles_unhindered(design, 1)
        assert check_memories(design, model, tree) == design.depth
        assert check_maps(design, model, tree, every_map(design)) == 10 * design.depth


def test_a_full_cube_fills_the_memory(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["cube"], models["cube"]
    indices = decode_keys(np.arange(16 ** 3), 4).astype(np.int64)
    assert len(indices) == design.capacity
    tree = tree_of(design, indices)
    assert tree.counts == (4096, 512, 64, 8, 1) and all((mask == 255).all() for mask in tree.masks[1:])
    run = check_build(design, model, indices)
    # Eight keys for each node of level 1: no word ever waits for another but in the end, when all levels close.
    assert int(run.cycles["finished"][0]) - 1 == build_cycles_unhindered(design, 4096)
    assert check_memories(design, model, tree) == 512 + 64 + 8 + 1
    assert check_maps(design, model, tree, every_map(design)) == (4096 + 512 + 64 + 8) * 10
    # One more, in the next batch, is one too many.
    more = np.concatenate([indices, [[1, 0, 0, 0]]])
    assert check_build(design, model, more).ports["overflow"]


def test_corners_and_batches_do_not_meet(models: dict[str, StreamModel]) -> None:
    """The two ends of every axis in every batch: neighbours in key order, and nothing else in common."""
    for name in ("cube", "small", "flat"):
        design, model = DESIGNS[name], models[name]
        most, corners = (1 << design.depth) - 1, []
        for batch in range(min(design.held(design.depth), design.batches)):
            corners += [[batch, *(most * (corner >> axis & 1) for axis in (2, 1, 0))] for corner in range(8)]
        indices = fitting(design, np.array(corners))
        tree = tree_of(design, indices)
        assert tree.counts[design.depth] >= 2
        check_build(design, model, indices)
        assert check_memories(design, model, tree) == sum(tree.counts[1:])
        assert check_maps(design, model, tree, every_map(design)) > 0


@pytest.mark.parametrize("strict", [False, True])
def test_duplicates(strict: bool, models: dict[str, StreamModel]) -> None:
    rng = np.random.default_rng(SEED)
    design, model = DESIGNS["cube"], models["cube"]
    once = random_cloud(design, 200, SEED)
    indices = np.repeat(once, rng.integers(1, 5, len(once)), axis=0)
    for stalls in (0, STALLS):
        run = check_build(design, model, indices, inputs=held(design, strict=strict), stalls=stalls, seed=SEED)
        kept = fields_of(octree_check.kept_layout(design), run.outputs["o"])["keep"].sum()
        assert run.ports["rejected"] == strict and (kept == len(once)) != strict
        assert run.ports["duplicates"] == (1 if strict else len(indices) - len(once))
    # Without any, strict changes nothing; nor does an empty cloud's item, which is no voxel.
    for fine in (once, once[:0]):
        assert not check_build(design, model, fine, inputs=held(design, strict=strict)).ports["rejected"]


@pytest.mark.parametrize("strict", [False, True])
def test_out_of_range(strict: bool, models: dict[str, StreamModel]) -> None:
    rng = np.random.default_rng(SEED)
    design, model = DESIGNS["cube"], models["cube"]
    inputs = held(design, shape=(11, 16, 7), batches=1, strict=strict)
    indices = fitting(design, random_cloud(design, 300, SEED))
    wild = [-1, -(1 << 31), (1 << 31) - 1, 16, 17, 1 << 8, 1 << 30, -16, 31, 4096, 255]
    odd = np.concatenate([np.zeros((44, 1), np.int64), rng.integers(0, 7, (44, 3))], axis=1)
    odd[np.arange(44), np.arange(44) % 4] = np.repeat(wild, 4)
    indices = np.insert(indices, rng.integers(0, len(indices), len(odd)), odd, axis=0)
    good = keys_of(design, indices, inputs)[1]
    assert 20 < good.sum() < len(indices) / 2
    for stalls in (0, STALLS):
        run = check_build(design, model, indices, inputs=inputs, stalls=stalls, seed=SEED)
        assert run.ports["rejected"] == strict and run.ports["dropped"] == (~good).sum()
        assert run.ports["counts"] % (1 << design.count_bits) == (np.argmin(good) if strict else good.sum())
    assert not check_build(design, model, indices[good], inputs=inputs).ports["dropped"]


def test_coordinates_beyond_the_depth_are_out_of_range_whatever_the_shape(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["small"], models["small"]
    inputs = held(design, shape=(15, 15, 15), batches=7)
    indices = np.array([[0, 0, 0, 0], [0, 8, 0, 0], [4, 0, 0, 0], [1, 7, 7, 7], [1, 7, 9, 7]])
    run = model.run({"i": pack_voxels(indices)}, {"o": 5}, held=inputs).check()
    assert run.ports["dropped"] == 3
    assert fields_of(octree_check.kept_layout(design), run.outputs["o"])["keep"].tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("name", DESIGNS)
def test_unsorted(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    indices = fitting(design, random_cloud(design, 50, SEED))
    for at in (1, 2, len(indices) - 1):
        swapped = indices.copy()
        swapped[[at - 1, at]] = swapped[[at, at - 1]]
        for stalls in (0, STALLS):
            run = check_build(design, model, swapped, stalls=stalls, seed=at)
            assert run.ports["unsorted"] and run.ports["done"]
            assert run.ports["counts"] % (1 << design.count_bits) == at
    for pair in swapped_pairs(design):
        assert check_build(design, model, pair).ports["unsorted"]


def overflowing(design: MapDesign, level: int) -> np.ndarray:
    """A voxel, or a node of a level, more than there is room for, and few of the levels below."""
    keys = np.arange(design.held(level) + 3) << 3 * level
    return decode_keys(keys, design.depth).astype(np.int64)


@pytest.mark.parametrize("name, level", [("small", 0), ("small", 1), ("small", 2), ("small", 3), ("compact", 1),
                                         ("compact", 3), ("compact", 4), ("flat", 1)])
def test_overflow_of_each_level(name: str, level: int, models: dict[str, StreamModel]) -> None:
    """Raises the flag with the first voxel too many; no later one is a row, and nothing is written beyond."""
    design = DESIGNS[name]
    indices = overflowing(design, level)
    fits = fitting(design, indices)
    assert len(fits) == design.held(level) < len(indices)
    for stalls in (0, STALLS):
        run = check_build(design, models[name], indices, stalls=stalls, seed=level)
        assert run.ports["overflow"] and not run.ports["unsorted"]
        for part in ("leaf", "upper"):
            found = fields_of(node_write_layout(design, leaf=part == "leaf"), run.outputs[part])
            parity = design.search == "parity"
            rows = design.compact_rows if not parity else design.leaf_rows if part == "leaf" else design.upper_rows
            assert (found["walk"] < (design.held(1) if part == "leaf" else design.walk_words)).all()
            assert (found["row"] < rows).all()
    # As many as there is room for are fine.
    clear(models[name], held(design))
    assert not check_build(design, models[name], fits, resume=True).ports["overflow"]


def test_flags_are_known_before_the_tree_is_done(models: dict[str, StreamModel]) -> None:
    """No token says keep in the cycle of the flag or later."""
    design = DESIGNS["small"]
    indices = overflowing(design, 2)
    run = models["small"].run({"i": pack_voxels(indices)}, {"o": len(indices), "finished": 1}, held=held(design),
                              sample={"o": FLAGS, "finished": FLAGS}).check()
    keep = fields_of(octree_check.kept_layout(design), run.outputs["o"])["keep"]
    flag = run.samples["o"]["overflow"].astype(int)
    assert flag.any() and keep.any() and not (keep & flag).any() and (np.diff(flag) >= 0).all()
    assert run.samples["finished"]["overflow"][0]


def test_clouds_one_after_another(models: dict[str, StreamModel]) -> None:
    """With ``clear`` between them, whatever the one before left, an error or half a cloud too."""
    for name in ("cube", "compact", "flat"):
        design, model = DESIGNS[name], models[name]
        clouds = [fitting(design, random_cloud(design, rows, SEED + rows)) for rows in (30, 3, 100, 1)]
        clouds.insert(2, clouds[0][::-1])
        for at, indices in enumerate(clouds):
            run = check_build(design, model, indices, stalls=STALLS if at % 2 else 0, seed=at, resume=at > 0)
            assert run.ports["unsorted"] == (at == 2)
            # Nothing more is taken until then.
            late = model.run({"i": pack_voxels(clouds[0])}, held=held(design), resume=True, limit=50, partial=True)
            assert late.deadlock and len(late.cycles["i"]) == 1 and not len(late.cycles["o"]) and late.ports["done"]
            model.run(held=held(design, clear=True), resume=True, reset_at=[0], drain=2)   # withdraws the offer
        check_build(design, model, clouds[2], resume=True)
        clear(model, held(design))
        part = model.run({"i": pack_voxels(clouds[3], ends=False)}, {"o": len(clouds[3])}, held=held(design),
                         resume=True).check()
        assert not part.ports["done"] and part.ports["counts"]
        clear(model, held(design))
        run = check_build(design, model, clouds[0], resume=True)
        assert not any(run.ports[flag] for flag in FLAGS)
        check_clear(design, model, clouds[0])


@pytest.mark.parametrize("name", ["cube", "compact"])
def test_a_reset_in_any_cycle_forgets_everything(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    indices = fitting(design, random_cloud(design, 40, SEED))
    again, tree = indices[::3], tree_of(design, indices[::3])
    for at in range(1, 60, 3):
        broken = model.run({"i": pack_voxels(indices)}, {"finished": 1}, held=held(design), seed=at, limit=at,
                           stalls={"o": 0.3 * (at % 2)}, partial=True)
        assert at > 40 or broken.deadlock
        model.run(held=held(design), reset_at=[0], resume=True, drain=1)
        check_build(design, model, again, resume=True)
        jobs = octree_check.pack(octree_check.job_layout(design), op=np.array([at % 3]), level=np.array([0]),
                                 count=np.array([tree.counts[at % 3 < 2]]))
        model.run({"job": jobs}, {"item": 10 ** 6}, resume=True, limit=at % 12 + 1, partial=True)
        model.run(held=held(design), reset_at=[0], resume=True, drain=1)
        model.run({"i": pack_voxels(again)}, {"finished": 1}, held=held(design), resume=True)
        check_maps(design, model, tree, [("down2", 1), ("inverse2", 0)])


@pytest.mark.parametrize("name", DESIGNS)
def test_clouds_of_all_kinds(name: str, models: dict[str, StreamModel]) -> None:
    """Rows again, out of range or out of order, too many of them, strict or not, under stalls or none."""
    design, model, rng = DESIGNS[name], models[name], np.random.default_rng(SEED)
    found = dict.fromkeys(("fine", *FLAGS), 0)
    for seed in range(50):
        indices = random_cloud(design, int(rng.integers(2, 60)), seed, spread=rng.choice([0.1, 0.3, 1]))
        indices = fitting(design, indices) if rng.random() < 0.7 else indices
        indices = np.repeat(indices, rng.integers(1, 3, len(indices)), axis=0) if rng.random() < 0.3 else indices
        if rng.random() < 0.3:
            indices = np.insert(indices, rng.integers(0, len(indices)), [0, -1, 0, 0], axis=0)
        if rng.random() < 0.2:
            at = rng.integers(len(indices))
            indices = np.concatenate([indices[at:], indices[:at]])
        run = check_build(design, model, indices, inputs=held(design, strict=rng.random() < 0.3), seed=seed,
                          stalls=(0, {"i": 0.5}, STALLS)[seed % 3])
        found[next((flag for flag in FLAGS if run.ports[flag]), "fine")] += 1
    assert min(found["fine"], found["unsorted"], found["rejected"]) >= 3, found
    assert found["overflow"] or name in ("cube", "deep")


# Cycles --------------------------------------------------------------------------------------------


def test_keys_wait_only_where_the_levels_above_close_faster_than_one_node_a_cycle(
        models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["deep"], models["deep"]
    # Far apart: every key closes all levels, of which nine or ten share a port.
    far = decode_keys(np.arange(16) << 30, 11).astype(np.int64)
    run = check_build(design, model, far)
    keys = keys_of(design, far, held(design))[0]
    cycles, writes = build_cycles(design, keys), 16 * 9 + 2
    # The second key closes the first nodes; from then on the port never rests.
    assert cycles.done == 2 + writes + 3 == build_cycles_unhindered(design, 16) + cycles.waits
    assert int(run.cycles["upper"][-1] - run.cycles["upper"][0]) == writes - 1 == len(run.cycles["upper"]) - 1
    # Eight siblings under each parent: nothing waits, at any size.
    for count in (64, 512, 4096):
        dense = build_cycles(design, np.arange(count))
        assert dense.waits == 0 and dense.done == build_cycles_unhindered(design, count) == count + 14
    flat = build_cycles(DESIGNS["flat"], np.arange(16))
    assert flat.done == build_cycles_unhindered(DESIGNS["flat"], 16) == 19


def test_the_event_model_against_a_plain_walk_through_the_cycles() -> None:
    """The same rules, written down cycle by cycle for the set of waiting levels."""
    rng = np.random.default_rng(SEED)
    design = DESIGNS["deep"]
    waited = 0
    for spread in (3, 12, 20, 33):
        keys = np.unique(rng.integers(0, 1 << spread, 200))
        waiting: set[int] = set()
        now = 0
        for before, key in [*pairwise([None, *keys.tolist()]), (None, None)]:
            now += 1
            wants = set(range(2, 12)) if key is None else set() if before is None else {
                level for level in range(2, 12) if before >> 3 * level != key >> 3 * level}
            while wants & (waiting - {min(waiting, default=0)}):
                waiting -= {min(waiting)}
                now, waited = now + 1, waited + 1
            waiting = waiting - {min(waiting, default=0)} | wants
        assert build_cycles(design, keys).done == now + len(waiting) + 3
    assert waited > 100
    assert [level_map_cycles(pairs) for pairs in (0, 1, 2, 100)] == [4, 4, 5, 103]


# Parts ---------------------------------------------------------------------------------------------


def test_the_encoder_alone() -> None:
    """One voxel a cycle, one edge later, under any stalls; every bit of every number counts, in any shape."""
    design = MapDesign(depth=6, batch_bits=2, capacity=64)
    model = StreamModel(VoxelEncoder(design))
    rng = np.random.default_rng(SEED)
    indices = odd_voxels(design, 256, SEED)
    indices[::2, 3] = 0
    inputs = {"shape_x": 64, "shape_y": 40, "shape_z": 1, "batches": 3, "clear": 0}
    for stalls in (0, {"i": 0.5, "o": 0.2}, {"i": 0.2, "o": 0.7}):
        good = check_encoder(design, model, indices, inputs, stalls=stalls, seed=SEED)
        assert 50 < good.sum() < 250
    for seed in range(40):
        shape = {f"shape_{axis}": int(rng.integers(1, 65)) for axis in "xyz"} | {"batches": int(rng.integers(1, 5))}
        check_encoder(design, model, odd_voxels(design, 128, seed), inputs | shape, seed=seed)
    model.run(held=inputs | {"clear": 1}, resume=True, drain=1)
    run = model.run({"i": pack_voxels(indices[:0])}, {"o": 1}, held=inputs, resume=True).check()
    assert run.ports["voxels"] == run.ports["dropped"] == 0
    assert not fields_of(key_layout(design), run.outputs["o"])["mask"][0]


class Counter(wiring.Component):
    def __init__(self):
        super().__init__({"event": In(1), "count": Out(3)})

    def elaborate(self, platform) -> Module:
        m = Module()
        count = Signal(3)
        m.d.comb += self.count.eq(count)
        saturating(m, count, self.event)
        return m


def test_counters_stop_at_their_maximum() -> None:
    counter, seen = Counter(), []

    async def bench(ctx) -> None:
        for at in range(24):
            ctx.set(counter.event, at % 2)
            await ctx.tick()
            seen.append(ctx.get(counter.count))

    simulator = Simulator(counter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [min((at + 1) // 2, 7) for at in range(24)]


def test_the_checks_find_a_wrong_tree(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["cube"], models["cube"]
    indices = random_cloud(design, 60, SEED)
    check_build(design, model, indices)
    tree, other = tree_of(design, indices), tree_of(design, np.delete(indices, 7, axis=0))
    with pytest.raises(BitkilnError, match="RTL and golden model differ"):
        check_memories(design, model, other)
    with pytest.raises(BitkilnError, match="RTL and golden model differ at item"):
        check_maps(design, model, build_tree(tree.levels[0] ^ 1 if not (tree.levels[0] & 1).any()
                                             else np.sort(tree.levels[0] ^ 1), 4), [("down2", 0)])
    assert item_layout(design).size == design.out_bits + 5 + design.index_bits + design.level_bits + 3
