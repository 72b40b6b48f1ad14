# amaranth: UnusedElaboratable=no
"""One signed multiplier that is also two of half the width.

The rows are those of `RadixMultiplier`, their digits recoded by `SimdDigits`, which needs one operand only. In the
narrow mode the rows of the low half see operand ``low`` (the low factor, sign-extended), those of the upper half
operand ``high`` (the upper factor, zeros below), and no digit's carry crosses the middle. The upper product then lacks
the borrow of a negative low product: a plus one, which the adder behind has a carry-in for.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import Part

__all__ = ["SimdDigits", "SimdMultiplier", "digits_layout"]


def digits_layout(digits: int, split: int, full: tuple[bool, bool]) -> data.StructLayout:
    """Selects of all rows: ``2 - digit`` in two bits for digits -1..2, three bits for a full one, -2..2."""
    tops = {split - 1: full[0], digits - 1: full[1]}
    select = data.StructLayout({"odd": 1, "double": 1, "negative": 1})
    return data.StructLayout({f"d{d}": select if tops.get(d) else 2 for d in range(digits)})


class SimdDigits(wiring.Component):
    """Radix-4 digits of a signed factor, or of two half factors.

    Taken from 1010...10, digit values 2..-1 with their carries become 0..3 in place: one carry chain and no LUT. Only a
    digit that may be -2 (a factor that fills its digits) takes LUTs.

    Members
    -------
    b : In(2 * digits); narrow : In(1)
    o : Out(digits_layout)
    """

    def __init__(self, digits: int, split: int, full: tuple[bool, bool]):
        self.digits, self.split, self.full = digits, split, full
        super().__init__({"b": In(2 * digits), "narrow": In(1), "o": Out(digits_layout(digits, split, full))})

    @property
    def module_name(self) -> str:
        return f"simd_digits_{self.digits}_{self.split}_" + "".join("f" if full else "e" for full in self.full)

    def elaborate(self, platform) -> Module:
        m = Module()
        carry = Const(0, 1)
        for part, (start, end) in enumerate(((0, self.split), (self.split, self.digits))):
            plain = end - start - self.full[part]
            # The borrow comes in below the factor.
            total = Signal(2 * plain + 2, name=f"total{part}")
            m.d.comb += total.eq(Const(int("10" * plain, 2) << 1) - Cat(carry, self.b[2 * start:2 * (start + plain)]))
            for d in range(plain):
                m.d.comb += getattr(self.o, f"d{start + d}").eq(total[2 * d + 1:2 * d + 3])
            carry = total[2 * plain + 1]
            if self.full[part]:
                low, high, select = self.b[2 * end - 2], self.b[2 * end - 1], getattr(self.o, f"d{end - 1}")
                alone = Const(1, 1) if part else self.narrow
                m.d.comb += [select.odd.eq(low ^ carry), select.double.eq(~(low ^ carry) & (high ^ low)),
                             select.negative.eq(high & Mux(low ^ carry, 1, alone & ~low))]
                carry = high & (low | carry)
            carry = carry & ~self.narrow
        return m


class DigitRow(Part):
    """{2a, a, ~0, ~a} by ``2 - digit``: one LUT4 a bit. The last two owe a plus one: the select's upper bit.

    Not kept: its select comes from a kept part, so that LUT4 families find the one LUT anyway and LUT6 families merge
    it with the adder.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({"a": In(width), "digit": In(2), "row": Out(width + 1), "negative": Out(1)},
                         f"digit_row_{width}", False)

    def elaborate(self, platform) -> Module:
        m = Module()
        a = [*self.a, self.a[-1]]
        for i in range(self.width + 1):
            below = a[i - 1] if i else Const(0, 1)
            m.d.comb += self.row[i].eq(Mux(self.digit[0], a[i] ^ self.digit[1], self.digit[1] | below))
        m.d.comb += self.negative.eq(self.digit[1])
        return m


class FullRow(Part):
    """{-2, -1, 0, 1, 2} times a: two LUT4 a bit; one's complement where it owes a plus one."""

    def __init__(self, width: int):
        self.width = width
        super().__init__({"a": In(width), "digit": In(digits_layout(1, 0, (False, True))["d0"].shape),
                          "row": Out(width + 1), "negative": Out(1)}, f"digit_full_row_{width}", False)

    def elaborate(self, platform) -> Module:
        m = Module()
        a, digit = [*self.a, self.a[-1]], self.digit
        for i in range(self.width + 1):
            below = a[i - 1] if i else Const(0, 1)
            m.d.comb += self.row[i].eq(Mux(digit.odd, a[i] ^ digit.negative, digit.double & (below ^ digit.negative)))
        m.d.comb += self.negative.eq(digit.negative & (digit.odd | digit.double))
        return m


class SimdMultiplier(wiring.Component):
    """``o + carry = a * b``, or the two half products at bits 0 and ``4 * split`` of ``o``.

    Parameters
    ----------
    low_bits, high_bits : int
        Width of the multiplicand as the lower and the upper rows see it.
    digits, split : int
        Radix-4 digits of ``b``; the upper factor begins at digit ``split``.
    full : pair of bool
        Whether the lower and the upper (or whole) factor may fill their digits; otherwise their top bit is a copy of
        the one below it.
    bits : int
        Of ``o``.

    Members
    -------
    low : In(low_bits); high : In(high_bits)
    b : In(digits_layout)
    o : Out(signed(bits)); carry : Out(1)
    """

    keep_hierarchy = True

    def __init__(self, low_bits: int, high_bits: int, digits: int, split: int, full: tuple[bool, bool], bits: int):
        self.low_bits, self.high_bits, self.digits, self.split = low_bits, high_bits, digits, split
        self.full, self.bits = full, bits
        super().__init__({"low": In(low_bits), "high": In(high_bits), "b": In(digits_layout(digits, split, full)),
                          "o": Out(signed(bits)), "carry": Out(1)})

    @property
    def module_name(self) -> str:
        marks = "".join("f" if full else "e" for full in self.full)
        return f"multiply_simd_{self.low_bits}_{self.high_bits}_{self.digits}_{self.split}_{marks}_{self.bits}"

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = []
        for d in range(self.digits):
            a, digit = self.low if d < self.split else self.high, getattr(self.b, f"d{d}")
            full = (d == self.split - 1 and self.full[0]) or (d == self.digits - 1 and self.full[1])
            m.submodules[f"row{d}"] = row = shared(FullRow(len(a)) if full else DigitRow(len(a)))
            m.d.comb += [row.a.eq(a), row.digit.eq(digit)]
            rows.append(row)
        m.d.comb += self.carry.eq(rows[0].negative)
        out, total = [], rows[0].row
        for d, row in enumerate(rows[1:], 1):
            out += list(total[:2])
            x, y = total[2:].as_signed(), row.row.as_signed()
            following = Signal(signed(max(len(x), len(y)) + 1), name=f"sum{d}")
            m.d.comb += following.eq(x + y + row.negative)
            total = following
        m.d.comb += self.o.eq(Cat(*out, total).as_signed())
        return m
