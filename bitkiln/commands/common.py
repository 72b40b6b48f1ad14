"""What the subcommands share: design options, output, examples."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .bars import close, colours, say

if TYPE_CHECKING:
    from ..config import Resolved

__all__ = ["command", "examples", "echo_json", "table", "notice", "progress", "parse_settings", "resolve_design",
           "Json", "Bits", "Columns", "Depth", "Design", "EngineName", "Kind", "Lanes", "Modes", "Output", "Pipeline",
           "Preset", "Rows", "Seed"]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Design = Annotated[str | None, typer.Argument(metavar="[FILE.yaml|PE]", help="Design file or PE name.",
                                              autocompletion=complete.designs)]
Lanes = Annotated[int | None, typer.Option(help="Products per cycle.", show_default="4")]
Depth = Annotated[int | None, typer.Option(help="Products that an exact sum holds.", show_default="1024")]
Kind = Annotated[str | None, typer.Option("--accumulator", help="exact, fp32 or int32.",
                                          show_default="exact; fp32 with bf16 or fp16",
                                          autocompletion=complete.accumulators)]
Bits = Annotated[int | None, typer.Option("--accumulator-bits", help="Exact width instead of the sizing rule; "
                                                                     "wraps with a sticky overflow flag.")]
Pipeline = Annotated[int | None, typer.Option(help="Register stages before the accumulator.", show_default="0")]
Output = Annotated[str | None, typer.Option("--output-format", help="Round the sum into this format on port o.",
                                            autocompletion=complete.formats)]
Seed = Annotated[int, typer.Option(help="Seed of all random vectors.")]
EngineName = Annotated[str | None, typer.Option("--engine", help="Engine of the registry: dot_unit, morphable_pe, "
                                                                 "matmul_array, matmul_core, bitserial_array, "
                                                                 "dequant_core, codebook_dequantiser, codebook_array, "
                                                                 "sparse_side, map_search or spconv.",
                                               autocompletion=complete.engines)]
Modes = Annotated[str | None, typer.Option(help="Modes of a switchable engine, with commas: fp4,posit8_0,int8.",
                                           autocompletion=complete.modes)]
Rows = Annotated[int | None, typer.Option(help="Rows of an array.", show_default="4")]
Columns = Annotated[int | None, typer.Option(help="Columns of an array.", show_default="4")]
Preset = Annotated[str | None, typer.Option(help="Start from a named preset (`bitkiln presets`).",
                                            autocompletion=complete.presets)]


def examples(*lines: str) -> str:
    """Epilog of a command's help."""
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def command(app: typer.Typer, function: Callable[..., None], *example_lines: str, name: str | None = None) -> None:
    """Add ``function`` as a command; its docstring's lines are joined, since Rich would keep the breaks."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, help=text, epilog=examples(*example_lines))(function)


def echo_json(value: Any) -> None:
    """Print ``value`` as JSON (``NaN`` and infinities as strings: JSON has none)."""
    typer.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):     # NumPy scalars
        value = value.item()
    if isinstance(value, float) and not -1.8e308 < value < 1.8e308:
        return str(value)
    return value


def table(title: str, columns: list[str], rows: list[list[Any]], right: tuple[int, ...] = ()) -> None:
    """Print a Rich table; plain text where stdout is no terminal (Rich honours NO_COLOR)."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=escape(title), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(escape(column), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape("-" if cell is None else str(cell)) for cell in row))
    # A pipe has no width: 80 columns would fold long cells and break grep.
    system: Any = "auto" if colours() else None
    close()
    console = Console(color_system=system) if sys.stdout.isatty() else Console(color_system=system, width=160)
    console.print(shown)


def progress(text: str) -> None:
    """What begins now, on stderr, so that stdout carries results only."""
    say(text)


def notice(text: str) -> None:
    """A line on stderr that everybody should see, also where progress is not shown."""
    close()
    sys.stdout.flush()          # behind the results, where both go into one log
    print(text, file=sys.stderr, flush=True)


def parse_settings(settings: list[str] | None) -> dict[str, tuple[Any, str]]:
    """Options ``--set KEY=VALUE`` as dotted keys of a design description, each with the option it came from."""
    from ..models.errors import BitkilnError
    from ..sweep_schema import raise_all
    from ..yamlfile import parse_yaml

    found: dict[str, tuple[Any, str]] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BitkilnError("not KEY=VALUE", where="--set", got=text, expected="for example array.rows=8")
        try:
            document = parse_yaml(f"value: {value}", "--set")
            raise_all(document.errors)
            given = document.data["value"]
        except BitkilnError as error:
            raise BitkilnError("not a value", where=f"--set {key.strip()}", got=value,
                               expected=error.expected or "a number, a name, or [a, list]") from None
        if not value.strip() or len(document.data) > 1:
            raise BitkilnError("not KEY=VALUE", where="--set", got=text, expected="for example array.rows=8")
        found[key.strip()] = (given, f"--set {key.strip()}")
    return found


def resolve_design(target: str | None, *, preset: str | None = None, pe: str | None = None,
                   engine: str | None = None, lanes: int | None = None, depth: int | None = None,
                   kind: str | None = None, bits: int | None = None, pipeline: int | None = None,
                   output: str | None = None, name: str | None = None, modes: str | None = None,
                   rows: int | None = None, columns: int | None = None,
                   extra: dict[str, tuple[Any, str]] | None = None) -> Resolved:
    """The design that a command line describes.

    ``target`` is a YAML file (by its suffix or because it exists) or a PE name; options given win over
    the file, the file over the preset, the preset over the defaults. An engine alone stands for its example.
    ``extra`` has further dotted keys, each with its value and the option it came from.
    """
    from ..config import load_design
    from ..engines import engine as find_engine

    path = None
    if target is not None and (target.lower().endswith((".yaml", ".yml")) or "/" in target):
        path = Path(target)
    elif target is not None:
        pe = pe or target
    cli: dict[str, Any] = {}
    if engine is not None and target is pe is preset is modes is None and not extra:
        cli = {key: (value, "--engine") for key, value in find_engine(engine, "--engine").example.items()}
    listed = None if modes is None else [mode.strip() for mode in modes.split(",") if mode.strip()]
    for key, value, option in (("engine", engine, "--engine"), ("pe", pe, "PE"), ("modes", listed, "--modes"),
                               ("array.rows", rows, "--rows"), ("array.columns", columns, "--columns"),
                               ("lanes", lanes, "--lanes"),
                               ("accumulator.depth", depth, "--depth"), ("accumulator.kind", kind, "--accumulator"),
                               ("accumulator.bits", bits, "--accumulator-bits"),
                               ("pipeline", pipeline, "--pipeline"), ("output.format", output, "--output-format"),
                               ("name", name, "--name")):
        if value is not None:
            cli[key] = (value, option)
    return load_design(path, preset=preset, cli=cli | (extra or {}))
