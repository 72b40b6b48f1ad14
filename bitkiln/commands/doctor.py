"""``bitkiln doctor``: which tools are here."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass

import typer

from ..models.errors import MISSING_TOOL
from .common import Json, command, echo_json, table


def register(app: typer.Typer) -> None:
    command(app, doctor, "bitkiln doctor", "bitkiln doctor --json")


def doctor(json: Json = False) -> None:
    """List the tools: version, where found, needed for what, how to get them.

    Exit code 3 when a tool that `bitkiln sim` needs is missing.
    """
    from ..sim.toolchain import doctor as inspect

    rows = [asdict(row) if is_dataclass(row) else dict(row) for row in inspect()]
    if json:
        echo_json(rows)
    else:
        columns = list(rows[0])
        table("tools", columns, [[row[column] for column in columns] for row in rows])
    if any(row.get("required") and not row.get("version") for row in rows):
        raise typer.Exit(MISSING_TOOL)
