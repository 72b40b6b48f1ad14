"""Cycles, words read and comparators of the ways to find a 3^3 submanifold map, all in one cycle model.

==== ================================= ==================================================================
B1   brute force                       every voxel against all voxels, eight at a time
B2   hash table                        one probe a cycle; also with 13 offsets, also with 8 banks
B3   merge sort (PointAcc)             for each offset the shifted cloud merged with the cloud, W keys a cycle
B4   voxel table, one port             27 look-ups for each voxel
M0   voxel table, 8 banks (SpOctA)     8 cycles for each voxel: `hw.spconv.table`
B5   octree descent, one port          each parent's neighbours fetched one by one
C1   octree descent, parity rows       a cycle for each node: `hw.spconv.descent`
C2   octree descent, compact           each parent's neighbours fetched from 8 banks: `hw.spconv.compact`
==== ================================= ==================================================================

Eight lanes or banks, a word a bank a cycle, all memories on the chip, voxels in canonical order for all. The centre is
no look-up, except in the voxel tables. B1 to B5 are models that leave out every latency; M0 has the exact cycles of
its RTL. Building the hash table and filling the voxel tables count, building the octree does not: it takes a cycle for
each voxel and the depth (`tree_cycles`), and the driver's list of the voxels around each window is free as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.spconv import KERNEL_OFFSETS, TableDesign
from ...golden.spconv_cloud import Tree, build_tree, decode_keys, moved, ranks
from ...golden.voxel_table import TableCommands, TableWords, kernel_offsets, table_words, windows

__all__ = ["HashProbes", "MapCost", "TableCycles", "all_costs", "brute_force", "descent_compact", "descent_one_port",
           "descent_parity", "hash_probes", "hash_search", "merge_search", "pyramid", "table_banked", "table_cycles",
           "table_serial", "tree_cycles"]

LANES = 8
CENTRE = KERNEL_OFFSETS // 2
# 2**64 over the golden ratio, odd (Knuth's multiplicative hashing).
FIBONACCI = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class MapCost:
    """What a search costs for the map of one cloud.

    Attributes
    ----------
    name : str
    cycles : int
    words_read : int
        From memory: keys, table entries or tree words.
    comparators : int
        Of whole keys; epochs of the voxel table are a few bits wide and do not count.
    notes : str
    """

    name: str
    cycles: int
    words_read: int
    comparators: int
    notes: str = ""


def brute_force(voxels: int) -> MapCost:
    """B1: eight comparisons a cycle, each of three coordinates."""
    return MapCost("brute force", voxels * -(-voxels // LANES), voxels * voxels, LANES, "8 lanes")


# Hash table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HashProbes:
    """Probes of a hash table with linear probing.

    Attributes
    ----------
    slots : int
    build : ndarray (n,)
        Probes that store each voxel.
    queries : ndarray (n, banks)
        Probes of each voxel's look-ups, by the bank that they go to.
    """

    slots: int
    build: np.ndarray
    queries: np.ndarray


def hash_probes(keys: np.ndarray, depth: int, half: bool = False, banks: int = 1) -> HashProbes:
    """Probes of each voxel, exactly, for canonical keys stored in their order.

    The table has ``2**ceil(log2(2 n))`` slots, but one at least for each bank; the home of a key are the high bits of
    its product with `FIBONACCI`. A look-up ends at the key or at an empty slot. Neighbours outside the grid are not
    looked up.

    Parameters
    ----------
    keys : int64 ndarray (n,)
    depth : int
        Bits of a coordinate.
    half : bool
        Only the 13 offsets before the centre.
    banks : int
        A power of two. The low bits of the home are the bank; after a slot comes the next one of its bank, so that
        no probe waits for one of another bank (after the last one the next bank's first, which happens hardly ever).
    """
    keys = np.asarray(keys, np.int64)
    slots = max(1 << (2 * len(keys) - 1).bit_length() if len(keys) else 1, banks)
    held, build = _stored(keys, slots, banks)
    rows_per_bank = slots // banks
    queries = np.zeros((len(keys), banks), np.int64)
    for k, offset in enumerate(kernel_offsets(half)):
        if k == CENTRE:
            continue
        wanted, inside = moved(keys, depth, tuple(offset.tolist()))
        rows = np.flatnonzero(inside)
        at = _home(wanted[rows], slots, banks)
        while len(rows):
            queries[rows, at // rows_per_bank] += 1
            going = (held[at] != wanted[rows]) & (held[at] >= 0)
            rows, at = rows[going], (at[going] + 1) % slots
    return HashProbes(slots, build, queries)


def _home(keys: np.ndarray, slots: int, banks: int) -> np.ndarray:
    """Slot at which the probes for a key begin; slots of a bank lie side by side."""
    bits = slots.bit_length() - 1
    # A shift by 64 bits has no meaning.
    high = (keys.astype(np.uint64) * np.uint64(FIBONACCI)) >> np.uint64(64 - max(bits, 1))
    home = high.astype(np.int64) % slots
    return home % banks * (slots // banks) + home // banks


def _stored(keys: np.ndarray, slots: int, banks: int) -> tuple[np.ndarray, np.ndarray]:
    """Key of each slot (-1: empty), and probes of each key, as if stored one after the other.

    All keys probe at once; of those at one slot the first one stays, as in the sequence, and puts out a later one.
    """
    nobody = len(keys)
    holder, at, build = np.full(slots, nobody), _home(keys, slots, banks), np.ones(len(keys), np.int64)
    moving = np.arange(len(keys))
    while len(moving):
        np.minimum.at(holder, at[moving], moving)
        # Whoever does not hold the slot at which he is goes on: he lost, or was put out.
        moving = np.flatnonzero(holder[at] != np.arange(len(keys)))
        at[moving] = (at[moving] + 1) % slots
        build[moving] += 1
    return np.append(keys, -1)[holder], build


def hash_search(keys: np.ndarray, depth: int, half: bool = False, banks: int = 1) -> MapCost:
    """B2: a voxel is stored probe by probe; its look-ups take as long as the busiest bank has probes."""
    probes = hash_probes(keys, depth, half, banks)
    stored, looked = int(probes.build.sum()), int(probes.queries.sum())
    name = "hash" + (", 13 offsets" if half else "") + (f", {banks} banks" if banks > 1 else "")
    return MapCost(name, stored + int(probes.queries.max(axis=1, initial=0).sum()), stored + looked, banks,
                   f"{probes.slots} slots, {stored} probes to fill them")


def merge_search(voxels: int, width: int, half: bool = False) -> MapCost:
    """B3: for each offset two sorted clouds through a merger that gives ``width`` keys a cycle."""
    offsets = CENTRE if half else KERNEL_OFFSETS - 1
    return MapCost(f"merge, {width} wide" + (", 13 offsets" if half else ""), offsets * -(-2 * voxels // width),
                   offsets * 2 * voxels, width * ((2 * width).bit_length() - 1), f"{offsets} passes")


# Voxel table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableCycles:
    """Cycle of every transfer of the voxel table when commands are always there and words always taken.

    Attributes
    ----------
    i, o : ndarray
        Of each command and each word; the first command is taken in cycle 0, after a reset.
    total : int
        Cycles of the commands alone, with the clearings after the first: stores + ``beats`` * queries + ``rows`` *
        clearings.
    clearings : int
        After windows; the one after the reset is not counted.
    """

    i: np.ndarray
    o: np.ndarray
    total: int
    clearings: int


def table_cycles(design: TableDesign, commands: TableCommands, words: TableWords | None = None) -> TableCycles:
    """M0, equal to the RTL."""
    words = table_words(design, commands) if words is None else words
    takes = np.where(commands.query & commands.mask, design.beats, 1)
    number = np.cumsum(commands.window)
    clears = commands.window & (number % design.epochs == 0)
    spent = np.cumsum(takes + design.rows * clears)
    # From the reset: the command comes into its register in cycle 0, the memory is clear after as many as it has rows.
    start = np.concatenate([[0], spent[:-1]]) + design.rows
    taken = np.concatenate([[0], (start + takes)[:-1] - 1])[:len(commands)]
    used = int(spent[-1]) - design.rows * int(clears[-1]) if len(commands) else 0
    return TableCycles(taken, start[words.command] + words.beat + 3, used, int(clears[:-1].sum()))


def table_banked(design: TableDesign, keys: np.ndarray, depth: int) -> MapCost:
    """M0 for a cloud."""
    commands = windows(design, decode_keys(keys, depth))
    none = TableWords(*[np.zeros(0, np.int64)] * 8)
    cycles = table_cycles(design, commands, none)
    count = max(len(keys), 1)
    return MapCost("voxel table, 8 banks" + (", 13 offsets" if design.half else ""), cycles.total,
                   commands.queries * (CENTRE if design.half else KERNEL_OFFSETS), 0,
                   f"{int(commands.window.sum())} windows, {commands.stored / count:.2f} stores for each voxel, "
                   f"{cycles.clearings} clearings")


def table_serial(design: TableDesign, keys: np.ndarray, depth: int) -> MapCost:
    """B4: the same windows in one memory."""
    commands = windows(design, decode_keys(keys, depth))
    looks = commands.queries * (CENTRE if design.half else KERNEL_OFFSETS)
    return MapCost("voxel table, one port" + (", 13 offsets" if design.half else ""), commands.stored + looks, looks, 0,
                   f"{commands.stored / max(len(keys), 1):.2f} stores for each voxel")


# Octree descent ------------------------------------------------------------------------------------


def tree_cycles(keys: int, depth: int) -> int:
    """Building the octree while its voxels come in: not part of the descents."""
    return keys + depth


def pyramid(tree: Tree, stages: int = 5) -> int:
    """Output voxels of the maps of so many stages, each of half the resolution, that one descent gives."""
    return sum(tree.counts[:stages])


def descent_parity(tree: Tree) -> MapCost:
    """C1 with one engine for all levels: a cycle for each node that has a parent, eight words each."""
    nodes = sum(tree.counts[:-1])
    return MapCost("descent, parity rows", nodes, LANES * nodes, 0)


def _parents(tree: Tree, depth: int):
    """Of each level above the voxels: neighbours (nodes, 27) by rank or -1, itself among them, and children."""
    for level in range(1, depth + 1):
        nodes = tree.levels[level]
        near = np.full((len(nodes), KERNEL_OFFSETS), -1, np.int64)
        for k, offset in enumerate(kernel_offsets()):
            wanted, inside = moved(nodes, depth - level, tuple(offset.tolist()))
            near[inside, k] = ranks(nodes, wanted[inside])
        yield near, np.diff(np.append(tree.bases[level], tree.counts[level - 1]))


def descent_compact(tree: Tree) -> MapCost:
    """C2: for each parent the longer of fetching its neighbours from 8 banks (rank modulo 8) and its children."""
    cycles = words = 0
    for near, children in _parents(tree, len(tree.levels) - 1):
        load = np.stack([((near % LANES == bank) & (near >= 0)).sum(axis=1) for bank in range(LANES)], axis=1)
        cycles += int(np.maximum(load.max(axis=1, initial=0), children).sum())
        words += int((near >= 0).sum())
    return MapCost("descent, compact", cycles, words, 0)


def descent_one_port(tree: Tree) -> MapCost:
    """B5: for each parent the longer of fetching its neighbours one by one and its children."""
    cycles = words = 0
    for near, children in _parents(tree, len(tree.levels) - 1):
        there = (near >= 0).sum(axis=1)
        cycles, words = cycles + int(np.maximum(there, children).sum()), words + int(there.sum())
    return MapCost("descent, one port", cycles, words, 0)


def all_costs(keys: np.ndarray, depth: int, table: TableDesign | None = None) -> dict[str, MapCost]:
    """Every search for one cloud, by its short name.

    Parameters
    ----------
    keys : int64 ndarray (n,)
        Canonical.
    depth : int
        Bits of a coordinate.
    table : TableDesign, optional
        Of M0 and B4.
    """
    keys = np.asarray(keys, np.int64)
    table = TableDesign() if table is None else table
    tree, count = build_tree(keys, depth), len(keys)
    return {"B1": brute_force(count),
            **{f"B2{name}{' half' * half}": hash_search(keys, depth, half, banks)
               for name, banks in (("", 1), ("x8", LANES)) for half in (False, True)},
            **{f"B3 {width}{' half' * half}": merge_search(count, width, half)
               for width in (8, 64) for half in (False, True)},
            "B4": table_serial(table, keys, depth), "M0": table_banked(table, keys, depth),
            "M0 half": table_banked(table.with_options(half=True), keys, depth), "B5": descent_one_port(tree),
            "C1": descent_parity(tree), "C2": descent_compact(tree)}
