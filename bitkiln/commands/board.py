"""``bitkiln board``: the boards, and what runs on one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..models.errors import FAILED, BitkilnError, nearest
from .bitstream import BoardName, Columns, Rows, Settings, design_of
from .common import EngineName, Json, Modes, Pipeline, Preset, Seed, command, echo_json, examples, progress, table

NETWORKS = {"digits": "mlp", "mlp": "mlp", "cnn": "cnn"}
IMAGES = {"mlp": 16, "cnn": 2}
MAX_IMAGES = 360

Port = Annotated[str | None, typer.Option(help="Serial port of the board: /dev/ttyUSB0, COM5, socket://host:1234.")]
Baud = Annotated[int | None, typer.Option(help="Bits a second.", show_default="the board's")]
Simulate = Annotated[bool, typer.Option("--simulate", help="Simulate the board down to its serial pins.")]
DesignFile = Annotated[Path | None, typer.Option("--design", help="Design file that the board was built from.",
                                                 show_default="the board's own design")]
Folder = Annotated[Path | None, typer.Option(help="Folder of the bitstream that the board was loaded with; has the "
                                                  "design and the bit rate.")]
Noise = Annotated[float, typer.Option(min=0, max=0.005, help="Lose, repeat and damage bytes on purpose, each with this "
                                                            "probability.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(invoke_without_command=True, epilog=examples(
        "bitkiln board", "bitkiln board info --port /dev/ttyUSB0", "bitkiln board run digits --board ulx3s --simulate"))
    group.callback()(list_boards)
    command(group, info, "bitkiln board info --port /dev/ttyUSB0", name="info")
    command(group, run, "bitkiln board run digits --board icebreaker --simulate",
            "bitkiln board run digits --board ulx3s --port /dev/ttyUSB0", name="run")
    command(group, check, "bitkiln board check --board ulx3s --simulate",
            "bitkiln board check --board ulx3s --engine dequant_core --simulate --noise 0.001",
            "bitkiln board check --board ulx3s --engine spconv --port /dev/ttyUSB0", name="check")
    app.add_typer(group, name="board")


def list_boards(context: typer.Context, json: Json = False) -> None:
    """List the boards; `info` asks one who it is, `check` and `run` put jobs on one, real or simulated."""
    if context.invoked_subcommand is not None:
        return
    from ..boards.board import board, board_names

    boards = [board(name) for name in board_names()]
    if json:
        echo_json([{"name": each.name, "title": each.title, "clock_mhz": each.clock_mhz, "baud": each.baud,
                    "engine": each.engine, "settings": dict(each.settings), "flow": each.flow,
                    "capacity": dict(each.capacity), "usb": each.usb} for each in boards])
        return
    table("boards", ["name", "board", "clock [MHz]", "serial line", "default design", "tools"], [
        [each.name, each.title, f"{each.clock_mhz:g}", each.usb, _shown(each),
         "open" if each.flow == "open" else "Vivado project"] for each in boards], right=(2,))
    typer.echo("`bitkiln bitstream --board NAME` makes a bitstream; `bitkiln board run digits --board NAME --simulate` "
               "needs no board")


def _shown(board: object) -> str:
    settings = board.settings                     # type: ignore[attr-defined]
    size = f"{settings.get('array.rows', '?')} x {settings.get('array.columns', '?')}"
    return f"{board.engine} {size}, {' '.join(settings.get('modes', []))}"        # type: ignore[attr-defined]


def info(
    port: Annotated[str, typer.Option(help="Serial port of the board.", show_default=False)] = "",
    baud: Annotated[int, typer.Option(min=300, max=12_000_000, help="Bits a second.")] = 1_000_000,
    json: Json = False,
) -> None:
    """Ask a board who it is: its design, clock and streams."""
    if not port:
        raise BitkilnError("missing option", where="bitkiln board info --port", expected="a serial port",
                           help="for example --port /dev/ttyUSB0")
    from ..flow.board_run import connect

    link = connect(port, baud)
    try:
        identity = link.identity
        facts = {"board": identity.board, "design": identity.digest, "clock_mhz": identity.clock_hz / 1e6,
                 "baud": identity.clock_hz / identity.divisor, "protocol": ".".join(map(str, identity.protocol)),
                 "inputs": {each.name: each.bytes for each in identity.link.inputs},
                 "outputs": {each.name: each.bytes for each in identity.link.outputs}}
    finally:
        link.line.close()
    if json:
        echo_json(facts)
        return
    table(f"{identity.board} on {port}", ["property", "value"], [
        [name, ", ".join(f"{key} {value} bytes" for key, value in found.items()) if isinstance(found, dict) else found]
        for name, found in facts.items()])


def run(
    network: Annotated[str, typer.Argument(help="digits (the mlp), mlp or cnn.")],
    board: BoardName = "",
    port: Port = None,
    simulate: Simulate = False,
    design: DesignFile = None,
    bitstream: Folder = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None, preset: Preset = None,
    pipeline: Pipeline = None, settings: Settings = None, baud: Baud = None,
    layers: Annotated[Path | None, typer.Option(help="YAML file with a mode for each layer.",
                                                show_default="the core's modes in turn")] = None,
    images: Annotated[int | None, typer.Option(min=1, max=MAX_IMAGES, help="Test images.",
                                               show_default="16 (mlp), 2 (cnn)")] = None,
    noise: Noise = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    json: Json = False,
) -> None:
    """Run a digits network on a board and compare every result with the golden model bit for bit.

    The driver, its frames and retries are the same over a serial port and on the simulated board, whose pins are driven
    bit by bit. The time is the line's: with --simulate the time that the board would take.
    """
    if network not in NETWORKS:
        raise BitkilnError("unknown network", where="bitkiln board run", got=network, expected=", ".join(NETWORKS),
                           help=nearest(network, NETWORKS))
    found, resolved, baud = _target("run", board, port, simulate, bitstream, baud, design, preset, engine, modes, rows,
                                    columns, pipeline, settings)
    from ..flow.board_run import layer_modes, needs_core, open_board, run_digits

    needs_core(resolved)
    chosen = NETWORKS[network]
    plan = layer_modes(chosen, layers, resolved)
    with open_board(found, resolved, port, baud=baud, seed=seed, noise=noise, progress=progress) as transport:
        result = run_digits(found, resolved, chosen, plan, transport, images=images or IMAGES[chosen],
                            where=port or "simulated", progress=progress)
    if json:
        echo_json(result.as_dict())
    else:
        _show(result)
    if not result.passed:
        raise typer.Exit(FAILED)


def check(
    board: BoardName = "",
    port: Port = None,
    simulate: Simulate = False,
    design: DesignFile = None,
    bitstream: Folder = None,
    engine: EngineName = None, modes: Modes = None, rows: Rows = None, columns: Columns = None, preset: Preset = None,
    pipeline: Pipeline = None, settings: Settings = None, baud: Baud = None,
    jobs: Annotated[int | None, typer.Option(min=1, max=10_000, help="Random jobs; of spconv each is a network.",
                                             show_default="12, of spconv 2")] = None,
    noise: Noise = 0.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Run random jobs on the core of a board and compare every result with the golden model bit for bit.

    For every engine that a board can hold: matmul_core, dequant_core and spconv.
    """
    found, resolved, baud = _target("check", board, port, simulate, bitstream, baud, design, preset, engine, modes,
                                    rows, columns, pipeline, settings)
    from ..flow.board_check import check_board
    from ..flow.board_run import open_board

    with open_board(found, resolved, port, baud=baud, seed=seed, noise=noise, progress=progress) as transport:
        result = check_board(found, resolved, transport, jobs=jobs, seed=seed, where=port or "simulated",
                             progress=progress)
    if json:
        echo_json(result.as_dict())
    else:
        r = result.as_dict()
        table(f"{r['engine']} on {r['board']} ({r['where']})", ["", "value"], [
            ["jobs", r["jobs"]], ["results compared", f"{r['results']:,}"], ["different", r["mismatches"]],
            *_line_rows(r)])
        _verdict(result)
    if not result.passed:
        raise typer.Exit(FAILED)


