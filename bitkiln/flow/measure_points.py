"""Measured numbers of a sweep's points: synthesised area and simulated cycles beside what the models predicted.

Areas come from the synthesis settings that the technology was fitted to, cycles from the RTL under the workload's
layers. Each point is two tasks whose results are in the store as soon as they are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from ..config_sweep import Point, Space
from ..models.cost.area.area import FPGA_WEIGHTS, Technology, fpga_family, technology
from ..models.cost.area.calibration import measured
from ..models.cost.mapping import layer_modes
from ..models.errors import MISSING_TOOL, BitkilnError
from ..store import Store, content_key
from .calibrate import PERIOD_PS
from .sources import sources_digest
from .sweep import run_tasks
from .synth import read_liberty, synthesise

__all__ = ["check_liberty", "measure_rows"]

DIFFERS = "DIFFERS"     # in the source of simulated cycles that are not those of the model
# Rooms whose sources decide what is built and how it is run.
HARDWARE = ("hw", "sim", "models.formats", "models.design", "models.golden")


def measure_rows(rows: Sequence[dict[str, Any]], points: Sequence[Point], space: Space, liberty: Sequence[Path],
                 keep: Store, workers: Callable[[], Executor], progress: Callable[[str, int, int], None]) -> None:
    """Fill ``measured`` of rows: ``area`` and ``cycles``, each ``{"value", "unit", "source"}``.

    A value is null where it could not be measured; ``source`` then says why. ``cycles`` that differ from the model's
    say so, and by how much, in ``source``.

    Parameters
    ----------
    rows : sequence of dict
        As `sweep.run_sweep` makes them; changed in place.
    points : sequence of Point
        Of the rows.
    space : Space
    liberty : sequence of Path
        Needed for technologies of standard cells.
    keep : Store
    workers, progress : callable
        As of `run_sweep`.

    Raises
    ------
    BitkilnError
        No liberty file, or another library's, for standard cells; exit code 3 without Yosys, Verilator or a compiler.
    """
    for name in dict.fromkeys(point.technology for point in points):
        check_liberty(technology(name), liberty)
    areas = _measure(area_task, "measured_area", points, space, liberty, keep, workers, progress)
    cycles = _measure(cycles_task, "measured_cycles", points, space, liberty, keep, workers, progress)
    for row, point, area, simulated in zip(rows, points, areas, cycles, strict=True):
        row["measured"] = {"area": _area(area, technology(point.technology)), "cycles": _cycles(simulated, row)}


def check_liberty(tech: Technology, liberty: Sequence[Path]) -> None:
    """Raise where a technology's synthesis needs a liberty file that is not the given one."""
    if fpga_family(tech.name):
        return
    if not liberty:
        raise BitkilnError("missing option", where="--liberty", expected=f"the liberty file of {tech.name} "
                           f"({tech.device})", help="measured areas of standard cells need the library itself")
    names = "+".join(read_liberty(Path(path))[0] for path in liberty)
    if names != tech.device:
        raise BitkilnError("another library than the technology's", where="--liberty", got=names, expected=tech.device,
                           help=f"{tech.name} was fitted to it")


# Tasks -------------------------------------------------------------------------------------------------

def area_task(point: dict[str, Any], *, liberty: tuple[str, ...], store_path: str, **_: Any) -> dict[str, Any]:
    """Metrics of one design; what fails says why."""
    from ..hw.emit import to_verilog

    point_ = _point(point)
    name, plus, _booth = point_.technology.partition("+")
    try:
        resolved = point_.resolve()
        verilog = to_verilog(resolved.component(), resolved.name)
        if name in FPGA_WEIGHTS:
            found = synthesise(verilog, resolved.name, name, keep=Store(Path(store_path)))
        else:
            found = synthesise(verilog, resolved.name, "asic", booth=bool(plus), liberty=[Path(x) for x in liberty],
                               period_ps=PERIOD_PS, keep=Store(Path(store_path)))
    except BitkilnError as error:
        return _failed(error)
    return {"metrics": {metric.name: metric.value for metric in found.metrics}, "device": found.device,
            "tools": dict(found.tools)}


