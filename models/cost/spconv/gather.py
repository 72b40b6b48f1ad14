"""Cycles of the gather unit, equal to the RTL when its outputs are taken at once, and what an ideal one would need.

Lane ``j`` multiplies channels ``j``, ``j + lanes``, ... one that is not zero each cycle. ``load[i, j]`` of them are in
item ``i``.

pack ``item``: an item takes ``steps = max_j load[i, j]``, one if that is 0 and it begins, ends or releases something::

    start[i] = max(come[i] + 2, start of the item before + its steps)

pack ``row``: lane ``j`` goes through its loads of one output row on its own, pairs of no load left out::

    goes[i] = max(come[i] + 1, goes of the pair before + 1, room in the queue of each lane)
    start[i, j] = max(goes[i] + 1, finish of the pair before + 1, first step of the row)
    finish[i, j] = start[i, j] + load[i, j] - 1
    end of the row = max(finish, goes[last item] + 1, or + 2 where it goes as the row before ends)

The next row goes on in the cycle after that. ``come`` is one cycle each, two after the item was taken; it waits while
the queue (16 pairs) is full. There is room for ``window`` pairs in a lane, and for the ends of ``window`` rows and the
present one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.spconv import GatherDesign
from ...golden.gather import WorkStream, something

__all__ = ["GatherCycles", "GatherIdeal", "Steps", "gather_cycles", "gather_ideal", "lane_counts", "lane_loads",
           "unit_latency"]

FRONT = 2     # from the item to its pair
PAIRS = 16    # that can wait for the lanes
BATCH = 1 << 14


@dataclass(frozen=True)
class GatherCycles:
    """What happens when.

    Attributes
    ----------
    i : ndarray (N,)
        Cycle in which each item is taken; the first is offered in cycle 0.
    o : ndarray (R,)
        Of each output.
    released : ndarray
        Of each release; only with pack ``item``.
    items, dropped, issued, skipped, idle, cycles : int
        The unit's counters.
    span : int
        Cycles from the first step to the last.
    """

    i: np.ndarray
    o: np.ndarray
    released: np.ndarray | None
    items: int
    dropped: int
    issued: int
    skipped: int
    idle: int
    cycles: int
    span: int


@dataclass(frozen=True)
class GatherIdeal:
    """Cycles without the costs of a real unit.

    Attributes
    ----------
    dense : int
        No channel is skipped.
    item, row : int
        Any lane takes any channel, of one pair or of one output row.
    item_lanes, row_lanes : int
        Every lane has its own channels, as in the unit; pairs come as fast as they are needed.
    """

    dense: int
    item: int
    row: int
    item_lanes: int
    row_lanes: int


def unit_latency(design: GatherDesign) -> int:
    """From a row's last step to its output."""
    return 6 + design.pipeline + (design.relays > 0)


def lane_counts(design: GatherDesign, features: np.ndarray) -> np.ndarray:
    """(rows, lanes) channels that are not zero of codes (rows, channels)."""
    some = something(design.activation, features)
    return some.reshape(len(some), -1, design.lanes).sum(axis=1, dtype=np.int32)


def lane_loads(design: GatherDesign, work: WorkStream, features: np.ndarray) -> np.ndarray:
    """(N, lanes) channels of each work item that are not zero; ``features`` are codes (rows, channels)."""
    count = lane_counts(design, features)
    return np.where(work.pair[:, None], count[np.where(work.pair, work.source, 0)], 0)


