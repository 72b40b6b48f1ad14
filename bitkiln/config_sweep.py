"""Design spaces: YAML files of `bitkiln sweep`, and the points that they span.

A space names an engine, keys that all its points share (`base`) and lists of values for others (`grid`); its points are
every combination that is a legal design. Besides the keys of a design description a grid may have ``assignment`` (modes
of layers or layer classes) and ``technology``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Resolved, load_design
from .config_memory import default_memory, load_memory, memory_of
from .engines import engine
from .models.cost.area.area import technology
from .models.cost.mapping import choices, layer_modes
from .models.cost.memory.memory import Hierarchy
from .models.errors import BitkilnError, nearest
from .models.workloads.accuracy import NETWORKS
from .models.workloads.shapes import Workload
from .models.workloads.shapes_files import workload_from_dict
from .models.workloads.shapes_registry import get_workload
from .schema import relocate
from .sweep_schema import MAX_POINTS, METRICS, SearchConfig, SpaceConfig, SweepConfig, raise_all, validate
from .yamlfile import Document, parse_yaml, read_yaml

__all__ = ["METRICS", "MAX_POINTS", "Point", "SearchConfig", "Space", "SweepConfig", "default_memory", "load_memory",
           "load_space", "space_names", "sweep_schema"]

SPACES = Path(__file__).parent / "spaces"
CONTENT, STARTER = "a design space", "`bitkiln sweep --list` shows the ones that come with the tool"
SPECIAL = ("assignment", "technology")
# What is wrong with a value alone; other errors may depend on the values beside it.
ALONE = ("wrong type", "out of range", "unknown value", "unknown format", "unknown key", "unknown PE",
         "no SIMD mode for this format")


@dataclass(frozen=True)
class Point:
    """One design with what it runs.

    Attributes
    ----------
    keys : dict
        Dotted keys of its design description, the engine among them.
    assignment : dict or None
        Modes of layers.
    technology : str
    """

    keys: dict[str, Any]
    assignment: dict[str, str] | None
    technology: str

    @property
    def digest(self) -> str:
        text = json.dumps([self.keys, self.assignment, self.technology], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def resolve(self) -> Resolved:
        """The validated design."""
        return load_design(cli={key: (value, f"point {self.digest}") for key, value in self.keys.items()})


@dataclass(frozen=True)
class Space:
    """A validated design space.

    Attributes
    ----------
    config : SweepConfig
    points : tuple of Point
        All that are legal, in the order of the grids; each design once.
    illegal : int
        Combinations that no design allows.
    workload : Workload
    memory : Hierarchy
    """

    config: SweepConfig
    points: tuple[Point, ...]
    illegal: int
    workload: Workload
    memory: Hierarchy


def space_names() -> list[str]:
    """Design spaces that come with the tool."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def sweep_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a design space."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SweepConfig.model_json_schema(),
            "title": "bitkiln sweep"}


def load_space(source: Path | str) -> Space:
    """A design space from a file, or by the name of one that comes with the tool.

    Raises
    ------
    ConfigErrors
        All that is wrong with it, each with file, line and key.
    """
    name = str(source)
    if name in space_names():
        document = parse_yaml((SPACES / f"{name}.yaml").read_text(encoding="utf-8"), f"space:{name}", CONTENT, STARTER)
    elif not name.endswith((".yaml", ".yml")) and not Path(name).exists():
        raise BitkilnError("unknown design space", where="bitkiln sweep", got=name,
                           expected="a YAML file, or " + " or ".join(space_names()), help=nearest(name, space_names()))
    else:
        document = read_yaml(Path(name), CONTENT, STARTER)
    config: SweepConfig = validate(SweepConfig, document)
    reader = _Reader(config, document)
    return reader.space()


