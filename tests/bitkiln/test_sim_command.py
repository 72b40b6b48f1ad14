"""`bitkiln sim` and `run` around the simulations, which tests/sim checks: verdicts, exit codes, JSON; and both on a
small core, from make to the last line."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.config import load_design
from bitkiln.flow import simulate_dot
from bitkiln.flow.simulate import Outcome
from bitkiln.models.errors import BitkilnError


@pytest.fixture
def steps(monkeypatch):
    """The three checks replaced; a test sets what they answer."""
    answers = {"unit": Outcome(100, 0, "all pairs", {}), "bench": Outcome(50, 0, "1 test", {}),
               "network": Outcome(10, 0, "equal", {})}

    def answer(name):
        def step(*arguments):
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]
        return step

    monkeypatch.setattr("bitkiln.sim.batch.BatchModel", lambda design: None)
    for name in answers:
        monkeypatch.setattr(simulate_dot, "bench" if name == "bench" else f"_{name}", answer(name))
    return answers


def test_all_equal(steps, capsys):
    assert run_cli(["sim", "fp4"]) == 0
    shown = capsys.readouterr()
    assert "PASS: dot_fp4_l4_exact19: RTL equals the golden model" in shown.out
    assert "cocotb bench" in shown.err                              # progress


@pytest.mark.parametrize("name, answer", [
    ("unit", Outcome(100, 1, "first: cycle 3", {})),
    ("unit", Outcome(0, 0, "nothing checked", {})),
    ("bench", BitkilnError("bench tests failed", got="1 of 1", expected="0", exit_code=1)),
    ("network", Outcome(10, 2, "first: row 0", {})),
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


# A small core ---------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
# 2 x 2 keeps the C++ compiler short; every mode has a job and a layer.
REDUCED = {"ENGINE": "matmul_core", "MODES": "fp4,posit8_0,int8", "ROWS": "2", "COLUMNS": "2", "JOBS": "6",
           "ARGS": "--images 60 --json"}


def make(**variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PE", *REDUCED)}
    return subprocess.run(["make", "--no-print-directory", "-C", str(ROOT), "sim",
                           *(f"{key}={value}" for key, value in variables.items())],
                          capture_output=True, text=True, env=environment)


def test_make_sim_of_a_small_core():
    done = make(**REDUCED)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["passed"] and [step["mismatches"] for step in result["steps"]] == [0, 0, 0, 0]
    bench, jobs, *networks = result["steps"]
    assert bench["checked"] > 20 and bench["facts"]["cycles"] > 1000
    assert (jobs["checked"], jobs["unit"]) == (6, "jobs")
    assert jobs["facts"]["cycles"] > 0
    modes = [layer["mode"] for network in networks for layer in network["facts"]["layers"]]
    assert set(modes) == {"fp4", "posit8_0", "int8"}
    for network in networks:
        facts = network["facts"]
        assert facts["samples"] == 60 and facts["jobs"] >= 2 and facts["results"] == 60 * 42
        assert facts["cycles_equal"] and facts["expected_cycles"] == facts["cycles"]
        assert 0.5 < facts["utilisation"] <= 1 and facts["accuracy"]["core"] > 0.85


@pytest.mark.parametrize("variables, message", [
    ({"MODES": "fp4,posit88"}, "error: unknown PE at --modes: got 'posit88'"),
    ({"ENGINE": "matmul_cor"}, "error: unknown engine at --engine: got 'matmul_cor'"),
    ({"ROWS": "0"}, "error: out of range at --rows: got 0, expected at least 1"),
    ({"PE": "fp4"}, "error: wrong arguments at make sim: got PE='fp4' ENGINE='matmul_core'")])
def test_make_sim_refuses(variables, message):
    done = make(**{"ENGINE": "matmul_core", **variables})
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert "did you mean" in done.stderr or len(done.stderr.splitlines()) <= 3


def test_run_on_a_core(own_folder, capsys, monkeypatch):
    """The core of the test above, so that nothing is built again."""
    monkeypatch.setenv("BITKILN_BUILD", os.environ.get("BITKILN_BUILD", str(ROOT / "build")))
    (own_folder / "core.yaml").write_text(
        "engine: matmul_core\nmodes: [fp4, posit8_0, int8]\narray: {rows: 2, columns: 2}\n")
    (own_folder / "layers.yaml").write_text(
        "hidden: fp4\nconv1: int8\nconv2: fp4\nscores: {mode: posit8_0, output: fp32}\n")
    options = ["--layers", "layers.yaml", "--engine-config", "core.yaml", "--samples", "8"]
    assert run_cli(["run", "digits", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] and [network["network"] for network in result["networks"]] == ["mlp", "cnn"]
    mlp, cnn = result["networks"]
    shapes = [(layer["name"], layer["mode"], layer["m"], layer["k"], layer["n"]) for layer in mlp["layers"]]
    assert shapes == [("mlp.hidden", "fp4", 8, 64, 32), ("mlp.scores", "posit8_0", 8, 32, 10)]
    assert [layer["weight_bytes"] for layer in mlp["layers"]] == [64 * 32 // 2, 320]
    assert cnn["weight_bytes"] == 72 + 72 * 16 // 2 + 1440
    assert (mlp["int8_weight_bytes"], mlp["macs"]) == (2368, 8 * 2368)
    for network in (mlp, cnn):
        assert network["mismatches"] == 0 and network["cycles_equal"] and network["results"] > 0
        assert set(network["accuracy"]) == {"core", "int8", "float"}
    (own_folder / "layers.yaml").write_text("hidden: int8\nmlp.scores: fp4\n")
    assert run_cli(["run", "mlp", *options]) == 0
    shown = capsys.readouterr().out
    for text in ("8 x 64 x 32", "every bit equal", "all int8", "utilisation", "weight bytes"):
        assert text in shown


def test_run_fails_where_a_bit_differs(own_folder, capsys, monkeypatch):
    from bitkiln.models.workloads import mixed
    from bitkiln.sim import core_networks

    class Wrong:
        """A core that turns one bit of every job."""

        def __init__(self, model):
            self.design, self.cycles, self.expected = model.design, 0, None
            self.golden = mixed.golden_execute(self.design)

        def __call__(self, *job):
            self.cycles += 100
            codes = self.golden(*job)
            codes[0, 0] ^= 1
            return codes

    class Model:
        def __init__(self, design, seed=0):
            self.design = design

        def check_protocol(self):
            pass

    monkeypatch.setattr(core_networks, "CoreExecute", Wrong)
    monkeypatch.setattr("bitkiln.sim.core_run.CoreModel", Model)
    (own_folder / "layers.yaml").write_text("default: int8\n")
    options = ["--engine", "matmul_core", "--layers", "layers.yaml", "--samples", "4", "--json"]
    assert run_cli(["run", "mlp", *options]) == 1
    network = json.loads(capsys.readouterr().out)["networks"][0]
    assert network["mismatches"] == 2 and not network["ok"]
    assert network["first"].startswith("int8, 4 x 64 x 32, element (0, 0)")


def test_modes_of_the_layers_make_the_core():
    from bitkiln.flow.layers import parse_assignment
    from bitkiln.flow.networks import _core

    assignment = parse_assignment({"hidden": "fp4", "scores": "int8xfp4"}, ["mlp", "cnn"])
    assert list(assignment.plans) == ["mlp"] and assignment.modes == ["fp4", "int8xfp4"]
    design = _core(assignment, "matmul_core", None, None).design
    assert [mode.name for mode in design.pe.modes] == ["fp4", "int8xfp4"]
    assert _core(assignment, None, None, "matmul_core_edge").design == load_design(preset="matmul_core_edge").design
