# amaranth: UnusedElaboratable=no
"""The sparse-convolution co-processor: registers, streams and interrupt around the engine.

::

    s_axil ─► RegisterFile ─► jobs ─► SpConvEngine ─► m_axis     features
    irq ◄─────────┘    ▲ status, counters ◄┘ ▲ └────► m_axis_q   requests for weights
                                             │
            s_axis_v voxels, s_axis_f features, s_axis_w weights
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv_core import NO_VOXEL, VOXEL_FIELDS, SpConvDesign
from bitkiln.models.design.spconv_registers import COUNTERS, SPCONV_ERRORS, spconv_registers

from ..bus.axilite import AxiLite, RegisterFile
from ..bus.axistream import AxiStream, SkidBuffer
from ..bus.top import AxiTop
from .engine import SpConvEngine
from .loader import request_layout

__all__ = ["SpConvControl", "SpConvCore"]

AXIS = VOXEL_FIELDS["x"]


class SpConvControl(wiring.Component):
    """The core in the ``sync`` domain.

    Members
    -------
    s_axil : In(AxiLite)
    s_axis_v : In(AxiStream, 128 bits, last)
        Voxels {z, y, x, batch}, 32 bits each, batch lowest; ``last`` ends a cloud.
    s_axis_f : In(AxiStream)
        Words of features of the voxels, in their order.
    s_axis_w : In(AxiStream)
        What ``m_axis_q`` asked for.
    m_axis_q : Out(AxiStream, 32 bits)
        Requests for weights: `loader.request_layout`.
    m_axis : Out(AxiStream, keep, last)
        Words of the rows that a store sends; of none, one word without a byte kept.
    irq : Out(1)
    """

    def __init__(self, design: SpConvDesign):
        self.design = design
        self.registers = spconv_registers(design)
        super().__init__({
            "s_axil": In(AxiLite()), "s_axis_v": In(AxiStream(4 * AXIS)),
            "s_axis_f": In(AxiStream(design.feature_bits, last=False)),
            "s_axis_w": In(AxiStream(design.weight_bits, last=False)),
            "m_axis_q": Out(AxiStream(request_layout().size, last=False)),
            "m_axis": Out(AxiStream(design.feature_bits, keep=True)), "irq": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.registers = registers = RegisterFile(self.registers)
        m.submodules.engine = engine = SpConvEngine(self.design)
        wiring.connect(m, wiring.flipped(self.s_axil), registers.bus)
        self._streams(m, engine)

        job = engine.job.payload
        m.d.comb += [
            job.kind.eq(registers.job_kind_kind), job.op.eq(registers.job_kind_op),
            job.tree.eq(registers.job_kind_tree), job.cross.eq(registers.job_kind_cross),
            job.strict.eq(registers.job_kind_strict), job.clamp.eq(registers.job_kind_clamp),
            job.level.eq(registers.job_kind_level), job.source.base.eq(registers.job_in_base),
            job.source.stride.eq(registers.job_in_row_stride), job.in_groups.eq(registers.job_in_row_group),
            job.source.mask.eq(registers.job_in_mask), job.target.base.eq(registers.job_out_base),
            job.target.stride.eq(registers.job_out_row_stride),
            job.target.group.eq(registers.job_out_row_group), job.target.mask.eq(registers.job_out_mask),
            job.clamp_low.eq(registers.job_clamp_low), job.clamp_high.eq(registers.job_clamp_high),
            *[getattr(job, name).eq(getattr(registers, f"job_{name}"))
              for name in ("passes", "pinned", "rows", "shape_x", "shape_y", "shape_z", "batches", "tag")],
            engine.job.valid.eq(registers.ctrl_start), engine.clear_counters.eq(registers.ctrl_clear_counters),
        ]
        refused = registers.ctrl_start & ~engine.job.ready
        problem = Signal(8)
        m.d.comb += [
            problem.eq(Mux(engine.failed, engine.problem, Mux(refused, SPCONV_ERRORS["queue_full"], 0))),
            registers.error_capture.eq(1), registers.error_code_next.eq(problem),
            registers.error_tag_next.eq(Mux(problem != 0, Mux(engine.failed, engine.tag, registers.job_tag), 0)),
            engine.blocked.eq(registers.error_code != 0),
            registers.irq_done_set.eq(engine.finished), registers.irq_error_set.eq(problem != 0),
            registers.irq_invalid_set.eq(engine.invalid),
            self.irq.eq((Cat(registers.irq_done, registers.irq_error, registers.irq_invalid)
                         & Cat(registers.irq_enable_done, registers.irq_enable_error,
                               registers.irq_enable_invalid)).any()),
            registers.status_busy.eq(engine.busy), registers.status_queue_full.eq(~engine.job.ready),
            registers.status_error.eq(registers.error_code != 0), registers.status_queued.eq(engine.queued),
            registers.status_tag.eq(engine.tag), engine.count_level.eq(registers.count_select_level),
            engine.count_tree.eq(registers.count_select_tree), registers.count.eq(engine.count),
        ]
        with m.If(engine.finished):
            m.d.sync += registers.jobs_done.eq(registers.jobs_done + 1)
        m.d.comb += [getattr(registers, name.lower()).eq(getattr(engine, name.lower())) for name in COUNTERS]
        return m

    def _streams(self, m: Module, engine: SpConvEngine) -> None:
        """A skid buffer cuts the paths of every stream."""
        for name, port, shape in (("feature", self.s_axis_f, self.design.feature_bits),
                                  ("weight", self.s_axis_w, self.design.weight_bits)):
            m.submodules[f"{name}_skid"] = skid = SkidBuffer(shape)
            m.d.comb += [skid.i.payload.eq(port.tdata), skid.i.valid.eq(port.tvalid), port.tready.eq(skid.i.ready)]
            wiring.connect(m, skid.o, getattr(engine, name))
        voxel = engine.voxel.payload
        m.submodules.voxel_skid = skid = SkidBuffer(4 * AXIS + 1)
        axes = [skid.o.payload.word_select(at, AXIS) for at in range(4)]
        m.d.comb += [skid.i.payload.eq(Cat(self.s_axis_v.tdata, self.s_axis_v.tlast)),
                     skid.i.valid.eq(self.s_axis_v.tvalid), self.s_axis_v.tready.eq(skid.i.ready),
                     engine.voxel.valid.eq(skid.o.valid), skid.o.ready.eq(engine.voxel.ready),
                     voxel.batch.eq(axes[0]), voxel.x.eq(axes[1]), voxel.y.eq(axes[2]), voxel.z.eq(axes[3]),
                     voxel.mask.eq(axes[0] != Const(NO_VOXEL, AXIS)), voxel.last.eq(skid.o.payload[-1])]
        m.submodules.request_skid = skid = SkidBuffer(request_layout())
        wiring.connect(m, engine.request, skid.i)
        m.d.comb += [self.m_axis_q.tdata.eq(skid.o.payload), self.m_axis_q.tvalid.eq(skid.o.valid),
                     skid.o.ready.eq(self.m_axis_q.tready)]
        m.submodules.out_skid = skid = SkidBuffer(engine.o.payload.shape())
        wiring.connect(m, engine.o, skid.i)
        word = skid.o.payload
        m.d.comb += [self.m_axis.tdata.eq(word.data), self.m_axis.tvalid.eq(skid.o.valid),
                     self.m_axis.tlast.eq(word.last), skid.o.ready.eq(self.m_axis.tready),
                     self.m_axis.tkeep.eq(word.mask.replicate(self.design.feature_bits // 8))]


class SpConvCore(AxiTop):
    """The core with AXI names: aclk, aresetn, ``s_axil_*``, ``s_axis_v_*`` ... ``m_axis_*``, ``irq``."""

    def __init__(self, design: SpConvDesign):
        self.design = design
        super().__init__(SpConvControl(design), design.name)

    @property
    def parameters(self) -> dict:
        d, g, t = self.design, self.design.gather, self.design.map
        return {"format": g.activation.name, "lanes": g.lanes, "outputs": g.outputs, "channels": g.channels,
                "pack": g.pack, "tile_rows": g.slots, "window": g.window, "pinned": d.pinned, "trees": d.trees,
                "depth": t.depth, "batch_bits": t.batch_bits, "capacity": t.capacity, "levels": list(t.levels),
                "search": t.search, "feature_words": g.feature_words, "mask_rows": g.mask_rows,
                "output_lanes": d.output_lanes, "queue": d.queue}
