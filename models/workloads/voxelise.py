"""From points to voxels: indices, features, and what the clouds look like to a sparse convolution.

    points -> axes put in order -> floor((p - origin) / size) -> one row for each point (duplicates stay)
                                                              -> one row for each voxel, ascending key

Rows are (batch, x, y, z); key = {batch, x y z of the highest bit, ..., x y z of the lowest}, x most significant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..design.spconv import MAX_BATCH_BITS, MAX_DEPTH
from ..errors import BitkilnError
from .pointcloud import PointCloud

__all__ = ["FEATURES", "CloudStatistics", "Voxels", "cloud_statistics", "morton_keys", "voxel_features", "voxelise"]

MAX_BITS = MAX_DEPTH    # of a coordinate
MAX_BATCH = 1 << MAX_BATCH_BITS
FEATURES = ("offset x", "offset y", "offset z", "height", "intensity", "count")
_AXES = re.compile(r"([+-]?)([xyz])([+-]?)([xyz])([+-]?)([xyz])")
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, eq=False)
class Voxels:
    """Occupied voxels of a cloud.

    Attributes
    ----------
    indices : int32 ndarray (V, 4)
        batch, x, y, z; ascending key, no two alike.
    counts : int64 ndarray (V,)
        Points in each voxel.
    offsets : float64 ndarray (V, 3)
        Of the mean of a voxel's points from its centre, in voxels: -0.5 to 0.5.
    intensity : float64 ndarray (V,) or None
        Mean of a voxel's points.
    spatial_shape : tuple of int
        Voxels of the grid along x, y, z.
    origin, voxel_size : float64 ndarray (3,)
        Corner of voxel (0, 0, 0), and the size of one.
    axes : str
        What x, y and z of the grid are in the cloud.
    point_indices : int32 ndarray (N, 4)
        The voxel of every point in the order of the cloud, with duplicates, and with points outside of the grid as
        they are (negative, or too large; cut to int32). The hardware drops those and keeps the first of duplicates.
    outside : int
        Points outside of the grid.
    """

    indices: np.ndarray
    counts: np.ndarray
    offsets: np.ndarray
    intensity: np.ndarray | None
    spatial_shape: tuple[int, int, int]
    origin: np.ndarray
    voxel_size: np.ndarray
    axes: str
    point_indices: np.ndarray
    outside: int

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def depth(self) -> int:
        """Bits of a coordinate that the grid needs."""
        return _depth(self.spatial_shape)


def _depth(shape: Sequence[int]) -> int:
    return max((max(shape) - 1).bit_length(), 1)


def morton_keys(indices: np.ndarray) -> np.ndarray:
    """uint64 keys of rows (batch, x, y, z) with coordinates of at most 16 bits.

    Raises
    ------
    BitkilnError
        A coordinate out of range.
    """
    rows = np.asarray(indices).astype(np.int64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise BitkilnError("wrong shape of voxels", where="indices", got=rows.shape, expected="(N, 4)")
    if len(rows) and (rows.min() < 0 or rows[:, 1:].max() >> MAX_BITS or rows[:, 0].max() >= MAX_BATCH):
        raise BitkilnError("voxel out of range", where="indices", got=f"{rows.min(0)} to {rows.max(0)}",
                           expected=f"batch below {MAX_BATCH}, coordinates 0 to {(1 << MAX_BITS) - 1}")
    batch, x, y, z = rows.astype(np.uint64).T
    return batch << np.uint64(3 * MAX_BITS) | _spread(x) << np.uint64(2) | _spread(y) << np.uint64(1) | _spread(z)


def _spread(values: np.ndarray) -> np.ndarray:
    """Two zeros between any two bits: each step halves the groups of bits and moves their upper halves away."""
    for shift, mask in ((16, 0xFF0000FF), (8, 0xF00F00F00F), (4, 0xC30C30C30C3), (2, 0x249249249249)):
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values


# Voxels --------------------------------------------------------------------------------------------


def voxelise(cloud: PointCloud | np.ndarray, voxel_size: float | Sequence[float], *,
             origin: Sequence[float] | None = None, extent: Sequence[float] | None = None, axes: str = "xyz",
             batch: int = 0) -> Voxels:
    """Sort points into the voxels of a grid.

    Parameters
    ----------
    cloud : PointCloud or ndarray (N, 3)
    voxel_size : float or three floats
    origin : three floats, optional
        Corner of voxel (0, 0, 0). By default the multiple of the voxel size at or below the least coordinate of the
        cloud, so that the borders of voxels do not depend on the cloud.
    extent : six floats, optional
        x, y, z of the lower corner and of the upper one: the grid, instead of ``origin``. Points outside are counted.
    axes : str
        What x, y and z of the grid are in the cloud; ``xzy`` and ``xz-y`` make the vertical of a camera the last axis.
        Sizes, origin and extent are in the order of the grid.
    batch : int

    Raises
    ------
    BitkilnError
        Bad arguments, a grid of more than 65,536 voxels along an axis, or no point inside of it.
    """
    points = cloud.points if isinstance(cloud, PointCloud) else np.asarray(cloud, np.float64)
    strength = cloud.intensity if isinstance(cloud, PointCloud) else None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise BitkilnError("wrong points", where="points", got=points.shape, expected="(N, 3), one or more, all finite")
    if not isinstance(batch, int) or not 0 <= batch < MAX_BATCH:
        raise BitkilnError("out of range", where="batch", got=batch, expected=f"0 to {MAX_BATCH - 1}")
    size = _numbers("voxel_size", [voxel_size] * 3 if np.isscalar(voxel_size) else voxel_size, 3)
    if not (size > 0).all():
        raise BitkilnError("out of range", where="voxel_size", got=size, expected="more than 0")
    if origin is not None and extent is not None:
        raise BitkilnError("contradictory options", where="origin", got=origin, expected="origin or extent, not both")
    points = _turned(points, axes)
    corner, shape = _grid(size, origin, extent)
    with np.errstate(over="ignore", invalid="ignore"):    # grids too large are refused below
        at = points / size if corner is None else (points - corner) / size
        places = np.floor(at)
        offsets = at - places - 0.5
        if corner is None:
            corner = places.min(0)
            places, corner = places - corner, corner * size
    inside = (places >= 0).all(1)
    if shape is None:
        if not inside.any():
            raise BitkilnError("no points inside of the grid", where="origin", got=corner,
                               expected=f"at most {points.max(0)} somewhere")
        shape = places[inside].max(0) + 1
    if not (shape <= 1 << MAX_BITS).all():
        raise BitkilnError("grid too large", where="voxel_size", got=f"{' x '.join(f'{each:.6g}' for each in shape)}",
                           expected=f"at most {1 << MAX_BITS} voxels along an axis",
                           help="take larger voxels, or an extent without the farthest points")
    inside &= (places < shape).all(1)
    if not inside.any():
        raise BitkilnError("no points inside of the grid", where="extent", got=extent,
                           expected=f"a part of {points.min(0)} to {points.max(0)}")
    rows = np.empty((len(points), 4), np.int32)
    rows[:, 0] = batch
    rows[:, 1:] = np.clip(places, _INT32.min, _INT32.max)
    return _collected(rows, inside, offsets, strength, tuple(int(each) for each in shape), corner, size, axes)


def _collected(rows: np.ndarray, inside: np.ndarray, offsets: np.ndarray, strength: np.ndarray | None,
               shape: tuple[int, int, int], corner: np.ndarray, size: np.ndarray, axes: str) -> Voxels:
    _, first, voxel = np.unique(morton_keys(rows[inside]), return_index=True, return_inverse=True)
    counts = np.bincount(voxel)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(voxel, values[inside]) / counts
    return Voxels(indices=rows[inside][first], counts=counts,
                  offsets=np.stack([mean(offsets[:, axis]) for axis in range(3)], axis=1),
                  intensity=None if strength is None else mean(strength), spatial_shape=shape, origin=corner,
                  voxel_size=size, axes=axes, point_indices=rows, outside=int((~inside).sum()))


def _numbers(where: str, values: object, count: int) -> np.ndarray:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise BitkilnError("wrong numbers", where=where, got=f"{values}", expected=f"{count} finite numbers")
    return array


def _turned(points: np.ndarray, axes: str) -> np.ndarray:
    match = _AXES.fullmatch(axes) if isinstance(axes, str) else None
    parts = match.groups() if match else ()
    if len(set(parts[1::2])) != 3:
        raise BitkilnError("wrong axes", where="axes", got=axes, expected="x, y and z in some order, as xyz or xz-y")
    return np.stack([-points[:, "xyz".index(name)] if sign == "-" else points[:, "xyz".index(name)]
                     for sign, name in zip(parts[::2], parts[1::2], strict=True)], axis=1)


def _grid(size: np.ndarray, origin: Sequence[float] | None,
          extent: Sequence[float] | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Corner and shape, as far as they are given."""
    if extent is None:
        return None if origin is None else _numbers("origin", origin, 3), None
    low, high = _numbers("extent", extent, 6).reshape(2, 3)
    if not (low < high).all():
        raise BitkilnError("wrong extent", where="extent", got=f"{extent}", expected="lower corner, then upper corner")
    # 70.4 / 0.05 is a little more than 1408.
    return low, np.ceil((high - low) / size - 1e-6)


