"""`codebook_array` for a user: descriptions and their errors, generated files, checks from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_files import check_files, check_refused, check_tools

from bitkiln.cli import run_cli
from bitkiln.config import json_schema, load_design
from bitkiln.flow.generate import generate
from bitkiln.hw.dequant.codebook_array import activation_layout, result_layout, second_layout, weight_layout

ENGINE = "codebook_array"


def described(text: str):
    Path("d.yaml").write_text(f"engine: {ENGINE}\n{text}")
    return load_design(Path("d.yaml"))


def test_defaults_and_what_the_design_decides():
    resolved = described("activation: int8\nweight: int4\nscale: {format: uint8}\n")
    config, design = resolved.config, resolved.design
    assert (config["weight"], config["accumulator"], config["result_lanes"]) == ("int4", {"kind": "exact"}, 1)
    assert (design.rows, design.columns, design.lanes, design.block) == (4, 4, 2, 256)
    assert described("activation: bf16\n").config["accumulator"] == {"kind": "fp32"}
    assert described("").config["weight"] == "fp8_e4m3"
    # What was decided, written down, is the same design.
    Path("again.yaml").write_text(json.dumps(config))
    assert load_design(Path("again.yaml")).digest == resolved.digest


def test_options_and_schema():
    design = load_design(cli={"engine": (ENGINE, "x"), "array.rows": (3, "--rows"), "pipeline": (2, "--pipeline")})
    assert (design.design.rows, design.design.pipeline) == (3, 2)
    assert set(json_schema(ENGINE)["properties"]) >= {"activation", "weight", "array", "scale", "block", "result_lanes"}


ERRORS = {
    "unknown format": ("weight: fp8_e4m4\n", "error: unknown format at d.yaml:2 weight: got 'fp8_e4m4', expected a "
                       "format name\nhelp: did you mean fp8_e4m3, fp8_e3m4, fp8_e5m2?"),
    "a codebook as an operand": ("weight: nf4\n", "error: no operand of this format at d.yaml:2 weight: got 'nf4', "
                                 "expected an int, fixed, minifloat or posit format of 4, 8 or 16 bits\n"
                                 "help: look weights up in a table of fp8_e4m3 or int8"),
    "six bits": ("activation: fp6_e3m2\n", "error: no operand of this format at d.yaml:2 activation: got 'fp6_e3m2', "
                 "expected an int, fixed, minifloat or posit format of 4, 8 or 16 bits"),
    "wide weights": ("activation: fp4\nweight: int8\n", "error: weights wider than activations at d.yaml:3 weight: got "
                     "'int8', expected at most the 4 bits of fp4"),
    "exact fp16": ("activation: fp16\naccumulator: {kind: exact}\n", "error: accumulator does not fit this mode at "
                   "d.yaml:3 accumulator.kind: got 'exact', expected fp32 with fp16"),
    "broken rows of results": ("result_lanes: 3\n", "error: does not divide the columns at d.yaml:2 result_lanes: got "
                               "3, expected a divisor of 4"),
    "offset alone": ("scale: {offset: true}\n", "error: contradictory options at d.yaml:2 scale.offset: got 'true', "
                     "expected false but with scale uint8, int8 or table8"),
    "unknown scale": ("scale: {format: uint4}\n", "error: unknown value at d.yaml:2 scale.format: got 'uint4', "
                      "expected none, fp32, uint8, int8 or table8\nhelp: did you mean uint8, int8?"),
    "no packed posits": ("activation: posit8_0\nimplementation: packed\n", "error: no packed PE for this at d.yaml:3 "
                         "implementation: got 'packed with posit8_0', expected an exact or int32 accumulator and modes "
                         "of fp4, int4, fp8_e4m3, int8, int8xfp4, int8xint4\n"
                         "help: implementation parallel takes every mode"),
    "packed with LUTs": ("implementation: packed\nmultiplier: luts\n", "error: contradictory options at d.yaml:3 "
                         "multiplier: got 'luts', expected chains with implementation packed\n"
                         "help: implementation parallel has every choice"),
    "rows": ("array: {rows: 65}\n", "error: out of range at d.yaml:2 array.rows: got 65, expected at most 64"),
    "blocks": ("block: 0\n", "error: out of range at d.yaml:2 block: got 0, expected at least 1"),
    "weight-stationary": ("array: {dataflow: weight}\n", "error: unknown key at d.yaml:2 array.dataflow: got "
                          "'dataflow', expected one of rows, columns, links\nhelp: choices: rows, columns, links"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, capsys):
    check_refused(described, *ERRORS[name], capsys)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    options = {"engine": ENGINE, "array.rows": 1, "array.columns": 2, "scale.format": "table8", "scale.offset": True,
               "tables": 2, "block": 64, "name": "nf4"}
    resolved = load_design(cli={key: (value, key) for key, value in options.items()})
    return resolved, generate(resolved, tmp_path_factory.mktemp("nf4"))


def test_files_sidecar_and_datasheet(generated):
    resolved, files = generated
    design = resolved.design
    layouts = [weight_layout(design), activation_layout(design), result_layout(design)]
    _, width, text = check_files(resolved, files, "nf4", layouts)
    for stream, size in (*zip("wao", (layout.size for layout in layouts), strict=True), ("second", 2 * 64),
                         ("level", 40)):
        assert width[f"{stream}__payload"] == size and width[f"{stream}__valid"] == width[f"{stream}__ready"] == 1
    assert second_layout(design).length == 2
    assert "every 64 bits of `second` are a column's" in text
    # 1 + 2 edges of the array, two results.
    assert "Blocks of at least 10 weights (5 chunks) follow each other without a bubble" in text


def test_other_tools_accept_it(generated):
    _, files = generated
    check_tools(files, "nf4")
    # Columns share their modules.
    assert files.paths["verilog"].read_text().count("\nmodule codebook_fp8") == 1


@pytest.fixture
def built_before(monkeypatch):
    """Models are kept where the tests of the hardware keep theirs: this one is the same."""
    monkeypatch.setenv("BITKILN_BUILD", str(Path(__file__).parents[2] / "build"))


def test_simulation_up_to_a_network(capsys, built_before):
    Path("d.yaml").write_text("engine: codebook_array\narray: {rows: 2, columns: 2}\nblock: 64\n"
                              "scale: {format: uint8}\n")
    assert run_cli(["sim", "d.yaml", "--images", "120", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [row["step"] for row in steps] == ["blocks", "blocks, stalls", "nf4 product", "digits mlp, nf4"]
    assert all(row["checked"] > 0 and row["mismatches"] == 0 for row in steps)
    product, network = steps[2]["facts"], steps[3]["facts"]
    assert product["stalls"] == network["stalls"] == 0
    assert network["accuracy"] > network["float_accuracy"] - 0.05 > 0.9


@pytest.mark.slow
def test_simulation_without_scales(capsys):
    """No network then: its weights need them."""
    Path("d.yaml").write_text("engine: codebook_array\nactivation: int8\nweight: int4\narray: {rows: 1, columns: 1}\n"
                              "code_bits: 3\nscale: {format: none}\npipeline: 0\nstore: registers\n")
    assert run_cli(["sim", "d.yaml", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [row["step"] for row in steps] == ["blocks", "blocks, stalls", "nf3 product"]


def test_no_jobs_of_an_array(capsys):
    assert run_cli(["sim", "--engine", ENGINE, "--jobs", "3"]) == 2
    assert "error: option does not apply at --jobs: got 3, expected none: an array runs no jobs" in \
        capsys.readouterr().err
