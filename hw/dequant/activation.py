"""The edge of a row: activation codes to operands that every column of the row can use as they are.

``exact``: fixed point, the significand at its place. ``aligned``: the significand relative to the largest exponent of
the group so far, cut to a few guard bits. Either way the barrel shifters stand once a row, not once in each
processing element: a PE only moves its operand by the few places of a weight's term. ``floating``: significand and
place as they are, for each PE aligns its own products.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.bitserial import BitSerialDesign

from ..arith.narrow import shifted_window

__all__ = ["ActivationEdge", "operand_layout"]


def operand_layout(design: BitSerialDesign) -> data.StructLayout:
    """One lane: sign, magnitude (with ``placement: pe`` the significand and its place; ``some``: it is not zero) and,
    with specials, infinity (a NaN counts for the row)."""
    if design.placement == "pe":
        fields = {"sign": 1, "magnitude": design.significand_bits, "place": design.exponent_bits}
    else:
        fields = {"sign": 1, "magnitude": design.operand_bits}
    if design.accumulate == "floating":
        fields["some"] = 1
    if has_inf(design):
        fields["inf"] = 1
    return data.StructLayout(fields)


def has_inf(design: BitSerialDesign) -> bool:
    return design.specials and design.activation.has_inf


def has_nan(design: BitSerialDesign) -> bool:
    """Whether an activation can be NaN."""
    return design.specials and design.activation.has_nan


class ActivationEdge(wiring.Component):
    """Operands of one row.

    Latency 1, or 2 (``aligned``); a chunk of lanes each cycle.

    Members
    -------
    a : In(lanes * bits)
        Codes, lane 0 in the least significant bits.
    mask : In(lanes)
        Lanes that count; the others are zero.
    first, en : In(1)
        The chunk is the first of its group; the codes are a chunk's first step.
    operands : Out(operand_layout * lanes)
    nan : Out(1), where activations can be NaN
    total : Out(signed), with zero-points
        Sum of the lanes' operands, with them.
    drop : Out, ``aligned``
        Places by which the group's exponent has grown with this chunk; valid in its first step, with the operands.
    place : Out, ``aligned``
        The group's exponent, with the operands.
    """

    def __init__(self, design: BitSerialDesign):
        self.design = design
        self.aligned = design.accumulate == "aligned"
        self.latency = 2 if self.aligned else 1
        self.total_bits = 1 + (design.max_operand * design.lanes).bit_length()
        lanes = design.lanes
        members = {"a": In(lanes * design.activation.bits), "mask": In(lanes), "first": In(1), "en": In(1),
                   "operands": Out(data.ArrayLayout(operand_layout(design), lanes))}
        if has_nan(design):
            members["nan"] = Out(1)
        if design.zero_point:
            members["total"] = Out(signed(self.total_bits))
        if self.aligned:
            members["drop"] = Out(drop_bits(design))
            members["place"] = Out(design.exponent_bits)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"row_{self.design.name}"

    def _decode(self, m: Module, lane: int) -> tuple[Value, Value, Value, Value, Value]:
        """sign, significand, place, NaN, infinity."""
        fmt, none = self.design.activation, Const(0, 1)
        code = self.a.word_select(lane, fmt.bits) & self.mask[lane].replicate(fmt.bits)
        if fmt.family == "int":
            magnitude = Signal(8, name=f"magnitude{lane}")
            m.d.comb += magnitude.eq(Mux(code[-1], -code, code))
            return code[-1], magnitude, none, none, none
        mantissa = code[:fmt.mantissa_bits]
        field = code[fmt.mantissa_bits:fmt.bits - 1]
        normal, top = field.any(), field.all()
        place = Signal(self.design.exponent_bits, name=f"place{lane}")
        m.d.comb += place.eq(field - normal)
        nan = inf = none
        if has_inf(self.design):
            nan, inf = top & mantissa.any(), top & ~mantissa.any()
        elif has_nan(self.design):
            nan = code[:fmt.bits - 1].all()
        significand = Signal(self.design.significand_bits, name=f"significand{lane}")
        # A special value counts through its flag alone.
        ordinary = ~(nan | inf) if has_nan(self.design) else Const(1, 1)
        m.d.comb += significand.eq(Cat(mantissa, normal) & ordinary.replicate(len(significand)))
        return code[-1], significand, place, nan, inf

    def elaborate(self, platform) -> Module:
        m = Module()
        decoded = [self._decode(m, lane) for lane in range(self.design.lanes)]
        if has_nan(self.design):
            nan = Cat(nan for *_, nan, _ in decoded).any()
            for stage in range(self.latency):
                held = Signal(name=f"nan{stage}", reset_less=True)
                m.d.sync += held.eq(nan)
                nan = held
            m.d.comb += self.nan.eq(nan)
        if self.aligned:
            self._align(m, decoded)
        else:
            self._place(m, decoded)
        return m

    def _drive(self, m: Module, lane: int, sign: Value, magnitude: Value, inf: Value, place: Value | None = None
               ) -> Value:
        operand = Signal(operand_layout(self.design), name=f"operand{lane}", reset_less=True)
        m.d.sync += [operand.sign.eq(sign), operand.magnitude.eq(magnitude)]
        if place is not None:
            m.d.sync += operand.place.eq(place)
        if self.design.accumulate == "floating":
            m.d.sync += operand.some.eq(magnitude.any())
        if has_inf(self.design):
            m.d.sync += operand.inf.eq(inf)
        m.d.comb += self.operands[lane].eq(operand)
        return operand

    def _place(self, m: Module, decoded: list) -> None:
        """Fixed point, here or for the PEs to do."""
        total: Value = Const(0, 1)
        for lane, (sign, significand, place, _, inf) in enumerate(decoded):
            if self.design.placement == "pe":
                operand = self._drive(m, lane, sign, significand, inf, place)
                value: Value = operand.magnitude << operand.place
            else:
                fixed = Signal(self.design.operand_bits, name=f"fixed{lane}")
                m.d.comb += fixed.eq(significand << place)
                operand = self._drive(m, lane, sign, fixed, inf)
                value = operand.magnitude
            total = total + Mux(operand.sign, -value, value)
        if self.design.zero_point:
            m.d.comb += self.total.eq(total)

    def _align(self, m: Module, decoded: list) -> None:
        """Relative to the largest exponent of the group so far, over activations that are not zero."""
        design = self.design
        # First stage: the chunk's largest exponent.
        candidates = [(place, significand.any()) for _, significand, place, _, _ in decoded]
        while len(candidates) > 1:
            following = []
            for at in range(0, len(candidates) - 1, 2):
                (x, x_some), (y, y_some) = candidates[at:at + 2]
                following.append((Mux(x_some & ((x >= y) | ~y_some), x, y), x_some | y_some))
            candidates = following + ([candidates[-1]] if len(candidates) % 2 else [])
        (largest, some), = candidates
        held: dict[str, Signal] = {}
        for name, value in (("largest", largest), ("some", some), ("first", self.first), ("en", self.en)):
            held[name] = Signal(value.shape(), name=f"{name}_1", reset_less=name != "en")
            m.d.sync += held[name].eq(value)
        lanes = []
        for lane, (sign, significand, place, _, inf) in enumerate(decoded):
            stage = [Signal(value.shape(), name=f"{name}{lane}_1", reset_less=True)
                     for name, value in (("sign", sign), ("significand", significand), ("place", place), ("inf", inf))]
            m.d.sync += [s.eq(v) for s, v in zip(stage, (sign, significand, place, inf), strict=True)]
            lanes.append(stage)
        # Second stage: the group's exponent, and how far each lane stands below it. ``empty``: only zeros so far.
        group, empty = Signal(design.exponent_bits, reset_less=True), Signal(reset_less=True)
        fresh = held["first"] | empty
        new = Signal(design.exponent_bits)
        grows = held["some"] & (fresh | (held["largest"] > group))
        # Until an activation is not zero the group's exponent is 0, which moves nothing.
        m.d.comb += new.eq(Mux(grows, held["largest"], Mux(held["first"], 0, group)))
        with m.If(held["en"]):
            m.d.sync += [group.eq(new), empty.eq(fresh & ~held["some"])]
        step = Signal(design.exponent_bits)
        m.d.comb += step.eq(Mux(fresh, 0, new - group))
        drop = Signal(drop_bits(design), reset_less=True)
        limit = (1 << len(drop)) - 1
        m.d.sync += drop.eq(Mux(held["en"], Mux(step > limit, limit, step), 0))
        m.d.comb += [self.drop.eq(drop), self.place.eq(group)]
        for lane, (sign, significand, place, inf) in enumerate(lanes):
            wide = Cat(Const(0, design.guard), significand)
            below = Signal(design.exponent_bits, name=f"below{lane}")
            # The current exponent is ``new`` in a chunk's first step and stays.
            m.d.comb += below.eq(Mux(held["en"], new, group) - place)
            most = len(wide) + (design.rounding == "rne")
            amount = Signal(range(most + 1), name=f"amount{lane}")
            m.d.comb += amount.eq(Mux(below > most, most, below))
            if design.rounding == "trunc":
                aligned = wide >> amount
            else:
                window, sticky, _ = shifted_window(m, f"align{lane}", Cat(Const(0, 1), wide), amount, len(wide) + 1,
                                                   Const(0, 1))
                up = window[0] & (sticky | window[1])
                aligned = window[1:] + up
            magnitude = Signal(design.operand_bits, name=f"aligned{lane}")
            m.d.comb += magnitude.eq(aligned)
            self._drive(m, lane, sign, magnitude, inf)


def drop_bits(design: BitSerialDesign) -> int:
    """Of the places by which a sum can fall: beyond its width only the sign is left."""
    return min(design.sum_bits.bit_length(), design.exponent_bits)
