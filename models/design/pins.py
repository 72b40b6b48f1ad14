"""A PE behind 8 + 8 + 8 pins: how its operand word and its result fit through them.

One clock edge takes up to 16 operand bits, low bits on ``ui_in``, the rest on ``uio_in``; a longer word comes in bytes
on ``ui_in``, low byte first, on consecutive edges. The result is read a byte at a time on ``uo_out``, at any time and
without a clock edge: the low pins of ``ui_in`` say which byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..formats import Format
from .dot import DotDesign
from .morphable import WORD_BITS, Mode, MorphableDesign

__all__ = ["CLEAR_PIN", "EN_PIN", "FLAG_PIN", "PinsDesign"]

PORT = 8
# Control pins on uio, from the top down; the bits of the mode come below.
FLAG_PIN, EN_PIN, CLEAR_PIN = 7, 6, 5


@dataclass(frozen=True)
class PinsDesign:
    """Operands, controls and result of one PE on three ports of eight pins.

    Parameters
    ----------
    pe : DotDesign or MorphableDesign

    Notes
    -----
    The operand word is ``w`` above ``a``, both as the PE takes them, without the bits that no mode uses. Three pin
    plans follow from its width:

    ======== ========================= ==================================================================
    word     operands                  controls
    ======== ========================= ==================================================================
    <= 13    ``ui_in``, low ``uio_in`` ``en``, ``clear`` and the flag on ``uio[6]``, ``[5]``, ``[7]``
    14 - 16  ``ui_in``, ``uio_in``     none: each edge is a step, zero operands are an idle one
    others   bytes on ``ui_in``        as the first, and the mode from ``uio[4]`` down
    ======== ========================= ==================================================================
    """

    pe: DotDesign | MorphableDesign

    # Operands -----------------------------------------------------------------------------------

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the PE's modes; a dot unit has one."""
        pe = self.pe
        return (pe.pe_name,) if isinstance(pe, DotDesign) else tuple(mode.name for mode in pe.modes)

    @property
    def mode_bits(self) -> int:
        """Pins that choose the mode; none with one mode."""
        return (len(self.modes) - 1).bit_length()

    @property
    def a_bits(self) -> int:
        pe = self.pe
        return pe.lanes * pe.activation.bits if isinstance(pe, DotDesign) else WORD_BITS

    @property
    def w_bits(self) -> int:
        """A switchable PE's upper weight bits are left out where no mode has them."""
        pe = self.pe
        if isinstance(pe, DotDesign):
            return pe.lanes * pe.weight.bits
        return max(mode.lanes * mode.weight.bits for mode in pe.modes)

    @property
    def word_bits(self) -> int:
        return self.a_bits + self.w_bits

    @property
    def parallel(self) -> bool:
        """The whole word comes on one edge."""
        if self.word_bits <= PORT + CLEAR_PIN - self.mode_bits:
            return True
        return self.word_bits <= 2 * PORT and self._idles()

    @property
    def beats(self) -> int:
        """Clock edges for one word."""
        return 1 if self.parallel else -(-self.word_bits // PORT)

    @property
    def controls(self) -> bool:
        """Whether ``en``, ``clear`` and a flag have pins."""
        return not self.parallel or self.word_bits <= PORT + CLEAR_PIN - self.mode_bits

    def _idles(self) -> bool:
        """Whether an edge with weights of code 0 adds nothing, whatever byte of the result is being read."""
        pe = self.pe
        if isinstance(pe, MorphableDesign):
            return False
        codes = np.arange(min(1 << pe.activation.bits, 1 << self.select_bits))
        return not pe.weight.decode(np.array([0]))[0] and not pe.activation.unpack(codes).special.any()

    def formats(self, mode: int = 0) -> tuple[Format, Format, int]:
        """Activation and weight format and lanes of a mode."""
        pe = self.pe
        one: DotDesign | Mode = pe if isinstance(pe, DotDesign) else pe.modes[mode]
        return one.activation, one.weight, one.lanes

    # Result -------------------------------------------------------------------------------------

    @property
    def result(self) -> str:
        """Port of the PE that is read: ``o`` where it rounds, else ``acc``."""
        return "o" if isinstance(self.pe, DotDesign) and self.pe.output is not None else "acc"

    @property
    def result_bits(self) -> int:
        pe = self.pe
        if self.result == "o":
            return pe.output.bits
        return 32 if pe.accumulator.kind == "fp32" else pe.accumulator_bits

    @property
    def signed(self) -> bool:
        """The result's bytes are one two's complement number, its sign repeated up to the last bit."""
        return self.result == "acc" and self.pe.accumulator.kind != "fp32"

    @property
    def result_bytes(self) -> int:
        return -(-self.result_bits // PORT)

    @property
    def flags(self) -> tuple[str, ...]:
        """Sticky flags, bit 0 first in the byte behind the result; that byte exists only with flags."""
        return self.pe.flags

    @property
    def bytes(self) -> int:
        """Bytes that can be read: the result's and the flags'."""
        return self.result_bytes + bool(self.flags)

    @property
    def select_bits(self) -> int:
        """Low pins of ``ui_in`` that choose the byte."""
        return (self.bytes - 1).bit_length()

    @property
    def latency(self) -> int:
        """Edges from the last operand bits to their sum on ``uo_out``."""
        return self.pe.latency

    @property
    def name(self) -> str:
        """Verilog module name."""
        return f"pins_{self.pe.name}"

    # Pins ---------------------------------------------------------------------------------------

    def pins(self) -> dict[str, str]:
        """What each of the 24 pins does (``ui[0]`` .. ``uio[7]``); empty text for one without a use."""
        found = {f"{port}[{bit}]": "" for port in ("ui", "uo", "uio") for bit in range(PORT)}
        operand = [f"a[{bit}]" for bit in range(self.a_bits)] + [f"w[{bit}]" for bit in range(self.w_bits)]
        for bit in range(PORT):
            name = operand[bit] if self.parallel and bit < len(operand) else "" if self.parallel else f"byte[{bit}]"
            select = f"select[{bit}]" if bit < self.select_bits else ""
            found[f"ui[{bit}]"] = " / ".join(filter(None, (name, select)))
            found[f"uo[{bit}]"] = f"result[{bit}]"
        if self.parallel:
            for bit, name in enumerate(operand[PORT:]):
                found[f"uio[{bit}]"] = name
        if self.controls:
            found[f"uio[{EN_PIN}]"], found[f"uio[{CLEAR_PIN}]"] = "en", "clear"
            for bit in range(self.mode_bits):
                found[f"uio[{CLEAR_PIN - self.mode_bits + bit}]"] = f"mode[{bit}]"
            if self.flags:
                found[f"uio[{FLAG_PIN}]"] = "flag (output)"
        return found
