"""What the compact map search has to fetch: octants around nodes, each once for a window.

A window holds the nodes around the 64 grandchildren of one node. The first of these around which an octant has nodes in
the window asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import BitkilnError
from ...golden.spconv_cloud import Tree, ranks

__all__ = ["LevelWork", "all_work", "level_work"]

AXES = (2, 1, 0)


@dataclass(frozen=True)
class LevelWork:
    """Nodes of one level, in order.

    Attributes
    ----------
    children : int64 ndarray (n,)
        How many children are passed on.
    octants, words : int64 ndarray (n,)
        Octants to fetch that no node before it in its window has asked for, and the words in them that the window
        has a place for.
    begins, opens : bool ndarray (n,)
        The first one of its window; of its octant.
    """

    children: np.ndarray
    octants: np.ndarray
    words: np.ndarray
    begins: np.ndarray
    opens: np.ndarray


def level_work(tree: Tree, depth: int, level: int, keys: np.ndarray, children: np.ndarray) -> LevelWork:
    """What the nodes of a level need.

    Parameters
    ----------
    tree : Tree
        Searched.
    keys : int64 ndarray (n,)
        Of the nodes, in the searched tree's grid; they need not be in it.
    children : int64 ndarray (n,)
        Of each.
    """
    count = len(keys)
    if level == depth:
        ones = np.ones(count, np.int64)
        return LevelWork(children, ones, ones, ones.astype(bool), ones.astype(bool))
    above = depth - level - 1                       # digits of the octants
    parent = keys >> 3
    window = parent >> 3 if above else parent
    digit, batch = keys & 7, keys >> 3 * (depth - level)
    parity = parent & 7 if above else np.zeros(count, np.int64)
    place = parent & ((1 << 3 * above) - 1)
    masks = tree.masks[level + 1].astype(np.int64)
    found = []
    for j in range(8):
        octant, good = batch, np.ones(count, bool)
        inner = np.full(count, 255)
        near = np.zeros(count, np.int64)
        for axis in AXES:
            along = _compact_bits(place >> axis)
            p, q = digit >> axis & 1, parity >> axis & 1
            along = along + np.where(q == (j >> axis & 1), 0, 2 * p - 1)
            good &= (along >= 0) & (along < 1 << above)
            near |= _spread_bits(np.where(good, along, 0)) << axis
            # The window ends in the middle of the outermost octants.
            ones = sum(1 << child for child in range(8) if child >> axis & 1)
            outer = along - (_compact_bits(place >> axis) - q)      # -1 .. 2
            inner &= np.where(outer == -1, ones, np.where(outer == 2, 255 - ones, 255))
        rank = np.where(good, ranks(tree.levels[level + 1], octant << 3 * above | near), -1)
        held = np.where(rank >= 0, masks[rank] if len(masks) else 0, 0) & inner
        at = np.flatnonzero(held)
        found.append(np.stack([at, window[at], rank[at], np.bitwise_count(held[at])]).astype(np.int64))
    at, windows, rank, words = np.concatenate(found, axis=1)
    order = np.lexsort((at, rank, windows))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (np.diff(windows[order]) != 0) | (np.diff(rank[order]) != 0)
    first = order[fresh]
    return LevelWork(children, np.bincount(at[first], minlength=count),
                     np.bincount(at[first], words[first], minlength=count).astype(np.int64),
                     np.diff(window, prepend=-1) != 0, np.diff(parent, prepend=-1) != 0)


def _compact_bits(values: np.ndarray) -> np.ndarray:
    """Every third bit."""
    return sum(((values >> 3 * bit & 1) << bit for bit in range(20)), np.zeros(len(values), np.int64))


def _spread_bits(values: np.ndarray) -> np.ndarray:
    return sum(((values >> bit & 1) << 3 * bit for bit in range(20)), np.zeros(len(values), np.int64))


def all_work(tree: Tree, walked: Tree, depth: int, target: int, half: bool, offset: bool) -> list[LevelWork | None]:
    """Of levels target + 1 .. depth, by level of the searched tree."""
    work: list[LevelWork | None] = [None] * (depth + 1)
    for level in range(target + 1, depth + 1):
        own = level - offset
        keys = walked.levels[own]
        if offset:      # the walked tree has a digit more, which is 0
            keys = keys >> 3 * (depth - own) << 3 * (depth - level) | keys & ((1 << 3 * (depth - level)) - 1)
        if half and level == target + 1:
            children = np.ones(len(keys), np.int64)
        elif own:
            children = np.bitwise_count(walked.masks[own]).astype(np.int64)
        else:
            raise BitkilnError("no level below", where="target", got=target, expected="1 or more with offset")
        work[level] = level_work(tree, depth, level, keys, children)
    return work
