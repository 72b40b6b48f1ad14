"""A room at random: walls, tables, chairs, shelves and small things, as solids around a depth camera.

    +---------------------------+
    | shelf         box  lamp   |     the camera C looks to the far wall and a little down;
    |    table + things   chair |     x ahead, y left, z up
    C ->   chair   table        |
    |  bin                 ball |
    +---------------------------+
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .rays import Box, Cylinder, Ellipsoid, Hits, Material, Rays, turn

__all__ = ["Room", "room"]


class Room(NamedTuple):
    """Solids; the camera is at (0, 0, 0), ``low`` and ``high`` are the corners of the room around it."""

    solids: list[Box | Cylinder | Ellipsoid]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def wall_hits(self, rays: Rays) -> Hits:
        """Every ray meets a wall, the floor or the ceiling."""
        distance = np.full(len(rays.x), np.inf)
        material = np.full(len(rays.x), Material.WALL, np.int8)
        with np.errstate(divide="ignore", invalid="ignore"):
            for way, low, high in zip(rays[:3], self.low, self.high, strict=True):
                distance = np.fmin(distance, np.where(way > 0, high / way, low / way))
            material[distance == self.low[2] / rays.z] = Material.WOOD
        return Hits(distance, material)


def room(random: np.random.Generator) -> Room:
    """Furnish a room."""
    floor, depth, width = -random.uniform(1.2, 1.6), random.uniform(4.5, 6.5), random.uniform(4.0, 6.5)
    left = random.uniform(0.35, 0.65) * width
    place = Room([], (-0.6, left - width, floor), (depth, left, floor + random.uniform(2.4, 2.8)))
    for _ in range(int(random.integers(2, 4))):
        x, y = random.uniform(1.3, depth - 0.6), random.uniform(left - width + 0.5, left - 0.5)
        _table(random, place, x, y)
        for _ in range(int(random.integers(1, 3))):
            _chair(random, place, x + random.uniform(-0.9, 0.9), y + random.uniform(-0.9, 0.9))
    _shelves(random, place)
    for _ in range(int(random.integers(8, 16))):
        spot = random.uniform(1.2, depth - 0.3), random.uniform(left - width + 0.2, left - 0.2)
        _thing(random, place, *spot, floor, 2.0)
    return place


def _table(random: np.random.Generator, place: Room, x: float, y: float) -> None:
    floor, yaw = place.low[2], random.normal() * 0.25 + (np.pi / 2 if random.random() < 0.5 else 0)
    half = random.uniform(0.5, 0.8), random.uniform(0.3, 0.45)
    top = floor + random.uniform(0.65, 0.78)
    place.solids.append(Box((x, y, top - 0.015), (*half, 0.015), yaw, Material.WOOD))
    for i, j in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        dx, dy = turn(i * (half[0] - 0.05), j * (half[1] - 0.05), yaw)
        place.solids.append(Cylinder((x + dx, y + dy, floor), 0.025, top - floor - 0.03))
    for _ in range(int(random.integers(3, 8))):
        dx, dy = turn(random.uniform(-0.85, 0.85) * half[0], random.uniform(-0.8, 0.8) * half[1], yaw)
        _thing(random, place, x + dx, y + dy, top, 1.0)


def _chair(random: np.random.Generator, place: Room, x: float, y: float) -> None:
    if x < 1.0:    # not into the camera
        return
    floor, yaw = place.low[2], random.uniform(-np.pi, np.pi)
    seat, half = floor + random.uniform(0.42, 0.5), random.uniform(0.2, 0.25)
    place.solids.append(Box((x, y, seat - 0.03), (half, half, 0.03), yaw, Material.CLOTH))
    dx, dy = turn(-half, 0, yaw)
    place.solids.append(Box((x + dx, y + dy, seat + 0.3), (0.025, half, 0.25), yaw, Material.CLOTH))
    for i in (-1, 1):
        for j in (-1, 1):
            dx, dy = turn(i * 0.85 * half, j * 0.85 * half, yaw)
            place.solids.append(Cylinder((x + dx, y + dy, floor), 0.018, seat - floor))


def _shelves(random: np.random.Generator, place: Room) -> None:
    """Shelves with boards and books before the far wall and a side wall."""
    floor, depth = place.low[2], place.high[0]
    for side in (0, -1, 1):
        if random.random() < 0.35:
            continue
        width, height, deep = random.uniform(0.6, 1.4), random.uniform(0.9, 2.0), random.uniform(0.25, 0.4)
        along = random.uniform(-0.6, 0.6) if side == 0 else random.uniform(1.8, depth - 0.8)
        wall = depth if side == 0 else place.high[1] if side > 0 else -place.low[1]

        def at(u: float, v: float, z: float, side=side, wall=wall, along=along) -> tuple[float, float, float]:
            return (wall - v, along + u, floor + z) if side == 0 else (along + u, side * (wall - v), floor + z)

        def half(u: float, v: float, z: float, side=side) -> tuple[float, float, float]:
            return (v, u, z) if side == 0 else (u, v, z)
        for edge in (-width / 2, width / 2):
            place.solids.append(Box(at(edge, deep / 2, height / 2), half(0.01, deep / 2, height / 2), 0.0,
                                    Material.WOOD))
        for level in np.arange(0.05, height, 0.35):
            z = float(level)
            place.solids.append(Box(at(0, deep / 2, z), half(width / 2, deep / 2, 0.01), 0.0, Material.WOOD))
            u = -width / 2 + 0.05
            while u < width / 2 - 0.1:
                thick, tall = random.uniform(0.03, 0.16), random.uniform(0.15, 0.3)
                place.solids.append(Box(at(u + thick / 2, deep / 2 - random.uniform(0, 0.06), z + tall / 2),
                                        half(thick / 2, 0.4 * deep, tall / 2), 0.0, Material.CLOTH))
                u += thick + (random.uniform(0.05, 0.3) if random.random() < 0.3 else 0.005)


def _thing(random: np.random.Generator, place: Room, x: float, y: float, ground: float, scale: float) -> None:
    """A box, a cylinder, a ball or a cushion."""
    kind, size = int(random.integers(0, 5)), scale * random.uniform(0.04, 0.16)
    if kind <= 1:
        half = size, size * random.uniform(0.3, 1.2), size * random.uniform(0.4, 1.5)
        place.solids.append(Box((x, y, ground + half[2]), half, random.uniform(-np.pi, np.pi), Material.PAINT))
    elif kind == 2:
        place.solids.append(Cylinder((x, y, ground), 0.6 * size, size * random.uniform(1.2, 3.0)))
    elif kind == 3:
        place.solids.append(Ellipsoid((x, y, ground + 0.7 * size), (0.7 * size,) * 3, Material.PAINT))
    else:
        radii = 1.2 * size, 0.9 * size, 0.5 * size
        place.solids.append(Ellipsoid((x, y, ground + radii[2]), radii, Material.CLOTH))
