"""Large graphs: cut where few bytes cross, order each part by itself, then look again at parts that straddle the cuts.

A part knows what enters and what leaves; its order is put into the whole order, whose tensor replacement is solved
anew. An order that does not help is dropped, so the plan only ever improves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .schedule_graph import Graph, Operator
from .schedule_ilp import solve_joint
from .schedule_plan import Plan

__all__ = ["PART_OPERATORS", "cuts", "divide", "lean_order"]

PART_OPERATORS = 10
_ROUNDS = 3


def _live(graph: Graph, order: Sequence[str]) -> list[int]:
    """Bytes of made tensors that cross the place before each operator, and the end."""
    at = {name: step for step, name in enumerate(order)}
    crossing = [0] * (len(order) + 1)
    for tensor, maker in graph.maker.items():
        last = max((at[reader] for reader in graph.readers[tensor]), default=at[maker.name])
        for place in range(at[maker.name] + 1, last + 1):
            crossing[place] += graph.sizes[tensor]
    return crossing


def cuts(graph: Graph, order: Sequence[str], most: int = PART_OPERATORS, first: int = 0) -> list[int]:
    """Where parts of at most ``most`` operators begin, such that the fewest bytes cross in all; the end included.

    ``first`` operators are the most that the first part has; 0 for no such rule.
    """
    crossing = _live(graph, order)
    best: list[tuple[int, int]] = [(0, 0)]          # bytes over all cuts up to here, where the part before begins
    for end in range(1, len(order) + 1):
        starts = [start for start in range(max(0, end - most), end) if start or not first or end <= first]
        cost, start = min((best[start][0] + crossing[start], -start) for start in starts)
        best.append((cost, -start))
    places = [len(order)]
    while places[-1]:
        places.append(best[places[-1]][1])
    return places[::-1]


def lean_order(graph: Graph) -> tuple[str, ...]:
    """Always the ready operator after which the fewest bytes of made tensors are alive; the listed one of equals."""
    done: list[str] = []
    waiting = {name: set(readers) for name, readers in graph.readers.items()}

    def change(operator: Operator) -> int:
        freed = sum(graph.sizes[name] for name in dict.fromkeys(operator.inputs)
                    if name in graph.maker and waiting[name] == {operator.name})
        return sum(graph.sizes[name] for name in operator.outputs if waiting[name]) - freed

    while len(done) < len(graph.operators):
        ready = [operator for operator in graph.operators
                 if operator.name not in done and graph.before[operator.name] <= set(done)]
        chosen = min(ready, key=change)
        done.append(chosen.name)
        for name in chosen.inputs:
            waiting[name].discard(chosen.name)
    return tuple(done)


def divide(graph: Graph, capacity: int, best: Plan, replaced: Callable[[Sequence[str]], Plan], *, end: float,
           part_operators: int = PART_OPERATORS) -> Plan:
    """Improves a plan part by part.

    Parameters
    ----------
    graph : Graph
    capacity : int
    best : Plan
        Where to begin.
    replaced : callable
        The best plan of an order.
    end : float
        `time.monotonic` at which to stop.
    part_operators : int
    """
    for turn in range(_ROUNDS):
        order = list(best.order)
        places = cuts(graph, order, part_operators, first=part_operators // 2 if turn % 2 else 0)
        parts = list(zip(places, places[1:], strict=False))
        for number, (start, stop) in enumerate(parts):
            remaining = end - time.monotonic()
            if remaining <= 0:
                break
            share = remaining / (len(parts) - number) / (_ROUNDS - turn) * 1.5
            order[start:stop] = _order_part(graph, capacity, order, start, stop, share)
        if tuple(order) != best.order:
            plan = replaced(order)
            best = min(best, plan, key=lambda each: each.traffic_bytes)
        if time.monotonic() >= end:
            break
    return best


def _order_part(graph: Graph, capacity: int, order: Sequence[str], start: int, stop: int,
                time_limit_s: float) -> list[str]:
    """The operators ``start`` to ``stop`` of an order, in the order that suits them best."""
    names = order[start:stop]
    earlier, later = set(order[:start]), set(order[stop:])
    operators = tuple(graph.by_name[name] for name in names)
    inside = {tensor for operator in operators for tensor in operator.tensors}
    entering, leaving = [], []
    for tensor, readers in graph.readers.items():
        made = graph.maker[tensor].name if tensor in graph.maker else None
        before = made in earlier or (made is None and not earlier.isdisjoint(readers))
        if before and not (set(names) | later).isdisjoint(readers):
            entering.append(tensor)
        if (before or tensor in inside) and not later.isdisjoint(readers):
            leaving.append(tensor)
    results = tuple(name for name in graph.results if graph.maker[name].name in set(names))
    sizes = {name: graph.sizes[name] for name in graph.sizes if name in inside or name in entering}
    part = Graph(operators, sizes, results)
    solution = solve_joint(part, capacity, entering=entering, leaving=leaving, time_limit_s=time_limit_s)
    return list(solution.order or names)
