"""``bitkiln init``, ``schema`` and ``presets``: design description files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import BitkilnError
from . import complete
from .common import Json, command, echo_json, table
from .steps import next_step

FILE = Path("bitkiln.yaml")


def register(app: typer.Typer) -> None:
    command(app, init, "bitkiln init", "bitkiln init core.yaml --engine matmul_core", "bitkiln init fp4.yaml "
            "--preset dot_fp4")
    command(app, schema, "bitkiln schema > bitkiln.schema.json")
    command(app, presets, "bitkiln presets", "bitkiln presets dot_fp4")


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = FILE,
    engine: Annotated[str | None, typer.Option(help="Engine that the file describes.", show_default="dot_unit",
                                               autocompletion=complete.engines)] = None,
    preset: Annotated[str | None, typer.Option(help="Preset to start from (`bitkiln presets`).",
                                               show_default="the engine's", autocompletion=complete.presets)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented design description to start from: every key of an engine with its default and choices."""
    from ..config import preset_text
    from ..engines import engine as find_engine
    from ..files import write_atomically

    if engine is not None and preset is not None:
        raise BitkilnError("contradictory options", where="bitkiln init", got="--engine and --preset",
                           expected="one of them: a preset has its engine")
    chosen = preset or find_engine(engine or "dot_unit", where="--engine").starter
    text = preset_text(chosen)
    if path.is_dir():
        path = path / FILE
    if path.exists() and not force:
        raise BitkilnError("file exists", where=str(path), expected="a new file", help="--force replaces it")
    write_atomically(path, text)
    if json:
        echo_json({"file": path, "preset": chosen, "next": f"bitkiln generate {path}"})
        return
    typer.echo(f"written: {path}")
    next_step("generate", path, after=f"edit {path}")


def schema(engine: Annotated[str, typer.Option(help="Engine whose keys to describe.",
                                               autocompletion=complete.engines)] = "dot_unit",
           json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = False) -> None:
    """Print the JSON Schema of design descriptions, for editors that complete YAML."""
    from ..config import json_schema
    from ..engines import engine as find_engine

    echo_json(json_schema(find_engine(engine, where="--engine").name))


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset.", autocompletion=complete.presets)] = None,
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
