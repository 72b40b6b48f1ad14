"""`bitkiln sweep`: every point of a design space, with what it costs and how well it computes.

Work is done as tasks whose results are kept in the store under everything that decides them, the sources of the models
included. So a sweep that was killed goes on where it was, two sweeps share what they have in common, and the result is
the same as that of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import Resolved
from ..config_sweep import METRICS, Point, Space
from ..models.cost.area.area import technology
from ..models.cost.estimate import Estimate, Quantity
from ..models.cost.mapping import assigned, choices
from ..models.errors import BitkilnError
from ..models.formats import get_format
from ..models.workloads.accuracy import accuracy
from ..store import Store, content_key, store
from .energy import mac_energy
from .estimates import estimate_any
from .sources import sources_digest
from .workers import dask_workers, finished, local_workers

__all__ = ["MEMORY_FILE", "SCHEMA", "WORKLOAD_FILE", "evaluate", "executor", "fronts", "run_sweep", "run_tasks"]

SCHEMA = "bitkiln.sweep/1"
# Beside the results, where a space has its own.
MEMORY_FILE, WORKLOAD_FILE = "memory.yaml", "workload.yaml"
ROWS = ("flow.energy", "flow.estimates", "flow.sweep")      # what makes a row of the models' numbers


def executor(jobs: int, dask: str | None = None) -> Executor:
    """Where tasks run: processes of this machine, or a Dask cluster.

    Raises
    ------
    BitkilnError
        Exit code 3 without the package, 1 where no scheduler answers.
    """
    return local_workers(jobs) if dask is None else dask_workers(dask)


# Tasks -------------------------------------------------------------------------------------------------

def accuracy_task(network: str, formats: str, words: int) -> dict[str, Any]:
    """One network in one choice of formats; what cannot be done says why."""
    given = json.loads(formats)
    try:
        found = accuracy(network, given if isinstance(given, str) else dict(given), words=words)
    except BitkilnError as error:
        if error.exit_code == 3:        # a package is missing: the user can do something about it
            raise
        return {"value": None, "note": f"{error.what}: {error.got}" if error.got else error.what}
    low, high = found.interval
    return {"value": found.value, "low": low, "high": high, "right": found.right, "total": found.total,
            "what": found.what}


def formats_of(resolved: Resolved, assignment: dict[str, str] | None, network: str) -> str:
    """What a network is computed in on a design, as a task's argument (JSON)."""
    names = choices(resolved.design)
    if not assignment:
        return json.dumps(names[0])
    if network == "g2p":                 # its matrices have no layer classes
        return json.dumps(assignment.get("default", names[0]))
    from ..models.workloads.shapes_registry import get_workload

    layers = get_workload(network).layers
    chosen = {}
    for layer in layers:
        chosen[layer.name.split(".")[-1]] = assigned(layer, assignment) or names[0]
    return json.dumps(next(iter(chosen.values()))) if len(set(chosen.values())) == 1 else \
        json.dumps(chosen, sort_keys=True)


