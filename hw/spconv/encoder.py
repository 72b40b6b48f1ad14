"""Voxels to octree keys.

::

    i {batch, x, y, z} ──► 0 <= c < shape, batch < batches ──► mask ──┐
                      └──► low bits, interleaved: key ────────────────┴─► register ──► o {key, mask}
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .layouts import key_layout, voxel_layout

__all__ = ["VoxelEncoder", "saturating"]

COUNTER_BITS = 32


def saturating(m: Module, counter: Signal, event: Value) -> None:
    """Count events; the largest number stays."""
    with m.If(event & ~counter.all()):
        m.d.sync += counter.eq(counter + 1)


class VoxelEncoder(wiring.Component):
    """Range check and octree key of a voxel.

    One voxel a cycle, one edge later. A voxel out of range goes on without ``mask``, so that whoever follows can count
    along.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    i : In(stream of voxel_layout); o : Out(stream of key_layout)
    shape_x, shape_y, shape_z : In(depth + 1)
        Size of the grid, at most ``2**depth``; beyond the depth nothing is in range. Constant while a cloud comes.
    batches : In(batch_bits + 1)
        Clouds; constant likewise.
    clear : In(1)
        A new cloud: the counters start at 0 (a voxel taken in the same cycle is not counted).
    voxels, dropped : Out(32)
        Voxels taken since ``clear``, and how many of them were out of range; a cycle late. They stop at their maximum.
    """

    latency = 1

    def __init__(self, design: MapDesign):
        self.design = design
        axis = design.depth + 1
        super().__init__({"i": In(stream.Signature(voxel_layout())), "o": Out(stream.Signature(key_layout(design))),
                          "shape_x": In(axis), "shape_y": In(axis), "shape_z": In(axis),
                          "batches": In(design.batch_bits + 1), "clear": In(1), "voxels": Out(COUNTER_BITS),
                          "dropped": Out(COUNTER_BITS)})

    @property
    def module_name(self) -> str:
        return f"voxel_encoder_d{self.design.depth}_b{self.design.batch_bits}"

    @property
    def parameters(self) -> dict:
        return {"depth": self.design.depth, "batch_bits": self.design.batch_bits}

    def elaborate(self, platform) -> Module:
        m = Module()
        depth, batch_bits = self.design.depth, self.design.batch_bits
        i, o = self.i, self.o
        voxel = i.payload
        take, inside = Signal(), Signal()
        checks = []
        for value, bits, end in ((voxel.x, depth, self.shape_x), (voxel.y, depth, self.shape_y),
                                 (voxel.z, depth, self.shape_z), (voxel.batch, batch_bits, self.batches)):
            # A negative one has its sign among the high bits.
            checks += [~value[bits:].any(), value[:bits] < end]
        digits = [Cat(voxel.z[bit], voxel.y[bit], voxel.x[bit]) for bit in range(depth)]
        m.d.comb += [i.ready.eq(~o.valid | o.ready), take.eq(i.valid & i.ready), inside.eq(Cat(checks).all())]
        counted, missed = Signal(), Signal()
        m.d.sync += [counted.eq(take & voxel.mask), missed.eq(take & voxel.mask & ~inside)]
        with m.If(take):
            m.d.sync += [o.valid.eq(1), o.payload.key.eq(Cat(digits, voxel.batch[:batch_bits])),
                         o.payload.mask.eq(voxel.mask & inside), o.payload.dropped.eq(voxel.mask & ~inside),
                         o.payload.last.eq(voxel.last)]
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        saturating(m, self.voxels, counted)
        saturating(m, self.dropped, missed)
        with m.If(self.clear):
            m.d.sync += [self.voxels.eq(0), self.dropped.eq(0), counted.eq(0), missed.eq(0)]
        return m
