"""The link between a host and a core on a board: frames on a serial line, and what they ask for.

One byte is 8 data bits, no parity, one stop bit. A frame is the bytes between two flags::

    7E  sequence  operation  payload ...  CRC-32 (4 bytes, little-endian)  7E

Inside a frame 7E and 7D are sent as 7D and the byte with bit 5 inverted (the transparency of RFC 1662, section 4.2);
the CRC is that of Ethernet over everything before it. A frame with a wrong CRC is dropped.

Requests go to the board, each with the next sequence number (modulo 256). The board executes a request when its number
is the expected one, and then expects the next; it answers every whole frame::

    7E  sequence  next  flags  room of each input  waiting of each output  payload ...  CRC-32  7E

``sequence`` is that of the request, ``next`` the number expected now: all before it has been executed, so an answer
that is lost costs nothing but time. The request before ``next`` is answered again, without being executed again; any
other number is answered with `REFUSED`, as is all before the first `IDENTIFY` after a reset. So the host may send
what needs no answer (`PUSH`) ahead, and what does need one after that.

``room`` is the number of beats that an input can take, ``waiting`` the number that an output holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import FAILED, BitkilnError
from .checks import check_integer

__all__ = ["BUFFER_BYTES", "CRC_BYTES", "Channel", "ESCAPE", "FLAG", "FRESH", "HEADER", "IDENTIFY", "IRQ", "Identity",
           "LinkDesign", "MAX_ACCESSES", "MAX_FRAME", "MAX_PAYLOAD", "MIN_DIVISOR", "OVERRUN", "PROTOCOL",
           "PULL", "PUSH", "READ", "REFUSED", "RESET", "RESET_CORE", "RESET_STREAMS", "TOGGLE", "WRITE", "baud_error",
           "divisor_of"]

PROTOCOL = (1, 0)      # major: a host of another one must refuse; minor: only additions

FLAG, ESCAPE, TOGGLE = 0x7E, 0x7D, 0x20
CRC_BYTES = 4
HEADER = 2             # sequence and operation
MAX_FRAME = 256        # header, payload and CRC
MAX_PAYLOAD = MAX_FRAME - HEADER - CRC_BYTES
MAX_ACCESSES = 40      # register accesses in one request

# Operations, in the upper half of the byte; the lower half is a channel.
IDENTIFY = 0           # -> identity; the next sequence number is taken from this request
READ = 1               # 16-bit addresses -> status, then 32 bits for each access that went well
WRITE = 2              # 16-bit address and 32 bits, ... -> status
PUSH = 3               # number of beats, then beats for an input
PULL = 4               # number of beats -> number, then beats of an output
RESET = 5              # what to reset; a reset of the core empties the streams too

RESET_STREAMS, RESET_CORE = 1, 2
# A status: accesses that went well, and in bits 7:6 the AXI response of the first that did not.
# Flags of an answer.
IRQ, REFUSED = 1, 2
OVERRUN = 4            # beats without room; not executed
FRESH = 8              # nobody has asked who this is since the reset: all else is refused

MAGIC = b"BTKN"
BOARD_BYTES = 12
DIGEST_BYTES = 6
FIXED_BYTES = 4 + 2 + 4 + 2 + DIGEST_BYTES + BOARD_BYTES + 1
MAX_CHANNELS = 15
BUFFER_BYTES = 1024    # of each stream: two block RAMs of an iCE40 with 32-bit beats


@dataclass(frozen=True)
class Channel:
    """A stream behind the link.

    Attributes
    ----------
    name : str
        One ASCII character.
    bytes : int
        Of a beat, 1 to 128; little-endian.
    """

    name: str
    bytes: int

    def __post_init__(self):
        if len(self.name) != 1 or not self.name.isascii():
            raise BitkilnError("illegal name of a stream", where="link", got=self.name, expected="one ASCII character")
        check_integer(self.bytes, f"link.{self.name}", 1, MAX_PAYLOAD // 2)

    @property
    def beats(self) -> int:
        """Most beats in one frame."""
        return (MAX_PAYLOAD - 1) // self.bytes

    @property
    def depth(self) -> int:
        """Words of the queue on the board, a power of two; it holds one beat less."""
        return max(8, min(256, 1 << (BUFFER_BYTES // self.bytes).bit_length() - 1))


@dataclass(frozen=True)
class LinkDesign:
    """Streams that a link reaches; registers of 32 bits it reaches always.

    Attributes
    ----------
    inputs, outputs : tuple of Channel
        As seen from the core.
    """

    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]

    def __post_init__(self):
        for where, channels in (("link.inputs", self.inputs), ("link.outputs", self.outputs)):
            check_integer(len(channels), where, 1, MAX_CHANNELS)

    @property
    def answer_header(self) -> int:
        """Bytes of an answer before its payload."""
        return 3 + len(self.inputs) + len(self.outputs)


@dataclass(frozen=True)
class Identity:
    """What a board says of itself: protocol, clock, what it was built from, its streams.

    Attributes
    ----------
    board : str
        At most 12 ASCII characters.
    digest : str
        12 hex digits of the design (`config.Resolved.digest`).
    clock_hz : int
    divisor : int
        Clock cycles of a bit.
    link : LinkDesign
    protocol : (int, int)
        Major and minor number.
    """

    board: str
    digest: str
    clock_hz: int
    divisor: int
    link: LinkDesign
    protocol: tuple[int, int] = PROTOCOL

    def __post_init__(self):
        if not self.board.isascii() or not 1 <= len(self.board) <= BOARD_BYTES:
            raise BitkilnError("illegal name of a board", where="board", got=self.board,
                               expected=f"1 to {BOARD_BYTES} ASCII characters")
        check_integer(self.divisor, "divisor", MIN_DIVISOR, 65535)
        if not re.fullmatch(r"[0-9a-f]{12}", self.digest):
            raise BitkilnError("illegal digest", where="digest", got=self.digest, expected="12 hex digits")

    def pack(self) -> bytes:
        """The answer to `IDENTIFY`."""
        link = self.link
        counts = len(link.inputs) | len(link.outputs) << 4
        return (MAGIC + bytes(self.protocol) + self.clock_hz.to_bytes(4, "little")
                + self.divisor.to_bytes(2, "little") + bytes.fromhex(self.digest)
                + self.board.encode().ljust(BOARD_BYTES, b"\0") + bytes([counts])
                + b"".join(each.name.encode() + bytes([each.bytes]) for each in (*link.inputs, *link.outputs)))

    @classmethod
    def unpack(cls, data: bytes) -> Identity:
        """What `pack` made.

        Raises
        ------
        BitkilnError
            The bytes are none of ours, or of another major protocol.
        """
        if data[:4] != MAGIC or len(data) < FIXED_BYTES or len(data) < FIXED_BYTES + 2 * (
                (data[FIXED_BYTES - 1] & 15) + (data[FIXED_BYTES - 1] >> 4)):
            raise BitkilnError("not a bitkiln board", where="identity", got=data[:8].hex() or "no bytes",
                               expected=f"{MAGIC.hex()}...", exit_code=FAILED,
                               help="is the bitstream loaded? `bitkiln bitstream` makes it")
        protocol = data[4], data[5]
        if protocol[0] != PROTOCOL[0]:
            raise BitkilnError("wrong firmware version", where="link protocol", got=f"{protocol[0]}.{protocol[1]}",
                               expected=f"{PROTOCOL[0]}.x", help="load a bitstream made by this version of bitkiln",
                               exit_code=FAILED)
        counts = data[FIXED_BYTES - 1]
        tail = data[FIXED_BYTES:]
        inputs, outputs = counts & 15, counts >> 4
        channels = [Channel(chr(tail[2 * at]), tail[2 * at + 1]) for at in range(inputs + outputs)]
        link = LinkDesign(tuple(channels[:inputs]), tuple(channels[inputs:]))
        board = data[12 + DIGEST_BYTES:12 + DIGEST_BYTES + BOARD_BYTES].rstrip(b"\0").decode("ascii", "replace")
        return cls(board, data[12:12 + DIGEST_BYTES].hex(), int.from_bytes(data[6:10], "little"),
                   int.from_bytes(data[10:12], "little"), link, protocol)


MIN_DIVISOR = 5                # four samples of a bit leave nothing for a clock that is a little off
MAX_BAUD_ERROR = 0.02          # of the ten bits of a byte half a bit may be lost, on both sides together


def baud_error(clock_hz: float, baud: int, divisor: int) -> float:
    """Relative error of the bit rate."""
    return clock_hz / divisor / baud - 1


def divisor_of(clock_hz: float, baud: int) -> int:
    """Clock cycles of a bit.

    Raises
    ------
    BitkilnError
        The clock is too slow, or gives a rate more than 2 % off.
    """
    check_integer(baud, "baud", 300, 12_000_000)
    divisor = max(1, round(clock_hz / baud))
    wrong = baud_error(clock_hz, baud, divisor)
    if divisor < MIN_DIVISOR or abs(wrong) > MAX_BAUD_ERROR:
        best = max(MIN_DIVISOR, divisor)
        raise BitkilnError("the clock does not make this bit rate", where="baud", got=baud,
                           expected=f"for example {round(clock_hz / best)} or less of {clock_hz / 1e6:g} MHz",
                           help=f"{clock_hz / 1e6:g} MHz / {divisor} is {wrong:+.1%} off")
    return divisor
