"""The checks of the bit-serial array: random groups, a cocotb bench, and a real network through the RTL."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ..config import Resolved
from .simulate import Check, Options, Outcome, no_jobs
from .simulate_dot import run_bench

__all__ = ["array_steps", "bench", "core_steps"]

GROUPS = 3000
BENCH_GROUPS = 200
STALLS = {"w": 0.3, "a": 0.3, "o": 0.4}
JOBS = 48
CORE_STALLS = {"weight": 0.3, "activation": 0.3, "o": 0.4, "job": 0.5}


def array_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``bitserial_array``."""
    from ..hw.dequant.array import BitSerialArray
    from ..sim.bitserial_network import RtlProduct
    from ..sim.streams import StreamModel

    no_jobs(options, "an array")
    design = resolved.design
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(BitSerialArray(design))
    for name, stalls in (("groups", None), ("groups, stalls", STALLS)):
        yield Check(name, "results", functools.partial(_groups, design, options.seed, model, stalls),
                    f"{GROUPS} random groups{', stalls on every stream' if stalls else ', every cycle predicted'}")
    yield Check("cocotb bench", "checks", functools.partial(bench, resolved, options.seed), "cocotb bench")
    if design.output == "fp32" and design.accumulate == "exact" and design.scale != "none":
        for types in _turns(len(design.weights)):
            names = " + ".join(dict.fromkeys(design.weights[i].name for i in types))
            yield Check(f"digits mlp, {names}", "results",
                        functools.partial(_digits, design, types, options.images, RtlProduct(model)),
                        f"digits mlp through the RTL, weights {names}")


def _turns(count: int) -> list[tuple[int, int]]:
    """Types of the two kinds of layers, so that each has a turn."""
    return [(at, (at + 1) % count) for at in range(0, count, 2)]


def _groups(design: Any, seed: int, model: Any, stalls: dict[str, float] | None) -> Outcome:
    from ..sim.bitserial_check import check_stream, random_stream

    stream = random_stream(design, GROUPS, seed)
    results = check_stream(design, stream, stalls=stalls, seed=seed, model=model)
    details = f"{GROUPS} groups of 1 to {design.group} weights, {int(stream.lengths.sum()):,} weights a column"
    details += "; stalls on every stream" if stalls else "; cycles equal to the event model"
    return Outcome(results, 0, details, {"groups": GROUPS, "weights": int(stream.lengths.sum())})


def bench(resolved: Resolved, seed: int) -> Outcome:
    """The cocotb bench of an array."""
    return run_bench(resolved, resolved.engine.bench,
                     {"design": resolved.design, "seed": seed, "groups": BENCH_GROUPS}, seed)


def _digits(design: Any, types: tuple[int, int], images: int, product: Any) -> Outcome:
    from ..sim.bitserial_digits import run_serial_digits

    found = run_serial_digits(product, design, types, images)
    details = (f"accuracy float {found.float_accuracy:.1%}, golden {found.golden_accuracy:.1%}, RTL "
               f"{found.rtl_accuracy:.1%}; {found.bits_per_weight:.2f} bits a weight; {found.products:,} MACs, "
               f"{found.products_per_cycle:.2f} per cycle")
    return Outcome(found.results, int(found.golden_accuracy != found.rtl_accuracy), details, vars(found))


def core_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``dequant_core``."""
    from ..hw.dequant.core import DequantCore
    from ..sim.streams import StreamModel

    design = resolved.design
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(DequantCore(design))
    for name, stalls in (("jobs", None), ("jobs, stalls", CORE_STALLS)):
        yield Check(name, "results", functools.partial(_jobs, design, options, model, stalls),
                    f"random jobs{', stalls on every stream' if stalls else ''}")
    if design.array.scale != "none" and design.array.accumulate == "exact" and design.output.name == "fp32":
        for types in _turns(len(design.array.weights)):
            names = " + ".join(dict.fromkeys(design.array.weights[i].name for i in types))
            yield Check(f"digits mlp, {names}", "results",
                        functools.partial(_core_digits, design, types, options, model),
                        f"digits mlp from packed weights, {names}")


def _jobs(design: Any, options: Options, model: Any, stalls: dict[str, float] | None) -> Outcome:
    import numpy as np

    from ..sim.dequant_check import check_jobs, random_job

    rng = np.random.default_rng(options.seed)
    count = options.jobs or JOBS
    jobs = [random_job(design, rng) for _ in range(count)]
    results = check_jobs(design, jobs, model=model, stalls=stalls, seed=options.seed)
    groups = sum(len(j.job.lengths) * j.job.channels for j in jobs)
    details = f"{count} jobs back to back, {groups:,} packed groups of mixed types"
    return Outcome(results, 0, details + ("; stalls on every stream" if stalls else ""),
                   {"jobs": count, "groups": groups})


def _core_digits(design: Any, types: tuple[int, int], options: Options, model: Any) -> Outcome:
    from ..sim.bitserial_digits import run_serial_digits
    from ..sim.dequant_network import CoreProduct

    found = run_serial_digits(CoreProduct(design, model), design.array, types, options.images)
    details = (f"accuracy float {found.float_accuracy:.1%}, golden {found.golden_accuracy:.1%}, RTL "
               f"{found.rtl_accuracy:.1%}; {found.bits_per_weight:.2f} bits a weight; {found.products:,} MACs, "
               f"{found.products_per_cycle:.2f} per cycle")
    return Outcome(found.results, int(found.golden_accuracy != found.rtl_accuracy), details, vars(found))
