"""The dot unit behind streams: emitted Verilog in cocotb, with random stalls and resets."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module

from bitkiln.hw.mac.stream import StreamDotUnit, operand_layout, result_layout
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.runner import run_bench

DESIGNS = {
    "fp4": DotDesign.from_pe("fp4"),
    "fp8_e5m2, pipeline 4, rounded": DotDesign.from_pe("fp8_e5m2", pipeline=4, output="fp8_e5m2"),
    "ternary, pipeline 1, narrow": DotDesign.from_pe("ternary", lanes=3, pipeline=1, accumulator=Accumulator(bits=4)),
    "bf16xint4, fp32": DotDesign.from_pe("bf16xint4", lanes=1, pipeline=2),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_stream_equals_golden_under_stalls(name: str) -> None:
    result = run_bench(StreamDotUnit(DESIGNS[name]), "bitkiln.sim.benches.stream", seed=7,
                       parameters={"design": DESIGNS[name], "seed": 7, "products": 400})
    assert result.tests == 4
    assert result.vectors > 1000


class AcceptsTooMuch(StreamDotUnit):
    """Ready while no slot is free."""

    @property
    def module_name(self) -> str:
        return f"{super().module_name}_broken"

    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.i.ready.eq(~self.clearing)
        return m


def test_the_bench_fails_on_a_broken_unit() -> None:
    with pytest.raises(BitkilnError, match="bench tests failed"):
        run_bench(AcceptsTooMuch(DESIGNS["fp4"]), "bitkiln.sim.benches.stream", seed=7,
                  parameters={"design": DESIGNS["fp4"], "seed": 7, "products": 100})


def test_layouts_name_every_field() -> None:
    design = DESIGNS["fp8_e5m2, pipeline 4, rounded"]
    assert list(operand_layout(design).members) == ["a", "w", "last"]
    assert list(result_layout(design).members) == ["acc", "nan", "inf_pos", "inf_neg", "o"]
    assert result_layout(design).size == design.accumulator_bits + 3 + 8


def test_slots_cover_the_latency() -> None:
    assert [StreamDotUnit(DotDesign.from_pe("fp4", pipeline=p)).slots for p in range(5)] == [2, 2, 3, 3, 4]
