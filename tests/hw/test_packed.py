"""Packed PEs: every mode is the dot unit of that mode, through the same two multipliers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.hw.mac.packed import PackedPlan
from bitkiln.models.design import Accumulator
from bitkiln.models.design.morphable import PACKED_MODES, MorphableDesign
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.pe_check import check_pe
from bitkiln.sim.toggles import count_toggles

SEED = 53
EDGE_MODES = ("fp4", "int4", "int8", "fp8_e4m3")
# With and without lanes that share a multiplier, exponents, and weights narrower than activations.
SUBSETS = (("fp4",), ("int4",), ("int8",), ("fp8_e4m3",), ("int4", "fp8_e4m3"), ("int4", "int8xfp4"),
           ("fp4", "fp8_e4m3"), ("int8xint4", "int8xfp4"), PACKED_MODES)


def packed(modes=EDGE_MODES, kind: str = "exact", overflow: str = "wrap", **options) -> MorphableDesign:
    return MorphableDesign(tuple(modes), Accumulator(kind, overflow=overflow), implementation="packed", **options)


def test_all_pairs_of_all_lanes() -> None:
    result = check_pe(packed(), seed=SEED)
    result.raise_on_mismatch()
    assert result.exhaustive and result.pairs > 2 * 2 * 65536 + 2 * 4 * 256


def test_integer_accumulator_and_asymmetric_modes() -> None:
    pe = packed(("int8xint4", "int4", "int8"), "int32", "saturate", pipeline=3)
    check_pe(pe, seed=SEED, pairs=4000, drain=True).raise_on_mismatch()


def test_the_check_sees_a_wrong_mode() -> None:
    """Among them two that differ only in their table and two that differ in the cut of the field."""
    for other in (("int4", "fp4", "int8", "fp8_e4m3"), ("int8", "int4", "fp4", "fp8_e4m3")):
        result = check_pe(packed(), seed=SEED, pairs=500, model=BatchModel(MorphablePe(packed(other))))
        assert result.mismatches > 500 and result.first


@pytest.mark.parametrize("modes, place, operand", [(EDGE_MODES, 10, 15), (("int4",), 9, 14), (("int8",), 0, 8)],
                         ids=lambda value: "-".join(value) if isinstance(value, tuple) else None)
def test_operands_fit_a_dsp_block(modes: tuple[str, ...], place: int, operand: int) -> None:
    """Two E2M1 lanes: |a0 w0 + a1 w1| <= 288 units is 10 bits, their operands 5 bits above that."""
    plan = PackedPlan(packed(modes))
    assert plan.place == place and plan.operand_bits("activation") == operand
    text = to_verilog(MorphablePe(packed(modes)))
    assert len(set(re.findall(r"^module (multiply_\w+)\(", text, re.M))) == 1
    assert ("align_" in text) == (modes == EDGE_MODES)


def test_decoders_of_other_modes_do_not_move() -> None:
    pe, cycles, rng = packed(), 200, np.random.default_rng(SEED)
    for index, mode in enumerate(pe.modes):
        toggles = count_toggles(MorphablePe(pe), {"a": rng.integers(0, 1 << 16, cycles), "mode": index, "clear": 0,
                                                  "w": rng.integers(0, 1 << 16, cycles), "en": 1}, skip=pe.latency)
        own = {"fp4": "units_fp4_", "fp8_e4m3": "decode_fp8_e4m3_"}
        for name, block in own.items():
            inside = [count for signal, count in toggles.items() if f".{block}" in signal]
            assert len(inside) > 8 and (sum(inside) > 100) == (mode.name == name)
        multipliers = [count for signal, count in toggles.items() if re.search(r"\.multiply[01]\.o", signal)]
        assert len(multipliers) == 2 and min(multipliers) > 100


@pytest.mark.slow
@pytest.mark.parametrize("modes", SUBSETS, ids="-".join)
def test_subsets(modes: tuple[str, ...]) -> None:
    for pipeline in (0, 2):
        check_pe(packed(modes, pipeline=pipeline), seed=SEED, pairs="auto" if pipeline == 0 else 20_000,
                 drain=pipeline > 0).raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", range(1, 5))
def test_pipelines(pipeline: int) -> None:
    check_pe(packed(pipeline=pipeline), seed=SEED + pipeline, drain=pipeline % 2 > 0).raise_on_mismatch()
    check_pe(packed(("int4", "int8"), "int32", pipeline=pipeline), seed=SEED, pairs=20_000).raise_on_mismatch()
