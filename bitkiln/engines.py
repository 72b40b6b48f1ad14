"""The one registry of engines: everything the tool needs to know about each.

Adding an engine means one entry here; the parts it names are looked up only when used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .models.errors import BitkilnError, nearest

__all__ = ["Engine", "default_engine", "engine", "engine_names", "one_of"]


@dataclass(frozen=True)
class Engine:
    """Where the parts of an engine live, each as ``module:name`` relative to ``bitkiln``.

    Attributes
    ----------
    starter : name of the preset that `bitkiln init` writes.
    config : pydantic model of its YAML keys.
    build : validated keys, raw keys and their places -> frozen design dataclass of ``models.design``, and errors.
    effective : design and validated keys -> effective configuration.
    component : design -> Amaranth component.
    steps : the checks of `bitkiln sim`.
    datasheet : design -> ``flow.datasheet.Datasheet``, the generated README.
    diagram : design -> ``report.diagram.canvas.Diagram``, its block diagram.
    vectors : design -> stimuli and expected outputs of the generated Verilog test bench; empty for none.
    collateral : design and module name -> further files to generate; empty for none.
    bench : module of the cocotb bench; empty for none.
    run_bench : resolved design and seed -> outcome of that bench, for `bitkiln view`.
    example : keys that make a design where a command names only the engine.
    """

    name: str
    summary: str
    starter: str
    config: str
    build: str
    effective: str
    component: str
    steps: str
    datasheet: str
    diagram: str
    vectors: str = ""
    collateral: str = ""
    bench: str = ""
    run_bench: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)

    def load(self, part: str) -> Any:
        """The object behind an attribute of this entry; None where the entry leaves it empty."""
        module, _, name = getattr(self, part).partition(":")
        if not module:
            return None
        loaded = importlib.import_module(f"bitkiln.{module}")
        return getattr(loaded, name) if name else loaded


# Small and wide, tables and shifters, integers and posits: what a check of an engine should meet.
_EXAMPLE_MODES = {"modes": ["fp4", "posit8_0", "int8"]}

_ENGINES = {
    entry.name: entry for entry in (
        Engine(
            name="dot_unit",
            summary="multi-lane dot product with one exact accumulator",
            starter="dot_int8xfp4",
            config="config_dot:DotUnitConfig",
            build="config_dot:build_dot_unit",
            effective="config_dot:effective_dot_unit",
            component="hw.mac.dot:DotUnit",
            steps="flow.simulate_dot:dot_steps",
            datasheet="flow.dot_datasheet:dot_datasheet",
            diagram="report.diagram.dot:dot_diagram",
            vectors="flow.dot_vectors:dot_vectors",
            bench="sim.benches.dot",
            run_bench="flow.simulate_dot:bench",
            example={"pe": "fp4"},
        ),
        Engine(
            name="morphable_pe",
            summary="processing element whose number formats are chosen at run time",
            starter="morphable_xr_npe",
            config="config_matmul:MorphablePeConfig",
            build="config_matmul:build_morphable_pe",
            effective="config_matmul:effective_modes",
            component="hw.mac.morphable:MorphablePe",
            steps="flow.simulate_matmul:pe_steps",
            datasheet="flow.matmul_datasheet:pe_datasheet",
            diagram="report.diagram.matmul:pe_diagram",
            vectors="flow.morphable_vectors:morphable_vectors",
            example=_EXAMPLE_MODES,
        ),
        Engine(
            name="matmul_array",
            summary="rows and columns of switchable processing elements",
            starter="matmul_array_xr_npe_4x4",
            config="config_matmul:MatmulArrayConfig",
            build="config_matmul:build_matmul_array",
            effective="config_matmul:effective_modes",
            component="flow.simulate_matmul:array_component",
            steps="flow.simulate_matmul:array_steps",
            datasheet="flow.matmul_datasheet:array_datasheet",
            diagram="report.diagram.matmul:array_diagram",
            example=_EXAMPLE_MODES,
        ),
        Engine(
            name="matmul_core",
            summary="matrix-multiplication co-processor with AXI registers and streams",
            starter="matmul_core_edge",
            config="config_matmul:MatmulCoreConfig",
            build="config_matmul:build_matmul_core",
            effective="config_matmul:effective_matmul_core",
            component="hw.mac.core:MatmulCore",
            steps="flow.simulate_matmul:core_steps",
            datasheet="flow.matmul_datasheet:core_datasheet",
            diagram="report.diagram.matmul:core_diagram",
            collateral="flow.matmul_collateral:core_collateral",
            bench="sim.benches.matmul_core",
            run_bench="flow.simulate_matmul:bench",
            example=_EXAMPLE_MODES,
        ),
        Engine(
            name="bitserial_array",
            summary="bit-serial processing elements for weights of 1 to 8 bits, with group dequantisers",
            starter="bitserial_bitmod",
            config="config_bitserial:BitSerialArrayConfig",
            build="config_bitserial:build_bitserial_array",
            effective="config_bitserial:effective_bitserial_array",
            component="hw.dequant.array:BitSerialArray",
            steps="flow.simulate_bitserial:array_steps",
            datasheet="flow.bitserial_datasheet:array_datasheet",
            diagram="report.diagram.serial:array_diagram",
            bench="sim.benches.bitserial",
            run_bench="flow.simulate_bitserial:bench",
            example={"weights": ["bitmod4", "bitmod3", "int8"], "array.rows": 2, "array.columns": 2},
        ),
        Engine(
            name="dequant_core",
            summary="matrix products of packed low-bit weights from memory, through the bit-serial array",
            starter="dequant_core_edge",
            config="config_bitserial:DequantCoreConfig",
            build="config_bitserial:build_dequant_core",
            effective="config_bitserial:effective_dequant_core",
            component="hw.dequant.core:DequantCore",
            steps="flow.simulate_bitserial:core_steps",
            datasheet="flow.bitserial_datasheet:core_datasheet",
            diagram="report.diagram.serial:core_diagram",
            example={"weights": ["bitmod4", "bitmod3", "ternary"], "array.rows": 2, "array.columns": 2},
        ),
        Engine(
            name="codebook_dequantiser",
            summary="weights looked up in tables written at run time (NF4 and others), for a MAC engine behind",
            starter="codebook_dequantiser_nf4",
            config="config_codebook:CodebookConfig",
            build="config_codebook:build_codebook",
            effective="config_codebook:effective_codebook",
            component="hw.dequant.codebook:CodebookDequantiser",
            steps="flow.simulate_codebook:codebook_steps",
            datasheet="flow.codebook_datasheet:codebook_datasheet",
            diagram="report.diagram.codebook:dequantiser_diagram",
            example={"scale.format": "uint8"},
        ),
        Engine(
            name="codebook_array",
            summary="array of MACs with a codebook dequantiser for each column, results scaled block by block",
            starter="codebook_array_nf4",
            config="config_codebook_array:CodebookArrayConfig",
            build="config_codebook_array:build_codebook_array",
            effective="config_codebook_array:effective_codebook_array",
            component="hw.dequant.codebook_array:CodebookArray",
            steps="flow.simulate_codebook:array_steps",
            datasheet="flow.codebook_datasheet:array_datasheet",
            diagram="report.diagram.codebook:array_diagram",
            example={"scale.format": "uint8", "array.rows": 2, "array.columns": 2},
        ),
        Engine(
            name="sparse_side",
            summary="outliers of a weight matrix, one a cycle, summed exactly beside a dense engine",
            starter="sparse_side_squeezellm",
            config="config_sparse:SparseSideConfig",
            build="config_sparse:build_sparse_side",
            effective="config_sparse:effective_sparse_side",
            component="hw.dequant.sparse:SparseSide",
            steps="flow.simulate_sparse:sparse_steps",
            datasheet="flow.sparse_datasheet:sparse_datasheet",
            diagram="report.diagram.sparse:sparse_diagram",
        ),
        Engine(
            name="map_search",
            summary="octree of a point cloud's voxels and its convolution maps (rulebooks)",
            starter="map_search_lidar",
            config="config_spconv:MapSearchConfig",
            build="config_spconv:build_map_search",
            effective="config_spconv:effective_map_search",
            component="hw.spconv.search:MapSearch",
            steps="flow.simulate_spconv:search_steps",
            datasheet="flow.spconv_datasheet:search_datasheet",
            diagram="report.diagram.spconv:search_diagram",
            example={"tree.depth": 7, "tree.capacity": 1024},
        ),
        Engine(
            name="spconv",
            summary="sparse-convolution co-processor: octree, map search, gather-MAC, weight cache",
            starter="spconv_edge",
            config="config_spconv:SpConvConfig",
            build="config_spconv:build_spconv",
            effective="config_spconv:effective_spconv",
            component="hw.spconv.core:SpConvCore",
            steps="flow.simulate_spconv:core_steps",
            datasheet="flow.spconv_datasheet:core_datasheet",
            diagram="report.diagram.spconv:core_diagram",
            collateral="flow.spconv_datasheet:core_collateral",
            bench="sim.benches.spconv",
            run_bench="flow.simulate_spconv:bench",
            example={"array.lanes": 4, "array.outputs": 4, "channels": 16, "tree.depth": 7, "tree.capacity": 1024,
                     "trees": 2, "cache.pinned": 12, "cache.tile_rows": 16, "memory.feature_words": 16384,
                     "memory.mask_rows": 8192},
        ),
    )
}


def engine_names() -> list[str]:
    return list(_ENGINES)


def default_engine(pe: object) -> str:
    """The engine of a description that names none: by its PE."""
    from .models.design.bitserial import is_serial_pe

    return "bitserial_array" if is_serial_pe(pe) else "dot_unit"


def one_of(names: list[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def engine(name: object, where: str = "engine") -> Engine:
    """The registry entry of ``name``."""
    if not isinstance(name, str) or name not in _ENGINES:
        raise BitkilnError("unknown engine", where=where, got=name, expected=one_of(engine_names()),
                           help=nearest(name, _ENGINES))
    return _ENGINES[name]
