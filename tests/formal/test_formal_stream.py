"""The stream contract of the dot unit, for any producer, consumer and reset.

* What is offered stays: ``o.valid`` is not dropped and ``o.payload`` does not change before the transfer.
* One result for each ``last``, in order, none lost or repeated, within a bounded time.
* Each result is the sum of exactly its own beats.

Proved for all time by induction: the first two for every pipeline depth, the third without pipeline; with a
pipeline the third is proved for the first ten cycles after power-up. The reset input is free throughout.
"""

from __future__ import annotations

import linecache
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    Const,
    Cover,
    Elaboratable,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    signed,
)

from bitkiln.hw.mac.stream import StreamDotUnit
from bitkiln.models.design import MAX_PIPELINE, Accumulator, DotDesign
from bitkiln.sim.formal import Proof, check


def small(pipeline: int) -> DotDesign:
    """Arithmetic that the solver does not notice: one lane of two bits, seven bits of sum."""
    return DotDesign.from_pe("int2", lanes=1, accumulator=Accumulator(depth=8), pipeline=pipeline)


class Harness(Elaboratable):
    """The unit between a free producer and a free consumer."""

    def __init__(self, unit: StreamDotUnit):
        self.unit = unit
        self.valid, self.payload = Signal(), Signal(len(unit.i.payload.as_value()))
        self.ready = Signal()
        self.ports = [self.valid, self.payload, self.ready]

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        m.d.comb += [unit.i.valid.eq(self.valid), unit.i.payload.eq(self.payload), unit.o.ready.eq(self.ready)]
        self.accept, self.take = Signal(), Signal()
        m.d.comb += [self.accept.eq(unit.i.valid & unit.i.ready), self.take.eq(unit.o.valid & unit.o.ready)]
        # Every register of the statements is reset with the unit: they speak of the time since the last reset.
        self.state(m, unit)
        return m

    def state(self, m: Module, unit: StreamDotUnit) -> None:
        raise NotImplementedError

    def text(self) -> str:
        return rtlil.convert(self, name="contract", ports=self.ports, emit_src=True)


class Contract(Harness):
    """Handshake rules and the number of results; the invariants make it inductive."""

    def state(self, m: Module, unit: StreamDotUnit) -> None:
        payload = unit.o.payload.as_value()
        kept, kept_payload = Signal(), Signal(len(payload))
        m.d.sync += [kept.eq(unit.o.valid & ~unit.o.ready), kept_payload.eq(payload)]
        with m.If(kept):
            m.d.comb += [Assert(unit.o.valid, "valid dropped"), Assert(payload == kept_payload, "payload changed")]

        ends = self.accept & unit.i.payload.last
        owed = Signal(range(4 * unit.slots))  # results owed to the consumer, counted at the ports alone
        m.d.sync += owed.eq(owed + ends - self.take)
        m.d.comb += [Assert(owed <= unit.slots, "too many promises"),
                     Assert(~self.take | (owed != 0), "a result too many")]
        waiting = Signal(range(unit.latency + 2))
        m.d.sync += waiting.eq(Mux((owed != 0) & ~unit.o.valid, waiting + 1, 0))
        m.d.comb += Assert(waiting < unit.latency, "result does not come")

        # Invariants: where each owed result is.
        ways = unit.under_way
        m.d.comb += [Assert(unit.pending == owed), Assert(owed == unit.level + sum(ways, Const(0, 1))),
                     Assert((unit.write_at < unit.slots) & (unit.read_at < unit.slots)),
                     Assert(unit.write_at == Mux(unit.read_at + unit.level >= unit.slots,
                                                 unit.read_at + unit.level - unit.slots, unit.read_at + unit.level)),
                     Assert(unit.clearing == ways[0])]
        # The oldest result under way is no further from the queue than the time waited so far says.
        for age in range(1, unit.latency):
            with m.If((waiting == age) & (unit.level == 0)):
                m.d.comb += Assert((ways >> age).any(), "a result is late")


