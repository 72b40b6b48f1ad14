"""`bitkiln view` with a viewer that only writes down what it was asked, and `bitkiln draw`."""

import inspect
import json
import os
import shlex
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.engines import engine, engine_names
from bitkiln.flow import simulate_dot
from bitkiln.flow.simulate import Outcome
from bitkiln.hw.emit import Port
from bitkiln.sim.fst import write_signal_lists

ROOT = Path(__file__).resolve().parents[2]
FST = b"\x00\x00\x00\x00\x00\x00\x00\x01\x49" + bytes(320)


@pytest.fixture
def path_folder(monkeypatch, tmp_path):
    """PATH with nothing but a folder of the test's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("bitkiln.flow.waves.PATIENCE", 0.2)
    return folder


def fake(folder: Path, name: str, text: str = "") -> Path:
    """A viewer that writes its arguments into a file, and then stays open for a while unless ``text`` says more."""
    program, log = folder / name, folder / f"{name}.called"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{log}"\n{text or "exec /bin/sleep 3"}\n')
    program.chmod(0o755)
    return log


def waves(name: str = "waves.fst", lists: bool = True) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(FST if path.suffix == ".fst" else b"$date\n  today\n$end\n")
    if lists:
        write_signal_lists(path, "dot", [Port("a", "input", 16), Port("acc", "output", 19, True)])
    return path


def called(log: Path) -> list[str]:
    until = time.monotonic() + 10
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return log.read_text().splitlines()


@pytest.mark.parametrize("viewer, arguments", [("gtkwave", ["waves.fst", "waves.gtkw"]),
                                               ("surfer", ["-c", "waves.sucl", "waves.fst"])])
def test_opens_with_the_signal_list(viewer, arguments, path_folder, capsys):
    log = fake(path_folder, viewer)
    waves()
    assert run_cli(["view", "waves.fst"]) == 0
    assert called(log) == arguments
    shown = capsys.readouterr().out
    assert shown == f"waves: waves.fst\nopened: {shlex.join([str(path_folder / viewer), *arguments])}\n"


def test_which_viewer(path_folder, capsys):
    fake(path_folder, "surfer")
    waves()
    log = fake(path_folder, "gtkwave")
    assert run_cli(["view", "waves.fst"]) == 0 and called(log)              # the first one of both
    assert run_cli(["view", "waves.fst", "--viewer", "surfer", "--print"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{path_folder}/surfer -c waves.sucl waves.fst"
    assert run_cli(["view", "waves.fst", "--viewer", "emacs"]) == 2
    message = "error: unknown viewer at --viewer: got 'emacs', expected gtkwave or surfer\n"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("target", ["run/waves.fst", "run", "run/waves.gtkw", "run/waves.sucl"])
def test_names_of_the_same_waves(target, path_folder, capsys):
    waves("run/waves.fst")
    old = waves("run/older.vcd", lists=False)
    os.utime(old, (1, 1))
    assert run_cli(["view", target, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"waves": "run/waves.fst", "lists": ["run/waves.gtkw", "run/waves.sucl"], "viewer": None,
                     "command": ["gtkwave", "run/waves.fst", "run/waves.gtkw"]}


def test_the_newest_waves(capsys, monkeypatch, path_folder):
    assert run_cli(["view"]) == 2
    assert "error: missing argument at bitkiln view" in capsys.readouterr().err
    monkeypatch.setenv("BITKILN_BUILD", str(Path("mine").absolute()))
    os.utime(waves("mine/a-1/waves.fst"), (1, 1))
    waves("mine/b-2/waves.fst")
    assert run_cli(["view", "--print"]) == 0
    assert capsys.readouterr().out.split()[1].endswith("mine/b-2/waves.fst")


def test_without_a_viewer(path_folder, capsys):
    waves("my folder/waves.vcd", lists=False)
    assert run_cli(["view", "my folder"]) == 3
    shown = capsys.readouterr()
    assert shown.out == "waves: my folder/waves.vcd\n"
    assert shown.err == (
        "error: missing tool at bitkiln view: got 'no viewer on PATH', expected gtkwave or surfer\n"
        "help: apt-get install gtkwave, or Surfer from surfer-project.org (also in a browser: app.surfer-project.org); "
        "then `gtkwave 'my folder/waves.vcd'`\n")
    assert run_cli(["view", "my folder", "--viewer", "surfer"]) == 3
    assert "got 'no surfer on PATH', expected surfer" in capsys.readouterr().err


def test_a_viewer_that_cannot_start(path_folder, capsys, monkeypatch):
    monkeypatch.setattr("bitkiln.flow.waves.PATIENCE", 20)      # they stop by themselves
    fake(path_folder, "gtkwave", "echo cannot open display: >&2\nexit 1")
    waves(lists=False)
    assert run_cli(["view", "waves.fst"]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: the viewer stopped at {path_folder}/gtkwave waves.fst: got 'cannot open display:'\nhelp: without a ")
    (path_folder / "gtkwave").write_text("no program")
    assert run_cli(["view", "waves.fst"]) == 1
    assert "error: cannot start the viewer at " in capsys.readouterr().err
    fake(path_folder, "gtkwave", "exit 0")                  # such as one that hands over to a window that is open
    assert run_cli(["view", "waves.fst"]) == 0


HOW = "help: `bitkiln view fp4` runs a bench and writes some, `WAVES=1 bitkiln sim fp4` too\n"


@pytest.mark.parametrize("arguments, message", [
    (["none.fst"], "error: no such file at none.fst\n" + HOW),
    (["empty"], "error: no waves in this folder at empty: expected .fst, .vcd, .ghw\n" + HOW),
    (["alone.gtkw"], "error: no waves beside this signal list at alone.gtkw\n" + HOW),
    (["README.md"], "error: not a wave file at README.md: got '.md', expected .fst, .vcd, .ghw\n"),
    (["text.fst"], "error: not a wave file at text.fst: got 'other content', expected what a simulator writes as "
                   ".fst\n"),
    (["nothing.vcd"], "error: not a wave file at nothing.vcd: got 'an empty file', expected what a simulator writes as "
                      ".vcd\n"),
    (["text.fst", "--lanes", "4"], "error: contradictory options at bitkiln view --lanes: got '4', expected none with "
                                   "waves that exist\n"),
    (["fp44"], "error: unknown PE at PE: got 'fp44', expected a format name or AxW (activation x weight)\n"
               "help: did you mean fp4, nf4, fp3?\n"),
    (["none.yaml"], "error: no such file at none.yaml\nhelp: `bitkiln init` writes a starter file\n"),
    (["--engine", "morphable_pe"], "error: no cocotb bench that writes waves at bitkiln view: got 'morphable_pe', "
     "expected an engine with one: dot_unit, matmul_core, bitserial_array, spconv\n"
     "help: the Verilog test bench of `bitkiln generate` writes a .vcd file with -DWAVES\n"),
    (["--engine", "sparse_side"], "error: no cocotb bench that writes waves at bitkiln view: got 'sparse_side', "
     "expected an engine with one: dot_unit, matmul_core, bitserial_array, spconv\n"),
])
def test_one_clear_line(arguments, message, capsys):
    Path("empty").mkdir()
    for name, text in (("alone.gtkw", ""), ("README.md", "# x"), ("text.fst", "no waves"), ("nothing.vcd", "")):
        Path(name).write_text(text)
    assert run_cli(["view", *arguments]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", message)


def test_a_design_runs_its_bench(path_folder, capsys, monkeypatch):
    """The bench is told to record; what it recorded is opened; the variable is as before."""
    log = fake(path_folder, "gtkwave")
    asked = []

    def bench(resolved, seed):
        asked.append((resolved.name, seed, os.environ["WAVES"]))
        return Outcome(1, 0, "", {"waves": str(waves("bench/waves.fst"))})

    monkeypatch.setattr(simulate_dot, "bench", bench)
    monkeypatch.setattr("bitkiln.sim.toolchain.require", lambda tool: None)
    monkeypatch.setenv("WAVES", "0")
    assert run_cli(["view", "int4", "--lanes", "2", "--seed", "7"]) == 0
    assert asked == [("dot_int4_l2_exact18", 7, "1")] and os.environ["WAVES"] == "0"
    assert called(log) == ["bench/waves.fst", "bench/waves.gtkw"]
    shown = capsys.readouterr()
    assert "cocotb bench with waves" in shown.err and "opened: " in shown.out


def test_benches_take_a_design_and_a_seed():
    found = {name: engine(name).load("run_bench") for name in engine_names()}
    assert {name for name in found if engine(name).bench} == {name for name, run in found.items() if run is not None}
    for run in filter(None, found.values()):
        names = list(inspect.signature(run).parameters.values())
        assert [each.name for each in names[:2]] == ["resolved", "seed"]
        assert all(each.default is not inspect.Parameter.empty for each in names[2:])


@pytest.mark.slow
def test_waves_of_a_bench(capsys, monkeypatch):
    monkeypatch.setenv("BITKILN_BUILD", os.environ.get("BITKILN_BUILD", str(ROOT / "build")))
    assert run_cli(["view", "fp4", "--lanes", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert Path(facts["waves"]).read_bytes().startswith(FST[:9])
    lists = [Path(path).read_text() for path in facts["lists"]]
    assert len(lists) == 2 and all(".acc" in text for text in lists)


# draw -----------------------------------------------------------------------------------------------

def test_draw_writes_a_picture(capsys):
    assert run_cli(["draw", "int8xfp4", "--lanes", "2", "-o", "unit.svg"]) == 0
    assert capsys.readouterr().out == "written: unit.svg\n"
    drawn = Path("unit.svg").read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert run_cli(["draw", "int8xfp4", "--lanes", "2", "-o", "-"]) == 0
    assert capsys.readouterr().out == drawn
    assert run_cli(["draw", "--engine", "matmul_core", "--modes", "fp4,int8", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == f"build/{facts['name']}-{facts['digest'][:8]}/{facts['name']}.svg"
    assert Path(facts["file"]).read_text().startswith("<svg ") and facts["config"]["modes"] == ["fp4", "int8"]


@pytest.mark.parametrize("arguments, message", [
    ([], "error: missing argument at bitkiln draw: expected a YAML file, a PE, --engine or --preset\n"
         "help: for example `bitkiln draw fp4`\n"),
    (["fp4", "-o", "unit.png"], "error: unknown kind of file at -o: got 'unit.png', expected a name that ends in "
                                ".svg\n"),
    (["fp4", "-o", "-", "--json"], "error: contradictory options at bitkiln draw --json: got '-o -', expected a file: "
                                   "standard output carries the JSON\n"),
    (["fp4", "--modes", "int8"], "error: option does not apply at --modes: got 'int8', expected no such option with "
                                 "engine dot_unit\n"),
])
def test_draw_refuses(arguments, message, capsys):
    assert run_cli(["draw", *arguments]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", message) and not list(Path().iterdir())
