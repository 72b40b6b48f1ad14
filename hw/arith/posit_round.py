"""One rounding from an exact fixed-point accumulator into a posit (nearest, ties to the even code).

No absolute value, no normalising shifter, one short carry chain::

    i ─► class of magnitude (kept encoder) ─► network of multiplexers ─► field, guard, sticky ─► field + 1? ─► o

A negative number keeps its two's complement bits; its regime and exponent are complemented. Rounding to nearest is
symmetric and a two's complement number ends in the same zeros as its magnitude, so guard and sticky bits serve as
they are.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

from ..emit import shared
from .cells import Part
from .posit_plan import NOT_SIGN, SIGN, STICKY, AnyBelow, Bit, PositPlan
from .rounder import Rounder
from .select import select_network

__all__ = ["PositRounder"]


class ClassEncoder(Part):
    """Number of the highest class with a bit that differs from the sign, bit by bit; 0 without one.

    Kept: flattened, ABC rebuilds the search as a prefix network of 20-50 LUTs more. The bits are ports of their own,
    for each depends on the higher ones: Verilator 5.48 orders such assignments wrongly inside one vector.
    """

    def __init__(self, label: str, classes: dict[int, range], code_bits: int, keep: bool = True):
        self.classes = classes  # class number -> places in ``x``
        self.code_bits = code_bits
        width = max((places.stop for places in classes.values()), default=1)
        super().__init__({"x": In(width), "sign": In(1), **{f"code{b}": Out(1) for b in range(code_bits)}}, label, keep)

    @property
    def code(self) -> list[Value]:
        return [getattr(self, f"code{b}") for b in range(self.code_bits)]

    def elaborate(self, platform) -> Module:
        m = Module()
        found: list[Value | None] = [None] * (1 << self.code_bits)
        for number, places in self.classes.items():
            found[number] = flag = Signal(name=f"class{number}")
            part = self.x[places.start:places.stop]
            m.d.comb += flag.eq((part ^ self.sign.replicate(len(part))).any())
        for b, bit in reversed(list(enumerate(self.code))):
            half = len(found) // 2
            m.d.comb += bit.eq(Cat(flag for flag in found[half:] if flag is not None).any())
            following: list[Value | None] = []
            for i, (low, high) in enumerate(zip(found[:half], found[half:], strict=True)):
                if low is None and high is None:
                    following.append(None)
                    continue
                flag = Signal(name=f"in{b}_{i}")
                m.d.comb += flag.eq(Mux(bit, 0 if high is None else high, 0 if low is None else low))
                following.append(flag)
            found = following
        return m


class PositRounder(Rounder):
    """Into a posit: saturates at maxpos, never rounds a non-zero value to zero; NaN and infinities give NaR."""

    def __init__(self, width: int, unit_exponent: int, fmt: Format, flags: tuple[str, ...] = ()):
        super().__init__(width, unit_exponent, fmt, flags)
        # A zero below the accumulator, where its unit is coarser than minpos (see PositPlan).
        self.pad = int(unit_exponent > fmt.unit_exponent)
        bottom = unit_exponent - self.pad
        self.plan = PositPlan(fmt, bottom, bottom + width + self.pad - 1)

    def elaborate(self, platform) -> Module:
        m = Module()
        nar = Signal()
        m.d.comb += nar.eq(Cat(getattr(self, flag) for flag in self.flags).any() if self.flags else 0)
        code = self._class(m)
        field, guard, sticky = self._string_with_regime(m, code, nar) if self.format.es else self._string(m, code, nar)
        rounded = Signal(self.format.bits - 1)
        up = guard & (sticky | field[0]) & ~nar
        m.d.comb += [rounded.eq(field + up), self.o.eq(Cat(rounded, self.i[-1] | nar))]
        return m

    def _bit(self, weight: int) -> Value:
        """Accumulator bit of a weight; the number goes on in zeros below and in its sign above."""
        at = weight - self.unit_exponent
        return Const(0, 1) if at < 0 else self.i[min(at, self.width - 1)]

    def _class(self, m: Module) -> Value:
        plan = self.plan
        lowest = min((weights.start for weights in plan.classes.values()), default=0)
        highest = max((weights.stop for weights in plan.classes.values()), default=lowest + 1)
        places = {plan.class_code(k): range(weights.start - lowest, weights.stop - lowest)
                  for k, weights in plan.classes.items()}
        label = f"{self.module_name}_class"
        m.submodules.encoder = encoder = shared(ClassEncoder(label, places, plan.code_bits))
        m.d.comb += [encoder.x.eq(Cat(self._bit(weight) for weight in range(lowest, highest))),
                     encoder.sign.eq(self.i[-1])]
        return Cat(getattr(encoder, f"code{b}") for b in range(plan.code_bits))

    def _network(self, m: Module, code: Value, rows: dict) -> dict[object, Value]:
        """The rows' values; stages of two bits of the class number."""
        bits = len(code)
        sources = {source for row in rows.values() for source in row.values()}
        below = self._sticky_bits(m, sorted({source.weight for source in sources if isinstance(source, AnyBelow)}))

        def value_of(source) -> Value:
            if source in (SIGN, NOT_SIGN):
                return self.i[-1] if source == SIGN else ~self.i[-1]
            if isinstance(source, Bit):
                return self._bit(source.weight)
            if isinstance(source, AnyBelow):
                return Cat(below[source.weight], *map(value_of, source.others)).any()
            return Const(source, 1)

        return select_network(m, "level", rows, code, [2] * (bits // 2) + [1] * (bits % 2), value_of)

    def _sticky_bits(self, m: Module, weights: list[int]) -> dict[int, Value]:
        """Whether a bit up to each weight is set; each builds on the one before."""
        found: dict[int, Value] = {}
        before, start = Const(0, 1), self.unit_exponent
        for weight in weights:
            found[weight] = flag = Signal(name=f"below{weight - self.unit_exponent + 1}".replace("-", "m"))
            m.d.comb += flag.eq(Cat(before, *map(self._bit, range(start, weight + 1))).any())
            before, start = flag, max(start, weight + 1)
        return found

    def _string(self, m: Module, code: Value, nar: Value) -> tuple[Value, Value, Value]:
        """es = 0: the whole code from the network."""
        value = self._network(m, code, self.plan.rows(0))
        sign, minpos = self.i[-1], self.format.unit_exponent
        differs = Cat(self._bit(weight) ^ sign for weight in range(max(minpos, self.plan.bottom), 0))
        under = Signal()
        m.d.comb += under.eq(~code.any() & ~differs.any())
        field = Signal(self.format.bits - 1)
        m.d.comb += field.eq(Cat(value[i] & ~nar for i in range(len(field))))
        # Below minpos: away from zero, the bit that would have been the guard counts as sticky.
        guard = Mux(under, ~sign, value[-1])
        return field, guard, value[STICKY] | (under & self._bit(minpos - 1))

    def _string_with_regime(self, m: Module, code: Value, nar: Value) -> tuple[Value, Value, Value]:
        """es > 0: exponent and fraction from the network, then the regime put over them."""
        plan, bits, sign = self.plan, self.format.bits, self.i[-1]
        rows = {("is", j): row for j, row in plan.exponent_rows().items()}
        by_exponent = [plan.rows(e) for e in plan.exponents]
        rows |= {(place, e): row for e, each in enumerate(by_exponent) for place, row in each.items()}
        chosen = self._network(m, code, rows)
        exponent = self._exponent(m, [chosen["is", j] ^ sign for j in plan.exponents[1:]])
        value = {place: _pick([chosen[place, e] for e in plan.exponents], exponent) for place in by_exponent[0]}

        # Length of the regime less two (all ones: nothing else fits); its bits, the last one being the opposite.
        length, lead = Signal(len(code) - 1), Signal()
        m.d.comb += [length.eq((code[:-1] ^ (~code[-1]).replicate(len(length))) | nar.replicate(len(length))),
                     lead.eq((code[-1] ^ sign) & ~nar)]
        covers = Signal(bits)  # the regime reaches down to place i
        m.d.comb += covers.eq(Cat(*[length >= bits - 2 - i for i in range(bits - 2)], Const(3, 2)))
        field = Signal(bits - 1)
        for i in range(bits - 1):
            inside = covers[i + 1] if i else covers[1] & (length != bits - 2)  # saturated: the last bit is a one
            m.d.comb += field[i].eq(Mux(inside, Mux(covers[i], lead, ~lead), value.get(i, Const(0, 1))))
        return field, value[-1], value[STICKY]

    def _exponent(self, m: Module, candidates: list[Value]) -> Value:
        """The highest of 1, 2, ... whose bit is set."""
        exponent = Signal(self.format.es)
        for b in range(len(exponent)):
            bit: Value = Const(0, 1)
            for j, wanted in enumerate(candidates, start=1):
                bit = Mux(wanted, Const(j >> b & 1, 1), bit)
            m.d.comb += exponent[b].eq(bit)
        return exponent


def _pick(options: list[Value], select: Value) -> Value:
    for bit in select:
        options = [Mux(bit, high, low) for low, high in zip(options[::2], options[1::2], strict=True)]
    return options[0]
