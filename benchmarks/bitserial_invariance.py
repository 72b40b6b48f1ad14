"""Exact sums do not depend on how they are computed: RTL of different structure, compared result by result.

All run the same groups and give raw integers and flags, before any rounding.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.weights import WeightType, weight_type
from bitkiln.models.golden.bitserial import GroupStream
from bitkiln.report.table import Row
from bitkiln.sim.bitserial_check import random_stream, run_stream

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_invariance"
SEED, GROUPS = 23, 600
TYPES = ("bitmod4", "bitmod3", "int8", "int6")
BASE = BitSerialDesign(TYPES, columns=2, output="raw", placement="edge")


def signed_digit(name: str) -> WeightType:
    """An integer type whose terms are the fewest signed digits (NAF) by a table instead of Booth's rule."""
    return replace(weight_type(name), name=f"{name}_naf", booth=False)


NAF = (*TYPES[:2], *(signed_digit(name) for name in TYPES[2:]))
VARIANTS: dict[str, BitSerialDesign] = {
    "4 lanes, placed at the edge, Booth": BASE,
    "1 lane": BASE.with_options(lanes=1, placement="edge"),
    "2 lanes": BASE.with_options(lanes=2, placement="edge"),
    "8 lanes": BASE.with_options(lanes=8, placement="edge"),
    "placed in the PE": BASE.with_options(placement="pe"),
    "no stage in the PE": BASE.with_options(pipeline=0, placement="edge"),
    "two stages in the PE": BASE.with_options(pipeline=2, placement="edge"),
    "zero skipping": BASE.with_options(zero_skip=True, placement="edge"),
    "NAF digits": BASE.with_options(weights=NAF, placement="edge"),
    "NAF digits, zero skipping, placed in the PE": BASE.with_options(weights=NAF, zero_skip=True, placement="pe"),
}


def shuffled(stream: GroupStream, rng: np.random.Generator) -> GroupStream:
    """The elements of each group in another order, so that other ones meet in a chunk."""
    order = np.concatenate([start + rng.permutation(length) for start, length
                            in zip(stream.starts[:-1], stream.lengths, strict=True)])
    return replace(stream, activations=stream.activations[:, order], codes=stream.codes[:, order])


def run() -> list[Row]:
    rng = np.random.default_rng(SEED)
    stream = random_stream(BASE, GROUPS, SEED)
    other = shuffled(stream, rng)
    runs = {name: run_stream(design, stream) for name, design in VARIANTS.items()}
    runs |= {f"{name}, elements shuffled": run_stream(VARIANTS[name], other) for name in
             ("4 lanes, placed at the edge, Booth", "NAF digits, zero skipping, placed in the PE")}
    found = {name: result.found for name, result in runs.items()}
    count = next(iter(found.values()))["value"].size
    rows = []
    pairs = list(combinations(found, 2))
    worst = dict.fromkeys(found, 0)
    for one, two in pairs:
        unequal = sum(int(np.sum(found[one][field] != found[two][field])) for field in found[one])
        worst[one], worst[two] = max(worst[one], unequal), max(worst[two], unequal)
    for name, result in runs.items():
        taken = int(result.cycles["o"][-1]) + 1
        rows.append(Row(f"{name}: values and flags that differ from any other variant's", worst[name], "fields", 0,
                        command=COMMAND, note=f"{count:,} results of {GROUPS} groups, {taken:,} cycles"))
    against = sum(int(np.sum(result.found["value"] != result.expected.value)) for result in runs.values())
    rows.append(Row(f"all {len(pairs)} pairs of {len(found)} variants, and the golden model: values that differ",
                    sum(worst.values()) + against, "values", 0, command=COMMAND, note=f"seed {SEED}"))
    return rows
