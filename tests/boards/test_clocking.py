# amaranth: UnusedElaboratable=no
"""The clock and reset of a board's top: primitives against the tools' libraries, reset against its timing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Const, Elaboratable, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bitkiln.boards import clocking
from bitkiln.boards.clocking import Pll, ResetHold, add_clock
from bitkiln.boards.pll import PllSettings, pll_settings
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.toolchain import find

PERIOD = 1e-6


class Blinker(wiring.Component):
    """A counter behind a clock generator."""

    def __init__(self, settings: PllSettings | None, **options):
        self.settings, self.options = settings, options
        super().__init__({"clock_in": In(1), "button": In(1), "led": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        add_clock(m, self.clock_in, self.settings, self.button, **self.options)
        count = Signal(12)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.led.eq(count[-1])
        return m


# Reset ------------------------------------------------------------------------------------------------


def simulate(top, bench) -> None:
    sim = Simulator(top)
    sim.add_testbench(bench)
    sim.run()


async def edges(ctx, clock: Signal, count: int) -> None:
    for _ in range(count):
        await ctx.delay(PERIOD / 2)
        ctx.set(clock, 1)
        await ctx.delay(PERIOD / 2)
        ctx.set(clock, 0)


@pytest.mark.parametrize("cycles", [1, 5, 64])
def test_reset_from_configuration(cycles):
    dut = ResetHold(cycles)

    async def bench(ctx):
        assert ctx.get(dut.o) == 1
        await edges(ctx, dut.clk, cycles + 2)
        assert ctx.get(dut.o) == 1
        await edges(ctx, dut.clk, 1)
        assert ctx.get(dut.o) == 0
        await edges(ctx, dut.clk, 3 * cycles)
        assert ctx.get(dut.o) == 0

    simulate(dut, bench)


def test_reset_by_input():
    dut = ResetHold(7)

    async def bench(ctx):
        await edges(ctx, dut.clk, 30)
        assert ctx.get(dut.o) == 0
        ctx.set(dut.i, 1)
        await edges(ctx, dut.clk, 1)
        assert ctx.get(dut.o) == 1
        await edges(ctx, dut.clk, 40)           # as long as it lasts
        assert ctx.get(dut.o) == 1
        ctx.set(dut.i, 0)
        await edges(ctx, dut.clk, 6)
        ctx.set(dut.i, 1)                       # a bounce starts the count again
        await edges(ctx, dut.clk, 1)
        ctx.set(dut.i, 0)
        await edges(ctx, dut.clk, 9)
        assert ctx.get(dut.o) == 1
        await edges(ctx, dut.clk, 1)
        assert ctx.get(dut.o) == 0

    simulate(dut, bench)


def test_reset_while_the_clock_stands_still():
    """A generator that loses its lock may stop; the reset must come with the first edge afterwards."""
    dut = ResetHold(3)

    async def bench(ctx):
        await edges(ctx, dut.clk, 20)
        assert ctx.get(dut.o) == 0
        await ctx.delay(10 * PERIOD)
        ctx.set(dut.i, 1)
        await ctx.delay(PERIOD / 10)
        ctx.set(dut.i, 0)
        await ctx.delay(10 * PERIOD)
        for _ in range(5):
            await edges(ctx, dut.clk, 1)
            assert ctx.get(dut.o) == 1
        await edges(ctx, dut.clk, 1)
        assert ctx.get(dut.o) == 0

    simulate(dut, bench)


@pytest.mark.parametrize("cycles", [0, -1, 1 << 25, 1.5, True])
def test_reset_cycles_are_checked(cycles):
    with pytest.raises(BitkilnError, match="cycles of the reset"):
        ResetHold(cycles)


class FakePll(wiring.Component):
    """Stands for the primitive: passes its input on; the test decides about the lock."""

    lock = Signal()

    def __init__(self, settings, pad, pin):
        super().__init__({"i": In(1), "o": Out(1), "locked": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += [self.o.eq(self.i), self.locked.eq(self.lock)]
        return m


class Counted(wiring.Component):
    def __init__(self, settings, with_button=True, **options):
        self.arguments = settings, with_button, options
        super().__init__({"clock_in": In(1), "button": In(1), "count": Out(16)})

    def elaborate(self, platform) -> Module:
        m = Module()
        settings, with_button, options = self.arguments
        add_clock(m, self.clock_in, settings, self.button if with_button else None, **options)
        m.d.sync += self.count.eq(self.count + 1)
        return m


def test_top_without_generator():
    dut = Counted(None, hold_cycles=10)

    async def bench(ctx):
        await edges(ctx, dut.clock_in, 13)
        assert ctx.get(dut.count) == 0
        await edges(ctx, dut.clock_in, 20)
        assert ctx.get(dut.count) == 20
        ctx.set(dut.button, 1)
        await edges(ctx, dut.clock_in, 2)
        assert ctx.get(dut.count) == 0

    simulate(dut, bench)


def test_top_without_anything_is_released():
    dut = Counted(None, with_button=False)

    async def bench(ctx):
        await edges(ctx, dut.clock_in, clocking.HOLD_CYCLES + 3)
        assert ctx.get(dut.count) == 0
        await edges(ctx, dut.clock_in, 5)
        assert ctx.get(dut.count) == 5

    simulate(dut, bench)


def test_top_waits_for_the_lock(monkeypatch):
    monkeypatch.setattr(clocking, "Pll", FakePll)
    lock = FakePll.lock
    settings = pll_settings("ice40", 12, 18)
    dut = Counted(settings)
    hold = 15 * 18

    async def bench(ctx):
        ctx.set(lock, 0)
        await edges(ctx, dut.clock_in, 2 * hold)
        assert ctx.get(dut.count) == 0
        ctx.set(lock, 1)
        await edges(ctx, dut.clock_in, hold + 3)
        assert ctx.get(dut.count) == 0
        await edges(ctx, dut.clock_in, 9)
        assert ctx.get(dut.count) == 9
        ctx.set(lock, 0)
        await ctx.delay(PERIOD)                 # with no edge of the clock
        ctx.set(lock, 1)
        await edges(ctx, dut.clock_in, hold)
        assert ctx.get(dut.count) == 0

    simulate(dut, bench)


# Primitives -------------------------------------------------------------------------------------------

CASES = {
    "ecp5": (pll_settings("ecp5", 25, 60), "synth_ecp5", {}),
    "ecp5_second": (pll_settings("ecp5", 25, 48), "synth_ecp5", {}),
    "ice40_core": (pll_settings("ice40", 12, 24), "synth_ice40", {}),
    "ice40_pad": (pll_settings("ice40", 12, 24), "synth_ice40", {"pad": True}),
    "gowin": (pll_settings("gowin", 27, 54), "synth_gowin", {}),
    "xilinx7": (pll_settings("xilinx7", 100, "123.75"), "synth_xilinx -family xc7", {}),
    "ultrascale+": (pll_settings("ultrascale+", 125, 200), "synth_xilinx -family xcup", {}),
}
PRIMITIVES = {"ecp5": "EHXPLLL", "ecp5_second": "EHXPLLL", "ice40_core": "SB_PLL40_CORE", "ice40_pad": "SB_PLL40_PAD",
              "gowin": "rPLL", "xilinx7": "MMCME2_BASE", "ultrascale+": "MMCME4_BASE"}


def tool(name: str):
    found = find(name)
    if found is None:
        pytest.skip(f"{name} is not installed (extra fpga)")
    return found


def start(found, *arguments: str, folder: Path) -> str:
    done = subprocess.run([found.path, *arguments], cwd=folder, env=found.environment(), capture_output=True,
                          text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def synthesise(case: str, folder: Path, steps: str = "") -> dict:
    """The netlist of a blinker: after the library's check of names only (``steps``), or whole."""
    settings, command, options = CASES[case]
    top = Blinker(settings, **options)
    (folder / "top.il").write_text(rtlil.convert(top, ports=[top.clock_in, top.button, top.led], name="top"))
    script = (f"read_rtlil top.il; {command} {steps} -top top; hierarchy -check; "
              "select top*; proc; write_json -selected top.json")
    start(tool("yosys"), "-q", "-p", script, folder=folder)
    return json.loads((folder / "top.json").read_text())["modules"]


