# amaranth: UnusedElaboratable=no
"""Trees through the compact map search, against rows looked up by key, golden maps and the event model.

::

    node ──► TreeStore (two: searched, walked) ◄──► CompactDescent ◄── job
                                                          └──► row
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.compact import CompactDescent
from bitkiln.hw.spconv.layouts import node_write_layout, row_layout
from bitkiln.hw.spconv.tree import TreeStore
from bitkiln.models.cost.spconv.map_compact import compact_cycles
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import Tree, decode_keys, encode_keys
from bitkiln.models.golden.spconv_cloud import ranks

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["CompactBench", "CompactJob", "Rows", "check_search", "compare_rows", "load", "pairs_of", "rows_of",
           "search", "wanted_rows"]

START = 1       # cycles from the one that takes a job to that of its start


def node_layout(design: MapDesign) -> data.StructLayout:
    """A word of a tree; ``leaf``: of level 1. ``tree`` 1: of the one that is walked only."""
    both = [node_write_layout(design, leaf=leaf).members for leaf in (True, False)]
    return data.StructLayout({**{name: max(each[name] for each in both) for name in both[0]}, "leaf": 1, "tree": 1})


def job_layout(design: MapDesign) -> data.StructLayout:
    return data.StructLayout({"target": design.level_bits, "every": 1, "half": 1, "offset": 1,
                              "roots": design.batch_bits + 1, "present": design.batches})


@dataclass(frozen=True)
class CompactJob:
    """Inputs of a search; ``present`` by default all roots."""

    target: int = 0
    every: bool = False
    half: bool = False
    offset: bool = False
    present: int | None = None


class CompactBench(wiring.Component):
    """Memories and search. A job is taken when the one before has ended, and starts in the next cycle."""

    def __init__(self, design: MapDesign, trees: int = 1):
        self.design, self.trees = design, trees
        super().__init__({"node": In(stream.Signature(node_layout(design))),
                          "job": In(stream.Signature(job_layout(design))),
                          "row": Out(stream.Signature(row_layout(design))), "busy": Out(1), "octants": Out(32)})

    @property
    def module_name(self) -> str:
        return f"compact_bench_{self.trees}_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, node = self.design, Signal(job_layout(self.design)), self.node.payload
        m.submodules.descent = descent = CompactDescent(design)
        stores = []
        for at in range(self.trees):
            m.submodules[f"tree{at}"] = store = TreeStore(design)
            mine = self.node.valid & (node.tree == at)
            m.d.comb += [store.leaf_en.eq(mine & node.leaf), store.upper_en.eq(mine & ~node.leaf),
                         store.words_rows.eq(descent.words_rows), store.words_read.eq(descent.words_read)]
            for part in ("leaf", "upper"):
                m.d.comb += [getattr(store, part)[name].eq(node[name])
                             for name in ("walk", "bank", "row", "mask", "base")]
                m.d.comb += [getattr(store, f"walk_{part}_{port}").eq(getattr(descent, f"walk_{part}_{port}"))
                             for port in ("address", "read")]
            stores.append(store)
        for part in ("leaf", "upper"):
            name = f"walk_{part}_mask"
            m.d.comb += getattr(descent, name).eq(Mux(descent.walk_tree, getattr(stores[-1], name),
                                                      getattr(stores[0], name)))
        start, free = Signal(), Signal()
        m.d.comb += [self.node.ready.eq(1), descent.words.eq(stores[0].words), free.eq(~start & ~descent.busy),
                     self.job.ready.eq(free), descent.start.eq(start), self.busy.eq(descent.busy | start)]
        m.d.sync += [start.eq(self.job.valid & free), self.octants.eq(self.octants + descent.words_read)]
        with m.If(self.job.valid & free):
            m.d.sync += job.eq(self.job.payload)
        m.d.comb += [getattr(descent, name).eq(job[name]) for name in job_layout(design).members]
        wiring.connect(m, descent.o, wiring.flipped(self.row))
        return m


# Packing -------------------------------------------------------------------------------------------


def load(design: MapDesign, tree: Tree, at: int = 0) -> np.ndarray:
    """Items of ``node``: all words of a tree."""
    parts = []
    for level in range(1, design.depth + 1):
        rank = np.arange(tree.counts[level])
        parts.append(np.stack([
            rank + (design.walk_base(level) if level > 1 else 0), rank % 8, design.compact_base(level) + rank // 8,
            tree.masks[level], tree.bases[level], np.full(len(rank), level == 1), np.full(len(rank), at)]))
    values = dict(zip(("walk", "bank", "row", "mask", "base", "leaf", "tree"),
                      np.concatenate(parts, axis=1).astype(np.int64), strict=True))
    if not len(values["leaf"]):
        return np.zeros(0, np.uint64)
    return pack_bits([(values[name], field.width) for name, field in node_layout(design)])


def pack_jobs(design: MapDesign, jobs: list[CompactJob], roots: int) -> np.ndarray:
    """Items of ``job``."""
    fields = []
    for name, field in job_layout(design):
        values = [roots if name == "roots" else getattr(job, name) for job in jobs]
        fields.append((np.array([(1 << design.batches) - 1 if value is None else value for value in values]),
                       field.width))
    return pack_bits(fields)


@dataclass(frozen=True)
class Rows:
    """Rows of the map: arrays of equal length, ``masks`` and ``bases`` (rows, 8); where no node is, both are 0."""

    index: np.ndarray
    level: np.ndarray
    digit: np.ndarray
    parity: np.ndarray
    masks: np.ndarray
    bases: np.ndarray
    pair: np.ndarray
    last: np.ndarray

    def of(self, level: int) -> Rows:
        """Those of one level."""
        chosen = self.level == level
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def rows_of(design: MapDesign, words: np.ndarray) -> Rows:
    """Items of ``row``."""
    at = {name: (field.offset, field.width) for name, field in row_layout(design)}
    places = [at["words"][0] + design.word_bits * j for j in range(8)]
    flat = {name: bits_of(words, *at[name]) for name in Rows.__dataclass_fields__ if name in at}
    masks = np.stack([bits_of(words, place, 8) for place in places], axis=1)
    bases = np.stack([bits_of(words, place + 8, design.index_bits) for place in places], axis=1)
    return Rows(**flat, masks=masks, bases=np.where(masks, bases, 0))


# What is wanted ------------------------------------------------------------------------------------


def wanted_rows(design: MapDesign, tree: Tree, job: CompactJob, walked: Tree | None = None) -> list[Rows]:
    """Rows of each level, ``target`` first, from sorted keys: no node is visited.

    Parameters
    ----------
    tree, walked : Tree
        Searched; of the outputs (with ``offset``).
    """
    found = []
    for level in range(job.target, design.depth if job.every else job.target + 1):
        above = design.depth - level - 1                    # digits of the nodes around
        outputs = walked if job.offset else tree
        own = level + job.half - job.offset
        keys = outputs.levels[own]
        digits = design.depth - level - job.half            # of the outputs, in the searched tree's grid
        batch, keys = keys >> 3 * (design.depth - own), keys & ((1 << 3 * digits) - 1)
        child = np.zeros(len(keys), np.int64) if job.half else keys & 7
        middle = keys if job.half else keys >> 3
        place = decode_keys(middle, above)[:, 1:].astype(np.int64)
        masks, bases = np.zeros((2, len(keys), 8), np.int64)
        nodes = tree.levels[level + 1]
        for j in range(8):
            bit = np.array([j >> 2, j >> 1 & 1, j & 1])
            side = np.stack([child >> 2, child >> 1 & 1, child & 1], axis=1)
            near = place + np.where((place & 1) == bit, 0, 2 * side - 1)
            good = ((near >= 0) & (near < 1 << above)).all(axis=1)
            near = np.where(good[:, None], near, 0)
            key = encode_keys(np.concatenate([batch[:, None], near], axis=1), above)
            rank = np.where(good, ranks(nodes, key), -1)
            there = rank >= 0
            masks[there, j] = tree.masks[level + 1][rank[there]]
            bases[there, j] = tree.bases[level + 1][rank[there]]
        count = len(keys)
        last = np.zeros(count, np.int64)
        if level == job.target and count:
            last[-1] = 1
        found.append(Rows(np.arange(count), np.full(count, level), child, middle & 7 if above else np.zeros(count, int),
                          masks, bases, np.ones(count, np.int64), last))
    return found


def pairs_of(rows: Rows) -> np.ndarray:
    """(3, pairs): output row, kernel offset, input row, in canonical order, by arithmetic alone."""
    found = []
    for k in range(27):
        octant, child = np.zeros((2, len(rows.index)), np.int64)
        for axis, step in ((2, k // 9 - 1), (1, k // 3 % 3 - 1), (0, k % 3 - 1)):
            # Along the axis, when the row's octant begins at 8 or 10.
            place = 8 + 2 * (rows.parity >> axis & 1) + (rows.digit >> axis & 1) + step
            octant |= (place >> 1 & 1) << axis
            child |= (place & 1) << axis
        mask, base = (values[np.arange(len(octant)), octant] for values in (rows.masks, rows.bases))
        before = np.bitwise_count(mask & ((1 << child) - 1)).astype(np.int64)
        there = (mask >> child & rows.pair).astype(bool) & (rows.pair != 0)
        found.append(np.stack([rows.index, np.full(len(child), k), base + before])[:, there])
    pairs = np.concatenate(found, axis=1)
    return pairs[:, np.lexsort((pairs[1], pairs[0]))]


def compare_rows(wanted: list[Rows], found: Rows, where: str, note: str = "") -> None:
    """Raise where rows differ. Levels may be interleaved, a level's rows ascend."""
    total = sum(len(rows.index) for rows in wanted)
    if not total:
        if len(found.index) != 1 or found.pair[0] or not found.last[0]:
            raise BitkilnError("RTL and golden model differ", where=where, got=f"{len(found.index)} rows",
                               expected="one that only ends the job", help=note or None, exit_code=FAILED)
        return
    if len(found.index) != total or not found.last[-1]:
        raise BitkilnError("RTL and golden model differ", where=where, got=f"{len(found.index)} rows", expected=total,
                           help=note or None, exit_code=FAILED)
    for rows in wanted:
        level = int(rows.level[0])
        mine = found.of(level)
        for name in Rows.__dataclass_fields__:
            seen, right = getattr(mine, name), getattr(rows, name)
            bad = np.argwhere(seen != right) if seen.shape == right.shape else np.zeros((1, 0), int)
            if len(bad):
                at = tuple(int(each) for each in bad[0])
                raise BitkilnError("RTL and golden model differ", where=f"{where} level {level} {name}{list(at)}",
                                   got=str(seen[at] if at else seen.shape),
                                   expected=str(right[at] if at else right.shape),
                                   help=note or None, exit_code=FAILED)


