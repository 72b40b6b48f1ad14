"""Sensitivities: on scores whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.design import MatmulDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.accuracy import Accuracy
from bitkiln.models.workloads.mixed import design_for, parse_layers
from bitkiln.models.workloads.sensitivity import Scorer, measure_sensitivities
from bitkiln.models.workloads.shapes import LayerShape
from bitkiln.models.workloads.subjects import Subject

MODES = ("fp4", "int4", "int8")
ERRORS = {"first": {"fp4": 3.0, "int4": 2.0, "int8": 0.5}, "last": {"fp4": 1.0, "int4": 4.0, "int8": 0.25}}
REFERENCE = np.full((4, 2), 10.0)


def made_up(spoilt: float | None = None) -> tuple[Subject, MatmulDesign]:
    """Each layer errs in a score of its own, so that squares add exactly; ``spoilt``: what fp4 in ``last`` gives."""
    seen = []

    def scores(modes, design):
        seen.append(tuple(modes.values()))
        found = REFERENCE.copy()
        for place, (layer, mode) in enumerate(modes.items()):
            found[place, 0] += ERRORS[layer][mode]
        if spoilt is not None and modes["last"] == "fp4":
            found[3] = spoilt
        return found

    none = Accuracy("made up", "", 1, 2, "")
    layers = tuple(LayerShape(name, 1, 2, 3) for name in ERRORS)
    subject = Subject("made up", layers, REFERENCE, scores, lambda modes, design: none, none, "")
    object.__setattr__(subject, "seen", seen)
    return subject, design_for(parse_layers(["a", "b", "c"], dict(zip("abc", MODES, strict=True))))


def nmse(*errors: float) -> float:
    return sum(error ** 2 for error in errors) / np.sum(REFERENCE ** 2)


def test_every_assignment_runs_once_and_sums_are_exact_where_squares_add():
    subject, design = made_up()
    scorer = Scorer(subject, design)
    found = measure_sensitivities(scorer, MODES)
    assert found.best == "int8" and found.base == pytest.approx(nmse(0.5, 0.25))
    assert len(subject.seen) == len(set(subject.seen)) == scorer.runs == 3 + 2 * 2
    for first in MODES:
        for last in MODES:
            exact = nmse(ERRORS["first"][first], ERRORS["last"][last])
            assert found.predicted({"first": first, "last": last}) == pytest.approx(exact)
            assert scorer.nmse((first, last)) == pytest.approx(exact)
    assert found.error("first", "int8") == 0
    assert found.error("last", "int4") == pytest.approx(nmse(4.0) - nmse(0.25))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf, 1e300])
def test_a_score_that_is_no_number_is_bad_but_comparable(spoilt):
    subject, design = made_up(spoilt)
    found = measure_sensitivities(Scorer(subject, design), MODES)
    worst = found.single["last"]["fp4"]
    assert np.isfinite(worst) and worst > 100 * max(found.single["last"]["int4"], found.single["first"]["fp4"])


def test_scores_of_zero():
    subject, design = made_up()
    object.__setattr__(subject, "reference", np.zeros((4, 2)))
    with pytest.raises(BitkilnError, match="all scores are zero"):
        Scorer(subject, design)
