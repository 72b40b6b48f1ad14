"""Cycles of the array of MACs behind codebook dequantisers, equal to the RTL.

A chunk of every column meets a word of activations each cycle. Only the last chunk of a block may wait: until the sums
of the block before have left the MACs, which takes the array's latency and a cycle for each word of results. So
nothing ever waits where

    C >= latency + rows * columns / result_lanes

for every block of C chunks (2 + pipeline is the latency with broadcast links), and N such blocks, chunks always
there, are summed in ``N * C`` cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.codebook import SHORTEST_QUEUE
from ...design.codebook_array import CodebookArrayDesign
from .bitserial import conversion_stages
from .codebook import wait_cycles
from .dequant import FLOAT_ADD, MULTIPLY, UNPACK

__all__ = ["ArrayCycles", "array_cycles", "block_cycles", "never_waits", "result_latency"]


@dataclass(frozen=True)
class ArrayCycles:
    """Cycle of every transfer when inputs always come and results are always taken; the first is 0.

    Attributes
    ----------
    w : ndarray (N,)
        Chunks of weights.
    a : ndarray (N,)
        Words of activations, in the cycle of their products.
    o : ndarray
        Words of results.
    stalls : int
        Cycles in which both operands were there and waited.
    """

    w: np.ndarray
    a: np.ndarray
    o: np.ndarray
    stalls: int


def result_latency(design: CodebookArrayDesign) -> int:
    """Edges from the cycle in which sums leave the array to the one in which their result can be taken: choice of the
    lane, conversion, scale, addition, queue."""
    convert = conversion_stages(design.sum_bits, design.exponent) if design.accumulator == "exact" else 0
    return 1 + convert + (UNPACK + MULTIPLY) * (design.scale != "none") + FLOAT_ADD + 1


def block_cycles(design: CodebookArrayDesign) -> int:
    """Least cycles between the last chunks of two blocks; a partial sum must also be back from the adder."""
    return max(design.array.latency + design.rows * design.groups, FLOAT_ADD + 1)


def never_waits(design: CodebookArrayDesign, block: int) -> bool:
    """Whether blocks of so many weights follow each other without a bubble."""
    return -(-block // design.lanes) >= block_cycles(design)


def array_cycles(design: CodebookArrayDesign, first: np.ndarray, last: np.ndarray, emit: np.ndarray) -> ArrayCycles:
    """Event model.

    Parameters
    ----------
    first, last, emit : bool ndarray (N,)
        Of the chunks.
    """
    wait = wait_cycles(design.codebook)
    depth = max(1 << wait.bit_length(), SHORTEST_QUEUE)
    results = np.arange(design.rows * design.groups)
    count = len(first)
    accepted, leaves, steps = (np.zeros(count, np.int64) for _ in range(3))
    o: list[np.ndarray] = []
    free = stalls = 0
    for k in range(count):
        room = int(leaves[k - depth]) + 1 if k >= depth else 0
        accepted[k] = max(int(accepted[k - 1]) + 1 if k else 0, room)
        leaves[k] = max(int(accepted[k]) + (wait if first[k] else 1),
                        max(int(leaves[k - 1]) + 1, int(steps[k - 1])) if k else 0)
        offered = max(int(leaves[k]) + 1, int(steps[k - 1]) + 1 if k else 0)
        steps[k] = max(offered, free) if last[k] else offered
        stalls += int(steps[k]) - offered
        if last[k]:
            free = int(steps[k]) + block_cycles(design)
            if emit[k]:
                o.append(steps[k] + design.array.latency + results + result_latency(design))
    return ArrayCycles(accepted, steps, np.concatenate([*o, np.zeros(0, np.int64)]), stalls)
