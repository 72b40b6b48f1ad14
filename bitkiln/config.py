"""Design descriptions: YAML files, presets and command-line options become one validated design.

Precedence: command line > YAML > preset > default. Every value remembers where it came from, and all
errors of a description are collected and reported together, one line each.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from .engines import default_engine, engine, engine_names, one_of
from .models.errors import BitkilnError, nearest
from .schema import SCHEMA_VERSION, Where
from .yamlfile import Document, parse_yaml, read_yaml

__all__ = ["ConfigErrors", "Resolved", "json_schema", "load_design", "preset_names", "preset_text", "schema_errors"]

PRESETS = Path(__file__).parent / "presets"
# Keys that say the same: a later layer's replaces the others of its group.
ALTERNATIVES: dict[tuple, tuple[tuple[str, ...], ...]] = {
    (): (("pe", "formats", "modes", "weights"),), ("target",): (("fpga", "asic"),)}


class ConfigErrors(BitkilnError):
    """All errors of one design description.

    Attributes
    ----------
    errors : list of BitkilnError
    """

    def __init__(self, errors: list[BitkilnError]):
        self.errors = errors
        super().__init__(errors[0].what, where=errors[0].where, exit_code=max(e.exit_code for e in errors))

    def render(self) -> str:
        return "\n".join(error.render() for error in self.errors)


def json_schema(name: str = "dot_unit") -> dict[str, Any]:
    """JSON Schema (2020-12) of an engine's design description."""
    schema = engine(name).load("config").model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"bitkiln {name}"}


# Layers -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Resolved:
    """One validated design.

    Attributes
    ----------
    engine : Engine
        Registry entry.
    name : str
        Verilog module name.
    design : object
        Frozen parameter dataclass of ``models.design``.
    config : dict
        Effective configuration: every key, defaults included.
    digest : str
        First 12 hex digits of the SHA-256 of ``config`` without ``target`` (which does not change the RTL).
    folder : Path or None
        Folder that relative paths in the description start from.
    """

    engine: Any
    name: str
    design: Any
    config: dict[str, Any]
    digest: str
    folder: Path | None = None

    def component(self) -> Any:
        """The Amaranth component."""
        return self.engine.load("component")(self.design)

    def build_folder(self) -> Path:
        """``build/<name>-<hash>``, where outputs go by default."""
        return Path("build") / f"{self.name}-{self.digest[:8]}"


class _Layers:
    """Merged values with the origin of each key path."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origin: dict[tuple, str] = {}

    def merge(self, document: Document) -> None:
        self._merge(self.data, document.data, (), document.where)

    def set(self, dotted: str, value: Any, origin: str) -> None:
        *parents, last = dotted.split(".")
        nested: Any = {last: value}
        for key in reversed(parents):
            nested = {key: nested}
        self._merge(self.data, nested, (), lambda path: origin)

    def _merge(self, into: dict[str, Any], new: dict[str, Any], path: tuple, where: Any) -> None:
        for group in ALTERNATIVES.get(path, ()):
            given = [key for key in group if key in new]
            for key in group:
                if given and key not in given:
                    into.pop(key, None)
        for key, value in new.items():
            inner = (*path, key)
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._merge(into[key], value, inner, where)
            else:
                if isinstance(value, dict):
                    into[key] = {}
                    self._merge(into[key], value, inner, where)
                else:
                    into[key] = value
            self.origin[inner] = where(inner)
        self.origin.setdefault(path, where(path))

    def where(self, path: tuple) -> str:
        """``<file:line or option> <key path>``; an option says it all by itself."""
        known = path
        while known and known not in self.origin:
            known = known[:-1]
        origin = self.origin.get(known, "defaults")
        dotted = ".".join(str(part) for part in path)
        if ":" not in origin:
            # An option that names a list names its items too.
            items = path[len(known):]
            return origin if all(isinstance(part, int) for part in items) else f"{origin} {dotted}"
        return f"{origin} {dotted}".rstrip()


def preset_names() -> list[str]:
    """Names of the presets shipped with the tool."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_text(name: str) -> str:
    """The commented YAML text of a preset."""
    if name not in preset_names():
        raise BitkilnError("unknown preset", where="--preset", got=name, expected="a preset name",
                           help=nearest(name, preset_names()))
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


