# amaranth: UnusedElaboratable=no
"""Compact map search: every row and every cycle, golden maps, stalls, resets, all modes, and the formula C2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bitkiln.hw.spconv.compact import CompactDescent
from bitkiln.hw.spconv.compact_fetch import butterfly_controls
from bitkiln.models.cost.spconv.map_baselines import descent_compact
from bitkiln.models.cost.spconv.map_compact import ROW, STEP, busiest, compact_cycles
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import ConvMap, Tree, build_tree, encode_keys, stride3, submanifold
from bitkiln.sim import compact_check
from bitkiln.sim.compact_check import (
    START,
    CompactBench,
    CompactJob,
    Rows,
    check_search,
    compare_cycles,
    compare_rows,
    pairs_of,
    rows_of,
    search,
    wanted_rows,
)
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 97
print(f"seed {SEED}")
DESIGNS = {
    "cube": MapDesign(depth=4, batch_bits=1, capacity=4096, levels=(1024, 128, 16, 2), search="compact"),
    "deep": MapDesign(depth=11, batch_bits=2, capacity=1024, levels=(*[1024] * 8, 256, 32, 4), search="compact"),
    "least": MapDesign(depth=2, batch_bits=0, capacity=64, levels=(8, 1), search="compact", queue=2, rows=2),
    "flat": MapDesign(depth=1, batch_bits=3, capacity=16, levels=(8,), search="compact", rows=4),
}
TREES = {"cube": 2, "deep": 1, "least": 1, "flat": 2}
FIRST, LATER = ("cube", "deep"), ("least", "flat")
ALL = [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)]
PER_LEVEL = 16          # what latency may add to a formula, for each level
JOINING = 3 * 8 + 1     # children that still join a level whose room ran out: those of three nodes, and one on its way


class Models(dict):
    """By name of the design; those of the short tests are compiled side by side."""

    def __missing__(self, name: str) -> StreamModel:
        group = FIRST if name in FIRST else (name,)
        self |= zip(group, build_streams([CompactBench(DESIGNS[each], TREES[each]) for each in group]), strict=True)
        return self[name]


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return Models()


# Clouds --------------------------------------------------------------------------------------------


def tree_of(design: MapDesign, indices: np.ndarray) -> Tree:
    tree = build_tree(np.unique(encode_keys(np.asarray(indices).reshape(-1, 4), design.depth)), design.depth)
    assert all(count <= design.held(level) for level, count in enumerate(tree.counts))
    return tree


def random(design: MapDesign, count: int, seed: int, spread: float = 1.0) -> Tree:
    """Anywhere within a share of the grid, in every batch."""
    rng = np.random.default_rng(seed)
    side = max(int(spread * (1 << design.depth)), 1)
    batch, places = rng.integers(0, design.batches, count), rng.integers(0, side, (3, count))
    return tree_of(design, np.stack([batch, *places], axis=1))


def surface(design: MapDesign, seed: int, side: int = 24) -> Tree:
    """A wavy sheet."""
    side = min(side, 1 << design.depth)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    z = (side / 2 + side / 5 * np.sin(x / 5 + seed) * np.cos(y / 7)).astype(int)
    return tree_of(design, np.stack([0 * x, x, y, z], axis=-1).reshape(-1, 4))


def rings(design: MapDesign, seed: int, count: int = 900) -> Tree:
    """Ground as a turning sensor sees it: circles that lie further apart with the distance."""
    rng = np.random.default_rng(seed)
    middle, angle = (1 << design.depth) // 2, rng.uniform(0, 2 * np.pi, count)
    radius = middle * 0.9 * 0.8 ** rng.integers(0, 12, count)
    x, y = middle + radius * np.cos(angle), middle + radius * np.sin(angle)
    z = middle + 0.02 * middle * np.sin(x / 40)
    return tree_of(design, np.stack([0 * x, x, y, z], axis=-1).astype(int))


def cube(design: MapDesign, side: int, batches: int = 1) -> Tree:
    axes = [np.arange(batches), *[np.arange(side)] * 3]
    return tree_of(design, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def corners(design: MapDesign) -> Tree:
    """Coordinates 0 and the largest, and their neighbours, in the first and the last batch."""
    top = (1 << design.depth) - 1
    places = sorted({0, 1, top - 1, top})
    return tree_of(design, np.stack(np.meshgrid([0, design.batches - 1], places, places, places), axis=-1))


def clouds(name: str) -> dict[str, Tree]:
    design = DESIGNS[name]
    found = {"single": random(design, 1, SEED), "corners": corners(design) if name != "flat" else random(design, 9, 1)}
    if name == "cube":
        found |= {"full": cube(design, 16), "block": cube(design, 6, 2), "dense": random(design, 1500, SEED),
                  "sparse": random(design, 60, SEED), "surface": surface(design, SEED),
                  "two": random(design, 2, SEED + 1)}
    elif name == "deep":
        found |= {"surface": surface(design, 1), "rings": rings(design, SEED), "random": random(design, 300, SEED),
                  "local": random(design, 700, SEED, 0.006), "spread": random(design, 500, SEED + 1, 0.05),
                  "chain": tree_of(design, np.array([[3, 2047, 0, 1365]]))}
    elif name == "least":
        found |= {"full": cube(design, 4), "half": random(design, 30, SEED)}
    else:
        found |= {"batches": random(design, 12, SEED)}
    return found


def golden(map: ConvMap) -> np.ndarray:
    return np.stack([map.out, map.k, map.inp])


# Submanifold maps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_rows_pairs_and_cycles(name: str, models: dict[str, StreamModel]) -> None:
    """Rows as looked up, pairs as the golden map's, cycles as the event model's and within the formula C2."""
    design, pairs = DESIGNS[name], 0
    for cloud, tree in clouds(name).items():
        run = check_search(design, models[name], tree)
        rows = rows_of(design, run.outputs["row"])
        wanted = golden(submanifold(tree.levels[0], design.depth))
        assert np.array_equal(pairs_of(rows), wanted) and wanted.shape[1] >= tree.counts[0]
        pairs += wanted.shape[1]
        cycles = compact_cycles(design, tree)
        assert cycles.cycles == int(run.cycles["row"][-1]) - int(run.cycles["job"][0]) - START
        assert busiest(cycles) <= cycles.cycles
        # A queue of fewer rows than are on their way makes them wait.
        if design.rows > ROW:
            assert cycles.cycles <= descent_compact(tree).cycles + PER_LEVEL * design.depth, cloud
        assert cycles.octants == run.ports["octants"] <= cycles.words
    assert pairs >= {"cube": 110_000, "deep": 9_000, "least": 900, "flat": 20}[name]


@pytest.mark.slow
def test_a_full_cube(models: dict[str, StreamModel]) -> None:
    design = DESIGNS["cube"]
    tree = cube(design, 16)
    run = check_search(design, models["cube"], tree)
    pairs = pairs_of(rows_of(design, run.outputs["row"]))
    assert pairs.shape == (3, 46 ** 3) and pairs.shape[1] == 97_336
    counts = np.bincount(pairs[0])
    assert counts.min() == 8 and counts.max() == 27
    # A row each cycle, and a quarter of the words.
    cycles, formula = compact_cycles(design, tree), descent_compact(tree)
    assert cycles.cycles < 4096 + PER_LEVEL * design.depth and 4 * cycles.words < formula.words_read
    # Every place where nodes wait fills up: rows of all levels share their queue, or nobody takes them.
    for cloud in (tree, random(design, 2500, 4500)):
        for job in (CompactJob(every=True), CompactJob(1, every=True), CompactJob()):
            for stalls in (None, {"row": 0.5}, {"row": 0.9}):
                check_search(design, models["cube"], cloud, job, stalls=stalls, seed=SEED)


def test_a_chain_of_single_nodes_takes_a_step_for_each_level() -> None:
    for depth in (1, 2, 5, 11, 16):
        design = MapDesign(depth=depth, capacity=8, search="compact", batch_bits=0)
        tree = build_tree(np.array([(1 << 3 * depth) - 1]), depth)
        first = compact_cycles(design, tree, target=depth - 1).cycles
        assert first - ROW < PER_LEVEL
        assert [compact_cycles(design, tree, target=t).cycles for t in range(depth)] == [
            first + STEP * (depth - 1 - t) for t in range(depth)]


@pytest.mark.parametrize("name", ALL)
def test_nothing_in_the_tree(name: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    tree = build_tree(np.zeros(0, np.int64), design.depth)
    for job in (CompactJob(), CompactJob(every=True), CompactJob(half=True), CompactJob(target=design.depth - 1)):
        for stalls in (None, {"row": 0.8}):
            run = check_search(design, models[name], tree, job, stalls=stalls, seed=SEED)
            assert len(run.outputs["row"]) == 1
    # No batch that is asked for.
    tree = clouds(name)["corners"]
    run = search(design, models[name], tree, [CompactJob(present=0)], rows=1).check()
    compare_rows([], rows_of(design, run.outputs["row"]), name)


def test_batches_are_apart(models: dict[str, StreamModel]) -> None:
    """The same voxels in two batches: twice the pairs of one."""
    design = DESIGNS["cube"]
    one, two = cube(design, 5), cube(design, 5, 2)
    runs = [check_search(design, models["cube"], tree) for tree in (one, two)]
    single, both = (pairs_of(rows_of(design, run.outputs["row"])) for run in runs)
    assert both.shape[1] == 2 * single.shape[1] == 2 * 13 ** 3
    assert ((both[0] >= 125) == (both[2] >= 125)).all()


# Modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL[:3])
def test_all_targets_and_levels(name: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    tree = clouds(name)["corners" if name == "least" else "surface"]
    targets = range(design.depth) if name != "deep" else (1, 4, 10)
    for target in targets:
        for job in (CompactJob(target), CompactJob(target, every=True), CompactJob(target, half=True)):
            for stalls in (None, {"row": 0.6}):
                run = check_search(design, models[name], tree, job, stalls=stalls, seed=SEED + target)
                rows = rows_of(design, run.outputs["row"])
                levels = range(target, design.depth if job.every else target + 1)
                assert set(rows.level) == set(levels)
    # Of one pass: as many as all levels have.
    run = check_search(design, models[name], tree, CompactJob(every=True))
    assert len(run.outputs["row"]) == sum(tree.counts[:-1])


def outputs_tree(design: MapDesign, map: ConvMap) -> Tree:
    """The output rows, keys of a digit less, as a tree of the design's depth."""
    digits = 3 * (design.depth - 1)
    keys = map.out_keys
    return build_tree(keys >> digits << 3 * design.depth | keys & ((1 << digits) - 1), design.depth)


