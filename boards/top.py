"""The top of a board: clock, reset, pins, lights, and in the middle the core behind its link.

::

    oscillator ─► PLL ─► clock, reset ─► ┌────────────────┐
    rx ─────────────────────────────────►│ LinkedCore     ├─► lights
    tx ◄─────────────────────────────────┤ (its own file) │
                                         └────────────────┘

The core is converted to Verilog by `bitkiln.hw.emit`, like everywhere; Amaranth's platform adds the pins, the
constraints and the scripts of the tools.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io

from bitkiln.hw.emit import to_verilog
from bitkiln.hw.link.linked import LinkedCore, link_design
from bitkiln.models.design.link import Identity, divisor_of

from .board import Board
from .clocking import add_clock
from .pll import PllSettings, pll_settings

__all__ = ["BoardTop", "clock_of", "identity_of", "plan"]

CORE = "linked_core"
# A quarter of a second at 50 MHz: an answer takes a few hundred microseconds, which nobody sees.
STRETCH_BITS = 22


def clock_of(board: Board, clock_mhz: float | None = None) -> PllSettings | None:
    """Settings of the clock generator; None where the oscillator itself is the clock.

    Raises
    ------
    BitkilnError
        The PLL cannot make the frequency.
    """
    wanted = board.clock_mhz if clock_mhz is None else clock_mhz
    if wanted == board.clock_in_mhz:
        return None
    return pll_settings(board.family, board.clock_in_mhz, wanted)


def identity_of(board: Board, design: Any, digest: str, clock_mhz: float | None = None,
                baud: int | None = None) -> Identity:
    """What the board will say of itself.

    Parameters
    ----------
    design : MatmulDesign, DequantDesign or SpConvDesign
    digest : str
        12 hex digits.
    clock_mhz, baud : optional
        In place of the board's own.
    """
    settings = clock_of(board, clock_mhz)
    mhz = settings.output_mhz if settings else Fraction(board.clock_in_mhz)
    hz = round(mhz * 1_000_000)
    return Identity(board.name, digest, hz, divisor_of(hz, baud or board.baud), link_design(design))


class BoardTop(Elaboratable):
    """Everything inside the FPGA.

    Parameters
    ----------
    board : Board
    settings : PllSettings or None
    """

    def __init__(self, board: Board, settings: PllSettings | None):
        self.board, self.settings = board, settings

    def elaborate(self, platform) -> Module:
        m = Module()
        board = self.board

        def port(name: str, invert: bool = False) -> io.PortLike:
            """``name``, ``name:number``, and with ``.pin`` a part of it."""
            name, _, part = name.partition(".")
            name, _, number = name.partition(":")
            found = platform.request(name, int(number or 0), dir="-")
            return getattr(found, part) if part else found

        def buffer(direction: str, found: io.PortLike, name: str) -> io.Buffer:
            m.submodules[name] = made = io.Buffer(direction, found)
            return made

        clock, reset = Signal(), None
        m.d.comb += clock.eq(buffer("i", port(board.clock), "clock_buffer").i)
        if board.reset is not None:
            reset = buffer("i", port(board.reset), "reset_buffer").i
        add_clock(m, clock, self.settings, reset, pad=board.pad)

        line = platform.request(board.uart, 0, dir="-")
        receive, send = buffer("i", line.rx, "rx_buffer"), buffer("o", line.tx, "tx_buffer")
        answering, busy, lit = Signal(), Signal(), Signal(STRETCH_BITS)
        m.submodules.core = Instance(CORE, i_clk=ClockSignal(), i_rst=ResetSignal(), i_rx=receive.i, o_tx=send.o,
                                     o_answering=answering, o_busy=busy)
        with m.If(answering):
            m.d.sync += lit.eq(-1)
        with m.Elif(lit != 0):
            m.d.sync += lit.eq(lit - 1)
        for name, value in zip(board.lights, (lit != 0, busy), strict=False):
            light = buffer("o", port(name), f"light_{name.translate(str.maketrans(':.', '__'))}")
            m.d.comb += light.o.eq(value)
        for name in board.high:
            m.d.comb += buffer("o", port(name), f"high_{name}").o.eq(1)
        return m


def plan(board: Board, design: Any, identity: Identity, settings: PllSettings | None, **options: str) -> Any:
    """Files and commands of a bitstream: Amaranth's build plan, with the core's Verilog among its files.

    Parameters
    ----------
    options : str
        Of the platform (``synth_opts``, ``nextpnr_opts``, ...).

    Returns
    -------
    tuple of (platform, amaranth.build.BuildPlan)
    """
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    platform = board.platform()
    if board.pad and settings is not None:
        # The pin belongs to the PLL, which has a global buffer of its own.
        platform.lookup(board.clock).attrs.pop("GLOBAL", None)
    core = LinkedCore(design, identity)
    platform.add_file(f"{CORE}.v", to_verilog(core, CORE))
    return platform, platform.build(BoardTop(board, settings), name="top", do_build=False, **options)
