"""Golden and cycle model of the sparse side path against one product at a time in fractions, and their conditions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from bitkiln.models.cost.cycles.sparse import (
    most_outliers,
    never_stalls,
    queue_needed,
    sparse_cycles,
    sustained_density,
)
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.sparse import ACTIVATIONS, VALUES, SparseDesign, SumDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.bitserial import BitSerialResult
from bitkiln.models.golden.sparse import SparseStream, SparseSums, add_dense, sparse

SEED = 83


def stream(design: SparseDesign, tiles: int, outliers: int, seed: int, chunks: int | None = None,
           every: int = 2) -> SparseStream:
    """Tiles of as many outliers each."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, design.chunks + 1, tiles) if chunks is None else np.full(tiles, chunks)
    tile = np.repeat(np.arange(tiles), outliers)
    return SparseStream(rng.integers(0, 1 << design.activation.bits, (design.rows, int(lengths.sum()) * design.lanes)),
                        lengths, np.arange(tiles) % every == every - 1, tile, rng.integers(0, lengths[tile]),
                        rng.integers(0, design.lanes, len(tile)), rng.integers(0, design.columns, len(tile)),
                        rng.integers(0, 1 << design.value.bits, len(tile)), rng.random(len(tile)) < 0.8)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sums_equal_fractions(activation: str, value: str) -> None:
    design = SparseDesign(activation, value, value_exponent=-3, rows=2, columns=3, lanes=4, tile=16)
    tiles = stream(design, 12, 9, SEED)
    special = np.flatnonzero(design.activation.unpack(np.arange(1 << design.activation.bits)).special)
    if len(special):
        tiles.activations[:, ::7] = np.resize(special[::3], tiles.activations[:, ::7].shape)
    found = sparse(design, tiles)
    result, place = np.cumsum(tiles.emit) - tiles.emit, np.cumsum(tiles.chunks) - tiles.chunks
    unit, seen = Fraction(2) ** design.exponent, 0
    for e in range(6):
        for r in range(2):
            for c in range(3):
                total, events = Fraction(0), []
                for n in np.flatnonzero(tiles.mask & (result[tiles.tile] == e) & (tiles.column == c)):
                    k = (place[tiles.tile[n]] + tiles.chunk[n]) * 4 + tiles.lane[n]
                    x = float(design.activation.decode(tiles.activations[r, k:k + 1])[0])
                    w = float(design.value.decode(tiles.value[n:n + 1])[0])
                    with np.errstate(all="ignore"):
                        product = np.float64(x) * np.float64(w)     # no product of numbers overflows
                    if np.isfinite(product):
                        total += Fraction(x) * Fraction(w) / 8
                    else:
                        events.append(product)
                seen += len(events)
                assert int(found.value[e, r, c]) * unit == total
                assert found.nan[e, r, c] == any(np.isnan(v) for v in events)
                assert found.inf_pos[e, r, c] == (np.inf in events) and found.inf_neg[e, r, c] == (-np.inf in events)
                assert abs(int(found.value[e, r, c])) < 1 << (design.sum_bits - 1)
    assert not found.illegal and found.value.any() and (seen > 0) == bool(design.flags)


def test_without_specials_every_code_is_a_number() -> None:
    design = SparseDesign("fp16", "int8", specials=False, lanes=1, tile=1)
    one = np.array([1])
    tiles = SparseStream(np.array([[0x7C00]]), one, one > 0, one - 1, one - 1, one - 1, one - 1, one, one > 0)
    found = sparse(design, tiles)
    assert found.value.tolist() == [[[65536 << 24]]] and not found.inf_pos.any()
    assert sparse(design.with_options(specials=True), tiles).inf_pos.all()


