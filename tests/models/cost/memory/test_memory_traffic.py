"""Bytes of fused chains, and of weights with a window of reuse."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.cost.memory.memory_tiers import flash_tier
from bitkiln.models.cost.memory.memory_traffic import bundle_bytes, chain_bytes, window_rows
from bitkiln.models.cost.schedule.schedule import Graph, Operator, check_plan, schedule
from bitkiln.models.errors import BitkilnError


def test_a_fused_chain_moves_its_ends():
    assert chain_bytes([10, 500, 300, 20], fused=True) == 30
    assert chain_bytes([10, 500, 300, 20], fused=False) == 30 + 2 * 800
    assert chain_bytes([10, 20], [7], fused=True) == chain_bytes([10, 20], [7], fused=False) == 37


def test_a_fused_chain_is_a_schedule_without_spills():
    sizes = {"t0": 10, "t1": 50, "t2": 30, "t3": 20}
    graph = Graph.build([Operator(f"run{n}", (f"t{n}",), (f"t{n + 1}",)) for n in range(3)], sizes)
    plan = schedule(graph, graph.least_capacity)
    assert check_plan(graph, plan).traffic_bytes == chain_bytes(list(sizes.values()), fused=True)


@pytest.mark.parametrize(("activations", "weights", "message"), [
    ([1], [], "lengths"), ([1, 2], [1, 1], "lengths"), ([1, -2, 3], [], "negative")])
def test_bad_chains(activations, weights, message):
    with pytest.raises(BitkilnError, match=message):
        chain_bytes(activations, weights, fused=True)


def test_window_by_sets():
    """Against sets of rows."""
    rng = np.random.default_rng(3)
    active = rng.random((40, 60)) < 0.15
    needs = [set(np.flatnonzero(row)) for row in active]
    for window in (0, 1, 3, 40):
        loaded, held = window_rows(active, window)
        for token, now in enumerate(needs):
            kept = set().union(*needs[max(token - window, 0):token])
            assert loaded[token] == len(now - kept)
            assert held[token] == len(now | kept)


def test_a_longer_window_loads_less_and_holds_more():
    active = np.random.default_rng(4).random((50, 80)) < 0.1
    rows = [window_rows(active, window) for window in range(8)]
    for (loaded, held), (fewer, more) in zip(rows, rows[1:], strict=False):
        assert (fewer <= loaded).all() and (more >= held).all()
        assert fewer.sum() < loaded.sum() and more.sum() > held.sum()
    assert (rows[0][0] == active.sum(axis=1)).all()


def test_bundles_and_windows_save_time_on_flash():
    flash, row = flash_tier(), 4096 * 2
    active = np.random.default_rng(5).random((20, 1000)) < 0.05
    seconds = {}
    for window in (0, 5):
        rows = int(window_rows(active, window)[0].sum())
        seconds[window] = [flash.transfer_s(2 * rows * row, 200, chunk) for chunk in (row, bundle_bytes(row))]
        assert seconds[window][1] < seconds[window][0]
    assert seconds[5][1] < seconds[0][1]


def test_refused():
    with pytest.raises(BitkilnError, match=r"bool \(tokens, rows\)"):
        window_rows(np.zeros((3, 3)), 1)
    with pytest.raises(BitkilnError, match="out of range at window"):
        window_rows(np.zeros((3, 3), bool), -1)
    with pytest.raises(BitkilnError, match="out of range"):
        bundle_bytes(0)
