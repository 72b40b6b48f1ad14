"""Voxels of sparse convolution: keys, canonical order, tree.

Key: ``{batch, x y z of the highest bit, ..., x y z of the lowest}``; ``key >> 3`` is the voxel's octant, a voxel of the
grid of half the size. Rows of a cloud are its voxels by ascending key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError

__all__ = ["Cloud", "DIGIT", "MAX_DEPTH", "Tree", "build_tree", "canonicalise", "checked_depth", "checked_keys",
           "checked_shape", "decode_keys", "encode_keys", "inside", "moved", "ranks"]

MAX_DEPTH, KEY_BITS = 19, 63    # an int64 keeps at least 6 bits for the batch
DIGIT = np.array([4, 2, 1])     # weights of x, y, z in an octal digit


# Keys ----------------------------------------------------------------------------------------------


def encode_keys(indices: np.ndarray, depth: int) -> np.ndarray:
    """int64 (N,) keys of ``indices`` (N, 4): batch, x, y, z with coordinates 0 .. 2**depth - 1."""
    indices, most = _indices(indices), _most_batches(depth)
    good = inside(indices, (1 << depth,) * 3) & (indices[:, 0] >= 0) & (indices[:, 0] < most)
    if not good.all():
        at = np.flatnonzero(~good)[0]
        raise BitkilnError("voxel outside the grid", where=f"indices[{at}]", got=str(indices[at].tolist()),
                           expected=f"batch below {most}, coordinates 0 to {(1 << depth) - 1}")
    keys = indices[:, 0].copy()
    for bit in reversed(range(depth)):
        keys = keys << 3 | (indices[:, 1:] >> bit & 1) @ DIGIT
    return keys


def decode_keys(keys: np.ndarray, depth: int) -> np.ndarray:
    """int32 (N, 4): batch, x, y, z of each key."""
    checked_depth(depth)
    keys = np.asarray(keys, np.int64)
    indices = np.zeros((len(keys), 4), np.int64)
    indices[:, 0] = keys >> 3 * depth
    for bit in range(depth):
        digit = keys >> 3 * bit & 7
        indices[:, 1:] |= ((digit[:, None] & DIGIT) != 0).astype(np.int64) << bit
    return indices.astype(np.int32)


def moved(keys: np.ndarray, depth: int, step: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the voxels ``step`` (-1, 0 or 1 along each axis) away, and whether these are in the grid.

    The axis is counted in place: with all other bits set a carry passes through them.
    """
    good = np.ones(len(keys), bool)
    for unit, by in zip(DIGIT.tolist(), step, strict=True):
        if by:
            axis = sum(unit << 3 * bit for bit in range(depth))
            part = keys & axis
            good &= part != (axis if by > 0 else 0)
            part = ((keys | ~axis) + unit if by > 0 else part - unit) & axis
            keys = (keys & ~axis) | part
    return keys, good


