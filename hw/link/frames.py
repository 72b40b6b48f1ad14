"""Frames on a line of bytes: transparency, CRC-32, and two buffers for requests (`models.design.link`)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.link import CRC_BYTES, ESCAPE, FLAG, HEADER, MAX_FRAME, TOGGLE

__all__ = ["CrcUnit", "FrameReceiver", "FrameSender"]

POLYNOMIAL = 0xEDB88320      # CRC-32 of IEEE 802.3, least significant bit first
RESIDUE = 0xDEBB20E3         # of a frame with its own CRC, before the final inversion
CRC_BITS = 8 * CRC_BYTES


class CrcUnit(wiring.Component):
    """CRC-32, a bit a cycle: a byte takes eight cycles, of which a serial line leaves ten times the divisor.

    Members
    -------
    clear : In(1)
        Wins over the others.
    data : In(8), strobe : In(1)
        A byte; only when not ``busy``.
    shift : In(1)
        Move the lowest byte out, in eight cycles too; only when not ``busy``.
    busy : Out(1)
    value : Out(32)
        Without the final inversion.
    """

    def __init__(self):
        super().__init__({"clear": In(1), "data": In(8), "strobe": In(1), "shift": In(1), "busy": Out(1),
                          "value": Out(CRC_BITS)})

    def elaborate(self, platform) -> Module:
        m = Module()
        value = Signal(CRC_BITS, init=(1 << CRC_BITS) - 1)
        bits, feed = Signal(8), Signal()
        left = Signal(range(9))
        m.d.comb += [self.value.eq(value), self.busy.eq(left != 0)]
        with m.If(self.busy):
            m.d.sync += [bits.eq(bits >> 1), left.eq(left - 1),
                         value.eq((value >> 1) ^ Mux((value[0] ^ bits[0]) & feed, POLYNOMIAL, 0))]
        with m.If(self.strobe | self.shift):
            m.d.sync += [bits.eq(self.data), left.eq(8), feed.eq(self.strobe)]
        with m.If(self.clear):
            m.d.sync += [value.eq(value.init), left.eq(0)]
        return m


class FrameReceiver(wiring.Component):
    """Whole frames with a right CRC, in one of two buffers; the line may fill one while the other is read.

    A frame that begins while both are taken is dropped, like one that is too long, too short, or damaged.

    Members
    -------
    data : In(8), strobe : In(1)
        Bytes of the line, at least 9 cycles apart.
    valid : Out(1)
        A frame can be read.
    length : Out(8)
        Its bytes, without the CRC.
    address : In(8)
        Of the byte that ``byte`` shows in the next cycle.
    byte : Out(8)
    done : In(1)
        The frame is not needed any more.
    """

    def __init__(self):
        super().__init__({"data": In(8), "strobe": In(1), "valid": Out(1), "length": Out(8), "address": In(8),
                          "byte": Out(8), "done": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.crc = crc = CrcUnit()
        m.submodules.buffer = buffer = Memory(shape=8, depth=2 * MAX_FRAME, init=[])
        write, read = buffer.write_port(), buffer.read_port()
        count = Signal(range(MAX_FRAME + 1))
        escaped, bad = Signal(), Signal(init=1)      # bad until the first flag
        filling, reading = Signal(), Signal()        # which buffer
        full = Signal(2)
        lengths = [Signal(8, name=f"length_{at}") for at in range(2)]

        plain, is_flag, is_escape = Signal(8), Signal(), Signal()
        m.d.comb += [
            plain.eq(self.data ^ Mux(escaped, TOGGLE, 0)),
            is_flag.eq(self.data == FLAG), is_escape.eq(self.data == ESCAPE),
            write.addr.eq(Cat(count[:8], filling)), write.data.eq(plain),
            read.addr.eq(Cat(self.address, reading)), self.byte.eq(read.data),
            self.valid.eq(full.bit_select(reading, 1)), self.length.eq(Mux(reading, *reversed(lengths))),
            crc.data.eq(plain), crc.clear.eq(self.strobe & is_flag),
        ]
        with m.If(self.done):
            m.d.sync += [full.bit_select(reading, 1).eq(0), reading.eq(~reading)]
        with m.If(self.strobe):
            with m.If(is_flag):
                m.d.sync += [count.eq(0), escaped.eq(0), bad.eq(0)]
                with m.If(~bad & ~escaped & (count >= HEADER + CRC_BYTES) & (crc.value == RESIDUE)):
                    m.d.sync += [full.bit_select(filling, 1).eq(1), filling.eq(~filling)]
                    with m.Switch(filling):
                        for at, length in enumerate(lengths):
                            with m.Case(at):
                                m.d.sync += length.eq(count - CRC_BYTES)
            with m.Elif(is_escape):
                m.d.sync += escaped.eq(1)
            with m.Else():
                m.d.sync += escaped.eq(0)
                with m.If(~bad):
                    m.d.comb += [write.en.eq(1), crc.strobe.eq(1)]
                    m.d.sync += count.eq(count + 1)
                with m.If((count == MAX_FRAME) | ((count == 0) & full.bit_select(filling, 1))):
                    m.d.comb += write.en.eq(0)
                    m.d.sync += bad.eq(1)
        return m


class FrameSender(wiring.Component):
    """Frames on a line of bytes, with flags, transparency and CRC.

    Members
    -------
    i : In(stream of {data: 8, last: 1})
        Bytes of a frame, at least one.
    o : Out(stream of 8)
        To the line.
    idle : Out(1)
        Nothing is under way (the last flag may still be on the line).
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(data.StructLayout({"data": 8, "last": 1}))),
                          "o": Out(stream.Signature(8)), "idle": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.crc = crc = CrcUnit()
        left = Signal(range(CRC_BYTES + 1))
        byte, special, sent = Signal(8), Signal(), Signal()
        escaped = Signal()                 # the escape of this byte has gone
        m.d.comb += [special.eq((byte == FLAG) | (byte == ESCAPE)), sent.eq(self.o.ready & (escaped | ~special)),
                     crc.data.eq(byte)]

        def send_byte() -> None:
            m.d.comb += self.o.payload.eq(Mux(special, Mux(escaped, byte ^ TOGGLE, ESCAPE), byte))
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += escaped.eq(special & ~escaped)

        with m.FSM():
            with m.State("idle"):
                m.d.comb += [self.idle.eq(~self.i.valid), crc.clear.eq(1), self.o.payload.eq(FLAG),
                             self.o.valid.eq(self.i.valid)]
                with m.If(self.i.valid & self.o.ready):
                    m.next = "bytes"
            with m.State("bytes"):
                m.d.comb += [byte.eq(self.i.payload.data), self.o.valid.eq(self.i.valid & ~crc.busy)]
                send_byte()
                with m.If(self.o.valid & sent):
                    m.d.comb += [self.i.ready.eq(1), crc.strobe.eq(1)]
                    with m.If(self.i.payload.last):
                        m.d.sync += left.eq(CRC_BYTES)
                        m.next = "crc"
            with m.State("crc"):
                m.d.comb += [byte.eq(~crc.value[:8]), self.o.valid.eq(~crc.busy)]
                send_byte()
                with m.If(self.o.valid & sent):
                    m.d.comb += crc.shift.eq(1)
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "flag"
            with m.State("flag"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "idle"
        return m
