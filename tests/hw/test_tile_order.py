# amaranth: UnusedElaboratable=no
"""Order of work: pairs sorted by tile, offset and row, each with its weights; the event model's cycles."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.spconv.order import RowOrder, TileOrder
from bitkiln.models.cost.spconv.tile_order import NO_WEIGHTS, fill_stalls, order_cycles
from bitkiln.models.cost.spconv.weight_cache import demands, pin_mask, pin_profile
from bitkiln.models.design.spconv import CacheDesign, GatherDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import encode_keys, submanifold
from bitkiln.sim.streams import StreamModel, build_streams
from bitkiln.sim.weight_cache_check import (
    Items,
    OrderBench,
    RowBench,
    check_order,
    check_order_cycles,
    check_rows,
    items_of,
    map_design,
    pack_items,
    random_items,
    unpack,
)

SEED = 89
DESIGNS = {64: CacheDesign(27, 64, 8), 16: CacheDesign(5, 16, 8, ahead=4), 2: CacheDesign(0, 2, 8, ahead=2),
           1: CacheDesign(27, 1, 8)}
STREAMS = ("go", "i", "o", "o_fetch", "token")
ALL = np.ones(27, bool)


@pytest.fixture(scope="module")
def models() -> dict[int | str, StreamModel]:
    benches = [*(OrderBench(design) for design in DESIGNS.values()), RowBench(DESIGNS[1])]
    return dict(zip([*DESIGNS, "rows"], build_streams(benches), strict=True))


def jobs(rows: int, rng: np.random.Generator) -> dict[str, Items]:
    """About as many rows, in each a few, many or all pairs, or only one; some rows without any."""
    design, rows = DESIGNS[64], int(rng.integers(rows, 4 * rows))
    return {"few": random_items(design, rows, 0.05, rng), "skewed": random_items(design, rows, 0.3, rng, skew=0.9),
            "all": random_items(design, rows, 3.0, rng), "centre": random_items(design, rows, 0.0, rng),
            "bare": random_items(design, rows, 0.2, rng, bare=0.5), "none": random_items(design, rows, 0, rng, bare=1)}


def pins(design: CacheDesign, rng: np.random.Generator) -> np.ndarray:
    pinned = np.zeros(27, bool)
    pinned[rng.permutation(27)[:rng.integers(0, design.tiles + 1)]] = True
    return pinned


def surface(rng: np.random.Generator) -> Items:
    """A map of a street: a ground that waves, and a wall."""
    x, y = (each.ravel() for each in np.meshgrid(np.arange(20), np.arange(16), indexing="ij"))
    ground = np.stack([x, y, np.round(2 + np.sin(x / 4) + rng.normal(0, 0.2, len(x)))], axis=1)
    wall = np.stack([np.full(len(x), 9), x, y], axis=1)
    voxels = np.unique(np.concatenate([ground, wall]).astype(int), axis=0)
    found = submanifold(np.sort(encode_keys(np.pad(voxels, ((0, 0), (1, 0))), 5)), 5)
    return items_of(found.rows, found.out, found.k, found.inp % 256)


@pytest.mark.parametrize("rows", DESIGNS)
def test_pairs_leave_sorted_with_their_weights(rows: int, models: dict) -> None:
    design, rng, work, waits = DESIGNS[rows], np.random.default_rng(SEED + rows), 0, 0
    for turn in range(3):
        for name, items in jobs(max(rows, 2), rng).items():
            stalls = dict.fromkeys(STREAMS, (0, 0.3, 0.7)[turn])
            run = check_order(design, models[rows], items, pins(design, rng), stalls=stalls, seed=SEED + turn,
                              load_cycles=int(rng.integers(1, 30)), pace=int(rng.integers(1, 4)),
                              lag=int(rng.integers(0, 8)))
            assert len(run.outputs["o"]) == len(items.k), name
            work, waits = work + len(items.k), waits + run.ports["waits"]
    assert work > 300 and waits


@pytest.mark.parametrize("slow", STREAMS[1:])
@pytest.mark.parametrize("rows", DESIGNS)
def test_nothing_is_lost_where_one_stream_is_slow(rows: int, slow: str, models: dict) -> None:
    design, rng = DESIGNS[rows], np.random.default_rng(SEED)
    for name in ("skewed", "bare"):
        check_order(design, models[rows], jobs(max(rows // 2, 2), rng)[name], pins(design, rng), stalls={slow: 0.95},
                    seed=SEED, lag=3)


@pytest.mark.parametrize("rows", DESIGNS)
def test_cycles(rows: int, models: dict) -> None:
    """Of every item, work item, fetch and wait, with and without pinned tiles, a slow loader, a slow consumer."""
    design, rng = DESIGNS[rows], np.random.default_rng(SEED)
    missed = 0
    for items in (*jobs(max(rows, 4), rng).values(), surface(rng)):
        for load_cycles, pace, lag in ((1, 1, 0), (7, 1, 3), (64, 1, 0), (1, 2, 0), (20, 5, 7)):
            run, cycles = check_order_cycles(design, models[rows], items, pins(design, rng), load_cycles=load_cycles,
                                             pace=pace, lag=lag)
            assert cycles.total == int(run.cycles["o"][-1]) + 1 and len(cycles.taken) == len(items.k)
            missed += run.ports["misses"]
    assert missed


def test_a_tile_leaves_as_the_next_one_comes(models: dict) -> None:
    """One item each cycle on both sides, though the tiles differ in length."""
    design, rng = CacheDesign(27, 64, 8), np.random.default_rng(SEED)
    rows = 20 * 64
    dense = (np.arange(rows) // 64 % 2 * 0.3 + 0.1)[:, None] * (np.arange(27) % 3 == 1)
    out, k = np.nonzero(rng.random((rows, 27)) < dense)
    items = items_of(rows, out, k, out % 256)
    run, cycles = check_order_cycles(design, models[64], items, ALL)
    latency = TileOrder.latency
    first = np.searchsorted(items.row, 64)
    assert run.cycles["o"][0] == run.cycles["i"][first - 1] + latency
    # Two tiles in turn are 4 : 1. They come in without a pause; then the last one leaves.
    assert run.cycles["i"][-1] + 1 == len(items.k) > 2500
    assert cycles.total <= len(items.k) + cycles.pairs[cycles.tile == 19].sum() + 2 * 20
    # As do those of a map, whose centre is in all rows, if they do not differ much.
    items = surface(rng)
    run, _ = check_order_cycles(design, models[64], items, ALL)
    assert run.cycles["i"][-1] + 1 == len(items.k) > 5000


@pytest.mark.slow
@pytest.mark.parametrize("rows", DESIGNS)
def test_many_jobs_of_all_kinds(rows: int, models: dict) -> None:
    """In one run, each stream with stalls of its own; every third once more for its cycles."""
    design, model, count = DESIGNS[rows], models[rows], 0
    for job in range(200):
        rng = np.random.default_rng(SEED + job)
        items = random_items(design, int(rng.integers(1, 6 * rows + 3)), rng.choice([0, 0.02, 0.1, 0.3, 0.9, 3]), rng,
                             bare=rng.choice([0, 0.1, 0.5]), skew=rng.choice([0, 0.8]))
        pinned, lag, pace = pins(design, rng), int(rng.integers(0, 8)), int(rng.choice([1, 1, 3]))
        load_cycles = int(rng.choice([1, 5, 60]))
        stalls = {stream: float(rng.choice([0, 0, 0.1, 0.5, 0.9])) for stream in STREAMS}
        check_order(design, model, items, pinned, resume=job > 0, seed=job, stalls=stalls, load_cycles=load_cycles,
                    lag=lag, pace=pace)
        if job % 3 == 0:
            check_order_cycles(design, model, items, pinned, load_cycles=load_cycles, lag=lag, pace=pace)
        count += len(items.k)
    assert count > 5000


def test_an_empty_job_and_the_end_alone(models: dict) -> None:
    none = np.zeros(1, np.int64)
    empty = Items(none, none, none, none > 0, none > 0, none == 0)
    for rows, design in DESIGNS.items():
        run = check_order(design, models[rows], empty, ALL if design.tiles == 27 else ~ALL)
        work = unpack(OrderBench(design).signature.members["o"].signature.members["payload"].shape, run.outputs["o"])
        assert {name: int(values[0]) for name, values in work.items() if name not in ("in", "out")} == {
            "weight": 0, "slot": 0, "first": 0, "final": 0, "pair": 0, "release": 0, "last": 1}
        # The end of a job, in an item of its own, behind rows that fill a tile and behind some that do not.
        for before in (design.tile_rows, design.tile_rows + 1):
            items = random_items(design, before, 0.3, np.random.default_rng(SEED))
            ended = Items(*(np.append(values, last) for values, last in zip(
                (items.row, items.k, items.inp, items.pair, items.row_last, items.last & False),
                (before, 0, 0, False, False, True), strict=True)))
            run = check_order(design, models[rows], ended, np.zeros(27, bool), lag=2)
            assert len(run.outputs["o"]) == len(items.k) + 1
    check_rows(DESIGNS[1], models["rows"], empty, ALL)


@pytest.mark.parametrize("rows", DESIGNS)
def test_jobs_one_after_the_other(rows: int, models: dict) -> None:
    design, rng, count = DESIGNS[rows], np.random.default_rng(SEED), 0
    for job in range(10):
        items = random_items(design, int(rng.integers(1, 2 * rows + 2)), 0.3, rng, bare=0.2)
        check_order(design, models[rows], items, pins(design, rng), resume=job > 0, stalls={"o": 0.3, "token": 0.5},
                    seed=job)
        count += len(items.k)
    assert count > 50


@pytest.mark.parametrize("rows", DESIGNS)
def test_a_reset_in_any_cycle_forgets_everything(rows: int, models: dict) -> None:
    design, model, rng = DESIGNS[rows], models[rows], np.random.default_rng(SEED)
    items, again = (random_items(design, 2 * rows + 3, 0.3, rng, bare=0.2) for _ in range(2))
    pinned = pins(design, rng)
    held = {"pinned": pin_mask(pinned), "load_cycles": 2, "pace": 1, "lag": 1}
    # From the first item to the middle of the last tile.
    end = 40 + len(items.k)
    for at in np.unique(np.linspace(36, end, 30).astype(int)):
        broken = model.run({"go": 1, "i": pack_items(design, items), "token": 500}, None, limit=int(at), seed=int(at),
                           stalls={"o": 0.5 * (at % 2)}, partial=True, held=held)
        assert broken.deadlock and broken.ports["busy"]
        check_order(design, model, again, pins(design, rng), reset_at=[0], resume=True, seed=int(at))


def test_what_is_taken_while_nothing_leaves(models: dict) -> None:
    """Two tiles' pairs of one offset less one, and three more on their way; or two tiles less than can be open, and one
    on its way."""
    centre = random_items(DESIGNS[64], 600, 0.0, np.random.default_rng(SEED))
    spread = items_of(600, np.arange(600), np.arange(600) % 27, np.arange(600) % 256)
    held = {"pinned": pin_mask(ALL), "load_cycles": 1, "pace": 1, "lag": 0}
    for rows, items, most in ((64, centre, 2 * 64 - 1 + 3), (1, spread, 16 - 2 + 1)):
        run = models[rows].run({"go": 1, "i": pack_items(DESIGNS[rows], items), "token": 27}, None, stalls={"o": 1.0},
                               held=held, partial=True, timeout=300)
        assert len(run.cycles["i"]) == most and run.ports["busy"]


def test_the_model_of_fills(models: dict) -> None:
    """More on the chip or a faster loader never costs cycles; with all tiles there are no stalls."""
    rng = np.random.default_rng(SEED)
    items = surface(rng)
    design = DESIGNS[16]
    k = np.where(items.pair, items.k, NO_WEIGHTS)
    wanted = demands(items.row, items.k, design.tile_rows)
    stalls = [[fill_stalls(design, items.row, k, pin_profile(wanted.uses, count), tile_bytes=1024, loader_bytes=speed,
                           item_cycles=4) for speed in (2, 8, 32, 512)] for count in (0, 5, 15, 27)]
    assert stalls[-1] == [0] * 4 and stalls[0][0] > stalls[1][0] > stalls[2][0] > 0
    assert all(slow >= fast for each in stalls for slow, fast in zip(each, each[1:], strict=False))
    pinned = pin_profile(wanted.uses, 5)
    run, cycles = check_order_cycles(design, models[16], items, pinned, load_cycles=128, pace=4)
    assert cycles.total - order_cycles(design, items.row, k, ALL, item_cycles=4).total == stalls[1][1]
    assert run.ports["waits"] == cycles.waits > 0


# Pack row ----------------------------------------------------------------------------------------


def test_rows_in_order_with_their_weights(models: dict) -> None:
    design, rng, count = DESIGNS[1], np.random.default_rng(SEED), 0
    for turn, (name, items) in enumerate(jobs(20, rng).items()):
        pinned = np.bincount(items.k[items.pair], minlength=27) > 0
        for stalls in ({}, dict.fromkeys(STREAMS, 0.5), {"o": 0.9}, {"token": 0.9}):
            run = check_rows(design, models["rows"], items, pinned, stalls=stalls, seed=turn, load_cycles=3)
            assert len(run.outputs["o"]) == len(items.k), name
            count += len(items.k)
    assert count > 2000


def test_row_jobs_one_after_the_other(models: dict) -> None:
    """The pins of the job before do not count."""
    design, rng = DESIGNS[1], np.random.default_rng(SEED)
    for job in range(8):
        items = random_items(design, int(rng.integers(1, 20)), 0.2, rng, bare=0.2)
        pinned = (np.bincount(items.k[items.pair], minlength=27) > 0) | (rng.random(27) < 0.3)
        check_rows(design, models["rows"], items, pinned, resume=job > 0, stalls={"o": 0.3, "token": 0.5}, seed=job)


def test_a_row_item_each_cycle(models: dict) -> None:
    design, rng = DESIGNS[1], np.random.default_rng(SEED)
    items = random_items(design, 50, 0.3, rng)
    models["rows"].run({"go": 1, "token": 27}, {"o_fetch": 27}, held={"pinned": pin_mask(ALL), "load_cycles": 1})
    run = models["rows"].run({"i": pack_items(design, items)}, {"o": len(items.k)}, resume=True).check()
    assert np.array_equal(run.cycles["o"], np.arange(len(items.k)) + RowOrder.latency) and not run.ports["waits"]


def test_pairs_without_weights_are_told_and_do_not_count(models: dict) -> None:
    design, rng = DESIGNS[1], np.random.default_rng(SEED)
    items = random_items(design, 40, 0.3, rng)
    pinned = rng.random(27) < 0.5
    assert check_rows(design, models["rows"], items, pinned).ports["illegal"]
    again = random_items(design, 40, 0.0, rng)
    run = check_rows(design, models["rows"], again, np.arange(27) == 13, reset_at=[0], resume=True)
    assert not run.ports["illegal"]


# Names and errors --------------------------------------------------------------------------------


def test_parts_that_do_not_fit() -> None:
    cache = CacheDesign(5, 16, 8)
    for options, message in (
            ({"gather": GatherDesign(slots=32, weight_tiles=7, index_bits=8)}, "gather.slots: got 32, expected 16"),
            ({"gather": GatherDesign(slots=16, index_bits=8)}, "gather.weight_tiles: got 29, expected 7"),
            ({"gather": GatherDesign(slots=16, weight_tiles=7)}, "gather.index_bits: got 14, expected 8")):
        with pytest.raises(BitkilnError, match=f"error: parts do not fit at {message}"):
            TileOrder(map_design(cache), cache, **options)
    with pytest.raises(BitkilnError, match="error: parts do not fit at map.index_bits: got 8, expected 14"):
        RowOrder(map_design(cache), CacheDesign(27, 1))


def test_the_name_tells_the_design() -> None:
    names = {unit(map_design(design), design).module_name for unit in (TileOrder, RowOrder)
             for design in (CacheDesign(27, 1), CacheDesign(5, 1), CacheDesign(27, 1, 9))}
    names |= {TileOrder(map_design(design), design).module_name for design in (CacheDesign(27, 4), CacheDesign(27, 8))}
    assert len(names) == 8
