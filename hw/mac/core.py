"""The matmul co-processor: registers, streams and interrupt around the engine.

::

    s_axil ─► RegisterFile ─► check ─► MatmulEngine ─► skid ─► m_axis
                  ▲   status, counters ◄──┘  ▲ ▲ ▲
    irq ◄─────────┘        s_axis_a, s_axis_w, s_axis_c ─► skid
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.registers import ERRORS, core_registers

from ..bus.axi import Axi4
from ..bus.axilite import LOAD, AxiLite, RegisterFile
from ..bus.axistream import AxiStream, SkidBuffer, beat_layout, to_axi
from ..bus.top import AxiTop
from .descriptors import MAX_UNFINISHED, DescriptorEngine, address_error, connect_record, record_layout
from .engine import EVENTS, MatmulEngine
from .jobs import job_error, job_layout

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

    With a master a job is done when its results are in memory, and jobs also come from chains of descriptors.

    Members
    -------
    s_axil : In(AxiLite)
    jobs : Out(stream of job_layout)
    flush : Out(1)
        To the engine, for ``flush_cycles``: after reset (the PEs have none) and after an abort; with a master until
        its bus is quiet.
    done, invalid, overflow, macs, level, tag, cycles .. stall_out : In
        From the engine.
    pending : In(1)
        A result beat waits for its receiver.
    record, load, start, started, refused, fetch, fetch_address, failed, wrong, fetching, quiet, stored :
        With a master, to and from `DescriptorEngine` (``stored`` is its ``done``).
    irq : Out(1)
    """

    def __init__(self, design: MatmulDesign, engine: MatmulEngine):
        self.design, self.engine = design, engine
        self.registers = core_registers(design)
        inputs = {name: In(1) for name in ("done", "invalid", "overflow", *EVENTS)}
        members = {"s_axil": In(AxiLite()), "jobs": engine.signature.members["jobs"].flip(),
                   "flush": Out(1), "level": In(range(design.queue + 2)), "tag": In(16),
                   "macs": In(len(engine.macs)), "pending": In(1), "irq": Out(1), **inputs}
        if design.descriptors:
            members |= {"record": Out(stream.Signature(record_layout(design))), "load": In(stream.Signature(LOAD)),
                        "start": In(1), "started": Out(1), "refused": Out(1), "fetch": Out(1),
                        "fetch_address": Out(design.address_bits), "failed": In(1), "wrong": In(1), "fetching": In(1),
                        "quiet": In(1), "stored": In(1)}
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        design, master = self.design, self.design.descriptors
        m.submodules.registers = registers = RegisterFile(self.registers, load=master)
        wiring.connect(m, wiring.flipped(self.s_axil), registers.bus)

        job = Signal(job_layout(design))
        for name, flat in JOB_FIELDS.items():
            if hasattr(registers, flat):
                m.d.comb += getattr(job, name).eq(getattr(registers, flat))
        code = Signal(8)
        m.d.comb += code.eq(job_error(design, job))
        room, starts, patient = self.jobs.ready, registers.ctrl_start, Const(0, 1)
        if master:
            wiring.connect(m, wiring.flipped(self.load), registers.load)
            m.d.comb += self.record.payload.job.eq(job)
            connect_record(m, design, registers, self.record.payload)
            with m.If((job_error(design, job) == 0) & address_error(design, self.record.payload)):
                m.d.comb += code.eq(ERRORS["address"])
            # A chain has the registers; its jobs wait for room, which the software's do not.
            room, patient = room & self.record.ready, self.start
            starts = starts | self.start

        flushing = Signal(range(self.engine.flush_cycles + 1), init=self.engine.flush_cycles)
        m.d.comb += self.flush.eq(flushing != 0)
        stale = Signal()  # an aborted job's results wait at the output, or its bursts are under way
        waits = self.pending
        if master:
            waits = waits | ~self.quiet
            m.d.comb += self.flush.eq((flushing != 0) | (stale & ~self.quiet))
        with m.If(registers.ctrl_abort):
            m.d.sync += [flushing.eq(self.engine.flush_cycles), stale.eq(1)]
        with m.Elif((flushing == 0) & ~waits):
            m.d.sync += stale.eq(0)
        with m.If((flushing != 0) & ~registers.ctrl_abort):
            m.d.sync += flushing.eq(flushing - 1)

        # A job that came with an abort would be dropped without a word; a chain's job is asked for again.
        can = Signal()
        m.d.comb += can.eq(room & ~self.flush & ~stale & ~registers.ctrl_abort)
        refused, accepted = Signal(8), Signal()
        busy_chain = registers.ctrl_start & self.fetching if master else Const(0, 1)
        full = ~can & ~patient | busy_chain
        m.d.comb += [refused.eq(Mux(code != 0, code, Mux(full, ERRORS["queue_full"], 0))),
                     accepted.eq(starts & (code == 0) & can & ~busy_chain),
                     self.jobs.payload.eq(job), self.jobs.valid.eq(accepted)]
        problem = Signal(8)
        m.d.comb += problem.eq(Mux(starts, refused, 0))
        done, tag, busy = self.done, self.tag, self.level != 0
        wrong_tag = job.tag
        if master:
            # A chain that came while all is being cleared would be dropped without a word.
            with m.If(registers.ctrl_fetch & (self.flush | registers.ctrl_abort)):
                m.d.comb += problem.eq(ERRORS["queue_full"])
            done, tag, busy = self._stored(m, accepted, job.tag)
            busy = busy | self.fetching
            wrong_tag = Mux(self.failed, tag, job.tag)
            m.d.comb += [self.record.valid.eq(accepted), self.started.eq(self.start & accepted),
                         self.refused.eq(self.start & (code != 0)),
                         self.fetch.eq(registers.ctrl_fetch), self.fetch_address.eq(self._descriptor(registers))]
            with m.If(self.wrong):
                m.d.comb += problem.eq(ERRORS["descriptor"])
            with m.If(self.failed):
                m.d.comb += problem.eq(ERRORS["bus"])
        error = problem != 0
        m.d.comb += [registers.error_capture.eq(error), registers.error_code_next.eq(problem),
                     registers.error_tag_next.eq(wrong_tag)]
        m.d.comb += [registers.status_busy.eq(busy), registers.status_queue_full.eq(~can),
                     registers.status_aborting.eq(self.flush | stale),
                     registers.status_error.eq(registers.error_code != 0),
                     registers.status_queued.eq(Mux(self.level == 0, 0, self.level - 1)),
                     registers.status_tag.eq(tag)]
        events = {"done": done, "error": error, "invalid": self.invalid, "overflow": self.overflow}
        enabled = []
        for name, event in events.items():
            m.d.comb += getattr(registers, f"irq_{name}_set").eq(event)
            enabled.append(getattr(registers, f"irq_{name}") & getattr(registers, f"irq_enable_{name}"))
        m.d.sync += self.irq.eq(Cat(*enabled).any())

        count, last = Signal(32), Signal(16)
        with m.If(done):
            m.d.sync += [count.eq(count + 1), last.eq(tag)]
        m.d.comb += [registers.jobs_done.eq(count), registers.last_tag.eq(last)]

        counted: dict[str, Value] = {name: getattr(self, name) for name in EVENTS} | {"macs": self.macs}
        if master:
            counted["cycles"] = busy
        for name, step in counted.items():
            if not hasattr(registers, name):
                continue
            counter = Signal(COUNTER_BITS, name=f"count_{name}")
            m.d.sync += counter.eq(Mux(registers.ctrl_clear_counters, 0, counter + step))
            m.d.comb += [getattr(registers, name).eq(counter[:32]), getattr(registers, f"{name}_hi").eq(counter[32:])]
        return m

    def _descriptor(self, registers: RegisterFile) -> Value:
        return Cat(registers.desc_addr, getattr(registers, "desc_addr_hi", Const(0, 0)))

    def _stored(self, m: Module, accepted: Value, tag: Value) -> tuple[Value, Value, Value]:
        """Of the jobs whose results are not all in memory: the oldest is done, its tag, there are some."""
        m.submodules.tags = tags = Memory(shape=16, depth=MAX_UNFINISHED + self.design.queue + 1, init=[])
        write, read = tags.write_port(), tags.read_port(domain="comb")
        newest, oldest = Signal.like(write.addr), Signal.like(write.addr)
        unfinished = Signal(range(tags.depth + 1))

        def following(pointer: Signal) -> Value:
            return Mux(pointer == tags.depth - 1, 0, pointer + 1)

        m.d.comb += [write.addr.eq(newest), write.data.eq(tag), write.en.eq(accepted), read.addr.eq(oldest)]
        m.d.sync += unfinished.eq(unfinished + accepted - self.stored)
        with m.If(accepted):
            m.d.sync += newest.eq(following(newest))
        with m.If(self.stored):
            m.d.sync += oldest.eq(following(oldest))
        with m.If(self.flush):
            m.d.sync += [newest.eq(0), oldest.eq(0), unfinished.eq(0)]
        return self.stored & ~self.flush, read.data, unfinished != 0


