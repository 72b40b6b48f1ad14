"""Cycles of the sparse-convolution engine against its event model: every pass, every store, on random designs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bitkiln.host.spconv import Program, compile_network
from bitkiln.host.spconv_cycles import ProgramCycles, program_cycles
from bitkiln.models.design.spconv import GatherDesign, MapDesign
from bitkiln.models.design.spconv_core import RECORDS_REQUEST, SpConvDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import generative2, stride3
from bitkiln.models.workloads.spconv_nets import NetworkRun, dilating_encoder, encoder_decoder

from .search_check import random_cloud
from .spconv_check import edge_network, network_on, run_program, with_odd_voxels
from .streams import StreamModel

__all__ = ["CycleRun", "check_cycles", "random_design", "random_programs", "with_operator"]

SPARE_WORDS, SPARE_ROWS = 1 << 14, 1 << 13


@dataclass(frozen=True)
class CycleRun:
    """A program whose cycles were right.

    Attributes
    ----------
    predicted : ProgramCycles
    counters : dict of str to int
        The core's counters.
    """

    predicted: ProgramCycles
    counters: dict[str, int]


def check_cycles(design: SpConvDesign, program: Program, model: StreamModel, *, seed: int = 0,
                 odd: bool = False) -> CycleRun:
    """Run a program whose streams never wait, and compare cycles.

    Parameters
    ----------
    odd : bool
        Voxels that do not count come in between.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference: a pass that begins, or a store whose last word leaves, in another cycle;
        or another counter.
    """
    voxels = [with_odd_voxels(step, np.random.default_rng(seed))[0] for step in program.steps
              if step.job.kind == "load"] if odd else None
    predicted = program_cycles(design, program, voxels=voxels)
    found = run_program(design, model, program, seed=seed, odd=odd)
    asked = found.requests[:, 0] == RECORDS_REQUEST if len(found.requests) else np.zeros(0, bool)
    begun = iter(found.run.cycles["request"][asked].tolist())
    left = found.run.cycles["o"].tolist()
    now, words = 1, 0
    for at, (step, job) in enumerate(zip(program.steps, predicted.jobs, strict=True)):
        begins = now + 1
        for part, cycles in enumerate(job.passes):
            _equal(f"job {at} ({step.job.op}), start of pass {part}", next(begun) - 1, begins, seed)
            begins += cycles
        now += job.cycles
        if step.job.kind == "store":
            words += max(step.job.rows * step.job.in_groups, 1)
            _equal(f"job {at} (store), last word", left[words - 1], now - 2, seed)
    _equal("CYCLES", found.counters["CYCLES"], predicted.cycles, seed)
    _equal("SEARCH", found.counters["SEARCH"], predicted.search, seed)
    _equal("ISSUED + IDLE", found.counters["ISSUED"] + found.counters["IDLE"],
           predicted.steps * design.gather.lanes, seed)
    return CycleRun(predicted, found.counters)


def _equal(what: str, got: int, expected: int, seed: int) -> None:
    if got != expected:
        raise BitkilnError("RTL and cycle model differ", where=what, got=got, expected=str(expected),
                           help=f"seed {seed}", exit_code=FAILED)


def random_design(rng: np.random.Generator, pack: str = "item") -> SpConvDesign:
    """A small core; some have little room between their units, some are slow at the output, some have few weights."""
    lanes, outputs = (1 << each for each in sorted(rng.integers(0, 4, 2).tolist()))
    tree = MapDesign(depth=int(rng.integers(2, 7)), batch_bits=int(rng.integers(0, 2)), capacity=1024,
                     search=str(rng.choice(["parity", "compact"])), queue=2 ** int(rng.integers(1, 4)),
                     rows=2 ** int(rng.integers(1, 6)))
    fmt = str(rng.choice(["int8", "int4", "fp8_e4m3", "posit8_0"]))
    gather = GatherDesign(
        fmt, fmt, lanes, outputs, outputs * int(rng.choice([4, 8])), pack,
        window=2 ** int(rng.integers(1, 5)), slots=2 ** int(rng.integers(0, 8)) if pack == "item" else 1,
        feature_words=SPARE_WORDS, mask_rows=SPARE_ROWS, index_bits=tree.index_bits, pipeline=int(rng.integers(0, 4)))
    pinned = int(rng.choice([0, 1, 3, 9, 26, 27])) if pack == "item" else 27
    return SpConvDesign(tree, gather, pinned, int(rng.integers(1, 3)), 2 ** int(rng.integers(0, lanes.bit_length())),
                        2 ** int(rng.integers(1, 4)))


def random_programs(design: SpConvDesign, rng: np.random.Generator, count: int) -> Iterator[Program]:
    """Networks of all operators on clouds from nothing to some hundred voxels, dense ones among them."""
    width, depth = design.gather.outputs, design.map.depth
    kinds = ["encoder-decoder", "stride3", "generative2"] + ["dilating", "edges", "bare rows"] * (design.trees == 2)
    while count:
        kind = str(rng.choice(kinds))
        seed, indices, side = int(rng.integers(1 << 30)), _voxels(design.map, rng), 1 << depth
        widths = tuple(int(width * rng.integers(1, 3)) for _ in range(min(int(rng.integers(1, 4)), depth)))
        if kind in ("dilating", "bare rows"):
            net = dilating_encoder("random", widths[:2], width)
        elif kind == "edges":
            net, side = edge_network(width), side - 1
        else:
            net = encoder_decoder("random", widths if kind == "encoder-decoder" else widths[:1], width)
        try:
            run = network_on(design, net, indices, seed, side)
            program = compile_network(design, run)
        except BitkilnError:    # more than the core has room for
            continue
        if kind in ("stride3", "generative2"):
            program = with_operator(design, run, program, kind)
        elif kind == "bare rows":
            program = _bare_rows(program, rng)
        if all(len(np.unique(keys >> 3 * level)) <= design.map.held(level) for step in program.steps
               if (keys := step.keys) is not None for level in range(step.depth + 1)):
            yield program
            count -= 1


def _voxels(tree: MapDesign, rng: np.random.Generator) -> np.ndarray:
    side = 1 << tree.depth
    if rng.random() < 0.3:      # a block
        size = min(int(rng.integers(1, 8)), side)
        at = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        at = at + rng.integers(0, side - size + 1, 3)
        return np.column_stack([np.full(len(at), rng.integers(tree.batches)), at])
    count = int(rng.choice([0, 1, 8, 60, 250, 500]))
    return random_cloud(tree, count, rng).indices.astype(np.int64) if count else np.zeros((0, 4), np.int64)


def with_operator(design: SpConvDesign, run: NetworkRun, program: Program, op: str) -> Program:
    """The program of a network of one layer with an operator that networks do not take; what comes out is no matter.

    Parameters
    ----------
    op : str
        ``generative2``, or ``stride3`` to the octants of the inputs.
    """
    keys, first = run.clouds[0], run.layers[0]
    conv = generative2(keys) if op == "generative2" else stride3(keys, design.map.depth, "parents")
    side = conv.kernel ** 3
    layer = replace(first, layer=replace(first.layer, op=op), map=conv, weights=first.weights[:, :side])
    used = sum(1 << int(k) for k in np.unique(conv.k)[:design.pinned])
    steps = []
    for step in program.steps:
        if step.layer is not None:
            step = replace(step, job=replace(step.job, op=op, pinned=used), layer=layer)
        elif step.job.kind == "store":
            step = replace(step, job=replace(step.job, rows=conv.rows))
        steps.append(step)
    return replace(program, steps=steps, expected={})


def _bare_rows(program: Program, rng: np.random.Generator) -> Program:
    """Up to its first convolution to another tree, which has voxels there that no input meets; then a store."""
    last = next((at for at, step in enumerate(program.steps) if step.job.cross), None)
    if last is None or not len(program.steps[0].keys):
        return program
    load, cross = program.steps[last - 1:last + 1]
    conv, digits = cross.layer.map, 3 * load.depth
    more = rng.choice(np.unique(load.keys >> digits), 40) << digits | rng.integers(0, 1 << digits, 40)
    keys = np.union1d(load.keys, more)
    conv = replace(conv, out=np.searchsorted(keys, conv.out_keys)[conv.out], out_keys=keys)
    steps = [*program.steps[:last - 1], replace(load, keys=keys), replace(cross, layer=replace(cross.layer, map=conv)),
             program.steps[-1]]
    return replace(program, steps=steps, expected={})
