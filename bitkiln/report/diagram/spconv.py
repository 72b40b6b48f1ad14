# amaranth: UnusedElaboratable=no
"""Block diagrams of the map search and of the sparse-convolution core."""

from __future__ import annotations

from ...hw.spconv.core import AXIS
from ...hw.spconv.layouts import item_layout, kept_layout, voxel_layout
from ...hw.spconv.loader import request_layout
from ...hw.spconv.search import search_job_layout
from ...models.design.spconv import MapDesign
from ...models.design.spconv_core import SpConvDesign
from .canvas import RULE, Diagram, bits, count
from .matmul import grid_of

__all__ = ["core_diagram", "search_diagram"]

BANKS = 8       # of the search memory


def _tree(design: MapDesign, trees: int) -> tuple[list[str], list[str]]:
    """Lines and notes of the block of trees."""
    lines: list[str] = []
    for tree in range(trees):
        lines += ([RULE] if tree else []) + [f"octree {tree}" if trees > 1 else "octree"]
    return lines, [f"{count(design.capacity, 'voxel')}, {count(design.depth, 'level')}",
                   f"{design.words:,} words of {bits(design.word_bits)}"]


def _search(design: MapDesign) -> list[str]:
    how = "a node a cycle" if design.search == "parity" else "interleaved words"
    return ["3x3x3 and 2x2x2", f"{BANKS} banks, {how}"]


def search_diagram(design: MapDesign) -> Diagram:
    """Voxels to an octree, the octree to maps."""
    drawn = Diagram("Octree and map search", design.name, [
        f"Coordinates of {bits(design.depth)}, {count(design.batches, 'cloud')} at once. Memory: "
        f"{design.memory_bits / 8192:,.0f} KiB. Levels above the voxels hold "
        f"{', '.join(f'{nodes:,}' for nodes in design.levels)} nodes."])
    drawn.port("job", 0, 0, search_job_layout(design).size, "a cloud, or a map")
    drawn.block("control", 1, 0, "load or search")
    drawn.wire("job", "control")
    drawn.port("voxel", 0, 1, voxel_layout().size, "batch, x, y, z")
    drawn.block("encoder", 1, 1, "range check,", "Morton keys", notes=[bits(design.key_bits)])
    drawn.wire("voxel", "encoder")
    drawn.block("builder", 2, 1, "octree builder", notes=["a voxel a cycle", "levels close in passing"])
    drawn.wire("encoder", "builder", bits(design.key_bits))
    lines, notes = _tree(design, 1)
    drawn.block("tree", 3, 1, *lines, notes=notes)
    drawn.wire("builder", "tree", bits(design.word_bits))
    drawn.block("descent", 4, 1, "descent", notes=[*_search(design), f"queues of {count(design.queue, 'node')}"])
    drawn.wire("tree", "descent", f"{BANKS} x {bits(design.word_bits)}")
    drawn.block("rows", 5, 1, "pairs out of", "rows", notes=[f"queue of {count(design.rows, 'row')}"])
    drawn.wire("descent", "rows")
    drawn.port("item", 6, 1, item_layout(design).size, "out, k, in")
    drawn.wire("rows", "item")
    drawn.port("kept", 6, 2, kept_layout(design).size, "row of a voxel")
    drawn.wire("builder.b", "kept")
    drawn.port("counts", 6, 0, design.count_bits * (design.depth + 1), "nodes of each level")
    drawn.wire("builder.t", "counts", control=True)
    drawn.wire("control.b", "encoder.t", control=True)
    return drawn


