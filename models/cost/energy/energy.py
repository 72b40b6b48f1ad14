"""Energy of a dot unit without simulating its gates: structure times activity, fitted to gate-level energies.

``pJ per cycle = sum of coefficient * feature``; every feature is an amount of structure (cell area of logic or of
flip-flops, bits of lanes or accumulator) times how much of it is active. Activity comes from the golden arithmetic
(`dot_activity`), so operand statistics are an input. Fitted to relative errors over the table in
``tech/energy_sky130hd.csv`` (zero delay, before layout, no wires); the glitch band has coefficients of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ...design import DotDesign
from ...errors import BitkilnError, nearest
from .dot_activity import DotActivity
from .regression import LinearFit, held_out, mean_and_worst

__all__ = ["FEATURES", "DotStructure", "EnergyEstimate", "EnergyModel", "EnergySample", "energy_features",
           "energy_samples", "held_out_errors", "sky130_model"]

TABLE = Path(__file__).parents[1] / "tech" / "energy_sky130hd.csv"
RIDGE = 1e-3
TARGETS = ("energy", "energy_glitch")
GROUPS = ("design", "pe", "trace", "lanes", "pipeline")
FEATURES = (
    "sequential area", "sequential area x weight toggles", "accumulator transitions", "accumulator bits x non-zero",
    "accumulator bits x non-zero activation toggles", "lane sum transitions x lanes", "product bits x operand toggles",
    "product bits x sign transitions", "logic area x either operand's toggles",
    "logic area x activation toggles at non-zero weights", "logic area x lane sum toggles",
    "logic area x root of product toggles", "logic area x root of partial product toggles",
)


@dataclass(frozen=True)
class DotStructure:
    """What a dot unit is made of.

    Attributes
    ----------
    lanes, activation_bits, weight_bits, product_bits, accumulator_bits : int
    logic_area, sequential_area : float
        [um2] of gates and of flip-flops, in the library of the table.
    """

    lanes: int
    activation_bits: int
    weight_bits: int
    product_bits: int
    accumulator_bits: int
    logic_area: float
    sequential_area: float

    @classmethod
    def of(cls, design: DotDesign, logic_area: float, sequential_area: float) -> DotStructure:
        """Structure of a design whose areas [um2] were synthesised or estimated."""
        return cls(design.lanes, design.activation.bits, design.weight.bits, design.product_bits,
                   design.accumulator_bits, logic_area, sequential_area)


@dataclass(frozen=True)
class EnergySample:
    """A row of the table: one unit under one pair of traces.

    Attributes
    ----------
    part : str
        ``fit``, or ``check``: never fitted.
    design, pe, trace, pipeline : str
    structure : DotStructure
    activity : DotActivity
    energy, energy_glitch : float
        [pJ/cycle].
    """

    part: str
    design: str
    pe: str
    trace: str
    pipeline: str
    structure: DotStructure
    activity: DotActivity
    energy: float
    energy_glitch: float

    @property
    def lanes(self) -> int:
        return self.structure.lanes


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy [pJ/cycle] with its interval of 95 %, and the mean of the glitch band's upper end.

    Attributes
    ----------
    energy, low, high : float
        Zero delay.
    energy_glitch, glitch_low, glitch_high : float
        All unit-delay transitions.
    """

    energy: float
    low: float
    high: float
    energy_glitch: float
    glitch_low: float
    glitch_high: float


def energy_features(structure: DotStructure, activity: DotActivity) -> np.ndarray:
    """The features (13,) of a unit, in the order of ``FEATURES``.

    Fields may also be arrays of one shape (...,): the features are then (..., 13).
    """
    s, a = structure, activity
    either = 1 - (1 - np.asarray(a.activation)) * (1 - np.asarray(a.weight))
    product_bits = s.lanes * s.product_bits
    product_rate = a.product / (s.lanes * (s.product_bits + 1))
    sum_rate = a.lane_sum / (s.product_bits + np.ceil(np.log2(s.lanes)) + 1)
    partial_rate = a.partial_products / (s.lanes * s.activation_bits * s.weight_bits)
    busy = (1 - np.asarray(a.activation_zeros)) * a.activation
    parts = (
        s.sequential_area, s.sequential_area * a.weight, a.accumulator, s.accumulator_bits * a.nonzero,
        s.accumulator_bits * busy, product_bits * sum_rate, product_bits * np.sqrt(a.activation * a.weight),
        s.product_bits * a.sign, s.logic_area * either, s.logic_area * (1 - np.asarray(a.weight_zeros)) * a.activation,
        s.logic_area * sum_rate, s.logic_area * np.sqrt(product_rate), s.logic_area * np.sqrt(partial_rate),
    )
    return np.stack(np.broadcast_arrays(*(np.asarray(part, float) for part in parts)), axis=-1)


