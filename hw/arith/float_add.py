"""Addition of a float32 number and a number of any precision and exponent, rounded to float32 once."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .float_convert import EXPONENT_BITS, FLOAT_NAN, SIGNIFICAND_BITS
from .narrow import shifted_window
from .pipeline import Pipeline

__all__ = ["FloatAdd", "addend"]


def addend(m: Module, add: FloatAdd, code: Value, active: Value | int = 1) -> None:
    """Drive the second operand of a 24-bit `FloatAdd` with a float32 code, or with nothing to add."""
    field, mantissa = code[23:31], code[:23]
    ones, normal = field.all(), field.any()
    zero = ~(normal | mantissa.any())
    m.d.comb += [
        # A zero that is added is +0, so that sums of zeros are; -0 instead leaves every number as it is.
        add.b_sign.eq(Mux(active, code[31] & ~zero, 1)),
        add.b_exponent.eq(Cat((field[0] | ~normal) & active, Mux(active, field[1:], 0))),
        add.b_significand.eq(Mux(active, Cat(mantissa, normal), 0)),
        add.b_nan.eq(ones & mantissa.any() & active), add.b_inf.eq(ones & ~mantissa.any() & active)]


class FloatAdd(wiring.Component):
    """``o = RNE(a + b)`` in float32; latency 3.

    The operand of the larger exponent stays, the other one moves right; below the last place its bits are gathered
    in one. Whichever it is, the distance between the exponents is at least 2 when that happens, so that a difference
    loses at most one place and the gathered bit stays below the guard bit.

    Parameters
    ----------
    bits : int
        Significand of ``b``, 24 or more. From 26 on its lowest bit may itself stand for further ones where ``a`` is
        zero.

    Members
    -------
    en : In(1)
    a : In(32)
        Float32 code.
    b_sign, b_nan, b_inf : In(1); b_exponent : In(signed); b_significand : In(bits)
        Exponent field of the significand's top bit, which may be zero where the field is 1; a zero has a field of
        at most 1.
    o : Out(32)
        Exact zero is +0 unless both operands are -0; NaN is 0x7FC00000.
    following : Out(32)
        What ``o`` will be behind the next edge.
    """

    reset_less = True
    latency = 3

    def __init__(self, bits: int = SIGNIFICAND_BITS):
        if bits < SIGNIFICAND_BITS:
            raise ValueError(f"{bits} bits: at least {SIGNIFICAND_BITS} expected")
        self.bits = bits
        super().__init__({"en": In(1), "a": In(32), "b_sign": In(1), "b_exponent": In(signed(EXPONENT_BITS)),
                          "b_significand": In(bits), "b_nan": In(1), "b_inf": In(1), "o": Out(32),
                          "following": Out(32)})

    @property
    def module_name(self) -> str:
        return f"float_add_{self.bits}"

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe, bits = Pipeline(m, self.en), self.bits

        # Stage 1: the smaller operand moves right, with three more places.
        field, mantissa = self.a[23:31], self.a[:23]
        normal, ones = field.any(), field.all()
        a_exponent = Cat(field[0] | ~normal, field[1:])
        a_significand = Cat(Const(0, bits - SIGNIFICAND_BITS), mantissa, normal)
        ahead, behind = Signal(signed(EXPONENT_BITS + 1)), Signal(signed(EXPONENT_BITS + 1))
        m.d.comb += [ahead.eq(a_exponent - self.b_exponent), behind.eq(self.b_exponent - a_exponent)]
        swap = ahead[-1]
        distance = Mux(swap, behind, ahead)[:EXPONENT_BITS]
        shift_bits = (bits + 3).bit_length()
        shift = Signal(shift_bits)
        m.d.comb += shift.eq(Mux(distance[shift_bits:].any(), (1 << shift_bits) - 1, distance))
        large = Mux(swap, self.b_significand, a_significand)
        small = Mux(swap, a_significand, self.b_significand)
        moved, sticky, _ = shifted_window(m, "align", Cat(Const(0, 3), small), shift, bits + 3, Const(0, 1))
        small = Cat(moved[0] | sticky, moved[1:])
        a_nan, a_inf = ones & mantissa.any(), ones & ~mantissa.any()
        nan = a_nan | self.b_nan | (a_inf & self.b_inf & (self.a[31] ^ self.b_sign))
        exponent = Mux(swap, self.b_exponent, a_exponent)
        pipe.put("sign", pipe.hold(Mux(swap, self.b_sign, self.a[31]), "sign"), 1)
        pipe.put("zero_sign", pipe.hold(self.a[31] & self.b_sign, "zero_sign"), 1)
        pipe.put("nan", pipe.hold(nan, "nan"), 1)
        pipe.put("inf", pipe.hold(a_inf | self.b_inf, "inf"), 1)
        pipe.put("inf_sign", pipe.hold((a_inf & self.a[31]) | (self.b_inf & self.b_sign), "inf_sign"), 1)
        # The larger exponent field is that of ``a`` or above it: at least 1.
        pipe.put("exponent", pipe.hold(exponent[:EXPONENT_BITS - 1], "exponent"), 1)
        large, small = pipe.hold(large, "large"), pipe.hold(small, "small")
        subtract = pipe.hold(self.a[31] ^ self.b_sign, "subtract")

        # Stage 2: sum in two's complement and the length of its sign; the shift must not take the exponent below 1.
        width = bits + 4
        total = Signal(signed(width + 1))
        # The complement with its sign, so that it is one carry chain.
        m.d.comb += total.eq(Cat(Const(0, 3), large) + Cat(small ^ subtract.replicate(bits + 3), subtract).as_signed() +
                             subtract)
        negative = total[-1]
        # As in `FixedToFloat`: a zero below shows where a negative power of two begins.
        digits = Cat(Const(0, 1), total[:-1])
        count = _sign_length(m, digits, negative)
        limit = pipe.at("exponent", 1)
        amount = Signal(len(count))
        m.d.comb += amount.eq(Mux(count > limit, limit, count))
        digits, amount = pipe.hold(digits, "digits"), pipe.hold(amount, "amount")
        negative, some = pipe.hold(negative, "negative"), pipe.hold(total.any(), "some")

        # Stage 3: normalise, round, pack.
        reverse = Cat(reversed(digits))
        window, _, _ = shifted_window(m, "normal", reverse, amount, SIGNIFICAND_BITS + 1, Const(0, 1))
        sticky = Signal(name="rest")
        m.d.comb += sticky.eq(_rest(m, digits, amount))
        window = Cat(reversed(window))
        top, guard = window[1:], window[0]
        odd = top[0] ^ negative
        up = Mux(negative, ~guard | (~sticky & odd), guard & (sticky | odd))
        base, code = Signal(EXPONENT_BITS), Signal(EXPONENT_BITS + 23)
        # Field of the top place is one above the larger exponent; the hidden bit adds the last one.
        m.d.comb += [base.eq(pipe.at("exponent", 2) - amount),
                     code.eq(Cat(Const(0, 23), base) + (top ^ negative.replicate(SIGNIFICAND_BITS)) + up)]
        over = code[31:].any() | code[23:31].all()
        sign = pipe.at("sign", 2) ^ negative
        # An infinity beside a number of the same exponent field and significand is no difference of zero.
        magnitude = Mux(over | pipe.at("inf", 2), 0x7F800000, code[:31])
        magnitude = Mux(some | pipe.at("inf", 2), magnitude, 0)
        out_sign = Mux(pipe.at("inf", 2), pipe.at("inf_sign", 2), Mux(some, sign, pipe.at("zero_sign", 2)))
        m.d.comb += self.following.eq(Mux(pipe.at("nan", 2), FLOAT_NAN, Cat(magnitude[:31], out_sign)))
        m.d.comb += self.o.eq(pipe.hold(self.following, "o_q"))
        return m


def _sign_length(m: Module, digits: Value, sign: Value) -> Value:
    """Number of leading bits equal to the sign; ``len(digits)`` rounded up to a power of two at most."""
    bits = (len(digits) - 1).bit_length()
    differs = Cat(Const(0, (1 << bits) - len(digits)), digits ^ sign.replicate(len(digits)))
    # Below the number the search ends.
    differs = Cat(Const(1, 1), differs[1:]) if (1 << bits) > len(digits) else differs
    # From single bits up (whether one differs, length): no half waits to be chosen before it is looked into.
    blocks: list[tuple[Value, Value]] = [(bit, Const(0, 0)) for bit in differs]
    for level in range(bits):
        following = []
        for at in range(0, len(blocks), 2):
            (low, low_count), (high, high_count) = blocks[at:at + 2]
            count = Signal(level + 1, name=f"length{level}_{at}")
            some = Signal(name=f"some{level}_{at}")
            m.d.comb += [count.eq(Cat(Mux(high, high_count, low_count), ~high)), some.eq(high | low)]
            following.append((some, count))
        blocks = following
    return blocks[0][1]


def _rest(m: Module, digits: Value, amount: Value) -> Value:
    """Whether a bit below guard and significand is set once ``digits`` has moved left by ``amount``."""
    low = digits[:max(len(digits) - SIGNIFICAND_BITS - 1, 0)]
    # The bits that are left of ``low`` behind the shift: bit i stays while i + amount < len(low).
    return Cat(*[low[i] & (amount < len(low) - i) for i in range(len(low))]).any()
