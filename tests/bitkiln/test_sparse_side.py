"""`sparse_side` for a user: descriptions and their errors, generated files, checks from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_files import check_files, check_refused, check_tools

from bitkiln.cli import run_cli
from bitkiln.config import json_schema, load_design
from bitkiln.flow.generate import generate
from bitkiln.hw.dequant.sparse import chunk_layout, outlier_layout, sum_layout

ENGINE = "sparse_side"
SMALL = {"engine": ENGINE, "array.rows": 2, "array.columns": 2, "lanes": 2, "tile": 16, "queue": 4, "depth": 64,
         "name": "side"}


def described(text: str):
    Path("d.yaml").write_text(f"engine: {ENGINE}\n{text}")
    return load_design(Path("d.yaml"))


def test_defaults_and_options():
    resolved = described("")
    design = resolved.design
    assert (design.activation.name, design.value.name, design.rows, design.columns, design.lanes, design.tile,
            design.queue) == ("fp16", "fp16", 1, 8, 4, 128, 16)
    Path("again.yaml").write_text(json.dumps(resolved.config))
    assert load_design(Path("again.yaml")).digest == resolved.digest
    wider = load_design(cli={"engine": (ENGINE, "x"), "array.columns": (4, "--columns"), "lanes": (8, "--lanes")})
    assert (wider.design.columns, wider.design.lanes) == (4, 8)
    assert set(json_schema(ENGINE)["properties"]) >= {"activation", "value", "array", "lanes", "tile", "depth", "queue"}


ERRORS = {
    "outliers in fp8": ("value: fp8_e4m3\n", "error: no side path for this value at d.yaml:2 value: got 'fp8_e4m3', "
                        "expected fp16, int16, int12, int8\nhelp: choices: fp16, int16, int12, int8"),
    "unknown activation": ("activation: fp17\n", "error: unknown format at d.yaml:2 activation: got 'fp17', expected a "
                           "format name\nhelp: did you mean fp16, fp4, fp3?"),
    "broken tile": ("tile: 30\n", "error: a tile of broken chunks at d.yaml:2 tile: got 30, expected a multiple of the "
                    "4 lanes"),
    "odd queue": ("queue: 12\n", "error: not a power of two at d.yaml:2 queue: got 12, expected 2, 4, 8, ..."),
    "columns": ("array: {columns: 65}\n", "error: out of range at d.yaml:2 array.columns: got 65, expected at most 64"),
    "misspelt": ("array: {colums: 4}\n", "error: unknown key at d.yaml:2 array.colums: got 'colums', expected one of "
                 "rows, columns\nhelp: did you mean columns?"),
    "an exponent in words": ("value_exponent: small\n", "error: wrong type at d.yaml:2 value_exponent: got 'small' "
                             "(text), expected an integer\n"
                             "help: write digits only, without quotes, units or underscores"),
    "two at once": ("tile: 0\nqueue: 4096\n", "error: out of range at d.yaml:2 tile: got 0, expected at least 1\n"
                    "error: out of range at d.yaml:3 queue: got 4096, expected at most 1024"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, capsys):
    check_refused(described, *ERRORS[name], capsys)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    resolved = load_design(cli={key: (value, key) for key, value in SMALL.items()})
    return resolved, generate(resolved, tmp_path_factory.mktemp("side"))


def test_files_sidecar_and_datasheet(generated):
    resolved, files = generated
    design = resolved.design
    layouts = {"activation": chunk_layout(design), "outlier": outlier_layout(design), "o": sum_layout(design)}
    _, width, text = check_files(resolved, files, "side", list(layouts.values()))
    for stream, layout in layouts.items():
        assert width[f"{stream}__payload"] == layout.size
    # One product a cycle against lanes x columns weights a chunk.
    assert "| 1 | up to 25.00% |" in text and "`4 + 7 <= tiles of a result * C * t`" in text


def test_other_tools_accept_it(generated):
    _, files = generated
    check_tools(files, "side")


@pytest.fixture
def built_before(monkeypatch):
    """Models are kept where the tests of the hardware keep theirs: this one is the same."""
    monkeypatch.setenv("BITKILN_BUILD", str(Path(__file__).parents[2] / "build"))


def test_simulation(capsys, built_before):
    Path("d.yaml").write_text("engine: sparse_side\narray: {rows: 2}\ntile: 32\n")
    assert run_cli(["sim", "d.yaml", "--images", "40", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [row["step"] for row in steps] == ["outliers", "outliers, stalls", "0.5% of the weights",
                                              "digits mlp, squeezellm"]
    assert all(row["checked"] > 0 and row["mismatches"] == 0 for row in steps)
    facts = steps[2]["facts"]
    assert facts["promised"] and facts["stalls"] == 0
    assert 0.004 < facts["outliers"] / facts["weights"] < 0.006 < facts["sustained_density"]
    network = steps[3]["facts"]
    assert network["outliers"] and network["accuracy"] >= network["dense_accuracy"]


def test_no_jobs_of_a_side_path(capsys):
    assert run_cli(["sim", "--engine", ENGINE, "--jobs", "3"]) == 2
    assert "error: option does not apply at --jobs: got 3, expected none: a side path runs no jobs" in \
        capsys.readouterr().err
