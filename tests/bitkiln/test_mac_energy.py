"""Energy of a product in estimates: model, cited table, or null with the reason."""

import numpy as np
import pytest

from bitkiln.flow import energy
from bitkiln.flow.energy import CYCLES, STREAMS, TRACE, mac_energy
from bitkiln.models.cost.area.area import Technology, area_estimate
from bitkiln.models.cost.area.area_features import unit_blocks
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.cost.energy.dot_energy import dot_energy
from bitkiln.models.cost.estimate import estimate
from bitkiln.models.design import ArrayDesign, DotDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes_registry import get_workload


@pytest.fixture
def sky130(monkeypatch) -> Technology:
    """A technology of made-up areas under the names that have energies."""
    random = np.random.default_rng(0)
    units = [DotDesign.from_pe(pair, lanes=lanes) for pair in ("int8", "int4", "fp4") for lanes in (1, 2, 4)]
    names = sorted({name for unit in units for block in unit_blocks(unit) for name in block.counts})
    model = LinearModel({name: float(random.uniform(5, 30)) for name in names}, error_known=0.1, error_new=0.1)
    tech = Technology("sky130hd", "none", "um2", {"logic": 1, "registers": 1},
                      {"logic": model, "registers": model}, {}, {})
    monkeypatch.setattr(energy, "technology_names", lambda: ["sky130hd", "sky130hd+booth"])
    monkeypatch.setattr(energy, "technology", lambda name: tech)
    energy._unit_energy.cache_clear()
    yield tech
    energy._unit_energy.cache_clear()


def test_model_of_a_unit(sky130):
    unit = DotDesign.from_pe("int8", lanes=4)
    found = mac_energy(unit, "sky130hd")["int8"]
    area = area_estimate(unit, sky130)
    whole = dot_energy(unit, TRACE, TRACE, areas=(area.metrics["logic"], area.metrics["registers"]), cycles=CYCLES,
                       streams=STREAMS)
    assert found.value == pytest.approx(whole.energy / 4)
    assert found.kind == "model" and TRACE in found.source
    # The interval holds the energy model's error and the area model's.
    assert found.high - found.value > (whole.high - whole.energy) / 4
    booth = mac_energy(unit, "sky130hd+booth")["int8"]
    assert booth.high - booth.value == pytest.approx(1.5 * (found.high - found.value))
    assert "plain multipliers" in booth.source
    quiet = mac_energy(unit, "sky130hd", trace="sparse(0.9)")["int8"]
    assert quiet.value < found.value and "sparse(0.9)" in quiet.source


def test_modes_of_pes_and_arrays(sky130):
    pe = MorphableDesign(("int8", "int4"), implementation="parallel")
    alone = mac_energy(pe.dot("int8"), "sky130hd")["int8"]
    for design in (pe, ArrayDesign(2, 2, pe)):
        found = mac_energy(design, "sky130hd")
        assert set(found) == {"int8", "int4"}
        assert found["int8"].value == pytest.approx(alone.value) and found["int4"].value < found["int8"].value
        assert "lanes only" in found["int8"].source
        assert found["int8"].high - alone.value == pytest.approx(1.5 * (alone.high - alone.value))


def test_an_estimate_adds_the_modes_up(sky130):
    pe, workload = MorphableDesign(("int8", "int4"), implementation="parallel"), get_workload("digits-cnn")
    each = mac_energy(pe, "sky130hd")
    found = estimate(pe, workload, assignment={"default": "int4", "first": "int8"}, mac_energy=each)
    first, rest = workload.layers[0].macs, sum(layer.macs for layer in workload.layers[1:])
    for field in ("value", "low", "high"):
        expected = first * getattr(each["int8"], field) + rest * getattr(each["int4"], field)
        assert getattr(found.energy["arithmetic"], field) == pytest.approx(expected)
        assert getattr(found.energy["total"], field) == pytest.approx(expected)


def test_without_a_model_it_is_null_with_the_reason(sky130, monkeypatch):
    int8, wide = DotDesign.from_pe("int8"), DotDesign.from_pe("fp16")
    assert "ecp5" in mac_energy(int8, "ecp5")["int8"].source
    assert mac_energy(wide, "sky130hd")["fp16"].value is None and mac_energy(wide, "sky130hd")["fp16"].source
    assert mac_energy(int8, "ecp5", "none") == {}
    monkeypatch.setattr(energy, "technology_names", lambda: ["ecp5"])
    missing = mac_energy(int8, "sky130hd")["int8"]
    assert missing.value is None and "calibrate" in missing.source
    found = estimate(int8, get_workload("digits-cnn"), mac_energy=mac_energy(int8, "ecp5"))
    assert found.energy["total"].value is None and "ecp5" in found.energy["total"].source


def test_the_cited_table_only_where_asked(sky130):
    int8 = mac_energy(DotDesign.from_pe("int8"), "ecp5", "literature")["int8"]
    assert int8.value == pytest.approx(0.3) and int8.kind == "literature" and "Horowitz" in int8.source
    assert mac_energy(DotDesign.from_pe("fp16"), "", "literature")["fp16"].value == pytest.approx(2.0)
    none = mac_energy(DotDesign.from_pe("fp4"), "ecp5", "literature")["fp4"]
    assert none.value is None and "not in the table" in none.source
    # What the model knows stays the model's.
    assert mac_energy(DotDesign.from_pe("int8"), "sky130hd", "literature")["int8"].kind == "model"


@pytest.mark.parametrize("wrong", [{"source": "guess"}, {"trace": "noise"}])
def test_wrong_choices_are_refused(sky130, wrong):
    with pytest.raises(BitkilnError):
        mac_energy(DotDesign.from_pe("int8"), "sky130hd", **wrong)
