# amaranth: UnusedElaboratable=no
"""Two integer products of one activation in one multiplier of 18 bits, for DSP blocks.

::

    a ──────────────────► x ─► top:  a * v + rest            ─► tree ─────────┬─► total of v
    {v, 0, w + 2**o} ───► x ─► low:  a * (w + 2**o) mod 2**s ─► tree ──────┐  │ -
    a, v ─► low bits of a * v ─► rest = top - a * v ─────────► tree ─► 2**s ┼──┘
                                                                           +─► total of w
    a ───────────────────────────────────────────────────────► tree ─► 2**o ┘ -

``v`` and ``w`` lie side by side in one operand, ``w`` without its sign: ``a * v * 2**s + a * (w + 2**o)``. Two products
of 8 bits each take 16 bits, but only 18 - 8 places lie between, so they overlap by 6: ``rest``. The low bits of
``a * v`` alone, which tell it, are cheap: three rows of digits of the activation. Everything else is done once for all
lanes: what ``rest`` adds to ``top``, and what the offset adds, which is the same for all outputs.

Two products of a shared factor in one DSP block are known where they do not overlap (Xilinx WP486).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In

from bitkiln.models.design.spconv import GatherDesign

from ..arith.cells import Adder
from ..arith.delay import late
from ..arith.multiply import OperatorMultiplier
from ..emit import shared
from .gather_array import GatherArray, GatherColumn
from .gather_digits import low_digits
from .gather_layouts import total_layout
from .gather_tree import Stages, Sum, add, minus, signed_bits

__all__ = ["PairArray", "PairColumn"]

OPERAND_BITS = 18


class _Plan:
    """Widths and registers."""

    def __init__(self, design: GatherDesign):
        self.a_bits, self.w_bits, self.lanes = design.activation.bits, design.weight.bits, design.lanes
        # Where the upper product begins; one bit of the lower one or more lies above.
        self.place = min(OPERAND_BITS - self.w_bits, self.a_bits + self.w_bits - 1)
        self.rest_bits = self.a_bits + self.w_bits - self.place
        self.offset = self.w_bits - 1
        limit = self.lanes * design.activation.max_units * design.weight.max_units
        self.value_bits = signed_bits(-limit, limit)
        # The first register is behind the multiplier, the others among rest, trees and two sums.
        self.levels = 1 + (self.lanes - 1).bit_length() + 2
        self.registers = min(max(design.pipeline - 1, 1), design.pipeline, self.levels)
        self.multiplied = design.pipeline - self.registers
        self.sum_bits = signed_bits(-self.lanes << self.a_bits - 1, self.lanes * ((1 << self.a_bits - 1) - 1))

    def stages(self, m: Module) -> Stages:
        return Stages(m, self.registers, self.levels)

    def behind_multiplier(self, m: Module, value: Value, name: str) -> Value:
        """The value behind the multiplier's register, if there is one."""
        for edge in range(self.multiplied):
            value = late(m, value, f"{name}_{edge}")
        return value


def low_layout(bits: int) -> data.StructLayout:
    """Digits of the low bits of an activation, each 0, 1, 2 or -1; a negative one owes a plus one."""
    count = (bits + 1) // 2
    return data.StructLayout({"one": count, "two": count, "owes": count})


def low_product(m: Module, name: str, digits: data.View, w: Value, bits: int) -> Value:
    """Low bits of ``a * w`` but for the plus one that the lowest digit owes."""
    places = [*w[:bits], *[Const(0, 1)] * (bits - len(w))]
    total: Value = Const(0, 0)
    for d in reversed(range(len(digits.one))):
        one, two = digits.one[d], digits.two[d]
        row = Cat(Mux(two, Mux(one, ~places[i], places[i - 1] if i else 0), one & places[i])
                  for i in range(bits - 2 * d))
        part = Signal(len(row), name=f"{name}_part{d}")
        m.d.comb += part.eq(Cat(row[:2], row[2:] + total + digits.owes[d + 1]) if len(total) else row)
        total = part
    return total


