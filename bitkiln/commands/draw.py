"""``bitkiln draw``: the block diagram of a design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from .bars import work
from .common import (
    Bits,
    Columns,
    Depth,
    Design,
    EngineName,
    Json,
    Kind,
    Lanes,
    Modes,
    Output,
    Pipeline,
    Preset,
    Rows,
    command,
    echo_json,
    resolve_design,
)


def register(app: typer.Typer) -> None:
    command(app, draw, "bitkiln draw my.yaml", "bitkiln draw int8xfp4 --lanes 8 -o unit.svg",
            "bitkiln draw --engine matmul_core --modes fp4,int8 --rows 8 -o - > core.svg")


def draw(
    design: Design = None, engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None,
    preset: Preset = None, lanes: Lanes = None, depth: Depth = None, accumulator: Kind = None, bits: Bits = None,
    pipeline: Pipeline = None, output_format: Output = None,
    name: Annotated[str | None, typer.Option(help="Verilog module name.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write (.svg); - for standard output.",
                                                show_default="build/<name>-<hash>/<name>.svg")] = None,
    json: Json = False,
) -> None:
    """Draw the block diagram of a design: decoders, multipliers, memories and streams, each with its widths.

    An SVG picture without scripts and fonts, light on paper and dark on a dark screen. `bitkiln generate` writes it
    beside the core and puts it into the datasheet.
    """
    if design is None and engine is None and preset is None:
        raise BitkilnError("missing argument", where="bitkiln draw", expected="a YAML file, a PE, --engine or --preset",
                           help="for example `bitkiln draw fp4`")
    to_stdout = output is not None and str(output) == "-"
    if to_stdout and json:
        raise BitkilnError("contradictory options", where="bitkiln draw --json", got="-o -",
                           expected="a file: standard output carries the JSON")
    if output is not None and not to_stdout and output.suffix.lower() != ".svg":
        raise BitkilnError("unknown kind of file", where="-o", got=output.name, expected="a name that ends in .svg")
    resolved = resolve_design(design, engine=engine, modes=modes, rows=rows, columns=columns, preset=preset,
                              lanes=lanes, depth=depth, kind=accumulator, bits=bits, pipeline=pipeline,
                              output=output_format, name=name)
    from ..files import write_atomically
    from ..report.diagram import draw as drawing

    work(f"{resolved.name}: block diagram")
    svg = drawing(resolved)
    if to_stdout:
        typer.echo(svg, nl=False)
        return
    path = output or resolved.build_folder() / f"{resolved.name}.svg"
    write_atomically(path, svg)
    if json:
        echo_json({"name": resolved.name, "digest": resolved.digest, "config": resolved.config, "file": path})
    else:
        typer.echo(f"written: {path}")
