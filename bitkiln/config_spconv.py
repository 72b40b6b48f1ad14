"""Design descriptions of `map_search` and `spconv`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .models.design.spconv import MAX_BATCH_BITS, MAX_CAPACITY, MAX_DEPTH
from .models.errors import BitkilnError
from .schema import SCHEMA_VERSION, Strict, TargetConfig, Where, check_name, check_target, relocate

__all__ = ["MapSearchConfig", "SpConvConfig", "build_map_search", "build_spconv", "effective_map_search",
           "effective_spconv"]


class TreeConfig(Strict):
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = Field(11, description="Bits of a coordinate.")
    batch_bits: Annotated[int, Field(ge=0, le=MAX_BATCH_BITS)] = Field(
        1, description="Up to two to this power of clouds at once.")
    capacity: Annotated[int, Field(ge=8, le=MAX_CAPACITY)] = Field(16384, description="Most voxels of all clouds.")
    levels: list[int] | None = Field(
        None, description="Most nodes of level 1, 2, ... depth; by default a share of the capacity.")
    search: str = Field("parity", description="parity: one cycle a node; compact: less memory.")
    queue: Annotated[int, Field(ge=2, le=64)] = Field(
        8, description="Nodes of each level that can wait, a power of two.")
    rows: Annotated[int, Field(ge=2, le=1024)] = Field(
        32, description="Rows of the map that can wait for the consumer, a power of two.")


class ArrayConfig(Strict):
    lanes: Annotated[int, Field(ge=1, le=64)] = Field(16, description="Input channels at a time, a power of two.")
    outputs: Annotated[int, Field(ge=1, le=64)] = Field(
        16, description="Output channels of a pass, a power of two and a multiple of the lanes.")
    pipeline: Annotated[int, Field(ge=0, le=6)] = Field(1, description="Registers inside a product.")
    multiplier: str = Field("chains", description="chains, luts, operator (may use DSP blocks) or pairs (two products "
                                                   "in a block).")


class CacheConfig(Strict):
    pinned: Annotated[int, Field(ge=0, le=27)] = Field(
        27, description="Weight tiles that stay on the chip; the others go through a double buffer.")
    tile_rows: Annotated[int, Field(ge=1, le=1024)] = Field(
        64, description="With pack item: output rows whose pairs are sorted by kernel offset, a power of two.")
    window: Annotated[int, Field(ge=2, le=32)] = Field(
        8, description="With pack row: pairs that a lane can be ahead, plus one; a power of two.")


class MemoryConfig(Strict):
    feature_words: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        65536, description="Words of so many channels as there are lanes, of all tensors.")
    mask_rows: Annotated[int, Field(ge=1, le=1 << 22)] = Field(65536, description="Rows of all tensors.")


class MapSearchConfig(Strict):
    """Keys of a `map_search` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["map_search"] = Field("map_search", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    tree: TreeConfig = Field(TreeConfig(), description="The octree.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


class SpConvConfig(Strict):
    """Keys of an `spconv` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["spconv"] = Field("spconv", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    format: str = Field("int8", description="Format of features and weights: int8, fp8_e4m3, posit8_0, ...")
    channels: Annotated[int, Field(ge=1, le=1024)] = Field(128, description="Most input channels.")
    pack: str = Field("item", description="item: a cycle takes channels of one pair of voxels; row: a lane that has "
                                          "finished a pair goes on with the next one of the same output row.")
    array: ArrayConfig = Field(ArrayConfig(), description="Of products.")
    tree: TreeConfig = Field(TreeConfig(), description="The octree.")
    trees: Annotated[int, Field(ge=1, le=2)] = Field(
        1, description="2: outputs of a convolution may be a cloud of its own (dilating stride 3).")
    cache: CacheConfig = Field(CacheConfig(), description="Order of the work, and which weights stay.")
    memory: MemoryConfig = Field(MemoryConfig(), description="Features on the chip.")
    output_lanes: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Sums requantised in a cycle, a power of two that divides the lanes.")
    queue: Annotated[int, Field(ge=2, le=64)] = Field(16, description="Jobs that can wait, a power of two.")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


def _tree(config: TreeConfig) -> Any:
    from .models.design.spconv import MapDesign

    return MapDesign(config.depth, config.batch_bits, config.capacity,
                     None if config.levels is None else tuple(config.levels), config.search, config.queue, config.rows)


# A parameter of a design dataclass -> the key that gives it.
_TREE = {key: ("tree", key) for key in TreeConfig.model_fields}
_KEYS = {**_TREE, **{key: ("array", key) for key in ArrayConfig.model_fields},
         **{key: ("cache", key) for key in CacheConfig.model_fields},
         **{key: ("memory", key) for key in MemoryConfig.model_fields},
         "slots": ("cache", "tile_rows"), "activation": ("format",), "weight": ("format",),
         "gather.outputs": ("array", "outputs"), "gather.weight": ("format",), "gather.channels": ("channels",)}


def _placed(error: BitkilnError, where: Where, config: type[Strict]) -> BitkilnError:
    key = (error.where or "").split("[")[0]
    path = _KEYS.get(key) or ((key,) if key in config.model_fields else ())
    return relocate(error, where(path))


def _checks(data: dict[str, Any], where: Where) -> list[BitkilnError]:
    return [*check_name(data.get("name"), where(("name",))), *check_target(data.get("target"), where(("target",)))]


def build_map_search(parsed: MapSearchConfig | None, data: dict[str, Any],
                     where: Where) -> tuple[Any, list[BitkilnError]]:
    """The MapDesign of a description, and all errors beyond the schema's."""
    errors = _checks(data, where)
    if parsed is None:
        return None, errors
    try:
        return _tree(parsed.tree), errors
    except BitkilnError as error:
        return None, [*errors, _placed(error, where, MapSearchConfig)]


def build_spconv(parsed: SpConvConfig | None, data: dict[str, Any], where: Where) -> tuple[Any, list[BitkilnError]]:
    """The SpConvDesign of a description, and all errors beyond the schema's."""
    from .models.design.spconv import GatherDesign
    from .models.design.spconv_core import SpConvDesign

    errors = _checks(data, where)
    if parsed is None:
        return None, errors
    try:
        tree = _tree(parsed.tree)
        row = parsed.pack == "row"
        gather = GatherDesign(parsed.format, parsed.format, parsed.array.lanes, parsed.array.outputs, parsed.channels,
                              parsed.pack, parsed.cache.window, 1 if row else parsed.cache.tile_rows,
                              parsed.memory.feature_words, parsed.memory.mask_rows, parsed.cache.pinned + 2,
                              tree.index_bits, parsed.array.pipeline, parsed.array.multiplier)
        return SpConvDesign(tree, gather, parsed.cache.pinned, parsed.trees, parsed.output_lanes,
                            parsed.queue), errors
    except BitkilnError as error:
        return None, [*errors, _placed(error, where, SpConvConfig)]


def effective_map_search(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys, with the sizes of the levels."""
    return {**config, "tree": {**config["tree"], "levels": list(design.levels)}}


def effective_spconv(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys, with the sizes of the levels."""
    return {**config, "tree": {**config["tree"], "levels": list(design.map.levels)}}
