"""Fitting a technology to a table of synthesis runs, and how wrong it is on runs that it has not seen.

Three errors are taken: on the designs of the table that are never fitted, on each pair of formats by a model that was
fitted without it, and, for the width of intervals, on tenths of the table left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...design import DotDesign
from .area import FPGA_WEIGHTS, Technology, for_metric, fpga_family, metrics_of
from .area_blocks import design_blocks
from .delay import fit_delay
from .fit import Block, LinearModel, fit_linear, relative_errors

__all__ = ["Run", "fit_technology", "measured", "measured_delay"]

FOLDS = 10
SEED = 7
CELL_FLOOR = 20.0        # designs of so few cells and less weigh alike


@dataclass(frozen=True)
class Run:
    """One synthesised design.

    Attributes
    ----------
    design : dataclass of models.design
    part : str
        ``pe``, ``array`` or ``core``.
    check : bool
        Never fitted.
    values : dict of str to float
        Metric -> measured.
    delay : float, optional
        [ps] of the slowest path between registers, where it was measured.
    """

    design: Any
    part: str
    check: bool
    values: Mapping[str, float]
    delay: float | None = None


def measured_delay(row: Mapping[str, Any]) -> float | None:
    """Delay [ps] of a table's row: of mapped gates, or a period that place and route reached; None without."""
    if row.get("delay"):
        return float(row["delay"])
    return 1e6 / float(row["fmax"]) if row.get("fmax") else None


def measured(row: Mapping[str, str], name: str) -> dict[str, float]:
    """Metrics of a table's row, as a technology's models take them."""
    if fpga_family(name):
        return {metric: float(row[metric] or 0) for metric in metrics_of(name)}
    registers = float(row["area_sequential"] or 0)
    return {"logic": float(row["area"]) - registers, "registers": registers}


class _Table:
    """Runs as rows of what the fits take."""

    def __init__(self, runs: Sequence[Run], weights: Mapping[str, float], metrics: Sequence[str], floor: float):
        self.runs, self.weights, self.metrics, self.floor = runs, weights, metrics, floor
        blocks = [design_blocks(run.design) for run in runs]
        self.blocks: dict[str, list[list[Block]]] = {
            metric: [for_metric(each, metric, metrics) for each in blocks] for metric in metrics}
        self.costs = {metric: np.array([run.values[metric] for run in runs]) for metric in metrics}
        self.total = sum((weights[metric] * self.costs[metric] for metric in weights), np.zeros(len(runs)))

    def fit(self, chosen: Sequence[int], metrics: Sequence[str]) -> dict[str, LinearModel]:
        return {metric: fit_linear([self.blocks[metric][i] for i in chosen], self.costs[metric][list(chosen)],
                                   self.floor) for metric in metrics}

    def predict(self, models: Mapping[str, LinearModel], metric: str, chosen: Sequence[int]) -> np.ndarray:
        found = [models[metric].predict(self.blocks[metric][i]) for i in chosen]
        return np.array([np.nan if each is None else each.value for each in found])

    def area(self, models: Mapping[str, LinearModel], chosen: Sequence[int]) -> np.ndarray:
        return sum((weight * self.predict(models, metric, chosen) for metric, weight in self.weights.items()),
                   np.zeros(len(chosen)))


def _errors(predicted: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    known = ~np.isnan(predicted)
    found = relative_errors(predicted[known], wanted[known])
    return {key: round(value, 5) for key, value in found.items()} | {"refused": int((~known).sum())}


def fit_technology(name: str, device: str, runs: Sequence[Run], provenance: Mapping[str, Any]) -> Technology:
    """Fit all metrics of a technology.

    Parameters
    ----------
    name : str
        ``ecp5``, ``sky130hd``, ``sky130hd+booth``, ...
    device : str
    runs : sequence of Run
    provenance : dict
        Kept with the result.
    """
    with _one_thread():
        return _fit(name, device, runs, provenance)


def _one_thread() -> AbstractContextManager:
    """Hundreds of small fits: threads of BLAS wait for each other longer than they work."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1)


def _fit(name: str, device: str, runs: Sequence[Run], provenance: Mapping[str, Any]) -> Technology:
    metrics = metrics_of(name)
    fpga = fpga_family(name)
    weights = FPGA_WEIGHTS[fpga] if fpga else {"logic": 1, "registers": 1}
    floor = CELL_FLOOR
    if not fpga:        # in the area of as many cells
        floor *= float(np.median([sum(run.values.values()) for run in runs if run.part == "pe"])) / 200
    table = _Table(runs, weights, metrics, floor)
    index = np.arange(len(runs))
    part, check = np.array([run.part for run in runs]), np.array([run.check for run in runs])
    models = table.fit(index[~check], metrics)
    errors: dict[str, Any] = {}
    for each in ("pe", "array", "core"):
        held = index[check & (part == each)]
        if len(held):
            errors[each] = {"held_out": _errors(table.area(models, held), table.total[held])} | {
                f"held_out_{metric}": _errors(table.predict(models, metric, held), table.costs[metric][held])
                for metric in metrics if (table.costs[metric][held] > 0).all()}
    pe = index[part == "pe"]
    new = _left_out(table, pe, np.array([getattr(run.design, "pe_name", "") for run in runs]), metrics)
    total = sum((weight * new[metric][pe] for metric, weight in weights.items()), np.zeros(len(pe)))
    errors.setdefault("pe", {})["format_left_out"] = _errors(total, table.total[pe])
    fold = np.random.default_rng(SEED).permutation(len(index)) % FOLDS
    folds = _left_out(table, index, fold, metrics)
    for metric in metrics:
        cost = table.costs[metric]
        models[metric] = replace(models[metric], error_known=_quantile(folds[metric], cost),
                                 error_new=max(_quantile(new[metric][pe], cost[pe]), _quantile(folds[metric], cost)))
    timed = [run for run in runs if run.delay is not None and isinstance(run.design, DotDesign)]
    delay = fit_delay([run.design for run in timed], [run.delay for run in timed], [run.check for run in timed])
    if delay is not None:
        errors["delay"] = delay[1]
    return Technology(name, device, "cells" if fpga else "um2", weights, models, errors, dict(provenance),
                      None if delay is None else delay[0])


def _quantile(predicted: np.ndarray, wanted: np.ndarray) -> float:
    known = ~np.isnan(predicted) & (wanted > 0)
    return relative_errors(predicted[known], wanted[known])["p95"]


def _left_out(table: _Table, chosen: np.ndarray, groups: np.ndarray, metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """Each of the chosen runs by a model fitted to those of them that are not in its group; NaN for all others.

    ``groups`` has the group of every run: its pair of formats, or the tenth of the table that it is in.
    """
    found = {metric: np.full(len(table.runs), np.nan) for metric in metrics}
    for group in np.unique(groups[chosen]):
        inside = groups[chosen] == group
        models = table.fit(chosen[~inside], metrics)
        for metric in metrics:
            found[metric][chosen[inside]] = table.predict(models, metric, chosen[inside])
    return found
