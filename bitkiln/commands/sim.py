"""``bitkiln sim``: a design against its golden model, in batches, under cocotb, and with a real network."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..models.errors import FAILED, BitkilnError
from . import complete
from .common import (
    Bits,
    Columns,
    Depth,
    EngineName,
    Json,
    Kind,
    Lanes,
    Modes,
    Output,
    Pipeline,
    Preset,
    Rows,
    Seed,
    command,
    echo_json,
    progress,
    resolve_design,
    table,
)
from .steps import design_words, next_step


def register(app: typer.Typer) -> None:
    command(app, sim, "bitkiln sim fp4", "bitkiln sim int8xfp4 --lanes 8 --pipeline 2",
            "bitkiln sim --engine matmul_core --modes fp4,posit8_0,int8", "bitkiln sim my.yaml")


def sim(
    pe: Annotated[str | None, typer.Argument(metavar="PE", help="Format, activation x weight, or a YAML file.",
                                                autocompletion=complete.designs)] = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None,
    preset: Preset = None, lanes: Lanes = None, depth: Depth = None, accumulator: Kind = None, bits: Bits = None,
    pipeline: Pipeline = None, output: Output = None, seed: Seed = 0,
    jobs: Annotated[int | None, typer.Option(min=1, max=100_000, help="Random jobs (matmul_core).",
                                             show_default="24")] = None,
    images: Annotated[int, typer.Option(min=1, max=360, help="Digit images pushed through the RTL.")] = 360,
    json: Json = False,
) -> None:
    """Check the RTL of a design bit for bit against its golden model.

    A dot unit or PE: every operand pair (random pairs where there are too many), a cocotb bench of clear,
    enable and pipeline behaviour, and trained digits networks layer by layer through the RTL. An array:
    random matrix products. The core: random jobs with stalls on every channel, under cocotb and at full
    speed, then the digits MLP with mixed modes. WAVES=1 writes a waveform of the cocotb bench.
    """
    if pe is None and engine is None and preset is None:
        raise BitkilnError("missing argument", where="bitkiln sim", expected="a PE or --engine",
                           help="for example `bitkiln sim fp4`")
    if pe is not None and engine is not None:
        raise BitkilnError("contradictory options", where="bitkiln sim", got="a PE and --engine",
                           expected="exactly one of them")
    resolved = resolve_design(pe, engine=engine, preset=preset, lanes=lanes, depth=depth, kind=accumulator,
                              bits=bits, pipeline=pipeline, output=output, modes=modes, rows=rows, columns=columns)
    from ..flow.simulate import Options, simulate

    words = design_words(pe, engine=engine, modes=modes, rows=rows, columns=columns, preset=preset, lanes=lanes,
                         pipeline=pipeline)
    started = time.perf_counter()
    steps = list(simulate(resolved, Options(seed=seed, images=images, jobs=jobs, progress=progress)))
    passed = bool(steps) and all(step.passed for step in steps)
    total = time.perf_counter() - started
    if json:
        echo_json({"design": {"name": resolved.name, "digest": resolved.digest, "config": resolved.config},
                   "seed": seed, "passed": passed, "seconds": round(total, 2), "steps": [r.as_dict() for r in steps]})
    else:
        table(f"{resolved.name}  (seed {seed})", ["check", "checked", "mismatches", "details", "time", "result"],
              [[r.step, f"{r.checked:,} {r.unit}", f"{r.mismatches:,}", r.details, f"{r.seconds:.1f} s",
                "pass" if r.passed else "FAIL"] for r in steps], right=(1, 2, 4))
        typer.echo(f"{'PASS' if passed else 'FAIL'}: {resolved.name}: RTL "
                   f"{'equals' if passed else 'differs from'} the golden model ({total:.1f} s)")
    if not passed:
        raise typer.Exit(FAILED)
    if not json:
        _tell_next(pe, words)


def _tell_next(pe: str | None, words: list[str]) -> None:
    """After a file: the other designs around it; after a name: a file of one's own."""
    if pe is not None and pe.lower().endswith((".yaml", ".yml")):
        next_step("sweep", "formats", make="pareto")
    else:
        next_step("init", "my.yaml", *(["--engine", words[words.index("--engine") + 1]] if "--engine" in words else []))
