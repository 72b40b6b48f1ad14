"""Formats for layers: the integer program against brute force, budgets of all kinds, groups and pins."""

from __future__ import annotations

import random
import sys

import pytest

from bitkiln.models.cost.schedule.assign import (
    Budget,
    Choice,
    Layer,
    Pe,
    assign,
    best_uniform,
    brute_force,
    evaluate,
    frontier,
    least_budget,
)
from bitkiln.models.errors import MISSING_TOOL, USAGE, BitkilnError

FORMATS = ("int4", "fp4", "int8", "fp8", "int16")
EVERYTHING = Pe("all", frozenset(FORMATS), 300)


def random_problem(seed: int, most: int = 6):
    """Layers, a budget that allows something, weights and limits; errors over many orders of magnitude."""
    rng = random.Random(seed)
    kind = rng.choice(("latency", "bytes", "area"))
    sharing = rng.choice(("max", "union", "built")) if kind == "area" else "union"
    areas = {name: rng.randint(10, 100) for name in FORMATS}
    scale = 10 ** rng.uniform(-9, 6)
    layers = []
    for number in range(rng.randint(1, most)):
        offered = rng.sample(FORMATS, rng.randint(2, 4))
        layers.append(Layer(f"layer{number}", tuple(
            Choice(name, areas[name] if kind == "area" else rng.choice((rng.randint(1, 1000), rng.random() * 50)),
                   rng.random() ** 4 * scale) for name in offered),
            rng.choice("ab"), rng.choice(offered) if rng.random() < 0.1 else None))
    pes = (*(Pe(f"pe{number}", frozenset(rng.sample(FORMATS, rng.randint(1, 5))), rng.randint(10, 200))
             for number in range(4)), EVERYTHING) if sharing == "built" else ()
    groups = sorted({layer.group for layer in layers})
    weights = {group: rng.choice((0.1, 1, 30)) for group in groups}
    limits = {}
    if rng.random() < 0.3:
        group = rng.choice(groups)
        limits = {group: 0.8 * sum(max(choice.error for choice in layer.choices)
                                   for layer in layers if layer.group == group)}
    budget = Budget(kind, 1e12, "units", sharing, pes=pes)
    return rng, layers, budget, {"weights": weights, "error_limits": limits}


def check_against_brute_force(seed: int, most: int = 6) -> bool:
    """Whether something fitted."""
    rng, layers, budget, options = random_problem(seed, most)
    everything = brute_force(layers, budget, **options)
    if everything is None:
        with pytest.raises(BitkilnError):
            assign(layers, budget, **options)
        return False
    least = least_budget(layers, budget, error_limits=options["error_limits"]).cost
    budget = budget.with_limit(least + (everything.cost - least) * rng.choice((0, 0.2, 0.5, 0.8)))
    best, found = brute_force(layers, budget, **options), assign(layers, budget, **options)
    assert found.error == pytest.approx(best.error, rel=1e-9), f"seed {seed}"
    assert found.cost == pytest.approx(best.cost, rel=1e-9), f"seed {seed}"
    assert found.cost <= budget.limit * (1 + 1e-9)
    assert evaluate(layers, found.formats, budget, options["weights"]) == found
    uniform = best_uniform(layers, budget, **options)
    assert uniform is None or found.error <= uniform.error
    with pytest.raises(BitkilnError, match="the budget is too small|error_limits"):
        assign(layers, budget.with_limit(least * 0.999), **options)
    return True


def test_program_equals_brute_force():
    assert sum(check_against_brute_force(seed) for seed in range(60)) >= 50


@pytest.mark.slow
def test_program_equals_brute_force_on_ten_layers():
    assert sum(check_against_brute_force(seed, 10) for seed in range(1000, 1040)) >= 30


LAYERS = [Layer("first", (Choice("int8", 100, 0.1), Choice("fp4", 50, 4.0))),
          Layer("middle", (Choice("int8", 400, 0.1), Choice("fp4", 200, 0.3))),
          Layer("last", (Choice("int8", 100, 0.1), Choice("fp4", 50, 2.0)))]


def test_the_layer_that_minds_least_gives_way():
    found = assign(LAYERS, Budget("latency", 400))
    assert found.as_dict() == {"first": "int8", "middle": "fp4", "last": "int8"}
    assert (found.cost, found.budget.unit) == (400, "cycles")
    assert found.error == pytest.approx(0.5)
    assert best_uniform(LAYERS, Budget("latency", 400)).formats == ("fp4",) * 3


def test_error_never_rises_with_the_budget():
    for seed in range(5):
        _, layers, budget, options = random_problem(seed)
        least = least_budget(layers, budget).cost
        points = frontier(layers, budget, [least * (1 + step / 4) for step in range(8)], weights=options["weights"])
        errors = [point.error for point in points]
        assert errors == sorted(errors, reverse=True)
        assert all(point.cost <= point.budget.limit * (1 + 1e-9) for point in points)


def test_frontier_leaves_out_what_nothing_fits_in():
    points = frontier(LAYERS, Budget("latency", 0), [600, 100, 300, 350])
    assert [point.budget.limit for point in points] == [300, 350, 600]
    with pytest.raises(BitkilnError, match="all budgets are too small.*300 cycles"):
        frontier(LAYERS, Budget("latency", 0), [100, 299])


