# amaranth: UnusedElaboratable=no
"""Mutation runs of components of streams: good checks kill, weak ones are seen to be weak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.sim.mutate import TARGET
from bitkiln.sim.mutate_spconv import spconv_units
from bitkiln.sim.mutate_streams import Chosen, StreamUnit, mutate_stream_unit, mutate_stream_units
from bitkiln.sim.octree_check import odd_voxels, pack_voxels
from bitkiln.sim.toolchain import find

pytestmark = pytest.mark.skipif(find("yosys") is None, reason="no Yosys: pip install 'bitkiln[test]'")
KIND = "voxel encoder"


@pytest.fixture(scope="module")
def unit() -> StreamUnit:
    return next(each for each in spconv_units() if each.kind == KIND)


@pytest.mark.slow
def test_the_checks_of_a_unit_kill_its_mutants(unit: StreamUnit) -> None:
    result = mutate_stream_unit(unit, count=25, seed=4)
    assert result.relevant >= 20 and result.rate >= TARGET and result.unit == "spconv"
    assert result.killed + result.equivalent + len(result.survivors) == result.tried <= result.candidates


@pytest.mark.slow
def test_a_check_of_few_voxels_is_seen_to_be_weak(unit: StreamUnit, monkeypatch) -> None:
    monkeypatch.setattr("bitkiln.sim.mutants.SAT_SECONDS", 0.01)
    design = unit.bench.design
    inputs = {"shape_x": 8, "shape_y": 8, "shape_z": 8, "batches": 2, "clear": 0}

    def moves(model: Chosen) -> None:
        model.run({"i": pack_voxels(odd_voxels(design, 4, 1))}, {"o": 8}, held=inputs).check()

    result = mutate_stream_unit(replace(unit, checks=(moves,)), count=25, seed=4)
    assert result.rate < 0.5 and all("undecided" in survivor.reason for survivor in result.survivors)


def test_a_unit_that_fails_its_own_check_is_no_start(unit: StreamUnit) -> None:
    def fails(model: Chosen) -> None:
        raise BitkilnError("differs", where="test")

    with pytest.raises(BitkilnError, match="differs"):
        mutate_stream_unit(replace(unit, checks=(fails,)), count=2)


def test_units_have_different_kinds() -> None:
    kinds = [unit.kind for unit in spconv_units()]
    assert len(set(kinds)) == len(kinds) >= 15
    with pytest.raises(BitkilnError, match="unknown kind"):
        mutate_stream_units("spconv", ["abacus"])