def voxel_features(voxels: Voxels, channels: int = 4) -> np.ndarray:
    """float64 (V, channels) from -1 to 1: the first of `FEATURES`.

    Offset of the mean point from the centre along each axis; height in the grid; intensity, from the least of the cloud
    to the greatest (without one, 0); logarithm of the number of points, from 1 to the most. Rounded to 1e-6, so that
    libraries whose last digits differ give the same.
    """
    if not isinstance(channels, int) or not 1 <= channels <= len(FEATURES):
        raise BitkilnError("out of range", where="channels", got=channels, expected=f"1 to {len(FEATURES)}")
    height = (voxels.indices[:, 3] + 0.5 + voxels.offsets[:, 2]) / voxels.spatial_shape[2]
    strength = np.zeros(len(voxels)) if voxels.intensity is None else voxels.intensity
    columns = [*(2 * voxels.offsets.T), 2 * height - 1, _stretched(strength), _stretched(np.log(voxels.counts))]
    return np.clip(np.round(np.stack(columns[:channels], axis=1), 6), -1, 1)


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.zeros(len(values)) if low == high else 2 * (values - low) / (high - low) - 1


# Statistics ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CloudStatistics:
    """What decides the work of a 3x3x3 convolution on a cloud.

    Attributes
    ----------
    spatial_shape : tuple of int
    points, voxels : int
        ``points`` is 0 where only voxels were given.
    occupancy : float
        Voxels per voxel of the grid, of which every batch has one.
    mean27 : float
        Occupied voxels among the 27 around a voxel, itself with them.
    isolated : float
        Share of the voxels without any neighbour.
    planes : tuple of float
        Share of the pairs (output, neighbour) with the neighbour below, level and above (along z).
    per_octant, per_4, per_16 : float
        Voxels per occupied block of 2^3, 4^3 and 16^3.
    blocks_16 : int
        Occupied blocks of 16^3.
    levels : tuple of int
        Nodes of the octree, finest first, up to the roots.
    bank_imbalance : float
        Most voxels of one parity over the mean of the eight.
    """

    spatial_shape: tuple[int, int, int]
    points: int
    voxels: int
    occupancy: float
    mean27: float
    isolated: float
    planes: tuple[float, float, float]
    per_octant: float
    per_4: float
    per_16: float
    blocks_16: int
    levels: tuple[int, ...]
    bank_imbalance: float


