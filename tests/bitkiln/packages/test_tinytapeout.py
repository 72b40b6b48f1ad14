"""The Tiny Tapeout package: a project that the shuttle's checks take, with a test that runs and that sees bugs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from bitkiln.cli import run_cli
from bitkiln.config import load_design
from bitkiln.flow.metrics import Metric, Metrics
from bitkiln.flow.packages.tinytapeout import files as project
from bitkiln.flow.packages.tinytapeout_area import (
    SHUTTLES,
    USABLE,
    Area,
    around,
    clock_ns,
    tile_area,
)
from bitkiln.hw.emit import Port
from bitkiln.models.design import DotDesign
from bitkiln.models.design.pins import PinsDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.pins_check import check_pins
from bitkiln.sim.toolchain import find, require

# What Tiny Tapeout demands of a top module.
PORTS = {"clk": ("input", 1), "ena": ("input", 1), "rst_n": ("input", 1), "ui_in": ("input", 8), "uio_in": ("input", 8),
         "uio_oe": ("output", 8), "uio_out": ("output", 8), "uo_out": ("output", 8)}
DESIGNS = {
    "fp4": {"pe": "fp4", "lanes": 1},
    "posit": {"pe": "posit4_1", "lanes": 1, "pipeline": 1},
    "pairs": {"pe": "fp4", "lanes": 2},
    "modes": {"engine": "morphable_pe", "modes": ["fp4", "posit4_1"]},
    "rounded": {"pe": "posit8_0", "lanes": 1, "output.format": "posit8_0"},
    "ternary": {"pe": "int8xternary", "lanes": 4},
    "sections": {"engine": "morphable_pe", "modes": ["fp4", "posit8_0", "posit16_1"]},
}


@pytest.fixture(autouse=True)
def models_of_the_checkout(monkeypatch):
    """Compiled models and the runtime of the simulator are kept beside the sources, not in each test's folder."""
    root = Path(__file__).resolve().parents[3]
    monkeypatch.setenv("BITKILN_BUILD", os.environ.get("BITKILN_BUILD", str(root / "build")))


def resolved(options: dict):
    return load_design(cli={key: (value, key) for key, value in options.items()})


@cache
def made(name: str) -> tuple[PinsDesign, dict[str, str]]:
    one = resolved(DESIGNS[name])
    return PinsDesign(one.design), {path.removeprefix("tinytapeout/"): text
                                    for path, text in project(one, {}, {}).items()}


def written(name: str, folder: Path) -> Path:
    for path, text in made(name)[1].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def top_of(texts: dict[str, str]) -> str:
    return yaml.safe_load(texts["info.yaml"])["project"]["top_module"]


def verilog(texts: dict[str, str]) -> str:
    """All sources, in the order of info.yaml."""
    return "\n".join(texts[f"src/{name}"] for name in yaml.safe_load(texts["info.yaml"])["project"]["source_files"])


def top_model(texts: dict[str, str], text: str | None = None, extra: tuple[Port, ...] = ()) -> BatchModel:
    ports = [Port(name, direction, width) for name, (direction, width) in PORTS.items()]
    return BatchModel.from_verilog(text or verilog(texts), top_of(texts), [*ports, *extra])


# Files ----------------------------------------------------------------------------------------------

def test_command_writes_the_project(capsys):
    assert run_cli(["generate", "--pe", "fp4", "--package", "tinytapeout", "-o", "out", "--vectors", "16"]) == 0
    assert "tinytapeout/info.yaml" in capsys.readouterr().out
    folder = Path("out/tinytapeout")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"README.md", "info.yaml", "docs/info.md", "src/project.v", "src/pins_dot_fp4_l4_exact19.v",
                     "src/config.json", "test/Makefile", "test/verilator.mk", "test/tb.v", "test/test.py",
                     "test/vectors.txt", "test/requirements.txt", "micropython/bitkiln_pe.py"}
    left = [path for path in found if re.search(r"@[A-Z]+@", (folder / path).read_text())]
    assert not left         # placeholders


