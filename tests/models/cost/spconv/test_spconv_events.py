"""The event model of the sparse-convolution core: each unit alone has the cycles of its own model."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.cost.spconv.gather import gather_cycles, unit_latency
from bitkiln.models.cost.spconv.map_rows import RowTaker
from bitkiln.models.cost.spconv.octree import build_cycles
from bitkiln.models.cost.spconv.spconv_events import convolution_cycles, load_cycles, store_cycles
from bitkiln.models.cost.spconv.spconv_order import items_of, row_items, tile_order, tiles_of
from bitkiln.models.cost.spconv.spconv_sums import ROWS, OutputEvents, item_sums, row_sums
from bitkiln.models.cost.spconv.spconv_weights import WeightEvents
from bitkiln.models.cost.spconv.tile_order import NO_WEIGHTS, order_cycles
from bitkiln.models.design.spconv import GatherDesign, MapDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.golden.gather import WorkStream
from bitkiln.models.golden.spconv import build_tree, submanifold

SEED = 17


def core(pack: str = "item", slots: int = 8, output_lanes: int = 4, **options) -> SpConvDesign:
    gather = GatherDesign("int8", "int8", 4, 4, 16, pack, 4, slots if pack == "item" else 1)
    return SpConvDesign(MapDesign(5, 0, 512), gather, output_lanes=output_lanes, **options)


def at_once(releases: list[bool] = (), released: list[int] | None = None):
    """A unit that takes what it is offered; of some items, by number, the cycles are written down."""
    def unit():
        taken, count = -1, 0
        while True:
            taken = yield taken
            if releases and releases[count]:
                released.append(taken)
            count += 1

    found = unit()
    next(found)
    return found


def work_of(rows: np.ndarray, k: np.ndarray, design: SpConvDesign) -> WorkStream:
    none = np.zeros(len(rows), np.int64)
    first, final = np.diff(rows, prepend=-1) != 0, np.diff(rows, append=-1) != 0
    release = design.gather.pack == "item"
    return WorkStream(none, rows, k, none, first, final, np.ones(len(rows), bool), np.full(len(rows), release),
                      np.arange(len(rows)) == len(rows) - 1)


@pytest.mark.parametrize("pack", ["item", "row"])
def test_gather_unit_alone(pack):
    design, rng = core(pack), np.random.default_rng(SEED)
    for count in (1, 7, 400):
        rows = np.repeat(np.arange(count), rng.integers(1, 9, count))
        loads = rng.integers(0, 5, (len(rows), 4)) * (rng.random((len(rows), 1)) < 0.8)
        offered = np.cumsum(rng.integers(0, 7, len(rows)) * (rng.random(len(rows)) < 0.3)) + 3
        work = work_of(rows, rows * 0, design)
        wanted = gather_cycles(design.gather, work, loads, 4, offered)
        output, released = OutputEvents(design), []
        steps = np.maximum(loads.max(axis=1), work.first | work.final | work.release)
        unit = row_sums(design, loads, work.final, output) if pack == "row" else \
            item_sums(design, steps.tolist(), work.final.tolist(), work.release.tolist(), released, output)
        next(unit)
        assert [unit.send(each) for each in offered.tolist()] == wanted.i.tolist()
        assert [each + unit_latency(design.gather) for each in output.ends] == wanted.o.tolist()
        assert output.steps == wanted.cycles
        assert pack == "row" or released == wanted.released.tolist()
    print("seed", SEED)


@pytest.mark.parametrize("pack", ["item", "row"])
def test_steps_wait_for_a_slow_output(pack):
    """One channel in a cycle: rows of one step leave every four cycles, once as many wait as there is room for."""
    design = core(pack, output_lanes=1)
    output = OutputEvents(design)
    ones = [True] * 100
    unit = row_sums(design, np.ones((100, 4), int), np.array(ones), output) if pack == "row" else \
        item_sums(design, [1] * 100, ones, ones, [], output)
    next(unit)
    taken = [unit.send(0) for _ in range(100)]
    assert set(np.diff(output.taken)) == {4}
    ends = np.diff(output.ends)
    assert (ends[1:ROWS - 1] == 1).all() and (ends >= 1).all() and taken[-1] > 4 * 50
    # In a cycle with a step no more rows than there is room for were seen inside.
    for end in output.ends:
        inside = sum(each <= end - 3 for each in output.ends) - sum(each <= end - 2 for each in output.taken)
        assert inside < ROWS and not output_before(output, end).waits(end)


def output_before(output: OutputEvents, cycle: int) -> OutputEvents:
    """As it is before the row that ends in a cycle."""
    found = object.__new__(OutputEvents)
    found.__dict__.update(output.__dict__)
    count = output.ends.index(cycle)
    found.ends, found.taken = output.ends[:count], output.taken[:count]
    return found


@pytest.mark.parametrize("slots", [1, 8, 64])
def test_order_alone(slots):
    design, rng = core(slots=slots), np.random.default_rng(SEED)
    pinned = np.ones(27, bool)
    row = np.repeat(np.arange(300), rng.integers(1, 14, 300))
    k = np.concatenate([np.sort(rng.permutation(27)[:count]) for count in np.bincount(row)])
    wanted = order_cycles(design.cache, row, k, pinned)
    weights = WeightEvents(design, 16, pinned)
    tiles, released = tiles_of(row, k, slots, pinned), []
    releases = [at + 1 == pairs for pairs in tiles.pairs for at in range(pairs)]
    order = tile_order(design, tiles, weights, released, at_once(releases, released), weights.idle)
    next(order)
    taken = np.array([order.send(0) for _ in k])
    assert taken[0] == weights.idle and (taken - taken[0] == wanted.taken).all()


def test_rows_alone():
    rng = np.random.default_rng(SEED)
    pairs = rng.integers(0, 6, 200).tolist()
    offered = np.cumsum(rng.integers(0, 9, 200)).tolist()
    taker, rows = RowTaker(pairs), row_items(pairs, at_once())
    next(rows)
    assert [rows.send(each) for each in offered] == [taker.take(each) for each in offered]


def test_weights():
    """A beat a cycle behind the records, which come first; two tiles are asked for at a time."""
    design = core()
    pinned = np.zeros(27, bool)
    pinned[[3, 13, 20]] = True
    weights = WeightEvents(design, 30, pinned)
    # Records until cycle 4; in that cycle offset 3 has its turn, and in the next one its tile is asked for.
    assert weights.known[:4] == [2, 3, 4, 5] and weights.asked[0] == 5
    assert weights.loaded == [4, 35, 65, 95] and weights.idle == 96
    assert weights.asked[2] == weights.loaded[1] + 1 and weights.resident[13] == weights.loaded[2] + 1
    assert WeightEvents(design, 8, pinned & False).idle == 28


def test_rows_without_pairs_are_items():
    keys = np.array([0, 5, 77, 400])
    conv = submanifold(keys, 5)
    bare = conv.__class__(conv.out * 2, conv.k, conv.inp, np.arange(8), conv.inputs, 3)
    row, k = items_of(bare)
    assert (np.diff(row) >= 0).all() and (row[k == NO_WEIGHTS] == [1, 3, 5, 7]).all()


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_loads_and_stores(groups):
    rng = np.random.default_rng(SEED)
    design = core()
    keys = np.unique(rng.integers(0, 1 << 15, 400))
    mask = rng.random(len(keys)) < 0.9
    found = load_cycles(design, keys, mask, groups).cycles
    alone = build_cycles(design.map, keys, mask).done + 4
    assert found >= len(keys) * groups and (found == alone if groups < 2 else found > alone)
    assert store_cycles(0, 1).cycles == store_cycles(1, 1).cycles == store_cycles(5, 7).cycles - 34


def test_every_pass_takes_the_same_time_but_one_right_behind_a_reset():
    design, rng = core(), np.random.default_rng(SEED)
    keys = np.unique(rng.integers(0, 1 << 15, 60))
    conv, codes = submanifold(keys, 5), rng.integers(0, 3, (len(keys), 8))
    tree, pinned = build_tree(keys, 5), np.ones(27, bool)
    found = convolution_cycles(design, "submanifold", conv, codes, 16, pinned, tree)
    assert len(found.passes) == 4 and len(set(found.passes)) == 1 and found.cycles == 1 + sum(found.passes)
    late = convolution_cycles(design, "submanifold", conv, codes, 16, pinned, tree, since_reset=-500)
    assert late.passes[0] > late.passes[1] == found.passes[0]
    none = keys[:0]
    assert convolution_cycles(design, "submanifold", submanifold(none, 5), codes[:0], 16, pinned,
                              build_tree(none, 5)).cycles == 1
