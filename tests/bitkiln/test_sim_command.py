"""`bitkiln sim` and `run` around the simulations, which tests/sim checks: verdicts, exit codes, JSON."""

import json

import pytest

from bitkiln.cli import run_cli
from bitkiln.flow import simulate
from bitkiln.models.errors import BitkilnError


@pytest.fixture
def steps(monkeypatch):
    """The three checks replaced; a test sets what they answer."""
    answers = {"unit": (100, 0, "all pairs", {}), "bench": (50, 0, "1 test", {}), "network": (10, 0, "equal", {})}

    def answer(name):
        def step(*arguments):
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]
        return step

    monkeypatch.setattr("bitkiln.sim.batch.BatchModel", lambda design: None)
    for name in answers:
        monkeypatch.setattr(simulate, f"_{name}", answer(name))
    return answers


def test_all_equal(steps, capsys):
    assert run_cli(["sim", "fp4"]) == 0
    shown = capsys.readouterr()
    assert "PASS: dot_fp4_l4_exact19: RTL equals the golden model" in shown.out
    assert "cocotb bench" in shown.err                              # progress


@pytest.mark.parametrize("name, answer", [
    ("unit", (100, 1, "first: cycle 3", {})),
    ("unit", (0, 0, "nothing checked", {})),
    ("bench", BitkilnError("bench tests failed", got="1 of 1", expected="0", exit_code=1)),
    ("network", (10, 2, "first: row 0", {})),
])
def test_any_difference_fails_and_the_others_still_run(steps, name, answer, capsys):
    steps[name] = answer
    assert run_cli(["sim", "fp4", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is False
    assert len(result["steps"]) == 4
    failed = {row["step"].split()[0] for row in result["steps"] if not row["passed"]}
    assert failed == {{"unit": "dot", "bench": "cocotb", "network": "digits"}[name]}


def test_missing_tool_ends_the_command(steps, capsys):
    steps["bench"] = BitkilnError("missing tool", where="verilator", exit_code=3)
    assert run_cli(["sim", "fp4"]) == 3
    assert "error: missing tool at verilator" in capsys.readouterr().err


def test_effective_configuration_is_echoed(steps, capsys):
    options = ["--lanes", "2", "--depth", "64", "--pipeline", "1", "--seed", "5"]
    assert run_cli(["sim", "int8xfp4", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    config = result["design"]["config"]
    assert (config["lanes"], config["accumulator"]["depth"], config["pipeline"], result["seed"]) == (2, 64, 1, 5)
    assert config["formats"] == {"activation": "int8", "weight": "fp4"}


@pytest.mark.parametrize("arguments, name", [
    (["--engine", "dot_unit"], "dot_fp4_l4_exact19"), (["--preset", "dot_int8"], "dot_int8_l4_int32"),
    (["d.yaml"], "dot_int4_l1_exact18")])
def test_other_ways_to_name_a_design(steps, arguments, name, own_folder, capsys):
    (own_folder / "d.yaml").write_text("engine: dot_unit\npe: int4\nlanes: 1\n")
    assert run_cli(["sim", *arguments]) == 0
    assert name in capsys.readouterr().out
