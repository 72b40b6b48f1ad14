"""A street at random: what stands along it, as solids around a sensor.

              y
    facades   |  ====  ======   =====  ====     gaps between the houses, windows
    pavement  |   T  |    P  T     |   T        trees, poles, pedestrians; a kerb
    road    --S-[car]------[car]----------- x   the sensor S; parked and moving cars
    pavement  |   |  T     T   P   |
    facades   |  =====   =======  ====
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .rays import Box, Crown, Cylinder, Ellipsoid, Facade, Hits, Material, Rays, turn, unit_circle

__all__ = ["Street", "street"]

LENGTH = 100.0    # of the street on both sides of the sensor, metres


class Street(NamedTuple):
    """Solids, and the ground: the sensor is ``height`` above the road, which rises by ``slopes`` along x and y."""

    solids: list[Box | Cylinder | Ellipsoid]
    height: float
    slopes: tuple[float, float]
    half_road: float
    kerb: float
    half_street: float

    def ground(self, x: float, y: float) -> float:
        """Height of the ground under a point."""
        return self.slopes[0] * x + self.slopes[1] * y - self.height + (self.kerb if abs(y) > self.half_road else 0.0)

    def ground_hits(self, rays: Rays) -> Hits:
        """Rays on the road, on the kerb's side and on the pavement (or the grass behind the houses)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            falling = self.slopes[0] * rays.x + self.slopes[1] * rays.y - rays.z
            upper, lower = (self.height - self.kerb) / falling, self.height / falling
            beside, side = np.abs(upper * rays.y), np.abs(rays.y)
            over, on = beside >= self.half_road, np.abs(lower * rays.y) <= self.half_road
            distance = np.where(over, upper, np.where(on, lower, self.half_road / side))
        distance = np.where(falling > 0, distance, np.inf)
        material = np.where(over, np.where(beside > self.half_street, Material.GRASS, Material.STONE),
                            np.where(on, Material.ROAD, Material.STONE)).astype(np.int8)
        return Hits(distance, material)


def street(random: np.random.Generator) -> Street:
    """Lay out a street."""
    half_road = random.uniform(6, 9.5)
    place = Street([], random.uniform(1.65, 1.9),
                   (random.uniform(-0.03, 0.03), random.uniform(-0.03, 0.03)), half_road, random.uniform(0.1, 0.16),
                   half_road + random.uniform(10.0, 20.0))
    for side in (-1, 1):
        _houses(random, place, side)
        _garden(random, place, side)
        _along(random, place, side)
    _cars(random, place)
    return place


def _houses(random: np.random.Generator, place: Street, side: int) -> None:
    x = -LENGTH
    while x < LENGTH:
        width, depth, height = random.uniform(8, 24), random.uniform(8, 14), random.uniform(6, 18)
        back = random.uniform(0, 20)
        y = place.half_street + back + depth / 2
        # From well below the ground, because the street rises.
        place.solids.append(Facade((x + width / 2, side * y, place.ground(x, side * y) + height / 2 - 1),
                                   (width / 2, depth / 2, height / 2 + 1), 0.0, Material.WALL,
                                   random.uniform(2.0, 3.5), random.uniform(2.8, 3.4)))
        gap = random.uniform(10, 35) if random.random() < 0.7 else random.uniform(0.5, 3)
        x += width + gap
        if gap > 4:
            _hedge(random, place, x - gap, x, side)


def _hedge(random: np.random.Generator, place: Street, start: float, end: float, side: int) -> None:
    """Bushes across a gap."""
    for x in np.arange(start + 1, end - 0.5, 1.8):
        y = side * (place.half_street + random.uniform(0.5, 3))
        size = random.uniform(0.6, 1.1)
        place.solids.append(Crown((float(x), y, place.ground(x, y) + 0.8 * size), (size, size, size), Material.LEAF,
                                  0.25))


def _garden(random: np.random.Generator, place: Street, side: int) -> None:
    """Bushes and trees between the pavement and the houses and behind."""
    for _ in range(int(random.integers(60, 110))):
        x, y = random.uniform(-LENGTH, LENGTH), side * (place.half_road + 3 + random.uniform(0, 30))
        if random.random() < 0.3:
            _tree(random, place, x, y)
        else:
            size = random.uniform(0.4, 1.3)
            place.solids.append(Crown((x, y, place.ground(x, y) + 0.7 * size), (size, size, size), Material.LEAF, 0.4))


