"""What a compiler without a solver does: the listed order, and a rule for what goes when room is needed.

    lru       what was not used for longest
    belady    what is not used for longest from now (dead tensors first)

Belady's rule is the best one for equal sizes and free write-backs only; tensors have neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BitkilnError, nearest
from .schedule_graph import Graph
from .schedule_plan import Gap, Plan, accesses, build_plan, residencies
from .schedule_replace import place_kept

__all__ = ["POLICIES", "baseline"]

POLICIES = ("lru", "belady")


def baseline(graph: Graph, capacity: int, policy: str, order: Sequence[str] | None = None) -> Plan:
    """The plan of a policy.

    It is given good addresses: the rule sees bytes only, what it keeps is placed as well as `place` can, and where that
    fails it works with a little less room until its choice fits.

    Parameters
    ----------
    graph : Graph
    capacity : int
        Bytes.
    policy : str
        ``lru`` or ``belady``.
    order : sequence of str, optional
        Names of the operators; the listed order by default.
    """
    if policy not in POLICIES:
        raise BitkilnError("unknown policy", where="baseline", got=policy, expected=" or ".join(POLICIES),
                           help=nearest(policy, POLICIES))
    graph.check_capacity(capacity)
    order = tuple(order or (operator.name for operator in graph.operators))
    room = capacity
    while True:
        kept = _simulate(graph, order, room, policy)
        placement = place_kept(graph, order, kept, capacity, 1.0)
        if placement.addresses is not None:
            stays = residencies(graph, order, kept)
            return build_plan(graph, capacity, order, stays, placement.addresses, policy, graph.compulsory_bytes)
        room -= max(capacity // 32, 1)


def _simulate(graph: Graph, order: Sequence[str], room: int, policy: str) -> set[Gap]:
    """The gaps in which tensors stay; room below a working set keeps nothing through that step."""
    steps = accesses(graph, order)
    present: dict[str, int] = {}            # tensor -> step of its last access
    kept: set[Gap] = set()

    def following(tensor: str, step: int) -> int:
        return next((later for later in steps[tensor] if later > step), len(order))

    for step, name in enumerate(order):
        working = graph.by_name[name].tensors
        kept |= {(tensor, step) for tensor in working if tensor in present}
        need = sum(graph.sizes[tensor] for tensor in working)
        others = [tensor for tensor in present if tensor not in working]
        # The first ones go first.
        if policy == "lru":
            others.sort(key=lambda tensor: (present[tensor], tensor))
        else:
            others.sort(key=lambda tensor: (-following(tensor, step), tensor))
        while others and need + sum(graph.sizes[tensor] for tensor in others) > room:
            del present[others.pop(0)]
        present.update(dict.fromkeys(working, step))
        if room < need:
            present.clear()
        if policy == "belady":
            present = {tensor: last for tensor, last in present.items() if following(tensor, step) < len(order)}
    return kept
