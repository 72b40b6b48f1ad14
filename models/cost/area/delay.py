"""Delay and clock of a design before synthesis: the slowest of its paths, each a sum of the components on it.

    delay = max over paths of (sum over counts of amount * coefficient) * (1 + deviations of the kinds)

Which path is the slowest is not measured, only the delay is: fitting takes the slowest ones of the model so far as
given, fits their coefficients (`fit`), and asks again until they stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .delay_paths import Path, design_paths
from .fit import LinearModel, Prediction, fit_linear, relative_errors

__all__ = ["DelayEstimate", "critical_path", "delay_errors", "delay_estimate", "fit_delay"]

ROUNDS = 8
FOLDS = 10
SEED = 11
LEAST_RUNS = 30         # fewer are not fitted
PARTIAL = 1.5           # intervals are so many times as wide where parts of a design are left out


@dataclass(frozen=True)
class DelayEstimate:
    """Delay of one design in one technology.

    Attributes
    ----------
    value, low, high : float or None
        [ps]; None where the model has no such path (``note`` says why).
    path : str
        Components on the slowest path.
    known : bool
        Of kinds that were fitted.
    source, note : str
    """

    value: float | None
    low: float | None
    high: float | None
    path: str
    known: bool
    source: str
    note: str = ""

    @property
    def fmax(self) -> tuple[float | None, float | None, float | None]:
        """Clock [MHz] with its interval."""
        if self.value is None or self.low is None or self.high is None:
            return None, None, None
        return 1e6 / self.value, 1e6 / self.high, 1e6 / self.low if self.low else None


def critical_path(model: LinearModel, paths: Sequence[Path]) -> tuple[Path, Prediction] | None:
    """The slowest of the paths; None where one of them has a part that no fitted design had."""
    found = [(path, model.predict([path.block])) for path in paths]
    if not found or any(each is None for _, each in found):
        return None
    return max(((path, each) for path, each in found if each is not None), key=lambda one: one[1].value)


def delay_estimate(design: object, model: LinearModel | None, source: str = "model") -> DelayEstimate:
    """Delay of a design.

    Parameters
    ----------
    design : dataclass of models.design
    model : LinearModel or None
        Of a technology (``Technology.delay``).
    source : str
        Where the model is from.
    """
    if model is None:
        return DelayEstimate(None, None, None, "", False, source, "no delays were fitted for this technology")
    paths, left_out = design_paths(design)
    if not paths:
        return DelayEstimate(None, None, None, "", False, source, left_out)
    found = critical_path(model, paths)
    if found is None:
        missing = sorted({count for path in paths for count in model.unknown([path.block])})
        return DelayEstimate(None, None, None, "", False, source, f"never fitted: {', '.join(missing[:3])}")
    path, each = found
    wide = PARTIAL if left_out else 1.0
    low, high = max(each.value - wide * (each.value - each.low), 0.0), each.value + wide * (each.high - each.value)
    notes = [left_out, "" if each.known else "a kind or a size that was not fitted"]
    return DelayEstimate(each.value, low, high, path.name, each.known, source, "; ".join(filter(None, notes)))


Designs = Sequence[Sequence[Path]]


def _longest(paths: Sequence[Path]) -> Path:
    """Before anything is fitted: the path with the most components' levels."""
    return max(paths, key=lambda path: sum(path.block.counts.values()))


def _last(paths: Sequence[Path]) -> Path:
    """Before anything is fitted: the rounding behind the accumulator where there is one, the slowest on FPGAs."""
    return next((path for path in paths if path.name == "encode"), _longest(paths))


def _settled(designs: Designs, delays: np.ndarray, chosen: list[Path]) -> tuple[float, LinearModel]:
    """Fit to given paths, take the slowest ones instead, and so on; the round with the smallest mean error."""
    everything = sorted({count for paths in designs for path in paths for count in path.block.counts})
    best: tuple[float, LinearModel] | None = None
    for _ in range(ROUNDS):
        model = fit_linear([[path.block] for path in chosen], delays.tolist(), float(np.median(delays)) / 10)
        # Counts that are on no slow path cost nothing that could be seen.
        model = replace(model, coefficients={name: model.coefficients.get(name, 0.0) for name in everything})
        error = float(np.mean(np.abs(_predicted(model, designs) / delays - 1)))
        if best is None or error < best[0]:
            best = error, model
        following = _slowest(model, designs)
        if following == chosen:
            break
        chosen = following
    assert best is not None
    return best


def _slowest(model: LinearModel, designs: Designs) -> list[Path]:
    found = [critical_path(model, paths) for paths in designs]
    return [one[0] if one is not None else _longest(paths) for one, paths in zip(found, designs, strict=True)]


def _predicted(model: LinearModel, designs: Designs) -> np.ndarray:
    found = [critical_path(model, paths) for paths in designs]
    return np.array([np.nan if one is None else one[1].value for one in found])


def delay_errors(predicted: np.ndarray, delays: np.ndarray) -> dict[str, Any]:
    """Relative errors, designs without a prediction counted apart."""
    known = ~np.isnan(predicted)
    found = relative_errors(predicted[known], delays[known])
    return {key: round(value, 5) for key, value in found.items()} | {"refused": int((~known).sum())}


def fit_delay(designs: Sequence[object], delays: Sequence[float], check: Sequence[bool]
              ) -> tuple[LinearModel, dict[str, Any]] | None:
    """Fit delays of dot units.

    Parameters
    ----------
    designs : sequence of DotDesign
    delays : sequence of float
        [ps].
    check : sequence of bool
        Designs that are never fitted.

    Returns
    -------
    LinearModel, dict
        Coefficients [ps], and relative errors: on the designs that were held back, with each pair of formats left out
        in turn, and with tenths of the table left out in turn. None with fewer than 30 runs.

    Raises
    ------
    BitkilnError
        Exit code 3 without SciPy.
    """
    wanted, held = np.asarray(delays, np.float64), np.asarray(check, bool)
    if (~held).sum() < LEAST_RUNS:
        return None
    paths = [design_paths(design)[0] for design in designs]

    def left_out(groups: Sequence[object]) -> np.ndarray:
        found = np.full(len(wanted), np.nan)
        names = np.array([str(group) for group in groups])
        for name in dict.fromkeys(names.tolist()):
            mine = names == name
            others = [paths[i] for i in np.flatnonzero(~mine)]
            _, model = _settled(others, wanted[~mine], _slowest(whole, others))
            found[mine] = _predicted(model, [paths[i] for i in np.flatnonzero(mine)])
        return found

    fitted = [paths[i] for i in np.flatnonzero(~held)]
    # Where the rounds end depends on where they start: the better of two.
    starts = [[start(each) for each in fitted] for start in (_longest, _last)]
    if starts[0] == starts[1]:
        starts.pop()
    _, whole = min((_settled(fitted, wanted[~held], start) for start in starts), key=lambda found: found[0])
    pairs = left_out([getattr(design, "pe_name", "") for design in designs])
    folds = left_out(np.random.default_rng(SEED).permutation(len(wanted)) % FOLDS)
    errors = {"format_left_out": delay_errors(pairs, wanted), "tenth_left_out": delay_errors(folds, wanted)}
    if held.any():
        errors = {"held_out": delay_errors(_predicted(whole, [paths[i] for i in np.flatnonzero(held)]),
                                           wanted[held])} | errors
    known, new = errors["tenth_left_out"]["p95"], errors["format_left_out"]["p95"]
    return replace(whole, error_known=known, error_new=max(known, new)), errors
