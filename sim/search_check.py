"""Clouds through the map search engine: every rulebook entry against the golden maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bitkiln.hw.spconv.layouts import item_layout
from bitkiln.hw.spconv.search import MapSearch, search_job_layout
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import (
    Cloud,
    ConvMap,
    canonicalise,
    down2,
    generative2,
    inverse2,
    stride3,
    submanifold,
)

from .octree_check import fields_of, pack, pack_voxels
from .streams import StreamModel, StreamRun

__all__ = ["SearchRun", "check_searches", "golden_map", "random_cloud"]

OPS = ("submanifold", "down2", "inverse2", "generative2", "stride3")


@dataclass(frozen=True)
class SearchRun:
    """What went through.

    Attributes
    ----------
    run : StreamRun
    clouds, voxels, maps, pairs : int
    """

    run: StreamRun
    clouds: int
    voxels: int
    maps: int
    pairs: int


def random_cloud(design: MapDesign, voxels: int, rng: np.random.Generator) -> Cloud:
    """A wavy surface in every batch, some points off it, corners of the grid."""
    side = 1 << design.depth
    batch = rng.integers(0, design.batches, voxels)
    at = rng.integers(0, side, (voxels, 2))
    height = (side / 3 * (1 + np.sin(at[:, 0] * 6 / side) * np.cos(at[:, 1] * 5 / side))).astype(np.int64)
    height = np.where(rng.random(voxels) < 0.2, rng.integers(0, side, voxels), height)
    indices = np.column_stack([batch, at, np.clip(height, 0, side - 1)])
    corners = rng.random(voxels) < 0.05
    indices[corners, 1:] = rng.integers(0, 2, (int(corners.sum()), 3)) * (side - 1)
    cloud = canonicalise(indices, (side,) * 3, design.batches, depth=design.depth)
    counts = [len(np.unique(cloud.keys >> 3 * level)) for level in range(design.depth + 1)]
    # A smaller one where a level has no room for it.
    worst = max(count / design.held(level) for level, count in enumerate(counts))
    return cloud if worst <= 1 else random_cloud(design, int(voxels / worst * 0.9), rng)


def golden_map(cloud: Cloud, op: str, level: int) -> ConvMap:
    """A map of level ``level`` of a cloud's tree."""
    keys, depth = np.unique(cloud.keys >> 3 * level), cloud.depth - level
    if op == "submanifold":
        return submanifold(keys, depth)
    if op == "down2":
        return down2(keys, depth)
    if op == "inverse2":
        return inverse2(keys)
    return generative2(keys) if op == "generative2" else stride3(keys, depth, "parents")


def check_searches(design: MapDesign, model: StreamModel | None, clouds: list[Cloud], *, levels: int = 3,
                   stalls: Mapping[str, float] | None = None, seed: int = 0) -> SearchRun:
    """Load each cloud and search every map of its finest levels.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first entry that differs.
    """
    model = StreamModel(MapSearch(design)) if model is None else model
    side = 1 << design.depth
    jobs, wanted, voxels = [], [], []
    for cloud in clouds:
        jobs.append({"load": 1, "shape_x": side, "shape_y": side, "shape_z": side, "batches": design.batches})
        voxels.append(pack_voxels(cloud.indices.astype(np.int64)))
        for level in range(min(levels, design.depth)):
            for op in OPS:
                jobs.append({"op": OPS.index(op), "level": level})
                wanted.append((op, level, golden_map(cloud, op, level)))
    names = [name for name, _ in search_job_layout(design)]
    packed = pack(search_job_layout(design), **{name: np.array([job.get(name, 0) for job in jobs]) for name in names})
    # A row without pairs, and a map without any, is an item of its own.
    entries = [_entries(found) for *_, found in wanted]
    items = sum(len(each["out"]) for each in entries)
    offered = np.concatenate(voxels)
    run = model.run({"job": packed, "voxel": offered}, {"item": items, "kept": len(offered)}, stalls=stalls or {},
                    seed=seed, limit=1_000_000_000, timeout=100_000).check()
    found = fields_of(item_layout(design), run.outputs["item"])
    at = 0
    for (op, level, conv), entry in zip(wanted, entries, strict=True):
        count = len(entry["out"])
        for name, expected in entry.items():
            got = found[name][at:at + count]
            valid = entry["pair"].astype(bool) if name in ("k", "in") else \
                np.full(count, bool(conv.rows)) if name == "out" else np.ones(count, bool)
            bad = np.flatnonzero((got != expected) & valid)
            if len(bad):
                raise BitkilnError("RTL differs from golden", where=f"{op} at level {level}, item {bad[0]}, {name}",
                                   got=int(got[bad[0]]), expected=str(expected[bad[0]]),
                                   help=f"{conv.rows} rows, {conv.pairs} pairs, seed {seed}", exit_code=FAILED)
        at += count
    return SearchRun(run, len(clouds), sum(len(cloud) for cloud in clouds), len(wanted),
                     sum(conv.pairs for *_, conv in wanted))


def _entries(conv: ConvMap) -> dict[str, np.ndarray]:
    """The items of a map."""
    if not conv.rows:
        one = np.ones(1, np.int64)
        return {"out": one * 0, "k": one * 0, "in": one * 0, "pair": one * 0, "row_last": one * 0, "last": one}
    bare = np.setdiff1d(np.arange(conv.rows), conv.out)
    out = np.concatenate([conv.out, bare])
    pair = np.arange(len(out)) < conv.pairs
    turn = np.lexsort((np.append(conv.k, bare * 0), out))
    out, pair = out[turn], pair[turn].astype(np.int64)
    k, inp = (np.append(values, bare * 0)[turn] for values in (conv.k, conv.inp))
    row_last = (np.diff(out, append=-1) != 0).astype(np.int64)
    last = (np.arange(len(out)) == len(out) - 1).astype(np.int64)
    return {"out": out, "k": k, "in": inp, "pair": pair, "row_last": row_last, "last": last}
