"""Designs that the area models are fitted to and tested on: the same for every target, drawn from a fixed seed.

Formats appear with a plain one-lane unit and with units whose lanes, depth, pipeline and output are drawn; arrays and
cores take a few sets of modes in many sizes. The last share of each part is never fitted (`Sample.check`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Resolved, load_design
from ..models.errors import BitkilnError

__all__ = ["SEED", "Sample", "drawn_units", "samples"]

SEED = 2026
# Operands of the sampled units: every family, from the widths where tables win to those where shifters do.
PAIRS = (
    "int2", "int3", "int4", "int5", "int6", "int7", "int8", "int10", "int12", "int16", "uint4", "uint8", "ternary",
    "e2m0", "fp4", "e1m2", "e3m0", "e2m2", "e3m1", "e1m3", "fp6_e2m3", "fp6_e3m2", "e4m1", "e1m4", "e2m4", "e3m3",
    "e4m2", "e5m1", "fp8_e4m3", "fp8_e5m2", "fp8_e3m4", "fp8_e4m3_ieee", "e2m5", "posit4_1", "posit5_0", "posit6_0",
    "posit6_1", "posit7_0", "posit8_0", "posit8_1", "posit8_2", "posit10_1", "posit12_1", "posit16_1",
    "int8xint4", "int8xint2", "int8xternary", "int8xfp4", "int8xint6", "int16xint8", "int8xe2m2", "fp8_e4m3xfp4",
    "fp8_e4m3xint4", "fp8_e5m2xfp4", "posit8_0xfp4", "posit8_0xint4", "int8xflint4", "fp6_e3m2xfp4", "int16xfp4",
    "fp16", "bf16xint4", "fp16xint4", "bf16xfp4",
)
WIDE = {"posit16_1", "posit12_1", "int16", "fp8_e5m2", "fp16"}
FLAT_PES = 9
DEPTHS = (64, 256, 1024, 4096, 16384)
OUTPUTS = ("int8", "fp8_e4m3", "posit8_0", "fp32", "fp4", "posit16_1", "int4", "fp16")
OUTPUT_DRAWS = 6
DEFAULTS = {"accumulator.depth": 1024, "pipeline": 0}
PLAIN = (0, 1, 3)   # pipelines of one lane alone: parts kept apart, dissolved, dissolved behind an aligner of its own
FLOAT_CHECKS = ("fp16", "bf16xint4", "fp16xint4", "bf16xfp4")
CORES = 32
CHECK_SHARE = 4     # of the cores every fourth is never fitted


@dataclass(frozen=True)
class Sample:
    """One design.

    Attributes
    ----------
    part : str
        ``pe``, ``array`` or ``core``.
    keys : dict
        Dotted keys of a design description, as the command line would set them.
    check : bool
        Never fitted: errors on these are the ones that are reported.
    """

    part: str
    keys: dict[str, Any]
    check: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.keys, sort_keys=True).encode()).hexdigest()[:10]

    def resolve(self) -> Resolved:
        """The validated design."""
        return load_design(cli={key: (value, "sample") for key, value in self.keys.items()})


def samples(part: str | None = None, flattened: bool = False) -> list[Sample]:
    """All samples, of one part or of all.

    ``flattened``: without the arrays that are too large to be mapped as one module (standard cells).
    """
    makers = {"pe": _units, "array": _arrays, "core": _cores}
    chosen = makers if part is None else {part: makers[part]}
    found: dict[str, Sample] = {}
    for make in chosen.values():
        for sample in make():
            pes = sample.keys.get("array.rows", 1) * sample.keys.get("array.columns", 1)
            if not flattened or pes <= FLAT_PES:
                # A default that is drawn is the same design: none is held back that was fitted.
                found.setdefault(json.dumps(DEFAULTS | sample.keys, sort_keys=True), sample)
    return list(found.values())


def drawn_units(seed: int, count: int) -> list[Sample]:
    """Units drawn like the samples', from another seed: designs that nobody has looked at."""
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in PAIRS if "16" not in pair.replace("posit16", "").replace("int16", "")]
    known = {sample.digest for sample in samples("pe")}
    found: dict[str, Sample] = {}
    while len(found) < count:
        for sample in _drawn(rng, str(rng.choice(pairs)), True):
            if sample.digest not in known:
                found.setdefault(sample.digest, sample)
    return list(found.values())


def _legal(sample: Sample) -> bool:
    try:
        sample.resolve()
    except BitkilnError:
        return False
    return True