@pytest.mark.parametrize("name", DESIGNS)
def test_info_yaml_has_what_the_shuttle_checks(name):
    """The rules of Tiny Tapeout's project_info.py: keys, types, every pin named once, a known size."""
    design, texts = made(name)
    info = yaml.safe_load(texts["info.yaml"])
    one = info["project"]
    assert info["yaml_version"] == 6 and set(info) == {"project", "pinout", "yaml_version"}
    assert one["title"] and one["description"] and one["language"] == "Verilog" and one["author"] == ""
    assert isinstance(one["clock_hz"], int) and 0 < one["clock_hz"] <= 50_000_000
    assert one["top_module"].startswith("tt_um_bitkiln_") and one["tiles"] in SHUTTLES[0].tiles
    assert {f"src/{file}" for file in one["source_files"]} < set(texts)
    pins = [f"{port}[{bit}]" for port in ("ui", "uo", "uio") for bit in range(8)]
    assert sorted(info["pinout"]) == sorted(pins) and info["pinout"] == design.pins()


@pytest.mark.parametrize("name", DESIGNS)
def test_documentation_names_pins_bytes_and_area(name):
    design, texts = made(name)
    info = texts["docs/info.md"]
    assert [line for line in info.splitlines() if line.startswith("#")] == [
        "## How it works", "## How to test", "## External hardware"]
    assert info.count("| result, bits") == design.result_bytes
    assert ("sticky until a clear" in info) == bool(design.flags)
    assert re.search(r"sky130: [\d,]+ um2 of cells \(at most [\d,]+; model: sky130hd", info)
    assert re.search(r"ihp: [\d,]+ um2", info)
    period = json.loads(texts["src/config.json"])["CLOCK_PERIOD"]
    assert yaml.safe_load(texts["info.yaml"])["project"]["clock_hz"] == 1_000_000_000 // period
    assert f"Clock: {period} ns" in info


def test_only_what_is_exact_is_called_so():
    wraps = resolved({"pe": "fp4", "lanes": 1, "accumulator.bits": 9})
    texts = project(wraps, {}, {})
    info = texts["tinytapeout/docs/info.md"]
    assert "9-bit sum" in info and "exact" not in texts["tinytapeout/info.yaml"].split("top_module")[0]
    assert "products fit" not in info and "bit 0: overflow" in info
    assert "Any 1,024 products fit the sum of 19 bits" in made("fp4")[1]["docs/info.md"]


def test_same_bytes_again():
    assert project(resolved(DESIGNS["fp4"]), {}, {}) == project(resolved(DESIGNS["fp4"]), {}, {})


def test_registers_have_no_power_up_value_and_no_hierarchy_is_kept():
    """Silicon powers up anyhow; a module that LibreLane may not dissolve is a cell without a map."""
    for name in DESIGNS:
        text = verilog(made(name)[1])
        assert "keep_hierarchy" not in text
        assert not re.search(r"^\s*reg .*=", text, re.M) and re.search(r"^\s*reg ", text, re.M)


def test_more_than_two_tiles_get_a_note():
    large, small = made("sections")[1], made("fp4")[1]
    assert "tiles**: more than the usual" in large["README.md"] and "more than the usual" not in small["README.md"]


# Tools ----------------------------------------------------------------------------------------------