def primitive(modules: dict, kind: str) -> dict:
    found = [cell for module in modules.values() for cell in module.get("cells", {}).values() if cell["type"] == kind]
    assert len(found) == 1
    return found[0]


def parameter(value: str) -> str | int | float:
    if re.fullmatch("[01]+", value) and len(value) >= 32:
        return int(value, 2)
    try:
        return float(value)
    except ValueError:
        return value.rstrip(" ")


@pytest.mark.parametrize("case", CASES)
def test_the_library_knows_the_primitive(case, tmp_path):
    """Yosys refuses ports and parameters that the vendor's cell does not have."""
    cell = primitive(synthesise(case, tmp_path, "-run begin:flatten" if "xilinx" not in CASES[case][1]
                                else "-run begin:prepare"), PRIMITIVES[case])
    settings = CASES[case][0]
    assert {name: parameter(cell["parameters"][name]) for name in settings.parameters
            if isinstance(settings.parameters[name], (int, float))} == \
        {name: value for name, value in settings.parameters.items() if isinstance(value, (int, float))}
    for name, value in settings.parameters.items():
        if isinstance(value, str):
            assert cell["parameters"][name].strip() == value


def test_a_wrong_parameter_would_be_found(tmp_path, monkeypatch):
    wrong = pll_settings("ecp5", 25, 60)
    wrong.parameters["CLKFB_DIVIDER"] = 3
    monkeypatch.setitem(CASES, "wrong", (wrong, "synth_ecp5", {}))
    with pytest.raises(AssertionError, match="CLKFB_DIVIDER"):
        synthesise("wrong", tmp_path, "-run begin:flatten")