def cycles_task(point: dict[str, Any], *, space: Space, **_: Any) -> dict[str, Any]:
    """Cycles of each layer on the RTL."""
    from ..sim.layer_cycles import layer_cycles
    from ..sim.toolchain import require

    point_ = _point(point)
    try:
        design = point_.resolve().design
        found = layer_cycles(design, list(layer_modes(design, space.workload.layers, point_.assignment)))
        return {"layers": [{"cycles": each.cycles, "note": each.note} for each in found],
                "tools": {"verilator": require("verilator").version}}
    except BitkilnError as error:
        return _failed(error)


def _failed(error: BitkilnError) -> dict[str, Any]:
    if error.exit_code == MISSING_TOOL:     # the user can do something about it
        raise error
    return {"failed": f"{error.what} at {error.where}: {error.got}"}


def _point(given: dict[str, Any]) -> Point:
    return Point(given["keys"], given["assignment"], given["technology"])


def _measure(run: Callable[..., dict[str, Any]], kind: str, points: Sequence[Point], space: Space,
             liberty: Sequence[Path], keep: Store, workers: Callable[[], Executor],
             progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """One result for each point; points that ask for the same share it."""
    from ..sim.toolchain import require

    area = run is area_task
    tool = require("yosys" if area else "verilator").version
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in liberty] if area else []
    sources = sources_digest(*HARDWARE)
    keys, tasks = [], []
    for point in points:
        given = {"keys": point.keys, "assignment": None if area else point.assignment,
                 "technology": point.technology if area else ""}
        inputs = {"point": given, "tool": tool, "liberty": digests, "sources": sources,
                  **({} if area else {"workload": repr(space.workload)})}
        keys.append(content_key(kind, inputs))
        tasks.append((keys[-1], {"arguments": {"point": given}, "sources": sources}))
    bound = partial(run, liberty=tuple(str(Path(path).resolve()) for path in liberty), space=space,
                    store_path=str(keep.path.resolve()))
    found = run_tasks(tasks, bound, keep, kind, workers, progress)
    return [found[key] for key in keys]


# Rows --------------------------------------------------------------------------------------------------

def _area(found: dict[str, Any], tech: Technology) -> dict[str, Any]:
    if "failed" in found:
        return {"value": None, "unit": tech.unit, "source": f"not measured: {found['failed']}"}
    tools = ", ".join(f"{name} {version}" for name, version in sorted(found["tools"].items()))
    return {"value": round(tech.total(measured(found["metrics"], tech.name)), 3), "unit": tech.unit,
            "source": f"synthesis for {found['device']}, {tools}"}


def _cycles(found: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Cycles of the RTL; layers that wait for a memory take the model's time if that is longer."""
    if "failed" in found:
        return {"value": None, "unit": "cycles", "source": f"not measured: {found['failed']}"}
    missing = [f"{layer['name']}: {each['note']}" for layer, each in zip(row["layers"], found["layers"], strict=True)
               if each["cycles"] is None]
    if missing:
        return {"value": None, "unit": "cycles", "source": f"not measured: {missing[0]}"}
    total, wrong, waits = 0, [], 0
    for layer, each in zip(row["layers"], found["layers"], strict=True):
        late = layer["stalls"].get("memory", 0)
        predicted = layer["cycles"] - late
        if each["cycles"] != predicted:
            wrong.append(f"{layer['name']} {each['cycles']:,} for {predicted:,}")
        waits += bool(late)
        total += max(each["cycles"], layer["cycles"]) if late else each["cycles"]
    notes = list(dict.fromkeys(each["note"] for each in found["layers"]))
    source = f"RTL simulation, verilator {found['tools']['verilator']}, streams always ready: {'; '.join(notes[:3])}"
    if waits:
        source += f"; {waits} layers wait for memory, by the model"
    if wrong:
        source += f"; {DIFFERS} from the cycle model: {', '.join(wrong)}"
    return {"value": total, "unit": "cycles", "source": source}
