"""``bitkiln bench``: the speed and size targets of a part, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import FAILED
from . import complete
from .common import Json, command, echo_json, progress


def register(app: typer.Typer) -> None:
    command(app, bench, "bitkiln bench foundation", "bitkiln bench foundation --only area_vs_peers")


def bench(
    suite: Annotated[str, typer.Argument(help="Suite: a file of benchmarks/ with a list of modules.",
                                         autocompletion=complete.suites)],
    only: Annotated[str | None, typer.Option(help="One module of the suite.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file.",
                                                show_default="build/bench/<suite>.json")] = None,
    json: Json = False,
) -> None:
    """Measure every target of a suite: target, measured value, command, pass or miss.

    Benchmarks are part of the source tree, so this command runs from a checkout.
    """
    from ..report.bench import run_suite
    from ..report.table import print_targets

    rows = run_suite(suite, only=only, progress=progress)
    path = output or Path("build") / "bench" / f"{suite}.json"
    print_targets(rows, path, title=f"benchmarks: {suite}", quiet=json)
    if json:
        echo_json([row.as_dict() for row in rows])
    if not all(row.passed for row in rows if row.passed is not None):
        raise typer.Exit(FAILED)
