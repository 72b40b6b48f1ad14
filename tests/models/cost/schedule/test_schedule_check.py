"""The checker of scratchpad plans by itself: each kind of broken plan is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitkiln.models.cost.schedule.schedule_graph import Graph, Operator
from bitkiln.models.cost.schedule.schedule_plan import Action, Plan, check_plan
from bitkiln.models.errors import FAILED, BitkilnError

# x -> a -> (b with w) -> y, a read again at the end; 10 bytes are not enough for all.
GRAPH = Graph.build([Operator("first", ("x",), ("a",)), Operator("second", ("a", "w"), ("b",)),
                     Operator("third", ("a", "b"), ("y",))], {"x": 4, "a": 3, "w": 4, "b": 2, "y": 3})
ACTIONS = (Action("load", "x", 0), Action("reserve", "a", 4), Action("run", "first"), Action("store", "a"),
           Action("drop", "x"), Action("load", "w", 0), Action("reserve", "b", 7), Action("run", "second"),
           Action("drop", "w"), Action("drop", "a"), Action("load", "a", 0), Action("reserve", "y", 3),
           Action("run", "third"), Action("store", "y"))
MOVED = 4 + 3 + 4 + 3 + 3
PLAN = Plan(ACTIONS, 10, MOVED, "ilp", MOVED)


def changed(at: int, *actions: Action, drop: int = 1) -> Plan:
    """With ``drop`` actions from ``at`` replaced."""
    return replace(PLAN, actions=ACTIONS[:at] + actions + ACTIONS[at + drop:])


def test_a_good_plan():
    replay = check_plan(GRAPH, PLAN)
    assert (replay.load_bytes, replay.store_bytes, replay.peak_bytes) == (4 + 4 + 3, 3 + 3, 9)
    assert PLAN.order == ("first", "second", "third")


@pytest.mark.parametrize(("plan", "message"), [
    (changed(6, Action("reserve", "b", 6)), "overlaps a"),
    (changed(5, Action("load", "w", 1)), "overlaps a"),
    (changed(1, Action("reserve", "a", 8)), "outside the scratchpad"),
    (changed(0, Action("load", "x", -1)), "outside the scratchpad"),
    (changed(0, Action("load", "x")), "outside the scratchpad"),
    (replace(PLAN, capacity=8), "outside the scratchpad"),
    (changed(5), "w is read and not on the chip"),
    (changed(10), "a is read and not on the chip"),
    (changed(10, Action("reserve", "a", 0)), "a is read and not on the chip"),
    (changed(3), "no copy off the chip"),
    (changed(6), "no room for b"),
    (changed(6, Action("reserve", "b", 7), Action("load", "b", 0)), "already on the chip"),
    (changed(4, Action("drop", "y")), "drops what is not on the chip"),
    (changed(3, Action("store", "b")), "stores what is not on the chip"),
    (changed(2, Action("store", "a"), Action("run", "first"), drop=2), "stores what is not on the chip"),
    (changed(3, Action("run", "first"), drop=0), "operator run twice"),
    (changed(7), "b is read and not on the chip"),
    (replace(PLAN, actions=ACTIONS[:10]), "operator never run"),
    (replace(PLAN, actions=ACTIONS[:-1]), "result not stored"),
    (replace(PLAN, traffic_bytes=MOVED - 1), "bytes miscounted"),
    (changed(13, Action("store", "y"), Action("store", "y")), "bytes miscounted"),
    (changed(0, Action("fetch", "x", 0)), "unknown kind"),
    (changed(0, Action("load", "first", 0)), "unknown name"),
    (changed(2, Action("run", "x")), "unknown name"),
])
def test_broken_plans(plan, message):
    with pytest.raises(BitkilnError, match=message) as caught:
        check_plan(GRAPH, plan)
    assert caught.value.exit_code == FAILED
