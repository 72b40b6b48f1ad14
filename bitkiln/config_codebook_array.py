"""Design descriptions of `codebook_array`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .config_codebook import BlockScaleConfig
from .models.design.codebook_array import MAX_BLOCK
from .models.design.morphable import MAX_PE_PIPELINE
from .models.errors import BitkilnError
from .schema import SCHEMA_VERSION, Strict, TargetConfig, Where, check_name, check_target, relocate

__all__ = ["CodebookArrayConfig", "build_codebook_array", "effective_codebook_array"]

# Key of a design's parameter, where the description has another path.
PATHS = {"rows": ("array", "rows"), "columns": ("array", "columns"), "links": ("array", "links"),
         "scale": ("scale", "format"), "offset": ("scale", "offset"), "accumulator": ("accumulator", "kind")}


class ArrayConfig(Strict):
    rows: Annotated[int, Field(ge=1, le=64)] = Field(4, description="MACs that share a column's weights.")
    columns: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="MACs that share a row's activations; each column has a dequantiser.")
    links: Literal["broadcast", "systolic"] = Field(
        "broadcast", description="One register for each row and column, or operands that move from MAC to MAC.")


class SumConfig(Strict):
    kind: Literal["exact", "fp32"] | None = Field(
        None, description="How the products of a block are summed; by default exact, fp32 where an operand is bf16 or "
                          "fp16.")


class CodebookArrayConfig(Strict):
    """Keys of a `codebook_array` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["codebook_array"] = Field("codebook_array", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    activation: str = Field("fp8_e4m3", description="Format of activations: an int, fixed, minifloat or posit of 4, 8 "
                                                    "or 16 bits.")
    weight: str | None = Field(None, description="Format of the table entries, no wider than the activations' and by "
                                                 "default the same.")
    array: ArrayConfig = Field(ArrayConfig(), description="Rows and columns of MACs.")
    code_bits: Literal[3, 4] = Field(4, description="Bits of a code: tables of 8 or 16 entries.")
    tables: Annotated[int, Field(ge=1, le=8)] = Field(1, description="Tables; each column's block chooses one.")
    scale: BlockScaleConfig = Field(BlockScaleConfig(format="fp32"), description="Scale of a column's block.")
    block: Annotated[int, Field(ge=1, le=MAX_BLOCK)] = Field(
        256, description="Longest block along K in weights, the exact accumulator's depth; any shorter one works.")
    accumulator: SumConfig = Field(SumConfig(), description="How the products of a block are summed.")
    implementation: Literal["parallel", "packed"] = Field(
        "parallel", description="Dedicated lanes, or all products in two DSP blocks.")
    pipeline: Annotated[int, Field(ge=0, le=MAX_PE_PIPELINE)] = Field(
        1, description="Register stages between operands and accumulator.")
    multiplier: Literal["chains", "luts", "operator"] = Field(
        "chains", description="Row adders by carry chains (fewest cells), by LUTs, or products left to the tool.")
    result_lanes: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Results scaled in one cycle, a divisor of the columns; by default the fewest that keep up "
                          "with blocks of 64 weights.")
    store: Literal["lutram", "registers"] = Field(
        "lutram", description="Where tables are: LUT memory with a port for each lane, or registers and multiplexers.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


def build_codebook_array(parsed: CodebookArrayConfig | None, data: dict[str, Any],
                         where: Where) -> tuple[Any, list[BitkilnError]]:
    """The CodebookArrayDesign of a description, and all errors beyond the schema's."""
    from .models.design.codebook_array import CodebookArrayDesign

    errors = [*check_name(data.get("name"), where(("name",))), *check_target(data.get("target"), where(("target",)))]
    if parsed is None:
        return None, errors
    try:
        return CodebookArrayDesign(
            parsed.activation, parsed.weight or parsed.activation, parsed.array.rows, parsed.array.columns,
            parsed.code_bits, parsed.tables, parsed.scale.format, parsed.scale.offset, parsed.block,
            parsed.accumulator.kind, parsed.array.links, parsed.implementation, parsed.pipeline, parsed.multiplier,
            parsed.result_lanes, parsed.store), errors
    except BitkilnError as error:
        path = PATHS.get(error.where or "", tuple((error.where or "").split(".")))
        errors.append(relocate(error, where(path) if path[0] in CodebookArrayConfig.model_fields else where(())))
        return None, errors


def effective_codebook_array(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config["weight"] = design.weight.name
    config["accumulator"]["kind"] = design.accumulator
    config["result_lanes"] = design.result_lanes
    return config
