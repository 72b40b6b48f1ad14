"""``bitkiln board check``: random jobs on the core of a board, whatever engine it is."""

import json
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.models.golden import dequant

CHECK = ("board", "check")
# As in tests/sim/test_board_engines.py and test_board_cli.py, so that each board is built once.
DEQUANT = ("--board", "ulx3s", "--engine", "dequant_core", "--set", "weights=[bitmod3, ternary]", "--set",
           "activation=int8", "--set", "lanes=2", "--rows", "2", "--columns", "2", "--set", "group.size=16", "--baud",
           "10000000", "--simulate")
MATMUL = ("--board", "icebreaker", "--rows", "1", "--columns", "1", "--set", "k_words=64", "--simulate")


@pytest.fixture(autouse=True)
def kept_builds(own_folder, monkeypatch):
    """Simulated boards stay in the project's build folder from run to run."""
    monkeypatch.setenv("BITKILN_BUILD", str(Path(__file__).parents[2] / "build"))


def error_of(capsys, *arguments: str, code: int = 2) -> str:
    assert run_cli(arguments) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.err.startswith("error: ")
    return printed.err


def test_dequantising_core_with_noise(capsys):
    assert run_cli([*CHECK, *DEQUANT, "--jobs", "6", "--seed", "2", "--noise", "0.001", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["passed"] and found["mismatches"] == 0 and found["first"] is None
    assert (found["board"], found["engine"], found["where"], found["jobs"]) == ("ulx3s", "dequant_core", "simulated", 6)
    assert found["results"] > 30 and found["link"]["repeated"] > 0 and min(found["noise"].values()) > 0
    lines = [line for line in printed.err.splitlines() if line.startswith("job ")]
    assert len(lines) == 6 and all(line.endswith(", equal") for line in lines)


def test_jobs_follow_the_seed(capsys):
    def lines(seed: int) -> list[str]:
        assert run_cli([*CHECK, *DEQUANT, "--jobs", "2", "--seed", str(seed)]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("job ")]

    assert lines(1) == lines(1) != lines(3)


def test_matmul_core_without_output_stage(capsys):
    assert run_cli([*CHECK, *MATMUL, "--jobs", "3"]) == 0
    printed = capsys.readouterr()
    assert "matmul_core on icebreaker (simulated)" in printed.out and "results compared" in printed.out
    assert printed.out.endswith("PASS: the board equals the golden model\n") and "raw, equal" in printed.err


def test_a_difference_is_found_and_told(monkeypatch, capsys):
    """One result of the golden model is changed: as if the board had been wrong."""
    right = dequant.dequant_matmul

    def wrong(*arguments):
        codes = right(*arguments)
        codes[0, -1] ^= 1
        return codes

    monkeypatch.setattr(dequant, "dequant_matmul", wrong)
    assert run_cli([*CHECK, *DEQUANT, "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert "FAIL: the board and the golden model differ" in printed.out and "1 results differ" in printed.err
    rows = dict([part.strip() for part in line.strip("│").split("│")] for line in printed.out.splitlines()
                if line.startswith("│"))
    assert rows["different"] == "2" and rows["first difference"].startswith("job 1, ")


def test_wrong_arguments(capsys):
    assert "missing option at bitkiln board check --board" in error_of(capsys, *CHECK, "--simulate")
    text = error_of(capsys, *CHECK, "--board", "ulx3s")
    assert "wrong arguments at bitkiln board check: got 'none', expected exactly one of --port PORT and" in text
    assert "this engine has no link at engine: got 'Dot'" in error_of(
        capsys, *CHECK, "--board", "ulx3s", "--engine", "dot_unit", "--simulate")
    assert "--jobs: got '0', expected greater than or equal to 1" in error_of(
        capsys, *CHECK, "--board", "ulx3s", "--simulate", "--jobs", "0")
    assert "the clock does not make this bit rate at baud: got 11000000" in error_of(
        capsys, *CHECK, *[word.replace("10000000", "11000000") for word in DEQUANT])
    text = error_of(capsys, "board", "run", "digits", *DEQUANT)
    assert "help: `bitkiln board check` runs random jobs on any engine" in text


def test_a_port_that_does_not_exist(capsys):
    pytest.importorskip("serial")
    assert "no such port at --port: got '/dev/ttyNOPE'" in error_of(
        capsys, *CHECK, "--board", "ulx3s", "--engine", "spconv", "--port", "/dev/ttyNOPE")


@pytest.mark.slow
def test_sparse_convolution_core(capsys):
    """The registry's example: networks on one and on two trees."""
    assert run_cli([*CHECK, "--board", "ulx3s", "--engine", "spconv", "--simulate", "--baud", "5000000", "--noise",
                    "0.0005", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["jobs"] == 2 and found["results"] > 100 and min(found["noise"].values()) > 0
