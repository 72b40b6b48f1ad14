# amaranth: UnusedElaboratable=no
"""Real clouds through the map searches in RTL: from the keys to the rows of the map, one after the other.

::

    i key ──► OctreeBuilder ──► TreeStore ◄──► ParityDescent or CompactDescent ──► row
                    └─ done ──► start ──► begun
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.builder import OctreeBuilder
from bitkiln.hw.spconv.compact import CompactDescent
from bitkiln.hw.spconv.descent import ParityDescent
from bitkiln.hw.spconv.layouts import key_layout, row_layout
from bitkiln.hw.spconv.table import VoxelTable
from bitkiln.hw.spconv.tree import TreeStore
from bitkiln.models.cost.spconv.map_baselines import table_cycles
from bitkiln.models.design.spconv import MapDesign, TableDesign
from bitkiln.models.golden.spconv import build_tree, decode_keys, submanifold
from bitkiln.models.golden.voxel_table import table_words, windows
from bitkiln.sim.bitserial_check import bits_of, pack_bits
from bitkiln.sim.streams import StreamModel
from bitkiln.sim.table_check import pack_commands, table_pairs, unpack_words
from bitkiln.sim.verilate import prepare, prepared_verilog

__all__ = ["SearchRun", "TableRun", "run_search", "run_table"]

DESCENTS = {"parity": ParityDescent, "compact": CompactDescent}
# Initial words of memories: a line of Verilog each, and none is used before it is written. `emit` leaves out only those
# of the largest memories; with the others the text of a search would be up to 20 times as long.
INITIAL = re.compile(r"\n  cell \$meminit_v2 .*?\n  end\n", re.DOTALL)
LARGE = 20_000                  # characters


class SearchPath(wiring.Component):
    """Keys of one cloud to rows; the search begins when the tree is written. ``begun``: the cycle of its start."""

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(key_layout(design))), "begun": Out(stream.Signature(1)),
                          "row": Out(stream.Signature(row_layout(design))), "every": In(1)})

    @property
    def module_name(self) -> str:
        return f"search_path_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        m.submodules.builder = builder = OctreeBuilder(design)
        m.submodules.tree = tree = TreeStore(design)
        m.submodules.descent = descent = DESCENTS[design.search](design)
        wiring.connect(m, wiring.flipped(self.i), builder.i)
        wiring.connect(m, descent.o, wiring.flipped(self.row))
        started = Signal()
        m.d.sync += started.eq(builder.done)
        m.d.comb += [builder.o.ready.eq(1), descent.start.eq(builder.done & ~started),
                     self.begun.valid.eq(descent.start), descent.roots.eq(builder.counts[design.depth]),
                     descent.every.eq(self.every)]
        for part in ("leaf", "upper"):
            m.d.comb += [getattr(tree, part).eq(getattr(builder, part)),
                         getattr(tree, f"{part}_en").eq(getattr(builder, f"{part}_en")),
                         getattr(descent, f"walk_{part}_mask").eq(getattr(tree, f"walk_{part}_mask"))]
            m.d.comb += [getattr(tree, f"walk_{part}_{port}").eq(getattr(descent, f"walk_{part}_{port}"))
                         for port in ("address", "read")]
        for part in ("words",) if design.search == "compact" else ("leaf", "upper"):
            words = part if part == "words" else f"{part}_words"
            m.d.comb += [getattr(descent, words).eq(getattr(tree, words)),
                         *(getattr(tree, f"{part}_{port}").eq(getattr(descent, f"{part}_{port}"))
                           for port in ("rows", "read"))]
        return m


@dataclass(frozen=True)
class SearchRun:
    """A descent in RTL.

    Attributes
    ----------
    build : int
        Cycles from the first key taken until the search starts.
    search : int
        Cycles from then until the last row is taken.
    pairs : int
        Of the finest map.
    wrong : int
        Pairs of the finest map that are not the golden map's, or are missing.
    """

    build: int
    search: int
    pairs: int
    wrong: int


def _design(keys: np.ndarray, depth: int, search: str) -> MapDesign:
    """Memories as large as the cloud needs."""
    counts = build_tree(keys, depth).counts
    return MapDesign(depth=depth, batch_bits=0, capacity=max(len(keys), 8), search=search, levels=tuple(counts[1:]))


@cache
def _model(design: MapDesign) -> StreamModel:
    prepared = prepare(SearchPath(design))
    prepared = replace(prepared, script=INITIAL.sub(lambda found: "\n" if len(found[0]) > LARGE else found[0],
                                                    prepared.script))
    return StreamModel.from_verilog(prepared_verilog(prepared), prepared.top, prepared.ports)


def run_search(keys: np.ndarray, depth: int, search: str = "parity", every: bool = False) -> SearchRun:
    """A cloud's keys, one each cycle, then its map, rows always taken.

    Parameters
    ----------
    keys : int64 ndarray
        Canonical, of one batch.
    depth : int
        Bits of a coordinate.
    search : str
        As of `MapDesign`.
    every : bool
        The maps of all levels below the root.
    """
    design, tree = _design(keys, depth, search), build_tree(keys, depth)
    none, one = np.zeros(len(keys), bool), np.ones(len(keys), bool)
    fields = {"key": keys, "mask": one, "last": np.arange(len(keys)) == len(keys) - 1}
    items = pack_bits([(fields.get(name, none), field.width) for name, field in key_layout(design)])
    rows = sum(tree.counts[:-1]) if every else len(keys)
    run = _model(design).run({"i": items}, {"begun": 1, "row": rows}, held={"every": int(every)},
                             limit=60 * len(keys) + 10_000).check()
    begun, last = int(run.cycles["begun"][0]), int(run.cycles["row"][-1])
    found, wanted = row_pairs(design, run.outputs["row"]), submanifold(keys, depth)
    expected = np.stack([wanted.out, wanted.k, wanted.inp], axis=1)
    return SearchRun(begun - int(run.cycles["i"][0]), last - begun, len(found), differing(found, expected))


def differing(found: np.ndarray, expected: np.ndarray) -> int:
    """Pairs in one of the two only, or in another place."""
    if found.shape == expected.shape:
        return int((found != expected).any(axis=1).sum())
    return max(abs(len(found) - len(expected)), 1)


def row_pairs(design: MapDesign, words: np.ndarray) -> np.ndarray:
    """(pairs, 3) output row, offset, input row of the rows of level 0, by plain arithmetic."""
    layout = row_layout(design)
    part = {name: bits_of(words, layout[name].offset, layout[name].width)
            for name in ("index", "level", "digit", "parity", "pair")}
    keep = (part["level"] == 0) & (part["pair"] == 1)
    words, part = words[keep], {name: values[keep] for name, values in part.items()}
    low = layout["words"].offset + design.word_bits * np.arange(8)
    masks = np.stack([bits_of(words, at, 8) for at in low], axis=1)
    bases = np.stack([bits_of(words, at + 8, design.index_bits) for at in low], axis=1)
    rows, found = np.arange(len(words)), []
    for k in range(27):
        child, octant = np.zeros(len(words), np.int64), np.zeros(len(words), np.int64)
        for step, bit in ((k // 9 - 1, 2), (k // 3 % 3 - 1, 1), (k % 3 - 1, 0)):
            # Along one axis; the voxel's octant begins at 2 or 4, as its parity is.
            place = 2 * (2 - (part["parity"] >> bit & 1)) + (part["digit"] >> bit & 1) + step
            child |= (place & 1) << bit
            octant |= (place >> 1 & 1) << bit
        mask = masks[rows, octant]
        there = np.flatnonzero(mask >> child & 1)
        before = np.bitwise_count(mask[there] & (1 << child[there]) - 1)
        found.append(np.stack([part["index"][there], np.full(len(there), k), bases[rows, octant][there] + before], 1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@dataclass(frozen=True)
class TableRun:
    """The voxel table in RTL.

    Attributes
    ----------
    cycles : int
        From the first store to the last word, without the clearing after the reset.
    late : int
        Largest difference of any transfer from the cycle model.
    stores, windows, pairs : int
    wrong : int
        Pairs that are not the golden map's, or are missing.
    """

    cycles: int
    late: int
    stores: int
    windows: int
    pairs: int
    wrong: int


def run_table(keys: np.ndarray, depth: int, design: TableDesign | None = None) -> TableRun:
    """A cloud's windows through the voxel table, words always taken."""
    design = TableDesign(index_bits=max((len(keys) - 1).bit_length(), 3)) if design is None else design
    commands = windows(design, decode_keys(keys, depth))
    words = table_words(design, commands)
    run = _table_model(design).run({"i": pack_commands(design, commands)}, {"o": len(words.out)},
                                   timeout=design.rows + 1000).check()
    cycles = table_cycles(design, commands, words)
    late = max(int(np.abs(run.cycles[name].astype(np.int64) - wanted).max())
               for name, wanted in (("i", cycles.i), ("o", cycles.o)))
    pairs, wanted = table_pairs(unpack_words(design, run.outputs["o"])), submanifold(keys, depth)
    keep = wanted.k < 13 if design.half else wanted.k >= 0
    expected = np.stack([wanted.out, wanted.k, wanted.inp], axis=1)[keep]
    return TableRun(int(run.cycles["o"][-1]) - design.rows + 1, late, commands.stored, int(commands.window.sum()),
                    len(pairs), differing(pairs, expected))


@cache
def _table_model(design: TableDesign) -> StreamModel:
    return StreamModel(VoxelTable(design))