def _target(name: str, board: str, port: str | None, simulate: bool, bitstream: Path | None, baud: int | None,
            design: Path | None, *options: Any) -> tuple[Any, Any, int | None]:
    """Board, design and bit rate that a command line names."""
    if not board:
        from ..boards.board import board_names

        raise BitkilnError("missing option", where=f"bitkiln board {name} --board", expected=", ".join(board_names()),
                           help="for example --board ulx3s")
    if simulate == (port is not None):
        raise BitkilnError("wrong arguments", where=f"bitkiln board {name}", got="both" if simulate else "none",
                           expected="exactly one of --port PORT and --simulate")
    if bitstream is not None:
        if design is not None:
            raise BitkilnError("contradictory options", where=f"bitkiln board {name}", got="--design and --bitstream",
                               expected="one of them")
        from ..flow.bitstream import DESIGN
        from ..flow.board_run import built_baud

        design, built = bitstream / DESIGN, built_baud(bitstream)
        baud = built if baud is None else baud
    found, resolved = design_of(board, design, *options)
    return found, resolved, baud


def _show(result: object) -> None:
    r = result.as_dict()                          # type: ignore[attr-defined]
    rows = [["images", r["images"]], ["accuracy", f"{r['accuracy']:.1%}"],
            ["layers", ", ".join(f"{layer['name'].rpartition('.')[2]} {layer['mode']}" for layer in r["layers"])],
            ["results compared", f"{r['results']:,}"], ["different", r["mismatches"]],
            ["output stage", f"on the {r['finished']}"], ["images a second", f"{r['images_per_second']:.1f}"],
            *_line_rows(r)]
    table(f"digits {r['network']} on {r['board']} ({r['where']})", ["", "value"], rows)
    _verdict(result)


def _line_rows(r: dict[str, Any]) -> list[list[Any]]:
    """Rows of a table that every result on a board has."""
    link, noise = r["link"], r["noise"]
    rows = [["time", f"{r['seconds']:.3f} s{' of the board' if r['where'] == 'simulated' else ''}"],
            ["requests", f"{link.get('requests', 0):,}, {link.get('repeated', 0):,} repeated"],
            ["bytes out and in", f"{link.get('bytes_out', 0):,} and {link.get('bytes_in', 0):,}"]]
    if noise:
        rows.append(["bytes disturbed", ", ".join(f"{count} {what}" for what, count in noise.items())])
    if r["first"]:
        rows.append(["first difference", r["first"]])
    return rows


def _verdict(result: Any) -> None:
    typer.echo("PASS: the board equals the golden model" if result.passed else
               "FAIL: the board and the golden model differ")
