"""Point clouds of invented scenes, for work without data: a LiDAR in a street, a depth camera in a room.

    seed -> layout (street, room) -> rays of the sensor -> nearest hits -> noise, lost returns -> PointCloud

The layouts were tuned until the voxels of the clouds resembled those of real frames (`voxelise.cloud_statistics`).
Smallest and greatest of 24 seeds; the real frames are a 64-beam and an OS1-128 drive at 10 cm and nuScenes at 10x10x20,
SUN RGB-D and PCL's office1 at 2 cm indoors::

                              voxels per octant  middle plane  isolated     mean of 27   voxels
    lidar_scene, 10 cm        1.66 .. 1.84       0.66 .. 0.73  0.11 .. 0.17  4.7 .. 5.5  51,655 .. 63,400
      1024 columns            1.53 .. 1.68       0.70 .. 0.78  0.17 .. 0.25  4.1 .. 4.7  34,935 .. 42,341
    real frames outdoors      1.55 .. 1.80       0.59 .. 0.83  0.10 .. 0.20  3.5 .. 5.2  15,306 .. 77,741
    depth_scene, 2 cm         2.52 .. 3.21       0.39 .. 0.45  0.01          8.4 .. 11.4 69,379 .. 101,634
    real frames indoors       2.42 .. 2.83       0.38 .. 0.47  0.01 .. 0.02  8.0 .. 8.6  29,686 .. 67,104
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import BitkilnError
from .pointcloud import PointCloud
from .rays import Material, Rays, cast, unit_circle
from .room import room
from .street import street

__all__ = ["depth_scene", "lidar_scene"]

# Of each material: how much it reflects, and the share of returns that get lost near by.
_SURFACES = {Material.NOTHING: (0.0, 1.0), Material.ROAD: (0.15, 0.06), Material.STONE: (0.3, 0.06),
             Material.GRASS: (0.4, 0.06), Material.WALL: (0.45, 0.04), Material.GLASS: (0.1, 0.6),
             Material.PAINT: (0.5, 0.08), Material.RUBBER: (0.05, 0.25), Material.BARK: (0.3, 0.03),
             Material.LEAF: (0.5, 0.06), Material.METAL: (0.7, 0.05), Material.CLOTH: (0.35, 0.03),
             Material.WOOD: (0.4, 0.02)}
_REFLECTS = np.array([_SURFACES[material][0] for material in Material])
_LOST = np.array([_SURFACES[material][1] for material in Material])
# Standard deviation of heights, metres: grass is rough, roads are not.
_ROUGH = np.array([{Material.GRASS: 0.06, Material.STONE: 0.01, Material.ROAD: 0.01}.get(material, 0.0)
                   for material in Material])
DECIMALS = 4          # of coordinates: machines whose last bits differ give the same cloud
FOCAL_LENGTH = 525.0  # of a depth camera, pixels at a width of 640
BASELINE = 0.075      # of its projector and its eye, metres
DISPARITY_STEP = 0.125    # pixels


def lidar_scene(seed: int, beams: int = 64, columns: int = 2048, *, elevation: Sequence[float] = (-24.8, -8.5, 2.0),
                max_range: float = 120.0, min_range: float = 2.0, noise: float = 0.015) -> PointCloud:
    """One turn of a spinning LiDAR in a street: x ahead, z up, the sensor at (0, 0, 0).

    Parameters
    ----------
    seed : int
        Of the street and of the noise.
    beams, columns : int
        Rays above each other, and firings a turn.
    elevation : sequence of float
        Degrees of the lowest and the highest beam, or of beams spread evenly over the stack between which the others
        lie: by default the upper half is denser, as that of an HDL-64. An OS1-128 is (-22.5, 22.5).
    max_range, min_range : float
        Metres; hits outside give no return, and far ones rarely do.
    noise : float
        Standard deviation of a distance, metres.
    """
    _whole("beams", beams, 1, 1024)
    _whole("columns", columns, 1, 65536)
    angles = np.array(elevation, np.float64)
    if angles.ndim != 1 or len(angles) < 2 or not (np.abs(angles) < 90).all():
        raise BitkilnError("wrong angles", where="elevation", got=f"{elevation}",
                           expected="two or more below 90 degrees")
    place, random = street(_random(seed, 0)), _random(seed, 1)
    stack = np.interp(np.linspace(0, 1, beams), np.linspace(0, 1, len(angles)), angles)
    level, up = unit_circle(np.radians(stack))
    # Beams do not look the same way at the same time.
    c, s = unit_circle((np.arange(columns)[:, None] + random.random(beams)) * (2 * np.pi / columns))
    count = beams * columns
    rays = Rays((c * level).reshape(-1), (s * level).reshape(-1), np.tile(up, columns), random.random(count))
    blur, bumps, glitter, luck = *random.normal(size=(3, count)), random.random(count)
    distance, material = cast(rays, place.solids, place.ground_hits(rays))
    lost = _LOST[material] + (1 - _LOST[material]) * 0.6 * np.square(np.minimum(distance / max_range, 1))
    kept = np.flatnonzero((distance < max_range) & (distance > min_range) & (luck >= lost))
    t, material = distance[kept] + noise * blur[kept], material[kept]
    points = np.stack([rays.x[kept] * t, rays.y[kept] * t, rays.z[kept] * t + _ROUGH[material] * bumps[kept]], axis=1)
    strength = np.clip(_REFLECTS[material] * (1 + 0.2 * glitter[kept]), 0, 1)
    return PointCloud(np.round(points, DECIMALS), np.round(strength, 3), f"lidar_scene({seed})")


def depth_scene(seed: int, width: int = 640, height: int = 480, *, max_range: float = 6.0) -> PointCloud:
    """One image of a depth camera in a room: x ahead, y left, z up, the camera at (0, 0, 0).

    The camera measures a disparity: its step makes depths coarser with distance, its noise too. Returns are lost beside
    edges, on some materials, on surfaces too flat to the ray, and far away.

    Parameters
    ----------
    seed : int
        Of the room and of the noise.
    width, height : int
        Pixels.
    max_range : float
        Metres.
    """
    _whole("width", width, 8, 4096)
    _whole("height", height, 8, 4096)
    place, random = room(_random(seed, 2)), _random(seed, 3)
    focal = FOCAL_LENGTH * width / 640
    turned, tilted = random.uniform(-0.35, 0.35), random.uniform(0.15, 0.4)
    across = np.tile((np.arange(width) - (width - 1) / 2) / focal, height)
    down = np.repeat((np.arange(height) - (height - 1) / 2) / focal, width)
    (c, s), (level, sink) = unit_circle(turned), unit_circle(tilted)
    # Camera (ahead 1, left -across, up -down), tilted down, then turned to the side.
    ahead, up = level - sink * down, -sink - level * down
    way = [c * ahead + s * across, s * ahead - c * across, up]
    length = np.sqrt(1 + across * across + down * down)
    count = width * height
    rays = Rays(*(each / length for each in way), random.random(count))
    blur, luck = random.normal(size=count), random.random(count)
    distance, material = cast(rays, place.solids, place.wall_hits(rays))
    depth = distance / length
    image = depth.reshape(height, width)
    # To the right of an edge the projector's light does not reach what the eye sees.
    jump = np.zeros((height, width))
    jump[:, 1:] = np.maximum(image[:, 1:] - image[:, :-1], 0)
    shadow = np.zeros((height, width), bool)
    for step in range(1, 9):
        shadow[:, step:] |= focal * BASELINE * jump[:, :width - step] > 2.0 * step * np.square(image[:, :width - step])
    steep = np.abs(np.gradient(image, axis=0)) + np.abs(np.gradient(image, axis=1)) > 0.03 * image
    lost = _LOST[material] + 0.25 * np.square(np.minimum(depth / max_range, 1))
    kept = np.flatnonzero((depth < max_range) & (luck >= lost) & ~(shadow | steep).reshape(-1))
    disparity = focal * BASELINE / depth[kept] + 0.05 * blur[kept]
    measured = focal * BASELINE / (np.maximum(np.round(disparity / DISPARITY_STEP), 1) * DISPARITY_STEP)
    points = np.stack([each[kept] * measured for each in way], axis=1)
    return PointCloud(np.round(points, DECIMALS), None, f"depth_scene({seed})", no_return=count - len(kept))


def _random(seed: int, part: int) -> np.random.Generator:
    _whole("seed", seed, 0, (1 << 63) - 1)
    return np.random.default_rng([seed, part])


def _whole(where: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value <= high:
        raise BitkilnError("out of range", where=where, got=value, expected=f"a whole number from {low} to {high}")
