# amaranth: UnusedElaboratable=no
"""Weight codes to signed powers of two, one a step.

One decoder for each lane of a column, shared by all rows. Which terms a code has is a table of `models.design.weights`;
types of two's complement integers take radix-4 Booth digits from three neighbouring bits instead.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant_streams import special_terms, term_fields
from bitkiln.models.design.weights import SPECIALS, Term, WeightType

__all__ = ["TermDecoder", "special_layout", "term_layout"]


def term_layout(design: BitSerialDesign) -> data.StructLayout:
    """``(-1)**neg * 2**shift``, or nothing where ``valid`` is 0."""
    return data.StructLayout(term_fields(design))


def special_layout(design: BitSerialDesign) -> data.ArrayLayout:
    """A special value as the table holds it: its terms, in common units, by falling significance."""
    return data.ArrayLayout(term_layout(design), special_terms(design))


class TermDecoder(wiring.Component):
    """Terms of one weight; combinational.

    Parameters
    ----------
    design : BitSerialDesign

    Members
    -------
    code : In(code_bits), type : In, step : In
        ``step`` counts from 0 (the most significant term).
    special : In(special_layout), with a type that has special values
        Terms of the group's special value.
    zero_point : In(signed), with zero-points and specials
        Of the group.
    term : Out(term_layout)
        Of this step.
    count : Out, with ``zero_skip``
        Terms that this weight has.
    zero, negative : Out(1), with specials
        Whether the whole weight (zero-point included) is zero, is negative.
    """

    def __init__(self, design: BitSerialDesign):
        self.design = design
        self.step_bits = max((design.max_terms - 1).bit_length(), 1)
        self.type_bits = max((len(design.weights) - 1).bit_length(), 1)
        self.has_special = special_terms(design) > 0
        self.has_flags = design.specials or design.dual_scale
        members = {"code": In(design.code_bits), "type": In(self.type_bits), "step": In(self.step_bits),
                   "term": Out(term_layout(design))}
        if self.has_special:
            members["special"] = In(special_layout(design))
        if design.zero_skip:
            members["count"] = Out(range(design.max_terms + 1))
        if self.has_flags:
            members.update(zero=Out(1), negative=Out(1))
            if design.zero_point:
                members["zero_point"] = In(design.zero_point)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"terms_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        found = []
        for index, weight in enumerate(design.weights):
            prefix = f"t{index}"
            terms = self._booth(m, prefix, weight, design.offset(index)) if weight.booth else \
                self._table(m, prefix, weight, design.offset(index))
            term = Signal(term_layout(design), name=f"{prefix}_term")
            with m.Switch(self.step):
                for step, choice in enumerate(terms):
                    with m.Case(step) if step < len(terms) - 1 else m.Default():
                        m.d.comb += term.eq(choice)
            if len(terms) < design.max_terms:
                # Other columns of the chunk may need more steps.
                gated = Signal(term_layout(design), name=f"{prefix}_gated")
                m.d.comb += [gated.eq(term), gated.valid.eq(term.valid & (self.step < len(terms)))]
                term = gated
            found.append((term, terms))
        m.d.comb += self.term.eq(self._by_type([term.as_value() for term, _ in found]))
        if design.zero_skip:
            counts = [sum((Value.cast(t.valid) for t in terms), Const(0, 1)) for _, terms in found]
            m.d.comb += self.count.eq(self._by_type(counts))
        if self.has_flags:
            self._flags(m, found)
        return m

    def _by_type(self, values: list[Value]) -> Value:
        chosen = values[-1]
        for index in reversed(range(len(values) - 1)):
            chosen = Mux(self.type == index, values[index], chosen)
        return chosen

    def _const(self, term: Term | None, offset: int) -> Value:
        layout = term_layout(self.design)
        if term is None:
            return Const(0, layout.size)
        return Cat(Const(term.negative, 1), Const(1, 1), Const(term.shift + offset, layout["shift"].shape))

    def _table(self, m: Module, prefix: str, weight: WeightType, offset: int) -> list:
        """The terms by a table of all codes."""
        layout = term_layout(self.design)
        terms = [Signal(layout, name=f"{prefix}_{step}") for step in range(weight.terms)]
        with m.Switch(self.code[:weight.bits]):
            for code in range(1 << weight.bits):
                with m.Case(code):
                    if code == weight.special_code:
                        m.d.comb += [term.eq(self.special[step]) for step, term in enumerate(terms)]
                    else:
                        m.d.comb += [term.eq(self._const(known, offset))
                                     for term, known in zip(terms, weight.code_terms(code), strict=False)]
        return terms

    def _booth(self, m: Module, prefix: str, weight: WeightType, offset: int) -> list:
        """Radix-4 digits -2..2 from three neighbouring bits; with ``zero_skip`` the zeros close up."""
        layout = term_layout(self.design)
        code = self.code[:weight.bits]
        bits = Cat(Const(0, 1), code, code[-1])
        digits = []
        for place in reversed(range(0, weight.bits, 2)):
            low, middle, high = bits[place], bits[place + 1], bits[place + 2]
            digit = Signal(layout, name=f"{prefix}_digit{place}")
            twice = ~(low ^ middle)  # the magnitude is two, or zero
            m.d.comb += [digit.neg.eq(high), digit.valid.eq((high ^ middle) | (middle ^ low)),
                         digit.shift.eq(Mux(twice, place + 1 + offset, place + offset))]
            digits.append(digit)
        if not self.design.zero_skip or len(digits) == 1:
            return digits
        # The n-th digit that is not zero: each takes itself or one of the next ones.
        packed = digits
        for level in range(len(digits) - 1):
            following = []
            for at in range(len(packed)):
                term = Signal(layout, name=f"{prefix}_packed{level}_{at}")
                if at + 1 < len(packed):
                    # A hole at or before this place moves everything above it down by one.
                    hole = Cat(~packed[i].valid for i in range(at + 1)).any()
                    m.d.comb += term.eq(Mux(hole, packed[at + 1], packed[at]))
                else:
                    hole = Cat(~packed[i].valid for i in range(at + 1)).any()
                    m.d.comb += term.eq(Mux(hole, Const(0, layout.size), packed[at]))
                following.append(term)
            packed = following
        return packed

    def _flags(self, m: Module, found: list) -> None:
        """Sign and zero of the weight that counts: the code's, less its zero-point."""
        design = self.design
        zero, negative = [], []
        for index, (weight, (_, terms)) in enumerate(zip(design.weights, found, strict=True)):
            if design.zero_point:
                units = self._units(m, f"t{index}_units", weight, index)
                point = self.zero_point.as_signed() << design.zero_shift
                zero.append(units == point)
                negative.append(units < point)
            elif weight.booth:
                zero.append(~self.code[:weight.bits].any())
                negative.append(self.code[weight.bits - 1])
            else:
                zero.append(~terms[0].valid)
                negative.append(terms[0].neg)
        m.d.comb += [self.zero.eq(self._by_type(zero)), self.negative.eq(self._by_type(negative))]

    def _units(self, m: Module, name: str, weight: WeightType, index: int) -> Value:
        """The weight as an integer of common units."""
        width = self.design.max_weight.bit_length() + 1
        units = Signal(data.StructLayout({"v": width}), name=name)
        values = [(v or 0) << self.design.offset(index) for v in weight.values]
        total = Array([Const(v & ((1 << width) - 1), unsigned(width)) for v in values])[self.code[:weight.bits]]
        if weight.special_code is not None:
            sv = Const(0, width)
            for term in (self.special[i] for i in range(special_terms(self.design))):
                power = Mux(term.valid, 1, 0) << term.shift
                sv = (sv + Mux(term.neg, -power, power))[:width]
            total = Mux(self.code[:weight.bits] == weight.special_code, sv, total)
        m.d.comb += units.v.eq(total)
        return units.v.as_signed()


SPECIAL_ENTRIES = SPECIALS
