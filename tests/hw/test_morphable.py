# amaranth: UnusedElaboratable=no
"""Switchable PEs with dedicated lanes: every mode is the dot unit of that mode, and off modes stand still."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bitkiln.hw.emit import prepare, to_verilog
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design import Accumulator
from bitkiln.models.design.morphable import COMMON_MODES, XR_NPE_MODES, MorphableDesign
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.block_check import Segment
from bitkiln.sim.pe_check import check_pe, check_pes, pe_block
from bitkiln.sim.toggles import count_toggles

SEED = 31
EXACT_MODES = tuple(mode for mode in COMMON_MODES if mode != "bf16")
INTEGERS = ("int4", "int8", "int8xint4", "int16")


def design(modes, kind: str = "exact", overflow: str = "wrap", **options) -> MorphableDesign:
    options = {"implementation": "parallel"} | options
    return MorphableDesign(tuple(modes), Accumulator(kind=kind, overflow=overflow), **options)


SMALL = design(("fp4", "int4", "int8", "fp8_e4m3"))
FAST = (design(("posit4_1", "posit16_1"), pipeline=2), design(("fp4", "bf16"), "fp32"),
        design(INTEGERS, "int32", "saturate", pipeline=1))
# Products in DSP blocks, at every place of the registers.
PRODUCTS = [design(EXACT_MODES, pipeline=1, multiplier="luts"),
            *(design(EXACT_MODES, pipeline=pipeline, multiplier="operator") for pipeline in (0, 1, 3, 4)),
            design(COMMON_MODES, "fp32", pipeline=2, multiplier="operator")]


def test_eight_bit_modes_on_all_pairs() -> None:
    result = check_pe(SMALL, seed=SEED)
    result.raise_on_mismatch()
    assert result.exhaustive and result.pairs > 2 * 2 * 65536 + 2 * 4 * 256


@pytest.mark.parametrize("index", range(len(FAST)), ids=lambda index: FAST[index].accumulator.kind)
def test_every_accumulator_with_mode_switches_and_result_register(index: int) -> None:
    result = check_pe(FAST[index], seed=SEED, pairs=4000, drain=True)
    result.raise_on_mismatch()
    assert {"mode switches"} < set(result.parts)


def test_the_check_sees_a_wrong_mode() -> None:
    """The PE of the same modes in another order."""
    other = design(("fp4", "int4", "fp8_e4m3", "int8"))
    result = check_pe(SMALL, seed=SEED, pairs=1000, model=BatchModel(MorphablePe(other)))
    assert result.mismatches > 1000 and result.first


def test_the_check_sees_a_result_register_that_does_not_shift() -> None:
    pe = MorphablePe(SMALL, drain=True)
    check, model = pe_block(pe, SEED), BatchModel(pe)
    segments = [segment for segment in check.segments() if "o" in segment.expected]
    assert len(segments) == 2
    for segment in segments:
        assert not check.wrong(model, segment).any()
        stuck = Segment({**segment.inputs, "shift": segment.inputs["shift"] & (np.arange(segment.rows) < 10)},
                        {"o": segment.expected["o"]}, segment.skip)
        assert 500 < check.wrong(model, stuck).sum() < segment.rows


def still(pe: MorphableDesign) -> None:
    """In each mode the lanes of that mode move, and no signal of any other lane does."""
    rng, cycles = np.random.default_rng(SEED), 200
    for index, mode in enumerate(pe.modes):
        toggles = count_toggles(MorphablePe(pe), {"a": rng.integers(0, 1 << 16, cycles), "mode": index, "clear": 0,
                                                  "w": rng.integers(0, 1 << 16, cycles), "en": 1}, skip=pe.latency)
        for other in pe.modes:
            inside = {name: count for name, count in toggles.items()
                      if f"path.{other.name}_lane" in name and not name.endswith("clk")}
            assert len(inside) > 5 * other.lanes
            assert (sum(inside.values()) > 100 * other.lanes) if other is mode else not any(inside.values())


def test_lanes_of_other_modes_do_not_move() -> None:
    still(design(("fp4", "int4", "int8"), pipeline=1))


def test_no_reset_port_and_one_name_for_one_module() -> None:
    for drain, hoisted in ((False, False), (True, True)):
        first, again = (prepare(MorphablePe(design(("fp4", "int4")), drain, hoisted)) for _ in range(2))
        assert first.resets == () and first.script == again.script


def test_a_pe_contains_only_what_its_modes_need() -> None:
    text = to_verilog(MorphablePe(design(("fp4", "posit4_1"))))
    assert "product_posit4_1_posit4_1" in text and "posit8" not in text and "int8" not in text
    # Posits of 4 bits are powers of two: one gate per product tells zero.
    multipliers = set(re.findall(r"^module multiply_\w+?_(u\d+_u\d+)", text, re.M))
    assert multipliers == {"u1_u1", "u2_u2"}


def test_only_wide_products_are_left_to_dsp_blocks() -> None:
    pe = design(("fp4", "int4", "int8", "fp8_e4m3", "posit16_1"), multiplier="operator")
    text = to_verilog(MorphablePe(pe))
    assert set(re.findall(r"^module multiply_operator_(\w+?)\(", text, re.M)) == {"s8_s8", "s14_s14"}
    check_pe(design(("int4", "int8"), multiplier="operator"), seed=SEED, pairs=4000).raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("pe", PRODUCTS, ids=lambda pe: f"{pe.multiplier}{pe.pipeline}{pe.accumulator.kind}")
def test_multipliers_of_other_structures(pe: MorphableDesign) -> None:
    check_pe(pe, seed=SEED, pairs=100_000 if pe.accumulator.kind == "exact" else 20_000).raise_on_mismatch()


@pytest.mark.slow
def test_xr_npe_modes() -> None:
    for result in check_pes([design(XR_NPE_MODES), design(XR_NPE_MODES, pipeline=4)], seed=SEED, drain=True):
        result.raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", range(5))
def test_all_exact_modes(pipeline: int) -> None:
    for result in check_pes([design(EXACT_MODES, pipeline=pipeline)], seed=SEED + pipeline, drain=pipeline % 2 > 0,
                            pairs="auto" if pipeline == 0 else 100_000):
        result.raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", range(5))
def test_all_modes_with_rounding_accumulator(pipeline: int) -> None:
    designs = [design(COMMON_MODES, "fp32", pipeline=pipeline), design(("bf16",), "fp32", pipeline=pipeline),
               design(("fp16", "fp8_e4m3"), "fp32", pipeline=pipeline)]
    for result in check_pes(designs, seed=SEED + pipeline, pairs="auto" if pipeline == 0 else 20_000):
        result.raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_all_integer_modes_in_32_bits(overflow: str) -> None:
    deep = MorphableDesign(INTEGERS, Accumulator(kind="int32", overflow=overflow, depth=1 << 18),
                           implementation="parallel")
    check_pe(deep, seed=SEED, drain=True).raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [0, 2])
def test_no_lane_of_any_other_mode_moves(pipeline: int) -> None:
    still(design(XR_NPE_MODES, pipeline=pipeline))
    still(design(COMMON_MODES, "fp32", pipeline=pipeline))
