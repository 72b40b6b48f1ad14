"""Speed of number formats: decode and encode of ten million values on one core.

Every measured encode is also compared, value for value, with an oracle: ml_dtypes for floats, rounding in
float64 for integers, and for the rest the binary search over exact tie points (which the tests hold against
rational arithmetic).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitkiln.models.formats import Format, get_format
from bitkiln.models.formats.stepping import order_key
from bitkiln.report.table import Row, print_targets

COMMAND = "make bench SUITE=foundation ONLY=formats"
COUNT = 10_000_000
DECODE_TARGET, ENCODE_TARGET = 50.0, 20.0      # million values a second
DECODED = ("fp4", "fp8_e4m3", "posit8_0", "int16", "posit16_1", "bf16")
ENCODED = ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int4", "int8", "ternary", "posit4_1", "posit8_0",
           "nf4", "flint4", "bitmod4_ea_pos", "int16", "fp16", "bf16", "posit16_1")
STOCHASTIC = ("fp4", "fp8_e4m3")


def rate(work: Callable[[], object], count: int, repeats: int = 3) -> float:
    """Million values per CPU second, best of ``repeats``."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return round(count / best / 1e6, 1)


def samples(format: Format, count: int, seed: int = 0) -> np.ndarray:
    """float32 values: normal, at scales from the smallest to past the largest values of the format."""
    rng = np.random.default_rng(seed)
    low, high = np.log2(format.min_positive), np.log2(format.max)
    values = rng.standard_normal(count, dtype=np.float32)
    for part, scale in zip(np.array_split(values, 8), np.linspace(max(low, -100), min(high, 100), 8), strict=True):
        part *= np.float32(2.0**scale)
    return values


def oracle(format: Format, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Nearest-even codes by another way, and its name."""
    import ml_dtypes

    types = {"fp4": ml_dtypes.float4_e2m1fn, "fp6_e2m3": ml_dtypes.float6_e2m3fn,
             "fp6_e3m2": ml_dtypes.float6_e3m2fn, "fp8_e4m3": ml_dtypes.float8_e4m3fn,
             "fp8_e5m2": ml_dtypes.float8_e5m2, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
    code = np.uint8 if format.bits <= 8 else np.uint16
    if format.name in types:    # saturating by clipping first
        clipped = np.clip(values, np.float32(-format.max), np.float32(format.max))
        return clipped.astype(types[format.name]).view(code), "ml_dtypes" if format.name != "fp16" else "numpy"
    if format.family == "int":
        whole = np.clip(np.rint(values.astype(np.float64)), format.min, format.max).astype(np.int64)
        return (whole & (1 << format.bits) - 1).astype(code), "numpy rint"
    return format._steps("nearest_even", "saturate")(order_key(values)), "search over exact ties"


def run(count: int = COUNT) -> list[Row]:
    rows = []
    for name in DECODED:
        f = get_format(name)
        kind = np.uint8 if f.bits <= 8 else np.uint16
        codes = np.random.default_rng(1).integers(0, 1 << f.bits, count).astype(kind)
        f.decode(codes[:100])
        rows.append(Row(f"decode {name}", rate(lambda: f.decode(codes), count), "million values/s",  # noqa: B023
                        DECODE_TARGET, "higher", COMMAND, "float64 out"))
    for name in ENCODED:
        f = get_format(name)
        values = samples(f, count)
        f.encode(values[:1 << 15])                    # makes the tables
        speed = rate(lambda: f.encode(values), count)  # noqa: B023
        expected, source = oracle(f, values)
        wrong = int((f.encode(values) != expected).sum())
        note = f"float32 in; equal to {source}" if wrong == 0 else f"{wrong} values differ from {source}"
        rows.append(Row(f"encode {name}", speed if wrong == 0 else None, "million values/s",
                        ENCODE_TARGET if f.bits <= 8 else None, "higher", COMMAND, note))
    for name in STOCHASTIC:
        f = get_format(name)
        values = samples(f, count // 10)
        words = np.random.default_rng(2).integers(0, 1 << 32, values.size, np.uint32)
        speed = rate(lambda: f.encode(values, "stochastic", random_bits=words), values.size)  # noqa: B023
        rows.append(Row(f"encode {name}, stochastic", speed, "million values/s", None, "higher", COMMAND, "float32 in"))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/bench/formats.json"))
    parser.add_argument("--count", type=int, default=COUNT)
    options = parser.parse_args()
    raise SystemExit(0 if print_targets(run(options.count), options.output, title="number formats") else 1)
