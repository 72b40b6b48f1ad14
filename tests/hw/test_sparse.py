# amaranth: UnusedElaboratable=no
"""Sparse side path: exact sums under random stalls, the event model's cycles, and a dense array that never waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.dequant.array import BitSerialArray, weight_layout
from bitkiln.hw.dequant.codebook import CodebookDequantiser
from bitkiln.hw.dequant.sparse import SparseSide, chunk_layout, outlier_layout
from bitkiln.hw.dequant.sparse_sum import SparseSum, total_layout
from bitkiln.models.cost.cycles.bitserial import event_cycles
from bitkiln.models.cost.cycles.sparse import most_outliers, never_stalls, queue_needed, sparse_cycles
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.codebook import CodebookDesign
from bitkiln.models.design.sparse import SparseDesign, SumDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.bitserial import BitSerialResult, GroupStream, bitserial
from bitkiln.models.golden.codebook import Codebooks, chunks_of
from bitkiln.models.golden.sparse import SparseStream, SparseSums, add_dense, sparse
from bitkiln.models.quantize.squeezellm import squeezellm
from bitkiln.sim.bitserial_check import bits_of, pack_bits, pack_stream
from bitkiln.sim.codebook_check import check_chunks, unpack_words
from bitkiln.sim.sparse_check import (
    check_sparse,
    compare_cycles,
    compare_sums,
    pack_sparse,
    random_codes,
    random_sparse,
)
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 79
DESIGNS = {
    "fp16": SparseDesign(rows=2, columns=8, tile=32),
    "odd": SparseDesign("int8", "int12", rows=3, columns=5, lanes=3, tile=12, queue=4),
    "least": SparseDesign("fp8_e4m3", "int8", lanes=1, tile=1, queue=2, depth=16),
    "finite": SparseDesign("fp8_e5m2", "int16", columns=3, lanes=2, tile=16, specials=False),
}


class Paced(wiring.Component):
    """The unit behind a dense engine that takes a chunk every ``pace`` cycles, items not before their time."""

    def __init__(self, design: SparseDesign):
        self.design = design
        self.unit = SparseSide(design)
        timed = data.StructLayout({"item": outlier_layout(design), "at": 16})
        super().__init__({"activation": In(stream.Signature(chunk_layout(design))),
                          "outlier": In(stream.Signature(timed)),
                          "o": Out(self.unit.signature.members["o"].signature), "pace": In(8), "stalls": Out(32),
                          "illegal": Out(1)})

    @property
    def module_name(self) -> str:
        return f"paced_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        now, left, due = Signal(16), Signal(8), Signal()
        m.d.sync += now.eq(now + 1)
        on_time = self.outlier.payload.at <= now
        m.d.comb += [unit.outlier.payload.eq(self.outlier.payload["item"]),
                     unit.outlier.valid.eq(self.outlier.valid & on_time),
                     self.outlier.ready.eq(unit.outlier.ready & on_time), due.eq(left == 0),
                     unit.activation.payload.eq(self.activation.payload),
                     unit.activation.valid.eq(self.activation.valid & due),
                     self.activation.ready.eq(unit.activation.ready & due),
                     self.stalls.eq(unit.stalls), self.illegal.eq(unit.illegal)]
        m.d.sync += left.eq(Mux(self.activation.valid & self.activation.ready, self.pace - 1, Mux(due, 0, left - 1)))
        wiring.connect(m, unit.o, wiring.flipped(self.o))
        return m


class DenseAndSparse(wiring.Component):
    """A bit-serial array and the side path on one stream of activations, their results added."""

    def __init__(self, design: SumDesign):
        self.design = design
        super().__init__({"w": In(stream.Signature(weight_layout(design.dense))),
                          "a": In(stream.Signature(chunk_layout(design.sparse))),
                          "outlier": In(stream.Signature(outlier_layout(design.sparse))),
                          "o": Out(stream.Signature(total_layout(design))), "stalls": Out(32), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"both_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.dense = dense = BitSerialArray(self.design.dense)
        m.submodules.side = side = SparseSide(self.design.sparse)
        m.submodules.sum = total = SparseSum(self.design)
        a = self.a
        m.d.comb += [dense.a.payload.eq(a.payload.codes), dense.a.valid.eq(a.valid & side.activation.ready),
                     side.activation.payload.eq(a.payload), side.activation.valid.eq(a.valid & dense.a.ready),
                     a.ready.eq(dense.a.ready & side.activation.ready), self.stalls.eq(side.stalls),
                     self.busy.eq(dense.busy | side.busy | total.o.valid)]
        wiring.connect(m, wiring.flipped(self.w), dense.w)
        wiring.connect(m, wiring.flipped(self.outlier), side.outlier)
        wiring.connect(m, dense.o, total.dense)
        wiring.connect(m, side.o, total.side)
        wiring.connect(m, total.o, wiring.flipped(self.o))
        return m


DENSE = BitSerialDesign(("int4",), "fp16", rows=2, columns=2, group=32, groups=2, output="raw")
BOTH = SumDesign(DENSE, SparseDesign(value="int16", value_exponent=DENSE.weight_exponent, rows=2, columns=2, tile=64))
PLAIN = BitSerialDesign(("int4",), "int8", rows=2, columns=3, scale="none", output="raw")
SUMS = {"fp16": SumDesign(replace(DENSE, specials=False), SparseDesign(rows=2, columns=2)),
        "int8": SumDesign(PLAIN, SparseDesign("int8", "int8", rows=2, columns=3), "raw")}
PACED = SparseDesign("int8", "int8", rows=1, columns=4, tile=32, queue=16)
TABLES = CodebookDesign("fp16", tables=8, word_bits=128)


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    units = {**{name: SparseSide(design) for name, design in DESIGNS.items()}, "paced": Paced(PACED),
             "both": DenseAndSparse(BOTH), **{f"sum {name}": SparseSum(design) for name, design in SUMS.items()},
             "tables": CodebookDequantiser(TABLES)}
    return dict(zip(units, build_streams(list(units.values())), strict=True))


@pytest.mark.parametrize("order", ["any", "columns", "chunks"])
@pytest.mark.parametrize("name", DESIGNS)
def test_sums_and_cycles(name: str, order: str, models: dict[str, StreamModel]) -> None:
    design, stalled = DESIGNS[name], 0
    for density in (0.005, 0.05, 0.5):
        tiles = random_sparse(design, 80, SEED, density=density, order=order)
        run = check_sparse(design, models[name], tiles)
        stalled += run.ports["stalls"]
        assert len(run.cycles["o"]) and not run.ports["busy"]
    assert stalled


@pytest.mark.parametrize("slow", ["all", "activation", "outlier", "o"])
@pytest.mark.parametrize("name", DESIGNS)
def test_nothing_is_lost_under_stalls(name: str, slow: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    stalls = dict.fromkeys(("activation", "outlier", "o"), 0.4) if slow == "all" else {slow: 0.9}
    for density in (0.02, 0.4):
        run = check_sparse(design, models[name], random_sparse(design, 40, SEED + 1, density=density), stalls=stalls,
                           seed=SEED)
        assert not run.ports["busy"]


def test_busy_while_anything_is_inside(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["odd"], models["odd"]
    codes = np.arange(36).reshape(3, 12)
    item = np.array([0, 0, 1])
    tiles = SparseStream(codes, np.array([2, 2]), np.array([False, True]), item, item * 0 + [0, 1, 1], item, item,
                         item + 7, item >= 0)
    items, results = pack_sparse(design, tiles), design.rows * design.columns

    def busy(activation: slice, outlier: slice, sums: int, **options) -> int:
        run = model.run({"activation": items["activation"][activation], "outlier": items["outlier"][outlier]},
                        {"o": sums}, resume=True, **options)
        return run.ports["busy"]

    none = slice(0)
    assert not busy(none, none, 0)
    assert busy(slice(1), none, 0) and busy(none, slice(1), 0)     # a chunk; its outlier is worked off
    assert busy(none, slice(1, 2), 0) and busy(slice(1, 2), none, 0)    # waits for its chunk; the tile is done
    assert busy(slice(2, 4), none, 0) and busy(none, slice(2, 3), 0, drain=2)   # on its way to the sums
    held = {"stalls": {"o": 1.0}, "partial": True, "timeout": 50}
    assert busy(none, none, 1, **held) and busy(none, none, results - 1, drain=0)
    assert not busy(none, none, 1)
    # To the first sum, where nothing has to wait; then one each cycle.
    model.run({"activation": items["activation"]}, {}).check()
    run = model.run({"outlier": items["outlier"]}, {"o": results}, resume=True).check()
    assert run.cycles["o"].tolist() == [2 + SparseSide(design).latency + n for n in range(results)]
    # An outlier that comes before its tile.
    assert busy(none, slice(1), 0) and busy(none, none, 0)


def test_extreme_sums_fit(models: dict[str, StreamModel]) -> None:
    """As many of the largest products as a result may have, of both signs; full cancellation is +0."""
    design = DESIGNS["least"]
    top = int(design.activation.encode(np.array([design.activation.max]))[0])
    for value, code in ((0x80, top), (0x80, top | 0x80), (0x7F, top)):
        for turn in (0, 1):
            values = np.full(design.depth, value)
            values[design.depth // 2:] = np.where(turn, -values[design.depth // 2:] & 0xFF, value)
            tiles = tiny(design, np.full((1, design.depth), code), values)
            run = check_sparse(design, models["least"], tiles)
            assert len(run.cycles["o"]) == 1
            wanted = sparse(design, tiles).value[0, 0, 0]
            assert abs(wanted) == (0 if turn and value == 0x7F else abs(wanted)) and (wanted == 0) == (
                bool(turn) and value == 0x7F)


def test_a_tile_of_full_length_ends_by_itself(models: dict[str, StreamModel]) -> None:
    for name in ("fp16", "odd"):
        design = DESIGNS[name]
        tiles = random_sparse(design, 20, SEED, density=0.1, chunks=design.chunks)
        items, width = pack_sparse(design, tiles), design.rows * design.lanes * design.activation.bits
        assert bits_of(items["activation"], width, 1).sum() == 20
        wide = [bits_of(items["activation"], at, 32 if at + 32 <= width else width - at) for at in range(0, width, 32)]
        items["activation"] = pack_bits([*((part, min(32, width - 32 * n)) for n, part in enumerate(wide)),
                                         (np.zeros(len(wide[0]), int), 1)])
        wanted = sparse(design, tiles)
        run = models[name].run(items, {"o": wanted.value.size}).check()
        compare_sums(design, wanted, run)
        compare_cycles(design, sparse_cycles(design, tiles), run)


def tiny(design: SparseDesign, activations: np.ndarray, values: np.ndarray) -> SparseStream:
    """An outlier in each of as many tiles of one weight, all of one result."""
    count, zero = len(values), np.zeros(len(values), np.int64)
    emit = np.zeros(count, bool)
    emit[-1] = True
    return SparseStream(activations, np.ones(count, np.int64), emit, np.arange(count), zero, zero, zero, values,
                        np.ones(count, bool))


@pytest.mark.parametrize("field, most", [("lane", 4), ("column", 8), ("chunk", 4)])
def test_places_that_are_not_there_are_told_and_do_not_count(field: str, most: int,
                                                             models: dict[str, StreamModel]) -> None:
    design = DESIGNS["odd"]
    tiles = random_sparse(design, 40, SEED, density=0.2, chunks=3 if field == "chunk" else None)
    wrong = getattr(tiles, field).copy()
    wrong[::5] = most - 1
    tiles = replace(tiles, **{field: wrong})
    assert sparse(design, tiles).illegal
    run = check_sparse(design, models["odd"], tiles)
    assert run.ports["illegal"]
    check_sparse(design, models["odd"], tiles, stalls={"activation": 0.5, "outlier": 0.3, "o": 0.3}, seed=SEED)
    # An item that does not count may name anything.
    tiles = replace(tiles, mask=tiles.mask & (np.arange(len(wrong)) % 5 != 0))
    assert not check_sparse(design, models["odd"], tiles).ports["illegal"]


@pytest.mark.parametrize("name", ["fp16", "odd"])
def test_a_reset_in_any_cycle_forgets_everything(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    tiles, again = random_sparse(design, 40, SEED, density=0.2), random_sparse(design, 6, SEED + 2, density=0.2)
    wanted, cycles = sparse(design, again), sparse_cycles(design, again)
    for at in range(1, 90):
        broken = model.run(pack_sparse(design, tiles), None, stalls={"o": 0.3 * (at % 2)}, seed=at, limit=at,
                           partial=True)
        assert broken.deadlock and broken.ports["busy"]
        run = model.run(pack_sparse(design, again), {"o": wanted.value.size}, reset_at=[0], resume=True).check()
        compare_sums(design, wanted, run)
        # As from power-up, a cycle later.
        compare_cycles(design, cycles, replace(run, cycles={name: each - 1 for name, each in run.cycles.items()}))


def worst(design: SparseDesign, tiles: int, chunks: int, outliers: int, every: int) -> SparseStream:
    """Tiles whose outliers all need the last chunk; sums every few tiles."""
    tile = np.repeat(np.arange(tiles), outliers)
    rng = np.random.default_rng(SEED)
    codes = random_codes(design.activation, (design.rows, tiles * chunks * design.lanes), rng, 0)
    place = np.full(len(tile), chunks - 1)
    return SparseStream(codes, np.full(tiles, chunks), np.arange(tiles) % every == every - 1, tile, place,
                        rng.integers(0, design.lanes, len(tile)), rng.integers(0, design.columns, len(tile)),
                        random_codes(design.value, tile.shape, rng, 0), np.ones(len(tile), bool))


def timed(design: SparseDesign, tiles: SparseStream, at: np.ndarray) -> dict[str, np.ndarray]:
    """Items of `Paced`."""
    items = pack_sparse(design, tiles)
    width = outlier_layout(design).size
    fields = [(bits_of(items["outlier"], 0, width), width), (at, 16)]
    return items | {"outlier": pack_bits(fields)}


@pytest.mark.parametrize("pace, chunks, outliers, every, never", [
    (2, 8, 16, 1, True), (2, 8, 17, 1, False), (1, 8, 8, 2, True), (1, 8, 9, 2, False), (3, 4, 12, 1, True),
    (3, 4, 13, 1, False), (1, 1, 1, 11, True), (1, 1, 1, 10, False), (11, 1, 1, 1, True), (2, 5, 1, 1, False)])
def test_the_dense_engine_waits_if_and_only_if_the_condition_fails(pace: int, chunks: int, outliers: int, every: int,
                                                                   never: bool,
                                                                   models: dict[str, StreamModel]) -> None:
    design = PACED
    tiles = worst(design, 60, chunks, outliers, every)
    model = sparse_cycles(design, tiles, pace=pace)
    wanted = sparse(design, tiles)
    run = models["paced"].run(timed(design, tiles, np.zeros(len(tiles.tile), int)), {"o": wanted.value.size},
                              held={"pace": pace}).check()
    compare_sums(design, wanted, run)
    compare_cycles(design, model, run)
    assert (run.ports["stalls"] == 0) == never == never_stalls(design, chunks, pace, outliers, every)


def test_one_full_tile_among_many_with_few(models: dict[str, StreamModel]) -> None:
    design, chunks, pace = PACED, 8, 2
    limit = most_outliers(chunks, pace)
    for extra in (0, 1):
        tiles = worst(design, 12, chunks, limit + extra, 12)
        few = (tiles.tile == 5) | (np.diff(tiles.tile, prepend=-1) > 0)
        tiles = replace(tiles, **{name: getattr(tiles, name)[few] for name in (
            "tile", "chunk", "lane", "column", "value", "mask")})
        run = models["paced"].run(timed(design, tiles, np.zeros(len(tiles.tile), int)), {"o": 4},
                                  held={"pace": pace}).check()
        compare_sums(design, sparse(design, tiles), run)
        assert run.ports["stalls"] == extra


@pytest.mark.parametrize("order, density", [("chunks", 0.03), ("columns", 0.05), ("columns", 0.1), ("any", 0.15)])
def test_the_queue_that_takes_outliers_with_their_weights(order: str, density: float,
                                                          models: dict[str, StreamModel]) -> None:
    """Offered when the dense weights of their place (or, by columns, of as much of the tile) come."""
    design, pace, chunks = PACED, 2, 8
    tiles = random_sparse(design, 100, SEED, density=density, order=order, chunks=chunks)
    first = np.searchsorted(tiles.tile, tiles.tile)
    share = (np.arange(len(tiles.tile)) - first) / np.bincount(tiles.tile)[tiles.tile]
    place = tiles.chunk if order == "chunks" else (share * chunks).astype(int)
    at = (tiles.tile * chunks + np.where(tiles.mask, place, chunks - 1)) * pace
    needed = queue_needed(design, tiles, pace=pace, item_from=at)
    model = sparse_cycles(design, tiles, pace=pace, item_from=at)
    free = sparse_cycles(design, tiles, pace=pace, item_from=at, depth=needed)
    wanted = sparse(design, tiles)
    run = models["paced"].run(timed(design, tiles, at), {"o": wanted.value.size}, held={"pace": pace}).check()
    compare_sums(design, wanted, run)
    compare_cycles(design, model, run)
    unhindered = np.maximum.accumulate(at - np.arange(len(at))) + np.arange(len(at))
    assert np.array_equal(free.outlier, unhindered)
    # With fewer places some wait, in the RTL too.
    waits = not np.array_equal(run.cycles["outlier"].astype(int), unhindered)
    assert waits == (needed > design.queue)
    if needed > 2:
        short = sparse_cycles(design, tiles, pace=pace, item_from=at, depth=free.waiting - 1)
        assert (short.outlier > unhindered).any()
    assert needed <= 1 << int(np.bincount(tiles.tile).max()).bit_length()


def dense_stream(channels: int, activations: np.ndarray, seed: int) -> GroupStream:
    """Channels of two groups of 32 each."""
    rng = np.random.default_rng(seed)
    groups, columns = 2 * channels, DENSE.columns
    none = np.zeros((columns, groups), np.int64)
    return GroupStream(activations, rng.integers(0, 16, (columns, 32 * groups)), np.full(groups, 32), none, none,
                       rng.integers(0, 256, (columns, groups)), none, none, np.arange(groups) % 2 == 1)


@pytest.mark.parametrize("density, specials, stalls", [
    (0.005, 0, None), (0.005, 0.002, 0.3), (0.06, 0, None), (0.3, 0, None), (0.3, 0.002, 0.3)])
def test_dense_and_sparse_together_are_the_original_weights(density: float, specials: float, stalls: float | None,
                                                            models: dict[str, StreamModel]) -> None:
    """Bit-exact at any density; the array never waits at 0.5 %, and does where the condition fails."""
    side, channels = BOTH.sparse, 60
    tiles = random_sparse(side, channels, SEED, density=density, order="columns", chunks=side.chunks, emit=1,
                          specials=specials)
    groups = dense_stream(channels, tiles.activations, SEED)
    dense = bitserial(DENSE, groups)
    wanted = add_dense(BOTH, dense, sparse(side, tiles))
    items, words = pack_sparse(side, tiles), pack_stream(DENSE, groups)
    run = models["both"].run({"w": words.w, "a": items["activation"], "outlier": items["outlier"]},
                             {"o": wanted.value.size}, stalls=stalls or {}, seed=SEED).check()
    found = bits_of(run.outputs["o"], 0, 32).reshape(wanted.fp32.shape)
    assert np.array_equal(found, wanted.fp32) and not run.ports["busy"]
    last = bits_of(run.outputs["o"], 32, 1).reshape(channels, -1)
    assert last[:, -1].all() and not last[:, :-1].any()

    if not specials:
        # The matrix itself: dense levels times their scales, outliers added, in units of one.
        level = np.where(groups.codes < 8, groups.codes, groups.codes - 16).astype(object)
        matrix = level * np.repeat(groups.scale, 32, axis=1)
        at = np.flatnonzero(tiles.mask)
        place = tiles.tile[at] * 64 + tiles.chunk[at] * 4 + tiles.lane[at]
        for n, k in zip(at, place, strict=True):
            value = int(tiles.value[n])
            matrix[tiles.column[n], k] += value - (value >> 15 << 16)
        units = DENSE.activation.units(tiles.activations).astype(object)
        for c in range(channels):
            span = slice(64 * c, 64 * (c + 1))
            assert (wanted.value[c] == units[:, span] @ matrix[:, span].T).all()

    if stalls is None:
        alone = event_cycles(DENSE, words.steps, words.last, words.emit)[0]
        waits = not np.array_equal(run.cycles["w"].astype(int), alone)
        steps = int(words.steps[0])
        most = int(np.bincount(tiles.tile).max())
        assert waits == (density == 0.3) == (run.ports["stalls"] > 0)
        assert never_stalls(side, side.chunks, steps, most) == (density != 0.3)


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_any_numbers_and_flags(name: str, models: dict[str, StreamModel]) -> None:
    design = SUMS[name]
    rng, count = np.random.default_rng(SEED), 120
    shape = (count, design.dense.rows, design.dense.columns)
    columns = design.dense.columns

    def integers(width: int) -> np.ndarray:
        low = np.array([int(v) for v in rng.integers(-1 << 62, 1 << 62, int(np.prod(shape)))], object)
        size = rng.integers(1, width, len(low))
        values = np.array([(int(v) << width) >> (width + 63 - int(s)) for v, s in zip(low, size, strict=True)], object)
        values[:4] = [-1 << (width - 1), (1 << (width - 1)) - 1, 0, -1]
        return values.reshape(shape)

    none = np.zeros(shape, bool)
    some = {flag: rng.random(shape) < 0.05 for flag in design.sparse.flags}
    some = {flag: some.get(flag, none) for flag in ("nan", "inf_pos", "inf_neg")}
    dense = BitSerialResult(integers(design.dense.result_bits), none, none, none, none, none[:, 0], None)
    side = SparseSums(integers(design.sparse.sum_bits), **some, illegal=False)
    wanted = add_dense(design, dense, side)

    def split(values: np.ndarray, width: int) -> list[tuple[np.ndarray, int]]:
        widths = [min(32, width - at) for at in range(0, width, 32)]
        return [(((values >> 32 * n) & ((1 << bits) - 1)).astype(np.int64), bits) for n, bits in enumerate(widths)]

    rows = dense.value.reshape(-1, columns)
    fields = [field for c in range(columns) for field in split(rows[:, c], design.dense.result_bits)]
    last = np.arange(len(rows)) % design.dense.rows == design.dense.rows - 1
    flat = side.value.ravel()
    ends = np.arange(len(flat)) % (design.dense.rows * columns) == design.dense.rows * columns - 1
    items = {"dense": pack_bits([*fields, (last, 1)]),
             "side": pack_bits([*split(flat, design.sparse.sum_bits),
                                *((some[flag].ravel(), 1) for flag in design.sparse.flags), (ends, 1)])}
    for stalls in ({}, {"dense": 0.5, "side": 0.2, "o": 0.4}, {"o": 0.9}):
        run = models[f"sum {name}"].run(items, {"o": len(flat)}, stalls=stalls, seed=SEED).check()
        if not stalls:
            assert (run.cycles["o"] == np.arange(len(flat)) + SparseSum(design).latency).all()
        width = 32 if design.output == "fp32" else design.sum_bits
        found = bits_of(run.outputs["o"], 0, width, design.output == "raw")
        assert (found == (wanted.fp32 if design.output == "fp32" else wanted.value).ravel()).all()
        assert (bits_of(run.outputs["o"], total_layout(design)["last"].offset, 1) == ends).all()


def test_squeezellm_weights_through_tables_and_side_path(models: dict[str, StreamModel]) -> None:
    """Codebooks of each channel and outliers of a real quantiser: both units' results add up to its weights."""
    design = DESIGNS["fp16"]
    rng = np.random.default_rng(SEED)
    q = squeezellm(rng.standard_t(3, (8, 256)), 4)
    assert len(q.outlier_row) >= 8
    stream_ = chunks_of(TABLES, q.codes.ravel(), np.full(8, 256), np.arange(8))
    run = check_chunks(TABLES, models["tables"], Codebooks(q.codebook.view(np.uint16)), stream_)
    dense = design.activation.units(unpack_words(TABLES, run.outputs["o"])["entries"].reshape(8, 256)).astype(object)

    # Outliers by tiles of 32 weights, an end for each tile.
    order = np.argsort(q.outlier_column // 32, kind="stable")
    tile, k, column = q.outlier_column[order] // 32, q.outlier_column[order] % 32, q.outlier_row[order]
    value = q.outlier_value[order].view(np.uint16).astype(np.int64)
    table = np.stack([np.append(x, np.full(8, end)) for x, end in ((tile, 0), (k // 4, 0), (k % 4, 0), (column, 0),
                                                                   (value, 0), (np.ones(len(k), int), 0))])
    table[0, -8:] = np.arange(8)
    table = table[:, np.argsort(table[0], kind="stable")].astype(np.int64)
    activations = random_codes(design.activation, (2, 256), rng, 0)
    tiles = SparseStream(activations, np.full(8, 8), np.arange(8) == 7, *table[:5], table[5].astype(bool))
    side = check_sparse(design, models["fp16"], tiles)
    sums = bits_of(side.outputs["o"], 0, design.sum_bits, True).reshape(2, 8)

    units = design.activation.units(activations).astype(object)
    weights = (q.dequantise() * 2.0 ** 24).astype(np.int64).astype(object)   # multiples of 2**-24
    assert (units @ dense.T + sums == units @ weights.T).all()
    assert np.array_equal((sums != 0).any(axis=0), np.isin(np.arange(8), q.outlier_row))


def test_the_check_finds_a_wrong_sum(models: dict[str, StreamModel]) -> None:
    design = DESIGNS["odd"]
    tiles = random_sparse(design, 20, SEED, density=0.2)
    run = models["odd"].run(pack_sparse(design, tiles), None)
    wanted = sparse(design, tiles)
    compare_sums(design, wanted, run)
    wrong = wanted.value.copy()
    wrong[-1, 0, 0] += 1
    with pytest.raises(BitkilnError, match="RTL and golden model differ"):
        compare_sums(design, replace(wanted, value=wrong), run)
    late = sparse_cycles(design, tiles, pace=2)
    with pytest.raises(BitkilnError, match="RTL and event model differ"):
        compare_cycles(design, late, run)
