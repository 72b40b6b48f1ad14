# amaranth: UnusedElaboratable=no
"""Trees through map search and rows of the map, against golden maps and the event model.

::

    node ──► TreeStore (two with ``trees`` 2) ◄──► descent ◄── job
                                                       │
                                                       ├──► row
                                                       └──► RowItems ──► item
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.descent import ParityDescent
from bitkiln.hw.spconv.layouts import item_layout, node_write_layout, row_layout
from bitkiln.hw.spconv.rows import RowItems
from bitkiln.hw.spconv.tree import TreeStore
from bitkiln.models.cost.spconv.map_search import DescentCycles, descent_cycles
from bitkiln.models.design.spconv import KERNEL_OFFSETS, MapDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import (
    ConvMap,
    Tree,
    build_tree,
    decode_keys,
    encode_keys,
    stride3,
    submanifold,
)

from .bitserial_check import bits_of, pack_bits
from .octree_check import fields_of, pack
from .streams import StreamModel, StreamRun

__all__ = ["Job", "MapBench", "Search", "check_search", "compare_items", "compare_rows", "cross_search", "job_layout",
           "load", "load_tree", "node_layout", "other_tree", "pack_jobs", "row_fields", "rows_to_map", "same",
           "searches", "wanted_items"]


def node_layout(design: MapDesign) -> data.StructLayout:
    """A word of a tree; ``leaf``: of level 1."""
    both = [node_write_layout(design, leaf=leaf).members for leaf in (True, False)]
    widest = {name: max(members[name] for members in both) for name in both[0]}
    return data.StructLayout({**widest, "leaf": 1, "tree": 1})


def job_layout(design: MapDesign) -> data.StructLayout:
    """A map that `MapBench` starts; ``items``: its pairs are wanted, not its rows."""
    return data.StructLayout({"target": design.level_bits, "every": 1, "half": 1, "offset": 1,
                              "roots": design.batch_bits + 1, "present": design.batches, "kernel": 1, "half_map": 1,
                              "items": 1})


class MapBench(wiring.Component):
    """Memories, search and rows; a job is taken when the one before has ended, and starts in the next cycle."""

    def __init__(self, design: MapDesign, trees: int = 1):
        self.design, self.trees = design, trees
        super().__init__({"node": In(stream.Signature(node_layout(design))),
                          "job": In(stream.Signature(job_layout(design))),
                          "row": Out(stream.Signature(row_layout(design))),
                          "item": Out(stream.Signature(item_layout(design))),
                          "busy": Out(1), "rows": Out(32), "pairs": Out(32)})

    @property
    def module_name(self) -> str:
        return f"map_bench_{self.trees}_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job = self.design, Signal(job_layout(self.design))
        m.submodules.descent = descent = ParityDescent(design)
        m.submodules.rows = rows = RowItems(design)
        stores = []
        for at in range(self.trees):
            m.submodules[f"tree{at}"] = store = TreeStore(design)
            node = self.node.payload
            mine = self.node.valid & (node.tree == at)
            m.d.comb += [store.leaf_en.eq(mine & node.leaf), store.upper_en.eq(mine & ~node.leaf)]
            m.d.comb += [getattr(store, part)[name].eq(node[name]) for part in ("leaf", "upper")
                         for name in ("walk", "bank", "row", "mask", "base")]
            stores.append(store)
        m.d.comb += self.node.ready.eq(1)
        searched, walked = stores[0], stores[-1]
        for part in ("leaf", "upper"):
            m.d.comb += [getattr(descent, f"walk_{part}_mask").eq(
                             Mux(descent.walk_tree, getattr(walked, f"walk_{part}_mask"),
                                 getattr(searched, f"walk_{part}_mask"))),
                         getattr(descent, f"{part}_words").eq(getattr(searched, f"{part}_words"))]
            for store in stores:
                m.d.comb += [getattr(store, f"{part}_{port}").eq(getattr(descent, f"{part}_{port}"))
                             for port in ("rows", "read")]
                m.d.comb += [getattr(store, f"walk_{part}_{port}").eq(getattr(descent, f"walk_{part}_{port}"))
                             for port in ("address", "read")]

        start, free = Signal(), Signal()
        ended = self.item.valid & self.item.ready & self.item.payload.last
        pairs = Signal()
        m.d.comb += [free.eq(~start & ~descent.busy & ~pairs), self.job.ready.eq(free), descent.start.eq(start),
                     self.busy.eq(descent.busy | pairs | start)]
        m.d.sync += start.eq(self.job.valid & free)
        with m.If(self.job.valid & free):
            m.d.sync += [job.eq(self.job.payload), pairs.eq(self.job.payload.items)]
        with m.Elif(ended):
            m.d.sync += pairs.eq(0)
        m.d.comb += [getattr(descent, name).eq(job[name])
                     for name in ("target", "every", "half", "offset", "roots", "present")]
        m.d.comb += [rows.kernel.eq(job.kernel), rows.half_map.eq(job.half_map), rows.clear.eq(start),
                     self.rows.eq(rows.rows), self.pairs.eq(rows.pairs),
                     self.row.valid.eq(descent.o.valid & ~job.items), self.row.payload.eq(descent.o.payload),
                     rows.i.valid.eq(descent.o.valid & job.items), rows.i.payload.eq(descent.o.payload),
                     descent.o.ready.eq(Mux(job.items, rows.i.ready, self.row.ready))]
        wiring.connect(m, rows.o, wiring.flipped(self.item))
        return m


# Packing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Inputs of a search; ``present`` by default all roots."""

    target: int = 0
    every: bool = False
    half: bool = False
    offset: bool = False
    roots: int | None = None
    present: int = -1
    kernel: int = 0
    half_map: bool = False
    items: bool = False


