"""Cycles of the bit-serial array: closed form and event model, equal to the RTL.

Dot product of a group: ``ceil(G / lanes)`` chunks of as many cycles as their weights have terms. Its last step waits
until the dequantisers are free, ``Sc = design.scale_cycles`` after the group before, and that of a channel until the
rows of the channel before have left. So N equal groups, back to back, take ``N * max(C * t, Sc) + Sc + P`` cycles
(with more rows than either, ``rows`` instead: one row of results leaves a cycle).
"""

from __future__ import annotations

import numpy as np

from ...design.bitserial import BitSerialDesign
from ...golden.bitserial import GroupStream

__all__ = ["chunk_steps", "closed_form", "conversion_stages", "event_cycles", "pipeline_depth", "stream_chunks"]


def pipeline_depth(design: BitSerialDesign) -> int:
    """P: edges from a group's last step to its first row of results, the scale phase not counted.

    Edge of the row, stages of the PE, the dequantiser's register, the rows' chain, the rounding, the queue.
    """
    edge = 2 if design.accumulate == "aligned" else 1
    return edge + design.pipeline + 1 + (design.rows > 1) + rounding_stages(design) + 2


def rounding_stages(design: BitSerialDesign) -> int:
    """Registers of the results' conversion to float32."""
    if design.output == "raw":
        return 0
    return conversion_stages(design.result_bits, design.result_exponent, design.result_exponents)


def conversion_stages(bits: int, exponent: int = 0, exponents: tuple[int, int] = (0, 0)) -> int:
    """Registers between an integer of so many bits, times two to ``exponent`` and to one of a range of ``exponents``,
    and its float32: one behind each two normalising stages, up to four before the last of these, and the result's."""
    # The number moves up as far as it is long, or to the least normal number's place; signs stand in front of one that
    # begins below that, down to half the least subnormal.
    room = exponent + bits + 124
    signs = min(max(-room - exponents[0], 0), 25)
    places = min(bits - 1 + signs, max(room + signs + exponents[1], 0))
    return max((places.bit_length() - 1) // 2, 1) + 1


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


def stream_chunks(design: BitSerialDesign, stream: GroupStream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunks of groups, as `event_cycles` takes them; special values are those of the tables after reset.

    Parameters
    ----------
    stream : GroupStream
        ``activations``, scales and zero-points play no part.

    Returns
    -------
    steps : ndarray (chunks,)
    last, emit : bool ndarray (chunks,)
    """
    lengths = np.asarray(stream.lengths)
    chunks = -(-lengths // design.lanes)
    ends = np.cumsum(chunks) - 1
    last, emit = np.zeros((2, int(chunks.sum())), bool)
    last[ends], emit[ends] = True, stream.emit
    if not design.zero_skip:
        terms = np.array([weight.terms for weight in design.weights])
        return np.repeat(terms[stream.types].max(axis=0), chunks), last, emit
    group = np.repeat(np.arange(len(lengths)), lengths)
    needed = np.zeros(stream.codes.shape, np.int64)
    for index, weight in enumerate(design.weights):
        own = stream.codes & ((1 << weight.bits) - 1)
        of_code = np.array([sum(term is not None for term in weight.code_terms(code)) for code in
                            range(1 << weight.bits)])[own]
        if weight.special_code is not None:
            special = np.array([len(weight.check_special(value)) for value in [*weight.specials, 0, 0, 0, 0][:4]])
            of_code = np.where(own == weight.special_code, special[stream.special[:, group]], of_code)
        needed = np.where(stream.types[:, group] == index, of_code, needed)
    starts = np.concatenate([start + design.lanes * np.arange(count)
                             for start, count in zip(stream.starts[:-1], chunks, strict=True)]) if len(chunks) else []
    return np.maximum(np.maximum.reduceat(needed.max(axis=0), starts), 1), last, emit


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
