"""``bitkiln reproduce``: papers' claims beside ours."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import complete
from .common import Json, command, echo_json, progress, table


def register(app: typer.Typer) -> None:
    command(app, reproduce_command, "bitkiln reproduce", "bitkiln reproduce --only fp8-int8 --measure",
            "bitkiln reproduce --only arrays --rtl", "bitkiln reproduce --json", name="reproduce")


def reproduce_command(
    only: Annotated[list[str] | None, typer.Option(help="One item (--list); may be repeated.",
                                                    autocompletion=complete.reproduced)] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Synthesise for ECP5 beside predicting areas.")] = False,
    rtl: Annotated[bool, typer.Option("--rtl", help="Run the product of 64 x 64 x 64 in RTL.")] = False,
    words: Annotated[int, typer.Option(min=0, max=5000, help="Words of g2p for the front of formats; 0 takes what the "
                                                             "store has (200 words).")] = 0,
    listing: Annotated[bool, typer.Option("--list", help="List the items.")] = False,
    json: Json = False,
) -> None:
    """One table of what papers claim and what comes out here, each row with its assumptions.

    Published figures are of other technologies and are never asserted. Ours say whether they are exact, predicted by a
    model with an interval, or measured; what cannot be compared says why.
    """
    from ..flow.reproduce import Options, item_names, reproduce

    if listing:
        echo_json(item_names()) if json else typer.echo("\n".join(item_names()))
        return
    line = "bitkiln reproduce" + "".join(f" --only {name}" for name in only or ()) + " --measure" * measure + \
        " --rtl" * rtl + (f" --words {words}" if words else "")
    found = reproduce(only, Options(measure, rtl, words, progress), line)
    if json:
        echo_json(found)
        return
    for item in found["items"]:
        table(f"{item['name']}: {item['title']} ({item['seconds']:g} s)",
              ["what", "published", "ours", "kind", "where from", "assumptions"], [_row(row) for row in item["rows"]])
        for source in dict.fromkeys(row["published"]["source"] for row in item["rows"]):
            typer.echo(f"published: {source}")
        typer.echo()


def _row(row: dict[str, Any]) -> list[Any]:
    ours, published = row["ours"], row["published"]
    if ours["value"] is None:
        value = f"- [{ours['unit']}]"
    else:
        interval = "" if ours["low"] is None else f" ({ours['low']:,.4g} to {ours['high']:,.4g})"
        value = f"{_short(ours['value'])}{interval} {ours['unit']}" + (f", {row['verdict']}" if row["verdict"] else "")
    return [row["what"], published["text"], value, ours["kind"], ours["source"],
            row["assumptions"]]


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