def test_order_and_chunking_do_not_show() -> None:
    design = SparseDesign(rows=2, columns=4, tile=32)
    tiles = stream(design, 6, 20, SEED)
    rng = np.random.default_rng(SEED)
    turn = np.concatenate([20 * t + rng.permutation(20) for t in range(6)])
    names = ("chunk", "lane", "column", "value", "mask")
    other = sparse(design, replace(tiles, **{name: getattr(tiles, name)[turn] for name in names}))
    assert (sparse(design, tiles).value == other.value).all()
    wide = design.with_options(lanes=8)
    even = replace(tiles, chunks=np.full(6, 8), activations=np.resize(tiles.activations, (2, 6 * 32)))
    k = even.chunk * 4 + even.lane
    assert (sparse(wide, replace(even, chunks=np.full(6, 4), chunk=k // 8, lane=k % 8)).value
            == sparse(design, even).value).all()


def test_dense_results_in_other_units() -> None:
    """Integers of 2**-24 and of 2**-48 in common units; flags of both sides; one rounding."""
    design = SumDesign(BitSerialDesign(("int4",), "fp16", scale="none", output="raw"), SparseDesign())
    assert (design.exponent, design.dense_shift, design.side_shift) == (-48, 24, 0)
    values = np.array([3, -1, 1 << 57, 0, 0, 0], object).reshape(6, 1, 1)
    side = np.array([5, 1 << 24, 1, -1, 1 << 90, 0], object).reshape(6, 1, 1)
    none = np.zeros((6, 1, 1), bool)
    flag = [np.arange(6).reshape(6, 1, 1) == n for n in range(6)]
    dense = BitSerialResult(values, none, none, flag[4], flag[5], none[:, 0], None)
    found = add_dense(design, dense, SparseSums(side, flag[3], none | flag[5], none, False))
    assert found.value.ravel().tolist()[:4] == [(3 << 24) + 5, 0, (1 << 81) + 1, -1]
    # The bit below the tie of 2**57 + 2**-48 makes no difference; NaN, infinity, both infinities.
    assert found.fp32.ravel().tolist() == [int(np.float32(((3 << 24) + 5) * 2.0 ** -48).view(np.uint32)), 0,
                                           (127 + 33) << 23, 0x7FC00000, 0x7F800000, 0x7FC00000]


@pytest.mark.parametrize("pace", [1, 2, 5])
def test_condition_is_that_of_the_event_model(pace: int) -> None:
    """Every number of outliers around the limit, in the worst order, over many tiles."""
    design = SparseDesign("int8", "int8", rows=2, columns=3, tile=32)
    met = [0, 0]
    for chunks in (1, 3, 8):
        for outliers in sorted({1, chunks * pace - 1, chunks * pace, chunks * pace + 1} - {0}):
            for every in (1, 2, 13, 14):
                tiles = stream(design, 200, outliers, SEED, chunks, every)
                tiles = replace(tiles, chunk=np.full(len(tiles.tile), chunks - 1))
                never = never_stalls(design, chunks, pace, outliers, every)
                assert (sparse_cycles(design, tiles, pace=pace).stalls == 0) == never
                met[never] += 1
    assert min(met) > 5


def test_a_single_long_tile() -> None:
    design = SparseDesign("int8", "int8", tile=32)
    for chunks, pace in ((8, 1), (4, 3)):
        for extra in (0, 1):
            most = most_outliers(chunks, pace) + extra
            tile = np.concatenate([[0, 1], np.full(most, 2), [3, 4, 5]])
            tiles = stream(design, 6, 1, SEED, chunks, 6)
            some = np.zeros(len(tile), np.int64)
            tiles = replace(tiles, tile=tile, chunk=some + chunks - 1, lane=some, column=some, value=some,
                            mask=some == 0)
            assert sparse_cycles(design, tiles, pace=pace).stalls == extra


def test_queue_of_a_tile_takes_any_order() -> None:
    design = SparseDesign("int8", "int8", columns=8, tile=64, queue=2)
    tiles = stream(design, 50, 16, SEED, 16)
    start = tiles.tile * 16 * 2
    # All items of a tile with its first chunk: the queue holds them all.
    assert queue_needed(design, tiles, pace=2, item_from=start) <= 32
    assert not np.array_equal(sparse_cycles(design, tiles, pace=2, item_from=start, depth=16).outlier,
                              sparse_cycles(design, tiles, pace=2, item_from=start, depth=4).outlier)
    # In the order of the weights, each with its own: two places do.
    order = np.lexsort((tiles.chunk, tiles.tile))
    tiles = replace(tiles, chunk=tiles.chunk[order])
    at = start + tiles.chunk * 2
    one_each = np.diff(at, prepend=-9) > 0
    tiles = replace(tiles, **{name: getattr(tiles, name)[one_each] for name in ("tile", "chunk", "lane", "column",
                                                                                "value", "mask")})
    assert queue_needed(design, tiles, pace=2, item_from=at[one_each]) == 2


def test_density_that_the_paper_needs() -> None:
    """0.45 % of outliers (arXiv 2306.07629) beside any array of up to 222 weights a cycle."""
    assert sustained_density(SparseDesign(lanes=4, columns=8), 2) == 1 / 16
    assert sustained_density(SparseDesign(lanes=1, columns=1), 2) == 1
    widest = SparseDesign(lanes=4, columns=64, tile=1024)
    assert sustained_density(widest, 2) > 0.0045
    assert never_stalls(widest, 256, 2, int(0.005 * 1024 * 64))


ERRORS = {
    "activation": (lambda: SparseDesign("bf16"), "error: no side path for this activation at activation: got 'bf16', "
                   "expected fp16, fp8_e4m3, fp8_e5m2, int8\nhelp: did you mean fp16?"),
    "value": (lambda: SparseDesign(value="fp4"), "error: no side path for this value at value: got 'fp4', expected "
              "fp16, int16, int12, int8\nhelp: did you mean fp16?"),
    "tile": (lambda: SparseDesign(tile=30), "error: a tile of broken chunks at tile: got 30, expected a multiple of "
             "the 4 lanes"),
    "queue": (lambda: SparseDesign(queue=12), "error: not a power of two at queue: got 12, expected 2, 4, 8, ..."),
    "rows": (lambda: SparseDesign(rows=0), "error: out of range at rows: got 0, expected 1 to 64"),
    "dense": (lambda: SumDesign(BitSerialDesign(("int4",)), SparseDesign()), "error: dense results are no integers of "
              "one unit at dense: got 'output fp32, accumulate exact, scale uint8', expected raw output, exact sums "
              "and integer scales or none"),
    "shape": (lambda: SumDesign(BitSerialDesign(("int4",), output="raw"), SparseDesign(rows=2)),
              "error: dense and sparse results differ at sparse: got '2 x 1 of fp16', expected 1 x 1 of fp16"),
    "output": (lambda: SumDesign(BitSerialDesign(("int4",), output="raw"), SparseDesign(), "fp16"),
               "error: unknown output at output: got 'fp16', expected fp32, raw\nhelp: did you mean fp32?"),
    "activations": (lambda: sparse(SparseDesign(), replace(stream(SparseDesign(), 2, 1, 1, 3),
                                                           activations=np.zeros((1, 8), int))),
                    "error: shape mismatch at activations: got '(1, 8)', expected (1, 24)"),
    "chunks": (lambda: sparse(SparseDesign(tile=8), replace(stream(SparseDesign(tile=8), 2, 1, 1, 2),
                                                            chunks=np.array([3, 1]))),
               "error: tile length out of range at chunks: got '1 to 3', expected 1 to 2"),
    "ends": (lambda: sparse(SparseDesign(), replace(stream(SparseDesign(), 2, 1, 1, 3), tile=np.array([0, 0]))),
             "error: tiles without an end at tile: expected items of every tile, ascending"),
    "number": (lambda: add_dense(SumDesign(BitSerialDesign(("int4",), output="raw"), SparseDesign()),
                                 BitSerialResult(*[np.zeros((2, 1, 1), int)] * 7),
                                 SparseSums(*[np.zeros((1, 1, 1), int)] * 4, False)),
               "error: dense and sparse results differ in number at side: got '(1, 1, 1)', expected (2, 1, 1)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises(BitkilnError) as caught:
        call()
    assert str(caught.value) == message
