"""What ``bitkiln`` alone prints, and how ``bitkiln --help`` sorts the commands."""

from __future__ import annotations

import sys
from collections.abc import Collection

import typer

from .. import __version__
from .bars import colours

__all__ = ["PANELS", "arrange", "name_of", "page"]

# Panels of the help, in the order of a user's path.
PANELS = {
    "build hardware": ("init", "generate", "draw", "synth", "bitstream", "board"),
    "simulate": ("sim", "view"),
    "explore": ("estimate", "sweep", "assign", "calibrate", "reproduce", "bench"),
    "workloads": ("run", "quantize", "perplexity", "spconv"),
    "about": ("formats", "presets", "schema", "doctor"),
}

OTHER = "other"     # a command that no panel names

# Examples by task; a line is left out where its command does not exist.
TASKS = (
    ("see a unit checked, bit for bit, up to a network", "sim fp4"),
    ("write a design file, to be edited", "init my.yaml"),
    ("Verilog, test bench, datasheet and block diagram", "generate my.yaml"),
    ("area and clock on an FPGA or in standard cells", "synth my.yaml"),
    ("a bitstream for a board", "bitstream --board ulx3s"),
    ("accuracy against area of hundreds of designs", "sweep formats"),
    ("a trained network through the hardware", "run digits --pe posit8_0"),
    ("the number formats, and one of them", "formats show fp8_e4m3"),
)
NEXT = (("all commands", "bitkiln --help"), ("one command", "bitkiln sim --help"),
        ("tools that are here", "bitkiln doctor"), ("TAB completes names", "bitkiln --install-completion"))


def name_of(info: typer.models.CommandInfo | typer.models.TyperInfo) -> str:
    """What a command or group is called."""
    return info.name or getattr(info.callback, "__name__", "")


def arrange(app: typer.Typer) -> None:
    """Give every command and group its panel, and their order to both."""
    order = [name for names in PANELS.values() for name in names]
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    for infos in (app.registered_commands, app.registered_groups):
        for info in infos:
            info.rich_help_panel = panels.get(name_of(info), OTHER)
        infos.sort(key=lambda info: order.index(name_of(info)) if name_of(info) in order else len(order))


def page(commands: Collection[str]) -> str:
    """The short page: what this is, examples by task, where to look next."""
    bold = sys.stdout.isatty() and colours()
    shown = [(f"bitkiln {line}", task) for task, line in TASKS if line.split()[0] in commands]
    wide = max(len(line) for line, _ in shown) + 2
    lines = [f"Bitkiln {__version__}: verified hardware for low-precision arithmetic.", "",
             "From one description come Verilog, a bit-exact golden model, test benches, measured area and speed,",
             "and a datasheet. For example:", ""]
    lines += [f"  {_strong(line, bold)}{' ' * (wide - len(line))}{task}" for line, task in shown]
    lines += ["", "Where to look next:"]
    lines += [f"  {_strong(line, bold)}{' ' * (wide - len(line))}{what}" for what, line in NEXT]
    return "\n".join(lines)


def _strong(text: str, bold: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if bold else text
