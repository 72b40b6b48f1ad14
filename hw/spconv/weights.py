"""Weight tiles on the chip: a memory for each lane, whose words are the weights of one input channel.

::

    write {lane, address, codes} ──► lane 0: channels 0, L, ... of all tiles  ◄── read_address[0]
                                     lane 1: channels 1, L + 1, ...           ◄── read_address[1]

A tile is one kernel offset, all input channels and ``outputs`` output channels. The weights of input channel ``c`` in
tile ``t`` are in lane ``c mod lanes`` at ``t * groups + c // lanes``, where ``groups`` is that of the design.
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from .features import NO_COLLISION
from .layouts import bits

__all__ = ["WeightStore", "weight_bits"]


def weight_bits(design: GatherDesign) -> int:
    """Of the address of a word of weights."""
    return bits(design.weight_tiles * design.groups)


class WeightStore(wiring.Component):
    """The memories of weights, read and written as those of `FeatureStore`.

    Parameters
    ----------
    design : GatherDesign

    Members
    -------
    write_en : In(1)
    write_lane : In; write_address : In; write_codes : In(outputs codes)
    read_en : In(lanes); read_address : In(lanes addresses); codes : Out(lanes x outputs codes)
    """

    latency = 1

    def __init__(self, design: GatherDesign):
        self.design = design
        codes = data.ArrayLayout(design.weight.bits, design.outputs)
        super().__init__({
            "write_en": In(1), "write_lane": In(bits(design.lanes)), "write_address": In(weight_bits(design)),
            "write_codes": In(codes), "read_en": In(design.lanes),
            "read_address": In(data.ArrayLayout(weight_bits(design), design.lanes)),
            "codes": Out(data.ArrayLayout(codes, design.lanes))})

    @property
    def module_name(self) -> str:
        d = self.design
        return f"weights_{d.weight.name}_{d.lanes}x{d.outputs}_g{d.groups}_k{d.weight_tiles}"

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        for lane in range(d.lanes):
            m.submodules[f"lane{lane}"] = bank = Memory(shape=d.outputs * d.weight.bits,
                                                        depth=d.weight_tiles * d.groups, init=[], attrs=NO_COLLISION)
            write, read = bank.write_port(), bank.read_port()
            mine = self.write_lane == lane if d.lanes > 1 else 1
            m.d.comb += [write.en.eq(self.write_en & mine), write.addr.eq(self.write_address),
                         write.data.eq(self.write_codes.as_value()), read.en.eq(self.read_en[lane]),
                         read.addr.eq(self.read_address[lane]), self.codes[lane].as_value().eq(read.data)]
        return m