@cache
def energy_samples(path: Path = TABLE) -> tuple[EnergySample, ...]:
    """Rows of a table as `flow.energy_samples` writes it.

    Raises
    ------
    BitkilnError
        A file without the columns.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    structure = [name for name in DotStructure.__dataclass_fields__ if not name.endswith("_area")]
    samples = []
    for number, row in enumerate(csv.DictReader(lines), 1):
        try:
            sequential = float(row["area_sequential"])
            samples.append(EnergySample(
                row["part"], row["design"], row["pe"], f"{row['activation_trace']} x {row['weight_trace']}",
                row["pipeline"], DotStructure(**{name: int(row[name]) for name in structure},
                                              logic_area=float(row["area"]) - sequential, sequential_area=sequential),
                DotActivity(**{name: float(row[f"{name}_activity"]) for name in DotActivity.__dataclass_fields__}),
                float(row["energy"]), float(row["energy_glitch"])))
        except (KeyError, TypeError, ValueError) as error:
            raise BitkilnError("damaged energy table", where=f"{path.name} row {number}", got=str(error),
                               expected="the columns of flow.energy_samples") from None
    return tuple(samples)


def _matrix(samples: Iterable[EnergySample]) -> np.ndarray:
    return np.stack([energy_features(sample.structure, sample.activity) for sample in samples])


@dataclass(frozen=True)
class EnergyModel:
    """Coefficients of the features, for zero delay and for the glitch band."""

    energy: LinearFit
    energy_glitch: LinearFit

    @classmethod
    def fit(cls, samples: Sequence[EnergySample], ridge: float = RIDGE) -> EnergyModel:
        """Fit to samples, those of part ``check`` left out."""
        fitted = [sample for sample in samples if sample.part == "fit"]
        if not fitted:
            raise BitkilnError("no samples to fit", where="energy model", expected="rows of part fit")
        x = _matrix(fitted)
        return cls(*(LinearFit.fit(x, np.array([getattr(sample, target) for sample in fitted]), ridge)
                     for target in TARGETS))

    def predict(self, structure: DotStructure, activity: DotActivity) -> EnergyEstimate:
        """Energy of one unit; intervals widen away from what was fitted, and end at 0."""
        x = energy_features(structure, activity)[None]
        found = []
        for fit in (self.energy, self.energy_glitch):
            value, half = float(fit.predict(x)[0]), float(fit.interval(x)[0])
            found += [max(value, 0.0), max(value - half, 0.0), max(value, 0.0) + half]
        return EnergyEstimate(*found)

    def errors(self, samples: Sequence[EnergySample], target: str = "energy") -> tuple[float, float]:
        """Mean and worst error [%] on samples."""
        return mean_and_worst(getattr(self, target).predict(_matrix(samples)),
                              np.array([getattr(sample, target) for sample in samples]))


@cache
def sky130_model() -> EnergyModel:
    """The model of the table that comes with the project."""
    return EnergyModel.fit(energy_samples())


def held_out_errors(samples: Sequence[EnergySample], by: str = "design", target: str = "energy",
                    ridge: float = RIDGE) -> tuple[float, float]:
    """Mean and worst error [%] where each group is predicted by a fit that has not seen it.

    Parameters
    ----------
    samples : sequence of EnergySample
    by : str
        What is held out together: ``design`` (a configuration), ``pe`` (all units of a pair of formats), ``trace``
        (operand statistics), ``lanes`` or ``pipeline``.
    target : str
        ``energy`` or ``energy_glitch``.
    """
    for value, known, where in ((by, GROUPS, "by"), (target, TARGETS, "target")):
        if value not in known:
            raise BitkilnError("unknown choice", where=where, got=value, expected=" or ".join(known),
                               help=nearest(value, known))
    y = np.array([getattr(sample, target) for sample in samples])
    return mean_and_worst(held_out(_matrix(samples), y, [getattr(sample, by) for sample in samples], ridge), y)
