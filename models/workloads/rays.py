"""Rays from one sensor at (0, 0, 0) against solids: the nearest hit of each, in closed form.

    direction d (unit length), solid  ->  smallest t > 0 with t * d on the solid, or infinity

Sines and cosines are rounded to 12 digits and all else is adding, multiplying, dividing and square roots, so that the
same rays hit the same solids on every machine. Random numbers belong to rays, not to hits: what one ray hits does not
change what another draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

__all__ = ["Box", "Crown", "Cylinder", "Ellipsoid", "Facade", "Hits", "Material", "Rays", "cast", "turn", "unit_circle"]

DIGITS = 12
GOLDEN_RATIO = 0.6180339887498949


class Material(IntEnum):
    NOTHING = 0
    ROAD = 1
    STONE = 2
    GRASS = 3
    WALL = 4
    GLASS = 5
    PAINT = 6
    RUBBER = 7
    BARK = 8
    LEAF = 9
    METAL = 10
    CLOTH = 11
    WOOD = 12


class Rays(NamedTuple):
    """Directions of unit length, and a random number from 0 to 1 for each ray."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    random: np.ndarray


class Hits(NamedTuple):
    """Distance of the nearest hit (infinity without one) and what was hit."""

    distance: np.ndarray
    material: np.ndarray


def unit_circle(angles: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine."""
    return np.round(np.cos(angles), DIGITS), np.round(np.sin(angles), DIGITS)


def turn(x: float, y: float, angle: float) -> tuple[float, float]:
    """A point of the plane turned by ``angle`` about the origin."""
    c, s = unit_circle(angle)
    return float(c * x - s * y), float(s * x + c * y)


@dataclass(frozen=True)
class Box:
    """Centre, half sizes, and the angle by which it is turned about the vertical."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float = 0.0
    material: Material = Material.WALL

    @property
    def reach(self) -> float:
        return math.sqrt(sum(each * each for each in self.half))

    def _enter(self, rays: Rays) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[float]]:
        """Distance, axis of the side that is hit, and rays and sensor in the axes of the box."""
        c, s = unit_circle(self.yaw)
        ways = [c * rays.x + s * rays.y, c * rays.y - s * rays.x, rays.z]
        sensor = [*turn(-self.centre[0], -self.centre[1], -self.yaw), -self.centre[2]]
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far, axis = np.full(len(rays.x), -np.inf), np.full(len(rays.x), np.inf), np.zeros(len(rays.x), int)
            for at, (way, start, half) in enumerate(zip(ways, sensor, self.half, strict=True)):
                one, other = (-half - start) / way, (half - start) / way
                enter = np.fmin(one, other)
                axis[enter > near] = at
                near, far = np.fmax(near, enter), np.fmin(far, np.fmax(one, other))
        return np.where((near <= far) & (near > 0), near, np.inf), axis, ways, sensor

    def hit(self, rays: Rays) -> Hits:
        distance = self._enter(rays)[0]
        return Hits(distance, np.full(len(distance), self.material, np.int8))


@dataclass(frozen=True)
class Facade(Box):
    """A building: rows of windows whose panes lie behind the wall.

    ``bay`` and ``storey`` are the distances of windows, ``window`` their width and height.
    """

    bay: float = 2.5
    storey: float = 3.0
    window: tuple[float, float] = (1.2, 1.5)
    recess: float = 0.2

    def hit(self, rays: Rays) -> Hits:
        distance, axis, ways, sensor = self._enter(rays)
        material = np.full(len(distance), self.material, np.int8)
        at = np.flatnonzero(np.isfinite(distance) & (axis < 2))
        t = distance[at]
        along = np.where(axis[at] == 0, sensor[1] + t * ways[1][at], sensor[0] + t * ways[0][at])
        height = sensor[2] + t * ways[2][at] + self.half[2]
        pane = ((along % self.bay < self.window[0]) & ((height - 0.9) % self.storey < self.window[1]) &
                (height > 0.9) & (height < 2 * self.half[2] - 0.5))
        facing = np.abs(np.where(axis[at] == 0, ways[0][at], ways[1][at]))
        distance[at[pane]] = t[pane] + self.recess / facing[pane]
        material[at[pane]] = Material.GLASS
        return Hits(distance, material)


