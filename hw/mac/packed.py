# amaranth: UnusedElaboratable=no
"""The data path of two DSP blocks: every mode's products are two signed multiplications.

::

    a ─► PackedEdge ─► a1 * 2**s + a0 ─┐                 bits s and up: a0 w0 + a1 w1
    w ─► PackedEdge ─► w0 * 2**s + w1 ─┴─► multiplier ─► cut ─► shifter ─┐
         lanes 2, 3: the same ───────────────────────► cut ─► shifter ───┴─► adder ─► value, carry
         shifts of a, w (floats) ──────────────────────────────┘

Four lanes of small integers (E2M1 is one, in units of 0.5) go through two multipliers: the product of two packed
operands holds ``a0 w0 + a1 w1`` between ``a0 w1`` below and ``a1 w0`` above, and bit ``s - 1``, the sign of what is
below, is the plus one that the floor took away. Two lanes have a multiplier each, their operands placed so that the
product begins at bit ``s`` too. So one field serves all modes, only the bits above it have to be cut in packed modes.
Everything that one operand alone decides (decoding, packing, placing) is in the edges.

Two products in one DSP block by a sum of shifted operands is a known technique for a shared factor (Xilinx WP486); here
both factors are packed and the middle field is used, which is the dot product of two lanes.
"""

from __future__ import annotations

from functools import cached_property, reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed
from amaranth.lib import data

from bitkiln.models.design.morphable import Mode, MorphableDesign
from bitkiln.models.formats import Format

from ..arith.multiply import multiplier_for
from ..arith.shift import SignedShifter
from ..arith.signed import Term, sum_terms
from ..emit import shared
from .merged_edge import ByteGate, ChosenModes, ModeFlags, SignedMinifloat
from .merged_lane import NibbleGate, NibbleTable
from .merged_plan import ModePlan, fields_of, signed_bits, signed_reach
from .morphable import OperandEdge, PeDataPath, delayed

__all__ = ["PackedEdge", "PackedPath", "PackedPlan"]

PRODUCTS = 2
# Registers for each pipeline depth: operands, products, aligned products, their sum.
_CUTS = {
    0: (),
    1: ("multiply",),
    2: ("multiply", "sum"),
    3: ("decode", "multiply", "sum"),
    4: ("decode", "multiply", "align", "sum"),
}


def _floating(fmt: Format) -> bool:
    """Whether an operand has an exponent of its own; 4-bit ones are integers of their units."""
    return fmt.family != "int" and fmt.bits > 4


