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

from bitkiln.models.design.spconv import GatherDesign

from ..arith.signed import Term, sum_terms
from ..emit import shared
from ..formats.decode import is_fixed
from ..mac.product import LaneProduct
from .gather_layouts import total_layout

__all__ = ["GatherArray", "ProductArray", "ProductColumn", "array_for"]

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
        An edge later.
    totals : Out(outputs x total_layout)
        ``latency`` edges after ``a``. A value means nothing where one of its flags other than ``illegal`` is set.
    """

    def __init__(self, design: GatherDesign, value_bits: int):
        self.design, self.value_bits = design, value_bits
        # A register behind the memories, which are slow; one behind what is made of the activations.
        self.latency = 2 + design.pipeline
        weights = data.ArrayLayout(design.weight.bits, design.outputs)
        super().__init__({
            "a": In(data.ArrayLayout(design.activation.bits, design.lanes)),
            "w": In(data.ArrayLayout(weights, design.lanes)), "active": In(design.lanes),
            "totals": Out(data.ArrayLayout(total_layout(design, value_bits), design.outputs))})

    @property
    def module_name(self) -> str:
        d = self.design
        return f"array_{d.dot.pe_name}_{d.lanes}x{d.outputs}_p{d.pipeline}_{d.multiplier}"

    def activations(self, m: Module) -> list[Value]:
        """Registers: codes by lane, 0 where a lane is not active."""
        codes = []
        for lane in range(self.design.lanes):
            code = Signal(self.design.activation.bits, name=f"code{lane}", reset_less=True)
            m.d.sync += code.eq(Mux(self.active[lane], self.a[lane], 0))
            codes.append(code)
        return codes

    def operands(self, m: Module, made: list[Value]) -> tuple[list[Value], list[Value], Value]:
        """Registers an edge later: what is made of the activations, and the weights, by lane; which lanes are active.

        The weights of a lane that is not active stay.
        """
        reads, active = (Signal(self.design.lanes, name=name, reset_less=True) for name in ("reads", "multiplies"))
        m.d.sync += [reads.eq(self.active), active.eq(reads)]
        a, w = [], []
        for lane, value in enumerate(made):
            held = Signal(len(value), name=f"activation{lane}", reset_less=True)
            weights = Signal(self.design.outputs * self.design.weight.bits, name=f"weights{lane}", reset_less=True)
            m.d.sync += held.eq(value)
            with m.If(reads[lane]):
                m.d.sync += weights.eq(self.w[lane].as_value())
            a.append(held)
            w.append(weights)
        return a, w, active


class ProductColumn(wiring.Component):
    """One output of `ProductArray`.

    Members
    -------
    a, w : In(lanes * bits)
    active : In(lanes)
        A lane that is not has activation code 0: it adds nothing whatever its weight, and sets no flag.
    o : Out(total_layout)
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        aligned = LaneProduct(design.activation, design.weight).shifted
        self.cuts = frozenset(_CUTS[aligned][design.pipeline])
        self.lane = self._lane()
        self.latency = design.pipeline
        limit = design.lanes * self.lane.limit
        self.value_bits = self.lane.value_shape.width if design.lanes == 1 else limit.bit_length() + 1
        super().__init__({"a": In(design.lanes * design.activation.bits), "w": In(design.lanes * design.weight.bits),
                          "active": In(design.lanes), "o": Out(total_layout(design, self.value_bits))})

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

        terms, active = [], self.active
        events: dict[str, list[Value]] = {flag: [] for flag in d.dot.flags}
        for cut in sorted(self.lane.cuts):
            active = held(active, "active", cut)
        for lane in range(d.lanes):
            m.submodules[f"lane{lane}"] = unit = shared(self.lane if lane == 0 else self._lane())
            m.d.comb += [unit.a.eq(self.a.word_select(lane, d.activation.bits)),
                         unit.w.eq(self.w.word_select(lane, d.weight.bits))]
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
        a, w, active = self.operands(m, self.activations(m))
        for output in range(d.outputs):
            m.submodules[f"column{output}"] = unit = shared(self.column if output == 0 else ProductColumn(d))
            m.d.comb += [unit.a.eq(Cat(*a)), unit.active.eq(active), self.totals[output].eq(unit.o),
                         unit.w.eq(Cat(lane.word_select(output, d.weight.bits) for lane in w))]
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
