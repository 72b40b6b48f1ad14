"""Lines of bytes to a board: what `Link` needs of one, a serial port, and a line with noise."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod

import numpy as np

from bitkiln.models.errors import FAILED, MISSING_TOOL, BitkilnError, nearest

__all__ = ["Line", "NoisyLine", "SerialLine", "serial_ports"]


class Line(ABC):
    """Bytes out and bytes in.

    Attributes
    ----------
    name : str
        For messages.
    byte_seconds : float
        Of one byte on the line.
    latency : float
        Seconds that an answer may take beside those of its bytes.
    """

    name: str
    byte_seconds: float
    latency: float

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send; raises BitkilnError where the line is gone."""

    @abstractmethod
    def read(self, seconds: float) -> bytes:
        """What has arrived, at once; nothing after so many seconds without a byte."""

    @abstractmethod
    def now(self) -> float:
        """Seconds, by the line's clock."""

    def close(self) -> None:  # noqa: B027
        """Let the line go."""


def serial_ports() -> list[str]:
    """Serial ports of this machine."""
    from serial.tools import list_ports

    return sorted(port.device for port in list_ports.comports())


class SerialLine(Line):
    """A serial port, by pyserial.

    Parameters
    ----------
    port : str
        Device name, or a URL of pyserial (``socket://host:1234``, ``loop://``).
    baud : int

    Raises
    ------
    BitkilnError
        Exit code 3 without pyserial, 2 where the port does not exist or is taken.
    """

    # A USB bridge waits up to 16 ms before it hands on a few bytes.
    latency = 0.05

    def __init__(self, port: str, baud: int):
        try:
            import serial
        except ImportError:
            raise BitkilnError("missing package", where="serial port", got="no pyserial",
                               help="pip install 'bitkiln[boards]'", exit_code=MISSING_TOOL) from None
        self.name, self.byte_seconds, self._error = port, 10 / baud, serial.SerialException
        try:
            alone = {} if "://" in port else {"exclusive": True}
            self._port = serial.serial_for_url(port, baudrate=baud, timeout=0, **alone)
            with contextlib.suppress(Exception):
                self._port.set_low_latency_mode(True)      # Linux, some drivers: 1 ms instead of 16 before a USB packet
        except (OSError, ValueError) as error:
            found = serial_ports()
            known = f"one of {', '.join(found)}" if found else "a serial port; this machine shows none"
            reason = "no such port" if getattr(error, "errno", None) == 2 or "No such file" in str(error) else \
                "cannot open the port"
            raise BitkilnError(reason, where="--port", got=port, expected=known,
                               help=nearest(port, found) if found else "is the board plugged in?") from None

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (OSError, TypeError) as error:        # TypeError: pyserial's own, of a port closed under it
            raise self._gone(error) from None

    def read(self, seconds: float) -> bytes:
        try:
            self._port.timeout = seconds
            first = self._port.read(1)
            return first + self._port.read(self._port.in_waiting) if first else b""
        except (OSError, TypeError) as error:
            raise self._gone(error) from None

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._port.close()

    def _gone(self, error: Exception) -> BitkilnError:
        return BitkilnError("the board is gone", where=self.name, got=" ".join(str(error).split())[:80],
                            expected="a port that stays", help="unplugged? plug it in and run again", exit_code=FAILED)


class NoisyLine(Line):
    """Another line with bytes that get lost, come twice, or change a bit, in both directions.

    Parameters
    ----------
    line : Line
    seed : int
    drop, repeat, corrupt : float
        Probabilities for each byte.

    Attributes
    ----------
    injected : dict of str to int
        What was done so far.
    """

    def __init__(self, line: Line, seed: int, *, drop: float = 0.0, repeat: float = 0.0, corrupt: float = 0.0):
        self.line, self.name = line, line.name
        self.byte_seconds, self.latency = line.byte_seconds, line.latency
        self._random = np.random.default_rng(seed)
        self._limits = np.cumsum([drop, repeat, corrupt])
        self.injected = {"dropped": 0, "repeated": 0, "corrupted": 0}

    def _disturb(self, data: bytes) -> bytes:
        kinds = np.searchsorted(self._limits, self._random.random(len(data)), side="right")
        flips = self._random.integers(0, 8, len(data))
        out = bytearray()
        for byte, kind, flip in zip(data, kinds, flips, strict=True):
            if kind < 3:
                self.injected[tuple(self.injected)[kind]] += 1
            out += (b"", bytes([byte, byte]), bytes([byte ^ 1 << int(flip)]), bytes([byte]))[kind]
        return bytes(out)

    def write(self, data: bytes) -> None:
        self.line.write(self._disturb(data))

    def read(self, seconds: float) -> bytes:
        stop = self.line.now() + seconds
        while data := self.line.read(max(0.0, stop - self.line.now())):
            if left := self._disturb(data):      # else all of it got lost: nothing has arrived
                return left
        return b""

    def now(self) -> float:
        return self.line.now()

    def close(self) -> None:
        self.line.close()