def test_a_pinned_layer_stays():
    layers = [Layer("first", LAYERS[0].choices, pinned="int8"), *LAYERS[1:]]
    least = least_budget(layers, Budget("latency", 0))
    assert least.formats == ("int8", "fp4", "fp4")
    with pytest.raises(BitkilnError, match="expected 350 cycles or more\nhelp: .*2 x fp4, 1 x int8 at 350") as caught:
        assign(layers, Budget("latency", 349))
    assert caught.value.exit_code == USAGE
    # The other layers are what is uniform.
    assert best_uniform(layers, Budget("latency", 350)).formats == ("int8", "fp4", "fp4")


def area_layers(errors):
    areas = {"int8": 100.0, "fp8": 60.0, "fp4": 30.0}
    return [Layer(f"layer{number}", tuple(Choice(name, areas[name], error) for name, error in table.items()))
            for number, table in enumerate(errors)]


MIXED = area_layers([{"int8": 1.0, "fp8": 9.0, "fp4": 50.0}, {"int8": 9.0, "fp8": 1.0, "fp4": 40.0},
                     {"int8": 0.5, "fp8": 0.5, "fp4": 0.6}])


def test_a_second_format_costs_area():
    """One PE runs all layers: with dedicated lanes two formats cost both, shared ones only the larger."""
    union, shared = Budget("area", 150, "um2"), Budget("area", 150, "um2", "max")
    assert assign(MIXED, shared).formats[:2] == ("int8", "fp8")
    assert assign(MIXED, shared).cost == 100
    assert len(set(assign(MIXED, union).formats)) == 1
    both = assign(MIXED, union.with_limit(160))
    assert both.formats[:2] == ("int8", "fp8") and both.cost == 160 and both.error == pytest.approx(2.5)
    with_base = Budget("area", 160, "um2", base_area=20)
    assert len(set(assign(MIXED, with_base).formats)) == 1


def test_pes_that_were_built():
    pes = (Pe("int8", frozenset({"int8"}), 100), Pe("float", frozenset({"fp8", "fp4"}), 75),
           Pe("dual", frozenset({"int8", "fp8"}), 130))
    budget = Budget("area", 130, "um2", "built", pes=pes)
    assert (assign(MIXED, budget).pe, assign(MIXED, budget).cost) == ("dual", 130)
    small = assign(MIXED, budget.with_limit(80))
    assert small.pe == "float" and set(small.formats) <= {"fp8", "fp4"}
    with pytest.raises(BitkilnError, match="expected 75 um2 or more"):
        assign(MIXED, budget.with_limit(74))


def test_groups_have_weights_and_limits():
    layers = [Layer("content", LAYERS[0].choices, "content"), Layer("quality", LAYERS[2].choices, "quality")]
    budget = Budget("latency", 150)
    assert assign(layers, budget).formats == ("int8", "fp4")
    assert assign(layers, budget, weights={"quality": 10}).formats == ("fp4", "int8")
    limited = assign(layers, budget, error_limits={"quality": 0.5})
    assert limited.formats == ("fp4", "int8") and limited.group_errors == {"content": 4.0, "quality": 0.1}
    with pytest.raises(BitkilnError, match="no assignment keeps the limits"):
        assign(layers, budget, error_limits={"quality": 0.01})


def test_of_equal_errors_the_cheaper():
    layers = [Layer("only", (Choice("int8", 10, 1.0), Choice("fp8", 7, 1.0)))]
    assert assign(layers, Budget("bytes", 100)).formats == ("fp8",)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Choice("int8", -1, 0), "int8.cost"),
    (lambda: Choice("int8", 1, float("nan")), "int8.error"),
    (lambda: Layer("a", ()), "no choices"),
    (lambda: Layer("a", (Choice("int8", 1, 1), Choice("int8", 2, 1))), "format offered twice"),
    (lambda: Layer("a", (Choice("int8", 1, 1),), pinned="int9"), "did you mean int8"),
    (lambda: Budget("latencies", 1), "did you mean latency"),
    (lambda: Budget("area", 1), "area without a unit"),
    (lambda: Budget("area", 1, "um2", "built"), "PEs and sharing disagree"),
    (lambda: Budget("latency", -1), "budget.limit"),
    (lambda: Pe("a", frozenset(), 0), "pe a.area"),
    (lambda: assign([], Budget("latency", 1)), "no layers"),
    (lambda: assign([LAYERS[0], LAYERS[0]], Budget("latency", 1)), "layer named twice"),
    (lambda: assign(LAYERS, Budget("latency", 1), weights={"x": 1}), "unknown group at weights"),
    (lambda: assign(LAYERS, Budget("area", 1, "um2")), "one format with two areas"),
    (lambda: brute_force([Layer(f"l{n}", LAYERS[0].choices) for n in range(22)], Budget("latency", 1)),
     "too many combinations"),
])
def test_refused(make, message):
    with pytest.raises(BitkilnError, match=message) as caught:
        make()
    assert caught.value.exit_code == USAGE


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(BitkilnError, match=r"bitkiln\[explore\]") as caught:
        assign(LAYERS, Budget("latency", 1000))
    assert caught.value.exit_code == MISSING_TOOL
