"""What the gather unit did."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

__all__ = ["COUNTERS", "GatherCounters"]

# Name -> bits. Pairs, and those of them without any channel that is not zero; products by channel (each goes to all
# outputs), channels that were zero, places of steps without a product; steps, and cycles in which the lanes had to
# wait for ``o``.
COUNTERS = {"items": 32, "dropped": 32, "issued": 48, "skipped": 48, "idle": 48, "cycles": 48, "stalls": 48}


class GatherCounters(wiring.Component):
    """Counters; a cycle counts one or two edges later.

    ``items * groups * lanes = issued + skipped`` and ``cycles * lanes = issued + idle`` when nothing is inside.
    With ``pack`` row, cycles and idle places depend on when pairs come: a row that is done up to its last pair ends in
    a step of its own.

    Members
    -------
    clear : In(1)
        All to zero.
    pair, empty, groups : In
        A pair of so many groups comes, without any channel that is not zero.
    step, active : In
        A step, and which lanes multiply.
    stall : In(1)
    items, dropped, issued, skipped, idle, cycles, stalls : Out
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        super().__init__({"clear": In(1), "pair": In(1), "empty": In(1), "groups": In(range(design.groups + 1)),
                          "step": In(1), "active": In(design.lanes), "stall": In(1),
                          **{name: Out(bits) for name, bits in COUNTERS.items()}})

    @property
    def module_name(self) -> str:
        return f"gather_counters_l{self.design.lanes}_g{self.design.groups}"

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        offered = Signal(COUNTERS["skipped"])     # words of channels
        count = Signal(range(d.lanes + 1))
        m.d.sync += count.eq(Mux(self.clear, 0, sum(self.active[lane] for lane in range(d.lanes))))
        for counter, more in ((self.items, self.pair), (self.dropped, self.pair & self.empty),
                              (offered, Mux(self.pair, self.groups, 0)), (self.issued, count),
                              (self.cycles, self.step), (self.stalls, self.stall)):
            m.d.sync += counter.eq(Mux(self.clear, 0, counter + more))
        m.d.comb += [self.skipped.eq(offered * d.lanes - self.issued),
                     self.idle.eq(self.cycles * d.lanes - self.issued)]
        return m
