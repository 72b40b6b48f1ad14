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

__all__ = ["ItemSum", "ItemSums", "RowSum", "RowSums", "state_layout"]


def state_layout(design: GatherDesign) -> data.StructLayout:
    """A sum that is not complete, and its flags."""
    return data.StructLayout({"value": signed(design.sum_bits), **dict.fromkeys(design.dot.flags, 1)})


class _Sum(wiring.Component):
    """One output: adder and registers, with its own copies of what controls them (`GatherColumn` has the reason)."""

    keep_hierarchy = True

    def __init__(self, design: GatherDesign, value_bits: int, members: dict):
        self.design, self.value_bits = design, value_bits
        super().__init__({"total": In(total_layout(design, value_bits)), "valid": In(1),
                          "o": Out(state_layout(design)), **members})

    @property
    def module_name(self) -> str:
        d = self.design
        return f"sum_{d.pack}_{d.dot.pe_name}_{d.sum_bits}_{self.value_bits}"

    def here(self, m: Module, name: str) -> Signal:
        """A control signal an edge later."""
        held = Signal(name=f"{name}_here")
        m.d.sync += held.eq(getattr(self, name))
        return held

    def added(self, m: Module, before: data.View) -> None:
        """The state with this total."""
        total, new = self.total, self.o
        m.submodules.add = adder = shared(Adder(self.design.sum_bits, self.value_bits, self.design.sum_bits))
        m.d.comb += [adder.x.eq(before.value), adder.y.eq(total.value), adder.c.eq(total.carry),
                     new.value.eq(adder.o),
                     *[new[flag].eq(before[flag] | total[flag]) for flag in self.design.dot.flags]]


class RowSum(_Sum):
    """Adds until a row ends.

    Members
    -------
    valid, end : In(1)
        Of the total that comes an edge later.
    """

    def __init__(self, design: GatherDesign, value_bits: int):
        super().__init__(design, value_bits, {"end": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(state_layout(self.design), name="sum")
        end = self.here(m, "end")
        self.added(m, held)
        with m.If(self.here(m, "valid")):
            m.d.sync += held.eq(Mux(end, 0, self.o.as_value()))
        return m


class ItemSum(_Sum):
    """Adds to what the memory had, or to the sum of one of the two pairs before.

    Members
    -------
    stored : In(state_layout)
        From the memory, an edge before the total.
    valid, from_base : In(1)
        Of the total that comes an edge later: it counts; it begins a pair, whose sum does not come from the pair just
        before.
    first, waiting : In(1)
        Of the total that comes two edges later: the sum is zero before; it is in the register an edge later.
    """

    def __init__(self, design: GatherDesign, value_bits: int):
        super().__init__(design, value_bits, {"stored": In(state_layout(design)), "from_base": In(1), "first": In(1),
                                              "waiting": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        held, base, before = (Signal(state_layout(self.design), name=name, reset_less=name != "before")
                              for name in ("sum", "base", "before"))
        first, waiting, from_base = (self.here(m, name) for name in ("first", "waiting", "from_base"))
        m.d.sync += base.eq(Mux(first, 0, Mux(waiting, held.as_value(), self.stored.as_value())))
        m.d.comb += before.eq(Mux(from_base, base.as_value(), held.as_value()))
        self.added(m, before)
        with m.If(self.here(m, "valid")):
            m.d.sync += held.eq(self.o)
        return m


class _Sums(wiring.Component):
    """Base.

    Members
    -------
    valid : In(1); token : In(token_layout)
        Of the totals that come two edges later.
    totals : In(outputs x total_layout)
    o_valid : Out(1); o : Out(sum_layout)
        With the totals that complete it.
    busy : Out(1)
    """

    lead = 2

    def __init__(self, design: GatherDesign, value_bits: int):
        self.design, self.value_bits = design, value_bits
        totals = data.ArrayLayout(total_layout(design, value_bits), design.outputs)
        super().__init__({"token": In(token_layout(design)), "valid": In(1), "totals": In(totals),
                          "o_valid": Out(1), "o": Out(sum_layout(design)), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_sums"

    def common(self, m: Module, kind: type[_Sum]) -> tuple[list[Value], list, list]:
        """``valid`` and token now and an edge and two edges later; a unit for each output."""
        valids, tokens = [self.valid], [self.token]
        for edge in range(self.lead):
            valid = Signal(name=f"valid{edge + 1}")
            token = Signal(token_layout(self.design), name=f"token{edge + 1}", reset_less=True)
            m.d.sync += [valid.eq(valids[-1]), token.eq(tokens[-1])]
            valids.append(valid)
            tokens.append(token)
        last = tokens[-1]
        m.d.comb += [self.o_valid.eq(valids[-1] & last.end & last.leave), self.o.out.eq(last.out),
                     self.o.row.eq(last.row), self.o.last.eq(last.last), self.busy.eq(Cat(*valids).any())]
        units = []
        for output in range(self.design.outputs):
            m.submodules[f"sum{output}"] = unit = shared(kind(self.design, self.value_bits))
            m.d.comb += [unit.total.eq(self.totals[output]), unit.valid.eq(valids[1]),
                         self.o.sums[output].eq(unit.o.value),
                         *[self.o[flag][output].eq(unit.o[flag]) for flag in self.design.dot.flags]]
            units.append(unit)
        return valids, tokens, units


class RowSums(_Sums):
    """One sum for each output; it is zero where a row begins."""

    def elaborate(self, platform) -> Module:
        m = Module()
        _, tokens, units = self.common(m, RowSum)
        m.d.comb += [unit.end.eq(tokens[1].end) for unit in units]
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
        stored = data.ArrayLayout(state_layout(d), d.outputs)
        m.submodules.memory = memory = Memory(shape=stored, depth=d.slots, init=[], attrs=NO_COLLISION)
        write, read = memory.write_port(), memory.read_port()
        valids, (reading, base, now), units = self.common(m, ItemSum)
        ends, from_base, waiting = Signal(), Signal(), Signal()
        m.d.comb += [
            ends.eq(valids[2] & now.end), read.en.eq(valids[0] & reading.start), read.addr.eq(reading.slot),
            write.en.eq(ends), write.addr.eq(now.slot), waiting.eq(ends & (reading.slot == now.slot)),
            from_base.eq(base.start & (base.first | ~(ends & (base.slot == now.slot))))]
        for output, unit in enumerate(units):
            m.d.comb += [unit.stored.eq(read.data[output]), write.data[output].eq(unit.o), unit.first.eq(reading.first),
                         unit.waiting.eq(waiting), unit.from_base.eq(from_base)]
        return m
