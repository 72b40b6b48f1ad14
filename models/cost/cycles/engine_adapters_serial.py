"""Engines of low-bit weights behind `engine_cycles.cycles_of`; the models themselves are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...design.bitserial import BitSerialDesign
from ...design.codebook import CodebookDesign
from ...design.codebook_array import CodebookArrayDesign
from ...design.dequant import DequantDesign, DequantJob
from ...design.sparse import SparseDesign
from ...golden.bitserial import GroupStream
from ...golden.codebook import ChunkStream
from ...golden.codebook_array import ArrayStream
from ...golden.sparse import SparseStream
from .bitserial import event_cycles, stream_chunks
from .codebook import codebook_cycles, word_ends
from .codebook_array import array_cycles
from .dequant import chunk_steps, group_words, job_cycles
from .engine_cycles import EngineCycles, expect_job, rest
from .sparse import sparse_cycles

__all__ = ["DequantWork", "bitserial_cycles", "codebook_array_cycles", "dequant_cycles", "dequantiser_cycles",
           "side_cycles"]

FLOAT_BITS = 32


@dataclass(frozen=True)
class DequantWork:
    """A job of the dequantising core and what its cycles depend on.

    Attributes
    ----------
    job : DequantJob
    types : ndarray (channels, groups) or int
        Type selectors.
    codes, special : ndarray (channels, K), (channels, groups), optional
        For designs with ``zero_skip``.
    """

    job: DequantJob
    types: np.ndarray | int = 0
    codes: np.ndarray | None = None
    special: np.ndarray | None = None


def _serial_peak(array: BitSerialDesign) -> Fraction:
    """Products per cycle of weights of the fewest terms; with ``zero_skip`` of one."""
    terms = 1 if array.zero_skip else min(weight.terms for weight in array.weights)
    return Fraction(array.rows * array.columns * array.lanes, terms)


def bitserial_cycles(design: BitSerialDesign, job: GroupStream) -> EngineCycles:
    """Groups through the bit-serial array."""
    expect_job(job, {"GroupStream": GroupStream})
    steps, last, emit = stream_chunks(design, job)
    _, results, held = event_cycles(design, steps, last, emit)
    total, compute = int(results[-1]) + 1, int(steps.sum())
    widths = {"w": design.columns * design.lanes * design.code_bits / 8,
              "a": design.rows * design.lanes * design.activation.bits / 8,
              "o": design.columns * (FLOAT_BITS if design.output == "fp32" else design.result_bits) / 8}
    counts = {"w": len(steps), "a": len(steps), "o": len(results)}
    return EngineCycles(total, compute, rest(total, compute, results=held),
                        design.rows * design.columns * int(np.sum(job.lengths)), _serial_peak(design),
                        {name: counts[name] * width for name, width in widths.items()}, widths,
                        counters={"stalls": held})


def dequant_cycles(design: DequantDesign, job: DequantJob | DequantWork) -> EngineCycles:
    """A product of the dequantising core."""
    expect_job(job, {"DequantJob": DequantJob, "DequantWork": DequantWork})
    work = job if isinstance(job, DequantWork) else DequantWork(job)
    shape, array = work.job.check(design), design.array
    steps = chunk_steps(design, shape, work.types, work.codes, work.special)
    found, compute = job_cycles(design, shape, work.types, steps), int(steps.sum())
    words = int(group_words(design, shape, work.types).sum()) + shape.channels * design.channel_scale
    elements, result = shape.rows * shape.channels, design.output.bits / 8
    activation = array.lanes * array.activation.bits / 8
    return EngineCycles(
        found.total, compute, rest(found.total, compute, weights=found.starved, results=found.stalls),
        elements * shape.k, _serial_peak(array),
        {"weight": words * design.bus_bytes, "activation": shape.chunks(array.lanes) * shape.rows * activation,
         "o": elements * result}, {"weight": design.bus_bytes, "activation": activation, "o": result},
        counters={"starved": found.starved, "stalls": found.stalls})


def dequantiser_cycles(design: CodebookDesign, job: ChunkStream) -> EngineCycles:
    """Weights through the codebook dequantiser, to the last complete word."""
    expect_job(job, {"ChunkStream": ChunkStream})
    _, words = codebook_cycles(design, job.first, word_ends(design, job.last))
    total, chunks = int(words[-1]) + 1, len(job.first)
    widths = {"i": design.lanes * design.code_bits / 8, "o": design.word_bits / 8}
    return EngineCycles(total, chunks, rest(total, chunks), int(job.mask.sum()), design.lanes,
                        {"i": chunks * widths["i"], "o": len(words) * widths["o"]}, widths, unit="weight")


def codebook_array_cycles(design: CodebookArrayDesign, job: ArrayStream) -> EngineCycles:
    """Blocks through the array of MACs behind codebook dequantisers, to the last result."""
    expect_job(job, {"ArrayStream": ArrayStream})
    found, chunks = array_cycles(design, job.first, job.last, job.emit), len(job.first)
    total = int(found.o[-1]) + 1
    widths = {"w": design.columns * design.lanes * design.code_bits / 8,
              "a": design.rows * design.lanes * design.activation.bits / 8, "o": design.result_lanes * FLOAT_BITS / 8}
    counts = {"w": chunks, "a": chunks, "o": len(found.o)}
    return EngineCycles(total, chunks, rest(total, chunks, results=found.stalls),
                        design.rows * design.columns * int(job.mask.sum()),
                        design.rows * design.columns * design.lanes,
                        {name: counts[name] * width for name, width in widths.items()}, widths,
                        counters={"stalls": found.stalls})


def side_cycles(design: SparseDesign, job: SparseStream) -> EngineCycles:
    """Outliers through the sparse side path."""
    expect_job(job, {"SparseStream": SparseStream})
    found, items = sparse_cycles(design, job), len(job.tile)
    total = int(max(found.o[-1], found.step[-1], found.activation[-1])) + 1
    widths = {"activation": design.rows * design.lanes * design.activation.bits / 8, "outlier": design.value.bits / 8,
              "o": design.sum_bits / 8}
    counts = {"activation": len(found.activation), "outlier": items, "o": len(found.o)}
    return EngineCycles(total, items, rest(total, items), design.rows * int(job.mask.sum()), design.rows,
                        {name: counts[name] * width for name, width in widths.items()}, widths,
                        counters={"stalls": found.stalls})
