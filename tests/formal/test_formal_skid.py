"""The contract of the skid buffer, proved for all time: nothing lost, repeated, reordered or changed while offered."""

from __future__ import annotations

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Assert, Cover, Elaboratable, Module, Mux, ResetSignal, Signal

from bitkiln.hw.bus.axistream import SkidBuffer
from bitkiln.sim.formal import Proof, check

WIDTH = 3


class Contract(Elaboratable):
    """The buffer between a free producer and a free consumer, beside a queue of what was accepted."""

    def __init__(self, unit: SkidBuffer):
        self.unit = unit
        self.valid, self.payload, self.ready = Signal(), Signal(WIDTH), Signal()
        self.ports = [self.valid, self.payload, self.ready]

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        m.d.comb += [unit.i.valid.eq(self.valid), unit.i.payload.eq(self.payload), unit.o.ready.eq(self.ready)]
        accept, take = unit.i.valid & unit.i.ready, unit.o.valid & unit.o.ready
        level, first, second = Signal(range(4)), Signal(WIDTH), Signal(WIDTH)
        m.d.sync += level.eq(level + accept - take)
        with m.If(take):
            m.d.sync += first.eq(Mux(level == 1, self.payload, second))
        with m.Elif(level == 0):
            m.d.sync += first.eq(self.payload)
        with m.If(accept):
            m.d.sync += second.eq(self.payload)
        m.d.comb += [
            Assert(level <= 2), Assert(unit.o.valid == (level != 0), "lost or repeated"),
            Assert(~unit.o.valid | (unit.o.payload == first), "wrong beat"),
            Assert((level != 0) | unit.i.ready, "empty and not ready"),
            # Where the beats are.
            Assert(unit.i.ready == (level != 2)), Assert((level != 2) | (unit.spare == second)),
        ]
        kept, kept_payload, seen = Signal(), Signal(WIDTH), Signal(3)
        m.d.sync += [kept.eq(unit.o.valid & ~unit.o.ready), kept_payload.eq(unit.o.payload),
                     seen.eq(seen + (take & (seen != 7)))]
        with m.If(kept):
            m.d.comb += [Assert(unit.o.valid, "valid dropped"),
                         Assert(unit.o.payload == kept_payload, "payload changed")]
        # The payload kept is the first of the queue, which makes the last assertion inductive.
        m.d.comb += [Assert(~kept | (first == kept_payload)), Assert(~kept | (level != 0))]
        m.d.comb += Cover((seen == 4) & (level == 2) & ~ResetSignal())
        return m

    def text(self) -> str:
        return rtlil.convert(self, name="contract", ports=self.ports, emit_src=True)


def prove(unit: SkidBuffer, kind: str, depth: int) -> Proof:
    return check(Contract(unit).text(), "contract", kind=kind, depth=depth, language="rtlil", timeout=170)


def test_contract_for_all_time() -> None:
    assert prove(SkidBuffer(WIDTH), "induction", 2)


def test_four_beats_and_a_full_buffer_are_reached() -> None:
    proof = prove(SkidBuffer(WIDTH), "cover", 12)
    assert proof, proof.log


class AlwaysReady(SkidBuffer):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.i.ready.eq(1)
        return m


class ForgetsTheSpare(SkidBuffer):
    def elaborate(self, platform) -> Module:
        m = super().elaborate(platform)
        m.d.sync += self.room.eq(1)
        return m


@pytest.mark.parametrize("broken", [AlwaysReady, ForgetsTheSpare])
def test_a_broken_buffer_is_refuted(broken: type) -> None:
    assert not prove(broken(WIDTH), "bmc", 8)
