"""Which tensors stay for a given order of operators: the integer program of tensor replacement, with placement.

Between two accesses a tensor stays or is dropped and loaded again. Capacity alone is a row for each step; where the
best choice has no addresses, the smallest set of stays that cannot be placed together is forbidden and the program
solved again (logic-based Benders cuts), so the answer is the best of its order, placement included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .integer_program import IntegerProgram
from .schedule_graph import Graph
from .schedule_place import Placement, clip, place
from .schedule_plan import Gap, Plan, accesses, build_plan, residencies, traffic

__all__ = ["Replacement", "best_replacement", "place_kept"]


@dataclass(frozen=True)
class Replacement:
    """A plan for one order; ``proven``: no plan of this order moves less."""

    plan: Plan
    proven: bool


def place_kept(graph: Graph, order: Sequence[str], kept: set[Gap], capacity: int,
               time_limit_s: float = 10.0) -> Placement:
    """Addresses of the stays of `residencies`, in their order."""
    return place(graph, residencies(graph, order, kept), capacity, time_limit_s)


def best_replacement(graph: Graph, order: Sequence[str], capacity: int, *, method: str, bound_bytes: int,
                     time_limit_s: float = 20.0) -> Replacement:
    """The plan of least traffic that runs the operators in ``order``.

    Parameters
    ----------
    graph : Graph
    order : sequence of str
        Every operator once, makers before readers.
    capacity : int
        Bytes.
    method, bound_bytes
        What the plan says of itself.
    time_limit_s : float
        After it, what cannot be placed is dropped without further search.
    """
    end = time.monotonic() + time_limit_s
    gaps = {(tensor, later): earlier for tensor, steps in accesses(graph, order).items()
            for earlier, later in zip(steps, steps[1:], strict=False)}
    cuts: list[set[Gap]] = []
    proven = True
    while True:
        kept, exact = _choose(graph, order, capacity, gaps, cuts, max(end - time.monotonic(), 1.0))
        proven &= exact
        placement = place_kept(graph, order, kept, capacity, max(end - time.monotonic(), 0.5))
        addresses = placement.addresses
        if addresses is None and (time.monotonic() > end or not placement.impossible):
            kept, addresses = _drop_until_placed(graph, order, capacity, kept)
            proven = False
        if addresses is not None:
            plan = build_plan(graph, capacity, order, residencies(graph, order, kept), addresses, method, bound_bytes)
            return Replacement(plan, proven)
        cuts.append(_conflict(graph, order, capacity, gaps, kept))


def _choose(graph: Graph, order: Sequence[str], capacity: int, gaps: dict[Gap, int], cuts: list[set[Gap]],
            time_limit_s: float) -> tuple[set[Gap], bool]:
    """The gaps in which tensors stay, and whether that is proven to be the best."""
    program = IntegerProgram()
    keep = {gap: program.binary(cost=-graph.sizes[gap[0]] / capacity) for gap in gaps}
    spilled: dict[str, int] = {}
    for (tensor, _), column in keep.items():
        if tensor in graph.maker and tensor not in graph.results:
            if tensor not in spilled:
                spilled[tensor] = program.column(cost=graph.sizes[tensor] / capacity)
            program.row({spilled[tensor]: 1, column: 1}, low=1)
    for step, name in enumerate(order):
        inside = {column: graph.sizes[gap[0]] / capacity for gap, column in keep.items() if gaps[gap] < step < gap[1]}
        if inside:
            program.row(inside, high=1 - graph.working_set(name) / capacity)
    for cut in cuts:
        program.row({keep[gap]: 1 for gap in cut}, high=len(cut) - 1)
    if not keep:
        return set(), True
    solution = program.solve("tensor replacement", time_limit_s)
    if solution.values is None:
        return set(), False
    return {gap for gap, column in keep.items() if solution.chosen(column)}, solution.optimal


def _impossible(graph: Graph, order: Sequence[str], kept: set[Gap], capacity: int, window: tuple[int, int]) -> bool:
    return place(graph, clip(residencies(graph, order, kept), *window), capacity, 2.0).impossible


def _conflict(graph: Graph, order: Sequence[str], capacity: int, gaps: dict[Gap, int], kept: set[Gap]) -> set[Gap]:
    """A small set of gaps in which tensors cannot all stay: the narrowest window, then one gap less after the other."""
    low, high = 0, len(order) - 1
    while low < high:                                   # the earliest last step of a window from the start
        middle = (low + high) // 2
        if _impossible(graph, order, kept, capacity, (0, middle)):
            high = middle
        else:
            low = middle + 1
    last, low, high = high, 0, high
    while low < high:                                   # the latest first step
        middle = (low + high + 1) // 2
        if _impossible(graph, order, kept, capacity, (middle, last)):
            low = middle
        else:
            high = middle - 1
    first = low
    conflict = {gap for gap in kept if gaps[gap] < last and gap[1] > first}
    for gap in sorted(conflict):
        if _impossible(graph, order, conflict - {gap}, capacity, (first, last)):
            conflict.discard(gap)
    return conflict


def _drop_until_placed(graph: Graph, order: Sequence[str], capacity: int,
                       kept: set[Gap]) -> tuple[set[Gap], tuple[int, ...]]:
    """Without search: the cheapest stay goes until the rest fits. With none kept every operator fits by itself."""
    kept = set(kept)
    while True:
        placement = place_kept(graph, order, kept, capacity, 0.5)
        if placement.addresses is not None:
            return kept, placement.addresses
        kept.discard(min(kept, key=lambda gap: (traffic(graph, residencies(graph, order, kept - {gap})), gap)))
