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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .engines import engine, engine_names
from .models.design import MAX_PIPELINE
from .models.errors import BitkilnError, nearest
from .yamlfile import Document, parse_yaml, read_yaml

__all__ = ["ConfigErrors", "DotUnitConfig", "Resolved", "SCHEMA_VERSION", "build_dot_unit", "json_schema",
           "load_design", "preset_names", "preset_text"]

SCHEMA_VERSION = 1
PRESETS = Path(__file__).parent / "presets"


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


# The schema --------------------------------------------------------------------------------------

class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FormatsConfig(_Strict):
    activation: str = Field(description="Format of the activations (`bitkiln formats`).")
    weight: str = Field(description="Format of the weights.")


class AccumulatorConfig(_Strict):
    kind: Literal["exact", "fp32", "int32"] | None = Field(
        None, description="How products are summed; by default exact, fp32 where an operand is bf16 or fp16.")
    depth: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        1024, description="Products (over all lanes) that an exact sum holds without overflow.")
    bits: Annotated[int, Field(ge=2, le=2048)] | None = Field(
        None, description="Exact width [bits] instead of the sizing rule; wraps, with a sticky overflow flag.")
    overflow: Literal["wrap", "saturate"] = Field("wrap", description="saturate is for int32 only.")


class OutputConfig(_Strict):
    format: str | None = Field(None, description="Round the sum once into this format, on port o.")


class AsicConfig(_Strict):
    liberty: str = Field(description="Path of a liberty file (.lib or .lib.gz), from the folder of this file.")


class TargetConfig(_Strict):
    fpga: Literal["ecp5-25k", "ice40", "gowin", "xilinx"] | None = None
    asic: AsicConfig | None = None


