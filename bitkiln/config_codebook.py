"""Design descriptions of `codebook_dequantiser`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .models.errors import BitkilnError
from .schema import SCHEMA_VERSION, Strict, TargetConfig, Where, check_name, check_target, relocate

__all__ = ["CodebookConfig", "build_codebook", "effective_codebook"]


class BlockScaleConfig(Strict):
    format: Literal["none", "fp32", "uint8", "int8", "table8"] = Field(
        "none", description="Scale of a block: beside the codes as float32, or an 8-bit code (unsigned, two's "
                            "complement, or of a table of 256 values) times a float32 step that many blocks share.")
    offset: bool = Field(False, description="With 8-bit codes: a float32 that is added to the scale.")


class CodebookConfig(Strict):
    """Keys of a `codebook_dequantiser` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["codebook_dequantiser"] = Field("codebook_dequantiser", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    output: str = Field("fp16", description="Format of the table entries: an int, fixed, minifloat or posit of 4 to 16 "
                                            "bits, the weight operand of the MAC engine behind.")
    lanes: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Weights looked up in one cycle.")
    code_bits: Literal[3, 4] = Field(4, description="Bits of a code: tables of 8 or 16 entries.")
    tables: Annotated[int, Field(ge=1, le=8)] = Field(1, description="Tables; each block chooses one.")
    scale: BlockScaleConfig = Field(BlockScaleConfig(), description="What stands beside a block's words.")
    word_bits: Annotated[int, Field(ge=4, le=512)] | None = Field(
        None, description="Of an output word, whole chunks; by default one chunk. Before a matmul core: its bus_bits.")
    store: Literal["lutram", "registers"] = Field(
        "lutram", description="Where tables are: LUT memory with a port for each lane, or registers and multiplexers.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


def build_codebook(parsed: CodebookConfig | None, data: dict[str, Any], where: Where) -> tuple[Any, list[BitkilnError]]:
    """The CodebookDesign of a description, and all errors beyond the schema's."""
    from .models.design.codebook import CodebookDesign

    errors = [*check_name(data.get("name"), where(("name",))), *check_target(data.get("target"), where(("target",)))]
    if parsed is None:
        return None, errors
    try:
        return CodebookDesign(parsed.output, parsed.lanes, parsed.code_bits, parsed.tables, parsed.scale.format,
                              parsed.scale.offset, parsed.word_bits, parsed.store), errors
    except BitkilnError as error:
        paths = {"scale": ("scale", "format"), "offset": ("scale", "offset")}
        path = paths.get(error.where or "", (error.where or "",))
        errors.append(relocate(error, where(path) if path[0] in CodebookConfig.model_fields else where(())))
        return None, errors


def effective_codebook(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config["word_bits"] = design.word_bits
    return config
