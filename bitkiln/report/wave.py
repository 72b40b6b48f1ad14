"""Timing pictures from real simulations: a traced run of a small core to WaveJSON, and WaveJSON to SVG.

``python -m bitkiln.report.wave`` makes docs/figures/matmul_core_job.json and .svg (needs the package ``wavedrom``).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..host.packing import pack_a, pack_w, unpack_results
from ..hw.mac.core import MatmulCore
from ..models.cost.cycles.cycles import panel_beats
from ..models.design import ArrayDesign, Job, MatmulDesign, MorphableDesign
from ..models.design.registers import core_registers, job_registers
from ..models.errors import FAILED, MISSING_TOOL, BitkilnError
from ..sim import verilate
from ..sim.cache import cached, digest

__all__ = ["JobTrace", "job_operands", "job_wavejson", "job_design", "read_samples", "render", "trace_job", "wave"]

FIGURE = Path("docs/figures/matmul_core_job")
IDLE = 24        # cycles after the reset before the first register access: the core flushes its array
BEFORE = 2       # cycles of the picture before the start strobe, cycle 0
MORE = 4         # cycles of the picture after the interrupt
LIMIT = 4000
SKIN = "narrow"
ARGUMENTS = ("-O3", "--trace-vcd", "--x-assign", "fast", "--x-initial", "fast", "--noassert")
TRACE = ("-DVM_TRACE=1", "-DVM_TRACE_VCD=1")

# Signals of the picture, by their path below the top.
START = "core.control.registers.ctrl_start"
ISSUE, LAST = "core.engine.sequencer.issue", "core.engine.sequencer.last"
ARRIVED, ACCEPT = "core.engine.drain.arrived", "core.engine.drain.accept"
PORTS = ("s_axis_a_tvalid", "s_axis_a_tready", "s_axis_w_tvalid", "s_axis_w_tready", "m_axis_tvalid", "m_axis_tready",
         "m_axis_tlast", "m_axis_tdata", "irq")

MAIN = """\
#include "Vtop.h"
#include "verilated_vcd_c.h"
#include <cstdint>
#include <cstring>

static const uint32_t writes[][2] = {/*WRITES*/};
static const uint8_t beats_a[][/*BYTES*/] = {/*A*/};
static const uint8_t beats_w[][/*BYTES*/] = {/*W*/};
enum { WRITES = sizeof writes / sizeof *writes, A = sizeof beats_a / sizeof *beats_a,
       W = sizeof beats_w / sizeof *beats_w };

