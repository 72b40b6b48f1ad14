"""Cycles of the jobs of the sparse-convolution core, equal to the RTL: an event model of the whole chain.

::

    descent ──► rows ──► pairs ──► order of work ──► gather unit ──► output stage
       ▲─ room ──┘ ▲───────┘ ▲────────┘   ▲ weights      ▲───────────────┘

Each unit has the events of its own exact model (`map_search`, `map_compact`, `tile_order`, `gather`); here what each of
them waits for is what the units beside it do. All passes of a job take the same time.

It holds where streams never wait: the next voxel, feature and weight is always there (so memory answers a request at
once), requests and results are taken at once, and the next job waits in the queue when one ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.spconv import KERNEL_OFFSETS, MapDesign
from ...design.spconv_core import SpConvDesign
from ...golden.spconv import ConvMap, Tree
from .gather import lane_counts
from .map_compact import compact_cycles
from .map_rows import RowTaker
from .map_search import descent_cycles
from .octree import closed_levels
from .spconv_order import EMPTY_RINGS, Unit, items_of, level_items, row_items, row_order, tile_order, tiles_of
from .spconv_sums import OutputEvents, item_sums, row_sums
from .spconv_weights import WeightEvents

__all__ = ["JobCycles", "convolution_cycles", "load_cycles", "store_cycles"]

SEARCH = 2      # cycles from the start of a pass to that of its search
LEVEL_ITEM = 4  # from there to the first item of a map between two levels


@dataclass(frozen=True)
class JobCycles:
    """One job.

    Attributes
    ----------
    cycles : int
        From that in which the job is the next one to that in which it ends, both counted.
    search : int
        In which a tree is searched.
    steps : int
        In which some lane multiplies or a row ends.
    passes : tuple of int
        Of a convolution, cycles of each pass; with one more before them they are ``cycles``.
    """

    cycles: int
    search: int = 0
    steps: int = 0
    passes: tuple[int, ...] = ()


def convolution_cycles(design: SpConvDesign, op: str, conv: ConvMap, x_codes: np.ndarray, outputs: int,
                       pinned: np.ndarray, tree: Tree, *, level: int = 0, other: Tree | None = None,
                       since_reset: int = EMPTY_RINGS) -> JobCycles:
    """A convolution.

    Parameters
    ----------
    design : SpConvDesign
    op : str
        As of `SpConvJob`, as is ``level``.
    conv : ConvMap
    x_codes : ndarray (inputs, Ci)
    outputs : int
        Output channels.
    pinned : bool ndarray (27,)
        Offsets whose weights stay.
    tree : Tree
        That is searched, of the design's depth.
    other : Tree, optional
        Of the outputs, if they are no nodes of the first one (``cross``).
    since_reset : int
        Cycles from the reset to the start of this job.
    """
    if not conv.rows:
        return JobCycles(1)
    found: list[JobCycles] = []
    start, usual = since_reset + 1, None
    for _ in range(outputs // design.gather.outputs):
        if usual is None:
            ready = max(EMPTY_RINGS - start, 0)
            found.append(_pass(design, op, conv, x_codes, pinned, tree, level, other, ready))
            usual = None if ready else found[-1]
        else:
            found.append(usual)
        start += found[-1].cycles
    return JobCycles(1 + sum(each.cycles for each in found), sum(each.search for each in found),
                     sum(each.steps for each in found), tuple(each.cycles for each in found))


def _pass(design: SpConvDesign, op: str, conv: ConvMap, x_codes: np.ndarray, pinned: np.ndarray, tree: Tree,
          level: int, other: Tree | None, ready: int) -> JobCycles:
    """One pass, from its first cycle to the one before the next pass."""
    g = design.gather
    weights, output = WeightEvents(design, x_codes.shape[1], pinned), OutputEvents(design)
    row, k = items_of(conv)
    loads = np.zeros((len(k), g.lanes), np.int32)
    pair = k < KERNEL_OFFSETS
    loads[pair] = lane_counts(g, x_codes)[conv.inp]
    first, final = np.diff(row, prepend=-1) != 0, np.diff(row, append=-1) != 0
    released: list[int] = []
    if g.pack == "row":
        gather = row_sums(design, loads, final, output)
        order = row_order(k.tolist(), weights, gather)
    else:
        tiles = tiles_of(row, k, g.slots, pinned)
        turn = tiles.turn
        release = np.diff(row[turn] // g.slots * (KERNEL_OFFSETS + 1) + k[turn], append=-1) != 0
        release &= pair[turn]
        steps = np.maximum(loads.max(axis=1)[turn], first[turn] | final[turn] | release)
        gather = item_sums(design, steps.tolist(), final[turn].tolist(), release.tolist(), released, output)
        order = tile_order(design, tiles, weights, released, gather, ready)
    next(gather)
    next(order)
    searched, search = op in ("submanifold", "stride3") or other is not None, 0
    if searched:
        rows = row_items(np.bincount(conv.out, minlength=conv.rows).tolist(), order)
        search = _search(design.map, tree, level, op in ("stride3", "down2"), other, _Rows(rows))
    else:
        level_items(SEARCH + LEVEL_ITEM, len(k), order)
    idle = max(weights.idle, released[-1] + 1 if released else 0)
    return JobCycles(max(output.finished + 1, idle) + 1, search, output.steps)


class _Rows(RowTaker):
    """Takes the rows of a search for a unit whose cycles begin with the pass."""

    def __init__(self, unit: Unit):
        super().__init__()
        self.unit = unit
        next(unit)

    def take(self, offered: int) -> int:
        return self.unit.send(offered + SEARCH) - SEARCH


def _search(design: MapDesign, tree: Tree, level: int, half: bool, other: Tree | None, rows: RowTaker) -> int:
    """Cycles of a search."""
    options = {"half": half, "offset": other is not None, "items": rows}
    if design.search == "compact":
        return compact_cycles(design, tree, level, walked=other, **options).cycles
    return descent_cycles(design, tree if other is None else other, level, **options).cycles


def load_cycles(design: SpConvDesign, keys: np.ndarray, mask: np.ndarray, groups: int) -> JobCycles:
    """A cloud becomes a tree, and its features come.

    Parameters
    ----------
    keys : integer ndarray (N,)
        Of the voxels that come, of the design's depth; an empty cloud is one that is out of range.
    mask : bool ndarray (N,)
        False: out of range. Repeated ones are known by their keys.
    groups : int
        Words of features of each; 0: there are none.
    """
    if not len(keys):
        keys, mask = np.zeros(1, np.int64), np.zeros(1, bool)
    depth, words = design.map.depth, max(groups, 1)
    every = (1 << depth + 1) - 4 if mask.any() else 0
    # Cycle 0: the job begins. 1: the first voxel. 2: its key. 3: it changes the open path, and its features may come.
    now, waiting, kept, loaded = 2, 0, 0, 0
    for closed in [*closed_levels(design.map, keys, mask).tolist(), every]:
        now += 1
        while now < kept or closed & waiting & (waiting - 1):
            waiting &= waiting - 1
            now += 1
        waiting = waiting & (waiting - 1) | closed
        loaded, kept = kept, max(now, kept) + words
    left = waiting.bit_count()
    return JobCycles(max(now + (left + 1 if left else 0) + 3, loaded + 2) + 1)


def store_cycles(rows: int, groups: int) -> JobCycles:
    """A tensor leaves, a word a cycle; an empty one is a word."""
    return JobCycles(max(rows * groups, 1) + 4)
