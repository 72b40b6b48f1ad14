"""A board in plain Python at the end of a line, for the host's side."""

from bitkiln.host.line import Line
from bitkiln.host.link import FrameReader, frame
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.sim.link_check import ReferenceBoard, echo_identity


class ReferenceLine(Line):
    """Answers at once; time passes only while somebody waits in vain."""

    name, byte_seconds, latency = "reference", 1e-5, 1e-4

    def __init__(self, board=None, unplug_after: int | None = None):
        self.board = board or ReferenceBoard(echo_identity(8, (4, 3)))
        self.reader, self.inbox, self.time = FrameReader(), b"", 0.0
        self.requests, self.unplug_after, self.closed = 0, unplug_after, False

    def write(self, data: bytes) -> None:
        self._check()
        for content in self.reader.feed(data):
            self.requests += 1
            answer = self.board.answer(content)
            if answer is not None:
                self.inbox += frame(answer)

    def read(self, seconds: float) -> bytes:
        self._check()
        data, self.inbox = self.inbox, b""
        if not data:
            self.time += seconds + 1e-6
        return data

    def now(self) -> float:
        return self.time

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.unplug_after is not None and self.requests >= self.unplug_after:
            raise BitkilnError("the board is gone", where=self.name, got="unplugged", exit_code=FAILED)
