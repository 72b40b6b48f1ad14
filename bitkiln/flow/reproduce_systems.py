"""Claims about whole engines: XR-NPE, BitMoD, SpOctA."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..models.cost.area.area import area_estimate, technology
from ..models.cost.llm.llm_compare import PROMPT, TASKS, compare
from ..models.cost.llm.llm_published import MEANS
from ..models.cost.mapping import peak_macs
from ..models.cost.papers import PAPERS, PUBLISHED
from ..models.cost.quantity import Quantity
from ..models.cost.spconv.map_baselines import descent_parity, hash_search, tree_cycles
from ..models.cost.spconv.spconv_core import layer_cost
from ..models.cost.spconv.weight_cache import compare as compare_caches
from ..models.cost.spconv.weight_cache import demands
from ..models.design import XR_NPE_MODES, Mode, MorphableDesign
from ..models.golden.spconv import build_tree, canonicalise, encode_keys, submanifold
from ..models.workloads.scenes import depth_scene, lidar_scene
from ..models.workloads.shapes_registry import get_workload
from ..models.workloads.spconv_nets import network, run_network
from ..models.workloads.voxelise import Voxels, voxelise
from .energy import mac_energy
from .reproduce import Comparison, Options, comparison, missing
from .reproduce_measure import ecp5_cells

__all__ = ["bitmod", "spocta", "xr_npe"]

SHARING = "against four dedicated dot units of the same lanes and depth (1,024), which favours them: no multiplexer"
NET = "second-small"
WIDTHS = (48, 64, 96, 128)      # channels of the cache's figures in the paper
CACHE_BYTES = 96 * 1024
SEED = 1
STREET_COLUMNS = 512            # of the LiDAR for whole networks: fewer voxels, seconds instead of minutes


# XR-NPE ----------------------------------------------------------------------------------------------


def xr_npe(options: Options) -> list[Comparison]:
    design = MorphableDesign(XR_NPE_MODES)
    units = [design.dot(mode) for mode in design.modes]
    rows = []
    for tech in options.technologies:
        shared, parts = area_estimate(design, tech), [area_estimate(unit, tech) for unit in units]
        what, claim = f"area saved by sharing one PE, {tech} (model)", PUBLISHED["xr_area"]
        if shared.value is None or any(part.value is None for part in parts):
            why = next((each.note for each in (shared, *parts) if each.value is None), "")
            rows.append(comparison(claim, Quantity(None, "%", "model", why), what))
        else:
            total = sum(part.value or 0.0 for part in parts)
            rows.append(comparison(claim, Quantity(
                100 * (1 - shared.value / total), "%", "model",
                f"{shared.source}; {shared.value:,.0f} against {total:,.0f} {shared.unit}"), what, SHARING))
        if technology(tech).unit == "um2":
            value = None if shared.value is None else shared.value * 1e-6
            rows.append(comparison(PUBLISHED["xr_mm2"], Quantity(value, "mm2", "model", shared.note or shared.source),
                                   f"area of one PE, {tech}", "another process, a PE without memories or AXI"))
    if options.measure:
        shared_cells = ecp5_cells(design, options.progress)
        total = sum(ecp5_cells(unit, options.progress) for unit in units)
        rows.append(comparison(PUBLISHED["xr_area"], Quantity(
            100 * (1 - shared_cells / total), "%", "measured",
            f"Yosys synth_ecp5: {shared_cells:,.0f} against {total:,.0f} LUT4 + 2 CCU2C"),
            "area saved by sharing one PE, ecp5 (synthesis)", SHARING))
    for mode in design.modes:
        rows.append(comparison(PUBLISHED["xr_simd"], Quantity(
            peak_macs(design, mode.name), "products a cycle", "exact", "lanes of the RTL in this mode"),
            f"SIMD in {mode.name}"))
    for name, energy in mac_energy(design, "sky130hd").items():
        rows.append(comparison(PUBLISHED["xr_pj"], energy, f"energy of a product in {name}, sky130hd",
                               "130 nm against 28 nm; theirs may be of a whole operation of the engine"))
    rows.append(_vio_intensity())
    rows += [missing(PUBLISHED["xr_power"], "no energy model of operand isolation in the shared PE; `make bench "
                     "SUITE=matmul ONLY=pe_isolation` counts the toggles of unused lanes in RTL"),
             missing(PUBLISHED["xr_luts"], "their baselines are whole accelerators that are not there as RTL"),
             missing(PUBLISHED["xr_vio"], "needs their chip, data set and baseline")]
    return rows


def _vio_intensity() -> Comparison:
    """Bytes of the VIO network in Posit(16,1) over those in FP4 with Posit(8,0) first and last."""
    workload = get_workload("ul-vio-like")

    def bits(layer_class: str) -> int:
        return Mode.of("posit8_0" if layer_class in ("first", "last") else "fp4").weight.bits

    wide = sum((layer.inputs + layer.weights) * 16 for layer in workload.layers)
    narrow = sum((layer.inputs + layer.weights) * bits(layer.layer_class) for layer in workload.layers)
    return comparison(PUBLISHED["xr_intensity"], Quantity(
        wide / narrow, "x", "exact", f"{workload.name}: {wide // 8:,} against {narrow // 8:,} bytes of operands for "
        f"{workload.macs:,} products"), "arithmetic intensity, FP4 with Posit(8,0) first and last against Posit(16,1)",
        "each operand read once; their mix of formats and their baseline are not known")


# BitMoD ----------------------------------------------------------------------------------------------


def bitmod(options: Options) -> list[Comparison]:
    del options
    published = {task: compare(task, "published") for task in TASKS}
    exact = {task: compare(task, "exact") for task in TASKS}
    rows = []
    for (faster, slower, task), paper in MEANS.items():
        tasks = TASKS if task == "mean" else (task,)
        text, citation = f"mean speed-up over six models: {paper:g} x", PAPERS["BitMoD"] + " and section V-D"

        def row(what: str, value: float, kind: str, source: str, assumptions: str, *, text: str = text,
                citation: str = citation, paper: float = paper) -> Comparison:
            return Comparison(what, text, citation, Quantity(value, "x", kind, source), assumptions, paper, paper)

        mean = sum(published[each].means(faster, slower).paper for each in tasks) / len(tasks)
        rows.append(row(f"{faster} over {slower}, {task}: their accounting", mean, "model",
                        "their released simulator rebuilt (models.cost.llm.llm_compare, published)",
                        "20 generated tokens; mean bits of ANT and OliVe found by search, all 60 printed cycle counts "
                        "come out"))
        for name in (faster, faster.replace("BitMoD", "Bitkiln")):
            mean = float(np.prod([exact[each].means(name, slower).geometric for each in tasks]) ** (1 / len(tasks)))
            rows.append(row(f"{name} over {slower}, {task}: exact accounting", mean, "model",
                            "closed form of our RTL's cycles" if name.startswith("Bitkiln") else
                            "their array with stored bits and real attention",
                            f"geometric mean; all metadata of the weights, {PROMPT} generated tokens over a growing "
                            "context, 8-bit keys and values; 1 GHz"))
    return rows


# SpOctA ----------------------------------------------------------------------------------------------


def _scenes() -> Iterator[tuple[str, Voxels, Voxels]]:
    """Name, fine voxels, and the coarser ones that networks take."""
    room = depth_scene(SEED)
    yield "generated room, 4 cm", voxelise(room, 0.04), voxelise(room, 0.16)
    street = lidar_scene(SEED)
    few = lidar_scene(SEED, columns=STREET_COLUMNS)
    yield "generated street, 20 cm", voxelise(street, 0.2), voxelise(few, 0.8)


def spocta(options: Options) -> list[Comparison]:
    rows = []
    for name, fine, coarse in _scenes():
        options.progress(name)
        rows += [_search(name, fine), *_latency(name, coarse), *_cache(name, fine)]
    rows += [missing(PUBLISHED[key], "their baselines are other accelerators on data that is not there")
             for key in ("octa_speed", "octa_energy")]
    return rows


def _search(name: str, voxels: Voxels) -> Comparison:
    depth = max(voxels.depth, 1)
    keys = np.sort(encode_keys(voxels.indices, depth))
    serial = hash_search(keys, depth)
    ours = descent_parity(build_tree(keys, depth)).cycles + tree_cycles(len(keys), depth)
    return comparison(PUBLISHED["octa_search"], Quantity(
        serial.cycles / ours, "x", "model", f"cycle models (map_search.py compares them with RTL): {serial.cycles:,} "
        f"against {ours:,} cycles for {len(keys):,} voxels"), f"map search, {name}",
        "baseline: a hash table with one port, 26 look-ups, its building counted; ours: one descent of eight banks and "
        "the building of its tree")


def _latency(name: str, voxels: Voxels) -> list[Comparison]:
    from .spconv import network_codes, sized_design

    net = network(NET)
    depth = max(voxels.depth, net.stages + 1)
    cloud = canonicalise(voxels.indices, (1 << depth,) * 3, depth=depth)
    design = sized_design(build_tree(cloud.keys, depth).counts, depth, NET)
    runs = run_network(design, net, cloud, network_codes(design, voxels, net.inputs)[cloud.perm], 0)
    costs = [(each.layer.name, layer_cost(design, each.map, each.inputs, each.layer.outputs)) for each in runs.layers]
    rows = []
    for key, what in (("absent", "absent neighbours"), ("zero", "zero channels of what remains"), ("both", "both")):
        shares = {layer: 100 * getattr(cost, key) for layer, cost in costs}
        rows.append(comparison(PUBLISHED["octa_latency"], Quantity(
            float(np.mean(list(shares.values()))), "%", "model",
            f"mean of {len(shares)} layers, {min(shares.values()):.1f} to {max(shares.values()):.1f} %: " +
            ", ".join(f"{layer} {share:.0f}" for layer, share in shares.items())),
            f"latency saved by {what}, {NET}, {name.split(',')[0]}",
            f"{len(voxels):,} voxels, 16 lanes, 16 outputs, random weights: the share of zeros after each ReLU is not "
            "a trained network's; baseline: all neighbours and all channels"))
    return rows


def _cache(name: str, voxels: Voxels) -> list[Comparison]:
    depth = max(voxels.depth, 1)
    conv = submanifold(np.sort(encode_keys(voxels.indices, depth)), depth)
    rows = []
    for tile in (1, 64):
        wanted = demands(conv.out, conv.k, tile)
        saved = []
        for width in WIDTHS:
            found = compare_caches(wanted, width, width, CACHE_BYTES)
            saved.append(100 * (1 - found["non-uniform"].fetched / found["uniform"].fetched))
        rows.append(comparison(PUBLISHED["octa_cache"], Quantity(
            float(np.mean(saved)), "%", "model", f"trace model, mean over {len(WIDTHS)} widths: " +
            ", ".join(f"{width} channels {share:.1f}" for width, share in zip(WIDTHS, saved, strict=True))),
            f"external access energy saved by the cache, tiles of {tile} rows, {name}",
            f"{CACHE_BYTES // 1024} KiB; uniform: the same share of every offset"))
    return rows
