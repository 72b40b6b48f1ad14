"""When rows of the map become pairs, and pairs leave in the order of work.

Coroutines, each driving the one behind it: ``taken = unit.send(offered)`` for each row, item or work item in turn,
after a first ``next(unit)``. A unit never needs to know what comes later, so the cycles of all of them are found item
by item, however long each one waits for those behind it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from ...design.spconv_core import SpConvDesign
from ...golden.spconv import ConvMap
from .spconv_weights import WeightEvents
from .tile_order import LISTS, NO_WEIGHTS, WAITING
from .weight_cache import trace

__all__ = ["Tiles", "level_items", "row_items", "row_order", "tile_order", "tiles_of"]

Unit = Generator[int, int, None]
EMPTY_RINGS = 32    # cycles after a reset in which the order takes nothing


def row_items(pairs: list[int], order: Unit) -> Unit:
    """Rows of a searched map to pairs; a row without any is one item.

    Parameters
    ----------
    pairs : list of int
        Of each row.
    order : generator
        Takes the items.
    """
    taken = moves = turns = last = moved = left = before = -1
    for count in pairs:
        offered = yield taken
        # The row arrives, is the next one, is the one whose pairs leave.
        taken = max(offered, taken + 1, moves)
        moves = max(taken + 1, turns)
        step = turns = max(moves + 1, last)
        for _ in range(max(count, 1)):
            step = max(step + 1, before)
            if step != moved:
                step = max(step, left)
            moved = max(step + 1, left)
            before = left
            left = order.send(moved + 1)
        last = step
    yield taken


def level_items(first: int, count: int, order: Unit) -> None:
    """All items of a map between two levels; the first can be on offer in cycle ``first``."""
    step = first - 2
    left = -1
    for _ in range(max(count, 1)):
        step = max(step + 1, left)
        left = order.send(step + 1)


@dataclass(frozen=True)
class Tiles:
    """Pairs of a map by tile of output rows and offset, beside their order by row.

    Attributes
    ----------
    ring : list of int
        Of each item, in order of rows: its offset, `NO_WEIGHTS` for a row without pairs.
    items, lists : list of int
        Of each tile: its first item, its first list; and their ends.
    k, pairs, kind, side : list of int
        Of each list: offset, items, what becomes of its demand (as of `weight_cache.Trace`).
    turn : ndarray (N,)
        Item of each work item.
    """

    ring: list[int]
    items: list[int]
    lists: list[int]
    k: list[int]
    pairs: list[int]
    kind: list[int]
    side: list[int]
    turn: np.ndarray


def items_of(conv: ConvMap) -> tuple[np.ndarray, np.ndarray]:
    """Output row and offset of each item of a map, rows without pairs included."""
    bare = np.setdiff1d(np.arange(conv.rows), conv.out)
    row, k = np.append(conv.out, bare), np.append(conv.k, np.full(len(bare), NO_WEIGHTS))
    turn = np.lexsort((k, row))
    return row[turn], k[turn]


def tiles_of(row: np.ndarray, k: np.ndarray, tile_rows: int, pinned: np.ndarray) -> Tiles:
    """Items in order of rows (`items_of`) to tiles.

    Parameters
    ----------
    tile_rows : int
        Output rows of a tile.
    pinned : bool ndarray (27,)
    """
    tile = row // tile_rows
    key = tile * LISTS + k
    lists, pairs = np.unique(key, return_counts=True)
    needs = lists % LISTS != NO_WEIGHTS
    found = trace(lists[needs] % LISTS, pinned)
    kind, side = np.zeros(len(lists), np.int64), np.full(len(lists), -1)
    kind[needs], side[needs] = found.kind, found.side
    bounds = np.arange(int(tile[-1]) + 2)
    return Tiles(k.tolist(), np.searchsorted(tile, bounds).tolist(), np.searchsorted(lists // LISTS, bounds).tolist(),
                 (lists % LISTS).tolist(), pairs.tolist(), kind.tolist(), side.tolist(),
                 np.argsort(key, kind="stable"))


def tile_order(design: SpConvDesign, tiles: Tiles, weights: WeightEvents, released: list[int], gather: Unit,
               ready: int) -> Unit:
    """Pack ``item``: the events of `tile_order`, with items that come late and work that is taken late.

    Parameters
    ----------
    released : list of int
        As of `spconv_sums.item_sums`.
    gather : generator
        Takes the work items.
    ready : int
        No item is taken before this cycle.
    """
    room, most = design.cache.ring - 1, design.cache.open_tiles - 2
    freed: list[int] = []
    reads: list[list[int]] = [[] for _ in range(LISTS)]
    count, last_stored = [0] * LISTS, [-1] * LISTS
    granted: list[int] = []
    came = stored = handed = pushed = -2
    before = left = moved = read = -1       # as of `row_items`
    for tile in range(len(tiles.items) - 1):
        ready = max(ready, handed, freed[tile - most] + 1 if tile >= most else 0)
        for item in range(tiles.items[tile], tiles.items[tile + 1]):
            offered = yield came
            came = max(came + 1, stored, offered, ready)
            ring = tiles.ring[item]
            # Room for two is seen at once; else a cycle later, when there is room for this one.
            place, ahead, gone = count[ring], last_stored[ring] == came, reads[ring]
            stored = came + 1
            if place >= room - 1:
                seen = room - (place - ahead - bisect_left(gone, came))
                if seen < 2:
                    stored = max(came + 2, gone[place - room] + 2 if place >= room else 0)
            count[ring], last_stored[ring] = place + 1, stored
        handed = max(came + 1, pushed, stored)
        visible = handed + 2
        for n in range(tiles.lists[tile], tiles.lists[tile + 1]):
            k = tiles.k[n]
            pushed = max(visible, granted[n - WAITING] + 1 if n >= WAITING else 0)
            if k == NO_WEIGHTS:
                grant = max(pushed + 1, read)
            else:
                pushed = weights.offered(pushed)
                grant = max(pushed + 1, read, weights.demand(pushed, k, tiles.kind[n], tiles.side[n], released))
                weights.granted(grant)
            granted.append(grant)
            visible = pushed + 1
            read, gone = grant, reads[k]
            for _ in range(tiles.pairs[n]):
                read = max(read + 1, before)
                if read != moved:
                    read = max(read, left)
                moved = max(read + 1, left)
                before = left
                left = gather.send(moved + 1)
                gone.append(read)
        freed.append(read)
    yield came


def row_order(k: list[int], weights: WeightEvents, gather: Unit) -> Unit:
    """Pack ``row``: items as they come, each when its weights are there.

    Parameters
    ----------
    k : list of int
        Offset of each item.
    """
    came = left = -1
    for offset in k:
        offered = yield came
        came = max(offered, left)
        if offset != NO_WEIGHTS:
            came = max(came, weights.known[offset], weights.resident[offset])
        left = gather.send(came + 1)
    yield came
