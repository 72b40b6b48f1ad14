"""Scratchpad schedules: the integer program against exhaustive search, baselines, parts of large graphs."""

from __future__ import annotations

import random
import sys
import time

import pytest

from bitkiln.models.cost.schedule.schedule import POLICIES, Graph, Operator, baseline, check_plan, exhaustive, schedule
from bitkiln.models.cost.schedule.schedule_divide import cuts, divide, lean_order
from bitkiln.models.cost.schedule.schedule_ilp import solve_joint
from bitkiln.models.cost.schedule.schedule_replace import best_replacement
from bitkiln.models.errors import MISSING_TOOL, USAGE, BitkilnError
from bitkiln.models.workloads.operator_graphs import GRAPHS, darts, inception, resnet, transformer


def random_graph(seed: int, most: int = 7) -> tuple[Graph, int]:
    """Up to ``most`` operators with shared weights, long lives and hardly enough room."""
    rng = random.Random(seed)
    sizes: dict[str, int] = {}
    operators, made = [], []
    weights = [f"w{number}" for number in range(rng.randint(1, 3))]

    def add(name: str, inputs: list[str], outputs: list[str]) -> None:
        for tensor in (*inputs, *outputs):
            sizes.setdefault(tensor, rng.randint(2, 5))
        operators.append(Operator(name, tuple(inputs), tuple(outputs)))

    for number in range(rng.randint(4, most)):
        inputs = rng.sample(made, min(len(made), rng.choice((0, 1, 1, 2))))
        if not inputs or rng.random() < 0.4:
            inputs.append(rng.choice(weights))
        outputs = [f"t{number}"] + ([f"u{number}"] if rng.random() < 0.15 else [])
        add(f"o{number}", inputs, outputs)
        made += outputs
    loose = list(Graph.build(operators, sizes).results)[:-1]
    while len(loose) > 1 and len(operators) < most:
        joined = f"j{len(operators)}"
        add(joined, loose[:2], [joined])
        loose = [*loose[2:], joined]
    graph = Graph.build(operators, sizes)
    if rng.random() < 0.3:
        graph = Graph.build(operators, sizes, [*graph.results, *(name for name in made if name not in graph.results
                                                                and rng.random() < 0.3)])
    return graph, graph.least_capacity + rng.choice((0, 0, 0, 1, 2))


def check_against_search(seed: int) -> bool:
    """Whether anything beyond the compulsory had to move."""
    graph, capacity = random_graph(seed)
    plan, best = schedule(graph, capacity), exhaustive(graph, capacity)
    assert check_plan(graph, best).traffic_bytes == best.traffic_bytes
    assert check_plan(graph, plan).traffic_bytes == best.traffic_bytes, f"seed {seed}"
    assert check_plan(graph, plan).peak_bytes <= capacity
    assert plan.optimal, f"seed {seed}"
    for policy in POLICIES:
        assert check_plan(graph, baseline(graph, capacity, policy)).traffic_bytes >= plan.traffic_bytes
    return plan.traffic_bytes > graph.compulsory_bytes


def test_program_equals_exhaustive_search():
    assert sum(check_against_search(seed) for seed in range(40)) >= 12       # not all of them are easy


@pytest.mark.slow
def test_program_equals_exhaustive_search_often():
    assert sum(check_against_search(seed) for seed in range(100, 300)) >= 50


def fragmented(room: int, stays: list[tuple[int, int, int]]) -> tuple[Graph, int]:
    """Operator s makes and reads what begins and ends in step s; stays are (first, last, size)."""
    steps = 1 + max(last for _, last, _ in stays)
    named = {f"t{number}": stay for number, stay in enumerate(stays)}
    return Graph.build([Operator(f"o{step}", tuple(name for name, (first, last, _) in named.items()
                                                   if first < last == step),
                                 tuple(name for name, (first, _, _) in named.items() if first == step))
                        for step in range(steps)], {name: size for name, (_, _, size) in named.items()}), room


FRAGMENTED = [
    fragmented(7, [(0, 0, 4), (0, 1, 2), (1, 2, 1), (1, 3, 3), (2, 3, 1), (2, 4, 1), (3, 4, 1), (0, 5, 1), (4, 5, 4),
                   (5, 5, 2)]),
    fragmented(9, [(0, 0, 3), (0, 1, 4), (0, 1, 1), (0, 2, 1), (1, 2, 1), (1, 3, 2), (2, 3, 3), (2, 4, 2), (3, 4, 2),
                   (4, 5, 4), (4, 6, 1), (5, 6, 4), (6, 6, 3), (6, 6, 1)]),
]


@pytest.mark.parametrize(("graph", "capacity"), FRAGMENTED)
def test_room_in_pieces(graph, capacity):
    """Where all fits by size and no addresses exist, the addresses are in the program."""
    best, plan = exhaustive(graph, capacity), schedule(graph, capacity)
    by_size = solve_joint(graph, capacity)
    assert by_size.optimal and by_size.bound_bytes < best.traffic_bytes
    assert check_plan(graph, plan).traffic_bytes == check_plan(graph, best).traffic_bytes
    assert plan.optimal


def test_order_alone_saves_spills():
    """Two branches listed side by side: one after the other needs no spill."""
    graph = Graph.build([Operator("a0", ("x",), ("a",)), Operator("b0", ("x",), ("b",)),
                         Operator("a1", ("a",), ("c",)), Operator("b1", ("b",), ("d",)),
                         Operator("end", ("c", "d"), ("y",))], {"x": 2, "a": 8, "b": 8, "c": 1, "d": 1, "y": 1})
    plan = schedule(graph, 12)
    assert check_plan(graph, plan).traffic_bytes == graph.compulsory_bytes == 3
    assert check_plan(graph, baseline(graph, 12, "belady")).traffic_bytes > 3
    assert plan.order.index("a1") < plan.order.index("b0") or plan.order.index("b1") < plan.order.index("a0")


