"""Design descriptions of `bitserial_array` and of `dequant_core`, which has its keys and those of memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .models.errors import BitkilnError
from .schema import SCHEMA_VERSION, Strict, TargetConfig, Where, check_name, check_target, relocate

__all__ = ["BitSerialArrayConfig", "DequantCoreConfig", "build_bitserial_array", "build_dequant_core",
           "effective_bitserial_array", "effective_dequant_core"]

# Key of the description for a parameter of the design.
PATHS = {"rows": "array.rows", "columns": "array.columns", "accumulate": "accumulator.kind",
         "guard": "accumulator.guard", "rounding": "accumulator.rounding", "mantissa": "accumulator.mantissa",
         "scale": "scale.format", "zero_point": "scale.zero_point", "dual_scale": "scale.dual",
         "group": "group.size", "groups": "group.per_channel", "output": "output.format"}


class SerialArrayConfig(Strict):
    rows: Annotated[int, Field(ge=1, le=64)] = Field(1, description="PEs that share a column's weights.")
    columns: Annotated[int, Field(ge=1, le=64)] = Field(1, description="PEs that share a row's activations.")


class SerialAccumulatorConfig(Strict):
    kind: Literal["exact", "aligned", "floating"] | None = Field(
        None, description="A sum that cannot round, activations cut to the largest of their group, or products cut to "
                          "the largest of their cycle and a short sum; by default exact, aligned for bf16.")
    guard: Annotated[int, Field(ge=0, le=16)] = Field(
        3, description="aligned, floating: bits kept below the largest significand.")
    rounding: Literal["trunc", "rne"] = Field(
        "trunc", description="aligned, floating: what becomes of the bits below.")
    mantissa: Annotated[int, Field(ge=8, le=32)] = Field(15, description="floating: bits of the sum, sign included.")


class GroupScaleConfig(Strict):
    format: Literal["uint8", "uint6", "uint4", "none", "e8m0", "ue4m3", "ue5m3"] = Field(
        "uint8", description="Scale of a group: an integer beside the channel's scale, a power of two, or a float.")
    dual: bool = Field(False, description="A second scale for negative weights (AFPQ).")
    zero_point: Annotated[int, Field(ge=0, le=8)] = Field(0, description="Bits of a signed zero-point, 0 for none.")


class GroupConfig(Strict):
    size: Annotated[int, Field(ge=1, le=1024)] = Field(128, description="Longest group; any shorter one at run time.")
    per_channel: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        64, description="Most groups that are summed into one channel.")


class SpecialValuesConfig(Strict):
    values: list[float] | None = Field(None, description="Table after reset, at most four; by default the type's own.")
    terms: Annotated[int, Field(ge=1, le=4)] | None = Field(
        None, description="Signed powers of two that a special value may have; more make the whole type slower.")


class SerialOutputConfig(Strict):
    format: Literal["fp32", "raw"] = Field(
        "fp32", description="Rounded once, or the integer as it is with its exponent.")


class BitSerialArrayConfig(Strict):
    """Keys of a `bitserial_array` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["bitserial_array"] = Field("bitserial_array", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    pe: str | None = Field(
        None, description="Short for one weight type and maybe an activation: bitmod4, int8xbitmod3.")
    weights: list[str] | None = Field(
        None, description="Weight types that a group can have (bitmod3, bitmod4, int2 to int8, fp3, fp4, fp6_e3m2, "
                          "ternary, ...).")
    activation: str | None = Field(None, description="fp16 (default), bf16, fp8_e4m3, fp8_e5m2 or int8.")
    lanes: Annotated[int, Field(ge=1, le=16)] = Field(4, description="Products of a PE that take a term at once.")
    array: SerialArrayConfig = Field(SerialArrayConfig(), description="Size of the array.")
    accumulator: SerialAccumulatorConfig = Field(SerialAccumulatorConfig(), description="How products are summed.")
    scale: GroupScaleConfig = Field(GroupScaleConfig(), description="What a group's sum is multiplied by.")
    group: GroupConfig = Field(GroupConfig(), description="Sizes of groups.")
    special_values: dict[str, SpecialValuesConfig] = Field(
        default_factory=dict, description="Special values by weight type (bitmod3, bitmod4).")
    zero_skip: bool = Field(False, description="A chunk takes as many cycles as its weights need.")
    specials: bool = Field(True, description="Track NaN and infinities; without it their codes are finite numbers.")
    placement: Literal["edge", "pe"] | None = Field(
        None, description="Where exact activations become fixed point; by default what is smaller on FPGAs.")
    pipeline: Annotated[int, Field(ge=0, le=2)] = Field(1, description="Register stages before the accumulator.")
    output: SerialOutputConfig = Field(SerialOutputConfig(), description="What becomes of a result.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


class MemoryConfig(Strict):
    bus_bits: Literal[32, 64, 128, 256] | None = Field(
        None, description="Word of the weight stream, at which every group begins; by default the narrowest that feeds "
                          "the lanes.")
    packings: dict[str, str] = Field(
        default_factory=dict, description="How the codes of a weight type lie in memory: dense, trits, or bit planes "
                                          "such as 4+2.")
    k_chunks: Annotated[int, Field(ge=16, le=1 << 14)] = Field(
        256, description="Chunks of activations that a buffer holds: bounds K of one job.")
    channel_scale: bool | None = Field(
        None, description="A float32 scale of each channel in the stream; by default with integer scales of groups.")


class CoreOutputConfig(Strict):
    format: str = Field("fp32", description="Format of the results: fp32, or any of at most 16 bits.")


class DequantCoreConfig(BitSerialArrayConfig):
    """Keys of a `dequant_core` design description."""

    engine: Literal["dequant_core"] = Field(  # type: ignore[assignment]
        "dequant_core", description="What is generated.")
    memory: MemoryConfig = Field(MemoryConfig(), description="Weights and activations on their way in.")
    output: CoreOutputConfig = Field(  # type: ignore[assignment]
        CoreOutputConfig(), description="What becomes of a result.")


def build_bitserial_array(parsed: BitSerialArrayConfig | None, data: dict[str, Any],
                          where: Where) -> tuple[Any, list[BitkilnError]]:
    """The BitSerialDesign of a description, and all errors beyond the schema's."""
    from .models.design.bitserial import BitSerialDesign, split_serial_pe
    from .models.design.weights import weight_type

    errors = [*check_name(data.get("name"), where(("name",))), *check_target(data.get("target"), where(("target",)))]
    pe, listed = data.get("pe"), data.get("weights")
    names: list[tuple[Any, tuple]] = []
    activation = data.get("activation")
    if isinstance(pe, str) and listed is not None:
        errors.append(BitkilnError("contradictory keys", where=where(("pe",)), got="pe and weights",
                                   expected="one of them"))
    elif isinstance(pe, str):
        side, weight = split_serial_pe(pe)
        activation, names = activation or side, [(weight, ("pe",))]
    elif isinstance(listed, list):
        names = [(name, ("weights", i)) for i, name in enumerate(listed)]
    elif listed is None and pe is None:
        errors.append(BitkilnError("missing key", where=where(("weights",)),
                                   expected="a list of weight types, or pe: ...",
                                   help="for example weights: [bitmod4, int8]"))
    types = {}
    for name, path in names:
        if not isinstance(name, str):
            continue                                   # reported by the schema
        try:
            types[name] = weight_type(name, where=".".join(map(str, path)))
        except BitkilnError as error:
            errors.append(relocate(error, where(path)))
    if parsed is None or errors:
        return None, errors
    for name, given in parsed.special_values.items():
        path = ("special_values", name)
        if name not in types or types[name].special_code is None:
            errors.append(BitkilnError("no weight type with special values", where=where(path), got=name,
                                       expected=", ".join(n for n, t in types.items() if t.special_code is not None)
                                       or "none: special values belong to bitmod3 and bitmod4"))
            continue
        known = types[name]
        try:
            values = tuple(given.values) if given.values is not None else tuple(known.real(v) for v in known.specials)
            types[name] = known.with_specials(values, given.terms)
        except BitkilnError as error:
            errors.append(relocate(error, where(path)))
    if errors:
        return None, errors
    try:
        design = BitSerialDesign(
            tuple(types[name] for name, _ in names), activation or "fp16", lanes=parsed.lanes,
            rows=parsed.array.rows, columns=parsed.array.columns, accumulate=parsed.accumulator.kind,
            guard=parsed.accumulator.guard, rounding=parsed.accumulator.rounding,
            mantissa=parsed.accumulator.mantissa, scale=parsed.scale.format, zero_point=parsed.scale.zero_point,
            dual_scale=parsed.scale.dual, group=parsed.group.size, groups=parsed.group.per_channel,
            zero_skip=parsed.zero_skip, specials=parsed.specials,
            placement=parsed.placement, pipeline=parsed.pipeline,
            output="fp32" if isinstance(parsed, DequantCoreConfig) else parsed.output.format)
    except BitkilnError as error:
        path = tuple(PATHS.get(error.where or "", error.where or "").split("."))
        errors.append(relocate(error, where(path) if path[0] in BitSerialArrayConfig.model_fields else where(())))
        return None, errors
    return design, errors


def effective_bitserial_array(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config["weights"], config["activation"] = [t.name for t in design.weights], design.activation.name
    del config["pe"]                                    # said by weights and activation
    config["accumulator"]["kind"], config["placement"] = design.accumulate, design.placement
    return config


def build_dequant_core(parsed: DequantCoreConfig | None, data: dict[str, Any],
                       where: Where) -> tuple[Any, list[BitkilnError]]:
    """The DequantDesign of a description, and all errors beyond the schema's."""
    from .models.design.dequant import DequantDesign
    from .models.formats import get_format

    array, errors = build_bitserial_array(parsed, data, where)
    if array is None or parsed is None:
        return None, errors
    names = [t.name for t in array.weights]
    for name in parsed.memory.packings:
        if name not in names:
            errors.append(BitkilnError("packing of a type that the core does not have",
                                       where=where(("memory", "packings", name)), got=name, expected=", ".join(names)))
    try:
        get_format(parsed.output.format, where="output.format")
    except BitkilnError as error:
        errors.append(relocate(error, where(("output", "format"))))
    if errors:
        return None, errors
    bus = parsed.memory.bus_bits
    try:
        return DequantDesign(array, tuple(parsed.memory.packings.get(name) for name in names),
                             None if bus is None else bus // 8, parsed.memory.k_chunks, parsed.output.format,
                             parsed.memory.channel_scale), errors
    except BitkilnError as error:
        path = {"output": ("output", "format"), "bus_bytes": ("memory", "bus_bits"), "k_chunks": ("memory", "k_chunks")}
        errors.append(relocate(error, where(path.get((error.where or "").split("[")[0], ("memory",)))))
        return None, errors


def effective_dequant_core(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config = effective_bitserial_array(design.array, config)
    config["memory"] |= {"bus_bits": 8 * design.bus_bytes, "channel_scale": design.channel_scale,
                         "packings": {t.name: p.name for t, p in zip(design.array.weights, design.layout.packings,
                                                                     strict=True)}}
    return config
