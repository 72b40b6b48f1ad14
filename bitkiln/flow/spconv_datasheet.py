"""Datasheet sections of the map search and of the sparse-convolution core."""

from __future__ import annotations

from ..hw.spconv.layouts import item_layout, kept_layout, voxel_layout
from ..hw.spconv.loader import request_layout
from ..hw.spconv.search import search_job_layout
from ..models.cost.spconv.spconv_core import CHAIN
from ..models.design.spconv import MapDesign
from ..models.design.spconv_core import SpConvDesign
from ..models.design.spconv_registers import spconv_registers
from .bitserial_datasheet import layout_rows
from .datasheet import Datasheet, count, format_table
from .registers import collateral, markdown

__all__ = ["core_collateral", "core_datasheet", "search_datasheet"]

OPERATORS = """\
| op | map | output rows | kernel offset |
|---|---|---|---|
| 0 | submanifold 3x3x3 | the inputs' | `(dx+1)*9 + (dy+1)*3 + dz+1`, input = output + (dx, dy, dz) |
| 1 | 2x2x2, stride 2 | nodes of level + 1 | `4*dx + 2*dy + dz`, input = 2 * output + (dx, dy, dz) |
| 2 | its inverse | nodes of the level | as of 1 |
| 3 | generative 2x2x2 | eight of each input | as of 1 |
| 4 | 3x3x3, stride 2, padding 1 | octants of the inputs{cross} | as of 0, input = 2 * output + (dx, dy, dz) |"""
ORDER = ("Rows are voxels by ascending key `{batch, x y z of the highest bit, ..., x y z of the lowest}`, x most "
         "significant in each digit; outputs have the same order, so no layer sorts again. Of voxels given twice the "
         "first one counts, those out of range are dropped and counted.")


def _tree(design: MapDesign) -> str:
    sizes = ["| level | nodes at most |", "|---|---|"]
    sizes += [f"| {level} | {design.held(level):,} |" for level in range(design.depth + 1)]
    if design.search == "parity":
        search = "8 * (nodes of level 2 + sum over l >= 2 of nodes of level l + 1) words of the search"
    else:
        search = "one word of the search for each node above the voxels"
    return (f"Coordinates of {design.depth} bits, {design.batches} cloud{'s' * (design.batches > 1)} at once, "
            f"{design.capacity:,} voxels. Memory: a byte for each node above the voxels, and {search}, of "
            f"{design.word_bits} bits: {design.memory_bits / 8192:,.0f} KiB in all.\n\n" + "\n".join(sizes))


def _search_timing(design: MapDesign) -> str:
    if design.search == "parity":
        return ("- A submanifold map of level 0 takes `max(n0, n1 + ... + nD)` cycles and a few for each level, of "
                "level t >= 1 `nt + ... + nD` (n: nodes of a level), or as many as there are pairs, if the consumer "
                "takes one each cycle.")
    return ("- A map takes for each node the longer of the fetch of its neighbours' words and its children, one a "
            "cycle; or as many cycles as there are pairs.")


def _glance(design: MapDesign) -> dict[str, str]:
    return {"Voxels": f"{design.capacity:,} of {count(design.batches, 'cloud')}",
            "Coordinates": f"{design.depth} bits", "Octree": f"{design.memory_bits / 8192:,.0f} KiB, {design.search}",
            "Throughput": "a voxel a cycle into the tree, a pair a cycle out of it"}


def search_datasheet(design: MapDesign) -> Datasheet:
    """README of a map search."""
    what = ("Voxels become an octree, and every map (rulebook) of a sparse convolution comes out of it: entries of "
            f"output row, kernel offset and input row. {ORDER}")
    timing = (f"- A tree takes a cycle for each voxel and {design.depth + 3} more, unless its upper levels close "
              f"faster than one node a cycle.\n{_search_timing(design)}\n- Maps between two levels (2x2x2) take a "
              "cycle for each pair.\n- Back-pressure at any time changes cycles, never entries.")
    layouts = [("`job` payload", search_job_layout(design)), ("`voxel` payload", voxel_layout()),
               ("`kept` payload", kept_layout(design)), ("`item` payload", item_layout(design))]
    parts = [OPERATORS.format(cross=""), *("\n".join(layout_rows(title, layout)) for title, layout in layouts)]
    return Datasheet({"What it does": what, "Timing": timing, "Tree": _tree(design),
                      "Payloads": "\n\n".join(parts)},
                     {"job__": "a cloud that comes, or a map that is wanted", "voxel__": "voxels of a cloud",
                      "kept__": "for each voxel whether it is a row, and which",
                      "item__": "entries of a map, rows ascending, offsets ascending within a row",
                      "counts": "nodes of each level", "unsorted": "a voxel came out of order",
                      "overflow": "more voxels or nodes than there is room for",
                      "rejected": "strict, and a voxel was dropped or there twice",
                      "dropped": "voxels out of range", "duplicates": "voxels that were there already"},
                     _glance(design))


