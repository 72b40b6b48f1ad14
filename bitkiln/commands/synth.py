"""``bitkiln synth``: area and speed of a design on an FPGA family or a standard-cell library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from . import complete
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
    progress,
    resolve_design,
    table,
)
from .steps import design_words, next_step


def register(app: typer.Typer) -> None:
    command(app, synth, "bitkiln synth fp4 --target ecp5", "bitkiln synth my.yaml --liberty cells.lib.gz",
            "bitkiln synth posit8_0 --pipeline 3 --json")


def synth(
    design: Design = None,
    pe: Annotated[str | None, typer.Option("--pe", help="Format or activation x weight.",
                                           autocompletion=complete.units)] = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None,
    preset: Preset = None, lanes: Lanes = None, depth: Depth = None, accumulator: Kind = None, bits: Bits = None,
    pipeline: Pipeline = None, output_format: Output = None,
    target: Annotated[str | None, typer.Option(help="ecp5, ecp5-85k, ice40, ice40-up5k, gowin, xilinx or asic.",
                                               show_default="the file's, else ecp5",
                                               autocompletion=complete.targets)] = None,
    liberty: Annotated[list[Path] | None, typer.Option(help="Liberty file (.lib, .lib.gz); may be repeated.")] = None,
    dont_use: Annotated[list[str] | None, typer.Option(help="Cell (or glob) to avoid (asic); may be repeated.")] = None,
    booth: Annotated[bool, typer.Option("--booth", help="Booth multipliers (asic).")] = False,
    dsp: Annotated[bool, typer.Option("--dsp", help="Allow DSP blocks (FPGA).")] = False,
    sram_words: Annotated[int, typer.Option(
        min=0, help="Memories of so many words are SRAM macros, not in the area (asic); 0: none.")] = 0,
    period_ps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Delay target of ABC [ps] (asic).")] = 1000,
    seeds: Annotated[int, typer.Option(min=0, max=101, help="Place-and-route runs; 0 for none.")] = 5,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of metrics.json.",
                                                show_default="build/<name>-<hash>")] = None,
    json: Json = False,
) -> None:
    """Synthesise with Yosys, place and route with nextpnr where it can, and write metrics.json.

    Fmax is the median over the seeds, out of context. What was not measured is null, with the reason.
    Results are cached by content: a second run costs nothing.
    """
    if design is None and pe is None and preset is None and engine is None:
        raise BitkilnError("missing argument", where="bitkiln synth",
                           expected="a YAML file, a PE, --engine or --preset",
                           help="for example `bitkiln synth fp4 --target ecp5`")
    resolved = resolve_design(design, pe=pe, preset=preset, lanes=lanes, depth=depth, kind=accumulator, bits=bits,
                              pipeline=pipeline, output=output_format, engine=engine, modes=modes, rows=rows,
                              columns=columns)
    from ..flow.measure import measure

    metrics, path = measure(resolved, target=target, liberty=liberty or (), dont_use=dont_use or (),
                            booth=booth, dsp=dsp, period_ps=period_ps, sram_words=sram_words,
                            seeds=seeds, folder=output, progress=progress)
    if json:
        echo_json(metrics.as_dict())
        return
    table(f"{resolved.name} on {metrics.device}", ["metric", "value", "unit", "note"],
          [[m.name, "-" if m.value is None else f"{m.value:,}", m.unit, m.note or ""] for m in metrics.metrics],
          right=(1,))
    typer.echo(f"written: {path}")
    words = design_words(design or pe, engine=engine, modes=modes, rows=rows, columns=columns, preset=preset,
                         lanes=lanes, depth=depth, accumulator=accumulator, accumulator_bits=bits, pipeline=pipeline,
                         output_format=output_format)
    next_step("sim", *words)
