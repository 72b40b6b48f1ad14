"""The energy model on the table that comes with the project."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitkiln.models.cost.energy.energy import (
    FEATURES,
    EnergyModel,
    energy_features,
    energy_samples,
    held_out_errors,
    sky130_model,
)
from bitkiln.models.errors import BitkilnError

FIT = [sample for sample in energy_samples() if sample.part == "fit"]
CHECK = [sample for sample in energy_samples() if sample.part == "check"]


def test_table():
    assert len({sample.design for sample in FIT}) >= 40 and len({sample.trace for sample in FIT}) >= 5
    assert not {sample.design for sample in FIT} & {sample.design for sample in CHECK}
    assert not {sample.trace for sample in FIT} & {sample.trace for sample in CHECK}
    for sample in energy_samples():
        assert 0 < sample.energy < sample.energy_glitch < 10 * sample.energy


def test_targets_are_held():
    """Never seen: a configuration, operand statistics, and the samples that no choice of features has seen."""
    assert held_out_errors(FIT, "design")[0] <= 5
    assert held_out_errors(FIT, "trace")[0] <= 10
    assert held_out_errors(FIT, "pe")[0] <= 10
    assert sky130_model().errors(CHECK)[0] <= 10


def test_intervals_hold_on_unseen_samples():
    model = sky130_model()
    inside = [estimate.low <= sample.energy <= estimate.high for sample in CHECK
              for estimate in [model.predict(sample.structure, sample.activity)]]
    assert np.mean(inside) >= 0.8
    sample = CHECK[0]
    near = model.predict(sample.structure, sample.activity)
    huge = model.predict(replace(sample.structure, logic_area=sample.structure.logic_area * 100), sample.activity)
    assert (huge.high - huge.low) / huge.energy > (near.high - near.low) / near.energy
    assert near.energy < near.energy_glitch


def test_check_samples_are_never_fitted():
    changed = [sample if sample.part == "fit" else replace(sample, energy=sample.energy * 9)
               for sample in energy_samples()]
    assert np.array_equal(EnergyModel.fit(changed).energy.coefficients, sky130_model().energy.coefficients)


def test_activity_is_an_input():
    """The same unit under less active operands takes less."""
    by_design: dict[str, dict[str, float]] = {}
    for sample in FIT:
        predicted = sky130_model().predict(sample.structure, sample.activity)
        by_design.setdefault(sample.design, {})[sample.trace] = predicted.energy
    for design, found in by_design.items():
        assert found["relu x gaussian@16"] < found["uniform x uniform"], design


def test_features_of_many_units_at_once():
    found = energy_features(FIT[0].structure, FIT[0].activity)
    assert found.shape == (len(FEATURES),) and (found >= 0).all()
    pair = [replace(FIT[0].structure, logic_area=np.array([1000.0, 2000.0])), FIT[0].activity]
    both = energy_features(*pair)
    assert both.shape == (2, len(FEATURES))
    assert np.array_equal(both[1], energy_features(replace(FIT[0].structure, logic_area=2000.0), FIT[0].activity))


def test_errors(tmp_path):
    with pytest.raises(BitkilnError, match="unknown choice at by: got 'format'"):
        held_out_errors(FIT, "format")
    with pytest.raises(BitkilnError, match="no samples to fit"):
        EnergyModel.fit(CHECK)
    path = tmp_path / "energy.csv"
    path.write_text("part,design\nfit,x\n")
    with pytest.raises(BitkilnError, match="damaged energy table at energy.csv row 1"):
        energy_samples(path)


@pytest.mark.slow
def test_a_row_of_the_table_is_measured_again():
    from bitkiln.flow.energy_samples import CHECK_TRACES, check_designs, sample_energies

    liberty = Path(os.environ.get("BITKILN_DATA", "")) / "liberty" / "sky130hd_tt.lib.gz"
    if not os.environ.get("BITKILN_DATA") or not liberty.exists():
        pytest.skip("no sky130hd_tt.lib.gz in $BITKILN_DATA/liberty")
    row, = sample_energies([liberty], check_designs()[:1], traces=CHECK_TRACES[:1])
    known = next(sample for sample in CHECK if sample.design == row["design"] and sample.trace ==
                 f"{row['activation_trace']} x {row['weight_trace']}")
    assert row["energy"] == pytest.approx(known.energy, rel=1e-3)
