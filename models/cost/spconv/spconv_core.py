"""What a network costs on the sparse-convolution core: cycles, products, weights moved, layer by layer.

A pass over the map gives ``gather.outputs`` output channels. Its cycles are those of the gather unit (exact,
`models.cost.spconv.gather`), or of a slower neighbour: the pairs one by one out of the search, the output stage, which
takes ``outputs / output_lanes`` cycles a row; before them the records and pinned weight tiles come in, and a first tile
of rows is collected. The whole is an estimate for the chain of units; `spconv_events` follows each of them event by
event and has its exact cycles, but needs the trees too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.spconv import KERNEL_OFFSETS
from ...design.spconv_core import SpConvDesign
from ...golden.gather import WorkStream
from ...golden.spconv import ConvMap
from .gather import gather_cycles, gather_ideal, lane_loads
from .weight_cache import DRAM_PJ_PER_BIT, MISS, demands, pin_profile, trace

__all__ = ["LayerCost", "layer_cost", "work_of"]

CHAIN = 60      # cycles from the start of a pass to its first step, and from the last step to the last write


@dataclass(frozen=True)
class LayerCost:
    """One convolution on one frame.

    Attributes
    ----------
    rows, pairs, offsets : int
        Output rows, pairs of the map, offsets of the kernel.
    inputs, outputs, passes : int
        Channels; passes over the map.
    dense_items, items : int
        Pairs if every neighbour were there, and those that are, of all passes.
    dense_steps : int
        Cycles of the lanes if no channel were skipped, for the pairs that are there.
    ideal_item, ideal_row : int
        Cycles if any lane could take any channel, of a pair or of an output row (spconv.md 3.3).
    steps : int
        Cycles of the lanes in this design.
    cycles : int
        Of the layer.
    issued, skipped : int
        Products of an input channel with all outputs of a pass; channels that were zero.
    hits, buffered, misses, fetched : int
        Of the weight cache, all passes; ``fetched`` has the pinned tiles too.
    weight_bytes, weight_bytes_uncached : int
        Read from outside, and without any cache.
    """

    rows: int
    pairs: int
    offsets: int
    inputs: int
    outputs: int
    passes: int
    dense_items: int
    items: int
    dense_steps: int
    ideal_item: int
    ideal_row: int
    steps: int
    cycles: int
    issued: int
    skipped: int
    hits: int
    buffered: int
    misses: int
    fetched: int
    weight_bytes: int
    weight_bytes_uncached: int

    @property
    def absent(self) -> float:
        """Share of the cycles of a dense kernel that absent neighbours save."""
        return 1 - self.items / self.dense_items if self.dense_items else 0.0

    @property
    def zero(self) -> float:
        """Share of the lanes' remaining cycles that zero channels save."""
        return 1 - self.steps / self.dense_steps if self.dense_steps else 0.0

    @property
    def both(self) -> float:
        """Share of the cycles of a dense kernel that both save together."""
        groups = self.dense_steps / self.items if self.items else 0
        return 1 - self.steps / (self.dense_items * groups) if groups else 0.0

    @property
    def macs(self) -> int:
        """Products that are not by zero."""
        return self.issued * self.outputs // self.passes if self.passes else 0

    @property
    def macs_skipped(self) -> int:
        return self.skipped * self.outputs // self.passes if self.passes else 0

    @property
    def weight_energy_uj(self) -> float:
        """Of the DRAM that the weights come from [uJ], at 15 pJ a bit (SpOctA's constant)."""
        return 8 * self.weight_bytes * DRAM_PJ_PER_BIT * 1e-6


def work_of(design: SpConvDesign, conv: ConvMap) -> WorkStream:
    """The pairs of a map in the order of work; every output row has one.

    With ``pack`` item sorted by offset within tiles of rows, else row by row. ``weight`` is the kernel offset, not a
    place on the chip.
    """
    out, k, source = conv.out, conv.k, conv.inp
    count = len(out)
    starts = np.diff(out, prepend=-1) != 0
    ends = np.diff(out, append=-1) != 0
    if design.gather.pack == "row":
        none, release = np.zeros(count, np.int64), np.zeros(count, bool)
        last = np.arange(count) == count - 1
        return WorkStream(source, out, k, none, starts, ends, np.ones(count, bool), release, last)
    tile_rows = design.gather.slots
    tile = out // tile_rows
    turn = np.lexsort((out, k, tile))
    tile, k = tile[turn], k[turn]
    release = (np.diff(tile * KERNEL_OFFSETS + k, append=-1) != 0)
    return WorkStream(source[turn], out[turn], k, out[turn] % tile_rows, starts[turn], ends[turn],
                      np.ones(count, bool), release, np.arange(count) == count - 1)


def layer_cost(design: SpConvDesign, conv: ConvMap, x_codes: np.ndarray, outputs: int,
               pinned: np.ndarray | None = None) -> LayerCost:
    """Cost of one convolution.

    Parameters
    ----------
    design : SpConvDesign
    conv : ConvMap
    x_codes : ndarray (inputs, Ci)
    outputs : int
        Output channels.
    pinned : bool ndarray (27,), optional
        Offsets whose weights stay; by default those used most.
    """
    g = design.gather
    inputs, passes = x_codes.shape[1], outputs // g.outputs
    groups = inputs // g.lanes
    zero = dict.fromkeys(LayerCost.__dataclass_fields__, 0) | {
        "offsets": conv.offsets, "inputs": inputs, "outputs": outputs, "passes": passes}
    if not conv.rows:
        return LayerCost(**zero)
    work = work_of(design, conv)
    loads = lane_loads(g, work, x_codes)
    found = gather_cycles(g, work, loads, groups)
    ideal = gather_ideal(g, work, loads, groups)
    wanted = demands(conv.out, conv.k, g.slots)
    uses = wanted.uses if g.pack == "item" else np.bincount(conv.k, minlength=KERNEL_OFFSETS)
    if pinned is None:
        pinned = pin_profile(uses, design.pinned)
    kinds = trace(wanted.k, pinned).kind if g.pack == "item" else np.zeros(0, np.int64)
    misses = int((kinds == MISS).sum())
    first = int(pinned.sum())
    tile_bytes = inputs * g.outputs * g.weight.bits // 8
    load = g.outputs + (first + misses) * inputs if misses else g.outputs + first * inputs
    steps = g.outputs // design.output_lanes
    # Missing tiles come while others are multiplied; the first ones must be there.
    stream = max(found.span, conv.pairs, conv.rows * steps, misses * inputs)
    ahead = g.outputs + max(first, 1) * inputs if misses == 0 else g.outputs + (first + 1) * inputs
    cycles = passes * (min(load, ahead) + stream + CHAIN)
    return LayerCost(
        rows=conv.rows, pairs=conv.pairs, offsets=conv.offsets, inputs=inputs, outputs=outputs, passes=passes,
        dense_items=conv.rows * conv.offsets * passes, items=conv.pairs * passes, dense_steps=ideal.dense * passes,
        ideal_item=ideal.item * passes, ideal_row=ideal.row * passes, steps=found.cycles * passes, cycles=cycles,
        issued=found.issued * passes, skipped=found.skipped * passes, hits=int((kinds == 0).sum()) * passes,
        buffered=int((kinds == 1).sum()) * passes, misses=misses * passes, fetched=(first + misses) * passes,
        weight_bytes=(first + misses) * tile_bytes * passes,
        weight_bytes_uncached=(len(wanted.k) if g.pack == "item" else conv.pairs) * tile_bytes * passes)
