# amaranth: UnusedElaboratable=no
"""Units of the sparse convolution for `bitkiln.sim.mutate_streams`: small designs, and the checks of their tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from bitkiln.host.spconv import compile_network
from bitkiln.hw.spconv.encoder import VoxelEncoder
from bitkiln.hw.spconv.engine import SpConvEngine
from bitkiln.hw.spconv.table import VoxelTable
from bitkiln.models.design.spconv import CacheDesign, GatherDesign, MapDesign, TableDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.golden.spconv import Tree, build_tree, decode_keys, down2, encode_keys, stride3
from bitkiln.models.golden.voxel_table import table_words
from bitkiln.models.workloads.spconv_nets import dilating_encoder, encoder_decoder

from . import compact_check, map_check, octree_check
from .bitserial_check import pack_bits
from .compact_check import CompactBench, CompactJob
from .gather_check import (
    GatherBench,
    check_gather,
    check_stuck,
    interleaved_work,
    random_features,
    random_weights,
    random_work,
)
from .map_check import MapBench
from .mutate_streams import Chosen, StreamUnit
from .octree_check import (
    OPS,
    accept,
    check_build,
    check_clear,
    check_encoder,
    check_maps,
    check_memories,
    held,
    keys_of,
    odd_voxels,
    swapped_pairs,
    tree_of,
)
from .octree_path import TreePath
from .spconv_check import check_program, edge_network, network_on
from .table_check import check_table, check_table_reset, pack_commands, random_commands
from .weight_cache_check import (
    CacheBench,
    Items,
    OrderBench,
    RowBench,
    check_cache,
    check_order,
    check_order_cycles,
    check_rows,
    pack_items,
    random_items,
)

__all__ = ["spconv_units"]

SEED = 61               # of the vectors


# Octree --------------------------------------------------------------------------------------------


def _cloud(design: MapDesign, voxels: int, seed: int, *, spread: float = 1.0) -> np.ndarray:
    """Ascending rows, each once, as many as there is room for."""
    rng = np.random.default_rng(seed)
    side = max(int(spread * (1 << design.depth)), 1)
    indices = np.concatenate([rng.integers(0, design.batches, (voxels, 1)), rng.integers(0, side, (voxels, 3))], 1)
    indices = decode_keys(np.unique(encode_keys(indices, design.depth)), design.depth).astype(np.int64)
    return _fitting(design, indices)


def _fitting(design: MapDesign, indices: np.ndarray) -> np.ndarray:
    """As many of the first voxels as there is room for."""
    keys, good = keys_of(design, indices, held(design))
    return indices[accept(design, keys, good).keep]


class _Encoder:
    """Checks of `VoxelEncoder`: as tests/hw/test_octree.py."""

    def __init__(self, design: MapDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, VoxelEncoder(self.design), (self.one, self.all))

    def one(self, model: Chosen) -> None:
        for seed in range(12):
            rng, most = np.random.default_rng(SEED + seed), 1 << self.design.depth
            inputs = {f"shape_{axis}": int(rng.integers(1, most + 1)) for axis in "xyz"}
            inputs |= {"batches": int(rng.integers(1, self.design.batches + 1)), "clear": 0}
            check_encoder(self.design, model, odd_voxels(self.design, 128, seed), inputs, seed=seed,
                          stalls={"i": 0.5, "o": 0.5} if seed % 2 else 0)

    def all(self, model: Chosen) -> None:
        """As large as can be; nothing is left of the cloud before."""
        design = self.design
        inputs = held(design) | {"clear": 0}
        del inputs["strict"]
        check_encoder(design, model, odd_voxels(design, 128, SEED), inputs)
        model.run(held=inputs | {"clear": 1}, resume=True, drain=1)
        run = model.run({"i": octree_check.pack_voxels(np.zeros((0, 4)))}, {"o": 1}, held=inputs, resume=True).check()
        octree_check.same("cleared", [run.ports["voxels"], run.ports["dropped"]], [0, 0])


class _Octree:
    """Checks of `TreePath`: what tests/hw/test_octree.py has, on a small grid."""

    STALLS = {"i": 0.3, "o": 0.4}

    def __init__(self, design: MapDesign):
        self.design = design

    def units(self, parts: dict[str, str]) -> Iterator[StreamUnit]:
        checks = (self.one, self.clouds, self.odd, self.refused, self.later)
        for part, kind in parts.items():
            yield StreamUnit(kind, TreePath(self.design), checks, part)

    def one(self, model: Chosen) -> None:
        indices = _cloud(self.design, 24, SEED)
        tree = tree_of(self.design, indices)
        check_build(self.design, model, indices)
        check_memories(self.design, model, tree)
        check_maps(self.design, model, tree, [(op, level) for level in range(self.design.depth) for op in OPS])

    def clouds(self, model: Chosen) -> None:
        jobs = [(op, level) for level in range(self.design.depth) for op in OPS]
        most = (1 << self.design.depth) - 1
        corners = np.array([[b, *(most * (at >> n & 1) for n in (2, 1, 0))] for b in (0, 1) for at in range(8)])
        rows = self.design.batches << 3 * self.design.depth
        full, spread = (decode_keys(keys, self.design.depth).astype(np.int64) for keys in (
            np.arange(min(self.design.capacity, rows)),
            np.sort(np.random.default_rng(SEED).permutation(rows)[:self.design.capacity])))
        clouds = [np.zeros((0, 4), np.int64), np.array([[1, most, most, most]]), corners, full, spread,
                  *(_cloud(self.design, 60, SEED + at, spread=at / 2) for at in (1, 2))]
        for seed, indices in enumerate(clouds):
            indices = _fitting(self.design, indices)
            tree = tree_of(self.design, indices)
            for stalls in (0, self.STALLS):
                check_build(self.design, model, indices, stalls=stalls, seed=seed)
                check_memories(self.design, model, tree, stalls=0.3 if stalls else 0, seed=seed)
                check_maps(self.design, model, tree, jobs, seed=seed, stalls={"item": 0.4, "job": 0.2} if stalls else 0)

    def odd(self, model: Chosen) -> None:
        """Rows again, out of range, smaller shapes."""
        design, rng = self.design, np.random.default_rng(SEED)
        once, most = _cloud(design, 30, SEED + 3), 1 << design.depth
        twice = np.repeat(once, rng.integers(1, 4, len(once)), axis=0)
        wild = np.array([-1, -(1 << 31), (1 << 31) - 1, most, most + 1, 1 << 8, 1 << 30, -most])
        bad = np.repeat(once[:1], 4 * len(wild), axis=0)
        bad[np.arange(len(bad)), np.arange(len(bad)) % 4] = np.repeat(wild, 4)
        mixed = np.insert(once, rng.integers(0, len(once), len(bad)), bad, axis=0)
        narrow = held(design, shape=(most - 1, most, most - 3), batches=1)
        for strict in (0, 1):
            for indices, inputs in ((twice, held(design)), (mixed, held(design)), (once, narrow), (mixed, narrow)):
                for stalls in (0, self.STALLS):
                    check_build(design, model, indices, inputs=inputs | {"strict": strict}, stalls=stalls, seed=SEED)
        wide = held(design, shape=(2 * most - 1,) * 3, batches=2 * design.batches - 1)
        beyond = np.concatenate([once, [[0, most, 0, 0], [design.batches, 0, 0, 0]]])
        run = model.run({"i": octree_check.pack_voxels(beyond)}, {"o": len(beyond)}, held=wide).check()
        octree_check.same("dropped", run.ports["dropped"], 2)

    def refused(self, model: Chosen) -> None:
        """Out of order, or too many of a level."""
        design = self.design
        indices = _cloud(design, 30, SEED + 4)
        for at in (1, len(indices) - 1):
            swapped = indices.copy()
            swapped[[at - 1, at]] = swapped[[at, at - 1]]
            check_build(design, model, swapped, stalls=self.STALLS if at > 1 else 0)
        for pair in swapped_pairs(design):
            check_build(design, model, pair)
        for level in range(design.depth + 1):
            if design.held(level) < design.batches << 3 * (design.depth - level):
                keys = np.arange(design.held(level) + 1) << 3 * level
                over = decode_keys(keys, design.depth).astype(np.int64)
                for stalls in (0, self.STALLS):
                    check_build(design, model, over, stalls=stalls)

    def later(self, model: Chosen) -> None:
        """Clouds one after the other, whatever the one before left; resets."""
        design = self.design
        first, second = _cloud(design, 40, SEED + 5), _cloud(design, 12, SEED + 6)
        for at, indices in enumerate((first, first[::-1], second, second[:0], first)):
            check_build(design, model, indices, resume=at > 0, stalls=self.STALLS if at % 2 else 0, seed=at)
            late = model.run({"i": octree_check.pack_voxels(first)}, held=held(design), resume=True, limit=50,
                             partial=True)
            octree_check.same("taken after the end", [len(late.cycles["i"]), len(late.cycles["o"])], [1, 0])
            model.run(held=held(design, clear=True), resume=True, reset_at=[0], drain=2)
        check_clear(design, model, first)
        for at in (4, 17, 30):
            model.run({"i": octree_check.pack_voxels(first)}, {"finished": 1}, held=held(design), limit=at,
                      partial=True, stalls={"o": 0.3 * (at % 2)}, seed=at)
            if at == 4:
                octree_check.clear(model, held(design))
                model.run(held=held(design), reset_at=[0], resume=True, drain=1)   # withdraws the offer
            model.run(held=held(design), reset_at=[0], resume=True, drain=1)
            check_build(design, model, second, resume=True)
            check_maps(design, model, tree_of(design, second), [("down2", 0), ("inverse2", 1), ("generative2", 1)])


# Map search ----------------------------------------------------------------------------------------


def _tree(design: MapDesign, voxels: int, seed: int, spread: float = 1.0) -> Tree:
    return tree_of(design, _cloud(design, voxels, seed, spread=spread))


class _Descent:
    """Checks of `MapBench`: as tests/hw/test_descent.py."""

    STALLS = {"row": 0.4, "item": 0.3, "job": 0.5}

    def __init__(self, design: MapDesign):
        self.design = design

    def units(self, parts: dict[str, str]) -> Iterator[StreamUnit]:
        for part, kind in parts.items():
            yield StreamUnit(kind, MapBench(self.design, 2), (self.one, self.trees, self.waiting, self.others,
                                                              self.later), part)

    def _all(self, model: Chosen, tree: Tree, stalls: dict[str, float] | None = None, seed: int = 0) -> None:
        map_check.load_tree(self.design, model, tree)
        for search in map_check.searches(self.design, tree):
            if stalls and search.job.every:
                # Rows of two engines may come in another order.
                search = replace(search, cycles=replace(search.cycles, level=None))
            map_check.check_search(self.design, model, tree.counts[-1], search, stalls=stalls, seed=seed)

    def one(self, model: Chosen) -> None:
        self._all(model, _tree(self.design, 20, SEED))

    @cached_property
    def _trees(self) -> list[Tree]:
        d = self.design
        most = (1 << d.depth) - 1
        return [tree_of(d, np.zeros((0, 4), np.int64)), tree_of(d, np.array([[1, most, most, most]])),
                tree_of(d, decode_keys(np.arange(min(d.capacity, 64 << 3)), d.depth).astype(np.int64)),
                *(_tree(d, 200, SEED + at, at / 2) for at in (1, 2))]

    def trees(self, model: Chosen) -> None:
        for tree in self._trees:
            self._all(model, tree)

    def waiting(self, model: Chosen) -> None:
        for seed, stalls in enumerate((self.STALLS, {"row": 0.9, "item": 0.9}, {"row": 0.2})):
            for tree in self._trees[1:] if seed else self._trees:
                self._all(model, tree, stalls, seed)

    def others(self, model: Chosen) -> None:
        """Outputs of another tree, half of a map, pairs of all levels, nothing to do."""
        design = self.design
        for voxels in (1, 30, 150):
            keys = _tree(design, voxels, SEED + 7).levels[0]
            for kind in ("dilate", "drop"):
                if kind == "dilate":
                    golden = stride3(keys, design.depth, "dilate")
                else:
                    sides = ((1 << design.depth) - 1,) * 3
                    keys = keys[(decode_keys(keys, design.depth)[:, 1:] < sides).all(1)]
                    golden = down2(keys, design.depth, sides, "drop")
                tree = build_tree(keys, design.depth)
                search, walk = map_check.cross_search(design, tree, golden)
                if all(count <= design.held(level) for level, count in enumerate(walk.counts)):
                    map_check.load_tree(design, model, tree)
                    map_check.load_tree(design, model, walk, 1)
                    for stalls in (None, self.STALLS):
                        map_check.check_search(design, model, tree.counts[-1], search, stalls=stalls, seed=SEED)
        tree = self._trees[-1]
        map_check.load_tree(design, model, tree)
        half, every = map_check.searches(design, tree)[:2]
        half = replace(half, job=replace(half.job, half_map=True))
        map_check.check_search(design, model, tree.counts[-1], half)
        wanted = [map_check.wanted_items(replace(every, maps=(each,))) for each in every.maps]
        job = map_check.pack_jobs(design, [replace(every.job, items=True)], tree.counts[-1])
        run = model.run({"job": job}, {"item": sum(len(each["out"]) for each in wanted)}, resume=True,
                        stalls={"item": 0.2}).check()
        fields = octree_check.fields_of(map_check.item_layout(design), run.outputs["item"])
        for level, each in enumerate(wanted):
            at = fields["level"] == level
            for name in ("out", "k", "in", "pair", "row_last"):
                map_check.same(fields[name][at], each[name], f"{name} of level {level}")

    def later(self, model: Chosen) -> None:
        """One after the other, resets in the middle of a search."""
        tree = self._trees[-1]
        map_check.load_tree(self.design, model, tree)
        found, roots = map_check.searches(self.design, tree), tree.counts[-1]
        jobs = map_check.pack_jobs(self.design, [search.job for search in found], roots)
        counts = [sum(each.rows for each in search.maps) for search in found]
        for stalls in ({}, {"row": 0.3}):
            run = model.run({"job": jobs}, {"row": sum(counts)}, stalls=stalls, seed=SEED, resume=True).check()
            fields = map_check.row_fields(self.design, run.outputs["row"])
            for search, end, count in zip(found, np.cumsum(counts), counts, strict=True):
                search = replace(search, cycles=replace(search.cycles, level=None))
                map_check.compare_rows(self.design, search, {name: values[end - count:end]
                                                             for name, values in fields.items()}, "job")
        for at in (3, 9, 14, 25, 38, 90):
            job = replace(found[0].job, items=at % 3 == 0)
            model.run({"job": map_check.pack_jobs(self.design, [job], roots)}, {"row": 1 << 20}, seed=at, limit=at,
                      stalls={"row": 0.5 * (at % 2)}, partial=True, resume=True)
            model.run({}, {}, reset_at=[0], resume=True)
            map_check.check_search(self.design, model, roots, found[0 if at % 4 else 3], items=at % 2 == 0)


class _Compact:
    """Checks of `CompactBench`: as tests/hw/test_compact.py."""

    def __init__(self, design: MapDesign):
        self.design = design

    def units(self, part: str, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, CompactBench(self.design, 2), (self.one, self.trees, self.waiting, self.others,
                                                              self.later), part)

    @property
    def _jobs(self) -> list[CompactJob]:
        return [CompactJob(target, *mode) for target in range(self.design.depth)
                for mode in ((False, False), (True, False), (False, True))]

    def one(self, model: Chosen) -> None:
        for job in self._jobs[:3]:
            compact_check.check_search(self.design, model, _tree(self.design, 20, SEED), job)

    @cached_property
    def _trees(self) -> list[Tree]:
        return _Descent(self.design)._trees

    def trees(self, model: Chosen) -> None:
        for tree in self._trees:
            for job in self._jobs:
                compact_check.check_search(self.design, model, tree, job)

    def waiting(self, model: Chosen) -> None:
        for seed, stalls in enumerate(({"row": 0.3}, {"row": 0.6}, {"row": 0.95})):
            for tree in self._trees[1:] if seed else self._trees:
                for job in self._jobs:
                    compact_check.check_search(self.design, model, tree, job, stalls=stalls, seed=seed)

    def others(self, model: Chosen) -> None:
        """Outputs of another tree, all batches or some."""
        design = self.design
        for voxels in (1, 30, 120):
            tree = _tree(design, voxels, SEED + 7)
            wanted = stride3(tree.levels[0], design.depth, "dilate")
            walked = map_check.other_tree(wanted.out_keys, design.depth)
            if any(count > design.held(level) for level, count in enumerate(walked.counts)):
                continue
            for job in (CompactJob(half=True, offset=True), CompactJob(1, offset=True)):
                for stalls in (None, {"row": 0.5}):
                    compact_check.check_search(design, model, tree, job, walked=walked, stalls=stalls, seed=SEED)
            for at, batch in enumerate(tree.levels[-1]):
                keys = tree.levels[0][tree.levels[0] >> 3 * design.depth == batch]
                parents = map_check.other_tree(np.unique(keys >> 3), design.depth)
                compact_check.check_search(design, model, tree, CompactJob(half=True, offset=True, present=1 << at),
                                           walked=parents)

    def later(self, model: Chosen) -> None:
        """Searches one after the other, resets."""
        design, tree = self.design, self._trees[-1]
        wanted = [compact_check.wanted_rows(design, tree, job) for job in self._jobs]
        counts = [sum(len(rows.index) for rows in each) for each in wanted]
        for stalls in (None, {"row": 0.4, "job": 0.5}):
            run = compact_check.search(design, model, tree, self._jobs, rows=sum(counts), stalls=stalls,
                                       seed=SEED).check()
            ends = np.cumsum(counts)
            for rows, end, count in zip(wanted, ends, counts, strict=True):
                found = compact_check.rows_of(design, run.outputs["row"][end - count:end])
                compact_check.compare_rows(rows, found, "one after the other")
        for at in (3, 9, 14, 25, 38, 90):
            compact_check.search(design, model, tree, [CompactJob(every=at % 2 == 1)], limit=at, partial=True, seed=at)
            model.run({"node": compact_check.load(design, self._trees[3])}, {}, reset_at=[0], resume=True, drain=1)
            again = compact_check.wanted_rows(design, self._trees[3], CompactJob(1))
            jobs = compact_check.pack_jobs(design, [CompactJob(1)], self._trees[3].counts[-1])
            run = model.run({"job": jobs}, {"row": sum(len(rows.index) for rows in again)}, resume=True).check()
            compact_check.compare_rows(again, compact_check.rows_of(design, run.outputs["row"]), f"reset at {at}")


# Voxel table ---------------------------------------------------------------------------------------


class _Table:
    """Checks of `VoxelTable`: as tests/hw/test_voxel_table.py."""

    def __init__(self, design: TableDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, VoxelTable(self.design), (self.one, self.all, self.later))

    def one(self, model: Chosen) -> None:
        check_table(self.design, model, random_commands(self.design, 1, SEED, length=20))

    def all(self, model: Chosen) -> None:
        for seed, fill in enumerate((0.2, 0.6, 1.0)):
            commands = random_commands(self.design, 8, SEED + seed, length=20, fill=fill)
            for stalls in (0.0, {"o": 0.7}, {"i": 0.5, "o": 0.3}):
                check_table(self.design, model, commands, stalls=stalls, seed=seed)

    def later(self, model: Chosen) -> None:
        """Resets at any time; the end of a job while nobody takes it."""
        design, after = self.design, random_commands(self.design, 2, SEED + 4, length=20)
        for at in range(3, design.rows + 60, 7):
            check_table_reset(design, model, after, at)
        wanted = table_words(design, after)
        run = model.run({"i": pack_commands(design, after)}, {"o": len(wanted.out)}, stalls={"o": 1.0}, partial=True,
                        timeout=100)
        octree_check.same("busy and valid", [run.ports["busy"], "valid high, ready low" in run.deadlock], [1, 1])


# Gather --------------------------------------------------------------------------------------------


class _Gather:
    """Checks of `GatherBench`: as tests/hw/test_gather.py."""

    STALLS = ({}, {"i": 0.4}, {"o": 0.9}, {"i": 0.3, "o": 0.5})

    def __init__(self, design: GatherDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, GatherBench(self.design), (self.one, self.all, self.later), "core")

    def _contents(self, groups: int, rng: np.random.Generator, zeros: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        return (random_features(self.design.activation, 16, groups * self.design.lanes, rng, zeros=zeros),
                random_weights(self.design, rng))

    def one(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        features, weights = self._contents(self.design.groups, rng)
        check_gather(self.design, model, random_work(self.design, 20, 16, rng), features, weights)

    def all(self, model: Chosen) -> None:
        design, rng = self.design, np.random.default_rng(SEED)
        for at, groups in enumerate(range(1, design.groups + 1)):
            for turn, zeros in enumerate((0.0, 0.5, 0.9)):
                features, weights = self._contents(groups, rng, zeros)
                jobs = [random_work(design, 30, 16, rng, pairs=(0.7, 5, 12)[turn], tile=1 if at else None)]
                if design.pack == "item":
                    jobs.append(interleaved_work(design, 80, 16, rng))
                for work in jobs:
                    for stalls in self.STALLS:
                        check_gather(design, model, work, features, weights, stalls=stalls, seed=SEED,
                                     base=7 * at + 40 * bool(stalls), stride=groups + at,
                                     mask_base=16 if stalls else 3 * at)

    def later(self, model: Chosen) -> None:
        """Nobody takes a sum; no rows at all."""
        design, rng = self.design, np.random.default_rng(SEED)
        features, weights = self._contents(design.groups, rng)
        work = random_work(design, 20, 16, rng)
        end = replace(work.part(slice(0, 1)), first=np.zeros(1, bool), final=np.zeros(1, bool),
                      pair=np.zeros(1, bool), release=np.zeros(1, bool), last=np.ones(1, bool))
        check_gather(design, model, end, features, weights)
        check_stuck(design, model, random_work(design, 60, 16, rng, pairs=2), features, weights)


# Weight cache and order of work --------------------------------------------------------------------


def _pins(design: CacheDesign, rng: np.random.Generator, count: int) -> np.ndarray:
    pinned = np.zeros(27, bool)
    pinned[rng.permutation(27)[:count]] = True
    return pinned


class _Cache:
    """Checks of `CacheBench`: as tests/hw/test_weight_cache.py."""

    STREAMS = ("i", "o", "o_fetch", "token", "done")

    def __init__(self, design: CacheDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, CacheBench(self.design), (self.one, self.all, self.later), "cache")

    def one(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        check_cache(self.design, model, rng.integers(0, 27, 40), _pins(self.design, rng, self.design.tiles))

    def all(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        few = rng.permutation(27)[:3]
        for k in (rng.integers(0, 27, 120), few[rng.integers(0, 3, 120)], np.full(20, 13), np.arange(27)):
            for seed, stalls in enumerate(({}, dict.fromkeys(self.STREAMS, 0.4), {"done": 0.9}, {"token": 0.9},
                                           {"o_fetch": 0.9}, {"o": 0.9})):
                check_cache(self.design, model, k, _pins(self.design, rng, seed % (self.design.tiles + 1)), seed=seed,
                            stalls=stalls, load_cycles=1 + 9 * (seed % 2))
        check_cache(self.design, model, rng.integers(0, 27, 100), np.ones(27, bool))

    def later(self, model: Chosen) -> None:
        """Nothing before the start, and as many demands as can be open; jobs one after the other, resets."""
        rng, held = np.random.default_rng(SEED), {"pinned": (1 << 27) - 1, "load_cycles": 1}
        run = model.run({"token": 1}, None, held=held, reset_at=[0], drain=60, timeout=100, partial=True)
        octree_check.same("before the start", [len(run.cycles["o_fetch"]), run.ports["busy"]], [0, 0])
        few = pack_bits([(np.full(100, 3), 5)])
        run = model.run({"go": 1, "i": few, "token": 1}, None, partial=True, timeout=200, held=held | {"pinned": 8})
        octree_check.same("open demands", [len(run.outputs["o"]), run.ports["busy"]], [63, 1])
        for job in range(6):
            check_cache(self.design, model, rng.integers(0, 27, rng.integers(0, 30)), _pins(self.design, rng, job % 3),
                        resume=job > 0, stalls={"token": 0.3}, seed=job)
        for at in range(2, 90, 9):
            k = pack_bits([(rng.integers(0, 27, 60), 5)])
            model.run({"go": 1, "i": k, "token": 200, "done": 200}, None, limit=at, seed=at, partial=True,
                      held={"pinned": 1 << at % 27, "load_cycles": 3})
            check_cache(self.design, model, rng.integers(0, 27, 40), _pins(self.design, rng, 2), reset_at=[0],
                        resume=True, seed=at)


class _Order:
    """Checks of `OrderBench`: as tests/hw/test_tile_order.py."""

    STREAMS = ("go", "i", "o", "o_fetch", "token")

    def __init__(self, design: CacheDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, OrderBench(self.design), (self.one, self.all, self.later), "order")

    def _items(self, rows: int, rng: np.random.Generator, density: float = 0.2, bare: float = 0.1):
        return random_items(self.design, rows, density, rng, bare=bare)

    def one(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        check_order(self.design, model, self._items(20, rng), _pins(self.design, rng, 2))

    def all(self, model: Chosen) -> None:
        design, rng = self.design, np.random.default_rng(SEED)
        for density, bare in ((0.05, 0), (0.3, 0.2), (3.0, 0), (0, 0), (0.2, 0.6), (0, 1)):
            items = self._items(70, rng, density, bare)
            for load_cycles, pace, lag in ((1, 1, 0), (7, 1, 3), (1, 2, 0), (20, 3, 7)):
                check_order_cycles(design, model, items, _pins(design, rng, 1 + lag % 3), load_cycles=load_cycles,
                                   pace=pace, lag=lag)
            for seed, stalls in enumerate((dict.fromkeys(self.STREAMS, 0.4), {"o": 0.9}, {"i": 0.9}, {"token": 0.9},
                                           {"o_fetch": 0.9})):
                check_order(design, model, items, _pins(design, rng, seed % 3), stalls=stalls, seed=seed, lag=3)

    def later(self, model: Chosen) -> None:
        """Jobs one after the other, resets."""
        design, rng = self.design, np.random.default_rng(SEED)
        for job in range(6):
            check_order(design, model, self._items(int(rng.integers(1, 20)), rng), _pins(design, rng, job % 3),
                        resume=job > 0, stalls={"o": 0.3, "token": 0.5}, seed=job)
        first = self._items(30, rng)
        for at in range(5, 100, 12):
            model.run({"go": 1, "i": pack_items(design, first), "token": 500}, None, limit=at, seed=at, partial=True,
                      held={"pinned": 1 << 13, "load_cycles": 2, "pace": 1, "lag": 1})
            check_order(design, model, self._items(12, rng), _pins(design, rng, 2), reset_at=[0], resume=True, seed=at)


class _Rows:
    """Checks of `RowBench`: as tests/hw/test_tile_order.py."""

    def __init__(self, design: CacheDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        yield StreamUnit(kind, RowBench(self.design), (self.one, self.all, self.later), "order")

    def one(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        items = random_items(self.design, 15, 0.2, rng, bare=0.1)
        check_rows(self.design, model, items, np.ones(27, bool), load_cycles=3)

    def all(self, model: Chosen) -> None:
        rng = np.random.default_rng(SEED)
        for density, bare in ((0.05, 0), (0, 0), (0.3, 0.2), (3.0, 0), (0.2, 0.6), (0, 1)):
            items = random_items(self.design, 70, density, rng, bare=bare)
            pinned = np.bincount(items.k[items.pair], minlength=27) > 0
            for seed, stalls in enumerate(({}, dict.fromkeys(_Order.STREAMS, 0.5), {"o": 0.9}, {"token": 0.9})):
                check_rows(self.design, model, items, pinned, stalls=stalls, seed=seed, load_cycles=3)
            check_rows(self.design, model, items, rng.random(27) < 0.5)

    def later(self, model: Chosen) -> None:
        rng, none = np.random.default_rng(SEED), np.zeros(1, np.int64)
        empty = Items(none, none, none, none > 0, none > 0, none == 0)
        check_rows(self.design, model, empty, np.ones(27, bool))
        for job in range(5):
            items = random_items(self.design, 12, 0.2, rng, bare=0.2)
            check_rows(self.design, model, items, rng.random(27) < (1, 1, 0.5)[job % 3], resume=job > 0,
                       reset_at=[0] if job % 3 == 0 else [], stalls={"o": 0.3}, seed=job)


# Engine --------------------------------------------------------------------------------------------


class _Engine:
    """Networks through the engine: as tests/hw/test_spconv_core.py."""

    STALLS = {"job": 0.2, "voxel": 0.3, "feature": 0.3, "weight": 0.4, "request": 0.3, "o": 0.4}
    # Units of their own, shared arithmetic (block tests), queues.
    OTHERS = r"__(?:descent|order|encoder|builder|levels|rows|cache|gather)(?:_\d+)?|__tree\d(?:_\d+)?|" \
             r"(?:^|_)(?:output_pe|encode|pipelined)_\w+"

    def __init__(self, design: SpConvDesign):
        self.design = design

    def units(self, kind: str) -> Iterator[StreamUnit]:
        checks = self.one, self.waiting, self.dilating, self.dense, self.edges
        yield StreamUnit(kind, SpConvEngine(self.design), checks, whole=self.OTHERS)

    def _program(self, voxels: int, make=encoder_decoder, stages: int = 2):
        """As many voxels, if there is room, anywhere in the grid of both clouds."""
        design, width = self.design, self.design.gather.outputs
        run = network_on(design, make("random", (width,) * stages, width), _cloud(design.map, voxels, SEED), SEED)
        return compile_network(design, run, keep=run.inner)

    @cached_property
    def _small(self):
        return self._program(11)

    @cached_property
    def _large(self):
        return self._program(46)

    def one(self, model: Chosen) -> None:
        check_program(self.design, self._small, model)

    def waiting(self, model: Chosen) -> None:
        check_program(self.design, self._large, model)
        check_program(self.design, self._large, model, stalls=self.STALLS, seed=SEED)

    @cached_property
    def _dilating(self):
        return self._program(6, dilating_encoder)

    def dilating(self, model: Chosen) -> None:
        check_program(self.design, self._dilating, model)
        check_program(self.design, self._dilating, model, stalls=self.STALLS, seed=SEED)

    @cached_property
    def _dense(self):
        return self._program(2 * self.design.map.capacity, stages=3)

    def dense(self, model: Chosen) -> None:
        check_program(self.design, self._dense, model)
        check_program(self.design, self._dense, model, stalls={"o": 0.9, "request": 0.9}, seed=SEED, odd=True)

    @cached_property
    def _edges(self):
        side, rng = (1 << self.design.map.depth) - 1, np.random.default_rng(SEED)
        voxels = np.column_stack([np.ones(40, int), rng.integers(0, side, (40, 3))])
        run = network_on(self.design, edge_network(self.design.gather.outputs), voxels, SEED, side)
        return compile_network(self.design, run, keep=run.inner)

    def edges(self, model: Chosen) -> None:
        check_program(self.design, self._edges, model, seed=SEED, odd=True)


# All -----------------------------------------------------------------------------------------------


def spconv_units() -> Iterator[StreamUnit]:
    """Every unit of the sparse convolution, on a small design."""
    parity = MapDesign(depth=3, batch_bits=1, capacity=64, levels=(30, 12, 2), queue=2, rows=4)
    compact = parity.with_options(search="compact")
    searched = MapDesign(depth=3, batch_bits=1, capacity=256, levels=(128, 16, 2), queue=4, rows=4)
    yield from _Encoder(parity).units("voxel encoder")
    yield from _Octree(parity).units({"builder": "octree builder"})
    yield from _Octree(compact).units({"builder": "octree builder, compact"})
    yield from _Octree(searched).units({"tree": "tree store", "maps": "level map"})
    yield from _Octree(searched.with_options(search="compact")).units({"tree": "tree store, compact"})
    # With four levels a node above level 1 has neighbours in other octants.
    searched = MapDesign(depth=4, batch_bits=1, capacity=256, levels=(256, 128, 16, 2), queue=4, rows=4)
    yield from _Descent(searched).units({"descent": "parity descent", "rows": "row items"})
    yield from _Compact(searched.with_options(search="compact")).units("descent", "compact descent")
    yield from _Table(TableDesign(4, 6, epoch_bits=2)).units("voxel table")
    yield from _Table(TableDesign(4, 6, half=True, epoch_bits=1)).units("voxel table, half")
    size = {"feature_words": 64, "mask_rows": 32, "index_bits": 5, "weight_tiles": 5, "pipeline": 1}
    yield from _Gather(GatherDesign("int4", "int4", 2, 2, 4, "item", slots=4, **size)).units("gather item")
    yield from _Gather(GatherDesign("int4", "int4", 2, 2, 4, "row", 2, 1, **size)).units("gather row")
    yield from _Cache(CacheDesign(5, 4, 6, ahead=2)).units("weight cache")
    yield from _Order(CacheDesign(5, 4, 6, ahead=2)).units("tile order")
    yield from _Rows(CacheDesign(27, 1, 6)).units("row order")
    core = MapDesign(depth=3, batch_bits=1, capacity=64, queue=2, rows=2)
    gather = GatherDesign("int4", "int4", 2, 2, 4, "item", 4, 8, feature_words=1024, mask_rows=512, index_bits=6)
    yield from _Engine(SpConvDesign(core, gather, 3, 2, 2, 4)).units("engine")
