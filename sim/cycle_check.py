"""Cycle models of every engine against their RTL, over random designs and jobs.

>>> runs = check_engine("sparse_side", seed=1, designs=2, jobs=10)
>>> max(run.error for run in runs)
0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bitkiln.models.errors import BitkilnError, nearest

from . import verilate
from .cycle_designs import draw
from .cycle_dma import memory_runs
from .cycle_mac import array_runs, core_runs, dot_runs, pe_runs
from .cycle_maps import map_runs
from .cycle_record import CycleRun
from .cycle_serial import bitserial_runs, codebook_array_runs, codebook_runs, dequant_runs, sparse_runs

__all__ = ["ENGINES", "check_engine", "check_engines"]

# Engine -> designs, generator and jobs to runs. ``matmul_core_dma`` is the core with descriptors.
ENGINES: dict[str, Callable[..., Iterator[CycleRun]]] = {
    "dot_unit": dot_runs, "morphable_pe": pe_runs, "matmul_array": array_runs, "matmul_core": core_runs,
    "matmul_core_dma": memory_runs, "bitserial_array": bitserial_runs, "dequant_core": dequant_runs,
    "codebook_dequantiser": codebook_runs, "codebook_array": codebook_array_runs, "sparse_side": sparse_runs,
    "map_search": map_runs}


def check_engine(engine: str, *, seed: int = 0, designs: int = 3, jobs: int = 10) -> list[CycleRun]:
    """Jobs on random builds of an engine.

    Parameters
    ----------
    engine : str
        Of `ENGINES`.
    seed : int
    designs : int
    jobs : int
        For each design.

    Returns
    -------
    list of CycleRun

    Raises
    ------
    BitkilnError
        Unknown engine.
    """
    if engine not in ENGINES:
        raise BitkilnError("unknown engine", where="engine", got=engine, expected=" or ".join(ENGINES),
                           help=nearest(engine, ENGINES))
    rng = np.random.default_rng([seed, *engine.encode()])
    drawn = [(draw(engine, rng), np.random.default_rng(rng.integers(1 << 62))) for _ in range(designs)]

    def run(one: tuple) -> list[CycleRun]:
        return list(ENGINES[engine](*one, jobs))

    # A build is a process of its own: side by side.
    with ThreadPoolExecutor(min(verilate.workers(), max(designs, 1))) as pool:
        return [each for runs in pool.map(run, drawn) for each in runs]


def check_engines(engines: Iterable[str] | None = None, *, seed: int = 0, designs: int = 3, jobs: int = 10,
                  progress: Callable[[str], None] = lambda text: None) -> dict[str, list[CycleRun]]:
    """`check_engine` of several, by default all."""
    found = {}
    for engine in ENGINES if engines is None else engines:
        found[engine] = check_engine(engine, seed=seed, designs=designs, jobs=jobs)
        progress(f"{engine}: {len(found[engine])} runs, largest error {max(run.error for run in found[engine])}")
    return found
