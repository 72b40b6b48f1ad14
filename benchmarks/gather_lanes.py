"""What skipping of zero channels saves in the gather unit, by its shape: 256 products a cycle in all of them.

Half of the channels are zero, at random, each as often; rows have five pairs on average. The best that could
be (any lane takes any channel) stands beside: the difference is what lanes of fixed channels cost. Cycles are the event
model's, which equals the RTL (tests/hw/test_gather.py).
"""

from __future__ import annotations

import numpy as np

from bitkiln.models.cost.spconv.gather import GatherIdeal, gather_cycles, gather_ideal, lane_loads
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.report.table import Row
from bitkiln.sim.gather_check import random_work

COMMAND = "make bench SUITE=spconv ONLY=gather_lanes"
SHAPES = ((16, 16), (8, 32), (4, 64))
CHANNELS = (16, 32, 64, 128)
ROWS, PAIRS, ZEROS, TILE, WINDOW, SEED = 2000, 5.0, 0.5, 64, 8, 5


def run() -> list[Row]:
    rows = []
    for channels in CHANNELS:
        for lanes, outputs in SHAPES:
            saved = {}
            for pack in ("item", "row"):
                span, ideal = steps(lanes, outputs, channels, pack)
                best, fixed = (ideal.item, ideal.item_lanes) if pack == "item" else (ideal.row, ideal.row_lanes)
                saved[pack] = [100 * (1 - each / ideal.dense) for each in (span, fixed, best)]
            for pack, (exact, fixed, best) in saved.items():
                note = f"fixed lanes alone {fixed:.1f} %, any channel in any lane {best:.1f} %"
                rows.append(Row(f"{channels} channels, {lanes} x {outputs}, pack {pack}: cycles saved", round(exact, 1),
                                "%", command=COMMAND, note=note))
    return rows


def steps(lanes: int, outputs: int, channels: int, pack: str) -> tuple[int, GatherIdeal]:
    """Cycles from the first step to the last, and the idealised ones."""
    rng = np.random.default_rng(SEED)
    rows = {"pack": "row", "slots": 1, "window": WINDOW} if pack == "row" else {"slots": TILE}
    design = GatherDesign(lanes=lanes, outputs=outputs, channels=channels, weight_tiles=27, **rows)
    features = (rng.random((ROWS, channels)) >= ZEROS).astype(np.int64)
    work = random_work(design, ROWS, ROWS, rng, pairs=PAIRS)
    loads = lane_loads(design, work, features)
    return (gather_cycles(design, work, loads, channels // lanes).span,
            gather_ideal(design, work, loads, channels // lanes))
