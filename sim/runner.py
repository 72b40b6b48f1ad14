"""cocotb benches on Verilator through one entry that cannot pass by accident.

Differences from cocotb's own runner: only the top's ports are public (making everything public costs several
times the compile and run time), the model comes from the build cache, and the result is a failure when a test
failed, when none ran, or when no vector was checked (the runner itself exits 0 on failing tests).
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitkiln.hw.emit import Port, Prepared
from bitkiln.models.errors import FAILED, MISSING_TOOL, BitkilnError

from . import verilate
from .bench_report import PARAMETERS, REPORT
from .cache import build_root, cached, digest
from .fst import write_signal_lists

__all__ = ["BenchResult", "build_bench", "run_bench"]

# Registers without an initial value start at random: a bench must not lean on zeros.
# Little inlining: an array's PEs stay one function, which compiles in a third of the time and runs no slower.
ARGUMENTS = ("--vpi", "-O3", "--inline-mult", "1", "--x-assign", "unique", "--x-initial", "unique")


@dataclass(frozen=True)
class BenchResult:
    """What a bench run did; it exists only when every test passed.

    Attributes
    ----------
    tests : int
        cocotb tests that passed.
    vectors : int
        Results compared with the golden model.
    cycles : int
        Simulated clock cycles.
    facts : dict
        Everything else the bench reported (``seed``, ``cpu_seconds``).
    folder : Path
        Log, cocotb results and waves.
    waves : Path or None
        FST file, with a ``.gtkw`` and a ``.sucl`` list beside it.
    """

    tests: int
    vectors: int
    cycles: int
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    waves: Path | None = None


def run_bench(component, test_module: str, *, seed: int | None = None, waves: bool | None = None,
              parameters: Mapping[str, Any] | None = None) -> BenchResult:
    """Build (or fetch) the model of ``component`` and run the cocotb tests of ``test_module`` on it.

    Parameters
    ----------
    component : wiring.Component
        The device under test.
    test_module : str
        Import name of the module with the tests, e.g. ``bitkiln.sim.benches.dot``.
    seed : int, optional
        Seed of ``random`` inside the bench; chosen and printed by cocotb when not given.
    waves : bool, optional
        Record an FST file; by default what the variable ``WAVES`` says.
    parameters : mapping, optional
        Picklable values, read in the bench by `bench_report.parameters`.

    Returns
    -------
    BenchResult

    Raises
    ------
    BitkilnError
        Exit code 1: a test failed, none ran, nothing was checked, or the simulator stopped early. Exit code
        3: a tool is missing.
    """
    waves = _waves_wanted() if waves is None else waves
    prepared, text = verilate.verilog_text(component)
    program = build_bench(prepared, text, waves=waves)
    folder = build_root() / f"{prepared.top}-{digest(text, test_module)[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BitkilnError("cannot write the build folder", where=str(folder), got=error.strerror,
                           help="set BITKILN_BUILD to a writable folder", exit_code=FAILED) from None
    work = Path(tempfile.mkdtemp(prefix=".run-", dir=folder))
    try:
        (work / "parameters.pickle").write_bytes(pickle.dumps(dict(parameters or {})))
        xml, stopped = _simulate(prepared, program, test_module, work, seed, waves)
        result = _judge(prepared.top, test_module, work, xml, stopped)
        return BenchResult(folder=folder, waves=_keep(work, folder, prepared, waves), **result)
    finally:
        _keep(work, folder, prepared, waves)
        shutil.rmtree(work, ignore_errors=True)


def build_bench(prepared: Prepared, text: str, *, waves: bool = False) -> Path:
    """The simulator program of a module, from the cache where it was built before."""
    import cocotb_tools.config

    verilator, cxx = verilate.simulation_tools()
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    libraries = str(cocotb_tools.config.libs_dir)
    public = _public(prepared.top, prepared.ports)
    arguments = (*ARGUMENTS, *(("--trace-fst",) if waves else ()))
    key = digest(text, prepared.top, public, arguments, verilate.OPTIMISE, main.read_bytes(), libraries,
                 Path(verilate.__file__).read_bytes(), verilator.identity, cxx.identity)

    def build(folder: Path) -> None:
        (folder / "ports.vlt").write_text(public)
        # The .vlt goes before the Verilog: the last file decides how Verilator reads the rest.
        sources = verilate.verilate(text, prepared.top, folder, (*arguments, "ports.vlt"), verilator=verilator)
        verilate.compile_sources([*sources, main], folder / prepared.top, verilator=verilator, cxx=cxx,
                                 where=prepared.top, vpi=True, trace=waves,
                                 link=(f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator"))
        for path in folder.iterdir():
            if path.suffix in (".cpp", ".h", ".mk", ".d", ".dat"):
                path.unlink()

    return cached("benches", key, build) / prepared.top


def _public(top: str, ports: tuple[Port, ...]) -> str:
    lines = [f'public_flat_rw -module "{top}" -var "{port.name}"' for port in ports]
    return "\n".join(["`verilator_config", *lines]) + "\n"


def _waves_wanted() -> bool:
    return os.environ.get("WAVES", "").lower() not in ("", "0", "false", "no", "off")


def _simulate(prepared: Prepared, program: Path, test_module: str, work: Path, seed: int | None,
              waves: bool) -> tuple[Path, str | None]:
    """Run; the results file and, where the simulator did not end well, why."""
    from cocotb_tools.runner import Verilator

    runner = Verilator()
    runner.log.setLevel(logging.CRITICAL)  # it repeats the command and every failure on stderr
    environment = {PARAMETERS: str(work / "parameters.pickle"), REPORT: str(work / "report.json"),
                   "COCOTB_ANSI_OUTPUT": "0"}
    xml = work / "results.xml"
    stopped = None
    try:
        with _variables(WAVES="1" if waves else "0", PYTEST_CURRENT_TEST=None):
            runner.test(test_module=test_module, hdl_toplevel=prepared.top, hdl_toplevel_lang="verilog",
                        build_dir=program.parent, test_dir=work, results_xml=str(xml), seed=seed, waves=waves,
                        test_args=["--trace-file", "waves.fst"] if waves else [],
                        plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{(seed or 1) % (1 << 31) or 1}"],
                        extra_env=environment, log_file=work / "bench.log")
    except ValueError as error:
        raise BitkilnError("cannot start the bench", where=test_module, got=str(error).splitlines()[0],
                           help="cocotb needs a Python with a shared libpython", exit_code=MISSING_TOOL) from None
    except SystemExit as error:
        stopped = f"simulator exit code {error.code}"
    return xml, stopped


def _judge(top: str, test_module: str, work: Path, xml: Path, stopped: str | None) -> dict:
    """Counts of a run in which everything passed; anything else raises."""
    import json

    from cocotb_tools.runner import get_results

    log = (work / "bench.log").read_text(errors="replace") if (work / "bench.log").exists() else ""
    tail = "\n  ".join(log.strip().splitlines()[-verilate.LOG_LINES:])

    def fail(what: str, got: object = None, expected: str | None = None) -> BitkilnError:
        return BitkilnError(what, where=f"{test_module} on {top}", got=got, expected=expected,
                            help=f"last lines of the log:\n  {tail}", exit_code=FAILED)

    try:
        tests, failed = get_results(xml)
    except RuntimeError:
        raise fail("the bench ended without results", stopped) from None
    if failed:
        raise fail("bench tests failed", f"{failed} of {tests}", "0")
    if tests == 0:
        raise fail("no bench test ran", 0, "at least one @cocotb.test")
    if stopped:
        raise fail("the simulator stopped", stopped, "exit code 0")
    path = work / "report.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    vectors, cycles = facts.pop("vectors", 0), facts.pop("cycles", 0)
    if vectors == 0:
        raise fail("the bench checked nothing", 0, "at least one vector (bench_report.report)")
    return {"tests": tests, "vectors": vectors, "cycles": cycles, "facts": facts}


def _keep(work: Path, folder: Path, prepared: Prepared, waves: bool) -> Path | None:
    """Move log, results and waves out of the temporary folder; the wave file."""
    for name in ("bench.log", "results.xml", "report.json", "waves.fst"):
        if (work / name).exists():
            os.replace(work / name, folder / name)
    found = folder / "waves.fst"
    if not waves or not found.exists():
        return None
    write_signal_lists(found, prepared.top, prepared.ports)
    return found


@contextlib.contextmanager
def _variables(**values: str | None):
    """Set (or with None, unset) environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
