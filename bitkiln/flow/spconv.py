"""A point cloud through a sparse network on the core: what it is, what each layer costs, whether the RTL agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..host.spconv import Program, compile_network, memory_needed
from ..host.spconv_cycles import program_cycles
from ..models.cost.spconv.map_baselines import all_costs
from ..models.cost.spconv.map_search import descent_cycles
from ..models.cost.spconv.spconv_core import LayerCost, layer_cost
from ..models.design.spconv import GatherDesign, MapDesign
from ..models.design.spconv_core import SpConvDesign
from ..models.errors import BitkilnError, nearest
from ..models.golden.spconv import build_tree, canonicalise, encode_keys
from ..models.workloads.pointcloud import PointCloud, read_points
from ..models.workloads.scenes import depth_scene, lidar_scene
from ..models.workloads.spconv_nets import NetworkRun, network, run_network
from ..models.workloads.voxelise import Voxels, cloud_statistics, voxel_features, voxelise

__all__ = ["FrameReport", "SCENES", "frame_report", "load_frame", "network_codes", "sized_design"]

SCENES = {"street": lidar_scene, "room": depth_scene}
CHANNELS = 6        # features that a voxel has; the rest of a word is zero
LANES, OUTPUTS = 16, 16
LARGEST = {"int8": 127.0}


@dataclass(frozen=True)
class FrameReport:
    """Everything `bitkiln spconv` prints.

    Attributes
    ----------
    design : SpConvDesign
    statistics : dict
        Of the cloud.
    search : list of dict
        Cycles of a 3x3x3 map by method: ``name``, ``cycles``, ``words``, ``comparators``.
    layers : list of (name, operation, zero share of the inputs, LayerCost)
        The cost's cycles are those of its units side by side; the core's are in ``jobs``.
    run : NetworkRun
    jobs : list of (name, int)
        Cycles of each job of the core's program: the frame and its tree (``load``), layers, results (``store``). Equal
        to the RTL's.
    rtl : dict, optional
        What the simulated core counted.
    """

    design: SpConvDesign
    source: str
    statistics: dict[str, Any]
    search: list[dict[str, Any]]
    layers: list[tuple[str, str, float, LayerCost]]
    run: NetworkRun
    jobs: list[tuple[str, int]]
    clock_mhz: float
    rtl: dict[str, int] | None = None
    pictures: list[str] = field(default_factory=list)

    @property
    def cycles(self) -> int:
        """Of a frame: the tree while its voxels come, the layers, the results."""
        return sum(cycles for _, cycles in self.jobs)

    def layer_cycles(self, name: str) -> int:
        """Of a layer's jobs."""
        return sum(cycles for job, cycles in self.jobs if job == name)

    @property
    def frames_per_second(self) -> float:
        return self.clock_mhz * 1e6 / self.cycles

    def as_dict(self) -> dict[str, Any]:
        """For JSON. ``energy`` is null: no cost model gives it yet; that of DRAM alone is beside it."""
        return {"source": self.source, "design": self.design.name, "network": self.run.network.name,
                "statistics": self.statistics, "search": self.search,
                "layers": [{"name": name, "op": op, "zeros": zeros, **asdict(cost),
                            "cycles": self.layer_cycles(name), "absent_saving": cost.absent,
                            "zero_saving": cost.zero, "both_saving": cost.both, "macs": cost.macs,
                            "macs_skipped": cost.macs_skipped} for name, op, zeros, cost in self.layers],
                "jobs": [{"name": name, "cycles": cycles} for name, cycles in self.jobs],
                "cycles": self.cycles, "clock_mhz": self.clock_mhz, "frames_per_second": self.frames_per_second,
                "energy": None, "dram_weight_energy_uj": sum(each.weight_energy_uj for *_, each in self.layers),
                "rtl": self.rtl, "pictures": self.pictures}


