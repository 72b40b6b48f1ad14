"""``bitkiln bitstream``: from a design to a file that a board can be loaded with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from . import complete
from .common import (
    EngineName,
    Json,
    Modes,
    Pipeline,
    Preset,
    command,
    echo_json,
    parse_settings,
    progress,
    table,
)

BoardName = Annotated[str, typer.Option("--board", help="Board (`bitkiln board`).", show_default=False,
                                            autocompletion=complete.boards)]
Rows = Annotated[int | None, typer.Option(help="Rows of the array.", show_default="the board's")]
Columns = Annotated[int | None, typer.Option(help="Columns of the array.", show_default="the board's")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A key of the design: output.rules=[raw]; may be "
                                                                  "repeated.")]


def register(app: typer.Typer) -> None:
    command(app, bitstream, "bitkiln bitstream --board icebreaker",
            "bitkiln bitstream --board ulx3s --engine matmul_core --modes fp4,int8 --rows 4 --columns 4",
            "bitkiln bitstream my.yaml --board ecpix5 --clock 50")


def design_of(board: str, design: Path | None, preset: str | None, engine: str | None, modes: str | None,
              rows: int | None, columns: int | None, pipeline: int | None, settings: list[str] | None) -> tuple:
    """The board and the design that a command line names."""
    from ..boards.board import board as find
    from ..flow.bitstream import board_design

    found = find(board)
    cli = parse_settings(settings)
    listed = None if modes is None else [mode.strip() for mode in modes.split(",") if mode.strip()]
    for key, value, option in (("engine", engine, "--engine"), ("modes", listed, "--modes"),
                               ("array.rows", rows, "--rows"), ("array.columns", columns, "--columns"),
                               ("pipeline", pipeline, "--pipeline")):
        if value is not None:
            cli[key] = (value, option)
    return found, board_design(found, design, cli=cli, preset=preset)


def bitstream(
    design: Annotated[Path | None, typer.Argument(metavar="[FILE.yaml]", help="Design file.",
                                                  show_default="the board's own design")] = None,
    board: BoardName = "",
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None, preset: Preset = None,
    pipeline: Pipeline = None, settings: Settings = None,
    clock: Annotated[float | None, typer.Option(help="Clock of the core [MHz].", show_default="the board's")] = None,
    baud: Annotated[int | None, typer.Option(help="Bits a second of the serial line.", show_default="1000000")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=99, help="Place-and-route runs, until one meets the clock.")] = 3,
    dsp: Annotated[bool, typer.Option("--dsp", help="Allow DSP blocks (always on iCE40).")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run the tools even where the result is there.")] = False,
    load: Annotated[bool, typer.Option("--program", help="Load it into the board that is plugged in.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.",
                                                show_default="build/<board>-<name>-<hash>")] = None,
    json: Json = False,
) -> None:
    """Synthesise, place, route and pack a core behind its serial link for a board; say what it takes, how fast it is.

    A design that is too large or too slow is refused, with the largest array that fits or the clock that can be
    reached. For boards with AMD FPGAs a Vivado project is written (Tcl and constraints); Vivado is not run.
    """
    if not board:
        from ..boards.board import board_names

        raise BitkilnError("missing option", where="bitkiln bitstream --board", expected=", ".join(board_names()),
                           help="for example `bitkiln bitstream --board ulx3s`")
    found, resolved = design_of(board, design, preset, engine, modes, rows, columns, pipeline, settings)
    from ..flow.bitstream import bitstream as make

    made = make(found, resolved, folder=output, clock_mhz=clock, baud=baud, seeds=range(1, seeds + 1), dsp=dsp,
                force=force, progress=progress)
    if load:
        from ..flow.program import program

        program(found, made, progress)
    if json:
        echo_json({"board": found.name, "name": resolved.name, "digest": resolved.digest, "config": resolved.config,
                   "folder": str(made.folder), "file": str(made.file) if made.file else None,
                   "clock_mhz": made.clock_mhz, "fmax_mhz": made.fmax_mhz, "cached": made.cached,
                   "devices": [{**vars(each), "share": round(each.share, 4)} for each in made.devices],
                   "files": [str(path) for path in made.files],
                   "metrics": made.metrics.as_dict() if made.metrics else None})
        return
    if made.devices:
        rows_shown = [[each.kind, f"{each.used:,}", f"{each.available:,}", f"{each.share:.0%}"]
                      for each in made.devices]
        rows_shown.append(["clock [MHz]", f"{made.clock_mhz:g}", f"{made.fmax_mhz:g} reached", "met"])
        table(f"{resolved.name} on {found.title}", ["", "used", "available", ""], rows_shown, right=(1, 2, 3))
        typer.echo(f"written: {made.file}" + (" (was there)" if made.cached else ""))
        if not load:
            task = "run digits" if resolved.engine.name == "matmul_core" else "check"
            typer.echo(f"load it:  {found.program[0].format(file=made.file)}\n"
                       f"run it:   bitkiln board {task} --board {found.name} --port PORT --bitstream {made.folder}")
        return
    typer.echo(f"written: a Vivado project in {made.folder}/ (not run here)")
    typer.echo(f"make the bitstream:  cd {made.folder} && vivado -mode batch -source top.tcl")
