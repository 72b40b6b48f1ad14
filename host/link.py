"""The host's end of the link to a board: frames, sequence numbers, retries (`models.design.link`)."""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from bitkiln.models.design.link import (
    CRC_BYTES,
    ESCAPE,
    FLAG,
    FRESH,
    IDENTIFY,
    IRQ,
    MAX_PAYLOAD,
    OVERRUN,
    PUSH,
    REFUSED,
    TOGGLE,
    Identity,
)
from bitkiln.models.errors import FAILED, BitkilnError

from .line import Line

__all__ = ["Answer", "FrameReader", "Link", "frame"]

WINDOW = 8            # requests under way
RETRIES = 12          # without a byte; then the board is called dead
NOISY_RETRIES = 400   # with answers, but none that leads on
INTRODUCTIONS = 60    # of asking who it is, where bytes come back
SHORTEST = 24         # payload of a frame, at least, on a line with noise
LONGEST = 600         # bytes of an answer on the line, at most


def frame(content: bytes) -> bytes:
    """A frame on the line: flags, transparency, CRC."""
    out = bytearray([FLAG])
    for byte in content + zlib.crc32(content).to_bytes(CRC_BYTES, "little"):
        out += bytes([ESCAPE, byte ^ TOGGLE]) if byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes(out) + bytes([FLAG])


