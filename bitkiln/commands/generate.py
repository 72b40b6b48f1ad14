"""``bitkiln generate``: Verilog, sidecar, test bench and datasheet of one design."""

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
)
from .steps import design_words, next_step


def register(app: typer.Typer) -> None:
    command(app, generate, "bitkiln generate my.yaml", "bitkiln generate --pe int8xfp4 --lanes 8 -o cores/",
            "bitkiln generate --engine matmul_core --modes fp4,posit8_0,int8",
            "bitkiln generate --pe fp4 --package fusesoc,litex")


def generate(
    design: Design = None,
    pe: Annotated[str | None, typer.Option("--pe", help="Format or activation x weight.",
                                           autocompletion=complete.units)] = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None,
    preset: Preset = None, lanes: Lanes = None, depth: Depth = None, accumulator: Kind = None, bits: Bits = None,
    pipeline: Pipeline = None, output_format: Output = None,
    name: Annotated[str | None, typer.Option(help="Verilog module name.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.",
                                                show_default="build/<name>-<hash>")] = None,
    vectors: Annotated[int, typer.Option(min=16, max=1_000_000, help="Clock cycles in the test bench.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the test bench's stimuli.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace files of another design in the folder.")] = False,
    package: Annotated[str | None, typer.Option("--package", help="Files for other flows, with commas: fusesoc, "
                                                "fusesoc-generator, librelane, siliconcompiler, litex, vivado, "
                                                "systemrdl, ipxact, tinytapeout; or all.",
                                                autocompletion=complete.packages)] = None,
    json: Json = False,
) -> None:
    """Write one self-contained Verilog file, its JSON description, a README, and what belongs to the engine:
    a self-checking test bench (units and PEs), or register headers and C driver (matmul_core).

    The Verilog has no vendor cells and is identical byte for byte between runs. The test bench needs no
    Python: it runs in Icarus, Verilator or a vendor's simulator and prints PASS or FAIL.
    """
    if design is None and pe is None and preset is None and engine is None:
        raise BitkilnError("missing argument", where="bitkiln generate",
                           expected="a YAML file, --pe, --engine or --preset",
                           help="for example `bitkiln generate --pe fp4`; `bitkiln init` writes a starter file")
    resolved = resolve_design(design, pe=pe, preset=preset, lanes=lanes, depth=depth, kind=accumulator, bits=bits,
                              pipeline=pipeline, output=output_format, engine=engine, modes=modes, rows=rows,
                              columns=columns, name=name)
    from ..flow.generate import generate as write
    from ..flow.packages.registry import chosen

    packages = [] if package is None else chosen(package, resolved.engine.name, resolved=resolved)
    files = write(resolved, output, cycles=vectors, seed=seed, force=force, packages=packages,
                  progress=progress)
    if json:
        echo_json({"name": resolved.name, "digest": resolved.digest, "config": resolved.config,
                   "folder": str(files.folder), "files": {key: str(path) for key, path in files.paths.items()}})
        return
    typer.echo(f"{resolved.name} in {files.folder}/")
    shown = {path.relative_to(files.folder).as_posix(): path for path in files.paths.values()}
    for name, path in shown.items():
        typer.echo(f"  {name:<{max(map(len, shown))}}  {path.stat().st_size:>9,} bytes")
    words = design_words(design or pe, engine=engine, modes=modes, rows=rows, columns=columns, preset=preset,
                         lanes=lanes, depth=depth, accumulator=accumulator, accumulator_bits=bits, pipeline=pipeline,
                         output_format=output_format)
    next_step("synth", *words)
