"""cocotb bench of the dot unit behind streams: random lengths, random stalls on both sides, resets on the way."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.clock import Clock

from bitkiln.models.design import DotDesign
from bitkiln.models.golden.dot import trace
from bitkiln.sim.batch import pack_lanes, to_ints
from bitkiln.sim.bench_report import parameters, report

from .dot import special_codes

DEFAULT_PRODUCTS = 400
TIMEOUT_CYCLES = 1000  # without any transfer


def payloads(design: DotDesign, lengths: np.ndarray, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Payload of every beat and of every result of dot products with these numbers of beats."""
    beats = int(lengths.sum())
    operands = []
    for fmt in (design.activation, design.weight):
        codes = rng.integers(0, 1 << fmt.bits, (beats, design.lanes))
        calm = np.flatnonzero(fmt.unpack(np.arange(1 << fmt.bits)).special == 0)
        edges = np.intersect1d(special_codes(fmt), calm)
        kind = rng.random((beats, 1))  # specials are rare: a flag stays for a whole dot product
        codes = np.where(kind < 0.02, codes, np.where(kind < 0.1, rng.choice(edges, codes.shape),
                                                      rng.choice(calm, codes.shape)))
        operands.append(codes)
    a, w = operands
    last = np.zeros(beats, bool)
    last[np.cumsum(lengths) - 1] = True
    a_bits, w_bits = design.lanes * design.activation.bits, design.lanes * design.weight.bits
    packed = [int(x) | int(y) << a_bits | int(z) << (a_bits + w_bits) for x, y, z in zip(
        to_ints(pack_lanes(a, design.activation.bits), a_bits), to_ints(pack_lanes(w, design.weight.bits), w_bits),
        last, strict=True)]
    # The same beats with a clear after each last one, through the golden trace of the unit without pipeline.
    at = np.arange(beats) + np.cumsum(last) - last
    cycles = beats + len(lengths)
    all_a, all_w = (np.zeros((cycles, design.lanes), np.int64) for _ in range(2))
    en, clear = np.zeros(cycles, bool), np.ones(cycles, bool)
    all_a[at], all_w[at], en[at], clear[at] = a, w, True, False
    golden = trace(design.with_options(pipeline=0), all_a, all_w, en, clear)
    rows = at[last]
    results = []
    for row in rows:
        value, place = int(golden.acc[row]) & ((1 << design.accumulator_bits) - 1), design.accumulator_bits
        for flag in design.flags:
            value, place = value | int(getattr(golden, flag)[row]) << place, place + 1
        if design.output is not None:
            value |= int(golden.o[row]) << place
        results.append(value)
    return packed, results


@dataclass
class Streams:
    """Drives both streams one cycle at a time and checks the rules: what is offered stays until it is taken."""

    dut: object
    rng: random.Random
    beats: deque = field(default_factory=deque)
    wanted: deque = field(default_factory=deque)
    checked: int = 0
    cycles: int = 0
    offered: int | None = None   # payload on i
    ready: bool = False          # o.ready as driven
    kept: int | None = None      # payload on o that was not taken

    def reset(self) -> None:
        self.offered, self.kept = None, None

    async def cycle(self, offer: float, take: float) -> tuple[bool, bool]:
        """One edge. ``offer`` and ``take`` are the chances of a new beat and of ready; returns (sent, taken)."""
        dut = self.dut
        await dut.clk.rising_edge
        self.cycles += 1
        valid = bool(int(dut.o__valid.value))
        sent = self.offered is not None and bool(int(dut.i__ready.value))
        taken = valid and self.ready
        if self.kept is not None:
            assert valid, "o.valid was dropped before the transfer"
            assert int(dut.o__payload.value) == self.kept, "o.payload changed before the transfer"
        if valid:
            payload = int(dut.o__payload.value)
            assert self.wanted, f"a result too many: {payload:#x}"
            assert payload == self.wanted[0], f"result {self.checked}: got {payload:#x}, expected {self.wanted[0]:#x}"
            self.kept = None if taken else payload
            if taken:
                self.wanted.popleft()
                self.checked += 1
        if sent:
            self.offered = None
        if self.offered is None and self.beats and self.rng.random() < offer:
            self.offered = self.beats.popleft()
            dut.i__payload.value = self.offered
        dut.i__valid.value = int(self.offered is not None)
        self.ready = self.rng.random() < take
        dut.o__ready.value = int(self.ready)
        return sent, taken

    async def drain(self, offer: float, take: float) -> None:
        """Until every result was taken, and a while longer for results that should not come."""
        idle = 0
        while self.wanted or idle < 20:
            moved = any(await self.cycle(offer, take))
            idle = 0 if moved else idle + 1
            assert idle < TIMEOUT_CYCLES, f"{len(self.wanted)} results did not come"