@pytest.mark.parametrize("name", GRAPHS)
def test_networks(name):
    graph = GRAPHS[name]()
    capacity = int(graph.least_capacity * 1.25)
    if len(graph.operators) > 35:
        capacity = graph.least_capacity * 3 // 2
    plan = schedule(graph, capacity, time_limit_s=5)
    moved = check_plan(graph, plan).traffic_bytes
    assert graph.compulsory_bytes <= plan.bound_bytes <= moved
    for policy in POLICIES:
        assert moved <= check_plan(graph, baseline(graph, capacity, policy)).traffic_bytes
    assert plan.method == ("ilp" if len(graph.operators) <= 20 else "divide")


def two_columns(length: int = 6) -> Graph:
    """Two chains from one input, listed side by side, joined at the end."""
    sizes, operators = {"x": 2}, []
    for step in range(length):
        for side in "ab":
            sizes[f"{side}{step}"] = 1 if step == length - 1 else 4
            operators.append(Operator(f"run {side}{step}", (f"{side}{step - 1}" if step else "x",), (f"{side}{step}",)))
    sizes["y"] = 1
    return Graph.build([*operators, Operator("join", (f"a{length - 1}", f"b{length - 1}"), ("y",))], sizes)


def test_parts_improve_a_plan():
    """Parts of four operators: each ordered by itself, all in the end as good as the whole."""
    graph, capacity = two_columns(), 11
    worst = baseline(graph, capacity, "belady")

    def replaced(order):
        return best_replacement(graph, order, capacity, method="divide", bound_bytes=graph.compulsory_bytes).plan

    parts = divide(graph, capacity, worst, replaced, end=time.monotonic() + 5, part_operators=4)
    whole = schedule(graph, capacity)
    moved = [check_plan(graph, plan).traffic_bytes for plan in (whole, parts, worst)]
    assert moved[0] <= moved[1] < moved[2], moved


@pytest.mark.parametrize("build", [resnet, two_columns])
def test_large_graphs_are_divided(build):
    graph = build()
    plan = schedule(graph, graph.least_capacity, time_limit_s=4, joint_operators=8)
    assert plan.method == "divide"
    assert check_plan(graph, plan).traffic_bytes <= check_plan(
        graph, baseline(graph, graph.least_capacity, "belady")).traffic_bytes


def test_cuts_lie_where_few_bytes_cross():
    graph = resnet(1)
    order = [operator.name for operator in graph.operators]
    places = cuts(graph, order, 4)
    assert places[0] == 0 and places[-1] == len(order)
    assert all(0 < stop - start <= 4 for start, stop in zip(places, places[1:], strict=False))
    # Blocks have one tensor between them, two inside: no part of the last block is cut off its skip.
    assert "run s2b0.add" not in [order[place] for place in places[:-1]]


def test_lean_order_can_be_run():
    graph = transformer()
    done: set[str] = set()
    for name in lean_order(graph):
        assert graph.before[name] <= done
        done.add(name)
    assert len(done) == len(graph.operators)


def test_more_room_never_moves_more():
    graph = random_graph(7)[0]
    moved = [exhaustive(graph, graph.least_capacity + more).traffic_bytes for more in range(6)]
    assert moved == sorted(moved, reverse=True)


def test_too_small_a_scratchpad():
    graph = inception()
    rule = f"operator run concatenate.*expected {graph.least_capacity} or more"
    with pytest.raises(BitkilnError, match=rule) as caught:
        schedule(graph, graph.least_capacity - 1)
    assert caught.value.exit_code == USAGE
    with pytest.raises(BitkilnError, match="bad capacity"):
        schedule(graph, 0)


def test_search_refuses_many_operators():
    with pytest.raises(BitkilnError, match="too many operators"):
        exhaustive(darts(), 10**6)


def test_unknown_policy():
    with pytest.raises(BitkilnError, match="did you mean belady"):
        baseline(inception(), 10**6, "beladi")


def test_without_scipy(monkeypatch):
    graph, capacity = random_graph(1)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(BitkilnError, match=r"bitkiln\[explore\]") as caught:
        schedule(graph, capacity)
    assert caught.value.exit_code == MISSING_TOOL


@pytest.mark.parametrize(("operators", "sizes", "message"), [
    ([], {}, "no operators"),
    ([Operator("a", ("x",), ("y",)), Operator("a", ("y",), ("z",))], {"x": 1, "y": 1, "z": 1}, "operator named twice"),
    ([Operator("a", ("x",), ("y",))], {"x": 1, "y": 0}, "bad size"),
    ([Operator("a", ("xx",), ("y",))], {"xz": 1, "y": 1}, "did you mean xz"),
    ([Operator("a", ("z",), ("y",)), Operator("b", ("y",), ("z",))], {"y": 1, "z": 1}, "read before it is made"),
    ([Operator("a", ("x",), ("y",)), Operator("b", ("x",), ("y",))], {"x": 1, "y": 1}, "made twice"),
    ([Operator("a", ("x",), ())], {"x": 1}, "without outputs"),
])
def test_impossible_graphs(operators, sizes, message):
    with pytest.raises(BitkilnError, match=message):
        Graph.build(operators, sizes)


def test_results_are_made():
    with pytest.raises(BitkilnError, match="a result that no operator makes"):
        Graph.build([Operator("a", ("x",), ("y",))], {"x": 1, "y": 1}, ["x"])
