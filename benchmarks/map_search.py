"""Map search: cycles of the octree descents and of the voxel table in RTL, of every other method by its model.

All numbers are for the map of a 3^3 submanifold convolution on the finest voxels, the upper levels of the tree
included. The published speed-up of the search core (SpOctA, 8.8 to 21.2 times) names no baseline; ours is a hash table
with one port that looks up all 26 neighbours, its building counted, against a descent with the building of its tree.
Beside it stand the same table with 13 look-ups, with eight banks, and mergers: these win cycles for comparators.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bitkiln.models.cost.spconv.map_baselines import MapCost, all_costs, pyramid
from bitkiln.models.golden.spconv import Cloud, build_tree, canonicalise
from bitkiln.models.workloads.pointcloud import PointCloud, read_points
from bitkiln.models.workloads.scenes import depth_scene, lidar_scene
from bitkiln.models.workloads.voxelise import voxelise
from bitkiln.report.table import Row

from .map_search_rtl import SearchRun, TableRun, run_search, run_table

COMMAND = "make bench SUITE=spconv ONLY=map_search"
SEED = 1
STAGES = 5
LEAST, MOST = 8.8, 21.2         # as published
ALL_LEVELS = "the rows of all levels come out"
PER_LEVEL = 16                  # cycles that RTL may add to a formula for each level


@dataclass(frozen=True)
class Frame:
    """Points and the side of a voxel [m]; ``axes`` make the vertical the last one."""

    name: str
    size: float
    points: Callable[[], PointCloud | None]
    axes: str = "xyz"

    def cloud(self) -> Cloud | None:
        points = self.points()
        if points is None:
            return None
        voxels = voxelise(points, self.size, axes=self.axes)
        depth = max(max(voxels.spatial_shape) - 1, 1).bit_length()
        return canonicalise(voxels.indices, voxels.spatial_shape, depth=depth)


def _file(name: str) -> Callable[[], PointCloud | None]:
    def read() -> PointCloud | None:
        path = Path(os.environ.get("BITKILN_DATA", "")) / "pointclouds" / name
        return read_points(path) if "BITKILN_DATA" in os.environ and path.exists() else None
    return read


FRAMES = (Frame("Ouster OS1-128, 10 cm", 0.10, _file("ouster_os1_128.npy")),
          Frame("PCL office1, 2 cm", 0.02, _file("pcl_office1.pcd"), "xzy"),
          Frame("generated street, 10 cm", 0.10, lambda: lidar_scene(SEED)),
          Frame("generated room, 2 cm", 0.02, lambda: depth_scene(SEED)))


class _Table:
    """Rows of one frame."""

    def __init__(self, frame: Frame, cloud: Cloud):
        self.frame, self.count = frame.name, len(cloud)
        self.rows: list[Row] = []

    def add(self, what: str, measured: float, unit: str, target: float | None = None, better: str = "lower",
            note: str = "") -> None:
        self.rows.append(Row(f"{self.frame}: {what}", measured, unit, target, better, COMMAND, note))

    def per_voxel(self, what: str, cycles: int, note: str) -> None:
        self.add(what, round(cycles / self.count, 3), "cycles/voxel", note=note)

    def model(self, what: str, cost: MapCost, against: int) -> None:
        """A model's cycles; ``against``: those of C1 with its tree, in RTL."""
        self.per_voxel(f"{what} (model)", cost.cycles,
                       f"{cost.words_read / self.count:.2f} words read, {cost.comparators} comparators; "
                       f"{cost.cycles / against:.2f} x C1 with its tree in RTL; {cost.notes}".rstrip("; "))


MODELS = {"B1": "B1 brute force, 8 lanes", "B2": "B2 hash, one port, 26 look-ups", "B2 half": "B2 hash, 13 look-ups",
          "B2x8": "B2x8 hash, 8 banks, 26 look-ups", "B2x8 half": "B2x8 hash, 13 look-ups", "B3 8": "B3 merge, W = 8",
          "B3 8 half": "B3 merge, W = 8, 13 offsets", "B3 64": "B3 merge, W = 64",
          "B3 64 half": "B3 merge, W = 64, 13 offsets", "B4": "B4 voxel table, one port",
          "B5": "B5 descent, one port"}


