"""Generated PEs, arrays and cores: files, vectors, collateral, the same bytes every time."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.config import load_design
from bitkiln.flow.generate import generate
from bitkiln.flow.morphable_vectors import morphable_vectors
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design import XR_NPE_MODES, Accumulator, MorphableDesign
from bitkiln.sim.batch import BatchModel, to_ints
from bitkiln.sim.toolchain import find, require

PE = {"engine": "morphable_pe", "modes": ["fp4", "posit8_0", "int8xint4"], "pipeline": 1, "name": "pe"}
ARRAYS = {
    "output": {"engine": "matmul_array", "modes": ["fp4", "int8"], "array.rows": 2, "array.columns": 3,
               "name": "array"},
    "weight": {"engine": "matmul_array", "modes": ["int8"], "array.rows": 2, "array.columns": 2, "name": "array",
               "array.dataflow": "weight"},
}
CORES = {
    "streams": {"engine": "matmul_core", "modes": ["fp4", "int8"], "array.rows": 2, "array.columns": 2, "name": "core",
                "block": ["mxfp4"]},
    "memory": {"engine": "matmul_core", "modes": ["int8"], "array.rows": 1, "array.columns": 2, "name": "core",
               "descriptors": True, "output.rules": ["raw"], "output.accumulate": False, "bus_bits": 32},
}


def made(options: dict, folder: str = "out", **more):
    resolved = load_design(cli={key: (value, key) for key, value in options.items()})
    return resolved, generate(resolved, Path(folder), **more)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# PE -------------------------------------------------------------------------------------------------

def test_files_of_a_pe():
    resolved, files = made(PE, cycles=200)
    assert names(files.folder) == {"pe.v", "pe.json", "pe_tb.v", "pe_tb.hex", "README.md", "pe.html", "pe.svg"}
    facts = json.loads(files.paths["sidecar"].read_text())
    assert facts["latency"] == 2 and facts["config"] == resolved.config
    text = files.paths["datasheet"].read_text()
    for mode in ("fp4", "posit8_0", "int8xint4"):
        assert f"| {mode} |" in text
    for port in facts["ports"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port['name']}` |"))
        assert not row.endswith("|  |")                     # every port has a meaning


def test_testbench_of_a_pe_passes_in_icarus():
    tool = find("iverilog")
    if tool is None:
        pytest.skip("no Icarus here: apt-get install iverilog")
    _, files = made(PE, cycles=300)
    subprocess.run([tool.path, "-g2005", "-o", "tb.out", "pe.v", "pe_tb.v"], cwd=files.folder, check=True)
    done = subprocess.run(["vvp", "tb.out"], cwd=files.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "PASS: pe: 300 cycles checked, 0 mismatches\n"


@pytest.mark.parametrize("design", [
    MorphableDesign(("fp4", "posit8_0", "int8xint4"), implementation="parallel", pipeline=1),
    pytest.param(MorphableDesign(("int8", "bf16"), Accumulator("fp32"), implementation="parallel"),
                 marks=pytest.mark.slow),
    pytest.param(MorphableDesign(("int8",), Accumulator("int32", overflow="saturate"), implementation="parallel",
                                 pipeline=2), marks=pytest.mark.slow),
    MorphableDesign(XR_NPE_MODES, Accumulator(depth=64)),
], ids=lambda design: design.name)
def test_vectors_are_what_the_pe_does(design):
    vectors = morphable_vectors(design, 1500, 3)
    model = BatchModel(MorphablePe(design))
    out = model.run({name: np.array(values) for name, values in vectors.inputs.items()})
    assert set(vectors.outputs) == set(model.outputs)
    for name, wanted in vectors.outputs.items():
        port = model.outputs[name]
        got = out[name] if out[name].ndim == 1 else to_ints(out[name], port.width, port.signed)
        assert [int(value) for value in got] == list(wanted), name
    assert set(vectors.inputs["mode"]) == set(range(len(design.modes)))
    assert len(set(vectors.outputs["acc"])) > 500


# Array ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ARRAYS)
def test_files_of_an_array(name):
    resolved, files = made(ARRAYS[name])
    assert names(files.folder) == {"array.v", "array.json", "README.md", "array.html", "array.svg"}
    text, design = files.paths["datasheet"].read_text(), resolved.design
    assert "bitkiln sim" in text and f"{design.rows} x {design.columns} PEs, {name}-stationary" in text
    for port in json.loads(files.paths["sidecar"].read_text())["ports"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port['name']}` |"))
        assert not row.endswith("|  |")


# Core -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module", params=CORES)
def core(request, tmp_path_factory):
    resolved, files = made(CORES[request.param], str(tmp_path_factory.mktemp(request.param)))
    return request.param, resolved, files


def test_files_of_a_core(core):
    kind, resolved, files = core
    assert names(files.folder) == {
        "core.v", "core.json", "README.md", "core_registers.h", "core_registers.py", "core.rdl", "core_registers.md",
        "matmul_registers.h", "bitkiln_matmul.c", "bitkiln_matmul.h", "core.html", "core.svg"}
    facts = json.loads(files.paths["sidecar"].read_text())
    roles = {port["name"]: port["role"] for port in facts["ports"]}
    assert (roles["aclk"], roles["aresetn"]) == ("clock", "reset")
    assert ("m_axi_awaddr" in roles, "s_axis_a_tdata" in roles) == (kind == "memory", kind == "streams")
    assert facts["sha256"] == hashlib.sha256(files.paths["verilog"].read_bytes()).hexdigest()
    text = files.paths["datasheet"].read_text()
    for port in roles:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port}` |"))
        assert not row.endswith("|  |"), port
    for part in ("## Modes", "## Output", "## Register map", "JOB_MODE", "Longest K"):
        assert part in text
    assert ("mxfp4" in text) == (kind == "streams")


def test_the_c_driver_compiles_with_the_generated_header(core, tmp_path):
    kind, _, files = core
    if kind == "memory":
        pytest.skip("the C driver is for cores with streams")
    compiler = require("cxx").path.replace("clang++", "clang").replace("g++", "gcc").replace("c++", "cc")
    options = ["-std=c99", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-c", "bitkiln_matmul.c"]
    subprocess.run([compiler, *options, "-o", str(tmp_path / "driver.o")], cwd=files.folder, check=True)


def test_python_constants_are_those_of_the_design(core):
    _, resolved, files = core
    space: dict = {}
    exec((files.folder / "core_registers.py").read_text(), space)
    assert space["SHAPE_ROWS_VALUE"] == resolved.design.rows
    assert space["SHAPE_COLUMNS_VALUE"] == resolved.design.columns


def test_yosys_reads_the_core(core):
    from bitkiln.flow.tools import run_tool
    _, _, files = core
    text = run_tool(require("yosys"), ["-p", "read_verilog core.v; hierarchy -check -top core; proc; check -assert"],
                    files.folder)
    assert "Warning" not in text


def test_the_same_bytes_again(core, tmp_path):
    kind, _, files = core
    _, again = made(CORES[kind], str(tmp_path / "again"))
    for path in files.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_generate_names_its_files(capsys):
    assert run_cli(["generate", "--engine", "morphable_pe", "--modes", "fp4,int4", "--name", "pe", "-o", "out",
                    "--vectors", "50"]) == 0
    shown = capsys.readouterr().out
    for file in ("pe.v", "pe.json", "pe_tb.v", "pe_tb.hex", "README.md"):
        assert file in shown


# Synthesis ------------------------------------------------------------------------------------------

def test_synthesis_of_a_pe(capsys):
    options = ["--engine", "morphable_pe", "--modes", "fp4,int4", "--seeds", "0", "--target", "ecp5", "--json"]
    assert run_cli(["synth", *options]) == 0
    metrics = {metric["name"]: metric["value"] for metric in json.loads(capsys.readouterr().out)["metrics"]}
    assert metrics["lut"] > 20 and metrics["ff"] > 10
