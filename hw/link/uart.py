"""An asynchronous serial line: 8 data bits, least significant first, no parity, one stop bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartSender"]

DATA_BITS = 8


class UartReceiver(wiring.Component):
    """Bytes from a pin, each bit taken in its middle.

    A start bit that is high again in its middle is noise; a byte whose stop bit is low is dropped.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, at least 5.

    Members
    -------
    rx : In(1)
        Asynchronous; idles high.
    data : Out(8), strobe : Out(1)
        ``data`` holds in the cycle of ``strobe``.
    """

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"rx": In(1), "data": Out(DATA_BITS), "strobe": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        rx = Signal(init=1)
        m.submodules.pin = FFSynchronizer(self.rx, rx, init=1)
        timer = Signal(range(self.divisor))
        bits = Signal(DATA_BITS + 2)     # data and stop bit, behind a one that has arrived when they have
        m.d.comb += self.data.eq(bits[1:-1])
        m.d.sync += timer.eq(Mux(timer == 0, self.divisor - 1, timer - 1))
        with m.FSM():
            with m.State("idle"):
                # The edge was up to a cycle ago when it is seen, and is acted on a cycle later.
                m.d.sync += timer.eq((self.divisor - 3) // 2)
                with m.If(~rx):
                    m.next = "start"
            with m.State("start"), m.If(timer == 0):
                m.d.sync += bits.eq(1 << DATA_BITS + 1)
                m.next = "bits"
                with m.If(rx):
                    m.next = "idle"
            with m.State("bits"):
                with m.If(bits[0]):
                    m.d.comb += self.strobe.eq(bits[-1])
                    m.next = "idle"
                with m.Elif(timer == 0):
                    m.d.sync += bits.eq(Cat(bits[1:], rx))
        return m


class UartSender(wiring.Component):
    """Bytes to a pin.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit.

    Members
    -------
    i : In(stream of 8)
        Taken when the stop bit of the byte before ends.
    tx : Out(1)
        Idles high.
    """

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(DATA_BITS)), "tx": Out(1, init=1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(DATA_BITS + 2)     # what is still to be sent, the stop bit last; zero: nothing
        tx = Signal(init=1)
        m.d.comb += [self.tx.eq(tx), self.i.ready.eq((bits == 0) & (timer == 0))]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(bits != 0):
            m.d.sync += [tx.eq(bits[0]), bits.eq(bits >> 1), timer.eq(self.divisor - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))
        return m
