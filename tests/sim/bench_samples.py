"""cocotb benches that pass, fail and forget to check; run by test_runner.py."""

import cocotb
from cocotb.clock import Clock

from bitkiln.sim.bench_report import parameters, report


async def count(dut, cycles):
    Clock(dut.clk, 2, unit="step").start()
    dut.step.value = 1
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    start = int(dut.value.value)
    for at in range(cycles):
        assert int(dut.value.value) == (start + at) % 65536
        await dut.clk.rising_edge


@cocotb.test()
async def honest(dut):
    if parameters()["kind"] == "honest":
        await count(dut, 50)
        report(vectors=50, cycles=50, seed=7)
    elif parameters()["kind"] == "wrong":
        report(vectors=1)
        Clock(dut.clk, 2, unit="step").start()
        dut.step.value = 1
        await dut.clk.rising_edge
        assert int(dut.step.value) == 9, "wrong on purpose"
    elif parameters()["kind"] == "private":
        report(vectors=1)
        names = {name for name in dir(dut) if not name.startswith("_")}
        assert {"clk", "step"} <= names, names
