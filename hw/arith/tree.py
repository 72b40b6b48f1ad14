# amaranth: UnusedElaboratable=no
"""Multiplier of pipelined units: a tree of carry chains, with a register inside where asked.

The smallest structures (`multiply`) add row after row, so their depth grows with the operand. Here rows are added
in pairs: two levels for 8 x 8 bits. A chain costs about 2.2 ns on ECP5 speed grade 6, routing included, a LUT
about 1 ns (docs/timing.md).
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned

from .multiply import Multiplier, radix_rows

__all__ = ["TreeMultiplier"]


class _Row(NamedTuple):
    """``(value + carry) << place``."""

    value: Value
    carry: Value
    place: int


class TreeMultiplier(Multiplier):
    """Unsigned rows ``a & b[j]``, or the radix-4 rows of `RadixMultiplier`, summed as a balanced tree.

    Parameters
    ----------
    cuts : frozenset of str
        ``decode``: a register behind the rows (operands without a decoder have no better use for it); ``rows``:
        one behind the first level of adders, or behind the rows where there is but one level.
    """

    structure = "tree"

    def __init__(self, a: Shape, b: Shape, cuts: frozenset = frozenset()):
        self.cuts = frozenset(cuts)
        self.has_carry = Shape.cast(a).signed or Shape.cast(b).signed
        super().__init__(a, b, False)
        self.keep_hierarchy = False

    @property
    def module_name(self) -> str:
        return super().module_name + "".join(f"_{cut[0]}" for cut in sorted(self.cuts))

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self._rows(m)
        early = "decode" in self.cuts
        if early:
            rows = self._register(m, rows, "decode")
        width, level = self.o_shape.width, 0
        registered = "rows" not in self.cuts
        while len(rows) > 1:
            if not registered and (level == 1 or (len(rows) == 2 and not early)):
                rows, registered = self._register(m, rows, "rows"), True
            rows = [self._add(m, f"sum{level}_{i}", *rows[i:i + 2], width) if i + 1 < len(rows) else rows[i]
                    for i in range(0, len(rows), 2)]
            level += 1
        if not registered:
            rows = self._register(m, rows, "rows")
        m.d.comb += self.o.eq(rows[0].value)
        if self.has_carry:
            m.d.comb += self.carry.eq(rows[0].carry)
        return m

    def _rows(self, m: Module) -> list[_Row]:
        if self.has_carry:
            rows, negatives = radix_rows(m, self.a, self.b, self.keep)
            return [_Row(row.as_signed(), negative, 2 * d)
                    for d, (row, negative) in enumerate(zip(rows, negatives, strict=True))]
        return [_Row(self.a & bit.replicate(len(self.a)), Const(0, 1), j) for j, bit in enumerate(self.b)]

    def _register(self, m: Module, rows: list[_Row], cut: str) -> list[_Row]:
        out = []
        for i, row in enumerate(rows):
            held = []
            for name, value in (("row", row.value), ("carry", row.carry)):
                if not isinstance(value, Const):
                    stage = Signal(value.shape(), name=f"{name}{i}_{cut}", reset_less=True)
                    m.d.sync += stage.eq(value)
                    value = stage
                held.append(value)
            out.append(_Row(*held, row.place))
        return out

    def _add(self, m: Module, name: str, x: _Row, y: _Row, width: int) -> _Row:
        """One chain; the carry of ``x`` is left over."""
        step = y.place - x.place
        bits = max(len(x.value) - step, len(y.value)) + 1
        bits = min(bits, width - y.place)
        total = Signal(signed(bits) if self.has_carry else unsigned(bits), name=name)
        high = x.value[step:]
        m.d.comb += total.eq((high.as_signed() if self.has_carry else high) + y.value + y.carry)
        low = x.value[:step]
        value = Cat(low, total)
        return _Row(value.as_signed() if self.has_carry else value, x.carry, x.place)
