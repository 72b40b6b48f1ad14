"""Design descriptions of `morphable_pe`, `matmul_array` and `matmul_core`: each has the keys of the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from .models.design.morphable import COMMON_MODES, MAX_PE_PIPELINE
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

__all__ = ["MatmulArrayConfig", "MatmulCoreConfig", "MorphablePeConfig", "build_matmul_array", "build_matmul_core",
           "build_morphable_pe", "effective_matmul_core", "effective_modes"]

# Key of a design's parameter, where the description has another path.
PATHS = {"rules": ("output", "rules"), "outputs": ("output", "formats"), "array.pe.modes": ("modes",)}
FLOAT_SUMS = {"bf16", "fp16", "fp32"}   # operands whose exact sums would be hundreds of bits wide

Built = TypeVar("Built")


# Schemas -------------------------------------------------------------------------------------------

class AccumulatorConfig(Strict):
    kind: Literal["exact", "fp32", "int32"] | None = Field(
        None, description="How products are summed; by default exact, fp32 where an operand is bf16 or fp16.")
    depth: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        1024, description="Products (over all lanes) that an exact sum holds without overflow: the longest K.")
    overflow: Literal["wrap", "saturate"] = Field("wrap", description="saturate is for int32 only.")


class ArrayConfig(Strict):
    rows: Annotated[int, Field(ge=1, le=64)] = Field(4, description="PEs that share a column's weights.")
    columns: Annotated[int, Field(ge=1, le=64)] = Field(4, description="PEs that share a row's activations.")
    dataflow: Literal["output", "weight"] = Field(
        "output", description="What stays in the PEs: sums (output) or weights (weight; not in a core).")
    links: Literal["broadcast", "systolic"] = Field(
        "broadcast", description="One register for each row and column, or operands that move from PE to PE.")


class CoreOutputConfig(Strict):
    rules: list[Literal["raw", "integer", "float"]] | None = Field(
        None, description="What can become of a sum: the sum itself, an integer by multiplier and shift, or any format "
                          "by way of float32; by default all that apply to these modes.")
    formats: list[str] | None = Field(
        None, description="Formats of results; by default the operands' own and, with rule float, fp32.")
    bias: bool = Field(True, description="Build the per-channel bias.")
    accumulate: bool = Field(True, description="Build the input for partial sums (K split over jobs).")


class MorphablePeConfig(Strict):
    """Keys of a `morphable_pe` design description."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this file layout.")
    engine: Literal["morphable_pe"] = Field("morphable_pe", description="What is generated.")
    name: str | None = Field(None, description="Verilog module name; by default it carries the parameters.")
    modes: list[str] | None = Field(
        None, description="Format pairs that can be chosen at run time, by name: one format, or activation x weight; "
                          "operands of 4, 8 or 16 bits.")
    formats: FormatsConfig | None = Field(None, description="The only mode, where modes is absent.")
    accumulator: AccumulatorConfig = Field(AccumulatorConfig(), description="How products are summed.")
    implementation: Literal["merged", "parallel", "packed"] | None = Field(
        None, description="One multiplier for all modes, dedicated lanes, or all products in two DSP blocks; by "
                          "default the one of the first two that was measured smaller.")
    pipeline: Annotated[int, Field(ge=0, le=MAX_PE_PIPELINE)] = Field(
        0, description="Register stages between operands and accumulator.")
    multiplier: Literal["chains", "luts", "operator"] = Field(
        "chains", description="Row adders by carry chains (fewest cells), by LUTs (dedicated lanes only), or products "
                              "left to the tool (DSP blocks; of dedicated lanes those of 5 x 5 bits and more).")
    target: TargetConfig = Field(TargetConfig(), description="Where `bitkiln synth` measures.")


class MatmulArrayConfig(MorphablePeConfig):
    """Keys of a `matmul_array` design description."""

    engine: Literal["matmul_array"] = Field(  # type: ignore[assignment]
        "matmul_array", description="What is generated.")
    array: ArrayConfig = Field(ArrayConfig(), description="Rows and columns of PEs.")


