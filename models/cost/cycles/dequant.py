"""Cycles of the dequantising core: one job alone, every stream always ready; and whether its weights keep up.

Three things move on behind each other: words to the readers of the columns (a reader holds two groups), chunks to the
array (`models.cost.cycles.bitserial`: as many cycles as their weights have terms; groups wait for the dequantisers,
channels for their rows), results one a cycle out of it. `job_cycles` follows all three, event by event, and is equal to
the RTL's cycles and counters for every job.

For equal groups of C chunks of t terms, whose W words (all columns', headers and padding included) come in one a
cycle, a group takes ``max(C * t, W, scale_cycles, rows)`` cycles at first order; the array starves only where
``W > C * t`` (``W >= C * t`` where t is 1). In bits: columns * lanes * bits / t beyond the width of the bus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.bitserial import BitSerialDesign
from ...design.dequant import DequantDesign, DequantJob
from .bitserial import pipeline_depth

__all__ = ["JobCycles", "chunk_steps", "job_cycles", "result_latency", "weights_keep_up"]

SCALE_TILES = 4          # tiles of channel scales that wait
FLOAT_ADD = 3
UNPACK, MULTIPLY, ENCODE = 1, 5, 4


@dataclass(frozen=True)
class JobCycles:
    """Cycle 0 is that in which the job is taken.

    Attributes
    ----------
    results : ndarray (rows * channels,)
        Cycle of each result's transfer.
    starved, stalls : int
        As the core counts them.
    first : int
        Of ``starved``: cycles before the first chunk.
    """

    results: np.ndarray
    starved: int
    stalls: int
    first: int

    @property
    def total(self) -> int:
        """Cycles until the last result is out."""
        return int(self.results[-1]) + 1


def result_latency(design: DequantDesign) -> int:
    """Edges from the cycle in which a result is taken from the array to the one in which it can leave the core."""
    edges = 1 if design.array.sums_channel else FLOAT_ADD
    return edges + (UNPACK + MULTIPLY) * design.channel_scale + ENCODE * (design.output.name != "fp32") + 1


def queue_rows(array: BitSerialDesign) -> int:
    """Rows of results that the array has room for."""
    period = max(array.scale_cycles, array.rows, 1)
    latency = pipeline_depth(array) + array.scale_cycles
    under_way = -(-(latency + array.rows + 1) // period) + 1
    return 1 << (array.rows * under_way - 1).bit_length()


def chunk_steps(design: DequantDesign, job: DequantJob, types: np.ndarray | int = 0, codes: np.ndarray | None = None,
                special: np.ndarray | None = None) -> np.ndarray:
    """Cycles of the array for each chunk of each tile (tiles, chunks): the most of any column's.

    Parameters
    ----------
    types : ndarray (channels, groups) or int
        Type selectors.
    codes, special : ndarray (channels, K), (channels, groups)
        Only for designs with ``zero_skip``: weight codes, and special-value selectors (of the tables after reset).
    """
    array = design.array
    lengths = np.array(job.lengths)
    chunks = -(-lengths // array.lanes)
    types = np.broadcast_to(types, (job.channels, len(lengths)))
    if not array.zero_skip:
        steps = np.repeat(np.array([t.terms for t in array.weights])[types], chunks, axis=1)
    else:
        special = np.zeros(types.shape, np.int64) if special is None else special
        kinds, entries = (np.repeat(part, lengths, axis=1) for part in (types, special))
        terms = np.zeros(kinds.shape, np.int64)
        for index, weight in enumerate(array.weights):
            own = codes & ((1 << weight.bits) - 1)
            of_code = np.array([sum(t is not None for t in weight.code_terms(c)) for c in range(1 << weight.bits)])
            found = of_code[own]
            if weight.special_code is not None:
                values = np.array([len(weight.check_special(v)) for v in [*weight.specials, 0, 0, 0, 0][:4]])
                found = np.where(own == weight.special_code, values[entries], found)
            terms = np.where(kinds == index, found, terms)
        starts = np.concatenate([start + array.lanes * np.arange(n)
                                 for start, n in zip(np.cumsum(lengths) - lengths, chunks, strict=True)])
        steps = np.maximum(np.maximum.reduceat(terms, starts, axis=1), 1)
    return np.maximum.reduceat(steps, np.arange(0, job.channels, array.columns), axis=0)


def group_words(design: DequantDesign, job: DequantJob, types: np.ndarray | int = 0) -> np.ndarray:
    """Bus words of each group (channels, groups)."""
    lengths, layout = job.lengths, design.layout
    sizes = np.array([[layout.group_bytes(n, t) // design.bus_bytes for n in lengths]
                      for t in range(len(layout.packings))])
    return sizes[np.broadcast_to(types, (job.channels, len(lengths))), np.arange(len(lengths))]


def weights_keep_up(design: DequantDesign, job: DequantJob, types: np.ndarray | int = 0,
                    steps: np.ndarray | None = None) -> bool:
    """Whether the array never waits for weights, once it has begun, with a bus that delivers a word each cycle.

    The array at its own pace (dequantisers and results hold it back nowhere), and behind it the words: a group's may
    come when the group two before it has been read, and stand ready two cycles after the last of them. True is
    certain; False is so unless dequantisers or results hold the array back.

    Parameters
    ----------
    types, steps
        As of `job_cycles`.
    """
    array = design.array
    steps = chunk_steps(design, job, types) if steps is None else steps
    words = group_words(design, job, types)
    chunks = -(-np.array(job.lengths) // array.lanes)
    tiles = range(0, job.channels, array.columns)
    sizes = np.array([words[at:at + array.columns].sum(axis=0) for at in tiles])
    if design.channel_scale:
        sizes[:, 0] += np.minimum(array.columns, job.channels - np.array(tiles))
    sizes = sizes.reshape(-1)
    ends = np.cumsum(np.tile(chunks, len(tiles)))
    # The register in front of the array is filled while the chunk before is at work.
    goes = np.concatenate(([0], 1 + np.concatenate(([0], np.cumsum(steps.reshape(-1))))[:ends[-1] - 1]))
    came = -2                                       # the last word of the group before; the first chunk goes at 0
    for n in range(1, len(sizes)):
        g = n % len(job.lengths)
        settles = job.lengths[g] != job.lengths[g - 1] and not (g == 0 and design.channel_scale)
        came = max(came + settles, goes[ends[n - 2] - 1] if n > 1 else came) + sizes[n]
        if came + 2 > goes[ends[n - 1]]:
            return False
    return True


def job_cycles(design: DequantDesign, job: DequantJob, types: np.ndarray | int = 0,
               steps: np.ndarray | None = None) -> JobCycles:
    """Cycles of a job that finds the core idle; its words are offered from the same cycle on.

    Parameters
    ----------
    types : ndarray (channels, groups) or int
        Type selectors.
    steps : ndarray (tiles, chunks), optional
        `chunk_steps`: to be given for designs with ``zero_skip``.
    """
    steps = chunk_steps(design, job, types) if steps is None else steps
    return _Run(design, job).follow(group_words(design, job, types), steps)


class _Run:
    """State of the event model: cycles of what has happened so far."""

    def __init__(self, design: DequantDesign, job: DequantJob):
        self.design, self.job, array = design, job, design.array
        self.scale_depth = 1 << max((SCALE_TILES * array.columns - 1).bit_length(), 1)
        self.rows_depth = queue_rows(array)
        self.to_row = pipeline_depth(array) + array.scale_cycles - 1
        self.word = 0                                   # of the last word
        self.length = 0                                 # of the group that it belongs to
        self.done: list[int] = []                       # of each group: the go of its last chunk
        self.pushed: list[int] = []                     # of each channel scale, into the queue
        self.popped: list[int] = []
        # The chunk before: its go, when the array took it, its last step.
        self.went, self.taken, self.ended = 0, 0, 0
        self.scale_free = self.row_free = 0
        self.takes: list[int] = []                      # of each row of results
        self.filled = self.gone = 0                     # the array's output register; the last result that was taken
        self.added: dict[tuple[int, int], int] = {}     # each sum: when it was taken
        self.complete = 0                               # the tile's scales are there
        self.out: list[int] = []
        self.starved = self.stalls = self.first = 0

    def follow(self, words: np.ndarray, steps: np.ndarray) -> JobCycles:
        job, array = self.job, self.design.array
        chunks = [-(-length // array.lanes) for length in job.lengths]
        for tile, at in enumerate(range(0, job.channels, array.columns)):
            width = min(array.columns, job.channels - at)
            if self.design.channel_scale:
                self._push(width)
            of_chunk = iter(steps[tile])
            for g, count in enumerate(chunks):
                # Sizes follow the length of groups a cycle later, which the tile's scales hide.
                if job.lengths[g] != self.length and not (g == 0 and self.design.channel_scale):
                    self.word += 1
                self.length = job.lengths[g]
                start = self._words(words[at:at + width, g])
                final = g == len(chunks) - 1
                for chunk in range(count):
                    self._chunk(int(next(of_chunk)), start if chunk == 0 else 0, chunk == count - 1, final)
                self.done.append(self.went)
                if final or not array.sums_channel:
                    self._results(width, g == 0 or array.sums_channel, final)
        return JobCycles(np.array(self.out) + result_latency(self.design), self.starved, self.stalls, self.first)

    def _push(self, width: int) -> None:
        """Channel scales into their queue."""
        for _ in range(width):
            n = len(self.pushed) - self.scale_depth
            self.word = max(self.word + 1, self.popped[n] + 1 if n >= 0 else 0)
            self.pushed.append(self.word)

    def _words(self, words: np.ndarray) -> int:
        """Words of a group of all columns; the first cycle in which all of them can be read."""
        free, before = (self.done[-2] if len(self.done) > 1 else 0), (self.done[-1] if self.done else 0)
        start = 0
        for count in words:
            self.word = max(self.word + 1, free + 1) + int(count) - 1
            start = max(start, self.word + 1, before)
        return start + 1

    def _chunk(self, steps: int, start: int, last: bool, final: bool) -> None:
        """A chunk to the array, and its steps there."""
        array, job = self.design.array, self.job
        begun = bool(self.done) or self.taken > 0
        wanted = max(self.went + 1, self.taken)
        # The job's activations come first.
        go = max(wanted, start, job.chunks(array.lanes) * array.rows)
        self.starved += go - wanted
        if not begun:
            self.first = go - wanted
        taken = max(go + 1, self.ended)
        end = taken + steps
        if last:
            emits = final or not array.sums_channel
            free = max(end, self.scale_free, self.row_free if emits else 0)
            promised = len(self.takes) + array.rows - self.rows_depth
            if emits and promised > 0:
                free = max(free, self.takes[promised - 1] + 1)
            self.stalls += free - end
            end = free
            self.scale_free = end + max(array.scale_cycles, 1)
            if emits:
                self.row_free = end + array.rows
        self.went, self.taken, self.ended = go, taken, end

    def _results(self, width: int, first: bool, final: bool) -> None:
        """An emission of the array through the results' pipeline."""
        array, job = self.design.array, self.job
        visit = max(self.went, self.gone) + 1           # the result stage knows of it
        if self.design.channel_scale and first:
            pop = visit - 1
            for _ in range(width):
                pop = max(pop, self.pushed[len(self.popped)]) + 1
                self.popped.append(pop)
            self.complete = pop + 1
        ready = max(visit, self.complete if self.design.channel_scale else 0)
        for row in range(array.rows):
            arrives = self.ended + self.to_row + row
            self.filled = max(arrives, self.takes[-1] if self.takes else 0)
            self.gone = max(self.filled, self.gone, ready - 1)
            if row >= job.rows:
                self.gone += 1
            for column in range(width if row < job.rows else 0):
                self.gone += 1
                if not array.sums_channel:
                    if not first:                       # a sum still in the adder is waited for
                        self.gone = max(self.gone, self.added[row, column] + FLOAT_ADD + 1)
                    self.added[row, column] = self.gone
                if final:
                    self.out.append(self.gone)
            self.takes.append(self.gone)