class PackedPlan(ModePlan):
    """Widths and places."""

    @cached_property
    def fours(self) -> list[Mode]:
        return self.modes(4)

    @cached_property
    def pairs(self) -> list[Mode]:
        return self.modes(PRODUCTS)

    @cached_property
    def floats(self) -> list[Mode]:
        return [mode for mode in self.pairs if _floating(mode.activation)]

    @cached_property
    def place(self) -> int:
        """Signed width of ``a0 w0 + a1 w1``, and so of ``a0 w1`` below: where in the product that sum begins, or the
        product of one lane. 0 without packed modes."""
        return self._exact_bits(max((2 * mode.activation.max_units * mode.weight.max_units for mode in self.fours),
                                    default=0))

    def _exact_bits(self, limit: int) -> int:
        # +limit occurs (integers: the square of the most negative one).
        return signed_bits((-limit, limit)) if limit else 0

    def offset(self, role: str) -> int:
        """Place of the operand of a lane that has a multiplier of its own; both together are ``place``."""
        return (self.place + 1) // 2 if role == "activation" else self.place // 2

    def significand_bits(self, role: str, lanes: int) -> int:
        """Signed width of one lane's significand in the modes of so many lanes."""
        return signed_bits((s for fmt in self.formats(role, lanes) for s, _ in fields_of(fmt)), 0)

    def operand_bits(self, role: str) -> int:
        """Signed width of what the multiplier takes."""
        # The lower operand may borrow from the upper one: -8 * 2**9 - 8 is one bit wider than -8.
        packed = signed_bits(((s << self.place) + s for fmt in self.formats(role, 4) for s, _ in fields_of(fmt)), 0)
        own = self.offset(role) + self.significand_bits(role, PRODUCTS) if self.pairs else 0
        return max(packed, own)

    @cached_property
    def shift_bits(self) -> int:
        """Of one operand."""
        return max((fmt.exponent_bits for mode in self.floats for fmt in (mode.activation, mode.weight)), default=0)

    @cached_property
    def reach(self) -> dict[int, int]:
        """Shift -> signed width of the field before the shifter."""
        out = signed_reach([(mode.activation, mode.weight) for mode in self.floats])
        fixed = [self.place] if self.fours else []
        fixed += [self._exact_bits(mode.dot().max_product) for mode in self.pairs if mode not in self.floats]
        if fixed:
            out[0] = max(out.get(0, 1), *fixed)
        return out

    @cached_property
    def field_bits(self) -> int:
        return max(self.reach.values())

    @cached_property
    def limit(self) -> int:
        """Largest magnitude of what one multiplier adds."""
        return max(mode.lanes // PRODUCTS * mode.dot().max_product for mode in self.design.modes)

    def layout(self, role: str) -> data.StructLayout:
        """What an edge gives: operands of both multipliers, shifts, whether a lane is NaN."""
        fields: dict[str, object] = {f"x{n}": signed(self.operand_bits(role)) for n in range(PRODUCTS)}
        if self.shift_bits:
            fields |= {f"shift{n}": self.shift_bits for n in range(PRODUCTS)}
        if any(getattr(mode, role).has_nan for mode in self.design.modes):
            fields["nan"] = 1
        return data.StructLayout(fields)


class PackedEdge(OperandEdge):
    """See the module's text; decoders that the mode does not use get code 0 and give 0, so formats are joined by an or.

    Parameters
    ----------
    role : str
        ``activation`` or ``weight``.
    registered : bool
        A register behind it: in an array its outputs go to a whole row or column.
    """

    def __init__(self, design: MorphableDesign, role: str, registered: bool = False):
        self.role, self.registered, self.plan = role, registered, PackedPlan(design)
        self.layout = self.plan.layout(role)
        super().__init__(design, self.layout.size)

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_{self.role}_edge" + "_registered" * self.registered

    def elaborate(self, platform) -> Module:
        m = Module()
        plan, role = self.plan, self.role
        o = Signal(self.layout)
        m.d.comb += self.o.eq(delayed(m, o.as_value(), "o", int(self.registered)))
        chosen = ChosenModes(m, self.design, role, self.mode, "flags")
        values: list[Value] = []
        shifts: list[list[Value]] = [[] for _ in range(PRODUCTS)]
        nans: list[Value] = []

        if plan.fours:
            bits = plan.significand_bits(role, 4)
            lanes = [reduce(or_, [self._nibble(m, fmt, lane, 4, chosen.active(fmt, 4), bits)
                                  for fmt in plan.formats(role, 4)]) for lane in range(4)]
            for n in range(PRODUCTS):
                first, second = lanes[2 * n:2 * n + 2]
                if role == "weight":
                    first, second = second, first
                values.append(first.as_signed() + (second.as_signed() << plan.place))
        if plan.pairs:
            bits = plan.significand_bits(role, PRODUCTS)
            for n in range(PRODUCTS):
                own = []
                for fmt in plan.formats(role, PRODUCTS):
                    on = chosen.active(fmt, PRODUCTS)
                    if fmt.bits == 4:
                        own.append(self._nibble(m, fmt, n, PRODUCTS, on, bits))
                        continue
                    m.submodules[f"gate_{fmt.name}_{n}"] = gate = shared(ByteGate(fmt.bits))
                    m.d.comb += [gate.code.eq(self.code.word_select(n, fmt.bits)), gate.active.eq(on)]
                    if not _floating(fmt):
                        own.append(self._extended(gate.o, bits))
                        continue
                    m.submodules[f"decode_{fmt.name}_{n}"] = unit = shared(SignedMinifloat(fmt))
                    m.d.comb += unit.code.eq(gate.o)
                    own.append(self._extended(unit.significand, bits))
                    shifts[n].append(unit.shift)
                    if fmt.has_nan:
                        nans.append(unit.nan)
                placed = Cat(Const(0, plan.offset(role)), reduce(or_, own)).as_signed()
                if plan.fours:
                    values[n] = values[n] | placed
                else:
                    values.append(placed)
        for n in range(PRODUCTS):
            m.d.comb += getattr(o, f"x{n}").eq(values[n])
            if shifts[n]:
                m.d.comb += getattr(o, f"shift{n}").eq(reduce(or_, shifts[n]))
        if nans:
            m.d.comb += o.nan.eq(Cat(*nans).any())
        return m

    def _nibble(self, m: Module, fmt: Format, lane: int, lanes: int, active: Value, bits: int) -> Value:
        """A 4-bit code as its number of units, two's complement."""
        m.submodules[f"gate_{fmt.name}_{lanes}_{lane}"] = gate = shared(NibbleGate())
        m.d.comb += [gate.code.eq(self.code.word_select(lane, 4)), gate.active.eq(active)]
        if fmt.family == "int":
            return self._extended(gate.o, bits)
        table = [int(units) & (1 << bits) - 1 for units in fmt.units(range(16))]
        m.submodules[f"units_{fmt.name}_{lanes}_{lane}"] = unit = shared(
            NibbleTable(f"units_{fmt.name}_{bits}", table, bits))
        m.d.comb += unit.code.eq(gate.o)
        return unit.o

    def _extended(self, value: Value, bits: int) -> Value:
        return value[:bits] if len(value) >= bits else Cat(value, value[-1].replicate(bits - len(value)))


class PackedPath(PeDataPath):
    """Two multipliers for all modes (`PeDataPath`), for exact and int32 sums."""

    def __init__(self, design: MorphableDesign, decoded: bool = False):
        self.cuts = frozenset(_CUTS[design.pipeline])
        self.edge_register = decoded and "decode" in self.cuts
        self.plan = PackedPlan(design)
        edges = (PackedEdge(design, "activation", self.edge_register), PackedEdge(design, "weight", self.edge_register))
        super().__init__(design, edges, (PRODUCTS * self.plan.limit).bit_length() + 1)

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_path" + "_core" * self.edge_register

    def elaborate(self, platform) -> Module:
        m = Module()
        design, plan = self.design, self.plan

        def held(cut: str, value: Value, name: str) -> Value:
            """The value behind this cut's register, if there is one."""
            return delayed(m, value, f"{name}_{cut}", int(cut in self.cuts and not isinstance(value, Const)))

        a, w = (data.View(edge.layout, port if self.edge_register else held("decode", port, name))
                for name, edge, port in zip("aw", self.edges, (self.a, self.w), strict=True))
        packed = Const(1, 1)
        if plan.pairs:
            packed = Const(0, 1)
            if plan.fours and plan.field_bits > plan.place:
                m.submodules.flags = flags = shared(ModeFlags(design))
                m.d.comb += flags.mode.eq(held("multiply", held("decode", self.mode, "mode"), "mode"))
                packed = flags.nibble
        terms = [self._term(m, n, a, w, packed, held) for n in range(PRODUCTS)]
        total = sum_terms(m, terms)
        m.d.comb += [self.value.eq(held("sum", total.value, "value")),
                     self.carry.eq(held("sum", Cat(*total.carries), "carry"))]
        if "nan" in self.events:
            nan: Value = Cat(*[x.nan for x in (a, w) if "nan" in x.shape().members]).any()
            for cut in ("multiply", "align", "sum"):
                nan = held(cut, nan, "nan")
            m.d.comb += self.nan.eq(nan)
        return m

    def _term(self, m: Module, n: int, a: data.View, w: data.View, packed: Value, held) -> Term:
        plan = self.plan
        shapes = [Shape(plan.operand_bits(role), signed=True) for role in ("activation", "weight")]
        m.submodules[f"multiply{n}"] = unit = shared(multiplier_for(*shapes, structure="operator"))
        m.d.comb += [unit.a.eq(getattr(a, f"x{n}")), unit.b.eq(getattr(w, f"x{n}"))]
        product = held("multiply", unit.o, f"product{n}")
        place = plan.place
        bits: list[Value] = list(product[place:place + plan.field_bits])
        if isinstance(packed, Const):
            field = Cat(*bits).as_signed()
        else:
            top = bits[place - 1] & packed
            field = Cat(*bits[:place], *[bit & ~packed | top for bit in bits[place:]]).as_signed()
        if plan.shift_bits:
            shift = Signal(max(plan.reach).bit_length(), name=f"shift{n}_total")
            m.d.comb += shift.eq(getattr(a, f"shift{n}") + getattr(w, f"shift{n}"))
            shifter = SignedShifter(self.design.name, plan.reach, len(field), plan.limit.bit_length() + 1, False)
            m.submodules[f"align{n}"] = align = shared(shifter)
            m.d.comb += [align.product.eq(field), align.shift.eq(held("multiply", shift, f"shift{n}"))]
            field = align.value
        carries = (held("align", product[place - 1], f"carry{n}"),) if plan.fours else ()
        return Term(held("align", field, f"field{n}"), carries, plan.limit)