class MatmulCoreConfig(MatmulArrayConfig):
    """Keys of a `matmul_core` design description."""

    engine: Literal["matmul_core"] = Field(  # type: ignore[assignment]
        "matmul_core", description="What is generated.")
    k_words: Annotated[int, Field(ge=16, le=4096)] = Field(
        512, description="Depth of an operand tile in 16-bit words, a power of two: bounds K of one job.")
    bus_bits: Literal[32, 64, 128, 256, 512] = Field(64, description="Data width of every AXI4-Stream [bits].")
    output_lanes: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Results rounded per cycle, a power of two that divides the columns; by default enough to "
                          "drain a tile in 48 cycles.")
    queue: Annotated[int, Field(ge=1, le=4)] = Field(2, description="Jobs that wait while one computes.")
    output: CoreOutputConfig = Field(CoreOutputConfig(), description="What becomes of the sums.")
    block: list[str] = Field(default_factory=list, description="Group formats whose block scales the core applies "
                                                               "(mxfp4, nvfp4, ...).")
    descriptors: bool = Field(False, description="An AXI4 master that fetches jobs and operands by descriptors, "
                                                 "instead of streams.")
    address_bits: Annotated[int, Field(ge=16, le=64)] = Field(32, description="Width of the master's addresses.")
    counters: bool = Field(True, description="Build the cycle, stall and MAC counters.")


# Designs -------------------------------------------------------------------------------------------

class _Builder:
    """Collects errors while it makes the parts of a design."""

    def __init__(self, parsed: MorphablePeConfig | None, data: dict[str, Any], where: Where):
        self.parsed, self.data, self.where = parsed, data, where
        self.errors: list[BitkilnError] = [*check_name(data.get("name"), where(("name",))),
                                           *check_target(data.get("target"), where(("target",)))]

    def attempt(self, make: Callable[[], Built], path: tuple | None = None) -> Built | None:
        """What ``make`` makes; an error goes to the list, at ``path`` or at the key that it names."""
        try:
            return make()
        except BitkilnError as error:
            self.errors.append(relocate(error, self.where(self._path(error) if path is None else path)))
            return None

    def _path(self, error: BitkilnError) -> tuple:
        where = error.where or ""
        key = PATHS.get(where, tuple(where.split(".")))
        return key if key[0] in MatmulCoreConfig.model_fields else ()

    def names(self, path: tuple) -> list[tuple[tuple, str]]:
        """Texts of a list, each with its place; what is no text is reported by the schema."""
        value: Any = self.data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return [((*path, index), item) for index, item in enumerate(value) if isinstance(item, str)] \
            if isinstance(value, list) else []

    def modes(self) -> list[Any] | None:
        """Modes of ``modes`` or ``formats``, None where one of them is wrong."""
        from .models.design import Mode
        from .models.formats import get_format

        data, where = self.data, self.where
        before = len(self.errors)
        found: list[Any] = []
        modes, formats = data.get("modes"), data.get("formats")
        if modes is not None and formats is not None:
            self.errors.append(BitkilnError("contradictory keys", where=where(("modes",)), got="modes and formats",
                                            expected="one of them"))
        elif modes is not None:
            for path, name in self.names(("modes",)):
                mode = self.attempt(lambda name=name: Mode.of(name), path)
                if mode is None:
                    continue
                if mode.name in [other.name for other in found]:
                    self.errors.append(BitkilnError("mode named twice", where=where(path), got=name,
                                                    expected="each mode once"))
                found.append(mode)
            if modes == []:
                self.errors.append(BitkilnError("no modes", where=where(("modes",)), got="an empty list",
                                                expected="at least one PE name", help=_example_modes()))
        elif isinstance(formats, dict):
            pair = []
            for role in ("activation", "weight"):
                name = formats.get(role)
                if isinstance(name, str):
                    fmt = self.attempt(lambda name=name: get_format(name), ("formats", role))
                    pair += [] if fmt is None else [fmt]
            mode = self.attempt(lambda: Mode(*pair), ("formats",)) if len(pair) == 2 else None
            found += [] if mode is None else [mode]
        elif formats is None:
            self.errors.append(BitkilnError("missing key", where=where(("modes",)), expected="a list of PE names",
                                            help=_example_modes()))
        return found if found and len(self.errors) == before else None

    def pe(self) -> Any:
        """The MorphableDesign."""
        from .models.design import Accumulator, MorphableDesign

        modes, parsed = self.modes(), self.parsed
        if modes is None or parsed is None:
            return None
        names = {fmt.name for mode in modes for fmt in (mode.activation, mode.weight)}
        settings = parsed.accumulator
        kind = settings.kind or ("fp32" if names & FLOAT_SUMS else "exact")
        return self.attempt(lambda: MorphableDesign(
            tuple(modes), Accumulator(kind, settings.depth, overflow=settings.overflow), parsed.implementation,
            parsed.pipeline, parsed.multiplier))

    def array(self) -> Any:
        """The ArrayDesign."""
        from .models.design import ArrayDesign

        pe, parsed = self.pe(), self.parsed
        if pe is None or not isinstance(parsed, MatmulArrayConfig):
            return None
        wanted = parsed.array
        return self.attempt(lambda: ArrayDesign(wanted.rows, wanted.columns, pe, wanted.dataflow, wanted.links))

    def core(self) -> Any:
        """The MatmulDesign."""
        from .models.design import MatmulDesign
        from .models.formats import get_format, get_group_format

        before = len(self.errors)
        for path, name in self.names(("output", "formats")):
            self.attempt(lambda name=name: get_format(name), path)
        for path, name in self.names(("block",)):
            self.attempt(lambda name=name: get_group_format(name), path)
        named_well = len(self.errors) == before
        array, parsed = self.array(), self.parsed
        if array is None or not named_well or not isinstance(parsed, MatmulCoreConfig):
            return None
        output = parsed.output
        return self.attempt(lambda: MatmulDesign(
            array, k_words=parsed.k_words, bus_bits=parsed.bus_bits, output_lanes=parsed.output_lanes,
            queue=parsed.queue, rules=None if output.rules is None else tuple(output.rules),
            outputs=None if output.formats is None else tuple(output.formats), bias=output.bias,
            accumulate=output.accumulate, block=tuple(parsed.block), descriptors=parsed.descriptors,
            address_bits=parsed.address_bits, counters=parsed.counters))


