"""Into the form to compute with: sign, exponent field without limits, significand with a leading one.

Subnormals are normalised (their exponent field is 0 or negative), so that a product needs no further normalising.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .narrow import leading_window
from .normalise import stages_of
from .pipeline import Pipeline

__all__ = ["BIAS", "EXPONENT_BITS", "FLOAT_NAN", "SIGNIFICAND_BITS", "FixedToFloat", "FloatUnpack"]

BIAS = 127
SIGNIFICAND_BITS = 24
EXPONENT_BITS = 12   # signed: every exponent field of a product of scales, sums and float32 values
FLOAT_NAN = 0x7FC00000
LEVELS = 3           # normalising stages between two registers, at most


def _shift_of(taken: list[tuple[int, Value]]) -> Value:
    """Sum of the taken stages; all but the first are powers of two, in falling order."""
    if not taken:
        return Const(0, 1)
    (head, skip), rest = taken[0], taken[1:]
    binary = Cat(*[bit for _, bit in reversed(rest)])
    if head == 1 << len(rest):
        return Cat(binary, skip)
    return Mux(skip, head, 0) + binary


class FloatUnpack(wiring.Component):
    """Unpacks a float32 code; latency 1.

    Members
    -------
    en : In(1)
    i : In(32)
    sign, nan, inf : Out(1)
    exponent : Out(signed)
        ``|value| = significand * 2**(exponent - 150)`` where neither NaN nor infinite.
    significand : Out(24)
        Its top bit is set but for zero.
    """

    reset_less = True
    latency = 1
    module_name = "float_unpack"

    def __init__(self):
        super().__init__({"en": In(1), "i": In(32), "sign": Out(1), "nan": Out(1), "inf": Out(1),
                          "exponent": Out(signed(EXPONENT_BITS)), "significand": Out(SIGNIFICAND_BITS)})

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        field, mantissa = self.i[23:31], self.i[:23]
        normal, ones = field.any(), field.all()
        window, _, taken, _ = leading_window(m, "n", Cat(mantissa, normal), Const(0, 1), SIGNIFICAND_BITS, 23,
                                             pipe.hold)
        exponent = Signal(signed(EXPONENT_BITS))
        m.d.comb += exponent.eq(Cat(field[0] | ~normal, field[1:]) - _shift_of(taken))
        for name, value in (("sign", self.i[31]), ("nan", ones & mantissa.any()), ("inf", ones & ~mantissa.any()),
                            ("exponent", exponent), ("significand", window)):
            m.d.comb += getattr(self, name).eq(pipe.hold(value, f"{name}_q"))
        return m


class FixedToFloat(wiring.Component):
    """A two's complement integer as sign and normalised significand.

    No absolute value is taken: a negative number is normalised as it is, and the one that its negation adds rides in
    the increment of the rounding.

    Parameters
    ----------
    width : int
        Of the integer.
    keep : int
        Bits of the significand.
    rounded : bool
        Round to nearest even at ``keep`` bits; else the lowest bit also stands for everything below it (a sum with
        at least 24 bits above it is rounded as if all bits were there).

    Members
    -------
    en : In(1)
    i : In(signed(width))
    weight : In(signed)
        Exponent field (see `FloatUnpack`) of ``2**(width - 2)``; needed ``weight_stage`` edges after ``i``.
    sign : Out(1)
    exponent : Out(signed)
        Field of the significand's top bit; 0 for zero.
    significand : Out(keep)
    """

    reset_less = True

    def __init__(self, width: int, keep: int = SIGNIFICAND_BITS, rounded: bool = True):
        self.width, self.keep, self.rounded = width, keep, rounded
        stages = len(stages_of(width - 1))
        self.weight_stage = max(-(-stages // LEVELS), 1)
        # The first stages look at the most bits: they are the ones with fewer neighbours.
        self.cuts = frozenset(group * stages // self.weight_stage for group in range(1, self.weight_stage))
        self.latency = self.weight_stage + 1
        super().__init__({"en": In(1), "i": In(signed(width)), "weight": In(signed(EXPONENT_BITS)), "sign": Out(1),
                          "exponent": Out(signed(EXPONENT_BITS)), "significand": Out(keep)})

    @property
    def module_name(self) -> str:
        return f"fixed_to_float_{self.width}_{self.keep}" + ("" if self.rounded else "_jam")

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        # One zero below: where -2**k has to be recognised, one place lower than 2**k.
        value = Cat(Const(0, 1), self.i[:-1])
        kept = self.keep + self.rounded
        window, sticky, taken, sign = leading_window(m, "n", value, self.i[-1], kept, self.width - 1, pipe.hold,
                                                     self.cuts)
        window, sticky = pipe.hold(window, "window"), pipe.hold(sticky, "sticky")
        sign, shift = pipe.hold(sign, "window_sign"), pipe.hold(_shift_of(taken), "shift")
        top = window[kept - self.keep:]
        ordinary = top[-1] ^ sign  # not zero
        if self.rounded:
            guard = window[0]
            odd = top[0] ^ sign
            up = Mux(sign, ~guard | (~sticky & odd), guard & (sticky | odd))
        else:
            up = sign & ~sticky
        total = Signal(self.keep + 1)
        m.d.comb += total.eq((top ^ sign.replicate(self.keep)) + up)
        # A carry leaves zeros behind the leading one, which is set in any case. -2**k arrives here as a carry.
        carried = total[-1]
        exponent = Signal(signed(EXPONENT_BITS))
        m.d.comb += exponent.eq(self.weight - shift + carried)
        low = total[:self.keep - 1]
        if not self.rounded:
            low = Cat(low[0] | sticky, low[1:])
        some = ordinary
        for name, result in (("sign", sign), ("exponent", Mux(some, exponent, 0)), ("significand", Cat(low, some))):
            m.d.comb += getattr(self, name).eq(pipe.hold(result, f"{name}_q"))
        return m

