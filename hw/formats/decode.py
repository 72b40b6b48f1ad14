"""Decoders: a code to sign, integer significand and shift.

``value = (-1)**sign * significand * 2**(shift - min_shift + unit_exponent)``. One interface for every family,
so that products and shifters do not know formats::

    code ──► [ Decoder ] ──► sign, significand, shift, (nan, inf, illegal)

``significand`` is an unsigned integer that need not be normalised, ``shift`` an unsigned number of places.
Specials decode to significand 0 when their logic is built, so that they never disturb the sum; without it
(``specials=False``) a special code reads as the finite number its bits spell. Integers and fixed point need
no decoder: their code is the signed significand.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format, Special

__all__ = ["Decoder", "MinifloatDecoder", "PositDecoder", "TableDecoder", "decoder_for", "is_fixed"]


def is_fixed(fmt: Format) -> bool:
    """Whether the code itself is the integer (no decoder at all)."""
    return fmt.family in ("int", "fixed")


class Decoder(wiring.Component):
    """Base of the decoders.

    Members
    -------
    code : In(bits)
    sign : Out(1)
    significand : Out(significand_bits)
    shift : Out(shift_bits)
        min_shift..max_shift; absent where the two are equal. ``min_shift`` is not subtracted: the product
        shifter drops the low bits that can never be set, which costs nothing.
    nan, inf, illegal : Out(1)
        Present as the format has them and ``specials`` asks for them.
    """

    def __init__(self, fmt: Format, significand_bits: int, min_shift: int, max_shift: int, specials: bool):
        self.format, self.specials = fmt, specials
        self.significand_bits, self.min_shift, self.max_shift = significand_bits, min_shift, max_shift
        self.has_nan = specials and fmt.has_nan
        self.has_inf = specials and fmt.has_inf
        self.has_illegal = specials and fmt.has_illegal
        members = {"code": In(fmt.bits), "sign": Out(1), "significand": Out(significand_bits)}
        self.has_shift = max_shift > min_shift
        if self.has_shift:
            members["shift"] = Out(max_shift.bit_length())
        for flag in ("nan", "inf", "illegal"):
            if getattr(self, f"has_{flag}"):
                members[flag] = Out(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"decode_{self.format.name}" + ("" if self.specials else "_nospecials")


class MinifloatDecoder(Decoder):
    """Sign, exponent and mantissa fields with the hidden bit.

    Subnormals share the exponent of the least normal: the shift is the exponent field with its least bit
    forced to 1 where the field is 0, so it runs from 1 and needs no subtractor.
    """

    def __init__(self, fmt: Format, specials: bool = True):
        self.exponent_bits, self.mantissa_bits = fmt.exponent_bits, fmt.mantissa_bits
        top = (1 << fmt.exponent_bits) - 1
        reserved = fmt.has_inf and specials
        super().__init__(fmt, fmt.mantissa_bits + 1, 1, max(top - reserved, 1), specials)

    def elaborate(self, platform) -> Module:
        m = Module()
        mantissa = self.code[:self.mantissa_bits]
        exponent = self.code[self.mantissa_bits:self.mantissa_bits + self.exponent_bits]
        normal = Signal()
        m.d.comb += [normal.eq(exponent.any()), self.sign.eq(self.code[-1] if self.format.signed else 0)]
        significand = Cat(mantissa, normal)
        special = Const(0, 1)
        if self.has_nan or self.has_inf:
            unpacked = self.format.unpack(np.arange(1 << self.format.bits))
            magnitudes = np.flatnonzero((unpacked.special != Special.NONE) & (unpacked.sign == 0))
            ones = exponent.all()
            if self.has_inf:  # the whole top exponent is special, IEEE-like
                special = ones
                m.d.comb += self.inf.eq(ones & ~mantissa.any())
                m.d.comb += self.nan.eq(ones & mantissa.any())
            else:
                low = int(magnitudes.min()) & ((1 << self.mantissa_bits) - 1)
                count = (1 << self.mantissa_bits) - low
                free = count.bit_length() - 1
                special = ones & mantissa[free:].all()
                m.d.comb += self.nan.eq(special)
        m.d.comb += self.significand.eq(Mux(special, 0, significand))
        if self.has_shift:
            m.d.comb += self.shift.eq(Cat(exponent[0] | ~normal, exponent[1:]))
        return m


class PositDecoder(Decoder):
    """Posits without a normalising shifter.

    The significand is left where it lies in the code: regime bits masked off, exponent bits replaced by the hidden
    bit just above the fraction. The weight of its least bit then depends on the regime and the exponent alone.
    """

    def __init__(self, fmt: Format, specials: bool = True):
        self.es = fmt.es
        body = fmt.bits - 1
        # (regime run, first regime bit) -> (exponent bits present, fraction bits, weight with exponent bits 0)
        self._cases = {}
        for run in range(1, body + 1):
            rest = max(body - run - 1, 0)
            exponent_bits = min(fmt.es, rest)
            fraction_bits = rest - exponent_bits
            for first in (0, 1):
                regime = run - 1 if first else -run
                weight = (regime << fmt.es) - fraction_bits - fmt.unit_exponent
                self._cases[run, first] = exponent_bits, fraction_bits, weight
        del self._cases[body, 0]  # that is the code of zero
        top = max(weight + (1 << fmt.es) - (1 << (fmt.es - e)) for e, _, weight in self._cases.values())
        super().__init__(fmt, self._cases[1, 1][1] + 1, 0, top, specials)

    def elaborate(self, platform) -> Module:
        m = Module()
        fmt, es, body = self.format, self.es, self.format.bits - 1
        sign = self.code[-1]
        magnitude = Signal(body)
        m.d.comb += [self.sign.eq(sign), magnitude.eq(Mux(sign, -self.code[:body], self.code[:body]))]
        if self.has_nan:
            m.d.comb += self.nan.eq(sign & ~self.code[:body].any())
        # One case for each regime run; NaR has magnitude 0 and so significand 0.
        first = magnitude[-1]
        flipped = Signal(body - 1)
        m.d.comb += flipped.eq(magnitude[:-1] ^ first.replicate(body - 1))
        with m.If(magnitude.any()):
            for run in range(1, body + 1):
                cond = flipped[body - 1 - run] if run < body else Const(1)
                with (m.If(cond) if run == 1 else m.Elif(cond) if run < body else m.Else()):
                    exponent_bits, fraction_bits, high = self._cases[run, 1]
                    low = self._cases.get((run, 0), (0, 0, 0))[2]
                    # Exponent bits that fell off the end of the code read as 0.
                    exponent = Cat(Const(0, es - exponent_bits),
                                   magnitude[fraction_bits:fraction_bits + exponent_bits])
                    m.d.comb += [self.significand.eq(Cat(magnitude[:fraction_bits], Const(1, 1))),
                                 self.shift.eq(Mux(first, high, low) + exponent)]
        return m


class TableDecoder(Decoder):
    """Codebooks: a table of magnitudes; ternary needs one gate."""

    def __init__(self, fmt: Format, specials: bool = True):
        self._units = [int(v) for v in fmt.units(np.arange(1 << fmt.bits))]
        super().__init__(fmt, max(abs(v) for v in self._units).bit_length(), 0, 0, specials)

    def elaborate(self, platform) -> Module:
        m = Module()
        special = self.format.unpack(np.arange(1 << self.format.bits)).special
        with m.Switch(self.code):
            for code, value in enumerate(self._units):
                with m.Case(code):
                    m.d.comb += [self.sign.eq(int(value < 0)), self.significand.eq(abs(value))]
                    if self.has_illegal:
                        m.d.comb += self.illegal.eq(int(special[code] == Special.ILLEGAL))
                    if self.has_nan:
                        m.d.comb += self.nan.eq(int(special[code] == Special.NAN))
        return m


def decoder_for(fmt: Format, specials: bool = True) -> Decoder | None:
    """The decoder of a format, None for integers and fixed point."""
    if is_fixed(fmt):
        return None
    if fmt.family == "minifloat":
        return MinifloatDecoder(fmt, specials)
    if fmt.family == "posit":
        return PositDecoder(fmt, specials)
    return TableDecoder(fmt, specials)

