"""The matmul co-processor: registers, streams and interrupt around the engine.

::

    s_axil ─► RegisterFile ─► check ─► MatmulEngine ─► skid ─► m_axis
                  ▲   status, counters ◄──┘  ▲ ▲ ▲
    irq ◄─────────┘        s_axis_a, s_axis_w, s_axis_c ─► skid
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.registers import core_registers

from ..bus.axilite import AxiLite, RegisterFile
from ..bus.axistream import AxiStream, SkidBuffer, to_axi
from ..bus.top import AxiTop
from .engine import EVENTS, MatmulEngine
from .jobs import ERRORS, job_error, job_layout
from .packer import beat_layout

__all__ = ["CoreControl", "MatmulCore"]

COUNTER_BITS = 48

# Field of a job -> field of the register map; what a build lacks reads 0.
JOB_FIELDS = {
    "mode": "job_mode_mode", "output": "job_mode_output", "block": "job_mode_block", "m": "job_m", "k": "job_k",
    "n": "job_n", "rule": "job_flags_rule", "order": "job_flags_order", "per_channel": "job_flags_per_channel",
    "bias": "job_flags_bias", "accumulate": "job_flags_accumulate", "clamp": "job_flags_clamp", "scale": "job_scale",
    "shift": "job_shift_shift", "bias_shift": "job_shift_bias_shift", "zero_point": "job_zero",
    "clamp_low": "job_clamp_low", "clamp_high": "job_clamp_high", "tag": "job_tag"}


class CoreControl(wiring.Component):
    """Registers, the check of jobs, abort, interrupt and counters.

    Members
    -------
    s_axil : In(AxiLite)
    jobs : Out(stream of job_layout)
    flush : Out(1)
        To the engine, for ``flush_cycles``: after reset (the PEs have none) and after an abort.
    done, invalid, overflow, macs, level, tag, cycles .. stall_out : In
        From the engine.
    pending : In(1)
        A result beat waits for its receiver.
    irq : Out(1)
    """

    def __init__(self, design: MatmulDesign, engine: MatmulEngine):
        self.design, self.engine = design, engine
        self.registers = core_registers(design)
        inputs = {name: In(1) for name in ("done", "invalid", "overflow", *EVENTS)}
        super().__init__({"s_axil": In(AxiLite()), "jobs": engine.signature.members["jobs"].flip(),
                          "flush": Out(1), "level": In(range(design.queue + 2)), "tag": In(16),
                          "macs": In(len(engine.macs)), "pending": In(1), "irq": Out(1), **inputs})

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        m.submodules.registers = registers = RegisterFile(self.registers)
        wiring.connect(m, wiring.flipped(self.s_axil), registers.bus)

        job = Signal(job_layout(design))
        for name, flat in JOB_FIELDS.items():
            if hasattr(registers, flat):
                m.d.comb += getattr(job, name).eq(getattr(registers, flat))
        code = Signal(8)
        m.d.comb += code.eq(job_error(design, job))

        flushing = Signal(range(self.engine.flush_cycles + 1), init=self.engine.flush_cycles)
        m.d.comb += self.flush.eq(flushing != 0)
        stale = Signal()  # results of an aborted job wait at the output
        with m.If(registers.ctrl_abort):
            m.d.sync += [flushing.eq(self.engine.flush_cycles), stale.eq(1)]
        with m.Elif(~self.flush & ~self.pending):
            m.d.sync += stale.eq(0)
        with m.If(self.flush & ~registers.ctrl_abort):
            m.d.sync += flushing.eq(flushing - 1)

        # A job that came with an abort would be dropped without a word.
        room = self.jobs.ready & ~self.flush & ~registers.ctrl_abort
        refused = Signal(8)
        m.d.comb += [refused.eq(Mux(code != 0, code, Mux(room, 0, ERRORS["queue_full"]))),
                     self.jobs.payload.eq(job),
                     self.jobs.valid.eq(registers.ctrl_start & (code == 0) & ~self.flush & ~registers.ctrl_abort)]
        error = registers.ctrl_start & (refused != 0)
        m.d.comb += [registers.error_capture.eq(error), registers.error_code_next.eq(refused),
                     registers.error_tag_next.eq(job.tag)]

        m.d.comb += [registers.status_busy.eq(self.level != 0), registers.status_queue_full.eq(~room),
                     registers.status_aborting.eq(self.flush | stale),
                     registers.status_error.eq(registers.error_code != 0),
                     registers.status_queued.eq(Mux(self.level == 0, 0, self.level - 1)),
                     registers.status_tag.eq(self.tag)]
        events = {"done": self.done, "error": error, "invalid": self.invalid, "overflow": self.overflow}
        enabled = []
        for name, event in events.items():
            m.d.comb += getattr(registers, f"irq_{name}_set").eq(event)
            enabled.append(getattr(registers, f"irq_{name}") & getattr(registers, f"irq_enable_{name}"))
        m.d.sync += self.irq.eq(Cat(*enabled).any())

        done, last = Signal(32), Signal(16)
        with m.If(self.done):
            m.d.sync += [done.eq(done + 1), last.eq(self.tag)]
        m.d.comb += [registers.jobs_done.eq(done), registers.last_tag.eq(last)]

        counted: dict[str, Value] = {name: getattr(self, name) for name in EVENTS}
        for name, step in {**counted, "macs": self.macs}.items():
            if not hasattr(registers, name):
                continue
            counter = Signal(COUNTER_BITS, name=f"count_{name}")
            m.d.sync += counter.eq(Mux(registers.ctrl_clear_counters, 0, counter + step))
            m.d.comb += [getattr(registers, name).eq(counter[:32]), getattr(registers, f"{name}_hi").eq(counter[32:])]
        return m


class StreamCore(wiring.Component):
    """The core with AXI4-Stream operands and results, in the ``sync`` domain.

    Members
    -------
    s_axil : In(AxiLite)
    s_axis_a, s_axis_w, s_axis_c : In(AxiStream)
        ``s_axis_c`` with ``design.accumulate``. ``tlast`` is ignored.
    m_axis : Out(AxiStream with tkeep)
    irq : Out(1)
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        self.inputs = ("a", "w", "c") if design.accumulate else ("a", "w")
        super().__init__({"s_axil": In(AxiLite()),
                          **{f"s_axis_{name}": In(AxiStream(design.bus_bits)) for name in self.inputs},
                          "m_axis": Out(AxiStream(design.bus_bits, keep=True)), "irq": Out(1)})

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"modes": [mode.name for mode in d.pe.modes], "rows": d.rows, "columns": d.columns,
                "implementation": d.pe.implementation, "accumulator": d.pe.accumulator.kind,
                "depth": d.pe.accumulator.depth, "pipeline": d.pe.pipeline, "k_words": d.k_words,
                "bus_bits": d.bus_bits, "output_lanes": d.output_lanes, "queue": d.queue, "rules": list(d.rules),
                "outputs": list(d.outputs), "bias": d.bias, "accumulate": d.accumulate, "block": list(d.block)}

    def elaborate(self, platform) -> Module:
        m = Module()
        engine = MatmulEngine(self.design)
        control = CoreControl(self.design, engine)
        m.submodules.engine, m.submodules.control = engine, control
        wiring.connect(m, wiring.flipped(self.s_axil), control.s_axil)
        wiring.connect(m, control.jobs, engine.jobs)
        m.d.comb += [engine.flush.eq(control.flush), control.level.eq(engine.level), control.tag.eq(engine.tag),
                     control.macs.eq(engine.macs), self.irq.eq(control.irq)]
        for name in ("done", "invalid", "overflow", *EVENTS):
            m.d.comb += getattr(control, name).eq(getattr(engine, name))
        for name in self.inputs:
            skid = SkidBuffer(self.design.bus_bits)
            # What waits here belongs to a job that a flush drops; nothing new comes in meanwhile.
            m.submodules[f"skid_{name}"] = ResetInserter(control.flush)(skid)
            axi = getattr(self, f"s_axis_{name}")
            m.d.comb += [skid.i.payload.eq(axi.tdata), skid.i.valid.eq(axi.tvalid & ~control.flush),
                         axi.tready.eq(skid.i.ready & ~control.flush)]
            wiring.connect(m, skid.o, getattr(engine, name))
        # A beat that the receiver has seen must stay: no flush here.
        m.submodules.skid_o = skid = SkidBuffer(beat_layout(self.design))
        wiring.connect(m, engine.o, skid.i)
        m.d.comb += control.pending.eq(skid.o.valid)
        to_axi(m, skid.o, self.m_axis)
        return m


class MatmulCore(AxiTop):
    """The co-processor as a top module: ``aclk``, ``aresetn``, AXI port names.

    Parameters
    ----------
    design : MatmulDesign
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        super().__init__(StreamCore(design), design.name)