def _units() -> Iterator[Sample]:
    rng = np.random.default_rng(SEED)
    for pair in PAIRS:
        for pipeline in PLAIN:
            yield Sample("pe", {"engine": "dot_unit", "pe": pair, "lanes": 1, **({"pipeline": pipeline} if pipeline else
                                                                                 {})}, False)
        if "16" in pair.replace("posit16", "").replace("int16", ""):     # float32 sums: one lane, no depth
            continue
        yield Sample("pe", {"engine": "dot_unit", "pe": pair, "lanes": 2 if WIDE & set(pair.split("x")) else 4}, False)
        for check in (False, True):
            yield from _drawn(rng, pair, check)
    for output in OUTPUTS:
        for count in range(OUTPUT_DRAWS):
            yield from _with_output(rng, output, count == OUTPUT_DRAWS - 1)
    for pair in FLOAT_CHECKS:
        yield Sample("pe", {"engine": "dot_unit", "pe": pair, "lanes": 1, "pipeline": 2}, True)


def _drawn(rng: np.random.Generator, pair: str, check: bool) -> Iterator[Sample]:
    while True:
        keys: dict[str, Any] = {
            "engine": "dot_unit", "pe": pair,
            "lanes": int(rng.choice((1, 2, 4) if WIDE & set(pair.split("x")) else (1, 2, 3, 4, 6, 8))),
            "accumulator.depth": int(rng.choice(DEPTHS)), "pipeline": int(rng.integers(0, 5))}
        if rng.random() < 0.25:
            keys["output.format"] = str(rng.choice(OUTPUTS))
        sample = Sample("pe", keys, check)
        if _legal(sample):
            yield sample
            return


def _with_output(rng: np.random.Generator, output: str, check: bool) -> Iterator[Sample]:
    narrow = [pair for pair in PAIRS if not WIDE & set(pair.split("x")) and "bf16" not in pair]
    while True:
        sample = Sample("pe", {"engine": "dot_unit", "pe": str(rng.choice(narrow)), "lanes": int(rng.choice((1, 2))),
                               "accumulator.depth": int(rng.choice(DEPTHS)), "output.format": output}, check)
        if _legal(sample):
            yield sample
            return


MODE_SETS = (("int8",), ("fp4",), ("fp8_e4m3",), ("posit8_0",), ("int4",), ("int8xint4",), ("posit4_1",),
             ("fp4", "int8"), ("fp4", "posit8_0", "int8"), ("fp4", "posit4_1", "posit8_0", "posit16_1"))


def _arrays() -> Iterator[Sample]:
    rng = np.random.default_rng(SEED + 1)
    for number, modes in enumerate(MODE_SETS):
        shared = len(modes) > 3          # one data path: nothing is known of it but from arrays
        depths = range(4) if shared else (0, 1 + number % 3)
        for links in ("broadcast", "systolic"):
            for pipeline in depths:
                yield _array(rng, modes, links, pipeline, 4, False)
        yield _array(rng, modes, str(rng.choice(("broadcast", "systolic"))), int(rng.integers(0, 4)), 6, True)


def _array(rng: np.random.Generator, modes: tuple[str, ...], links: str, pipeline: int, most: int, check: bool
           ) -> Sample:
    return Sample("array", {
        "engine": "matmul_array", "modes": list(modes), "array.rows": int(rng.integers(1, most + 1)),
        "array.columns": int(rng.integers(1, most + 1)), "accumulator.depth": int(rng.choice(DEPTHS)),
        "pipeline": pipeline, "array.links": links}, check)


def _cores() -> Iterator[Sample]:
    rng = np.random.default_rng(SEED + 2)
    made = 0
    while made < CORES:
        modes = MODE_SETS[made % len(MODE_SETS)]
        keys: dict[str, Any] = {
            "engine": "matmul_core", "modes": list(modes), "array.rows": int(rng.choice((2, 4, 6))),
            "array.columns": int(rng.choice((2, 4, 8))), "accumulator.depth": int(rng.choice((256, 1024, 4096))),
            "pipeline": int(rng.integers(0, 4)), "k_words": int(rng.choice((64, 256, 512))),
            "bus_bits": int(rng.choice((32, 64, 128))), "output.bias": bool(rng.random() < 0.5),
            "output.accumulate": bool(rng.random() < 0.5)}
        sample = Sample("core", keys, made % CHECK_SHARE == CHECK_SHARE - 1)
        if _legal(sample):
            made += 1
            yield sample
