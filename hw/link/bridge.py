"""Requests in, answers out: what a frame asks for is done on registers and streams (`models.design.link`).

::

    rx ─► UartReceiver ─► FrameReceiver ─► [sequence?] ─► registers  ◄─► axil
                                              │    ├────► queue ─► i_<name>
    tx ◄─ UartSender ◄── FrameSender ◄── answer◄───┴───── queue ◄─ o_<name>

A byte takes the line ten times the divisor, so the bridge takes its time over each: one state machine, one byte in two
cycles, one shift register for everything that is wider than a byte.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.link import (
    IDENTIFY,
    MAX_FRAME,
    PULL,
    PUSH,
    READ,
    RESET,
    RESET_CORE,
    RESET_STREAMS,
    WRITE,
    Identity,
)

from ..bus.axilite import AxiLite
from .frames import FrameReceiver, FrameSender
from .queue import BlockQueue
from .uart import UartReceiver, UartSender

__all__ = ["Link"]

ADDRESS_BYTES, DATA_BYTES = 2, 4
RESET_CYCLES = 16          # of the core


def _byte(value: Value, missing: Value) -> Value:
    """The byte of a value with so many bytes left, its own included."""
    count = len(value) // 8
    return value.word_select((count - missing)[:max(1, (count - 1).bit_length())], 8)


class Link(wiring.Component):
    """The board's end of the link.

    Parameters
    ----------
    identity : Identity

    Members
    -------
    rx : In(1), tx : Out(1)
    axil : Out(AxiLite)
    i_<name> : Out(stream of 8 * bytes), o_<name> : In(stream of 8 * bytes)
        To and from the core.
    irq : In(1)
    reset_core : Out(1)
        High for 16 cycles.
    answering : Out(1)
        An answer is on its way (for a light).
    """

    def __init__(self, identity: Identity):
        self.identity, self.design = identity, identity.link
        link = self.design
        super().__init__({
            "rx": In(1), "tx": Out(1, init=1), "irq": In(1), "reset_core": Out(1), "answering": Out(1),
            "axil": Out(AxiLite()),
            **{f"i_{each.name}": Out(stream.Signature(8 * each.bytes)) for each in link.inputs},
            **{f"o_{each.name}": In(stream.Signature(8 * each.bytes)) for each in link.outputs}})

    def elaborate(self, platform) -> Module:
        m = Module()
        divisor = self.identity.divisor
        m.submodules.uart_rx = uart_rx = UartReceiver(divisor)
        m.submodules.uart_tx = uart_tx = UartSender(divisor)
        m.submodules.receiver = self.receiver = receiver = FrameReceiver()
        m.submodules.sender = self.sender = sender = FrameSender()
        m.d.comb += [uart_rx.rx.eq(self.rx), self.tx.eq(uart_tx.tx), receiver.data.eq(uart_rx.data),
                     receiver.strobe.eq(uart_rx.strobe)]
        wiring.connect(m, sender.o, uart_tx.i)
        # What is to be answered; in the upper half, never written, who this is.
        m.submodules.reply = self.reply = reply = Memory(
            shape=8, depth=2 * MAX_FRAME, init=[0] * MAX_FRAME + list(self.identity.pack()))
        self.reply_write, self.reply_read = reply.write_port(), reply.read_port()
        self._queues(m)
        self._requests(m)
        return m

    # Streams ----------------------------------------------------------------------------------------

    def _queues(self, m: Module) -> None:
        """A queue for each stream; its room or what waits as one byte."""
        link = self.design
        self.clear_queues = Signal()
        self.rooms, self.waiting, self.input_queues, self.output_queues = [], [], [], []

        for each, into in (*((each, True) for each in link.inputs), *((each, False) for each in link.outputs)):
            m.submodules[f"queue_{each.name}{'' if into else '_out'}"] = queue = BlockQueue(8 * each.bytes, each.depth)
            m.d.comb += queue.clear.eq(self.clear_queues)
            if into:
                wiring.connect(m, queue.o, wiring.flipped(getattr(self, f"i_{each.name}")))
                self.rooms.append(queue.room)
                self.input_queues.append(queue)
            else:
                wiring.connect(m, wiring.flipped(getattr(self, f"o_{each.name}")), queue.i)
                self.waiting.append(queue.level)
                self.output_queues.append(queue)

    # Requests ---------------------------------------------------------------------------------------

    def _requests(self, m: Module) -> None:
        link, receiver, sender = self.design, self.receiver, self.sender
        widest = max(ADDRESS_BYTES + DATA_BYTES, *[each.bytes for each in (*link.inputs, *link.outputs)])
        word = Signal(8 * widest)                 # bytes come in at the top and leave at the bottom
        pointer, phase = Signal(8), Signal()      # of the request; its byte is there in phase 1
        expected, sequence = Signal(8), Signal(8)
        operation, channel = Signal(4), Signal(4)
        refused, overrun = Signal(), Signal()
        known = Signal()                          # the answer to the last request is an identity
        fresh = Signal(init=1)                    # nobody has asked who this is since the reset
        length, done, response = Signal(8), Signal(8), Signal(2)
        missing = Signal(range(max(widest, DATA_BYTES) + 1))   # bytes of the word
        wanted = Signal(8)                        # beats
        at = Signal(range(max(MAX_FRAME, len(self.identity.pack()), link.answer_header)))   # in the answer
        resetting = Signal(range(RESET_CYCLES + 1))
        byte, last = receiver.byte, Signal()
        write, read = self.reply_write, self.reply_read
        following = Signal(8)

        m.d.comb += [following.eq(sequence + 1), receiver.address.eq(pointer), last.eq(pointer == receiver.length),
                     read.addr.eq(Cat(at[:8], known)), write.addr.eq(length), self.reset_core.eq(resetting != 0)]
        m.d.sync += phase.eq(0)
        with m.If(resetting != 0):
            m.d.sync += resetting.eq(resetting - 1)
            # What the core still offers in the cycle before its flip-flops are reset must not come in.
            m.d.comb += self.clear_queues.eq(1)
        m.d.comb += [self.axil.awaddr.eq(word[-48:-32]), self.axil.wdata.eq(word[-32:]), self.axil.wstrb.eq(0xF),
                     self.axil.araddr.eq(word[-16:])]

        def take() -> object:
            """The next byte of the request: wait for the memory, then move on."""
            m.d.sync += phase.eq(~phase)
            with m.If(phase):
                m.d.sync += pointer.eq(pointer + 1)
            return m.If(phase)

        def append(value: Value) -> None:
            m.d.comb += [write.data.eq(value), write.en.eq(1)]
            m.d.sync += length.eq(length + 1)

        def shift_in() -> None:
            m.d.sync += word.eq(Cat(word[8:], byte))

        with m.FSM(name="requests"):
            with m.State("idle"):
                m.d.sync += [pointer.eq(0), refused.eq(0), overrun.eq(0)]
                with m.If(receiver.valid):
                    m.next = "sequence"
            with m.State("sequence"), take():
                m.d.sync += sequence.eq(byte)
                m.next = "operation"
            with m.State("operation"), take():
                m.d.sync += [operation.eq(byte[4:]), channel.eq(byte[:4])]
                m.next = "choose"
            with m.State("choose"):
                m.d.sync += [done.eq(0), response.eq(0)]
                m.next = "answer"
                with m.If((sequence == expected) & ~fresh | (operation == IDENTIFY)):
                    m.d.sync += [expected.eq(following), length.eq(0), known.eq(0)]
                    with m.Switch(operation):
                        with m.Case(IDENTIFY):
                            m.d.sync += [known.eq(1), fresh.eq(0)]
                        with m.Case(READ, WRITE):
                            m.d.sync += [length.eq(1), missing.eq(Mux(operation == READ, ADDRESS_BYTES,
                                                                      ADDRESS_BYTES + DATA_BYTES))]
                            m.next = "access"
                        with m.Case(PUSH):
                            m.next = "push"
                        with m.Case(PULL):
                            m.d.sync += length.eq(1)
                            m.next = "pull"
                        with m.Case(RESET):
                            m.next = "reset"
                with m.Elif((following != expected) | fresh):
                    m.d.sync += refused.eq(1)
            self._accesses(m, take, shift_in, append, word, pointer, missing, done, response, length, operation, last)
            self._streams(m, take, shift_in, append, word, missing, done, wanted, length, channel, last, overrun,
                          expected)
            with m.State("reset"), take():
                with m.If(byte & RESET_STREAMS):
                    m.d.comb += self.clear_queues.eq(1)
                with m.If(byte & RESET_CORE):
                    m.d.sync += resetting.eq(RESET_CYCLES)
                m.next = "answer"
            with m.State("status"):
                m.d.comb += [write.addr.eq(0), write.en.eq(1), write.data.eq(Cat(done[:6], response | done[6:]))]
                m.next = "answer"
            # The request is done with only when its answer has left: what comes meanwhile fills the other buffer.
            with m.State("answer"):
                m.d.sync += at.eq(0)
                with m.If(sender.idle & (resetting == 0)):
                    m.next = "header"
            header = [sequence, expected, Cat(self.irq, refused, overrun, fresh), *self.rooms, *self.waiting]
            payload = Signal(8)
            m.d.comb += payload.eq(Mux(known, len(self.identity.pack()), length))
            with m.State("header"):
                ends = at == len(header) - 1
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.data.eq(Array(header)[at]),
                             sender.i.payload.last.eq(ends & ((payload == 0) | refused))]
                with m.If(sender.i.ready):
                    m.d.sync += at.eq(at + 1)
                    with m.If(ends):
                        m.d.sync += at.eq(0)
                        m.next = "wait"
                        with m.If(sender.i.payload.last):
                            m.d.comb += receiver.done.eq(1)
                            m.next = "idle"
            with m.State("wait"):
                m.next = "payload"
            with m.State("payload"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.data.eq(read.data),
                             sender.i.payload.last.eq(at + 1 == payload)]
                with m.If(sender.i.ready):
                    m.d.sync += at.eq(at + 1)
                    m.next = "wait"
                    with m.If(sender.i.payload.last):
                        m.d.comb += receiver.done.eq(1)
                        m.next = "idle"
        m.d.comb += self.answering.eq(~sender.idle)

    def _accesses(self, m, take, shift_in, append, word, pointer, missing, done, response, length, operation,
                  last) -> None:
        """Registers: the bytes of an access, the access, and of a read its four bytes to the answer."""
        with m.State("access"):
            with m.If(last):
                m.next = "status"
            with m.Else(), take():
                shift_in()
                m.d.sync += missing.eq(missing - 1)
                with m.If(missing == 1):
                    m.next = "write"
                    with m.If(operation == READ):
                        m.next = "read"
        axil = self.axil
        sent = Signal(2)       # address and data have been taken
        with m.State("write"):
            m.d.comb += [axil.awvalid.eq(~sent[0]), axil.wvalid.eq(~sent[1]), axil.bready.eq(1)]
            m.d.sync += sent.eq(sent | Cat(axil.awready, axil.wready))
            with m.If(axil.bvalid):
                m.d.sync += [sent.eq(0), response.eq(axil.bresp), missing.eq(ADDRESS_BYTES + DATA_BYTES)]
                m.next = "access"
                with m.If(axil.bresp != 0):
                    m.next = "status"
                with m.Else():
                    m.d.sync += done.eq(done + 1)
        with m.State("read"):
            m.d.comb += axil.arvalid.eq(~sent[0])
            m.d.sync += sent.eq(sent | axil.arready)
            with m.If(axil.rvalid):
                m.d.sync += [response.eq(axil.rresp), missing.eq(DATA_BYTES)]
                m.next = "value"
        with m.State("value"):
            # The bus holds the value until its last byte has been taken.
            with m.If(response != 0):
                m.d.comb += axil.rready.eq(1)
                m.d.sync += sent.eq(0)
                m.next = "status"
            with m.Else():
                append(_byte(axil.rdata, missing))
                m.d.sync += missing.eq(missing - 1)
                with m.If(missing == 1):
                    m.d.comb += axil.rready.eq(1)
                    m.d.sync += [sent.eq(0), done.eq(done + 1), missing.eq(ADDRESS_BYTES)]
                    m.next = "access"

    def _streams(self, m, take, shift_in, append, word, missing, done, wanted, length, channel, last, overrun,
                 expected) -> None:
        """Beats: from the request to a queue, from a queue to the answer."""
        link = self.design
        into = Array([Const(each.bytes, 8) for each in link.inputs])
        out = Array([Const(each.bytes, 8) for each in link.outputs])

        with m.State("push"), take():
            m.d.sync += missing.eq(into[channel])
            m.next = "beats"
            with m.If(self.receiver.byte > Array(self.rooms)[channel]):
                m.d.sync += [overrun.eq(1), expected.eq(expected - 1)]
                m.next = "answer"
        with m.State("beats"):
            with m.If(missing == 0):
                for at, (each, queue) in enumerate(zip(link.inputs, self.input_queues, strict=True)):
                    m.d.comb += [queue.i.payload.eq(word[-8 * each.bytes:]), queue.i.valid.eq(channel == at)]
                m.d.sync += missing.eq(into[channel])
            with m.Elif(last):
                m.next = "answer"
            with m.Else(), take():
                shift_in()
                m.d.sync += missing.eq(missing - 1)
        with m.State("pull"), take():
            m.d.sync += wanted.eq(self.receiver.byte)
            m.next = "next"
        with m.State("next"):
            m.d.sync += missing.eq(out[channel])
            m.next = "status"
            for at, queue in enumerate(self.output_queues):
                with m.If((channel == at) & queue.o.valid & (done != wanted)):
                    m.d.sync += done.eq(done + 1)
                    m.next = f"beat_{at}"
        for at, queue in enumerate(self.output_queues):
            with m.State(f"beat_{at}"):
                append(_byte(queue.o.payload, missing))
                m.d.sync += missing.eq(missing - 1)
                with m.If(missing == 1):
                    m.d.comb += queue.o.ready.eq(1)
                    m.next = "next"
