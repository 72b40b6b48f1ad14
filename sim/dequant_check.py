"""Random jobs through the dequantising core at full simulation speed, against its golden model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitkiln.host.dequant import activation_chunks, job_beats, order_results, weight_stream
from bitkiln.hw.dequant.core import DequantCore
from bitkiln.hw.dequant.results import output_layout
from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.design.dequant_streams import special_terms
from bitkiln.models.design.weights import SPECIALS
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.dequant import DequantWeights, dequant_matmul

from .bitserial_check import bits_of, pack_bits, random_activations
from .streams import StreamModel, StreamRun

__all__ = ["CoreJob", "bus_words", "check_jobs", "check_results", "job_streams", "job_word", "random_job",
           "random_specials", "random_weights", "run_jobs"]


@dataclass(frozen=True)
class CoreJob:
    """A job with its operands."""

    job: DequantJob
    activations: np.ndarray
    weights: DequantWeights


def job_word(design: DequantDesign, job: DequantJob) -> int:
    """Payload of the ``job`` stream."""
    return int.from_bytes(job_beats(design, [job]).tobytes(), "little")


def random_job(design: DequantDesign, rng: np.random.Generator, *, most_k: int = 200, most_channels: int = 20,
               specials: float = 0.002) -> CoreJob:
    """A job of random shape, every group with a type and metadata of its own."""
    array = design.array
    group = int(rng.choice([array.group, rng.integers(1, array.group + 1), max(array.lanes, 1)]))
    group = min(group, array.group)
    limit = group * array.groups if array.sums_channel else most_k
    k = int(rng.integers(1, min(most_k, limit) + 1))
    job = DequantJob(k, group, int(rng.integers(1, most_channels + 1)), int(rng.integers(1, array.rows + 1)))
    while job.chunks(array.lanes) > design.k_chunks:
        job = DequantJob(job.k // 2, group, job.channels, job.rows)
    return CoreJob(job.check(design), random_activations(array, (job.rows, job.k), rng, specials),
                   random_weights(design, job, rng))


def random_weights(design: DequantDesign, job: DequantJob, rng: np.random.Generator,
                   types: np.ndarray | int | None = None) -> DequantWeights:
    """Codes that can be packed, and metadata of every kind; ``types`` of the groups instead of random ones."""
    array = design.array
    groups = len(job.lengths)
    shape = (job.channels, groups)
    types = rng.integers(0, len(array.weights), shape) if types is None else np.broadcast_to(types, shape)
    wide = np.repeat(types, job.lengths, axis=1)
    codes = np.zeros(wide.shape, np.int64)
    for index, packing in enumerate(design.layout.packings):
        legal = np.setdiff1d(np.arange(1 << packing.bits), packing.illegal)
        codes = np.where(wide == index, rng.choice(legal, wide.shape), codes)
    scale = rng.integers(0, 1 << array.scale_code_bits, (2, *shape))
    if array.floating_scale:
        middle = {"e8m0": 127, "ue4m3": 56, "ue5m3": 120}[array.scale]
        usual = np.clip(middle + rng.integers(-20, 21, scale.shape), 0, (1 << array.scale_code_bits) - 2)
        scale = np.where(rng.random(scale.shape) < 0.98, usual, scale)
    bits = array.zero_point
    zero = rng.integers(-(1 << bits - 1), 1 << bits - 1, shape) if bits else np.zeros(shape, np.int64)
    has_special = np.array([t.special_code is not None for t in array.weights])
    special = np.where(has_special[types], rng.integers(0, 4, shape), 0)
    channel = np.ldexp(rng.normal(1, 0.3, job.channels), rng.integers(-12, 3, job.channels)).astype(np.float32)
    return DequantWeights(codes, types, special, scale[0], scale[1], zero, channel)


def random_specials(design: DequantDesign, rng: np.random.Generator) -> dict[int, tuple[int, ...]]:
    """Four legal special values for each weight type that has such; empty where none has."""
    tables = {}
    for index, weight in enumerate(design.array.weights):
        if weight.special_code is None:
            continue
        values: list[int] = []
        while len(values) < SPECIALS:
            value = int(rng.integers(-weight.max_units, weight.max_units + 1))
            try:
                weight.check_special(value)
            except BitkilnError:         # more terms than the array has steps for
                continue
            values.append(value)
        tables[index] = tuple(values)
    return tables


def bus_words(design: DequantDesign, data: np.ndarray) -> np.ndarray:
    """Bytes of a weight stream as words of the ``weight`` port."""
    if design.bus_bytes <= 8:
        return data.view("<u4" if design.bus_bytes == 4 else "<u8").astype(np.uint64)
    return data.view("<u4").reshape(-1, design.bus_bytes // 4).astype(np.uint32)


def job_streams(design: DequantDesign, jobs: Sequence[CoreJob]) -> tuple[dict[str, np.ndarray], int]:
    """Items of the core's input streams for jobs that follow each other, and the number of results."""
    array = design.array
    words = bus_words(design, np.concatenate([weight_stream(design, j.job, j.weights) for j in jobs]))
    chunks = [activation_chunks(design, j.job, j.activations) for j in jobs]
    last = np.concatenate([np.arange(len(c)) == len(c) - 1 for c in chunks])
    inputs = {"job": np.array([job_word(design, j.job) for j in jobs], np.uint64), "weight": words,
              "activation": pack_bits([(np.concatenate(chunks), array.activation.bits), (last, 1)])}
    if special_terms(array):
        inputs["special"] = np.zeros(0, np.uint64)
    return inputs, sum(j.job.rows * j.job.channels for j in jobs)