def _example_modes() -> str:
    return f"for example modes: [fp4, posit8_0]; common ones are {', '.join(COMMON_MODES)}"


def build_morphable_pe(parsed: MorphablePeConfig | None, data: dict[str, Any],
                       where: Where) -> tuple[Any, list[BitkilnError]]:
    """The MorphableDesign of a description, and all errors beyond the schema's."""
    builder = _Builder(parsed, data, where)
    return builder.pe(), builder.errors


def build_matmul_array(parsed: MatmulArrayConfig | None, data: dict[str, Any],
                       where: Where) -> tuple[Any, list[BitkilnError]]:
    """The ArrayDesign of a description, and all errors beyond the schema's."""
    builder = _Builder(parsed, data, where)
    return builder.array(), builder.errors


def build_matmul_core(parsed: MatmulCoreConfig | None, data: dict[str, Any],
                      where: Where) -> tuple[Any, list[BitkilnError]]:
    """The MatmulDesign of a description, and all errors beyond the schema's."""
    builder = _Builder(parsed, data, where)
    return builder.core(), builder.errors


def effective_modes(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    pe = getattr(design, "pe", design)
    config["modes"] = [mode.name for mode in pe.modes]
    del config["formats"]                               # said by modes
    config["accumulator"]["kind"], config["implementation"] = pe.accumulator.kind, pe.implementation
    return config


def effective_matmul_core(design: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The validated keys with what the design decided."""
    config = effective_modes(design, config)
    config["output_lanes"] = design.output_lanes
    config["output"]["rules"], config["output"]["formats"] = list(design.rules), list(design.outputs)
    return config
