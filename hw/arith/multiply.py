# amaranth: UnusedElaboratable=no
"""Multipliers. One interface, three structures; `multiplier_for` chooses by the operands.

========================  =======================================  =================================
operands                  structure                                ECP5 LUT4 / CCU2C (Yosys ``*``)
========================  =======================================  =================================
unsigned x unsigned       rows of AND-add cells, no carry chain    4x4 27/0 (25/4), 6x6 65/0 (70/6)
signed x any              radix-4 rows, digits {-1, 0, 1, 2}       8x8 54/15 (168/8)
any x one bit             AND                                      one LUT4 a bit
========================  =======================================  =================================
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import AndAdd, AndAddFirst, FullAdd, Part

__all__ = ["ArrayMultiplier", "Multiplier", "OperatorMultiplier", "RadixMultiplier", "multiplier_for", "radix_rows"]


def _shape_name(shape: Shape) -> str:
    return f"{'s' if shape.signed else 'u'}{shape.width}"


class Multiplier(wiring.Component):
    """``o + carry = a * b`` of two integers, each signed or unsigned; combinational but
    for ``cuts``.

    Keeps its hierarchy: fused with an adder by Yosys (``alumacc``) the pair would cost 1.4-2.2 times the LUTs.

    Members
    -------
    a, b : In(shape)
    o : Out(signed or unsigned, sum of the widths)
    carry : Out(1)
        Only where ``has_carry``: the last plus one of a negative row, for the next adder's carry-in.
    """

    structure: str
    has_carry = False
    keep_hierarchy = True
    cuts: frozenset = frozenset()  # registers inside

    def __init__(self, a: Shape, b: Shape, keep: bool = True):
        self.a_shape, self.b_shape, self.keep = Shape.cast(a), Shape.cast(b), keep
        width = self.a_shape.width + self.b_shape.width
        self.o_shape = Shape(width, signed=self.a_shape.signed or self.b_shape.signed)
        members = {"a": In(self.a_shape), "b": In(self.b_shape), "o": Out(self.o_shape)}
        if self.has_carry:
            members["carry"] = Out(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        name = f"multiply_{self.structure}_{_shape_name(self.a_shape)}_{_shape_name(self.b_shape)}"
        return name + ("" if self.keep else "_flat")


class OperatorMultiplier(Multiplier):
    """Left to the synthesis tool, which may use a DSP block; a product by one bit is a row of ANDs."""

    structure = "operator"

    def __init__(self, a: Shape, b: Shape, keep: bool = True):
        super().__init__(a, b, keep)
        # ANDs are better seen by the surrounding logic.
        self.keep_hierarchy = min(self.a_shape.width, self.b_shape.width) > 1

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.a_shape == Shape(1):
            m.d.comb += self.o.eq(Mux(self.a, self.b, 0))
        elif self.b_shape == Shape(1):
            m.d.comb += self.o.eq(Mux(self.b, self.a, 0))
        else:
            m.d.comb += self.o.eq(self.a * self.b)
        return m


class ArrayMultiplier(Multiplier):
    """Unsigned: each row adds ``a & b[j]`` in ripple, two LUT4 a cell.

    ``chain_rows`` of the last rows go to carry chains instead: fewer LUT4, more CCU2C, the same sum.
    """

    structure = "array"

    def __init__(self, a: Shape, b: Shape, keep: bool = True, chain_rows: int = 0):
        self.chain_rows = chain_rows
        super().__init__(a, b, keep)
        self.keep_hierarchy = keep

    @property
    def module_name(self) -> str:
        return super().module_name + (f"_c{self.chain_rows}" if self.chain_rows else "")

    def elaborate(self, platform) -> Module:
        m = Module()
        a, width = self.a, self.a_shape.width
        row: list[Value] = [a[i] & self.b[0] for i in range(width)]
        low: list[Value] = []
        for j in range(1, self.b_shape.width):
            low.append(row[0])
            if j >= self.b_shape.width - self.chain_rows:
                total = Signal(width + 1, name=f"row{j}")
                m.d.comb += total.eq(Cat(row[1:]) + (a & self.b[j].replicate(width)))
                row = list(total)
                continue
            above = [*row[1:], *[Const(0, 1)] * (width + 1 - len(row))]
            carry: Value = Const(0, 1)
            row = []
            for i in range(width):
                if j == 1 and i == 0 and width > 1:
                    m.submodules.cell1_0 = cell = shared(AndAddFirst(self.keep))
                    m.d.comb += [cell.a0.eq(a[1]), cell.b0.eq(self.b[0]), cell.a1.eq(a[0]), cell.b1.eq(self.b[1])]
                else:
                    m.submodules[f"cell{j}_{i}"] = cell = shared(AndAdd(self.keep))
                    m.d.comb += [cell.x.eq(above[i]), cell.c.eq(carry), cell.a.eq(a[i]), cell.b.eq(self.b[j])]
                row.append(cell.sum)
                carry = cell.carry
            row.append(carry)
        m.d.comb += self.o.eq(Cat(*low, *row))
        return m


class RadixRow(Part):
    """{0, a, 2a, ~a} by a two-bit select: one LUT4 a bit. ``~a`` owes a plus one."""

    def __init__(self, width: int, keep: bool = True):
        self.width = width
        super().__init__({"a": In(width), "two": In(1), "one": In(1), "row": Out(width + 1)},
                         f"radix_row_{width}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        a = [*self.a, self.a[-1]]
        bits = [Mux(self.two, Mux(self.one, ~a[i], a[i - 1] if i else 0), self.one & a[i])
                for i in range(self.width + 1)]
        m.d.comb += self.row.eq(Cat(*bits))
        return m


class RadixTopRow(Part):
    """Row of the top digit ``-2 hi + lo + carry``, -2..2; one's complement where negative."""

    def __init__(self, width: int, keep: bool = True):
        self.width = width
        super().__init__({"a": In(width), "hi": In(1), "lo": In(1), "carry": In(1), "row": Out(width + 1),
                          "negative": Out(1)}, f"radix_top_{width}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        a, odd = [*self.a, self.a[-1]], self.lo ^ self.carry
        for i in range(self.width + 1):
            below = a[i - 1] if i else Const(0, 1)
            m.d.comb += self.row[i].eq(Mux(odd, a[i] ^ self.hi, (self.hi ^ self.lo) & (below ^ self.hi)))
        m.d.comb += self.negative.eq(self.hi & ~(self.lo & self.carry))
        return m


def radix_rows(m: Module, multiplicand: Value, multiplier: Value, keep: bool) -> tuple[list[Value], list[Value]]:
    """Rows of weight 4**d and, for each, the plus one that it owes; either operand may be unsigned."""
    a = multiplicand if multiplicand.shape().signed else Cat(multiplicand, Const(0, 1))
    width = len(a)
    b = list(multiplier)
    if not multiplier.shape().signed:
        b.append(Const(0, 1))
    if len(b) % 2:
        b.append(b[-1])
    digits = len(b) // 2
    carry: Value = Const(0, 1)
    rows, negatives = [], []
    for d in range(digits):
        low, high = b[2 * d], b[2 * d + 1]
        if d == digits - 1:
            m.submodules[f"row{d}"] = row = shared(RadixTopRow(width, keep))
            m.d.comb += [row.a.eq(a), row.hi.eq(high), row.lo.eq(low), row.carry.eq(carry)]
            negatives.append(row.negative)
        else:
            one, two, following = (Signal(name=f"{n}{d}") for n in ("one", "two", "carry"))
            m.d.comb += [one.eq(low ^ carry), two.eq(high ^ (low & carry)), following.eq(high & (low | carry))]
            m.submodules[f"row{d}"] = row = shared(RadixRow(width, keep))
            m.d.comb += [row.a.eq(a), row.one.eq(one), row.two.eq(two)]
            negatives.append(one & two)
            carry = following
        rows.append(row.row)
    return rows, negatives


class RadixMultiplier(Multiplier):
    """Signed: radix-4 rows whose four multiples fit a two-bit select, so a row bit is one LUT4.

    Digit 3 is -1 with a carry into the next digit (Booth's five multiples would need two LUT4 a bit); only the
    top digit keeps -2..2. A negative row is ``~row``, its plus one the carry-in of that row's own adder; the
    first row's is the ``carry`` output.
    """

    structure = "radix"
    has_carry = True

    def __init__(self, a: Shape, b: Shape, keep: bool = True, luts: bool = False):
        self.luts = luts
        super().__init__(a, b, keep)

    @property
    def module_name(self) -> str:
        return super().module_name + ("_luts" if self.luts else "")

    def _add(self, m: Module, d: int, x: Value, y: Value, carry: Value, width: int) -> Value:
        """x + y + carry of two signed rows, in LUTs: two a bit, where a chain takes half a CCU2C and one LUT."""
        out: list[Value] = []
        for i in range(width):
            m.submodules[f"add{d}_{i}"] = cell = shared(FullAdd(self.keep))
            m.d.comb += [cell.x.eq(x[min(i, len(x) - 1)]), cell.y.eq(y[min(i, len(y) - 1)]), cell.c.eq(carry)]
            out.append(cell.sum)
            carry = cell.carry
        return Cat(*out)

    def elaborate(self, platform) -> Module:
        m = Module()
        rows, negatives = radix_rows(m, self.a, self.b, self.keep)
        width, digits = len(rows[0]) - 1, len(rows)
        m.d.comb += self.carry.eq(negatives[0])
        out: list[Value] = []
        total = rows[0]
        for d in range(1, digits):
            out += list(total[:2])
            following = Signal(signed(width + 2), name=f"sum{d}")
            x, y = total[2:].as_signed(), rows[d].as_signed()
            last = d == digits - 1
            m.d.comb += following.eq(self._add(m, d, x, y, negatives[d], width + 2) if self.luts and not last
                                     else x + y + negatives[d])
            total = following
        m.d.comb += self.o.eq(Cat(*out, total).as_signed())
        return m


def multiplier_for(a: Shape, b: Shape, *, keep: bool = True, structure: str = "chains",
                   chain_rows: int = 0, cuts: frozenset = frozenset()) -> Multiplier:
    """The smallest structure for two shapes.

    Parameters
    ----------
    keep : bool
        Keep the LUT-sized parts (smallest) or let the tool dissolve them (fastest).
    structure : str
        ``chains``, ``luts`` (row adders of signed multipliers) or ``operator`` (left to the tool, DSP blocks).
    chain_rows : int
        Rows of an unsigned array that use carry chains.
    cuts : frozenset of str
        Of a pipelined lane: with any of them the fast tree, which takes the registers ``decode`` and ``rows``.
    """
    a, b = Shape.cast(a), Shape.cast(b)
    narrow = min(a.width, b.width)
    if structure == "operator" or narrow == 1:
        return OperatorMultiplier(a, b, keep)
    # A product of so few unsigned bits is two levels of LUTs.
    if cuts and structure == "chains" and (a.signed or b.signed or a.width + b.width > 6):
        from .tree import TreeMultiplier

        return TreeMultiplier(a, b, cuts & {"decode", "rows"})
    if a.signed or b.signed:
        return RadixMultiplier(a, b, keep, structure == "luts")
    return ArrayMultiplier(a, b, keep, min(chain_rows, b.width - 1))
