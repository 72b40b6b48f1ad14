"""``bitkiln assign``: a number format for each layer of a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..models.errors import BitkilnError
from . import complete
from .common import Columns, Json, Rows, command, echo_json, parse_settings, progress, table

MODES = "fp4,int4,int8"


def register(app: typer.Typer) -> None:
    command(app, assign_command, "bitkiln assign digits-mlp --budget-bytes 1400",
            "bitkiln assign digits-cnn --modes fp4,int4,int8,fp8_e4m3 --budget-cycles 900 --frontier 8 -o layers.yaml",
            "bitkiln assign g2p --modes int4,fp4,int8 --budget-bytes 450000",
            "bitkiln assign net.onnx --data samples.npz --budget-area 9000 --technology ecp5", name="assign")


def assign_command(
    network: Annotated[str, typer.Argument(help="digits-mlp, digits-cnn, g2p, or FILE.onnx (with --data).",
                                           autocompletion=complete.assignable)],
    modes: Annotated[str, typer.Option(help="Candidate modes of a matmul core with commas: operands of 4, 8 or 16 "
                                            "bits.", autocompletion=complete.modes)] = MODES,
    budget_cycles: Annotated[float | None, typer.Option(help="Cycles of one inference (of --batch).")] = None,
    budget_bytes: Annotated[float | None, typer.Option(help="Bytes of packed weights.")] = None,
    budget_area: Annotated[float | None, typer.Option(help="Area of the core, in the technology's unit.")] = None,
    frontier: Annotated[int, typer.Option(min=0, max=64, help="Also so many budgets from the least to the most "
                                                              "useful one.")] = 0,
    rows: Rows = None, columns: Columns = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the core's description; may be "
                                                                     "repeated.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Inputs that cycles are counted for.")] = 1,
    technology: Annotated[str, typer.Option(help="Fitted technology of areas.",
                                            autocompletion=complete.technologies)] = "ecp5",
    data: Annotated[Path | None, typer.Option(help="Samples of an ONNX classifier: .npz with x (samples, ...) and y "
                                                   "(classes).")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="YAML file of the chosen modes.",
                                                show_default="build/assign-<network>.yaml")] = None,
    json: Json = False,
) -> None:
    """Choose a mode for each layer: the least error that a budget of cycles, bytes or area allows.

    Errors are measured by the golden model with one layer at a time in a mode; cycles equal the RTL's. The choice (an
    integer program) is run afterwards, beside the best uniform format within the same budget, and written as a file
    for `bitkiln run --engine matmul_core --layers`.
    """
    from ..files import write_atomically
    from ..flow.assign import assign_network, layers_yaml
    from ..flow.assign_problem import AssignCore, budget_of, problem_of
    from ..models.workloads.subjects import onnx_subject, subject

    kind, limit = budget_of(budget_cycles, budget_bytes, budget_area)
    if output is not None and output.is_dir():
        raise BitkilnError("is a folder", where="-o", got=str(output), expected="a file")
    is_onnx = network.lower().endswith(".onnx")
    if is_onnx and not Path(network).is_file():
        raise BitkilnError("no such file", where="bitkiln assign", got=network, expected="an ONNX network")
    if is_onnx != (data is not None):
        raise BitkilnError("missing option" if is_onnx else "contradictory options", where="bitkiln assign --data",
                           got=None if is_onnx else str(data), expected="a .npz file with x and y" if is_onnx else
                           "none: this network has its own data")
    found = subject(network) if not is_onnx else onnx_subject(network, data)
    core = AssignCore(rows, columns, parse_settings(settings))
    chosen = [mode.strip() for mode in modes.split(",") if mode.strip()]
    try:
        problem = problem_of(found, chosen, kind, limit=limit, core=core, batch=batch, tech=technology,
                             progress=progress)
        facts = assign_network(problem, limit, points=frontier, progress=progress)
    except BitkilnError as error:
        if not (error.where or "").startswith("budget.limit"):
            raise
        raise BitkilnError(error.what, where=f"--budget-{kind}", got=error.got, expected=error.expected,
                           help=error.help) from None
    line = f"bitkiln assign {shlex.quote(Path(network).name)} --modes {modes} --budget-{kind} {limit:g}"
    facts["command"] = line
    path = output or Path("build") / f"assign-{found.name}.yaml"
    write_atomically(path, layers_yaml(facts, line))
    facts["file"] = str(path)
    echo_json(facts) if json else _print(facts, path)


def _print(facts: dict[str, Any], path: Path) -> None:
    unit = facts["budget"]["unit"]
    chosen = facts["chosen"]["modes"]
    names = [choice["mode"] for choice in facts["layers"][0]["choices"]]
    rows = []
    for layer in facts["layers"]:
        cells = []
        for choice in layer["choices"]:
            text = f"{choice['nmse']:.2e}" + ("" if choice["cost"] is None else f" / {choice['cost']:,g}")
            cells.append(f"[{text}]" if chosen[layer["name"]] == choice["mode"] else text)
        rows.append([layer["name"], *cells])
    table(f"{facts['network']}: NMSE with the layer alone in the mode" +
          ("" if facts["budget"]["kind"] == "area" else f" / {unit}") + " (chosen in brackets)",
          ["layer", *names], rows, right=tuple(range(1, len(names) + 1)))
    lines = [["chosen", facts["chosen"]], ["best uniform within the budget", facts["best_uniform"]],
             *([f"frontier {number}", each] for number, each in enumerate(facts["frontier"], 1))]
    rows = []
    for name, each in lines:
        if each is None:
            rows.append([name, "none fits", *[None] * 4])
            continue
        accuracy = each["accuracy"]
        rows.append([name, ", ".join(dict.fromkeys(each["modes"].values())) if len(set(each["modes"].values())) == 1
                     else ", ".join(each["modes"].values()), f"{each['cost']:,.0f}",
                     f"{each['nmse']['predicted']:.3g}", f"{each['nmse']['measured']:.3g}",
                     None if accuracy is None else f"{accuracy['value']:.2%}"])
    exact = facts["float"]
    rows.append(["floating point", None, None, None, "0", f"{exact['value']:.2%}"])
    table(f"budget: {facts['budget']['limit']:,g} {unit} ({facts['budget']['source']}); chosen by "
          f"{facts['chosen_by']}", ["assignment", "modes", unit, "NMSE, sum", "NMSE, measured", "accuracy"], rows,
          right=(2, 3, 4, 5))
    for each in facts["equal_width"]:
        areas = ", ".join(f"{name} {'-' if area['value'] is None else format(area['value'], ',.0f')} {area['unit']}"
                          for name, area in each["areas"].items())
        typer.echo(f"{' or '.join(each['modes'])}: " + ", ".join(f"{layer} {mode}" for layer, mode in
                                                                each["better"].items()) +
                   f" ({'it depends on the layer' if each['mixed'] else 'the same in all layers'}); core: {areas}")
    typer.echo(f"{facts['data']}; accuracy of {exact['total']} is uncertain by about "
               f"{(exact['interval'][1] - exact['interval'][0]) / 2:.1%}")
    typer.echo(f"written: {path}")
