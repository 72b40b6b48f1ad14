"""The command line itself: help, JSON, exit codes, pipes and interrupts."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitkiln import __version__
from bitkiln.cli import app, run_cli
from bitkiln.commands.welcome import PANELS

ROOT = Path(__file__).resolve().parents[2]
BITKILN = [sys.executable, "-m", "bitkiln"]
COMMANDS = ["sim", "view", "generate", "draw", "synth", "estimate", "sweep", "calibrate", "assign", "reproduce", "run",
            "perplexity", "spconv", "quantize", "formats", "init", "schema", "presets", "bench", "doctor", "bitstream",
            "board"]


def output_of(capsys, *arguments: str) -> str:
    assert run_cli(arguments) == 0
    return capsys.readouterr().out


def test_bare_call_prints_a_short_page(capsys):
    """What it is, examples that exist, where to look next; the help has the rest."""
    lines = output_of(capsys).splitlines()
    assert lines[0] == f"Bitkiln {__version__}: verified hardware for low-precision arithmetic." and len(lines) < 24
    shown = [line.split()[1] for line in lines if line.startswith("  bitkiln ")]
    assert len(shown) > 8 and set(shown) - {"--help", "--install-completion"} <= set(COMMANDS)


def test_help_is_complete_and_in_panels(capsys):
    text = output_of(capsys, "--help")
    assert "Usage: bitkiln" in text and "other" not in PANELS
    places = [text.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places) and "─ other ─" not in text
    for (_, names), start, end in zip(PANELS.items(), places, [*places[1:], len(text)], strict=True):
        for name in set(names) & set(COMMANDS):
            assert f"│ {name} " in text[start:end]
    assert set(COMMANDS) <= {name for names in PANELS.values() for name in names}


def test_version(capsys):
    assert output_of(capsys, "--version") == f"bitkiln {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    text = output_of(capsys, command, "--help")
    assert "Example" in text and f"bitkiln {command}" in text


def test_every_command_is_tested():
    import typer
    assert set(typer.main.get_command(app).commands) == set(COMMANDS)


def test_formats(capsys):
    rows = json.loads(output_of(capsys, "formats", "--json"))
    assert {"fp4", "posit16_1", "int16", "ternary", "nf4", "mxfp4"} <= {row["name"] for row in rows}
    assert "posit16_1" in output_of(capsys, "formats")
    posits = json.loads(output_of(capsys, "formats", "--family", "posit", "--json"))
    assert {row["family"] for row in posits} == {"posit"}


def test_formats_show(capsys):
    facts = json.loads(output_of(capsys, "formats", "show", "fp8_e4m3", "--json"))
    assert (facts["max"], facts["min_positive"], facts["precision_bits"]) == (448.0, 2.0**-9, 4)
    assert "table" not in facts
    table = json.loads(output_of(capsys, "formats", "show", "fp4", "--json"))["table"]
    assert [row["value"] for row in table][:8] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    shown = output_of(capsys, "formats", "show", "posit4_1")
    assert "NaR" in shown and "0x08" in shown


def test_doctor(capsys):
    rows = json.loads(output_of(capsys, "doctor", "--json"))
    assert {"verilator", "cxx", "yosys", "nextpnr-ecp5", "iverilog"} <= {row["tool"] for row in rows}
    assert all(row["install"] and row["needed_for"] for row in rows)


def test_presets_and_schema(capsys):
    names = [row["name"] for row in json.loads(output_of(capsys, "presets", "--json"))]
    assert "dot_fp4" in names
    assert json.loads(output_of(capsys, "presets", "dot_fp4", "--json"))["formats"]["weight"] == "fp4"
    assert output_of(capsys, "presets", "dot_fp4").startswith("# ")
    assert json.loads(output_of(capsys, "schema"))["title"] == "bitkiln dot_unit"


def test_init_writes_a_file_that_generates(capsys):
    output_of(capsys, "init", "mine.yaml")
    assert "mine.yaml" in output_of(capsys, "init", "mine.yaml", "--force")
    files = json.loads(output_of(capsys, "generate", "mine.yaml", "-o", "out", "--json"))["files"]
    assert all(Path(path).exists() for path in files.values())


def test_debug_shows_the_traceback_wherever_it_stands(capsys):
    for arguments in (["--debug", "sim", "nonsense"], ["sim", "nonsense", "--debug"]):
        assert run_cli(arguments) == 2
        text = capsys.readouterr().err
        assert "Traceback" in text and "error: unknown PE" in text


def test_unexpected_errors_are_one_line(monkeypatch, capsys):
    def broken():
        raise RuntimeError("two\nlines")
    monkeypatch.setattr("bitkiln.sim.toolchain.doctor", broken)
    assert run_cli(["doctor"]) == 1
    text = capsys.readouterr().err
    assert text == ("error: internal error, RuntimeError: two lines\n"
                    "help: this is a bug in bitkiln; run again with --debug and report the traceback\n")


def test_full_disk(monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device", "out")
    monkeypatch.setattr("tempfile.mkstemp", full)
    assert run_cli(["init", "x.yaml"]) == 1
    assert capsys.readouterr().err == ("error: cannot write at out: got 'no space left on device', expected a writable "
                                       "folder with room\nhelp: choose another place\n")
    assert not list(Path().iterdir())


# In processes of their own --------------------------------------------------------------------------

def test_help_is_quick():
    best = min(_seconds([*BITKILN, "--help"]) for _ in range(3))
    assert best < 1.0           # half a second on an idle machine


def _seconds(command: list[str]) -> float:
    """CPU time: the machine may be busy with others."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_exit_code_and_streams_of_a_process():
    done = subprocess.run([*BITKILN, "sim", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown PE at PE: got 'nonsense'")
    assert len(done.stderr.splitlines()) == 2


def test_closed_pipe_is_quiet():
    done = subprocess.run(["bash", "-c", f"'{sys.executable}' -m bitkiln formats | head -1"], capture_output=True,
                          text=True)
    assert done.stderr == ""


def test_no_color():
    environment = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "", "TERM": "xterm-256color"}
    done = subprocess.run([*BITKILN, "formats"], capture_output=True, env=environment, check=True)
    assert b"\x1b[" not in done.stdout


def test_interrupt_is_130_without_traceback():
    script = ("import bitkiln.sim.toolchain as t, time, sys\n"
              "def slow():\n    print('ready', flush=True)\n    time.sleep(30)\n"
              "t.doctor = slow\n"
              "from bitkiln.cli import main\nsys.argv = ['bitkiln', 'doctor']\nmain()")
    # A test run in the background of a shell has inherited that interrupts are ignored.
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [[], ["PE=fp4", "ENGINE=dot_unit"]])
def test_make_sim_takes_exactly_one(arguments):
    environment = {key: value for key, value in os.environ.items() if key not in ("PE", "ENGINE", "MAKEFLAGS")}
    done = subprocess.run(["make", "-C", str(ROOT), "sim", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: wrong arguments at make sim")


def test_make_help_lists_the_targets():
    done = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    for target in ("sim", "test", "test-full", "mutate", "bench", "lint", "typecheck", "doctor"):
        assert f"\n  {target} " in done.stdout