@dataclass(frozen=True)
class Cylinder:
    """From ``base`` along the unit vector ``axis``, with flat ends."""

    base: tuple[float, float, float]
    radius: float
    height: float
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    material: Material = Material.METAL

    @property
    def centre(self) -> tuple[float, float, float]:
        x, y, z = (b + self.height / 2 * a for b, a in zip(self.base, self.axis, strict=True))
        return x, y, z

    @property
    def reach(self) -> float:
        return math.sqrt(self.radius * self.radius + self.height * self.height / 4)

    def hit(self, rays: Rays) -> Hits:
        ax, ay, az = self.axis
        bx, by, bz = self.base
        along = rays.x * ax + rays.y * ay + rays.z * az
        start = -(bx * ax + by * ay + bz * az)
        # Across the axis it is a circle around the base.
        px, py, pz = -bx - start * ax, -by - start * ay, -bz - start * az
        qx, qy, qz = rays.x - along * ax, rays.y - along * ay, rays.z - along * az
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = _roots(qx * qx + qy * qy + qz * qz, px * qx + py * qy + pz * qz,
                               px * px + py * py + pz * pz - self.radius * self.radius)
            one, other = -start / along, (self.height - start) / along
            near, far = np.maximum(near, np.fmin(one, other)), np.minimum(far, np.fmax(one, other))
        distance = np.where((near <= far) & (near > 0), near, np.inf)
        return Hits(distance, np.full(len(distance), self.material, np.int8))


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    material: Material = Material.CLOTH

    @property
    def reach(self) -> float:
        return max(self.radii)

    def _inside(self, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
        """Where each ray comes in and goes out; NaN where it misses."""
        ways = [way / radius for way, radius in zip(rays[:3], self.radii, strict=True)]
        start = [-centre / radius for centre, radius in zip(self.centre, self.radii, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return _roots(ways[0] * ways[0] + ways[1] * ways[1] + ways[2] * ways[2],
                          start[0] * ways[0] + start[1] * ways[1] + start[2] * ways[2],
                          start[0] * start[0] + start[1] * start[1] + start[2] * start[2] - 1)

    def hit(self, rays: Rays) -> Hits:
        near, _ = self._inside(rays)
        return Hits(np.where(near > 0, near, np.inf), np.full(len(near), self.material, np.int8))


@dataclass(frozen=True)
class Crown(Ellipsoid):
    """Leaves: a ray goes ``depth`` into them on average, at random, and so some go through."""

    depth: float = 1.0

    def hit(self, rays: Rays) -> Hits:
        near, far = self._inside(rays)
        distance = near - self.depth * np.log1p(-rays.random)
        return Hits(np.where((near > 0) & (distance < far), distance, np.inf),
                    np.full(len(near), Material.LEAF, np.int8))


def _roots(a: np.ndarray, half_b: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Of ``a t^2 + 2 half_b t + c``, the smaller first; NaN where there are none."""
    root = np.sqrt(half_b * half_b - a * c)
    return (-half_b - root) / a, (-half_b + root) / a


def cast(rays: Rays, solids: Sequence[Box | Cylinder | Ellipsoid], ground: Hits | None = None) -> Hits:
    """The nearest hit of every ray, ``ground`` among them.

    A solid is tried on the rays that meet the sphere around it only.
    """
    count = len(rays.x)
    distance = np.full(count, np.inf) if ground is None else ground.distance.copy()
    material = np.zeros(count, np.int8) if ground is None else ground.material.copy()
    for number, solid in enumerate(solids):
        x, y, z = solid.centre
        away = x * x + y * y + z * z
        reach = solid.reach * 1.001 + 1e-6
        if away > reach * reach:
            toward = rays.x * x + rays.y * y + rays.z * z
            some = np.flatnonzero(toward >= math.sqrt(away - reach * reach))
        else:
            some = np.arange(count)
        mine = Rays(*(each[some] for each in rays))
        found = solid.hit(mine._replace(random=(mine.random + GOLDEN_RATIO * number) % 1))
        nearer = found.distance < distance[some]
        distance[some[nearer]], material[some[nearer]] = found.distance[nearer], found.material[nearer]
    return Hits(distance, np.where(np.isfinite(distance), material, Material.NOTHING))

