"""Weighted ridge regression: known coefficients, intervals that hold, held-out groups that are unseen."""

import numpy as np
import pytest

from bitkiln.models.cost.energy.regression import LinearFit, held_out, leave_one_out, mean_and_worst
from bitkiln.models.errors import BitkilnError


def data(count, noise, seed=1):
    random = np.random.default_rng(seed)
    x = np.stack([np.ones(count), *(random.uniform(1, 100, count) for _ in range(3))], axis=1)
    exact = x @ [5.0, 2.0, 0.5, 3.0]
    return x, exact, exact * (1 + noise * random.standard_normal(count))


def test_exact_data_give_the_coefficients():
    x, exact, _ = data(30, 0)
    fit = LinearFit.fit(x, exact)
    assert fit.coefficients == pytest.approx([5, 2, 0.5, 3], rel=1e-4) and fit.spread < 1e-6
    assert fit.predict(x) == pytest.approx(exact)


def test_relative_errors_decide():
    """A sample a thousand times larger weighs no more."""
    x = np.array([[1.0], [1.0], [1000.0]])
    fit = LinearFit.fit(x, np.array([1.0, 1.0, 2000.0]), ridge=0)
    # Minimum of (1 - c)**2 + (1 - c)**2 + (1 - c / 2)**2.
    assert fit.coefficients == pytest.approx([(1 + 1 + 1 / 2) / (1 + 1 + 1 / 4)])


def test_intervals_hold_what_they_say():
    inside = []
    for seed in range(40):
        x, _, y = data(60, 0.05, seed)
        fit = LinearFit.fit(x[:40], y[:40])
        inside.append(np.abs(fit.predict(x[40:]) - y[40:]) <= fit.interval(x[40:]))
    assert 0.92 < np.mean(inside) < 0.98


def test_intervals_widen_outside():
    x, _, y = data(40, 0.05)
    fit = LinearFit.fit(x, y)
    near, far = x.mean(axis=0), np.array([1.0, 0, 5000, 0])
    widths = fit.interval(np.stack([near, far])) / fit.predict(np.stack([near, far]))
    assert widths[1] > 2 * widths[0]


def test_held_out_groups_are_not_seen():
    x, exact, _ = data(30, 0)
    groups = [at // 10 for at in range(30)]
    wrong = exact.copy()
    wrong[:10] *= 2                                                # group 0 is odd: nobody else says so
    predicted = held_out(x, wrong, groups)
    assert predicted[:10] == pytest.approx(exact[:10], rel=1e-4)
    assert not np.allclose(predicted[10:], exact[10:], rtol=0.05)
    assert leave_one_out(x, exact) == pytest.approx(exact, rel=1e-4)
    assert mean_and_worst(np.array([1.1, 2.0]), np.array([1.0, 2.5])) == pytest.approx((15, 20))


def test_unusable_data():
    with pytest.raises(BitkilnError, match="too few samples"):
        LinearFit.fit(np.ones((2, 3)), np.ones(2))
    with pytest.raises(BitkilnError, match="not a positive finite value"):
        LinearFit.fit(np.ones((3, 1)), np.array([1.0, 0.0, 2.0]))