def load(design: MapDesign, tree: Tree, at: int = 0) -> np.ndarray:
    """Items of ``node``: all words of a tree.

    Parameters
    ----------
    at : int
        Which tree of the bench.
    """
    parts = []
    for level in range(1, design.depth + 1):
        count, keys = len(tree.levels[level]), tree.levels[level]
        rank = np.arange(count)
        top = level == design.depth
        parent = rank if top else np.searchsorted(tree.levels[level + 1], keys >> 3)
        parts.append(np.stack([
            rank + (design.walk_base(level) if level > 1 else 0), np.zeros(count, np.int64) if top else keys & 7,
            parent + (design.row_base(level) if level > 1 else 0), tree.masks[level], tree.bases[level],
            np.full(count, level == 1), np.full(count, at)]).astype(np.int64))
    values = np.concatenate(parts, axis=1)
    if not values.shape[1]:
        return np.zeros(0, np.uint64)
    names = ("walk", "bank", "row", "mask", "base", "leaf", "tree")
    return pack(node_layout(design), **dict(zip(names, values, strict=True)))


def pack_jobs(design: MapDesign, jobs: list[Job], roots: int) -> np.ndarray:
    """Items of ``job``."""
    fields = []
    for name, field in job_layout(design):
        values = [getattr(job, name) for job in jobs]
        if name == "present":
            fields.append((np.array([[value >> at & 1 for at in range(design.batches)] for value in values]), 1))
        else:
            fields.append((np.array([roots if value is None else value for value in values], np.int64), field.width))
    return pack_bits(fields)


