"""cocotb bench of the bit-serial array: random groups under random stalls on every stream, special values written
between channels, resets on the way.

Parameters: ``design`` (`BitSerialDesign`), ``seed``, ``groups`` of each test.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.clock import Clock

from bitkiln.hw.dequant.array import activation_layout, result_layout, weight_layout
from bitkiln.models.cost.cycles.bitserial import event_cycles
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant_streams import special_terms
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.bitserial import BitSerialResult, GroupStream, bitserial
from bitkiln.sim.batch import from_ints, to_ints
from bitkiln.sim.bench_report import parameters, report
from bitkiln.sim.bitserial_check import ChunkWords, pack_stream, random_stream, special_write, unpack_results

DEFAULT_GROUPS = 60
TIMEOUT_CYCLES = 2000  # without any transfer


@dataclass
class Producer:
    """Offers words on an input stream and keeps each until it is taken."""

    dut: object
    name: str
    rng: random.Random
    words: deque = field(default_factory=deque)
    taken: int = 0
    offered: int | None = None

    def drive(self, chance: float) -> None:
        if self.offered is None and self.words and self.rng.random() < chance:
            self.offered = self.words.popleft()
        offers = self.offered is not None
        getattr(self.dut, f"{self.name}__valid").value = int(offers)
        payload = getattr(self.dut, f"{self.name}__payload")
        payload.value = self.offered if offers else self.rng.getrandbits(len(payload))

    def sample(self) -> bool:
        """Whether the word was taken in the cycle that ends."""
        sent = self.offered is not None and bool(int(getattr(self.dut, f"{self.name}__ready").value))
        if sent:
            self.offered = None
            self.taken += 1
        return sent

    def clear(self) -> None:
        self.words.clear()
        self.offered = None


class Streams:
    """All streams of the array, one cycle at a time, with the rules that its outputs keep: what is offered stays until
    it is taken, nothing is written while a channel is under way."""

    def __init__(self, dut, design: BitSerialDesign, rng: random.Random):
        self.dut, self.design, self.rng = dut, design, rng
        self.inputs = {name: Producer(dut, name, rng) for name in ("w", "a", "special")
                       if name != "special" or special_terms(design)}
        self.results: list[int] = []
        self.kept: int | None = None
        self.ready = False
        self.cycles = 0

    async def cycle(self, chances: dict[str, float]) -> dict[str, bool]:
        """One edge; ``chances`` of an offer or of ready. Which streams moved."""
        dut = self.dut
        await dut.clk.rising_edge
        self.cycles += 1
        moved = {name: producer.sample() for name, producer in self.inputs.items()}
        assert moved["w"] == moved["a"], "weights and activations are taken together"
        valid = bool(int(dut.o__valid.value))
        if self.kept is not None:
            assert valid, "o.valid was dropped before the transfer"
            assert int(dut.o__payload.value) == self.kept, "o.payload changed before the transfer"
        moved["o"] = valid and self.ready
        self.kept = int(dut.o__payload.value) if valid and not moved["o"] else None
        if moved["o"]:
            self.results.append(int(dut.o__payload.value))
        if moved.get("special"):
            assert not int(dut.busy.value), "a special value was written in the middle of a channel"
        for name, producer in self.inputs.items():
            producer.drive(chances[name])
        self.ready = self.rng.random() < chances["o"]
        dut.o__ready.value = int(self.ready)
        return moved

    async def run(self, results: int, chances: dict[str, float]) -> list[dict[str, bool]]:
        """Until so many results came and every word was taken, and a while longer; what moved in each cycle."""
        idle, history = 0, []
        while len(self.results) < results or any(p.words or p.offered is not None for p in self.inputs.values()) \
                or idle < 20:
            history.append(await self.cycle(chances))
            idle = 0 if any(history[-1].values()) else idle + 1
            assert idle < TIMEOUT_CYCLES, f"{len(self.results)} of {results} results came"
        assert len(self.results) == results, f"{len(self.results) - results} results too many"
        return history

    def load(self, words: ChunkWords) -> None:
        design = self.design
        self.inputs["w"].words.extend(to_ints(words.w, weight_layout(design).size).tolist())
        self.inputs["a"].words.extend(to_ints(words.a, activation_layout(design).size).tolist())

    def check(self, expected: Sequence[BitSerialResult]) -> int:
        """Compare the results with golden ones; how many there were."""
        design, size = self.design, result_layout(self.design).size
        words = from_ints(self.results, size) if size > 64 else np.array(self.results, np.uint64)
        found = unpack_results(design, words)
        last = found.pop("last")
        assert last[:, -1].all() and not last[:, :-1].any(), "last goes with the last row alone"
        for name, seen in found.items():
            wanted = np.concatenate([getattr(result, name) for result in expected])
            wanted = np.broadcast_to(wanted[:, None, :], seen.shape) if name == "scale_nan" else wanted
            bad = np.argwhere(seen != wanted)
            assert not len(bad), f"{name}{bad[0].tolist()}: got {seen[tuple(bad[0])]}, expected " \
                                 f"{wanted[tuple(bad[0])]} ({len(bad)} differ)"
        self.results = []
        return len(words) * design.columns


def channel(stream: GroupStream, first: int, end: int) -> GroupStream:
    """Some of the groups."""
    at = slice(stream.starts[first], stream.starts[end])
    return GroupStream(stream.activations[:, at], stream.codes[:, at], stream.lengths[first:end],
                       *(getattr(stream, name)[:, first:end]
                         for name in ("types", "special", "scale", "scale_negative", "zero")), stream.emit[first:end])


async def _start(dut) -> tuple[BitSerialDesign, Streams, int, int]:
    given = parameters()
    seed = int(given["seed"]) if given.get("seed") is not None else random.getrandbits(32)
    dut._log.info("seed %d", seed)
    design = given["design"]
    streams = Streams(dut, design, random.Random(seed))
    for port in (dut.clk, dut.rst, dut.o__ready):
        port.value = 0
    Clock(dut.clk, 2, unit="step").start()
    await _reset(dut, streams)
    return design, streams, seed, int(given.get("groups", DEFAULT_GROUPS))


async def _reset(dut, streams: Streams) -> None:
    dut.rst.value, dut.o__ready.value = 1, 0
    for name, producer in streams.inputs.items():
        producer.clear()
        getattr(dut, f"{name}__valid").value = 0
    streams.ready, streams.kept = False, None
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    dut.rst.value = 0
    streams.results = []


def _all(chance: float, **other: float) -> dict[str, float]:
    return {**dict.fromkeys(("w", "a", "special", "o"), chance), **other}


@cocotb.test()
async def full_speed(dut) -> None:
    """Without stalls every transfer is in the cycle that the event model says."""
    design, streams, seed, groups = await _start(dut)
    stream = random_stream(design, groups, seed, longest=24)
    words, golden = pack_stream(design, stream), bitserial(design, stream)
    accepted, results, held = event_cycles(design, words.steps, words.last, words.emit)
    streams.load(words)
    history = await streams.run(len(results), _all(1.0))
    moves = {name: np.array([at for at, moved in enumerate(history) if moved[name]]) for name in ("w", "o")}
    assert (moves["w"] - moves["w"][0] == accepted).all(), "chunks were taken in other cycles"
    assert (moves["o"] - moves["w"][0] == results).all(), "results came in other cycles"
    assert int(dut.stalls.value) == held and not int(dut.busy.value)
    report(vectors=streams.check([golden]), cycles=streams.cycles, seed=seed)


@cocotb.test()
async def random_stalls(dut) -> None:
    """Every mixture of slow and fast producers and consumers."""
    design, streams, seed, groups = await _start(dut)
    mixtures = (_all(1.0, o=0.1), _all(0.9, w=0.2), _all(0.9, a=0.1), _all(0.6), _all(0.9, o=0.4))
    vectors = 0
    for at, chances in enumerate(mixtures):
        stream = random_stream(design, -(-groups // len(mixtures)), seed + 1 + at, longest=16, specials=0.1)
        streams.load(pack_stream(design, stream))
        golden = bitserial(design, stream)
        await streams.run(len(golden.value) * design.rows, chances)
        vectors += streams.check([golden])
    report(vectors=vectors, cycles=streams.cycles)


@cocotb.test()
async def special_values_between_channels(dut) -> None:
    """Writes are offered at any time and taken between channels; a channel has what was written before its first
    chunk was taken."""
    design, streams, seed, groups = await _start(dut)
    kinds = [index for index, kind in enumerate(design.weights) if kind.special_code is not None]
    if not kinds:
        report(vectors=0, cycles=streams.cycles)
        return
    rng = np.random.default_rng(seed)
    stream = random_stream(design, groups, seed + 20, longest=2 * design.lanes)
    words = pack_stream(design, stream)
    writes = []
    while len(writes) < 12:
        index, entry = int(rng.choice(kinds)), int(rng.integers(0, 4))
        value = int(rng.integers(-design.weights[index].max_units, design.weights[index].max_units + 1))
        try:
            writes.append((index, entry, value, special_write(design, index, entry, value)))
        except BitkilnError:
            continue
    ends = (np.flatnonzero(stream.emit) if design.sums_channel else np.arange(len(stream.emit))) + 1
    starts = np.concatenate(([0], ends[:-1]))
    first_chunk = np.concatenate(([0], np.cumsum(-(-stream.lengths // design.lanes))))[starts]
    streams.inputs["special"].words.extend(word for *_, word in writes)
    while streams.inputs["special"].taken < 2:
        await streams.cycle(_all(0.9))
    early = streams.inputs["special"].taken
    streams.load(words)
    history = await streams.run(len(ends) * design.rows, _all(0.9, w=0.08, special=0.05))
    chunk = np.cumsum([moved["w"] for moved in history])
    written = early + np.cumsum([moved["special"] for moved in history])
    tables = {index: [*design.weights[index].specials, 0, 0, 0, 0][:4] for index in kinds}
    golden, done = [], 0
    for begin, end, at in zip(starts, ends, first_chunk, strict=True):
        before = int(written[np.flatnonzero(chunk == at + 1)[0]])
        for index, entry, value, _ in writes[done:before]:
            tables[index][entry] = value
        done = before
        golden.append(bitserial(design, channel(stream, int(begin), int(end)),
                                {index: tuple(values) for index, values in tables.items()}))
    report(vectors=streams.check(golden), cycles=streams.cycles)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset forgets everything under way, written special values too; what comes after it is whole."""
    design, streams, seed, groups = await _start(dut)
    vectors = 0
    for at in range(6):
        lost = random_stream(design, 12, seed + 40 + at)
        streams.load(pack_stream(design, lost))
        if "special" in streams.inputs:
            index = next(i for i, kind in enumerate(design.weights) if kind.special_code is not None)
            streams.inputs["special"].words.append(special_write(design, index, at % 4, 1))
        for _ in range(streams.rng.randrange(1, 90)):
            await streams.cycle(_all(0.8, o=0.5))
        await _reset(dut, streams)
        stream = random_stream(design, max(groups // 6, 4), seed + 60 + at, longest=12)
        streams.load(pack_stream(design, stream))
        golden = bitserial(design, stream)
        await streams.run(len(golden.value) * design.rows, _all(0.8))
        vectors += streams.check([golden])
    report(vectors=vectors, cycles=streams.cycles)