def load_frame(frame: str, seed: int, drop_nan: bool) -> PointCloud:
    """A file, or one of `SCENES`."""
    if frame in SCENES:
        return SCENES[frame](seed)
    if not Path(frame).exists() and "." not in frame:
        raise BitkilnError("no such frame", where="FRAME", got=frame, expected="a file, or " + " or ".join(SCENES),
                           help=nearest(frame, SCENES))
    return read_points(frame, drop_nan=drop_nan)


def sized_design(counts: Sequence[int], depth: int, net_name: str, *, fmt: str = "int8", pack: str = "item",
                 lanes: int = LANES, outputs: int = OUTPUTS, pinned: int = 27, tile_rows: int = 64,
                 words: int = 1 << 16, rows: int = 1 << 16, multiplier: str = "chains") -> SpConvDesign:
    """A core that a frame fits.

    Parameters
    ----------
    counts : sequence of int
        Nodes of every level of its tree, the voxels first.
    depth : int
    net_name : str
    words, rows : int
        Of features on the chip.
    """
    net = network(net_name)
    crossed = any(layer.op == "stride3" for layer in net.layers)
    batch_bits = max(counts[depth] - 1, 0).bit_length()
    # The second tree of a dilating convolution has up to 2.5 voxels for each one before.
    room = 2.5 if crossed else 1.0
    capacity = max(8, math.ceil(counts[0] * room))
    grid = [1 << (3 * (depth - level) + batch_bits) for level in range(1, depth + 1)]
    levels = tuple(min(capacity, most, max(math.ceil(count * room), 8)) for count, most in
                   zip(counts[1:], grid, strict=True))
    tree = MapDesign(depth, batch_bits, capacity, levels)
    gather = GatherDesign(fmt, fmt, lanes, outputs, net.widest, pack,
                          slots=1 if pack == "row" else tile_rows, feature_words=words, mask_rows=rows,
                          index_bits=tree.index_bits, multiplier=multiplier)
    return SpConvDesign(tree, gather, pinned, 2 if crossed else 1, min(4, lanes))


def network_codes(design: SpConvDesign, voxels: Voxels, channels: int) -> np.ndarray:
    """Codes (V, channels) of the voxels' features; the channels beyond `CHANNELS` are zero."""
    fmt = design.gather.activation
    values = voxel_features(voxels, CHANNELS)
    scaled = np.rint(values * fmt.max) if fmt.family == "int" else values
    codes = np.zeros((len(voxels), channels), np.int64)
    codes[:, :CHANNELS] = fmt.encode(scaled).astype(np.int64)
    return codes


def _statistics(cloud: PointCloud, voxels: Voxels) -> dict[str, Any]:
    found = cloud_statistics(voxels)
    return {"points": len(cloud), "no_return": cloud.no_return, "dropped_points": cloud.dropped,
            "outside": voxels.outside, "voxels": found.voxels, "shape": list(found.spatial_shape),
            "occupancy": found.occupancy, "neighbours_per_voxel": found.mean27, "isolated": found.isolated,
            "planes": list(found.planes), "children_per_octant": found.per_octant, "levels": list(found.levels)}


def _search(design: MapDesign, keys: np.ndarray, depth: int) -> list[dict[str, Any]]:
    """Cycles of one 3x3x3 map by every method; the descent's own are the RTL's."""
    tree = build_tree(keys, depth)
    found = descent_cycles(design, tree)
    rows = [{"name": "octree descent, two engines (RTL)", "cycles": int(found.rows[-1]) + 1 if len(found.rows) else 0,
             "words": found.words_read, "comparators": 0, "notes": "exact; the tree is built while its voxels come"}]
    return rows + [{"name": f"{short}: {cost.name}", "cycles": cost.cycles, "words": cost.words_read,
                    "comparators": cost.comparators, "notes": cost.notes}
                   for short, cost in all_costs(keys, depth).items()]


