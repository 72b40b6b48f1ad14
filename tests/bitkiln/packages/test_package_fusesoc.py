"""The FuseSoC core and generator, run by FuseSoC itself with the simulator that Bitkiln brings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bitkiln.flow.programs import write_programs

# Values of the simulator's build that make it quick; the programs' own MAKEFLAGS come with them.
QUICK = " ".join(f"OPT_{each}=-O0" for each in ("FAST", "SLOW", "GLOBAL"))


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """A folder of programs, the simulator's with optimisation off."""
    folder = tmp_path_factory.mktemp("tools")
    write_programs(folder)
    verilator = folder / "verilator"
    text = verilator.read_text()
    assert text.count('export MAKEFLAGS="') == 1
    verilator.write_text(text.replace('export MAKEFLAGS="', f'export MAKEFLAGS="{QUICK} '))
    return folder


@pytest.fixture
def fusesoc(tools, tmp_path):
    """FuseSoC on a folder of cores: arguments after ``run`` -> exit code and output."""
    def call(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path),
                       "XDG_DATA_HOME": str(tmp_path), **more}
        done = subprocess.run([sys.executable, "-m", "fusesoc.main", "--cores-root", str(folder), *arguments],
                              cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout
    return call


def test_core_file_says_what_there_is(cores, fusesoc):
    for key, targets in (("unit", {"default", "lint", "sim", "sim_icarus", "synth", "synth_ice40"}),
                         ("serial", {"default", "lint", "synth", "synth_ice40"})):
        code, text = fusesoc(cores(key).folder, "core", "show", f"bitkiln:cores:{key}")
        assert code == 0 and f"bitkiln:cores:{key}:0.1.0" in text
        assert targets == {line.split(":")[0].strip() for line in text.split("Targets:")[1].splitlines() if ":" in line}


@pytest.mark.parametrize("which", ["unit", "serial", *(pytest.param(each, marks=pytest.mark.slow)
                                                       for each in ("pe", "array", "core", "master"))])
def test_lint(cores, fusesoc, which):
    code, text = fusesoc(cores(which).folder, "run", "--target", "lint", f"bitkiln:cores:{which}")
    assert code == 0, text
    assert "%Warning" not in text and "verilator -f" in text


def test_lint_finds_what_is_wrong(copy_of, fusesoc):
    core = copy_of("unit")
    path = core.folder / "unit.v"
    path.write_text(path.read_text().replace("endmodule", "  assign nowhere = 1'b1;\nendmodule", 1))
    code, text = fusesoc(core.folder, "run", "--target", "lint", "bitkiln:cores:unit")
    assert code == 1 and "nowhere" in text


def test_synthesis_is_set_up(cores, fusesoc, tmp_path):
    """Its flow needs a Yosys with Tcl, so no more than the files that it would run."""
    for target, command in (("synth", "synth_ecp5"), ("synth_ice40", "synth_ice40")):
        code, text = fusesoc(cores("unit").folder, "run", "--setup", "--target", target, "bitkiln:cores:unit")
        assert code == 0, text
        script, = (tmp_path / "build").rglob(f"{target}/edalize_yosys_template.tcl")
        assert "synth $top" in script.read_text()
        text = (script.parent / "edalize_yosys_procs.tcl").read_text()
        assert re.search(rf"\b{command}\b", text) and "/unit.v}" in text


@pytest.mark.slow
def test_simulation_passes_and_fails(copy_of, fusesoc):
    """The vectors' expected sums decide: the same model with one of them changed fails."""
    core = copy_of("unit")
    run = ("run", "--target", "sim", "bitkiln:cores:unit")
    code, text = fusesoc(core.folder, *run)
    assert code == 0, text
    assert "PASS: unit: 64 cycles checked, 0 mismatches" in text
    vectors = core.folder / "unit_tb.hex"
    lines = vectors.read_text().splitlines()
    lines[40] = f"{int(lines[40], 16) ^ 1:0{len(lines[40])}x}"
    vectors.write_text("\n".join(lines) + "\n")
    code, text = fusesoc(core.folder, *run)
    assert code == 1 and "FAIL: unit: 1 of 64 cycles differ" in text


@pytest.mark.slow
def test_simulation_of_a_switchable_pe(cores, fusesoc):
    code, text = fusesoc(cores("pe").folder, "run", "--target", "sim", "bitkiln:cores:pe")
    assert code == 0 and "PASS: pe: 64 cycles checked" in text


@pytest.mark.slow
@pytest.mark.parametrize("which", ["core", "master"])
def test_smoke_test_of_a_core(copy_of, fusesoc, which):
    core = copy_of(which)
    run = ("run", "--target", "sim", f"bitkiln:cores:{which}")
    code, text = fusesoc(core.folder, *run)
    assert code == 0, text
    assert re.search(rf"PASS: {which}: [89] reads checked", text)
    bench = core.folder / "fusesoc" / f"{which}_smoke_tb.v"
    bench.write_text(bench.read_text().replace("32'h42544b4c", "32'h42544b4d"))
    code, text = fusesoc(core.folder, *run)
    assert code == 1 and f"FAIL: {which}: 1 errors" in text


def test_generator(cores, fusesoc, tmp_path):
    """FuseSoC lets Bitkiln make the same Verilog from the description in the example's core file."""
    folder = cores("unit").folder / "fusesoc-generator"
    code, text = fusesoc(folder, "run", "--target", "lint", "bitkiln:examples:unit")
    assert code == 0 and "Generating bitkiln:examples:unit-core" in text, text
    made, = (tmp_path / "build").rglob("lint/src/*/unit.v")
    assert made.read_bytes() == (cores("unit").folder / "unit.v").read_bytes()
    code, text = fusesoc(folder, "gen", "show", "bitkiln")
    assert code == 0 and "bitkiln init" in text


USER = """CAPI=2:
name: me:mine:top:1.0
filesets:
  rtl: {{depend: ["bitkiln:utils:generator"]}}
generate:
  pe: {{generator: bitkiln, parameters: {parameters}}}
targets:
  default: {{filesets: [rtl], generate: [pe], toplevel: my_pe}}
  lint: {{filesets: [rtl], generate: [pe], toplevel: my_pe, flow: lint, flow_options: {{tool: verilator}}}}
"""


@pytest.mark.slow
def test_generator_takes_a_file_and_passes_errors_on(copy_of, fusesoc, tmp_path):
    folder = copy_of("unit").folder / "fusesoc-generator"
    user = folder / "top.core"
    (folder / "my.yaml").write_text("engine: dot_unit\npe: int4\nlanes: 1\nname: my_pe\n")
    user.write_text(USER.format(parameters="{file: my.yaml}"))
    code, text = fusesoc(folder, "run", "--target", "lint", "me:mine:top")
    assert code == 0, text
    assert list((tmp_path / "build").rglob("lint/src/*/my_pe.v"))
    user.write_text(USER.format(parameters="{file: my.yaml, lanes: 2}"))
    code, text = fusesoc(folder, "run", "--target", "lint", "me:mine:top")
    assert code == 1 and "error: parameter file stands alone: got also lanes" in text
    user.write_text(USER.format(parameters="{engine: dot_unit, pe: fp5, name: my_pe}"))
    code, text = fusesoc(folder, "run", "--target", "lint", "me:mine:top")
    assert code == 1 and "error: unknown PE" in text and "Traceback" not in text
    code, text = fusesoc(folder, "run", "--target", "lint", "me:mine:top", BITKILN="/nowhere/bitkiln")
    assert code == 1 and "error: cannot start /nowhere/bitkiln" in text