def core_diagram(design: SpConvDesign) -> Diagram:
    """Octree and map search above, gather-MAC with its memories below, registers on top."""
    tree, gather = design.map, design.gather
    code, weight = gather.activation.bits, gather.weight.bits
    features = gather.feature_words * gather.lanes * code / 8192
    weights = gather.weight_tiles * gather.channels * gather.outputs * weight / 8192
    drawn = Diagram(f"Sparse-convolution core, {gather.lanes} x {gather.outputs} channels", design.name, [
        "Dark: data; light: control. The map is searched behind the multiplications; layers follow each other without "
        "the host.",
        f"{gather.activation.name}, up to {count(gather.channels, 'channel')}. On the chip: features {features:,.0f} "
        f"KiB, weights {weights:,.0f} KiB, octree{'s' * (design.trees > 1)} "
        f"{design.trees * tree.memory_bits / 8192:,.0f} KiB."])
    drawn.port("s_axil", 0, 0, note="AXI4-Lite")
    drawn.block("registers", 1, 0, "registers,", "counters")
    drawn.wire("s_axil", "registers")
    drawn.block("jobs", 2, 0, "job queue", notes=[count(design.queue, "job")])
    drawn.wire("registers", "jobs")
    drawn.block("job", 3, 0, "one job: load a cloud; convolve,", f"pass by pass of {count(gather.outputs, 'channel')}; "
                "store", columns=3)
    drawn.wire("jobs", "job")
    drawn.port("irq", 6, 0, 1)
    drawn.wire("registers.t", "irq", control=True, via="h0 v6")
    drawn.port("s_axis_v", 0, 1, 4 * AXIS, "voxels")
    drawn.block("builder", 1, 1, "Morton keys,", "octree builder", notes=[f"keys of {bits(tree.key_bits)}"])
    drawn.wire("s_axis_v", "builder")
    lines, notes = _tree(tree, design.trees)
    drawn.block("tree", 2, 1, *lines, notes=notes)
    drawn.wire("builder", "tree")
    drawn.block("descent", 3, 1, "map search", notes=_search(tree))
    drawn.wire("tree", "descent")
    drawn.block("rows", 4, 1, "pairs out of", "rows", notes=[f"{count(tree.rows, 'row')} wait"])
    drawn.wire("descent", "rows")
    drawn.block("order", 5, 1, *(["order: tiles of", f"{count(gather.slots, 'row')} by offset"]
                                 if gather.pack == "item" else ["order: row by row,", f"{gather.window} pairs wait"]))
    drawn.wire("rows", "order")
    drawn.wire("job.b@0.2", "descent.t", control=True)
    drawn.wire("job.b@0.85", "order.t", control=True)
    drawn.block("cache", 5, 2, "weight cache", notes=[f"{count(design.pinned, 'tile')} stay, 2 change"])
    drawn.wire("order.b", "cache.t")
    drawn.port("m_axis_q", 6, 2, request_layout().size, "weights wanted")
    drawn.wire("cache", "m_axis_q", control=True)
    drawn.port("s_axis_w", 0, 3, design.weight_bits, "weights, records")
    drawn.block("load w", 1, 3, "weight loader")
    drawn.wire("s_axis_w", "load w")
    drawn.block("weights", 2, 3, "weights: a", "memory a lane", notes=[f"{count(gather.weight_tiles, 'tile')} of "
                                                                       f"{gather.channels} x {gather.outputs}"])
    drawn.wire("load w", "weights", f"{gather.outputs} x {bits(weight)}")
    drawn.wire("cache.l@0.3", "load w.t", "tiles to fetch", control=True)
    drawn.port("s_axis_f", 0, 4, design.feature_bits, "features")
    drawn.block("load f", 1, 4, "feature loader")
    drawn.wire("s_axis_f", "load f")
    drawn.block("features", 2, 4, "features: a", "memory a lane", RULE, "zero masks", notes=[
        f"{count(gather.feature_words, 'word')}, {count(gather.mask_rows, 'row')}"])
    drawn.wire("load f", "features", f"{gather.lanes} x {bits(code)}")
    drawn.block("array", 3, 3, "gather-MAC", f"{gather.lanes} x {gather.outputs}", rows=2, shape="grid",
                grid=grid_of(gather.lanes, gather.outputs))
    drawn.wire("weights", "array")
    drawn.wire("features.r@0.3", "array.l")
    drawn.wire("cache.l@0.7", "array.t", "input row, tile, output row")
    drawn.block("sums", 4, 3, "sums, exact", notes=[f"{gather.slots} x {gather.outputs} of", bits(gather.sum_bits)])
    drawn.wire("array", "sums")
    drawn.block("output", 5, 3, "bias, scale, ReLU,", f"rounded to {gather.activation.name}",
                notes=[f"{design.output_lanes} a cycle"])
    drawn.wire("sums", "output")
    drawn.block("reader", 5, 5, "reader")
    drawn.wire("features.b@0.7", "reader.l")
    drawn.port("m_axis", 6, 5, design.feature_bits, "features")
    drawn.wire("reader", "m_axis")
    drawn.wire("output.r", "features.b@0.3", via="v6 h6")
    return drawn
