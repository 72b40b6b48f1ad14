"""One lane: the exact product of two codes as a sign and a fixed-point value."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

from ..arith.multiply import Multiplier
from ..emit import shared
from ..formats.decode import decoder_for

__all__ = ["LaneProduct", "CUTS"]

# Where pipeline registers may stand, in the order of the data.
CUTS = ("decode", "multiply", "align")


class _Operand:
    """A decoded operand; integers are their own signed significand."""

    def __init__(self, m: Module, name: str, fmt: Format, code: Value, specials: bool):
        decoder = decoder_for(fmt, specials)
        self.sign: Value = Const(0, 1)
        self.shift: Value | None = None
        self.min_shift = self.max_shift = 0
        self.nan = self.inf = self.illegal = None
        self.negative: Value = code[-1] if fmt.signed else Const(0, 1)
        if decoder is None:
            self.significand: Value = code.as_signed() if fmt.signed else code
            return
        m.submodules[f"decode_{name}"] = unit = shared(decoder)
        m.d.comb += unit.code.eq(code)
        self.significand = unit.significand
        if fmt.signed:
            self.sign = unit.sign
        if decoder.has_shift:
            self.shift = unit.shift
        self.min_shift, self.max_shift = decoder.min_shift, decoder.max_shift
        for flag in ("nan", "inf", "illegal"):
            if getattr(decoder, f"has_{flag}"):
                setattr(self, flag, getattr(unit, flag))

    def zero(self) -> Value:
        special = [flag for flag in (self.nan, self.inf) if flag is not None]
        return ~Cat(self.significand, *special).any()


def _significand_bits(fmt: Format) -> int:
    """Bits of a decoded significand's magnitude."""
    decoder = decoder_for(fmt)
    return fmt.bits - fmt.signed if decoder is None else decoder.significand_bits