def cloud_statistics(voxels: Voxels | np.ndarray, spatial_shape: Sequence[int] | None = None) -> CloudStatistics:
    """Statistics of `Voxels`, or of rows (batch, x, y, z) without duplicates and their ``spatial_shape``."""
    indices = voxels.indices if isinstance(voxels, Voxels) else np.asarray(voxels)
    shape = voxels.spatial_shape if isinstance(voxels, Voxels) else spatial_shape
    keys = np.sort(morton_keys(indices))
    if not len(keys) or not (keys[1:] > keys[:-1]).all():
        raise BitkilnError("wrong voxels", where="indices", got=f"{len(keys)} rows",
                           expected="one or more, without duplicates")
    shape = tuple(int(each) for each in (indices[:, 1:].max(0) + 1 if shape is None else shape))
    levels = [len(np.unique(keys >> np.uint64(3 * level))) for level in range(max(_depth(shape), 4) + 1)]
    around, flat = _neighbours(indices)
    pairs, level = int(around.sum()), int(flat.sum())
    banks = np.bincount((keys & np.uint64(7)).astype(np.int64), minlength=8)
    batches = len(np.unique(indices[:, 0]))
    count = len(keys)
    return CloudStatistics(
        spatial_shape=shape, points=int(voxels.counts.sum()) if isinstance(voxels, Voxels) else 0, voxels=count,
        occupancy=count / (float(np.prod(np.array(shape, np.float64))) * batches), mean27=pairs / count,
        isolated=float((around == 1).mean()),
        planes=((pairs - level) / 2 / pairs, level / pairs, (pairs - level) / 2 / pairs),
        per_octant=count / levels[1], per_4=count / levels[2], per_16=count / levels[4], blocks_16=levels[4],
        levels=tuple(levels[:_depth(shape) + 1]), bank_imbalance=float(banks.max() / banks.mean()))


def _neighbours(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each voxel: occupied ones among the 27 around it, and among the 9 at its height."""
    rows = indices.astype(np.int64)
    sides = rows.max(0) + 3    # an empty voxel on both sides, so that no step leads into the next line
    steps = [sides[1] * sides[2] * sides[3], sides[2] * sides[3], sides[3], 1]
    places = np.sort((rows * steps).sum(1) + sum(steps[1:]))
    around, flat = np.ones(len(rows), np.int64), np.ones(len(rows), np.int64)
    half = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]
    for x, y, z in half:
        wanted = places + x * steps[1] + y * steps[2] + z
        found = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
        hit = places[found] == wanted
        for counts in (around, flat) if z == 0 else (around,):
            counts[hit] += 1
            counts[found[hit]] += 1    # every voxel is found once at most
    return around, flat
