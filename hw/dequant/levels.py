# amaranth: UnusedElaboratable=no
"""Second-level scales (QLoRA, arXiv 2305.14314): an 8-bit code, times a float32 step, plus a float32 offset.

::

    code ──► (table of 256 float32) ──► significand ─┐
                                                     ├─► multiplier ──► FixedToFp32 ──► (FloatAdd) ──► scale
    step ─────────────────────────────► +-significand┘       exponents ─────┘               │
    offset ──────────────────────────────────────────── DelayLine ──────────────────────────┘

The product of two significands is an integer: it is rounded to float32 once, subnormals included, and the sum with
the offset once more, as float32 arithmetic does.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.codebook import LEVELS, CodebookDesign

from ..arith.delay import DelayLine, late
from ..arith.fixed_to_fp32 import FixedToFp32
from ..arith.float_add import FloatAdd
from ..arith.float_convert import SIGNIFICAND_BITS
from ..arith.scale import PipelinedMultiplier
from ..emit import shared

__all__ = ["ScaleDecoder"]

UNIT = -150       # a float32 is its significand times ``2**(max(field, 1) + UNIT)``
CODE_BITS = 8


class ScaleDecoder(wiring.Component):
    """``scale = RNE(RNE(value(code) * step) + offset)`` in float32; one each cycle, `latency` edges later.

    Zeros, subnormals, infinities and NaN as in IEEE 754; NaN is 0x7FC00000. Without ``offset`` nothing is added.

    Parameters
    ----------
    design : CodebookDesign
        With 8-bit scale codes.

    Members
    -------
    code : In(8); step : In(32); offset : In(32), with an offset
    write_code : In(8); write_value : In(32); write : In(1), with ``table8``
        An entry of the table at the next edge. It has no reset; entries are 0 until written.
    scale : Out(32)
    """

    reset_less = True

    def __init__(self, design: CodebookDesign):
        self.design = design
        self.by_table = design.scale == "table8"
        value_bits = SIGNIFICAND_BITS if self.by_table else CODE_BITS
        self.multiplier = PipelinedMultiplier(signed(SIGNIFICAND_BITS + 1), unsigned(value_bits), "chains")
        # Two exponents of 1..254 (and 255, which the flags override), or one.
        exponents = 1 + self.by_table
        self.convert = FixedToFp32(SIGNIFICAND_BITS + 1 + value_bits, UNIT * exponents, (exponents, 254 * exponents))
        self.add = FloatAdd() if design.offset else None
        self.until_sum = self.by_table + self.multiplier.latency + self.convert.latency
        self.latency = self.until_sum + (self.add.latency if self.add else 0)
        members = {"code": In(CODE_BITS), "step": In(32), "scale": Out(32)}
        if design.offset:
            members["offset"] = In(32)
        if self.by_table:
            members.update(write_code=In(CODE_BITS), write_value=In(32), write=In(1))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"scale_level_{self.design.scale}" + "_offset" * self.design.offset

    @staticmethod
    def _fields(code: Value) -> tuple[Value, Value, Value, Value]:
        """Significand, exponent field (at least 1), NaN and infinity of a float32."""
        field, mantissa = code[23:31], code[:23]
        normal, ones = field.any(), field.all()
        return Cat(mantissa, normal), Cat(field[0] | ~normal, field[1:]), ones & mantissa.any(), ones & ~mantissa.any()

    def elaborate(self, platform) -> Module:
        m = Module()
        step = self._late(m, self.step, self.by_table, "step")
        significand, exponent, nan, inf = self._fields(step)
        negative, zero = step[31], ~significand.any()
        value: Value
        if self.by_table:
            m.submodules.levels = memory = Memory(shape=32, depth=LEVELS, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [write.addr.eq(self.write_code), write.data.eq(self.write_value), write.en.eq(self.write),
                         read.addr.eq(self.code), read.en.eq(1)]
            value, other_exponent, other_nan, other_inf = self._fields(read.data)
            other_zero = ~value.any()
            exponent = exponent + other_exponent
            negative = negative ^ read.data[31]
            nan = nan | other_nan | (inf & other_zero) | (other_inf & zero)
            inf = inf | other_inf
        else:
            value = self.code
            if self.design.scale == "int8":
                magnitude = Signal(CODE_BITS)
                m.d.comb += magnitude.eq(Mux(self.code[-1], -self.code, self.code))
                value, negative = magnitude, negative ^ self.code[-1]
            other_zero = ~value.any()
            nan = nan | (inf & other_zero)

        # The sign goes into the shorter operand's negation.
        operand = Signal(signed(SIGNIFICAND_BITS + 1))
        m.d.comb += operand.eq(Mux(negative, -significand, significand))
        m.submodules.multiply = multiply = shared(self.multiplier)
        m.submodules.convert = convert = shared(self.convert)
        m.d.comb += [multiply.en.eq(1), multiply.a.eq(operand), multiply.b.eq(value), convert.i.eq(multiply.o)]
        edges = self.multiplier.latency
        m.d.comb += [convert.exponent.eq(self._late(m, exponent, edges, "exponent")),
                     convert.nan.eq(self._late(m, nan, edges, "nan")),
                     convert.pos.eq(self._late(m, inf & ~negative, edges, "pos")),
                     convert.neg.eq(self._late(m, inf & negative, edges, "neg"))]
        # The integer zero has no sign.
        minus = negative & (zero | other_zero) & ~nan & ~inf
        minus = self._late(m, minus, edges + self.convert.latency, "minus")
        product = Cat(convert.o[:31], convert.o[31] | minus)
        if self.add is None:
            m.d.comb += self.scale.eq(product)
            return m

        m.submodules.add = add = shared(self.add)
        m.submodules.delay = delay = shared(DelayLine(32, self.until_sum))
        m.d.comb += [delay.en.eq(1), delay.i.eq(self.offset), add.en.eq(1), add.a.eq(product)]
        significand, exponent, nan, inf = self._fields(delay.o)
        m.d.comb += [add.b_sign.eq(delay.o[31]), add.b_exponent.eq(exponent), add.b_significand.eq(significand),
                     add.b_nan.eq(nan), add.b_inf.eq(inf), self.scale.eq(add.o)]
        return m

    @staticmethod
    def _late(m: Module, value: Value, edges: int, name: str) -> Value:
        if isinstance(value, Const):
            return value
        for edge in range(edges):
            value = late(m, value, f"{name}_{edge + 1}")
        return value
