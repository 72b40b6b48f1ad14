"""Searches for the map: clouds counted by hand, random ones against slow straightforward searches."""

from __future__ import annotations

import math
import time
from itertools import product

import numpy as np
import pytest

from bitkiln.models.cost.spconv.map_baselines import (
    FIBONACCI,
    all_costs,
    brute_force,
    descent_compact,
    descent_one_port,
    descent_parity,
    hash_probes,
    hash_search,
    merge_search,
    pyramid,
    table_banked,
    table_cycles,
    table_serial,
    tree_cycles,
)
from bitkiln.models.design.spconv import TableDesign
from bitkiln.models.golden.spconv import build_tree, encode_keys, submanifold
from bitkiln.models.golden.voxel_table import TableCommands

SEED = 71
STEPS = list(product((-1, 0, 1), repeat=3))
CLOUDS = [(300, 12, 4, 1), (500, 40, 6, 2), (700, 10, 4, 3), (60, 64, 9, 1), (9, 3, 2, 1)]


def canonical(places, depth: int, batch=0) -> np.ndarray:
    """Keys of voxels, each once."""
    places = np.asarray(places, np.int64).reshape(-1, 3)
    return np.unique(encode_keys(np.column_stack([np.broadcast_to(batch, len(places)), places]), depth))


def random_cloud(count: int, reach: int, depth: int, batches: int) -> np.ndarray:
    rng = np.random.default_rng(SEED + count)
    return canonical(rng.integers(0, min(reach, 1 << depth), (count, 3)), depth, rng.integers(0, batches, count))


def place_of(key: int, depth: int) -> tuple[int, int, int, int]:
    """batch, x, y, z, bit by bit."""
    axes = [sum((key >> 3 * bit + 2 - axis & 1) << bit for bit in range(depth)) for axis in range(3)]
    return (key >> 3 * depth, *axes)


def key_of(place: tuple[int, int, int, int], depth: int) -> int:
    key = place[0] << 3 * depth
    for axis in range(3):
        for bit in range(depth):
            key |= (place[1 + axis] >> bit & 1) << 3 * bit + 2 - axis
    return key


def neighbours(key: int, depth: int, steps=STEPS) -> list[int]:
    """Keys around a voxel that are in the grid, by ascending offset, itself among them."""
    batch, *place = place_of(key, depth)
    moved = [tuple(a + b for a, b in zip(place, step, strict=True)) for step in steps]
    return [key_of((batch, *each), depth) for each in moved if all(0 <= a < 1 << depth for a in each)]


# Slow searches -------------------------------------------------------------------------------------


