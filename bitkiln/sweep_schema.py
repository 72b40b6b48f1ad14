"""Keys of a design space and of memory tiers, and what is said where a file does not follow them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from .config import ConfigErrors, schema_errors
from .models.errors import BitkilnError, nearest
from .models.workloads.accuracy import NETWORKS
from .schema import SCHEMA_VERSION, Strict
from .yamlfile import Document

__all__ = ["METRICS", "MAX_POINTS", "MemoryConfig", "SearchConfig", "SpaceConfig", "SweepConfig", "by_line",
           "raise_all", "validate"]

MAX_POINTS = 100_000
UNIT = re.compile(r"_(bits|mhz|ns|cycles|\w+_per_\w+)\Z")
# name -> (title, unit or None for the technology's, higher is better)
METRICS: dict[str, tuple[str, str | None, bool]] = {
    "area": ("Area", None, False), "cycles": ("Cycles", "cycles", False), "energy": ("Energy", "pJ", False),
    "utilisation": ("Utilisation", "share", True), "area_cycles": ("Area x cycles", None, False),
    **{f"accuracy_{name}": (f"Accuracy, {name}", "share", True) for name in NETWORKS}}


class TierConfig(Strict):
    name: str = Field(description="Name of the tier.")
    size_bits: Annotated[int, Field(ge=1)] = Field(description="Capacity [bits].")
    bandwidth_bits_per_cycle: Annotated[float, Field(gt=0)] | None = Field(None, description="Follows the clock.")
    bandwidth_bytes_per_s: Annotated[float, Field(gt=0)] | None = Field(None, description="Does not.")
    energy_pj_per_bit: Annotated[float, Field(ge=0)] | None = Field(None, description="Of reads; null: not known.")
    write_pj_per_bit: Annotated[float, Field(ge=0)] | None = Field(None, description="Of writes; null: as reads.")
    latency_cycles: Annotated[float, Field(ge=0)] = Field(0.0, description="Before the first bit [cycles].")
    latency_ns: Annotated[float, Field(ge=0)] = Field(0.0, description="Before the first bit [ns].")
    chunk_overhead_ns: Annotated[float, Field(ge=0)] = Field(0.0, description="What each chunk adds [ns].")
    source: str = Field(description="Where the figures are from.")


class MemoryConfig(Strict):
    clock_mhz: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="Clock of the engine [MHz].")
    tiers: list[TierConfig] = Field(description="From the innermost out.", min_length=1)


class SpaceConfig(Strict):
    engine: Literal["dot_unit", "morphable_pe", "matmul_array", "matmul_core", "bitserial_array"] = Field(
        description="What is generated.")
    base: dict[str, Any] = Field(default_factory=dict, description="Keys of a design description, dotted "
                                                                   "(array.rows), that all points share.")
    grid: dict[str, list[Any]] = Field(description="Dotted keys, each with its values; also assignment (modes of "
                                                   "layers) and technology.", min_length=1)


class SearchConfig(Strict):
    method: Literal["grid", "random", "nsga2"] = Field("grid", description="All points, a sample, or a genetic search.")
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)] = Field(200, description="Sample size, or evaluations at most "
                                                                                "(random, nsga2).")
    population: Annotated[int, Field(ge=4, le=1000)] = Field(24, description="Of nsga2.")
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Of random and nsga2.")


class SweepConfig(Strict):
    """Keys of a design space."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    name: str = Field(description="Name of the results' folder.", pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    title: str | None = Field(None, description="Heading of the report.")
    spaces: list[SpaceConfig] = Field(description="One or more engines with their grids.", min_length=1)
    workload: str | dict[str, Any] = Field("digits-cnn", description="What is run: a name, or {name, layers}.")
    accuracy: list[str] = Field(default_factory=lambda: ["digits-cnn"],
                                description="Networks whose accuracy is measured: digits-mlp, digits-cnn, g2p.")
    words: Annotated[int, Field(ge=1, le=100_000)] = Field(200, description="Words of g2p's sample.")
    technology: str = Field("ecp5", description="Fitted technology of the area.")
    energy: Literal["model", "literature", "none"] = Field(
        "model", description="Energy of products: the gate-level model (sky130hd), also a cited table of 45 nm where "
                             "there is none, or none.")
    memory: MemoryConfig | None = Field(None, description="Memory tiers; null: a scratchpad of 2 Mbit and LPDDR4 at "
                                                          "200 MHz.")
    axes: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, description="Pairs of metrics whose front is drawn; by default area and each accuracy.")
    search: SearchConfig = Field(SearchConfig(), description="Which points are evaluated.")


