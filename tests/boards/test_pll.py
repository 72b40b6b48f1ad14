"""Settings of clock generators: data sheets' rules, the vendors' and open tools' results, a search of everything.

``data/pll_oracles.csv`` holds what these tools chose, as exact fractions computed from the dividers that they print:
ecppll of Project Trellis 1.4-82-g3afe7b5 (plain and with ``--highres``) and icepll, both of the yowasp-nextpnr 0.11.1
packages, and gowin_pll of Apycula 0.32 (``-d "GW1NR-9 C6/I5"``).
"""

from __future__ import annotations

import csv
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.boards.pll import PllSettings, pll_settings
from bitkiln.boards.pll_families import FAMILIES, mhz
from bitkiln.models.errors import BitkilnError

ORACLES = Path(__file__).parent / "data" / "pll_oracles.csv"
FAMILY_OF = {"ecppll": "ecp5", "ecppll --highres": "ecp5", "icepll": "ice40", "gowin_pll": "gowin"}
ANY = 0.999_999
# Accuracy of the period that the Xilinx parameters carry, in nanoseconds.
PERIOD_STEP = Fraction(1, 1000)


def recomputed(result: PllSettings) -> tuple[Fraction, Fraction, Fraction]:
    """Detector, oscillator and output (MHz) from the parameters alone, by the data sheets' formulas; checks ranges."""
    p, f = result.parameters, result.input_mhz
    if result.family == "ecp5":
        assert 1 <= p["CLKI_DIV"] <= 128 and 1 <= p["CLKFB_DIV"] <= 80 and 1 <= p["CLKOP_DIV"] <= 128
        assert p["CLKOP_CPHASE"] == p["CLKOP_DIV"] - 1
        detector = f / p["CLKI_DIV"]
        first = detector * p["CLKFB_DIV"]
        low, high = FAMILIES["ecp5"].limits.output
        assert low <= first <= high
        vco = first * p["CLKOP_DIV"]
        if p["CLKOS_ENABLE"] == "DISABLED":
            assert "CLKOS_DIV" not in p
            return detector, vco, first
        assert p["CLKOS_ENABLE"] == "ENABLED" and 1 <= p["CLKOS_DIV"] <= 128
        return detector, vco, vco / p["CLKOS_DIV"]
    if result.family == "ice40":
        assert 0 <= p["DIVR"] <= 15 and 0 <= p["DIVF"] <= 127 and 1 <= p["DIVQ"] <= 6
        detector = f / (p["DIVR"] + 1)
        edges = {1: 17, 2: 26, 3: 44, 4: 66, 5: 101, 6: 134}
        assert edges.get(p["FILTER_RANGE"] - 1, 10) <= detector < edges[p["FILTER_RANGE"]]
        vco = detector * (p["DIVF"] + 1)
        return detector, vco, vco / 2 ** p["DIVQ"]
    if result.family == "gowin":
        assert 0 <= p["IDIV_SEL"] <= 63 and 0 <= p["FBDIV_SEL"] <= 63
        assert p["ODIV_SEL"] in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
        assert p["DEVICE"] == "GW1NR-9C" and abs(Fraction(p["FCLKIN"]) - f) < Fraction(1, 10**6)
        detector = f / (p["IDIV_SEL"] + 1)
        output = detector * (p["FBDIV_SEL"] + 1)
        return detector, output * p["ODIV_SEL"], output
    multiplier, divider = Fraction(p["CLKFBOUT_MULT_F"]), Fraction(p["CLKOUT0_DIVIDE_F"])
    assert 2 <= multiplier <= {"xilinx7": 64, "ultrascale+": 128}[result.family] and (multiplier * 8).denominator == 1
    assert (divider == 1 or 2 <= divider <= 128) and (divider * 8).denominator == 1
    assert 1 <= p["DIVCLK_DIVIDE"] <= 106
    assert abs(Fraction(p["CLKIN1_PERIOD"]) - 1000 / f) <= PERIOD_STEP
    detector = f / p["DIVCLK_DIVIDE"]
    return detector, detector * multiplier, detector * multiplier / divider


