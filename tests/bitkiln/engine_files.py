"""What the tests of an engine's descriptions and generated files have in common."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.flow.tools import run_tool
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.toolchain import require

HARMLESS = "-Wno-UNOPTFLAT"


def check_refused(described: Callable[[str], object], text: str, message: str, capsys) -> None:
    """The same line from Python and from the command line, exit code 2, and nothing written."""
    with pytest.raises(BitkilnError) as caught:
        described(text)
    assert caught.value.render() == message and caught.value.exit_code == 2
    assert run_cli(["generate", "d.yaml", "-o", "out"]) == 2
    assert capsys.readouterr().err.strip() == message
    assert [path.name for path in Path().iterdir()] == ["d.yaml"]


def check_files(resolved, files, name: str, layouts: list) -> tuple[dict, dict[str, int], str]:
    """Files of an engine, sidecar and every row of the datasheet; returns facts, widths of the ports, datasheet."""
    assert {path.name for path in files.folder.iterdir()} == {
        f"{name}.v", f"{name}.json", "README.md", f"{name}.html", f"{name}.svg"}
    facts = json.loads(files.paths["sidecar"].read_text())
    assert (facts["module"], facts["config"]) == (name, resolved.config)
    assert facts["sha256"] == hashlib.sha256(files.paths["verilog"].read_bytes()).hexdigest()
    text = files.paths["datasheet"].read_text()
    for layout in layouts:
        for field_name, field in layout:
            assert f"| {field_name} | {field.offset} to {field.offset + field.width - 1} |" in text
    for port in facts["ports"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port['name']}` |"))
        assert not row.endswith("|  |"), row
    for heading in ("## What it does", "## Timing", "## Payloads", "## Formats", "## Parameters"):
        assert heading in text
    return facts, {port["name"]: port["width"] for port in facts["ports"]}, text


def check_tools(files, name: str) -> None:
    """Verilator's lint and Yosys have nothing to say."""
    tool = require("verilator")
    done = subprocess.run([tool.path, "--lint-only", "--timing", HARMLESS, f"{name}.v"], cwd=files.folder,
                          capture_output=True, text=True, env=tool.environment())
    assert (done.returncode, done.stderr) == (0, "")
    text = run_tool(require("yosys"), ["-p", f"read_verilog {name}.v; hierarchy -check -top {name}; proc; check "
                                             "-assert"], files.folder)
    assert "Warning" not in text
