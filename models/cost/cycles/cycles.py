"""Cycles of the matmul core, equal to its own counters when no stream ever stalls.

The recurrences follow the RTL's registers, in cycles from the push of the job (cycle 0):

* loader: panel p of B beats starts at ``S = max(F[p-1], T[p-2]) + 2`` and ends at ``F = S + B - 1`` (T: the cycle in
  which the array lets a panel go; there are two slots);
* array: tile t starts at ``I = max(E[t-1], F[a], F[w]) + 1``; its last word goes at ``E = max(I + words - 1, free)``;
* drain: its first group goes at ``max(E + array_delay + 1, end of the tile before + 1)``, then one group a cycle, or
  one beat a cycle where a group is wider than the bus; ``free`` is the cycle after the last group.

Long runs of equal tiles soon repeat: a tile costs
``max(words, beats(A panel) + 1, beats(W panel) + 1, groups + array_delay + 1)`` then (panels that are held count once).
States are remembered relative to the current cycle, so that such runs are one look-up for each tile, and
one for each pass of the inner loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...design import Job, MatmulDesign
from ...design.matmul import RECORD_BITS
from ...formats import get_format, get_group_format

__all__ = ["CoreCycles", "matmul_cycles", "panel_beats"]

SCALE_BITS = 8


@dataclass(frozen=True)
class CoreCycles:
    """Counters after one job in an idle core.

    Attributes
    ----------
    cycles : int
        From the push of the job to the transfer of its last beat.
    compute : int
        Cycles in which the array takes a word.
    fill, drain : int
        Cycles before the first word and after the last one.
    stall_a, stall_w, stall_drain : int
        Cycles without a word, by cause, as the core counts them (fill included).
    macs : int
        Useful products: ``m * k * n``.
    peak : int
        Products per cycle at full use.
    """

    cycles: int
    compute: int
    fill: int
    drain: int
    stall_a: int
    stall_w: int
    stall_drain: int
    macs: int
    peak: int

    @property
    def utilisation(self) -> float:
        """Useful products by what the array could do between the first word and the last one."""
        return self.macs / (self.peak * (self.cycles - self.fill - self.drain))


def panel_beats(design: MatmulDesign, job: Job, side: str, rows: int) -> int:
    """Beats of one panel with ``rows`` valid rows (``side`` ``a`` or ``w``)."""
    mode, bus = design.pe.modes[design.pe.index(job.mode)], design.bus_bits
    bits = mode.activation.bits if side == "a" else mode.weight.bits
    beats = -(-job.k * bits // bus)
    if job.block is not None:
        blocks = -(-job.k // get_group_format(job.block).block_size)
        beats += -(-blocks * SCALE_BITS // bus)
    if side == "w" and job.per_channel:
        beats += max(1, RECORD_BITS // bus)
    return rows * beats


@dataclass(frozen=True)
class _State:
    """Registers between two tiles, in cycles relative to the end of the tile before."""

    end: int                            # last word of the tile before
    a: tuple[int, ...]                  # finish of the last panel, takes of the last two
    w: tuple[int, ...]
    free: int
    accepted: int                       # last group taken by the drain
    start: int                          # first group of the last block (distance between blocks)
    blocked: tuple[tuple[int, int], ...]  # cycles in which the output stands still

    def moved(self, by: int, far: int) -> _State:
        """Seen from ``by`` cycles later; what lies more than ``far`` cycles back has no effect any more."""
        def shift(*values: int) -> tuple[int, ...]:
            return tuple(value if value == _NEVER else max(value - by, -far) for value in values)

        return _State(self.end - by, shift(*self.a), shift(*self.w), *shift(self.free, self.accepted, self.start),
                      tuple((low - by, high - by) for low, high in self.blocked if high - by > -far))


_NEVER = 1 << 40


class _Machine:
    """One job on one design."""

    def __init__(self, design: MatmulDesign, job: Job):
        self.design, self.job = design, job
        mode = design.pe.modes[design.pe.index(job.mode)]
        self.words = -(-job.k // mode.lanes)
        self.block_words = self.words
        if job.block is not None:
            self.block_words = get_group_format(job.block).block_size // mode.lanes
        self.code_bits = design.raw_bits if job.rule == "raw" else get_format(job.output).bits
        self.stages = 1 + design.output_latency
        self.block_loop = design.block_loop if job.block is not None else 0
        # Older than a whole panel and every pipeline.
        self.far = 64 + max(panel_beats(design, job, "a", design.rows), panel_beats(design, job, "w", design.columns))
        self.tiles: dict[tuple, tuple] = {}

    def group_beats(self, columns: int, bits: int) -> list[int]:
        """Beats of each group of a row of codes."""
        lanes, bus = self.design.output_lanes, self.design.bus_bits
        if lanes * bits <= bus:
            return [1] * -(-columns // lanes)
        return [-(-min(lanes, columns - at) * bits // bus) for at in range(0, columns, lanes)]

    def tile(self, state: _State, rows: int, columns: int, load_a: int, load_w: int, take_a: bool,
             take_w: bool) -> tuple[_State, int, int, int, int]:
        """One tile: new state, cycles that passed and the stalls. ``load_*``: beats of the panel that this tile is
        the first to use, 0 where it is held."""
        key = (state, rows, columns, load_a, load_w, take_a, take_w)
        if key not in self.tiles:
            self.tiles[key] = self._tile(*key)
        return self.tiles[key]

    def _tile(self, state: _State, rows: int, columns: int, load_a: int, load_w: int, take_a: bool,
              take_w: bool) -> tuple[_State, int, int, int, int]:
        sides = []
        for (finish, taken, before), beats in ((state.a, load_a), (state.w, load_w)):
            if beats:
                finish = max(finish, before) + 1 + beats
                before, taken = taken, _NEVER
            sides.append((finish, taken, before))
        (a, a_taken, a_before), (w, w_taken, w_before) = sides
        first = max(state.end, a, w) + 1
        stall_a = max(0, a - state.end)
        stall_w = max(0, first - state.end - 1 - stall_a)
        stall_drain, at, done = 0, first - 1, 0
        free, accepted, start, blocked = state.free, state.accepted, state.start, list(state.blocked)
        while done < self.words:
            count = min(self.block_words, self.words - done)
            done += count
            wanted = at + count
            at = max(wanted, free)
            stall_drain += at - wanted
            emits = done == self.words
            accepted, start, blocked = self._drain(at, accepted, start, blocked, rows, columns, emits)
            free = accepted + 1
        if take_a:
            a_taken = at
        if take_w:
            w_taken = at
        after = _State(at, (a, a_taken, a_before), (w, w_taken, w_before), free, accepted, start, tuple(blocked))
        return after.moved(at, self.far), at - state.end, stall_a, stall_w, stall_drain

    def _drain(self, end: int, accepted: int, start: int, blocked: list[tuple[int, int]], rows: int, columns: int,
               emits: bool) -> tuple[int, int, list[tuple[int, int]]]:
        """Last group's cycle, first group's cycle, later stand-stills."""
        at = max(end + self.design.array_delay + 1, accepted + 1)
        if self.block_loop:
            at = max(at, self._advances(start, self.block_loop, blocked))
        beats = self.group_beats(columns, self.code_bits) * rows
        reads = beats[:0]
        if not emits:
            beats = [1] * len(beats)
        elif self.job.accumulate:  # partial sums come a beat a cycle, from the issue of the last word on
            reads = self.group_beats(columns, self.design.raw_bits) * rows
        if not blocked and max(beats) == 1 and max(reads, default=1) == 1:
            return at + len(beats) - 1, at, blocked
        first, read_from = None, max(end, accepted)
        for number, beat in enumerate(beats):
            if reads:
                at = max(at, (read_from if first is None else accepted) + reads[number])
            at = self._unblocked(at, blocked)
            first = at if first is None else first
            if beat > 1:
                place = self._advances(at, self.stages, blocked)
                blocked = [b for b in blocked if b[1] >= at] + [(place, place + beat - 2)]
            accepted, at = at, at + 1
        return accepted, first, blocked

    @staticmethod
    def _unblocked(at: int, blocked: list[tuple[int, int]]) -> int:
        for low, high in blocked:
            if low <= at <= high:
                at = high + 1
        return at

    def _advances(self, at: int, count: int, blocked: list[tuple[int, int]]) -> int:
        """The cycle after ``count`` advances of the pipeline, the first of them in cycle ``at``."""
        for low, high in blocked:
            if low >= at and low < at + count:
                at += high - low + 1
        return at + count


def _tiles(total: int, tile: int) -> list[int]:
    return [tile] * (total // tile) + ([total % tile] if total % tile else [])


def matmul_cycles(design: MatmulDesign, job: Job) -> CoreCycles:
    """Counters of one job that finds the core idle, all streams always ready.

    Parameters
    ----------
    design : MatmulDesign
    job : Job

    Returns
    -------
    CoreCycles
    """
    machine = _Machine(design, job)
    rows, columns = _tiles(job.m, design.rows), _tiles(job.n, design.columns)
    outer, inner = (rows, columns) if job.order == "a" else (columns, rows)
    # Job valid in cycle 1; a loader's first beat in cycle 2, a panel's end F = S + B - 1.
    long_ago = -machine.far
    state = _State(0, (0, long_ago, long_ago), (0, long_ago, long_ago), 0, long_ago, long_ago, ())
    passes: dict[tuple, tuple] = {}
    now = stall_a = stall_w = stall_drain = 0
    first = None
    for long in outer:
        key = (state, long)
        if key not in passes:
            here, spent = state, [0, 0, 0, 0]
            fill = None
            for step, short in enumerate(inner):
                m, n = (long, short) if job.order == "a" else (short, long)
                end = step == len(inner) - 1
                loads = {"a": panel_beats(design, job, "a", m), "w": panel_beats(design, job, "w", n)}
                if step:
                    loads[job.order] = 0
                take_a, take_w = (end, True) if job.order == "a" else (True, end)
                here, *cost = machine.tile(here, m, n, loads["a"], loads["w"], take_a, take_w)
                if fill is None:
                    fill = cost[1] + cost[2]
                spent = [x + y for x, y in zip(spent, cost, strict=True)]
            passes[key] = (here, spent, fill)
        state, spent, fill = passes[key]
        if first is None:
            first = fill
        now, stall_a, stall_w, stall_drain = (x + y for x, y in zip((now, stall_a, stall_w, stall_drain), spent,
                                                                    strict=True))
    mode = design.pe.modes[design.pe.index(job.mode)]
    last_beats = machine.group_beats(inner[-1] if job.order == "a" else outer[-1],
                                     machine.code_bits)[-1]
    place = machine._advances(state.accepted, machine.stages, list(state.blocked))
    if last_beats > 1:
        place = state.blocked[-1][0]
    cycles = now + place + last_beats
    return CoreCycles(cycles=cycles, compute=machine.words * len(rows) * len(columns), fill=first,
                      drain=cycles - now, stall_a=stall_a, stall_w=stall_w, stall_drain=stall_drain,
                      macs=job.m * job.k * job.n, peak=design.rows * design.columns * mode.lanes)
