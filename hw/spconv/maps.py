# amaranth: UnusedElaboratable=no
"""Voxels to octrees, and every map of the core out of them.

::

    voxel ─► VoxelEncoder ─► OctreeBuilder ─┬─► kept
                                  │ writes
                                  ▼
                       TreeStore 0 (, 1) ──words, masks──► descent ─► RowItems ─┐
                                  └────────masks─────────► LevelMap ────────────┴─► item
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_core import OPS

from .builder import OctreeBuilder
from .descent import ParityDescent
from .encoder import VoxelEncoder
from .layouts import item_layout, kept_layout, voxel_layout
from .level_map import LevelMap
from .rows import RowItems
from .tree import TreeStore

__all__ = ["MapUnit"]

SUBMANIFOLD, DOWN2, INVERSE2, GENERATIVE2, STRIDE3 = range(len(OPS))
ERRORS = ("unsorted", "overflow", "rejected")


class MapUnit(wiring.Component):
    """Trees and map search.

    Parameters
    ----------
    design : MapDesign
    trees : int
        1 or 2.

    Members
    -------
    voxel : In(stream of voxel_layout); kept : Out(stream of kept_layout)
    load : In(1)
        A new cloud begins, into tree ``tree``; in the cycle before its first voxel.
    shape_x, shape_y, shape_z, batches, strict, tree : In
    loading : In(1)
        From ``load`` until its job ends: the levels' sizes become those of the tree.
    built : Out(1)
        The cloud that was begun last is a tree.
    start : In(1), op, level, cross : In
        Begin a map; ``tree`` is searched. Static until its last item.
    item : Out(stream of item_layout)
    counts : Out
        Nodes of every level of both trees.
    unsorted, overflow, rejected : Out(1)
        Of the cloud begun last.
    dropped, duplicates : Out(32)
        Of that cloud: voxels out of range, voxels again.
    searching : Out(1)
        A tree is descended.
    """

    def __init__(self, design: MapDesign, trees: int = 1):
        self.design, self.trees = design, trees
        tree = design
        levels = data.ArrayLayout(tree.count_bits, tree.depth + 1)
        super().__init__({
            "voxel": In(stream.Signature(voxel_layout())), "kept": Out(stream.Signature(kept_layout(tree))),
            "load": In(1), "loading": In(1),
            "shape_x": In(tree.depth + 1), "shape_y": In(tree.depth + 1), "shape_z": In(tree.depth + 1),
            "batches": In(tree.batch_bits + 1), "strict": In(1), "tree": In(1), "built": Out(1), "start": In(1),
            "op": In(3), "level": In(tree.level_bits), "cross": In(1),
            "item": Out(stream.Signature(item_layout(tree))),
            "counts": Out(data.ArrayLayout(levels, trees)), **{name: Out(1) for name in ERRORS},
            "dropped": Out(32), "duplicates": Out(32), "searching": Out(1)})

    @property
    def module_name(self) -> str:
        return f"maps_{self.trees}_{self.design.name}"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"trees": self.trees, "depth": d.depth, "batch_bits": d.batch_bits, "capacity": d.capacity,
                "levels": list(d.levels), "search": d.search, "queue": d.queue, "rows": d.rows}

    def elaborate(self, platform) -> Module:
        m = Module()
        tree, trees = self.design, self.trees
        m.submodules.encoder = encoder = VoxelEncoder(tree)
        m.submodules.builder = builder = OctreeBuilder(tree)
        wiring.connect(m, wiring.flipped(self.voxel), encoder.i)
        wiring.connect(m, encoder.o, builder.i)
        wiring.connect(m, builder.o, wiring.flipped(self.kept))
        m.d.comb += [encoder.clear.eq(self.load), builder.clear.eq(self.load), builder.strict.eq(self.strict),
                     self.built.eq(builder.done), self.dropped.eq(encoder.dropped),
                     self.duplicates.eq(builder.duplicates)]
        m.d.comb += [getattr(encoder, name).eq(getattr(self, name))
                     for name in ("shape_x", "shape_y", "shape_z", "batches")]
        m.d.comb += [getattr(self, name).eq(getattr(builder, name)) for name in ERRORS]

        stores = []
        for at in range(trees):
            m.submodules[f"tree{at}"] = store = TreeStore(tree)
            mine = self.tree == at if trees > 1 else Const(1, 1)
            m.d.comb += [store.leaf.eq(builder.leaf), store.leaf_en.eq(builder.leaf_en & mine),
                         store.upper.eq(builder.upper), store.upper_en.eq(builder.upper_en & mine)]
            counts = Signal.like(self.counts[at].as_value(), name=f"counts{at}")
            m.d.comb += self.counts[at].as_value().eq(counts)
            with m.If(mine & self.loading):
                m.d.sync += counts.eq(builder.counts.as_value())
            stores.append(store)

        if tree.search == "compact":
            from .compact import CompactDescent
            descent = CompactDescent(tree)
        else:
            descent = ParityDescent(tree)
        m.submodules.descent = descent
        m.submodules.rows = rows = RowItems(tree)
        m.submodules.levels = levels = LevelMap(tree)
        wiring.connect(m, descent.o, rows.i)
        searched = (self.op == SUBMANIFOLD) | (self.op == STRIDE3) | self.cross
        other = self.tree ^ (descent.walk_tree if trees > 1 else Const(0, 1))
        walks = Mux(searched, other, self.tree)
        count = self._of(self.tree, [store_counts[Mux(self.op == GENERATIVE2, self.level, self.level + 1)]
                                     for store_counts in (Array(self.counts[at]) for at in range(trees))])
        # The descent compares its level ahead of time: it is told two cycles before it begins.
        starts = Signal(2)
        m.d.sync += starts.eq(Cat(self.start, starts))
        m.d.comb += [descent.start.eq(starts[-1] & searched), levels.start.eq(starts[-1] & ~searched),
                     descent.target.eq(self.level), descent.every.eq(0),
                     descent.half.eq((self.op == STRIDE3) | (self.op == DOWN2)), descent.offset.eq(self.cross),
                     descent.roots.eq(self._of(self.tree, [self.counts[at][tree.depth]
                                                           for at in range(trees)])),
                     rows.kernel.eq(self.op == DOWN2), levels.level.eq(self.level), levels.count.eq(count),
                     Value.cast(levels.op).eq(Mux(self.op == GENERATIVE2, 2, self.op == INVERSE2))]
        for store in stores:
            for part in ("leaf", "upper"):
                address, read = f"walk_{part}_address", f"walk_{part}_read"
                m.d.comb += [getattr(store, address).eq(Mux(searched, getattr(descent, address),
                                                            getattr(levels, address))),
                             getattr(store, read).eq(Mux(searched, getattr(descent, read), getattr(levels, read)))]
            for name in ("words",) if tree.search == "compact" else ("leaf", "upper"):
                m.d.comb += [getattr(store, f"{name}_rows").eq(getattr(descent, f"{name}_rows")),
                             getattr(store, f"{name}_read").eq(getattr(descent, f"{name}_read"))]
        for part in ("leaf", "upper"):
            mask = self._of(walks, [getattr(store, f"walk_{part}_mask") for store in stores])
            m.d.comb += [getattr(unit, f"walk_{part}_mask").eq(mask) for unit in (descent, levels)]
        for name in ("words",) if tree.search == "compact" else ("leaf_words", "upper_words"):
            m.d.comb += getattr(descent, name).as_value().eq(
                self._of(self.tree, [getattr(store, name).as_value() for store in stores]))

        m.d.comb += [self.item.valid.eq(Mux(searched, rows.o.valid, levels.o.valid)),
                     self.item.payload.eq(Mux(searched, rows.o.payload.as_value(), levels.o.payload.as_value())),
                     rows.o.ready.eq(searched & self.item.ready), levels.o.ready.eq(~searched & self.item.ready)]
        m.d.comb += self.searching.eq(descent.busy)
        return m

    @staticmethod
    def _of(select: Value, values: list[Value]) -> Value:
        return Mux(select, values[1], values[0]) if len(values) > 1 else Cat(values[0])