class LaneProduct(wiring.Component):
    """``a * w = value + carry`` exactly, in units of the product's least bit.

    A negative sign-magnitude product is the one's complement of its magnitude with ``carry`` set.

    Parameters
    ----------
    activation, weight : Format
    specials : bool
    cuts : frozenset of str
        Pipeline registers after ``decode``, ``multiply`` and ``align``; latency = len(cuts).
    align : bool
        Without it ``value`` is the bare significand product, with ``sign`` and ``shift`` beside it.

    Members
    -------
    a, w : In
    value : Out(signed); carry : Out(1)
        ``carry`` is absent for products of integers, which are two's complement as they are.
    value, sign, shift : Out
        Without ``align``: the product is ``(-1)**sign * value * 2**(shift - drop)`` units.
    nan, inf_pos, inf_neg, illegal : Out(1), as the formats have them.
    """

    def __init__(self, activation: Format, weight: Format, specials: bool = True, cuts: frozenset = frozenset(),
                 align: bool = True):
        self.activation, self.weight, self.specials, self.cuts = activation, weight, specials, frozenset(cuts)
        self.align = align
        limit = activation.max_units * weight.max_units
        self.limit = limit
        integer = any(f.family in ("int", "fixed") and f.signed for f in (activation, weight))
        fixed = all(f.family in ("int", "fixed") for f in (activation, weight))
        self.has_carry = align and not fixed
        self.value_shape = signed(limit.bit_length() + 1)
        decoders = [d for d in (decoder_for(f, specials) for f in (activation, weight)) if d and d.has_shift]
        self.drop = sum(d.min_shift for d in decoders)
        self.max_shift = sum(d.max_shift for d in decoders)
        if not align:
            significands = [1 << bits for bits in map(_significand_bits, (activation, weight))]
            limit = significands[0] * significands[1]
            self.value_shape = Shape(limit.bit_length() - 1 + integer, signed=integer)
        members = {"a": In(activation.bits), "w": In(weight.bits), "value": Out(self.value_shape)}
        if self.has_carry:
            members["carry"] = Out(1)
        if not align:
            members["sign"] = Out(1)
            members["shift"] = Out(self.max_shift.bit_length())
        self.has_inf = specials and (activation.has_inf or weight.has_inf)
        self.has_nan = specials and (activation.has_nan or weight.has_nan or self.has_inf)
        self.has_illegal = specials and (activation.has_illegal or weight.has_illegal)
        self.flags = (("nan",) * self.has_nan + ("inf_pos", "inf_neg") * self.has_inf
                      + ("illegal",) * self.has_illegal)
        members.update({flag: Out(1) for flag in self.flags})
        super().__init__(members)

    @property
    def module_name(self) -> str:
        name = f"product_{self.activation.name}_{self.weight.name}"
        if not self.specials:
            name += "_nospecials"
        name += "" if self.align else "_bare"
        return name + "".join(f"_{cut[0]}" for cut in CUTS if cut in self.cuts)

    def elaborate(self, platform) -> Module:
        m = Module()

        def register(cut: str, value: Value, name: str) -> Value:
            """The value behind this cut's register, if there is one."""
            if cut not in self.cuts:
                return value
            stage = Signal(value.shape(), name=f"{name}_{cut}", reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        a = _Operand(m, "a", self.activation, self.a, self.specials)
        w = _Operand(m, "w", self.weight, self.w, self.specials)

        flags: dict[str, Value] = {}
        if self.has_inf:
            never = Const(0, 1)
            a_nan, w_nan = (never if x.nan is None else x.nan for x in (a, w))
            a_inf, w_inf = (never if x.inf is None else x.inf for x in (a, w))
            a_zero, w_zero = a.zero(), w.zero()
            flags["nan"] = a_nan | w_nan | (a_inf & w_zero) | (w_inf & a_zero)
            infinite = (a_inf & ~w_zero & ~w_nan) | (w_inf & ~a_zero & ~a_nan)
            negative = a.negative ^ w.negative
            flags["inf_pos"], flags["inf_neg"] = infinite & ~negative, infinite & negative
        elif self.has_nan:
            flags["nan"] = Cat(x.nan for x in (a, w) if x.nan is not None).any()
        if self.has_illegal:
            flags["illegal"] = Cat(x.illegal for x in (a, w) if x.illegal is not None).any()
        for flag, value in flags.items():
            value = Value.cast(value)
            for cut in CUTS:
                value = register(cut, value, flag)
            m.d.comb += getattr(self, flag).eq(value)

        sign = register("decode", a.sign ^ w.sign, "sign")
        a_sig, w_sig = register("decode", a.significand, "a_sig"), register("decode", w.significand, "w_sig")
        m.submodules.multiply = multiply = shared(Multiplier(a_sig.shape(), w_sig.shape()))
        m.d.comb += [multiply.a.eq(a_sig), multiply.b.eq(w_sig)]
        product = register("multiply", multiply.o, "product")
        sign = register("multiply", sign, "sign")

        shifts = [register("decode", x.shift, f"shift_{n}") for n, x in (("a", a), ("w", w)) if x.shift is not None]
        drop, value = self.drop, product
        if shifts:
            shift = Signal(unsigned(self.max_shift.bit_length()))
            m.d.comb += shift.eq(sum(shifts[1:], shifts[0]))
        if not self.align:
            m.d.comb += [self.shift.eq(register("align", register("multiply", shift, "shift"), "shift")),
                         self.value.eq(register("align", value, "value")),
                         self.sign.eq(register("align", sign, "sign"))]
            return m
        if shifts:
            width = len(self.value) + drop
            shifted = Signal(signed(width) if product.shape().signed else unsigned(width))
            m.d.comb += shifted.eq(product << register("multiply", shift, "shift"))
            value = shifted[drop:]
        if self.has_carry:
            value = Cat(value, Const(0, max(len(self.value) - len(value), 0)))[:len(self.value)] \
                if not product.shape().signed else value
            value = value ^ sign.replicate(len(value))
            m.d.comb += self.carry.eq(register("align", sign, "sign"))
        m.d.comb += self.value.eq(register("align", value.as_signed(), "value"))
        return m