# Messages ------------------------------------------------------------------------------------------

def by_line(errors: list[BitkilnError]) -> list[BitkilnError]:
    """Errors in the order of the file's lines."""
    def line(error: BitkilnError) -> int:
        match = re.match(r".*?:(\d+)", error.where or "")
        return int(match[1]) if match else 0

    return sorted(errors, key=line)


def raise_all(errors: list[BitkilnError]) -> None:
    """Raise what was found, if anything."""
    if errors:
        errors = by_line(errors)
        raise ConfigErrors(errors) if len(errors) > 1 else errors[0]


def validate(model: type[BaseModel], document: Document) -> Any:
    """The document as ``model``.

    Raises
    ------
    ConfigErrors
        All that is wrong with it, each with file, line and key.
    """
    errors, parsed = list(document.errors), None

    def where(path: tuple) -> str:
        return f"{document.where(path)} {'.'.join(str(part) for part in path)}".rstrip()

    version = document.data.get("schema_version", SCHEMA_VERSION)
    if "schema_version" in model.model_fields and isinstance(version, int) and not isinstance(version, bool) \
            and version != SCHEMA_VERSION:
        raise BitkilnError("unknown schema version", where=where(("schema_version",)), got=version,
                           expected=str(SCHEMA_VERSION), help="written for another bitkiln")
    try:
        parsed = model.model_validate(document.data)
    except ValidationError as problems:
        errors += _said(problems, model, where)
    raise_all(errors)
    return parsed


def _said(problems: ValidationError, model: type[BaseModel], where: Any) -> list[BitkilnError]:
    """What pydantic found; a misspelt key is one mistake, not also a missing one."""
    found, meant, missing = [], set(), []
    for problem, error in zip(problems.errors(), schema_errors(problems, model, where), strict=True):
        place, kind = tuple(problem["loc"]), problem["type"]
        if kind == "missing":
            missing.append((place, error))
        elif kind == "extra_forbidden":
            names = _keys(model, place[:-1])
            found.append(_unknown_key(error, str(place[-1]), names))
            hint = found[-1].help or ""
            if not hint.startswith("choices"):
                meant |= {(*place[:-1], name) for name in re.findall(r"\w+", hint)}
        elif isinstance(place[-1], str) and place[-1].startswith(("str", "dict[")):   # branches of a union
            if place[-1] == "str":
                found.append(BitkilnError("wrong type", where=where(place[:-1]), got=error.got,
                                          expected="a name, or keys and values (name, layers)"))
        else:
            found.append(_clearer(error, problem))
    return found + [error for place, error in missing if place not in meant]


def _keys(model: Any, path: tuple) -> list[str]:
    """Key names of the model at ``path``, through lists too."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(each for each in options if isinstance(each, type) and issubclass(each, BaseModel))
    return list(model.model_fields)


def _unknown_key(error: BitkilnError, key: str, names: list[str]) -> BitkilnError:
    stem = key.split("_")[0]
    units = [name for name in names if name.startswith(f"{stem}_") and UNIT.search(name)]
    return BitkilnError("unknown key", where=error.where, got=key, expected="one of " + ", ".join(names),
                        help=f"keys carry their unit: {' or '.join(units)}" if units else nearest(key, names))


def _clearer(error: BitkilnError, problem: Any) -> BitkilnError:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    what, got, expected, help = error.what, error.got, error.expected, error.help
    if kind in ("too_short", "too_long"):
        what, got = "wrong number of values", len(value)
        expected = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
    elif kind == "greater_than":
        what, got, expected = "out of range", value, f"above {context['gt']:g}"
    elif kind == "string_pattern_mismatch":
        what, got, expected = "illegal name", value, "a letter, then letters, digits, _ or -, at most 64"
        help = f"use {re.sub('[^A-Za-z0-9]+', '_', value).strip('_') or 'space'}"
    elif kind in ("model_type", "model_attributes_type"):
        help = None
    elif kind == "list_type" and problem["loc"][-2:-1] == ("grid",):
        help = f"for example {problem['loc'][-1]}: [{value}]"
    elif isinstance(value, str) and kind in ("int_type", "float_type") and re.match(r"[\d.]", value):
        help = "the unit is in the name of the key: write the number alone"
    return BitkilnError(what, where=error.where, got=got, expected=expected, help=help)
