"""``bitkiln formats``: the number formats."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import complete
from .common import Json, command, echo_json, examples, table


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        invoke_without_command=True,
        epilog=examples("bitkiln formats", "bitkiln formats show fp8_e4m3", "bitkiln formats show posit4_1 --json"),
    )
    group.callback()(list_formats)
    command(group, show, "bitkiln formats show fp8_e4m3", "bitkiln formats show mxfp4 --json", name="show")
    app.add_typer(group, name="formats")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def list_formats(
    context: typer.Context,
    family: Annotated[str | None, typer.Option(help="Only this family.", autocompletion=complete.families)] = None,
    json: Json = False,
) -> None:
    """List the number formats; `show NAME` describes one."""
    if context.invoked_subcommand is not None:
        return
    from ..models.errors import BitkilnError, nearest
    from ..models.formats import list_formats as every_format

    rows = every_format()
    families = list(dict.fromkeys(row["family"] for row in rows))
    if family is not None and family not in families:
        raise BitkilnError("unknown family", where="--family", got=family, expected=", ".join(families),
                           help=nearest(family, families))
    rows = [row for row in rows if family in (None, row["family"])]
    if json:
        echo_json(rows)
        return
    table("number formats", ["name", "family", "bits", "min > 0", "max", "specials", "what"],
          [[row["name"], row["family"], row["bits"], _number(row["min_positive"]), _number(row["max"]),
            row["specials"], row["summary"]] for row in rows], right=(2, 3, 4))
    typer.echo(f"{len(rows)} formats; `bitkiln formats show NAME` tells more, own ones are defined in YAML")


def show(
    name: Annotated[str, typer.Argument(help="Format name.", autocompletion=complete.formats)],
    json: Json = False,
) -> None:
    """Range, precision, specials and parameters of a format; the whole value table up to 6 bits."""
    from ..models.formats import describe

    facts = describe(name)
    if json:
        echo_json(facts)
        return
    values = facts.pop("table", None)
    table(facts["name"], ["property", "value"], [[key.replace("_", " "), _shown(value)]
                                                 for key, value in facts.items() if value not in ([], None, {})])
    if values:
        table("values", ["code", "bits", "value"],
              [[f"0x{row['code']:02x}", row["binary"], row["special"] or f"{row['value']:g}"] for row in values],
              right=(2,))


def _shown(value: Any) -> str:
    """Values of a fact as text; special codes in hexadecimal."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_codes(item) if key in ('nan', 'inf', 'illegal') else _shown(item)}"
                         for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_shown(item) for item in value)
    return str(value)


def _codes(codes: list[int]) -> str:
    return " ".join(f"0x{code:02x}" for code in codes)
