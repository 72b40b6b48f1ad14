"""Cycles of the bit-serial array's RTL against the closed form and the event model."""

from __future__ import annotations

import numpy as np

from bitkiln.hw.dequant.array import BitSerialArray
from bitkiln.models.cost.cycles.bitserial import closed_form, event_cycles, pipeline_depth
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.golden.bitserial import GroupStream
from bitkiln.report.table import Row
from bitkiln.sim.bitserial_check import ArrayRun, random_activations, random_stream, run_stream
from bitkiln.sim.streams import StreamModel

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_cycles"
SEED = 17
# A design has eight types at most.
TYPES = (("bitmod4", "bitmod3", "fp4", "fp3", "flint4", "nf4_int8", "nf3_int8", "seq2"),
         ("int8", "int7", "int6", "int5", "int4", "int3", "int2"),
         ("fp6_e2m3", "fp6_e3m2", "e2m2", "e3m1", "ternary", "binary"))
SCALES = ("uint8", "e8m0", "ue4m3", "none")
LENGTHS = (8, 16, 32, 64, 128)
GROUPS = 12
MIXED = {
    "zero skipping, 2 x 2, bitmod4 + bitmod3 + int8 + ternary": BitSerialDesign(
        ("bitmod4", "bitmod3", "int8", "ternary"), rows=2, columns=2, zero_skip=True),
    "zero skipping, two scales, e4m3 activations": BitSerialDesign(
        ("fp4", "fp3"), activation="fp8_e4m3", lanes=8, dual_scale=True, zero_skip=True),
    "aligned, 3 x 1, e8m0": BitSerialDesign(
        ("int6", "bitmod4", "fp6_e2m3"), rows=3, accumulate="aligned", scale="e8m0", group=32),
}
RANDOM = 2400


def equal_groups(design: BitSerialDesign, index: int, length: int, rng: np.random.Generator) -> GroupStream:
    """Groups of one type and length, each a result of its own."""
    shape = (design.columns, GROUPS * length)
    bits = design.weights[index].bits
    scale = rng.integers(0, 1 << design.scale_code_bits, (2, design.columns, GROUPS))
    none = np.zeros((design.columns, GROUPS), np.int64)
    return GroupStream(random_activations(design, (design.rows, shape[1]), rng, 0.0),
                       rng.integers(0, 1 << bits, shape), np.full(GROUPS, length), none + index,
                       rng.integers(0, 4, none.shape), scale[0], scale[1], none, np.ones(GROUPS, bool))


def differing(run: ArrayRun) -> int:
    """Results that are not the golden model's."""
    return int(np.sum(run.found["fp32"] != run.expected.fp32))


def equal_rows() -> list[Row]:
    """Back-to-back groups of every type, scale and length."""
    rng, rows = np.random.default_rng(SEED), []
    for scale in SCALES:
        worst = published = stalled = wrong = runs = bound = 0
        for types in TYPES:
            design = BitSerialDesign(types, scale=scale, groups=1)
            model = StreamModel(BitSerialArray(design))
            for index, weight in enumerate(design.weights):
                for length in LENGTHS:
                    run = run_stream(design, equal_groups(design, index, length, rng), model=model)
                    cycles = int(run.cycles["o"][-1]) - int(run.cycles["w"][0])
                    dot, phase = -(-length // design.lanes) * weight.terms, design.scale_cycles
                    worst = max(worst, abs(cycles - closed_form(design, GROUPS, length, weight.terms)))
                    if dot >= phase:
                        formula = GROUPS * max(dot, phase) + phase + pipeline_depth(design)
                        published = max(published, abs(cycles - formula))
                    stalled += (run.stalls == 0) != (dot >= phase)
                    bound += dot < phase
                    wrong += differing(run)
                    runs += 1
        what = f"{GROUPS} groups back to back, scale {scale}"
        note = f"{runs} runs: {sum(map(len, TYPES))} weight types, groups of {', '.join(map(str, LENGTHS))}"
        rows += [Row(f"{what}: RTL against C t + (N - 1) max(C t, Sc) + Sc + P", worst, "cycles", 0, command=COMMAND,
                     note=note),
                 Row(f"{what}: against N max(C t, Sc) + Sc + P, where C t >= Sc", published, "cycles", 0,
                     command=COMMAND, note=f"{runs - bound} of {runs} runs; in the others the first group takes C t"),
                 Row(f"{what}: runs in which stalls are not exactly where C t < Sc", stalled, "runs", 0,
                     command=COMMAND, note=note),
                 Row(f"{what}: results that are not the golden model's", wrong, "results", 0, command=COMMAND,
                     note=note)]
    return rows


def mixed_rows() -> list[Row]:
    """Random groups of all lengths, types and weights."""
    rows = []
    for name, design in MIXED.items():
        run = run_stream(design, random_stream(design, RANDOM, SEED))
        accepted, results, held = event_cycles(design, run.words.steps, run.words.last, run.words.emit)
        worst = max(int(np.abs(run.cycles[port].astype(np.int64) - wanted).max())
                    for port, wanted in (("w", accepted), ("a", accepted), ("o", results)))
        note = f"{len(accepted):,} chunks, {len(results):,} rows of results, {run.stalls:,} stalls, seed {SEED}"
        rows += [Row(f"{name}, {RANDOM} random groups: RTL against event model, any transfer", worst, "cycles", 0,
                     command=COMMAND, note=note),
                 Row(f"{name}: stall counter against event model", abs(run.stalls - held), "cycles", 0,
                     command=COMMAND),
                 Row(f"{name}: results that are not the golden model's", differing(run), "results", 0,
                     command=COMMAND)]
    return rows


def run() -> list[Row]:
    return equal_rows() + mixed_rows()
