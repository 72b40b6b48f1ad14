# amaranth: UnusedElaboratable=no
"""The merged data path: one multiplier, one shifter, and a section of the accumulator for each lane.

::

    a ─► low, high ─┐                          ┌─► fine shift (0..31) ─► place in blocks of 32 ─► xor ─► value
    w ─► digits ────┴─► SimdMultiplier ─► products                         ▲                      ▲
    shifts of a, w ───► two sums ─────────────────────────── select ───────┘   4-bit lanes 1, 3 ──┘

No lane is added to another: each has its own section of the addend, filled with its sign up to the next, and sections
are added once for each result, outside. A carry that a lane owes (one's complement, or the borrow of the lower half
product) is the carry-in of its section. In the shifter lane 1 of two stands apart from lane 0 by at least 32 places, so
both shift at once, each with its own select.

With multiplier ``operator`` the wide product and that of lane 0 are one signed product, lane 1's another (two DSP
blocks): no digits, and no carry is owed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data

from bitkiln.models.design.morphable import SHIFT_BLOCK, MorphableDesign

from ..arith.multiply import multiplier_for
from ..arith.route import ZERO, Route, View, route
from ..arith.simd import SimdMultiplier
from ..emit import shared
from .merged_edge import DIGITS, SPLIT, MergedEdge, ModeFlags
from .merged_lane import NibbleInsert, NibbleLane
from .merged_plan import MergedPlan
from .morphable import PeDataPath

__all__ = ["MergedPath"]

# Registers for each pipeline depth: operands, products and shifts, fine shift, addend.
_CUTS = {
    0: (),
    1: ("multiply",),
    2: ("multiply", "align"),
    3: ("decode", "multiply", "align"),
    4: ("decode", "multiply", "fine", "align"),
}
FINE = SHIFT_BLOCK.bit_length() - 1


@dataclass(frozen=True)
class _Content:
    """Bits of one product in the shifter.

    Attributes
    ----------
    name : str
        Its view.
    base : int
        Place of its least bit before the shift.
    reach : dict
        Shift -> signed width.
    low, high : str
        Fills below and above.
    """

    name: str
    base: int
    reach: dict[int, int]
    low: str
    high: str

    def source(self, shifts: set[int], done: Callable[[int], int], place: int, before: int, need: dict) -> tuple | None:
        """What stands at ``place`` after shifts by ``done(s)``: a fill, or input ``before``, which is then needed."""
        kinds = set()
        for s in shifts:
            i = place - self.base - done(s)
            kinds.add(self.low if i < 0 else self.high if i >= self.reach[s] - 1 else None)
        if not kinds:
            return None
        if len(kinds) == 1 and None not in kinds:
            return "fill", kinds.pop()
        need.setdefault(before, {}).setdefault(self.name, set()).update(shifts)
        return "x", before


class MergedPath(PeDataPath):
    """Shared multiplier, shifter and accumulator (`PeDataPath`), for exact sums."""

    def __init__(self, design: MorphableDesign, decoded: bool = False):
        self.cuts = frozenset(_CUTS[design.pipeline])
        self.edge_register = decoded and "decode" in self.cuts
        self.plan = MergedPlan(design)
        self.blocks = design.multiplier == "operator"
        starts = sorted({start for mode in design.modes for start in design.sections(mode)})
        edges = (MergedEdge(design, "activation", self.edge_register), MergedEdge(design, "weight", self.edge_register))
        super().__init__(design, edges, design.accumulator_bits, starts=tuple(starts))

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_path" + "_core" * self.edge_register

    def elaborate(self, platform) -> Module:
        m = Module()
        design, plan = self.design, self.plan

        def held(cut: str, value: Value, name: str) -> Value:
            """The value behind this cut's register, if there is one."""
            if cut not in self.cuts or isinstance(value, Const):
                return value
            stage = Signal(value.shape(), name=f"{name}_{cut}", reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        a, w = (data.View(edge.layout, port if self.edge_register else held("decode", port, name))
                for name, edge, port in zip("aw", self.edges, (self.a, self.w), strict=True))
        mode = held("multiply", held("decode", self.mode, "mode"), "mode")
        events = self._events(a, w)
        signals: dict[str, Value] = {}
        carries: dict[int, Value] = {}

        lanes = []
        for lane in range(4):
            formats = plan.alone(lane)
            if formats:
                m.submodules[f"lane{lane}"] = unit = shared(NibbleLane(formats))
                m.d.comb += [unit.a.eq(getattr(a, f"lane{lane}")), unit.w.eq(getattr(w, f"lane{lane}"))]
                outs = {name: held("multiply", getattr(unit, name), f"lane{lane}_{name}")
                        for name in ("sign", "pattern", "high", "product") if name in unit.signature.members}
                lanes.append((lane, formats, outs))
                signals[f"sign{lane}"] = outs["sign"]
        products: tuple[list[Value], list[Value]] = ([], [])
        if plan.multiplies:
            products = self._multiply(m, a, w, held, signals)
        flag = shared(ModeFlags(design))
        m.submodules.flags = flag
        m.d.comb += flag.mode.eq(mode)
        signals |= {"wide": flag.wide, "nibble": flag.nibble}

        contents = self._contents()
        places, need = self._places(contents)
        bits = self._fine(m, contents, need, products, signals)
        if "fine" in self.cuts:
            bits = {p: held("fine", bit, f"fine{p}") for p, bit in bits.items()}
            signals = {name: held("fine", value, name) for name, value in signals.items()}
            lanes = [(lane, formats, {name: held("fine", value, f"lane{lane}_{name}") for name, value in outs.items()})
                     for lane, formats, outs in lanes]
        out = self._place(m, places, bits, signals)
        for lane, formats, outs in lanes:
            insert = NibbleInsert(formats)
            start = design.section_starts[lane]
            m.submodules[f"insert{lane}"] = unit = shared(insert)
            m.d.comb += [getattr(unit, name).eq(value) for name, value in outs.items() if name != "sign"]
            m.d.comb += unit.x.eq(Cat(*[out[start + j] for j in range(insert.bits)]))
            out.update({start + j: unit.y[j] for j in range(insert.bits)})
            carries[start] = carries.get(start, Const(0, 1)) | outs["sign"]
        if plan.multiplies and not self.blocks:
            # An idle multiplier gives -1 and owes 1: nothing, unless lanes 0 and 2 have products of their own.
            owed = ~signals["nibble"] if plan.alone(0) else Const(1, 1)
            carries[0] = carries.get(0, Const(0, 1)) | (signals["low"] & owed)
            half = design.section_starts[2]
            carries[half] = carries.get(half, Const(0, 1)) | (signals["low1"] & ~signals["wide"] & owed)
        value = Cat(*[out[j] for j in range(design.accumulator_bits)])
        carry = Cat(*[carries.get(start, Const(0, 1)) for start in self.starts])
        m.d.comb += [self.value.eq(held("align", value, "value")), self.carry.eq(held("align", carry, "carry"))]
        for name, event in events.items():
            for cut in ("multiply", "fine", "align"):
                event = held(cut, event, name)
            m.d.comb += getattr(self, name).eq(event)
        return m

    def _events(self, a: data.View, w: data.View) -> dict[str, Value]:
        events: dict[str, Value] = {}
        if "nan" in self.events:
            events["nan"] = Cat(*[x.nan for x in (a, w) if "nan" in x.shape().members]).any()
        if "inf_pos" in self.events:
            nan, signs = [events["nan"]], {"inf_pos": [], "inf_neg": []}
            for n in range(2):
                x, y = getattr(a, f"special{n}"), getattr(w, f"special{n}")
                nan.append((x.inf & y.zero) | (y.inf & x.zero))
                infinite = (x.inf & ~y.zero & ~y.nan) | (y.inf & ~x.zero & ~x.nan)
                negative = x.negative ^ y.negative
                signs["inf_pos"].append(infinite & ~negative)
                signs["inf_neg"].append(infinite & negative)
            events["nan"] = Cat(*nan).any()
            events.update({name: Cat(*bits).any() for name, bits in signs.items()})
        return events

    def _multiply(self, m: Module, a: data.View, w: data.View, held,
                  signals: dict[str, Value]) -> tuple[list[Value], list[Value]]:
        """Product bits of lane 0 (or the wide one) and of lane 1; adds selects and fills to ``signals``."""
        plan = self.plan
        for n in range(2):
            name = f"shift{n}"
            # In wide modes both sums are equal in the bits that both have.
            width = max([1, *[max(reach, default=0).bit_length() for reach in (plan.half_reach, plan.wide_reach if not n
                                                                              else {})]])
            if n and plan.wide_reach:
                width = max(width, min(FINE, max(plan.wide_reach).bit_length()))
            total = Signal(width, name=f"{name}_total")
            if name in a.shape().members:
                m.d.comb += total.eq(getattr(a, name) + getattr(w, name))
            signals[name] = held("multiply", total, name)
        if self.blocks:
            return self._multiply_in_blocks(m, a, w, held, signals)
        bits = max(2 * plan.wide_bits if plan.wide else 0, 16 + 2 * plan.lane_bits if plan.halves else 0)
        multiplier = SimdMultiplier(len(a.low), len(a.high), DIGITS, SPLIT, plan.full, bits)
        m.submodules.multiply = unit = shared(multiplier)
        m.d.comb += [unit.low.eq(a.low), unit.high.eq(a.high), unit.b.eq(w.digits)]
        product = held("multiply", unit.o, "product")
        signals["low"] = held("multiply", unit.carry, "owed")
        signals["high"] = product[-1]
        signals["high0"] = signals["low1"] = product[15]  # sign and borrow of the lower half product
        return list(product), list(product)[16:]

    def _multiply_in_blocks(self, m: Module, a: data.View, w: data.View, held,
                            signals: dict[str, Value]) -> tuple[list[Value], list[Value]]:
        """A multiplier for each lane: nothing is owed, and what is below a product is zero."""
        products: list[list[Value]] = []
        for n in range(2 if self.plan.halves else 1):
            x, y = getattr(a, f"x{n}"), getattr(w, f"x{n}")
            m.submodules[f"multiply{n}"] = unit = shared(multiplier_for(x.shape(), y.shape(), structure="operator"))
            m.d.comb += [unit.a.eq(x), unit.b.eq(y)]
            product = held("multiply", unit.o, f"product{n}")
            signals[f"high{n}"] = product[-1]
            products.append(list(product))
        return products[0], products[-1]

    def _contents(self) -> dict[str, _Content]:
        plan = self.plan
        if self.blocks:
            wide = {"W": _Content("W", 0, plan.wide_reach, ZERO, "high0")} if plan.wide else {}
            return wide | ({"A": _Content("A", 0, plan.half_reach, ZERO, "high0"),
                            "B": _Content("B", plan.base, plan.half_reach, ZERO, "high1")} if plan.halves else {})
        contents = {}
        if plan.wide:
            contents["W"] = _Content("W", 0, plan.wide_reach, "low", "high")
        if plan.halves:
            contents["A"] = _Content("A", 0, plan.half_reach, "low", "high0")
            contents["B"] = _Content("B", plan.base, plan.half_reach, "low1", "high")
        return contents

    def _places(self, contents: dict[str, _Content]) -> tuple[dict[int, Route], dict]:
        """Choices of the addend's bits among the fine shifter's outputs."""
        plan, starts = self.plan, self.design.section_starts
        need: dict[int, dict[str, set[int]]] = {}
        routes: dict[int, Route] = {}

        def coarse(content: _Content, view: str, place: int, choice: Route) -> None:
            for c in range((max(content.reach) >> FINE) + 1):
                shifts = {s for s in content.reach if s >> FINE == c}
                source = content.source(shifts, lambda s: s, place, place - (c << FINE), need)
                if source:
                    choice[view, c] = source

        for j in range(self.design.accumulator_bits):
            choice = routes[j] = {}
            upper = j >= starts[2]
            if "W" in contents:
                coarse(contents["W"], "W", j, choice)
            if "A" in contents:
                content = contents["B" if upper else "A"]
                coarse(content, "P", j - starts[2] + plan.base if upper else j, choice)
            if plan.nibbles:
                section = sum(j >= start for start in starts[1:])
                if plan.alone(section):
                    choice["N", 0] = ("fill", f"sign{section}")
                else:
                    choice.update({("N", k): source for (view, k), source in list(choice.items()) if view == "P"})
        return routes, need

    def _fine(self, m: Module, contents: dict[str, _Content], need: dict,
              products: tuple[list[Value], list[Value]], signals: dict[str, Value]) -> dict[int, Value]:
        """Stages of one select bit each, planned from the last; place -> bit."""
        base = self.plan.base
        stages = []
        for at in reversed(range(FINE)):
            before, need = need, {}
            stage: dict[int, Route] = {}
            done = (2 << at) - 1
            for p, views in before.items():
                stage[p] = {}
                for name, shifts in views.items():
                    for digit in (0, 1):
                        chosen = {s for s in shifts if s >> at & 1 == digit}
                        place = p - (digit << at)
                        source = contents[name].source(chosen, lambda s, done=done: s & done, p, place, need)
                        if source:
                            stage[p][name, digit] = source
            stages.insert(0, (at, stage))
        bits = {p: products[0][p] if p < base else products[1][p - base] for p in need}
        for at, stage in stages:
            x = self._inputs(m, f"fine{at}_inputs", bits)
            bits = {}
            for n, narrow in enumerate("AB"):
                part = {p: choice for p, choice in stage.items() if (p >= base) == bool(n)}
                if not part:
                    continue
                select = f"shift{n}"
                views = (View("W", select, "wide"), View(narrow, select, ""))
                chosen = signals[select][at:at + 1] if at < len(signals[select]) else Const(0, 1)
                label = f"{self.design.name}_fine{at}{narrow.lower()}"
                bits |= route(m, f"fine{at}{narrow.lower()}", label, part, x, views, {**signals, select: chosen})
        return bits

    def _inputs(self, m: Module, name: str, bits: dict[int, Value]) -> Signal:
        """Bits by place as one signal (slices of nested concatenations would double with every stage)."""
        x = Signal(max(bits, default=0) + 1, name=name)
        m.d.comb += [x[p].eq(bit) for p, bit in bits.items()]
        return x

    def _place(self, m: Module, routes: dict[int, Route], bits: dict[int, Value],
               signals: dict[str, Value]) -> dict[int, Value]:
        x = self._inputs(m, "place_inputs", bits)
        out: dict[int, Value] = {}
        half = self.design.section_starts[2]
        coarse = []
        for n in range(2):
            select = signals.get(f"shift{n}", Const(0, 1))[FINE:]
            coarse.append(select if len(select) else Const(0, 1))
        for n, name in enumerate(("low", "high")):
            part = {j: choice for j, choice in routes.items() if (j >= half) == bool(n)}
            if not part:
                continue
            views = (View("W", "wide_coarse", "wide"), View("N", "coarse", "nibble"), View("P", "coarse", ""))
            out |= route(m, f"place_{name}", f"{self.design.name}_place_{name}", part, x, views,
                         {**signals, "wide_coarse": coarse[0], "coarse": coarse[n]}, keep_stage=False)
        return out
