# amaranth: UnusedElaboratable=no
"""The way from voxels into an octree's memories and out of them again, as one unit of streams.

::

    i voxel ─► VoxelEncoder ─► OctreeBuilder ─┬─► o token
                                              ├─► leaf, upper: every write
                                              └─► finished: in the cycle of done
                                      TreeStore ◄── ask rows ──► answer words
                                          └─► LevelMap ◄── job ──► item
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.builder import OctreeBuilder
from bitkiln.hw.spconv.encoder import VoxelEncoder
from bitkiln.hw.spconv.layouts import item_layout, kept_layout, node_write_layout, voxel_layout, word_layout
from bitkiln.hw.spconv.level_map import LevelMap
from bitkiln.hw.spconv.tree import TreeStore
from bitkiln.models.design.spconv import MapDesign

__all__ = ["FLAGS", "TreePath", "ask_layout", "job_layout"]

FLAGS = ("unsorted", "overflow", "rejected")


def job_layout(design: MapDesign) -> data.StructLayout:
    """A map that `TreePath` starts."""
    return data.StructLayout({"op": 2, "level": design.level_bits, "count": design.count_bits})


def ask_layout(design: MapDesign) -> data.StructLayout:
    """Rows to read from all banks; ``upper``: of the levels above 1 (parity search)."""
    rows = max(design.leaf_rows, design.upper_rows) if design.search == "parity" else design.compact_rows
    return data.StructLayout({"rows": data.ArrayLayout(max((rows - 1).bit_length(), 1), 8), "upper": 1})


class TreePath(wiring.Component):
    """From voxels to the memories and out of them again, all streams; ``leaf``, ``upper`` and ``finished`` cannot
    wait."""

    def __init__(self, design: MapDesign):
        self.design = design
        axis = design.depth + 1
        streams = {"leaf": node_write_layout(design, leaf=True), "upper": node_write_layout(design, leaf=False),
                   "finished": 1, "o": kept_layout(design), "item": item_layout(design),
                   "answer": data.ArrayLayout(word_layout(design), 8)}
        super().__init__({"i": In(stream.Signature(voxel_layout())), "job": In(stream.Signature(job_layout(design))),
                          "ask": In(stream.Signature(ask_layout(design))),
                          **{name: Out(stream.Signature(layout)) for name, layout in streams.items()},
                          "shape_x": In(axis), "shape_y": In(axis), "shape_z": In(axis),
                          "batches": In(design.batch_bits + 1), "strict": In(1), "clear": In(1), "voxels": Out(32),
                          "dropped": Out(32), "duplicates": Out(32), **{name: Out(1) for name in FLAGS},
                          "done": Out(1), "counts": Out(design.count_bits * (design.depth + 1)), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"tree_path_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.encoder = encoder = VoxelEncoder(self.design)
        m.submodules.builder = builder = OctreeBuilder(self.design)
        m.submodules.tree = tree = TreeStore(self.design)
        m.submodules.maps = maps = LevelMap(self.design)
        for source, sink in ((wiring.flipped(self.i), encoder.i), (encoder.o, builder.i),
                             (builder.o, wiring.flipped(self.o)), (maps.o, wiring.flipped(self.item))):
            wiring.connect(m, source, sink)
        for name in ("shape_x", "shape_y", "shape_z", "batches"):
            m.d.comb += getattr(encoder, name).eq(getattr(self, name))
        ended = Signal()
        m.d.sync += ended.eq(builder.done)
        m.d.comb += [encoder.clear.eq(self.clear), builder.clear.eq(self.clear), builder.strict.eq(self.strict),
                     self.counts.eq(builder.counts.as_value()), self.finished.valid.eq(builder.done & ~ended),
                     self.voxels.eq(encoder.voxels), self.dropped.eq(encoder.dropped), self.busy.eq(maps.busy),
                     *(getattr(self, name).eq(getattr(builder, name)) for name in (*FLAGS, "duplicates", "done"))]
        for name in ("leaf", "upper"):
            node, enable = getattr(builder, name), getattr(builder, f"{name}_en")
            m.d.comb += [getattr(tree, name).eq(node), getattr(tree, f"{name}_en").eq(enable),
                         getattr(self, name).payload.eq(node), getattr(self, name).valid.eq(enable)]
            for port, sink in (("address", maps), ("read", maps), ("mask", tree)):
                source = tree if sink is maps else maps
                m.d.comb += getattr(source, f"walk_{name}_{port}").eq(getattr(sink, f"walk_{name}_{port}"))
        m.d.comb += [maps.start.eq(self.job.valid & ~maps.busy), self.job.ready.eq(~maps.busy),
                     *(getattr(maps, name).eq(self.job.payload[name]) for name in ("op", "level", "count"))]
        self._ask(m, tree)
        return m

    def _ask(self, m: Module, tree: TreeStore) -> None:
        ask, answer = self.ask, self.answer
        take, upper = Signal(), Signal()
        m.d.comb += [ask.ready.eq(~answer.valid | answer.ready), take.eq(ask.valid & ask.ready)]
        with m.If(take):
            m.d.sync += [answer.valid.eq(1), upper.eq(ask.payload.upper)]
        with m.Elif(answer.ready):
            m.d.sync += answer.valid.eq(0)
        if self.design.search == "compact":
            m.d.comb += [tree.words_read.eq(take), answer.payload.eq(tree.words),
                         *(tree.words_rows[bank].eq(ask.payload.rows[bank]) for bank in range(8))]
            return
        m.d.comb += [tree.leaf_read.eq(take & ~ask.payload.upper), tree.upper_read.eq(take & ask.payload.upper),
                     answer.payload.eq(Mux(upper, tree.upper_words.as_value(), tree.leaf_words.as_value())),
                     *(rows[bank].eq(ask.payload.rows[bank]) for rows in (tree.leaf_rows, tree.upper_rows)
                       for bank in range(8))]