class DotUnitConfig(_Strict):
    """Keys of a `dot_unit` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["dot_unit"] = "dot_unit"
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    pe: str | None = Field(None, description="Short for formats: one format name or activation x weight.")
    formats: FormatsConfig | None = None
    formats_defined: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Own formats by name: family and its parameters.")
    lanes: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Products per cycle; default 4, or 1 where sums are rounded to fp32 each cycle.")
    accumulator: AccumulatorConfig = AccumulatorConfig()
    pipeline: Annotated[int, Field(ge=0, le=MAX_PIPELINE)] = Field(
        0, description="Register stages between operands and accumulator.")
    output: OutputConfig = OutputConfig()
    specials: bool = Field(True, description="Build NaN and infinity logic where the formats have them.")
    multiplier: Literal["chains", "luts", "operator"] = Field(
        "chains", description="Row adders of signed multipliers: carry chains (fewest cells), LUTs, or left to the "
                              "synthesis tool (DSP blocks).")
    target: TargetConfig = TargetConfig()


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
        # pe and formats, fpga and asic are alternatives: the later layer replaces the other one.
        for one, other in (("pe", "formats"), ("formats", "pe")) if not path else \
                (("fpga", "asic"), ("asic", "fpga")) if path == ("target",) else ():
            if one in new and other not in new:
                into.pop(other, None)
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
            return origin if known == path or not dotted else f"{origin} {dotted}"
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
    for key, (value, option) in (cli or {}).items():
        layers.set(key, value, option)
    data = layers.data

    version = data.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        newer = "written for a newer bitkiln: upgrade with `pip install -U bitkiln`" if version > SCHEMA_VERSION \
            else f"`bitkiln init` shows the layout of version {SCHEMA_VERSION}"
        raise BitkilnError("unknown schema version", where=layers.where(("schema_version",)), got=version,
                           expected=str(SCHEMA_VERSION), help=newer)
    if "engine" not in data and path is not None:
        errors.append(BitkilnError("missing key", where=f"{layers.where(())} engine",
                                   expected=" or ".join(engine_names())))
    entry = engine(data.get("engine", "dot_unit"), where=layers.where(("engine",)))
    model = entry.load("config")
    parsed: Any = None
    try:
        parsed = model.model_validate(data)
    except ValidationError as problems:
        errors += [_translate(problem, model, layers) for problem in problems.errors()]
    # The builder looks at whatever parsed, so that one run reports format errors and wrong types together.
    design, more = entry.load("build")(parsed, data, layers.where)
    errors += [error for error in more if error.render() not in {e.render() for e in errors}]
    if errors:
        errors.sort(key=_line)
        raise ConfigErrors(errors) if len(errors) > 1 else errors[0]
    config = parsed.model_dump(mode="json")
    config["formats"] = {"activation": design.activation.name, "weight": design.weight.name}
    del config["pe"]                                    # said by formats
    config["accumulator"]["kind"], config["lanes"] = design.accumulator.kind, design.lanes
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


def _translate(problem: Any, model: Any, layers: _Layers) -> BitkilnError:
    """A pydantic error as one of ours."""
    location, kind, value = tuple(problem["loc"]), problem["type"], problem["input"]
    where, context = layers.where(location), problem.get("ctx", {})
    if kind == "extra_forbidden":
        names = _fields(model, location[:-1])
        return BitkilnError("unknown key", where=where, got=str(location[-1]), expected="one of " + ", ".join(names),
                            help=nearest(location[-1], names))
    if kind == "missing":
        return BitkilnError("missing key", where=where, expected=f"a value for {location[-1]}")
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace("'", "")
        choices = [c.strip() for c in expected.replace(" or ", ",").split(",")]
        if not isinstance(value, str):
            return BitkilnError("wrong type", where=where, got=_Shown(_show(value)), expected=expected)
        return BitkilnError("unknown value", where=where, got=value, expected=expected, help=nearest(value, choices))
    if kind in ("greater_than_equal", "less_than_equal"):
        return BitkilnError("out of range", where=where, got=value,
                            expected=f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}")
    expected = {"int_type": "an integer", "bool_type": "true or false", "string_type": "text",
                "float_type": "a number", "dict_type": "keys and values",
                "model_type": "keys and values"}.get(kind, problem["msg"].lower())
    if kind in ("model_type", "model_attributes_type"):
        names = _fields(model, location)
        expected = f"keys and values ({', '.join(names)})" if names else "keys and values"
    hint = None
    if kind in ("model_type", "model_attributes_type") and isinstance(value, str) and _fields(model, location):
        hint = f"for example {location[-1]}: {{{_fields(model, location)[0]}: {value}}}"
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


# dot_unit ------------------------------------------------------------------------------------------

def _check_name(name: Any, where: str) -> list[BitkilnError]:
    if not isinstance(name, str):
        return []
    from .hw.emit import KEYWORDS

    if name in KEYWORDS:
        return [BitkilnError("illegal module name", where=where, got=name, expected="no Verilog keyword",
                             help=f"use {name}_unit")]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        legal = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:60] or "core"
        legal = f"core_{legal}" if legal[0].isdigit() else legal
        return [BitkilnError("illegal module name", where=where, got=name,
                             expected="a letter or _, then letters, digits or _, at most 64", help=f"use {legal}")]
    return []


def _own_formats(data: dict[str, Any], where: Any, errors: list[BitkilnError]) -> dict[str, Any]:
    """Formats of ``formats_defined``; errors are appended."""
    defined = data.get("formats_defined")
    if not isinstance(defined, dict):
        return {}
    from .models.formats import format_from_dict

    own: dict[str, Any] = {}
    for name, parameters in defined.items():
        path = ("formats_defined", name)
        if not isinstance(parameters, dict):
            continue                                   # reported by the schema
        try:
            own[name] = format_from_dict(name, parameters, where=".".join(path))
        except BitkilnError as error:
            # Its place starts with the key path; what follows (a key of the definition) is kept.
            rest = (error.where or "").removeprefix(".".join(path))
            inner = (*path, *rest.lstrip(".").split(".")[:1]) if rest.startswith(".") else path
            errors.append(_relocate(error, where(inner) + (rest if not rest.startswith(".") else "")))
    return own


def _relocate(error: BitkilnError, where: str) -> BitkilnError:
    return BitkilnError(error.what, where=where, got=error.got, expected=error.expected, help=error.help,
                        exit_code=error.exit_code)


def build_dot_unit(parsed: DotUnitConfig | None, data: dict[str, Any], where: Any) -> tuple[Any, list[BitkilnError]]:
    """The DotDesign of a description, and all errors beyond the schema's.

    ``parsed`` is None where the schema refused something; formats are then still checked in ``data``.
    """
    from .models.design import Accumulator, DotDesign, parse_pe
    from .models.formats import get_format

    errors: list[BitkilnError] = _check_name(data.get("name"), where(("name",)))
    own = _own_formats(data, where, errors)

    def lookup(name: Any, path: tuple) -> Any:
        if not isinstance(name, str):
            return None
        if name in own:
            return own[name]
        if isinstance(data.get("formats_defined"), dict) and name in data["formats_defined"]:
            return None                                # its definition is already reported
        try:
            return get_format(name, where=".".join(path))
        except BitkilnError as error:
            errors.append(_relocate(error, where(path)))
            return None

    activation = weight = output = None
    formats, pe = data.get("formats"), data.get("pe")
    if pe is not None and formats is not None:
        errors.append(BitkilnError("contradictory keys", where=where(("pe",)), got="pe and formats",
                                   expected="one of them"))
    elif isinstance(pe, str):
        if pe in own:
            activation = weight = own[pe]
        elif isinstance(data.get("formats_defined"), dict) and pe in data["formats_defined"]:
            pass                                       # its definition is already reported
        else:
            try:
                activation, weight = parse_pe(pe)
            except BitkilnError as error:
                errors.append(_relocate(error, where(("pe",))))
    elif isinstance(formats, dict):
        activation = lookup(formats.get("activation"), ("formats", "activation"))
        weight = lookup(formats.get("weight"), ("formats", "weight"))
    elif pe is None and formats is None:
        errors.append(BitkilnError("missing key", where=where(("formats",)),
                                   expected="formats: {activation: ..., weight: ...}, or pe: ...",
                                   help="for example formats: {activation: int8, weight: fp4}"))
    if isinstance(data.get("output"), dict) and data["output"].get("format") is not None:
        output = lookup(data["output"]["format"], ("output", "format"))
    target = data.get("target")
    if isinstance(target, dict) and target.get("fpga") is not None and target.get("asic") is not None:
        errors.append(BitkilnError("contradictory keys", where=where(("target",)), got="fpga and asic",
                                   expected="one of them"))
    if parsed is None or activation is None or weight is None:
        return None, errors
    settings = parsed.accumulator
    wide = {"bf16", "fp16", "fp32"} & {activation.name, weight.name}
    kind = settings.kind or ("fp32" if wide else "exact")
    try:
        accumulator = Accumulator(kind=kind, depth=settings.depth, bits=settings.bits, overflow=settings.overflow)
        lanes = parsed.lanes or (1 if kind == "fp32" else 4)
        design = DotDesign(activation, weight, lanes=lanes, accumulator=accumulator, pipeline=parsed.pipeline,
                           output=output, specials=parsed.specials, multiplier=parsed.multiplier)
    except BitkilnError as error:
        path = tuple((error.where or "").split("."))
        errors.append(_relocate(error, where(path) if path[0] in DotUnitConfig.model_fields else where(())))
        return None, errors
    return design, errors