def slow_hash(keys: list[int], depth: int, half: bool, banks: int) -> tuple[int, int]:
    """Cycles and probes: one key after the other into a list, one look-up after the other."""
    slots = max(2 ** math.ceil(math.log2(2 * len(keys))), banks)
    rows, table, probes = slots // banks, [-1] * slots, 0

    def home(key: int) -> int:
        high = (key * FIBONACCI & (1 << 64) - 1) >> 64 - int(math.log2(slots))
        return high % banks * rows + high // banks

    for key in keys:
        at = home(key)
        probes += 1
        while table[at] >= 0:
            at, probes = (at + 1) % slots, probes + 1
        table[at] = key
    cycles = probes
    for key in keys:
        load = [0] * banks
        for wanted in neighbours(key, depth, STEPS[:13] if half else STEPS):
            if wanted == key:
                continue
            at = home(wanted)
            load[at // rows] += 1
            while table[at] not in (-1, wanted):
                at = (at + 1) % slots
                load[at // rows] += 1
        cycles, probes = cycles + max(load), probes + sum(load)
    return cycles, probes


def slow_descents(keys: list[int], depth: int) -> dict[str, tuple[int, int]]:
    """Cycles and words of C1, C2 and B5, with sets of keys."""
    found = {"C1": [0, 0], "C2": [0, 0], "B5": [0, 0]}
    level = sorted(keys)
    for up in range(1, depth + 1):
        parents = sorted({key >> 3 for key in level})
        rank = {key: at for at, key in enumerate(parents)}
        for parent in parents:
            children = sum(key >> 3 == parent for key in level)
            near = [rank[key] for key in neighbours(parent, depth - up) if key in rank]
            load = max(sum(each % 8 == bank for each in near) for bank in range(8))
            for name, cycles, words in (("C1", children, 8 * children), ("C2", max(load, children), len(near)),
                                        ("B5", max(len(near), children), len(near))):
                found[name][0] += cycles
                found[name][1] += words
        level = parents
    return {name: tuple(each) for name, each in found.items()}


def slow_table(design: TableDesign, keys: list[int], depth: int) -> tuple[int, int]:
    """Windows, and voxels stored in them: those from which some window's voxel is a step away."""
    places = [place_of(key, depth) for key in keys]
    blocks = {(place[0], *(each // design.size for each in place[1:])) for place in places}
    steps = [*STEPS[:13], (0, 0, 0)] if design.half else STEPS
    stored = 0
    for batch, *place in places:
        stored += len({(batch, *((a - b) // design.size for a, b in zip(place, step, strict=True)))
                       for step in steps} & blocks)
    return len(blocks), stored


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("banks", [1, 8])
@pytest.mark.parametrize("count, reach, depth, batches", CLOUDS)
def test_hash_probe_by_probe(count: int, reach: int, depth: int, batches: int, banks: int, half: bool) -> None:
    keys = random_cloud(count, reach, depth, batches)
    cost = hash_search(keys, depth, half, banks)
    assert (cost.cycles, cost.words_read) == slow_hash(keys.tolist(), depth, half, banks)
    assert cost.comparators == banks and cost.cycles > len(keys)


@pytest.mark.parametrize("count, reach, depth, batches", CLOUDS)
def test_descents_node_by_node(count: int, reach: int, depth: int, batches: int) -> None:
    keys = random_cloud(count, reach, depth, batches)
    tree, slow = build_tree(keys, depth), slow_descents(keys.tolist(), depth)
    for name, cost in (("C1", descent_parity(tree)), ("C2", descent_compact(tree)), ("B5", descent_one_port(tree))):
        assert (cost.cycles, cost.words_read) == slow[name] and cost.comparators == 0
    assert slow["C1"][0] <= slow["C2"][0] <= slow["B5"][0]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [2, 4, 16])
@pytest.mark.parametrize("count, reach, depth, batches", CLOUDS)
def test_windows_voxel_by_voxel(count: int, reach: int, depth: int, batches: int, size: int, half: bool) -> None:
    keys = random_cloud(count, reach, depth, batches)
    design = TableDesign(size, half=half, epoch_bits=4)
    number, stored = slow_table(design, keys.tolist(), depth)
    looks = 13 if half else 27
    clearings = (number - 1) // 15
    banked, serial = table_banked(design, keys, depth), table_serial(design, keys, depth)
    assert banked.cycles == stored + len(keys) * (4 if half else 8) + clearings * (size // 2 + 1) ** 3
    assert serial.cycles == stored + len(keys) * looks
    assert banked.words_read == serial.words_read == len(keys) * looks
    assert f"{number} windows" in banked.notes and f"{clearings} clearings" in banked.notes


# By hand -------------------------------------------------------------------------------------------


def test_one_voxel() -> None:
    keys = canonical([[3, 4, 5]], 3)
    costs = all_costs(keys, 3)
    # Its way down the tree: one node on each of three levels.
    assert [costs[name].cycles for name in ("C1", "C2", "B5")] == [3, 3, 3]
    assert [costs[name].words_read for name in ("C1", "C2", "B5")] == [24, 3, 3]
    assert [costs[name].cycles for name in ("B1", "B3 8", "B3 8 half", "B3 64")] == [1, 26, 13, 26]
    assert [costs[name].cycles for name in ("M0", "M0 half", "B4")] == [9, 5, 28]
    # Two slots, one of them taken: a miss takes a probe, or two where it begins at the voxel's.
    at = [key * FIBONACCI % 2 ** 64 >> 63 for key in [int(keys[0]), *neighbours(int(keys[0]), 3)]]
    twice = sum(each == at[0] for each in at[1:]) - 1
    assert costs["B2"].cycles == 1 + 26 + twice and 0 < twice < 26
    # Eight banks of one slot each: one probe a miss, two where its bank is the voxel's.
    assert hash_probes(keys, 3, banks=8).slots == 8


def test_two_voxels_across_a_face() -> None:
    keys = canonical([[1, 0, 0], [2, 0, 0]], 2)
    costs = all_costs(keys, 2)
    # The root with two children, two nodes that see each other, with a child each.
    assert costs["C1"].cycles == 2 + 2 and costs["C2"].cycles == 2 + 1 + 1 and costs["B5"].cycles == 2 + 2 + 2
    assert costs["C2"].words_read == costs["B5"].words_read == 1 + 2 + 2
    assert costs["M0"].cycles == 2 + 16 and costs["B4"].cycles == 2 + 54
    # In windows of 2^3 each lies in its own and beside the other's; with 13 offsets only beside the later one's.
    assert table_banked(TableDesign(2), keys, 2).cycles == 4 + 16
    assert table_banked(TableDesign(2, half=True), keys, 2).cycles == 3 + 8
    assert pyramid(build_tree(keys, 2), 2) == 2 + 2 and pyramid(build_tree(keys, 2)) == 2 + 2 + 1


def test_full_cube() -> None:
    """16^3: the descents as good as can be, the map known."""
    keys = canonical(list(product(range(16), repeat=3)), 4)
    costs = all_costs(keys, 4)
    assert submanifold(keys, 4).pairs == 46 ** 3
    assert costs["C1"].cycles == 4096 + 512 + 64 + 8
    # A parent's 27 neighbours have ranks of all remainders: at most 8 in a bank, as many as its children.
    assert costs["C2"].cycles == costs["C1"].cycles
    # Children 8; neighbours 27 inside: sum over a side of s of the neighbours is (3 s - 2)^3, but never less than 8.
    assert costs["B5"].cycles == 22 ** 3 + 10 ** 3 + 4 ** 3 + 8
    assert costs["M0"].cycles == 9 * 4096 and costs["B1"].cycles == 4096 * 512


def test_nothing_to_search() -> None:
    costs = all_costs(np.zeros(0, np.int64), 5)
    for name, cost in costs.items():
        # The voxel table takes the one command that ends the job.
        assert cost.cycles == (1 if name.startswith("M0") else 0) and cost.words_read == 0, name
    none = np.zeros(0, bool)
    cycles = table_cycles(TableDesign(), TableCommands(*[np.zeros(0, np.int64)] * 4, *[none] * 4))
    assert len(cycles.i) == len(cycles.o) == cycles.total == cycles.clearings == 0


def test_formulas_of_the_reference() -> None:
    """Brute force and merger as published; comparators of a bitonic merger."""
    assert brute_force(100).cycles == 100 * 13 and brute_force(100).words_read == 10000
    assert merge_search(1000, 8).cycles == 26 * 250 and merge_search(1000, 8, half=True).cycles == 13 * 250
    assert merge_search(1000, 64).cycles == 26 * 32 and merge_search(1000, 64).words_read == 52 * 1000
    assert (merge_search(1, 8).comparators, merge_search(1, 64).comparators) == (32, 448)
    assert tree_cycles(1000, 11) == 1011


def test_symmetry_halves_the_look_ups() -> None:
    keys = random_cloud(700, 10, 4, 3)
    costs = all_costs(keys, 4)
    for name in ("B2", "B2x8", "B3 8", "B3 64", "M0"):
        whole, half = costs[name], costs[f"{name} half"]
        assert 0.4 * whole.cycles < half.cycles < 0.75 * whole.cycles and half.comparators == whole.comparators
        assert "13 offsets" in half.name and "13 offsets" not in whole.name


@pytest.mark.slow
def test_a_hundred_thousand_voxels_take_seconds() -> None:
    rng = np.random.default_rng(SEED)
    x, y = rng.integers(0, 1000, (2, 110_000))
    keys = canonical(np.stack([x, y, (100 + 80 * np.sin(x / 90) * np.cos(y / 70)).astype(int)], axis=1), 10)
    assert len(keys) > 100_000
    start = time.process_time()
    all_costs(keys, 10)
    assert time.process_time() - start < 20