def run_jobs(design: DequantDesign, jobs: Sequence[CoreJob], *, model: StreamModel | None = None,
             stalls: dict[str, float] | None = None, seed: int = 0) -> tuple[StreamRun, int]:
    """The core's streams for jobs that follow each other; the run and the number of results."""
    model = StreamModel(DequantCore(design)) if model is None else model
    inputs, count = job_streams(design, jobs)
    return model.run(inputs, {"o": count}, stalls=stalls or {}, seed=seed).check(), count


def check_jobs(design: DequantDesign, jobs: Sequence[CoreJob], *, model: StreamModel | None = None,
               stalls: dict[str, float] | None = None, seed: int = 0) -> int:
    """Run jobs and compare every result, ``last`` and the flags.

    Returns
    -------
    int
        Results compared.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    run, count = run_jobs(design, jobs, model=model, stalls=stalls, seed=seed)
    if run.ports["mismatch"]:
        raise BitkilnError("activations were not as many as the jobs need", where=design.name, got="mismatch 1",
                           expected="0", help=f"seed {seed}", exit_code=FAILED)
    check_results(design, jobs, run.outputs["o"], help=f"seed {seed}")
    return count


def check_results(design: DequantDesign, jobs: Sequence[CoreJob], words: np.ndarray,
                  tables: dict[int, tuple[int, ...]] | None = None, help: str | None = None) -> None:
    """Compare the payloads of ``o`` with the golden model; ``tables`` are the special values that were written.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    layout = output_layout(design)
    values = bits_of(words, layout["value"].offset, layout["value"].width).astype(np.uint32)
    last = bits_of(words, layout["last"].offset, 1).astype(bool)
    ends = np.cumsum([j.job.rows * j.job.channels for j in jobs]) - 1
    if len(words) != ends[-1] + 1 or not np.array_equal(np.flatnonzero(last), ends):
        raise BitkilnError("wrong end of a job", where=design.name, got=f"{len(words)} results, last at "
                           f"{np.flatnonzero(last)[:4].tolist()}", expected=f"{ends[:4].tolist()}", help=help,
                           exit_code=FAILED)
    at = 0
    for number, j in enumerate(jobs):
        size = j.job.rows * j.job.channels
        found = order_results(design, j.job, values[at:at + size])
        wanted = dequant_matmul(design, j.job, j.activations, j.weights, tables)
        bad = np.argwhere(found != wanted)
        if len(bad):
            r, c = (int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} job {number} {j.job} [{r}, {c}]",
                               got=f"{found[r, c]:#x} ({len(bad)} of {size} differ)", expected=f"{wanted[r, c]:#x}",
                               help=help, exit_code=FAILED)
        at += size
