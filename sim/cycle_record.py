"""What one simulated job took, beside what its cycle model says; and that no run beats its roofline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from bitkiln.models.cost.cycles.engine_cycles import EngineCycles, cycles_of
from bitkiln.models.cost.cycles.roofline import Roofline, roofline
from bitkiln.models.errors import FAILED, BitkilnError

__all__ = ["CycleRun", "assert_rooflines", "load_runs", "record", "save_runs"]

SCHEMA = "bitkiln.cycle_runs/1"


@dataclass(frozen=True)
class CycleRun:
    """A job on the RTL.

    Attributes
    ----------
    engine, design, job : str
        Engine by its registry name, the design's module name, the job's shape.
    predicted, simulated : int
        Cycles.
    work, unit : int, str
        Useful products (``MAC``), or what the engine makes.
    peak : str
        Of these in a cycle, a whole number or a fraction.
    moved, widths : dict of str to float
        Bytes that crossed each port, by the transfers seen, and bytes that it moves in a cycle.
    counters : dict of str to (predicted, simulated)
        Of the RTL's other counters.
    """

    engine: str
    design: str
    job: str
    predicted: int
    simulated: int
    work: int
    unit: str
    peak: str
    moved: dict[str, float]
    widths: dict[str, float]
    counters: dict[str, tuple[int, int]]

    @property
    def error(self) -> int:
        """Cycles between model and RTL."""
        return abs(self.predicted - self.simulated)

    @property
    def wrong_counters(self) -> int:
        """Counters that differ."""
        return sum(one != two for one, two in self.counters.values())

    @property
    def roofline(self) -> Roofline:
        return roofline(self.work, self.moved, Fraction(self.peak), self.widths)


def record(engine: str, design: Any, job: Any, simulated: int, transfers: Mapping[str, int] | None = None,
           counters: Mapping[str, int] | None = None, *, name: str | None = None, shape: object = None,
           found: EngineCycles | None = None) -> CycleRun:
    """A run beside its model.

    Parameters
    ----------
    engine : str
    design, job
        As `cycles_of` takes them.
    simulated : int
        The RTL's cycles.
    transfers : mapping of str to int, optional
        Seen on each port of the model's; without them the model's own traffic is recorded.
    counters : mapping of str to int, optional
        The RTL's, by the model's names.
    name, shape : optional
        Of the design and of the job, instead of their own.
    found : EngineCycles, optional
        The prediction, where it is there already.
    """
    found = cycles_of(design, job) if found is None else found
    moved = found.traffic if transfers is None else {
        port: transfers[port] * width for port, width in found.widths.items()}
    return CycleRun(engine, name or design.name, str(job if shape is None else shape), found.cycles, int(simulated),
                    found.work, found.unit, str(Fraction(found.peak)), {k: float(v) for k, v in moved.items()},
                    {k: float(v) for k, v in found.widths.items()},
                    {key: (int(found.counters[key]), int(value)) for key, value in (counters or {}).items()})


def save_runs(runs: Iterable[CycleRun], path: Path, **about: object) -> None:
    """Write runs as JSON; ``about`` says how they were made (seed, tools)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": SCHEMA, **about, "runs": [asdict(run) for run in runs]}, indent=1)
    part = path.with_suffix(".part")
    part.write_text(text + "\n")
    part.replace(path)


def load_runs(path: Path) -> list[CycleRun]:
    """Runs of a file of `save_runs`.

    Raises
    ------
    BitkilnError
        No such file, or another one.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BitkilnError("no recorded runs", where=str(path), got=str(error), expected=SCHEMA,
                           help="make them: make bench SUITE=pareto ONLY=cycle_error") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise BitkilnError("not recorded runs", where=str(path), expected=SCHEMA,
                           got=content.get("schema") if isinstance(content, dict) else type(content).__name__)
    return [CycleRun(**{**run, "counters": {key: tuple(pair) for key, pair in run["counters"].items()}})
            for run in content["runs"]]


def assert_rooflines(runs: Iterable[CycleRun]) -> int:
    """How many runs there are; raises BitkilnError (exit code 1) where one is faster than its roofline allows."""
    count = 0
    for run in runs:
        bound = run.roofline
        if run.simulated < bound.cycles:
            raise BitkilnError("a run beats its roofline", where=f"{run.engine} {run.design} {run.job}",
                               got=f"{run.simulated} cycles", expected=f"at least {bound.cycles} ({bound.roof})",
                               help="the work, the traffic or a width of the model is wrong", exit_code=FAILED)
        count += 1
    return count
