"""Small components for the tests of the simulators."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Accumulator(wiring.Component):
    """``total += a * b`` with ``en``; ``rst`` clears."""

    def __init__(self, bits=8, width=20):
        self.parameters = {"bits": bits, "width": width}
        self.module_name = f"accumulator_{bits}_{width}"
        super().__init__({"a": In(signed(bits)), "b": In(signed(bits)), "en": In(1), "total": Out(signed(width)),
                          "sum_now": Out(signed(bits + 1)), "negative": Out(1)})

    def elaborate(self, platform):
        m = Module()
        state = Signal(signed(self.parameters["width"]))
        with m.If(self.en):
            m.d.sync += state.eq(state + self.a * self.b)
        m.d.comb += [self.total.eq(state), self.negative.eq(state < 0), self.sum_now.eq(self.a + self.b)]
        return m


class Adder(wiring.Component):
    """Combinational, of any width; nested port names."""

    def __init__(self, width=100):
        self.module_name = f"adder_{width}"
        super().__init__({"i__x": In(width), "i__y": In(width), "o__sum": Out(width + 1), "larger": Out(width)})

    def elaborate(self, platform):
        m = Module()
        x, y = self.i__x, self.i__y
        m.d.comb += [self.o__sum.eq(x + y), self.larger.eq(Mux(x > y, x, y))]
        return m


class Counter(wiring.Component):
    """No inputs but ``step``."""

    module_name = "counter"

    def __init__(self):
        super().__init__({"step": In(4), "value": Out(16)})

    def elaborate(self, platform):
        m = Module()
        value = Signal(16, reset_less=True)
        m.d.sync += value.eq(value + self.step)
        m.d.comb += self.value.eq(value)
        return m
