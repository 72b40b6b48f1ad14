# amaranth: UnusedElaboratable=no
"""One lane: the exact product of two codes as a signed fixed-point value and a carry."""

from __future__ import annotations

from functools import lru_cache

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.formats import Format

from ..arith.multiply import multiplier_for
from ..arith.shift import ShiftSum, SignedShifter, UnsignedShifter
from ..emit import shared
from ..formats.decode import Decoder, decoder_for

__all__ = ["LaneProduct", "CUTS"]

# A product of so few bits is smaller when the tool sees it whole.
TINY_BITS = 8
# Where pipeline registers may stand, in the order of the data.
CUTS = ("decode", "rows", "multiply", "align")


class _Operand:
    """A decoded operand; integers are their own signed significand."""

    def __init__(self, m: Module, name: str, code: Value, fmt: Format, decoder: Decoder | None):
        self.sign: Value | None = None
        self.shift: Value | None = None
        self.normal: Value | None = None
        self.nan = self.inf = self.illegal = None
        self.negative: Value = code[-1] if fmt.signed else Const(0, 1)
        if decoder is None:
            self.significand: Value = code.as_signed() if fmt.signed else code
            return
        m.submodules[f"decode_{name}"] = unit = shared(decoder)
        m.d.comb += unit.code.eq(code)
        self.significand = unit.significand
        for port in ("sign", "shift", "nan", "inf", "illegal"):
            if getattr(decoder, f"has_{port}"):
                setattr(self, port, getattr(unit, port))
        if decoder.has_sign:
            self.negative = unit.sign  # a codebook's sign is no bit of its code
        if decoder.has_subnormal:
            self.normal = unit.significand[-1]

    def zero(self) -> Value:
        special = [flag for flag in (self.nan, self.inf) if flag is not None]
        return ~Cat(self.significand, *special).any()


@lru_cache(maxsize=64)
def _reach(activation: Format, weight: Format, is_signed: bool) -> dict[int, int]:
    """Total shift -> mask of live product bits (unsigned), or signed width (signed)."""
    pairs = []
    for fmt in (activation, weight):
        decoder = decoder_for(fmt)
        if decoder is None:
            low, high = (-(1 << fmt.bits - 1), (1 << fmt.bits - 1) - 1) if fmt.signed else (0, (1 << fmt.bits) - 1)
            spans: dict[int, set[int]] = {0: {low, high} if is_signed else set(range(high + 1))}
        else:
            spans = {}
            for significand, shift in decoder.fields():
                spans.setdefault(shift, set()).add(significand)
        pairs.append({shift: {min(s), max(s)} for shift, s in spans.items()} if is_signed else spans)
    out: dict[int, int] = {}
    for shift_a, a in pairs[0].items():
        for shift_w, w in pairs[1].items():
            total = shift_a + shift_w
            if is_signed:
                width = max((~x if x < 0 else x).bit_length() + 1 for x in (i * j for i in a for j in w))
                out[total] = max(out.get(total, 1), width)
                continue
            mask = out.get(total, 0)
            if len(a) * len(w) > 1 << 14:  # wide significands: every bit below the top may be live
                mask |= (1 << (max(a) * max(w)).bit_length()) - 1
            else:
                for i in a:
                    for j in w:
                        mask |= i * j
            out[total] = mask
    return out