@pytest.mark.parametrize("cloud", ["sparse", "surface", "corners", "single", "block"])
def test_stride_two(cloud: str, models: dict[str, StreamModel]) -> None:
    """Parents as outputs from one tree; all outputs that meet an input from a tree of their own."""
    design, model, tree = DESIGNS["cube"], models["cube"], clouds("cube")[cloud]
    wanted = stride3(tree.levels[0], design.depth, "parents")
    run = check_search(design, model, tree, CompactJob(half=True))
    assert np.array_equal(pairs_of(rows_of(design, run.outputs["row"])), golden(wanted)) and wanted.pairs
    wanted = stride3(tree.levels[0], design.depth, "dilate")
    walked = outputs_tree(design, wanted)
    for stalls in (None, {"row": 0.5}):
        run = check_search(design, model, tree, CompactJob(half=True, offset=True), walked=walked, stalls=stalls,
                           seed=SEED)
        assert np.array_equal(pairs_of(rows_of(design, run.outputs["row"])), golden(wanted))
    # Rows of another tree's nodes without halving: outputs of its levels 0 and 1 among nodes of levels 1 and 2.
    for target in (1, 2):
        run = check_search(design, model, tree, CompactJob(target, offset=True), walked=walked)
        assert len(run.outputs["row"]) == walked.counts[target - 1]