# Runs ----------------------------------------------------------------------------------------------


def search(design: MapDesign, model: StreamModel, tree: Tree, jobs: list[CompactJob], *, walked: Tree | None = None,
           stalls: float | dict[str, float] | None = None, seed: int = 0, rows: int | None = None,
           **options) -> StreamRun:
    """Load and search, from power-up or with ``resume``."""
    words = [load(design, tree), *([load(design, walked, 1)] if walked is not None else [])]
    model.run({"node": np.concatenate(words)}, {}, drain=1, resume=options.pop("resume", False), seed=seed)
    expect = None if rows is None else {"row": rows}
    return model.run({"job": pack_jobs(design, jobs, tree.counts[design.depth])}, expect, resume=True,
                     stalls=stalls or {}, seed=seed, **options)


def check_search(design: MapDesign, model: StreamModel, tree: Tree, job: CompactJob | None = None, *,
                 walked: Tree | None = None, stalls: dict[str, float] | None = None, seed: int = 0) -> StreamRun:
    """One map from power-up; compare rows and (without stalls) every cycle.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    job = job or CompactJob()
    wanted = wanted_rows(design, tree, job, walked)
    total = max(sum(len(rows.index) for rows in wanted), 1)
    run = search(design, model, tree, [job], walked=walked, stalls=stalls, seed=seed, rows=total,
                 sample={"row": ["busy"]}).check()
    compare_rows(wanted, rows_of(design, run.outputs["row"]), design.name, f"seed {seed}, {job}")
    if run.ports["busy"] or not run.samples["row"]["busy"].all():
        raise BitkilnError("busy not just until its last row", where=design.name, help=f"seed {seed}, {job}",
                           exit_code=FAILED)
    if not stalls:
        compare_cycles(design, tree, job, run, walked=walked, note=f"seed {seed}, {job}")
    return run


def compare_cycles(design: MapDesign, tree: Tree, job: CompactJob, run: StreamRun, *, walked: Tree | None = None,
                   note: str = "") -> None:
    """Raise where the cycle of a row differs from the event model's."""
    model = compact_cycles(design, tree, walked=walked, **{name: getattr(job, name) for name in (
        "target", "every", "half", "offset", "present")})
    seen = run.cycles["row"].astype(np.int64) - int(run.cycles["job"][0]) - START
    if not np.array_equal(seen, model.rows) or run.ports["octants"] != model.octants:
        at = int(np.flatnonzero(seen != model.rows)[0]) if len(seen) == len(model.rows) and (
            seen != model.rows).any() else -1
        raise BitkilnError("RTL and event model differ", where=f"{design.name} row {at}",
                           got=f"cycle {seen[at]}, {run.ports['octants']} octants",
                           expected=f"{model.rows[at]}, {model.octants}", help=note or None, exit_code=FAILED)
