"""Design descriptions of `dot_unit`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .models.design import MAX_PIPELINE
from .models.errors import BitkilnError
from .schema import (
    SCHEMA_VERSION,
    FormatsConfig,
    Strict,
    TargetConfig,
    Where,
    check_name,
    check_target,
    relocate,
)

__all__ = ["DotUnitConfig", "build_dot_unit", "effective_dot_unit"]


class AccumulatorConfig(Strict):
    kind: Literal["exact", "fp32", "int32"] | None = Field(
        None, description="How products are summed; by default exact, fp32 where an operand is bf16 or fp16.")
    depth: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        1024, description="Products (over all lanes) that an exact sum holds without overflow.")
    bits: Annotated[int, Field(ge=2, le=2048)] | None = Field(
        None, description="Exact width [bits] instead of the sizing rule; wraps, with a sticky overflow flag.")
    overflow: Literal["wrap", "saturate"] = Field("wrap", description="saturate is for int32 only.")


class OutputConfig(Strict):
    format: str | None = Field(None, description="Round the sum once into this format, on port o.")


class DotUnitConfig(Strict):
    """Keys of a `dot_unit` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["dot_unit"] = Field("dot_unit", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    pe: str | None = Field(None, description="Short for formats: one format name or activation x weight.")
    formats: FormatsConfig | None = Field(None, description="Formats of the operands.")
    formats_defined: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Own formats by name: family and its parameters.")
    lanes: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Products per cycle; default 4, or 1 where sums are rounded to fp32 each cycle.")
    accumulator: AccumulatorConfig = Field(AccumulatorConfig(), description="How products are summed.")
    pipeline: Annotated[int, Field(ge=0, le=MAX_PIPELINE)] = Field(
        0, description="Register stages between operands and accumulator.")
    output: OutputConfig = Field(OutputConfig(), description="What becomes of the sum.")
    specials: bool = Field(True, description="Build NaN and infinity logic where the formats have them.")
    multiplier: Literal["chains", "luts", "operator"] = Field(
        "chains", description="Row adders of signed multipliers: carry chains (fewest cells), LUTs, or left to the "
                              "synthesis tool (DSP blocks).")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


def _own_formats(data: dict[str, Any], where: Where, errors: list[BitkilnError]) -> dict[str, Any]:
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
            errors.append(relocate(error, where(inner) + (rest if not rest.startswith(".") else "")))
    return own


def build_dot_unit(parsed: DotUnitConfig | None, data: dict[str, Any], where: Where) -> tuple[Any, list[BitkilnError]]:
    """The DotDesign of a description, and all errors beyond the schema's.

    ``parsed`` is None where the schema refused something; formats are then still checked in ``data``.
    """
    from .models.design import Accumulator, DotDesign, parse_pe
    from .models.formats import get_format

    errors: list[BitkilnError] = check_name(data.get("name"), where(("name",)))
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
            errors.append(relocate(error, where(path)))
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
                errors.append(relocate(error, where(("pe",))))
    elif isinstance(formats, dict):
        activation = lookup(formats.get("activation"), ("formats", "activation"))
        weight = lookup(formats.get("weight"), ("formats", "weight"))
    elif pe is None and formats is None:
        errors.append(BitkilnError("missing key", where=where(("formats",)),
                                   expected="formats: {activation: ..., weight: ...}, or pe: ...",
                                   help="for example formats: {activation: int8, weight: fp4}"))
    if isinstance(data.get("output"), dict) and data["output"].get("format") is not None:
        output = lookup(data["output"]["format"], ("output", "format"))
    errors += check_target(data.get("target"), where(("target",)))
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
        errors.append(relocate(error, where(path) if path[0] in DotUnitConfig.model_fields else where(())))
        return None, errors
    return design, errors


def effective_dot_unit(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config["formats"] = {"activation": design.activation.name, "weight": design.weight.name}
    del config["pe"]                                    # said by formats
    config["accumulator"]["kind"], config["lanes"] = design.accumulator.kind, design.lanes
    return config
