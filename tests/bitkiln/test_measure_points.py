"""Measured areas and cycles of a sweep's points."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bitkiln.config_sweep import load_space
from bitkiln.flow.measure_points import DIFFERS, _cycles, area_task, check_liberty, cycles_task, measure_rows
from bitkiln.flow.sweep import executor, run_sweep
from bitkiln.models.cost.area.area import technology
from bitkiln.models.cost.mapping import core_jobs, map_layer
from bitkiln.models.design import ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes_files import workload_from_dict
from bitkiln.sim.layer_cycles import layer_cycles
from bitkiln.store import Store

SPACE = """\
schema_version: 1
name: tiny
spaces:
  - engine: dot_unit
    base: {lanes: 2}
    grid: {pe: [int4, fp4]}
  - engine: matmul_array
    base: {array.rows: 1, array.columns: 2}
    grid: {modes: [[int4]]}
workload: {name: two, layers: [{name: one, m: 3, k: 7, n: 5}, {name: two, m: 2, k: 4, n: 2, count: 3}]}
accuracy: []
technology: ecp5
axes: [[cycles, utilisation]]
"""


def layers(*shapes: tuple[int, int, int, int]):
    given = [{"name": f"l{at}", "m": m, "k": k, "n": n, "count": count} for at, (m, k, n, count) in enumerate(shapes)]
    return workload_from_dict({"name": "made up", "layers": given}).layers


def refuse():
    raise AssertionError("everything is in the store")


@pytest.mark.slow
def test_points_are_measured_once(tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(SPACE)
    space, keep = load_space(tmp_path / "tiny.yaml"), Store(tmp_path / "store.sqlite")
    rows = run_sweep(space, keep=keep, jobs=1)["points"]
    measure_rows(rows, space.points, space, (), keep, lambda: executor(2), lambda *_: None)
    for row in rows:
        area, cycles = row["measured"]["area"], row["measured"]["cycles"]
        assert area["value"] > 0 and "yosys" in area["source"] and area["unit"] == "cells"
        assert cycles["value"] == row["metrics"]["cycles"]["value"] and "verilator" in cycles["source"]
        assert DIFFERS not in cycles["source"]
    first = [row["measured"] for row in rows]
    for row in rows:
        row["measured"] = {}
    measure_rows(rows, space.points, space, (), keep, refuse, lambda *_: None)
    assert [row["measured"] for row in rows] == first


def row_of(cycles: int, memory: int = 0) -> dict:
    stalls = {"memory": memory} if memory else {}
    return {"layers": [{"name": "one", "cycles": cycles, "stalls": stalls},
                       {"name": "two", "cycles": 10, "stalls": {}}]}


def found_of(*cycles: int | None) -> dict:
    return {"layers": [{"cycles": each, "note": "simulated"} for each in cycles], "tools": {"verilator": "5"}}


def test_cycles_that_differ_are_shown():
    assert _cycles(found_of(100, 10), row_of(100))["value"] == 110
    assert DIFFERS not in _cycles(found_of(100, 10), row_of(100))["source"]
    # Errors of two layers do not hide each other.
    wrong = _cycles(found_of(101, 9), row_of(100))
    assert wrong["value"] == 110 and DIFFERS in wrong["source"]
    assert "one 101 for 100" in wrong["source"] and "two 9 for 10" in wrong["source"]


def test_layers_that_wait_for_memory():
    waits = _cycles(found_of(60, 10), row_of(100, memory=40))
    assert waits["value"] == 110 and DIFFERS not in waits["source"] and "memory" in waits["source"]
    assert DIFFERS in _cycles(found_of(61, 10), row_of(100, memory=40))["source"]


def test_what_was_not_simulated_is_null():
    missing = _cycles(found_of(60, None), row_of(60))
    assert missing["value"] is None and "two" in missing["source"]
    assert _cycles({"failed": "no tool"}, row_of(60))["value"] is None


def test_standard_cells_need_their_library(tmp_path: Path):
    asic = replace(technology("ecp5"), name="tiny", device="tiny_cells")
    check_liberty(technology("ecp5"), ())
    with pytest.raises(BitkilnError, match="--liberty"):
        check_liberty(asic, ())
    other = tmp_path / "other.lib"
    other.write_text("library (other_cells) { }")
    with pytest.raises(BitkilnError, match="tiny_cells"):
        check_liberty(asic, (other,))
    other.write_text("library (tiny_cells) { }")
    check_liberty(asic, (other,))


@pytest.mark.slow
def test_dot_unit_layers_on_the_rtl():
    """Whole layers and layers of which some dot products are simulated: both as the model has them."""
    design = DotDesign.from_pe("int4", lanes=2, pipeline=1)
    chosen = layers((3, 7, 5, 1), (20, 6, 40, 2), (3, 7, 5, 1), (1, 4000, 9, 1))
    found = layer_cycles(design, [(layer, "int4") for layer in chosen], limit=400)
    for layer, each in zip(chosen[:3], found[:3], strict=True):
        assert each.cycles == map_layer(design, layer).cycles
    assert "all 15" in found[0].note and "100 of 800" in found[1].note
    assert found[3].cycles is None and "too long" in found[3].note
    assert layer_cycles(DequantDesign(BitSerialDesign(("int6",))), [(chosen[0], "int4")])[0].cycles is None


MODES = MorphableDesign(("int4", "fp4"), pipeline=1)


@pytest.mark.slow
@pytest.mark.parametrize("design,mode", [
    (MODES, "int4"), (ArrayDesign(1, 2, MODES), "fp4"), (ArrayDesign(3, 2, MODES, links="systolic"), "int4"),
    (ArrayDesign(2, 3, MorphableDesign(("uint4",), pipeline=2)), "uint4"),
    (ArrayDesign(2, 2, MorphableDesign(("int4",)), dataflow="weight"), "int4"),
    (BitSerialDesign(("bitmod4", "int6"), columns=2, rows=2, group=16), "bitmod4"),
    (BitSerialDesign(("int6", "int8"), columns=2, rows=3, group=16, accumulate="aligned"), "int8")],
    ids=["pe", "array", "systolic", "unsigned", "weight", "bitserial", "groups"])
def test_layers_of_other_engines_on_the_rtl(design, mode: str):
    """Whole layers, and layers of which some is simulated."""
    chosen = layers((3, 7, 5, 1), (20, 40, 30, 2), (1, 1, 1, 1), (9, 33, 4, 1))
    found = layer_cycles(design, [(layer, mode) for layer in chosen], limit=600)
    assert [each.cycles for each in found] == [map_layer(design, layer, mode).cycles for layer in chosen]
    assert isinstance(design, ArrayDesign) and design.dataflow == "weight" or " of " in found[1].note
    long = layer_cycles(design, [(layers((2, 4000, 2, 1))[0], mode)], limit=100)[0]
    assert long.cycles is None and "too long" in long.note


@pytest.mark.slow
def test_core_layers_on_the_rtl():
    """Also sums that go over several jobs."""
    design = MatmulDesign(ArrayDesign(1, 2, MorphableDesign(("int4",))), k_words=16, bus_bits=32, accumulate=True,
                          rules=("raw",))
    longest = design.max_k("int4")
    chosen = layers((5, 7, 3, 1), (3, 2 * longest + 5, 4, 2))
    assert len(core_jobs(design, chosen[1], "int4")) == 3
    for layer, each in zip(chosen, layer_cycles(design, [(layer, "int4") for layer in chosen]), strict=True):
        assert each.cycles == map_layer(design, layer).cycles
    assert layer_cycles(design, [(chosen[0], "int4")], limit=10)[0].cycles is None


def test_tasks_travel_to_other_processes(tmp_path: Path):
    """With a space among their arguments, as workers get them."""
    (tmp_path / "tiny.yaml").write_text(SPACE)
    space = load_space(tmp_path / "tiny.yaml")
    for task in (area_task, cycles_task):
        assert pickle.loads(pickle.dumps(partial(task, space=space))).keywords["space"].points == space.points
