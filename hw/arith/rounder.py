"""Interface of the output stages."""

from __future__ import annotations

from amaranth.hdl import Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

__all__ = ["Rounder"]


class Rounder(wiring.Component):
    """Base: ``o = round(i * 2**unit_exponent)``, combinational.

    Members
    -------
    i : In(signed(width))
    nan, inf_pos, inf_neg : In(1), those in ``flags``
    o : Out(format.bits)
    """

    def __init__(self, width: int, unit_exponent: int, fmt: Format, flags: tuple[str, ...] = ()):
        self.width, self.unit_exponent, self.format, self.flags = width, unit_exponent, fmt, tuple(flags)
        members = {"i": In(signed(width)), "o": Out(fmt.bits)}
        members.update({flag: In(1) for flag in self.flags})
        super().__init__(members)

    def is_nan(self) -> Value:
        """NaN, also as infinities of both signs; only with the flag ``nan``."""
        return self.nan | ((self.inf_pos & self.inf_neg) if "inf_pos" in self.flags else 0)

    @property
    def module_name(self) -> str:
        u = self.unit_exponent
        unit = f"m{-u}" if u < 0 else f"p{u}"
        return f"round_s{self.width}{unit}_{self.format.name}" + "".join(f"_{flag}" for flag in self.flags)