def ranks(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Row of each wanted key among ascending keys, -1 where it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def inside(indices: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """bool (N,): the coordinates of ``indices`` (N, 4) are in a grid of this shape."""
    return ((indices[:, 1:] >= 0) & (indices[:, 1:] < np.array(shape))).all(axis=1)


# Checks --------------------------------------------------------------------------------------------


def checked_depth(depth: int, least: int = 0) -> int:
    """Bits of a coordinate."""
    if isinstance(depth, bool) or not isinstance(depth, (int, np.integer)) or not least <= depth <= MAX_DEPTH:
        raise BitkilnError("out of range", where="depth", got=depth, expected=f"{least} to {MAX_DEPTH}")
    return int(depth)


def checked_shape(spatial_shape: object, depth: int) -> tuple[int, int, int]:
    """The grid's sides, by default all that the keys can tell."""
    side = 1 << checked_depth(depth)
    if spatial_shape is None:
        return (side,) * 3
    shape = tuple(np.asarray(spatial_shape).tolist()) if np.ndim(spatial_shape) == 1 else ()
    if len(shape) != 3 or not all(isinstance(each, int) and each >= 1 for each in shape):
        raise BitkilnError("not a shape", where="spatial_shape", got=str(spatial_shape),
                           expected="three positive integers")
    if max(shape) > side:
        raise BitkilnError("grid too large for the keys", where="spatial_shape", got=str(shape),
                           expected=f"sides up to {side} with depth {depth}")
    return shape


def checked_keys(keys: np.ndarray) -> np.ndarray:
    """Keys in canonical order, as int64."""
    keys = np.asarray(keys)
    if keys.ndim != 1 or keys.dtype.kind not in "ui":
        raise BitkilnError("not keys", where="keys", got=f"{keys.dtype} {keys.shape}", expected="integers (N,)")
    keys = keys.astype(np.int64)
    if len(keys) and (keys[0] < 0 or (keys[1:] <= keys[:-1]).any()):
        raise BitkilnError("keys not in canonical order", where="keys", expected="ascending, each once",
                           help="take Cloud.keys of canonicalise")
    return keys


def _most_batches(depth: int) -> int:
    return 1 << (KEY_BITS - 3 * checked_depth(depth))


def _indices(indices: np.ndarray) -> np.ndarray:
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.shape[1] != 4:
        raise BitkilnError("wrong shape", where="indices", got=indices.shape, expected="(N, 4): batch, x, y, z")
    if indices.dtype.kind not in "ui":
        raise BitkilnError("wrong dtype", where="indices", got=str(indices.dtype), expected="integers")
    return indices.astype(np.int64)     # what uint64 has beyond becomes negative: out of range as well


# Cloud and tree ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cloud:
    """Voxels in canonical order.

    Attributes
    ----------
    keys : int64 ndarray (N,)
        Ascending, each once.
    depth : int
        Bits of a coordinate.
    spatial_shape : (int, int, int)
    batch_size : int
    perm : int64 ndarray (N,)
        Input row of each row: ``features[perm]`` are the cloud's features.
    inverse : int64 ndarray (inputs,)
        Row of each input row; -1 where it was dropped, and where an earlier one is the same voxel.
    dropped, duplicates : int
        Input rows out of range, and later ones of the same voxel.
    """

    keys: np.ndarray
    depth: int
    spatial_shape: tuple[int, int, int]
    batch_size: int
    perm: np.ndarray
    inverse: np.ndarray
    dropped: int
    duplicates: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def indices(self) -> np.ndarray:
        """int32 (N, 4): batch, x, y, z."""
        return decode_keys(self.keys, self.depth)


def canonicalise(indices: np.ndarray, spatial_shape: tuple[int, int, int], batch_size: int = 1, *, depth: int,
                 capacity: int | None = None, strict: bool = False) -> Cloud:
    """Voxels sorted by key; rows out of range and all but the first of each voxel are dropped and counted.

    Parameters
    ----------
    indices : integer ndarray (inputs, 4)
        Batch, then coordinates in the order of ``spatial_shape``.
    spatial_shape : three int
        At most ``2**depth`` each.
    batch_size : int
    depth : int
        Bits of a coordinate.
    capacity : int, optional
        Most voxels of a cloud.
    strict : bool
        An error instead of dropping.

    Raises
    ------
    BitkilnError
        A grid that the keys cannot tell, too many voxels, or (``strict``) rows that would be dropped.
    """
    indices, shape, most = _indices(indices), checked_shape(spatial_shape, depth), _most_batches(depth)
    if not isinstance(batch_size, (int, np.integer)) or not 1 <= batch_size <= most:
        raise BitkilnError("out of range", where="batch_size", got=batch_size, expected=f"1 to {most}")
    good = inside(indices, shape) & (indices[:, 0] >= 0) & (indices[:, 0] < batch_size)
    rows = np.flatnonzero(good)
    keys, first = np.unique(encode_keys(indices[rows], depth), return_index=True)   # the first one of equals
    perm = rows[first]
    inverse = np.full(len(indices), -1)
    inverse[perm] = np.arange(len(perm))
    if strict and not good.all():
        at = np.flatnonzero(~good)[0]
        raise BitkilnError("voxel out of range", where=f"indices[{at}]", got=str(indices[at].tolist()),
                           expected=f"batch below {batch_size}, coordinates inside {shape}")
    if strict and len(keys) < len(rows):
        at = np.flatnonzero(good & (inverse < 0))[0]
        raise BitkilnError("voxel given twice", where=f"indices[{at}]", got=str(indices[at].tolist()),
                           expected="each voxel once")
    if capacity is not None and len(keys) > capacity:
        raise BitkilnError("too many voxels", where="indices", got=len(keys), expected=f"at most {capacity}")
    return Cloud(keys, int(depth), shape, int(batch_size), perm, inverse, len(indices) - len(rows),
                 len(rows) - len(keys))


@dataclass(frozen=True)
class Tree:
    """Nodes of all levels of a cloud.

    Attributes
    ----------
    levels : tuple of int64 ndarray
        Keys of level 0 (the voxels) .. depth (a root for each batch that has voxels), ascending.
    masks : tuple of uint8 ndarray
        Of levels 1 .. depth: bit c is set where child c exists. ``masks[0]`` is empty.
    bases : tuple of int64 ndarray
        Of levels 1 .. depth: rank, on the level below, of a node's first child. ``bases[0]`` is empty.
    """

    levels: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]
    bases: tuple[np.ndarray, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Nodes of each level, the voxels first."""
        return tuple(len(level) for level in self.levels)


def build_tree(keys: np.ndarray, depth: int) -> Tree:
    """The octree of canonical keys."""
    levels, masks, bases = [checked_keys(keys)], [np.zeros(0, np.uint8)], [np.zeros(0, np.int64)]
    for _ in range(checked_depth(depth)):
        below = levels[-1]
        nodes, first = np.unique(below >> 3, return_index=True)
        bits = np.uint8(1) << (below & 7).astype(np.uint8)
        levels.append(nodes)
        masks.append(np.bitwise_or.reduceat(bits, first) if len(first) else bits)
        bases.append(first)
    return Tree(tuple(levels), tuple(masks), tuple(bases))
