"""The checks of a dot unit: operand pairs, a cocotb bench, and real networks through the RTL."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ..config import Resolved
from .simulate import Check, Options, Outcome, no_jobs

__all__ = ["bench", "dot_steps", "run_bench"]


def dot_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``dot_unit``."""
    from ..sim.batch import BatchModel

    no_jobs(options, "a dot unit")
    options.progress(f"{resolved.name}: building the model")
    model = BatchModel(resolved.design)
    yield Check("dot unit", "vectors", functools.partial(_unit, resolved, options.seed, model),
                "operand pairs against the golden model")
    yield Check("cocotb bench", "checks", functools.partial(bench, resolved, options.seed), "cocotb bench")
    for network in ("mlp", "cnn"):
        yield Check(f"digits {network}", "dot products",
                    functools.partial(_network, resolved.design, network, options.images, model),
                    f"digits {network} through the RTL")


def _unit(resolved: Resolved, seed: int, model: Any) -> Outcome:
    from ..sim.dot_check import check_dot

    result = check_dot(resolved.design, seed=seed, model=model)
    details = f"{result.pairs:,} operand pairs, {'all in every lane' if result.exhaustive else 'random and extreme'}"
    if result.first:
        details = f"first: {result.first}"
    return Outcome(result.vectors, result.mismatches, details, {"pairs": result.pairs, "parts": result.parts})


def bench(resolved: Resolved, seed: int) -> Outcome:
    """The cocotb bench of a dot unit."""
    return run_bench(resolved, resolved.engine.bench, {"design": resolved.design, "seed": seed}, seed)


def run_bench(resolved: Resolved, module: str, parameters: dict[str, Any], seed: int) -> Outcome:
    """The cocotb tests of a module below ``bitkiln`` on a design."""
    from ..sim.runner import run_bench as run

    result = run(resolved.component(), f"bitkiln.{module}", seed=seed, parameters=parameters)
    details = f"{result.tests} test{'s' * (result.tests != 1)}, {result.cycles:,} cycles"
    if result.waves is not None:
        details += f", waves in {result.waves}"
    waves = {} if result.waves is None else {"waves": str(result.waves)}
    return Outcome(result.vectors, 0, details, {"cycles": result.cycles, **waves})


def _network(design: Any, network: str, images: int, model: Any) -> Outcome:
    from ..sim.digits import run_digits

    result = run_digits(design, network, images, model=model)
    mismatches = result.mismatches + (not result.scores_equal)
    details = (f"accuracy float {result.float_accuracy:.1%}, golden {result.golden_accuracy:.1%}, "
               f"RTL {result.rtl_accuracy:.1%}; {result.macs:,} MACs, {result.macs_per_cycle:.2f} per cycle")
    if result.first_mismatch:
        details = f"first: {result.first_mismatch}"
    return Outcome(result.dot_products, mismatches, details, result.as_dict())