def load_design(path: Path | None = None, *, preset: str | None = None,
                cli: dict[str, tuple[Any, str]] | None = None) -> Resolved:
    """Merge, validate and build a design.

    Parameters
    ----------
    path : Path, optional
        YAML file.
    preset : str, optional
        Preset below it.
    cli : dict, optional
        Dotted key -> (value, option name); wins over the file.

    Raises
    ------
    ConfigErrors
        With every error found, each naming file and line (or option) and key path.
    """
    layers, errors = _Layers(), []
    if preset is not None:
        layers.merge(parse_yaml(preset_text(preset), f"preset:{preset}"))
    if path is not None:
        document = read_yaml(path)
        errors += document.errors
        layers.merge(document)
    given = dict(cli or {})
    if "engine" in given:
        layers.set("engine", *given.pop("engine"))
    data = layers.data

    version = data.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        newer = "written for a newer bitkiln: upgrade with `pip install -U bitkiln`" if version > SCHEMA_VERSION \
            else f"`bitkiln init` shows the layout of version {SCHEMA_VERSION}"
        raise BitkilnError("unknown schema version", where=layers.where(("schema_version",)), got=version,
                           expected=str(SCHEMA_VERSION), help=newer)
    if "engine" not in data and path is not None:
        errors.append(BitkilnError("missing key", where=f"{layers.where(())} engine",
                                   expected=one_of(engine_names())))
    pe = given["pe"][0] if "pe" in given else data.get("pe")
    entry = engine(data.get("engine", default_engine(pe)), where=layers.where(("engine",)))
    model = entry.load("config")
    for key, (value, option) in given.items():
        if key.split(".")[0] in model.model_fields:
            layers.set(key, value, option)
        else:
            errors.append(BitkilnError("option does not apply", where=option,
                                       got=", ".join(map(str, value)) if isinstance(value, list) else value,
                                       expected=f"no such option with engine {entry.name}"))
    parsed: Any = None
    try:
        parsed = model.model_validate(data)
    except ValidationError as problems:
        errors += schema_errors(problems, model, layers.where)
    # The builder looks at whatever parsed, so that one run reports format errors and wrong types together.
    design, more = entry.load("build")(parsed, data, layers.where)
    errors += [error for error in more if error.render() not in {e.render() for e in errors}]
    if errors:
        errors.sort(key=_line)
        raise ConfigErrors(errors) if len(errors) > 1 else errors[0]
    config = entry.load("effective")(design, parsed.model_dump(mode="json"))
    rtl = {key: value for key, value in config.items() if key != "target"}
    digest = hashlib.sha256(json.dumps(rtl, sort_keys=True).encode()).hexdigest()[:12]
    return Resolved(entry, config["name"] or design.name, design, config, digest,
                    path.parent if path is not None else None)


def _line(error: BitkilnError) -> int:
    """Line number in the message's place; options come first."""
    match = re.match(r".*?:(\d+)", error.where or "")
    return int(match[1]) if match else 0


# Messages ------------------------------------------------------------------------------------------

_KINDS = {bool: "a boolean", int: "an integer", float: "a float", str: "text", list: "a list", dict: "keys and values",
          type(None): "nothing"}


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return f"{text!r} (text)"
    if isinstance(value, (dict, list)):
        return _KINDS[type(value)]
    return f"{value} ({_KINDS.get(type(value), type(value).__name__)})"


def _fields(model: Any, location: tuple) -> list[str]:
    """Key names of the (sub)model at ``location``."""
    for part in location:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)


def schema_errors(problems: ValidationError, model: Any, where: Where) -> list[BitkilnError]:
    """What pydantic found, as errors of ours."""
    return [_translate(problem, model, where) for problem in problems.errors()]


def _translate(problem: Any, model: Any, place: Where) -> BitkilnError:
    location, kind, value = tuple(problem["loc"]), problem["type"], problem["input"]
    where, context = place(location), problem.get("ctx", {})
    if kind == "extra_forbidden":
        names = _fields(model, location[:-1])
        return BitkilnError("unknown key", where=where, got=str(location[-1]), expected="one of " + ", ".join(names),
                            help=nearest(location[-1], names))
    if kind == "missing":
        return BitkilnError("missing key", where=where, expected=f"a value for {location[-1]}")
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace("'", "")
        choices = [c.strip() for c in expected.replace(" or ", ",").split(",")]
        numbers = all(choice.isdigit() for choice in choices)
        if numbers and isinstance(value, int) and not isinstance(value, bool):
            return BitkilnError("unknown value", where=where, got=value, expected=expected)
        if numbers or not isinstance(value, str):
            return BitkilnError("wrong type", where=where, got=_Shown(_show(value)), expected=expected)
        return BitkilnError("unknown value", where=where, got=value, expected=expected, help=nearest(value, choices))
    if kind in ("greater_than_equal", "less_than_equal"):
        return BitkilnError("out of range", where=where, got=value,
                            expected=f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}")
    expected = {"int_type": "an integer", "bool_type": "true or false", "string_type": "text",
                "float_type": "a number", "dict_type": "keys and values", "list_type": "a list",
                "model_type": "keys and values"}.get(kind, problem["msg"].lower())
    if kind in ("model_type", "model_attributes_type"):
        names = _fields(model, location)
        expected = f"keys and values ({', '.join(names)})" if names else "keys and values"
    hint = None
    if kind in ("model_type", "model_attributes_type") and isinstance(value, str) and _fields(model, location):
        hint = f"for example {location[-1]}: {{{_fields(model, location)[0]}: {value}}}"
    elif kind == "list_type" and isinstance(value, str):
        hint = f"for example {location[-1]}: [{value}]"
    elif kind == "string_type" and isinstance(value, bool):
        hint = f'YAML reads this word as a boolean; if it is a name, put it in quotes: "{str(value).lower()}"'
    elif kind == "string_type" and isinstance(value, (int, float)):
        hint = f'YAML reads this as a number; if it is a name, put it in quotes: "{value}"'
    elif kind == "int_type" and isinstance(value, float) and value == int(value):
        hint = f"write {int(value)}"
    elif kind == "int_type" and isinstance(value, str):
        hint = "write digits only, without quotes, units or underscores"
    return BitkilnError("wrong type", where=where, got=_Shown(_show(value)), expected=expected, help=hint)


class _Shown(str):
    """Text that already says how to show the value (no further quotes)."""

    def __repr__(self) -> str:
        return str(self)
