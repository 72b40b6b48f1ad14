"""What the weight cache hits and misses, and what that moves, exactly as the hardware does it.

A demand is a kernel offset that a tile of T output rows uses (T = 1: every pair). Weights are kept in granules: one
offset, 16 output channels. Those used most are pinned, all others go through a buffer of two:

    pinned                          hit
    one of the two in the buffer    hit
    else                            miss: replaces the one of the two that was not used last

A demand needs all granules of its offset, one after the other: the features are read once and all weights pass by, as
in SpOctA (arXiv 2308.09249). Or there is one pass for each granule of 16 output channels, with 27 granules to choose
from: the core's way (features lie on the chip, the map is searched again), where `hw.spconv.cache` is the cache.

Compared at equal size of the memory:

    none         every demand is fetched
    uniform      every offset has the same share of its weights on the chip, the rest is fetched at each demand
    lru          a cache of granules that replaces the one not used for longest
    non-uniform  pinned by use, two granules of the memory are the buffer
    passes       the same in one pass after the other, pinned anew for each

A first fill counts in all of them. The saving of ``uniform`` is its share of all weights (less the first fill),
whatever the data. All depends on T: the more rows in a tile, the more offsets each tile uses and the less there is to
choose.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ...design.spconv import KERNEL_OFFSETS
from ...errors import BitkilnError

__all__ = ["DRAM_PJ_PER_BIT", "Demands", "PLANES", "SCHEMES", "Trace", "Traffic", "compare", "demands", "granules",
           "lru_misses", "pin_mask", "pin_profile", "plane_uses", "trace"]

DRAM_PJ_PER_BIT = 15.0      # DDR4, the figure SpOctA calculates with (arXiv 2308.09249)
GRANULE_CHANNELS = 16
PINNED, BUFFERED, MISS = range(3)
SCHEMES = ("none", "uniform", "lru", "non-uniform", "passes")
PLANES = ("centre", "middle", "upper", "lower")
_CENTRE = KERNEL_OFFSETS // 2


@dataclass(frozen=True)
class Demands:
    """In the order of work.

    Attributes
    ----------
    tile, k : ndarray (N,)
        Ascending, k within each tile.
    pairs : ndarray (N,)
        Pairs of the tile with this offset, 1 or more.
    tile_rows : int
    """

    tile: np.ndarray
    k: np.ndarray
    pairs: np.ndarray
    tile_rows: int

    @property
    def uses(self) -> np.ndarray:
        """(27,) demands of each offset."""
        return np.bincount(self.k, minlength=KERNEL_OFFSETS)


def demands(out: np.ndarray, k: np.ndarray, tile_rows: int) -> Demands:
    """Demands of a map.

    Parameters
    ----------
    out, k : ndarray (pairs,)
        Output row and kernel offset of each pair, in any order. Rows without pairs count as rows.
    tile_rows : int
        Output rows of a tile.
    """
    if tile_rows < 1:
        raise BitkilnError("out of range", where="tile_rows", got=tile_rows, expected="1 or more")
    key, pairs = np.unique(np.asarray(out) // tile_rows * KERNEL_OFFSETS + np.asarray(k), return_counts=True)
    return Demands(key // KERNEL_OFFSETS, key % KERNEL_OFFSETS, pairs, tile_rows)


def pin_profile(uses: np.ndarray, capacity: int) -> np.ndarray:
    """Which granules stay: the most used ones, of equal ones the first; none that is never used.

    Parameters
    ----------
    uses : ndarray (27,) or (27, groups)
        How often each is demanded.
    capacity : int
        Granules that can stay.

    Returns
    -------
    bool ndarray of the same shape
    """
    flat = np.asarray(uses).reshape(-1)
    stays = np.zeros(len(flat), bool)
    stays[np.argsort(-flat, kind="stable")[:max(capacity, 0)]] = True
    return (stays & (flat > 0)).reshape(np.shape(uses))


def pin_mask(pinned: np.ndarray) -> int:
    """Bit k: offset k is pinned; what the registers take."""
    return sum(1 << int(k) for k in np.flatnonzero(pinned))


@dataclass(frozen=True)
class Trace:
    """What becomes of each demand.

    Attributes
    ----------
    kind : ndarray (N,)
        0 pinned, 1 in the buffer, 2 miss.
    side : ndarray (N,)
        Half of the buffer, 0 or 1; -1 where pinned.
    pinned : bool ndarray (granules,)
    """

    kind: np.ndarray
    side: np.ndarray
    pinned: np.ndarray

    @property
    def counts(self) -> tuple[int, int, int]:
        """Demands for pinned ones, for those in the buffer, for others."""
        return tuple(int((self.kind == kind).sum()) for kind in (PINNED, BUFFERED, MISS))  # type: ignore[return-value]

    @property
    def misses(self) -> int:
        return self.counts[MISS]

    def slots(self, sequence: np.ndarray, tiles: int) -> np.ndarray:
        """(N,) place on the chip: pinned ones in ascending order, then the buffer at ``tiles`` and ``tiles + 1``."""
        rank = np.cumsum(self.pinned) - 1
        return np.where(self.side < 0, rank[sequence], tiles + self.side)


def trace(sequence: np.ndarray, pinned: np.ndarray) -> Trace:
    """Hits and misses of granules demanded one after the other.

    Parameters
    ----------
    sequence : ndarray (N,)
        Granules, 0 and up.
    pinned : bool ndarray (granules,)
    """
    sequence, pinned = np.asarray(sequence, np.int64), np.asarray(pinned, bool).reshape(-1)
    kind, side = np.full(len(sequence), PINNED), np.full(len(sequence), -1)
    at = np.flatnonzero(~pinned[sequence])
    passing = sequence[at]
    # Each one that differs from the one before goes to the other half, whether it is there already or not. It is there
    # if it is the one before that.
    moves = np.append(True, passing[1:] != passing[:-1])[:len(passing)]
    chain = passing[moves]
    back = np.zeros(len(chain), bool)
    back[2:] = chain[2:] == chain[:-2]
    hit = ~moves
    hit[moves] = back
    kind[at] = np.where(hit, BUFFERED, MISS)
    side[at] = (np.cumsum(moves) - 1) % 2
    return Trace(kind, side, pinned)


def lru_misses(sequence: np.ndarray, capacity: int) -> int:
    """Misses of a cache that replaces what was not used for longest."""
    if capacity < 1:
        return len(sequence)
    held: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for each in np.asarray(sequence).tolist():
        if each in held:
            held.move_to_end(each)
            continue
        misses += 1
        held[each] = None
        if len(held) > capacity:
            held.popitem(last=False)
    return misses


def granules(k: np.ndarray, groups: int) -> np.ndarray:
    """(N * groups,) what demands for offsets come to: every granule of the offset, ``k * groups + group``."""
    return (np.asarray(k)[:, None] * groups + np.arange(groups)).reshape(-1)


@dataclass(frozen=True)
class Traffic:
    """Weights out of DRAM.

    Attributes
    ----------
    demands : int
        Of granules.
    fetched : float
        Granules, the first fill included. With ``uniform`` a share of each.
    granule_bytes : float
    """

    demands: int
    fetched: float
    granule_bytes: float

    @property
    def dram_bytes(self) -> float:
        return self.fetched * self.granule_bytes

    @property
    def energy_uj(self) -> float:
        """Of DRAM alone [uJ], at `DRAM_PJ_PER_BIT`."""
        return 8 * self.dram_bytes * DRAM_PJ_PER_BIT * 1e-6

    @property
    def saving(self) -> float:
        """Of DRAM bytes, and so of DRAM energy, against no cache."""
        return 1 - self.fetched / self.demands if self.demands else 0.0


def compare(wanted: Demands, channels: int, outputs: int, sram_bytes: int, *, bits: int = 8,
            granule: int = GRANULE_CHANNELS) -> dict[str, Traffic]:
    """All of `SCHEMES` at equal size.

    Parameters
    ----------
    wanted : Demands
        Each needs all output channels of its offset.
    channels, outputs : int
        Input and output channels.
    sram_bytes : int
        Weight memory on the chip.
    bits : int
        Of a weight.
    granule : int
        Output channels of a granule.
    """
    if outputs % granule:
        raise BitkilnError("broken granules", where="outputs", got=outputs, expected=f"a multiple of {granule}")
    groups, granule_bytes = outputs // granule, channels * granule * bits / 8
    capacity = int(sram_bytes // granule_bytes)
    if capacity < 3:
        raise BitkilnError("too small a memory", where="sram_bytes", got=sram_bytes,
                           expected=f"at least three granules of {granule_bytes:g} bytes")
    total, count = KERNEL_OFFSETS * groups, len(wanted.k) * groups
    share = min(capacity / total, 1.0)
    sequence = granules(wanted.k, groups)
    pinned = pin_profile(np.repeat(wanted.uses, groups), capacity - 2)
    once = pin_profile(wanted.uses, capacity - 2)
    fetched = {"none": float(count), "uniform": count * (1 - share) + share * total,
               "lru": lru_misses(sequence, capacity), "non-uniform": trace(sequence, pinned).misses + pinned.sum(),
               "passes": groups * (trace(wanted.k, once).misses + once.sum())}
    return {scheme: Traffic(count, float(fetched[scheme]), granule_bytes) for scheme in SCHEMES}


def plane_uses(uses: np.ndarray, axis: int = 2) -> dict[str, int]:
    """Uses by SpOctA's classes: the centre, the rest of its plane, the planes above and below.

    Parameters
    ----------
    uses : ndarray (27,)
        Of each offset.
    axis : int
        The vertical one: 0 x, 1 y, 2 z.
    """
    step = np.arange(KERNEL_OFFSETS) // 3 ** (2 - axis) % 3 - 1
    uses = np.asarray(uses)
    return dict(zip(PLANES, (int(uses[_CENTRE]), int(uses[step == 0].sum() - uses[_CENTRE]),
                             int(uses[step > 0].sum()), int(uses[step < 0].sum())), strict=True))
