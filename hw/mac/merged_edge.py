# amaranth: UnusedElaboratable=no
"""Operand decoder of a merged PE: one word to significands, shifts and 4-bit lanes.

::

    code ─► recode (4-bit codes of lanes 0, 2 as 8-bit ones) ─► decoders of the 16- and 8-bit formats ─► or ─► word
      └───► 4-bit decoders of the lanes with a product of their own ──────────────────────────────────────────┘

A decoder that the mode does not use gets code 0 and gives 0, so formats are joined by an or.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.morphable import Mode, MorphableDesign
from bitkiln.models.formats import Format, get_format

from ..arith.cells import Part
from ..arith.simd import SimdDigits, digits_layout
from ..emit import shared
from ..formats.minifloat import MinifloatDecoder
from .merged_decode import PositPairDecoder
from .merged_lane import NibbleDecoder, NibbleGate, NibbleTable, lane_layout
from .merged_plan import MergedPlan, codes_in
from .morphable import OperandEdge, delayed

__all__ = ["ByteGate", "ChosenModes", "MergedEdge", "ModeFlags", "SignedMinifloat", "edge_layout"]

DIGITS, SPLIT = 8, 4
SPECIALS = ("nan", "inf", "zero", "negative")


def edge_layout(design: MorphableDesign, role: str) -> data.StructLayout:
    """The decoded word: significand (activation: as both halves of the multiplier see it; weight: radix-4 digits),
    shifts, lanes of their own, specials."""
    plan = MergedPlan(design)
    fields: dict[str, object] = {}
    if plan.multiplies:
        if design.multiplier == "operator":
            fields["x0"] = signed(max(plan.wide_bits if plan.wide else 0, plan.lane_bits if plan.halves else 0))
            if plan.halves:
                fields["x1"] = signed(plan.lane_bits)
        elif role == "activation":
            fields["low"] = max(plan.wide_bits if plan.wide else 0, plan.lane_bits)
            fields["high"] = max(plan.wide_bits if plan.wide else 0, 8 + plan.lane_bits if plan.halves else 0)
        else:
            fields["digits"] = digits_layout(DIGITS, SPLIT, plan.full)
        both = max(plan.shift_bits(1), plan.shift_bits(2))
        if both:
            fields["shift0"] = both
            fields["shift1"] = max(min(5, both), plan.shift_bits(2))
    for lane in range(4):
        if plan.alone(lane):
            fields[f"lane{lane}"] = lane_layout(plan.alone(lane))
    if any(fmt.has_nan for mode in design.modes for fmt in (mode.activation, mode.weight)):
        fields["nan"] = 1
    if _infinite(plan):
        fields |= {f"special{n}": data.StructLayout(dict.fromkeys(SPECIALS, 1)) for n in range(2)}
    return data.StructLayout(fields)


def _infinite(plan: MergedPlan) -> bool:
    return any(fmt.has_inf for mode in plan.halves for fmt in (mode.activation, mode.weight))


class ModeFlags(Part):
    """Classes of modes: ``wide``, ``nibble``, and one line for each mode. Never kept: most are a bit of the mode."""

    def __init__(self, design: MorphableDesign):
        self.design = design
        super().__init__({"mode": In(design.mode_bits), "wide": Out(1), "nibble": Out(1),
                          "each": Out(len(design.modes))}, f"{design.name}_flags", False)

    def elaborate(self, platform) -> Module:
        m = Module()
        modes = self.design.modes
        each = [self.mode == index if len(modes) > 1 else Const(1, 1) for index in range(len(modes))]

        def any_of(lanes: int) -> Value:
            mine = [bit for bit, mode in zip(each, modes, strict=True) if mode.lanes == lanes]
            return Const(int(bool(mine)), 1) if len(mine) in (0, len(modes)) else Cat(*mine).any()

        m.d.comb += [self.wide.eq(any_of(1)), self.nibble.eq(any_of(4)), self.each.eq(Cat(*each))]
        return m


class ByteGate(Part):
    """A word or zero."""

    def __init__(self, width: int, keep: bool = True):
        self.width = width
        super().__init__({"code": In(width), "active": In(1), "o": Out(width)}, f"word_gate_{width}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.code & self.active.replicate(self.width))
        return m


class RecodeJoin(Part):
    """The byte itself while ``active``, or one of the recoded ones."""

    def __init__(self, count: int, keep: bool = True):
        self.count = count
        super().__init__({"code": In(8), "active": In(1), "rows": In(8 * count), "o": Out(8)},
                         f"recode_join_{count}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = [self.rows.word_select(n, 8) for n in range(self.count)]
        m.d.comb += self.o.eq(reduce(or_, rows, self.code & self.active.replicate(8)))
        return m


class SignedMinifloat(Part):
    """Minifloat with a two's complement significand and the shift of its field; code 0 gives 0."""

    def __init__(self, fmt: Format, keep: bool = True):
        self.format, self.shift_bits = fmt, fmt.exponent_bits
        super().__init__({"code": In(fmt.bits), "significand": Out(8), "shift": Out(self.shift_bits), "nan": Out(1),
                          "inf": Out(1)}, f"decode_{fmt.name}_signed", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fields = fields = MinifloatDecoder(self.format, False)
        m.d.comb += fields.code.eq(self.code)
        bits, flip = [], Const(0, 1)
        for bit in fields.significand:
            bits.append(bit ^ flip)
            flip = flip | (bit & fields.sign)
        m.d.comb += self.significand.eq(Cat(*bits, *[flip] * (8 - len(bits))))
        if fields.has_subnormal:
            exponent = fields.shift
            m.d.comb += self.shift.eq(Mux(exponent.any(), exponent - 1, 0))
        elif fields.has_shift:
            m.d.comb += self.shift.eq(fields.shift)
        if fields.has_nan:
            m.d.comb += self.nan.eq(fields.nan)
        if fields.has_inf:
            m.d.comb += self.inf.eq(fields.inf)
        return m


def _wide_or_lane(s: Value, narrow: Value, bits: int) -> Value:
    """The whole significand, or lane 0's with its sign above."""
    return Cat(s[:8], *[Mux(narrow, s[7], s[i]) for i in range(8, bits)])


class MultiplicandHalves(Part):
    """The multiplicand as the lower and the upper rows of the multiplier see it."""

    def __init__(self, low_bits: int, high_bits: int, keep: bool = True):
        self.low_bits, self.high_bits = low_bits, high_bits
        super().__init__({"significand": In(16), "narrow": In(1), "low": Out(low_bits), "high": Out(high_bits)},
                         f"multiplicand_{low_bits}_{high_bits}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        s, narrow = self.significand, self.narrow
        m.d.comb += self.low.eq(_wide_or_lane(s, narrow, self.low_bits))
        m.d.comb += self.high.eq(Cat(s[:8] & (~narrow).replicate(8), s[8:]))
        return m


class BlockFactors(Part):
    """One factor for each of two multipliers: the wide one and 0, or both lanes."""

    def __init__(self, bits: int, lane_bits: int, keep: bool = True):
        self.bits, self.lane_bits = bits, lane_bits
        super().__init__({"significand": In(16), "narrow": In(1), "x0": Out(signed(bits)),
                          **({"x1": Out(signed(lane_bits))} if lane_bits else {})}, f"factors_{bits}_{lane_bits}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        s, narrow = self.significand, self.narrow
        m.d.comb += self.x0.eq(_wide_or_lane(s, narrow, self.bits))
        if self.lane_bits:
            m.d.comb += self.x1.eq(s[8:8 + self.lane_bits] & narrow.replicate(self.lane_bits))
        return m


class ChosenModes:
    """What the mode says to the parts of an edge."""

    def __init__(self, m: Module, design: MorphableDesign, role: str, mode: Value, name: str):
        self.modes, self.role = design.modes, role
        m.submodules[name] = flags = shared(ModeFlags(design))
        m.d.comb += flags.mode.eq(mode)
        self.each, self.wide = flags.each, flags.wide

    def on(self, select: Callable[[Mode], bool]) -> Value:
        """1 in the modes that ``select`` takes."""
        index = [i for i, mode in enumerate(self.modes) if select(mode)]
        return Const(1, 1) if len(index) == len(self.modes) else Cat(*[self.each[i] for i in index]).any()

    def active(self, fmt: Format, lanes: int) -> Value:
        return self.on(lambda mode: mode.lanes == lanes and getattr(mode, self.role) == fmt)

    def nibble_active(self, fmt: Format) -> Value:
        return self.on(lambda mode: mode.lanes == 4 and mode.activation == fmt)


class MergedEdge(OperandEdge):
    """See the module's text.

    Parameters
    ----------
    role : str
        ``activation`` or ``weight``.
    registered : bool
        A register between recoding and the decoders: in an array a memory stands before the one, broadcasting behind
        the others.
    """

    def __init__(self, design: MorphableDesign, role: str, registered: bool = False):
        self.role, self.layout, self.registered = role, edge_layout(design, role), registered
        super().__init__(design, self.layout.size)

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_{self.role}_edge" + "_registered" * self.registered

    def _held(self, m: Module, value: Value, name: str) -> Value:
        return delayed(m, value, name, int(self.registered))

    def elaborate(self, platform) -> Module:
        m = Module()
        plan, role, design = MergedPlan(self.design), self.role, self.design
        o = Signal(self.layout)
        m.d.comb += self.o.eq(o)
        before = after = ChosenModes(m, design, role, self.mode, "flags")
        if self.registered:
            after = ChosenModes(m, design, role, self._held(m, self.mode, "mode"), "flags_then")

        nans: list[Value] = []
        for lane in range(4):
            formats = plan.alone(lane)
            if not formats:
                continue
            m.submodules[f"lane{lane}"] = unit = shared(NibbleDecoder(formats))
            code = self._held(m, self.code.word_select(lane, 4), f"code_lane{lane}")
            m.d.comb += [unit.code.eq(code), getattr(o, f"lane{lane}").eq(unit.o),
                         unit.active.eq(Cat(after.nibble_active(fmt) for fmt in formats))]
            if any(fmt.has_nan for fmt in formats):
                nans.append(unit.nan)
        if plan.multiplies:
            self._multiplied(m, plan, o, nans, before, after)
        if nans:
            m.d.comb += o.nan.eq(Cat(*nans).any())
        return m

    def _bytes(self, m: Module, plan: MergedPlan, host: Format, own: Value, before: ChosenModes) -> list[Value]:
        """Both bytes for an 8-bit decoder: the word's while ``own``, recoded 4-bit ones, 0 in other modes."""
        out = []
        for n in range(2):
            code, rows = self.code.word_select(n, 8), []
            for guest in plan.guests(host):
                m.submodules[f"gate_{guest.name}_{n}"] = gate = shared(NibbleGate())
                label = f"recode_{guest.name}_{host.name}"
                m.submodules[f"{label}_{n}"] = unit = shared(NibbleTable(label, codes_in(guest, host), 8))
                m.d.comb += [gate.code.eq(code[:4]), gate.active.eq(before.nibble_active(guest)), unit.code.eq(gate.o)]
                rows.append(unit.o)
            m.submodules[f"join_{host.name}_{n}"] = join = shared(RecodeJoin(len(rows)))
            m.d.comb += [join.code.eq(code), join.active.eq(own), join.rows.eq(Cat(*rows))]
            out.append(self._held(m, join.o, f"code_{host.name}_{n}"))
        return out

    def _gated(self, m: Module, fmt: Format, before: ChosenModes) -> Value:
        """The word in the modes of a 16-bit format, else 0."""
        m.submodules[f"gate_{fmt.name}"] = gate = shared(ByteGate(16))
        m.d.comb += [gate.code.eq(self.code), gate.active.eq(before.active(fmt, 1))]
        return self._held(m, gate.o, f"code_{fmt.name}")

    def _multiplied(self, m: Module, plan: MergedPlan, o, nans: list[Value], before: ChosenModes,
                    after: ChosenModes) -> None:
        role = self.role
        wide, halves = plan.formats(role, 1), plan.formats(role, 2)
        shifted = "shift0" in self.layout.members
        significands: list[Value] = []
        shifts: tuple[list[Value], list[Value]] = ([], [])
        specials: dict[tuple[int, str], list[Value]] = {}
        pair = [fmt for fmt in (get_format("posit16_1"), get_format("posit8_0")) if fmt in wide or fmt in halves]
        if pair:
            posit16, posit8 = get_format("posit16_1"), get_format("posit8_0")
            others = [fmt for fmt in (*wide, *halves) if fmt not in (posit16, posit8)]
            if posit8 in halves:
                direct = before.on(lambda mode: getattr(mode, role) in (posit16, posit8))
                code = Cat(*self._bytes(m, plan, posit8, direct, before))
            elif others or plan.nibbles:
                code = self._gated(m, posit16, before)
            else:
                code = self._held(m, self.code, "code_posit16_1")
            m.submodules.posit = unit = shared(PositPairDecoder())
            narrow = ~after.active(posit16, 1) if posit16 in wide else Const(1, 1)
            m.d.comb += [unit.code.eq(code), unit.narrow.eq(narrow)]
            significands.append(unit.significand)
            shifts[0].append(unit.shift0)
            shifts[1].append(unit.shift1)
            nans.append(unit.nan)
        for fmt in wide:
            if fmt not in pair:
                significands.append(self._gated(m, fmt, before))
        for fmt in halves:
            if fmt in pair:
                continue
            if fmt.bits == 4:  # weights of an asymmetric mode
                values = []
                for n in range(2):
                    m.submodules[f"gate_half_{fmt.name}_{n}"] = gate = shared(NibbleGate())
                    label = f"recode_{fmt.name}_int8"
                    table = codes_in(fmt, get_format("int8"))
                    m.submodules[f"half_{fmt.name}_{n}"] = unit = shared(NibbleTable(label, table, 8))
                    m.d.comb += [gate.code.eq(self.code.word_select(n, 4)), gate.active.eq(before.active(fmt, 2)),
                                 unit.code.eq(self._held(m, gate.o, f"code_half_{fmt.name}_{n}"))]
                    values.append(unit.o)
                significands.append(Cat(*values))
                continue
            codes = self._bytes(m, plan, fmt, before.active(fmt, 2), before)
            if fmt.family == "int":
                significands.append(Cat(*codes))
                continue
            values = []
            for n, code in enumerate(codes):
                m.submodules[f"decode_{fmt.name}_{n}"] = unit = shared(SignedMinifloat(fmt))
                m.d.comb += unit.code.eq(code)
                values.append(unit.significand)
                shifts[n].append(unit.shift)
                if fmt.has_nan:
                    nans.append(unit.nan)
                    specials.setdefault((n, "nan"), []).append(unit.nan)
                if fmt.has_inf:
                    specials.setdefault((n, "inf"), []).append(unit.inf)
            significands.append(Cat(*values))
        significand = Signal(16)
        wide_bits = len(significand)
        m.d.comb += significand.eq(reduce(or_, [Cat(value, Const(0, wide_bits))[:16] for value in significands]))
        narrow = ~after.wide
        if self.design.multiplier == "operator":
            m.submodules.factors = factors = shared(BlockFactors(len(o.x0), plan.lane_bits if plan.halves else 0))
            m.d.comb += [factors.significand.eq(significand), factors.narrow.eq(narrow), o.x0.eq(factors.x0)]
            if plan.halves:
                m.d.comb += o.x1.eq(factors.x1)
        elif role == "activation":
            halves_part = shared(MultiplicandHalves(len(o.low), len(o.high)))
            m.submodules.halves = halves_part
            m.d.comb += [halves_part.significand.eq(significand), halves_part.narrow.eq(narrow),
                         o.low.eq(halves_part.low), o.high.eq(halves_part.high)]
        else:
            m.submodules.digits = digits = shared(SimdDigits(DIGITS, SPLIT, plan.full))
            m.d.comb += [digits.b.eq(significand), digits.narrow.eq(narrow), o.digits.eq(digits.o)]
        if shifted:
            for n, field in enumerate((o.shift0, o.shift1)):
                if shifts[n]:
                    m.d.comb += field.eq(reduce(or_, shifts[n]))
        if "special0" in self.layout.members:
            for n in range(2):
                special = getattr(o, f"special{n}")
                for name in ("nan", "inf"):
                    m.d.comb += getattr(special, name).eq(Cat(*specials.get((n, name), [])).any())
                lane = significand.word_select(n, 8)
                # An infinity's significand is that of a normal number.
                m.d.comb += [special.zero.eq(~lane.any()), special.negative.eq(lane[7])]