def _along(random: np.random.Generator, place: Street, side: int) -> None:
    """Trees, poles and pedestrians of a pavement."""
    x = -LENGTH + random.uniform(0, 10)
    middle = (place.half_road + place.half_street) / 2
    while x < LENGTH:
        kind = random.random()
        y = side * (place.half_road + random.uniform(0.6, 1.0))
        if kind < 0.5:
            _tree(random, place, x, y)
        elif kind < 0.75:
            _pole(random, place, x, y)
        for _ in range(int(random.integers(0, 3))):
            _pedestrian(random, place, x + random.uniform(1, 7), side * (middle + random.uniform(-0.8, 1.0)))
        x += random.uniform(6, 12)


def _tree(random: np.random.Generator, place: Street, x: float, y: float) -> None:
    ground, trunk = place.ground(x, y), random.uniform(2.0, 3.5)
    place.solids.append(Cylinder((x, y, ground), random.uniform(0.1, 0.25), trunk + 1, material=Material.BARK))
    for _ in range(int(random.integers(2, 5))):
        size = random.uniform(0.9, 1.8)
        place.solids.append(Crown((x + random.uniform(-1, 1), y + random.uniform(-1, 1),
                                   ground + trunk + size + random.uniform(0, 1.5)),
                                  (size, size, size * random.uniform(0.7, 1.2)), Material.LEAF,
                                  random.uniform(0.3, 0.8)))


def _pole(random: np.random.Generator, place: Street, x: float, y: float) -> None:
    ground, height = place.ground(x, y), random.uniform(2.5, 7)
    place.solids.append(Cylinder((x, y, ground), random.uniform(0.04, 0.1), height))
    if random.random() < 0.6:
        place.solids.append(Box((x, y, ground + min(height, 2.4)), (0.02, 0.3, 0.3), random.uniform(-0.5, 0.5),
                                Material.METAL))


def _pedestrian(random: np.random.Generator, place: Street, x: float, y: float) -> None:
    ground, height = place.ground(x, y), random.uniform(1.5, 1.9)
    for leg in (-0.1, 0.1):
        place.solids.append(Cylinder((x + leg, y, ground), 0.08, 0.48 * height, material=Material.CLOTH))
    place.solids.append(Ellipsoid((x, y, ground + 0.65 * height), (0.22, 0.27, 0.22 * height)))
    place.solids.append(Ellipsoid((x, y, ground + 0.93 * height), (0.1, 0.1, 0.13)))


def _cars(random: np.random.Generator, place: Street) -> None:
    """Rows of parked cars, and some on the lanes; none where the sensor's own car is."""
    for side in (-1, 1):
        x = -LENGTH + random.uniform(0, 8)
        while x < LENGTH:
            if random.random() < 0.3:
                _car(random, place, x, side * (place.half_road - 1.2), random.uniform(-0.04, 0.04))
            x += random.uniform(5.6, 7.5)
        for x in random.uniform(-LENGTH, LENGTH, 3):
            if abs(x) > 8:
                _car(random, place, float(x), side * place.half_road * 0.25, random.uniform(-0.03, 0.03))


def _car(random: np.random.Generator, place: Street, x: float, y: float, yaw: float) -> None:
    ground = place.ground(x, y) - (place.kerb if abs(y) > place.half_road else 0)
    length, width, height = random.uniform(3.8, 4.8), random.uniform(1.7, 1.9), random.uniform(1.4, 1.7)
    if random.random() < 0.15:    # a van
        length, height = length + 0.8, height + 0.6

    def at(along: float, across: float, up: float) -> tuple[float, float, float]:
        dx, dy = turn(along, across, yaw)
        return x + dx, y + dy, ground + up
    waist = 0.58 * height
    place.solids.append(Box(at(0, 0, (waist + 0.25) / 2), (length / 2, width / 2, (waist - 0.25) / 2), yaw,
                            Material.PAINT))
    place.solids.append(Box(at(-0.05 * length, 0, (waist + height) / 2),
                            (0.28 * length, 0.44 * width, (height - waist) / 2), yaw, Material.GLASS))
    place.solids.append(Box(at(-0.05 * length, 0, height - 0.03), (0.27 * length, 0.43 * width, 0.05), yaw,
                            Material.PAINT))
    c, s = unit_circle(yaw)
    for along in (-0.3 * length, 0.3 * length):
        for across in (-width / 2, width / 2 - 0.2):
            place.solids.append(Cylinder(at(along, across, 0.32), 0.32, 0.2, (float(-s), float(c), 0.0),
                                         Material.RUBBER))
