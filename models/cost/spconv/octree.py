"""Cycles of the octree's builder and of the maps between two levels, equal to the RTL.

A key a cycle goes into the builder. The highest digit that differs from the key before closes a node of each level up
to it; those above level 1 are written one a cycle, the lowest waiting one first. A key waits only while a node that it
closes would take the place of one of the same level that still waits. With N keys, of which none waits,

    N + D + 3      cycles from the first key taken to ``done`` (N + 3 where D is 1)

A cloud whose upper levels have more nodes than it has voxels must wait: N' writes take at least N' cycles.

A map of P pairs between two levels takes P + 3 cycles after its start, one without any 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.spconv import MapDesign

__all__ = ["BuildCycles", "build_cycles", "build_cycles_unhindered", "closed_levels", "level_map_cycles"]

MAP_LATENCY = 4


@dataclass(frozen=True)
class BuildCycles:
    """Cycles of one cloud whose keys are offered at once and whose tokens are always taken.

    Attributes
    ----------
    taken, token : int ndarray (keys,)
        Cycle in which each key is taken and in which its token is; the first key is taken in cycle 0.
    done : int
        First cycle in which ``done`` is high.
    waits : int
        Cycles in which a key, or the end, waited.
    """

    taken: np.ndarray
    token: np.ndarray
    done: int
    waits: int


def build_cycles_unhindered(design: MapDesign, keys: int) -> int:
    """Cycles from the first key taken to ``done`` where none waits."""
    return keys + (design.depth + 3 if design.depth > 1 else 3)


def build_cycles(design: MapDesign, keys: np.ndarray, mask: np.ndarray | None = None) -> BuildCycles:
    """Event model.

    Parameters
    ----------
    keys : integer ndarray (keys,)
        As they come, one at least; without the error of descending or of being too many.
    mask : bool ndarray (keys,), optional
        False: out of range, or none.
    """
    keys = np.asarray(keys, np.int64)
    mask = np.ones(len(keys), bool) if mask is None else np.asarray(mask, bool)
    closes = closed_levels(design, keys, mask)
    slot = np.zeros(len(keys), np.int64)       # in which a key changes the open path
    waiting, now = 0, 0
    every = (1 << design.depth + 1) - 4 if mask.any() else 0
    for at, closed in enumerate([*closes.tolist(), every]):
        now += 1
        while closed & waiting & (waiting - 1):
            waiting &= waiting - 1
            now += 1
        waiting = waiting & (waiting - 1) | closed
        if at < len(keys):
            slot[at] = now
    left = waiting.bit_count()
    return BuildCycles(np.concatenate([[0], slot[:-1]]), slot + 1, now + 2 + (left + 1 if left else 0),
                       now - len(keys) - 1)


def closed_levels(design: MapDesign, keys: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Levels from 2 up that each key closes, as bits."""
    rows = np.flatnonzero(mask)
    changed = np.zeros(len(keys), np.int64)
    if len(rows):
        changed[rows[1:]] = keys[rows[1:]] ^ keys[rows[:-1]]
    closed = np.zeros(len(keys), np.int64)
    for level in range(2, design.depth + 1):
        closed |= (changed >> 3 * level != 0).astype(np.int64) << level
    return closed


def level_map_cycles(pairs: int) -> int:
    """Cycles from the start of a map to its last item; the first comes after `MAP_LATENCY`."""
    return max(pairs, 1) + MAP_LATENCY - 1
