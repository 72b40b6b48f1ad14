"""``bitkiln sim``: the three checks of a design, one row each."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..config import Resolved
from ..models.errors import FAILED, BitkilnError

__all__ = ["Step", "simulate"]


@dataclass(frozen=True)
class Step:
    """One check.

    Attributes
    ----------
    step : str
        What was checked.
    checked : int
        Number of comparisons; a step that checked nothing has failed.
    unit : str
        What is counted.
    mismatches : int
    details : str
    seconds : float
        Wall time, building the model included.
    """

    step: str
    checked: int
    unit: str
    mismatches: int
    details: str
    seconds: float
    facts: dict[str, Any]

    @property
    def passed(self) -> bool:
        return self.checked > 0 and self.mismatches == 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3), "passed": self.passed}


def simulate(resolved: Resolved, *, seed: int = 0, images: int = 360,
             progress: Callable[[str], None] = lambda text: None) -> Iterator[Step]:
    """Run the checks one after the other; every one runs even where an earlier one failed.

    Parameters
    ----------
    resolved : Resolved
    seed : int
        Of all random vectors.
    images : int
        Digit images for the network.
    progress : callable
        Told what begins.
    """
    from ..sim.batch import BatchModel
    from ..sim.toolchain import require

    for tool in ("verilator", "cxx"):                  # before anything is written
        require(tool)
    design = resolved.design
    progress(f"{resolved.name}: building the model")
    model = BatchModel(design)
    progress(f"{resolved.name}: operand pairs against the golden model")
    yield _step("dot unit", "vectors", lambda: _unit(resolved, seed, model), progress)
    progress(f"{resolved.name}: cocotb bench")
    yield _step("cocotb bench", "checks", lambda: _bench(resolved, seed), progress)
    for network in ("mlp", "cnn"):
        progress(f"{resolved.name}: digits {network} through the RTL")
        run = functools.partial(_network, design, network, images, model)
        yield _step(f"digits {network}", "dot products", run, progress)


def _step(name: str, unit: str, run: Callable[[], tuple[int, int, str, dict[str, Any]]],
          progress: Callable[[str], None]) -> Step:
    """Time ``run``; failed work becomes a failed row, anything else (a missing tool) ends the command."""
    started = time.perf_counter()
    try:
        checked, mismatches, details, facts = run()
    except BitkilnError as error:
        if error.exit_code != FAILED:
            raise
        progress(error.render())                       # whole, with the log's last lines
        checked, mismatches, facts = 0, 1, {}
        details = error.render().splitlines()[0].removeprefix("error: ")
    return Step(name, checked, unit, mismatches, details, time.perf_counter() - started, facts)


def _unit(resolved: Resolved, seed: int, model: Any) -> tuple[int, int, str, dict[str, Any]]:
    result = resolved.engine.load("check")(resolved.design, seed=seed, model=model)
    details = f"{result.pairs:,} operand pairs, {'all in every lane' if result.exhaustive else 'random and extreme'}"
    if result.first:
        details = f"first: {result.first}"
    return result.vectors, result.mismatches, details, {"pairs": result.pairs, "parts": result.parts}


def _bench(resolved: Resolved, seed: int) -> tuple[int, int, str, dict[str, Any]]:
    from ..sim.runner import run_bench

    result = run_bench(resolved.component(), f"bitkiln.{resolved.engine.bench}", seed=seed,
                       parameters={"design": resolved.design, "seed": seed})
    details = f"{result.tests} test{'s' * (result.tests != 1)}, {result.cycles:,} cycles"
    if result.waves is not None:
        details += f", waves in {result.waves}"
    return result.vectors, 0, details, {"cycles": result.cycles}


def _network(design: Any, network: str, images: int, model: Any) -> tuple[int, int, str, dict[str, Any]]:
    from ..sim.digits import run_digits

    result = run_digits(design, network, images, model=model)
    mismatches = result.mismatches + (not result.scores_equal)
    details = (f"accuracy float {result.float_accuracy:.1%}, golden {result.golden_accuracy:.1%}, "
               f"RTL {result.rtl_accuracy:.1%}; {result.macs:,} MACs, {result.macs_per_cycle:.2f} per cycle")
    if result.first_mismatch:
        details = f"first: {result.first_mismatch}"
    return result.dot_products, mismatches, details, result.as_dict()