def test_generator_is_a_component():
    dut = Pll(pll_settings("gowin", 27, 54))
    assert set(dut.signature.members) == {"i", "o", "locked"}
    top = Module()
    top.submodules.pll = dut
    top.d.comb += dut.i.eq(Const(0))
    assert "cell \\rPLL" in rtlil.convert(top, ports=[dut.o, dut.locked])


# Place and route --------------------------------------------------------------------------------------

ECP5_PINS = """LOCATE COMP "clock_in" SITE "G2";
LOCATE COMP "button" SITE "R1";
LOCATE COMP "led" SITE "B2";
IOBUF PORT "clock_in" IO_TYPE=LVCMOS33;
FREQUENCY PORT "clock_in" 25 MHZ;
"""
ICE40_PINS = "set_io clock_in {}\nset_io button 10\nset_io led 11\nset_frequency clock_in 12\n"
GOWIN_PINS = 'IO_LOC "clock_in" 52;\nIO_LOC "button" 4;\nIO_LOC "led" 10;\n'
# nextpnr does not derive clocks of a rPLL: the top has to say them.
GOWIN_CLOCKS = "create_clock -period 37.037 [get_ports {clock_in}]\ncreate_clock -period 18.518 [get_nets {clk}]\n"


@pytest.mark.slow
@pytest.mark.parametrize(("case", "derived"), [("ecp5", ["60.0"]), ("ecp5_second", ["5.0", "48.0"])])
def test_place_ecp5(case, derived, tmp_path):
    (tmp_path / "pins.lpf").write_text(ECP5_PINS)
    found = tool("nextpnr-ecp5")
    synthesise(case, tmp_path)
    log = start(found, "--85k", "--package", "CABGA381", "--speed", "6", "--json", "top.json", "--lpf", "pins.lpf",
                "--lpf-allow-unconstrained", "--textcfg", "top.config", folder=tmp_path)
    assert re.findall(r"Derived frequency constraint of ([\d.]+) MHz", log) == derived
    assert re.search(rf"PASS at {derived[-1]}0 MHz", log)
    text = (tmp_path / "top.config").read_text()
    settings = CASES[case][0]
    assert f"CLKFB_DIV {(settings.parameters['CLKFB_DIV'] - 1):07b}" in text
    assert f"CLKOS_ENABLE {settings.parameters['CLKOS_ENABLE']}" in text and "CLKOS2_ENABLE DISABLED" in text


