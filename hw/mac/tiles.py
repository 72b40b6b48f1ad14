"""Operand tile memories: one bank for each row (or column) of the array, two slots each.

A bank is as wide as the bus, so that a beat is written at once; the read side takes one word of it each cycle.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.morphable import WORD_BITS

from ..emit import shared
from .jobs import by_index
from .loader import DATA_SLOTS

__all__ = ["TileBank", "TileMemory"]


class TileBank(wiring.Component):
    """Simple dual-port memory of one row; read latency 1."""

    reset_less = True

    def __init__(self, width: int, depth: int):
        self.width, self.depth = width, depth
        super().__init__({"write_addr": In(range(depth)), "write_data": In(width), "write": In(1),
                          "read_addr": In(range(depth)), "read": In(1), "data": Out(width)})

    @property
    def module_name(self) -> str:
        return f"tile_bank_{self.width}x{self.depth}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.addr.eq(self.write_addr), write.data.eq(self.write_data), write.en.eq(self.write),
                     read.addr.eq(self.read_addr), read.en.eq(self.read), self.data.eq(read.data)]
        return m


class TileMemory(wiring.Component):
    """All banks of one operand.

    Members
    -------
    row, beat, slot, write_data, write : In
        From the loader.
    step : In, read_slot : In, read : In(1)
        Step of K to read: ``words`` shows it one cycle later, with the mode given then.
    mode : In(4)
        Of the step that ``words`` shows.
    words : Out(rows * 16)
    """

    def __init__(self, design: MatmulDesign, side: str):
        self.design, self.side = design, side
        self.rows = design.rows if side == "a" else design.columns
        self.row_beats = design.k_words // design.words_per_beat
        self.step_bits = [WORD_BITS if side == "a" else mode.weight_word_bits for mode in design.pe.modes]
        super().__init__({
            "row": In(range(self.rows)), "beat": In(range(self.row_beats)), "slot": In(range(DATA_SLOTS)),
            "write_data": In(design.bus_bits), "write": In(1),
            "step": In(range(design.k_words)), "read_slot": In(range(DATA_SLOTS)), "read": In(1),
            "read_mode": In(4), "mode": In(4), "words": Out(self.rows * WORD_BITS)})

    def elaborate(self, platform) -> Module:
        m = Module()
        bus, narrow = self.design.bus_bits, min(self.step_bits)
        # Place of the step in units of the narrowest step.
        per_beat = (bus // narrow).bit_length() - 1
        place = Signal(range(self.design.k_words * (WORD_BITS // narrow)))
        shift = by_index(self.read_mode, [(bits // narrow).bit_length() - 1 for bits in self.step_bits])
        m.d.comb += place.eq(self.step << shift)
        lane = Signal(per_beat)
        with m.If(self.read):
            m.d.sync += lane.eq(place[:per_beat])

        words = []
        for row in range(self.rows):
            m.submodules[f"bank{row}"] = bank = shared(TileBank(bus, DATA_SLOTS * self.row_beats))
            m.d.comb += [bank.write_addr.eq(Cat(self.beat, self.slot)), bank.write_data.eq(self.write_data),
                         bank.write.eq(self.write & (self.row == row)),
                         bank.read_addr.eq(Cat(place[per_beat:per_beat + len(self.beat)], self.read_slot)),
                         bank.read.eq(self.read)]
            options = {bits: bank.data.word_select(lane[(bits // narrow).bit_length() - 1:], bits)
                       for bits in sorted(set(self.step_bits))}
            word = Signal(WORD_BITS, name=f"word{row}")
            if len(options) == 1:
                m.d.comb += word.eq(next(iter(options.values())))
            else:
                m.d.comb += word.eq(by_index(self.mode, [options[bits] for bits in self.step_bits]))
            words.append(word)
        m.d.comb += self.words.eq(Cat(*words))
        return m
