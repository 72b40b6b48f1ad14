# amaranth: UnusedElaboratable=no
"""The data path of dedicated lanes: each mode has its products and its adder tree.

::

    word of mode 0 ─► LaneProduct x 4 ─► tree ─┐
    word of mode 1 ─► LaneProduct x 2 ─► tree ─┼─► or ─► value, carry
    word of mode 2 ─► LaneProduct x 1 ─────────┘

The edges pass an operand to the lanes of the current mode only; all others get code 0, so that nothing moves in them.
Their sums are then 0, and modes are joined by an or: no multiplexer, and no mode signal in the pipeline. Joining lanes
of equal number before one tree takes more LUTs than the adders that it saves (docs/microarchitecture.md).
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Value

from bitkiln.models.design.morphable import Mode, MorphableDesign
from bitkiln.models.formats import Special

from ..arith.signed import Term, sum_terms
from ..emit import shared
from .morphable import OperandEdge, PeDataPath, delayed
from .product import LaneProduct

__all__ = ["GatedEdge", "ParallelPath"]

# What is worth a DSP block with multiplier `operator`: the narrower significand has so many bits.
DSP_BITS = 5
# Registers for each pipeline depth: those of the dot unit, but one behind the joined sum instead of one in each lane.
_CUTS = {
    0: (),
    1: ("multiply",),
    2: ("multiply", "sum"),
    3: ("decode", "multiply", "sum"),
    4: ("decode", "rows", "multiply", "sum"),
}


def _widths(design: MorphableDesign, role: str) -> list[int]:
    return [mode.lanes * getattr(mode, role).bits for mode in design.modes]


class GatedEdge(OperandEdge):
    """A copy of the operand word for each mode, 0 in the modes that are off.

    Parameters
    ----------
    role : str
        ``activation`` or ``weight``.
    """

    def __init__(self, design: MorphableDesign, role: str):
        self.role = role
        super().__init__(design, sum(_widths(design, role)))

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_{self.role}_edge"

    def elaborate(self, platform) -> Module:
        m = Module()
        words = []
        for index, width in enumerate(_widths(self.design, self.role)):
            word = self.code[:width]
            if len(self.design.modes) > 1:
                word = word & (self.mode == index).replicate(width)
            words.append(word)
        m.d.comb += self.o.eq(Cat(*words))
        return m


def _quiet(mode: Mode) -> bool:
    """Whether a lane that gets code 0 gives 0 with no carry and no event."""
    zero = [fmt.unpack(0) for fmt in (mode.activation, mode.weight)]
    return any(int(z.significand) == 0 for z in zero) and not any(int(z.sign) for z in zero) \
        and all(int(z.special) == Special.NONE for z in zero)


def _limit(lane: LaneProduct) -> int:
    bits = lane.value_shape.width - lane.value_shape.signed
    return lane.limit if lane.align else (1 << bits) - 1


class ParallelPath(PeDataPath):
    """Dedicated lanes for each mode (`PeDataPath`)."""

    def __init__(self, design: MorphableDesign):
        self.cuts = frozenset(_CUTS[design.pipeline])
        self.fp32 = design.accumulator.kind == "fp32"
        self.multiplier = design.multiplier
        lanes = [self._lane(mode) for mode in design.modes]
        limit = max(mode.lanes * _limit(lane) for mode, lane in zip(design.modes, lanes, strict=True))
        # Place of each mode's least bit in fp32 sums.
        exponents = [design.dot(mode).product_exponent - (0 if lane.align else lane.drop)
                     for mode, lane in zip(design.modes, lanes, strict=True)]
        unit = min(exponents)
        self.offsets = [exponent - unit for exponent in exponents]
        reach = max(offset + (0 if lane.align else lane.max_shift)
                    for offset, lane in zip(self.offsets, lanes, strict=True))
        edges = (GatedEdge(design, "activation"), GatedEdge(design, "weight"))
        super().__init__(design, edges, limit.bit_length() + 1, unit=unit, shift_bits=reach.bit_length())

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_path"

    def _lane(self, mode: Mode) -> LaneProduct:
        cuts = self.cuts - {"sum"}
        lane = LaneProduct(mode.activation, mode.weight, cuts)
        multiplier = self.multiplier
        if multiplier == "operator" and lane.narrow < DSP_BITS:
            multiplier = "chains"
        if multiplier != "chains":
            lane = LaneProduct(mode.activation, mode.weight, cuts, multiplier=multiplier)
        if self.fp32 and mode.lanes == 1 and lane.shifted:
            # The float32 step moves its addend anyway.
            return LaneProduct(mode.activation, mode.weight, cuts, align=False, multiplier=multiplier)
        return lane

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design

        last = int("sum" in self.cuts)
        ahead = len(self.cuts) - last
        sums, shifts = [], []
        events: dict[str, list[Value]] = {event: [] for event in self.events}
        starts = {"a": 0, "w": 0}
        for index, mode in enumerate(design.modes):
            template = self._lane(mode)
            quiet = len(design.modes) == 1 or _quiet(mode)
            moving = not template.align or self.offsets[index] > 0
            chosen = Const(1)
            if len(design.modes) > 1 and (moving or not quiet):
                chosen = delayed(m, self.mode == index, f"mode{index}", ahead)
            terms = []
            for i in range(mode.lanes):
                m.submodules[f"{mode.name}_lane{i}"] = lane = shared(self._lane(mode))
                for port, bits in (("a", mode.activation.bits), ("w", mode.weight.bits)):
                    m.d.comb += getattr(lane, port).eq(getattr(self, port)[starts[port]:starts[port] + bits])
                    starts[port] += bits
                term = self._term(lane, template)
                terms.append(term if quiet else Term(
                    (term.value & chosen.replicate(len(term.value))).as_signed(),
                    tuple(carry & chosen for carry in term.carries), term.limit))
                for event in template.flags:
                    events[event].append(getattr(lane, event) if quiet else getattr(lane, event) & chosen)
            if moving:
                shift = self.offsets[index] + (Const(0, 0) if template.align else lane.shift)
                shifts.append(shift & chosen.replicate(len(shift)))
            m.submodules[f"tree{index}"] = tree = Module()
            sums.append(sum_terms(tree, terms))
        value = reduce(or_, (x.value for x in sums))
        carry = Cat(*(carry for x in sums for carry in x.carries)).any()
        m.d.comb += [self.value.eq(delayed(m, value, "value", last)), self.carry.eq(delayed(m, carry, "carry", last))]
        if self.fp32:
            m.d.comb += self.shift.eq(delayed(m, reduce(or_, shifts, Const(0, self.shift_bits)), "shift", last))
        for event in self.events:
            m.d.comb += getattr(self, event).eq(delayed(m, Cat(*events[event]).any(), event, last))
        return m

    def _term(self, lane: LaneProduct, template: LaneProduct) -> Term:
        if template.align:
            return Term(lane.value, (lane.carry,) if template.has_carry else (), template.limit)
        width = len(lane.value) + 1 - template.signed_product
        extended = lane.value ^ lane.sign.replicate(width)
        return Term(extended[:width].as_signed(), (lane.sign,), _limit(template))
