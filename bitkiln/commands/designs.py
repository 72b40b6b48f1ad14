"""``bitkiln init``, ``schema`` and ``presets``: design description files."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from .common import Json, command, echo_json, table

STARTER = "dot_int8xfp4"


def register(app: typer.Typer) -> None:
    command(app, init, "bitkiln init", "bitkiln init fp4.yaml --preset dot_fp4")
    command(app, schema, "bitkiln schema > bitkiln.schema.json")
    command(app, presets, "bitkiln presets", "bitkiln presets dot_fp4")


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("bitkiln.yaml"),
    preset: Annotated[str, typer.Option(help="Preset to start from (`bitkiln presets`).")] = STARTER,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented design description to start from."""
    from ..config import preset_text
    from ..files import write_atomically

    text = preset_text(preset)
    if path.is_dir():
        path = path / "bitkiln.yaml"
    if path.exists() and not force:
        raise BitkilnError("file exists", where=str(path), expected="a new file", help="--force replaces it")
    write_atomically(path, text)
    typer.echo(f"{path}: next `bitkiln sim {path}` or `bitkiln generate {path}`")


def schema(engine: Annotated[str, typer.Option(help="Engine whose keys to describe.")] = "dot_unit") -> None:
    """Print the JSON Schema of design descriptions, for editors that complete YAML."""
    from ..config import json_schema
    from ..engines import engine as find_engine

    typer.echo(json_module.dumps(json_schema(find_engine(engine, where="--engine").name), indent=2))


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset.")] = None,
    json: Json = False,
) -> None:
    """List the presets with their purpose, or print one."""
    from ..config import load_design, preset_names, preset_text

    if name is not None:
        if json:
            echo_json(load_design(preset=name).config if preset_text(name) else None)
        else:
            typer.echo(preset_text(name), nl=False)
        return
    rows = [(each, preset_text(each).splitlines()[0].lstrip("# ").strip()) for each in preset_names()]
    if json:
        echo_json([{"name": each, "purpose": purpose} for each, purpose in rows])
    else:
        table("presets", ["name", "purpose"], [list(row) for row in rows])
