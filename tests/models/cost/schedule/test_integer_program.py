"""The thin layer over the solver: against enumeration, no solution, bounds."""

from __future__ import annotations

import random
from itertools import product

import pytest

from bitkiln.models.cost.schedule.integer_program import IntegerProgram


@pytest.mark.parametrize("seed", range(5))
def test_knapsack_by_enumeration(seed):
    rng = random.Random(seed)
    worth, weight = ([rng.randint(1, 50) for _ in range(8)] for _ in range(2))
    program = IntegerProgram()
    picks = [program.binary(cost=-value) for value in worth]
    program.row(dict(zip(picks, weight, strict=True)), high=90)
    solution = program.solve("test")
    best = max(sum(w for w, on in zip(worth, choice, strict=True) if on) for choice in product((0, 1), repeat=8)
               if sum(w for w, on in zip(weight, choice, strict=True) if on) <= 90)
    assert solution.optimal and solution.bound == pytest.approx(-best)
    assert sum(value for value, pick in zip(worth, picks, strict=True) if solution.chosen(pick)) == best


def test_no_solution_is_told_apart():
    program = IntegerProgram()
    pick = program.binary()
    program.row({pick: 2}, 1, 1)
    solution = program.solve("test")
    assert solution.infeasible and solution.values is None and not solution.optimal and not solution.chosen(pick)


def test_the_objective_can_be_replaced():
    program = IntegerProgram()
    one, other = program.column(0, 4, cost=-1), program.column(0, 4, integer=True)
    program.row({one: 1, other: 1}, high=5.5)
    assert program.solve("test").values[one] == pytest.approx(4)
    program.set_costs({other: -1})
    solution = program.solve("test")
    assert solution.values[other] == pytest.approx(4) and solution.bound == pytest.approx(-4)
    assert (program.costs, program.size) == ((0.0, -1), (2, 1, 1))
