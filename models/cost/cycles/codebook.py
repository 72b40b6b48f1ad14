"""Cycles of the codebook dequantiser, equal to the RTL: a chunk each cycle.

A block's first chunk leaves ``wait`` cycles after it came, the time in which its scale is computed, and no chunk
overtakes it. The queue holds what comes meanwhile, so nothing ever stalls: the words of N chunks are all there after
``N + wait + 1`` cycles.
"""

from __future__ import annotations

import numpy as np

from ...design.codebook import CodebookDesign

__all__ = ["codebook_cycles", "wait_cycles", "word_ends"]

MULTIPLIER_ROWS = {"uint8": 4, "int8": 4, "table8": 12}   # two bits of a value each
CONVERT = {"uint8": 3, "int8": 3, "table8": 4}
ADD = 3


def wait_cycles(design: CodebookDesign) -> int:
    """From the cycle that takes a first chunk to the one in which it can leave: 1 where there is nothing to compute,
    else the code's register, the table's, rows and adders of the multiplier (two levels a stage), the conversion, the
    offset's addition, the queue."""
    if not design.coded_scale:
        return 1
    levels = (MULTIPLIER_ROWS[design.scale] - 1).bit_length()
    multiply = 1 + -(-levels // 2)
    return 1 + (design.scale == "table8") + multiply + CONVERT[design.scale] + ADD * design.offset + 1


def word_ends(design: CodebookDesign, last: np.ndarray) -> np.ndarray:
    """Index of each word's last chunk: a word is full, or its block ends.

    Parameters
    ----------
    last : bool ndarray (N,)
        Chunks that end a block.
    """
    ends, filled = [], 0
    for chunk, final in enumerate(np.asarray(last).tolist()):
        filled += 1
        if final or filled == design.chunks:
            ends.append(chunk)
            filled = 0
    return np.array(ends, np.int64)


def codebook_cycles(design: CodebookDesign, first: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cycle of every transfer when inputs always come and words are always taken.

    Parameters
    ----------
    first : bool ndarray (N,)
        Chunks that begin a block.
    ends : ndarray (W,)
        Index of each word's last chunk.

    Returns
    -------
    accepted : ndarray (N,)
        Cycle that takes each chunk; the first is 0.
    words : ndarray (W,)
    """
    accepted = np.arange(len(first))
    earliest = accepted + np.where(first, wait_cycles(design), 1)
    # Each a cycle after the one before, at least.
    leaves = np.maximum.accumulate(earliest - accepted) + accepted
    return accepted, leaves[ends] + 1
