"""One step of a float32 accumulator whose addend is a signed number of any width at a variable place.

The addend stays in place inside a window; the accumulator is moved to it. Above the window the addend is less than a
quarter of the accumulator's last place, so its distance does not matter any more; below it the accumulator only
leaves a sticky bit.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .normalise import normalise

__all__ = ["Fp32Step"]

MANTISSA, BIAS = 23, 127
SIGNIFICAND = MANTISSA + 1
LEAST = -149         # exponent of the least subnormal
LEAST_NORMAL = -126
BELOW = 26           # places below the addend's least bit: 24 bits of a result, a guard bit, one lost to cancelling


class Fp32Step(wiring.Component):
    """``o = RNE(acc + (value + carry) * 2**(unit + shift))``, combinational.

    The accumulator starts at zero and only ever takes results of this step, so it is always a multiple of
    ``2**unit``. Hence nothing is subnormal where ``unit`` is at least -126, no subnormal is rounded from -149 on, and
    without a shift the accumulator never reaches below the addend's least bit.

    Parameters
    ----------
    value_bits : int
        The addend is below ``2**(value_bits - 1)`` in magnitude.
    shift_bits : int
        0 for a fixed place.
    unit : int
    events : tuple of str
        Which of ``nan``, ``inf_pos``, ``inf_neg`` the addend can be.

    Members
    -------
    acc : In(32); value : In(signed(value_bits)); carry : In(1); shift : In(shift_bits)
    nan, inf_pos, inf_neg : In(1)
        ``value`` is arbitrary with one of them.
    o : Out(32)
    """

    reset_less = True

    def __init__(self, value_bits: int, shift_bits: int, unit: int, events: tuple[str, ...]):
        self.value_bits, self.shift_bits, self.unit, self.events = value_bits, shift_bits, unit, tuple(events)
        super().__init__({"acc": In(32), "value": In(signed(value_bits)), "carry": In(1), "shift": In(shift_bits),
                          **{event: In(1) for event in self.events}, "o": Out(32)})

    @property
    def module_name(self) -> str:
        unit = f"{'m' if self.unit < 0 else 'p'}{abs(self.unit)}"
        specials = "_inf" if "inf_pos" in self.events else "_nan" if self.events else ""
        return f"fp32_step_s{self.value_bits}_h{self.shift_bits}_{unit}{specials}"

    def elaborate(self, platform) -> Module:
        m = Module()
        bits, moving, subnormals = self.value_bits - 1, self.shift_bits > 0, self.unit < LEAST_NORMAL
        exponent, negative = self.acc[MANTISSA:31], self.acc[31]
        normal = exponent.any()
        # Field 0 weighs like field 1. NaN and infinities are overridden at the end.
        acc_field = Cat(exponent[0] | ~normal, exponent[1:]) if subnormals else exponent
        significand = Cat(self.acc[:MANTISSA], normal)

        # Places count from the low end of what the accumulator's significand may reach: the addend's least bit is at
        # `below`, the accumulator's between 0 and `top`.
        below = SIGNIFICAND + (BELOW if moving else 0)
        top = below + bits + 2
        field_bits = max(8, self.shift_bits, abs(self.unit).bit_length(), top.bit_length()) + 3
        distance = Signal(signed(field_bits))
        m.d.comb += distance.eq(acc_field - self.shift + (LEAST - 1 - self.unit + below))
        zero, high = Signal(), Signal()
        m.d.comb += [zero.eq(~(Cat(self.value) ^ self.carry.replicate(self.value_bits)).any()),
                     high.eq((distance > top) | zero)]
        place = Signal(range(top + 1))
        m.d.comb += place.eq(Mux(high, top, Mux(distance < 0, 0, distance)))
        moved = Signal(top + SIGNIFICAND)
        m.d.comb += moved.eq(significand << place)
        # A negative accumulator is complemented and owes a plus one.
        window = moved ^ negative.replicate(len(moved))
        low = Cat(moved[:SIGNIFICAND].any() ^ negative, window[SIGNIFICAND:below]) if moving else Const(0, 0)
        sum_high = Signal(signed(bits + 28))
        m.d.comb += sum_high.eq(Cat(window[below:], negative).as_signed() + self.value + self.carry)
        below_zero = sum_high[-1]
        total = Cat(low, sum_high[:-1])
        width = len(total)
        size = Signal(width)
        m.d.comb += size.eq((total ^ below_zero.replicate(width)) + (below_zero ^ negative))

        # Exponent field of the window's top bit; by the accumulator where the addend is out of reach below.
        offset = SIGNIFICAND - moving + width - 1
        field = Signal(signed(field_bits))
        m.d.comb += field.eq(Mux(high, acc_field + (LEAST - 1 - top + offset + BIAS),
                                 self.shift + (self.unit - below + offset + BIAS)))
        normalised, taken = normalise(m, "n", size, width - 1)
        (first, skipped), binary = taken[0], Cat(*[skip for _, skip in reversed(taken[1:])])
        result_field = Signal(signed(field_bits + 1))
        m.d.comb += result_field.eq(field - Mux(skipped, first, 0) - binary)
        kept, rest = normalised[width - SIGNIFICAND:], normalised[:width - SIGNIFICAND]
        guard, sticky = rest[-1], rest[:-1].any()
        base = (result_field - 1)[:9]
        if subnormals:
            kept, guard, sticky, base = self._subnormal(m, result_field, kept, guard, sticky, base)
        code = Signal(33)
        m.d.comb += code.eq(Cat(Const(0, MANTISSA), base) + kept + (guard & (sticky | kept[0])))
        overflow = code[31] | code[MANTISSA:31].all()
        # Exact zero is +0.
        finite = Mux(normalised[-1], Mux(overflow, 0x7F800000, code[:31]), 0)
        m.d.comb += self.o.eq(Cat(finite[:31], below_zero & normalised[-1]))
        self._specials(m)
        return m

    def _subnormal(self, m: Module, field: Value, kept: Value, guard: Value, sticky: Value,
                   base: Value) -> tuple[Value, ...]:
        """Significand, guard, sticky and exponent where the result may be subnormal."""
        subnormal = Signal()
        m.d.comb += subnormal.eq(field <= 0)
        whole = Cat(sticky, guard, kept)
        right = Signal(range(len(whole) + 1))
        m.d.comb += right.eq(Mux(subnormal, Mux(field < 1 - len(whole), len(whole), 1 - field), 0))
        if self.unit >= LEAST:  # nothing is lost
            moved = Signal(len(whole))
            m.d.comb += moved.eq(whole >> right)
            lost: Value = Const(0, 1)
        else:
            both = Signal(2 * len(whole))
            m.d.comb += both.eq(Cat(Const(0, len(whole)), whole) >> right)
            moved, lost = both[len(whole):], both[:len(whole)].any()
        return moved[2:], moved[1], moved[0] | lost, Mux(subnormal, 0, base)

    def _specials(self, m: Module) -> None:
        """Override ``o`` where the accumulator or the addend is NaN or infinite."""
        ones, mantissa = self.acc[MANTISSA:31].all(), self.acc[:MANTISSA].any()
        positive, negative = ones & ~mantissa & ~self.acc[31], ones & ~mantissa & self.acc[31]
        nan = ones & mantissa
        if "inf_pos" in self.events:
            positive, negative = positive | self.inf_pos, negative | self.inf_neg
        if "nan" in self.events:
            nan = nan | self.nan
        with m.If(nan | (positive & negative)):
            m.d.comb += self.o.eq(0x7FC00000)
        with m.Elif(positive):
            m.d.comb += self.o.eq(0x7F800000)
        with m.Elif(negative):
            m.d.comb += self.o.eq(0xFF800000)
