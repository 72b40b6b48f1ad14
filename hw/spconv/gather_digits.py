# amaranth: UnusedElaboratable=no
"""Integer products without multipliers: digits of the activation choose multiples of the weights.

::

    a ─► digits {-1, 0, 1, 2}, top -2 .. 2 ─► registers ─┬─► for each output
                                                         ▼
         w ─────────────► row of digit 0: {~w, 0, w, 2w} ─► tree over the lanes ─┐
                          row of digit 1                 ─► tree                 ├─► * 4 ** digit, added
                          ...                                                    ┘

The digits are made once for all outputs. Rows of one digit are added over the lanes before digits are brought
together: narrower adders, and fewer bits to register. The plus one that a negative row owes is a carry of the tree.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from ..emit import shared
from .gather_array import GatherArray, GatherColumn
from .gather_layouts import total_layout
from .gather_tree import Stages, Sum, add, signed_bits

__all__ = ["DigitArray", "DigitColumn", "Digits", "digit_count", "digit_layout", "digit_rows", "low_digits"]


def digit_count(bits: int, signed: bool) -> int:
    """Radix-4 digits of an integer."""
    return (bits + (not signed) + 1) // 2


def digit_layout(count: int) -> data.StructLayout:
    """``two``, ``one``: 00 is 0, 01 is 1, 10 is 2, 11 is -1. The top digit is ``odd``, or twice one, negative with
    ``high``.

    ``owes``: the row is negative, as one's complement.
    """
    return data.StructLayout({"one": count - 1, "two": count - 1, "odd": 1, "even": 1, "high": 1, "owes": count})


class Digits(wiring.Component):
    """Digits of one activation; all zeros for code 0.

    Members
    -------
    code : In
    o : Out(digit_layout)
    """

    def __init__(self, bits: int, signed: bool):
        self.bits, self.signed, self.count = bits, signed, digit_count(bits, signed)
        super().__init__({"code": In(bits), "o": Out(digit_layout(self.count))})

    @property
    def module_name(self) -> str:
        return f"digits_{'s' if self.signed else 'u'}{self.bits}"

    def elaborate(self, platform) -> Module:
        m = Module()
        code, o = list(self.code), self.o
        sign = code[-1] if self.signed else Const(0, 1)
        code += [sign] * (2 * self.count - len(code))
        carry = low_digits(m, code[:-2], o.one, o.two, o.owes)
        low, high = code[-2:]
        m.d.comb += [o.odd.eq(low ^ carry), o.even.eq(~o.odd & (high ^ low)), o.high.eq(high),
                     o.owes[-1].eq(high & ~(low & carry))]
        return m


def low_digits(m: Module, code: list[Value], one: Value, two: Value, owes: Value) -> Value:
    """Digits below the top one; the carry into that is returned. Digit 3 is -1 and a carry."""
    carry: Value = Const(0, 1)
    for d in range(len(code) // 2):
        low, high = code[2 * d:2 * d + 2]
        m.d.comb += [one[d].eq(low ^ carry), two[d].eq(high ^ (low & carry)), owes[d].eq(one[d] & two[d])]
        carry = high & (low | carry)
    return carry


def digit_rows(m: Module, name: str, digits: data.View, weight: list[Value], low: int, high: int) -> list[Sum]:
    """Multiples of a signed weight, ``low`` to ``high``, by the digits of an activation: one term for each digit."""
    bits = [*weight, weight[-1]]
    rows = []
    for d in range(len(digits.owes)):
        row = Signal(len(bits), name=f"{name}_row{d}")
        for i, bit in enumerate(bits):
            below = bits[i - 1] if i else Const(0, 1)
            if d < len(digits.one):
                value = Mux(digits.two[d], Mux(digits.one[d], ~bit, below), digits.one[d] & bit)
            else:
                value = Mux(digits.odd, bit ^ digits.high, digits.even & (below ^ digits.high))
            m.d.comb += row[i].eq(value)
        top = d == len(digits.one)
        rows.append(Sum(row.as_signed(), digits.owes[d], min(2 * low, (-2 if top else -1) * high - 1),
                        max(2 * high, (-2 if top else -1) * low - 1)))
    return rows


class DigitColumn(GatherColumn):
    """One output of `DigitArray`; made of the activations are their digits."""

    def __init__(self, design: GatherDesign):
        self.digits = digit_layout(digit_count(design.activation.bits, design.activation.signed))
        limit = design.lanes * design.activation.max_units * design.weight.max_units
        self.value_bits = signed_bits(-limit - 1, limit)
        super().__init__(design, self.digits.size, 1, total_layout(design, self.value_bits))

    @property
    def module_name(self) -> str:
        d = self.design
        return f"digit_column_{d.dot.pe_name}_l{d.lanes}_p{d.pipeline}"

    def elaborate(self, platform) -> Module:
        m = Module()
        d, bits = self.design, self.design.weight.bits
        made, w, _ = self.operands(m)
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if d.weight.signed else (0, (1 << bits) - 1)
        rows = []
        for lane in range(d.lanes):
            weight = [*w[lane], *([] if d.weight.signed else [Const(0, 1)])]
            rows.append(digit_rows(m, f"lane{lane}", data.View(self.digits, made[lane]), weight, low, high))
        terms = [list(each) for each in zip(*rows, strict=True)]
        stages = Stages(m, d.pipeline, (d.lanes - 1).bit_length() + (len(terms) - 1).bit_length())
        sums, step = stages.trees("digit", [stages.held(each) for each in terms]), 2
        while len(sums) > 1:
            sums = stages.held([add(m, f"combine{step}_{i}", sums[i], sums[i + 1], step) if i + 1 < len(sums)
                                else sums[i] for i in range(0, len(sums), 2)], 1)
            step *= 2
        total = sums[0]
        m.d.comb += [self.o.value.eq(total.value), self.o.carry.eq(0 if total.carry is None else total.carry)]
        return m


class DigitArray(GatherArray):
    """Both formats integers."""

    def __init__(self, design: GatherDesign):
        self.column = DigitColumn(design)
        super().__init__(design, self.column.value_bits)

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        codes, active = self.activations(m)
        digits = []
        for lane, code in enumerate(codes):
            m.submodules[f"digits{lane}"] = unit = shared(Digits(d.activation.bits, d.activation.signed))
            m.d.comb += unit.code.eq(code)
            digits.append(unit.o.as_value())
        for made, soon, columns in self.near(m, self.registered(m, digits), active):
            for output in columns:
                m.submodules[f"column{output}"] = unit = shared(self.column if output == 0 else DigitColumn(d))
                m.d.comb += [unit.made.eq(made), unit.soon.eq(soon), unit.w.eq(self.weights_of(m, output, 1)),
                             self.totals[output].eq(unit.o)]
        return m