def test_verilator_lints_without_a_warning(tmp_path):
    tool = require("verilator")
    for name in DESIGNS:
        _, texts = made(name)
        (tmp_path / "all.v").write_text(verilog(texts))
        done = subprocess.run([tool.path, "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--top-module", top_of(texts),
                               "all.v"], cwd=tmp_path, env=tool.environment(), capture_output=True, text=True,
                              timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name
    broken = verilog(made("fp4")[1]).replace(".o(uo_out)", ".o(uo_out[6:0])")
    (tmp_path / "all.v").write_text(broken)
    done = subprocess.run([tool.path, "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--top-module",
                           top_of(made("fp4")[1]), "all.v"], cwd=tmp_path, env=tool.environment(), capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode and "WIDTH" in done.stderr       # the lint is not blind


@pytest.mark.skipif(find("yosys") is None, reason="no Yosys: pip install 'bitkiln[test]'")
def test_yosys_finds_the_ports_that_the_shuttle_wants(tmp_path):
    """As Tiny Tapeout's check_ports: names, directions and widths, and no port more."""
    tool, script = require("yosys"), []
    names = ("fp4", "pairs", "modes")
    for name in names:
        (tmp_path / f"{name}.v").write_text(verilog(made(name)[1]))
        script.append(f"design -reset; read_verilog -sv {name}.v; hierarchy -check -top {top_of(made(name)[1])}; proc; "
                      f"check -assert; write_json {name}.json")
    done = subprocess.run([tool.path, "-q", "-p", "; ".join(script)], cwd=tmp_path, env=tool.environment(),
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        ports = json.loads((tmp_path / f"{name}.json").read_text())["modules"][top_of(made(name)[1])]["ports"]
        assert {port: (one["direction"], len(one["bits"])) for port, one in ports.items()} == PORTS


# Behaviour ------------------------------------------------------------------------------------------

def test_project_computes_what_the_golden_model_does():
    """Every pair of FP4 codes through the pins of the top module; the Verilog is that of the files."""
    design, texts = made("fp4")
    assert check_pins(design, top_model(texts)) >= 256


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DESIGNS if name != "fp4"])
def test_every_project_computes_what_the_golden_model_does(name):
    design, texts = made(name)
    assert check_pins(design, top_model(texts)) >= 100


# Bugs of a careless hand in project.v, by number; each expression is replaced by one that has its bugs.
BUGS = ["enable and clear swapped", "always enabled", "reset left open", "reset active high",
        "operands in the other order", "a dead input", "result bits crossed", "flag inverted", "flag pin not driven"]
BROKEN = {
    ".en(uio_in[6])": ".en(bug == 1 ? uio_in[5] : bug == 2 | uio_in[6])",
    ".clear(uio_in[5])": ".clear(bug == 1 ? uio_in[6] : uio_in[5])",
    ".rst_n(rst_n)": ".rst_n(bug == 3 | (bug == 4) ^ rst_n)",
    ".i(ui_in)": ".i(bug == 5 ? {ui_in[3:0], ui_in[7:4]} : bug == 6 ? ui_in & 8'hBF : ui_in)",
    ".o(uo_out)": ".o(seen)",
    "  wire flag;": "  wire flag;\n  wire [7:0] seen;\n  assign uo_out = bug == 7 ? {seen[7:1], seen[1]} : seen;",
    "{flag, 7'b0}": "{(bug == 8) ^ flag, 7'b0}",
    "uio_oe = 8'h80": "uio_oe = bug == 9 ? 8'h00 : 8'h80",
    "input  wire       ena,": "input  wire       ena,\n    input  wire [3:0] bug,",
}


def test_vectors_see_every_bug_in_the_pins():
    """All bugs in one module, chosen by an input; 0 is the project itself."""
    design, texts = made("posit")
    text = texts["src/project.v"]
    for old, new in BROKEN.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    model = top_model(texts, text + texts[f"src/{design.name}.v"], (Port("bug", "input", 4),))

    class Chosen:
        top = model.top

        def __init__(self, bug: int):
            self.bug = bug

        def run(self, inputs):
            return model.run({**inputs, "bug": self.bug})

    assert check_pins(design, Chosen(0)) >= 256
    missed = []
    for number, name in enumerate(BUGS, 1):
        try:
            check_pins(design, Chosen(number))
            missed.append(name)
        except BitkilnError as error:
            assert error.what == "RTL and golden model differ"
    assert not missed


# The demo board ---------------------------------------------------------------------------------------

class _Port:
    def __init__(self, read=None):
        self._read, self._value = read, 0

    @property
    def value(self):
        return self._read() if self._read else self._value

    @value.setter
    def value(self, new):
        assert self._read is None and 0 <= new < 256
        self._value = new


class _Board:
    """The SDK's board as far as the driver uses it, with the RTL for a chip."""

    def __init__(self, texts: dict[str, str]):
        self.model, self.name = top_model(texts), top_of(texts)
        self.ui_in, self.uio_in, self.uio_oe_pico = _Port(), _Port(), _Port()
        self.uo_out = _Port(lambda: int(self._row(False)["uo_out"][0]))
        self.reset, self.edges, self.seen, self.stopped = True, [], [], False
        self.shuttle = self

    def __getattr__(self, name):
        assert name == self.name, f"no project {name}"
        return self

    def enable(self):
        self.edges.clear()

    def clock_project_stop(self):
        self.stopped = True

    def reset_project(self, on):
        self.reset = on

    def _inputs(self):
        return int(not self.reset), self.ui_in.value, self.uio_in.value

    def clock_project_once(self):
        assert self.stopped
        self.edges.append(self._inputs())

    def _row(self, _edge):
        """What the pins show now: all edges so far, and the low clock after them with the present inputs."""
        rst_n, ui, uio = zip(*self.edges, strict=True)
        shown = self._inputs()
        # The model has a clock edge in each row: one that adds nothing stands for reading without an edge.
        rows = {"rst_n": [*rst_n, 1], "ui_in": [*ui, shown[1]], "uio_in": [*uio, shown[2]]}
        seen = self.model.run({"ena": 1, **{name: np.array(values) for name, values in rows.items()}})
        return {name: values[-1:] for name, values in seen.items()}


@pytest.mark.parametrize("name", ["fp4", "pairs"])
def test_driver_of_the_demo_board(name, tmp_path):
    design, texts = made(name)
    path = tmp_path / "bitkiln_pe.py"
    path.write_text(texts["micropython/bitkiln_pe.py"])
    spec = importlib.util.spec_from_file_location(f"driver_{name}", path)
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    board = _Board(texts)
    pe = driver.Pe(board)
    assert board.uio_oe_pico.value == 0xFF and pe.read() == (0, [])
    example = re.search(r"pe\.dot\((\[.*?\]), (\[.*?\])\)\n\s+(.*)", texts["micropython/bitkiln_pe.py"])
    a, w, wanted = (json.loads(example[1]), json.loads(example[2]), example[3])
    assert pe.dot(a, w) == (24, []) and wanted == "(24, [])"     # 1.5 * 2 - 2 * 1 + 0.5 * 4 + 3 * 1 = 6
    assert pe.value() == 6.0
    assert pe.dot([7, 15, 7], [7, 7, 15]) == (-144, [])          # 36 - 36 - 36, in quarters
    pe.clear()
    assert pe.value() == 0.0


def test_python_of_the_project_is_plain_and_short(tmp_path):
    """MicroPython knows neither annotations' modules nor long memory; and the project's Python passes a linter."""
    folder = written("modes", tmp_path)
    driver = (folder / "micropython/bitkiln_pe.py").read_text()
    assert "import" not in driver.split('"""', 2)[2] and len(driver) < 8000
    for path in ("test/test.py", "micropython/bitkiln_pe.py"):
        compile((folder / path).read_text(), path, "exec")
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "--select",
                           "E,F,W,I", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# The project's own test ---------------------------------------------------------------------------------

def simulate(folder: Path) -> tuple[int, list[ET.Element], str]:
    """``make SIM=verilator`` as a user has it: this Python's scripts and no system Verilator on PATH."""
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for name in ("VERILATOR_ROOT", "MAKEFLAGS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    done = subprocess.run(["make", "SIM=verilator"], cwd=folder / "test", env=environment, capture_output=True,
                          text=True, timeout=540, check=False)
    results = folder / "test" / "results.xml"
    cases = list(ET.parse(results).iter("testcase")) if results.exists() else []
    return done.returncode, cases, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("name", ["fp4", "posit", "pairs", "modes"])
def test_the_projects_own_test_passes(name, tmp_path):
    design, texts = made(name)
    code, cases, log = simulate(written(name, tmp_path))
    assert code == 0 and len(cases) == 3 and not any(case.find("failure") is not None for case in cases), log[-3000:]
    count = int(re.search(r"(\d+) words equal to the golden model", log)[1])
    assert count == len(texts["test/vectors.txt"].splitlines()) - 1 >= 256 * len(design.modes)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_projects_own_test_fails_on_a_bug(tmp_path):
    folder = written("fp4", tmp_path)
    top = folder / "src/project.v"
    top.write_text(top.read_text().replace(".i(ui_in)", ".i({ui_in[3:0], ui_in[7:5], 1'b0})"))
    code, cases, log = simulate(folder)
    assert code != 0 and any(case.find("failure") is not None for case in cases), log[-3000:]


# Area -------------------------------------------------------------------------------------------------

def test_sizes_are_those_of_the_shuttles():
    sky, ihp = SHUTTLES
    # 338 sites of 0.46 um in 39 rows of 2.72 um, as Tiny Tapeout's floor plan of one tile has them.
    assert tile_area(sky, "1x1") == pytest.approx(338 * 0.46 * 39 * 2.72)
    assert tile_area(ihp, "1x1") > tile_area(sky, "1x1")
    for shuttle in SHUTTLES:
        areas = [tile_area(shuttle, size) for size in shuttle.tiles]
        assert areas == sorted(areas) and areas[1] > 2 * areas[0]


def test_smallest_size_that_holds_the_upper_end_of_the_interval():
    sky = SHUTTLES[0]
    limit = USABLE * tile_area(sky, "1x1")
    assert Area(sky, limit - 500, limit, "").tiles == "1x1"
    assert Area(sky, limit - 500, limit + 1, "").tiles == "1x2"
    assert Area(sky, 1e6, 1e6, "").tiles is None


def test_what_stands_around_the_pe_grows_with_bytes():
    sky = SHUTTLES[0]

    def cost(pe, **options):
        return around(PinsDesign(DotDesign.from_pe(pe, **options)), sky)

    assert cost("fp4", lanes=3) - cost("fp4", lanes=1) == pytest.approx(16 * sky.byte)
    assert 0 < cost("fp4", lanes=2) < cost("fp4", lanes=1)        # no enable
    assert cost("posit4_1", lanes=1) > cost("fp4", lanes=1)


def test_clock_is_slower_for_slower_units():
    fast, _ = clock_ns(PinsDesign(DotDesign.from_pe("fp4", lanes=1)))
    slow, why = clock_ns(PinsDesign(DotDesign.from_pe("posit8_0", lanes=1)))
    assert fast == 20 < slow and slow % 5 == 0 and "slow corner" in why


def test_measured_area_replaces_the_model():
    one = resolved(DESIGNS["fp4"])
    metrics = Metrics("sky130_fd_sc_hd__tt", {"yosys": "0.70"}, "yosys", [Metric("area", 1714.1, "um2")])
    one.build_folder().mkdir(parents=True)
    (one.build_folder() / "metrics.json").write_text(json.dumps(metrics.as_dict()))
    info = project(one, {}, {})["tinytapeout/info.yaml"]
    more = around(PinsDesign(one.design), SHUTTLES[0])
    assert f"sky130: {1714.1 + more:,.0f} um2" in info and "measured: sky130_fd_sc_hd__tt, yosys 0.70" in info
    assert "model: sg13g2" in info        # nothing was measured for the other


# Bad input --------------------------------------------------------------------------------------------

def line_of(arguments: list[str], capsys) -> tuple[int, str]:
    code = run_cli([*arguments, "--package", "tinytapeout", "-o", "out"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "what", "hint"), [
    (["generate", "--pe", "posit16_1", "--lanes", "16"], "PE does not fit a Tiny Tapeout project", "--lanes 4 fits"),
    (["generate", "--pe", "bf16"], "no area model for this PE", "bitkiln synth"),
])
def test_what_does_not_fit_is_one_clear_error(arguments, what, hint, capsys):
    code, text = line_of(arguments, capsys)
    assert code == 2 and text.startswith(f"error: {what} at package tinytapeout") and hint in text
    assert len(text.strip().splitlines()) == 2 and not Path("out").exists()     # before anything was made


def test_all_packages_leave_out_what_does_not_fit():
    from bitkiln.flow.packages.registry import chosen

    small, large = resolved(DESIGNS["fp4"]), resolved({"pe": "posit16_1", "lanes": 16})
    assert "tinytapeout" in chosen("all", "dot_unit", resolved=small)
    assert "tinytapeout" not in chosen("all", "dot_unit", resolved=large)
    with pytest.raises(BitkilnError, match="does not fit"):
        chosen("tinytapeout", "dot_unit", resolved=large)


def test_other_engines_are_refused(capsys):
    code, text = line_of(["generate", "--engine", "matmul_array"], capsys)
    assert code == 2 and "package does not apply" in text and "dot_unit, morphable_pe" in text
