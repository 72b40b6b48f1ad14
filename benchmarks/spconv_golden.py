"""Speed of the golden maps and of the simulated search on a frame of 100,000 voxels; the same bytes whatever waits."""

from __future__ import annotations

import time
from dataclasses import replace

from bitkiln.host.spconv import compile_network
from bitkiln.hw.spconv.engine import SpConvEngine
from bitkiln.models.design.spconv import GatherDesign, MapDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.golden.spconv import canonicalise, down2, inverse2, stride3, submanifold
from bitkiln.models.workloads.scenes import depth_scene
from bitkiln.models.workloads.voxelise import voxelise
from bitkiln.report.table import Row
from bitkiln.sim.spconv_check import run_program, small_network
from bitkiln.sim.streams import StreamModel

from .map_search_rtl import run_search

COMMAND = "make bench SUITE=spconv ONLY=spconv_golden"
VOXEL, SEED = 0.0195, 1
GOLDEN_SECONDS, RTL_SECONDS = 2.0, 300.0
STALLS = ({"weight": 0.5}, {"voxel": 0.6, "feature": 0.3}, {"o": 0.7, "request": 0.4},
          dict.fromkeys(("job", "voxel", "feature", "weight", "request", "o"), 0.3))


def run() -> list[Row]:
    voxels = voxelise(depth_scene(SEED), VOXEL)
    depth = voxels.depth
    cloud = canonicalise(voxels.indices, voxels.spatial_shape, depth=depth)
    began = time.perf_counter()
    conv = submanifold(cloud.keys, depth)
    first = time.perf_counter() - began
    down = down2(cloud.keys, depth)
    inverse2(cloud.keys)
    stride3(cloud.keys, depth)
    submanifold(down.out_keys, depth - 1)
    every = time.perf_counter() - began
    rows = [Row("golden submanifold map", round(first, 3), "s", GOLDEN_SECONDS, command=COMMAND,
                note=f"{len(cloud):,} voxels, {conv.pairs:,} pairs"),
            Row("golden maps: submanifold of two levels, down, inverse, stride 3", round(every, 3), "s", GOLDEN_SECONDS,
                command=COMMAND)]
    began = time.perf_counter()
    found = run_search(cloud.keys, depth, "parity", False)
    rows.append(Row("RTL search of that frame, model built and maps compared", round(time.perf_counter() - began, 1),
                    "s", RTL_SECONDS, command=COMMAND, note=f"{found.search:,} cycles"))
    return rows + _same_bytes()


def _same_bytes() -> list[Row]:
    tree = MapDesign(depth=6, batch_bits=1, capacity=1024)
    gather = GatherDesign("int8", "int8", 4, 4, 16, "item", slots=16, feature_words=16384, mask_rows=8192,
                          index_bits=tree.index_bits)
    # All weights stay: which ones are missed depends on the order of batches, and they are given in one order.
    design = SpConvDesign(tree, gather, pinned=27)
    model = StreamModel(SpConvEngine(design))
    run_once = small_network(design, "encoder-decoder", 500, SEED)
    program = compile_network(design, run_once)
    wanted, differ = program.expected["o0"], 0
    for at, stalls in enumerate(({}, *STALLS)):
        found = run_program(design, model, program, stalls=stalls, seed=at)
        differ += int((found.tensors["o0"] != wanted).sum())
    # The same clouds with their batches in the other order of numbers.
    flip = 1 << 3 * tree.depth
    load = program.steps[0]
    keys = load.keys ^ flip
    turn = keys.argsort(kind="stable")
    first = replace(load, keys=keys[turn], features=load.features[turn])
    found = run_program(design, model, replace(program, steps=[first, *program.steps[1:]]))
    differ += int((found.tensors["o0"] != wanted[turn]).sum())
    return [Row("features that differ with stalls on any stream, or in the other batch", differ, "features", 0,
                command=COMMAND, note=f"{wanted.size:,} features, {len(STALLS) + 2} runs")]
