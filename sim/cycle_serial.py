"""Random jobs through the engines of low-bit weights; what each took beside its cycle model.

Results are compared elsewhere (`bitserial_check`, `dequant_check`, ...): here only cycles count.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitkiln.hw.dequant.array import BitSerialArray
from bitkiln.hw.dequant.codebook import CodebookDequantiser
from bitkiln.hw.dequant.codebook_array import CodebookArray
from bitkiln.hw.dequant.core import DequantCore
from bitkiln.hw.dequant.sparse import SparseSide
from bitkiln.models.cost.cycles.codebook import word_ends
from bitkiln.models.cost.cycles.engine_adapters_serial import DequantWork
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.codebook import CodebookDesign
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.dequant_streams import special_terms
from bitkiln.models.design.sparse import SparseDesign

from .bitserial_check import pack_stream, random_stream
from .codebook_array_check import pack_array, random_array
from .codebook_check import load, pack_chunks, random_books, random_chunks
from .cycle_record import CycleRun, record
from .dequant_check import CoreJob, job_streams, random_job
from .sparse_check import pack_sparse, random_sparse
from .streams import StreamModel, StreamRun

__all__ = ["bitserial_runs", "codebook_array_runs", "codebook_runs", "dequant_run", "dequant_runs",
           "span", "sparse_runs"]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))


def span(run: StreamRun) -> int:
    """Cycles from the first transfer to the last."""
    used = [each for each in run.cycles.values() if len(each)]
    return int(max(each[-1] for each in used)) - int(min(each[0] for each in used)) + 1


def _moved(run: StreamRun, *names: str) -> dict[str, int]:
    return {name: len(run.cycles[name]) for name in names}


def bitserial_runs(design: BitSerialDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Streams of groups of any length, type and metadata."""
    model = StreamModel(BitSerialArray(design))
    for _ in range(jobs):
        stream = random_stream(design, int(rng.integers(1, 25)), _seed(rng))
        words = pack_stream(design, stream)
        channels = int(stream.emit.sum()) if design.sums_channel else len(stream.lengths)
        inputs = {"w": words.w, "a": words.a} | ({"special": np.zeros(0, np.uint64)} if special_terms(design) else {})
        run = model.run(inputs, {"o": channels * design.rows}).check()
        yield record("bitserial_array", design, stream, span(run), _moved(run, "w", "a", "o"),
                     {"stalls": run.ports["stalls"]}, shape=f"{len(stream.lengths)} groups, {len(words.w)} chunks")


def dequant_run(model: StreamModel, design: DequantDesign, case: CoreJob) -> CycleRun:
    """One matrix product alone in the core."""
    inputs, count = job_streams(design, [case])
    run = model.run(inputs, {"o": count}).check()
    weights = case.weights
    work = DequantWork(case.job, weights.types, weights.codes, weights.special)
    return record("dequant_core", design, work, run.cycles["o"][-1] - run.cycles["job"][0] + 1,
                  _moved(run, "weight", "activation", "o"), {name: run.ports[name] for name in ("starved", "stalls")},
                  shape=case.job)


def dequant_runs(design: DequantDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Matrix products of random shapes."""
    model = StreamModel(DequantCore(design))
    for _ in range(jobs):
        yield dequant_run(model, design, random_job(design, rng, most_k=100, most_channels=12))


def codebook_runs(design: CodebookDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Streams of blocks of any length."""
    model = StreamModel(CodebookDequantiser(design))
    model.run(load(design, random_books(design, _seed(rng))), {}).check()
    for _ in range(jobs):
        stream = random_chunks(design, int(rng.integers(1, 25)), _seed(rng), longest=40)
        words = len(word_ends(design, stream.last))
        run = model.run(pack_chunks(design, stream), {"o": words}, resume=True).check()
        span = int(run.cycles["o"][-1]) - int(run.cycles["i"][0]) + 1
        yield record("codebook_dequantiser", design, stream, span, _moved(run, "i", "o"),
                     shape=f"{len(stream.first)} chunks, {words} words")


def codebook_array_runs(design: CodebookArrayDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Streams of blocks, sums of one block or more."""
    model = StreamModel(CodebookArray(design))
    books = random_books(design.codebook, _seed(rng))
    for _ in range(jobs):
        stream = random_array(design, int(rng.integers(1, 25)), _seed(rng))
        model.run(load(design.codebook, books), {}).check()
        results = int(stream.emit.sum()) * design.rows * design.groups
        run = model.run(pack_array(design, stream), {"o": results}, resume=True).check()
        span = int(run.cycles["o"][-1]) - int(run.cycles["w"][0]) + 1
        yield record("codebook_array", design, stream, span, _moved(run, "w", "a", "o"),
                     {"stalls": run.ports["stalls"]},
                     shape=f"{len(stream.first)} chunks, {int(stream.emit.sum())} sums")


def sparse_runs(design: SparseDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Tiles with few or many outliers."""
    model = StreamModel(SparseSide(design))
    for _ in range(jobs):
        density = float(rng.choice([0.02, 0.1, 0.4]))
        stream = random_sparse(design, int(rng.integers(1, 16)), _seed(rng), density=density)
        sums = int(stream.emit.sum()) * design.rows * design.columns
        run = model.run(pack_sparse(design, stream), {"o": sums}).check()
        yield record("sparse_side", design, stream, span(run), _moved(run, "activation", "outlier", "o"),
                     {"stalls": run.ports["stalls"]}, shape=f"{len(stream.chunks)} tiles, {len(stream.tile)} items")
