"""The banked voxel table of a window: what a driver sends it, and what it finds.

A window is a block of ``size**3`` voxels and the voxels around it that queries of the block can meet. Blocks come in
canonical order (ascending key), so their voxels, and with them the output rows, do too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.spconv import KERNEL_OFFSETS, TableDesign

__all__ = ["TableCommands", "TableWords", "kernel_offsets", "table_hits", "table_words", "windows"]


@dataclass(frozen=True)
class TableCommands:
    """Commands of a job, each an array (n,).

    Attributes
    ----------
    x, y, z : ndarray
        From the corner of the border: 1 .. size are the window.
    index : ndarray
        Rank of the voxel.
    query, mask, window, last : ndarray of bool
        A query (of a voxel inside) instead of a store; there is a voxel; the last of its window, of the job.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    index: np.ndarray
    query: np.ndarray
    mask: np.ndarray
    window: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def stored(self) -> int:
        """Voxels that are stored, those around a window each time."""
        return int(np.sum(self.mask & ~self.query))

    @property
    def queries(self) -> int:
        return int(np.sum(self.mask & self.query))


@dataclass(frozen=True)
class TableWords:
    """Words of the output, each an array (n,) or, by bank, (n, 8).

    Attributes
    ----------
    out : ndarray
    mask : ndarray (n, 8) of bool
    k, index : ndarray (n, 8)
        Kernel offset and input row, -1 where ``mask`` is False.
    row_last, last : ndarray of bool
    command, beat : ndarray
        Which command and which cycle of its query a word comes from.
    """

    out: np.ndarray
    mask: np.ndarray
    k: np.ndarray
    index: np.ndarray
    row_last: np.ndarray
    last: np.ndarray
    command: np.ndarray
    beat: np.ndarray


def kernel_offsets(half: bool = False) -> np.ndarray:
    """(27, 3) dx, dy, dz in the order of k; with ``half`` the 13 before the centre."""
    every = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(KERNEL_OFFSETS, 3)
    return every[:KERNEL_OFFSETS // 2] if half else every


def windows(design: TableDesign, voxels: np.ndarray) -> TableCommands:
    """What a driver sends for a cloud: for each block its voxels and those around it, then a query for each of its own.

    Parameters
    ----------
    voxels : ndarray (n, 4)
        batch, x, y, z in canonical order, all of them different.
    """
    voxels = np.asarray(voxels, np.int64).reshape(-1, 4)
    if not len(voxels):
        zero, one = np.zeros(1, np.int64), np.ones(1, bool)
        return TableCommands(zero, zero, zero, zero, ~one, ~one, one, one)
    place, size = voxels[:, 1:], design.size
    block = place // size
    # Blocks around which a voxel lies, in its own and in neighbouring ones; each once for a voxel.
    member = np.zeros((len(voxels), KERNEL_OFFSETS), bool)
    for offset in kernel_offsets(design.half):
        side = (place - offset) // size - block
        member[np.arange(len(voxels)), (side + 1) @ [9, 3, 1]] = True
    member[:, KERNEL_OFFSETS // 2] = True
    rank, side = np.nonzero(member)
    near = block[rank] + kernel_offsets()[side]
    span = int(block.max()) + 3
    weights = np.array([span ** 2, span, 1], np.int64)
    own = (block + 1) @ weights + voxels[:, 0] * span ** 3
    first = np.flatnonzero(np.concatenate([[True], own[1:] != own[:-1]]))
    order = np.argsort(own[first])
    code = (near + 1) @ weights + voxels[rank, 0] * span ** 3
    at = np.minimum(np.searchsorted(own[first], code, sorter=order), len(first) - 1)
    there = own[first][order[at]] == code
    rank, near, window = rank[there], near[there], order[at][there]

    core = np.searchsorted(first, np.arange(len(voxels)), side="right") - 1
    index, number = np.concatenate([rank, np.arange(len(voxels))]), np.concatenate([window, core])
    query = np.arange(len(index)) >= len(rank)
    turn = np.lexsort((index, query, number))
    index, number, query = index[turn], number[turn], query[turn]
    local = place[index] - size * np.concatenate([near, block])[turn] + 1
    ends = np.concatenate([number[1:] != number[:-1], [True]])
    return TableCommands(*local.T, index, query, np.ones(len(index), bool), ends,
                         np.arange(len(index)) == len(index) - 1)


def table_hits(design: TableDesign, commands: TableCommands) -> np.ndarray:
    """Neighbours that each query finds, (queries, 27 or 13): ranks, or -1.

    That is what was stored in this window before the query; of a place stored twice, the last.
    """
    side = design.size + 2
    window = np.concatenate([[0], np.cumsum(commands.window)[:-1]])
    now, turns = np.arange(len(commands)), len(commands) + 1
    place = np.stack([commands.x, commands.y, commands.z], axis=1)

    def moment(where: np.ndarray, which: np.ndarray) -> np.ndarray:
        cell = ((window[which] * side + where[:, 0]) * side + where[:, 1]) * side + where[:, 2]
        return cell * turns + now[which]

    stored = np.flatnonzero(commands.mask & ~commands.query)
    asked = np.flatnonzero(commands.mask & commands.query)
    keys = moment(place[stored], stored)
    turn = np.argsort(keys)
    keys, stored = keys[turn], stored[turn]
    offsets = kernel_offsets(design.half)
    found = np.full((len(asked), len(offsets)), -1, np.int64)
    for k, offset in enumerate(offsets):
        wanted = moment(place[asked] + offset, asked)
        before = np.searchsorted(keys, wanted) - 1
        same = (before >= 0) & (keys[before] // turns == wanted // turns) if len(keys) else np.zeros(len(asked), bool)
        found[same, k] = commands.index[stored[before[same]]]
    return found


def table_words(design: TableDesign, commands: TableCommands) -> TableWords:
    """Words that leave: each pair through the bank of its neighbour, in the cycle that its direction names."""
    hits = table_hits(design, commands)
    asked = np.flatnonzero(commands.mask & commands.query)
    offsets = kernel_offsets(design.half)
    beat = (offsets > 0) @ [4, 2, 1]
    place = np.stack([commands.x, commands.y, commands.z], axis=1)[asked]
    mask = np.zeros((len(asked), design.beats, 8), bool)
    ks, index = np.full(mask.shape, -1), np.full(mask.shape, -1, np.int64)
    for k, offset in enumerate(offsets):
        rows = np.flatnonzero(hits[:, k] >= 0)
        bank = ((place[rows] + offset) & 1) @ [4, 2, 1]
        mask[rows, beat[k], bank], ks[rows, beat[k], bank], index[rows, beat[k], bank] = True, k, hits[rows, k]
    row_last = np.zeros(mask.shape[:2], bool)
    row_last[:, -1] = True
    row, cycle = np.nonzero(mask.any(axis=2) | row_last)
    # A job that ends with no row ends with a word of its own.
    extra = np.flatnonzero(commands.last & ~(commands.mask & commands.query))
    command = np.concatenate([asked[row], extra])
    turn = np.argsort(command, kind="stable")
    command = command[turn]

    def joined(values: np.ndarray, fill) -> np.ndarray:
        return np.concatenate([values[row, cycle], np.full((len(extra), *values.shape[2:]), fill)])[turn]

    row_last = joined(row_last, False)
    own_word = ~(commands.mask & commands.query)[command]
    return TableWords(commands.index[command], joined(mask, False), joined(ks, -1), joined(index, -1), row_last,
                      commands.last[command] & (row_last | own_word), command,
                      np.concatenate([cycle, np.zeros(len(extra), np.int64)])[turn])