class FrameReader:
    """Frames out of a line's bytes.

    Attributes
    ----------
    damaged : int
        Frames whose CRC was wrong.
    """

    def __init__(self) -> None:
        self._bytes, self._escaped = bytearray(), False
        self.damaged = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Contents of the whole frames that these bytes end."""
        found = []
        for byte in data:
            if byte == FLAG:
                content, check = bytes(self._bytes[:-CRC_BYTES]), bytes(self._bytes[-CRC_BYTES:])
                if content and not self._escaped and zlib.crc32(content) == int.from_bytes(check, "little"):
                    found.append(content)
                elif self._bytes:
                    self.damaged += 1
                self._bytes, self._escaped = bytearray(), False
            elif byte == ESCAPE:
                self._escaped = True
            else:
                if len(self._bytes) < LONGEST:
                    self._bytes.append(byte ^ TOGGLE if self._escaped else byte)
                self._escaped = False
        return found


@dataclass(frozen=True)
class Answer:
    """An answer of the board.

    Attributes
    ----------
    sequence, next : int
    flags : int
    rooms, waiting : bytes
        Beats that each input takes, that each output holds.
    payload : bytes
    """

    sequence: int
    next: int
    flags: int
    rooms: bytes
    waiting: bytes
    payload: bytes

    @property
    def irq(self) -> bool:
        return bool(self.flags & IRQ)


@dataclass
class _Request:
    sequence: int
    data: bytes
    channel: int | None      # of a push
    beats: int


class Link:
    """Requests to a board, in order, each done once.

    Parameters
    ----------
    line : Line

    Attributes
    ----------
    identity : Identity
    rooms, waiting : list of int
        Beats that each input takes beyond those under way, and that each output held at the last answer.
    irq : bool
        At the last answer.
    payload : int
        Bytes that a request or an answer should not exceed: halved with each repetition, since short frames get
        through where long ones do not, and growing again while all goes well.
    counts : Counter
        ``requests``, ``repeated``, ``refused``, ``damaged`` (answers), ``bytes_out``, ``bytes_in``.

    Raises
    ------
    BitkilnError
        The board does not answer, is none of ours, or speaks another protocol.
    """

    def __init__(self, line: Line):
        self.line = line
        self.counts: Counter[str] = Counter()
        self._reader, self._pending = FrameReader(), deque[_Request]()
        self._sequence, self._inputs, self._outputs = 0, 0, 0
        self.rooms: list[int] = []
        self.waiting: list[int] = []
        self.irq, self.payload = False, MAX_PAYLOAD
        self.identity = self._connect()

    # Requests ---------------------------------------------------------------------------------------

    def request(self, operation: int, channel: int = 0, payload: bytes = b"") -> bytes:
        """Send a request after all others and wait for its answer's payload."""
        mine = self._start(operation, channel, payload)
        return self._until(lambda answer: answer is not None and answer.sequence == mine.sequence and not self._pending
                           and not answer.flags & REFUSED, f"operation {operation}").payload

    def push(self, channel: int, beats: bytes, count: int) -> None:
        """Send beats; they may still be under way when this returns. There must be `rooms` for them."""
        while len(self._pending) >= WINDOW:
            self._until(lambda answer: len(self._pending) < WINDOW, "beats")
        self._start(PUSH, channel, bytes([count]) + beats, count)

    def settle(self) -> None:
        """Wait until everything that was sent has been done."""
        if self._pending:
            self._until(lambda answer: not self._pending, "beats")

    def poll(self) -> None:
        """Take what has arrived, without waiting."""
        self._take(0.0)

    def _start(self, operation: int, channel: int, payload: bytes, beats: int = 0) -> _Request:
        assert len(payload) <= MAX_PAYLOAD
        content = bytes([self._sequence, operation << 4 | channel]) + payload
        one = _Request(self._sequence, frame(content), channel if operation == PUSH else None, beats)
        self._sequence = (self._sequence + 1) & 0xFF
        if one.channel is not None:
            self.rooms[one.channel] -= beats
        self._pending.append(one)
        self.counts["requests"] += 1
        self._write(one.data)
        return one

    def _write(self, data: bytes) -> None:
        self.counts["bytes_out"] += len(data)
        self.line.write(data)

    # Answers ----------------------------------------------------------------------------------------

    def _until(self, done: Callable[[Answer | None], bool], what: str) -> Answer | None:
        """Answers until ``done`` with one; sends again what may have been lost."""
        silent = vain = 0
        recovering, answers = False, [None]
        last = self._pending[-1] if self._pending else None      # the only one that may want a payload
        while not any(done(answer) for answer in answers):
            before, heard = len(self._pending), self.counts["bytes_in"]
            answers = self._take(self._patience())
            if len(self._pending) < before:
                silent, vain, recovering = 0, 0, False
                self.payload = min(MAX_PAYLOAD, self.payload + 4)
            elif not answers or (answers[-1].flags & (REFUSED | OVERRUN) and not recovering):
                silent = silent + 1 if self.counts["bytes_in"] == heard else 0
                vain += 1
                if silent > RETRIES or vain > NOISY_RETRIES:
                    raise BitkilnError("the board does not answer", where=self.line.name,
                                       got=f"{vain} requests in vain ({what})", expected="an answer",
                                       exit_code=FAILED, help="unplugged, or another baud rate? "
                                                                   "`bitkiln board info` asks it who it is")
                recovering = bool(answers)
                self._repeat(last)
        return next(answer for answer in answers if done(answer))

    def _repeat(self, last: _Request | None) -> None:
        """Send again what was not executed; or the last one, whose answer was lost."""
        self.payload = max(SHORTEST, self.payload // 2)
        for one in self._pending or [one for one in [last] if one is not None]:
            self.counts["repeated"] += 1
            self._write(one.data)

    def _patience(self) -> float:
        """Seconds until an answer must have begun: all that was sent, and one answer."""
        sent = sum(len(one.data) for one in self._pending) + LONGEST
        return sent * self.line.byte_seconds + self.line.latency

    def _take(self, seconds: float) -> list[Answer]:
        """The next answers that count; none where nothing came in time."""
        stop = self.line.now() + seconds
        while True:
            data = self.line.read(max(0.0, stop - self.line.now()))
            self.counts["bytes_in"] += len(data)
            before = self._reader.damaged
            answers = [answer for content in self._reader.feed(data) if (answer := self._accept(content)) is not None]
            self.counts["damaged"] += self._reader.damaged - before
            if answers or not data or self.line.now() >= stop:
                return answers

    def _accept(self, content: bytes) -> Answer | None:
        header = 3 + self._inputs + self._outputs
        if len(content) < header:
            return None
        rooms, waiting = content[3:3 + self._inputs], content[3 + self._inputs:header]
        answer = Answer(content[0], content[1], content[2], rooms, waiting, content[header:])
        if answer.flags & FRESH:
            raise BitkilnError("the board was reset", where=self.line.name, got="a board that knows no host",
                               expected="the one that was asked who it is", exit_code=FAILED,
                               help="a button, the power, or another bitstream? run again")
        done = (answer.next - (self._pending[0].sequence if self._pending else self._sequence)) & 0xFF
        if done > len(self._pending):
            return None              # of an earlier time
        for _ in range(done):
            self._pending.popleft()
        under_way = Counter()
        for one in self._pending:
            if one.channel is not None:
                under_way[one.channel] += one.beats
        self.rooms = [room - under_way[at] for at, room in enumerate(rooms)]
        self.waiting, self.irq = list(waiting), answer.irq
        if answer.flags & (REFUSED | OVERRUN):
            self.counts["refused"] += 1
        return answer

    # Beginning --------------------------------------------------------------------------------------

    def _connect(self) -> Identity:
        """Ask the board who it is. How many streams it has, and so where a payload begins, is in its answer."""
        silent = 0
        for attempt in range(INTRODUCTIONS):
            self._sequence = (0x40 + attempt) & 0xFF
            heard = False
            # A flag ends what a host before us may have left unfinished.
            self._write(bytes([FLAG]) + frame(bytes([self._sequence, IDENTIFY << 4])))
            stop = self.line.now() + LONGEST * self.line.byte_seconds + self.line.latency
            while (left := stop - self.line.now()) > 0:
                data = self.line.read(left)
                if not data:
                    break
                heard = True
                for content in self._reader.feed(data):
                    if content[0] == self._sequence and (identity := self._identity(content)) is not None:
                        return identity
            silent += not heard
            if silent >= RETRIES:
                break
        raise BitkilnError("no answer from a board", where=self.line.name, got=f"{attempt + 1} requests in vain",
                           expected="a bitkiln bitstream on the other end", exit_code=FAILED,
                           help="is it loaded, and is the baud rate the one of the bitstream?")

    def _identity(self, content: bytes) -> Identity | None:
        start = content.find(b"BTKN")
        if start < 0:
            if content[1] == (self._sequence + 1) & 0xFF and len(content) > 5:
                Identity.unpack(content[3:])          # another firmware: says so
            return None
        identity = Identity.unpack(content[start:])
        self._inputs, self._outputs = len(identity.link.inputs), len(identity.link.outputs)
        if start != identity.link.answer_header:
            return None
        self._sequence = (self._sequence + 1) & 0xFF
        self._accept(content)
        return identity

