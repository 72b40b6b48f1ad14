"""Operator order, what stays on the chip, and addresses in one integer program (after COSMA, arXiv 2311.18246).

Binary columns: operator o runs in step t; tensor k is on the chip in step t. A tensor is on the chip when it was so in
the step before, is loaded, or is made; what an operator touches is on the chip in its step. With addresses, those that
are on the chip in the same step lie above or below each other, and an address changes only where a tensor is loaded.

For a part of a larger graph, tensors that enter may be on the chip at no cost in the first step, and tensors that leave
cost their return when they are not there in the last.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

from .integer_program import IntegerProgram
from .schedule_graph import Graph
from .schedule_plan import Gap, accesses

__all__ = ["JointSolution", "solve_joint"]


@dataclass(frozen=True)
class JointSolution:
    """An order, the gaps between accesses in which tensors stay, and the least traffic that any plan can have.

    ``order`` is None when the time did not suffice.
    """

    order: tuple[str, ...] | None
    kept: frozenset[Gap]
    bound_bytes: int
    optimal: bool


def solve_joint(graph: Graph, capacity: int, *, at_most: int | None = None, addresses: bool = False,
                entering: Collection[str] = (), leaving: Collection[str] = (),
                time_limit_s: float = 60.0) -> JointSolution:
    """The least traffic over all orders.

    Parameters
    ----------
    graph : Graph
    capacity : int
        Bytes.
    at_most : int, optional
        Bytes that a known plan moves: nothing worse is looked for.
    addresses : bool
        Else tensors need only fit by size: a lower bound, tight unless the room is in pieces.
    entering, leaving : collection of str
        Tensors that cross into and out of a part of a graph.
    time_limit_s : float
    """
    return _Joint(graph, capacity, entering, leaving).solve(at_most, addresses, time_limit_s)


class _Joint:
    def __init__(self, graph: Graph, capacity: int, entering: Collection[str], leaving: Collection[str]):
        self.graph, self.capacity = graph, capacity
        self.entering, self.leaving = frozenset(entering), frozenset(leaving)
        self.steps = range(len(graph.operators))
        touched = {name for operator in graph.operators for name in operator.tensors}
        self.tensors = [name for name in graph.sizes if name in touched or name in self.entering & self.leaving]
        # In whole units, scaled to the scratchpad: keeps the coefficients near one.
        self.unit = math.gcd(*(graph.sizes[name] for name in self.tensors), *(graph.sizes[n] for n in graph.results))
        self.size = {name: graph.sizes[name] / capacity for name in graph.sizes}
        self.program = IntegerProgram()
        self.runs: dict[tuple[str, int], int] = {}
        self.there: dict[tuple[str, int], int] = {}
        self.loads: dict[tuple[str, int], int] = {}
        self._order()
        self._presence()
        self._ends()

    def _order(self) -> None:
        """Each operator once, each step one operator, makers before readers."""
        program, before = self.program, self.graph.before
        after = {name: sum(name in earlier for earlier in before.values()) for name in before}
        for operator in self.graph.operators:
            window = range(len(before[operator.name]), len(self.steps) - after[operator.name])
            self.runs.update({(operator.name, step): program.binary() for step in window})
            program.row({self.runs[operator.name, step]: 1 for step in window}, 1, 1)
        for step in self.steps:
            program.row({column: 1 for (_, at), column in self.runs.items() if at == step}, 1, 1)
        for operator in self.graph.operators:
            direct = {self.graph.maker[name].name for name in operator.inputs if name in self.graph.maker}
            for maker in sorted(direct):
                for step in self.steps[:-1]:
                    terms = dict.fromkeys(self._until(operator.name, step + 1), 1.0)
                    if terms:
                        program.row({**terms, **dict.fromkeys(self._until(maker, step), -1.0)}, high=0)

    def _until(self, operator: str, last: int) -> list[int]:
        return [self.runs[operator, step] for step in range(last + 1) if (operator, step) in self.runs]

    def _presence(self) -> None:
        program, graph = self.program, self.graph
        for name in self.tensors:
            maker = graph.maker.get(name)
            users = [*graph.readers[name], *([maker.name] if maker else [])]
            for step in self.steps:
                use = [self.runs[user, step] for user in users if (user, step) in self.runs]
                reads = [self.runs[user, step] for user in graph.readers[name] if (user, step) in self.runs]
                there = self.there[name, step] = program.binary()
                load = self.loads[name, step] = program.column(cost=self.size[name])
                program.row({there: 1, **dict.fromkeys(use, -1.0)}, low=0)
                program.row({load: 1, **dict.fromkeys(reads, -1.0)}, high=0)    # only when it is read
                source = {load: -1.0}
                if step:
                    source[self.there[name, step - 1]] = -1.0
                if maker and (maker.name, step) in self.runs:
                    source[self.runs[maker.name, step]] = -1.0
                if step or name not in self.entering:
                    program.row({there: 1, **source}, high=0)
                if maker:
                    program.row({load: 1, **dict.fromkeys(self._until(maker.name, step - 1), -1.0)}, high=0)
        for step in self.steps:
            program.row({self.there[name, step]: self.size[name] for name in self.tensors}, high=1)

    def _ends(self) -> None:
        """What is loaded again was stored; inputs come in; what leaves is there or comes back later."""
        program, graph, last = self.program, self.graph, self.steps[-1]
        made_here = set(graph.maker)
        self.fixed = sum(graph.sizes[name] for name in set(graph.results))
        for name in self.tensors:
            loads = [self.loads[name, step] for step in self.steps]
            absent = None
            if name in self.leaving:
                absent = program.column(cost=self.size[name])
                program.row({absent: 1, self.there[name, last]: 1}, low=1)
            if name in made_here and name not in graph.results:
                stored = program.column(cost=self.size[name])
                for column in loads + ([absent] if absent is not None else []):
                    program.row({stored: 1, column: -1}, low=0)
            elif name not in made_here and name not in self.entering and graph.readers[name]:
                program.row(dict.fromkeys(loads, 1.0), low=1)

    def _addresses(self) -> None:
        program = self.program
        for load in self.loads.values():        # a part of a load would buy a part of a move
            program.make_integer(load)
        spots = {key: program.column(0, 1 - self.size[key[0]]) for key in self.there}
        for (name, step), spot in spots.items():
            if step:
                # Moves only where it is absent in one of the steps, or loaded.
                free = {self.there[name, step]: 1.0, self.there[name, step - 1]: 1.0, self.loads[name, step]: -1.0}
                program.row({spot: 1, spots[name, step - 1]: -1, **free}, high=2)
                program.row({spot: -1, spots[name, step - 1]: 1, **free}, high=2)
        for step in self.steps:
            for one, other in combinations(self.tensors, 2):
                both = {self.there[one, step]: 1.0, self.there[other, step]: 1.0}
                below = program.binary()
                low, high = spots[one, step], spots[other, step]
                program.row({low: 1, high: -1, below: 1, **both}, high=3 - self.size[one])
                program.row({high: 1, low: -1, below: -1, **both}, high=2 - self.size[other])

    def solve(self, at_most: int | None, addresses: bool, time_limit_s: float) -> JointSolution:
        program = self.program
        if addresses:
            self._addresses()
        if at_most is not None:
            costs = {column: cost for column, cost in enumerate(program.costs) if cost}
            program.row(costs, high=(at_most - self.fixed + self.unit / 2) / self.capacity)
        solution = program.solve("scratchpad schedule", time_limit_s)
        least = self.graph.compulsory_bytes
        if math.isfinite(solution.bound):
            units = math.ceil(solution.bound * self.capacity / self.unit - 1e-3)
            least = max(least, units * self.unit + self.fixed)
        if solution.values is None:
            return JointSolution(None, frozenset(), least, False)
        at = {name: step for (name, step), column in self.runs.items() if solution.chosen(column)}
        order = tuple(sorted(at, key=at.__getitem__))
        kept = frozenset((name, later) for name, steps in accesses(self.graph, order).items()
                         for later in steps[1:] if not solution.chosen(self.loads[name, later]))
        return JointSolution(order, kept, least, solution.optimal)
