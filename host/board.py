"""A core on a board, as the drivers see it: registers and streams over a `Link`.

>>> transport = BoardTransport(Link(SerialLine("/dev/ttyUSB0", 1_000_000)))
>>> Core(transport, design).matmul(a, w)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from bitkiln.models.design.link import (
    MAX_ACCESSES,
    PULL,
    READ,
    RESET,
    RESET_CORE,
    RESET_STREAMS,
    WRITE,
    Channel,
)
from bitkiln.models.errors import FAILED, BitkilnError

from .link import Link
from .transport import Transport

__all__ = ["BoardTransport", "PATIENCE"]

PATIENCE = 2.0        # seconds without a beat moving; then the core is called dead
RESULTS = "o"


class BoardTransport(Transport):
    """The transport of a core behind a link.

    Parameters
    ----------
    link : Link
    digest : str, optional
        Of the design that the board should hold.

    Raises
    ------
    BitkilnError
        The board holds another design.
    """

    def __init__(self, link: Link, digest: str | None = None):
        self.link, self.identity = link, link.identity
        if digest is not None and self.identity.digest != digest:
            raise BitkilnError("the board holds another design", where=link.line.name, got=self.identity.digest,
                               expected=digest, exit_code=FAILED,
                               help="load the bitstream of this design, or name the one that it was built from")
        streams = self.identity.link
        self._inputs = {each.name: at for at, each in enumerate(streams.inputs)}
        self._outputs = {each.name: at for at, each in enumerate(streams.outputs)}
        self._out: dict[str, deque[np.ndarray]] = {name: deque() for name in self._inputs}
        self._in: dict[str, list[np.ndarray]] = {name: [] for name in self._outputs}
        self.reset()

    # Registers --------------------------------------------------------------------------------------

    def read32(self, address: int) -> int:
        return self.read_many([address])[0]

    def write32(self, address: int, value: int) -> None:
        self.write_many([(address, value)])

    def read_many(self, addresses: Sequence[int]) -> list[int]:
        """Registers, in one request for each 40."""
        values: list[int] = []
        for first in range(0, len(addresses), MAX_ACCESSES):
            part = addresses[first:first + MAX_ACCESSES]
            answer = self.link.request(READ, payload=b"".join(address.to_bytes(2, "little") for address in part))
            self._check(answer[0], [f"read of {address:#05x}" for address in part])
            values += np.frombuffer(answer[1:], "<u4").tolist()
        return values

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        for first in range(0, len(writes), MAX_ACCESSES):
            part = writes[first:first + MAX_ACCESSES]
            answer = self.link.request(WRITE, payload=b"".join(
                address.to_bytes(2, "little") + (value & 0xFFFFFFFF).to_bytes(4, "little") for address, value in part))
            self._check(answer[0], [f"write to {address:#05x}" for address, _ in part])

    @staticmethod
    def _check(status: int, places: list[str]) -> None:
        done, response = status & 63, status >> 6
        if response or done != len(places):
            raise BitkilnError("the core answers with an error", where=places[min(done, len(places) - 1)], got=response,
                               expected="0", exit_code=FAILED)

    # Time and streams -------------------------------------------------------------------------------

    def wait(self) -> bool:
        self.pump()
        self._look()
        return self.link.irq

    def pump(self) -> bool:
        """Send what there is room for and take what waits, by the last answer; whether a beat moved."""
        moved = self._pull()
        pushing = True
        while pushing:
            pushing = False
            for name, at in self._inputs.items():
                pushing = self._push(name, at) or pushing
            moved = moved or pushing
        return moved

    def left(self, stream: str) -> int:
        """Beats of an input that the core has not taken, as far as the last answer told."""
        at = self._channel(self._inputs, stream)
        channel = self.identity.link.inputs[at]
        return sum(map(len, self._out[stream])) + channel.depth - 1 - self.link.rooms[at]

    def _look(self) -> None:
        self.link.request(READ)          # asks for nothing: its answer says what waits and what there is room for

    def send(self, stream: str, beats: np.ndarray) -> None:
        channel = self._channel(self._inputs, stream)
        width = self.identity.link.inputs[channel].bytes
        beats = np.ascontiguousarray(beats, np.uint8)
        if beats.ndim != 2 or beats.shape[1] != width:
            raise BitkilnError("wrong beats", where=f"stream {stream}", got=beats.shape, expected=f"(beats, {width})")
        if len(beats):
            self._out[stream].append(beats)
        self.link.poll()
        self.pump()

    def receive(self, count: int, stream: str = RESULTS) -> np.ndarray:
        channel = self._channel(self._outputs, stream)
        line = self.link.line
        still = None        # when an answer first said that all beats are where they were: repetitions take their time
        while sum(map(len, self._in[stream])) < count:
            if self.pump():
                still = None
                continue
            if still is not None and line.now() > still + PATIENCE:
                raise self.stuck(sum(map(len, self._in[stream])), f"{count} beats")
            rooms = list(self.link.rooms)
            self._look()
            if still is None or self.link.rooms != rooms:
                still = line.now()
        beats = np.concatenate(self._in[stream]) if self._in[stream] else np.zeros(
            (0, self.identity.link.outputs[channel].bytes), np.uint8)
        self._in[stream] = [beats[count:]] if len(beats) > count else []
        return beats[:count]

    def stuck(self, got: int, expected: str) -> BitkilnError:
        """The error of a core from which results do not come."""
        return BitkilnError("results do not come", where=self.link.line.name, got=got, expected=expected,
                            exit_code=FAILED, help="beats not taken: " + ", ".join(
                                f"{name} {self.left(name)}" for name in self._inputs))

    def arrived(self, stream: str = RESULTS) -> int:
        """Beats of an output that can be taken, after a look at the board."""
        self._channel(self._outputs, stream)
        self.pump()
        return sum(map(len, self._in[stream]))

    def flush(self) -> None:
        self._forget()
        self.link.request(RESET, payload=bytes([RESET_STREAMS]))

    def reset(self) -> None:
        """Reset the core and forget all beats."""
        self._forget()
        self.link.request(RESET, payload=bytes([RESET_STREAMS | RESET_CORE]))

    def _forget(self) -> None:
        for parts in self._out.values():
            parts.clear()
        for parts in self._in.values():
            parts.clear()

    def _push(self, name: str, at: int) -> bool:
        parts, channel = self._out[name], self.identity.link.inputs[at]
        if not parts:
            return False
        most = min(sum(map(len, parts)), self._beats(channel))
        count = min(most, self.link.rooms[at])
        # A few beats cost a whole frame: wait until the core has taken more.
        if count <= 0 or count < min(most, channel.depth // 2):
            return False
        self.link.push(at, _first(parts, count), count)
        return True

    def _beats(self, channel: Channel) -> int:
        """Beats in a frame."""
        return max(1, min(channel.beats, (self.link.payload - 1) // channel.bytes))

    def _pull(self) -> bool:
        moved = False
        for name, at in self._outputs.items():
            channel = self.identity.link.outputs[at]
            while self.link.waiting[at]:
                answer = self.link.request(PULL, at, bytes([min(self._beats(channel), self.link.waiting[at])]))
                if not answer[0]:
                    break
                self._in[name].append(np.frombuffer(answer[1:], np.uint8).reshape(answer[0], channel.bytes))
                moved = True
        return moved

    @staticmethod
    def _channel(known: dict[str, int], name: str) -> int:
        if name not in known:
            raise BitkilnError("no such stream", where="link", got=name, expected=" or ".join(known), exit_code=FAILED)
        return known[name]


def _first(parts: deque[np.ndarray], count: int) -> bytes:
    """The first beats of several arrays, which are then without them."""
    data = b""
    while count:
        taken = parts[0][:count]
        data += taken.tobytes()
        count -= len(taken)
        parts[0] = parts[0][len(taken):]
        if not len(parts[0]):
            parts.popleft()
    return data