async def _start(dut) -> tuple[DotDesign, Streams, np.random.Generator, int]:
    given = parameters()
    seed = int(given["seed"]) if given.get("seed") is not None else random.getrandbits(32)
    dut._log.info("seed %d", seed)
    for port in (dut.clk, dut.rst, dut.i__payload, dut.i__valid, dut.o__ready):
        port.value = 0
    Clock(dut.clk, 2, unit="step").start()
    streams = Streams(dut, random.Random(seed))
    await _reset(dut, streams)
    return given["design"], streams, np.random.default_rng(seed), int(given.get("products", DEFAULT_PRODUCTS))


async def _reset(dut, streams: Streams) -> None:
    dut.rst.value, dut.i__valid.value, dut.o__ready.value = 1, 0, 0
    streams.ready = False
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    dut.rst.value = 0
    streams.reset()


@cocotb.test()
async def full_speed(dut) -> None:
    """Without stalls n beats take n + 1 cycles, and a result is offered ``latency`` edges after its last beat."""
    design, streams, rng, products = await _start(dut)
    lengths = np.concatenate([np.ones(16, np.int64), rng.integers(1, 6, products // 4)])
    beats, results = payloads(design, lengths, rng)
    streams.beats.extend(beats)
    streams.wanted.extend(results)
    sent_at, taken_at, cycles = [], [], 0
    while streams.wanted:
        sent, taken = await streams.cycle(1.0, 1.0)
        cycles += 1
        if sent:
            sent_at.append(cycles)
        if taken:
            taken_at.append(cycles)
        assert cycles < 10 * len(beats) + TIMEOUT_CYCLES
    ends = np.array(sent_at)[np.cumsum(lengths) - 1]
    assert sent_at[-1] - sent_at[0] == len(beats) - 1 + len(lengths) - 1, "a bubble"
    # Offered after edge t + latency - 1 (t accepts the last beat), hence taken at the next one.
    assert (np.array(taken_at) - ends == design.latency + 1).all(), "latency"
    report(vectors=streams.checked, cycles=streams.cycles)


@cocotb.test()
async def random_stalls(dut) -> None:
    """Every mixture of slow and fast producers and consumers."""
    design, streams, rng, products = await _start(dut)
    for offer, take in ((1.0, 0.1), (0.1, 1.0), (0.5, 0.5), (0.9, 0.3), (1.0, 1.0), (0.7, 0.7)):
        lengths = np.where(rng.random(products // 4) < 0.5, 1, rng.integers(1, 12, products // 4))
        beats, results = payloads(design, lengths, rng)
        streams.beats.extend(beats)
        streams.wanted.extend(results)
        await streams.drain(offer, take)
    assert not streams.beats and streams.offered is None
    report(vectors=streams.checked, cycles=streams.cycles)


@cocotb.test()
async def blocked_output(dut) -> None:
    """With ready low for good the input stops after finitely many results, and all of them come out later."""
    design, streams, rng, products = await _start(dut)
    lengths = np.ones(products, np.int64)
    beats, results = payloads(design, lengths, rng)
    streams.beats.extend(beats)
    streams.wanted.extend(results)
    sent = 0
    for _ in range(100):
        sent += (await streams.cycle(1.0, 0.0))[0]
    assert 0 < sent <= design.latency + 3
    await streams.drain(1.0, 1.0)
    report(vectors=streams.checked, cycles=streams.cycles)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset forgets everything under way; what comes after it is whole."""
    design, streams, rng, _ = await _start(dut)
    for _ in range(24):
        beats, results = payloads(design, rng.integers(1, 8, 12), rng)
        streams.beats.extend(beats)
        streams.wanted.extend(results)
        for _ in range(streams.rng.randrange(1, 40)):
            await streams.cycle(0.8, 0.6)
        streams.beats.clear()
        streams.wanted.clear()
        await _reset(dut, streams)
    beats, results = payloads(design, rng.integers(1, 8, 40), rng)
    streams.beats.extend(beats)
    streams.wanted.extend(results)
    await streams.drain(0.8, 0.6)
    report(vectors=streams.checked, cycles=streams.cycles)
