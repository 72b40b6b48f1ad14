"""Cycles of map search by octree descent, equal to the RTL, and closed bounds.

With n_l nodes of level l (n_0 voxels, n_D roots), the parity descent visits a node above the voxels each cycle, and at
the same time a voxel each cycle:

=============== ====================================== ============================================================
outputs         cycles                                 why
=============== ====================================== ============================================================
level 0         max(n_0, n_1 + ... + n_D) or more      `descent_bound`: dense places keep one engine busy, sparse
                                                       ones the other, and what waits between them is limited
level t >= 1    n_t + ... + n_D                        the upper engine alone
levels t ... up n_t + ... + n_D (t = 0: n_0 too)       a row each cycle
=============== ====================================== ============================================================

and a constant for each level: `STEP` cycles until a node's children can be visited. One engine for all levels would
take n_0 + ... + n_D (`single_engine`). Each visit reads eight words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...design.spconv import MapDesign
from ...errors import BitkilnError
from ...golden.spconv import Tree
from .map_rows import RowTaker

__all__ = ["PER_LEVEL", "DescentCycles", "SearchCycles", "descent_bound", "descent_cycles", "single_engine"]

STEP = 5            # cycles from a visit until the node's own children can be visited
LEAF = STEP + 1     # the same for voxels
ROW = 8             # from a voxel's visit until its row is on the output; for a node one more
FREED = 4           # from the visit of a node's last child until its place is free
LEAF_FREED = 3
# What the constants above may add to a bound, for each level.
PER_LEVEL = 16


@dataclass(frozen=True)
class SearchCycles:
    """A search whose rows, or whose pairs, are always taken.

    Attributes
    ----------
    rows : int64 ndarray
        Cycle in which each row leaves, counted from that of ``start``; ``busy`` falls after the last one.
    level : int64 ndarray
        Of each row.
    last_item : int
        Cycle of the last pair; 0 where rows are always taken.
    """

    rows: np.ndarray
    level: np.ndarray
    last_item: int = field(default=0, kw_only=True)

    @property
    def cycles(self) -> int:
        """From ``start`` until the last row has left."""
        return int(self.rows[-1]) if len(self.rows) else 0


@dataclass(frozen=True)
class DescentCycles(SearchCycles):
    """`SearchCycles`, and what its engines did.

    Attributes
    ----------
    upper, leaf : int
        Visits of nodes above the voxels, roots among them, and of voxels.
    upper_idle, leaf_idle : int
        Cycles without a visit, up to the last one of each engine.
    """

    upper: int
    leaf: int
    upper_idle: int
    leaf_idle: int

    @property
    def words_read(self) -> int:
        """Words of the search memory."""
        return 8 * (self.upper + self.leaf)


def _children(tree: Tree, target: int, half: bool, offset: bool, depth: int) -> list[list[int]]:
    """``first[m][i]``: how many children the nodes before ``i`` have, of the search's level ``m``."""
    first: list[list[int]] = [[] for _ in range(depth + 1)]
    for level in range(target + 1, depth + 1):
        own = level - offset
        if half and level == target + 1:
            count = np.ones(tree.counts[own], np.int64)
        elif own:
            count = np.bitwise_count(tree.masks[own]).astype(np.int64)
        else:
            raise BitkilnError("no level below", where="target", got=target, expected="1 or more with offset")
        first[level] = [0, *np.cumsum(count).tolist()]
    return first


