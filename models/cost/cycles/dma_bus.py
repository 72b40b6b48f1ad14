"""The two halves of a core's AXI4 master and a memory that answers at once, cycle by cycle, as `hw.bus.axi` has them.

The memory takes an address each cycle, up to eight bursts ahead each way, and gives or takes a beat each cycle: the
first one in the cycle after the address, a write's response in the cycle after its last beat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

__all__ = ["BURST", "ReadSide", "WriteSide"]

BURST = 16
OUTSTANDING = 16        # bursts under way, each way
MEMORY_BURSTS = 8       # that the memory takes ahead
WAITING_BURSTS = 4      # complete ones of the writer

Run = tuple[int, int]


class _Reader:
    """One of several that share the read channel: rows, cut into bursts, and the queue of their beats."""

    def __init__(self, rows: Iterator[Run | None], depth: int):
        self.rows, self.depth, self.space = rows, depth, depth
        self.row = next(rows, None)
        self.held, self.address, self.beats = False, 0, 0
        self.count = 0          # beats in the queue's memory
        self.valid = False      # of the queue's output

    @property
    def room(self) -> int:
        """Beats of the next burst."""
        return min(self.beats, BURST - self.address % BURST)

    def step(self, grant: bool, arrives: bool, take: bool) -> None:
        fetch = self.count > 0 and (not self.valid or take)
        self.count += arrives - fetch
        self.valid = fetch or (self.valid and not take)
        ends = self.room == self.beats
        ready = not self.held or (grant and ends)
        if grant:
            self.space -= self.room
            self.address, self.beats, self.held = self.address + self.room, self.beats - self.room, not ends
        self.space += take
        if self.row is None:
            self.row = next(self.rows, None)
        elif ready:
            (self.address, self.beats), self.held = self.row, True
            self.row = next(self.rows, None)


class ReadSide:
    """Readers in turn on one read channel.

    Parameters
    ----------
    rows : dict of str to iterator
        By reader: in each cycle the address (in beats) and beats of a row, kept until it is taken, or None.
    depths : dict of str to int
        Beats of each queue.
    """

    def __init__(self, rows: dict[str, Iterator[Run | None]], depths: dict[str, int]):
        self.readers = {name: _Reader(each, depths[name]) for name, each in rows.items()}
        self.names = list(self.readers)
        self.last, self.tags, self.beats = 0, 0, 0
        self.request: tuple[str, int] | None = None     # on the address channel
        self.memory: deque[list] = deque()              # reader, beats left

    def valid(self, name: str) -> bool:
        """A beat of a reader is there."""
        return self.readers[name].valid

    def step(self, takes: dict[str, bool]) -> None:
        """A cycle in which these beats are taken."""
        ready = len(self.memory) < MEMORY_BURSTS
        free = self.request is None or ready
        chosen = None
        if free and self.tags < OUTSTANDING:
            for step in range(1, len(self.names) + 1):
                at = (self.last + step) % len(self.names)
                reader = self.readers[self.names[at]]
                if reader.held and reader.space >= BURST:
                    chosen, self.last = self.names[at], at
                    break
        arrives, ended = None, False
        if self.memory:
            arrives = self.memory[0][0]
            self.memory[0][1] -= 1
            self.beats += 1
            ended = not self.memory[0][1]
        if self.request is not None and ready:
            self.memory.append(list(self.request))
        if ended:
            self.memory.popleft()
        if free:
            self.request = None if chosen is None else (chosen, self.readers[chosen].room)
        self.tags += (chosen is not None) - ended
        for name, reader in self.readers.items():
            reader.step(name == chosen, name == arrives, takes.get(name, False))


class WriteSide:
    """Rows of bytes at any address to bursts.

    Parameters
    ----------
    rows : iterator
        In each cycle byte address, bytes and whether it is the job's last row, kept until it is taken, or None.
    bus_bytes : int
    """

    def __init__(self, rows: Iterator[tuple[int, int, bool] | None], bus_bytes: int):
        self.rows, self.bus = rows, bus_bytes
        self.row = next(rows, None)
        self.active = self.extra = self.job_last = False
        self.left = self.place = self.opened = self.tail = 0
        self.space, self.count, self.valid = 2 * BURST, 0, False
        self.bursts: deque[tuple[int, bool]] = deque()      # beats, whether the job's last
        self.lengths: deque[int] = deque()
        self.answers: deque[bool] = deque()
        self.request: tuple[int, bool] | None = None
        self.sent = self.beats = 0
        self.memory: deque[int] = deque()                   # beats left of bursts
        self.responses = 0

    @property
    def ready(self) -> bool:
        """A beat of results would be taken."""
        return self.active and not self.extra and self._room

    @property
    def _room(self) -> bool:
        return self.space > 0 and len(self.bursts) < WAITING_BURSTS

    def step(self, beat: bool) -> bool:
        """A cycle, with a beat of results offered or not; whether the job's last response comes in it."""
        room, take = self._room, beat and self.ready
        put = take or (self.extra and room)
        # Bytes of a row's last beat that do not fit behind what its address shifts them by.
        spills = self.tail > self.bus
        row_end = put and (self.extra or (self.left == 1 and not spills))
        close = put and (row_end or self.place == BURST - 1)

        # Out: the address when all of a burst is there, its beats, the response.
        taken = len(self.memory) < MEMORY_BURSTS and self.responses < MEMORY_BURSTS
        free = self.request is None or taken
        go = free and bool(self.bursts) and len(self.lengths) < WAITING_BURSTS and len(self.answers) < OUTSTANDING
        leaves = bool(self.lengths) and self.valid and bool(self.memory)
        last = leaves and self.sent == self.lengths[0] - 1
        answered = self.responses > 0
        done = answered and self.answers.popleft()
        if answered:
            self.responses -= 1
        if leaves:
            self.beats += 1
            self.sent = 0 if last else self.sent + 1
            self.memory[0] -= 1
        if self.request is not None and taken:
            self.memory.append(self.request[0])
        if last:
            self.lengths.popleft()
            self.memory.popleft()
            self.responses += 1
        fetch = self.count > 0 and (not self.valid or leaves)
        self.count += put - fetch
        self.valid = fetch or (self.valid and not leaves)
        self.space += leaves - put
        if free:
            self.request = None
        if go:
            burst = self.bursts.popleft()
            self.request = burst
            self.lengths.append(burst[0])
            self.answers.append(burst[1])

        # In: a new row; a beat of this one.
        if self.row is None:
            self.row = next(self.rows, None)
        elif not self.active and not self.opened:
            address, size, self.job_last = self.row
            self.active, self.left = True, -(-size // self.bus)
            self.place = address // self.bus % BURST
            self.tail = address % self.bus + size - (self.left - 1) * self.bus
            self.row = next(self.rows, None)
        if close:
            self.bursts.append((self.opened + 1, row_end and self.job_last))
        if take:
            self.extra = self.left == 1 and spills
            self.left -= 1
        if put:
            self.place, self.opened = (self.place + 1) % BURST, self.opened + 1
        if close:
            self.opened = 0
        if row_end:
            self.active = self.extra = False
        return done