def core_datasheet(design: SpConvDesign) -> Datasheet:
    """README of a core."""
    g, tree = design.gather, design.map
    skip = ("The pairs of an output row follow each other, a lane goes on with the next pair when it has finished one "
            f"(up to {g.window} pairs wait); all weights of a pass are on the chip."
            if g.pack == "row" else
            f"Pairs are sorted by kernel offset in tiles of {g.slots} output rows; each takes as many cycles as the "
            f"lane with the most channels that are not zero. {design.pinned} weight tiles stay on the chip, the others "
            "go through a double buffer.")
    what = (f"Sparse convolutions of {g.activation.name} features, {g.lanes} input channels and {g.outputs} output "
            f"channels at a time, up to {g.channels} channels. A cloud is loaded once; then a whole encoder-decoder "
            f"runs as a chain of jobs, features staying on the chip ({g.feature_words:,} words of {g.lanes} channels). "
            f"Neighbours that are not there cost nothing, zero channels are skipped. {skip} Sums are exact "
            f"({g.sum_bits} bits in units of 2^{g.dot.product_exponent}), then bias, scale, ReLU and rounding as in "
            f"the matmul core. {ORDER}")
    timing = (f"- A tree: a cycle for each voxel.\n{_search_timing(tree)} The search runs while pairs are multiplied.\n"
              "- A pass over the map gives "
              f"{g.outputs} output channels: the cycles of its pairs, at least "
              f"{g.outputs // design.output_lanes} for each output row, and before it {g.outputs} records and the "
              f"pinned weight tiles, one input channel a cycle, and about {CHAIN} cycles of latency.\n"
              "- `request` names what is wanted on `s_axis_w`, in order; nothing else may be sent there.")
    streams = [("`m_axis_q` data", request_layout())]
    flow = ("1. Write the JOB registers, then `CTRL.start`; jobs wait in a queue of "
            f"{design.queue}. A load takes voxels on `s_axis_v` ({{batch, x, y, z}}, 32 bits each, batch lowest; a "
            "cloud without any is one with batch 0x80000000) and their features on `s_axis_f`.\n"
            "2. Answer every request on `m_axis_q`: `k` 31 asks for the records of a pass, one a beat ({bias, scale, "
            "shift, 0}, 32 bits each), other k for the weight tile of that offset, one input channel a beat, "
            f"{g.outputs} weights each.\n"
            "3. A store sends rows on `m_axis`, in canonical order.\n"
            "4. After an error (`ERROR.code`) jobs other than loads are dropped until it is cleared.")
    parts = [OPERATORS.format(cross=", or with `cross` the voxels of the other tree" if design.trees > 1 else ""), flow,
             *("\n".join(layout_rows(title, layout)) for title, layout in streams)]
    return Datasheet({"What it does": what, "Timing": timing, "Tree": _tree(tree), "How to use it": "\n\n".join(parts),
                      "Formats": format_table("operand", [("features", g.activation), ("weights", g.weight)]),
                      "Registers": markdown(spconv_registers(design), heading=3)},
                     {"s_axil_": "registers", "s_axis_v_": "voxels of a load", "s_axis_f_": "features of a load",
                      "s_axis_w_": "records and weight tiles that were asked for", "m_axis_q_": "what is asked for",
                      "m_axis_": "features of a store", "irq": "an enabled event of IRQ is set"},
                     {"Array": f"{g.lanes} input by {g.outputs} output channels a cycle", "Operands": g.activation.name,
                      "Sum": f"{g.sum_bits} bits, exact", "Channels": f"up to {g.channels}", **_glance(tree),
                      "On the chip": f"{g.feature_words:,} words of features, {count(g.weight_tiles, 'weight tile')}"})


def core_collateral(design: SpConvDesign, name: str) -> dict[str, str]:
    """Register map as C header, Python module, SystemRDL and Markdown: file name to text."""
    return collateral(spconv_registers(design), name)
