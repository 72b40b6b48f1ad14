"""What travels between the parts of the sparse-convolution engine."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data

from bitkiln.models.design.spconv import OFFSET_BITS, GatherDesign, MapDesign, TableDesign

__all__ = ["ITEM_FIELDS", "bits", "command_layout", "hits_layout", "item_layout", "kept_layout", "key_layout",
           "node_write_layout", "row_layout", "voxel_layout", "word_layout", "work_layout"]

COORDINATE_BITS = 32


def bits(count: int) -> int:
    """Of an address among so many."""
    return max((count - 1).bit_length(), 1)


def voxel_layout() -> data.StructLayout:
    """A row of ``indices`` as the driver has it; ``mask`` 0: no voxel (an empty cloud needs an item to end with)."""
    axis = signed(COORDINATE_BITS)
    return data.StructLayout({"batch": axis, "x": axis, "y": axis, "z": axis, "mask": 1, "last": 1})


def key_layout(design: MapDesign) -> data.StructLayout:
    """An encoded voxel; ``mask`` 0: out of range (``dropped`` 1), or none."""
    return data.StructLayout({"key": design.key_bits, "mask": 1, "last": 1, "dropped": 1})


def kept_layout(design: MapDesign) -> data.StructLayout:
    """One for each voxel that came in: whether it is a row of the cloud, and which."""
    return data.StructLayout({"index": design.index_bits, "keep": 1, "last": 1})


def word_layout(design: MapDesign) -> data.StructLayout:
    """A node: which of its children exist, and the rank of the first of them."""
    return data.StructLayout({"mask": 8, "base": design.index_bits})


def node_write_layout(design: MapDesign, *, leaf: bool) -> data.StructLayout:
    """A finished node on its way into the tree: of level 1 (``leaf``), or of a level above.

    ``walk``: its word of the walk memory (rank, above level 1 plus ``walk_base``). ``bank``, ``row``: its place in
    the search memory of parity rows (its own digit; the rank of its parent, above level 1 plus ``row_base``), or in the
    compact one (rank modulo 8; rank // 8, above level 1 plus ``compact_base``).
    """
    walk = design.held(1) if leaf else design.walk_words
    rows = design.leaf_rows if leaf else design.upper_rows
    if design.search == "compact":
        rows = design.compact_base(2) if leaf else design.compact_rows
    return data.StructLayout({"walk": bits(walk), "bank": 3, "row": bits(rows), "mask": 8,
                              "base": design.index_bits})


def row_layout(design: MapDesign) -> data.StructLayout:
    """One output voxel (or node) and the eight nodes of the level above around it.

    ``index``: its rank. ``level``: of the voxel. ``digit``: of the voxel in its parent. ``parity``: digit of that
    parent in its own parent. ``words[j]``: the node of parity ``j`` among the parent and its seven neighbours on the
    voxel's side; mask 0 where there is none. ``pair`` 0: no output (a job without any needs an item to end with).
    """
    return data.StructLayout({"index": design.index_bits, "level": design.level_bits, "digit": 3, "parity": 3,
                              "words": data.ArrayLayout(word_layout(design), 8), "pair": 1, "last": 1})


def item_layout(design: MapDesign) -> data.StructLayout:
    """One pair of the map (rulebook entry): output row, kernel offset, input row.

    Rows ascend, offsets within a row ascend. ``row_last``: of its output row. ``last``: of the job. ``pair`` 0: a row
    without any pair (with ``row_last``), or the end of a job without any row.
    """
    return data.StructLayout({"out": design.out_bits, "k": OFFSET_BITS, "in": design.index_bits, "level":
                              design.level_bits, "pair": 1, "row_last": 1, "last": 1})


ITEM_FIELDS = ("out", "k", "in", "pair", "row_last", "last")


def work_layout(design: GatherDesign) -> data.StructLayout:
    """One pair as the gather unit takes it.

    ``weight``: weight tile on the chip. ``slot``: which of the sums it adds to; ``first``: of that output row, so the
    sum starts from zero; ``final``: the sum is complete and leaves as row ``out``. ``pair`` 0: only ends the job.
    ``release``: the last one to use its weight tile for now (the cache may fill its place).
    """
    return data.StructLayout({"in": design.index_bits, "out": design.index_bits + 3,
                              "weight": bits(design.weight_tiles), "slot": bits(design.slots), "first": 1, "final": 1,
                              "pair": 1, "release": 1, "last": 1})


def command_layout(design: TableDesign) -> data.StructLayout:
    """What the voxel table of a window shall do: store a voxel, or look up its neighbours (``query``).

    ``x``, ``y``, ``z``: from the corner of the window's border, so 1 .. ``size`` are the window. ``window``: the last
    one of its window; the next finds the table empty. ``last``: of the job. ``mask`` 0: no voxel (a job without any
    needs an item to end with).
    """
    axis = design.axis_bits
    return data.StructLayout({"x": axis, "y": axis, "z": axis, "index": design.index_bits, "query": 1, "mask": 1,
                              "window": 1, "last": 1})


def hits_layout(design: TableDesign) -> data.StructLayout:
    """Pairs of one output row that the banks of the voxel table found in one cycle.

    Bank ``j`` found input row ``in[j]`` at kernel offset ``k[j]`` where ``mask[j]`` is 1. ``row_last``: no more of this
    row. ``last``: of the job. A word without pairs comes only with ``row_last`` or ``last``; without ``row_last`` it
    is the end of a job that ends with no row.
    """
    return data.StructLayout({"out": design.index_bits, "mask": 8, "k": data.ArrayLayout(OFFSET_BITS, 8),
                              "in": data.ArrayLayout(design.index_bits, 8), "row_last": 1, "last": 1})
