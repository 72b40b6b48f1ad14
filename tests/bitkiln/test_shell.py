"""Shell comfort: completion, --json everywhere, colours and progress on a terminal only, each step names the next."""

import io
import json
import os
import pty
import re
import resource
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from bitkiln.cli import app, run_cli
from bitkiln.commands import bars, complete, names, steps
from bitkiln.commands.shell import completing, typed_command
from bitkiln.engines import engine, engine_names
from bitkiln.flow.simulate import Step

ROOT = Path(__file__).resolve().parents[2]
BITKILN = [sys.executable, "-m", "bitkiln"]


# Completion -----------------------------------------------------------------------------------------

def completed(monkeypatch, capsys, line: str, shell: str = "bash") -> list[str]:
    """What a shell offers at the end of a line, by the environment that its script sets."""
    monkeypatch.setenv("_BITKILN_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert run_cli([]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return [found for found in shown.out.splitlines() if found]


@pytest.mark.parametrize("line, wanted", [
    ("bitkiln s", ["synth", "sim", "sweep", "spconv", "schema"]),
    ("bitkiln formats s", ["show"]),
    ("bitkiln sim fp8_e4", ["fp8_e4m3", "fp8_e4m3_ieee"]),
    ("bitkiln sim int8xbin", ["int8xbinary"]),
    ("bitkiln sim fp16xbitmod", ["fp16xbitmod3_er_pos", "fp16xbitmod3_er_neg", "fp16xbitmod3_ea_pos",
                                 "fp16xbitmod3_ea_neg", "fp16xbitmod4_er_pos", "fp16xbitmod4_er_neg",
                                 "fp16xbitmod4_ea_pos", "fp16xbitmod4_ea_neg", "fp16xbitmod3", "fp16xbitmod4"]),
    ("bitkiln generate --engine mat", ["matmul_array", "matmul_core"]),
    ("bitkiln --no-color draw --engine ma", ["matmul_array", "matmul_core", "map_search"]),
    ("bitkiln init --preset spconv", ["spconv_edge"]),
    ("bitkiln synth fp4 --target ecp5-", ["ecp5-25k", "ecp5-85k"]),
    ("bitkiln estimate --technology sky", ["sky130hd"]),
    ("bitkiln estimate int8 --workload resnet1", ["resnet18", "resnet18-cifar"]),
    ("bitkiln sweep core", ["core_shapes"]),
    ("bitkiln assign digits-m", ["digits-mlp"]),
    ("bitkiln run d", ["digits"]),
    ("bitkiln quantize --methods rtn_sym,bit", ["rtn_sym,bitmod", "rtn_sym,bitmod_compat", "rtn_sym,bitdistiller"]),
    ("bitkiln generate --modes fp4,int8xfp4,int8xte", ["fp4,int8xfp4,int8xternary"]),
    ("bitkiln generate --package litex,v", ["litex,vivado"]),
    ("bitkiln formats show mxfp4", ["mxfp4"]),
    ("bitkiln formats --family po", ["posit"]),
    ("bitkiln reproduce --only b", ["bitmod"]),
    ("bitkiln bitstream --board ice", ["icebreaker"]),
    ("bitkiln board run digits --board ul", ["ulx3s"]),
    ("bitkiln nonsense x", []),
])
def test_completion(line, wanted, monkeypatch, capsys):
    assert completed(monkeypatch, capsys, line) == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_other_shells(shell, monkeypatch, capsys):
    found = "\n".join(completed(monkeypatch, capsys, "bitkiln sim fp8_e5", shell))
    assert found == {"zsh": "_arguments '*: :((\"fp8_e5m2\"))'", "fish": "fp8_e5m2"}[shell]
    commands = "\n".join(completed(monkeypatch, capsys, "bitkiln vie", shell))
    assert "view" in commands and "Open waves" in commands
    assert "--engine" in "\n".join(completed(monkeypatch, capsys, "bitkiln draw --eng", shell))


def test_completion_of_files_and_boards(monkeypatch, capsys):
    for name in ("my.yaml", "my.txt", "waves.fst", ".hidden.yaml"):
        Path(name).touch()
    Path("mine").mkdir()
    (Path("mine") / "core.yml").touch()
    assert completed(monkeypatch, capsys, "bitkiln sim m") == ["mine/", "my.yaml"]
    assert completed(monkeypatch, capsys, "bitkiln sim mine/") == ["mine/core.yml"]
    assert completed(monkeypatch, capsys, "bitkiln view w") == ["waves.fst"]
    assert completed(monkeypatch, capsys, "bitkiln view nowhere/") == []
    assert "ulx3s" in complete.boards("ul")


def test_names_are_those_of_the_registries():
    from bitkiln.flow.reproduce import item_names
    from bitkiln.models.design.weights import weight_type_names
    from bitkiln.models.formats import format_names, list_formats
    from bitkiln.models.quantize.methods import METHODS
    from bitkiln.models.workloads.shapes_registry import workload_names

    rows = list_formats()
    assert list(names.FORMATS) == list(format_names())
    assert list(names.BLOCK_FORMATS) == [row["name"] for row in rows if row["family"] == "block-scaled"]
    assert list(names.FAMILIES) == list(dict.fromkeys(row["family"] for row in rows))
    assert list(names.WEIGHTS) == list(weight_type_names())
    assert list(names.WORKLOADS) == list(workload_names())
    assert list(names.METHODS) == list(METHODS)
    assert list(names.REPRODUCED) == list(item_names())


def test_what_is_offered_is_accepted(monkeypatch):
    """Every word of the fixed lists, where it costs nothing to try."""
    from bitkiln.commands.common import resolve_design
    from bitkiln.flow.targets import get_target
    from bitkiln.models.cost.area.area import technology_names

    for name in complete.units(""):
        resolve_design(name)
    assert complete.presets("") == sorted(complete.presets("")) and complete.engines("") == engine_names()
    assert [get_target(name) for name in complete.targets("") if name != "asic"]
    assert set(complete.technologies("")) == set(technology_names())
    assert complete.accumulators("e") == ["exact"]
    monkeypatch.chdir(ROOT)
    assert complete.suites("foun") == ["foundation"]


def test_completion_needs_no_numpy_and_is_quick():
    script = ("import sys, bitkiln.cli\ntry:\n    bitkiln.cli.run_cli([])\nfinally:\n"
              "    print(*[m for m in ('numpy', 'amaranth', 'ruamel', 'rich') if m in sys.modules], file=sys.stderr)")
    environment = {**os.environ, "_BITKILN_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    best = 9.0
    for last in ("bitkiln\nsynth\n--target\nec", "bitkiln\ngenerate\n--engine\nma", "bitkiln\nsim\nfp4\n--pre"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                              env={**environment, "COMP_WORDS": last})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.stderr == "\n" and done.stdout
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert best < 0.6           # 0.2 s of processor time on an idle machine


def test_typed_command(monkeypatch):
    for words, at, command in (("bitkiln\nsim\nfp", "2", "sim"), ("bitkiln\nsi", "1", None),
                               ("bitkiln\n--debug\nsim\n", "3", "sim"), ("bitkiln sim fp", "2", "sim")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", at)
        assert typed_command() == command
    monkeypatch.delenv("COMP_WORDS")
    for line, command in (("bitkiln sim ", "sim"), ("bitkiln sim", None), ("bitkiln draw 'x", "draw"), ("", None)):
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        assert typed_command() == command
    lean = typer.main.get_command(completing(app, "formats"))
    assert set(lean.commands) == set(typer.main.get_command(app).commands)
    assert "show" in lean.commands["formats"].commands and not [
        parameter for parameter in lean.commands["sim"].params if parameter.name != "help"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": os.getcwd()}
    shown = subprocess.run([*BITKILN, "--show-completion", shell], capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and f"_BITKILN_COMPLETE=complete_{shell}" in shown.stdout and shown.stderr == ""
    subprocess.run([*BITKILN, "--install-completion", shell], capture_output=True, env=environment, check=True)
    written = [path for path in Path().rglob("*") if path.is_file() and "bitkiln" in path.name]
    assert len(written) == 1 and "_BITKILN_COMPLETE" in written[0].read_text()


def test_bash_completes_by_its_script():
    """The whole way round, where the script finds the program on PATH."""
    Path("bin").mkdir()
    program = Path("bin/bitkiln")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bitkiln "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{Path('bin').absolute()}:{os.environ['PATH']}",
                   "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = ('eval "$(bitkiln --show-completion bash)"; COMP_WORDS=(bitkiln sim posit16_); COMP_CWORD=2; '
              '_bitkiln_completion bitkiln; echo "${COMPREPLY[*]}"')
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [f"posit16_{es}" for es in range(5)]


# --json ---------------------------------------------------------------------------------------------

def leaves(command, path: tuple[str, ...] = ()):
    """Every command that does something, groups that do something by themselves among them."""
    commands = getattr(command, "commands", None)
    if commands is None or (path and command.invoke_without_command):
        yield path, command
    for name, inner in (commands or {}).items():
        yield from leaves(inner, (*path, name))


LEAVES = dict(leaves(typer.main.get_command(app)))
# A quick run of each; what no quick run can do in a test of the shell has its own tests of --json.
QUICK = {
    ("init",): ["my.yaml"], ("generate",): ["fp4", "--vectors", "16"], ("draw",): ["fp4"],
    ("synth",): ["int4", "--lanes", "1", "--seeds", "0"], ("view",): ["waves.vcd"],
    ("sim",): ["--engine", "dot_unit", "--images", "1"], ("estimate",): ["int8"], ("sweep",): ["--list"],
    ("reproduce",): ["--list"], ("run",): ["mlp", "--pe", "int8", "--samples", "2"],
    ("assign",): ["digits-mlp", "--modes", "int4,int8", "--budget-bytes", "100000"],
    ("quantize",): ["--list"], ("formats",): [], ("formats", "show"): ["fp4"], ("presets",): [], ("schema",): [],
    ("doctor",): [], ("board",): [], ("spconv",): ["room", "--voxel", "1", "--net", "minkunet-tiny", "--no-picture"],
}
# Minutes, hardware or a download.
SLOW = {("calibrate",), ("bench",), ("perplexity",), ("bitstream",), ("board", "info"), ("board", "run"),
        ("board", "check")}


def test_every_command_has_json():
    assert set(LEAVES) == set(QUICK) | SLOW
    for path, command in LEAVES.items():
        options = [name for parameter in command.params for name in parameter.opts]
        assert "--json" in options, " ".join(path)


@pytest.fixture
def no_simulation(monkeypatch):
    """The checks of `bitkiln sim` answered at once: tests/bitkiln/test_sim_command.py runs them."""
    monkeypatch.setattr("bitkiln.flow.simulate.simulate", lambda resolved, options: iter([
        Step("unit", 1, "vectors", 0, "equal", 0.1, {})]))
    monkeypatch.setenv("BITKILN_BUILD", os.environ.get("BITKILN_BUILD", str(ROOT / "build")))


@pytest.mark.parametrize("path", QUICK, ids=" ".join)
def test_json_is_all_of_standard_output(path, capsys, no_simulation):
    Path("waves.vcd").write_text("$date today $end\n")
    assert run_cli([*path, *QUICK[path], "--json"]) == 0
    shown = capsys.readouterr()
    json.loads(shown.out)
    assert "next:" not in shown.err


# Terminals ------------------------------------------------------------------------------------------

def on_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run in a pseudo-terminal; exit code and everything shown."""
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    child, handle = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*BITKILN, *arguments],
                  {**variables, "TERM": "xterm-256color", "COLUMNS": "100", **environment})
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([handle], [], [], 1)[0]:
            try:
                part = os.read(handle, 1 << 16)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors="replace")


COLOUR = re.compile(r"\x1b\[[0-9;]*[34]\d[0-9;]*m")


def test_colour_on_a_terminal_only():
    code, shown = on_terminal("formats", "show", "fp4")
    assert code == 0 and "\x1b[1m" in shown
    assert "\x1b[1m" in on_terminal()[1] and COLOUR.search(on_terminal("--help")[1])
    piped = subprocess.run([*BITKILN, "formats", "show", "fp4"], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout


@pytest.mark.parametrize("arguments, environment", [(("--no-color",), {}), ((), {"NO_COLOR": "1"})])
def test_no_colour_on_a_terminal(arguments, environment):
    for words in (("formats", "show", "fp4"), ()):
        code, shown = on_terminal(*words, *arguments, **environment)
        assert code == 0 and "\x1b" not in shown and len(shown) > 500
    assert not COLOUR.search(on_terminal("--help", *arguments, **environment)[1])


def test_no_color_lasts_for_one_call(capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert run_cli(["formats", "show", "fp4", "--no-color"]) == 0
    assert os.environ["NO_COLOR"] == ""


STEPS = ("import sys, time\nfrom bitkiln.commands.bars import bars, close, say, work\n"
         "say('first step'); time.sleep(0.3); say('second step')\nwork('at once')\n"
         "with bars() as tick:\n    tick('tasks', 0, 3); tick('tasks', 3, 3)\n"
         "say('last step')\nprint('result'); close()\n")


def test_progress_on_a_terminal():
    """A clock beside each step, a bar for what is counted; lines stay, clocks do not; results stand apart."""
    program, handle = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", STEPS], stdout=subprocess.PIPE, stderr=handle,
                               env={**os.environ, "TERM": "xterm-256color"})
    os.close(handle)
    assert process.communicate(timeout=30)[0] == b"result\n" and process.returncode == 0
    shown = b""
    while select.select([program], [], [], 0.5)[0]:
        try:
            part = os.read(program, 1 << 16)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(program)
    text = shown.decode()
    assert "0:00:00" in text and "3/3" in text and text.count("first step") > 2
    lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("\n") if line]
    plain = [line for line in lines if line in ("first step", "second step", "at once", "last step")]
    assert plain == ["first step", "second step", "last step"]


@pytest.mark.parametrize("ci", ["", "true"])
def test_progress_in_a_pipe(ci):
    """Plain lines; a log of continuous integration has them too, since it is all that one sees of a failed run."""
    piped = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True,
                           env={**os.environ, "CI": ci})
    assert (piped.stdout, piped.stderr) == ("result\n", "first step\nsecond step\nlast step\n")


def test_counted_work_in_a_pipe(monkeypatch):
    """A line now and then, the first after two seconds; errors of single steps with their logs."""
    now, shown = [0.0], io.StringIO()
    monkeypatch.setattr(bars.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", shown)
    display = bars._Display()
    for second in range(26):
        now[0] = float(second)
        display.tick("points", second, 1000)
    assert shown.getvalue() == "points: 2 of 1,000\npoints: 12 of 1,000\npoints: 22 of 1,000\n"
    display.say("error: one check\n  its log")
    display.say("a step")
    assert shown.getvalue().endswith("error: one check\n  its log\na step\n")


# Each step names the next -----------------------------------------------------------------------------

def test_path_of_a_user(capsys, no_simulation, monkeypatch):
    """init -> generate -> synth -> sim -> sweep, each by the line that the one before printed."""
    monkeypatch.delenv("MAKELEVEL", raising=False)
    command, walked = ["init", "my.yaml", "--preset", "dot_fp4"], []
    while command[0] not in ("sweep", "bitstream"):
        walked.append(command[0])
        extra = {"generate": ["--vectors", "16"], "synth": ["--seeds", "0"]}
        assert run_cli([*command, *extra.get(command[0], [])]) == 0
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("next: ")
        words = line.removeprefix("next: ").split(", then ")[-1].split()
        assert words[0].endswith("bitkiln")
        command = words[1:]
    assert walked == ["init", "generate", "synth", "sim"] and command == ["sweep", "formats"]


def test_next_step_of_options(capsys, monkeypatch):
    monkeypatch.delenv("MAKELEVEL", raising=False)
    assert run_cli(["generate", "--pe", "int4", "--lanes", "2", "--depth", "64", "--vectors", "16"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("bitkiln synth int4 --lanes 2 --depth 64")
    steps.next_step("bitstream", "--board", "ulx3s", make="bitstream BOARD=ulx3s")
    assert capsys.readouterr().err.endswith("bitkiln bitstream --board ulx3s\n")
    monkeypatch.setenv("MAKELEVEL", "1")
    steps.next_step("bitstream", "--board", "ulx3s", make="bitstream BOARD=ulx3s")
    steps.next_step("no-such-command", "x")
    assert capsys.readouterr().err == "next: make bitstream BOARD=ulx3s\n"


def test_program_is_named_as_it_can_be_called(monkeypatch):
    script = Path(sys.executable).parent / "bitkiln"
    if not script.exists():
        pytest.skip("not installed beside this Python")
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert steps.program() == "bitkiln"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert steps.program() == str(script)
    monkeypatch.chdir(script.parent.parent)
    assert steps.program() == "bin/bitkiln"


# init -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", engine_names())
def test_init_writes_a_file_of_any_engine(name, capsys):
    assert run_cli(["init", "core.yaml", "--engine", name]) == 0
    text = Path("core.yaml").read_text()
    assert f"\nengine: {name}\n" in text and text.count("#") > 8
    assert run_cli(["init", "core.yaml"]) == 2                      # nothing is replaced unasked
    assert Path("core.yaml").read_text() == text
    from bitkiln.config import load_design

    assert load_design(Path("core.yaml")).engine is engine(name)