def check(result: PllSettings) -> None:
    limits = FAMILIES[result.family].limits
    assert recomputed(result) == (result.detector_mhz, result.vco_mhz, result.output_mhz)
    for value, (low, high) in ((result.input_mhz, limits.input), (result.detector_mhz, limits.detector),
                               (result.vco_mhz, limits.oscillator), (result.output_mhz, limits.output)):
        assert low <= value <= high


def error(result: PllSettings) -> Fraction:
    return abs(result.output_mhz - result.requested_mhz)


# Against other tools ---------------------------------------------------------------------------------


def oracle_rows() -> list[tuple[str, Fraction, Fraction, Fraction]]:
    with ORACLES.open() as file:
        return [(row["tool"], Fraction(row["input_mhz"]), Fraction(row["output_mhz"]), Fraction(row["achieved_mhz"]))
                for row in csv.DictReader(file)]


def test_never_farther_than_the_other_tools():
    rows = oracle_rows()
    counted = Counter(row[0] for row in rows)
    assert set(counted) == set(FAMILY_OF) and min(counted.values()) >= 120
    nearer, outside = Counter(), Counter()
    for tool, reference, wanted, achieved in rows:
        result = pll_settings(FAMILY_OF[tool], reference, wanted, ANY)
        check(result)
        low, high = FAMILIES[FAMILY_OF[tool]].limits.output
        if not low <= achieved <= high:     # icepll rounds 16 MHz to 15.9375
            outside[tool] += 1
            continue
        assert error(result) <= abs(achieved - wanted), (tool, str(result), mhz(achieved))
        nearer[tool] += error(result) < abs(achieved - wanted)
    assert outside["icepll"] <= 15 and sum(outside.values()) == outside["icepll"]
    # The second output reaches more. The others search the same settings.
    assert nearer["ecppll"] > 100 and nearer["icepll"] == nearer["gowin_pll"] == 0


def installed(tool: str) -> str:
    found = shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed (extra fpga)")
    return found


def number(name: str, text: str) -> int:
    return int(re.search(rf"{name}\s*(?:divisor)?:\s*(\d+)", text)[1])


def from_ecppll(tool: str, reference: str, wanted: str, highres: bool) -> Fraction:
    text = subprocess.run([tool, "-i", reference, "-o", wanted, *(["--highres"] if highres else [])],
                          capture_output=True, text=True, check=True).stdout
    first = Fraction(reference) * number("Feedback", text) / number("Refclk", text)
    return first * number("clkout0", text) / number("clkout1", text) if highres else first


def from_icepll(tool: str, reference: str, wanted: str) -> Fraction:
    text = subprocess.run([tool, "-i", reference, "-o", wanted], capture_output=True, text=True, check=True).stdout
    return Fraction(reference) / (number("DIVR", text) + 1) * (number("DIVF", text) + 1) / 2 ** number("DIVQ", text)


def pairs(family: str, count: int, low: int) -> list[tuple[str, str]]:
    source = random.Random(f"{family} {count}")
    limits = FAMILIES[family].limits
    return [(f"{source.uniform(float(limits.input[0]), min(float(limits.input[1]), 150)):.3f}",
             f"{source.uniform(max(float(limits.output[0]), low), min(float(limits.output[1]), 250)):.2f}")
            for _ in range(count)]


@pytest.mark.slow
def test_installed_ecppll():
    tool = installed("yowasp-ecppll")
    for reference, wanted in pairs("ecp5", 60, 10):
        result = pll_settings("ecp5", reference, wanted, ANY)
        for highres in (False, True):
            achieved = from_ecppll(tool, reference, wanted, highres)
            # It computes with 24 bits, so it may take a frequency one step outside of its limits; its own search,
            # redone exactly, is part of `test_nothing_nearer_exists`.
            assert float(error(result)) <= float(abs(achieved - Fraction(wanted))) * (1 + 1e-6)


@pytest.mark.slow
def test_installed_icepll():
    tool = installed("yowasp-icepll")
    for reference, wanted in pairs("ice40", 80, 16):
        result = pll_settings("ice40", reference, wanted, ANY)
        assert error(result) == abs(from_icepll(tool, reference, wanted) - Fraction(wanted))


