"""Register files on AXI4-Lite and stream buffers: emitted Verilog against the description."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from bitkiln.hw.bus.axilite import RegisterFile, field_members
from bitkiln.hw.bus.axistream import AxiStream, SkidBuffer, beat_layout, from_axi, to_axi
from bitkiln.hw.bus.top import AxiTop
from bitkiln.hw.emit import ports_of, prepare, sidecar
from bitkiln.models.design import ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import Field, Register, RegisterMap, core_registers
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.runner import run_bench

# Every kind of field, holes between offsets, fields across bytes, an address far above the others.
KINDS = RegisterMap("kinds", (
    Register("ID", 0x00, (Field("value", 0, 32, "ro", "constant", constant=0x12345678),), ""),
    Register("LIVE", 0x04, (Field("low", 0, 5, "ro", ""), Field("wide", 9, 14, "ro", "", signed=True),
                            Field("fixed", 24, 4, "ro", "", constant=9)), ""),
    Register("ORDER", 0x08, (Field("go", 0, 1, "wo", ""), Field("stop", 17, 1, "wo", ""),
                             Field("number", 20, 9, "wo", "")), ""),
    Register("ERROR", 0x10, (Field("code", 0, 3, "wc", ""), Field("tag", 6, 9, "wc", "")), ""),
    Register("EVENTS", 0x14, (Field("a", 0, 1, "w1c", ""), Field("b", 7, 4, "w1c", "")), ""),
    Register("SETTING", 0x1C, (Field("a", 1, 3, "rw", ""), Field("b", 6, 12, "rw", "", signed=True)), ""),
    Register("WHOLE", 0x20, (Field("value", 0, 32, "rw", ""),), ""),
    Register("FAR", 0x204, (Field("value", 0, 31, "rw", ""),), ""),
))
CORE = core_registers(MatmulDesign(ArrayDesign(4, 4, MorphableDesign(("fp4", "int8"))), block=("mxfp4",),
                                   descriptors=True, address_bits=40))


def top(component: RegisterFile) -> AxiTop:
    return AxiTop(component, f"{component.module_name}_top", {"bus": "s_axil"})


@pytest.mark.parametrize(("registers", "accesses", "load"), [(KINDS, 1400, False), (CORE, 700, True)],
                         ids=["kinds", "core"])
def test_register_file_equals_its_description(registers: RegisterMap, accesses: int, load: bool) -> None:
    result = run_bench(top(RegisterFile(registers, load)), "bitkiln.sim.benches.axilite", seed=3,
                       parameters={"registers": registers, "seed": 3, "accesses": accesses})
    assert result.tests == 4
    assert result.vectors > 10_000


class IgnoresStrobes(RegisterFile):
    module_name = "kinds_without_strobes"

    def _store(self, m, register, enable, merged, written) -> None:
        super()._store(m, register, enable, self.bus.wdata, written)


class ClearWins(RegisterFile):
    module_name = "kinds_losing_events"

    def _store(self, m, register, enable, merged, written) -> None:
        super()._store(m, register, enable, merged, written)
        if register.access == "w1c":
            with m.If(enable):
                m.d.sync += self.events_b.eq(0)


@pytest.mark.parametrize("broken", [IgnoresStrobes, ClearWins])
def test_the_bench_fails_on_a_broken_file(broken: type) -> None:
    with pytest.raises(BitkilnError, match="bench tests failed"):
        run_bench(top(broken(KINDS)), "bitkiln.sim.benches.axilite", seed=3,
                  parameters={"registers": KINDS, "seed": 3, "accesses": 700})


def test_ports_have_the_names_of_axi() -> None:
    component = top(RegisterFile(KINDS))
    names = {port.name: port for port in ports_of(component)}
    assert {"aclk", "aresetn", "s_axil_awaddr", "s_axil_wstrb", "s_axil_rresp", "live_low"} <= set(names)
    assert (names["s_axil_awaddr"].width, names["s_axil_awaddr"].direction) == (12, "input")
    assert (prepare(component).clocks, prepare(component).resets) == ((), ())
    roles = {port["name"]: port["role"] for port in sidecar(component)["ports"]}
    assert (roles["aclk"], roles["aresetn"], roles["live_low"]) == ("clock", "reset", "data")


def test_members_of_each_access() -> None:
    assert set(field_members(KINDS)) == {
        "live_low", "live_wide", "order_go", "order_stop", "order_number", "order_number_strobe", "error_capture",
        "error_code", "error_code_next", "error_tag", "error_tag_next", "events_a", "events_a_set", "events_b",
        "events_b_set", "setting_a", "setting_b", "whole", "far"}


def test_streams_connect_without_logic() -> None:
    m = Module()
    axi = AxiStream(32, keep=True).create()
    back = AxiStream(32, keep=True).flip().create()
    buffer = SkidBuffer(beat_layout(32))
    m.submodules.buffer = buffer
    from_axi(m, axi, buffer.i)
    to_axi(m, buffer.o, back)
    simulator = Simulator(m)
    simulator.add_clock(1e-6)

    async def bench(ctx):
        for at in range(5):
            ctx.set(axi.tdata, 0x1000 + at)
            ctx.set(axi.tkeep, at)
            ctx.set(axi.tlast, at == 4)
            ctx.set(axi.tvalid, 1)
            ctx.set(back.tready, 1)
            await ctx.tick()
            assert ctx.get(back.tvalid) and ctx.get(axi.tready)
            assert (ctx.get(back.tdata), ctx.get(back.tkeep), ctx.get(back.tlast)) == (0x1000 + at, at, int(at == 4))

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("offer", "take"), [(1.0, 1.0), (0.9, 0.3), (0.3, 0.9), (0.5, 0.5)])
def test_skid_buffer_under_stalls(offer: float, take: float) -> None:
    rng = random.Random(11)
    unit = SkidBuffer(16)
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    words, got = [rng.getrandbits(16) for _ in range(400)], []

    async def bench(ctx):
        at, offered, cycles = 0, False, 0
        while len(got) < len(words):
            offered = offered or (at < len(words) and rng.random() < offer)
            ready = rng.random() < take
            ctx.set(unit.i.valid, offered)
            ctx.set(unit.i.payload, words[at] if offered else rng.getrandbits(16))
            ctx.set(unit.o.ready, ready)
            if ctx.get(unit.o.valid) and ready:
                got.append(ctx.get(unit.o.payload))
            if offered and ctx.get(unit.i.ready):
                at, offered = at + 1, False
            await ctx.tick()
            cycles += 1
            assert cycles < 20 * len(words)
        if offer == take == 1.0:
            assert cycles == len(words) + unit.latency

    simulator.add_testbench(bench)
    simulator.run()
    assert got == words