def descent_cycles(design: MapDesign, tree: Tree, target: int = 0, *, every: bool = False, half: bool = False,
                   offset: bool = False, present: int | None = None,
                   items: Sequence[int] | RowTaker | None = None) -> DescentCycles:
    """Event model of `hw.spconv.descent`, whose rows are always taken, or (``items``) become pairs that are.

    Parameters
    ----------
    design : MapDesign
        Its depth, queue and rows.
    tree : Tree
        Of the outputs: with ``offset`` the other tree.
    target, every, half, offset :
        Inputs of the search.
    present : int, optional
        Bit r is 1 where searched root r has outputs; by default as many as ``tree`` has.
    items : sequence of int, or RowTaker, optional
        Pairs of each row, or who takes the rows; not with ``every``.
    """
    depth, queue = design.depth, design.queue
    taker = items if isinstance(items, RowTaker) else RowTaker(items)
    first = _children(tree, target, half, offset, depth)
    roots = tree.counts[depth - offset]
    if not roots:
        only = taker.take(ROW + 1)
        return DescentCycles(np.array([only]), np.zeros(1, np.int64), 0, 0, 0, 0,
                             last_item=0 if items is None else taker.last_item)
    pending = (1 << roots) - 1 if present is None else present
    lowest = max(target, 1)                             # of the upper engine's children
    issued, arrived, popped, finished = ([0] * (depth + 2) for _ in range(4))
    arrivals: deque[tuple[int, int]] = deque()
    frees: deque[tuple[int, int]] = deque()
    leaf_frees: deque[int] = deque()
    leaf_arrivals: deque[int] = deque()
    rows: list[int] = []
    levels: list[int] = []
    wanted = (first[1][-1] if target == 0 else 0) + sum(
        first[level + 1][-1] for level in range(lowest, depth) if level == target or every)
    is_row = [level == target or (every and level > target) for level in range(depth)] + [False]
    returned = 0                    # rows that have left
    due = -1                        # cycle in which a row of the upper engine takes its place
    leaf = upper = leaf_last = upper_last = 0
    order = range(lowest, depth)
    now = 0
    while len(rows) < wanted:
        now += 1
        while arrivals and arrivals[0][0] <= now:
            arrived[arrivals.popleft()[1]] += 1
        while leaf_arrivals and leaf_arrivals[0] <= now:
            leaf_arrivals.popleft()
            arrived[1] += 1
        while frees and frees[0][0] <= now:
            popped[frees.popleft()[1]] += 1
        while leaf_frees and leaf_frees[0] <= now:
            leaf_frees.popleft()
            popped[1] += 1
        while returned < len(rows) and rows[returned] < now:
            returned += 1
        room = design.rows - (len(rows) - returned)
        # The leaf engine, or the row that the upper one decided in the cycle before.
        blocked = due == now
        if blocked:
            rows.append(taker.take(now + ROW))
        elif target == 0 and leaf < first[1][arrived[1]] and room:
            rows.append(taker.take(now + ROW))
            levels.append(0)
            leaf, leaf_last = leaf + 1, now
            if leaf == first[1][finished[1] + 1]:
                finished[1] += 1
                leaf_frees.append(now + LEAF_FREED)
        # The upper engine.
        for level in order:
            above = level + 1
            if issued[level] >= first[above][arrived[above]] or (is_row[level] and room < 2):
                continue
            makes = level != target
            if makes and issued[level] - popped[level] >= queue:
                continue
            issued[level] += 1
            if issued[level] == first[above][finished[above] + 1]:
                finished[above] += 1
                frees.append((now + FREED, above))
            if is_row[level]:
                due = now + 1
                levels.append(level)
            break
        else:
            level = depth
            if not pending & 1 or issued[depth] - popped[depth] >= queue:
                if pending and not pending & 1:
                    pending >>= 1
                elif leaf_last != now and not blocked:      # nothing goes before the next of these
                    soon = [*(each[0][0] for each in (arrivals, frees) if each),
                            *(each[0] for each in (leaf_arrivals, leaf_frees) if each),
                            *(row + 1 for row in rows[returned:returned + 1])]
                    now = max(now, min(soon, default=0) - 1)
                continue
            issued[depth] += 1
            pending >>= 1
            makes = True
        upper, upper_last = upper + 1, now
        if makes:
            if level > 1:
                arrivals.append((now + STEP, level))
            else:
                leaf_arrivals.append(now + LEAF)
    return DescentCycles(np.array(rows, np.int64), np.array(levels, np.int64), upper, leaf,
                         upper_last - upper, leaf_last - leaf, last_item=0 if items is None else taker.last_item)


def single_engine(tree: Tree, target: int = 0) -> int:
    """Visits of one engine for all levels: the first formula of octree descent, without latency."""
    return sum(tree.counts[target:])


def descent_bound(design: MapDesign, tree: Tree, target: int = 0, *, every: bool = False, half: bool = False,
                  offset: bool = False) -> int:
    """Visits of the busier engine along the way, without latency: the RTL takes at most `PER_LEVEL` more a level.

    It takes less where its order, the deepest node that is ready, fills the queues better than this one.

    For level 0 a shop of two machines with ``design.queue`` places between them, nodes in Morton order: node i of
    level 1 comes out of the upper engine after all nodes that begin with it, and its voxels go through the leaf
    engine after those of the node before.

    Parameters
    ----------
    design, tree, target, every, half, offset : as of `descent_cycles`
    """
    depth = design.depth
    first = _children(tree, target, half, offset, depth)
    roots = tree.counts[depth - offset]
    if target or every:
        return roots + sum(each[-1] for each in first[target + 1:])
    if not roots:
        return 0
    nodes = len(first[1]) - 1
    visits, begins = np.ones(nodes, np.int64), np.arange(nodes)
    for level in range(2, depth + 1):
        begins = begins[np.array(first[level][:-1])]
        np.add.at(visits, begins, 1)
    queue, made, begun, ended = design.queue, 0, [0] * design.queue, 0      # cycles of the last ones
    for at, (cost, voxels) in enumerate(zip(visits.tolist(), np.diff(first[1]).tolist(), strict=True)):
        made = max(made, begun[at % queue]) + cost
        ended = max(made, ended) + voxels
        begun[at % queue] = ended
    return ended
