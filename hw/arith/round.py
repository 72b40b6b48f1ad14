"""One rounding from an exact fixed-point accumulator into an output format (nearest even)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed

from bitkiln.models.design import DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Format

from .normalise import normalise
from .posit_round import PositRounder
from .rounder import Rounder

__all__ = ["Rounder", "FloatRounder", "IntRounder", "rounder_for"]


class FloatRounder(Rounder):
    """Into a minifloat, bfloat16, float16 or float32, subnormals kept.

    Overflow saturates, or gives infinity with ``overflow="inf_nan"`` where the format has one.
    """

    def __init__(self, width: int, unit_exponent: int, fmt: Format, flags: tuple[str, ...] = (),
                 overflow: str = "saturate"):
        super().__init__(width, unit_exponent, fmt, flags)
        self.overflow = overflow

    @property
    def module_name(self) -> str:
        return super().module_name + ("_inf" if self.overflow == "inf_nan" else "")

    def elaborate(self, platform) -> Module:
        m = Module()
        fmt, mantissa_bits = self.format, self.format.mantissa_bits
        sign = self.i[-1]
        magnitude = Signal(self.width)
        m.d.comb += magnitude.eq(Mux(sign, -self.i, self.i))
        # Room for the hidden bit, the mantissa, a guard bit and one sticky bit.
        pad = max(mantissa_bits + 3 - self.width, 0)
        wide = Cat(Const(0, pad), magnitude)
        width, unit = self.width + pad, self.unit_exponent - pad
        # The leading one may stay below the top where it is below the least normal number.
        least_normal = 1 - fmt.bias - unit
        limit = min(width - 1, width - 1 - least_normal)
        top, taken = normalise(m, "n", wide, max(limit, 0))
        exponent_top = width - 1 + unit + fmt.bias
        if limit < 0:  # every value is below the least normal number
            top, exponent_top = Cat(top, Const(0, -limit)), 1
            width -= limit
        binary = Cat(*[t for _, t in reversed(taken[1:])])
        base = Signal(signed(max(exponent_top.bit_length(), 4) + 2))
        if taken:
            head, skip = taken[0]
            if head & (head - 1) == 0 and head == 1 << len(taken) - 1:
                binary = Cat(*[t for _, t in reversed(taken)])
                m.d.comb += base.eq(exponent_top - 1 - binary)
            else:
                m.d.comb += base.eq(Mux(skip, exponent_top - 1 - head, exponent_top - 1) - binary)
        else:
            m.d.comb += base.eq(exponent_top - 1)
        kept = top[width - 1 - mantissa_bits:]
        guard, sticky = top[width - 2 - mantissa_bits], top[:width - 2 - mantissa_bits].any()
        up = guard & (sticky | kept[0])
        # The hidden bit carries into the exponent field, and so does a rounding overflow.
        code = Signal(signed(len(base) + mantissa_bits + 1))
        m.d.comb += code.eq(Cat(Const(0, mantissa_bits), base).as_signed() + kept + up)
        largest = int(fmt.encode([fmt.max])[0])
        infinity = largest + 1 if fmt.has_inf and self.overflow == "inf_nan" else largest
        finite = Signal(fmt.bits - 1)
        m.d.comb += finite.eq(Mux(code > largest, infinity, code))
        if least_normal <= 0:  # no subnormals in reach: zero has no hidden bit and must be forced
            with m.If(~top[-1]):
                m.d.comb += finite.eq(0)
        out = Signal(fmt.bits)
        # Exact zero is +0; a negative value that rounds to zero keeps its sign.
        m.d.comb += out.eq(Cat(finite, sign))
        if "inf_pos" in self.flags:
            special = largest + 1 if fmt.has_inf else largest
            with m.If(self.inf_pos | self.inf_neg):
                m.d.comb += out.eq(Cat(Const(special, fmt.bits - 1), self.inf_neg))
        if "nan" in self.flags:
            code_nan = int(fmt.encode([float("nan")])[0]) if fmt.has_nan else 0
            with m.If(self.is_nan()):
                m.d.comb += out.eq(code_nan)
        m.d.comb += self.o.eq(out)
        return m


class IntRounder(Rounder):
    """Into an integer or fixed-point format: shift, round to nearest even, saturate."""

    def elaborate(self, platform) -> Module:
        m = Module()
        fmt = self.format
        drop = fmt.unit_exponent - self.unit_exponent
        if drop > 0:
            padded = Cat(self.i, self.i[-1].replicate(max(drop + 1 - self.width, 0))).as_signed()
            kept, guard = padded[drop:].as_signed(), padded[drop - 1]
            sticky = padded[:drop - 1].any() if drop > 1 else Const(0, 1)
            rounded = Signal(signed(len(kept) + 1))
            m.d.comb += rounded.eq(kept + (guard & (sticky | kept[0])))
        else:
            rounded = Signal(signed(self.width - drop))
            m.d.comb += rounded.eq(Cat(Const(0, -drop), self.i).as_signed())
        if fmt.signed:
            high, low = (1 << (fmt.bits - 1)) - 1, -(1 << (fmt.bits - 1))
        else:
            high, low = (1 << fmt.bits) - 1, 0
        value = Signal(fmt.bits)
        m.d.comb += value.eq(Mux(rounded > high, high, Mux(rounded < low, low, rounded)))
        if "inf_pos" in self.flags:
            with m.If(self.inf_neg):
                m.d.comb += value.eq(low)
            with m.Elif(self.inf_pos):
                m.d.comb += value.eq(high)
        if "nan" in self.flags:
            with m.If(self.is_nan()):
                m.d.comb += value.eq(0)
        m.d.comb += self.o.eq(value)
        return m


def rounder_for(design: DotDesign) -> Rounder:
    """The output stage of a dot unit."""
    flags = ("nan",) * design.has_nan + ("inf_pos", "inf_neg") * design.has_inf
    fmt, unit = design.output, design.product_exponent
    if fmt.family == "minifloat":
        return FloatRounder(design.accumulator_bits, unit, fmt, flags)
    if fmt.family in ("int", "fixed"):
        return IntRounder(design.accumulator_bits, unit, fmt, flags)
    if fmt.family == "posit":
        return PositRounder(design.accumulator_bits, unit, fmt, flags)
    raise BitkilnError("no output stage for this format", where="output", got=fmt.name,
                       expected="an integer, fixed-point, minifloat or posit format")