def row_fields(design: MapDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of ``row``, the words as ``masks`` and ``bases`` (rows, 8)."""
    layout = row_layout(design)
    words = words if len(words) else np.zeros((0, -(-layout.size // 32)), np.uint32)
    fields = {name: bits_of(words, field.offset, field.width) for name, field in layout if name != "words"}
    at = [layout["words"].offset + design.word_bits * j for j in range(8)]
    fields["masks"] = np.stack([bits_of(words, low, 8) for low in at], axis=1)
    fields["bases"] = np.stack([bits_of(words, low + 8, design.index_bits) for low in at], axis=1)
    return fields


def rows_to_map(fields: dict[str, np.ndarray]) -> np.ndarray:
    """Pairs of rows as ``out``, ``k``, ``in`` (3, pairs), by plain arithmetic on places along each axis."""
    digit, parity, there = fields["digit"], fields["parity"], fields["pair"].astype(bool)
    at, found = np.arange(len(digit)), []
    for k in range(KERNEL_OFFSETS):
        octant, child = np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
        for axis, step in ((2, k // 9 - 1), (1, k // 3 % 3 - 1), (0, k % 3 - 1)):
            # Four octants are added so that nothing is negative: their parity is even.
            place = 2 * (4 + (parity >> axis & 1)) + (digit >> axis & 1) + step
            octant |= (place >> 1 & 1) << axis
            child |= (place & 1) << axis
        mask = fields["masks"][at, octant]
        before = sum((mask >> bit & 1) * (bit < child) for bit in range(8))
        rank = fields["bases"][at, octant] + before
        found.append(np.stack([fields["index"], np.full(len(at), k), rank])[:, there & (mask >> child & 1 == 1)])
    pairs = np.concatenate(found, axis=1)
    return pairs[:, np.lexsort((pairs[1], pairs[0]))]


def other_tree(keys: np.ndarray, depth: int) -> Tree:
    """Tree of output keys, which have a digit less, with as many levels as the searched one."""
    return build_tree(encode_keys(decode_keys(keys, depth - 1), depth), depth)


# Checks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """A job, what it shall find and when.

    Attributes
    ----------
    job : Job
    maps : tuple of ConvMap
        Of each level from ``job.target``: one, or with ``every`` those of all levels.
    cycles : DescentCycles
    """

    job: Job
    maps: tuple[ConvMap, ...]
    cycles: DescentCycles


def searches(design: MapDesign, tree: Tree) -> list[Search]:
    """All that a search can be asked of one tree: every level, as pyramid, with stride to parents."""
    depth, found = design.depth, []
    maps = [submanifold(tree.levels[level], depth - level) for level in range(depth)]
    for level in range(depth):
        job = Job(target=level)
        found.append(Search(job, (maps[level],), descent_cycles(design, tree, level)))
        job = Job(target=level, every=True)
        found.append(Search(job, tuple(maps[level:]), descent_cycles(design, tree, level, every=True)))
        wide = stride3(tree.levels[level], depth - level, "parents")
        found.append(Search(Job(target=level, half=True), (wide,), descent_cycles(design, tree, level, half=True)))
    return found


def cross_search(design: MapDesign, tree: Tree, wanted: ConvMap) -> tuple[Search, Tree]:
    """A search of the voxels for outputs at half the places that need not be parents; and their tree."""
    walk = other_tree(wanted.out_keys, design.depth)
    batches = np.isin(tree.levels[design.depth], walk.levels[design.depth])
    present = sum(1 << at for at in np.flatnonzero(batches).tolist())
    job = Job(half=True, offset=True, present=present, kernel=int(wanted.kernel == 2))
    return Search(job, (wanted,), descent_cycles(design, walk, half=True, offset=True, present=present)), walk


def load_tree(design: MapDesign, model: StreamModel, tree: Tree, at: int = 0, *, resume: bool = True) -> None:
    """Fill the memories of one of the bench's trees."""
    model.run({"node": load(design, tree, at)}, {}, resume=resume)


def check_search(design: MapDesign, model: StreamModel, roots: int, search: Search, *, items: bool = True,
                 stalls: dict[str, float] | None = None, seed: int = 0) -> StreamRun:
    """Run a job on the bench's tree: rows, then pairs; compare all, and (without stalls) every cycle.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    where, stalls = f"{design.name} {search.job}, seed {seed}", stalls or {}
    jobs = pack_jobs(design, [search.job], roots)
    run = model.run({"job": jobs}, {"row": max(sum(each.rows for each in search.maps), 1)}, stalls=stalls, seed=seed,
                    sample={"row": ["busy"]}, resume=True).check()
    same(run.samples["row"]["busy"].all(), True, f"{where}: busy until the last row")
    compare_rows(design, search, row_fields(design, run.outputs["row"]), where)
    if not stalls:
        same(run.cycles["row"].astype(np.int64) - int(run.cycles["job"][0]) - 1, search.cycles.rows, f"{where}: cycles")
    same(run.ports["busy"], 0, f"{where}: busy")
    if items and not search.job.every:
        jobs = pack_jobs(design, [replace(search.job, items=True)], roots)
        wanted = wanted_items(search)
        found = model.run({"job": jobs}, {"item": len(wanted["out"])}, stalls=stalls, seed=seed, resume=True).check()
        compare_items(wanted, fields_of(item_layout(design), found.outputs["item"]), where)
        same([found.ports["rows"], found.ports["pairs"]], [search.maps[0].rows, wanted["pair"].sum()],
             f"{where}: counters")
    return run


def compare_rows(design: MapDesign, search: Search, fields: dict[str, np.ndarray], where: str) -> None:
    """Raise where rows differ from the golden maps, or come in another order than in the event model."""
    count = sum(each.rows for each in search.maps)
    same(fields["last"], np.arange(max(count, 1)) == max(count, 1) - 1, f"{where}: last")
    if not count:
        same(fields["pair"], [0], f"{where}: pair")
        return
    same(fields["pair"], np.ones(count), f"{where}: pair")
    if search.cycles.level is not None:
        same(fields["level"], search.cycles.level, f"{where}: level")
    for level, wanted in enumerate(search.maps, search.job.target):
        at = fields["level"] == level
        same(fields["index"][at], np.arange(wanted.rows), f"{where}: rows of level {level}")
        if wanted.kernel == 3:
            found = rows_to_map({name: values[at] for name, values in fields.items()})
            same(found, np.stack([wanted.out, wanted.k, wanted.inp]), f"{where}: pairs of level {level}")


def wanted_items(search: Search) -> dict[str, np.ndarray]:
    """Fields of ``item`` by the golden map of a job's only level."""
    golden, job = search.maps[0], search.job
    asked = golden.k < KERNEL_OFFSETS // 2 if job.half_map else np.ones(golden.pairs, bool)
    pairs = np.stack([golden.out, golden.k, golden.inp, np.ones(golden.pairs, np.int64)])[:, asked]
    # A row without pairs has an item of its own, and so has a job without rows.
    empty = np.setdiff1d(np.arange(max(golden.rows, 1)), pairs[0])
    pairs = np.concatenate([pairs, np.stack([empty, *np.zeros((3, len(empty)), np.int64)])], axis=1)
    out, k, inp, pair = pairs[:, np.argsort(pairs[0] * KERNEL_OFFSETS + pairs[1], kind="stable")]
    row_last = np.append(out[1:] != out[:-1], True) & (golden.rows > 0)
    return {"out": out, "k": k, "in": inp, "pair": pair, "row_last": row_last,
            "last": np.arange(len(out)) == len(out) - 1, "level": np.full(len(out), job.target)}


def compare_items(wanted: dict[str, np.ndarray], fields: dict[str, np.ndarray], where: str) -> None:
    """Raise where pairs differ from the golden map."""
    same(fields["pair"], wanted["pair"], f"{where}: items with a pair")
    same(fields["last"], wanted["last"], f"{where}: the last item")
    real = wanted["row_last"].any()     # a job without rows has an item of no row
    for name in ("out", "row_last", "level") if real else ():
        same(fields[name], wanted[name], f"{where}: {name} of the items")
    same(fields["row_last"].any(), real, f"{where}: items of a row")
    pair = wanted["pair"] == 1
    for name in ("k", "in"):
        same(fields[name][pair], wanted[name][pair], f"{where}: {name} of the pairs")


def same(found: object, wanted: object, where: str) -> None:
    """Raise where two arrays differ."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape != wanted.shape or (found != wanted).any():
        at = tuple(int(i) for i in np.argwhere(found != wanted)[0]) if found.shape == wanted.shape else ()
        raise BitkilnError("RTL and model differ", where=f"{where} {list(at)}", exit_code=FAILED,
                           got=str(found[at] if found.shape == wanted.shape else found.shape),
                           expected=str(wanted[at] if found.shape == wanted.shape else wanted.shape))
