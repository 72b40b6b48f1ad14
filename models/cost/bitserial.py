"""Cycles of the bit-serial array: closed form and event model, equal to the RTL.

Dot product of a group: ``ceil(G / lanes)`` chunks of as many cycles as their weights have terms. Its last step waits
until the dequantisers are free, ``Sc = design.scale_cycles`` after the group before, and that of a channel until the
rows of the channel before have left. So N equal groups, back to back, take ``N * max(C * t, Sc) + Sc + P`` cycles
(with more rows than either, ``rows`` instead: one row of results leaves a cycle).
"""

from __future__ import annotations

import numpy as np

from ..design.bitserial import BitSerialDesign

__all__ = ["chunk_steps", "closed_form", "event_cycles", "pipeline_depth"]


def pipeline_depth(design: BitSerialDesign) -> int:
    """P: edges from a group's last step to its first row of results, the scale phase not counted.

    Edge of the row, stages of the PE, the dequantiser's register, the rows' chain, the rounding, the queue.
    """
    edge = 2 if design.accumulate == "aligned" else 1
    return edge + design.pipeline + 1 + (design.rows > 1) + rounding_stages(design) + 2


def rounding_stages(design: BitSerialDesign) -> int:
    """Registers of the conversion to float32: three normalising stages each, then two."""
    if design.output == "raw":
        return 0
    width = max(design.result_bits, 28)
    # A shift of up to ``width - 2`` places as powers of two, and one stage for what is missing to a power of two.
    limit = width - 1
    stages = (limit + 1).bit_length() - 1 + ((limit + 1) & limit != 0)
    return max(-(-stages // 3), 1) + 2


def closed_form(design: BitSerialDesign, groups: int, length: int, terms: int) -> int:
    """Cycles from the edge that takes the first chunk to the edge at which the last row of results is there.

    Parameters
    ----------
    groups, length, terms : int
        Equal groups, each a result of its own; their length; terms of their type.
    """
    chunks = -(-length // design.lanes)
    period = max(chunks * terms, design.scale_cycles, design.rows)
    first = chunks * terms
    return first + (groups - 1) * period + design.scale_cycles + pipeline_depth(design) + design.rows - 1


def chunk_steps(design: BitSerialDesign, units_terms: np.ndarray) -> np.ndarray:
    """Cycles of chunks with ``zero_skip``: the most terms of any of their weights, at least one.

    Parameters
    ----------
    units_terms : ndarray (chunks, columns * lanes)
        Terms of each weight that counts; 0 for masked lanes.
    """
    return np.maximum(units_terms.max(axis=1), 1)


def event_cycles(design: BitSerialDesign, steps: np.ndarray, last: np.ndarray, emit: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray, int]:
    """Cycle of everything when inputs always come and results are always taken.

    Parameters
    ----------
    steps : ndarray (chunks,)
        Cycles of each chunk.
    last, emit : bool ndarray (chunks,)
        The chunk ends its group; its channel (or every group, where results are not summed).

    Returns
    -------
    accepted : ndarray (chunks,)
        Cycle of the transfer that takes each chunk; the first is 0.
    results : ndarray (rows * channels,)
        Cycle of each transfer of results.
    stalls : int
        Cycles in which a last step was held back.
    """
    scale, rows = design.scale_cycles, design.rows
    emit = last & (emit | (not design.sums_channel))
    accepted = np.zeros(len(steps), np.int64)
    results: list[int] = []
    depth = pipeline_depth(design) + scale
    scale_free = row_free = stalls = now = 0     # ``now``: the cycle in which the next chunk can be taken
    for i in range(len(steps)):
        accepted[i] = now
        ends = now + int(steps[i])
        if last[i]:
            ready = max(ends, scale_free, row_free if emit[i] else 0)
            stalls += ready - ends
            ends = ready
            scale_free = ends + max(scale, 1)
            if emit[i]:
                row_free = ends + rows
                results += range(ends + depth, ends + depth + rows)
        now = ends
    return accepted, np.array(results, np.int64), stalls
