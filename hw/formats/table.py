"""Decoder by table: codebooks, ternary, and posits too short for a fraction."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, unsigned

from bitkiln.models.formats import Format, Special

from .decode import Decoder

__all__ = ["TableDecoder"]


class TableDecoder(Decoder):
    """Magnitude by table; powers of two (posit(4,1)) give a shift and a significand of one bit."""

    def __init__(self, fmt: Format, keep: bool = True):
        self._units = [int(v) for v in fmt.units(np.arange(1 << fmt.bits))]
        self.powers = all(v & (abs(v) - 1) == 0 or v == 0 for v in map(abs, self._units)) and max(self._units) > 1
        top = max(map(abs, self._units)).bit_length()
        super().__init__(fmt, unsigned(1 if self.powers else top), 0, top - 1 if self.powers else 0, keep=keep)

    def _row(self, value: int) -> tuple[int, int]:
        magnitude = abs(value)
        if self.powers:
            return int(magnitude > 0), max(magnitude.bit_length() - 1, 0)
        return magnitude, 0

    def fields(self) -> list[tuple[int, int]]:
        return [self._row(value) for value in self._units]

    def elaborate(self, platform) -> Module:
        m = Module()
        special = self.format.unpack(np.arange(1 << self.format.bits)).special
        with m.Switch(self.code):
            for code, value in enumerate(self._units):
                significand, shift = self._row(value)
                with m.Case(code):
                    m.d.comb += self.significand.eq(significand)
                    if self.has_sign:
                        m.d.comb += self.sign.eq(int(value < 0))
                    if self.has_shift:
                        m.d.comb += self.shift.eq(shift)
                    if self.has_illegal:
                        m.d.comb += self.illegal.eq(int(special[code] == Special.ILLEGAL))
                    if self.has_nan:
                        m.d.comb += self.nan.eq(int(special[code] == Special.NAN))
        return m