def _connect(m: Module, control: CoreControl, engine: MatmulEngine) -> None:
    wiring.connect(m, control.jobs, engine.jobs)
    m.d.comb += [engine.flush.eq(control.flush), control.level.eq(engine.level), control.tag.eq(engine.tag),
                 control.macs.eq(engine.macs)]
    for name in ("done", "invalid", "overflow", *EVENTS):
        m.d.comb += getattr(control, name).eq(getattr(engine, name))


def _parameters(d: MatmulDesign) -> dict:
    return {"modes": [mode.name for mode in d.pe.modes], "rows": d.rows, "columns": d.columns,
            "implementation": d.pe.implementation, "accumulator": d.pe.accumulator.kind,
            "depth": d.pe.accumulator.depth, "pipeline": d.pe.pipeline, "k_words": d.k_words, "bus_bits": d.bus_bits,
            "output_lanes": d.output_lanes, "queue": d.queue, "rules": list(d.rules), "outputs": list(d.outputs),
            "bias": d.bias, "accumulate": d.accumulate, "block": list(d.block)}


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
        return _parameters(self.design)

    def elaborate(self, platform) -> Module:
        m = Module()
        engine = MatmulEngine(self.design)
        control = CoreControl(self.design, engine)
        m.submodules.engine, m.submodules.control = engine, control
        wiring.connect(m, wiring.flipped(self.s_axil), control.s_axil)
        _connect(m, control, engine)
        m.d.comb += self.irq.eq(control.irq)
        for name in self.inputs:
            skid = SkidBuffer(self.design.bus_bits)
            # What waits here belongs to a job that a flush drops; nothing new comes in meanwhile.
            m.submodules[f"skid_{name}"] = ResetInserter(control.flush)(skid)
            axi = getattr(self, f"s_axis_{name}")
            m.d.comb += [skid.i.payload.eq(axi.tdata), skid.i.valid.eq(axi.tvalid & ~control.flush),
                         axi.tready.eq(skid.i.ready & ~control.flush)]
            wiring.connect(m, skid.o, getattr(engine, name))
        # A beat that the receiver has seen must stay: no flush here.
        m.submodules.skid_o = skid = SkidBuffer(beat_layout(self.design.bus_bits))
        wiring.connect(m, engine.o, skid.i)
        m.d.comb += control.pending.eq(skid.o.valid)
        to_axi(m, skid.o, self.m_axis)
        return m


