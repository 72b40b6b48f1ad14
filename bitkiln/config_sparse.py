"""Design descriptions of `sparse_side`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .models.design.sparse import MAX_DEPTH, MAX_LANES, MAX_QUEUE, MAX_SIDE, MAX_TILE
from .models.errors import BitkilnError
from .schema import SCHEMA_VERSION, Strict, TargetConfig, Where, check_name, check_target, relocate

__all__ = ["SparseSideConfig", "build_sparse_side", "effective_sparse_side"]


class DenseConfig(Strict):
    rows: Annotated[int, Field(ge=1, le=MAX_SIDE)] = Field(1, description="Rows of activations.")
    columns: Annotated[int, Field(ge=1, le=MAX_SIDE)] = Field(8, description="Columns of weights.")


class SparseSideConfig(Strict):
    """Keys of a `sparse_side` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["sparse_side"] = Field("sparse_side", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    activation: str = Field("fp16", description="Format of activations: fp16, fp8_e4m3, fp8_e5m2 or int8.")
    value: str = Field("fp16", description="Format of outliers: fp16, int16, int12 or int8.")
    value_exponent: Annotated[int, Field(ge=-64, le=64)] = Field(
        0, description="An outlier is its value times two to this power: integers in the units of the dense weights.")
    array: DenseConfig = Field(DenseConfig(), description="Of the dense engine beside it.")
    lanes: Annotated[int, Field(ge=1, le=MAX_LANES)] = Field(
        4, description="Activations of a row in one chunk, as the dense engine takes them.")
    tile: Annotated[int, Field(ge=1, le=MAX_TILE)] = Field(
        128, description="Most weights along K whose activations are held together, a multiple of the lanes.")
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = Field(1024, description="Most outliers of one result.")
    queue: Annotated[int, Field(ge=2, le=MAX_QUEUE)] = Field(
        16, description="Outliers that can wait for their activations, a power of two.")
    specials: bool = Field(True, description="Track NaN and infinities; without it their codes are finite numbers.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


def build_sparse_side(parsed: SparseSideConfig | None, data: dict[str, Any],
                      where: Where) -> tuple[Any, list[BitkilnError]]:
    """The SparseDesign of a description, and all errors beyond the schema's."""
    from .models.design.sparse import SparseDesign

    errors = [*check_name(data.get("name"), where(("name",))), *check_target(data.get("target"), where(("target",)))]
    if parsed is None:
        return None, errors
    try:
        return SparseDesign(parsed.activation, parsed.value, parsed.value_exponent, parsed.lanes, parsed.array.rows,
                            parsed.array.columns, parsed.tile, parsed.depth, parsed.queue, parsed.specials), errors
    except BitkilnError as error:
        path = tuple((error.where or "").split("."))
        errors.append(relocate(error, where(path) if path[0] in SparseSideConfig.model_fields else where(())))
        return None, errors


def effective_sparse_side(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys; the design adds none."""
    return config
