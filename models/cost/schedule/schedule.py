"""A scratchpad's schedule: the order of operators, what lies where, and what goes off the chip and comes back.

    from bitkiln.models.cost.schedule.schedule import Graph, Operator, check_plan, schedule

    graph = Graph.build([Operator("conv", ("image", "weight"), ("maps",)), ...], {"image": 3072, ...})
    plan = schedule(graph, capacity=64 * 1024)
    check_plan(graph, plan)

Small graphs are solved whole (`schedule_ilp`, after COSMA, arXiv 2311.18246) and the plan says whether it is proven to
be the best; larger ones are cut where few bytes cross (`schedule_divide`), their replacement is then solved again for
the whole order. What time is left goes to the program of the whole graph, which often proves that nothing moves less.
Least traffic is all that counts: time of the moves is `memory`'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...errors import FAILED, BitkilnError
from .schedule_baselines import POLICIES, baseline
from .schedule_divide import divide, lean_order
from .schedule_graph import Graph, Operator
from .schedule_ilp import solve_joint
from .schedule_plan import Action, Plan, Replay, build_plan, check_plan, residencies
from .schedule_replace import best_replacement, place_kept
from .schedule_search import exhaustive

__all__ = ["Action", "Graph", "JOINT_OPERATORS", "Operator", "POLICIES", "Plan", "Replay", "WHOLE_OPERATORS",
           "baseline", "check_plan", "exhaustive", "schedule"]

JOINT_OPERATORS = 20
"""Graphs of more operators are cut into parts first."""
WHOLE_OPERATORS = 60
"""Graphs of more operators are not solved whole at all."""
_ADDRESS_OPERATORS = 10


def schedule(graph: Graph, capacity: int, *, time_limit_s: float = 60.0,
             joint_operators: int = JOINT_OPERATORS) -> Plan:
    """The plan of least off-chip traffic that was found, never worse than the baselines.

    Parameters
    ----------
    graph : Graph
    capacity : int
        Bytes of the scratchpad.
    time_limit_s : float
        For the solver, roughly.
    joint_operators : int
        Graphs of more are cut into parts first.

    Returns
    -------
    Plan
        ``plan.optimal`` when it is proven that no plan moves less.

    Raises
    ------
    BitkilnError
        An operator alone does not fit (exit 2), or SciPy is not installed (exit 3).
    """
    graph.check_capacity(capacity)
    end = time.monotonic() + time_limit_s
    method = "ilp" if len(graph.operators) <= joint_operators else "divide"
    least = graph.compulsory_bytes
    listed = tuple(operator.name for operator in graph.operators)

    def replaced(order: Sequence[str]) -> Plan:
        remaining = max(end - time.monotonic(), 2.0)
        return best_replacement(graph, order, capacity, method=method, bound_bytes=least,
                                time_limit_s=min(remaining, time_limit_s / 4)).plan

    found = [baseline(graph, capacity, policy) for policy in POLICIES]
    found += [replaced(order) for order in dict.fromkeys((listed, lean_order(graph)))]
    best = min(found, key=_traffic)
    if best.traffic_bytes > least and method == "divide":
        best = divide(graph, capacity, best, replaced, end=end - time_limit_s / 2)
    if best.traffic_bytes > least and len(graph.operators) <= max(joint_operators, WHOLE_OPERATORS):
        joint = solve_joint(graph, capacity, at_most=best.traffic_bytes, time_limit_s=max(end - time.monotonic(), 2.0))
        least = max(least, joint.bound_bytes)
        if joint.order:
            best = min(best, replaced(joint.order), key=_traffic)
        if best.traffic_bytes > least and joint.optimal and len(graph.operators) <= _ADDRESS_OPERATORS:
            best, least = _with_addresses(graph, capacity, best, least, max(end - time.monotonic(), 5.0))
    return Plan(best.actions, capacity, best.traffic_bytes, method, min(least, best.traffic_bytes))


def _traffic(plan: Plan) -> int:
    return plan.traffic_bytes


def _with_addresses(graph: Graph, capacity: int, best: Plan, least: int, time_limit_s: float) -> tuple[Plan, int]:
    """Where the room is in pieces, so that size alone does not decide: addresses in the program itself."""
    joint = solve_joint(graph, capacity, at_most=best.traffic_bytes, addresses=True, time_limit_s=time_limit_s)
    least = max(least, joint.bound_bytes)
    if joint.order is None:
        return best, least
    placement = place_kept(graph, joint.order, set(joint.kept), capacity)
    if placement.addresses is None:
        raise BitkilnError("the program's addresses could not be made whole", where="schedule", exit_code=FAILED)
    stays = residencies(graph, joint.order, set(joint.kept))
    plan = build_plan(graph, capacity, joint.order, stays, placement.addresses, "ilp", least)
    return min(best, plan, key=_traffic), least