class PairColumn(GatherColumn):
    """Two outputs of `PairArray`; made of the activations are their codes and the digits of their low bits.

    Members
    -------
    offset : In(signed)
        Sum of the activations, at the end of the trees.
    """

    def __init__(self, design: GatherDesign):
        self.plan = plan = _Plan(design)
        self.operand = data.StructLayout({"code": signed(plan.a_bits), "low": low_layout(plan.rest_bits)})
        super().__init__(design, self.operand.size, 2, data.ArrayLayout(total_layout(design, plan.value_bits), 2),
                         offset=In(signed(plan.sum_bits)))

    @property
    def module_name(self) -> str:
        d = self.design
        return f"pair_column_{d.dot.pe_name}_l{d.lanes}_p{d.pipeline}"

    def elaborate(self, platform) -> Module:
        m = Module()
        made, weights, _ = self.operands(m)
        plan, stages = self.plan, self.plan.stages(m)
        place, rest_bits = plan.place, plan.rest_bits
        a_low, a_high = -(1 << plan.a_bits - 1), (1 << plan.a_bits - 1) - 1
        half = 1 << rest_bits - 1
        tops, lows, rests = [], [], []
        for lane in range(plan.lanes):
            given = data.View(self.operand, made[lane])
            a, w, v = given.code, weights[lane][:plan.w_bits], weights[lane][plan.w_bits:]
            operand = Cat(w[:-1], ~w[-1], Const(0, place - plan.w_bits), v).as_signed()
            m.submodules[f"multiply{lane}"] = unit = shared(OperatorMultiplier(a.shape(), operand.shape()))
            m.d.comb += [unit.a.eq(a), unit.b.eq(operand)]
            product = plan.behind_multiplier(m, unit.o, f"product{lane}")
            below = Cat(low_product(m, f"below{lane}", given.low, v, rest_bits), given.low.owes[0])
            below = plan.behind_multiplier(m, ~below, f"below{lane}")
            top, low = product[place:].as_signed(), Cat(product[:place], Const(0, 1)).as_signed()
            m.submodules[f"rest{lane}"] = less = shared(Adder(rest_bits, rest_bits, rest_bits))
            m.d.comb += [less.x.eq(top[:rest_bits]), less.y.eq(below[:-1]), less.c.eq(below[-1])]
            tops.append(Sum(top, None, a_high * -(1 << plan.w_bits - 1) - half, -a_low << plan.w_bits - 1))
            lows.append(Sum(low, None, 0, (1 << place) - 1))
            rests.append(Sum(less.o, None, -half, half - 1))
        everything = stages.held([*tops, *lows, *rests], 1)
        groups = [everything[at:at + plan.lanes] for at in range(0, len(everything), plan.lanes)]
        top, low, rest = stages.trees("tree", groups)
        offset = Sum(self.offset, None, plan.lanes * a_low, plan.lanes * a_high)
        upper = add(m, "upper", top, minus(rest))
        shares = add(m, "shares", minus(offset), rest, place - plan.offset)
        upper, low, shares = stages.held([upper, low, shares], 1)
        lower = add(m, "lower", low, shares, plan.offset)
        upper, lower = stages.held([upper, lower], 1)
        m.d.comb += [self.o[0].value.eq(lower.value), self.o[1].value.eq(upper.value)]
        return m


class PairArray(GatherArray):
    """Both formats signed integers of at most 8 bits, an even number of outputs."""

    def __init__(self, design: GatherDesign):
        self.column = PairColumn(design)
        self.plan = self.column.plan
        super().__init__(design, self.plan.value_bits)

    def elaborate(self, platform) -> Module:
        m = Module()
        d, plan = self.design, self.plan
        codes, active = self.activations(m)
        operands = []
        for lane, code in enumerate(codes):
            operand = Signal(self.column.operand, name=f"operand{lane}")
            bits = [*code[:plan.rest_bits], Const(0, 1)][:2 * len(operand.low.one)]
            low_digits(m, bits, operand.low.one, operand.low.two, operand.low.owes)
            m.d.comb += operand.code.eq(code)
            operands.append(operand.as_value())
        for made, soon, columns in self.near(m, self.registered(m, operands), active):
            offset = self._offset(m, made, columns[0])
            for pair in columns:
                m.submodules[f"column{pair}"] = unit = shared(self.column if pair == 0 else PairColumn(d))
                m.d.comb += [unit.made.eq(made), unit.soon.eq(soon), unit.w.eq(self.weights_of(m, 2 * pair, 2)),
                             unit.offset.eq(offset),
                             *[self.totals[2 * pair + side].eq(unit.o[side]) for side in range(2)]]
        return m

    def _offset(self, m: Module, made: Value, first: int) -> Value:
        """The sum of the activations, through as many registers as what it meets in the columns."""
        plan, terms = self.plan, []
        low, high = -(1 << plan.a_bits - 1), (1 << plan.a_bits - 1) - 1
        for lane in range(plan.lanes):
            here = Signal(signed(plan.a_bits), name=f"here{first}_{lane}", reset_less=True)
            m.d.sync += here.eq(made.word_select(lane, self.column.operand.size))
            terms.append(Sum(plan.behind_multiplier(m, here, f"late{first}_{lane}"), None, low, high))
        stages = plan.stages(m)
        offset, = stages.trees(f"offset{first}", [stages.held(terms, 1)])
        return offset.value
