"""Generated bit-serial arrays and dequantising cores: files that other tools accept, and a datasheet of every bit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitkiln.config import load_design
from bitkiln.flow.generate import generate
from bitkiln.flow.tools import run_tool
from bitkiln.hw.dequant.array import activation_layout, result_layout, weight_layout
from bitkiln.hw.dequant.core import activation_word_layout
from bitkiln.hw.dequant.results import output_layout
from bitkiln.hw.dequant.walk import job_layout
from bitkiln.sim.toolchain import require

DESIGNS = {
    "array": {"engine": "bitserial_array", "weights": ["bitmod4", "int5"], "activation": "int8", "array.columns": 2,
              "scale.zero_point": 3, "output.format": "raw", "name": "array"},
    "core": {"engine": "dequant_core", "weights": ["bitmod4", "ternary", "fp6_e3m2"], "activation": "int8",
             "array.rows": 2, "array.columns": 2, "memory.packings": {"fp6_e3m2": "4+2"}, "output.format": "fp16",
             "name": "core"},
}
# Bits of one wire in separate assignments look like a loop to Verilator's scheduler.
HARMLESS = "-Wno-UNOPTFLAT"


def made(options: dict, folder: Path):
    resolved = load_design(cli={key: (value, key) for key, value in options.items()})
    return resolved, generate(resolved, folder)


@pytest.fixture(scope="module", params=DESIGNS)
def generated(request, tmp_path_factory):
    return request.param, *made(DESIGNS[request.param], tmp_path_factory.mktemp(request.param))


def test_files_and_sidecar(generated):
    name, resolved, files = generated
    assert {path.name for path in files.folder.iterdir()} == {
        f"{name}.v", f"{name}.json", "README.md", f"{name}.html", f"{name}.svg"}
    facts = json.loads(files.paths["sidecar"].read_text())
    assert (facts["module"], facts["config"]) == (name, resolved.config)
    assert facts["sha256"] == hashlib.sha256(files.paths["verilog"].read_bytes()).hexdigest()
    design, width = resolved.design, {port["name"]: port["width"] for port in facts["ports"]}
    inputs, output = ({"w": weight_layout, "a": activation_layout}, result_layout) if name == "array" else \
        ({"job": job_layout, "activation": activation_word_layout}, output_layout)
    for stream, layout in {**inputs, "o": output}.items():
        assert width[f"{stream}__payload"] == layout(design).size
        assert width[f"{stream}__valid"] == width[f"{stream}__ready"] == 1
    assert name == "array" or width["weight__payload"] == 32
    roles = {port["name"]: port["role"] for port in facts["ports"]}
    assert (roles["clk"], roles["rst"]) == ("clock", "reset")


def test_datasheet_has_every_port_and_layout(generated):
    name, resolved, files = generated
    text = files.paths["datasheet"].read_text()
    for port in json.loads(files.paths["sidecar"].read_text())["ports"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port['name']}` |"))
        assert not row.endswith("|  |"), row
    design = resolved.design
    layouts = [weight_layout(design), weight_layout(design)["groups"].shape.elem_shape, result_layout(design)] \
        if name == "array" else [job_layout(design), activation_word_layout(design), output_layout(design)]
    for layout in layouts:
        for field_name, field in layout:
            assert f"| {field_name} | {field.offset} to {field.offset + field.width - 1} |" in text
    for heading in ("## What it does", "## Timing", "## Payloads", "## Parameters"):
        assert heading in text
    array = getattr(design, "array", design)
    for index, weight in enumerate(array.weights):
        assert f"| {index} | {weight.name} | {weight.bits} | {weight.terms} |" in text
    assert "bitkiln sim" in text


def test_datasheet_of_a_core_has_the_packed_layout(generated):
    name, resolved, files = generated
    text = files.paths["datasheet"].read_text()
    assert ("## Weights" in text) == (name == "core")
    if name == "core":
        layout = resolved.design.layout
        assert len(layout.header) == 3
        for field in layout.header:
            assert f"| {field.name} | {field.bit} to {field.bit + field.width - 1} |" in text
        # Two bytes of header; 64 bytes, 26 of five trits each, 64 + 32 of codes; whole words.
        for row in ("| bitmod4 | dense | 68 | 4.250 |", "| ternary | trits | 28 | 1.750 |",
                    "| fp6_e3m2 | 4+2 | 100 | 6.250 |"):
            assert row in text
        assert "Words of 32 bits. Channels in tiles of 2: their float32 scales" in text


def test_verilator_accepts_it_without_a_warning_that_matters(generated):
    name, _, files = generated
    tool = require("verilator")
    done = subprocess.run([tool.path, "--lint-only", "--timing", HARMLESS, f"{name}.v"], cwd=files.folder,
                          capture_output=True, text=True, env=tool.environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_yosys_reads_it(generated):
    name, _, files = generated
    text = run_tool(require("yosys"), ["-p", f"read_verilog {name}.v; hierarchy -check -top {name}; proc; "
                                             "check -assert"], files.folder)
    assert "Warning" not in text


def test_the_same_bytes_again(generated, tmp_path):
    name, _, files = generated
    _, again = made(DESIGNS[name], tmp_path / "again")
    for path in files.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_identical_between_processes():
    texts = []
    Path("d.yaml").write_text(json.dumps({"engine": "dequant_core", "pe": "int8xbitmod3", "lanes": 2}))
    for seed in ("0", "7"):
        subprocess.run([sys.executable, "-m", "bitkiln", "generate", "d.yaml", "-o", f"out{seed}"], check=True,
                       capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        texts.append({path.name: path.read_bytes() for path in Path(f"out{seed}").iterdir()})
    assert texts[0] == texts[1] and len(texts[0]) == 5


def test_every_reader_and_pe_is_one_module(generated):
    """Columns and rows share modules, so that a large array does not take the tools longer to read."""
    name, _, files = generated
    text = files.paths["verilog"].read_text()
    kinds = ("pe_", "scale_bitserial", "terms_") + (("reader_", "codes_", "trits") if name == "core" else ())
    for kind in kinds:
        assert text.count(f"\nmodule {kind}") == 1, kind
    assert text.count("\nmodule reader_") == (name == "core")
