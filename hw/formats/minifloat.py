"""Decoder of minifloats, bfloat16 and float16."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Signal, unsigned

from bitkiln.models.formats import Format, Special

from .decode import Decoder

__all__ = ["MinifloatDecoder"]


class MinifloatDecoder(Decoder):
    """Fields and the hidden bit.

    Two exponent bits: ``max(field, 1) - 1`` is one LUT a bit. More: the field goes out as it is, and the
    hidden bit tells that field 0 lacks one place.
    """

    def __init__(self, fmt: Format, keep: bool = True):
        self.exponent_bits, self.mantissa_bits = fmt.exponent_bits, fmt.mantissa_bits
        top = (1 << fmt.exponent_bits) - 1
        highest = max(top - fmt.has_inf, 1)
        self.from_zero = fmt.exponent_bits <= 2
        low, high = (0, highest - 1) if self.from_zero else (1, highest)
        super().__init__(fmt, unsigned(fmt.mantissa_bits + 1), low, high,
                         shift_bits=None if self.from_zero else fmt.exponent_bits,
                         has_subnormal=not self.from_zero and high > low, keep=keep)

    def fields(self) -> list[tuple[int, int]]:
        m, rows = self.mantissa_bits, []
        special = self.format.unpack(np.arange(1 << self.format.bits)).special
        for code in range(1 << (self.exponent_bits + m)):
            if special[code] != Special.NONE:
                continue
            exponent, mantissa = code >> m, code & ((1 << m) - 1)
            rows.append((mantissa | (exponent > 0) << m, max(exponent, 1) - self.from_zero))
        return rows

    def elaborate(self, platform) -> Module:
        m = Module()
        mantissa = self.code[:self.mantissa_bits]
        exponent = self.code[self.mantissa_bits:self.mantissa_bits + self.exponent_bits]
        normal = Signal()
        m.d.comb += normal.eq(exponent.any())
        if self.has_sign:
            m.d.comb += self.sign.eq(self.code[-1])
        if self.has_inf:  # the whole top exponent is special, IEEE-like
            special = exponent.all()
            m.d.comb += [self.inf.eq(special & ~mantissa.any()), self.nan.eq(special & mantissa.any())]
        elif self.has_nan:  # all ones only
            m.d.comb += self.nan.eq(self.code[:self.exponent_bits + self.mantissa_bits].all())
        m.d.comb += self.significand.eq(Cat(mantissa, normal))
        if self.has_shift and self.from_zero:
            m.d.comb += self.shift.eq(Cat(exponent[1] & ~exponent[0], exponent.all()))
        elif self.has_shift:
            m.d.comb += self.shift.eq(exponent)
        return m
