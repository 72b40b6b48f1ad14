"""Encoders: float32 values and scaled integers into the output formats, chosen at run time.

All formats share one right shifter. What is put in differs, what comes out is always the code (or the magnitude of an
integer) in the low bits with a guard bit and a sticky bit below::

    minifloat   exponent field | mantissa        right by 23 - mantissa bits, and further for subnormals
    posit       10 or 01 | exponent | mantissa   filled from above with the first bit: the regime's length
    integer     1 | mantissa                     right by 150 - exponent field

so that one increment rounds, and the codes of negative posits and integers come out of the same adder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Format

from ..arith.narrow import shifted_window
from ..arith.pipeline import Pipeline
from ..arith.scale import QUOTIENT_BITS

__all__ = ["Encoder", "choose"]

MANTISSA_BITS = 23
BIAS = 127
INTEGER_BITS = 16    # magnitudes below 2**16 are rounded; larger ones saturate whatever the zero point
ZERO_BITS = 16
LIMIT_BITS = 18      # of any integer format


def choose(index: Value, values: Sequence[Value | int]) -> Value:
    """``values[index]``, the last one beyond the end; constants of any sign."""
    values = [Value.cast(value) for value in values]
    first = values[0]
    if all(isinstance(value, Const) and value.value == first.value for value in values):
        return first
    chosen = values[-1]
    for at in reversed(range(len(values) - 1)):
        chosen = Mux(index == at, values[at], chosen)
    return chosen


@dataclass(frozen=True)
class _Plan:
    """What the shared datapath needs to know about one format.

    Attributes
    ----------
    rebias : int
        Added to float32's exponent field: the format's own field, for posits the scale.
    base : int
        Least shift.
    top : int
        Minifloats: field of the largest value; integers: of the largest magnitude that is rounded.
    bits : int
        Of the shifted-out magnitude.
    """

    format: Format
    rebias: int
    base: int
    top: int
    bits: int

    @classmethod
    def of(cls, fmt: Format) -> _Plan:
        if fmt.family == "posit":
            if fmt.max_scale > 126:
                raise BitkilnError("no output stage for this format", where="outputs", got=fmt.name,
                                   expected="a posit inside float32's range")
            return cls(fmt, -BIAS, MANTISSA_BITS + 3 + fmt.es - fmt.bits, 0, fmt.bits - 1)
        if fmt.family == "int":
            # 2**16 has the field 143.
            return cls(fmt, 0, BIAS + MANTISSA_BITS - (BIAS + INTEGER_BITS - 1), BIAS + INTEGER_BITS - 1, INTEGER_BITS)
        if fmt.family != "minifloat" or not hasattr(fmt, "max_code"):
            raise BitkilnError("no output stage for this format", where="outputs", got=fmt.name,
                               expected="int, minifloat or posit")
        m = fmt.mantissa_bits
        return cls(fmt, fmt.bias - BIAS, MANTISSA_BITS - m, max(fmt.max_code >> m, 1), fmt.bits - fmt.signed)

    @property
    def head_bits(self) -> int:
        """Bits above the mantissa."""
        family = self.format.family
        return 1 if family == "int" else self.format.es + 2 if family == "posit" else max(self.format.exponent_bits, 1)

    @property
    def last(self) -> int:
        """Greatest shift that makes a difference."""
        return self.base + self.format.bits - 2 if self.format.family == "posit" else MANTISSA_BITS + 2


class Encoder(wiring.Component):
    """Codes of the output formats, rounded to nearest even and saturated.

    Parameters
    ----------
    formats : sequence of Format
        int, minifloat (e8m0 excepted) or posit, at most 16 bits. ``index`` chooses among them.
    floating, integer : bool
        Which inputs there are: float32 codes; scaled integers (for integer formats only).

    Members
    -------
    en : In(1)
    index : In
        Of the format; static, as are ``zero_point``, ``clamp`` and its limits.
    zero_point : In(signed(16))
        Added to integers after rounding.
    i : In(32)
        Float32 code. NaN becomes the format's NaN; infinities saturate.
    q : In(signed(18)), up, big, negative, nan : In(1), with ``integer``
        From `Scaler`, ``q_stage`` edges after ``i``; ``big`` saturates towards the sign ``negative``.
    integer : In(1), with both
        Static: take the scaled integer.
    clamp : In(1), low, high : In(signed(32)), with ``integer``
        Limits of scaled integers, zero point included; there two edges before the first ``q``'s result is.
    o : Out(widest format), zeros above narrower codes
    invalid : Out(1)
        NaN in a format without one.
    """

    reset_less = True

    def __init__(self, formats: Sequence[Format], floating: bool = True, integer: bool = False):
        self.formats, self.floating, self.scaled = tuple(formats), floating, integer
        self.plans = [_Plan.of(fmt) for fmt in self.formats]
        self.q_stage = 2 if floating else 0
        self.latency = self.q_stage + 2
        self.index_bits = max((len(self.formats) - 1).bit_length(), 1)
        self.bits = max(fmt.bits for fmt in self.formats)
        self.has_integers = any(fmt.family == "int" for fmt in self.formats)
        members = {"en": In(1), "index": In(self.index_bits), "zero_point": In(signed(ZERO_BITS)),
                   "o": Out(self.bits), "invalid": Out(1)}
        if floating:
            members["i"] = In(32)
        if integer:
            members.update(q=In(signed(QUOTIENT_BITS)), up=In(1), big=In(1), negative=In(1), nan=In(1), clamp=In(1),
                           low=In(signed(32)), high=In(signed(32)))
        if floating and integer:
            members["integer"] = In(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        kinds = ("f" if self.floating else "") + ("i" if self.scaled else "")
        return f"encode_{kinds}_{'_'.join(fmt.name for fmt in self.formats)}"

    def _by_format(self, values: Sequence[Value | int]) -> Value:
        return choose(self.index, values)

    def _is(self, family: str) -> Value:
        return self._by_format([int(fmt.family == family) for fmt in self.formats])

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        # Magnitude and a carry; integers: 16 bits, a zero point and a carry, signed.
        width = ZERO_BITS + 4 if self.has_integers or self.scaled else max(plan.bits for plan in self.plans) + 1
        is_int, is_mini = self._is("int"), self._is("minifloat")
        zero_point = Mux(is_int, self.zero_point, 0) if self.has_integers else Const(0, 1)
        if self.floating:
            value, carry = self._shift(m, pipe, is_int, is_mini)
        if self.scaled:
            scaled = Mux(self.nan, 0, self.q)
            up, big = self.up & ~self.nan, self.big & ~self.nan
            flags = {"big": big, "negative": self.negative, "nan": self.nan}
            if self.floating:
                value, carry = Mux(self.integer, scaled, value), Mux(self.integer, up, carry)
                for name, flag in flags.items():
                    flags[name] = Mux(self.integer, flag, pipe.at(name, 2))
            else:
                value, carry = scaled, up
        else:
            flags = {name: pipe.at(name, 2) for name in ("big", "negative", "nan")}
        total = Signal(signed(width))
        m.d.comb += total.eq(value + zero_point + carry)
        total = pipe.hold(total, "total")
        if self.floating:
            flags["minus"] = pipe.at("minus", 2)
        flags = {name: pipe.hold(flag, f"{name}_total") for name, flag in flags.items()}
        self._finish(m, pipe, total, flags)
        return m

    def _shift(self, m: Module, pipe: Pipeline, is_int: Value, is_mini: Value) -> tuple[Value, Value]:
        """Signed value before the increment, and the increment; two registers on the way."""
        plans, of = self.plans, self._by_format
        is_posit = self._is("posit")
        sign, field, mantissa = self.i[31], self.i[23:31], self.i[:23]
        hidden, ones = field.any(), field.all()
        nan, some = ones & mantissa.any(), hidden | mantissa.any()

        own = Signal(signed(10))  # the format's own exponent field, or the scale
        m.d.comb += own.eq(Cat(field[0] | ~hidden, field[1:]) + of([plan.rebias for plan in plans]))
        least, most = min(plan.base for plan in plans), max(plan.last for plan in plans)
        amount = Signal((most - least).bit_length())
        head_bits = max(plan.head_bits for plan in plans)
        head, fill, under = Signal(head_bits), Signal(), Signal()

        # Integers and subnormals: further right the smaller the exponent.
        linear = Signal(signed(11))
        starts = [plan.base + 1 if plan.format.family == "minifloat" else BIAS + MANTISSA_BITS for plan in plans]
        m.d.comb += linear.eq(of([start - least for start in starts]) - own)
        clipped = Mux(linear > most - least, most - least, linear)
        bases = of([plan.base - least for plan in plans])
        normal = own > 0
        right = Mux(is_mini & normal, bases, clipped)
        heads = Mux(is_mini & normal, own, 1)
        heads = Mux(hidden, heads, 0)
        posits = [plan for plan in plans if plan.format.family == "posit"]
        if posits:
            regime = of([own >> getattr(plan.format, "es", 0) if plan in posits else Const(0, 1) for plan in plans])
            below = own[-1]
            length = Signal(9)
            m.d.comb += length.eq(regime ^ below.replicate(9))
            limits = of([plan.format.bits - 2 for plan in plans])
            longest = limits - below
            long = length > longest
            m.d.comb += [fill.eq(~below & is_posit & some), under.eq(long & below & is_posit & some)]
            right = Mux(is_posit, bases + Mux(long, longest, length), right)
            first = of([Cat(own[:plan.format.es], below, (~below).replicate(head_bits - plan.format.es - 1))
                        if plan in posits else Const(0, 1) for plan in plans])
            heads = Mux(is_posit, Mux(some, first, 0), heads)
        m.d.comb += [amount.eq(right), head.eq(heads)]
        large = own > of([plan.top for plan in plans])
        pipe.put("big", pipe.hold(large & ~is_posit & ~nan, "big_1"), 1)
        pipe.put("negative", pipe.hold(sign, "negative_1"), 1)
        pipe.put("minus", pipe.hold(sign & some, "minus_1"), 1)
        pipe.put("nan", pipe.hold(nan, "nan_1"), 1)
        word, amount = pipe.hold(Cat(mantissa, head), "word"), pipe.hold(amount, "amount_1")
        fill, under = pipe.hold(fill, "fill"), pipe.hold(under, "under")

        bits = max(plan.bits for plan in plans)
        window, sticky, _ = shifted_window(m, "right", word[least - 1:], amount, bits + 1, fill)
        sticky = sticky | word[:least - 1].any()
        nan, negative = pipe.at("nan", 1), pipe.at("negative", 1)
        invert = negative & ~is_mini & ~nan
        up = window[0] & (sticky | window[1]) & ~under & ~nan
        magnitude = window[1:] & (~nan).replicate(bits)
        value = Cat(magnitude ^ invert.replicate(bits), invert).as_signed()
        return pipe.hold(value, "value"), pipe.hold(up ^ invert, "up_2")

    def _finish(self, m: Module, pipe: Pipeline, total: Value, flags: dict[str, Value]) -> None:
        """Limits and saturation; the output register."""
        big, negative, nan = flags["big"], flags["negative"], flags["nan"]
        limited = self._limited(m, pipe, total, big, negative) if self.scaled else None
        codes: list[Value] = []
        invalid: list[Value] = []
        for fmt in self.formats:
            if fmt.family == "int":
                codes.append(self._integer_code(fmt, total, big, negative) if limited is None
                             else limited[:fmt.bits])
            elif fmt.family == "posit":
                # Above the magnitude there may be more of the regime; a value that is not zero has one of its own.
                codes.append(Mux(nan, fmt.nan_code, Cat(total[:fmt.bits - 1], flags["minus"])))
            else:
                codes.append(self._minifloat_code(fmt, total, flags))
            invalid.append(nan & int(not fmt.has_nan))
        m.d.comb += [self.o.eq(pipe.hold(self._by_format(codes), "o_q")),
                     self.invalid.eq(pipe.hold(self._by_format(invalid), "invalid_q"))]

    def _limited(self, m: Module, pipe: Pipeline, value: Value, big: Value, negative: Value) -> Value:
        """Between limits that are also those of the format: limits and saturation in one.

        Both are monotonic, so the limits themselves are saturated, in registers: they are static.
        """
        bounds = []
        active = self.clamp & self.integer if self.floating else self.clamp
        ranges = [(0, 0) if fmt.family != "int" else (-(1 << (fmt.bits - 1)), (1 << (fmt.bits - 1)) - 1)
                  if fmt.signed else (0, (1 << fmt.bits) - 1) for fmt in self.formats]
        low, high = (self._by_format(list(ends)) for ends in zip(*ranges, strict=True))
        for name, wanted, default in (("low", self.low, low), ("high", self.high, high)):
            bound = Signal(signed(LIMIT_BITS), name=f"{name}_limit")
            inside = Mux(wanted < low, low, Mux(wanted > high, high, wanted))
            m.d.comb += bound.eq(Mux(active, inside, default))
            bounds.append(pipe.hold(bound, f"{name}_limit_1"))
        # The upper limit wins.
        least, most = Signal.like(bounds[0], name="least"), bounds[1]
        m.d.comb += least.eq(Mux(bounds[0] > most, most, bounds[0]))
        least = pipe.hold(least, "least_2")
        below, above = value < least, value > most
        return Mux(Mux(big, ~negative, above), most, Mux(big | below, least, value))

    @staticmethod
    def _integer_code(fmt: Format, value: Value, big: Value, negative: Value) -> Value:
        bits = fmt.bits
        if fmt.signed:
            low, high = 1 << (bits - 1), (1 << (bits - 1)) - 1
            over = (value[bits - 1:-1] ^ value[-1].replicate(len(value) - bits)).any()
        else:
            low, high = 0, (1 << bits) - 1
            over = value[bits:].any()
        sign = Mux(big, negative, value[-1])
        return Mux(big | over, Mux(sign, low, high), value[:bits])

    @staticmethod
    def _minifloat_code(fmt: Format, total: Value, flags: dict[str, Value]) -> Value:
        bits = fmt.bits - fmt.signed
        nan, negative = flags["nan"], flags["negative"]
        magnitude = total[:bits + 1]
        limit = fmt.max_code
        code = Mux(flags["big"] | (magnitude > limit), limit, magnitude[:bits])
        code = Cat(code[:bits], negative) if fmt.signed else Mux(negative, 0, code)
        return Mux(nan, fmt.nan_code or 0, code)
