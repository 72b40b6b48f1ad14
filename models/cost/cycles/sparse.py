"""Cycles of the sparse side path, equal to the RTL, and the condition under which a dense engine never waits for it.

The activations of two tiles are held. A tile's outliers can be worked off, one a cycle, as soon as their chunks are
there, and the tile's place is free for the next but one when its last outlier is done. With C chunks of t cycles each
in a tile, and n outliers in any order (a tile's end counts as one where it has none), the chunks never wait if and
only if

    n <= C * t                       outliers no faster than the dense engine,
    R * N + 7 <= tiles * C * t       R * N sums leave while the next ones grow

in a long run: at most ``t / (lanes * columns)`` of all weights. A single tile may have up to ``(C + 1) * t - 1``. A
queue of as many places as a tile has outliers takes them all while their tile comes in, whatever their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.sparse import PIPELINE, SparseDesign
from ...golden.sparse import SparseStream

__all__ = ["SparseCycles", "most_outliers", "never_stalls", "queue_needed", "sparse_cycles", "sustained_density"]

FRONT = 2 + PIPELINE       # from an outlier's step to its addition
GAP = FRONT + 1            # from a result's last step to the register of its first sum


def never_stalls(design: SparseDesign, chunks: int, terms: int, outliers: int, tiles: int = 1) -> bool:
    """Whether a dense engine never waits, however long it runs and however the outliers lie in their tiles.

    Parameters
    ----------
    chunks : int
        C, chunks of each tile.
    terms : int
        t, cycles that the dense engine takes for a chunk.
    outliers : int
        n, items of each tile.
    tiles : int
        Of a result.
    """
    period = chunks * terms
    return max(outliers, 1) <= period and design.rows * design.columns + GAP <= tiles * period


def most_outliers(chunks: int, terms: int) -> int:
    """Most items of one tile among tiles with few, in any order, for which the dense engine does not wait."""
    return (chunks + 1) * terms - 1


def sustained_density(design: SparseDesign, terms: int) -> float:
    """Largest share of outliers among all weights that never stalls the dense engine in the long run."""
    return min(terms / (design.lanes * design.columns), 1.0)


@dataclass(frozen=True)
class SparseCycles:
    """Cycle of every transfer when sums are always taken.

    Attributes
    ----------
    activation, outlier : ndarray
        Of each chunk and of each item.
    step : ndarray
        Cycle in which each item leaves the queue.
    o : ndarray
        Of each sum.
    stalls : int
        Cycles in which a chunk was offered and not taken.
    waiting : int
        Most items in the queue: with a depth of as many, none ever waits for room.
    """

    activation: np.ndarray
    outlier: np.ndarray
    step: np.ndarray
    o: np.ndarray
    stalls: int
    waiting: int


def sparse_cycles(design: SparseDesign, stream: SparseStream, *, pace: int = 1,
                  chunk_from: np.ndarray | None = None, item_from: np.ndarray | None = None,
                  depth: int | None = None) -> SparseCycles:
    """Event model.

    Parameters
    ----------
    stream : SparseStream
        Its tiles and items; ``activations``, ``column``, ``lane``, ``value`` and ``mask`` play no part.
    pace : int
        Least cycles from one chunk to the next: the dense engine's.
    chunk_from, item_from : ndarray, optional
        Cycle from which each is offered (an offer also follows the transfer before); default 0.
    depth : int, optional
        Of the queue, instead of ``design.queue``.
    """
    depth = depth or design.queue
    chunks, emit, tile, last = stream.chunks, stream.emit, stream.tile, stream.last
    chunk_from = np.zeros(chunks.sum(), np.int64) if chunk_from is None else chunk_from
    item_from = np.zeros(len(tile), np.int64) if item_from is None else item_from
    starts = stream.starts
    activation = np.zeros(int(chunks.sum()), np.int64)
    outlier, step = np.zeros(len(tile), np.int64), np.zeros(len(tile), np.int64)
    sums: list[int] = []
    results = design.rows * design.columns
    first_item = np.searchsorted(tile, np.arange(len(chunks) + 1))
    released: list[int] = []
    stalls, free, sent = 0, 0, -pace
    for t in range(len(chunks)):
        for c in range(starts[t], starts[t] + chunks[t]):
            offered = max(int(chunk_from[c]), sent + pace)
            sent = max(offered, released[t - 2] + 1 if t >= 2 and c == starts[t] else 0)
            stalls += sent - offered
            activation[c] = sent
        for n in range(first_item[t], first_item[t + 1]):
            before = n - 1
            outlier[n] = max(int(item_from[n]), outlier[before] + 1 if n else 0,
                             step[n - depth] + 1 if n >= depth else 0)
            needed = min(int(stream.chunk[n]), int(chunks[t]) - 1)   # of a place beyond the tile, its end
            if last[n]:
                needed = int(chunks[t]) - 1
            step[n] = max(int(outlier[n]) + 1, step[before] + 1 if n else 0, activation[starts[t] + needed] + 1,
                          free if last[n] and emit[t] else 0)
        released.append(int(step[first_item[t + 1] - 1]))
        if emit[t]:
            first = released[t] + GAP + 1
            sums += range(first, first + results)
            free = released[t] + GAP + results
    return SparseCycles(activation, outlier, step, np.array(sums, np.int64), stalls, _most_waiting(outlier, step))


def _most_waiting(outlier: np.ndarray, step: np.ndarray) -> int:
    """Most items inside, that which is taken counted: the depth that this takes."""
    if not len(outlier):
        return 0
    gone = np.searchsorted(step, outlier, side="left")   # left before the cycle that takes the n-th
    return int((np.arange(1, len(outlier) + 1) - gone).max())


def queue_needed(design: SparseDesign, stream: SparseStream, *, pace: int = 1, chunk_from: np.ndarray | None = None,
                 item_from: np.ndarray | None = None) -> int:
    """Least depth of the queue with which no item waits for room, whatever ``design.queue`` is.

    Parameters
    ----------
    stream, pace, chunk_from, item_from : as of `sparse_cycles`
    """
    waiting = sparse_cycles(design, stream, pace=pace, chunk_from=chunk_from, item_from=item_from,
                            depth=len(stream.tile) + 1).waiting
    return max(1 << max(waiting - 1, 0).bit_length(), 2)
