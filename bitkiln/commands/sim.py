"""``bitkiln sim``: a dot unit against its golden model, in batches, under cocotb, and with a real network."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..models.errors import FAILED, BitkilnError
from .common import (
    Bits,
    Depth,
    Json,
    Kind,
    Lanes,
    Output,
    Pipeline,
    Preset,
    Seed,
    command,
    echo_json,
    progress,
    resolve_design,
    table,
)

STEPS = ("unit", "bench", "network")


def register(app: typer.Typer) -> None:
    command(app, sim, "bitkiln sim fp4", "bitkiln sim int8xfp4 --lanes 8 --pipeline 2",
            "bitkiln sim my.yaml")


def sim(
    pe: Annotated[str | None, typer.Argument(metavar="PE", help="Format, activation x weight, or a YAML file.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine of the registry instead of a PE.")] = None,
    preset: Preset = None, lanes: Lanes = None, depth: Depth = None, accumulator: Kind = None, bits: Bits = None,
    pipeline: Pipeline = None, output: Output = None, seed: Seed = 0,
    images: Annotated[int, typer.Option(min=1, max=360, help="Digit images pushed through the RTL.")] = 360,
    json: Json = False,
) -> None:
    """Check the RTL of a processing element bit for bit against its golden model.

    Three steps: every operand pair through the dot unit (random pairs where there are too many), a cocotb
    bench of clear, enable and pipeline behaviour, and a trained digits network run layer by layer through
    the RTL. WAVES=1 writes a waveform of the cocotb bench.
    """
    if pe is None and engine is None and preset is None:
        raise BitkilnError("missing argument", where="bitkiln sim", expected="a PE or --engine",
                           help="for example `bitkiln sim fp4`")
    if pe is not None and engine is not None:
        raise BitkilnError("contradictory options", where="bitkiln sim", got="a PE and --engine",
                           expected="exactly one of them")
    if pe is None and preset is None:
        pe = "fp4"                                     # the engine's default unit
    resolved = resolve_design(pe, engine=engine, preset=preset, lanes=lanes, depth=depth, kind=accumulator,
                              bits=bits, pipeline=pipeline, output=output)
    from ..flow.simulate import simulate

    rows, started = [], time.perf_counter()
    for row in simulate(resolved, seed=seed, images=images, progress=progress):
        rows.append(row)
    passed = bool(rows) and all(row.passed for row in rows)
    total = time.perf_counter() - started
    if json:
        echo_json({"design": {"name": resolved.name, "digest": resolved.digest, "config": resolved.config},
                   "seed": seed, "passed": passed, "seconds": round(total, 2), "steps": [r.as_dict() for r in rows]})
    else:
        table(f"{resolved.name}  (seed {seed})", ["check", "checked", "mismatches", "details", "time", "result"],
              [[r.step, f"{r.checked:,} {r.unit}", f"{r.mismatches:,}", r.details, f"{r.seconds:.1f} s",
                "pass" if r.passed else "FAIL"] for r in rows], right=(1, 2, 4))
        typer.echo(f"{'PASS' if passed else 'FAIL'}: {resolved.name}: RTL "
                   f"{'equals' if passed else 'differs from'} the golden model ({total:.1f} s)")
    if not passed:
        raise typer.Exit(FAILED)
