"""Energy of a dot unit from its description."""

import pytest

from bitkiln.models.cost.area.area import AreaEstimate
from bitkiln.models.cost.energy.dot_energy import dot_energy
from bitkiln.models.cost.energy.energy import energy_samples, sky130_model
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError


def test_equals_the_model_on_a_sample():
    """The same traces, drawn with another length: the same energy within their spread."""
    sample = next(sample for sample in energy_samples() if sample.pe == "int8" and sample.trace == "uniform x uniform")
    accumulator = Accumulator(bits=sample.structure.accumulator_bits)
    design = DotDesign.from_pe("int8", lanes=sample.lanes, pipeline=int(sample.pipeline), accumulator=accumulator)
    areas = sample.structure.logic_area, sample.structure.sequential_area
    found = dot_energy(design, "uniform", "uniform", areas=areas)
    assert found.energy == pytest.approx(sky130_model().predict(sample.structure, sample.activity).energy, rel=0.02)
    assert found == dot_energy(design, "uniform", "uniform", areas=areas)
    assert dot_energy(design, "relu", "gaussian@16", areas=areas).energy < 0.8 * found.energy


def test_areas_of_the_area_model(monkeypatch):
    design = DotDesign.from_pe("int8", lanes=1)
    estimate = AreaEstimate(4000.0, 3900, 4100, "um2", {"logic": 3400.0, "registers": 600.0}, {}, True, "made up")
    monkeypatch.setattr("bitkiln.models.cost.area.area.area_estimate", lambda *_: estimate)
    assert dot_energy(design) == dot_energy(design, areas=(3400.0, 600.0))
    nothing = AreaEstimate(None, None, None, "um2", {}, {}, False, "made up", "never fitted: decode")
    monkeypatch.setattr("bitkiln.models.cost.area.area.area_estimate", lambda *_: nothing)
    with pytest.raises(BitkilnError, match="no area model for this unit"):
        dot_energy(design)


def test_no_model_of_rounding_accumulators():
    with pytest.raises(BitkilnError, match="no activity model"):
        dot_energy(DotDesign.from_pe("bf16"), areas=(1.0, 1.0))
