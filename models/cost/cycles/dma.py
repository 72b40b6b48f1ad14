"""Cycles of a job of the core with an AXI4 master, from its start to the response of its last write.

An event for each cycle: operands come as the master reads them (`dma_bus`), and the stages of the core run beside each
other as in the RTL. The memory answers at once; one job alone after a reset, started by registers (later ones may
differ by a few cycles: the readers' turn on the bus goes on from the job before). A cycle takes some 10 us here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...design import Job, MatmulDesign
from ...design.matmul import RECORD_BITS
from ...errors import BitkilnError
from ...formats import get_format, get_group_format
from .cycles import SCALE_BITS, panel_beats
from .dma_bus import BURST, ReadSide, WriteSide
from .engine_cycles import EngineCycles, rest

__all__ = ["MemoryJob", "memory_cycles"]

QUEUE_BURSTS = 4        # of an operand's queue
PARTIAL_BURSTS = 2      # of that of partial sums
SLOTS = 2


@dataclass(frozen=True)
class MemoryJob:
    """A job and where its matrices are.

    Attributes
    ----------
    job : Job
    places : mapping of str to int
        ``A_ADDR``, ``A_STRIDE``, ``W_ADDR``, ..., ``O_ADDR``, ``O_STRIDE``: bytes, as in the registers.
    """

    job: Job
    places: Mapping[str, int]

    def place(self, name: str) -> int:
        """One of ``places``, which must be there."""
        if name not in self.places:
            raise BitkilnError("missing address", where="job.places", got=", ".join(self.places), expected=name)
        return self.places[name]


def _tiles(total: int, tile: int) -> list[int]:
    return [min(tile, total - at) for at in range(0, total, tile)]


def _panel_rows(design: MatmulDesign, memory: MemoryJob, side: str) -> Iterator[tuple[int, int] | None]:
    """What the reader of an operand asks for in each cycle from the job's first one on."""
    job, bus = memory.job, design.bus_bits
    mode, unit = design.pe.modes[design.pe.index(job.mode)], bus // 8
    mine, tile, other, other_tile = (job.m, design.rows, job.n, design.columns)
    bits = mode.activation.bits
    if side == "w":
        mine, tile, other, other_tile, bits = other, other_tile, mine, tile, mode.weight.bits
    phases = []
    if side == "w" and job.per_channel:
        record = max(RECORD_BITS, bus) // 8
        phases.append((memory.place("RECORD_ADDR"), record, record // unit))
    name = side.upper()
    if job.block is not None:
        span = get_group_format(job.block).block_size * (bus // SCALE_BITS)
        phases.append((memory.place(f"{name}_SCALE_ADDR"), memory.place(f"{name}_SCALE_STRIDE"), -(-job.k // span)))
    phases.append((memory.place(f"{name}_ADDR"), memory.place(f"{name}_STRIDE"), -(-job.k * bits // bus)))
    yield None
    for _ in range(1 if job.order == side else -(-other // other_tile)):
        yield None
        for at in range(0, mine, tile):
            for address, stride, beats in phases:
                for row in range(at, min(at + tile, mine)):
                    yield (address + row * stride) // unit, beats


def _tile_rows(design: MatmulDesign, memory: MemoryJob, side: str, bits: int) -> Iterator[tuple[int, int, bool] | None]:
    """Byte address, bytes and last mark of rows of tiles, in each cycle from the job's first one on."""
    job = memory.job
    address, stride = memory.place(f"{side}_ADDR"), memory.place(f"{side}_STRIDE")
    rows, columns = _tiles(job.m, design.rows), _tiles(job.n, design.columns)
    order = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
    if job.order == "w":
        order.sort(key=lambda tile: tile[::-1])
    yield None
    for row, column in order:
        if job.order == "a" or row == 0:
            yield None
        for line in range(rows[row]):
            last = (row, column) == order[-1] and line == rows[row] - 1
            yield (address + (row * design.rows + line) * stride + column * (design.columns * bits // 8),
                   -(-columns[column] * bits // 8), last)


class _Core:
    """Registers of the stages, cycle by cycle."""

    def __init__(self, design: MatmulDesign, memory: MemoryJob):
        self.design, self.job = design, memory.job
        job, unit = memory.job, design.bus_bits // 8
        mode = design.pe.modes[design.pe.index(job.mode)]
        self.code_bits = design.raw_bits if job.rule == "raw" else get_format(job.output).bits
        rows, columns = _tiles(job.m, design.rows), _tiles(job.n, design.columns)
        reads = {side: _panel_rows(design, memory, side) for side in ("a", "w")}
        depths = {"a": QUEUE_BURSTS * BURST, "w": QUEUE_BURSTS * BURST, "c": PARTIAL_BURSTS * BURST}
        if design.accumulate:
            reads["c"] = self._partial_rows(memory, unit) if job.accumulate else iter(())
        self.reads = ReadSide(reads, depths)
        self.writes = WriteSide(_tile_rows(design, memory, "O", self.code_bits), unit)

        passes = {"a": len(columns) if job.order == "w" else 1, "w": len(rows) if job.order == "a" else 1}
        self.panels = {side: deque(passes[side] * [panel_beats(design, job, side, size) for size in sizes])
                       for side, sizes in (("a", rows), ("w", columns))}
        self.loading, self.level = {"a": 0, "w": 0}, {"a": 0, "w": 0}
        outer, inner = (rows, columns) if job.order == "a" else (columns, rows)
        self.tiles = deque((*((long, short) if job.order == "a" else (short, long)), at == len(inner) - 1,
                            at == len(inner) - 1 and number == len(outer) - 1)
                           for number, long in enumerate(outer) for at, short in enumerate(inner))
        self.words = self.block = -(-job.k // mode.lanes)
        if job.block is not None:
            self.block = get_group_format(job.block).block_size // mode.lanes
        self.step = 0

        self.busy = self.here = self.flushing = False
        self.tile = (0, 0, False, False)        # valid rows and columns, results leave, the job's last one
        self.row = self.group = self.waiting = self.partial = 0
        self.under_way = deque([False] * design.array_delay)
        self.stages: deque[tuple[int, bool, bool] | None] = deque([None] * (1 + design.output_latency))
        self.at, self.held = 0, False           # of the packer
        self.room, self.front = True, False     # of the skid buffer
        self.counters = dict.fromkeys(("COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN", "STALL_C", "STALL_OUT"), 0)

    def _partial_rows(self, memory: MemoryJob, unit: int) -> Iterator[tuple[int, int] | None]:
        for row in _tile_rows(self.design, memory, "C", self.design.raw_bits):
            yield None if row is None else (row[0] // unit, -(-row[1] // unit))

    def run(self) -> int:
        """Cycle of the last response."""
        now = 0
        while True:
            now += 1
            takes, takes_panel = {}, self._sequence()
            takes["c"], beat = self._drain()
            for side in ("a", "w"):
                takes[side] = self._load(side, takes_panel[side])
            self.reads.step(takes)
            if self._leave(beat):
                return now

    def _load(self, side: str, take: bool) -> bool:
        """A beat of a panel; whether one is taken."""
        beat = finished = False
        if self.loading[side]:
            beat = self.reads.valid(side)
            self.loading[side] -= beat
            finished = beat and not self.loading[side]
        elif self.panels[side] and self.level[side] < SLOTS:
            self.loading[side] = self.panels[side].popleft()
        self.level[side] += finished - take
        return beat

    def _sequence(self) -> dict[str, bool]:
        """A word into the array; which panels it is the last one of."""
        takes = {"a": False, "w": False}
        start, self.starts = None, None
        if self.tiles:
            rows, columns, inner_end, end = self.tiles[0]
            ends = self.step == self.words - 1
            last = ends or self.step % self.block == self.block - 1
            if not self.level["a"]:
                self.counters["STALL_A"] += 1
            elif not self.level["w"]:
                self.counters["STALL_W"] += 1
            elif last and self.busy:
                self.counters["STALL_DRAIN"] += 1
            else:
                self.counters["COMPUTE"] += 1
                if last:
                    start = (rows, columns, ends, end and ends)
                self.step = 0 if ends else self.step + 1
                if ends:
                    other = "w" if self.job.order == "a" else "a"
                    takes = {self.job.order: inner_end, other: True}
                    self.tiles.popleft()
        self.starts = start
        return takes

    def _drain(self) -> tuple[bool, bool]:
        """A group from the array to the packer; whether a beat of partial sums is taken, and one given."""
        design, lanes, bus = self.design, self.design.output_lanes, self.design.bus_bits
        rows, columns, emits, end = self.tile
        leaving = self.stages[-1]
        take = self.held and self.room
        free = not self.held or take
        group_bits = lanes * self.code_bits
        wide = group_bits > bus
        group_end = leaving is not None and (not wide or self.at == ((leaving[0] + 1) * self.code_bits - 1) // bus)
        advance = leaving is None or (free and group_end)

        row_end = self.group == (columns - 1) // lanes
        count = (columns - 1) % lanes if row_end else lanes - 1
        needs, first = self.job.accumulate and emits, self.row == 0 and self.group == 0
        present = self.here and not self.flushing and not (self.waiting and first)
        raw, there = lanes * design.raw_bits, design.accumulate and self.reads.valid("c")
        whole = raw <= bus or self.partial == ((count + 1) * design.raw_bits - 1) // bus
        accept = present and advance and (not needs or (there and whole))
        self.counters["STALL_C"] += present and advance and needs and not (there and whole)
        self.counters["STALL_OUT"] += present and not advance
        if raw <= bus:
            ends = row_end or self.partial == bus // raw - 1
            partial = accept and needs and ends
            if accept and needs:
                self.partial = 0 if ends else self.partial + 1
        else:
            partial = there and (accept and needs if whole else self.busy and not self.flushing and needs)
            if partial:
                self.partial = 0 if whole else self.partial + 1

        # Packer.
        insert, done = leaving is not None and free, True
        if insert and not wide:
            done = self.at == bus // group_bits - 1 or leaving[1]
        if insert:
            self.at = 0 if (group_end if wide else done) else self.at + 1
        self.held = (insert and done) or (self.held and not take)

        # Pipeline and place in the tile.
        if advance:
            self.stages.pop()
            self.stages.appendleft((count, row_end, end) if accept and emits else None)
        loop = design.block_loop if design.block else 0
        if loop > 1 and accept and first and self.job.block is not None:
            self.waiting = loop - 1
        elif self.waiting and advance:
            self.waiting -= 1
        arrived = self.under_way.pop()
        self.under_way.appendleft(self.starts is not None)
        if arrived:
            self.here = True
        if accept:
            self.group = 0 if row_end else self.group + 1
            self.row += row_end
            if row_end and self.row == rows:
                self.row, self.here, self.busy = 0, False, False
                self.flushing = self.flushing or end
        if self.starts is not None:
            self.tile, self.busy = self.starts, True
        return partial, take

    def _leave(self, beat: bool) -> bool:
        """Through the skid buffer to the writer; whether the job is done."""
        valid, moves = self.front, not self.front or self.writes.ready
        done = self.writes.step(valid)
        if moves:
            self.front = beat or not self.room
        # ``beat`` came only while there was room.
        self.room = moves or (self.room and not beat)
        return done


def memory_cycles(design: MatmulDesign, job: MemoryJob) -> EngineCycles:
    """Cycles and traffic of a job; ``design`` with descriptors.

    Parameters
    ----------
    design : MatmulDesign
    job : MemoryJob
    """
    core = _Core(design, MemoryJob(job.job.check(design), job.places))
    total, shape, counters = core.run(), job.job, core.counters
    macs, compute, bus = shape.m * shape.n * shape.k, counters["COMPUTE"], design.bus_bits // 8
    mode = design.pe.modes[design.pe.index(shape.mode)]
    beats = {"r": core.reads.beats, "w": core.writes.beats}
    counters |= {"MACS": macs}
    if not design.accumulate:
        del counters["STALL_C"]
    return EngineCycles(
        total, compute, rest(total, compute, a=counters["STALL_A"], w=counters["STALL_W"],
                             results=counters["STALL_DRAIN"]),
        macs, design.rows * design.columns * mode.lanes, {name: count * bus for name, count in beats.items()},
        dict.fromkeys(beats, bus), counters=counters)
