# amaranth: UnusedElaboratable=no
"""The dot unit: lanes of exact products, one adder tree, one accumulator.

::

    a ─┬─► LaneProduct 0 ─┐
    w ─┘        ...       ├─► signed adder tree ─► accumulator (exact | fp32 | int32) ─► rounding ─► o
       └─► LaneProduct n ─┘          en, clear ──────────┘

``clear`` is a synchronous clear that wins over ``en``; it is the reset (there is no ``rst``), so that both
land on the flip-flops' own pins.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import DotDesign

from ..arith.fp32 import Fp32Adder, Fp32Fma, fma_fits
from ..arith.round import rounder_for
from ..arith.signed import Term, add_term, sum_terms
from ..emit import shared
from .product import LaneProduct

__all__ = ["DotUnit", "cuts_of"]

# Registers for each pipeline depth, by what they buy (docs/timing.md).
_CUTS = {
    0: (),
    1: ("multiply",),
    2: ("multiply", "align"),
    3: ("decode", "multiply", "align"),
    4: ("decode", "rows", "multiply", "align"),
    5: ("decode", "rows", "multiply", "align", "sum"),
    6: ("decode", "rows", "multiply", "align", "tree", "sum"),
}


def cuts_of(design: DotDesign) -> frozenset[str]:
    """Where the registers of ``design.pipeline`` stages stand."""
    return frozenset(_CUTS[design.pipeline])


def fused_fp32(design: DotDesign) -> bool:
    """Whether the unit takes the narrow fused form: one lane, floating operand, product as narrow as float32."""
    if design.accumulator.kind != "fp32" or design.lanes > 1:
        return False
    lane = LaneProduct(design.activation, design.weight, align=False)
    bits = lane.value_shape.width - lane.value_shape.signed
    return lane.max_shift > 0 and fma_fits(bits, design.product_exponent)


class DotUnit(wiring.Component):
    """``acc += sum(a[i] * w[i])`` each cycle with ``en``.

    Latency ``design.latency`` edges, throughput one sum of ``lanes`` products each cycle.

    Members
    -------
    a, w : In(lanes * bits)
        Operand codes, lane 0 in the least significant bits.
    en, clear : In(1)
        Travel through the pipeline with the operands.
    acc : Out(accumulator)
        Signed, in units of ``2**design.product_exponent``; the code of a float32 for fp32 accumulators.
    nan, inf_pos, inf_neg, illegal, overflow : Out(1)
        Sticky until ``clear``; each only where it can occur.
    o : Out(output bits)
        ``acc`` rounded once to nearest even (combinational), with an output format.
    """

    reset_less = True

    def __init__(self, design: DotDesign):
        self.design = design
        lanes = design.lanes
        fp32 = design.accumulator.kind == "fp32"
        members = {"a": In(lanes * design.activation.bits), "w": In(lanes * design.weight.bits),
                   "en": In(1), "clear": In(1),
                   "acc": Out(32 if fp32 else signed(design.accumulator_bits))}
        members.update({flag: Out(1) for flag in design.flags})
        if design.output is not None:
            members["o"] = Out(design.output.bits)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def latency(self) -> int:
        return self.design.latency

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"activation": d.activation.name, "weight": d.weight.name, "lanes": d.lanes,
                "accumulator": {"kind": d.accumulator.kind, "depth": d.accumulator.depth,
                                "bits": d.accumulator_bits, "overflow": d.accumulator.overflow},
                "pipeline": d.pipeline, "output": d.output and d.output.name, "specials": d.specials,
                "multiplier": d.multiplier,
                "product_exponent": d.product_exponent}

    @property
    def port_formats(self) -> dict[str, str]:
        d = self.design
        acc = "fp32" if d.accumulator.kind == "fp32" else f"signed integer * 2^{d.product_exponent}"
        formats = {"a": f"{d.lanes} x {d.activation.name}", "w": f"{d.lanes} x {d.weight.name}", "acc": acc}
        if d.output is not None:
            formats["o"] = d.output.name
        return formats

    def elaborate(self, platform) -> Module:
        m = Module()
        design, cuts = self.design, cuts_of(self.design)
        lane_cuts = cuts - {"sum", "tree"}

        lanes = []
        fused = fused_fp32(design)
        for i in range(design.lanes):
            lane = LaneProduct(design.activation, design.weight, lane_cuts, align=not fused,
                               multiplier=design.multiplier)
            m.submodules[f"lane{i}"] = unit = shared(lane)
            m.d.comb += [unit.a.eq(self.a.word_select(i, design.activation.bits)),
                         unit.w.eq(self.w.word_select(i, design.weight.bits))]
            lanes.append(unit)

        def register(value: Value, name: str, stages: int) -> Value:
            for stage in range(stages):
                held = Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
                m.d.sync += held.eq(value)
                value = held
            return value

        total = sum_terms(m, [Term(unit.value, (unit.carry,) if lane.has_carry else (), lane.limit) for unit in lanes],
                          (lambda value, name: register(value, name, 1)) if "tree" in cuts else None)
        events = {flag: Cat(getattr(unit, flag) for unit in lanes).any() for flag in lane.flags}
        events = {name: register(value, f"{name}_tree", int("tree" in cuts)) for name, value in events.items()}
        late = "sum" in cuts
        en = register(self.en, "en", len(cuts) - late)
        # A cycle with a NaN or an infinity only sets flags: gating the enable is cheaper than zeroing its terms.
        special = [events[flag] for flag in ("nan", "inf_pos", "inf_neg") if flag in events]
        update = en & ~Cat(*special).any() if special and design.accumulator.kind != "fp32" else en
        if late:
            en, update = register(en, "en_late", 1), register(update, "update", 1)
            carries = tuple(register(carry, "total_carry", 1) for carry in total.carries)
            total = Term(register(total.value, "total", 1), carries, total.limit)
            events = {name: register(value, name, 1) for name, value in events.items()}
        clear = register(self.clear, "clear", len(cuts))

        if fused:
            stages = len(cuts & {"tree", "sum"})
            shift, sign = (register(getattr(lanes[0], name), name, stages) for name in ("shift", "sign"))
            following = self._fused(m, lane, total.value, sign, shift, events)
        elif design.accumulator.kind == "fp32":
            following = self._fp32(m, total, events)
        else:
            following = self._integer(m, total, events)
        state = Signal(self.acc.shape(), name="state", reset_less=True)
        m.d.comb += self.acc.eq(state)
        with m.If(clear):
            m.d.sync += state.eq(0)
        with m.Elif(update):
            m.d.sync += state.eq(following)
        for flag in design.flags:
            held = Signal(name=f"{flag}_flag", reset_less=True)
            m.d.comb += getattr(self, flag).eq(held)
            with m.If(clear):
                m.d.sync += held.eq(0)
            with m.Elif((update if flag == "overflow" else en) & events[flag]):
                m.d.sync += held.eq(1)
        if design.output is not None and design.accumulator.kind == "fp32":
            m.d.comb += self.o.eq(state)
        elif design.output is not None:
            m.submodules.round = unit = shared(rounder_for(design))
            m.d.comb += [unit.i.eq(state), self.o.eq(unit.o)]
            for flag in unit.flags:
                m.d.comb += getattr(unit, flag).eq(getattr(self, flag))
        return m

    def _integer(self, m: Module, total: Term, events: dict[str, Value]) -> Value:
        """Next accumulator; adds the ``overflow`` event where the width allows one."""
        design, bits = self.design, self.design.accumulator_bits
        if not design.has_overflow:
            return add_term(self.acc, total)
        wide = Signal(signed(max(bits, total.limit.bit_length() + 1) + 1))
        m.d.comb += wide.eq(add_term(self.acc, total))
        overflow = Signal()
        m.d.comb += overflow.eq(wide != wide[:bits].as_signed())
        events["overflow"] = overflow
        if design.accumulator.overflow == "saturate":
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
            return Mux(overflow, Mux(wide[-1], low, high), wide[:bits].as_signed())
        return wide[:bits].as_signed()

    def _fused(self, m: Module, lane: LaneProduct, value: Value, sign: Value, shift: Value,
               events: dict[str, Value]) -> Value:
        weight = self.design.product_exponent - lane.drop
        fma = Fp32Fma(lane.value_shape, len(shift), weight, specials=self.design.nan_possible)
        m.submodules.add = unit = shared(fma)
        m.d.comb += [unit.acc.eq(self.acc), unit.sign.eq(sign), unit.value.eq(value), unit.shift.eq(shift)]
        for flag in ("nan", "inf_pos", "inf_neg"):
            if flag in events:
                m.d.comb += getattr(unit, flag).eq(events[flag])
        return unit.o

    def _fp32(self, m: Module, total: Term, events: dict[str, Value]) -> Value:
        adder = Fp32Adder(total.value.shape(), self.design.product_exponent, specials=self.design.nan_possible)
        m.submodules.add = unit = shared(adder)
        m.d.comb += [unit.acc.eq(self.acc), unit.value.eq(total.value)]
        m.d.comb += unit.carry.eq(total.carries[0] if total.carries else 0)
        for flag in ("nan", "inf_pos", "inf_neg"):
            if flag in events:
                m.d.comb += getattr(unit, flag).eq(events[flag])
        return unit.o