@pytest.mark.parametrize(("reference", "wanted", "divider", "feedback"), [
    # What Lattice's own tool chose, as recorded in ecppll's source.
    (12, 48, 1, 4), (12, 60, 1, 5), (20, 30, 2, 3), (45, 30, 3, 2), (100, 400, 1, 4), (200, 400, 1, 2), (50, 400, 1, 8),
    (70, 40, 7, 4), (12, 36, 1, 3), (12, 96, 1, 8), (90, 40, 9, 4), (90, 50, 9, 5), (43, 86, 1, 2)])
def test_ecp5_dividers_equal_the_vendors(reference, wanted, divider, feedback):
    result = pll_settings("ecp5", reference, wanted, 0)
    assert (result.parameters["CLKI_DIV"], result.parameters["CLKFB_DIV"]) == (divider, feedback)
    assert abs(result.vco_mhz - 600) <= 200
    check(result)


# Against everything there is --------------------------------------------------------------------------


def everything(family: str, f: float) -> np.ndarray:
    """Every frequency a family reaches, by brute force in float64."""
    limits = FAMILIES[family].limits
    low, high = ([float(r[i]) for r in (limits.detector, limits.oscillator, limits.output)] for i in (0, 1))

    def kept(values, k):
        return (values >= low[k] * (1 - 1e-12)) & (values <= high[k] * (1 + 1e-12))

    found = []
    for divider in range(1, 129):
        detector = f / divider
        if not kept(np.array(detector), 0):
            continue
        if family == "ecp5":
            first = detector * np.arange(1, 81)
            vco = (first[kept(first, 2)][:, None] * np.arange(1, 129)).ravel()
            vco = np.unique(vco[kept(vco, 1)])
            out = vco[:, None] / np.arange(1, 129)
            plain = first[kept(first, 2)]
            out = np.concatenate([plain, out.ravel()])
        elif family == "ice40" and divider <= 16:
            vco = detector * np.arange(1, 129)
            out = vco[kept(vco, 1)][:, None] / 2.0 ** np.arange(1, 7)
        elif family == "gowin" and divider <= 64:
            out = detector * np.arange(1, 65)
            vco = out[:, None] * np.array([2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128])
            out = out[kept(vco, 1).any(axis=1)]
        elif family in ("xilinx7", "ultrascale+") and divider <= 106:
            vco = detector * np.arange(16, {"xilinx7": 64, "ultrascale+": 128}[family] * 8 + 1) / 8
            out = vco[kept(vco, 1)][:, None] / np.concatenate([[1], np.arange(16, 1025) / 8])
        else:
            continue
        out = out.ravel()
        found.append(out[kept(out, 2)])
    return np.unique(np.concatenate(found))


@pytest.mark.parametrize(("family", "reference"), [
    ("ecp5", 12), ("ecp5", 25), ("ecp5", 333.33), ("ice40", 12), ("ice40", 48), ("ice40", 100.7), ("gowin", 27),
    ("gowin", 3.1), ("gowin", 133), ("xilinx7", 12), ("xilinx7", 25), ("ultrascale+", 15), ("ultrascale+", 26)])
def test_nothing_nearer_exists(family, reference):
    reached = everything(family, reference)
    assert len(reached) > 20
    source = random.Random(7)
    limits = FAMILIES[family].limits
    # Low frequencies more often: they are what boards use. Around half of the fastest oscillator a divider of 1 ends.
    wishes = [float(limits.output[0]) * float(limits.output[1] / limits.output[0]) ** source.random() for _ in range(8)]
    for wanted in [*wishes, *(float(limits.oscillator[1]) * part for part in (0.4973, 0.4999, 0.5002))]:
        wanted = round(min(max(wanted, float(limits.output[0])), float(limits.output[1])), 3)
        result = pll_settings(family, reference, wanted, ANY)
        check(result)
        best = np.abs(reached - wanted).min()
        assert float(error(result)) == pytest.approx(best, rel=1e-9, abs=1e-9)
        if best > 1e-6:
            below, above = reached[reached < wanted], reached[reached > wanted]
            near = [f"{x[i]:.6f}".rstrip("0").rstrip(".") for x, i in ((below, -1), (above, 0)) if len(x)]
            with pytest.raises(BitkilnError) as caught:
                pll_settings(family, reference, wanted, 0)
            assert caught.value.help == "nearest: " + " and ".join(f"{text} MHz" for text in near)


