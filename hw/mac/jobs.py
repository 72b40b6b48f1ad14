"""Jobs of the matmul core: their fields, what makes one illegal, and the ring that every stage reads.

::

    i ──► [ check ] ──► ring of queue + 1 entries ──► jobs[stage], valid[stage]
             │ error          ▲ freed by the last stage       done[stage]
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.matmul import INTEGER_BITS, MAX_SHIFT, RULES
from bitkiln.models.design.registers import ERRORS
from bitkiln.models.formats import get_format, get_group_format

__all__ = ["JobRing", "STAGES", "by_index", "job_error", "job_layout"]

STAGES = ("load_a", "load_w", "compute", "drain")


def job_layout(design: MatmulDesign) -> data.StructLayout:
    """Fields of one job (models.design.Job), as the registers hold them."""
    return data.StructLayout({
        "mode": 4, "output": 4, "block": 4, "m": 16, "k": 16, "n": 16, "rule": 2, "order": 1, "per_channel": 1,
        "bias": 1, "accumulate": 1, "clamp": 1, "scale": 32, "shift": 6, "bias_shift": 4, "zero_point": signed(16),
        "clamp_low": 32, "clamp_high": 32, "tag": 16})


def by_index(index: Value, values: Sequence[int | Value]) -> Value:
    """``values[index]`` as constants or signals behind a multiplexer; the last one beyond the end."""
    if len({v if isinstance(v, int) else id(v) for v in values}) == 1:
        return Value.cast(values[0])
    return Array([Value.cast(v) for v in values])[index]


def job_error(design: MatmulDesign, job: data.View) -> Value:
    """Error code of a job, 0 where the core can run it (Job.check says the same in words)."""
    pe, code = design.pe, Const(0, 4)
    modes = pe.modes

    def refuse(when: Value | int, name: str) -> None:
        nonlocal code
        code = Mux(when, ERRORS[name], code)

    def listed(index: Value, wanted: Sequence[bool]) -> Value:
        return by_index(index, [int(bit) for bit in wanted])

    # Later lines win: the register map's order of importance is the reverse of this.
    refuse((job.bias & ~job.per_channel) | (job.bias & int(not design.bias))
           | (job.accumulate & int(not design.accumulate)), "flags")
    if "integer" in design.rules:
        refuse((job.rule == 1) & ~job.per_channel & (job.shift > MAX_SHIFT), "flags")
    if design.block:
        elements = [get_group_format(name).element.name for name in design.block]
        wrong = job.block > len(design.block)
        for at, element in enumerate(elements, start=1):
            wrong = wrong | ((job.block == at) & (job.mode != pe.index(element)))
        refuse(wrong, "block")
    else:
        refuse(job.block != 0, "block")
    if set(design.rules) != {"raw"}:
        refuse((job.rule != 0) & (job.output >= len(design.outputs)), "output")
    if "integer" in design.rules:
        integer = [get_format(name).family == "int" for name in design.outputs]
        narrow = [not design.floating and pe.dot(mode).accumulator_bits <= INTEGER_BITS for mode in modes]
        refuse((job.rule == 1) & ~(listed(job.output, integer) & listed(job.mode, narrow) & (job.block == 0)
                                   & (job.per_channel | ~job.scale[31])), "rule")
    legal = Cat(*[Const(int(rule in design.rules), 1) for rule in RULES], Const(0, 1))
    refuse(~legal.bit_select(job.rule, 1), "rule")
    too_long = job.k > by_index(job.mode, [design.max_k(mode) for mode in modes])
    refuse(too_long | (job.m == 0) | (job.k == 0) | (job.n == 0), "shape")
    refuse(job.mode >= len(modes), "mode")
    return code


class JobRing(wiring.Component):
    """Holds the running job and ``queue`` waiting ones; each stage goes through them at its own pace.

    A job is freed when the last stage (``drain``) is done with it. Reading is combinational.

    Members
    -------
    i : In(stream of job_layout)
        ``ready`` is low while every entry is taken. Only legal jobs may come.
    job_<stage> : Out(job_layout), valid_<stage> : Out(1), done_<stage> : In(1)
        The stage's current job; ``done`` moves to the next one.
    level : Out
        Jobs held.
    """

    def __init__(self, design: MatmulDesign):
        self.design, self.depth = design, design.queue + 1
        layout = job_layout(design)
        members = {"i": In(stream.Signature(layout)), "level": Out(range(self.depth + 1))}
        for stage in STAGES:
            members.update({f"job_{stage}": Out(layout), f"valid_{stage}": Out(1), f"done_{stage}": In(1)})
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        layout = job_layout(self.design)
        # As a plain number: every reader keeps only the bits that it uses.
        m.submodules.ring = ring = Memory(shape=layout.size, depth=self.depth, init=[])
        write = ring.write_port()
        at = Signal(range(self.depth))

        def following(pointer: Signal) -> Value:
            return Mux(pointer == self.depth - 1, 0, pointer + 1)

        push = self.i.valid & self.i.ready
        m.d.comb += [write.addr.eq(at), write.data.eq(self.i.payload.as_value()), write.en.eq(push),
                     self.i.ready.eq(self.level != self.depth)]
        with m.If(push):
            m.d.sync += at.eq(following(at))
        m.d.sync += self.level.eq(self.level + push - self.done_drain)
        for stage in STAGES:
            read = ring.read_port(domain="comb")
            pointer = Signal(range(self.depth), name=f"at_{stage}")
            pending = Signal(range(self.depth + 1), name=f"pending_{stage}")
            done = getattr(self, f"done_{stage}")
            m.d.comb += [read.addr.eq(pointer), getattr(self, f"job_{stage}").as_value().eq(read.data),
                         getattr(self, f"valid_{stage}").eq(pending != 0)]
            m.d.sync += pending.eq(pending + push - done)
            with m.If(done):
                m.d.sync += pointer.eq(following(pointer))
        return m
