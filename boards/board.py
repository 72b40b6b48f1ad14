"""What a board is to bitkiln: a platform with pins, a clock, a serial line, and the core that it gets by default."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bitkiln.models.errors import BitkilnError, nearest

__all__ = ["Board", "board", "board_names"]


@dataclass(frozen=True)
class Board:
    """One board. A file of this package with a ``BOARD`` is all that it takes.

    Attributes
    ----------
    name : str
        At most 12 characters.
    title : str
        As its maker calls it, with the FPGA.
    platform : callable
        Makes the Amaranth platform: pins, device, package. Called when a bitstream is made only, so that the list of
        boards needs no further package.
    family : str
        Of `pll.FAMILIES`.
    target : str
        Of `bitkiln synth`: whose area model and place and route are meant.
    clock : str
        Resource of the oscillator.
    clock_in_mhz : float
        Its frequency.
    clock_mhz : float
        Of the core; made by a PLL where it differs.
    baud : int
        Bits a second of the serial line.
    uart : str
        Resource with ``rx`` and ``tx``.
    usb : str
        How the line reaches the host.
    lights : tuple of str
        Resources of two LEDs: answers on their way, the core asks for attention.
    high : tuple of str
        Outputs that must be high.
    reset : str or None
        Resource of a button.
    capacity : mapping
        What the device has: ``lut``, ``ram``, ``dsp``, as the target's metrics call it.
    engine : str
        Of the default design.
    settings : mapping
        Keys of the default design; ``array.rows`` and so on.
    flow : str
        ``open`` (Yosys, nextpnr and a packer, run here) or ``vivado`` (a project is written).
    program : tuple of str
        Commands that load a bitstream, ``{file}`` in place of its name; the first is the one meant.
    synth : str
        More options of synthesis (DSP blocks).
    place : tuple of str
        More options of place and route.
    pad : bool
        iCE40: whether the oscillator is on the pin of the PLL.
    """

    name: str
    title: str
    platform: Callable[[], Any]
    family: str
    target: str
    clock: str
    clock_in_mhz: float
    clock_mhz: float
    baud: int
    capacity: Mapping[str, int]
    engine: str
    settings: Mapping[str, Any]
    usb: str
    uart: str = "uart"
    lights: tuple[str, ...] = ()
    high: tuple[str, ...] = ()
    reset: str | None = None
    flow: str = "open"
    program: tuple[str, ...] = ()
    synth: str = ""
    place: tuple[str, ...] = field(default=())
    pad: bool = False


@cache
def _boards() -> dict[str, Board]:
    """Every file of this package with a ``BOARD``."""
    package = importlib.import_module(__package__)
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        made = getattr(importlib.import_module(f"{__package__}.{module.name}"), "BOARD", None)
        if isinstance(made, Board):
            found[made.name] = made
    return dict(sorted(found.items()))


def board_names() -> list[str]:
    """Names of all boards."""
    return list(_boards())


def board(name: str, where: str = "--board") -> Board:
    """The board called ``name``."""
    boards = _boards()
    if name not in boards:
        raise BitkilnError("unknown board", where=where, got=name, expected=", ".join(boards),
                           help=nearest(name, boards))
    return boards[name]
