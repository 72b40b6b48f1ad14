"""The matmul engine: jobs and operand streams in, result beats out. `MatmulCore` puts the bus around it.

::

    jobs ─► JobRing ─► load_a, load_w, compute, drain (each at its own job)
    a ─► PanelLoader ─► TileMemory ─┐
    w ─► PanelLoader ─► TileMemory ─┴─► MatmulArray ─► Drain ─► o
                Sequencer ── step, last ──┘    c ────────┘
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign

from ..bus.axistream import beat_layout
from ..emit import shared
from .array import MatmulArray
from .drain import Drain
from .jobs import STAGES, JobRing, job_layout
from .loader import PanelLoader
from .sequencer import Sequencer
from .tiles import TileMemory

__all__ = ["EVENTS", "MatmulEngine"]

# What the counters count.
EVENTS = ("cycles", "compute", "stall_a", "stall_w", "stall_drain", "stall_c", "stall_out")


class MatmulEngine(wiring.Component):
    """Runs jobs.

    Members
    -------
    jobs : In(stream of job_layout)
        Legal jobs only (`jobs.job_error`).
    a, w, c : In(stream of bus_bits)
        Panels and partial sums (docs/matmul_core.md); ``c`` with ``design.accumulate``.
    o : Out(stream of beat_layout)
    flush : In(1)
        Drops every job and all state; to be held for ``flush_cycles``.
    busy : Out(1), level : Out, tag : Out(16)
        Jobs inside; tag of the job that drains.
    done : Out(1)
        Strobe with the last beat of a job.
    invalid, overflow : Out(1), macs : Out, cycles .. stall_out : Out(1)
        Strobes for the status registers and counters.
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        self.sequencer = Sequencer(design)
        beats = stream.Signature(design.bus_bits)
        members = {"jobs": In(stream.Signature(job_layout(design))), "a": In(beats), "w": In(beats),
                   "o": Out(stream.Signature(beat_layout(design.bus_bits))), "flush": In(1),
                   "busy": Out(1), "level": Out(range(design.queue + 2)), "tag": Out(16), "done": Out(1),
                   "invalid": Out(1), "overflow": Out(1), "macs": Out(len(self.sequencer.macs)),
                   **{name: Out(1) for name in EVENTS}}
        if design.accumulate:
            members["c"] = In(beats)
        super().__init__(members)
        self.array = shared(MatmulArray(design.array))
        # From the issue of a step to its operands at the array: the tile memory's read register.
        self.array_delay = 1 + self.array.latency
        self.flush_cycles = self.array_delay + 2

    def elaborate(self, platform) -> Module:
        m = Module()
        design, array, sequencer = self.design, self.array, self.sequencer
        ring, drain = JobRing(design), Drain(design)
        loaders = {side: PanelLoader(design, side) for side in "aw"}
        tiles = {side: TileMemory(design, side) for side in "aw"}
        parts = {"ring": ring, "sequencer": sequencer, "drain": drain,
                 **{f"load_{side}": loader for side, loader in loaders.items()}}
        for name, part in parts.items():
            m.submodules[name] = ResetInserter(self.flush)(part)
        m.submodules.array = array

        wiring.connect(m, wiring.flipped(self.jobs), ring.i)
        stages = {"load_a": loaders["a"], "load_w": loaders["w"], "compute": sequencer, "drain": drain}
        for stage in STAGES:
            part = stages[stage]
            m.d.comb += [part.job.eq(getattr(ring, f"job_{stage}")), part.job_valid.eq(getattr(ring, f"valid_{stage}")),
                         getattr(ring, f"done_{stage}").eq(part.job_done)]

        mode = Signal.like(ring.job_compute.mode)
        issued, last = Signal(), Signal()
        m.d.sync += [issued.eq(sequencer.issue & ~self.flush), last.eq(sequencer.last)]
        with m.If(sequencer.issue):
            m.d.sync += mode.eq(ring.job_compute.mode)
        for side, loader in loaders.items():
            tile = tiles[side]
            m.submodules[f"tile_{side}"] = tile
            wiring.connect(m, wiring.flipped(getattr(self, side)), loader.i)
            m.d.comb += [tile.row.eq(loader.row), tile.beat.eq(loader.beat), tile.slot.eq(loader.slot),
                         tile.write_data.eq(loader.data), tile.write.eq(loader.write),
                         tile.step.eq(sequencer.step), tile.read_slot.eq(getattr(sequencer, f"{side}_slot")),
                         tile.read.eq(sequencer.issue), tile.read_mode.eq(ring.job_compute.mode), tile.mode.eq(mode),
                         getattr(array, side).eq(tile.words),
                         loader.take.eq(getattr(sequencer, f"{side}_take")),
                         getattr(sequencer, f"{side}_level").eq(loader.level)]
        m.d.comb += [array.mode.eq(mode), array.en.eq(issued), array.last.eq(issued & last),
                     array.clear.eq(self.flush), array.shift.eq(drain.shift), drain.result.eq(array.result)]

        starts = sequencer.issue & sequencer.last
        under_way = Signal(self.array_delay)
        m.d.sync += under_way.eq(Cat(starts & ~self.flush, under_way))
        with m.If(self.flush):
            m.d.sync += under_way.eq(0)
        m.d.comb += [drain.start.eq(starts), drain.tile.eq(sequencer.tile), drain.arrived.eq(under_way[-1]),
                     sequencer.free.eq(drain.free)]

        loader = loaders["w"]
        m.d.comb += [drain.w_row.eq(loader.row), drain.w_beat.eq(loader.beat), drain.w_slot.eq(loader.side_slot),
                     drain.w_data.eq(loader.data), drain.record_write.eq(loader.record_write)]
        if design.block:
            m.d.comb += drain.w_scale_write.eq(loader.scale_write)
            loader = loaders["a"]
            m.d.comb += [drain.a_row.eq(loader.row), drain.a_beat.eq(loader.beat), drain.a_slot.eq(loader.side_slot),
                         drain.a_data.eq(loader.data), drain.a_scale_write.eq(loader.scale_write)]
        if design.accumulate:
            wiring.connect(m, wiring.flipped(self.c), drain.c)
        wiring.connect(m, drain.o, wiring.flipped(self.o))

        m.d.comb += [self.busy.eq(ring.level != 0), self.level.eq(ring.level), self.tag.eq(ring.job_drain.tag),
                     self.done.eq(drain.job_done), self.invalid.eq(drain.invalid), self.overflow.eq(drain.overflow),
                     self.cycles.eq(self.busy), self.compute.eq(sequencer.issue),
                     self.stall_a.eq(sequencer.stall_a), self.stall_w.eq(sequencer.stall_w),
                     self.stall_drain.eq(sequencer.stall_drain), self.stall_out.eq(drain.stall_out)]
        if design.accumulate:
            m.d.comb += self.stall_c.eq(drain.stall_c)
        m.d.comb += self.macs.eq(sequencer.macs)
        return m
