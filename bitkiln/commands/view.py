"""``bitkiln view``: waves in a viewer, with a list of their signals."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from .common import Columns, EngineName, Json, Lanes, Modes, Pipeline, Preset, Rows, Seed, command, echo_json, progress
from .complete import viewable


def register(app: typer.Typer) -> None:
    command(app, view, "bitkiln view fp4", "bitkiln view waves.fst", "bitkiln view --engine matmul_core --print",
            "bitkiln view my.yaml --viewer surfer")


def view(
    target: Annotated[str | None, typer.Argument(
        metavar="[WAVES|FOLDER|FILE.yaml|PE]", help="A wave file (.fst, .vcd, .ghw), a folder with one, or a design "
        "whose bench shall write some.", show_default="the newest waves below build/", autocompletion=viewable)] = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None, preset: Preset = None,
    lanes: Lanes = None, pipeline: Pipeline = None, seed: Seed = 0,
    viewer: Annotated[str | None, typer.Option(help="gtkwave or surfer.", show_default="what is on PATH")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")] = False,
    json: Json = False,
) -> None:
    """Open waves in GTKWave or Surfer, all ports of the core listed.

    A design is first simulated: its cocotb bench runs with waves. Without a viewer it says how to get one, and the
    exact command. With --json nothing is opened.
    """
    from ..flow.waves import WAVE_SUFFIXES, bench_waves, find_waves, newest_waves, open_viewer, viewing

    options = {"engine": engine, "modes": modes, "rows": rows, "columns": columns, "preset": preset, "lanes": lanes,
               "pipeline": pipeline}
    given = {f"--{key}": value for key, value in options.items() if value is not None}
    path = None if target is None else Path(target)
    is_file = path is not None and (path.is_dir() or path.suffix.lower() in (*WAVE_SUFFIXES, ".gtkw", ".sucl") or (
        path.is_file() and path.suffix.lower() not in (".yaml", ".yml")))
    if viewer is not None:
        viewing(Path("waves.fst"), viewer)      # before a simulation
    if path is not None and is_file:
        if given:
            raise BitkilnError("contradictory options", where=f"bitkiln view {next(iter(given))}",
                               got=str(next(iter(given.values()))), expected="none with waves that exist")
        waves = find_waves(path)
    elif target is None and not given:
        newest = newest_waves()
        if newest is None:
            raise BitkilnError("missing argument", where="bitkiln view", expected="a wave file, or a design",
                               help="for example `bitkiln view fp4`")
        waves = newest
    else:
        from .common import resolve_design

        resolved = resolve_design(target, engine=engine, modes=modes, rows=rows, columns=columns, preset=preset,
                                  lanes=lanes, pipeline=pipeline)
        waves = bench_waves(resolved, seed, progress)
    found = viewing(waves, viewer)
    if json:
        echo_json({"waves": found.waves, "lists": found.lists, "viewer": found.viewer, "command": found.command})
        return
    if show:
        typer.echo(shlex.join(found.command))
        return
    typer.echo(f"waves: {found.waves}")
    open_viewer(found)
    typer.echo(f"opened: {shlex.join(found.command)}")
