# amaranth: UnusedElaboratable=no
"""Bit-serial group dequantiser: a group's sum times its scale, one bit of the scale a cycle.

It works on one group while the PE adds up the next, so a scale of S bits costs no time where a group takes S cycles or
more (BitMoD, arXiv 2411.11745, section IV-C). Three forms:

* ``accumulate`` (integer scales, exact sums): the sum moves up a place a cycle and is added to the channel's result
  where the scale's bit is set. The dequantiser's adder is the channel's accumulator.
* ``product`` (floating scales, aligned sums): the result moves down a place a cycle, past an adder as wide as the sum
  alone; each group is a result of its own.
* ``none`` (no scale, or a power of two): a register.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.bitserial import BitSerialDesign

from ..arith.cells import Adder
from ..emit import shared
from .activation import has_nan
from .pe import flag_layout

__all__ = ["GroupDequantiser", "activation_sum_bits"]


def activation_sum_bits(design: BitSerialDesign) -> int:
    """Of the sum of a group's activations, moved up by all places of a zero-point."""
    return 1 + (design.max_operand * design.group).bit_length() + design.zero_shift + max(design.zero_point - 1, 0)


class GroupDequantiser(wiring.Component):
    """One PE's.

    Parameters
    ----------
    design : BitSerialDesign

    Members
    -------
    load : In(1)
        Take ``sum`` (and ``sum_negative``) and ``flags``; the phases begin in the next cycle.
    sum, sum_negative : In(signed(sum_bits)), flags : In(flag_layout)
    zeroing : In(1), last_zero : In(1), activations : In(signed), with zero-points
        ``bit`` is one of the zero-point's, its sign in the last such cycle; the sum of the group's activations,
        moved up a place each such cycle.
    scaling : In(1), bit : In(1)
        ``bit`` is the column's next scale bit, least significant first.
    second : In(1), with a second scale
        In the last cycle of the first scale's phase: the negative weights' sum is next.
    start : In(1), fresh : In(1)
        First cycle after ``load``, and whether the channel begins with this group.
    result : Out(signed(result_bits)), result_flags : Out(flag_layout)
        Valid in the cycle after the last phase cycle.
    """

    def __init__(self, design: BitSerialDesign):
        self.design = design
        self.form = "none" if not design.scale_bits else "accumulate" if design.sums_channel else "product"
        members = {"load": In(1), "sum": In(signed(design.sum_bits)), "result": Out(signed(design.result_bits))}
        if self.form != "none":
            members.update(scaling=In(1), bit=In(1))
            members["start"] = In(1)
            if self.form == "accumulate":
                members["fresh"] = In(1)
        if design.zero_point:
            members.update(zeroing=In(1), last_zero=In(1), activations=In(signed(activation_sum_bits(design))))
        if design.dual_scale:
            members.update(sum_negative=In(signed(design.sum_bits)), second=In(1))
        if has_nan(design):
            members.update(flags=In(flag_layout(design)), result_flags=Out(flag_layout(design)))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"scale_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        {"none": self._hold, "accumulate": self._accumulate, "product": self._product}[self.form](m)
        if has_nan(self.design):
            self._flags(m)
        return m

    def _hold(self, m: Module) -> None:
        held = Signal(signed(self.design.sum_bits), name="sum_q", reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.sum)
        m.d.comb += self.result.eq(held)

    def _accumulate(self, m: Module) -> None:
        design = self.design
        # Room for the zero-point's part and for every place of the scale.
        most = design.max_operand * design.group * design.max_difference
        held = Signal(signed(1 + most.bit_length() + design.scale_bits - 1), name="moving", reset_less=True)
        result = Signal(signed(design.result_bits), name="result_q", reset_less=True)
        first = self.start & self.fresh if not design.zero_point else Signal(name="first")
        if design.zero_point:
            # One adder for both phases: the zero-point's bits go off the sum, its sign bit onto it.
            clear = Signal(name="clear", reset_less=True)
            with m.If(self.start):
                m.d.sync += clear.eq(self.fresh)
            with m.Elif(self.scaling):
                m.d.sync += clear.eq(0)
            m.d.comb += first.eq(clear)
            minus = self.zeroing & ~self.last_zero & self.bit
            chosen = Mux(self.bit, Mux(self.zeroing, self.activations, held), 0)
            addend = (chosen ^ minus.replicate(len(chosen)))[:len(chosen)]
            base = Mux(self.zeroing, held, Mux(first, 0, result))
            m.submodules.add = adder = shared(Adder(len(base), len(addend), design.result_bits))
            m.d.comb += [adder.x.eq(base), adder.y.eq(addend), adder.c.eq(minus)]
            total: Value = adder.o
            with m.If(self.scaling):
                m.d.sync += result.eq(total)
        else:
            # Bits that are not set leave the result alone by its enable: nothing stands in front of the adder, and one
            # multiplexer behind it begins a channel.
            m.submodules.add = adder = shared(Adder(design.result_bits, len(held), design.result_bits))
            m.d.comb += [adder.x.eq(result), adder.y.eq(held), adder.c.eq(0)]
            with m.If(self.scaling & (self.bit | first)):
                m.d.sync += result.eq(Mux(first, Mux(self.bit, held, 0), adder.o))
        with m.If(self.load):
            m.d.sync += held.eq(self.sum)
        with m.Elif(self.scaling):
            m.d.sync += held.eq(held << 1)
        if design.zero_point:
            with m.If(self.zeroing):
                m.d.sync += held.eq(total)
        if design.dual_scale:
            below = Signal(signed(design.sum_bits), name="below_q", reset_less=True)
            with m.If(self.load):
                m.d.sync += below.eq(self.sum_negative)
            with m.Elif(self.second):
                m.d.sync += held.eq(below)
        m.d.comb += self.result.eq(result)

    def _product(self, m: Module) -> None:
        design = self.design
        held = Signal(signed(design.sum_bits), name="sum_q", reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.sum)
        high = Signal(signed(design.sum_bits + 1), name="high", reset_less=True)
        low = Signal(design.scale_bits, name="low", reset_less=True)
        total = Signal(signed(design.sum_bits + 1), name="total")
        # The next sum may be loaded in the last cycle of this one's scale.
        m.d.comb += total.eq(Mux(self.start, 0, high) + Mux(self.bit, held, 0))
        with m.If(self.scaling):
            m.d.sync += [high.eq(total >> 1), low.eq(Cat(low[1:], total[0]))]
        m.d.comb += self.result.eq(Cat(low, high).as_signed())

    def _flags(self, m: Module) -> None:
        held = Signal(flag_layout(self.design), name="flags_q", reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.flags)
        if self.form == "none":
            m.d.comb += self.result_flags.eq(held)
            return
        found = Signal(flag_layout(self.design), name="found", reset_less=True)
        with m.If(self.start):
            kept = Mux(self.fresh, 0, found) if self.form == "accumulate" else Const(0, 1)
            m.d.sync += found.eq(kept | held.as_value())
        m.d.comb += self.result_flags.eq(found)