class LaneProduct(wiring.Component):
    """``a * w = value + carry`` exactly, in units of the product's least bit.

    A negative sign-magnitude product is the one's complement of its magnitude with ``carry`` set; a product of
    integers may owe the plus one of a negative row.

    Parameters
    ----------
    activation, weight : Format
    cuts : frozenset of str
        Pipeline registers after ``decode``, inside (``rows``) and after ``multiply`` and after ``align``;
        latency = len(cuts).
    align : bool
        Without it ``value`` is the bare significand product, with ``sign`` and ``shift`` beside it.
    multiplier : str
        ``chains``, ``luts`` or ``operator`` (DotDesign).

    Members
    -------
    a, w : In
    value : Out(signed); carry : Out(1)
        ``carry`` only with ``has_carry``.
    value, sign, shift : Out
        Without ``align``: the product is ``(-1)**sign * value * 2**(shift - drop)`` units.
    nan, inf_pos, inf_neg, illegal : Out(1), as the formats have them.
        ``value`` is arbitrary where nan or an infinity is set.
    """

    def __init__(self, activation: Format, weight: Format, cuts: frozenset = frozenset(),
                 align: bool = True, multiplier: str = "chains"):
        self.activation, self.weight, self.cuts = activation, weight, frozenset(cuts)
        self.align, self.structure = align, multiplier
        # Registers break the depth that kept parts cost: small parts without them, fast logic with them.
        tiny = activation.bits + weight.bits <= TINY_BITS and any(d for d in self._decoders(True))
        self.keep = not self.cuts and not tiny
        self.limit = activation.max_units * weight.max_units
        decoders = self._decoders(self.keep)
        shapes = [Shape(f.bits, f.signed) if d is None else d.significand_shape
                  for f, d in zip((activation, weight), decoders, strict=True)]
        self.narrow = min(shape.width for shape in shapes)
        self.signed_product = any(shape.signed for shape in shapes)
        self.has_sign = any(d is not None and d.has_sign for d in decoders)
        self.shifted = any(d is not None and d.has_shift for d in decoders)
        # A multiplier may leave its last plus one to the accumulator only where nothing stands between.
        self.multiplier = multiplier_for(*shapes, keep=self.keep, structure=multiplier,
                                         chain_rows=self._chain_rows(shapes),
                                         cuts=self.cuts - {"decode"} if any(decoders) else self.cuts)
        plain = not self.shifted and not self.has_sign
        self.has_carry = align and (self.has_sign or (plain and self.multiplier.has_carry))
        self.drop = sum(d.min_shift for d in decoders if d)
        self.max_shift = sum(d.max_shift for d in decoders if d)
        self.value_shape = signed(self.limit.bit_length() + 1)
        if not align:
            self.value_shape = Shape(sum(shape.width for shape in shapes), signed=self.signed_product)
        members = {"a": In(activation.bits), "w": In(weight.bits), "value": Out(self.value_shape)}
        if self.has_carry:
            members["carry"] = Out(1)
        if not align:
            members["sign"] = Out(1)
            members["shift"] = Out(self.max_shift.bit_length())
        self.has_inf = activation.has_inf or weight.has_inf
        self.has_nan = activation.has_nan or weight.has_nan or self.has_inf
        self.has_illegal = activation.has_illegal or weight.has_illegal
        self.flags = (("nan",) * self.has_nan + ("inf_pos", "inf_neg") * self.has_inf
                      + ("illegal",) * self.has_illegal)
        members.update({flag: Out(1) for flag in self.flags})
        super().__init__(members)

    def _decoders(self, keep: bool) -> list[Decoder | None]:
        return [decoder_for(f, keep) for f in (self.activation, self.weight)]

    def _chain_rows(self, shapes: list[Shape]) -> int:
        # The last row of a 4 x 4 array on a carry chain: the same LUT4 + 2 CCU2C, fewer LUT4.
        return 1 if all(shape == unsigned(4) for shape in shapes) else 0

    @property
    def module_name(self) -> str:
        name = f"product_{self.activation.name}_{self.weight.name}"
        name += ("" if self.align else "_bare") + ("" if self.structure == "chains" else f"_{self.structure}")
        return name + "".join(f"_{cut[0]}" for cut in CUTS if cut in self.cuts)

    def elaborate(self, platform) -> Module:
        m = Module()

        def register(cut: str, value: Value, name: str) -> Value:
            """The value behind this cut's register, if there is one."""
            if cut not in self.cuts or isinstance(value, Const):
                return value
            stage = Signal(value.shape(), name=f"{name}_{cut}", reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        decoders = self._decoders(self.keep)
        a = _Operand(m, "a", self.a, self.activation, decoders[0])
        w = _Operand(m, "w", self.w, self.weight, decoders[1])
        for flag, value in self._flags(a, w).items():
            value = Value.cast(value)
            for cut in CUTS:
                value = register(cut, value, flag)
            m.d.comb += getattr(self, flag).eq(value)

        signs = [x.sign for x in (a, w) if x.sign is not None]
        sign: Value = signs[0] ^ signs[1] if len(signs) == 2 else signs[0] if signs else Const(0, 1)
        sign = register("rows", register("decode", sign, "sign"), "sign")
        multiply = shared(self.multiplier)
        m.submodules.multiply = multiply
        for port, x in (("a", a), ("b", w)):
            operand = x.significand
            if "decode" not in self.multiplier.cuts:
                operand = register("decode", operand, f"{port}_significand")
            m.d.comb += getattr(multiply, port).eq(operand)
        product: Value = multiply.o
        owed: Value = multiply.carry if self.multiplier.has_carry else Const(0, 1)
        if "rows" not in self.multiplier.cuts:  # no place for it inside
            product, owed = register("rows", product, "product"), register("rows", owed, "owed")
        carry: Value = Const(0, 1)
        if self.multiplier.has_carry and self.has_carry and not signs:
            carry = register("multiply", owed, "carry")
        elif self.multiplier.has_carry:
            product = (product + owed)[:len(product)].as_signed()
        product = register("multiply", product, "product")
        sign = register("multiply", sign, "sign")
        shift = self._shift(m, a, w, register) if self.shifted else Const(0, 1)
        if not self.align:
            m.d.comb += [self.shift.eq(register("align", shift, "shift")),
                         self.value.eq(register("align", product, "value")),
                         self.sign.eq(register("align", sign, "sign"))]
            return m
        value = self._aligned(m, product, sign, shift) if self.shifted else self._folded(product, sign)
        m.d.comb += self.value.eq(register("align", value, "value"))
        if self.has_carry:
            m.d.comb += self.carry.eq(register("align", sign if signs else carry, "carry"))
        return m

    def _flags(self, a: _Operand, w: _Operand) -> dict[str, Value]:
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
        return flags

    def _shift(self, m: Module, a: _Operand, w: _Operand, register) -> Value:
        """Total shift, behind the registers up to the multiplier's."""
        shifting = [x for x in (a, w) if x.shift is not None]
        if len(shifting) == 1:
            x = shifting[0]
            total: Value = x.shift if x.normal is None else Cat(x.shift[0] | ~x.normal, x.shift[1:])
            return register("multiply", register("rows", register("decode", total, "shift"), "shift"), "shift")
        corrections = tuple(x.normal is not None for x in (a, w))
        # Corrections make a chain worth it: one of them is its carry-in.
        adder = shared(ShiftSum(len(a.shift), len(w.shift), corrections, self.max_shift.bit_length(),
                                chain=any(corrections), keep=self.keep))
        m.submodules.shift_sum = adder
        m.d.comb += [adder.a.eq(register("decode", a.shift, "a_shift")),
                     adder.b.eq(register("decode", w.shift, "w_shift"))]
        for name, x in (("a", a), ("b", w)):
            if x.normal is not None:
                m.d.comb += getattr(adder, f"{name}_normal").eq(register("decode", x.normal, f"{name}_normal"))
        return register("multiply", register("rows", adder.total, "shift"), "shift")

    def _folded(self, product: Value, sign: Value) -> Value:
        """One's complement of a product that needs no shift."""
        if isinstance(sign, Const):
            return product
        width = len(self.value)
        bits = list(product)[:width]
        bits += [product[-1] if self.signed_product else Const(0, 1)] * (width - len(bits))
        return (Cat(*bits) ^ sign.replicate(width)).as_signed()

    def _aligned(self, m: Module, product: Value, sign: Value, shift: Value) -> Value:
        reach = _reach(self.activation, self.weight, self.signed_product)
        label = f"{self.activation.name}_{self.weight.name}"
        if self.signed_product:
            shifter = SignedShifter(label, reach, len(product), len(self.value), self.has_sign, self.keep)
            m.submodules.align = unit = shared(shifter)
            m.d.comb += [unit.product.eq(product ^ sign.replicate(len(product))
                                         if self.has_sign else product), unit.shift.eq(shift)]
            if self.has_sign:
                m.d.comb += unit.fill.eq(sign)
            return unit.value
        # Exclusive sums first where the exponents are short: shift by 4 before 1 and 2.
        order = (2, 1, 0) if self.max_shift <= 4 else None
        shifter = UnsignedShifter(label, reach, len(product), len(self.value), self.keep, order)
        m.submodules.align = unit = shared(shifter)
        m.d.comb += [unit.product.eq(product), unit.shift.eq(shift), unit.sign.eq(sign)]
        return unit.value
