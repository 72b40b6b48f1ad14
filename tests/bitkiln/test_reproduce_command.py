"""``bitkiln reproduce``: every row has a source on both sides, and says what it is or why it is not there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bitkiln.flow import reproduce_formats, reproduce_systems
from bitkiln.flow.reproduce import ITEMS, Comparison, Options, comparison, missing, reproduce
from bitkiln.flow.reproduce_arrays import core, peers
from bitkiln.flow.reproduce_measure import ecp5_cells, rtl_gemm
from bitkiln.models.cost.area.area import AreaEstimate
from bitkiln.models.cost.mapping import map_layer
from bitkiln.models.cost.papers import PAPERS, PUBLISHED, published
from bitkiln.models.cost.peers import FIGURES, peer_layers
from bitkiln.models.cost.quantity import KINDS, Quantity
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import USAGE, BitkilnError
from bitkiln.models.formats import get_format

QUICK = ("crossover", "intensity", "arrays", "memory", "fp8-int8", "xr-npe")


def check_rows(facts: dict) -> None:
    assert facts["schema"] == "bitkiln.reproduce/1"
    for item in facts["items"]:
        assert item["rows"]
        names = [row["what"] for row in item["rows"]]
        assert len(set(names)) == len(names), item["name"]
        for row in item["rows"]:
            ours, theirs = row["ours"], row["published"]
            assert theirs["text"] and theirs["source"] and theirs["kind"] == "literature"
            assert ours["kind"] in KINDS and ours["unit"] and len(ours["source"]) > 5, row["what"]
            if ours["value"] is None:
                assert row["verdict"] is None
            elif theirs["low"] is not None:
                assert row["verdict"] in ("within", "below", "above")
            if ours["low"] is not None:
                assert ours["low"] <= ours["value"] <= ours["high"]


def test_quick_items(run, capsys):
    assert run("reproduce", "--json", *(part for name in QUICK for part in ("--only", name))) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in facts["items"]] == list(QUICK)
    check_rows(facts)
    rows = {item["name"]: item["rows"] for item in facts["items"]}
    assert [row["ours"]["value"] for row in rows["intensity"]] == [16 / bits for bits in (16, 8, 4.0625, 3.0625)]
    difference = {row["what"]: row["ours"]["value"] for row in rows["crossover"]}
    assert difference["INT8 above E4M3, uniform: int8 wins"] > 10       # and where outliers dominate E4M3 wins
    assert difference["INT8 above E4M3, Gaussian, 0.1 % x 50: fp8_e4m3 wins"] < -10


def test_table_and_list(run, capsys):
    assert run("reproduce", "--only", "intensity") == 0
    out = capsys.readouterr().out
    assert "FLOP/byte" in out and "2402.16363" in out
    assert run("reproduce", "--list") == 0
    assert capsys.readouterr().out.split() == list(ITEMS)
    assert run("reproduce", "--only", "intensities") == USAGE
    assert "intensity" in capsys.readouterr().err


def test_splits_and_blocks():
    facts = reproduce(["split"])
    check_rows(facts)
    rows = {row["what"]: row["ours"] for row in facts["items"][0]["rows"]}
    # Spread values want exponent bits, even ones mantissa bits, at every width.
    for width in range(3, 9):
        uniform, gaussian, heavy = (rows[f"best split of {width} bits, {label}"]["value"]
                                    for label in ("uniform", "Gaussian", "Student t5"))
        assert uniform == 1 and uniform <= gaussian <= heavy
    blocks = [row for what, row in rows.items() if " by block, " in what]
    assert len(blocks) == 6 and all(row["value"] > 1 for row in blocks)
    assert not any("NOT monotone" in what for what in rows)


def test_every_split_is_its_format():
    for width in range(3, 9):
        found = reproduce_formats.splits(width)
        assert len(found) == width - 1
        for name in found.values():
            assert get_format(name).bits == width
    assert reproduce_formats.splits(8)["E4M3"] == "fp8_e4m3"


def test_front_is_what_brute_force_says(monkeypatch):
    rng = np.random.default_rng(0)
    points = {str(number): (float(area), float(score)) for number, (area, score) in
              enumerate(zip(rng.integers(1, 20, 40), rng.random(40), strict=True))}
    front = reproduce_formats._front(points)
    for name, (area, score) in points.items():
        beaten = any(a <= area and s >= score and (a, s) != (area, score) for a, s in points.values())
        assert (name in front) == (not beaten)
    # Accuracies that rise with the width, as if they were in the store, and areas that rise faster for floats.
    monkeypatch.setattr(reproduce_formats, "_accuracies", lambda network, name, words:
                        None if network == "g2p" else (get_format(name).bits / 10, 0.0, 1.0))

    def area(design, tech):
        cells = design.weight.bits * (1.0 if design.weight.family == "int" else 2.0)
        return AreaEstimate(cells, cells, cells, "cells", {}, {}, True, "test")

    monkeypatch.setattr(reproduce_formats, "area_estimate", area)
    rows = reproduce_formats.minifloat_front(Options())
    assert rows and all(row.ours.value is None and "not in the store" in row.ours.source
                        for row in rows if row.what.startswith("g2p"))
    for row in (row for row in rows if row.what.startswith("digits-cnn")):
        assert row.ours.value == 6 and row.ours.unit == "integers of 6 formats on the front"


def test_overhead_is_relative_to_int8_and_carries_both_intervals(monkeypatch):
    areas = {"int8": (100, 90, 110), "fp8_e4m3": (160, 150, 170), "fp8_e5m2": (300, 290, 310)}

    def area(design, tech):
        value, low, high = areas.get(design.weight.name, (None, None, None))
        return AreaEstimate(value, low, high, "cells", {}, {}, value is not None, "test", "never fitted: this")

    monkeypatch.setattr(reproduce_formats, "area_estimate", area)
    rows = {row.what.split()[0]: row for row in reproduce_formats.fp8_overhead(Options())}
    found = rows["E4M3"]
    assert (found.ours.value, found.verdict) == (pytest.approx(60), "within") and rows["E5M2"].verdict == "above"
    assert found.ours.low == pytest.approx(100 * (150 / 110 - 1))
    assert found.ours.high == pytest.approx(100 * (170 / 90 - 1))
    assert rows["E3M4"].ours.value is None and rows["E3M4"].ours.source == "never fitted: this"


def test_arrays_are_beside_every_figure_of_the_other_tools():
    rows = peers(Options())
    assert len(rows) == 2 * len(peer_layers())
    for figure in FIGURES:
        assert sum(f"{figure.tool}" in row.published and f"{figure.cycles:,}" in row.published for row in rows) == 2
    for row in rows:
        name, _, size = row.what.partition(" on ")
        design = core(*map(int, size.removesuffix(" PEs").split(" x ")))
        layer = peer_layers()[name]
        assert row.ours.value == map_layer(design, layer).cycles >= layer.macs / (design.rows * design.columns * 2)


def test_verdicts():
    claim = PUBLISHED["octa_search"]
    for value, wanted in ((8.7, "below"), (8.8, "within"), (21.2, "within"), (22, "above")):
        assert comparison(claim, Quantity(value, "x", "model", "test")).verdict == wanted
    assert missing(claim, "why").verdict is None and missing(claim, "why").as_dict()["ours"]["source"] == "why"
    rounded = Comparison("a", "1.48 x", "b", Quantity(1.472, "x", "model", "c"), "", 1.48, 1.48)
    assert rounded.verdict == "within"          # two digits, and a mean of rounded means
    assert "40 nm" in comparison(claim, Quantity(1, "x", "model", "test")).assumptions


def test_published_figures_are_cited():
    for each in PUBLISHED.values():
        assert each.paper in PAPERS and each.claim and "arXiv" in each.source
        assert (each.low is None) == (each.high is None)
        assert each.low is None or 0 < each.low <= each.high and each.unit
    with pytest.raises(BitkilnError, match="octa_search"):
        published("octa_serch")


def test_bitmod_means_come_out_by_their_accounting():
    rows = [row for row in reproduce_systems.bitmod(Options()) if "their accounting" in row.what]
    assert len(rows) == 8
    assert all(row.verdict == "within" for row in rows)


@pytest.mark.slow
def test_point_clouds():
    facts = reproduce(["spocta"])
    check_rows(facts)
    rows = {row["what"]: row["ours"]["value"] for row in facts["items"][0]["rows"]}
    for scene in ("generated room", "generated street"):
        absent, zero, both = (rows[f"latency saved by {what}, second-small, {scene}"]
                              for what in ("absent neighbours", "zero channels of what remains", "both"))
        assert max(absent, zero) <= both <= absent + zero
    assert all(value > 1 for what, value in rows.items() if what.startswith("map search"))


@pytest.mark.slow
def test_measured_and_simulated():
    assert ecp5_cells(DotDesign.from_pe("fp8_e4m3", lanes=1)) > ecp5_cells(DotDesign.from_pe("int8", lanes=1)) > 50
    predicted, simulated = rtl_gemm(core(2, 2), 12, "a")
    assert predicted == simulated > 12 ** 3 / 8
