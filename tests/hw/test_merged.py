"""Merged PEs: every mode is the dot unit of that mode, lanes keep to their sections, and unused lanes stand still."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design.morphable import XR_NPE_MODES, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.pe_check import check_pe
from bitkiln.sim.toggles import count_toggles

SEED = 47
MULTIPLIERS = ("chains", "operator")
POSIT16_PAIRS = 1_000_000
# Every format of every class at least once, with and without a 16-bit mode and hosts for the 4-bit ones.
SUBSETS = (("fp4", "posit4_1"), ("int4", "int8", "int16"), ("fp4", "posit8_0"), ("posit4_1", "fp8_e4m3", "posit16_1"),
           ("fp4", "posit4_1", "posit16_1"), ("int4", "int8xfp4", "int16"),
           ("int4", "int8xint4", "int8xfp4", "int8", "posit16_1"), ("fp8_e5m2", "fp4", "int16"),
           ("fp8_e4m3", "fp8_e5m2", "posit8_0", "int8", "int4", "fp4", "posit4_1", "int8xfp4", "posit16_1", "int16"))


def merged(modes=XR_NPE_MODES, **options) -> MorphableDesign:
    return MorphableDesign(tuple(modes), implementation="merged", **options)


def test_xr_npe_modes_on_all_pairs_up_to_eight_bits() -> None:
    """`pairs="auto"`: all pairs of codes in every lane of 8 bits or less, random and extreme ones of 16."""
    result = check_pe(merged(), seed=SEED)
    result.raise_on_mismatch()
    assert result.pairs > 2 * 65536 + 2 * 4 * 256


def test_pipelined_with_result_register() -> None:
    check_pe(merged(pipeline=4), seed=SEED, pairs=2000, drain=True).raise_on_mismatch()


def test_products_in_dsp_blocks() -> None:
    """One for the wide mode and lane 0, one for lane 1, which stands still in the wide mode."""
    pe, cycles = merged(multiplier="operator"), 200
    check_pe(pe, seed=SEED, pairs=2000).raise_on_mismatch()
    rng, moved = np.random.default_rng(SEED), []
    for index in range(len(pe.modes)):
        toggles = count_toggles(MorphablePe(pe), {"a": rng.integers(0, 1 << 16, cycles), "mode": index, "clear": 0,
                                                  "w": rng.integers(0, 1 << 16, cycles), "en": 1}, skip=pe.latency)
        moved.append([sum(count for name, count in toggles.items() if f"path.multiply{n}.o" in name) for n in (0, 1)])
    assert all(first > 100 for first, _ in moved)
    assert [second > 100 for _, second in moved] == [True, True, True, False] and moved[3][1] == 0
    text = to_verilog(MorphablePe(pe))
    assert "multiply_operator_s" in text and "multiply_simd" not in text and "simd_digits" not in text


def test_the_check_sees_a_wrong_mode() -> None:
    other = merged(("posit4_1", "fp4", "posit8_0", "posit16_1"))
    result = check_pe(merged(), seed=SEED, pairs=500, model=BatchModel(MorphablePe(other)))
    assert result.mismatches > 500 and result.first


def test_lanes_of_their_own_do_not_move_in_other_modes() -> None:
    pe, cycles = merged(), 200
    rng = np.random.default_rng(SEED)
    for index, mode in enumerate(pe.modes):
        toggles = count_toggles(MorphablePe(pe), {"a": rng.integers(0, 1 << 16, cycles), "mode": index, "clear": 0,
                                                  "w": rng.integers(0, 1 << 16, cycles), "en": 1}, skip=pe.latency)
        for lane in (1, 3):
            for part in ("exponent_low", "exponent_total", "exponent_high", "scale_pattern"):
                moves = [count for name, count in toggles.items() if f"path.lane{lane}.{part}." in name]
                assert len(moves) >= 3 and (sum(moves) > 0) == (mode.lanes == 4)


def test_only_what_the_modes_need() -> None:
    text = to_verilog(MorphablePe(merged(("fp4", "posit4_1"))))
    assert "multiply_simd" not in text and "posit_pair" not in text and "nibble_exponent_low" in text
    text = to_verilog(MorphablePe(merged(("posit8_0", "posit16_1"))))
    assert "multiply_simd" in text and "nibble_" not in text and "recode_fp4" not in text


def test_explicit_merged_where_there_is_none() -> None:
    with pytest.raises(BitkilnError, match="no merged PE"):
        merged(("fp4", "posit8_2"))
    assert MorphableDesign(("fp4", "posit8_2")).implementation == "parallel"


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("modes", SUBSETS, ids="-".join)
def test_subsets(modes, multiplier: str) -> None:
    for pipeline in (0, 2):
        check_pe(merged(modes, pipeline=pipeline, multiplier=multiplier), seed=SEED,
                 pairs="auto" if pipeline == 0 else 20_000, drain=pipeline > 0).raise_on_mismatch()


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("pipeline", range(5))
def test_xr_npe_modes_at_length(pipeline: int, multiplier: str) -> None:
    check_pe(merged(pipeline=pipeline, multiplier=multiplier), seed=SEED + pipeline,
             pairs=POSIT16_PAIRS if pipeline == 0 else 100_000, drain=pipeline % 2 > 0).raise_on_mismatch()
