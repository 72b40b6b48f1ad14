# amaranth: UnusedElaboratable=no
"""Mutation runs: put bugs into a block and see whether its unit test notices.

::

    block ──emit──► Verilog ──yosys: techmap──► gates ──mutate -list──► candidates
      all chosen mutants in one module, picked by an input ``mutsel`` (0: the block itself)
      ──Verilator, once──► the vectors of sim/block_check.py for each mutant
      survivors ──same outputs for all inputs, or a SAT proof──► equivalent: not relevant

A mutant inverts one bit of one gate's port or holds it at 0 or 1. It is killed when an output differs from the
golden function; a survivor is relevant unless it is shown to be equivalent to the block, or (in a block that was
tested with all its inputs) to do all that the block promises. Undecided survivors count as relevant.

    python -m bitkiln.sim.mutate [--pe fp4 ...] [--unit output ...] [--count 100] [--seed 1] [--output FILE]

Components of streams (``--unit spconv``) have no vectors but checks: `bitkiln.sim.mutate_streams`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from amaranth.hdl import signed, unsigned
from amaranth.lib import wiring

from bitkiln.hw.arith.delay import DelayLine
from bitkiln.hw.arith.float_add import FloatAdd
from bitkiln.hw.arith.float_clamp import FloatClamp
from bitkiln.hw.arith.float_convert import FixedToFloat, FloatUnpack
from bitkiln.hw.arith.fp32_step import Fp32Step
from bitkiln.hw.arith.round import rounder_for
from bitkiln.hw.arith.scale import PipelinedMultiplier, Scaler
from bitkiln.hw.formats.encode import Encoder
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.hw.mac.merged_decode import PositPairDecoder
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.hw.mac.output import OutputLane
from bitkiln.hw.mac.pins import PinsPe
from bitkiln.models.design import (
    XR_NPE_MODES,
    Accumulator,
    ArrayDesign,
    DotDesign,
    MatmulDesign,
    MorphableDesign,
)
from bitkiln.models.design.pins import PinsDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import get_format

from . import verilate
from .batch import BatchModel
from .bitserial_blocks import mutated_blocks
from .block_check import BlockCheck, Segment, blocks_of, check_for, has_check
from .cache import build_root, digest, write_atomic
from .mutants import SELECT, MutationResult, Netlist, Survivor
from .toolchain import require

__all__ = ["MutationResult", "Survivor", "engine_blocks", "mutate_block", "mutate_unit", "main"]

PES = ("fp4", "fp8_e4m3", "posit8_0")
UNITS = ("output", "switchable", "bitserial", "pins")
STREAM_UNITS = ("spconv",)      # of components with streams: sim/mutate_streams.py
LINK_UNIT = "link"               # of boards: sim/mutate_link.py
TARGET = 0.95
SPARE = 1.25          # candidates asked for, over the relevant ones wanted
HEAD_ROWS = 2048      # most mutants die here
OTHER_SEED = 1000     # added to the seed for the vectors that a survivor meets last


def mutate_unit(design: DotDesign, *, count: int = 100, seed: int = 1,
                progress: Callable[[str], None] = lambda text: None) -> list[MutationResult]:
    """Mutate every block of a dot unit on its own.

    The dot unit itself gives the adder tree, the accumulator and the flags: its lanes and its rounder are blocks of
    their own and stay whole there. All other blocks are mutated with what they contain.

    Parameters
    ----------
    design : DotDesign
    count : int
        Relevant mutants to reach per block; smaller blocks give all that they have.
    seed : int
        Of the choice of mutants and of the random vectors.
    """
    top = DotUnit(design)
    results = []
    for name, block in blocks_of(top).items():
        progress(f"{design.pe_name}: {name}")
        results.append(mutate_block(block, unit=design.name, own_only=block is top, count=count, seed=seed))
    return results


def engine_blocks(unit: str) -> list[wiring.Component]:
    """Blocks of the other engines that no dot unit has, each on its own: those inside stay whole."""
    return {"output": _output_blocks, "switchable": _switchable_blocks, "bitserial": mutated_blocks,
            "pins": _pins_blocks}[unit]()


def _output_blocks() -> list[wiring.Component]:
    """An output lane with block scales, and one of each kind of part."""
    formats = [get_format(name) for name in ("int16", "fp4", "posit8_0")]
    pe = MorphableDesign(("int8", "fp4"), implementation="parallel")
    lane = MatmulDesign(ArrayDesign(4, 4, pe), block=("mxfp4", "nvfp4"), outputs=("int8", "fp4"))
    return [FixedToFloat(32), FixedToFloat(33, 26, rounded=False), FloatUnpack(), FloatAdd(), FloatClamp(),
            PipelinedMultiplier(signed(32), unsigned(31)), Scaler(32, True), Encoder(formats, True, True),
            DelayLine(7, 3), DelayLine(32, 6), OutputLane(lane)]


def _switchable_blocks() -> list[wiring.Component]:
    """PEs of each implementation and of each accumulator; the parts of the merged one that are numbers only."""
    fp32 = MorphableDesign(("fp8_e5m2", "bf16"), Accumulator("fp32"), implementation="parallel", pipeline=1)
    designs = (MorphableDesign(XR_NPE_MODES, implementation="merged", pipeline=2),
               MorphableDesign(("fp4", "posit8_0", "posit16_1"), implementation="merged", pipeline=3,
                               multiplier="operator"),
               MorphableDesign(("int4", "int8", "int8xfp4", "fp8_e5m2", "int16"), implementation="merged",
                               pipeline=1),
               MorphableDesign(("fp4", "fp8_e5m2"), implementation="parallel", pipeline=1), fp32,
               MorphableDesign(("fp4", "int8", "fp8_e4m3"), implementation="packed", pipeline=3),
               MorphableDesign(("int8", "int16"), Accumulator("int32", overflow="saturate"),
                               implementation="parallel", pipeline=1))
    steps = [block for block in blocks_of(MorphablePe(fp32)).values() if isinstance(block, Fp32Step)]
    return [PositPairDecoder(), *steps, *(MorphablePe(design, drain=True) for design in designs)]


def _pins_blocks() -> list[wiring.Component]:
    """One of each plan of pins: a word of a byte, of two, and in bytes; several modes, flags and registers."""
    pes = (DotDesign.from_pe("posit4_1", lanes=1), DotDesign.from_pe("fp4", lanes=2),
           DotDesign.from_pe("fp8_e5m2", lanes=2),
           MorphableDesign(("fp4", "posit4_1", "int4"), implementation="parallel", pipeline=1))
    return [PinsPe(PinsDesign(pe)) for pe in pes]


def mutate_block(component, *, unit: str = "", own_only: bool = False, count: int = 100,
                 seed: int = 1, check: BlockCheck | None = None) -> MutationResult:
    """Mutate one block until ``count`` relevant mutants are judged or none are left.

    Parameters
    ----------
    component : wiring.Component
        A block that `check_for` knows.
    own_only : bool
        Leave the blocks inside that have a check of their own as they are.
    check : BlockCheck, optional
        Other vectors than those of the unit test.

    Raises
    ------
    BitkilnError
        No check for the block, the block fails its own check, or a tool is missing.
    """
    started = time.perf_counter()
    prepared, text = verilate.verilog_text(component)
    check = check_for(component, seed) if check is None else check
    segments = list(check.segments())
    if not segments or not sum(segment.rows for segment in segments):
        raise BitkilnError("nothing to check", where=prepared.top, exit_code=FAILED)

    @cache
    def others() -> list[Segment]:
        return list(check_for(component, seed + OTHER_SEED).segments())

    tried: dict[str, None] = {}
    killed, equivalent, allowed, survivors = 0, 0, 0, []
    wanted, candidates = int(count * SPARE), 0
    with tempfile.TemporaryDirectory(prefix="bitkiln-") as folder:
        inner = [name for name, block in blocks_of(component).items() if block is not component and has_check(block)]
        netlist = Netlist(Path(folder), text, prepared.top, prepared.ports, inner if own_only else ())
        while True:
            listed, candidates = netlist.candidates(wanted, seed)
            batch = [mutant for mutant in listed if mutant not in tried]
            if batch:
                tried.update(dict.fromkeys(batch))
                alive, model = _attack(netlist, batch, check, segments)
                killed += len(batch) - len(alive)
                for index in alive:
                    verdict = _judge(check, segments, model, index, netlist, batch[index - 1], others)
                    equivalent += verdict == "equivalent"
                    allowed += verdict == "allowed"
                    if verdict not in ("equivalent", "allowed"):
                        survivors.append(Survivor(batch[index - 1], verdict))
            if killed + len(survivors) >= count or len(listed) >= candidates:
                break
            wanted = max(wanted * 2, len(tried) + count)
    return MutationResult(unit or prepared.top, prepared.top, check.kind, check.exhaustive,
                          sum(segment.compared for segment in segments), candidates, len(tried), killed,
                          equivalent, allowed, survivors, time.perf_counter() - started)


# Judging -----------------------------------------------------------------------------------------


def _attack(netlist: Netlist, mutants: Sequence[str], check: BlockCheck,
            segments: Sequence[Segment]) -> tuple[list[int], BatchModel]:
    """Numbers (from 1) of the mutants that every vector passes, and the model that holds them."""
    model = netlist.with_mutants(mutants)
    for segment in segments:
        if check.wrong(model, segment, {SELECT: 0}).any():
            raise BitkilnError("the block fails its own check", where=netlist.top,
                               help="run the unit tests first (tests/hw)", exit_code=FAILED)
    alive = list(range(1, len(mutants) + 1))
    for segment in (*(segment.head(HEAD_ROWS) for segment in segments), *segments):
        alive = [index for index in alive if not check.wrong(model, segment, {SELECT: index}).any()]
    return alive, model


def _judge(check: BlockCheck, segments: Sequence[Segment], model: BatchModel, index: int, netlist: Netlist,
           mutant: str, others: Callable[[], list[Segment]]) -> str:
    """``equivalent``, ``allowed``, or why a survivor is relevant."""
    if check.exhaustive:
        same = all(_same(model.run({**segment.inputs, SELECT: 0}), model.run({**segment.inputs, SELECT: index}))
                   for segment in segments)
        return "equivalent" if same else "allowed"
    if any(check.wrong(model, segment, {SELECT: index}).any() for segment in others()):
        return "killed by the vectors of another seed"
    try:
        equal = netlist.proved_equal(mutant)
    except BitkilnError as error:
        return f"undecided ({error.got})"
    return "equivalent" if equal else "differs from the block for some input and state"


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


# Command -----------------------------------------------------------------------------------------


def default_design(pe: str) -> DotDesign:
    """The four-lane unit of a PE, with an output stage into its activation format where there is one."""
    design = DotDesign.from_pe(pe)
    rounded = design.with_options(output=design.activation)
    try:
        rounder_for(rounded)
    except BitkilnError:
        return design
    return rounded


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``make mutate``; the exit code is 1 where a block misses the target."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m bitkiln.sim.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("--pe", action="append", help=f"dot unit of a PE name, may be repeated (without --pe and "
                        f"--unit: {', '.join(PES)} and every unit but spconv)")
    parser.add_argument("--unit", action="append", choices=(*UNITS, *STREAM_UNITS, LINK_UNIT),
                        help="blocks of the other engines, or spconv: its components; may be repeated")
    parser.add_argument("--kind", action="append", help="with --unit spconv: only components of this kind, may be "
                        "repeated")
    parser.add_argument("--count", type=int, default=100, help="relevant mutants per block")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file (default: build/mutation/<digest>.json)")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    started = time.perf_counter()
    try:
        if options.count < 1:
            raise BitkilnError("out of range", where="--count", got=options.count, expected="1 or more")
        everything = not options.pe and not options.unit
        designs = [default_design(pe) for pe in options.pe or PES * everything]
        names = options.unit or UNITS * everything
        results: list[MutationResult] = []
        for design in designs:
            results += mutate_unit(design, count=options.count, seed=options.seed,
                                   progress=lambda text: console.print(text, style="dim"))
        for name in names:
            if name == LINK_UNIT:
                from .mutate_link import mutate_link

                results += mutate_link(count=options.count, seed=options.seed,
                                       progress=lambda text: console.print(text, style="dim"))
                continue
            if name in STREAM_UNITS:
                from .mutate_streams import mutate_stream_units

                results += mutate_stream_units(name, options.kind or (), count=options.count, seed=options.seed,
                                               progress=lambda text: console.print(text, style="dim"))
                continue
            for block in engine_blocks(name):
                console.print(f"{name}: {block.module_name}", style="dim")
                results.append(mutate_block(block, unit=name, own_only=True, count=options.count, seed=options.seed))
    except BitkilnError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    seconds = time.perf_counter() - started

    table = Table(title=f"Yosys mutants, seed {options.seed}: at least {TARGET:.0%} of the relevant ones killed")
    for heading in ("block", "kind", "vectors", "relevant", "killed", "rate", "equivalent", "allowed", "seconds"):
        table.add_column(heading, justify="left" if heading in ("block", "kind") else "right")
    for result in results:
        table.add_row(result.block, result.kind, f"{result.vectors:,}" + ("" if result.exhaustive else " *"),
                      f"{result.relevant}" + ("" if result.tried < result.candidates else " (all)"),
                      str(result.killed), f"{result.rate:.1%}", str(result.equivalent), str(result.allowed),
                      f"{result.seconds:.1f}", style=None if result.rate >= TARGET else "bold red")
    console.print(table)
    console.print("* random, corners and runs over time; all others: every input. 'equivalent' and 'allowed' mutants "
                  "do what the block promises and are not relevant. Vectors of a component of streams: checks begun.")
    for result in results:
        for survivor in result.survivors:
            console.print(f"{result.block}: survived: {survivor.command} ({survivor.reason})", markup=False,
                          soft_wrap=True)
    passed = all(result.relevant and result.rate >= TARGET for result in results)
    key = digest(*(design.name for design in designs), *names, options)
    path = options.output or build_root() / "mutation" / f"{key[:12]}.json"
    report = {"schema": "bitkiln.mutation/1", "seed": options.seed, "count": options.count, "target": TARGET,
              "passed": passed, "seconds": round(seconds, 1), "yosys": require("yosys").version,
              "blocks": [{**asdict(result), "relevant": result.relevant, "rate": result.rate} for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(report, indent=2) + "\n")
    console.print(f"{'passed' if passed else 'failed'} in {seconds:.0f} s, written to {path}", soft_wrap=True)
    return 0 if passed else FAILED


if __name__ == "__main__":
    sys.exit(main())