@st.composite
def requests(draw) -> tuple[str, Fraction, Fraction]:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    limits = FAMILIES[family].limits

    def inside(allowed, top):
        unit = draw(st.sampled_from([1, 10, 1000, 3]))
        low, high = -(-allowed[0] * unit // 1), min(allowed[1], top) * unit // 1
        return Fraction(draw(st.integers(int(low), int(high))), unit)

    return family, inside(limits.input, 300), inside(limits.output, 800)


@settings(max_examples=150, deadline=None)
@given(requests(), st.sampled_from([0, 1e-5, 0.001, 0.05]))
def test_limits_hold_and_errors_name_neighbours(request_, tolerance):
    family, reference, wanted = request_
    try:
        result = pll_settings(family, reference, wanted, tolerance)
    except BitkilnError as refused:
        near = [Fraction(text) for text in re.findall(r"([\d.]+) MHz", refused.help)]
        assert 1 <= len(near) <= 2 and refused.exit_code == 2
        assert all(abs(f - wanted) > Fraction(str(tolerance)) * wanted - Fraction(1, 10**6) for f in near)
        # The nearer of those named is what a wide tolerance gives.
        result = pll_settings(family, reference, wanted, ANY)
        check(result)
        assert abs(min(abs(f - wanted) for f in near) - error(result)) <= Fraction(1, 10**6)
    else:
        check(result)
        assert error(result) <= Fraction(str(tolerance)) * wanted
        assert (result.error_ppm == 0) == (result.output_mhz == wanted)


# Ties, and what the results say ------------------------------------------------------------------------


def test_of_equally_far_the_slower():
    # 12 MHz on iCE40 reach 17.25 and 17.625 MHz (multiples of 12 / 32 above 533 / 32) and nothing between.
    assert pll_settings("ice40", 12, "17.4375", 0.1).output_mhz == Fraction("17.25")


@pytest.mark.parametrize(("family", "reference", "wanted", "expected"), [
    # Whole dividers first, then the fastest detector, then the fastest oscillator (UG472: lowest D, highest M).
    ("xilinx7", 100, 100, {"DIVCLK_DIVIDE": 1, "CLKFBOUT_MULT_F": 12.0, "CLKOUT0_DIVIDE_F": 12.0}),
    ("xilinx7", 100, 80, {"DIVCLK_DIVIDE": 1, "CLKFBOUT_MULT_F": 12.0, "CLKOUT0_DIVIDE_F": 15.0}),
    ("xilinx7", 100, "62.5", {"DIVCLK_DIVIDE": 1, "CLKFBOUT_MULT_F": 10.0, "CLKOUT0_DIVIDE_F": 16.0}),
    ("ultrascale+", 125, 250, {"DIVCLK_DIVIDE": 1, "CLKFBOUT_MULT_F": 12.0, "CLKOUT0_DIVIDE_F": 6.0}),
    # 9.5 / 10 would have the faster detector; 123.75 / 100 = 99 / 80 goes with no whole numbers.
    ("xilinx7", 100, 95, {"DIVCLK_DIVIDE": 2, "CLKFBOUT_MULT_F": 19.0, "CLKOUT0_DIVIDE_F": 10.0}),
    ("xilinx7", 100, "123.75", {"DIVCLK_DIVIDE": 2, "CLKFBOUT_MULT_F": 12.375, "CLKOUT0_DIVIDE_F": 5.0}),
    # As the vendor's generator sets a Tang Nano 9K.
    ("gowin", 27, 54, {"FCLKIN": "27", "DEVICE": "GW1NR-9C", "IDIV_SEL": 0, "FBDIV_SEL": 1, "ODIV_SEL": 16}),
    ("gowin", 27, 108, {"FCLKIN": "27", "DEVICE": "GW1NR-9C", "IDIV_SEL": 0, "FBDIV_SEL": 3, "ODIV_SEL": 8}),
    # The values of icepll.
    ("ice40", 12, 24, {"DIVR": 0, "DIVF": 63, "DIVQ": 5, "FILTER_RANGE": 1}),
    ("ice40", 12, 60, {"DIVR": 0, "DIVF": 79, "DIVQ": 4, "FILTER_RANGE": 1}),
    ("ice40", 17, 34, {"DIVR": 0, "DIVF": 31, "DIVQ": 4, "FILTER_RANGE": 2}),
    # The first output where it reaches the frequency, the second where not.
    ("ecp5", 25, 60, {"CLKI_DIV": 5, "CLKFB_DIV": 12, "CLKOP_DIV": 10, "CLKOP_CPHASE": 9, "CLKOS_ENABLE": "DISABLED"}),
    ("ecp5", 25, 48, {"CLKI_DIV": 5, "CLKFB_DIV": 1, "CLKOP_DIV": 96, "CLKOP_CPHASE": 95, "CLKOS_ENABLE": "ENABLED",
                      "CLKOS_DIV": 10, "CLKOS_CPHASE": 9}),
    # 660 MHz are nearer to 600 than 440, which would do too.
    ("ecp5", 25, 44, {"CLKI_DIV": 5, "CLKFB_DIV": 2, "CLKOP_DIV": 66, "CLKOP_CPHASE": 65, "CLKOS_ENABLE": "ENABLED",
                      "CLKOS_DIV": 15, "CLKOS_CPHASE": 14}),
    ("ecp5", 10, "800/3", {"CLKI_DIV": 3, "CLKFB_DIV": 80, "CLKOP_DIV": 2, "CLKOP_CPHASE": 1,
                           "CLKOS_ENABLE": "DISABLED"}),
])
def test_ties(family, reference, wanted, expected):
    result = pll_settings(family, reference, wanted, 0)
    chosen = {k: v for k, v in result.parameters.items() if k != "CLKIN1_PERIOD"}
    assert chosen == expected


def test_text_and_hash():
    result = pll_settings("ice40", 12, 16, 0.01)
    assert str(result) == "12 -> 16.125 MHz (+7812 ppm of 16), phase detector 12 MHz, VCO 1032 MHz"
    assert str(pll_settings("ecp5", 25, "100/3")) == \
        "25 -> 33.333333 MHz, phase detector 8.333333 MHz, VCO 600 MHz"
    assert result == pll_settings("ice40", 12.0, "16", 0.01) and len({result, pll_settings("ice40", 12, 16, 0.01)}) == 1
    assert result.error_ppm == 7812.5


def test_floats_are_decimal_numbers():
    result = pll_settings("xilinx7", 33.3, 99.9, 0)
    assert result.input_mhz == Fraction(333, 10) and result.output_mhz == Fraction(999, 10)


@pytest.mark.parametrize(("arguments", "message"), [
    (("ecp", 25, 50), "error: unknown family at clock generator: got 'ecp', expected ecp5, ice40, gowin, xilinx7, "
                      "ultrascale+\nhelp: did you mean ecp5?"),
    (("ecp5", 5, 50), "error: out of range at input of the ecp5 clock generator: got '5 MHz', expected 8 to 400 MHz"),
    (("ice40", 12, 15), "error: out of range at output of the ice40 clock generator: got '15 MHz', "
                        "expected 16 to 275 MHz"),
    (("ice40", 12, 23.1), "error: clock not reachable at ice40 clock generator at 12 MHz: got '23.1 MHz', expected a "
                          "frequency within 0.1 %\nhelp: nearest: 22.875 MHz and 23.25 MHz"),
    (("ecp5", "fast", 50), "error: not a frequency at input of the ecp5 clock generator: got 'fast', "
                           "expected a number of MHz"),
    (("ecp5", float("nan"), 50), "error: not a frequency at input of the ecp5 clock generator: got 'nan', "
                                 "expected a number of MHz"),
    (("ecp5", 25, float("inf")), "error: not a frequency at output of the ecp5 clock generator: got 'inf', "
                                 "expected a number of MHz"),
    (("gowin", True, 50), "error: not a frequency at input of the gowin clock generator: got 'True', "
                          "expected a number of MHz"),
    (("gowin", 27, "1/0"), "error: not a frequency at output of the gowin clock generator: got '1/0', "
                           "expected a number of MHz"),
    (("gowin", 27, 54, 1), "error: out of range at tolerance of the clock: got 1, expected 0 to below 1"),
    (("gowin", 27, 54, float("nan")), "error: out of range at tolerance of the clock: got nan, expected 0 to below 1"),
])
def test_errors(arguments, message):
    with pytest.raises(BitkilnError) as caught:
        pll_settings(*arguments)
    assert str(caught.value) == message and caught.value.exit_code == 2
