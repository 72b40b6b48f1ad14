# amaranth: UnusedElaboratable=no
"""Mutation runs for components of streams: put bugs into a unit, see whether a check fails.

::

    bench ──emit──► Verilog ──yosys: the unit alone──► gates, memories stay ──mutate──► all mutants in one module
      ──Verilator, once──► the unit's checks for each mutant: a short one first, more for those that live
      survivors ──SAT: same next state and outputs for every state and input──► equivalent: not relevant

A mutant is killed when a check raises: another value, another cycle, a broken handshake, or a deadlock. The checks
are those of the unit's tests (tests/hw) with smaller designs and fewer vectors (`bitkiln.sim.mutate_spconv`). What SAT
does not decide counts as relevant: states that cannot be reached are judged by hand (docs/verification.md).
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.lib import wiring

from bitkiln.models.errors import FAILED, BitkilnError

from . import streams, verilate
from .mutants import SELECT, MutationResult, Netlist, Survivor
from .streams import StreamModel, StreamRun

__all__ = ["Chosen", "StreamUnit", "mutate_stream_unit", "mutate_stream_units"]

SLACK = 1000            # cycles that a mutant may take beyond twice the unit's own


@dataclass(frozen=True)
class StreamUnit:
    """What is mutated, and how it is checked.

    Parameters
    ----------
    kind : str
    bench : wiring.Component
    checks : sequence of callables
        Each takes a `Chosen` and raises where it is wrong; the quickest first. All begin at power-up.
    part : str
        Submodule of the bench that is mutated, with all that is in it; by default the bench.
    whole : str
        Regular expression: modules whose names end so stay as they are, they are units of their own.
    """

    kind: str
    bench: wiring.Component
    checks: Sequence[Callable[[Chosen], object]]
    part: str = ""
    whole: str = ""


class Chosen:
    """A `StreamModel` in which one mutant is chosen. It begins at power-up and gives up soon after the unit is done."""

    def __init__(self, model: StreamModel, index: int, cycles: int = streams.LIMIT):
        self.model, self.index, self.cycles = model, index, cycles
        self.longest, self._begun = 0, False

    def run(self, inputs=None, expect=None, *, held=None, resume=False, limit=streams.LIMIT,
            timeout=streams.TIMEOUT, **options) -> StreamRun:
        resume, self._begun = resume and self._begun, True
        run = self.model.run(inputs, expect, held={**(held or {}), SELECT: self.index}, resume=resume,
                             limit=min(limit, self.cycles), timeout=min(timeout, self.cycles), **options)
        self.longest = max(self.longest, run.total)
        return run


def mutate_stream_unit(unit: StreamUnit, *, name: str = "spconv", count: int = 100, seed: int = 1) -> MutationResult:
    """Try up to ``count`` mutants of one unit, chosen by ``seed``.

    Raises
    ------
    BitkilnError
        The unit fails a check of its own, or a tool is missing.
    """
    started = time.perf_counter()
    prepared, text = verilate.verilog_text(unit.bench)
    modules = re.findall(r"^module (\w+)\(", text, re.M)
    inner = _module(modules, prepared.top, unit.part) if unit.part else None
    whole = [each for each in modules if unit.whole and re.search(f"(?:{unit.whole})$", each)]
    with tempfile.TemporaryDirectory(prefix="bitkiln-") as folder:
        netlist = Netlist(Path(folder), text, prepared.top, prepared.ports, whole, inner=inner, memories=True)
        mutants, candidates = netlist.candidates(count, seed)
        model = netlist.with_mutants(mutants, StreamModel.from_verilog)
        alive, runs = list(range(1, len(mutants) + 1)), 0
        for check in unit.checks:
            own = Chosen(model, 0)
            check(own)      # the unit itself passes, or this is an error
            runs += len(alive)
            alive = [index for index in alive if _passes(check, Chosen(model, index, 2 * own.longest + SLACK))]
        survivors = [Survivor(mutants[at - 1], f"{netlist.wires[mutants[at - 1]]}: {verdict}")
                     for at in alive if (verdict := _verdict(netlist, mutants[at - 1]))]
    equivalent = len(alive) - len(survivors)
    return MutationResult(name, inner or prepared.top, unit.kind, False, runs, candidates, len(mutants),
                          len(mutants) - len(alive), equivalent, 0, survivors, time.perf_counter() - started)


def mutate_stream_units(name: str, kinds: Sequence[str] = (), *, count: int = 100, seed: int = 1,
                        progress: Callable[[str], None] = lambda text: None) -> list[MutationResult]:
    """Of every unit of ``spconv``, or of those of some kinds.

    Raises
    ------
    BitkilnError
        No unit of this kind.
    """
    from .mutate_spconv import spconv_units  # its units are made of what is here

    units = {unit.kind: unit for unit in spconv_units()}
    for kind in kinds:
        if kind not in units:
            raise BitkilnError("unknown kind", where="--kind", got=kind, expected=", ".join(units))
    results = []
    for kind in kinds or units:
        progress(f"{name}: {kind}")
        results.append(mutate_stream_unit(units[kind], name=name, count=count, seed=seed))
    return results


def _module(modules: Sequence[str], top: str, part: str) -> str:
    """Name of a submodule's module; Amaranth numbers those whose name is taken."""
    for each in modules:
        if re.fullmatch(rf"{top}__{part}(_\d+)?", each):
            return each
    raise BitkilnError("no such part", where=top, got=part, expected=", ".join(modules), exit_code=FAILED)


def _passes(check: Callable[[Chosen], object], chosen: Chosen) -> bool:
    try:
        check(chosen)
    except (BitkilnError, IndexError, ValueError):  # wrong outputs may be too few for the comparison, too
        return False
    return True


def _verdict(netlist: Netlist, mutant: str) -> str:
    """Empty where the mutant is shown to be equivalent."""
    try:
        return "" if netlist.proved_equal(mutant) else "differs for some state"
    except BitkilnError as error:
        return f"undecided ({error.got})"
