"""The timing picture of the core's datasheet is a real run; its tables come from the designs and its examples work."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitkiln.flow.registers import c_header, core_constants
from bitkiln.host.packing import beats_of, keep_bytes, pack_a, pack_w
from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.design import ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import core_registers
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.matmul import matmul
from bitkiln.report.core_sheet import PARTS, default_core, part_of
from bitkiln.report.wave import ISSUE, job_design, job_operands, job_wavejson, read_samples, render, trace_job, wave
from bitkiln.sim.core_run import CoreModel

ROOT = Path(__file__).resolve().parents[2]
SHEET = (ROOT / "docs" / "matmul_core.md").read_text(encoding="utf-8")
FIGURE = ROOT / "docs" / "figures" / "matmul_core_job"
VCD = """\
$scope module TOP $end
 $scope module top $end
  $var wire 1 ! clk $end
  $scope module core $end
   $var wire 8 # data [7:0] $end
  $upscope $end
 $upscope $end
$upscope $end
$enddefinitions $end
#0
0!
b00000101 #
#1
1!
b00000111 #
#2
0!
#4
b1 #
"""


@pytest.fixture(scope="module")
def trace():
    design, job = job_design()
    return trace_job(design, job, *job_operands(job))


def example(language: str) -> str:
    """The code of the datasheet in a language."""
    found = re.findall(rf"```{language}\n(.*?)```", SHEET, re.S)
    assert len(found) == 1
    return found[0]


# Picture -------------------------------------------------------------------------------------------------


def test_wave_of_a_row():
    assert wave([0, 0, 1, None, None, "a", "a", "b", 0]) == ("0.1x.=.=0", ["a", "b"])
    assert wave(["a", None, "a"]) == ("=x=", ["a", "a"])


def test_samples_are_taken_at_even_times():
    assert read_samples(VCD.splitlines(), ("core.data", "clk")) == {"core.data": [5, 7, 1], "clk": [0, 0, 0]}
    with pytest.raises(BitkilnError, match="no such signal"):
        read_samples(VCD.splitlines(), ("core.other",))


def test_traced_job_is_right(trace):
    a, w = job_operands(trace.job)
    assert (trace.results == matmul(trace.design, trace.job, a, w).codes).all()
    assert trace.samples[ISSUE].sum() == matmul_cycles(trace.design, trace.job).compute


def test_figure_is_this_run(trace):
    made = job_wavejson(trace)
    stored = json.loads(FIGURE.with_suffix(".json").read_text(encoding="utf-8"))
    assert made == stored, "run: python -m bitkiln.report.wave"


def test_svg_is_the_wavejson():
    pytest.importorskip("wavedrom")
    stored = json.loads(FIGURE.with_suffix(".json").read_text(encoding="utf-8"))
    assert render(stored) == FIGURE.with_suffix(".svg").read_text(encoding="utf-8")


def test_formula_of_the_datasheet_gives_the_cycles_of_the_picture(trace):
    """Fill, tiles and drain as the text states them, read off the waves."""
    design, samples = trace.design, trace.samples
    start = list(samples["core.control.registers.ctrl_start"]).index(1)
    steps = np.flatnonzero(samples[ISSUE]) - start
    panel, words, groups = 4, 8, 2
    fill, drain = 1 + panel, design.array_delay + groups + design.output_latency + 2
    assert steps[0] == fill + 1 and len(steps) == 4 * words and steps[-1] == fill + 4 * words
    assert matmul_cycles(design, trace.job).cycles == fill + 4 * words + drain
    # The last beat leaves the engine then, and the output register in the next cycle.
    assert np.flatnonzero(samples["m_axis_tlast"] & samples["m_axis_tvalid"])[0] - start == fill + 4 * words + drain + 1


# Datasheet -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_generated_part(name):
    assert part_of(SHEET, name) == PARTS[name](), "run: python -m bitkiln.report.core_sheet"


def test_every_register_and_file_of_the_text_exists():
    registers = core_registers(default_core().with_options(descriptors=True, block=("mxfp4",)))
    flat = {f"{register.name}.{field.name}" for register in registers for field in register.fields}
    named = set(re.findall(r"`((?:CTRL|STATUS|IRQ)\.\w+)`", SHEET))
    assert len(named) > 5 and named <= flat, named - flat
    for path in re.findall(r"`((?:host|hw|models|sim)/[\w/.]+)`", SHEET):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w/.]+)(?:#\w+)?\)", SHEET):
        assert (ROOT / "docs" / path).exists(), path


def test_order_of_the_streams():
    """The worked example: m = 5, k = 20, n = 6 on a 4 x 4 array."""
    design = MatmulDesign(ArrayDesign(4, 4, MorphableDesign(("int8",))))
    job = Job("int8", m=5, k=20, n=6, rule="integer", output="int8")
    assert beats_of(design, job).a == 15 and beats_of(design, job).w == 36 and beats_of(design, job).results == 10
    assert list(keep_bytes(design, job)) == [4] * 4 + [2] * 4 + [4, 2]
    other = Job("int8", m=5, k=20, n=6, rule="integer", output="int8", order="w")
    assert beats_of(design, other).a == 30 and beats_of(design, other).w == 18
    assert list(keep_bytes(design, other)) == [4] * 5 + [2] * 5
    a, w = np.arange(100).reshape(5, 20), np.arange(100, 220).reshape(6, 20)
    beats = pack_a(design, job, a)
    assert list(beats[1]) == list(a[0, 8:16]) and list(beats[2]) == [*a[0, 16:], 0, 0, 0, 0]
    assert list(beats[12]) == list(a[4, :8])
    beats = pack_w(design, job, w)
    assert list(beats[12]) == list(w[4, :8]) and (beats[:18] == beats[18:]).all()


def test_python_example_runs(capsys):
    space: dict = {}
    exec(example("python"), space)
    error, cycles = capsys.readouterr().out.splitlines()[:2]
    product, wanted = space["product"], np.maximum(space["a"] @ space["w"].T + space["bias"], 0)
    assert float(error) == np.abs(product.values - wanted).max() < 0.1 * np.abs(wanted).max()
    assert int(cycles.split()[0]) > 0
    real = space["codes"].astype(np.uint8).view(np.int8)
    exact = np.rint(space["a"] @ space["w"].T / 0.25) + 3
    assert np.abs(real - exact).mean() < 0.2 * np.abs(exact).mean() + 2   # four bits


HARNESS = """
#include <stdio.h>
#include "core_shim.h"
static uint32_t read32(void *core, uint32_t address) {
    uint32_t value = 0;
    core_read32(core, address, &value, 1000);
    return value;
}
static void write32(void *core, uint32_t address, uint32_t value) { core_write32(core, address, value, 15, 1000); }
static uint32_t send(void *core, bk_stream stream, const uint8_t *beats, uint32_t count) {
    core_send(core, (int)stream, beats, count);
    return count;
}
static uint32_t receive(void *core, uint8_t *beats, uint32_t count) {
    core_step(core, 1);
    return (uint32_t)core_take(core, beats, 0, 0, count);
}
int main(void) {
    uint8_t x[100], w[120], y[30];
    bk_bus bus = {core_new(1), read32, write32, send, receive};
    bk_status status;
    core_reset(bus.context, 2);
    if (fread(x, 1, sizeof x, stdin) != sizeof x || fread(w, 1, sizeof w, stdin) != sizeof w) return 2;
    status = layer(&bus, x, w, y);
    if (status != BK_OK) { puts(bk_error_string(status)); return 1; }
    fwrite(y, 1, sizeof y, stdout);
    core_free(bus.context);
    return 0;
}
"""


def test_c_example_runs(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    design = MatmulDesign(ArrayDesign(2, 2, MorphableDesign(("int8", "fp4"))), k_words=64)   # of the Python example
    model = CoreModel(design)
    (tmp_path / "matmul_registers.h").write_text(c_header(core_registers(design), None, core_constants(design)))
    (tmp_path / "main.c").write_text(example("c") + HARNESS)
    driver = ROOT / "host" / "c"
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", f"-I{driver}",
                    f"-I{ROOT / 'sim'}", "main.c", str(driver / "bitkiln_matmul.c"), str(model.library),
                    f"-Wl,-rpath,{model.library.parent}", "-o", "main"], cwd=tmp_path, check=True)
    rng = np.random.default_rng(3)
    x, w = rng.integers(0, 256, (5, 20)), rng.integers(0, 256, (6, 20))
    given = x.astype(np.uint8).tobytes() + w.astype(np.uint8).tobytes()
    done = subprocess.run([tmp_path / "main"], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout
    job = Job("int8", m=5, k=20, n=6, rule="integer", output="int8", scale=77, shift=13, clamp=(0, 127))
    assert (np.frombuffer(done.stdout, np.uint8).reshape(5, 6) == matmul(design, job, x, w).codes).all()
