"""What skipping and the weight cache save, layer by layer, on real and generated frames.

SpOctA (arXiv 2308.09249, 40 nm) states 44.4 to 79.1 % less latency by its sparsity-aware core and 57.6 % less energy
for accesses outside by its cache, as the mean over networks; neither baseline is described exactly. Ours: cycles
against a kernel with all its neighbours (absent), of what remains against all channels (zero), and both; DRAM bytes of
weights against a cache of equal size that holds the same share of every offset (uniform). Tiles of T output rows share
a fetch.
"""

from __future__ import annotations

import numpy as np

from bitkiln.flow.spconv import network_codes, sized_design
from bitkiln.models.cost.spconv.spconv_core import layer_cost
from bitkiln.models.cost.spconv.weight_cache import compare, demands, plane_uses
from bitkiln.models.golden.spconv import build_tree, canonicalise, encode_keys, submanifold
from bitkiln.models.workloads.spconv_nets import network, run_network
from bitkiln.models.workloads.voxelise import voxelise
from bitkiln.report.table import Row

from .map_search import FRAMES

COMMAND = "make bench SUITE=spconv ONLY=spconv_layers"
NETS = ("minkunet-small", "second-small")
SHAPES = ((16, 16, "item"), (16, 16, "row"), (8, 32, "item"))
WIDTHS = (48, 64, 96, 128)      # channels of the cache's figures in the paper
SRAM = 96 * 1024
TILES = (1, 64)
SEED = 0
COARSER = 4                     # networks take voxels so many times larger


def run() -> list[Row]:
    rows: list[Row] = []
    for frame in FRAMES:
        points = frame.points()
        if points is None:
            rows.append(Row(frame.name, None, "", command=COMMAND, note="not there: $BITKILN_DATA/pointclouds"))
            continue
        voxels = voxelise(points, frame.size * COARSER, axes=frame.axes)
        for name in NETS:
            rows += _layers(f"{frame.name.split(',')[0]}, {100 * frame.size * COARSER:g} cm, {name}", voxels, name)
        rows += _cache(frame.name, voxelise(points, frame.size, axes=frame.axes))
    return rows


def _layers(title: str, voxels, name: str) -> list[Row]:
    net = network(name)
    depth = max(voxels.depth, net.stages + 1)
    counts = build_tree(encode_keys(voxels.indices, depth), depth).counts
    cloud = canonicalise(voxels.indices, (1 << depth,) * 3, depth=depth)
    rows, runs = [], None
    for lanes, outputs, pack in SHAPES:
        if any(layer.outputs % outputs for layer in net.layers):
            net_rows = [layer for layer in net.layers if layer.outputs % outputs == 0]
        else:
            net_rows = list(net.layers)
        design = sized_design(counts, depth, name, lanes=lanes, outputs=outputs, pack=pack)
        if runs is None:
            runs = run_network(design, net, cloud, network_codes(design, voxels, net.inputs)[cloud.perm], SEED)
        total = dense = kernel = 0
        for each in runs.layers:
            if each.layer not in net_rows:
                continue
            cost = layer_cost(design, each.map, each.inputs, each.layer.outputs)
            total, dense = total + cost.steps, dense + cost.dense_steps
            kernel += cost.dense_items * cost.dense_steps // max(cost.items, 1)
            if (lanes, outputs) == SHAPES[0][:2]:
                rows.append(Row(
                    f"{title}, {lanes}x{outputs} {pack}, {each.layer.name}: latency saved", round(100 * cost.both, 1),
                    "%", better="higher", command=COMMAND,
                    note=f"absent {cost.absent:.1%}, zero channels {cost.zero:.1%} of the rest "
                         f"({each.zeros:.0%} zeros; any lane any channel: item "
                         f"{1 - cost.ideal_item / cost.dense_steps:.1%}, row "
                         f"{1 - cost.ideal_row / cost.dense_steps:.1%}); SpOctA 44.4 to 79.1 %"))
        rows.append(Row(f"{title}, {lanes}x{outputs} {pack}, all layers: saved by zero channels",
                        round(100 * (1 - total / dense), 1), "%", better="higher", command=COMMAND,
                        note=f"with absent neighbours {1 - total / kernel:.1%}; {len(net_rows)} layers"))
    return rows


def _cache(title: str, voxels) -> list[Row]:
    depth = max(voxels.depth, 1)
    conv = submanifold(encode_keys(voxels.indices, depth), depth)
    planes = plane_uses(np.bincount(conv.k, minlength=27))
    share = ", ".join(f"{name} {count / conv.pairs:.0%}" for name, count in planes.items())
    rows = []
    for tile in TILES:
        wanted, savings = demands(conv.out, conv.k, tile), []
        for width in WIDTHS:
            found = compare(wanted, width, width, SRAM)
            saved = 1 - found["non-uniform"].fetched / found["uniform"].fetched
            savings.append(saved)
            text = ", ".join(f"{name} {traffic.saving:.1%}" for name, traffic in found.items() if name != "none")
            rows.append(Row(f"{title}, weight cache, T = {tile}, {width} channels: DRAM energy against uniform",
                            round(100 * saved, 1), "% saved", better="higher", command=COMMAND,
                            note=f"{SRAM // 1024} KiB; against no cache: {text}; uses: {share}"))
        rows.append(Row(f"{title}, weight cache, T = {tile}: mean over {len(WIDTHS)} widths",
                        round(100 * float(np.mean(savings)), 1), "% saved", better="higher", command=COMMAND,
                        note="SpOctA states 57.6 %, its schedule and baseline are not described"))
    return rows
