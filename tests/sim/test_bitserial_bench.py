# amaranth: UnusedElaboratable=no
"""The bit-serial array's emitted Verilog in cocotb: stalls, writes of special values, resets."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module

from bitkiln.hw.dequant.array import BitSerialArray
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.runner import BenchResult, run_bench

SEED = 19
DESIGN = BitSerialDesign(("bitmod4", "int4"), rows=2, lanes=2, group=32, groups=4, zero_skip=True)


def run(component, groups: int = 80) -> BenchResult:
    return run_bench(component, "bitkiln.sim.benches.bitserial", seed=SEED,
                     parameters={"design": DESIGN, "seed": SEED, "groups": groups})


def test_array_equals_golden_under_stalls_writes_and_resets() -> None:
    result = run(BitSerialArray(DESIGN))
    assert result.tests == 4
    assert result.vectors > 150 and result.cycles > 3000 and result.facts["seed"] == SEED


class WritesWhileBusy(BitSerialArray):
    """Takes special values in the middle of channels."""

    @property
    def module_name(self) -> str:
        return f"{super().module_name}_broken"

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.special.ready.eq(1)
        return m


@pytest.mark.slow
def test_the_bench_fails_on_a_broken_array() -> None:
    with pytest.raises(BitkilnError, match="bench tests failed") as caught:
        run(WritesWhileBusy(DESIGN), groups=20)
    assert "a special value was written in the middle of a channel" in str(caught.value)
