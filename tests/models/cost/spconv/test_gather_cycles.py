"""Cycles of the gather unit: by hand, between bounds, in parts. That they equal the RTL: tests/hw/test_gather.py."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.cost.spconv.gather import gather_cycles, gather_ideal, lane_loads
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.models.golden.gather import WorkStream

SEED = 97


def rows_of_pairs(rng: np.random.Generator, rows: int, sources: int, begins: float = 1.0) -> WorkStream:
    """Rows of one to eight pairs, by rows; ``begins``: share of rows whose items say so (nothing else hinders)."""
    out = np.repeat(np.arange(rows), rng.integers(1, 9, rows))
    first = (np.diff(out, prepend=-1) != 0) & (rng.random(len(out)) < begins)
    final = np.append(out[1:] != out[:-1], True)
    no = np.zeros(len(out), bool)
    return WorkStream(rng.integers(0, sources, len(out)), out, out * 0, out * 0, first, final, ~no, no, no)


def test_idealised_cycles_by_hand() -> None:
    """Four channels, two lanes: what each rule of skipping counts."""
    design = GatherDesign(lanes=2, outputs=1, channels=4, slots=2)
    features = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    source, out = np.array([0, 1, 2, 3, 1]), np.array([0, 0, 1, 1, 2])
    yes, no = np.ones(5, bool), np.zeros(5, bool)
    first, final = (np.array(bits, bool) for bits in ([1, 0, 1, 0, 1], [0, 1, 0, 1, 1]))
    work = WorkStream(source, out, source * 0, out * 0, first, final, yes, no, no)
    loads = lane_loads(design, work, features)
    assert loads.tolist() == [[2, 0], [0, 2], [2, 2], [0, 0], [0, 2]]
    ideal = gather_ideal(design, work, loads, 2)
    assert (ideal.dense, ideal.item, ideal.row, ideal.item_lanes, ideal.row_lanes) == (10, 5, 5, 8, 6)
    cycles = gather_cycles(design, work, loads, 2)
    # The pair of zeros ends its row: one step.
    assert (cycles.items, cycles.dropped, cycles.issued, cycles.skipped) == (5, 1, 10, 10)
    assert (cycles.cycles, cycles.idle, cycles.span) == (9, 8, 9)
    rows = gather_cycles(design.with_options(pack="row", slots=1), work, loads, 2)
    # Pairs come one a cycle, so the second lane begins late; then nothing waits.
    assert (rows.issued, rows.cycles, rows.span) == (10, 7, 7)


@pytest.mark.parametrize("pack", ["item", "row"])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 0.99])
def test_offers_that_do_not_come_late_change_nothing(zeros: float, pack: str) -> None:
    rng = np.random.default_rng(SEED)
    design = GatherDesign(lanes=4, outputs=1, channels=16, pack=pack, slots=1)
    features = (rng.random((60, 16)) >= zeros).astype(np.int64)
    work = rows_of_pairs(rng, 300, 60, begins=0.3)
    loads = lane_loads(design, work, features)
    free = gather_cycles(design, work, loads, 4)
    same, late = (gather_cycles(design, work, loads, 4, offered) for offered in (free.i, free.i + 50))
    for name in ("i", "o", "items", "dropped", "issued", "skipped", "idle", "cycles", "span"):
        assert np.array_equal(getattr(free, name), getattr(same, name))
    assert np.array_equal(late.o, free.o + 50) and late.span == free.span
    assert free.cycles <= free.span <= free.cycles + len(work)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("lanes, channels", [(1, 3), (4, 4), (4, 16), (8, 64)])
def test_between_what_is_ideal_and_what_is_dense(lanes: int, channels: int, zeros: float) -> None:
    rng = np.random.default_rng(SEED)
    groups = channels // lanes
    features = (rng.random((60, channels)) >= zeros).astype(np.int64)
    work = rows_of_pairs(rng, 300, 60)
    item = GatherDesign(lanes=lanes, outputs=1, channels=channels)
    loads = lane_loads(item, work, features)
    ideal = gather_ideal(item, work, loads, groups)
    assert ideal.row <= ideal.item <= ideal.item_lanes <= ideal.dense and ideal.row <= ideal.row_lanes <= ideal.dense
    exact = gather_cycles(item, work, loads, groups)
    ends = int((work.first | work.final).sum())
    assert ideal.item_lanes <= exact.cycles <= ideal.item_lanes + ends and exact.cycles <= exact.span
    assert exact.issued + exact.skipped == ideal.dense * lanes and exact.issued + exact.idle == exact.cycles * lanes
    spans = []
    for window in (2, 8, 32):
        row = gather_cycles(item.with_options(pack="row", slots=1, window=window), work, loads, groups)
        assert row.issued == exact.issued and max(ideal.row_lanes, 300) <= row.cycles <= row.span
        spans.append(row.span)
    # Pairs come one a cycle: what the last one of a row needs is done behind it.
    assert spans[0] >= spans[1] >= spans[2] and spans[2] <= max(ideal.row_lanes, len(work)) + 2 * 300 + groups


def test_a_longer_stream_takes_as_long_as_its_parts() -> None:
    """Parts of a stream are computed piece by piece: nothing may depend on where they are cut."""
    rng = np.random.default_rng(SEED)
    design = GatherDesign(lanes=4, outputs=1, channels=16, pack="row", slots=1, window=4)
    features = (rng.random((60, 16)) >= 0.5).astype(np.int64)
    work = rows_of_pairs(rng, 3000, 60)
    loads = lane_loads(design, work, features)
    whole = gather_cycles(design, work, loads, 4)
    ends = np.flatnonzero(work.final)
    for rows in (1, 17, 1000):
        part = work.part(slice(0, ends[rows - 1] + 1))
        some = gather_cycles(design, part, loads[:len(part)], 4)
        assert np.array_equal(some.o, whole.o[:rows]) and np.array_equal(some.i, whole.i[:len(part)])
