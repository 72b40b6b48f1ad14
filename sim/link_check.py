# amaranth: UnusedElaboratable=no
"""The link against a reference of its own: the same bytes in, the same bytes out.

The reference is the text of `models.design.link` in plain Python; the hardware is a `Link` around a core that is as
small as can be: four registers, and streams that come back.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.host.link import LONGEST, FrameReader, frame
from bitkiln.hw.bus.axilite import RegisterFile
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.link.bridge import Link
from bitkiln.models.design import link as wire
from bitkiln.models.design.link import Channel, Identity, LinkDesign
from bitkiln.models.design.registers import Field, Register, RegisterMap

from .board_run import BoardModel

__all__ = ["EchoBoard", "LinkResult", "ReferenceBoard", "check_link", "check_reset", "check_stalls",
           "echo_identity", "echo_model"]

OKAY, SLVERR = 0, 2
REGISTERS = RegisterMap("echo", tuple(
    Register(f"R{at}", 4 * at, (Field("value", 0, 32, "rw" if at < 3 else "ro", "a word", constant=None if at < 3
                                      else 0x12345678),), "A word.") for at in range(4)))
SLACK = 3000          # cycles that the longest request takes to be done


def echo_identity(divisor: int = 8, widths: tuple[int, ...] = (4, 3)) -> Identity:
    """Of an echo with streams of so many bytes."""
    names = "awcdefgh"
    link = LinkDesign(tuple(Channel(names[at], width) for at, width in enumerate(widths)),
                      tuple(Channel(names[at], width) for at, width in enumerate(widths)))
    return Identity("echo", "0123456789ab", 8_000_000, divisor, link)


class EchoBoard(wiring.Component):
    """Registers, and every input led to the output of its number.

    Members
    -------
    rx : In(1), tx : Out(1), answering, busy : Out(1)
    """

    def __init__(self, identity: Identity):
        self.identity = identity
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "answering": Out(1), "busy": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.link = link = Link(self.identity)
        m.submodules.registers = registers = RegisterFile(REGISTERS)
        wiring.connect(m, link.axil, registers.bus)
        for into, out in zip(self.identity.link.inputs, self.identity.link.outputs, strict=True):
            source, target = getattr(link, f"i_{into.name}"), getattr(link, f"o_{out.name}")
            m.d.comb += [target.payload.eq(source.payload), target.valid.eq(source.valid),
                         source.ready.eq(target.ready)]
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.answering.eq(link.answering),
                     link.irq.eq(registers.r0[0]), self.busy.eq(link.reset_core)]
        return m


@functools.lru_cache(maxsize=8)
def _verilog(identity: Identity) -> str:
    return to_verilog(EchoBoard(identity), "echo_board")


def echo_model(identity: Identity, **options) -> BoardModel:
    """A simulated echo."""
    return BoardModel.from_verilog(_verilog(identity), "echo_board", identity, **options)


class ReferenceBoard:
    """What the board has to say, frame by frame.

    Between two requests all beats that came in have gone to their outputs, as far as those have room.
    """

    def __init__(self, identity: Identity):
        self.identity, self.design = identity, identity.link
        self.expected, self.fresh = 0, True
        self.registers = [0, 0, 0, 0x12345678]
        self.reply = b""
        self.inside: list[deque[bytes]] = [deque() for _ in self.design.inputs]
        self.outside: list[deque[bytes]] = [deque() for _ in self.design.outputs]

    def answer(self, content: bytes) -> bytes | None:
        """The content of the answer to a frame's content; None for none."""
        if len(content) < wire.HEADER or len(content) > wire.MAX_FRAME - wire.CRC_BYTES:
            return None
        sequence, operation, channel = content[0], content[1] >> 4, content[1] & 15
        payload, flags = content[wire.HEADER:], 0
        if (sequence == self.expected and not self.fresh) or operation == wire.IDENTIFY:
            before, self.expected, self.reply = self.expected, (sequence + 1) & 0xFF, b""
            if operation == wire.IDENTIFY:
                self.reply, self.fresh = self.identity.pack(), False
            elif operation in (wire.READ, wire.WRITE):
                self.reply = self._access(operation == wire.WRITE, payload)
            elif operation == wire.PUSH:
                if not self._push(channel, payload):
                    self.expected, flags = before, wire.OVERRUN
            elif operation == wire.PULL:
                self.reply = self._pull(channel, payload[0])
            elif operation == wire.RESET and payload[0] & (wire.RESET_STREAMS | wire.RESET_CORE):
                for queue in (*self.inside, *self.outside):
                    queue.clear()
        elif (sequence + 1) & 0xFF != self.expected or self.fresh:
            flags = wire.REFUSED
        self._move()
        flags |= wire.IRQ * (self.registers[0] & 1) | wire.FRESH * self.fresh
        rooms = bytes(each.depth - 1 - len(queue) for each, queue in
                      zip(self.design.inputs, self.inside, strict=True))
        waiting = bytes(len(queue) for queue in self.outside)
        payload = b"" if flags & wire.REFUSED else self.reply
        return bytes([sequence, self.expected, flags]) + rooms + waiting + payload

    def _access(self, write: bool, payload: bytes) -> bytes:
        size, done, response, values = 6 if write else 2, 0, OKAY, b""
        for at in range(0, len(payload) - size + 1, size):
            index = (int.from_bytes(payload[at:at + 2], "little") & 0xFFF) // 4
            if index >= len(self.registers) or (write and index == 3):
                response = SLVERR
                break
            if write:
                self.registers[index] = int.from_bytes(payload[at + 2:at + 6], "little")
            else:
                values += self.registers[index].to_bytes(4, "little")
            done += 1
        return bytes([done | response << 6]) + values

    def _push(self, channel: int, payload: bytes) -> bool:
        each, queue = self.design.inputs[channel], self.inside[channel]
        if payload[0] > each.depth - 1 - len(queue):
            return False
        data = payload[1:]
        queue += [data[at:at + each.bytes] for at in range(0, len(data) - each.bytes + 1, each.bytes)]
        return True

    def _pull(self, channel: int, wanted: int) -> bytes:
        found = []
        while self.outside[channel] and len(found) < wanted:
            found.append(self.outside[channel].popleft())
        return bytes([len(found)]) + b"".join(found)

    def _move(self) -> None:
        """From each input to its output, which holds as many beats; the link's queues have two places each."""
        for each, into, out in zip(self.design.outputs, self.inside, self.outside, strict=True):
            while into and len(out) < each.depth - 1:
                out.append(into.popleft())