def run_tasks(tasks: Sequence[tuple[str, dict[str, Any]]], run: Callable[..., Any], keep: Store, kind: str,
              workers: Callable[[], Executor], progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Results by key; those in the store are not computed again, new ones are stored as soon as they are there."""
    found: dict[str, Any] = {}
    missing: dict[str, dict[str, Any]] = {}
    for key, inputs in dict(tasks).items():
        kept = keep.get(key)
        if kept is None:
            missing[key] = inputs
        else:
            found[key] = kept
    total = len(found) + len(missing)
    progress(kind, len(found), total)
    if missing:
        with workers() as pool:
            running = {pool.submit(run, **inputs["arguments"]): key for key, inputs in missing.items()}
            for key, result in finished(running):
                found[key] = result
                inputs = missing[key]
                keep.put(key, kind, {**inputs["arguments"], "sources": inputs["sources"]}, result)
                progress(kind, len(found), total)
    return found


# Points ------------------------------------------------------------------------------------------------

def family(resolved: Resolved) -> str:
    """``int``, ``minifloat``, ``posit``, ``codebook``, or ``mixed``."""
    names = {half for name in choices(resolved.design) for half in name.split("x")}
    families = set()
    for name in names:
        try:
            found = get_format(name).family
        except BitkilnError:
            found = "mixed"
        families.add({"fixed": "int"}.get(found, found))
    return families.pop() if len(families) == 1 else "mixed"


def _config(point: Point) -> dict[str, Any]:
    config = dict(point.keys)
    if point.assignment:
        config["assignment"] = point.assignment
    return config | {"technology": point.technology}


def command_of(point: Point, space: Space) -> str:
    """A command line that estimates this point again, in the folder of the results where a file is named."""
    words = ["bitkiln", "estimate", "--engine", point.keys["engine"]]
    for key, value in point.keys.items():
        if key != "engine":
            words += ["--set", f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]
    for layer, mode in (point.assignment or {}).items():
        words += ["--assign", f"{layer}={mode}"]
    workload = space.config.workload
    words += ["--workload", workload if isinstance(workload, str) else WORKLOAD_FILE, "--technology", point.technology]
    if space.config.memory is not None:
        words += ["--memory", MEMORY_FILE]
    if space.config.energy != "model":
        words += ["--energy", space.config.energy]
    return shlex.join(words)


def evaluate(point: Point, space: Space) -> tuple[Resolved, Estimate]:
    """The estimate of one point."""
    resolved = point.resolve()
    energies = mac_energy(resolved.design, point.technology, space.config.energy)
    found = estimate_any(resolved.design, space.workload, point.technology, assignment=point.assignment,
                         memory=space.memory, mac_energy=energies, name=resolved.name, config=resolved.config)
    return resolved, found


def _metrics(found: Estimate, scores: dict[str, Any]) -> dict[str, Quantity]:
    area = found.area
    assert area is not None
    quantities = {
        "area": Quantity(area.value, area.unit, "model", "; ".join(filter(None, (area.source, area.note))), area.low,
                         area.high),
        "cycles": found.cycles, "energy": found.energy["total"],
        "utilisation": Quantity(found.utilisation, "share", found.cycles.kind, "products / (peak x cycles)")}
    product = None if area.value is None else area.value * found.cycles.value
    quantities["area_cycles"] = Quantity(
        product, f"{area.unit} x cycles", "model", quantities["area"].source,
        *((area.low * found.cycles.value, area.high * found.cycles.value) if product is not None else (None, None)))
    for name, score in scores.items():
        source = f"{score['right']} of {score['total']} {score['what']}, golden model" if score["value"] is not None \
            else score["note"]
        quantities[f"accuracy_{name}"] = Quantity(score["value"], "share", "measured", source, score.get("low"),
                                                  score.get("high"))
    return quantities


def _row(point: Point, space: Space, scores: dict[str, Any]) -> dict[str, Any]:
    resolved, found = evaluate(point, space)
    layers = [{"name": layer.name, "mode": layer.mode, "macs": layer.macs, "cycles": layer.cycles,
               "compute": layer.compute, "stalls": layer.stalls, "bytes": layer.bytes, "bound": layer.roof,
               "energy_pj": None if None in layer.energy_pj.values() else sum(layer.energy_pj.values())}
              for layer in found.layers]
    outer = space.memory.tiers[-1]
    moved = found.bytes.get(outer.name, 0)
    bandwidth = outer.bytes_per_s(space.memory.clock_mhz) / (space.memory.clock_mhz * 1e6)
    assert found.area is not None
    return {
        "id": point.digest, "name": resolved.name, "engine": point.keys["engine"], "family": family(resolved),
        "config": _config(point), "command": command_of(point, space),
        "metrics": {name: each.as_dict() for name, each in _metrics(found, scores).items()}, "measured": {},
        "fronts": [], "area_parts": {name: round(value, 3) for name, value in found.area.parts.items()},
        "area_metrics": {name: round(value, 3) for name, value in found.area.metrics.items()},
        "layers": layers,
        "roofline": {"intensity": found.macs / moved if moved else None,
                     "macs_per_cycle": found.macs / found.cycles.value, "peak": found.peak, "bandwidth": bandwidth,
                     "roof": found.roof, "bound_cycles": found.bound}}


def fronts(rows: Iterable[dict[str, Any]], axes: Sequence[tuple[str, str]]) -> None:
    """Mark the rows that no other one beats in both metrics of each pair of axes."""
    for x, y in axes:
        known = [row for row in rows if None not in (row["metrics"][x]["value"], row["metrics"][y]["value"])]

        def cost(row: dict[str, Any], name: str) -> float:
            value = row["metrics"][name]["value"]
            return -value if METRICS[name][2] else value

        last = float("inf"), float("inf")
        for row in sorted(known, key=lambda row: (cost(row, x), cost(row, y), row["id"])):
            here = cost(row, x), cost(row, y)
            if here[1] < last[1] or here == last:
                last = here
                row["fronts"].append(f"{x}/{y}")


def axes_of(space: Space) -> list[tuple[str, str]]:
    """Pairs of metrics whose fronts are drawn."""
    given = [(x, y) for x, y in space.config.axes]
    return given or [("area", f"accuracy_{name}") for name in space.config.accuracy] or [("area", "cycles")]


def run_sweep(space: Space, *, jobs: int = 1, dask: str | None = None, measure: str = "none",
              liberty: Sequence[Path] = (), command: str = "", keep: Store | None = None,
              progress: Callable[[str, int, int], None] = lambda kind, done, total: None) -> dict[str, Any]:
    """Evaluate a space.

    Parameters
    ----------
    space : Space
    jobs : int
        Processes.
    dask : str, optional
        Address of a Dask scheduler instead.
    measure : str
        ``front``: synthesise and simulate the points on the fronts; ``none``.
    liberty : sequence of Path
        For measured areas of a technology of standard cells.
    keep : Store, optional

    Returns
    -------
    dict
        Schema ``bitkiln.sweep/1`` (docs/cost_model.md).
    """
    keep = keep or store()
    sources = sources_digest("models")

    def workers() -> Executor:
        return executor(jobs, dask)

    config = json.loads(space.config.model_dump_json())
    given = {"memory": repr(space.memory), "workload": repr(space.workload), "sources": sources}
    scores_of = _Scores(space, keep, sources, workers, progress)

    def row_of(point: Point, score: dict[str, Any]) -> dict[str, Any]:
        inputs = {**given, "point": [point.keys, point.assignment, point.technology], "scores": score,
                  "named": config["workload"], "energy": config["energy"], "flow": sources_digest(*ROWS)}
        return keep.cached("sweep_point", inputs, lambda: _row(point, space, score))

    if space.config.search.method == "nsga2":
        from .search import nsga2

        points = nsga2(space, lambda point: row_of(point, scores_of([point])[point.digest]), axes_of(space))
    else:
        points = list(space.points)
        if space.config.search.method == "random":
            from .search import sample

            points = sample(points, space.config.search.points, space.config.search.seed)
    scores = scores_of(points)
    rows = []
    for number, point in enumerate(points):
        rows.append(row_of(point, scores[point.digest]))
        progress("points", number + 1, len(points))
    axes = axes_of(space)
    fronts(rows, axes)
    if measure == "front":
        from .measure_points import measure_rows

        by_id = {point.digest: point for point in points}
        chosen = [row for row in rows if row["fronts"]]
        measure_rows(chosen, [by_id[row["id"]] for row in chosen], space, liberty, keep, workers, progress)
    unit = technology(space.config.technology).unit
    used = [name for name in METRICS if any(name in row["metrics"] for row in rows)]
    units = {"area": unit, "area_cycles": f"{unit} x cycles"}
    return {
        "schema": SCHEMA, "name": space.config.name, "title": space.config.title or space.config.name,
        "digest": content_key("sweep", {**given, "config": config})[:12], "space": config,
        "illegal_combinations": space.illegal,
        "provenance": {"tools": {"bitkiln": __version__, "models": sources}, "command": command,
                       "seed": space.config.search.seed, "workload": space.workload.source,
                       "technology": dict(technology(space.config.technology).provenance),
                       "errors": dict(technology(space.config.technology).errors),
                       "memory": [{"name": tier.name, "source": tier.source} for tier in space.memory.tiers],
                       "clock_mhz": space.memory.clock_mhz},
        "metrics": [{"name": name, "title": METRICS[name][0], "unit": METRICS[name][1] or units[name],
                     "higher_is_better": METRICS[name][2]} for name in used],
        "axes": [{"x": x, "y": y} for x, y in axes], "points": rows}


class _Scores:
    """Accuracies of points, each pair of network and formats once."""

    def __init__(self, space: Space, keep: Store, sources: str, workers: Callable[[], Executor],
                 progress: Callable[[str, int, int], None]):
        self.space, self.keep, self.sources, self.workers, self.progress = space, keep, sources, workers, progress

    def __call__(self, points: Sequence[Point]) -> dict[str, dict[str, Any]]:
        wanted: dict[tuple[str, str], str] = {}
        tasks: list[tuple[str, dict[str, Any]]] = []
        for point in points:
            resolved = point.resolve()
            for network in self.space.config.accuracy:
                formats = formats_of(resolved, point.assignment, network)
                arguments = {"network": network, "formats": formats, "words": self.space.config.words}
                key = content_key("accuracy", {**arguments, "sources": self.sources})
                wanted[point.digest, network] = key
                tasks.append((key, {"arguments": arguments, "sources": self.sources}))
        found = run_tasks(tasks, accuracy_task, self.keep, "accuracy", self.workers, self.progress)
        return {point.digest: {network: found[wanted[point.digest, network]] for network in self.space.config.accuracy}
                for point in points}
