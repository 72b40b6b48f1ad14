# amaranth: UnusedElaboratable=no
"""Bit-serial processing element: each lane's activation times one signed power of two a cycle, all summed.

::

    operand {sign, magnitude} ──► << shift ──► one's complement ──┐
    term {neg, valid, shift} ─────┘                 (each lane)   ├─► adders ──► sum register(s) ──► group sum
                                                                  ┘   carries: the negations' ones

Multiplying is moving by the few places of a term; negation is an inverter and a carry. The accumulator is fixed
point: `ActivationEdge` has put the activations where they belong, so there is no exponent in a PE. Only a ``floating``
PE has one: it adds its terms to the activations' exponents, aligns the products of a cycle to the largest, and keeps
its sum short and normalised.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.bitserial import BitSerialDesign

from ..arith.cells import Adder
from ..arith.largest import largest
from ..arith.narrow import shifted_window
from ..arith.shift import UnsignedShifter
from ..emit import shared
from .activation import drop_bits, has_inf, has_nan, operand_layout
from .terms import term_layout

__all__ = ["BitSerialPe", "flag_layout"]


def flag_layout(design: BitSerialDesign) -> data.StructLayout:
    """Special events of a sum; empty where none can happen."""
    fields = {"nan": 1} if has_nan(design) else {}
    if has_inf(design):
        fields.update(pos=1, neg=1)
    return data.StructLayout(fields)


class BitSerialPe(wiring.Component):
    """The dot product of one row and one column, a term a lane a cycle.

    Parameters
    ----------
    design : BitSerialDesign

    Members
    -------
    operands : In(operand_layout * lanes), terms : In(term_layout * lanes)
    nan : In(1), zero, negative : In(lanes), check : In(1), with specials
        Of the row; of the column's weights, a scale of zero included; a chunk's first step, at which specials count.
    en, last : In(1), drop : In (``aligned``)
        Of the accumulator, ``pipeline`` edges after the operands: add; begin anew behind this cycle (``last`` without
        ``en`` does nothing); places that it falls.
    sum : Out(signed(sum_bits)), place : Out (``floating``)
        With this cycle's terms; register it, or read it in the cycle of the group's last ones.
    sum_negative : Out(signed(sum_bits)), with a second scale
        The sum over negative weights; ``sum`` is then the one over the others.
    flags : Out(flag_layout)
        Like ``sum``.
    """

    def __init__(self, design: BitSerialDesign):
        self.design = design
        self.aligned = design.accumulate == "aligned"
        lanes = design.lanes
        members = {"operands": In(data.ArrayLayout(operand_layout(design), lanes)),
                   "terms": In(data.ArrayLayout(term_layout(design), lanes)),
                   "en": In(1), "last": In(1), "sum": Out(signed(design.sum_bits))}
        if has_nan(design):
            members.update(nan=In(1), check=In(1), flags=Out(flag_layout(design)))
        if has_inf(design):
            members.update(zero=In(lanes))
        if has_inf(design) or design.dual_scale:
            members.update(negative=In(lanes))
        if self.aligned:
            members["drop"] = In(drop_bits(design))
        if design.accumulate == "floating":
            members["place"] = Out(range(design.max_place + 1))
        if design.dual_scale:
            members["sum_negative"] = Out(signed(design.sum_bits))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"pe_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        if design.accumulate == "floating":
            self._floating(m)
            if has_nan(design):
                self._specials(m)
            return m
        products = [self._product(m, lane) for lane in range(design.lanes)]
        if design.pipeline == 2:
            products = [tuple(self._hold(m, value, f"lane{lane}_{i}") for i, value in enumerate(pair))
                        for lane, pair in enumerate(products)]
        groups = []
        if not design.dual_scale:
            groups.append(("sum", self._tree(m, "all", products)))
        else:
            negative = self.negative
            if design.pipeline == 2:
                negative = self._hold(m, negative, "negative_1")
            for name, chosen in (("sum", ~negative), ("sum_negative", negative)):
                some = [(Mux(chosen[lane], value, 0), carry & chosen[lane])
                        for lane, (value, carry) in enumerate(products)]
                groups.append((name, self._tree(m, name, some)))
        for name, (value, carry) in groups:
            if design.pipeline >= 1:
                value, carry = self._hold(m, value, f"{name}_value"), self._hold(m, carry, f"{name}_carry")
            self._accumulate(m, name, value, carry)
        if has_nan(design):
            self._specials(m)
        return m

    @staticmethod
    def _hold(m: Module, value: Value, name: str) -> Value:
        held = Signal(value.shape(), name=name, reset_less=True)
        m.d.sync += held.eq(value)
        return held

    def _product(self, m: Module, lane: int) -> tuple[Value, Value]:
        """``value + carry = +-(magnitude << shift)``, or 0."""
        operand, term = self.operands[lane], self.terms[lane]
        moved: Value = operand.magnitude & term.valid.replicate(len(operand.magnitude))
        sign = operand.sign ^ term.neg
        width = self.design.operand_bits + self.design.max_shift
        if self.design.placement == "pe":
            m.submodules[f"shift{lane}"] = shifter = shared(_lane_shifter(self.design))
            m.d.comb += [shifter.product.eq(moved), shifter.shift.eq(operand.place + term.shift), shifter.sign.eq(sign)]
            return shifter.value, sign
        for bit in range(self.design.max_shift.bit_length()):
            size = min(len(moved) + (1 << bit), width)
            stage = Signal(size, name=f"moved{lane}_{bit}")
            m.d.comb += stage.eq(Mux(term.shift[bit], moved << (1 << bit), moved))
            moved = stage
        return Cat(moved ^ sign.replicate(len(moved)), sign).as_signed(), sign

    def _tree(self, m: Module, name: str, products: list) -> tuple[Value, Value]:
        """Sum of all lanes and a last carry."""
        level = 0
        while len(products) > 1:
            following = []
            for at in range(0, len(products) - 1, 2):
                (x, x_carry), (y, y_carry) = products[at:at + 2]
                width = max(len(x), len(y)) + 1
                m.submodules[f"{name}_{level}_{at}"] = adder = shared(Adder(len(x), len(y), width))
                m.d.comb += [adder.x.eq(x), adder.y.eq(y), adder.c.eq(y_carry)]
                following.append((adder.o, x_carry))
            products = following + ([products[-1]] if len(products) % 2 else [])
            level += 1
        return products[0]

    def _accumulate(self, m: Module, name: str, value: Value, carry: Value) -> None:
        # Cleared by the flip-flops' own reset behind the last step: no multiplexer in front of the adder.
        held = Signal(signed(self.design.sum_bits), name=f"{name}_q")
        base: Value = held
        if self.aligned:
            fallen = Signal(signed(self.design.sum_bits), name=f"{name}_fallen")
            m.d.comb += fallen.eq(held >> self.drop)
            base = fallen
        m.submodules[f"add_{name}"] = adder = shared(Adder(len(held), len(value), len(held)))
        m.d.comb += [adder.x.eq(base), adder.y.eq(value), adder.c.eq(carry)]
        with m.If(self.en):
            m.d.sync += held.eq(adder.o)
        # On its own, so that synthesis takes the reset that wins over the enable.
        with m.If(self.en & self.last):
            m.d.sync += held.eq(0)
        m.d.comb += getattr(self, name).eq(adder.o)

    # Floating ------------------------------------------------------------------------------------

    def _floating(self, m: Module) -> None:
        design = self.design
        lanes = range(design.lanes)
        # Exponents of the products; 0, which moves nothing, where there is none.
        width = (design.max_exponent + design.max_shift).bit_length()
        exponents: list[Value] = []
        for lane in lanes:
            operand, term = self.operands[lane], self.terms[lane]
            exponent = Signal(width, name=f"exponent{lane}")
            some = operand.some & term.valid
            m.d.comb += exponent.eq((operand.place + term.shift) & some.replicate(width))
            exponents.append(exponent)
        top = largest(m, "larger", exponents)
        products = []
        for lane in lanes:
            operand, term = self.operands[lane], self.terms[lane]
            magnitude = self._below(m, lane, operand.magnitude & term.valid.replicate(len(operand.magnitude)),
                                    top, exponents[lane])
            sign = operand.sign ^ term.neg
            products.append((Cat(magnitude ^ sign.replicate(len(magnitude)), sign).as_signed(), sign))
        if design.pipeline == 2:
            products = [tuple(self._hold(m, value, f"lane{lane}_{i}") for i, value in enumerate(pair))
                        for lane, pair in enumerate(products)]
            top = self._hold(m, top, "largest_1")
        value, carry = self._tree(m, "all", products)
        step = Signal(signed(1 + design.max_step_sum.bit_length()), name="step")
        m.d.comb += step.eq(value + carry)
        at = Signal(width, name="step_place")
        # A sum of zero changes nothing.
        m.d.comb += at.eq(top & step.any().replicate(width))
        added: Value = step
        place: Value = at
        if design.pipeline >= 1:
            added, place = self._hold(m, added, "step_1"), self._hold(m, place, "step_place_1")
        self._normalised(m, added, place)

    def _below(self, m: Module, lane: int, significand: Value, top: Value, exponent: Value) -> Value:
        """A magnitude with its guard bits, as far below the largest exponent as its own is."""
        design = self.design
        wide = Cat(Const(0, design.guard), significand)
        below = Signal(len(exponent), name=f"below{lane}")
        m.d.comb += below.eq(top - exponent)
        keep = len(wide)
        if design.rounding == "rne":
            wide = Cat(Const(0, 1), wide)
        most = (len(wide) - 1).bit_length()              # bits of a distance that leaves anything
        far = below[most:].any()
        if design.rounding == "trunc":
            moved = Signal(keep, name=f"moved{lane}")
            m.d.comb += moved.eq(wide >> below[:most])
            return moved & ~far.replicate(keep)
        window, sticky, _ = shifted_window(m, f"align{lane}", wide, below[:most], keep + 1, Const(0, 1))
        rounded = Signal(keep, name=f"moved{lane}")
        m.d.comb += rounded.eq(window[1:] + (window[0] & (sticky | window[1])))
        return rounded & ~far.replicate(keep)

    def _normalised(self, m: Module, added: Value, at: Value) -> None:
        """Sum and place: both addends at the larger place, then down until the sum fits."""
        design = self.design
        bits = design.sum_bits
        held = Signal(signed(bits), name="sum_q")
        place = Signal(range(design.max_place + 1), name="place_q")
        # Nothing has place 0, which is never above another.
        higher = Signal(name="higher")
        wide = max(bits, len(added))
        near, far = (Signal(signed(wide), name=name) for name in ("near", "far"))
        apart, larger = (Signal(len(place), name=name) for name in ("apart", "larger"))
        m.d.comb += [higher.eq(at > place), larger.eq(Mux(higher, at, place)),
                     apart.eq(larger - Mux(higher, place, at)),
                     near.eq(Mux(higher, added, held)), far.eq(Mux(higher, held, added))]
        # Beyond its width only the sign is left.
        most = (wide - 1).bit_length()
        fallen = Signal(signed(wide), name="fallen")
        m.d.comb += fallen.eq(Mux(apart[most:].any(), far[-1].replicate(wide).as_signed(), far >> apart[:most]))
        m.submodules.add_sum = adder = shared(Adder(wide, wide, wide + 1))
        m.d.comb += [adder.x.eq(near), adder.y.eq(fallen), adder.c.eq(0)]
        # Down by as many places as there are bits above the sum's that differ from the sign.
        total, excess = adder.o, wide + 1 - bits
        short, moved = Signal(signed(bits), name="short"), Signal(range(excess + 1), name="moved_by")
        chosen: Value = total[excess:]
        down: Value = Const(excess)
        for count in reversed(range(excess)):
            fits = Signal(name=f"fits{count}")
            top = total[bits - 1 + count:-1]
            m.d.comb += fits.eq(~(top ^ total[-1].replicate(len(top))).any())
            chosen, down = Mux(fits, total[count:count + bits], chosen), Mux(fits, count, down)
        m.d.comb += [short.eq(chosen), moved.eq(down)]
        # The most negative number is one place too large.
        least = Signal(name="least")
        m.d.comb += least.eq(short[-1] & ~short[:-1].any())
        m.d.comb += [self.sum.eq(Cat(short[:-2], short[-2] | least, short[-1]).as_signed()),
                     self.place.eq(larger + moved + least)]
        with m.If(self.en):
            m.d.sync += [held.eq(self.sum), place.eq(self.place)]
        with m.If(self.en & self.last):
            m.d.sync += [held.eq(0), place.eq(0)]

    def _specials(self, m: Module) -> None:
        design = self.design
        seen = Signal(flag_layout(design), name="seen")
        nan: Value = self.nan
        if has_inf(design):
            inf = Cat(operand.inf for operand in (self.operands[i] for i in range(design.lanes)))
            sign = Cat(self.operands[i].sign for i in range(design.lanes)) ^ self.negative
            nan = nan | (inf & self.zero).any()
            m.d.comb += [seen.pos.eq(self.check & (inf & ~self.zero & ~sign).any()),
                         seen.neg.eq(self.check & (inf & ~self.zero & sign).any())]
        m.d.comb += seen.nan.eq(self.check & nan)
        now = seen.as_value()
        for stage in range(design.pipeline):
            now = self._hold(m, now, f"seen_{stage}")
        held = Signal(flag_layout(design), name="flags_q")
        new = held.as_value() | now
        with m.If(self.en):
            m.d.sync += held.eq(Mux(self.last, 0, new))
        m.d.comb += self.flags.eq(new)


def _lane_shifter(design: BitSerialDesign) -> UnsignedShifter:
    """A significand to its place, the activation's and the term's together."""
    bits, most = design.significand_bits, design.max_exponent + design.max_shift
    every = (1 << bits) - 1
    return UnsignedShifter(f"u{bits}_by{most}", dict.fromkeys(range(most + 1), every), bits, bits + most + 1)
