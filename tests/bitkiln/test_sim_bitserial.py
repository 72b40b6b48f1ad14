"""`bitkiln sim` of the bit-serial engines, from the command line to the last line, small."""

import json

import pytest

from bitkiln.cli import run_cli
from bitkiln.config import load_design


@pytest.mark.parametrize("name, activation, weight", [("bitmod4", "fp16", "bitmod4"),
                                                       ("int8xbitmod3", "int8", "bitmod3")])
def test_type_chooses_the_engine(name, activation, weight):
    resolved = load_design(cli={"pe": (name, "PE")})
    assert resolved.engine.name == "bitserial_array"
    assert (resolved.design.activation.name, [t.name for t in resolved.design.weights]) == (activation, [weight])


def test_pe(capsys):
    assert run_cli(["sim", "bitmod4", "--images", "8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in result["steps"]] == ["groups", "groups, stalls", "cocotb bench",
                                                        "digits mlp, bitmod4"]
    assert all(row["checked"] > 0 and row["mismatches"] == 0 for row in result["steps"])


def test_dequant_core(tmp_path, capsys):
    (tmp_path / "d.yaml").write_text("engine: dequant_core\nweights: [bitmod3, ternary]\narray: {columns: 2}\n"
                                     "memory: {k_chunks: 32}\n")
    assert run_cli(["sim", str(tmp_path / "d.yaml"), "--jobs", "6", "--images", "8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in result["steps"]] == ["jobs", "jobs, stalls", "digits mlp, bitmod3 + ternary"]
    assert result["steps"][0]["facts"]["jobs"] == 6


def test_no_jobs_of_an_array(capsys):
    assert run_cli(["sim", "bitmod4", "--jobs", "3"]) == 2
    assert "error: option does not apply at --jobs: got 3, expected none: an array runs no jobs" in \
        capsys.readouterr().err
