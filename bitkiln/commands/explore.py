"""``bitkiln estimate``, ``sweep`` and ``calibrate``: costs before synthesis, design spaces, the models behind them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.errors import BitkilnError, nearest
from . import complete
from .bars import work
from .common import (
    Design,
    EngineName,
    Json,
    Modes,
    Preset,
    command,
    echo_json,
    notice,
    parse_settings,
    resolve_design,
    table,
)
from .steps import next_step

if TYPE_CHECKING:
    from ..models.cost.area.area import AreaEstimate
    from ..models.cost.quantity import Quantity

WORKERS = os.cpu_count() or 1
ENERGY = ("model", "literature", "none")
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="Processes.", show_default="all cores")]


def register(app: typer.Typer) -> None:
    command(app, estimate_command, "bitkiln estimate int8 --workload resnet18",
            "bitkiln estimate my.yaml --workload bert-base --technology sky130hd",
            "bitkiln estimate --engine matmul_core --modes fp4,int8 --set array.rows=8 --workload digits-cnn "
            "--assign first=int8 --json", name="estimate")
    command(app, sweep, "bitkiln sweep formats", "bitkiln sweep my_space.yaml -j 2", "bitkiln sweep --list",
            "bitkiln sweep formats --measure front")
    command(app, calibrate_command, "bitkiln calibrate --target ecp5",
            "bitkiln calibrate --target asic --name mylib --liberty cells.lib.gz", name="calibrate")


def estimate_command(
    design: Design = None,
    engine: EngineName = None, preset: Preset = None, modes: Modes = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the design description; may be "
                                                                     "repeated.")] = None,
    workload: Annotated[str, typer.Option(help="Name (--workloads lists them), or a YAML, CSV or ONNX file.",
                                          autocompletion=complete.workloads)
                        ] = "digits-cnn",
    assign: Annotated[list[str] | None, typer.Option(help="LAYER=MODE, by layer, layer class or `default`; may be "
                                                          "repeated.")] = None,
    technology: Annotated[str, typer.Option(help="Fitted technology of the area (--technologies lists them).",
                                            autocompletion=complete.technologies)
                          ] = "ecp5",
    memory: Annotated[Path | None, typer.Option(help="YAML file of memory tiers.", show_default="a scratchpad of 2 Mbit"
                                                " and LPDDR4 at 200 MHz")] = None,
    energy: Annotated[str, typer.Option(help="Energy of products: model (sky130hd), literature (a cited table of 45 nm "
                                             "where there is no model) or none.")] = "model",
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer.")] = False,
    workloads: Annotated[bool, typer.Option("--workloads", help="List the workloads.")] = False,
    technologies: Annotated[bool, typer.Option("--technologies", help="List the technologies and their errors.")]
    = False,
    json: Json = False,
) -> None:
    """Predict cycles, stalls, bytes, energy and area of a workload on a design, without building it.

    Cycles equal the RTL's while the memories keep up; the area is a model's, with the interval that holds 95 of 100
    designs which it was not fitted to.
    """
    if workloads or technologies:
        _list_workloads(json) if workloads else _list_technologies(json)
        return
    from ..config_sweep import default_memory, load_memory
    from ..flow.energy import mac_energy
    from ..flow.estimates import estimate_any
    from ..flow.workloads import load_workload
    from ..models.cost.area.area import technology as find_technology

    if design is None and engine is None and preset is None:
        raise BitkilnError("missing argument", where="bitkiln estimate", expected="a YAML file, a PE, --engine or "
                           "--preset", help="for example `bitkiln estimate int8 --workload resnet18`")
    try:
        resolved = resolve_design(design, engine=engine, preset=preset, modes=modes, extra=parse_settings(settings))
    except BitkilnError as error:
        raise _unknown_setting(error) from None
    work(f"{resolved.name}: {workload}")
    found = estimate_any(resolved.design, load_workload(workload), find_technology(technology, "--technology"),
                         assignment=_assignment(assign), memory=default_memory() if memory is None else
                         load_memory(memory), mac_energy=mac_energy(resolved.design, technology, energy),
                         name=resolved.name, config=resolved.config)
    if json:
        echo_json(found.as_dict())
        return
    area, energy = found.area, found.energy["total"]
    rows = [["cycles", f"{found.cycles.value:,}", "cycles", f"{found.cycles.kind}: {found.cycles.source}"],
            ["products", f"{found.macs:,}", "MAC", "exact"],
            ["utilisation", f"{found.utilisation:.3f}", "of the peak", f"{found.peak:g} MAC/cycle"],
            ["lower bound", f"{found.bound:,}", "cycles", f"roofline: mostly {found.roof}"]]
    rows += [[f"stall, {cause}", f"{cycles:,}", "cycles", "model" if cause == "memory" else "exact"]
             for cause, cycles in found.stalls.items()]
    rows += [[f"bytes, {place}", f"{amount:,}", "bytes", "exact" if place.startswith("port ") else
              "model: what does not fit a tier is read again"] for place, amount in found.bytes.items()]
    rows += [[f"energy, {part}", "-" if each.value is None else f"{each.value:,.0f}{_interval(each)}", each.unit,
              f"{each.kind}: {each.source.removeprefix(each.kind + ': ')}"] for part, each in found.energy.items()]
    assert energy is not None
    if area is not None:
        value = "-" if area.value is None else f"{area.value:,.0f}{_interval(area)}"
        rows.append(["area", value, area.unit, "; ".join(filter(None, (area.source, area.note)))])
        rows += [[f"area, {part}", f"{amount:,.0f}", area.unit, "model: part of the area"]
                 for part, amount in area.parts.items() if amount]
    for what, each, scale, unit in (("clock", found.fmax, 1, "MHz"), ("time", found.seconds, 1e6, "us")):
        if each is not None:
            value = "-" if each.value is None else f"{scale * each.value:,.4g}" + (
                f" ({scale * each.low:,.4g} to {scale * each.high:,.4g})" if each.low and each.high else "")
            rows.append([what, value, unit, each.source])
    table(f"{resolved.name} on {found.workload}", ["what", "value", "unit", "where from"], rows, right=(1,))
    if layers:
        table("layers", ["layer", "mode", "MAC", "cycles", "bound", "roof", "stalls"],
              [[layer.name, layer.mode, f"{layer.macs:,}", f"{layer.cycles:,}", f"{max(layer.bounds.values()):,.0f}",
                layer.roof, ", ".join(f"{cause} {cycles:,}" for cause, cycles in layer.stalls.items())]
               for layer in found.layers], right=(2, 3, 4))


def _interval(found: Quantity | AreaEstimate) -> str:
    return "" if found.low is None or found.high is None else f" ({found.low:,.0f} to {found.high:,.0f})"


def _unknown_setting(error: BitkilnError) -> BitkilnError:
    """Say which keys there are where `--set` names one that the engine does not have."""
    from ..config import ConfigErrors
    from ..engines import engine

    found = []
    for each in getattr(error, "errors", [error]):
        if each.what == "option does not apply" and (each.where or "").startswith("--set "):
            name = (each.expected or "").split()[-1]
            keys = list(engine(name).load("config").model_fields)
            key = (each.where or "").removeprefix("--set ")
            each = BitkilnError("unknown key", where="--set", got=key, expected=f"a key of {name}: {', '.join(keys)}",
                                help=nearest(key, keys))
        found.append(each)
    return ConfigErrors(found) if len(found) > 1 else found[0]


def _assignment(assign: list[str] | None) -> dict[str, str] | None:
    found = {}
    for text in assign or ():
        layer, equals, mode = text.partition("=")
        if not equals:
            raise BitkilnError("not LAYER=MODE", where="--assign", got=text, expected="for example first=int8")
        found[layer.strip()] = mode.strip()
    return found or None


def _list_workloads(json: bool) -> None:
    from ..models.workloads.shapes_registry import get_workload, workload_names

    found = [get_workload(name) for name in workload_names()]
    if json:
        echo_json([{"name": each.name, "layers": len(each.layers), "macs": each.macs, "weights": each.weights,
                    "source": each.source} for each in found])
        return
    table("workloads", ["name", "layers", "MAC", "weights", "source"],
          [[name, len(each.layers), f"{each.macs:,}", f"{each.weights:,}", each.source]
           for name, each in zip(workload_names(), found, strict=True)], right=(1, 2, 3))


def _list_technologies(json: bool) -> None:
    from ..models.cost.area.area import technology, technology_names

    found = [technology(name) for name in technology_names()]
    if json:
        echo_json([{"name": each.name, "device": each.device, "unit": each.unit, "errors": dict(each.errors),
                    "provenance": dict(each.provenance)} for each in found])
        return
    _errors_table("fitted technologies: relative error of the area on designs that were not fitted", found)


def _errors_table(title: str, found: list[Any]) -> None:
    rows = []
    for each in found:
        for part, kinds in each.errors.items():
            for kind, label in (("held_out", "held back"), ("format_left_out", "format never fitted")):
                if kind in kinds:
                    error = kinds[kind]
                    rows.append([each.name, part, label, error["designs"], f"{100 * error['mean']:.1f} %",
                                 f"{100 * error['p95']:.1f} %", f"{100 * error['worst']:.1f} %", error["refused"]])
    table(title, ["technology", "designs", "which", "number", "mean", "95 %", "worst", "refused"], rows,
          right=(3, 4, 5, 6, 7))


def sweep(
    space: Annotated[str | None, typer.Argument(help="YAML file of a design space, or the name of one.",
                                                autocompletion=complete.spaces)] = None,
    jobs: Jobs = WORKERS,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler (tcp://HOST:PORT) instead of local "
                                                  "processes.")] = None,
    measure: Annotated[str, typer.Option(help="none, or front: synthesise and simulate the points on the fronts.")]
    = "none",
    liberty: Annotated[list[Path] | None, typer.Option(help="Liberty file, for measured areas of standard cells.")]
    = None,
    energy: Annotated[str | None, typer.Option(help="Instead of the space's: model, literature or none.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the results.",
                                                show_default="build/sweep-<name>-<hash>")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the spaces that come with the tool.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a space.")] = False,
    json: Json = False,
) -> None:
    """Evaluate a design space: accuracy, area, cycles and energy of every point, and the fronts.

    Writes sweep.json, sweep.csv, pareto.png, pareto.svg and report.html (one page that needs no network). May be
    stopped at any time: run it again and it goes on, with the same result.
    """
    from ..config_sweep import load_space, space_names, sweep_schema

    if listing or schema:
        echo_json(sweep_schema() if schema else space_names()) if json or schema else \
            typer.echo("\n".join(space_names()))
        return
    if space is None:
        raise BitkilnError("missing argument", where="bitkiln sweep", expected="a YAML file or a name, or --list",
                           help=f"for example `bitkiln sweep {space_names()[0]}`")
    if measure not in ("none", "front"):
        raise BitkilnError("unknown choice", where="--measure", got=measure, expected="none or front",
                           help=nearest(measure, ("none", "front")))
    if liberty and measure == "none":
        raise BitkilnError("contradictory options", where="--liberty", got="--measure none",
                           expected="--measure front: only measured areas take a library")
    from ..flow.sweep import run_sweep
    from ..flow.sweep_files import write_sweep
    from ..flow.synth import read_liberty
    from .bars import bars

    for path in liberty or ():      # before hours of work
        read_liberty(path)
    loaded = load_space(space)
    if energy is not None:
        from ..models.design.checks import check_choice

        check_choice(energy, "--energy", ENERGY)
        loaded = replace(loaded, config=loaded.config.model_copy(update={"energy": energy}))
    command_line = f"bitkiln sweep {Path(space).name}" + f" --measure {measure}" * (measure != "none") \
        + f" --energy {energy}" * (energy is not None)
    with bars() as tick:
        found = run_sweep(loaded, jobs=jobs, dask=dask, measure=measure, liberty=liberty or (),
                          command=command_line, progress=tick)
    folder = output or Path("build") / f"sweep-{found['name']}-{found['digest'][:8]}"
    written = write_sweep(found, folder)
    if json:
        echo_json(found)
        return
    _fronts_table(found)
    typer.echo(f"{len(found['points'])} points, {found['illegal_combinations']} combinations that no design allows "
               f"left out")
    for path in written:
        typer.echo(f"written: {path}")
    next_step("bitstream", "--board", "ulx3s", make="bitstream BOARD=ulx3s")


def _fronts_table(found: dict[str, Any]) -> None:
    for axes in found["axes"]:
        x, y = axes["x"], axes["y"]
        titles = {metric["name"]: f"{metric['title']} [{metric['unit']}]" for metric in found["metrics"]}
        rows = [row for row in found["points"] if f"{x}/{y}" in row["fronts"]]
        rows.sort(key=lambda row: row["metrics"][x]["value"])
        if not rows:
            why = next(row["metrics"][name] for row in found["points"] for name in (x, y)
                       if row["metrics"][name]["value"] is None)
            typer.echo(f"no front of {titles[x]} against {titles[y]}: {why['source']}")
            continue
        table(f"front: {titles[x]} against {titles[y]}", ["design", titles[x], titles[y], "measured"],
              [[_point_name(row), f"{row['metrics'][x]['value']:,.6g}", f"{row['metrics'][y]['value']:,.4g}",
                ", ".join(f"{name} -" if each["value"] is None else f"{name} {each['value']:,.6g}" + " (differs)" * (
                   "DIFFERS" in each["source"]) for name, each in row["measured"].items()) or "-"]
               for row in rows], right=(1, 2))


def _point_name(row: dict[str, Any]) -> str:
    """The design, and what else makes it another point."""
    modes = ", ".join(f"{layer}={mode}" for layer, mode in row["config"].get("assignment", {}).items())
    return f"{row['name']} ({modes})" if modes else row["name"]


def calibrate_command(
    target: Annotated[str, typer.Option(help="ecp5, ice40, xilinx or asic.",
                                        autocompletion=complete.targets)] = "ecp5",
    name: Annotated[str | None, typer.Option(help="Name of the technology.", show_default="the target's or library's")]
    = None,
    liberty: Annotated[list[Path] | None, typer.Option(help="Liberty file (.lib, .lib.gz) for target asic; may be "
                                                            "repeated.")] = None,
    booth: Annotated[bool, typer.Option("--booth", help="Booth multipliers (asic).")] = False,
    seeds: Annotated[int, typer.Option(min=0, max=9, help="Place-and-route runs of each unit (ecp5); 0 for none.")] = 0,
    parts: Annotated[str, typer.Option(help="Of pe, array, core, with commas.")] = "pe,array,core",
    jobs: Jobs = WORKERS,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of <name>.csv and <name>.json.")]
    = Path("build/tech"),
    json: Json = False,
) -> None:
    """Fit the area model of a technology: synthesise the sampled designs, fit, report errors on held-back ones.

    Every synthesis is kept in the store: stop it at any time and run it again. The result is a table of all runs and
    the fitted coefficients, which `--technology FILE.json` takes.
    """
    from ..flow.calibrate import calibrate_technology
    from .bars import bars

    with bars() as tick:
        found, paths = calibrate_technology(target, name=name, liberty=liberty or (), booth=booth, seeds=seeds,
                                            parts=parts.split(","), jobs=jobs, folder=output, progress=tick)
    if json:
        echo_json({"name": found.name, "errors": dict(found.errors), "provenance": dict(found.provenance)})
        return
    _errors_table(f"{found.name} ({found.device})", [found])
    for path in paths:
        typer.echo(f"written: {path}")
    notice("next: bitkiln estimate int8 --technology " + str(paths[-1]))
