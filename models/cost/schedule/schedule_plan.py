"""Plans for a scratchpad, and the checker that replays them.

A plan is a list of actions:

    load     a tensor comes from off the chip to an address
    reserve  room for an output at an address; holds nothing yet
    run      an operator: reads its inputs, fills its outputs
    store    a tensor goes off the chip as well
    drop     its room is free again

`check_plan` knows nothing of how a plan was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import FAILED, BitkilnError
from .schedule_graph import Graph

__all__ = ["ACTIONS", "Action", "Gap", "Plan", "Replay", "Residency", "accesses", "build_plan", "check_plan",
           "residencies", "traffic"]

ACTIONS = ("load", "reserve", "run", "store", "drop")
Gap = tuple[str, int]
"""A tensor and the step of its access up to which it may stay since the access before."""


@dataclass(frozen=True)
class Action:
    """One of `ACTIONS` on a tensor (an operator for ``run``); ``address`` in bytes for load and reserve."""

    kind: str
    name: str
    address: int | None = None


@dataclass(frozen=True)
class Plan:
    """What moves when and where.

    Attributes
    ----------
    actions : tuple of Action
    capacity : int
        Bytes of the scratchpad.
    traffic_bytes : int
        Loads and stores together, as claimed; `check_plan` counts them again.
    method : str
        ``ilp``, ``divide``, ``exhaustive``, ``lru`` or ``belady``.
    bound_bytes : int
        No plan moves less than this: a proof where it equals ``traffic_bytes``.
    """

    actions: tuple[Action, ...]
    capacity: int
    traffic_bytes: int
    method: str
    bound_bytes: int

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(action.name for action in self.actions if action.kind == "run")

    @property
    def optimal(self) -> bool:
        return self.traffic_bytes == self.bound_bytes


@dataclass(frozen=True)
class Replay:
    """What a plan did: bytes each way, and the highest byte in use."""

    load_bytes: int
    store_bytes: int
    peak_bytes: int

    @property
    def traffic_bytes(self) -> int:
        return self.load_bytes + self.store_bytes


def _fail(what: str, number: int, action: Action, expected: str) -> BitkilnError:
    return BitkilnError(f"broken plan: {what}", where=f"action {number} ({action.kind} {action.name})",
                        expected=expected, exit_code=FAILED)


def check_plan(graph: Graph, plan: Plan) -> Replay:
    """Replays a plan action by action.

    Returns
    -------
    Replay

    Raises
    ------
    BitkilnError
        The first broken rule: an overlap, room beyond the capacity, a tensor that is absent when read, an output
        without room, a load of what has no copy off the chip, an operator run twice or never, a result not stored, or
        bytes that are not those claimed.
    """
    placed: dict[str, int] = {}
    filled: set[str] = set()
    outside = set(graph.sizes) - set(graph.maker)
    done: set[str] = set()
    loads = stores = peak = 0
    for number, action in enumerate(plan.actions):
        kind, name = action.kind, action.name
        if name not in (graph.by_name if kind == "run" else graph.sizes):
            raise _fail("unknown name", number, action, "an operator for run, a tensor for all else")
        if kind in ("load", "reserve"):
            _place(graph, plan, placed, number, action)
            peak = max(peak, placed[name] + graph.sizes[name])
            if kind == "load":
                if name not in outside:
                    raise _fail("no copy off the chip", number, action, "a store of it before")
                loads += graph.sizes[name]
                filled.add(name)
        elif kind == "store":
            if name not in filled:
                raise _fail("stores what is not on the chip", number, action, "a tensor that is there")
            stores += graph.sizes[name]
            outside.add(name)
        elif kind == "drop":
            if name not in placed:
                raise _fail("drops what is not on the chip", number, action, "a tensor that is there")
            del placed[name]
            filled.discard(name)
        elif kind == "run":
            operator = graph.by_name[name]
            if name in done:
                raise _fail("operator run twice", number, action, "once")
            for tensor in operator.inputs:
                if tensor not in filled:
                    raise _fail(f"{tensor} is read and not on the chip", number, action, "its data there")
            for tensor in operator.outputs:
                if tensor not in placed or tensor in filled:
                    raise _fail(f"no room for {tensor}", number, action, "room reserved and not yet filled")
                filled.add(tensor)
            done.add(name)
        else:
            raise _fail("unknown kind of action", number, action, " or ".join(ACTIONS))
    _check_end(graph, plan, done, outside, loads + stores)
    return Replay(loads, stores, peak)


def _place(graph: Graph, plan: Plan, placed: dict[str, int], number: int, action: Action) -> None:
    name, address = action.name, action.address
    if name in placed:
        raise _fail("already on the chip", number, action, "a drop of it before")
    if address is None or address < 0 or address + graph.sizes[name] > plan.capacity:
        raise _fail(f"bytes {address} to {(address or 0) + graph.sizes[name]} lie outside the scratchpad", number,
                    action, f"0 to {plan.capacity}")
    for other, start in placed.items():
        if start < address + graph.sizes[name] and address < start + graph.sizes[other]:
            raise _fail(f"overlaps {other}", number, action, "free room")
    placed[name] = address


def _check_end(graph: Graph, plan: Plan, done: set[str], outside: set[str], moved: int) -> None:
    for operator in graph.operators:
        if operator.name not in done:
            raise BitkilnError("broken plan: operator never run", where="end of the plan", got=operator.name,
                               exit_code=FAILED)
    for name in graph.results:
        if name not in outside:
            raise BitkilnError("broken plan: result not stored", where="end of the plan", got=name, exit_code=FAILED)
    if moved != plan.traffic_bytes:
        raise BitkilnError("broken plan: bytes miscounted", where="plan.traffic_bytes", got=plan.traffic_bytes,
                           expected=f"{moved}", exit_code=FAILED)


@dataclass(frozen=True)
class Residency:
    """A tensor stays at one address from step ``first`` to ``last``; ``loaded`` or made in the first."""

    tensor: str
    first: int
    last: int
    loaded: bool


def accesses(graph: Graph, order: Sequence[str]) -> dict[str, list[int]]:
    """Steps in which each tensor is made or read, ascending."""
    steps: dict[str, list[int]] = {name: [] for name in graph.sizes}
    for step, name in enumerate(order):
        for tensor in graph.by_name[name].tensors:
            steps[tensor].append(step)
    return steps


def residencies(graph: Graph, order: Sequence[str], kept: set[Gap]) -> list[Residency]:
    """Stays on the chip of an order in which tensors stay from one access to the next for the gaps in ``kept`` only."""
    found = []
    for tensor, steps in accesses(graph, order).items():
        start = None
        for number, step in enumerate(steps):
            if start is None:
                start = step
                loaded = number > 0 or tensor not in graph.maker
            last = number + 1 == len(steps)
            if last or (tensor, steps[number + 1]) not in kept:
                found.append(Residency(tensor, start, step, loaded))
                start = None
    return found


def traffic(graph: Graph, stays: Sequence[Residency]) -> int:
    """Bytes that these stays move."""
    loads = sum(graph.sizes[stay.tensor] for stay in stays if stay.loaded)
    return loads + sum(graph.sizes[name] for name in _stored(graph, stays))


def _stored(graph: Graph, stays: Sequence[Residency]) -> set[str]:
    return set(graph.results) | {stay.tensor for stay in stays if stay.loaded and stay.tensor in graph.maker}


def build_plan(graph: Graph, capacity: int, order: Sequence[str], stays: Sequence[Residency],
               addresses: Sequence[int], method: str, bound_bytes: int) -> Plan:
    """The actions of placed stays: what is stored is stored by the step that makes it."""
    stored = _stored(graph, stays)
    actions: list[Action] = []
    for step, name in enumerate(order):
        actions += [Action("drop", stay.tensor) for stay in stays if stay.last == step - 1]
        for stay, address in zip(stays, addresses, strict=True):
            if stay.first == step:
                actions.append(Action("load" if stay.loaded else "reserve", stay.tensor, address))
        actions.append(Action("run", name))
        actions += [Action("store", tensor) for tensor in graph.by_name[name].outputs if tensor in stored]
    return Plan(tuple(actions), capacity, traffic(graph, stays), method, bound_bytes)