class MasterCore(wiring.Component):
    """The core that moves its own data, in the ``sync`` domain.

    Members
    -------
    s_axil : In(AxiLite)
    m_axi : Out(Axi4)
    irq : Out(1)
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        super().__init__({"s_axil": In(AxiLite()), "m_axi": Out(Axi4(design.address_bits, design.bus_bits)),
                          "irq": Out(1)})

    @property
    def parameters(self) -> dict:
        return {**_parameters(self.design), "address_bits": self.design.address_bits}

    def elaborate(self, platform) -> Module:
        m = Module()
        engine, master = MatmulEngine(self.design), DescriptorEngine(self.design)
        control = CoreControl(self.design, engine)
        m.submodules.engine, m.submodules.control, m.submodules.master = engine, control, master
        wiring.connect(m, wiring.flipped(self.s_axil), control.s_axil)
        wiring.connect(m, master.bus, wiring.flipped(self.m_axi))
        _connect(m, control, engine)
        wiring.connect(m, control.record, master.record)
        wiring.connect(m, master.load, control.load)
        for name in ("a", "w", "c") if self.design.accumulate else ("a", "w"):
            wiring.connect(m, getattr(master, name), getattr(engine, name))
        # Cuts the way from the output lanes to the byte rotation of the writer.
        skid = SkidBuffer(beat_layout(self.design.bus_bits))
        m.submodules.skid_o = ResetInserter(control.flush)(skid)
        wiring.connect(m, engine.o, skid.i)
        wiring.connect(m, skid.o, master.result)
        m.d.comb += [self.irq.eq(control.irq), master.flush.eq(control.flush), control.pending.eq(0),
                     control.start.eq(master.start), control.failed.eq(master.failed), control.wrong.eq(master.wrong),
                     control.fetching.eq(master.fetching), control.quiet.eq(master.quiet),
                     control.stored.eq(master.done), master.started.eq(control.started),
                     master.refused.eq(control.refused), master.fetch.eq(control.fetch),
                     master.fetch_address.eq(control.fetch_address)]
        return m


class MatmulCore(AxiTop):
    """The co-processor as a top module: ``aclk``, ``aresetn``, AXI port names.

    Parameters
    ----------
    design : MatmulDesign
        With ``descriptors`` the variant that fetches and stores by itself.
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        super().__init__(MasterCore(design) if design.descriptors else StreamCore(design), design.name)