@pytest.mark.slow
@pytest.mark.parametrize(("case", "pin"), [("ice40_pad", 35), ("ice40_core", 20)])
def test_place_ice40(case, pin, tmp_path):
    (tmp_path / "pins.pcf").write_text(ICE40_PINS.format(pin))
    found = tool("nextpnr-ice40")
    synthesise(case, tmp_path)
    log = start(found, "--up5k", "--package", "sg48", "--json", "top.json", "--pcf", "pins.pcf", "--asc", "top.asc",
                folder=tmp_path)
    assert re.findall(r"Derived frequency constraint of ([\d.]+) MHz", log) == ["24.0"]
    assert "VCO frequency of PLL 'pll.pll' is constrained to 768.0 MHz" in log
    assert "PASS at 24.00 MHz" in log
    assert (tmp_path / "top.asc").stat().st_size > 10_000


class PlatformTop(Elaboratable):
    """A blinker on the pins of a platform."""

    def __init__(self, family: str, clock: str, wanted: float, pad: bool):
        self.arguments = family, clock, wanted, pad

    def elaborate(self, platform) -> Module:
        family, name, wanted, pad = self.arguments
        m = Module()
        port = platform.request(name, dir="-")
        add_clock(m, port, pll_settings(family, platform.default_clk_frequency / 1e6, wanted), pad=pad)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        count = Signal(12)
        m.d.sync += count.eq(count + 1)
        m.d.comb += led.o.eq(count[-1])
        return m


@pytest.mark.slow
@pytest.mark.parametrize(("module", "platform", "arguments", "steps", "placer", "options", "pins"), [
    ("icebreaker", "ICEBreakerPlatform", ("ice40", "clk12", 18, True), "synth_ice40", "nextpnr-ice40",
     ("--up5k", "--package", "sg48"), "pcf"),
    ("ulx3s", "ULX3S_85F_Platform", ("ecp5", "clk25", 50, False), "synth_ecp5", "nextpnr-ecp5",
     ("--85k", "--package", "CABGA381", "--speed", "6"), "lpf")])
def test_on_the_pins_of_a_platform(module, platform, arguments, steps, placer, options, pins, tmp_path):
    """The way of the board tops. iCEBreaker's resource puts its clock pin on a global buffer, which a pad must not."""
    boards = pytest.importorskip(f"amaranth_boards.{module}", reason="extra boards")
    found = tool(placer)
    plan = getattr(boards, platform)().build(PlatformTop(*arguments), name="top", do_build=False)
    for name in ("top.il", f"top.{pins}"):
        content = plan.files[name]
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    start(tool("yosys"), "-q", "-p", f"read_rtlil top.il; {steps} -top top -json top.json", folder=tmp_path)
    log = start(found, *options, "--json", "top.json", f"--{pins}", f"top.{pins}", folder=tmp_path)
    assert re.findall(r"Derived frequency constraint of ([\d.]+) MHz", log) == [f"{arguments[2]:.1f}"]
    assert re.search(rf"PASS at {arguments[2]}.00 MHz", log)


@pytest.mark.slow
def test_icebreakers_clock_pin_needs_pad(tmp_path):
    """Why `Pll` has ``pad``: pin 35 belongs to the generator."""
    (tmp_path / "pins.pcf").write_text(ICE40_PINS.format(35))
    found = tool("nextpnr-ice40")
    synthesise("ice40_core", tmp_path)
    with pytest.raises(AssertionError, match="conflicts with input"):
        start(found, "--up5k", "--package", "sg48", "--json", "top.json", "--pcf", "pins.pcf", folder=tmp_path)


@pytest.mark.slow
def test_place_gowin(tmp_path):
    (tmp_path / "pins.cst").write_text(GOWIN_PINS)
    (tmp_path / "clocks.sdc").write_text(GOWIN_CLOCKS)
    found = tool("nextpnr-himbaechel")
    synthesise("gowin", tmp_path)
    log = start(found, "--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C", "--vopt", "cst=pins.cst",
                "--sdc", "clocks.sdc", "--json", "top.json", "--write", "placed.json", folder=tmp_path)
    assert "constraining clock net 'clk' to 54.00 MHz" in log and "Derived" not in log
    assert "PASS at 54.00 MHz" in log
    packer = Path(found.path).parent / "gowin_pack"
    if not packer.exists():
        pytest.skip("placed; gowin_pack is not installed (apycula)")
    done = subprocess.run([packer, "-d", "GW1N-9C", "-o", "top.fs", "placed.json"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "top.fs").stat().st_size > 100_000