int main(int, char** argv) {
    VerilatedContext context;
    context.traceEverOn(true);
    Vtop top{&context, "top"};
    VerilatedVcdC waves;
    top.trace(&waves, 99);
    waves.open(argv[1]);
    unsigned written = 0, a = 0, w = 0, left = /*LIMIT*/;
    top.s_axil_wstrb = 15;
    top.s_axil_bready = top.m_axis_tready = 1;
    for (uint64_t time = 0; left; time += 2, --left) {
        top.aresetn = time >= 4;
        top.s_axil_awvalid = top.s_axil_wvalid = time > 2 * /*IDLE*/ && written < WRITES;
        if (written < WRITES) {
            top.s_axil_awaddr = writes[written][0];
            top.s_axil_wdata = writes[written][1];
        }
        // Operands come with the last write, the start of the job.
        top.s_axis_a_tvalid = written == WRITES && a < A;
        top.s_axis_w_tvalid = written == WRITES && w < W;
        if (a < A) std::memcpy(&top.s_axis_a_tdata, beats_a[a], sizeof *beats_a);
        if (w < W) std::memcpy(&top.s_axis_w_tdata, beats_w[w], sizeof *beats_w);
        top.aclk = 0;
        top.eval();
        waves.dump(time);
        const bool write_done = top.s_axil_awvalid && top.s_axil_awready;
        const bool a_done = top.s_axis_a_tvalid && top.s_axis_a_tready;
        const bool w_done = top.s_axis_w_tvalid && top.s_axis_w_tready;
        if (top.irq && left > /*MORE*/) left = /*MORE*/;
        top.aclk = 1;
        top.eval();
        waves.dump(time + 1);
        written += write_done;
        a += a_done;
        w += w_done;
    }
    waves.close();
    return 0;
}
"""


class JobTrace:
    """A traced job.

    Attributes
    ----------
    design : MatmulDesign
    job : Job
    samples : dict of str to ndarray
        Value of each signal of the picture in each cycle, from `BEFORE` cycles before the start strobe on.
    results : ndarray (M, N)
    """

    def __init__(self, design: MatmulDesign, job: Job, samples: dict[str, list[int]]):
        start = next((at for at, value in enumerate(samples[START]) if value), None)
        if start is None or not any(samples["irq"]):
            raise BitkilnError("the traced job did not end", where=design.name, exit_code=FAILED)
        self.design, self.job = design, job
        self.samples = {name: np.array(values[start - BEFORE:], dtype=object) for name, values in samples.items()}
        sent = [at for at, (valid, ready) in enumerate(zip(self.samples["m_axis_tvalid"],
                                                           self.samples["m_axis_tready"], strict=True))
                if valid and ready]
        data = [int(self.samples["m_axis_tdata"][at]).to_bytes(design.bus_bits // 8, "little") for at in sent]
        beats = np.frombuffer(b"".join(data), np.uint8).reshape(-1, design.bus_bits // 8)
        self.results = unpack_results(design, job, beats)


def job_design() -> tuple[MatmulDesign, Job]:
    """The core and the job of the picture: four tiles of eight words."""
    pe = MorphableDesign(("int8",), implementation="parallel")
    design = MatmulDesign(ArrayDesign(2, 2, pe), k_words=16, bus_bits=64, output_lanes=2, queue=1, rules=("raw",),
                          bias=False, accumulate=False, counters=False)
    return design, Job("int8", m=4, k=16, n=4)


def job_operands(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Codes of A and W, the same every time."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (job.m, job.k)), rng.integers(0, 256, (job.n, job.k))


def trace_job(design: MatmulDesign, job: Job, a: np.ndarray, w: np.ndarray) -> JobTrace:
    """Run one job of a core with streams (no records, scales or partial sums) and keep its waves.

    Parameters
    ----------
    design : MatmulDesign
    job : Job
    a, w : integer ndarray (M, K), (N, K)
        Codes.
    """
    prepared, text = verilate.verilog_text(MatmulCore(design))
    registers = core_registers(design)
    writes = [("IRQ_ENABLE", registers["IRQ_ENABLE"].pack(done=1)), *job_registers(design, job).items(),
              ("CTRL", registers["CTRL"].pack(start=1))]
    fills = {"WRITES": ", ".join(f"{{{registers[name].offset}, {value}}}" for name, value in writes),
             "BYTES": str(design.bus_bits // 8), "A": _rows(pack_a(design, job, a)), "W": _rows(pack_w(design, job, w)),
             "LIMIT": str(LIMIT), "IDLE": str(IDLE), "MORE": str(MORE)}
    program = _build(text, prepared.top, re.sub(r"/\*([A-Z]+)\*/", lambda found: fills[found[1]], MAIN))
    with tempfile.TemporaryDirectory() as folder:
        waves = Path(folder) / "waves.vcd"
        verilate.run_command([str(program), str(waves)], what="the traced run", where=prepared.top)
        with waves.open() as lines:
            samples = read_samples(lines, (START, ISSUE, LAST, ARRIVED, ACCEPT, *PORTS))
    return JobTrace(design, job, samples)


def _rows(beats: np.ndarray) -> str:
    return ", ".join("{" + ", ".join(map(str, beat)) + "}" for beat in beats.tolist())


def _build(text: str, top: str, main: str) -> Path:
    verilator, cxx = verilate.simulation_tools()
    key = digest("wave", text, top, main, ARGUMENTS, TRACE, verilator.identity, cxx.identity)

    def build(folder: Path) -> None:
        _, library = verilate.runtime(verilator, cxx)
        sources = verilate.verilate(text, top, folder, ARGUMENTS, verilator=verilator)
        (folder / "main.cpp").write_text(main)
        vcd = verilate.include_folder(verilator) / "verilated_vcd_c.cpp"
        unit = folder / "unit.cpp"
        unit.write_text("".join(f'#include "{source}"\n' for source in (vcd, *sources, folder / "main.cpp")))
        options = [flag for flag in verilate.flags(verilator) if not flag.startswith("-DVM_TRACE")]
        verilate.run_command([cxx.path, *options, *TRACE, "-O1", "-w", f"-I{folder}", "-o", str(folder / "run"),
                              str(unit), *map(str, library), "-pthread"], what="compiling the model", where=top)
        for path in folder.iterdir():
            if path.name != "run":
                path.unlink()

    return cached("waves", key, build) / "run"


# Waves ---------------------------------------------------------------------------------------------------


def read_samples(lines: Iterable[str], names: Sequence[str]) -> dict[str, list[int]]:
    """Values of some signals of a VCD at every even time: when all inputs of a cycle have settled.

    Parameters
    ----------
    lines : iterable of str
        Of the VCD file.
    names : sequence of str
        Paths below Verilator's two outer scopes (``core.engine.sequencer.issue``).
    """
    scopes: list[str] = []
    codes: dict[str, str] = {}
    now: dict[str, int] = {}
    samples: dict[str, list[int]] = {name: [] for name in names}
    time = None

    def keep() -> None:
        if time is not None and time % 2 == 0:
            for name in names:
                samples[name].append(now.get(codes[name], 0))

    for line in lines:
        mark = line[:1]
        if mark == "#":
            if time is None and (missing := [name for name in names if name not in codes]):
                raise BitkilnError("no such signal in the waves", where=missing[0], got=", ".join(missing),
                                   exit_code=FAILED)
            keep()
            time = int(line[1:])
        elif mark == "b" or mark in ("0", "1"):
            bits, code = line[1:].split() if mark == "b" else (mark, line[1:].strip())
            now[code] = int(bits, 2)
        elif line.lstrip().startswith("$scope"):
            scopes.append(line.split()[2])
        elif line.lstrip().startswith("$upscope"):
            scopes.pop()
        elif found := re.match(r"\s*\$var\s+\w+\s+\d+\s+(\S+)\s+(\S+)", line):
            codes.setdefault(".".join([*scopes[2:], found[2]]), found[1])
    keep()
    return samples


# WaveJSON ------------------------------------------------------------------------------------------------


def wave(values: Sequence[object]) -> tuple[str, list[str]]:
    """WaveJSON wave and labels of one row.

    Parameters
    ----------
    values : sequence
        Per cycle 0 or 1 (a line), None (idle) or a text (a box that goes on while the text stays the same).
    """
    shape, labels, before = [], [], object()
    for value in values:
        if value == before:
            shape.append(".")
        elif value is None:
            shape.append("x")
        elif isinstance(value, str):
            shape.append("=")
            labels.append(value)
        else:
            shape.append(str(int(value)))
        before = value
    return "".join(shape), labels


def _row(name: str, values: Sequence[object]) -> dict[str, object]:
    shape, labels = wave(values)
    return {"name": name, "wave": shape, **({"data": labels} if labels else {})}


def _numbered(active: Sequence[bool], ends: Sequence[bool], text: str) -> list[str | None]:
    """A label in every active cycle; the number grows after each end."""
    number, found = 0, []
    for here, end in zip(active, ends, strict=True):
        found.append(f"{text}{number}" if here else None)
        number += bool(here and end)
    return found


def _beats(trace: JobTrace, side: str, tile: int) -> list[str | None]:
    """The panel that each beat of an operand belongs to."""
    samples = trace.samples
    taken = (samples[f"s_axis_{side}_tvalid"] & samples[f"s_axis_{side}_tready"]).astype(bool)
    panel = panel_beats(trace.design, trace.job, side, tile)   # all tiles of the picture are full
    ends = taken & (np.cumsum(taken) % panel == 0)
    return _numbered(taken, ends, side.upper())


def job_wavejson(trace: JobTrace) -> dict:
    """The picture of a traced job of full tiles."""
    design, samples = trace.design, trace.samples
    cycles = len(samples[START])
    drained = samples[ACCEPT].astype(bool)
    rows_of_tile = np.cumsum(drained) % design.rows == 0   # a row at a time: one group each
    sent = (samples["m_axis_tvalid"] & samples["m_axis_tready"]).astype(bool)
    results = np.cumsum(sent) % design.rows == 0
    signals: list = [
        {"name": "aclk", "wave": "p" + "." * (cycles - 1)},
        _row("CTRL.start", samples[START]),
        {},
        ["s_axis_a", _row("tvalid", samples["s_axis_a_tvalid"]), _row("tready", samples["s_axis_a_tready"]),
         _row("panel", _beats(trace, "a", design.rows))],
        ["s_axis_w", _row("tvalid", samples["s_axis_w_tvalid"]), _row("tready", samples["s_axis_w_tready"]),
         _row("panel", _beats(trace, "w", design.columns))],
        {},
        ["array", _row("step", _numbered(samples[ISSUE], samples[LAST], "tile ")),
         _row("last", samples[ISSUE] & samples[LAST]), _row("arrived", samples[ARRIVED]),
         _row("drain", _numbered(drained, rows_of_tile, "t"))],
        {},
        ["m_axis", _row("tvalid", samples["m_axis_tvalid"]), _row("rows", _numbered(sent, results, "t")),
         _row("tlast", samples["m_axis_tlast"] & samples["m_axis_tvalid"])],
        _row("irq", samples["irq"]),
    ]
    job = trace.job
    return {"signal": signals, "config": {"hscale": 1, "skin": SKIN},
            "head": {"text": f"{design.rows} x {design.columns} array, {design.bus_bits}-bit streams: "
                             f"{job.mode}, m={job.m}, k={job.k}, n={job.n}, order {job.order}",
                     "tick": -BEFORE}}


def render(wavejson: Mapping) -> str:
    """SVG text of a WaveJSON picture, through the package ``wavedrom``."""
    try:
        import wavedrom
    except ImportError:
        raise BitkilnError("package missing", where="wavedrom", exit_code=MISSING_TOOL,
                           help="pip install 'bitkiln[plots]'") from None
    return wavedrom.render(json.dumps(wavejson)).tostring() + "\n"


def picture() -> dict:
    """WaveJSON of docs/figures/matmul_core_job, simulated."""
    design, job = job_design()
    return job_wavejson(trace_job(design, job, *job_operands(job)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bitkiln.report.wave", description="Render the job timing picture.")
    parser.add_argument("-o", "--output", type=Path, default=FIGURE, help="path without ending (default: %(default)s)")
    output = parser.parse_args().output
    made = picture()
    svg = render(made)
    output.with_suffix(".json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    output.with_suffix(".svg").write_text(svg, encoding="utf-8")
    print(f"{output.with_suffix('.json')}\n{output.with_suffix('.svg')}")


if __name__ == "__main__":
    main()
