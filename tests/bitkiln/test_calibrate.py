"""`bitkiln calibrate` on a few tiny designs: files, a second run without synthesis, a technology for estimates."""

import csv
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.flow import calibrate
from bitkiln.flow.samples import Sample, samples
from bitkiln.models.cost.area.area import area_estimate, technology

TINY = [Sample("pe", {"engine": "dot_unit", "pe": pe, "lanes": lanes}, check)
        for pe, lanes, check in (("int3", 1, False), ("int4", 2, False), ("int4", 1, True))]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(calibrate, "samples", lambda part=None, *rest: [
        each for each in TINY if part in (None, each.part)])


def stored() -> list[tuple[str, float]]:
    with closing(sqlite3.connect(os.environ["BITKILN_STORE"])) as database:
        return database.execute("SELECT key, created FROM results ORDER BY key").fetchall()


@pytest.mark.slow
def test_calibration(tiny, capsys):
    arguments = ["calibrate", "--target", "ecp5", "--parts", "pe", "-j", "2", "-o", "tech"]
    assert run_cli([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "ecp5" and shown["errors"]["pe"]["held_out"]["designs"] == 1
    with open("tech/ecp5.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [sample.digest for sample in TINY]
    assert [row["check"] for row in rows] == ["0", "0", "1"]
    assert all(float(row["ff"]) > 0 and float(row["lut"]) >= 0 and "yosys" in row["tools"] for row in rows)
    tech = technology("tech/ecp5.json")
    assert set(tech.models) == {"lut", "carry", "ff"} and tech.provenance["runs"] == len(TINY)
    for sample, row in zip(TINY[:2], rows, strict=False):        # the fitted ones
        found = area_estimate(sample.resolve().design, tech)
        assert found.metrics["ff"] == pytest.approx(float(row["ff"]), rel=0.05)

    # A second run synthesises nothing and writes the same.
    before, files = stored(), {path.name: path.read_bytes() for path in Path("tech").iterdir()}
    assert len(before) == len(TINY) and set(files) == {"ecp5.csv", "ecp5.json"}
    assert run_cli(arguments) == 0
    assert "ecp5.json" in capsys.readouterr().out
    assert stored() == before and {path.name: path.read_bytes() for path in Path("tech").iterdir()} == files

    # The file is a technology of its own.
    assert run_cli(["estimate", "int4", "--set", "lanes=2", "--workload", "digits-mlp", "--technology",
                    "tech/ecp5.json", "--json"]) == 0
    area = json.loads(capsys.readouterr().out)["area"]
    assert area["total"]["unit"] == "cells" and area["metrics"]["ff"] > 0
    measured = float(rows[1]["lut"]) + 2 * float(rows[1]["carry"])
    assert area["total"]["low"] <= measured * 2 and area["total"]["high"] >= measured / 2
    assert run_cli(["estimate", "posit8_0", "--technology", "tech/ecp5.json", "--workload", "digits-mlp",
                    "--json"]) == 0
    unknown = json.loads(capsys.readouterr().out)["area"]["total"]
    assert unknown["value"] is None and "never fitted" in unknown["source"]


@pytest.mark.parametrize("options, message", [
    (["--target", "ecp5", "--name", "mine"], "error: illegal name at --name: got 'mine', expected ecp5, or ecp5+ and"),
    (["--target", "ecp5", "--name", "ecp5+/x"], "error: illegal name at --name"),
    (["--target", "ecp5", "--name", "ice40"], "error: illegal name at --name"),
    (["--parts", "pe,"], "error: unknown choice at --parts: got ''"),
    (["--target", "asic"], "error: contradictory options at --liberty")])
def test_bad_options(options, message, capsys):
    assert run_cli(["calibrate", *options]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message) and shown.out == "" and not list(Path().iterdir())


def test_rows_of_no_sample(tiny):
    with pytest.raises(ValueError, match="no runs to fit"):
        calibrate.fit_rows("ecp5", "none", [{"id": "none", "part": "pe", "tools": ""}], "command")


def test_samples_are_the_same_every_time():
    one = samples("pe")
    assert [sample.digest for sample in one] == [sample.digest for sample in samples("pe")]
    assert len({sample.digest for sample in one}) == len(one) >= 150
    checks = sum(sample.check for sample in one)
    assert 40 <= checks < len(one) / 2          # never fitted
    assert {sample.part for sample in samples()} == {"pe", "array", "core"}
    designs = [sample.resolve().design for sample in samples()]
    assert len(set(designs)) == len(designs)        # what is held back was not fitted under other keys
