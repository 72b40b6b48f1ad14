# amaranth: UnusedElaboratable=no
"""The core's master alone: operands, partial sums, results, descriptors and aborts in a simulated AXI4 memory."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module

from bitkiln.hw.bus.top import AxiTop
from bitkiln.hw.mac import descriptors
from bitkiln.hw.mac.descriptors import DescriptorEngine
from bitkiln.models.design import ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.runner import run_bench

PE = MorphableDesign(("fp4", "int8xint4", "int8"))
DESIGNS = {
    "64 bits, everything": MatmulDesign(ArrayDesign(4, 4, PE), block=("mxfp4", "nvfp4"), descriptors=True,
                                        address_bits=40, k_words=128),
    "32 bits, raw": MatmulDesign(ArrayDesign(3, 5, MorphableDesign(("int8",))), rules=("raw",), bias=False,
                                 accumulate=False, bus_bits=32, descriptors=True, k_words=64),
    "256 bits": MatmulDesign(ArrayDesign(2, 16, PE), bus_bits=256, descriptors=True, queue=1, k_words=256),
}


def top(design: MatmulDesign, name: str = "dma_top") -> AxiTop:
    return AxiTop(DescriptorEngine(design), name, {"bus": "m_axi"})


@pytest.mark.parametrize("name", [name if name.startswith("64") else pytest.param(name, marks=pytest.mark.slow)
                                  for name in DESIGNS])
def test_master_under_stalls(name: str) -> None:
    design = DESIGNS[name]
    result = run_bench(top(design), "bitkiln.sim.benches.dma", seed=5,
                       parameters={"design": design, "seed": 5, "jobs": 28})
    assert result.tests == 6
    assert result.vectors > 2000


class LosesSpill(descriptors.RowWriter):
    """Forgets the bytes that a row's last beat leaves for one more."""

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.sync += self.extra.eq(0)
        return m


class ReadsOneBeat(descriptors.BurstSplitter):
    """Every burst is one beat long, and counts as all of them."""

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.o.payload.last.eq(0)
        return m


class NeverWaits(descriptors._Ring):
    """Shows a job at once to those that read."""

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += [self.a_valid.eq(self.pending_a != 0), self.w_valid.eq(self.pending_w != 0)]
        return m


class DoneTooEarly(descriptors.RowWriter):
    """Says that a job is done before the response of its last burst."""

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.done.eq(self.i.valid & self.i.ready & self.i.payload.last)
        return m


# Each takes a build of its own.
@pytest.mark.parametrize("broken", [LosesSpill, *(pytest.param(broken, marks=pytest.mark.slow)
                                                  for broken in (ReadsOneBeat, NeverWaits, DoneTooEarly))])
def test_the_bench_fails_on_a_broken_master(broken: type, monkeypatch) -> None:
    monkeypatch.setattr(descriptors, broken.__base__.__name__, broken)
    design = DESIGNS["32 bits, raw"]
    with pytest.raises(BitkilnError, match="bench tests failed"):
        run_bench(top(design, f"dma_{broken.__name__.lower()}"), "bitkiln.sim.benches.dma", seed=5,
                  parameters={"design": design, "seed": 5, "jobs": 7})


def test_a_core_without_descriptors_is_refused() -> None:
    with pytest.raises(BitkilnError, match="built without it"):
        DescriptorEngine(DESIGNS["64 bits, everything"].with_options(block=(), descriptors=False))
