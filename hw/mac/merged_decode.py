# amaranth: UnusedElaboratable=no
"""Posit decoder for one 16-bit posit or two 8-bit ones: runs, counts and masks are shared."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arith.cells import Part
from ..emit import shared
from ..formats.posit import ExponentSelect, RegimeCount, RegimeRun, _add_constant

__all__ = ["PositPairDecoder"]


class PairSeed(Part):
    """Where the run of the upper byte goes on into the lower one, or starts anew there."""

    def __init__(self, keep: bool = True):
        super().__init__({"code": In(16), "narrow": In(1), "same8": In(1), "same7": Out(1), "same6": Out(1),
                          "above": Out(1), "lead": Out(1), "sign": Out(1)}, "posit_pair_seed", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        code, narrow = self.code, self.narrow
        m.d.comb += [self.same7.eq(self.same8 & (code[7] == code[14])),
                     self.same6.eq(self.same7 & (code[6] == code[14])),
                     self.above.eq(narrow | self.same6),
                     self.lead.eq(Mux(narrow, code[6], code[14])),
                     self.sign.eq(Mux(narrow, code[7], code[15]))]
        return m


class PairMask(Part):
    """Hidden digits and fractions in place: of posit(16, 1), or of two posit(8, 0) at bits 0 and 8."""

    def __init__(self, keep: bool = True):
        super().__init__({"code": In(16), "same": In(15), "narrow": In(1), "sign": In(1), "significand": Out(16)},
                         "posit_pair_mask", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        code, same, narrow, out = self.code, self.same, self.narrow, self.significand
        high, low = code[15], self.sign
        u = [Mux(narrow, same[i], same[i + 1]) for i in range(14)]
        hidden = Signal(14)
        m.d.comb += hidden.eq(Cat(*u[:6], Mux(narrow, 1, same[7]), same[8], *u[8:13], ~narrow | same[13]))
        above0, above7, above8 = Signal(), Signal(), Signal()
        m.d.comb += [above0.eq(~same[0] & Mux(narrow, same[1], same[2])), above7.eq(~narrow & same[9]),
                     above8.eq(Mux(narrow, same[9] & ~same[8], same[10]))]
        m.d.comb += out[0].eq(Mux(above0, ~low, code[0]))
        for i in range(1, 6):
            m.d.comb += out[i].eq(Mux(hidden[i + 1], Mux(hidden[i], low, ~low), code[i]))
        m.d.comb += out[6].eq(Mux(narrow, code[7], Mux(same[8], Mux(same[7], high, ~high), code[6])))
        m.d.comb += out[7].eq(Mux(above7, Mux(same[8], high, ~high), code[7]))
        m.d.comb += out[8].eq(Mux(above8, Mux(hidden[8], high, ~high), code[8]))
        for i in range(9, 13):
            m.d.comb += out[i].eq(Mux(hidden[i + 1], Mux(hidden[i], high, ~high), code[i]))
        m.d.comb += out[13].eq(Mux(hidden[13], high, ~high))
        m.d.comb += out[14:].eq(Cat(high, high))
        return m


class PairShift(Part):
    """Shifts of both, from counts."""

    def __init__(self, keep: bool = True):
        super().__init__({"wide": In(6), "count0": In(3), "count1": In(3), "up0": In(1), "up1": In(1),
                          "end0": In(1), "end1": In(1), "narrow": In(1), "shift0": Out(6), "shift1": Out(5)},
                         "posit_pair_shift", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        for n, out in ((0, self.shift0), (1, self.shift1)):
            up, count, end = (getattr(self, f"{port}{n}") for port in ("up", "count", "end"))
            bits = [up & ~end, *[bit & up for bit in count]]
            gated = [Mux(self.narrow, bit, self.wide[i]) for i, bit in enumerate(bits)]
            gated += [self.wide[i] & ~self.narrow for i in range(4, len(out))]
            m.d.comb += out.eq(Cat(*gated))
        return m


class PositPairDecoder(wiring.Component):
    """posit(16, 1), or with ``narrow`` two posit(8, 0), each as `PositDecoder` gives it.

    Members
    -------
    code : In(16)
    narrow : In(1)
    significand : Out(16)
        Signed; narrow: two signed bytes.
    shift0, shift1 : Out
        Wide: the same shift on both (the low bits on the second).
    nan : Out(1)
    """

    def __init__(self, keep: bool = True):
        self.keep = keep
        self.keep_hierarchy = keep
        super().__init__({"code": In(16), "narrow": In(1), "significand": Out(16), "shift0": Out(6), "shift1": Out(5),
                          "nan": Out(1)})

    @property
    def module_name(self) -> str:
        return "decode_posit16_1_posit8_0" + ("" if self.keep else "_flat")

    def elaborate(self, platform) -> Module:
        m = Module()
        code, narrow, keep = self.code, self.narrow, self.keep
        same: list[Value] = [Const(0, 1)] * 14 + [Const(1, 1)]

        def run(low: int, at: int, lead: Value, above: Value) -> None:
            m.submodules[f"run{low}"] = unit = shared(RegimeRun(at - low, keep))
            m.d.comb += [unit.code.eq(code[low:at]), unit.lead.eq(lead), unit.above.eq(above)]
            same[low:at] = list(unit.same)

        run(11, 14, code[14], Const(1, 1))
        run(8, 11, code[14], same[11])
        m.submodules.seed = seed = shared(PairSeed(keep))
        m.d.comb += [seed.code.eq(code), seed.narrow.eq(narrow), seed.same8.eq(same[8])]
        same[6:8] = [seed.same6, seed.same7]
        run(3, 6, seed.lead, seed.above)
        run(0, 3, seed.lead, same[3])

        m.submodules.mask = mask = shared(PairMask(keep))
        m.d.comb += [mask.code.eq(code), mask.same.eq(Cat(*same)), mask.narrow.eq(narrow), mask.sign.eq(seed.sign),
                     self.significand.eq(mask.significand)]
        counts = []
        for n, top in ((0, 6), (1, 14)):
            m.submodules[f"count{n}"] = unit = shared(RegimeCount(6, keep))
            m.d.comb += unit.thermometer.eq(Cat(*[same[top - i] for i in range(1, 7)]))
            counts.append(unit.count)
        # Code bits equal to the first one, after it.
        length = Signal(4)
        m.d.comb += length.eq(Cat(*[Mux(same[6], low, high | same[7])
                                    for low, high in zip(*counts, strict=True)], same[6]))
        wide = Signal(6)
        up = Signal()
        m.d.comb += up.eq(code[14] ^ code[15])
        m.submodules.exponent = exponent = shared(ExponentSelect(16, 1, keep))
        m.d.comb += [exponent.code.eq(code), exponent.count.eq(length)]
        long, extra, lost, fraction_bits = same[1], Signal(), [], 12
        m.d.comb += extra.eq(same[0] & ~up)
        for b in range(4):
            bit: Value = length[b]
            if any((k ^ fraction_bits) >> b & 1 for k in (13, 14)):
                bit = (bit | long) if fraction_bits >> b & 1 else (bit & ~long)
            if (fraction_bits ^ 13) >> b & 1:
                bit = (bit & ~extra) if fraction_bits >> b & 1 else (bit | extra)
            lost.append(bit)
        regime = _add_constant([*[b ^ ~up for b in length], ~up], (28 - fraction_bits) >> 1)
        m.d.comb += wide.eq(Cat(exponent.exponent, *regime) + Cat(*lost))
        m.submodules.shift = shift = shared(PairShift(keep))
        m.d.comb += [shift.wide.eq(wide), shift.count0.eq(counts[0]), shift.count1.eq(counts[1]),
                     shift.up0.eq(code[6] ^ code[7]), shift.up1.eq(up), shift.end0.eq(same[0]), shift.end1.eq(same[8]),
                     shift.narrow.eq(narrow), self.shift0.eq(shift.shift0), self.shift1.eq(shift.shift1)]
        m.d.comb += self.nan.eq((same[0] & seed.sign & ~code[0]) | (narrow & same[8] & code[15] & ~code[8]))
        return m
