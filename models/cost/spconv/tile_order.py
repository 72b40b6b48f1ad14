"""Cycles of pairs sorted by offset, with the weight cache behind: equal to the RTL where pairs are always offered.

A tile comes in pair by pair; its lists leave one after the other, pair by pair, while the next tiles come in, as far as
there is room for them: for each offset two tiles' pairs have a place. So it takes a cycle for each pair, and some more
where a tile is much longer than those before it; 1 to 2 % on real clouds with 64 rows to a tile. Tiles in two fixed
banks would take as long as the longer of each two in turn, 6 to 8 % more than one cycle for each pair.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from ...design.spconv import CacheDesign
from .weight_cache import MISS, PINNED, trace

__all__ = ["NO_WEIGHTS", "OrderCycles", "fill_stalls", "order_cycles"]

IN_FLIGHT, WAITING = 63, 32     # as of the RTL
NO_WEIGHTS = 27                 # the list of rows without pairs, and of an empty job's end
LISTS = 28


@dataclass(frozen=True)
class OrderCycles:
    """From the cycle of the first item's transfer.

    Attributes
    ----------
    taken : ndarray (items,)
        Each item comes in.
    tile, k, pairs : ndarray (N,)
        Of each list, in the order of work; ``pairs`` counts its items.
    demand, grant : ndarray (N,)
        Of each list: its demand is looked up (or it is known, where it needs no weights); its weights are granted.
    first, last : ndarray (N,)
        Its first and last work item leave.
    loaded : ndarray (misses,)
        Each missing tile is complete.
    waits : int
        Cycles in which pairs could have left, but for their weights.
    """

    taken: np.ndarray
    tile: np.ndarray
    k: np.ndarray
    pairs: np.ndarray
    demand: np.ndarray
    grant: np.ndarray
    first: np.ndarray
    last: np.ndarray
    loaded: np.ndarray
    waits: int

    @property
    def total(self) -> int:
        """Cycles to the last work item."""
        return int(self.last[-1]) + 1


class _Pipe:
    """Read of a pair, its output row, its way out; all move together, unless one waits to be taken."""

    def __init__(self, item_cycles: int):
        self.item_cycles = item_cycles
        self.read = self.moved = -2             # the last one: read; on its way out from the next cycle
        self.left = self.before = -item_cycles  # taken; and the last but one

    def list(self, start: int, pairs: int, reads: list[int]) -> tuple[int, int]:
        """First and last one taken of a list that can be read from cycle ``start``; reads are appended."""
        begun = 0
        for pair in range(pairs):
            read = max(start, self.before)
            if read != self.moved:
                read = max(read, self.left)
            self.before, self.read, self.moved = self.left, read, max(read + 1, self.left)
            self.left = max(self.moved + 1, self.before + self.item_cycles)
            start = read + 1
            reads.append(read)
            begun = begun if pair else self.left
        return begun, self.left


def order_cycles(design: CacheDesign, row: np.ndarray, k: np.ndarray, pinned: np.ndarray, *, load_cycles: int = 1,
                 item_cycles: int = 1, lag: int = 0) -> OrderCycles:
    """Event model. Pinned tiles are there, items always offered.

    Parameters
    ----------
    row, k : ndarray (items,)
        Output row (0, 1, ... without gaps) and kernel offset of each item, in order; `NO_WEIGHTS` for one without a
        pair.
    pinned : bool ndarray (27,)
    load_cycles : int
        A weight tile takes, one after the other: its bytes / bytes in a cycle.
    item_cycles : int
        A work item is taken so many cycles after the one before, or when it is there.
    lag : int
        Cycles from a work item's transfer until it counts as issued.
    """
    of_tile, arrived = np.asarray(row) // design.tile_rows, np.asarray(k)
    key, pairs = np.unique(of_tile * LISTS + arrived, return_counts=True)
    tile, k = key // LISTS, key % LISTS
    needs = k != NO_WEIGHTS
    found = trace(k[needs], pinned)
    kind, side = np.full(len(k), PINNED), np.full(len(k), -1)
    kind[needs], side[needs] = found.kind, found.side
    first_list, first_item = (np.searchsorted(each, np.arange(int(tile[-1]) + 2)) for each in (tile, of_tile))
    taken, freed = np.zeros(len(arrived), np.int64), np.zeros(int(tile[-1]) + 1, np.int64)
    demand, grant, first, last = (np.zeros(len(k), np.int64) for _ in range(4))
    order: list[int] = []           # lists with demands
    users = [-1, -1]                # last list that uses each half of the buffer
    there = [0, 0]                  # cycle from which its tile is
    loaded: list[int] = []
    came = handed = stored = pushed = fetch = -2
    entered = looked = -1           # the demand before: enters the cache, is looked up
    pipe, waits = _Pipe(item_cycles), 0
    reads: list[list[int]] = [[] for _ in range(LISTS)]
    count, last_stored = [0] * LISTS, [-1] * LISTS
    room, most = design.ring - 1, design.open_tiles - 2

    for t in range(len(freed)):
        # It comes in behind the one before, whose offsets must have gone on; each item needs room in its ring.
        came = max(came, handed - 1, int(freed[t - most]) if t >= most else -1)
        for item in range(first_item[t], first_item[t + 1]):
            came = max(came + 1, stored)
            ring = int(arrived[item])
            # Room for two is seen at once; else a cycle later, when there is room for this one.
            place, ahead = count[ring], last_stored[ring] == came
            left = room - (place - ahead - bisect_left(reads[ring], came))
            stored, place = came + 1, place - room
            if left < 2:
                stored = max(came + 2, reads[ring][place] + 2 if place >= 0 else 0)
            count[ring], last_stored[ring] = count[ring] + 1, stored
            taken[item] = came
        handed = max(came + 1, pushed, stored)
        for n in range(first_list[t], first_list[t + 1]):
            visible = pushed + 1 if n > first_list[t] else handed + 2
            at = max(visible, int(grant[n - WAITING]) + 1 if n >= WAITING else 0)
            could = max(at + 1, pipe.read)
            ready = could
            if needs[n]:
                at = max(at, entered + 1)
                entered, half = max(at, looked), int(side[n])
                looked = entered + 1
                if len(order) >= design.ahead:
                    looked = max(looked, int(grant[order[-design.ahead]]) + 1)
                if len(order) >= IN_FLIGHT:
                    looked = max(looked, int(last[order[-IN_FLIGHT]]) + lag + 1)
                if kind[n] == MISS:
                    looked = max(looked, fetch + 2, int(last[users[half]]) + lag + 1 if users[half] >= 0 else 0)
                    fetch = looked
                    loaded.append(max(fetch + 1, loaded[-1] if loaded else 0) + load_cycles)
                    there[half] = loaded[-1] + 1
                ready = looked + 1
                if half >= 0:
                    users[half], ready = n, max(ready, there[half])
                order.append(n)
                could = max(at + 1, pipe.read)
            demand[n], grant[n], pushed = at, max(could, ready), at
            waits += int(grant[n]) - could
            first[n], last[n] = pipe.list(int(grant[n]) + 1, int(pairs[n]), reads[k[n]])
        freed[t] = pipe.read
    return OrderCycles(taken, tile, k, pairs, demand, grant, first, last, np.array(loaded, np.int64), waits)


def fill_stalls(design: CacheDesign, row: np.ndarray, k: np.ndarray, pinned: np.ndarray, *, tile_bytes: int,
                loader_bytes: float, item_cycles: int = 1) -> int:
    """Cycles that a pass takes longer because weights come in too late.

    Parameters
    ----------
    row, k, pinned, item_cycles : as of `order_cycles`
    tile_bytes : int
        Of a weight tile.
    loader_bytes : float
        That come in a cycle.
    """
    load_cycles = max(int(-(-tile_bytes // loader_bytes)), 1)
    totals = [order_cycles(design, row, k, stays, load_cycles=load_cycles, item_cycles=item_cycles).total
              for stays in (pinned, np.ones_like(pinned, bool))]
    return totals[0] - totals[1]
