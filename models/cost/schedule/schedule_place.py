"""Addresses for tensors whose stays on the chip are known: dynamic storage allocation.

Greedy placements are tried first; where none fits, a search over the steps either places them or proves that they do
not fit, unless its time runs out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .schedule_graph import Graph
from .schedule_plan import Residency

__all__ = ["Placement", "clip", "place"]

_SHUFFLES = 20
_SEED = 1
_MOST_SPOTS = 2000


class _OutOfTime(Exception):
    pass


@dataclass(frozen=True)
class Placement:
    """``addresses`` in bytes, one for each stay, or None; then ``impossible`` tells a proof from a lack of time."""

    addresses: tuple[int, ...] | None
    impossible: bool = False


def clip(stays: Sequence[Residency], first: int, last: int) -> list[Residency]:
    """The parts of the stays in steps ``first`` to ``last``."""
    return [replace(stay, first=max(stay.first, first), last=min(stay.last, last))
            for stay in stays if stay.first <= last and stay.last >= first]


def _meets(one: Residency, other: Residency) -> bool:
    return one.first <= other.last and other.first <= one.last


def _greedy(sizes: Sequence[int], stays: Sequence[Residency], order: Sequence[int]) -> list[int]:
    """The lowest free room for one after the other."""
    addresses = [-1] * len(stays)
    for index in order:
        taken = sorted((addresses[other], addresses[other] + sizes[other]) for other in range(len(stays))
                       if addresses[other] >= 0 and _meets(stays[index], stays[other]))
        address = 0
        for low, high in taken:
            if low - address >= sizes[index]:
                break
            address = max(address, high)
        addresses[index] = address
    return addresses


def place(graph: Graph, stays: Sequence[Residency], capacity: int, time_limit_s: float = 10.0) -> Placement:
    """Addresses below ``capacity`` such that tensors on the chip at the same time do not overlap."""
    sizes = [graph.sizes[stay.tensor] for stay in stays]
    for step in {stay.first for stay in stays}:
        if sum(size for size, stay in zip(sizes, stays, strict=True) if stay.first <= step <= stay.last) > capacity:
            return Placement(None, impossible=True)
    lengths = [stay.last - stay.first + 1 for stay in stays]
    keys: list[Callable[[int], tuple[int, int]]] = [
        lambda i: (-sizes[i], 0), lambda i: (-sizes[i] * lengths[i], 0), lambda i: (-lengths[i], 0),
        lambda i: (stays[i].first, 0), lambda i: (-lengths[i], -sizes[i]), lambda i: (stays[i].first, -lengths[i])]
    orders = [sorted(range(len(stays)), key=key) for key in keys]
    generator = random.Random(_SEED)
    orders += [generator.sample(range(len(stays)), len(stays)) for _ in range(_SHUFFLES)]
    for order in orders:
        addresses = _greedy(sizes, stays, order)
        if all(address + size <= capacity for address, size in zip(addresses, sizes, strict=True)):
            return Placement(tuple(addresses))
    try:
        return _Sweep(sizes, stays, capacity, time_limit_s).run()
    except _OutOfTime:
        return Placement(None)


class _Sweep:
    """Step after step, what begins in it is put into every free room; what was seen to fail is not tried again.

    Addresses are sums of sizes: any placement can be pushed down until each stay lies on the bottom or on another.
    """

    def __init__(self, sizes: Sequence[int], stays: Sequence[Residency], capacity: int, time_limit_s: float):
        self.sizes, self.stays, self.capacity = sizes, stays, capacity
        self.end = time.monotonic() + time_limit_s
        self.failed: set[tuple[int, frozenset[tuple[int, int]]]] = set()
        self.begins = [[index for index, stay in enumerate(stays) if stay.first == step]
                       for step in sorted({stay.first for stay in stays})]
        for group in self.begins:
            group.sort(key=lambda index: (-sizes[index], stays[index].last))
        self.spots = sorted(self._sums())

    def _sums(self) -> set[int]:
        reached, fresh = {0}, {0}
        while fresh:
            fresh = {start + size for start in fresh for size in set(self.sizes)
                     if start + size < self.capacity} - reached
            reached |= fresh
            if len(reached) > _MOST_SPOTS:
                raise _OutOfTime
        return reached

    def run(self) -> Placement:
        addresses: dict[int, int] = {}
        placed = self.step(0, addresses)
        return Placement(tuple(addresses[index] for index in range(len(self.stays))) if placed else None, not placed)

    def step(self, number: int, addresses: dict[int, int]) -> bool:
        if number == len(self.begins):
            return True
        now = self.stays[self.begins[number][0]].first
        active = {index: address for index, address in addresses.items() if self.stays[index].last >= now}
        key = number, frozenset(active.items())
        if key in self.failed:
            return False
        if self.fill(self.begins[number], 0, active, number, addresses):
            return True
        self.failed.add(key)
        return False

    def fill(self, group: list[int], place: int, active: dict[int, int], number: int,
             addresses: dict[int, int]) -> bool:
        if time.monotonic() > self.end:
            raise _OutOfTime
        if place == len(group):
            return self.step(number + 1, addresses)
        index, size = group[place], self.sizes[group[place]]
        twin = group[place - 1] if place else index
        same = twin != index and self.sizes[twin] == size and self.stays[twin].last == self.stays[index].last
        for address in self.spots:
            if address + size > self.capacity or same and address < active[twin]:
                continue
            if all(start + self.sizes[other] <= address or address + size <= start for other, start in active.items()):
                addresses[index] = active[index] = address
                if self.fill(group, place + 1, active, number, addresses):
                    return True
                del addresses[index], active[index]
        return False
