"""Features on the chip: a memory for each lane, and for each row which of its channels are not zero.

::

    write {word, codes} ──► lane 0: channels 0, L, 2L, ...  ◄── read_word[0]
            │        └────► lane 1: channels 1, L + 1, ...  ◄── read_word[1]
            ▼ not zero?
          masks {row}: a bit for each channel               ◄── mask_row

A word is ``lanes`` channels of one row; a row's words lie one after the other. Each lane reads its own word.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign
from bitkiln.models.formats import Format, Special

from .layouts import bits

__all__ = ["FeatureStore", "NO_COLLISION", "group_bits", "is_something", "row_bits", "word_bits"]

# Nothing is read in the cycle that writes it, or what is read does not matter. Yosys would otherwise put a comparator
# and a bypass beside each memory that gives the old word (2,200 LUT4 beside 16 memories of 16 weights).
NO_COLLISION = {"no_rw_check": 1}


def word_bits(design: GatherDesign) -> int:
    """Of the address of a word of features."""
    return bits(design.feature_words)


def row_bits(design: GatherDesign) -> int:
    """Of the address of a mask."""
    return bits(design.mask_rows)


def group_bits(design: GatherDesign) -> int:
    """Of the place of a word within its row."""
    return bits(design.groups)


def is_something(fmt: Format, code: Value) -> Value:
    """Whether a code is not zero: NaN, NaR, infinities and codes without a meaning are something, -0 is nothing."""
    u = fmt.unpack(np.arange(1 << fmt.bits))
    zeros = np.flatnonzero((u.special == Special.NONE) & (u.significand == 0)).tolist()
    if zeros == [0]:
        return code.any()
    if zeros == [0, 1 << (fmt.bits - 1)]:
        return code[:-1].any()
    return ~Cat(*[code == zero for zero in zeros]).any()


class FeatureStore(wiring.Component):
    """The memories of features and masks.

    Reads take one edge; without enable their outputs hold. A word is not to be read in the cycle that writes it.

    Parameters
    ----------
    design : GatherDesign

    Members
    -------
    write_en : In(1)
    write_word : In; write_codes : In(lanes codes)
        Address of the word and its channels, lane 0 first.
    write_row : In; write_group : In
        Mask row, and which word of the row this is.
    read_en : In(lanes); read_word : In(lanes addresses); codes : Out(lanes codes)
    mask_en : In(1); mask_row : In; mask : Out(channels)
        Bit ``c``: channel ``c`` of the row is not zero (`is_something`).
    """

    latency = 1

    def __init__(self, design: GatherDesign):
        self.design = design
        codes = data.ArrayLayout(design.activation.bits, design.lanes)
        super().__init__({
            "write_en": In(1), "write_word": In(word_bits(design)), "write_codes": In(codes),
            "write_row": In(row_bits(design)), "write_group": In(group_bits(design)), "read_en": In(design.lanes),
            "read_word": In(data.ArrayLayout(word_bits(design), design.lanes)), "codes": Out(codes), "mask_en": In(1),
            "mask_row": In(row_bits(design)), "mask": Out(design.channels)})

    @property
    def module_name(self) -> str:
        d = self.design
        return f"features_{d.activation.name}_l{d.lanes}_c{d.channels}_f{d.feature_words}_m{d.mask_rows}"

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        for lane in range(d.lanes):
            m.submodules[f"lane{lane}"] = bank = Memory(shape=d.activation.bits, depth=d.feature_words, init=[],
                                                           attrs=NO_COLLISION)
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [write.en.eq(self.write_en), write.addr.eq(self.write_word),
                         write.data.eq(self.write_codes[lane]), read.en.eq(self.read_en[lane]),
                         read.addr.eq(self.read_word[lane]), self.codes[lane].eq(read.data)]
        m.submodules.masks = masks = Memory(shape=d.channels, depth=d.mask_rows, init=[], attrs=NO_COLLISION)
        write, read = masks.write_port(granularity=d.lanes), masks.read_port()
        some = Cat(*[is_something(d.activation, self.write_codes[lane]) for lane in range(d.lanes)])
        m.d.comb += [*[write.en[group].eq(self.write_en & (self.write_group == group)) for group in range(d.groups)],
                     write.addr.eq(self.write_row), write.data.eq(some.replicate(d.groups)), read.en.eq(self.mask_en),
                     read.addr.eq(self.mask_row), self.mask.eq(read.data)]
        return m
