# amaranth: UnusedElaboratable=no
"""Scaling of sums, integers by ``multiplier * 2**-shift`` or float32 by float32, in one multiplier and one shifter."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import Part
from .float_convert import BIAS, EXPONENT_BITS, FLOAT_NAN, SIGNIFICAND_BITS
from .multiply import OperatorMultiplier
from .narrow import shifted_window
from .pipeline import Pipeline

__all__ = ["MULTIPLIERS", "QUOTIENT_BITS", "PipelinedMultiplier", "Scaler"]

MULTIPLIERS = ("operator", "chains")
PART_BITS = 16         # operands of one partial product: fits the DSP block of every family
MULTIPLIER_BITS = 31
SHIFT_BITS = 6
QUOTIENT_BITS = 18     # signed; anything beyond saturates every output format, whatever the zero point


class _Adder(Part):
    """``o = x + (y << place)``. Kept, so that neighbouring ones are not fused into compressors of LUTs."""

    def __init__(self, x: Shape, y: Shape, place: int):
        self.place = place
        width = max(x.width, y.width + place) + 1
        self.shape = Shape(width, x.signed or y.signed)
        name = "_".join(f"{'s' if shape.signed else 'u'}{shape.width}" for shape in (x, y))
        super().__init__({"x": In(x), "y": In(y), "o": Out(self.shape)}, f"add_{name}_at{place}", True)

    def elaborate(self, platform) -> Module:
        m = Module()
        low, high = self.x[:self.place], self.x[self.place:]
        high = high.as_signed() if self.x.shape().signed else high
        total = Signal(Shape(self.shape.width - self.place, self.shape.signed))
        m.d.comb += [total.eq(high + self.y), self.o.eq(Cat(low, total))]
        return m


def _part_rows(a: Shape, b: Shape) -> list[list[tuple[int, int, int]]]:
    """Partial products (place, i, j) that share a row: one begins where the one before ends."""
    a_parts, b_parts = -(-a.width // PART_BITS), -(-b.width // PART_BITS)
    rows: list[list[tuple[int, int, int]]] = []
    for place, i, j in sorted((i + j, i, j) for i in range(a_parts) for j in range(b_parts)):
        # Nothing can stand above a signed part.
        row = next((row for row in rows if row[-1][0] + 2 == place
                    and not (a.signed and row[-1][1] == a_parts - 1)), None)
        if row is None:
            rows.append([(place, i, j)])
        else:
            row.append((place, i, j))
    return rows


def multiplier_latency(a: Shape, b: Shape, structure: str) -> int:
    """Registers: behind the rows, then behind each two levels of adders."""
    rows = len(_part_rows(a, b)) if structure == "operator" else -(-b.width // 2)
    return 1 + -(-(rows - 1).bit_length() // 2)


class PipelinedMultiplier(wiring.Component):
    """``o = a * b``, a product each cycle.

    Parameters
    ----------
    a, b : Shape
        ``b`` is unsigned.
    structure : str
        ``operator``: products of 16 bits each, which synthesis may give to DSP blocks, and adders; ``chains``: rows
        of two multiplier bits on carry chains.
    """

    reset_less = True

    def __init__(self, a: Shape, b: Shape, structure: str = "operator"):
        self.a_shape, self.b_shape, self.structure = Shape.cast(a), Shape.cast(b), structure
        self.o_shape = Shape(self.a_shape.width + self.b_shape.width, self.a_shape.signed)
        self.latency = multiplier_latency(self.a_shape, self.b_shape, structure)
        super().__init__({"en": In(1), "a": In(self.a_shape), "b": In(self.b_shape), "o": Out(self.o_shape)})

    @property
    def module_name(self) -> str:
        a, b = ("su"[not shape.signed] + str(shape.width) for shape in (self.a_shape, self.b_shape))
        return f"pipelined_multiply_{self.structure}_{a}_{b}"

    def _part(self, value: Value, i: int) -> Value:
        part = value[i * PART_BITS:(i + 1) * PART_BITS]
        return part.as_signed() if value.shape().signed and (i + 1) * PART_BITS >= len(value) else part

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        rows: list[tuple[Value, int]] = []
        if self.structure == "operator":
            for r, places in enumerate(_part_rows(self.a_shape, self.b_shape)):
                values = []
                for place, i, j in places:
                    a, b = self._part(self.a, i), self._part(self.b, j)
                    m.submodules[f"part{i}_{j}"] = unit = shared(OperatorMultiplier(a.shape(), b.shape()))
                    m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
                    last = place == places[-1][0]
                    # A shorter top part leaves a gap.
                    gap = 0 if last else 2 * PART_BITS - len(unit.o)
                    values.append(Cat(unit.o, Const(0, gap)) if gap else unit.o)
                value = Cat(*values)
                value = value.as_signed() if values[-1].shape().signed else value
                rows.append((pipe.hold(value, f"row{r}"), places[0][0] * PART_BITS))
        else:
            width = len(self.a)
            for r in range(0, len(self.b), 2):
                low = Mux(self.b[r], self.a, 0)
                row = Signal(Shape(width + 2, self.a_shape.signed), name=f"sum{r}")
                m.d.comb += row.eq(low + (Mux(self.b[r + 1], self.a, 0) << 1) if r + 1 < len(self.b) else low)
                rows.append((pipe.hold(row, f"row{r}"), r))
        level = 0
        while len(rows) > 1:
            following = []
            for r in range(0, len(rows) - 1, 2):
                (x, x_place), (y, y_place) = rows[r], rows[r + 1]
                adder = _Adder(x.shape(), y.shape(), y_place - x_place)
                m.submodules[f"add{level}_{r}"] = unit = shared(adder)
                m.d.comb += [unit.x.eq(x), unit.y.eq(y)]
                following.append((unit.o, x_place))
            rows = following + rows[len(rows) - len(rows) % 2:]
            level += 1
            if level % 2 == 0 or len(rows) == 1:
                rows = [(pipe.hold(value, f"level{level}_{r}"), place) for r, (value, place) in enumerate(rows)]
        m.d.comb += self.o.eq(rows[0][0])
        return m


class Scaler(wiring.Component):
    """Integers: ``q + up = RNE(s * multiplier * 2**-shift)``; float32: ``g = RNE(a * b)``.

    Parameters
    ----------
    integer_bits : int
        Signed width of ``s``; 0: no integers.
    floating : bool
    multiplier : str
        See `PipelinedMultiplier`.

    Members
    -------
    en : In(1)
    integer : In(1), with both
        Static.
    s : In(signed), multiplier : In(31), shift : In(6)
        The shift at most 62.
    a_sign, a_exponent, a_significand, a_nan, a_inf, b_... : In
        As `FloatUnpack` makes them.
    q : Out(signed(18)), up : Out(1)
        Floor and the increment that rounds it to nearest even.
    big, negative : Out(1)
        The floor does not fit ``q``; its sign.
    g : Out(32)
        Float32 code.
    """

    reset_less = True

    def __init__(self, integer_bits: int, floating: bool, multiplier: str = "operator"):
        self.integer_bits, self.floating, self.structure = integer_bits, floating, multiplier
        a = max(integer_bits, SIGNIFICAND_BITS + 1 if floating else 0)
        self.a_shape = signed(a) if integer_bits else unsigned(SIGNIFICAND_BITS)
        self.b_shape = unsigned(MULTIPLIER_BITS if integer_bits else SIGNIFICAND_BITS)
        self.product_latency = multiplier_latency(self.a_shape, self.b_shape, multiplier)
        self.latency = self.product_latency + 1 + floating
        members = {"en": In(1)}
        if integer_bits:
            members.update(s=In(signed(integer_bits)), multiplier=In(MULTIPLIER_BITS), shift=In(SHIFT_BITS),
                           q=Out(signed(QUOTIENT_BITS)), up=Out(1), big=Out(1), negative=Out(1))
        if floating:
            members["g"] = Out(32)
            for side in ("a", "b"):
                members.update({f"{side}_{name}": In(1) for name in ("sign", "nan", "inf")})
                members.update({f"{side}_exponent": In(signed(EXPONENT_BITS)),
                                f"{side}_significand": In(SIGNIFICAND_BITS)})
        if integer_bits and floating:
            members["integer"] = In(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        kinds = [f"s{self.integer_bits}"] * bool(self.integer_bits) + ["f"] * self.floating
        return f"scale_{'_'.join(kinds)}_{self.structure}"

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        m.submodules.product = product = shared(PipelinedMultiplier(self.a_shape, self.b_shape, self.structure))
        at, both = product.latency, self.integer_bits and self.floating
        m.d.comb += product.en.eq(self.en)
        if both:
            m.d.comb += [product.a.eq(Mux(self.integer, self.s, self.a_significand)),
                         product.b.eq(Mux(self.integer, self.multiplier, self.b_significand))]
        elif self.floating:
            m.d.comb += [product.a.eq(self.a_significand), product.b.eq(self.b_significand)]
        else:
            m.d.comb += [product.a.eq(self.s), product.b.eq(self.multiplier)]
        value = product.o
        keep = SIGNIFICAND_BITS if self.floating else QUOTIENT_BITS
        fill = value[-1] if self.integer_bits else Const(0, 1)

        if self.integer_bits:
            pipe.put("shift", self.shift, 0)
        if self.floating:
            # Field of the product's second bit from above (the top one may be zero).
            exponent = Signal(signed(EXPONENT_BITS))
            m.d.comb += exponent.eq(self.a_exponent + self.b_exponent - BIAS)
            zero = ~self.a_significand[-1] | ~self.b_significand[-1]
            infinite = self.a_inf | self.b_inf
            nan = self.a_nan | self.b_nan | (self.a_inf & ~self.b_inf & ~self.b_significand[-1]) \
                | (self.b_inf & ~self.a_inf & ~self.a_significand[-1])
            pipe.put("exponent", pipe.hold(exponent, "exponent_1"), 1)
            for name, flag in (("zero", zero & ~infinite), ("infinite", infinite), ("nan", nan),
                               ("sign", self.a_sign ^ self.b_sign)):
                pipe.put(name, pipe.hold(flag, f"{name}_1"), 1)
            exponent = pipe.at("exponent", at)
            low = exponent <= 0
            top = value[2 * SIGNIFICAND_BITS - 1]
            least = SIGNIFICAND_BITS - 1  # places below the significand
            right = Signal(SHIFT_BITS)
            # All the way out at 49 places: not even the guard bit is left.
            last = 2 * SIGNIFICAND_BITS + 1
            far = exponent < SIGNIFICAND_BITS - last
            m.d.comb += right.eq(Mux(low, Mux(far, last, SIGNIFICAND_BITS - exponent), least + top))

        # One more bit below, for the guard bit of shift 0.
        if self.integer_bits:
            amount = Mux(self.integer, pipe.at("shift", at), right) if both else pipe.at("shift", at)
            source, below = Cat(Const(0, 1), value), Const(0, 1)
        else:
            # No shift is less than 23.
            amount, source, below = (right - least)[:5], value[least - 1:], value[:least - 1].any()
        window, sticky, above = shifted_window(m, "right", source, amount, keep + 1, fill)
        window, sticky = pipe.hold(window, "window"), pipe.hold(sticky | below, "sticky")
        at += 1
        if self.integer_bits:
            q = window[1:1 + QUOTIENT_BITS]
            # The window of float32 is wider than the quotient.
            rest = window[1 + QUOTIENT_BITS:]
            negative = pipe.hold(fill, "fill")
            big = pipe.hold(above, "above") | (Cat(q[-1], rest) ^ negative.replicate(1 + len(rest))).any()
            results = {"q": q.as_signed(), "up": window[0] & (sticky | window[1]), "big": big, "negative": negative}
            for name, result in results.items():
                result = pipe.hold(result, f"{name}_q") if self.floating else result
                m.d.comb += getattr(self, name).eq(result)
        if self.floating:
            low, top = pipe.hold(low, "low"), pipe.hold(top, "top")
            base = Signal(signed(EXPONENT_BITS))
            m.d.comb += base.eq(Mux(low, 0, pipe.at("exponent", at) - 1 + top))
            up = window[0] & (sticky | window[1])
            code = Signal(EXPONENT_BITS + 23)
            m.d.comb += code.eq(Cat(Const(0, 23), base) + window[1:] + up)
            over = code[31:].any() | code[23:31].all() | pipe.at("infinite", at)
            magnitude = Mux(pipe.at("zero", at), 0, Mux(over, 0x7F800000, code[:31]))
            result = Mux(pipe.at("nan", at), FLOAT_NAN, Cat(magnitude[:31], pipe.at("sign", at)))
            m.d.comb += self.g.eq(pipe.hold(result, "g_q"))
        return m
