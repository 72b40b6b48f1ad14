"""When the gather unit of the core takes work and gives sums, and the output stage takes these.

The same events as in `gather`, but work comes when the order of work has it, and the unit stops where 14 rows are on
their way or wait: the output stage takes ``outputs / output_lanes`` cycles for each.

Both units are coroutines: ``taken = unit.send(offered)`` for each work item in turn, after a first ``next(unit)``.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from ...design.spconv_core import SpConvDesign
from .gather import FRONT, PAIRS, Steps, unit_latency

__all__ = ["OutputEvents", "item_sums", "row_sums"]

ROWS = 14           # with so many, steps wait
SEEN, LEFT = 3, 2   # cycles until a row's last step, and the taking of a row, count
OUTPUT_EDGES = 4    # of the output stage, around its lanes


class OutputEvents:
    """Rows behind the lanes.

    Attributes
    ----------
    ends, taken : list of int
        Cycle of each row's last step, and in which the output stage is through with it.
    steps : int
        Cycles in which some lane multiplies or a row ends, when all work has come.
    """

    def __init__(self, design: SpConvDesign):
        self.latency = unit_latency(design.gather)
        self.row_cycles = design.gather.outputs // design.output_lanes
        self.written = OUTPUT_EDGES + design.output.output_latency
        self.ends: list[int] = []
        self.taken: list[int] = []
        self.steps = 0

    @property
    def finished(self) -> int:
        """The last word is written."""
        return self.taken[-1] + self.written

    def row(self, end: int) -> None:
        """A row's last step is in cycle ``end``."""
        before = self.taken[-1] if self.taken else -1
        self.ends.append(end)
        self.taken.append(max(end + self.latency, before + 1) + self.row_cycles - 1)

    def waits(self, cycle: int) -> bool:
        """No step is taken in this cycle, which is after all of ``ends``."""
        count = len(self.ends)
        while count >= ROWS and self.ends[count - 1] > cycle - SEEN:
            count -= 1
        return count >= ROWS and self.taken[count - ROWS] > cycle - LEFT

    @property
    def unhindered(self) -> int:
        """From this cycle on steps are taken, whatever has been seen of the rows until now."""
        return self.taken[-ROWS] + LEFT if len(self.taken) >= ROWS else 0

    def last_step(self, first: int, steps: int) -> int:
        """Cycle of the last of so many steps from cycle ``first`` on."""
        while steps and first < self.unhindered:
            steps -= not self.waits(first)
            first += 1
        return first + steps - 1


def item_sums(design: SpConvDesign, steps: list[int], leaves: list[bool], releases: list[bool], released: list[int],
              output: OutputEvents) -> Generator[int, int, None]:
    """Pack ``item``.

    Parameters
    ----------
    steps : list of int
        Cycles of the lanes for each work item; 0: it is dropped.
    leaves, releases : list of bool
        It completes a row; it is the last one for now to use its weights.
    released : list of int
        Gets the cycle of each release.
    """
    lag = 3 + (design.gather.relays > 0)
    taken, waits, come, end = -1, 0, -1, 0
    gone, kept = [-1] * PAIRS, 0
    for count, leave, release in zip(steps, leaves, releases, strict=True):
        offered = yield taken
        taken = max(taken + 1, waits - 1, offered)
        waits = max(taken + FRONT, come + 1)
        come = max(waits, gone[kept] + 1)
        if count:
            output.steps += count
            begins = max(come + 1, end)
            gone[kept] = begins
            kept = (kept + 1) % PAIRS
            end = begins + count if begins >= output.unhindered else output.last_step(begins + 1, count)
            if leave:
                output.row(end)
            if release:
                released.append(end + lag)
    yield taken


def row_sums(design: SpConvDesign, loads: np.ndarray, closes: np.ndarray,
             output: OutputEvents) -> Generator[int, int, None]:
    """Pack ``row``.

    Parameters
    ----------
    loads : ndarray (N, lanes)
        Channels that are not zero, of each work item.
    closes : bool ndarray (N,)
        It is the last one of its row.
    """
    lanes, window = design.gather.lanes, design.gather.window
    loads = loads.astype(np.int64)
    some = loads > 0
    keeps = (some.any(axis=1) | closes | np.append(True, closes[:-1])).tolist()
    place = (np.cumsum(some, axis=0) - some) % window * lanes + np.arange(lanes)
    ring, finish = np.full(window * lanes, -1), np.full(lanes, -1)
    taken, waits, come, goes, begin, kept = -1, 0, -1, -1, 0, 0
    gone = [-1] * PAIRS
    steps, step = Steps(), 0    # numbered without the cycles in which none is taken
    low = 0
    for close in np.flatnonzero(closes).tolist():
        gaps = _Gaps(output, begin)
        while low <= close:
            high = min(close + 1, low + window)
            at = place[low:high]
            room = ring[at].max(axis=1).tolist()
            if close < high and len(output.ends) > window:
                room[-1] = max(room[-1], output.ends[-window - 1])
            there = []
            for i in range(low, high):
                offered = yield taken
                taken = max(taken + 1, waits - 1, offered)
                waits = max(taken + FRONT, come + 1)
                come = max(waits, gone[kept] + 1)
                if keeps[i]:
                    goes = max(come + 1, goes + 1, room[i - low] + 1)
                    gone[kept] = goes
                    kept = (kept + 1) % PAIRS
                there.append(goes)
            load, mine = loads[low:high], some[low:high]
            # Each load as early as its pair, and those before it in its lane, allow.
            total = np.cumsum(load, axis=0)
            free = np.maximum(gaps.steps_before(np.array(there) + 1), 0)[:, None] - total + load
            done = np.maximum(np.maximum.accumulate(free, axis=0), gaps.steps_before(finish + 1)) + total
            done = done[mine]
            steps.add(step + done - load[mine], step + done - 1)
            done = gaps.cycle(done - 1)
            ring[at[mine]] = done
            np.maximum.at(finish, np.nonzero(mine)[1], done)
            low = high
        end = max(goes + 1 + (goes == begin - 1), int(finish.max()), begin)
        while output.waits(end):
            end += 1
        output.row(end)
        begin = end + 1
        step += int(gaps.steps_before(begin))
        steps.close(step - 1)
    steps.flush()
    output.steps = steps.total
    yield taken


class _Gaps:
    """Cycles from the first one of a row on in which steps are taken, numbered from 0."""

    def __init__(self, output: OutputEvents, begin: int):
        self.open = [cycle for cycle in range(begin, begin + SEEN - 1) if not output.waits(cycle)]
        self.rest = max(begin + SEEN - 1, output.unhindered)    # and all from this one on

    def steps_before(self, cycle: np.ndarray | int) -> np.ndarray:
        """How many of them are before a cycle."""
        found = np.maximum(cycle - self.rest, 0)
        for each in self.open:
            found = found + (cycle > each)
        return found

    def cycle(self, number: np.ndarray) -> np.ndarray:
        """The cycle of each number."""
        found = number - len(self.open) + self.rest
        for at, each in enumerate(self.open):
            found = np.where(number == at, each, found)
        return found