@dataclass(frozen=True)
class LinkResult:
    """Frames sent and answers compared; the first difference."""

    frames: int
    answers: int
    mismatches: int
    first: str | None


def _request(board: ReferenceBoard, rng: np.random.Generator) -> bytes:
    """A request as a host might send it: often legal, often not."""
    design = board.design
    kind = rng.integers(0, 20)
    sequence = board.expected if kind < 15 else (board.expected + int(rng.choice([-2, -1, -1, 1, 200]))) & 0xFF
    operation = int(rng.choice([wire.READ, wire.WRITE, wire.PUSH, wire.PUSH, wire.PULL, wire.PULL, wire.RESET,
                                wire.IDENTIFY, 6, 15], p=[.2, .2, .2, .05, .1, .1, .03, .04, .04, .04]))
    channel = int(rng.integers(0, len(design.inputs)))
    payload = b""
    if operation in (wire.READ, wire.WRITE):
        for _ in range(int(rng.integers(0, 8))):
            address = int(rng.choice([0, 4, 8, 12, 16, 1024], p=[.24, .24, .24, .1, .1, .08]))
            payload += address.to_bytes(2, "little")
            payload += rng.bytes(4) if operation == wire.WRITE else b""
    elif operation == wire.PUSH:
        each = design.inputs[channel]
        count = int(rng.integers(0, each.beats + 1))
        data = rng.bytes(count * each.bytes) if rng.random() < .7 else bytes(
            rng.choice([wire.FLAG, wire.ESCAPE, 0x5D, 0x5E], count * each.bytes).tolist())
        payload = bytes([count]) + data
    elif operation == wire.PULL:
        payload = bytes([int(rng.integers(0, design.outputs[channel].beats + 1))])
    elif operation == wire.RESET:
        payload = bytes([int(rng.integers(0, 4))])
    return bytes([sequence, operation << 4 | channel]) + payload


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A frame that must not be taken for one."""
    at = int(rng.integers(1, len(data) - 1))
    kind = rng.integers(0, 3)
    if kind == 0:
        return data[:at] + data[at + 1:]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(0, 8))]) + data[at + 1:]
    return data[:at] + data[at:at + 1] + data[at:]


def check_link(model: BoardModel, *, seed: int = 0, frames: int = 400) -> LinkResult:
    """Random requests, whole and damaged, one after the other; every answer against the reference.

    Parameters
    ----------
    model : BoardModel
        Of an `EchoBoard`.
    """
    rng = np.random.default_rng(seed)
    board, reader, other = ReferenceBoard(model.identity), FrameReader(), FrameReader()
    answers = wrong = 0
    first = None
    model.write(bytes([wire.FLAG]))
    for number in range(frames):
        content = _request(board, rng)
        data = frame(content)
        if rng.random() < .15:
            data = _damaged(data, rng)
        # What a receiver has to make of the bytes, damaged or not: FrameReader, which has tests of its own.
        wanted = [answer for each in other.feed(data) if (answer := board.answer(each)) is not None]
        model.write(data)
        got = _answers(model, reader, max(1, len(wanted)), len(data) + 8)
        answers += len(wanted)
        if got != wanted:
            wrong += 1
            if first is None:
                first = (f"frame {number}, {content.hex()}: got {[each.hex() for each in got]}, "
                         f"expected {[each.hex() for each in wanted]}")
            break                    # from here on the two are of different minds
    return LinkResult(frames, answers, wrong, first)


def _answers(model: BoardModel, reader: FrameReader, count: int, sent: int) -> list[bytes]:
    """``count`` answers to so many bytes, or what came of them before the board fell silent or talked on and on."""
    byte, found = 11 * model.identity.divisor, []
    stop = model.cycles + (2 * sent + count * LONGEST) * byte + SLACK
    while len(found) < count and model.cycles < stop and (part := model.wait(2 * sent * byte + SLACK)):
        found += reader.feed(part)
    return found


def _exchange(model: BoardModel, *contents: bytes) -> list[bytes]:
    """Answers to requests that follow each other at once."""
    for content in contents:
        model.write(frame(content))
    return _answers(model, FrameReader(), len(contents), sum(len(content) + 8 for content in contents))


def check_stalls(model: BoardModel) -> bool:
    """Beats as far as there is room on both sides, more than there is room for, and all of them back in order."""
    board, number, wrong = ReferenceBoard(model.identity), 0, 0
    rng = np.random.default_rng(5)

    def ask(operation: int, channel: int = 0, payload: bytes = b"") -> bytes:
        nonlocal number, wrong
        content = bytes([number & 0xFF, operation << 4 | channel]) + payload
        wanted = board.answer(content)
        wrong += _exchange(model, content) != [wanted]
        number = board.expected
        return wanted

    ask(wire.IDENTIFY)
    for channel, each in enumerate(model.identity.link.inputs):
        for count in [each.beats] * (2 * each.depth // each.beats + 2) + [1] * 3:
            if wrong:
                return False
            ask(wire.PUSH, channel, bytes([count]) + rng.bytes(count * each.bytes))
        while ask(wire.PULL, channel, bytes([each.beats - 1]))[3 + 2 * len(model.identity.link.inputs)]:
            if wrong:
                return False
    return not wrong


def check_reset(model: BoardModel) -> bool:
    """A reset of the board is told, refuses all but the question who this is, and loses no answer after it."""
    first = [bytes([9, wire.IDENTIFY << 4]), bytes([10, wire.WRITE << 4, 4, 0, 1, 2, 3, 4])]
    if len(_exchange(model, *first)) != 2:
        return False
    model.reset()
    read = bytes([0, wire.READ << 4, 4, 0])
    refused = _exchange(model, read)
    if len(refused) != 1 or refused[0][2] & (wire.FRESH | wire.REFUSED) != wire.FRESH | wire.REFUSED:
        return False
    known, answer = [*_exchange(model, bytes([0xFF, wire.IDENTIFY << 4]), read), b"", b""][:2]
    return known[:2] == b"\xff\0" and answer[:2] == b"\0\x01" and answer[-5:] == bytes([1, 0, 0, 0, 0])
