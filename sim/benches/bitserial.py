"""cocotb bench of the bit-serial array: groups of mixed types under random stalls, special values written between
channels, resets on the way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.clock import Clock

from bitkiln.hw.dequant.array import result_layout
from bitkiln.hw.dequant.terms import special_terms
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.golden.bitserial import GroupStream, bitserial
from bitkiln.sim.batch import from_ints, to_ints
from bitkiln.sim.bench_report import parameters, report
from bitkiln.sim.bitserial_check import pack_stream, random_stream, special_write, unpack_results

DEFAULT_GROUPS = 200
TIMEOUT_CYCLES = 2000  # without any transfer


@dataclass
class Sender:
    """One input stream: an item is offered after a random gap and stays until it is taken."""

    dut: object
    name: str
    rng: random.Random
    items: list[int] = field(default_factory=list)
    offered: bool = False

    def port(self, part: str):
        return getattr(self.dut, f"{self.name}__{part}")

    def after_edge(self, chance: float) -> bool:
        """What the last edge took, and the offer for the next one; True for a transfer."""
        taken = self.offered and bool(int(self.port("ready").value))
        if taken:
            self.items.pop(0)
            self.offered = False
        if not self.offered and self.items and self.rng.random() < chance:
            self.port("payload").value = self.items[0]
            self.offered = True
        self.port("valid").value = int(self.offered)
        return taken


@dataclass
class Bench:
    """All streams, one edge at a time."""

    dut: object
    design: BitSerialDesign
    rng: random.Random
    senders: dict[str, Sender]
    results: list[int] = field(default_factory=list)
    ready: bool = False
    kept: int | None = None
    cycles: int = 0

    async def cycle(self, offer: float, take: float) -> bool:
        dut = self.dut
        await dut.clk.rising_edge
        self.cycles += 1
        valid = bool(int(dut.o__valid.value))
        payload = int(dut.o__payload.value) if valid else None
        if self.kept is not None:
            assert valid, "o.valid was dropped before the transfer"
            assert payload == self.kept, "o.payload changed before the transfer"
        taken = valid and self.ready
        if taken:
            self.results.append(payload)
        self.kept = payload if valid and not taken else None
        moved = [sender.after_edge(offer) for sender in self.senders.values()]
        self.ready = self.rng.random() < take
        dut.o__ready.value = int(self.ready)
        return taken or any(moved)

    async def reset(self) -> None:
        for sender in self.senders.values():
            sender.offered, sender.items = False, []
            sender.port("valid").value = 0
        self.dut.rst.value, self.dut.o__ready.value = 1, 0
        self.ready, self.kept = False, None
        await self.dut.clk.rising_edge
        await self.dut.clk.rising_edge
        self.dut.rst.value = 0

    async def send(self, stream: GroupStream, offer: float, take: float,
                   tables: dict[int, tuple[int, ...]] | None = None) -> int:
        """A stream of groups from its first chunk to its last result; returns results compared."""
        words = pack_stream(self.design, stream, tables)
        for name, payloads in (("w", words.w), ("a", words.a)):
            self.senders[name].items = [int(v) for v in to_ints(payloads, 0)]
        expected = bitserial(self.design, stream, tables)
        wanted, idle, self.results = len(expected.value) * self.design.rows, 0, []
        while len(self.results) < wanted or idle < 40:
            moved = await self.cycle(offer, take)
            idle = 0 if moved else idle + 1
            assert idle < TIMEOUT_CYCLES, f"{wanted - len(self.results)} results did not come"
        assert len(self.results) == wanted, f"{len(self.results)} results, expected {wanted}"
        width = result_layout(self.design).size
        found = unpack_results(self.design, from_ints(self.results, width) if width > 64
                               else np.array(self.results, np.uint64))
        for name, seen in found.items():
            if name == "last":
                assert (seen[:, -1]).all() and not seen[:, :-1].any(), "last"
                continue
            right = np.broadcast_to(expected.scale_nan[:, None, :], seen.shape) if name == "scale_nan" \
                else getattr(expected, name)
            bad = np.argwhere(seen != right)
            assert not len(bad), f"{name}{bad[0].tolist()}: got {seen[tuple(bad[0])]}, expected {right[tuple(bad[0])]}"
        return expected.fp32.size


async def _start(dut) -> tuple[Bench, int, int]:
    given = parameters()
    seed = int(given["seed"]) if given.get("seed") is not None else random.getrandbits(32)
    dut._log.info("seed %d", seed)
    design = given["design"]
    names = ["w", "a"] + ["special"] * (special_terms(design) > 0)
    rng = random.Random(seed)
    bench = Bench(dut, design, rng, {name: Sender(dut, name, rng) for name in names})
    for port in (dut.rst, dut.o__ready, *(sender.port(part) for sender in bench.senders.values()
                                          for part in ("valid", "payload"))):
        port.value = 0
    Clock(dut.clk, 2, unit="step").start()
    await bench.reset()
    return bench, seed, int(given.get("groups", DEFAULT_GROUPS))


@cocotb.test()
async def random_stalls(dut) -> None:
    """Every mixture of slow and fast producers and consumers."""
    bench, seed, groups = await _start(dut)
    checked = 0
    for at, (offer, take) in enumerate(((1.0, 1.0), (0.5, 0.5), (1.0, 0.1), (0.2, 1.0))):
        stream = random_stream(bench.design, max(groups // 4, 1), seed + at, longest=48)
        checked += await bench.send(stream, offer, take)
    report(vectors=checked, cycles=bench.cycles)


@cocotb.test()
async def special_values(dut) -> None:
    """Entries of the table are written between channels; a write that comes too early waits."""
    bench, seed, groups = await _start(dut)
    design, checked = bench.design, 0
    typed = [i for i, t in enumerate(design.weights) if t.special_code is not None]
    tables: dict[int, tuple[int, ...]] = {}
    rng = np.random.default_rng(seed)
    for turn in range(4):
        for index in typed:
            weight = design.weights[index]
            pool = sorted(set(weight.specials) | {w or 0 for w in weight.values})
            values = tuple(int(v) for v in rng.choice(pool, 4))
            tables[index] = values
            bench.senders["special"].items += [special_write(design, index, entry, value)
                                               for entry, value in enumerate(values)]
        while any(bench.senders[name].items for name in ("special",) if name in bench.senders):
            await bench.cycle(0.5, 0.5)
        stream = random_stream(design, max(groups // 8, 1), seed + 10 + turn, longest=24)
        checked += await bench.send(stream, 0.9, 0.7, dict(tables))
    if typed:
        # While a channel is open a write is not taken: one chunk that does not end its group keeps it open.
        words = pack_stream(design, random_stream(design, 40, seed + 99, longest=design.group))
        open_chunk = int(np.flatnonzero(~words.last)[0]) if (~words.last).any() else None
        if open_chunk is not None:
            for name, payloads in (("w", words.w), ("a", words.a)):
                bench.senders[name].items = [int(to_ints(payloads[open_chunk:open_chunk + 1], 0)[0])]
            while bench.senders["w"].items:
                await bench.cycle(1.0, 1.0)
            bench.senders["special"].items = [special_write(design, typed[0], 0, design.weights[typed[0]].specials[0])]
            for _ in range(60):
                await bench.cycle(1.0, 1.0)
            assert bench.senders["special"].items, "a special value was written while a channel was open"
            checked += 1
    report(vectors=checked, cycles=bench.cycles)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset forgets everything under way; what comes after it is whole."""
    bench, seed, groups = await _start(dut)
    for turn in range(6):
        words = pack_stream(bench.design, random_stream(bench.design, 12, seed + turn, longest=32))
        for name, payloads in (("w", words.w), ("a", words.a)):
            bench.senders[name].items = [int(v) for v in to_ints(payloads, 0)]
        for _ in range(bench.rng.randrange(1, 80)):
            await bench.cycle(0.8, 0.6)
        await bench.reset()
    checked = await bench.send(random_stream(bench.design, max(groups // 8, 1), seed + 50, longest=32), 0.8, 0.6)
    report(vectors=checked, cycles=bench.cycles)
