# amaranth: UnusedElaboratable=no
"""Mutation runs for the link of boards: bugs in its gates, found by answers that differ from the reference's.

Like `bitkiln.sim.mutate_streams`, with the serial pins in place of streams.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bitkiln.models.errors import BitkilnError

from . import verilate
from .board_run import BoardModel
from .link_check import EchoBoard, check_link, check_reset, check_stalls, echo_identity
from .mutants import SELECT, MutationResult, Netlist, Survivor

__all__ = ["LINK_UNITS", "mutate_link"]

# Part of the echo board -> name of the submodule that is mutated, with what is in it but these.
LINK_UNITS = {"link": ("link", r"registers|queue_\w+|receiver|sender|uart_\w+"), "receiver": ("link__receiver", ""),
              "sender": ("link__sender", ""), "uart_rx": ("link__uart_rx", ""), "uart_tx": ("link__uart_tx", ""),
              "queue": ("link__queue_a", "")}
FRAMES = 100


def mutate_link(*, count: int = 100, seed: int = 1,
                progress: Callable[[str], None] = lambda text: None) -> list[MutationResult]:
    """Try up to ``count`` mutants of each part of the link, chosen by ``seed``."""
    results = []
    for kind in LINK_UNITS:
        progress(f"link: {kind}")
        results.append(_mutate(kind, count, seed))
    return results


def _mutate(kind: str, count: int, seed: int) -> MutationResult:
    started = time.perf_counter()
    identity = echo_identity(5, (2, 3))
    prepared, text = verilate.verilog_text(EchoBoard(identity), "echo_board")
    modules = re.findall(r"^module (\w+)\(", text, re.M)
    part, inside = LINK_UNITS[kind]
    inner = next(each for each in modules if re.fullmatch(rf"{prepared.top}__{part}(_\d+)?", each))
    whole = [each for each in modules if inside and re.search(rf"__(?:{inside})$", each)]
    with tempfile.TemporaryDirectory(prefix="bitkiln-") as folder:
        netlist = Netlist(Path(folder), text, prepared.top, prepared.ports, whole, inner=inner, memories=True)
        mutants, candidates = netlist.candidates(count, seed)
        verilog = netlist.with_mutants(mutants, lambda text, top, ports: text)

        def passes(index: int) -> bool:
            def model() -> BoardModel:
                return BoardModel.from_verilog(verilog, prepared.top, identity, select=SELECT, mutant=index)

            return (check_reset(model()) and all(not check_link(model(), seed=at, frames=FRAMES).mismatches
                                                 for at in (1, 2)) and check_stalls(model()))

        if not passes(0):
            raise BitkilnError("the link fails its own check", where=kind, exit_code=1)
        alive = [index for index in range(1, len(mutants) + 1) if passes(index)]
        survivors = [Survivor(mutants[at - 1], f"{netlist.wires[mutants[at - 1]]}: {verdict}")
                     for at in alive if (verdict := _verdict(netlist, mutants[at - 1]))]
    return MutationResult("link", inner, kind, False, 2 * FRAMES, candidates, len(mutants), len(mutants) - len(alive),
                          len(alive) - len(survivors), 0, survivors, time.perf_counter() - started)


def _verdict(netlist: Netlist, mutant: str) -> str:
    """Empty where the mutant is shown to be equivalent."""
    try:
        return "" if netlist.proved_equal(mutant) else "differs for some state"
    except BitkilnError as error:
        return f"undecided ({error.got})"
