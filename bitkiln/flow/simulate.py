"""``bitkiln sim``: the checks of a design, one row each. What they are, the engine says (``engines.Engine.steps``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..config import Resolved
from ..models.errors import FAILED, BitkilnError

__all__ = ["Check", "Options", "Outcome", "Step", "no_jobs", "simulate"]


@dataclass(frozen=True)
class Options:
    """What a user may ask of the checks.

    Attributes
    ----------
    seed : int
        Of all random vectors.
    images : int
        Digit images for the networks.
    jobs : int or None
        Random jobs, of engines that run jobs.
    progress : callable
        Told what begins.
    """

    seed: int = 0
    images: int = 360
    jobs: int | None = None
    progress: Callable[[str], None] = lambda text: None


def no_jobs(options: Options, what: str) -> None:
    """One line where jobs are asked of an engine that runs none."""
    if options.jobs is not None:
        raise BitkilnError("option does not apply", where="--jobs", got=options.jobs,
                           expected=f"none: {what} runs no jobs", help="for example --engine matmul_core")


@dataclass(frozen=True)
class Outcome:
    """What a check found: comparisons, how many failed, a line about them, and everything for JSON."""

    checked: int
    mismatches: int
    details: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One check of an engine.

    Attributes
    ----------
    name, unit : str
        What is checked, and what is counted.
    run : callable
    begins : str
        What the progress line says.
    """

    name: str
    unit: str
    run: Callable[[], Outcome]
    begins: str


@dataclass(frozen=True)
class Step:
    """One check that was run.

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


def simulate(resolved: Resolved, options: Options = Options()) -> Iterator[Step]:
    """Run the checks one after the other; every one runs even where an earlier one failed."""
    from ..sim.toolchain import require

    for tool in ("verilator", "cxx"):                  # before anything is written
        require(tool)
    for check in resolved.engine.load("steps")(resolved, options):
        options.progress(f"{resolved.name}: {check.begins}")
        yield _step(check, options.progress)


def _step(check: Check, progress: Callable[[str], None]) -> Step:
    """Time a check; failed work becomes a failed row, anything else (a missing tool) ends the command."""
    started = time.perf_counter()
    try:
        found = check.run()
    except BitkilnError as error:
        if error.exit_code != FAILED:
            raise
        progress(error.render())                       # whole, with the log's last lines
        found = Outcome(0, 1, error.render().splitlines()[0].removeprefix("error: "), {})
    return Step(check.name, found.checked, check.unit, found.mismatches, found.details,
                time.perf_counter() - started, found.facts)
