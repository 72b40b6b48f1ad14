# amaranth: UnusedElaboratable=no
"""The map search as an engine of its own: clouds in, rulebooks out.

::

    job ──► load: voxel ─► octree ─► kept          search: octree ─► item {out, k, in}
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .layouts import item_layout, kept_layout, voxel_layout
from .maps import ERRORS, MapUnit

__all__ = ["MapSearch", "search_job_layout"]


def search_job_layout(design: MapDesign) -> data.StructLayout:
    """A cloud to come (``load``), or a map of the last one.

    ``op``: 0 submanifold 3x3x3, 1 2x2x2 with stride 2, 2 its inverse, 3 generative, 4 3x3x3 with stride 2 to the
    octants of the inputs. ``level``: of the finer side. The others are about a load: grid, clouds, whether a voxel that
    is dropped is an error.
    """
    axis = design.depth + 1
    return data.StructLayout({"load": 1, "op": 3, "level": design.level_bits, "shape_x": axis, "shape_y": axis,
                              "shape_z": axis, "batches": design.batch_bits + 1, "strict": 1})


class MapSearch(wiring.Component):
    """Octree and maps of one cloud after the other.

    A submanifold map takes as many cycles as there are voxels, or nodes above them where these are more, and a few for
    each level (`models.cost.spconv.map_search`), or as many as it has pairs.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    job : In(stream of search_job_layout)
        One at a time: taken when all of it is done.
    voxel : In(stream of voxel_layout); kept : Out(stream of kept_layout)
        Of a load. Voxels come in ascending order of their keys (x, y, z bit by bit, x most significant).
    item : Out(stream of item_layout)
        Of a map. After an error in the load a map is one item without a pair.
    counts : Out(depth + 1 numbers)
        Nodes of every level, voxels first.
    unsorted, overflow, rejected : Out(1)
        Of the last load: a voxel came out of order; there were more than there is room for; ``strict`` and a voxel was
        out of range or there twice.
    dropped, duplicates : Out(32)
    """

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({
            "job": In(stream.Signature(search_job_layout(design))), "voxel": In(stream.Signature(voxel_layout())),
            "kept": Out(stream.Signature(kept_layout(design))), "item": Out(stream.Signature(item_layout(design))),
            "counts": Out(data.ArrayLayout(design.count_bits, design.depth + 1)), **{name: Out(1) for name in ERRORS},
            "dropped": Out(32), "duplicates": Out(32)})

    @property
    def module_name(self) -> str:
        return self.design.name if len(self.design.name) < 100 else f"map_{self.design.search}_{self.design.digest}"

    @property
    def parameters(self) -> dict:
        return MapUnit(self.design).parameters

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.maps = maps = MapUnit(self.design)
        job = self.job.payload
        takes, taken, built, failed = Signal(), Signal(), Signal(), Signal()
        wiring.connect(m, maps.kept, wiring.flipped(self.kept))
        m.d.comb += [maps.voxel.payload.eq(self.voxel.payload), maps.voxel.valid.eq(self.voxel.valid & takes),
                     self.voxel.ready.eq(maps.voxel.ready & takes), maps.op.eq(job.op), maps.level.eq(job.level),
                     self.counts.eq(maps.counts[0]), self.dropped.eq(maps.dropped),
                     self.duplicates.eq(maps.duplicates), self.item.payload.eq(maps.item.payload),
                     failed.eq(maps.unsorted | maps.overflow | maps.rejected),
                     *[getattr(maps, name).eq(getattr(job, name))
                       for name in ("shape_x", "shape_y", "shape_z", "batches", "strict")],
                     *[getattr(self, name).eq(getattr(maps, name)) for name in ERRORS]]
        with m.FSM():
            with m.State("idle"), m.If(self.job.valid):
                with m.If(job.load):
                    m.d.comb += maps.load.eq(1)
                    m.d.sync += [taken.eq(0), built.eq(0)]
                    m.next = "load"
                with m.Elif(failed):
                    m.next = "refuse"
                with m.Else():
                    m.d.comb += maps.start.eq(1)
                    m.next = "search"
            with m.State("load"):
                m.d.comb += [maps.loading.eq(1), takes.eq(~taken)]
                m.d.sync += built.eq(maps.built)
                with m.If(self.voxel.valid & self.voxel.ready & self.voxel.payload.last):
                    m.d.sync += taken.eq(1)
                with m.If(taken & built):
                    m.d.comb += self.job.ready.eq(1)
                    m.next = "idle"
            with m.State("search"):
                m.d.comb += [self.item.valid.eq(maps.item.valid), maps.item.ready.eq(self.item.ready)]
                with m.If(self.item.valid & self.item.ready & self.item.payload.last):
                    m.d.comb += self.job.ready.eq(1)
                    m.next = "idle"
            with m.State("refuse"):
                m.d.comb += [self.item.valid.eq(1), self.item.payload.pair.eq(0), self.item.payload.row_last.eq(0),
                             self.item.payload.last.eq(1)]
                with m.If(self.item.ready):
                    m.d.comb += self.job.ready.eq(1)
                    m.next = "idle"
        return m