class Contents(Harness):
    """Each result is the sum of its own beats: a second queue holds what the beats seen at the ports add up to."""

    def state(self, m: Module, unit: StreamDotUnit) -> None:
        beat, slots = unit.i.payload, unit.slots
        shape = signed(len(unit.acc))
        total, following = Signal(shape), Signal(shape)
        m.d.comb += following.eq(total + beat.a.as_signed() * beat.w.as_signed())
        wanted = Array(Signal(shape, name=f"wanted{n}") for n in range(slots))
        write_at, read_at = Signal(range(slots)), Signal(range(slots))
        with m.If(self.accept):
            m.d.sync += total.eq(Mux(beat.last, 0, following))
            with m.If(beat.last):
                m.d.sync += [wanted[write_at].eq(following),
                             write_at.eq(Mux(write_at == slots - 1, 0, write_at + 1))]
        with m.If(self.take):
            m.d.sync += read_at.eq(Mux(read_at == slots - 1, 0, read_at + 1))
            m.d.comb += Assert(unit.o.payload.acc == wanted[read_at], "wrong sum")
        self.places(m, unit, total, wanted, write_at, read_at)

    def places(self, m, unit, total, wanted, write_at, read_at) -> None:
        """Nothing more is known: enough for the first cycles after power-up."""


class ContentsForAllTime(Contents):
    """Where each sum is, for units without pipeline registers: makes the proof inductive."""

    def places(self, m, unit, total, wanted, write_at, read_at) -> None:
        slots, level = unit.slots, unit.level
        # What the clear of a reset leaves, and then the sum of the beats so far or the sum that was completed.
        with m.If(unit.clearing):
            m.d.comb += [Assert(unit.acc == wanted[unit.write_at]), Assert(total == 0)]
        with m.Else():
            m.d.comb += Assert(unit.acc == total)

        def after(at: Value, steps: Value) -> Value:
            return Mux(at + steps >= slots, at + steps - slots, at + steps)

        m.d.comb += [Assert(read_at == unit.read_at), Assert(write_at == after(unit.write_at, unit.clearing)),
                     Assert(unit.write_at == after(unit.read_at, level)), Assert(unit.clearing == unit.under_way),
                     Assert((unit.read_at < slots) & (level <= slots)), Assert(unit.pending == level + unit.clearing),
                     Assert(unit.pending <= slots)]
        for n in range(slots):
            with m.If(n < level):
                at = after(unit.read_at, Const(n))
                m.d.comb += Assert(Array(unit.queue)[at].acc == wanted[at])


class Reached(Harness):
    """What the contract speaks of does happen."""

    def state(self, m: Module, unit: StreamDotUnit) -> None:
        taken, blocked = Signal(3), Signal()
        with m.If(self.take):
            m.d.sync += taken.eq(taken + 1)
        with m.If((unit.pending == unit.slots) & self.valid & ~unit.i.ready):
            m.d.sync += blocked.eq(1)
        m.d.comb += [Assume(~ResetSignal()),
                     Cover((taken == 4) & blocked, "four results, the input blocked on the way"),
                     Cover(unit.level == unit.slots, "queue full"),
                     Cover(self.take & (unit.o.payload.acc == -2), "a negative sum")]


def prove(harness: Harness, kind: str, depth: int) -> Proof:
    return check(harness.text(), "contract", kind=kind, depth=depth, language="rtlil", timeout=170)


@pytest.mark.parametrize("pipeline", range(MAX_PIPELINE + 1))
def test_contract_for_all_time(pipeline: int) -> None:
    assert prove(Contract(StreamDotUnit(small(pipeline))), "induction", 2)


def test_contents_for_all_time() -> None:
    assert prove(ContentsForAllTime(StreamDotUnit(small(0))), "induction", 2)


def test_contents_for_the_first_cycles_of_a_pipeline() -> None:
    assert prove(Contents(StreamDotUnit(small(2))), "bmc", 10)


def test_the_cases_are_reached() -> None:
    proof = prove(Reached(StreamDotUnit(small(0))), "cover", 24)
    assert proof, proof.log


class DropsValid(StreamDotUnit):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.o.valid.eq((self.level != 0) & (self.level != self.slots))
        return m


class AcceptsTooMuch(StreamDotUnit):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.i.ready.eq(~self.clearing)
        return m


class Repeats(StreamDotUnit):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.sync += self.read_at.eq(0)
        return m


class ForgetsToClear(StreamDotUnit):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.sync += self.clearing.eq(0)
        return m


@pytest.mark.parametrize(("broken", "harness", "message"), [
    (DropsValid, Contract, "valid dropped"), (AcceptsTooMuch, Contract, "too many promises"),
    (Repeats, Contents, "wrong sum"),
    (ForgetsToClear, Contents, "wrong sum"),
])
def test_a_broken_stream_is_refuted(broken: type, harness: type, message: str) -> None:
    proof = prove(harness(broken(small(0))), "bmc", 14)
    assert not proof
    where = re.search(r"(\S+\.py):(\d+)", proof.failed)  # the assertion's place in this file
    assert where and message in linecache.getline(where[1], int(where[2])), proof.failed