def gather_ideal(design: GatherDesign, work: WorkStream, loads: np.ndarray, groups: int) -> GatherIdeal:
    """Idealised cycles; output rows are those of ``work.out``, in any order."""
    pairs = np.flatnonzero(work.pair)
    nnz = loads.sum(axis=1)[pairs]
    _, row = np.unique(work.out[pairs], return_inverse=True)
    per_row = np.zeros((int(row.max()) + 1 if len(row) else 0, design.lanes), np.int64)
    np.add.at(per_row, row, loads[pairs])
    return GatherIdeal(len(pairs) * groups, int((-(-nnz // design.lanes)).sum()),
                       int((-(-per_row.sum(axis=1) // design.lanes)).sum()), int(loads[pairs].max(axis=1).sum()),
                       int(per_row.max(axis=1, initial=0).sum()))


def gather_cycles(design: GatherDesign, work: WorkStream, loads: np.ndarray, groups: int,
                  offered: np.ndarray | None = None) -> GatherCycles:
    """Exact cycles when ``o`` is always taken at once.

    Parameters
    ----------
    loads : ndarray (N, lanes)
        `lane_loads`.
    groups : int
        Words of an input row.
    offered : ndarray (N,), optional
        Cycle from which each item is offered (an offer also follows the transfer before); default 0.
    """
    if not len(work):
        none = np.zeros(0, np.int64)
        return GatherCycles(none, none, none, 0, 0, 0, 0, 0, 0, 0)
    taken, steps, ends, released, span = (_items if design.pack == "item" else _rows)(design, work, loads, offered)
    pairs, issued = int(work.pair.sum()), int(loads.sum())
    return GatherCycles(taken, ends + unit_latency(design), released, pairs,
                        int((work.pair & ~loads.any(axis=1)).sum()), issued,
                        pairs * groups * design.lanes - issued, steps * design.lanes - issued, steps, span)


def _items(design: GatherDesign, work: WorkStream, loads: np.ndarray, offered: np.ndarray | None):
    """Pack ``item``: pair ``i`` comes into the queue in cycle ``come``, and out of it before its first step."""
    load = np.maximum(loads.max(axis=1), work.first | work.final | work.release | work.last)
    offers = [0] * len(load) if offered is None else offered.tolist()
    taken, ends = [], []
    t, waits, come, end = -1, 0, -1, 0
    gone = [-1] * PAIRS      # when the last pairs left the queue
    kept = 0
    for offer, steps in zip(offers, load.tolist(), strict=True):
        t = max(t + 1, waits - 1, offer)
        waits = max(t + FRONT, come + 1)
        come = max(waits, gone[kept % PAIRS] + 1)
        if steps:
            leaves = max(come + 1, end)
            gone[kept % PAIRS] = leaves
            kept += 1
            end = leaves + steps
        taken.append(t)
        ends.append(end)
    last = np.array(ends, np.int64)
    leaves = work.final | work.last
    some = np.flatnonzero(load)
    span = int(last[-1] - last[some[0]] + load[some[0]]) if len(some) else 0
    return np.array(taken, np.int64), int(load.sum()), last[leaves], last[work.release] + 3 + (design.relays > 0), span


def _rows(design: GatherDesign, work: WorkStream, loads: np.ndarray, offered: np.ndarray | None):
    """Pack ``row``: pair ``i`` comes into the queue in cycle ``come``, and goes on to the lanes' in cycle ``goes``.

    So many items of a row at a time that none waits for the place of another one among them.
    """
    lanes, window, count = design.lanes, design.window, len(work)
    loads = loads.astype(np.int64)
    some = loads > 0
    closes = work.final | work.last
    keeps = (some.any(axis=1) | closes | work.first | work.release).tolist()
    # A pair's place in the rings of its lanes: there stands when the pair before it in that place was done.
    place = (np.cumsum(some, axis=0) - some) % window * lanes + np.arange(lanes)
    ring, finish = np.full(window * lanes, -1), np.full(lanes, -1)
    taken, steps = np.zeros(count, np.int64), Steps()
    offers = [0] * count if offered is None else offered.tolist()
    t, waits, come, goes, begin, kept = -1, 0, -1, -1, 0, 0
    gone = [-1] * PAIRS      # when the last pairs left the queue
    ends: list[int] = []
    low = 0
    for close in np.append(np.flatnonzero(closes), count).tolist():
        while low < min(close + 1, count):
            high = min(close + 1, low + window, count)
            at = place[low:high]
            room = ring[at].max(axis=1).tolist()
            if close < high and len(ends) > window:
                room[-1] = max(room[-1], ends[-window - 1])
            there, times = [], []
            for i in range(low, high):
                t = max(t + 1, waits - 1, offers[i])
                waits = max(t + FRONT, come + 1)
                come = max(waits, gone[kept % PAIRS] + 1)
                if keeps[i]:
                    goes = max(come + 1, goes + 1, room[i - low] + 1)
                    gone[kept % PAIRS] = goes
                    kept += 1
                there.append(goes)
                times.append(t)
            taken[low:high] = times
            load, mine = loads[low:high], some[low:high]
            # Each load as early as its pair, and those before it in its lane, allow.
            total = np.cumsum(load, axis=0)
            free = np.maximum(np.array(there), begin - 1)[:, None] - total + load
            done = np.maximum(np.maximum.accumulate(free, axis=0), finish) + total
            done, start = done[mine], (done - load + 1)[mine]
            ring[at[mine]] = done
            np.maximum.at(finish, np.nonzero(mine)[1], done)
            steps.add(start, done)
            low = high
        if close < count:
            end = max(goes + 1 + (goes == begin - 1), int(finish.max()), begin)
            ends.append(end)
            begin = end + 1
            steps.close(end)
    steps.flush()
    return taken, steps.total, np.array(ends, np.int64), None, steps.last - steps.first + 1


class Steps:
    """In how many cycles some lane multiplies or a row ends; spans of different rows never meet."""

    def __init__(self):
        self.total, self.first, self.last = 0, 0, -1
        self.starts: list[np.ndarray] = []
        self.dones: list[np.ndarray] = []

    def add(self, start: np.ndarray, done: np.ndarray) -> None:
        self.starts.append(start)
        self.dones.append(done)

    def close(self, end: int) -> None:
        """A row ends."""
        self.starts.append(np.array([end]))
        self.dones.append(np.array([end]))
        if len(self.starts) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if not self.starts:
            return
        start, done = np.concatenate(self.starts), np.concatenate(self.dones)
        low, high = int(start.min()), int(done.max())
        change = np.bincount(start - low, minlength=high - low + 2) - np.bincount(done + 1 - low,
                                                                                  minlength=high - low + 2)
        self.total += int((np.cumsum(change) > 0).sum())
        self.first = low if self.last < 0 else self.first
        self.last = high
        self.starts, self.dones = [], []
