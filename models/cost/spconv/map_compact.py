"""Cycles of the compact map search, equal to the RTL, beside the formula of the octree descent that it replaces.

With n_l nodes of level l (n_0 voxels, n_D roots), three units work at the same time, each doing one thing a cycle:

============= =========================== =========================================================================
unit          things to do for level t    what
============= =========================== =========================================================================
leaf nodes    n_t                         rows of the map
schedule      n_t+1 + ... + n_D           nodes above, each passed on once with the octants around it
fetch         `CompactCycles.octants`     octants around nodes, each once for a window of 64 nodes
============= =========================== =========================================================================

`busiest` is the longest of the three. How much more it takes depends on what waits between them, which only the event
model tells. The formula C2 (`map_baselines.descent_compact`) is one unit that fetches each parent's neighbours alone
and passes its children on in turn: a sum over parents of the longer of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...design.spconv import MapDesign
from ...design.spconv_windows import WindowPlan
from ...golden.spconv_cloud import Tree
from .map_rows import RowTaker
from .map_search import SearchCycles
from .map_windows import LevelWork, all_work

__all__ = ["CompactCycles", "busiest", "compact_cycles"]

FRAMES = 16         # nodes between the schedule and the release of their octants
ROW = 4             # from the cycle that passes an output on to that in which its row leaves
STEP = 8            # from a child of a node to a child of that child, at best


@dataclass(frozen=True)
class CompactCycles(SearchCycles):
    """`SearchCycles`, and what its units did.

    Attributes
    ----------
    outputs, nodes, octants : int
        Rows of the target level; nodes passed on above it; octants fetched, each reading eight banks.
    words : int
        Words in these octants that a window has a place for.
    """

    outputs: int
    nodes: int
    octants: int
    words: int


def busiest(cycles: CompactCycles) -> int:
    """Cycles that the unit with most to do needs: no search is faster."""
    return max(cycles.outputs, cycles.nodes, cycles.octants)


def compact_cycles(design: MapDesign, tree: Tree, target: int = 0, *, every: bool = False, half: bool = False,
                   offset: bool = False, present: int | None = None, walked: Tree | None = None,
                   items: Sequence[int] | RowTaker | None = None) -> CompactCycles:
    """Event model of `hw.spconv.compact`, whose rows are always taken, or (``items``) become pairs that are.

    Parameters
    ----------
    design : MapDesign
        Its depth, queue and rows.
    tree : Tree
        Searched.
    target, every, half, offset :
        Inputs of the search.
    present : int, optional
        Bit r is 1 where searched root r has outputs; by default all.
    walked : Tree, optional
        Of the outputs, with ``offset``.
    items : sequence of int, or RowTaker, optional
        Pairs of each row, or who takes the rows; not with ``every``.
    """
    taker = items if isinstance(items, RowTaker) else RowTaker(items)
    depth, plan = design.depth, WindowPlan.of(design)
    work = all_work(tree, walked if offset else tree, depth, target, half, offset)
    roots = tree.counts[depth]
    pending = ((1 << roots) - 1) & (-1 if present is None else present)
    if not pending:
        only = taker.take(ROW + 1)
        return CompactCycles(np.array([only]), np.zeros(1, np.int64), 0, 0, 0, 0,
                             last_item=0 if items is None else taker.last_item)
    sums = [0, 0, 0, 0]
    for each in work:
        if each is not None:
            sums = [sums[0], sums[1] + len(each.children), sums[2] + int(each.octants.sum()),
                    sums[3] + int(each.words.sum())]
    sums[0] = int(work[target + 1].children.sum())
    rows, levels = _Run(design, plan, work, target, every, taker).run(pending)
    return CompactCycles(np.array(rows, np.int64), np.array(levels, np.int64), *sums,
                         last_item=0 if items is None else taker.last_item)


class _Run:
    """The units' registers, cycle by cycle. Sources are numbered as in the RTL: ``at`` has children of level at + 1."""

    def __init__(self, design: MapDesign, plan: WindowPlan, work: list[LevelWork | None], target: int, every: bool,
                 taker: RowTaker):
        depth = design.depth
        self.design, self.plan, self.depth, self.target, self.every = design, plan, depth, target, every
        self.taker = taker
        self.children, self.heavy, self.begins, self.opens = (
            [None if each is None else getattr(each, name).tolist() for each in work]
            for name in ("children", "octants", "begins", "opens"))
        self.leaf = target                                      # the source whose children are leaf nodes
        self.windows = [plan.leaf_windows if at == target else plan.ring(at + 1)[1] if at else 0
                        for at in range(depth)]

    def run(self, pending: int) -> tuple[list[int], list[int]]:
        depth, target, every, leaf = self.depth, self.target, self.every, self.leaf
        children, heavy, begins, opens = self.children, self.heavy, self.begins, self.opens
        wanted = sum(children[target + 1]) + (sum(sum(children[level + 1]) for level in range(target + 1, depth))
                                              if every else 0)
        sources = range(leaf, depth)
        head, known, out, ahead = ([0] * depth for _ in range(4))
        missed = [False] * depth
        passed = [0] * (depth + 2)                              # children passed on, by level
        chosen = here = None
        rank_picked = rank_chosen = rank_here = 0
        node: tuple[int, int] | None = None                     # source and rank of the current node, children left
        left, fresh, opening, blocked = 0, False, False, False
        stage2 = stage3 = taken = None
        turns: deque[tuple[int, int, bool]] = deque()
        frames: deque[int] = deque()
        fetched = finished = 0
        room = FRAMES
        leaf_head = leaf_known = 0
        waits = leaf_node = None
        leaf_left = 0
        free = self.design.rows
        rows: list[int] = []
        levels: list[int] = []
        returned = 0
        limit, now = self.plan.room, 0
        while len(rows) < wanted:
            now += 1
            # A child of the current node; of the current leaf node.
            full = [ahead[at] == self.windows[at] - 1 for at in range(depth)]
            go = node is not None and room > 0 and (not every or free > 0) and not blocked
            load = node is None or (go and left == 1) or blocked
            upper = go and every and node[0] != depth - 1
            leaf_go = leaf_node is not None and free > 0 and not upper
            leaf_load = waits is not None and (leaf_node is None or (leaf_go and leaf_left == 1))
            leaf_fetch = leaf_head != leaf_known and (waits is None or leaf_load)
            # The choice of a later node.
            here_moves = here is None or load
            chosen_moves = chosen is None or here_moves
            pick = None
            if chosen_moves:
                root = pending & 1 and depth - 1 not in (chosen, here, node[0] if node is not None and fresh else None)
                for at in sources:
                    ready = root if at == depth - 1 else head[at] != known[at]
                    if ready and out[at] < limit and not (missed[at] and full[at]):
                        pick = at
                        break
            # The fetch, and the next turn.
            last = bool(frames) and fetched + 1 == frames[0]
            release = None
            if turns and (turns[0][2] or finished):
                release = turns[0]

            # Registers.
            if frames:
                fetched = 0 if last else fetched + 1
            if last:
                frames.popleft()
            if release is not None:
                turns.popleft()
            finished += last - (release is not None and not release[2])
            room -= go
            if stage3 is not None:
                level, rank = stage3
                count = heavy[level][rank]
                turns.append((level, rank, not count))
                if count:
                    frames.append(count)
            stage3, stage2 = stage2, None
            if release is not None:
                level, rank, _ = release
                room += 1
                if level == leaf + 1:
                    leaf_known = rank + 1
                else:
                    known[level - 2] = rank + 1
            if go:
                level = node[0] + 1
                stage2 = (level, passed[level])
                passed[level] += 1
                out[node[0]] += 1
                left -= 1
                if upper:
                    rows.append(self.taker.take(now + ROW))
                    levels.append(level)
            if leaf_go:
                rows.append(self.taker.take(now + ROW))
                levels.append(target)
                leaf_left -= 1
            while returned < len(rows) and rows[returned] < now:
                returned += 1
            free = self.design.rows - (len(rows) - returned)
            if returned < len(rows) and rows[returned] == now:
                free += 1
            if taken is not None:
                out[taken + 1] -= 1
            taken = None
            if pick is not None:
                rank_picked = head[pick]
                head[pick] += 1
            if blocked:
                back, head[node[0]] = node
                missed[back] = True
                pick, chosen, here = (None if at == back else at for at in (pick, chosen, here))
            if go and fresh:
                at, rank = node
                missed[at] = False
                if opening:
                    ahead[at] += 1
                    full[at] = ahead[at] == self.windows[at] - 1
                if at == depth - 1:
                    pending >>= 1
                else:
                    taken = at
                    ahead[at + 1] -= begins[at + 2][rank]
            elif not pending & 1:
                pending >>= 1
            if go:
                fresh = False
            if load:
                node, fresh, blocked = None, True, False
                if here is not None:
                    node = (here, rank_here)
                    left = 1 if here == depth - 1 else children[here + 2][rank_here]
                    opening = here == depth - 1 or opens[here + 2][rank_here]
                    blocked = opening and full[here]
            if here_moves:
                here, rank_here = chosen, rank_chosen
            if chosen_moves:
                chosen, rank_chosen = pick, rank_picked
            if leaf_node is not None and leaf_go and not leaf_left:
                leaf_node = None
            if leaf_load:
                leaf_node, leaf_left = waits, children[leaf + 1][waits]
                out[leaf] -= 1
                ahead[leaf] -= begins[leaf + 1][waits]
                waits = None
            if leaf_fetch:
                waits = leaf_head
                leaf_head += 1
        return rows, levels