def frame_rows(frame: Frame) -> list[Row]:
    """The line of the table for one frame, and its targets."""
    cloud = frame.cloud()
    if cloud is None:
        return [Row(frame.name, None, "", command=COMMAND, note="not there: $BITKILN_DATA/pointclouds")]
    keys, depth, tree = cloud.keys, cloud.depth, build_tree(cloud.keys, cloud.depth)
    costs, table = all_costs(keys, depth), _Table(frame, cloud)
    stages, nodes = pyramid(tree, STAGES), ", ".join(map(str, tree.counts))
    runs = {(search, every): run_search(keys, depth, search, every)
            for search in ("parity", "compact") for every in (False, True)}
    voxel_table, parity, compact = run_table(keys, depth), runs["parity", False], runs["compact", False]
    whole = parity.build + parity.search

    table.add("voxels", len(keys), "voxels", note=f"nodes of each level, finest first: {nodes}")
    for name, what in MODELS.items():
        table.model(what, costs[name], whole)
    table.per_voxel("M0 voxel table, 8 banks (RTL)", voxel_table.cycles,
                    f"8 of them look-ups, {voxel_table.stores / len(keys):.2f} stores; {voxel_table.windows} windows; "
                    f"listing their voxels is not counted; with 13 look-ups {costs['M0 half'].cycles / len(keys):.2f}")
    table.model("C2 one engine, compact", costs["C2"], whole)
    table.per_voxel("C2 compact descent, two engines (RTL)", compact.search,
                    f"its tree {compact.build / len(keys):.2f} more, while the voxels come in")
    table.model("C1 one engine, parity rows", costs["C1"], whole)
    table.per_voxel("C1 parity descent, two engines (RTL)", parity.search,
                    f"its tree {parity.build / len(keys):.2f} more, while the voxels come in")
    for what, cycles, note in (("C2 one engine (model)", costs["C2"].cycles, ""),
                               ("C2 compact descent (RTL)", runs["compact", True].search, ALL_LEVELS),
                               ("C1 one engine (model)", costs["C1"].cycles, ""),
                               ("C1 parity descent (RTL)", runs["parity", True].search, ALL_LEVELS)):
        table.add(f"{what}, maps of {STAGES} stages", round(cycles / stages, 3), "cycles/output voxel", note=note)
    _targets(table, costs, voxel_table, runs, depth)
    return table.rows


def _targets(table: _Table, costs: dict[str, MapCost], voxel_table: TableRun,
             runs: dict[tuple[str, bool], SearchRun], depth: int) -> None:
    parity, compact = runs["parity", False], runs["compact", False]
    hashed, single = costs["B2"].cycles, costs["C1"].cycles
    note = f"one engine, by formula: {hashed / single:.2f}, with its tree {hashed / (single + table.count):.2f}"
    for name, run in (("C1", parity), ("C2", compact)):
        table.add(f"{name} (RTL) with its tree against B2 with its table", round(hashed / (run.build + run.search), 2),
                  "x fewer cycles", LEAST, "higher", note if run is parity else "")
    table.add("C1 (RTL) alone, its tree built while voxels come in, against B2", round(hashed / parity.search, 2),
              "x fewer cycles", MOST, "higher", note)
    room = PER_LEVEL * depth
    for what, cycles in (("C1 (RTL), all levels' maps", runs["parity", True].search - single),
                         ("C1 (RTL), finest map", parity.search - single),
                         ("C2 (RTL), finest map", compact.search - costs["C2"].cycles)):
        table.add(f"{what}: cycles beyond the formula of one engine", cycles, "cycles", room,
                  note=f"{PER_LEVEL} for each of {depth} levels")
    table.add("M0 (RTL): any transfer against the cycle model", voxel_table.late, "cycles", 0)
    table.add("pairs of the RTL's maps that are not the golden map's",
              voxel_table.wrong + sum(run.wrong for run in runs.values()), "pairs", 0,
              note=f"M0, C1 and C2, these with the finest map alone and with all: {parity.pairs:,} pairs each")


def run() -> list[Row]:
    return [row for frame in FRAMES for row in frame_rows(frame)]


if __name__ == "__main__":
    from bitkiln.report.table import print_targets

    print_targets(run(), title="map search")
