"""The clock and reset of a board's top: domain ``sync`` from a pin.

::

    clock_in ──► Pll ──► clock of sync
                  │ locked
    reset_in ──► or ──► ResetHold: at once asserted, released after some microseconds ──► reset of sync

With no generator, the pin is the clock and only ``reset_in`` counts.
"""

from __future__ import annotations

import math

from amaranth.hdl import ClockDomain, Const, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.checks import check_integer

from .pll import PllSettings

__all__ = ["HOLD_US", "Pll", "ResetHold", "add_clock"]

# Block RAM of the iCE40 reads as zero for about 3 us after configuration; the others need no hold and get the same.
HOLD_US = 15
# Of a clock whose frequency is not told: 15 us at up to 273 MHz.
HOLD_CYCLES = 4096


class Pll(wiring.Component):
    """The clock generator of an FPGA as its primitive: EHXPLLL, SB_PLL40_*, rPLL or MMCME*_BASE.

    It runs from configuration on and is never reset. An Amaranth simulator cannot run it.

    Parameters
    ----------
    settings : PllSettings
    pad : bool
        iCE40 only: the reference comes straight from the pin that belongs to the generator (SB_PLL40_PAD; iCEBreaker's
        clock is on such a pin), which then cannot be read otherwise. Without, from any net (SB_PLL40_CORE).
    pin : SingleEndedPort, optional
        With ``pad``: the pin itself, in place of ``i``.

    Members
    -------
    i : In(1)
        Reference clock; with ``pad`` it must come from the pin through nothing but a plain input buffer.
    o : Out(1)
        The new clock, on a global net.
    locked : Out(1)
        High while ``o`` is what it should be; asynchronous.
    """

    def __init__(self, settings: PllSettings, pad: bool = False, pin: io.SingleEndedPort | None = None):
        self.settings, self.pad, self.pin = settings, pad, pin
        super().__init__({"i": In(1), "o": Out(1), "locked": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        parameters = {f"p_{name}": value for name, value in self.settings.parameters.items()}
        m.submodules.pll = {
            "ecp5": self._ecp5, "ice40": self._ice40, "gowin": self._gowin,
            "xilinx7": lambda p: self._mmcm(m, "MMCME2_BASE", p),
            "ultrascale+": lambda p: self._mmcm(m, "MMCME4_BASE", p),
        }[self.settings.family](parameters)
        return m

    def _ecp5(self, parameters: dict) -> Instance:
        # The loop closes through CLKOP; where that is not the clock itself it is one more net.
        second = "CLKOS_DIV" in self.settings.parameters
        feedback = Signal() if second else self.o
        outputs = {"o_CLKOP": feedback, **({"o_CLKOS": self.o} if second else {})}
        return Instance(
            # Current and resistor of the loop filter, as for every frequency in ecppll.
            "EHXPLLL", a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKOP_ENABLE="ENABLED", p_CLKOS2_ENABLE="DISABLED", p_CLKOS3_ENABLE="DISABLED",
            p_CLKOP_FPHASE=0, p_CLKOS_FPHASE=0, p_FEEDBK_PATH="CLKOP", **parameters,
            i_CLKI=self.i, i_CLKFB=feedback, **outputs, o_LOCK=self.locked,
            i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1,
            i_PLLWAKESYNC=0, i_ENCLKOP=0)

    def _ice40(self, parameters: dict) -> Instance:
        kind, pin = ("SB_PLL40_PAD", "PACKAGEPIN") if self.pad else ("SB_PLL40_CORE", "REFERENCECLK")
        return Instance(kind, p_FEEDBACK_PATH="SIMPLE", p_PLLOUT_SELECT="GENCLK", **parameters,
                        **{f"i_{pin}": self.i if self.pin is None else self.pin.io},
                        o_PLLOUTGLOBAL=self.o, o_LOCK=self.locked, i_RESETB=Const(1), i_BYPASS=Const(0))

    def _gowin(self, parameters: dict) -> Instance:
        return Instance(
            "rPLL", p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false", p_DYN_DA_EN="false",
            p_PSDA_SEL="0000", p_DUTYDA_SEL="1000", p_CLKFB_SEL="internal", p_CLKOUT_BYPASS="false", **parameters,
            i_CLKIN=self.i, o_CLKOUT=self.o, o_LOCK=self.locked, i_RESET=0, i_RESET_P=0, i_CLKFB=0,
            i_IDSEL=Const(0, 6), i_FBDSEL=Const(0, 6), i_ODSEL=Const(0, 6),
            i_PSDA=Const(0, 4), i_DUTYDA=Const(0, 4), i_FDLY=Const(0, 4))

    def _mmcm(self, m: Module, kind: str, parameters: dict) -> Instance:
        clock, feedback = Signal(), Signal()
        m.submodules.global_buffer = Instance("BUFG", i_I=clock, o_O=self.o)
        return Instance(kind, p_BANDWIDTH="OPTIMIZED", p_STARTUP_WAIT="FALSE", **parameters,
                        i_CLKIN1=self.i, i_CLKFBIN=feedback, o_CLKFBOUT=feedback, o_CLKOUT0=clock,
                        o_LOCKED=self.locked, i_RST=0, i_PWRDWN=0)


class ResetHold(wiring.Component):
    """A synchronous reset from an asynchronous one, and a while longer.

    Parameters
    ----------
    cycles : int
        Of ``clk``, counted after ``i`` has been low.

    Members
    -------
    clk : In(1)
    i : In(1)
        Asynchronous; a pulse of any width that a flip-flop's set sees counts, also while ``clk`` stands still.
    o : Out(1)
        A flip-flop of ``clk``, high from configuration on. Rises with the first edge after ``i`` rose and falls with
        edge ``cycles`` + 3 after ``i`` fell.
    """

    def __init__(self, cycles: int):
        self.cycles = check_integer(cycles, "cycles of the reset", 1, 1 << 24)
        super().__init__({"clk": In(1), "i": In(1), "o": Out(1, init=1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.hold = domain = ClockDomain("hold", local=True)
        m.d.comb += domain.clk.eq(self.clk)
        m.submodules.synchronizer = ResetSynchronizer(self.i, domain="hold")
        count = Signal(range(self.cycles + 1))
        with m.If(count == self.cycles):
            m.d.hold += self.o.eq(0)
        with m.Else():
            m.d.hold += count.eq(count + 1)
        return m


def add_clock(m: Module, clock_in: Signal | io.PortLike, settings: PllSettings | None = None,
              reset_in: Signal | None = None, *, pad: bool = False, hold_cycles: int | None = None) -> None:
    """Give a top the domain ``sync``.

    Parameters
    ----------
    m : Module
        Of the top.
    clock_in : Signal or PortLike
        The board's clock. A port gets an input buffer, except where it is the ``pad``: a platform may put the pin on a
        global buffer, from which nextpnr does not take the reference of a SB_PLL40_PAD.
    settings : PllSettings, optional
        Of the generator between the pin and the domain; without, the pin is the clock.
    reset_in : Signal, optional
        Active high, asynchronous, may bounce.
    pad : bool
        See `Pll`; means nothing to other families and without a generator.
    hold_cycles : int, optional
        Cycles for which the reset lasts after everything else is ready; else `HOLD_US` microseconds.
    """
    m.domains.sync = domain = ClockDomain("sync")
    reset = Const(0) if reset_in is None else reset_in
    pin = clock_in if isinstance(clock_in, io.PortLike) else None
    pad = pad and settings is not None and settings.family == "ice40"
    direct = pin is not None and pad
    if pin is not None and not direct:
        m.submodules.clock_buffer = buffer = io.Buffer("i", pin)
        clock_in = buffer.i
    if settings is None:
        clock = clock_in
    else:
        m.submodules.pll = pll = Pll(settings, pad, pin if direct else None)
        if not direct:
            m.d.comb += pll.i.eq(clock_in)
        clock, reset = pll.o, reset | ~pll.locked
    if hold_cycles is None:
        hold_cycles = math.ceil(HOLD_US * settings.output_mhz) if settings else HOLD_CYCLES
    m.submodules.reset_hold = hold = ResetHold(hold_cycles)
    m.d.comb += [hold.clk.eq(clock), hold.i.eq(reset), domain.clk.eq(clock), domain.rst.eq(hold.o)]