def frame_report(frame: str, voxel: float | Sequence[float], net_name: str, *, fmt: str = "int8", pack: str = "item",
                 lanes: int = LANES, outputs: int = OUTPUTS, pinned: int = 27, tile_rows: int = 64, axes: str = "xyz",
                 extent: Sequence[float] | None = None, seed: int = 0, clock_mhz: float = 100.0,
                 drop_nan: bool = False, rtl: bool = False, pictures: Path | None = None,
                 progress: Callable[[str], None] = lambda text: None) -> FrameReport:
    """Voxelise, build maps, run the network in the core's arithmetic, and count.

    Parameters
    ----------
    frame : str
        File, ``street`` or ``room``.
    voxel : float or three float
        Metres.
    rtl : bool
        Run the core's RTL too, every feature of the last layer compared.
    pictures : Path, optional
        Folder for a picture of the frame and one of the layers' cycles.
    """
    net = network(net_name)
    progress(f"{frame}: reading")
    cloud = load_frame(frame, seed, drop_nan)
    voxels = voxelise(cloud, voxel, axes=axes, extent=extent)
    depth = max(voxels.depth, net.stages + 1)
    progress(f"{frame}: {len(voxels):,} voxels, maps")
    tree = build_tree(encode_keys(voxels.indices, depth), depth)
    design = sized_design(tree.counts, depth, net_name, fmt=fmt, pack=pack, lanes=lanes, outputs=outputs,
                          pinned=pinned, tile_rows=tile_rows)
    rows = canonicalise(voxels.indices, (1 << depth,) * 3, 1, depth=depth)
    run = run_network(design, net, rows, network_codes(design, voxels, net.inputs)[rows.perm], seed)
    progress(f"{frame}: search and layers")
    layers = [(each.layer.name, each.layer.op, each.zeros, layer_cost(design, each.map, each.inputs,
                                                                      each.layer.outputs)) for each in run.layers]
    whole, program = _program(design, run)
    jobs = [(step.job.kind if step.layer is None else step.layer.layer.name, each.cycles) for step, each in
            zip(program.steps, program_cycles(whole, program).jobs, strict=True)]
    report = FrameReport(design, cloud.source, _statistics(cloud, voxels), _search(design.map, rows.keys, depth),
                         layers, run, jobs, clock_mhz)
    if rtl:
        progress(f"{frame}: RTL")
        report = replace(report, rtl=_rtl(whole, program))
    if pictures is not None:
        report = replace(report, pictures=_draw(report, voxels, pictures))
    return report


def _program(design: SpConvDesign, run: NetworkRun) -> tuple[SpConvDesign, Program]:
    """The network as jobs, on the core with the memory that they need."""
    words, mask_rows = memory_needed(design, run)
    whole = design.with_options(gather=design.gather.with_options(feature_words=words, mask_rows=mask_rows))
    return whole, compile_network(whole, run)


def _rtl(design: SpConvDesign, program: Program) -> dict[str, int]:
    """Counters of the simulated core, every result compared."""
    from ..sim.spconv_check import check_program

    return check_program(design, program).counters


def _draw(report: FrameReport, voxels: Voxels, folder: Path) -> list[str]:
    from ..report.spconv_picture import draw_frame, draw_layers

    folder.mkdir(parents=True, exist_ok=True)
    frame, bars = folder / "frame.png", folder / "layers.png"
    draw_frame(frame, voxels.indices, voxels.voxel_size, Path(report.source).name)
    parts: dict[str, list[float]] = {"work": [], "idle": [], "stall": []}
    for name, *_, cost in report.layers:
        lanes = report.design.gather.lanes
        work = cost.issued / lanes
        parts["work"].append(work)
        parts["idle"].append(cost.steps - work)
        parts["stall"].append(report.layer_cycles(name) - cost.steps)
    draw_layers(bars, [name for name, *_ in report.layers], parts, [cost.dense_steps for *_, cost in report.layers],
                f"{report.run.network.name}, {report.design.gather.lanes} x {report.design.gather.outputs} "
                f"{report.design.gather.activation.name}, pack {report.design.gather.pack}")
    return [str(frame), str(bars)]
