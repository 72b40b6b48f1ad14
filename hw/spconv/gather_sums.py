# amaranth: UnusedElaboratable=no
"""Where the sums of products are added up: in a memory of output rows, or in one register for each output.

::

    pack item                                    pack row

    token.slot ──► memory {sums} ──► base        total ──► + ──► sum ──► o
                     ▲        ┌──────┘                     ▲      │
    total ──► + ─────┴──► sum │ ─► o                       └──────┘ 0 behind the end of a row
              ▲            │  │
              └── base or ─┴──┘
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from ..arith.cells import Adder
from ..emit import shared
from .features import NO_COLLISION
from .gather_layouts import sum_layout, token_layout, total_layout

__all__ = ["ItemSums", "RowSums"]


class _Sums(wiring.Component):
    """Common ports and arithmetic.

    ``token``: what comes with the totals two edges later, in pipelines of ``valid`` bits; ``o`` is given with the
    totals that complete it.
    """

    lead = 2

    def __init__(self, design: GatherDesign, value: int):
        self.design, self.value_bits = design, value
        self.state = data.StructLayout({"value": signed(design.sum_bits), **dict.fromkeys(design.dot.flags, 1)})
        totals = data.ArrayLayout(total_layout(design, value), design.outputs)
        super().__init__({"token": In(token_layout(design)), "valid": In(1), "totals": In(totals),
                          "o_valid": Out(1), "o": Out(sum_layout(design)), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_sums"

    def _tokens(self, m: Module, edges: int) -> tuple[list[Value], list]:
        """``valid`` and token now, one edge later, ..."""
        valids, tokens = [self.valid], [self.token]
        for edge in range(edges):
            valid, token = Signal(name=f"valid{edge + 1}"), Signal(token_layout(self.design), name=f"token{edge + 1}",
                                                                   reset_less=True)
            m.d.sync += [valid.eq(valids[-1]), token.eq(tokens[-1])]
            valids.append(valid)
            tokens.append(token)
        return valids, tokens

    def _added(self, m: Module, output: int, before) -> data.View:
        """The state of one output with its total."""
        total, new = self.totals[output], Signal(self.state, name=f"new{output}")
        m.submodules[f"add{output}"] = adder = shared(Adder(self.design.sum_bits, self.value_bits,
                                                            self.design.sum_bits))
        m.d.comb += [adder.x.eq(before.value), adder.y.eq(total.value), adder.c.eq(total.carry),
                     new.value.eq(adder.o),
                     *[new[flag].eq(before[flag] | total[flag]) for flag in self.design.dot.flags]]
        return new

    def _give(self, m: Module, valid: Value, token, news: list) -> None:
        m.d.comb += [self.o_valid.eq(valid & token.end & token.leave), self.o.out.eq(token.out),
                     self.o.row.eq(token.row), self.o.last.eq(token.last)]
        for output, new in enumerate(news):
            m.d.comb += [self.o.sums[output].eq(new.value),
                         *[self.o[flag][output].eq(new[flag]) for flag in self.design.dot.flags]]


class RowSums(_Sums):
    """One sum for each output; it is zero where a row begins."""

    def elaborate(self, platform) -> Module:
        m = Module()
        valids, tokens = self._tokens(m, self.lead)
        valid, token = valids[-1], tokens[-1]
        news = []
        for output in range(self.design.outputs):
            held = Signal(self.state, name=f"sum{output}")
            new = self._added(m, output, held)
            with m.If(valid):
                m.d.sync += held.eq(Mux(token.end, 0, new.as_value()))
            news.append(new)
        self._give(m, valid, token, news)
        m.d.comb += self.busy.eq(Cat(*valids).any())
        return m


class ItemSums(_Sums):
    """The sums of ``slots`` rows.

    The memory is read two edges before a pair's first products come, and written with its last ones. So the sum of a
    pair that ended one edge before is not read but still in its register, and of one that ended two edges before it is
    taken from there instead of from the memory.
    """

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        m.submodules.memory = memory = Memory(shape=data.ArrayLayout(self.state, d.outputs), depth=d.slots, init=[],
                                              attrs=NO_COLLISION)
        write, read = memory.write_port(), memory.read_port()
        valids, tokens = self._tokens(m, self.lead + 1)
        reading, base, now, past = tokens
        ends = valids[2] & now.end
        following, waiting, from_base = Signal(), Signal(), Signal(reset_less=True)
        m.d.comb += [
            read.en.eq(valids[0] & reading.start), read.addr.eq(reading.slot),
            # The pair before this one, and the one before that.
            following.eq(ends & (base.slot == now.slot)),
            waiting.eq(valids[3] & past.end & (base.slot == past.slot)),
            write.en.eq(ends), write.addr.eq(now.slot), self.busy.eq(Cat(*valids[:3]).any())]
        m.d.sync += from_base.eq(base.start & (base.first | ~following))
        news = []
        for output in range(d.outputs):
            held, start = (Signal(self.state, name=f"{name}{output}", reset_less=True) for name in ("sum", "base"))
            m.d.sync += start.eq(Mux(base.first, 0, Mux(waiting, held.as_value(), read.data[output].as_value())))
            before = Signal(self.state, name=f"before{output}")
            m.d.comb += before.eq(Mux(from_base, start.as_value(), held.as_value()))
            new = self._added(m, output, before)
            with m.If(valids[2]):
                m.d.sync += held.eq(new)
            m.d.comb += write.data[output].eq(new)
            news.append(new)
        self._give(m, valids[2], now, news)
        return m
