# amaranth: UnusedElaboratable=no
"""Decoders: a code to sign, integer significand and shift.

``value = (-1)**sign * significand * 2**(shift - min_shift + unit_exponent)``. One interface for every family, so
that products and shifters do not know formats::

    code ──► [ Decoder ] ──► sign, significand, shift, (nan, inf, illegal)

``significand`` need not be normalised: no decoder contains a shifter. For NaN, NaR and infinity significand and
shift are arbitrary: the flag keeps the cycle out of the accumulator. Integers and fixed point need no decoder: their
code is the signed significand.
"""

from __future__ import annotations

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

__all__ = ["Decoder", "decoder_for", "is_fixed"]


def is_fixed(fmt: Format) -> bool:
    """Whether the code itself is the integer (no decoder at all)."""
    return fmt.family in ("int", "fixed")


class Decoder(wiring.Component):
    """Base of the decoders.

    Members
    -------
    code : In(bits)
    sign : Out(1)
        Absent where the significand is two's complement (``significand_shape.signed``).
    significand : Out(significand_shape)
    shift : Out
        min_shift..max_shift; absent where the two are equal. ``min_shift`` is not subtracted: the product
        shifter drops the low bits that can never be set, which costs nothing.
        With ``has_subnormal`` one place is missing where the significand's top bit is 0 (exponent field 0 weighs
        like field 1): the adder of the shifts takes that as a carry-in.
    nan, inf, illegal : Out(1)
        Present as the format has them.
    """

    def __init__(self, fmt: Format, significand_shape: Shape, min_shift: int, max_shift: int, *,
                 shift_bits: int | None = None, has_subnormal: bool = False, keep: bool = True):
        self.format, self.keep = fmt, keep
        self.significand_shape = Shape.cast(significand_shape)
        self.min_shift, self.max_shift, self.has_subnormal = min_shift, max_shift, has_subnormal
        self.has_nan, self.has_inf, self.has_illegal = fmt.has_nan, fmt.has_inf, fmt.has_illegal
        self.keep_hierarchy = keep
        members = {"code": In(fmt.bits), "significand": Out(self.significand_shape)}
        self.has_sign = not self.significand_shape.signed and fmt.signed
        if self.has_sign:
            members["sign"] = Out(1)
        self.has_shift = max_shift > min_shift
        if self.has_shift:
            members["shift"] = Out(shift_bits or max_shift.bit_length())
        for flag in ("nan", "inf", "illegal"):
            if getattr(self, f"has_{flag}"):
                members[flag] = Out(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"decode_{self.format.name}" + ("" if self.keep else "_flat")

    def fields(self) -> list[tuple[int, int]]:
        """(significand, corrected shift) of every finite code, sign-magnitude forms without the sign: what the
        product shifter may rely on."""
        raise NotImplementedError


def decoder_for(fmt: Format, keep: bool = True) -> Decoder | None:
    """The decoder of a format, None for integers and fixed point."""
    from .minifloat import MinifloatDecoder
    from .posit import LinearPositDecoder, PositDecoder
    from .table import TableDecoder

    if is_fixed(fmt):
        return None
    if fmt.family == "minifloat":
        return MinifloatDecoder(fmt, keep)
    if fmt.family == "posit" and fmt.es == 0 and fmt.bits >= 4:
        return LinearPositDecoder(fmt, keep)
    if fmt.family == "posit" and fmt.bits - 3 - fmt.es >= 1:
        return PositDecoder(fmt, keep)
    return TableDecoder(fmt, keep)