@pytest.mark.parametrize("name", [ALL[0], ALL[3]])
def test_batches_without_outputs(name: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    tree = random(design, 12 if name == "flat" else 80, SEED + 3)
    batch = tree.levels[-1]
    assert len(batch) == tree.counts[-1] >= 2
    for present in range(1, 1 << len(batch)):
        some = batch[[present >> at & 1 == 1 for at in range(len(batch))]]
        keys = tree.levels[0][np.isin(tree.levels[0] >> 3 * design.depth, some)]
        # Outputs: the parents, as a tree of their own.
        parents = np.unique(keys >> 3)
        digits = 3 * (design.depth - 1)
        walked = build_tree(parents >> digits << 3 * design.depth | parents & ((1 << digits) - 1), design.depth)
        job = CompactJob(half=True, offset=True, present=present)
        run = check_search(design, models[name], tree, job, walked=walked)
        assert len(run.outputs["row"]) == len(parents)


# Stalls, resets, one after the other ---------------------------------------------------------------


@pytest.mark.parametrize("name, cloud", [
    ("cube", "dense"), ("cube", "block"), ("deep", "rings"), pytest.param("least", "full", marks=pytest.mark.slow)])
def test_stalls_change_nothing_but_time(name: str, cloud: str, models: dict[str, StreamModel]) -> None:
    design, tree = DESIGNS[name], clouds(name)[cloud]
    free = check_search(design, models[name], tree)
    for stall in (0.2, 0.7, 0.95):
        run = check_search(design, models[name], tree, stalls={"row": stall}, seed=SEED)
        assert run.total >= free.total + (stall > 0.9)
        slow, fast = (rows_of(design, each.outputs["row"]) for each in (run, free))
        assert all(np.array_equal(getattr(slow, part), getattr(fast, part)) for part in Rows.__dataclass_fields__)
        assert run.ports["octants"] == free.ports["octants"]


def test_one_search_after_the_other(models: dict[str, StreamModel]) -> None:
    """Each takes the cycles it takes alone; the next one starts two cycles after the last row."""
    design, model, tree = DESIGNS["cube"], models["cube"], clouds("cube")["surface"]
    jobs = [CompactJob(), CompactJob(2), CompactJob(every=True), CompactJob(half=True), CompactJob(3, half=True),
            CompactJob(1, every=True), CompactJob()]
    wanted = [wanted_rows(design, tree, job) for job in jobs]
    counts = [sum(len(rows.index) for rows in each) for each in wanted]
    for stalls in (None, {"row": 0.4, "job": 0.5}):
        run = search(design, model, tree, jobs, rows=sum(counts), stalls=stalls, seed=SEED).check()
        at = 0
        for n, (job, count) in enumerate(zip(jobs, counts, strict=True)):
            part = slice(at, at + count)
            compare_rows(wanted[n], rows_of(design, run.outputs["row"][part]), f"job {n}")
            at += count
            if not stalls:
                begun, rows = int(run.cycles["job"][n]) + START, run.cycles["row"][part].astype(np.int64)
                assert np.array_equal(rows - begun, compact_cycles(
                    design, tree, job.target, every=job.every, half=job.half).rows)
                assert n == 0 or begun == int(run.cycles["row"][part.start - 1]) + 2
        assert at == len(run.outputs["row"]) and not run.ports["busy"]


@pytest.mark.parametrize("name, cloud", [pytest.param("cube", "dense", marks=pytest.mark.slow), ("deep", "local")])
def test_a_reset_in_any_cycle_forgets_everything(name: str, cloud: str, models: dict[str, StreamModel]) -> None:
    design, model, tree = DESIGNS[name], models[name], clouds(name)[cloud]
    again = clouds(name)["surface"]
    wanted = wanted_rows(design, again, CompactJob(1))
    count = sum(len(rows.index) for rows in wanted)
    items = {"job": compact_check.pack_jobs(design, [CompactJob(1)], again.counts[design.depth])}
    for at in [*range(1, 60, 3), *range(60, 900, 83)]:
        broken = search(design, model, tree, [CompactJob(every=at % 2 == 1)], limit=at, partial=True,
                        stalls={"row": 0.4 * (at % 3 == 0)}, seed=at)
        assert broken.ports["busy"]
        model.run({"node": compact_check.load(design, again)}, {}, reset_at=[0], resume=True, drain=1)
        run = model.run(items, {"row": count}, resume=True).check()
        compare_rows(wanted, rows_of(design, run.outputs["row"]), f"reset at {at}")
        compare_cycles(design, again, CompactJob(1), replace(run, ports=run.ports | {
            "octants": compact_cycles(design, again, 1).octants}))


# Parts ---------------------------------------------------------------------------------------------


class Butterfly(wiring.Component):
    """Bank numbers through the network: each child must get its own."""

    def __init__(self):
        super().__init__({"mask": In(8), "low": In(3), **{f"o{child}": Out(3) for child in range(8)}})

    def elaborate(self, platform) -> Module:
        m = Module()
        banks = [(self.low + sum(self.mask[:child]))[:3] if child else self.low for child in range(8)]
        moved = [Signal(3, init=bank) for bank in range(8)]
        m.d.sync += moved[0].eq(0)
        for stage, bit in zip(butterfly_controls(banks, self.mask), (2, 1, 0), strict=True):
            moved = [Mux(stage[at], moved[at | 1 << bit], moved[at & ~(1 << bit)]) for at in range(8)]
        m.d.comb += [getattr(self, f"o{child}").eq(moved[child]) for child in range(8)]
        return m


def test_the_butterfly_brings_every_octant_to_its_digits() -> None:
    """All 256 octants at all 8 places in the banks."""
    dut, checked = Butterfly(), 0

    async def bench(ctx) -> None:
        nonlocal checked
        for low in range(8):
            ctx.set(dut.low, low)
            for mask in range(256):
                ctx.set(dut.mask, mask)
                rank = low
                for child in range(8):
                    if mask >> child & 1:
                        assert ctx.get(getattr(dut, f"o{child}")) == rank % 8, (mask, low, child)
                        rank, checked = rank + 1, checked + 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert checked == 8 * 4 * 256


def test_windows_of_all_levels_are_apart() -> None:
    for depth in range(1, 17):
        for queue in (2, 8, 64):
            plan = WindowPlan(depth, queue)
            rings_ = [plan.ring(level) for level in range(2, depth + 1)]
            taken = [window for first, count in rings_ for window in range(first, first + count)]
            assert len(set(taken)) == len(taken) and all(window < plan.upper_windows for window in taken)
            assert all(count in (2, 4) and first % count == 0 for first, count in rings_)
            assert plan.waiting & (plan.waiting - 1) == 0 and queue <= plan.room < plan.waiting - JOINING


def test_the_check_finds_what_is_wrong(models: dict[str, StreamModel]) -> None:
    design, tree = DESIGNS["cube"], clouds("cube")["sparse"]
    run = check_search(design, models["cube"], tree)
    rows = rows_of(design, run.outputs["row"])
    bases = rows.bases.copy()
    bases[-1, np.flatnonzero(rows.masks[-1])[0]] ^= 1
    short = Rows(*(getattr(rows, part)[:-1] for part in Rows.__dataclass_fields__))
    wanted = wanted_rows(design, tree, CompactJob())
    for wrong in (replace(rows, bases=bases), replace(rows, masks=rows.masks ^ 1), short,
                  replace(rows, last=rows.last * 0)):
        with pytest.raises(BitkilnError, match="RTL and golden model differ"):
            compare_rows(wanted, wrong, "test")
    late = run.cycles["row"] + (np.arange(len(rows.index)) > 20).astype(np.uint64)
    with pytest.raises(BitkilnError, match="RTL and event model differ"):
        compare_cycles(design, tree, CompactJob(), replace(run, cycles=run.cycles | {"row": late}))
    with pytest.raises(BitkilnError, match="no level below"):
        compact_cycles(design, tree, offset=True, walked=tree)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_many_clouds(seed: int, models: dict[str, StreamModel]) -> None:
    for name, counts in (("cube", (5, 40, 300, 2500)), ("deep", (3, 20, 120, 900))):
        design = DESIGNS[name]
        for count in counts:
            for spread in (1.0, 0.2) if name == "cube" else (1.0, 0.05, 0.006):
                tree = random(design, min(count, 900) if name == "deep" else count, 1000 * seed + count, spread)
                for job in (CompactJob(), CompactJob(seed % 3), CompactJob(seed % 2, every=True),
                            CompactJob(half=True)):
                    run = check_search(design, models[name], tree, job)
                    check_search(design, models[name], tree, job, stalls={"row": 0.5}, seed=seed)
                    assert len(run.outputs["row"])
                assert compact_cycles(design, tree).cycles <= descent_compact(tree).cycles + PER_LEVEL * design.depth


def test_the_component_is_described() -> None:
    unit = CompactDescent(DESIGNS["deep"])
    assert unit.module_name.startswith("compact_descent_map_compact_d11")
    assert unit.parameters["upper_windows"] == 32 and unit.parameters["leaf_windows"] == 16
