# amaranth: UnusedElaboratable=no
"""The products of all lanes and outputs, and for each output the sum over the lanes.

::

              w[0, :]   w[1, :]                 lane j has an activation and its weights of all outputs
    a[0] ──────► x ───────► x ─────
    a[1] ──────► x ───────► x ─────
                 │          │
                 ▼ +        ▼ +
              total[0]   total[1]

One interface, three structures; `array_for` chooses:

============  ===================================================  ===============================
multiplier    structure                                            ECP5, 16 x 16 int8
============  ===================================================  ===============================
any           a `LaneProduct` each, a tree of adders; any formats  17,400 LUT4, 6,300 CCU2C
``chains``    integers: digits of the activations, made once for   11,000 LUT4, 5,700 CCU2C
              all outputs, choose multiples of the weights
``pairs``     integers: two outputs share an 18-bit multiplier     3,100 LUT4, 3,000 CCU2C, 128 DSP
============  ===================================================  ===============================
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import NEAR, GatherDesign

from ..arith.signed import Term, sum_terms
from ..emit import shared
from ..formats.decode import is_fixed
from ..mac.product import LaneProduct
from .gather_layouts import total_layout

__all__ = ["GatherArray", "GatherColumn", "ProductArray", "ProductColumn", "array_for"]

# Registers of a column of products for each pipeline depth, where they are integers and where they have to be aligned.
_CUTS = {
    False: {0: (), 1: ("sum",), 2: ("multiply", "sum"), 3: ("multiply", "tree", "sum"),
            4: ("rows", "multiply", "tree", "sum"), 5: ("decode", "rows", "multiply", "tree", "sum"),
            6: ("decode", "rows", "multiply", "align", "tree", "sum")},
    True: {0: (), 1: ("sum",), 2: ("align", "sum"), 3: ("multiply", "align", "sum"),
           4: ("multiply", "align", "tree", "sum"), 5: ("decode", "multiply", "align", "tree", "sum"),
           6: ("decode", "rows", "multiply", "align", "tree", "sum")},
}
LEAST_DIGITS = 4    # bits of an operand below which digits are not worth it


class GatherArray(wiring.Component):
    """Base: ``value + carry = sum(a[lane] * w[lane][output])`` exactly, over the lanes that are active.

    Members
    -------
    a : In(lanes codes); active : In(lanes)
        What a lane that is not active is given does not matter.
    w : In(lanes x outputs codes)
        ``lag`` edges later.
    totals : Out(outputs x total_layout)
        ``latency`` edges after ``a``. A value means nothing where one of its flags other than ``illegal`` is set.
    """

    def __init__(self, design: GatherDesign, value_bits: int):
        self.design, self.value_bits = design, value_bits
        # Registers behind the memories, which are slow, and behind what is made of the activations; then for some
        # columns and for each of them, for one register cannot drive them all from across the chip.
        relayed = int(design.relays > 0)
        self.lag, self.latency = 1 + relayed, 3 + relayed + design.pipeline
        weights = data.ArrayLayout(design.weight.bits, design.outputs)
        super().__init__({
            "a": In(data.ArrayLayout(design.activation.bits, design.lanes)),
            "w": In(data.ArrayLayout(weights, design.lanes)), "active": In(design.lanes),
            "totals": Out(data.ArrayLayout(total_layout(design, value_bits), design.outputs))})

    @property
    def module_name(self) -> str:
        d = self.design
        return f"array_{d.dot.pe_name}_{d.lanes}x{d.outputs}_p{d.pipeline}_{d.multiplier}"

    def activations(self, m: Module) -> tuple[list[Value], Value]:
        """Registers: codes by lane, 0 where a lane is not active; which lanes are."""
        codes, active = [], Signal(self.design.lanes, name="soon", reset_less=True)
        m.d.sync += active.eq(self.active)
        for lane in range(self.design.lanes):
            code = Signal(self.design.activation.bits, name=f"code{lane}", reset_less=True)
            m.d.sync += code.eq(Mux(self.active[lane], self.a[lane], 0))
            codes.append(code)
        return codes, active

    @staticmethod
    def registered(m: Module, made: list[Value]) -> Value:
        """What is made of the activations, an edge later."""
        held = Signal(sum(map(len, made)), name="made", reset_less=True)
        m.d.sync += held.eq(Cat(*made))
        return held

    def near(self, m: Module, made: Value, active: Value) -> list[tuple[Value, Value, range]]:
        """What is made of the activations and which lanes are active, and for which columns."""
        count = self.design.columns
        if not self.design.relays:
            return [(made, active, range(count))]
        found = []
        for at in range(self.design.relays):
            m.submodules[f"relay{at}"] = relay = shared(Relay(len(made) + len(active)))
            m.d.comb += relay.i.eq(Cat(made, active))
            found.append((relay.o[:len(made)], relay.o[len(made):], range(NEAR * at, NEAR * (at + 1))))
        return found

    def weights_of(self, m: Module, first: int, count: int) -> Value:
        """Of some outputs, lane by lane, an edge later."""
        held = Signal(self.design.lanes * count * self.design.weight.bits, name=f"weights{first}", reset_less=True)
        m.d.sync += held.eq(Cat(self.w[lane][output] for lane in range(self.design.lanes)
                                for output in range(first, first + count)))
        return held


class Relay(wiring.Component):
    """A register on the way."""

    keep_hierarchy = True      # or the copies are merged

    def __init__(self, width: int):
        self.width = width
        super().__init__({"i": In(width), "o": Out(width)})

    @property
    def module_name(self) -> str:
        return f"relay_{self.width}"

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(self.width, reset_less=True)
        m.d.sync += held.eq(self.i)
        m.d.comb += self.o.eq(held)
        return m


class GatherColumn(wiring.Component):
    """Base of what one output (or some) takes, with its own copy of the activations.

    Members
    -------
    made : In(lanes * bits)
        Of the activations; 0 where a lane is not active, which adds nothing whatever its weight.
    soon : In(lanes)
        Active lanes, an edge ahead.
    w : In(lanes * bits)
    o : Out
        ``1 + design.pipeline`` edges later.
    """

    keep_hierarchy = True      # or the copies are merged

    def __init__(self, design: GatherDesign, made_bits: int, outputs: int, o, **more):
        self.design, self.made_bits, self.outputs = design, made_bits, outputs
        super().__init__({**more, "made": In(design.lanes * made_bits), "soon": In(design.lanes),
                          "w": In(design.lanes * outputs * design.weight.bits), "o": Out(o)})

    def operands(self, m: Module) -> tuple[list[Value], list[Value], Value]:
        """Registers by lane: what was made of the activations; weights, which stay where a lane is not active; which
        lanes are."""
        d, bits = self.design, self.outputs * self.design.weight.bits
        made = Signal(len(self.made), name="made_here", reset_less=True)
        reads, active = (Signal(d.lanes, name=name, reset_less=True) for name in ("reads", "multiplies"))
        m.d.sync += [made.eq(self.made), reads.eq(self.soon), active.eq(reads)]
        w = []
        for lane in range(d.lanes):
            held = Signal(bits, name=f"weights{lane}", reset_less=True)
            with m.If(reads[lane]):
                m.d.sync += held.eq(self.w.word_select(lane, bits))
            w.append(held)
        return [made.word_select(lane, self.made_bits) for lane in range(d.lanes)], w, active


class ProductColumn(GatherColumn):
    """One output of `ProductArray`."""

    def __init__(self, design: GatherDesign):
        self.design = design
        aligned = LaneProduct(design.activation, design.weight).shifted
        self.cuts = frozenset(_CUTS[aligned][design.pipeline])
        self.lane = self._lane()
        limit = design.lanes * self.lane.limit
        self.value_bits = self.lane.value_shape.width if design.lanes == 1 else limit.bit_length() + 1
        super().__init__(design, design.activation.bits, 1, total_layout(design, self.value_bits))

    def _lane(self) -> LaneProduct:
        d = self.design
        return LaneProduct(d.activation, d.weight, self.cuts - {"tree", "sum"}, multiplier=d.dot.multiplier)

    @property
    def module_name(self) -> str:
        d = self.design
        return f"column_{d.dot.pe_name}_l{d.lanes}_p{d.pipeline}_{d.dot.multiplier}"

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design

        def held(value: Value, name: str, cut: str = "tree") -> Value:
            """The value behind this cut's register, if there is one."""
            if cut not in self.cuts or isinstance(value, Const):
                return value
            stage = Signal(value.shape(), name=f"{name}_{cut}", reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        a, w, active = self.operands(m)
        terms = []
        events: dict[str, list[Value]] = {flag: [] for flag in d.dot.flags}
        for cut in sorted(self.lane.cuts):
            active = held(active, "active", cut)
        for lane in range(d.lanes):
            m.submodules[f"lane{lane}"] = unit = shared(self.lane if lane == 0 else self._lane())
            m.d.comb += [unit.a.eq(a[lane]), unit.w.eq(w[lane])]
            terms.append(Term(unit.value, (unit.carry,) if self.lane.has_carry else (), self.lane.limit))
            for flag, found in events.items():
                found.append(getattr(unit, flag) & active[lane])
        total = sum_terms(m, terms, held if "tree" in self.cuts else None)
        m.d.comb += self.o.value.eq(held(total.value, "total", "sum"))
        if total.carries:
            m.d.comb += self.o.carry.eq(held(total.carries[0], "carry", "sum"))
        for flag, found in events.items():
            m.d.comb += self.o[flag].eq(held(held(Cat(*found).any(), flag), flag, "sum"))
        return m


class ProductArray(GatherArray):
    """Products of any formats, each on its own."""

    def __init__(self, design: GatherDesign):
        self.column = ProductColumn(design)
        super().__init__(design, self.column.value_bits)

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        codes, active = self.activations(m)
        for made, soon, columns in self.near(m, self.registered(m, codes), active):
            for output in columns:
                m.submodules[f"column{output}"] = unit = shared(self.column if output == 0 else ProductColumn(d))
                m.d.comb += [unit.made.eq(made), unit.soon.eq(soon), unit.w.eq(self.weights_of(m, output, 1)),
                             self.totals[output].eq(unit.o)]
        return m


def array_for(design: GatherDesign) -> GatherArray:
    """The structure of a design."""
    from .gather_digits import DigitArray
    from .gather_pairs import PairArray

    if design.multiplier == "pairs":
        return PairArray(design)
    integers = is_fixed(design.activation) and is_fixed(design.weight)
    if design.multiplier == "chains" and integers and min(design.activation.bits, design.weight.bits) >= LEAST_DIGITS:
        return DigitArray(design)
    return ProductArray(design)
