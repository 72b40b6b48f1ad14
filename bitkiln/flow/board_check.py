"""Random jobs on whatever core a board holds, every result compared with the golden model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ..config import Resolved

__all__ = ["CheckResult", "JOBS", "check_board", "random_results"]

# Jobs where nobody says how many, by engine; of spconv a job is a network.
JOBS = {"matmul_core": 12, "dequant_core": 12, "spconv": 2}
# A serial line carries some ten thousand bytes a second: small ones.
SIZE = 40
MOST_K, MOST_CHANNELS = 100, 12
VOXELS = 60
SPECIALS_EACH = 4             # jobs to a table of special values

# What a job was, and of each of its tensors the name, what the board gave and what the golden model gives.
Job = tuple[str, list[tuple[str, np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class CheckResult:
    """Jobs on a board.

    Attributes
    ----------
    board, engine, design, where : str
        ``where`` is the port, or ``simulated``.
    jobs, results, mismatches : int
        Results compared, and those that differ.
    seconds : float
        By the line's clock: of the board where it was simulated.
    link, noise : dict
        Requests, repeated ones, damaged answers, bytes; bytes disturbed on purpose.
    first : str or None
        The first difference.
    """

    board: str
    engine: str
    design: str
    where: str
    jobs: int
    results: int
    mismatches: int
    seconds: float
    link: dict[str, int]
    noise: dict[str, int]
    first: str | None = None
    wall_seconds: float = field(default=0.0, compare=False)

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.results > 0

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "passed": self.passed}


def check_board(board: Any, resolved: Resolved, transport: Any, *, jobs: int | None = None, seed: int = 0,
                where: str, progress: Callable[[str], None] = lambda text: None) -> CheckResult:
    """Run random jobs and compare.

    Parameters
    ----------
    transport : BoardTransport
    jobs : int, optional
        Default: `JOBS` of the engine.
    seed : int

    Raises
    ------
    BitkilnError
        The board is gone or does not answer; the core refuses a job.
    """
    line = transport.link.line
    started, wall = line.now(), time.perf_counter()
    count = JOBS[resolved.engine.name] if jobs is None else jobs
    results = mismatches = 0
    first: str | None = None
    for at, (title, tensors) in enumerate(islice(random_results(resolved.design, transport, seed), count), 1):
        wrong = 0
        for name, got, wanted in tensors:
            differs = np.asarray(np.asarray(got) != wanted, bool)
            if first is None and differs.any():
                place = tuple(int(i) for i in np.argwhere(differs)[0])
                first = f"job {at}, {title}, {name}{list(place)}: {got[place]}, expected {wanted[place]}"
            results, wrong = results + differs.size, wrong + int(differs.sum())
        mismatches += wrong
        progress(f"job {at} of {count}: {title}, {f'{wrong} results differ' if wrong else 'equal'}")
    return CheckResult(board.name, resolved.engine.name, resolved.name, where, count, results, mismatches,
                       line.now() - started, dict(transport.link.counts), dict(getattr(line, "injected", {})), first,
                       time.perf_counter() - wall)


def random_results(design: Any, transport: Any, seed: int) -> Iterator[Job]:
    """Jobs without end for a core of any engine that can sit behind a link."""
    from ..models.design import MatmulDesign
    from ..models.design.spconv_core import SpConvDesign

    run = _matmul if isinstance(design, MatmulDesign) else _spconv if isinstance(design, SpConvDesign) else _dequant
    return run(design, transport, seed)


def _matmul(design: Any, transport: Any, seed: int) -> Iterator[Job]:
    from ..host.driver import Core
    from ..sim.core_run import random_job

    core, rng = Core(transport, design), np.random.default_rng(seed)
    while True:
        case = random_job(design, rng, size=SIZE)
        got = core.run(case.job, case.a, case.w, a_scales=case.a_scales, w_scales=case.w_scales, records=case.records,
                       c=case.c)
        job = case.job
        yield f"{job.mode} {job.m} x {job.k} x {job.n}, {job.rule}", [("results", got, case.codes)]


def _dequant(design: Any, transport: Any, seed: int) -> Iterator[Job]:
    from ..host.dequant_driver import DequantDriver
    from ..models.golden.dequant import dequant_matmul
    from ..sim.dequant_check import random_job, random_specials

    driver, rng = DequantDriver(transport, design), np.random.default_rng(seed)
    tables: dict[int, tuple[int, ...]] = {}         # those of the design first
    for at in range(1 << 62):
        if at and not at % SPECIALS_EACH and (written := random_specials(design, rng)):
            tables = written
            driver.write_specials(tables)
        case = random_job(design, rng, most_k=MOST_K, most_channels=MOST_CHANNELS)
        got = driver.run(case.job, case.activations, case.weights)
        job = case.job
        yield (f"{job.rows} x {job.k} x {job.channels} in groups of {job.group}",
               [("results", got, dequant_matmul(design, job, case.activations, case.weights, tables))])


def _spconv(design: Any, transport: Any, seed: int) -> Iterator[Job]:
    from ..host.spconv import compile_network
    from ..host.spconv_driver import SpConvDriver
    from ..sim.spconv_check import small_network

    driver = SpConvDriver(transport, design)
    kinds = ["encoder-decoder", "dilating encoder"][:design.trees]
    for at in range(1 << 62):
        kind = kinds[at % len(kinds)]
        run = small_network(design, kind, VOXELS, seed + at)
        program = compile_network(design, run)
        got = driver.run(program)
        yield (f"{kind}, {len(run.clouds[0])} voxels, {len(program.steps)} steps",
               [(name, got[name], wanted) for name, wanted in program.expected.items()])
