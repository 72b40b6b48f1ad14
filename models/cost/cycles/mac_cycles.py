"""Cycles of the MAC engines below the core: dot unit, switchable PE, arrays. Trivial forms, equal to the RTL.

======================== ============================================================================================
engine                   cycles
======================== ============================================================================================
dot unit behind streams  ``sum(words + 1) + latency``: a cycle of ``clear`` behind each dot product
PE                       ``sums * (words + 1) + pipeline``
output-stationary array  ``words + (tiles - 1) * period + latency + rows - 2``, period ``max(words, rows + skew)``: the
                         result registers hold one tile, which leaves a row a cycle
weight-stationary array  ``passes * (rows + m + latency - 1)``: weights of ``rows`` words, then all rows of A
======================== ============================================================================================

Counted from the first operand's cycle to the last result's, both included.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...design import ArrayDesign, DotDesign, Job, MorphableDesign
from ...design.checks import check_integer
from ...errors import BitkilnError

__all__ = ["DotJob", "array_period", "array_total", "dot_total", "pe_total", "weight_latency", "weight_total"]


@dataclass(frozen=True)
class DotJob:
    """Dot products one after the other.

    Attributes
    ----------
    lengths : tuple of int
        Products of each.
    """

    lengths: tuple[int, ...]

    def __post_init__(self):
        if not self.lengths:
            raise BitkilnError("no dot products", where="job.lengths", got="()", expected="one or more lengths")
        for length in self.lengths:
            check_integer(length, "job.lengths", 1, 1 << 24)

    def words(self, lanes: int) -> tuple[int, ...]:
        """Beats of each."""
        return tuple(-(-length // lanes) for length in self.lengths)


def dot_total(design: DotDesign, job: DotJob) -> int:
    """Cycles of dot products through the unit behind streams (`hw.mac.stream`)."""
    return sum(words + 1 for words in job.words(design.lanes)) + design.latency


def _words(pe: MorphableDesign, job: Job) -> int:
    return -(-job.k // pe.modes[pe.index(job.mode)].lanes)


def pe_total(design: MorphableDesign, job: Job) -> int:
    """Cycles of ``m * n`` sums through one PE, each behind a cycle with ``clear``."""
    return job.m * job.n * (_words(design, job) + 1) + design.pipeline


def array_period(design: ArrayDesign, words: int) -> int:
    """Least cycles between the last words of two tiles (output-stationary)."""
    return max(words, design.rows + design.latency - (1 + design.pe.latency))


def array_total(design: ArrayDesign, job: Job) -> int:
    """Cycles of a product through an output-stationary array, tiles back to back, all rows of each taken."""
    words = _words(design.pe, job)
    tiles = -(-job.m // design.rows) * -(-job.n // design.columns)
    return words + (tiles - 1) * array_period(design, words) + design.latency + design.rows - 2


def weight_latency(design: ArrayDesign) -> int:
    """Edges from a vector of activations to its sums (weight-stationary)."""
    skew = design.columns - 1 if design.links == "systolic" else 0
    return 1 + design.pe.pipeline + design.rows + skew


def weight_total(design: ArrayDesign, job: Job) -> int:
    """Cycles of a product through a weight-stationary array, one block of weights after the other."""
    passes = -(-job.n // design.columns) * -(-_words(design.pe, job) // design.rows)
    return passes * (design.rows + job.m + weight_latency(design) - 1)
