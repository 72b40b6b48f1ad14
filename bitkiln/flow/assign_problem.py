"""What `bitkiln assign` solves: errors and costs of every layer in every mode, on one matmul core.

Errors are measured by the golden model (`models.workloads.sensitivity`), cycles are those of the core's RTL
(`models.cost.mapping`), bytes those of the packed weight codes, areas predicted for a core with just the modes in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ..config import Resolved, load_design
from ..models.cost.area.area import area_estimate, technology
from ..models.cost.mapping import map_layer
from ..models.cost.schedule.assign import Assignment, Budget, Choice, Layer, Pe, assign
from ..models.design import MatmulDesign, Mode
from ..models.errors import BitkilnError, nearest
from ..models.workloads.sensitivity import Scorer, Sensitivities, measure_sensitivities
from ..models.workloads.shapes import LayerShape
from ..models.workloads.subjects import Subject

__all__ = ["AssignCore", "Problem", "budget_of", "core_area", "problem_of"]

BUDGETS = {"cycles": "latency", "bytes": "bytes", "area": "area"}
MOST_MODES = 8
MOST_AREA_MODES = 6     # a core for each set of modes


@dataclass(frozen=True)
class AssignCore:
    """The core that runs the network, with any set of modes.

    Attributes
    ----------
    rows, columns : int or None
        Of the array; None for the default.
    settings : dict
        Further dotted keys of the design description, each with where it came from.
    """

    rows: int | None = None
    columns: int | None = None
    settings: Mapping[str, tuple[Any, str]] = field(default_factory=dict)

    def resolve(self, modes: Sequence[str]) -> Resolved:
        """The core with these modes."""
        cli: dict[str, tuple[Any, str]] = {"engine": ("matmul_core", "assign"), "modes": (list(modes), "--modes")}
        for key, value, option in (("array.rows", self.rows, "--rows"), ("array.columns", self.columns, "--columns")):
            if value is not None:
                cli[key] = (value, option)
        for key in ("engine", "modes"):
            if key in self.settings:
                raise BitkilnError("set elsewhere", where=f"--set {key}", got=self.settings[key][0],
                                   expected="--modes; the engine is matmul_core")
        return load_design(cli=cli | dict(self.settings))

    def design(self, modes: Sequence[str]) -> MatmulDesign:
        return self.resolve(modes).design


@dataclass(frozen=True)
class Problem:
    """What is solved, with the measurements behind it."""

    subject: Subject
    core: AssignCore
    modes: tuple[str, ...]
    kind: str
    layers: tuple[Layer, ...]
    sensitivities: Sensitivities
    scorer: Scorer
    unit: str
    pes: tuple[Pe, ...] = ()
    source: str = ""
    tech: str = "ecp5"
    areas: Mapping[str, Any] = field(default_factory=dict)

    def budget(self, limit: float) -> Budget:
        return _budget(self.kind, limit, self.unit, self.pes)

    def nmse(self, found: Assignment) -> float:
        return self.scorer.nmse(found.formats)


def budget_of(cycles: float | None, bytes_: float | None, area: float | None) -> tuple[str, float]:
    """The one budget that was given, by name.

    Raises
    ------
    BitkilnError
        None, or several.
    """
    given = [(name, value) for name, value in (("cycles", cycles), ("bytes", bytes_), ("area", area))
             if value is not None]
    if len(given) != 1:
        raise BitkilnError("one budget is needed" if not given else "several budgets", where="bitkiln assign",
                           got=", ".join(f"--budget-{name}" for name, _ in given) or None,
                           expected="one of --budget-cycles, --budget-bytes and --budget-area",
                           help="a budget of 0 is refused with the least that is feasible" if not given else None)
    name, limit = given[0]
    if not math.isfinite(limit) or limit < 0:
        raise BitkilnError("out of range", where=f"--budget-{name}", got=limit, expected="a number of 0 or more")
    return name, limit


def _budget(kind: str, limit: float, unit: str, pes: tuple[Pe, ...]) -> Budget:
    if kind == "area":
        return Budget("area", limit, unit, "built", pes=pes)
    return Budget(BUDGETS[kind], limit, unit)


def _modes(names: Sequence[str], kind: str) -> tuple[str, ...]:
    modes = tuple(dict.fromkeys(Mode.of(name).name for name in names))
    most = MOST_AREA_MODES if kind == "area" else MOST_MODES
    if not 2 <= len(modes) <= most:
        raise BitkilnError("number of modes", where="--modes", got=len(modes), expected=f"2 to {most}",
                           help="for example --modes fp4,int4,int8")
    return modes


def problem_of(subject: Subject, modes: Sequence[str], kind: str, *, limit: float | None = None,
               core: AssignCore | None = None, batch: int = 1, tech: str = "ecp5",
               progress: Callable[[str], None] = lambda text: None) -> Problem:
    """Measure sensitivities and costs.

    Parameters
    ----------
    subject : Subject
    modes : sequence of str
        Candidates: modes of a matmul core, operands of 4, 8 or 16 bits.
    kind : str
        ``cycles``, ``bytes`` or ``area``.
    limit : float, optional
        A budget that something must fit in: refused before anything is measured.
    core : AssignCore, optional
    batch : int
        Inputs that cycles are counted for.
    tech : str
        Fitted technology, for areas.
    """
    if kind not in BUDGETS:
        raise BitkilnError("unknown budget", where="budget", got=kind, expected=" or ".join(BUDGETS),
                           help=nearest(kind, BUDGETS))
    core, names = core or AssignCore(), _modes(modes, kind)
    design = core.design(names)
    pes: tuple[Pe, ...] = ()
    areas: dict[str, Any] = {}
    unit, source = {"cycles": ("cycles", "cycle model of the core, equal to its RTL while the streams keep up"),
                    "bytes": ("bytes", "packed weight codes"), "area": ("", "")}[kind]
    if kind == "area":
        unit = technology(tech).unit
        pes, areas = _pe_table(core, names, tech)
        source = f"{next(iter(areas.values()))['source']}; a core with just the modes in use"
    costs = {shape.name: {mode: _cost(design, shape, mode, kind, batch) for mode in names} for shape in subject.layers}
    if limit is not None:
        assign([Layer(name, tuple(Choice(mode, cost, 0.0) for mode, cost in each.items()))
                for name, each in costs.items()], _budget(kind, limit, unit, pes))
    runs = len(names) + len(subject.layers) * (len(names) - 1)
    progress(f"{subject.name}: {runs} runs of the golden model")
    scorer = Scorer(subject, design)
    found = measure_sensitivities(scorer, names)
    layers = tuple(Layer(name, tuple(Choice(mode, cost, found.error(name, mode)) for mode, cost in each.items()))
                   for name, each in costs.items())
    return Problem(subject, core, names, kind, layers, found, scorer, unit, pes, source, tech, areas)


def _cost(design: MatmulDesign, shape: LayerShape, mode: str, kind: str, batch: int) -> float:
    """Cycles or bytes of a layer; an area is that of the core, so no layer's own."""
    if kind == "cycles":
        return map_layer(design, shape if batch == 1 else shape.batched(batch), mode).cycles
    return -(-shape.weights * Mode.of(mode).weight.bits // 8) if kind == "bytes" else 0.0


def _pe_table(core: AssignCore, modes: Sequence[str], tech: str) -> tuple[tuple[Pe, ...], dict[str, Any]]:
    """A core for each set of modes, its area by the technology's model."""
    pes, areas = [], {}
    for count in range(1, len(modes) + 1):
        for chosen in combinations(modes, count):
            found, name = core_area(core, chosen, tech), "+".join(chosen)
            if found["value"] is None:
                raise BitkilnError("no area for this core", where=f"--technology {tech}", got=name,
                                   expected="modes and a core that the model was fitted to", help=found["note"])
            pes.append(Pe(name, frozenset(chosen), found["value"]))
            areas[name] = found
    return tuple(pes), areas


def core_area(core: AssignCore, modes: Sequence[str], tech: str) -> dict[str, Any]:
    """Area of the core with these modes; without a value where the technology has no model of it."""
    found = area_estimate(core.design(modes), tech)
    return {"value": found.value, "low": found.low, "high": found.high, "unit": found.unit, "kind": "model",
            "source": found.source, "note": found.note}
