"""Linear models of parts: what went into made-up costs comes out again; what was never fitted is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bitkiln.models.cost.area.fit import REACH, Block, LinearModel, fit_linear, relative_errors

TRUE = {"multiply:cells": 2.0, "add:bits": 1.0, "control:unit": 9.0, "align:stages": 0.5}
SHARES = {"pair a": 0.08, "pair b": -0.05, "pair c": 0.0}
SPREAD = 0.1


def drawn(rng: np.random.Generator, kind: str | None) -> list[Block]:
    size = float(rng.integers(1, 200))
    lanes = Block({"multiply:cells": size, "add:bits": float(rng.integers(1, 100)),
                   "align:stages": float(rng.integers(0, 300))}, () if kind is None else ((kind, SPREAD),))
    return [lanes, Block({"control:unit": 1.0})]


def cost(blocks: list[Block], shares: dict[str, float] = SHARES) -> float:
    return sum(amount * TRUE[name] * (1 + sum(shares[kind] for kind, _ in block.kinds))
               for block in blocks for name, amount in block.counts.items())


def fitted(kinds: list[str | None], noise: float = 0.0, seed: int = 1) -> LinearModel:
    rng = np.random.default_rng(seed)
    designs = [drawn(rng, kind) for kind in kinds]
    return fit_linear(designs, [cost(blocks) * float(1 + noise * rng.standard_normal()) for blocks in designs])


def test_known_coefficients_come_back():
    model = fitted([None] * 80)
    assert set(model.coefficients) == set(TRUE)
    for name, value in TRUE.items():
        assert model.coefficients[name] == pytest.approx(value, rel=0.03), name


def test_known_deviations_come_back():
    model = fitted([*SHARES] * 40)
    middle = np.mean([*SHARES.values()])        # what all kinds have in common belongs to the coefficients
    found = np.array([model.deviations[kind] for kind in SHARES])
    assert found - found.mean() == pytest.approx(np.array([*SHARES.values()]) - middle, abs=0.01)
    rng = np.random.default_rng(9)
    for kind in SHARES:
        blocks = drawn(rng, kind)
        assert model.predict(blocks).value == pytest.approx(cost(blocks), rel=0.02)


def test_noise_is_not_taken_for_a_deviation():
    """One design of a kind says little: its deviation is shrunk to a part of what that design shows."""
    rng = np.random.default_rng(2)
    designs = [drawn(rng, "many") for _ in range(60)] + [drawn(rng, "one")]
    flat = {"many": 0.0, "one": 0.0}
    costs = [cost(blocks, flat) for blocks in designs]
    shown = 0.005
    model = fit_linear(designs, [*costs[:-1], costs[-1] * (1 + shown)])
    assert abs(model.deviations["one"]) < 1.05 * shown
    tight = [[Block(block.counts, tuple((kind, 0.002) for kind, _ in block.kinds)) for block in blocks]
             for blocks in designs]
    assert abs(fit_linear(tight, [*costs[:-1], costs[-1] * (1 + shown)]).deviations["one"]) < 0.25 * shown


def test_coefficients_are_never_negative():
    """Even where a count comes with smaller costs."""
    rng = np.random.default_rng(3)
    designs = [drawn(rng, None) for _ in range(60)]
    costs = [2000 + 3 * blocks[0].counts["multiply:cells"] - 2 * blocks[0].counts["align:stages"]
             for blocks in designs]
    model = fit_linear(designs, costs)
    assert min(model.coefficients.values()) >= 0
    assert model.coefficients["align:stages"] == pytest.approx(0, abs=1e-9)
    larger = Block({"multiply:cells": 10.0, "add:bits": 5.0}), Block({"multiply:cells": 11.0, "add:bits": 5.0})
    assert model.predict([larger[0]]).value <= model.predict([larger[1]]).value


def test_what_was_never_fitted_is_refused():
    model = fitted([None] * 30)
    blocks = [Block({"multiply:cells": 3.0, "encode:posit": 1.0, "decode:table": 2.0})]
    assert model.unknown(blocks) == ["decode:table", "encode:posit"]
    assert model.predict(blocks) is None
    assert model.unknown([Block({"multiply:cells": 3.0})]) == []


def test_intervals_widen_outside_what_was_fitted():
    model = LinearModel({"multiply:cells": 2.0}, {"pair a": 0.1}, {"multiply:cells": 100.0}, error_known=0.05,
                        error_new=0.2)

    def margin(amount: float, kind: str) -> tuple[bool, float]:
        found = model.predict([Block({"multiply:cells": amount}, ((kind, SPREAD),))])
        assert found.value - found.low == pytest.approx(found.high - found.value)
        return found.known, (found.high - found.value) / found.value

    assert margin(50, "pair a") == (True, pytest.approx(0.05))
    assert margin(100 * REACH, "pair a") == (True, pytest.approx(0.05))
    assert margin(50, "pair z") == (False, pytest.approx(0.2))
    assert margin(200, "pair a") == (False, pytest.approx(0.2 * 2 / REACH))
    assert margin(300, "pair a")[1] > margin(200, "pair a")[1] > margin(130, "pair a")[1] > 0.2
    far = model.predict([Block({"multiply:cells": 5000.0})])
    assert far.low == 0.0 and far.high > 2 * far.value


def test_copies_count_and_widen_less_than_size():
    model = LinearModel({"multiply:cells": 2.0}, {"pair a": 0.1}, {"multiply:cells": 100.0}, error_known=0.05,
                        error_new=0.2, copies=4)

    def predicted(amount: float, copies: int):
        return model.predict([Block({"multiply:cells": amount}, (("pair a", SPREAD),), copies)])

    def margin(amount: float, copies: int) -> float:
        found = predicted(amount, copies)
        return found.high / found.value - 1

    assert predicted(50, 4).value == pytest.approx(4 * predicted(50, 1).value)
    assert predicted(50, 5).known and not predicted(50, 6).known
    assert margin(100, 5) == pytest.approx(0.05)                        # of one copy nothing is larger than was fitted
    assert margin(100, 16 * 5) == pytest.approx(0.05 * 4)
    assert margin(1000, 5) > margin(100, 50) > margin(100, 5)
    designs = [[Block({"multiply:cells": float(size)}, copies=copies)] for size in range(5, 30) for copies in (1, 3)]
    again = fit_linear(designs, [7.0 * block.counts["multiply:cells"] * block.copies for block, in designs])
    assert again.coefficients["multiply:cells"] == pytest.approx(7.0, rel=1e-3) and again.copies == 3
    assert again.largest["multiply:cells"] == 29.0


def test_a_deviation_scales_the_parts_it_belongs_to():
    model = LinearModel({"multiply:cells": 2.0, "control:unit": 10.0}, {"pair a": 0.5})
    found = model.predict([Block({"multiply:cells": 10.0}, (("pair a", SPREAD),)), Block({"control:unit": 1.0})])
    assert found.parts == {"multiply": pytest.approx(30.0), "control": pytest.approx(10.0)}
    assert found.value == pytest.approx(sum(found.parts.values()))


def test_json_round_trip():
    model = fitted([*SHARES] * 12, noise=0.02)
    text = json.dumps(model.as_dict(), allow_nan=False)
    back = LinearModel.from_dict(json.loads(text))
    assert json.dumps(back.as_dict()) == text
    rng = np.random.default_rng(4)
    for kind in (*SHARES, "pair z", None):
        blocks = drawn(rng, kind)
        one, other = model.predict(blocks), back.predict(blocks)
        assert (one.value, one.known) == (pytest.approx(other.value, rel=1e-4), other.known)


def test_relative_errors():
    found = relative_errors([110.0, 90.0, 100.0, 150.0], [100.0] * 4)
    assert found["designs"] == 4 and found["worst"] == pytest.approx(0.5)
    assert found["mean"] == pytest.approx(0.7 / 4) and 0.1 < found["p95"] < 0.5
    assert relative_errors([], []) == {"designs": 0, "mean": 0.0, "p95": 0.0, "worst": 0.0}
