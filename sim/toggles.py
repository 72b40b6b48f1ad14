"""Bit changes of every signal of a module, counted in the waveform of a traced Verilator run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitkiln.models.errors import BitkilnError

from . import verilate
from .cache import cached, digest

__all__ = ["count_toggles"]

ARGUMENTS = ("-O3", "--trace-vcd", "--x-assign", "fast", "--x-initial", "fast", "--noassert")
TRACE = ("-DVM_TRACE=1", "-DVM_TRACE_VCD=1")

MAIN = """\
#include "Vtop.h"
#include "verilated_vcd_c.h"
#include <cstdint>
#include <cstdio>
#include <vector>

int main(int, char** argv) {
    VerilatedContext context;
    context.traceEverOn(true);
    Vtop top{&context, "top"};
    VerilatedVcdC waves;
    top.trace(&waves, 99);
    waves.open(argv[2]);
    std::FILE* const file = std::fopen(argv[1], "rb");
    std::vector<uint64_t> row(/*COUNT*/);
    for (uint64_t time = 0; std::fread(row.data(), 8, row.size(), file) == row.size(); time += 2) {
/*DRIVE*/
        top.clk = 0;
        top.eval();
        waves.dump(time);
        top.clk = 1;
        top.eval();
        waves.dump(time + 1);
    }
    waves.close();
    return 0;
}
"""


def count_toggles(component, inputs: Mapping[str, np.ndarray | int], *, skip: int = 0) -> dict[str, int]:
    """Drive a clocked module and count.

    Parameters
    ----------
    component : wiring.Component
        With one clock and inputs of at most 64 bits.
    inputs : mapping
        For each input port an array with one value per cycle, or a number that is held.
    skip : int
        First cycles whose changes do not count.

    Returns
    -------
    dict of str to int
        Bit changes of each signal, by its path (``path.fp4_lane0.a``); signals that never change are there with 0.
    """
    prepared, text = verilate.verilog_text(component)
    ports = [port for port in prepared.ports if port.direction == "input" and port.name not in prepared.clocks]
    for port in ports:
        if port.name not in inputs or port.width > 64:
            raise BitkilnError("missing input", where=f"{prepared.top}.{port.name}",
                               expected="an array or a number for each input of at most 64 bits")
    rows = max(len(value) for value in inputs.values() if np.ndim(value))
    table = np.zeros((rows, len(ports)), np.uint64)
    for at, port in enumerate(ports):
        table[:, at] = np.asarray(inputs[port.name]).astype(np.uint64)
    program = _build(text, prepared.top, [port.name for port in ports])
    with tempfile.TemporaryDirectory() as folder:
        stimulus, waves = Path(folder) / "rows", Path(folder) / "waves.vcd"
        stimulus.write_bytes(table.tobytes())
        verilate.run_command([str(program), str(stimulus), str(waves)], what="the traced run", where=prepared.top)
        return _read(waves, 2 * skip)


def _build(text: str, top: str, inputs: list[str]) -> Path:
    verilator, cxx = verilate.simulation_tools()
    drive = "\n".join(f"        top.{name} = row[{at}];" for at, name in enumerate(inputs))
    main = MAIN.replace("/*COUNT*/", str(len(inputs))).replace("/*DRIVE*/", drive)
    key = digest("toggles", text, top, main, ARGUMENTS, TRACE, verilator.identity, cxx.identity)

    def build(folder: Path) -> None:
        _, library = verilate.runtime(verilator, cxx)
        sources = verilate.verilate(text, top, folder, ARGUMENTS, verilator=verilator)
        entry = folder / "main.cpp"
        entry.write_text(main)
        unit = folder / "unit.cpp"
        vcd = verilate.include_folder(verilator) / "verilated_vcd_c.cpp"
        unit.write_text("".join(f'#include "{source}"\n' for source in (vcd, *sources, entry)))
        options = [flag for flag in verilate.flags(verilator) if not flag.startswith("-DVM_TRACE")]
        verilate.run_command([cxx.path, *options, *TRACE, "-O1", "-w", f"-I{folder}", "-o", str(folder / "run"),
                              str(unit), *map(str, library), "-pthread"], what="compiling the model", where=top)
        for path in folder.iterdir():
            if path.name != "run":
                path.unlink()

    return cached("toggles", key, build) / "run"


def _read(waves: Path, skip: int) -> dict[str, int]:
    """Changes of each signal of a VCD file from time ``skip`` on. Verilator's outer scopes are left out."""
    scopes: list[str] = []
    names: dict[str, list[str]] = {}
    values: dict[str, int] = {}
    changes: dict[str, int] = {}
    time = 0
    with waves.open() as file:
        for line in file:
            mark = line[0]
            if mark == "#":
                time = int(line[1:])
            elif mark == "b" or mark in "01":
                bits, code = line[1:].split() if mark == "b" else (mark, line[1:].strip())
                value = int(bits, 2)
                if code in values and time >= skip:
                    changes[code] += (value ^ values[code]).bit_count()
                values[code] = value
            elif line.lstrip().startswith("$scope"):
                scopes.append(line.split()[2])
            elif line.lstrip().startswith("$upscope"):
                scopes.pop()
            elif found := re.match(r"\s*\$var\s+\w+\s+\d+\s+(\S+)\s+(\S+)", line):
                names.setdefault(found[1], []).append(".".join([*scopes[2:], found[2]]))
                changes[found[1]] = 0
    return {name: changes[code] for code, paths in names.items() for name in paths}
