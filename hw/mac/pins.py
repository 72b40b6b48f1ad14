# amaranth: UnusedElaboratable=no
"""A PE behind a few pins: operands in by the byte, the result out by the byte.

::

    i ──┬─► earlier bytes ─► a, w ─► PE ─► result, flags ─► byte select ─► o
        │   (long words)      en ───┘│                          ▲
        │   clear, not rst_n ────────┘                          │
        └── low bits, select ───────────────────────────────────┘

The earlier bytes move up at every edge, enabled or not: a word is what came with the last edges when ``en`` is high, so
there is no counter that could lose step. The result is read through multiplexers, not shifted out: it stays where it
is, and reading costs no edge (docs/microarchitecture.md, 'Eight pins').
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from bitkiln.models.design import DotDesign
from bitkiln.models.design.pins import PORT, PinsDesign

from ..emit import shared
from .dot import DotUnit
from .morphable import MorphablePe

__all__ = ["PinsPe", "chosen"]


def chosen(select: Value, parts: Sequence[Value]) -> Value:
    """``parts[select]``; where ``select`` is beyond them, one of the last. One multiplexer less than parts."""
    if len(parts) == 1:
        return parts[0]
    top = (len(parts) - 1).bit_length() - 1
    low, high = parts[:1 << top], parts[1 << top:]
    return Mux(select[top], chosen(select, high), chosen(select, low))


class PinsPe(wiring.Component):
    """A dot unit or a switchable PE whose ports are at most 16 + 8 pins wide.

    Latency ``design.latency`` edges from the last operand bits to the result; a word takes ``design.beats`` edges.

    Parameters
    ----------
    design : PinsDesign

    Members
    -------
    rst_n : In(1)
        Low: sum and flags are cleared at the edge.
    i : In(8), or the word's bits up to 16
        Operands: the word, or its bytes, low byte first. Its low bits choose the byte on ``o``.
    en : In(1)
        With the last bits of a word: accumulate. Without this port every edge accumulates.
    clear : In(1)
        As ``rst_n`` low.
    mode : In(mode_bits)
        With ``en``; only where there are several modes.
    o : Out(8)
        Byte of the result or, behind its last, the flags; combinational.
    flag : Out(1)
        Any flag is set; only where there are flags, and pins.
    """

    reset_less = True

    def __init__(self, design: PinsDesign):
        self.design = design
        super().__init__(self._members())

    def _members(self) -> dict[str, Member]:
        design = self.design
        members = {"rst_n": In(1), "i": In(max(PORT, design.word_bits) if design.parallel else PORT)}
        if design.controls:
            members |= {"en": In(1), "clear": In(1)}
        if design.mode_bits:
            members["mode"] = In(design.mode_bits)
        members["o"] = Out(PORT)
        if design.controls and design.flags:
            members["flag"] = Out(1)
        return members

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def latency(self) -> int:
        return self.design.latency

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"pe": d.pe.name, "word_bits": d.word_bits, "beats": d.beats, "result_bits": d.result_bits,
                "flags": list(d.flags), "modes": list(d.modes)}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        m.submodules.pe = pe = shared(DotUnit(design.pe) if isinstance(design.pe, DotDesign)
                                      else MorphablePe(design.pe))
        word = self._word(m)
        m.d.comb += [pe.a.eq(word[:design.a_bits]), pe.w.eq(word[design.a_bits:design.word_bits])]
        m.d.comb += pe.en.eq(self.en if design.controls else 1)
        m.d.comb += pe.clear.eq(~self.rst_n | self.clear if design.controls else ~self.rst_n)
        if design.mode_bits:
            m.d.comb += pe.mode.eq(self.mode)

        result = getattr(pe, design.result)
        padding = result[-1].replicate(-len(result) % PORT) if design.signed else Cat()
        parts = [Cat(result, padding).word_select(n, PORT) for n in range(design.result_bytes)]
        flags = Cat(getattr(pe, flag) for flag in design.flags)
        if design.flags:
            parts.append(flags)
        m.d.comb += self.o.eq(self._byte(m, parts))
        if "flag" in self.signature.members:
            m.d.comb += self.flag.eq(flags.any())
        return m

    def _byte(self, m: Module, parts: Sequence[Value]) -> Value:
        """The byte on the pins."""
        return chosen(self.i, parts)

    def _word(self, m: Module) -> Value:
        """The operand word; long ones are put together."""
        parts: list[Value] = [self.i]
        for beat in range(1, self.design.beats):
            held = Signal(PORT, name=f"byte_{self.design.beats - 1 - beat}", reset_less=True)
            m.d.sync += held.eq(parts[0])
            parts.insert(0, held)
        return Cat(*parts)