class _Reader:
    """Turns a parsed space into points, with the place of every value for messages."""

    def __init__(self, config: SweepConfig, document: Document):
        self.config, self.document = config, document
        self.errors: list[BitkilnError] = []
        self.modes: set[str] = set()

    def where(self, *path: Any) -> str:
        return f"{self.document.where(path)} {'.'.join(str(part) for part in path)}".rstrip()

    def _try(self, place: tuple, make: Any) -> Any:
        try:
            return make()
        except BitkilnError as error:
            self.errors.append(BitkilnError(error.what, where=self.where(*place), got=error.got,
                                            expected=error.expected, help=error.help, exit_code=error.exit_code))
            return None

    def space(self) -> Space:
        config = self.config
        for number, name in enumerate(config.accuracy):
            if name not in NETWORKS:
                self.errors.append(BitkilnError("unknown network", where=self.where("accuracy", number), got=name,
                                                expected=" or ".join(NETWORKS), help=nearest(name, NETWORKS)))
        for i, axes in enumerate(config.axes):
            if axes[0] == axes[1]:
                self.errors.append(BitkilnError("a metric against itself", where=self.where("axes", i), got=axes[0],
                                                expected="two metrics"))
            for j, name in enumerate(axes):
                if name not in METRICS:
                    self.errors.append(BitkilnError("unknown metric", where=self.where("axes", i, j), got=name,
                                                    expected=", ".join(METRICS), help=nearest(name, METRICS)))
                elif name.startswith("accuracy_") and name.removeprefix("accuracy_") not in config.accuracy:
                    self.errors.append(BitkilnError("metric is not measured", where=self.where("axes", i, j), got=name,
                                                    expected=f"{name.removeprefix('accuracy_')} in accuracy"))
        found = self._try(("technology",), lambda: technology(config.technology))
        self.unit = None if found is None else found.unit
        workload = self._workload()
        memory: Hierarchy | None = default_memory()
        if config.memory is not None:
            memory = memory_of(config.memory, self.document, ("memory",), self.errors)
        points, illegal = self._points(workload)
        raise_all(self.errors)
        assert workload is not None and memory is not None
        return Space(config, points, illegal, workload, memory)

    def _workload(self) -> Workload | None:
        given = self.config.workload
        if isinstance(given, str):
            return self._try(("workload",), lambda: get_workload(given))
        try:
            return workload_from_dict(given, lambda path: f"{self.document.where(('workload', *path))} workload")
        except BitkilnError as error:
            self.errors.append(relocate(error, (error.where or "").replace(" workload ", " workload.", 1)))
            return None

    def _points(self, workload: Workload | None) -> tuple[tuple[Point, ...], int]:
        found: dict[str, Point] = {}
        illegal = 0
        for number, space in enumerate(self.config.spaces):
            size = 1
            for key, values in space.grid.items():
                if not values:
                    self._add("no values", "spaces", number, "grid", key, got="[]", expected="one value or more")
                size *= len(values)
            if size > MAX_POINTS:
                self._add("too many points", "spaces", number, "grid", got=size, expected=f"at most {MAX_POINTS}",
                          help="fewer values, or several spaces")
            elif size and not self._bad_values(number, space, workload):
                illegal += self._legal(number, space, workload, found)
        return tuple(found.values()), illegal

    def _legal(self, number: int, space: SpaceConfig, workload: Workload | None, found: dict[str, Point]) -> int:
        """Add the legal combinations to ``found``; returns the number of the others."""
        before, legal = len(self.errors), 0
        useless = {(key, at): None for key, values in space.grid.items() for at in range(len(values))}
        reasons: dict[tuple[str, int], BitkilnError] = {}
        illegal: list[BitkilnError] = []
        self.modes = set()
        for point, places, error in self._combinations(number, space, workload):
            if error is None:
                legal += 1
                found.setdefault(point.digest, point)
                for place in places:
                    useless.pop(place, None)
                continue
            illegal.append(error)
            for place in places:
                reasons.setdefault(place, error)
        self._unknown_modes(number, space)
        if len(self.errors) > before:
            return len(illegal)
        if not legal:
            first = illegal[0]
            self._add("empty space: no combination is a legal design", "spaces", number, "grid",
                      got=f"{len(illegal)} combinations; the first: {_short(first)}", expected="one or more",
                      help=first.help)
            return len(illegal)
        for key, at in useless:
            reason = reasons[key, at]
            self._add("no combination with this value is a legal design", "spaces", number, "grid", key, at,
                      got=space.grid[key][at], expected=f"one or more; the first: {_short(reason)}", help=reason.help)
        return len(illegal)

    def _unknown_modes(self, number: int, space: SpaceConfig) -> None:
        """Modes of assignments that no design of the space has."""
        for at, given in enumerate(space.grid.get("assignment", ())):
            for layer, mode in ({"": given} if isinstance(given, str) else given).items():
                if self.modes and mode not in self.modes:
                    self._add("no design of this space has such a mode", "spaces", number, "grid", "assignment", at,
                              *filter(None, [layer]), got=mode, expected=" or ".join(sorted(self.modes)),
                              help=nearest(mode, sorted(self.modes)))

    def _add(self, what: str, *place: Any, got: Any = None, expected: str | None = None, help: str | None = None
             ) -> None:
        self.errors.append(BitkilnError(what, where=self.where(*place), got=got, expected=expected, help=help))

    def _bad_values(self, number: int, space: SpaceConfig, workload: Workload | None) -> bool:
        """Keys that the engine does not have, and values that are wrong by themselves."""
        entry, before = engine(space.engine), len(self.errors)
        fields = entry.load("config").model_fields
        for section, keys in (("base", space.base), ("grid", space.grid)):
            for key in keys:
                known = [name for name in fields if name not in ("schema_version", "engine")]
                known += SPECIAL if section == "grid" else ()
                if key.split(".")[0] not in known:
                    self._add("unknown key", "spaces", number, section, key, got=key, expected=", ".join(known),
                              help=nearest(key, known))
                elif section == "base" and key in space.grid:
                    self._add("key given twice", "spaces", number, "base", key, got=key,
                              expected="base or grid, not both")
        for index, name in enumerate(space.grid.get("technology", ())):
            place = ("spaces", number, "grid", "technology", index)
            found = self._try(place, lambda name=name: technology(name))
            if found is not None and self.unit not in (None, found.unit):       # fronts and columns hold one
                self._add("areas of different units", *place, got=f"{name} ({found.unit})",
                          expected=f"technologies in {self.unit}, as {self.config.technology}",
                          help="a space for each unit")
        for index, given in enumerate(space.grid.get("assignment", ())):
            self._bad_assignment(("spaces", number, "grid", "assignment", index), given, workload)
        if len(self.errors) > before:
            return True
        return self._all_fail(number, space, before)

    def _bad_assignment(self, place: tuple, given: Any, workload: Workload | None) -> None:
        if isinstance(given, str):
            return
        if not isinstance(given, dict) or not given:
            self._add("wrong type", *place, got=given, expected="a mode, or modes of layers and layer classes",
                      help="for example {default: fp4, first: int8}")
            return
        layers = () if workload is None else workload.layers
        names = ["default", *dict.fromkeys(layer.layer_class for layer in layers), *(layer.name for layer in layers)]
        for key, mode in given.items():
            if not isinstance(mode, str):
                self._add("wrong type", *place, key, got=mode, expected="a mode", help="for example {default: int8}")
            if layers and key not in names:
                self._add("no such layer or layer class", *place, key, got=key, expected=", ".join(names[:12]),
                          help=nearest(key, names))

    def _all_fail(self, number: int, space: SpaceConfig, before: int) -> bool:
        """Report a value that is wrong whatever the others are: alone, on the defaults of the engine."""
        start = {key: values[0] for key, values in space.grid.items() if key not in SPECIAL and values}
        unknown: set[str] = set()
        for section, key, index, value in [
                *(("base", key, None, value) for key, value in space.base.items()),
                *(("grid", key, index, value) for key, values in space.grid.items() if key not in SPECIAL
                  for index, value in enumerate(values))]:
            path = ("spaces", number, section, key) if index is None else ("spaces", number, section, key, index)
            origin = self.document.where(path)
            given = {**space.base, **start, key: value}
            cli = {"engine": (space.engine, "spaces"), **{name: (each, origin if name == key else "spaces")
                                                          for name, each in given.items()}}
            try:
                load_design(cli=cli)
            except BitkilnError as error:
                for each in getattr(error, "errors", [error]):
                    if not (each.where or "").startswith(f"{origin} {key}") or each.what not in ALONE or key in unknown:
                        continue
                    if each.what == "unknown key":
                        unknown.add(key)
                        path = path[:4]
                    help = each.help
                    if section == "grid" and each.expected == "a list":
                        help = f"every value of this key is a list: {key}: [[{value}], ...]"
                    self._add(each.what, *path, got=each.got, expected=each.expected, help=help)
        return len(self.errors) > before

    def _combinations(self, number: int, space: SpaceConfig, workload: Workload | None
                      ) -> Iterator[tuple[Point, list[tuple[str, int]], BitkilnError | None]]:
        """Points with the places of their values and what is wrong with them."""
        keys = list(space.grid)
        origin = self.document.where(("spaces", number))
        indexed = [list(enumerate(values)) for values in space.grid.values()]
        for chosen_places in itertools.product(*indexed):
            places = [(key, at) for key, (at, _) in zip(keys, chosen_places, strict=True)]
            chosen = {key: value for key, (_, value) in zip(keys, chosen_places, strict=True)}
            tech = str(chosen.pop("technology", self.config.technology))
            given = chosen.pop("assignment", None)
            assignment = {"default": given} if isinstance(given, str) else given
            point = Point({"engine": space.engine, **space.base, **chosen}, assignment, tech)
            try:
                resolved = load_design(cli={key: (value, origin) for key, value in point.keys.items()})
                self.modes |= set(choices(resolved.design))
                if workload is not None:
                    _check_assignment(resolved.design, workload, assignment)
            except BitkilnError as error:
                yield point, places, error
            else:
                yield point, places, None


def _short(error: BitkilnError) -> str:
    """The reason in a few words, without its place (the space's line)."""
    key = (error.where or "").partition(" ")[2]
    return f"{error.what}{f' at {key}' * bool(key)}"


def _check_assignment(design: Any, workload: Workload, assignment: Mapping[str, str] | None) -> None:
    for _ in layer_modes(design, workload.layers, dict(assignment) if assignment else None):
        pass
