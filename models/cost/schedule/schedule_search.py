"""The optimum of a small graph by search: what the integer program is tested against, and shares nothing with.

All orders and all choices of what stays are gone through. What is yet to come costs at least what it would if tensors
only had to fit by size (memoised), by which the search deepens (IDA*): the first plan within the bound that can be
placed is one of least traffic. Addresses are sums of sizes: any placement can be pushed down until each tensor lies on
the bottom or on top of another. Where no addresses take the first d steps, no other end of these steps is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from ...errors import BitkilnError
from .schedule_graph import Graph, Operator
from .schedule_plan import Action, Plan

__all__ = ["MOST_OPERATORS", "exhaustive"]

MOST_OPERATORS = 7
_Names = frozenset[str]


def exhaustive(graph: Graph, capacity: int) -> Plan:
    """A plan of least traffic, by search over all orders, replacements and addresses.

    Raises
    ------
    BitkilnError
        More than `MOST_OPERATORS` operators, or a capacity below `Graph.least_capacity`.
    """
    graph.check_capacity(capacity)
    if len(graph.operators) > MOST_OPERATORS:
        raise BitkilnError("too many operators to search", where="exhaustive", got=len(graph.operators),
                           expected=f"{MOST_OPERATORS} or fewer", help="use schedule()")
    return _Search(graph, capacity).run()


@dataclass(frozen=True)
class _Step:
    """``kept``: what stays where it was in the step before."""

    operator: Operator
    kept: _Names

    @property
    def placed(self) -> list[str]:
        """What gets an address in this step."""
        return [name for name in self.operator.tensors if name not in self.kept]


class _Search:
    def __init__(self, graph: Graph, capacity: int):
        self.graph, self.capacity = graph, capacity
        self.base = frozenset(graph.results) | (frozenset(graph.sizes) - frozenset(graph.maker))
        self.addresses = self._sums()
        self.to_go = cache(self._to_go)

    def _sums(self) -> list[int]:
        """All sums of sizes below the capacity."""
        step = math.gcd(*self.graph.sizes.values())
        reached = {0}
        for size in sorted(set(self.graph.sizes.values())):
            for start in range(0, self.capacity, step):
                if start in reached and start + size < self.capacity:
                    reached.add(start + size)
        return sorted(reached)

    def bytes(self, names: _Names) -> int:
        return sum(self.graph.sizes[name] for name in names)

    def ready(self, done: _Names) -> Iterator[Operator]:
        for operator in self.graph.operators:
            if operator.name not in done and self.graph.before[operator.name] <= done:
                yield operator

    def alive(self, names: _Names, done: _Names) -> _Names:
        """Those that will be read again."""
        return frozenset(name for name in names if any(reader not in done for reader in self.graph.readers[name]))

    def choices(self, operator: Operator, present: _Names) -> Iterator[_Names]:
        """What may stay of what is there, most bytes first."""
        working = frozenset(operator.tensors)
        parts = [frozenset(part) for length in range(len(present) + 1)
                 for part in combinations(sorted(present), length)]
        fitting = [part for part in parts if self.bytes(part | working) <= self.capacity]
        return iter(sorted(fitting, key=lambda part: -self.bytes(part)))

    def price(self, operator: Operator, kept: _Names, spilled: _Names) -> tuple[int, _Names]:
        """Bytes of loading the operator's inputs, with those of having stored them, and what is spilled then."""
        loads = frozenset(operator.inputs) - kept
        new = loads - self.base - spilled
        return self.bytes(loads) + self.bytes(new), spilled | new

    def _to_go(self, done: _Names, present: _Names, spilled: _Names) -> int:
        """Least bytes from here when tensors need only fit by size."""
        best = None
        for operator in self.ready(done):
            after = done | {operator.name}
            tried: list[_Names] = []
            for kept in self.choices(operator, present):
                if any(kept <= more for more in tried):      # keeping more never costs more
                    continue
                tried.append(kept)
                cost, now = self.price(operator, kept, spilled)
                total = cost + self.to_go(after, self.alive(kept | set(operator.tensors), after), now)
                best = total if best is None else min(best, total)
        return 0 if best is None else best

    def run(self) -> Plan:
        nothing: _Names = frozenset()
        self.limit = self.to_go(nothing, nothing, nothing)
        while True:
            self.beyond = math.inf
            found = self.dive(nothing, nothing, nothing, 0, [])
            if not isinstance(found, int):
                return self._plan(*found)
            self.limit = int(self.beyond)

    def dive(self, done: _Names, present: _Names, spilled: _Names, cost: int,
             path: list[_Step]) -> tuple[list[_Step], list[dict[str, int]], _Names] | int:
        """The steps, addresses and spills of a plan within the limit, or the last step to change:
        with the steps up to it as they are there is none."""
        if len(done) == len(self.graph.operators):
            addresses, reached = self.place(path)
            return reached if addresses is None else (path, addresses, spilled)
        for operator in self.ready(done):
            after = done | {operator.name}
            for kept in self.choices(operator, present):
                step, now = self.price(operator, kept, spilled)
                there = self.alive(kept | set(operator.tensors), after)
                estimate = cost + step + self.to_go(after, there, now)
                if estimate > self.limit:
                    self.beyond = min(self.beyond, estimate)
                    continue
                found = self.dive(after, there, now, cost + step, [*path, _Step(operator, kept)])
                if not isinstance(found, int) or found < len(path):
                    return found
        return len(path) - 1

    def place(self, path: list[_Step]) -> tuple[list[dict[str, int]] | None, int]:
        """What lies where in each step, and the last step that was reached."""
        failed: set[tuple[int, frozenset[tuple[str, int]]]] = set()
        reached = 0

        def sweep(number: int, before: dict[str, int]) -> list[dict[str, int]] | None:
            nonlocal reached
            if number == len(path):
                return []
            reached = max(reached, number)
            fixed = {name: before[name] for name in path[number].kept}
            key = number, frozenset(fixed.items())
            if key in failed:
                return None
            for placed in self.placements(fixed, path[number].placed):
                rest = sweep(number + 1, placed)
                if rest is not None:
                    return [placed, *rest]
            failed.add(key)
            return None

        return sweep(0, {}), reached

    def free(self, placed: dict[str, int], address: int, size: int) -> bool:
        return all(start + self.graph.sizes[name] <= address or address + size <= start
                   for name, start in placed.items())

    def placements(self, fixed: dict[str, int], absent: list[str]) -> Iterator[dict[str, int]]:
        if not absent:
            yield fixed
            return
        name, size = absent[0], self.graph.sizes[absent[0]]
        for address in self.addresses:
            if address + size <= self.capacity and self.free(fixed, address, size):
                yield from self.placements({**fixed, name: address}, absent[1:])

    def _plan(self, path: list[_Step], addresses: list[dict[str, int]], spilled: _Names) -> Plan:
        stored = spilled | set(self.graph.results)
        actions: list[Action] = []
        there: dict[str, int] = {}
        for step, placed in zip(path, addresses, strict=True):
            actions += [Action("drop", name) for name in there if name not in step.kept]
            actions += [Action("reserve" if name in step.operator.outputs else "load", name, placed[name])
                        for name in step.placed]
            actions.append(Action("run", step.operator.name))
            actions += [Action("store", name) for name in step.operator.outputs if name in stored]
            there = placed
        total = self.limit + self.bytes(frozenset(self.graph.results))
        return Plan(tuple(actions), self.capacity, total, "exhaustive", total)
