"""The roofline: known intensities, which roof, exact bounds, bad input."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.cost.cycles.roofline import COMPUTE, decode_intensity, roofline
from bitkiln.models.errors import BitkilnError


@pytest.mark.parametrize(("bits", "known"), [(16, 1.0), (4.0625, 3.94), (3.0625, 5.22), (8, 2.0), (4, 4.0)])
def test_decode_intensity_is_16_by_bits(bits: float, known: float) -> None:
    assert decode_intensity(bits) == 16 / bits
    assert round(decode_intensity(bits), 2) == known


def test_decoding_is_bound_by_memory_and_prefill_by_the_array() -> None:
    """A layer of 4096 x 4096 weights of 4 bits on 256 MACs a cycle beside 16 bytes a cycle."""
    size, weights = 4096 * 4096, 4096 * 4096 // 2
    decode = roofline(size, {"dram": weights}, 256, {"dram": 16})
    assert (decode.roof, decode.cycles) == ("dram", weights // 16)
    assert (decode.macs_per_byte["dram"], decode.flops_per_byte["dram"], decode.ridge["dram"]) == (2, 4, 16)
    prefill = roofline(64 * size, {"dram": weights}, 256, {"dram": 16})
    assert (prefill.roof, prefill.cycles) == (COMPUTE, 64 * size // 256)
    # At the ridge both roofs are equal.
    ridge = roofline(8 * size, {"dram": weights}, 256, {"dram": 16})
    assert ridge.macs_per_byte["dram"] == ridge.ridge["dram"]
    assert ridge.bounds["dram"] == ridge.bounds[COMPUTE]


def test_the_lowest_of_several_roofs_counts() -> None:
    found = roofline(1000, {"sram": 4000, "dram": 100}, 100, {"sram": 64, "dram": 1, "flash": 0.1})
    assert found.roof == "dram"
    assert found.cycles == 100
    assert set(found.bounds) == {COMPUTE, "sram", "dram"}
    assert found.bounds["sram"] == Fraction(4000, 64)


def test_part_of_a_cycle_is_a_cycle() -> None:
    assert roofline(7, {}, 3, {}).cycles == 3
    assert roofline(9, {}, Fraction(4, 3), {}).cycles == 7
    assert roofline(8, {}, Fraction(4, 3), {}).cycles == 6
    assert roofline(0, {"bus": 0}, 1, {"bus": 1}).cycles == 0
    assert math.isinf(roofline(1, {"bus": 0}, 1, {"bus": 1}).macs_per_byte["bus"])


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 4096), st.integers(1, 4096))
def test_bound_never_falls_with_more_work_or_less_width(macs: int, moved: int, peak: int, width: int) -> None:
    found = roofline(macs, {"bus": moved}, peak, {"bus": width})
    assert found.cycles * peak >= macs
    assert found.cycles * width >= moved
    assert (found.cycles - 1) * peak < macs or (found.cycles - 1) * width < moved
    assert roofline(macs + 1, {"bus": moved + 1}, peak, {"bus": width}).cycles >= found.cycles


@pytest.mark.parametrize(("arguments", "where"), [
    ((-1, {}, 1, {}), "macs"),
    ((1, {}, 0, {}), "peak_macs_per_cycle"),
    ((1, {}, math.nan, {}), "peak_macs_per_cycle"),
    ((1, {"dram": 1}, 1, {}), "bytes_per_cycle_by_tier"),
    ((1, {"dram": -1}, 1, {"dram": 1}), "bytes_by_tier.dram"),
    ((1, {"dram": 1}, 1, {"dram": 0}), "bytes_per_cycle_by_tier.dram"),
    ((1, {"compute": 1}, 1, {"compute": 1}), "bytes_by_tier"),
    ((True, {}, 1, {}), "macs"),
])
def test_bad_numbers_are_named(arguments: tuple, where: str) -> None:
    with pytest.raises(BitkilnError) as caught:
        roofline(*arguments)
    assert caught.value.where == where


def test_a_misspelt_tier_gets_a_hint() -> None:
    with pytest.raises(BitkilnError) as caught:
        roofline(1, {"drm": 1}, 1, {"dram": 1, "sram": 2})
    assert "dram" in caught.value.help
