"""``bitkiln calibrate``: sampled designs through synthesis, kept as CSV beside the cost models.

Every run goes through the store, so that a calibration may be stopped at any time; the table is written once all its
rows are there.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..models.cost.area.area import FPGA_WEIGHTS, Technology
from ..models.cost.area.calibration import Run, fit_technology, measured, measured_delay
from ..models.design.checks import check_choice
from ..models.errors import BitkilnError
from ..store import Store
from .pnr import clock_port, place_and_route
from .samples import Sample, samples
from .synth import read_liberty, synthesise
from .targets import get_target
from .workers import finished, local_workers

__all__ = ["calibrate_technology", "fit_rows", "measure_all", "measure_sample", "read_table", "write_table"]

PERIOD_PS = 1000
SRAM_WORDS = 16         # memories of a core's standard cells are macros, not in its area
PARTS = ("pe", "array", "core")
Progress = Callable[[str, int, int], None]


def measure_sample(sample: Sample, target: str, liberty: Sequence[Path] = (), booth: bool = False, seeds: int = 0,
                   keep: Store | None = None) -> dict[str, Any]:
    """One row of the table: the sample's digest, part, keys and what synthesis found (empty where nothing)."""
    from ..hw.emit import to_verilog

    resolved = sample.resolve()
    component = resolved.component()
    verilog = to_verilog(component, resolved.name)
    row: dict[str, Any] = {"id": sample.digest, "part": sample.part, "check": int(sample.check),
                           "keys": json.dumps(sample.keys, sort_keys=True)}
    if liberty:
        found = synthesise(verilog, resolved.name, "asic", booth=booth, liberty=list(liberty), period_ps=PERIOD_PS,
                           sram_words=SRAM_WORDS if sample.part == "core" else 0, keep=keep)
    else:
        found = synthesise(verilog, resolved.name, target, keep=keep)
    row |= {metric.name: metric.value for metric in found.metrics}
    if seeds and sample.part == "pe":
        try:
            placed = place_and_route(verilog, resolved.name, target, seeds=range(1, seeds + 1),
                                     clock=clock_port(component), keep=keep)
            row["fmax"] = placed["fmax"]
        except BitkilnError:        # larger than the device: the row has no clock
            row["fmax"] = None
    row["tools"] = " ".join(f"{name} {version}" for name, version in sorted(found.tools.items()))
    return row


def measure_all(wanted: Sequence[Sample], target: str, liberty: Sequence[Path] = (), booth: bool = False,
                seeds: int = 0, jobs: int = 1, progress: Progress = lambda kind, done, total: None
                ) -> list[dict[str, Any]]:
    """Rows of samples, in their order, by ``jobs`` processes."""
    rows: dict[str, dict[str, Any]] = {}
    progress("synthesis", 0, len(wanted))
    with local_workers(jobs) as pool:
        running = {pool.submit(measure_sample, sample, target, liberty, booth, seeds): sample for sample in wanted}
        for sample, row in finished(running):
            rows[sample.digest] = row
            progress("synthesis", len(rows), len(wanted))
    return [rows[sample.digest] for sample in wanted]


def calibrate_technology(target: str, *, name: str | None = None, liberty: Sequence[Path] = (), booth: bool = False,
                         seeds: int = 0, parts: Sequence[str] = PARTS, jobs: int = 1, folder: Path = Path("build/tech"),
                         progress: Progress = lambda kind, done, total: None) -> tuple[Technology, list[Path]]:
    """Synthesise the samples, fit, and write ``<name>.csv`` and ``<name>.json``.

    Parameters
    ----------
    target : str
        ``ecp5``, ``ice40``, ``xilinx``, or ``asic`` with ``liberty``.
    name : str, optional
        By default the target's, or the library's (``+booth`` behind it).
    liberty, booth
        See `synthesise`.
    seeds : int
        Place-and-route runs of each unit; 0 for none.
    parts : sequence of str
        Of ``pe``, ``array``, ``core``.
    jobs : int
        Processes.
    folder : Path

    Raises
    ------
    BitkilnError
        A target without a model, or options that contradict each other; exit code 3 without Yosys or SciPy.
    """
    check_choice(target, "--target", (*FPGA_WEIGHTS, "asic"))
    for part in parts:
        check_choice(part, "--parts", PARTS)
    if (target == "asic") != bool(liberty):
        raise BitkilnError("contradictory options", where="--liberty", got=f"target {target}",
                           expected="a liberty file with target asic, none with others",
                           help="for example --target asic --liberty cells.lib")
    if booth and target != "asic":
        raise BitkilnError("contradictory options", where="--booth", got=f"target {target}", expected="target asic")
    if seeds and target != "ecp5":
        raise BitkilnError("contradictory options", where="--seeds", got=f"target {target}", expected="target ecp5")
    libraries = [read_liberty(Path(path))[0] for path in liberty]
    if name is None:
        name = target if target != "asic" else "_".join(libraries) + "+booth" * booth
    _check_name(name, target)
    wanted = [sample for part in parts for sample in samples(part, target == "asic")]
    rows = measure_all(wanted, target, liberty, booth, seeds, jobs, progress)
    options = "".join(f" --liberty {Path(path).name}" for path in liberty) + " --booth" * booth
    found = fit_rows(name, "+".join(libraries) or get_target(target).device, rows,
                     f"bitkiln calibrate --target {target}{options}")
    table, model = folder / f"{name}.csv", folder / f"{name}.json"
    write_table(table, rows)
    write_atomically(model, json.dumps(found.as_dict(), indent=1) + "\n")
    return found, [table, model]


def _check_name(name: str, target: str) -> None:
    """A technology's name says which metrics it has (`metrics_of`), and names files."""
    wanted = f"{target}, or {target}+ and more" if target != "asic" else f"none of {', '.join(FPGA_WEIGHTS)}"
    kind = name.split("+")[0]
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name) or (kind == target) != (target != "asic") \
            or target == "asic" and kind in FPGA_WEIGHTS:
        raise BitkilnError("illegal name", where="--name", got=name, expected=f"{wanted}; letters, digits, _ . + -",
                           help=f"for example {target}+mine" if target != "asic" else None)


def fit_rows(name: str, device: str, rows: Sequence[dict[str, Any]], command: str) -> Technology:
    """A technology from a table's rows; those of designs that are no samples any more are left out."""
    by_digest = {sample.digest: sample for sample in samples()}
    runs = [Run(by_digest[row["id"]].resolve().design, row["part"], by_digest[row["id"]].check, measured(row, name),
                measured_delay(row)) for row in rows if row["id"] in by_digest]
    if not runs:
        raise BitkilnError("no runs to fit", where=f"technology {name}", expected="rows of the sampled designs")
    tools = sorted({str(row["tools"]) for row in rows})
    return fit_technology(name, device, runs, {"table": f"{name}.csv", "command": command, "tools": tools,
                                               "period_ps": PERIOD_PS, "runs": len(runs)})


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a table that `write_table` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV; columns are the union of the rows' keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
