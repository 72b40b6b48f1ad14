"""Voxel table: the map of a cloud against brute force, any commands against the golden words, every cycle."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.spconv.table import VoxelTable
from bitkiln.models.cost.spconv.map_baselines import table_cycles
from bitkiln.models.design.spconv import TableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import encode_keys
from bitkiln.models.golden.voxel_table import TableCommands, kernel_offsets, table_hits, table_words, windows
from bitkiln.sim.streams import StreamModel, build_streams
from bitkiln.sim.table_check import (
    check_table,
    check_table_reset,
    compare_words,
    join_commands,
    pack_commands,
    random_commands,
    table_pairs,
    unpack_words,
)

SEED = 331
DEPTH = 7
DESIGNS = {
    "paper": TableDesign(index_bits=13),
    "small": TableDesign(4, 8, epoch_bits=2),
    "half": TableDesign(4, 13, half=True, epoch_bits=1),
}


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([VoxelTable(design) for design in DESIGNS.values()]), strict=True))


# Clouds --------------------------------------------------------------------------------------------


def canonical(places: np.ndarray, batch: np.ndarray | int = 0) -> np.ndarray:
    """(n, 4) in canonical order, each once."""
    places = np.asarray(places, np.int64).reshape(-1, 3)
    rows = np.unique(np.column_stack([np.broadcast_to(batch, len(places)), places]), axis=0)
    return rows[np.argsort(encode_keys(rows, DEPTH))]


def cube(side: int, corner: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.argwhere(np.ones((side,) * 3, bool)) + corner


def cloud(name: str) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    if name == "random":
        return canonical(rng.integers(0, 40, (900, 3)))
    if name == "dense":
        return canonical(rng.integers(20, 34, (1500, 3)))
    if name == "surface":
        x, y = np.meshgrid(np.arange(30), np.arange(30), indexing="ij")
        return canonical(np.stack([x, y, (20 + 8 * np.sin(x / 6) + 6 * np.cos(y / 5)).astype(int)], axis=-1))
    if name == "batches":
        return canonical(rng.integers(0, 12, (800, 3)), rng.integers(0, 3, 800))
    if name == "corners":       # of the grid, and around the corner of eight windows
        far = (1 << DEPTH) - 1
        return canonical(np.concatenate([np.array([[0, 0, 0], [far] * 3, [far, 0, far]]), cube(2, (15, 31, 47))]))
    return canonical({"empty": np.zeros((0, 3)), "single": [[5, 6, 7]], "full": cube(16),
                      "full, over windows": cube(16, (7, 9, 35))}[name])


CLOUDS = ("random", "dense", "surface", "batches", "corners", "empty", "single", "full", "full, over windows")
PAIRS = {"empty": 0, "single": 1, "full": 46 ** 3, "full, over windows": 46 ** 3, "corners": 3 + 64}


def brute_map(voxels: np.ndarray) -> np.ndarray:
    """(pairs, 3) by output row, then offset."""
    row = {tuple(voxel): at for at, voxel in enumerate(voxels.tolist())}
    pairs = []
    for out, (batch, x, y, z) in enumerate(voxels.tolist()):
        for k in range(27):
            near = (batch, x + k // 9 - 1, y + k // 3 % 3 - 1, z + k % 3 - 1)
            if near in row:
                pairs.append((out, k, row[near]))
    return np.array(pairs, np.int64).reshape(-1, 3)


def brute_windows(design: TableDesign, voxels: np.ndarray) -> list[tuple]:
    """What is sent, voxel by voxel: (query, place in the window, rank)."""
    sent, size = [], design.size
    steps = kernel_offsets(design.half).tolist()
    blocks: dict[tuple, list[int]] = {}
    for rank, (batch, *place) in enumerate(voxels.tolist()):
        blocks.setdefault((batch, *(each // size for each in place)), []).append(rank)
    row = {tuple(voxel): at for at, voxel in enumerate(voxels.tolist())}
    needed = {tuple(place) for step in [*steps, [0] * 3] for place in (cube(size) + 1 + step).tolist()}
    for (batch, *block), ranks in sorted(blocks.items(), key=lambda item: item[1]):
        corner = [each * size - 1 for each in block]
        stored = [(row.get((batch, *(a + b for a, b in zip(corner, place, strict=True)))), *place) for place in needed]
        sent += [(False, *place, rank) for rank, *place in sorted(each for each in stored if each[0] is not None)]
        sent += [(True, *(voxels[rank, 1:] - corner), rank) for rank in ranks]
    return sent


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("unit", ["paper", "half"])
def test_map_of_a_cloud(unit: str, name: str, models: dict[str, StreamModel]) -> None:
    design, voxels = DESIGNS[unit], cloud(name)
    commands = windows(design, voxels)
    assert commands.queries == len(voxels) and int(commands.last.sum()) == 1 and commands.last[-1]
    wanted = brute_map(voxels)
    for stalls in (0.0, 0.4):
        run = check_table(design, models[unit], commands, stalls=stalls, seed=SEED)
        found = unpack_words(design, run.outputs["o"])
        pairs = table_pairs(found)
        assert np.array_equal(pairs, wanted[wanted[:, 1] < 13] if design.half else wanted)
        assert int(found["row_last"].sum()) == len(voxels) and np.flatnonzero(found["last"]).tolist() == [
            len(found["out"]) - 1]
        assert np.array_equal(found["out"][found["row_last"]], np.arange(len(voxels)))
        # Nothing leaves that says nothing.
        assert (found["mask"].any(axis=1) | found["row_last"] | found["last"]).all()
    if design.half:
        # With the mirror images and the centre it is the whole map.
        centre = np.repeat(np.arange(len(voxels))[:, None], 3, axis=1)
        centre[:, 1] = 13
        whole = np.concatenate([pairs, centre, np.stack([pairs[:, 2], 26 - pairs[:, 1], pairs[:, 0]], axis=1)])
        pairs = whole[np.lexsort((whole[:, 1], whole[:, 0]))]
        assert np.array_equal(pairs, wanted)
    assert len(pairs) == PAIRS.get(name, len(pairs)) and (len(pairs) > len(voxels) or name in ("empty", "single"))


@pytest.mark.parametrize("name", ["random", "batches", "corners", "full, over windows"])
@pytest.mark.parametrize("unit", DESIGNS)
def test_windows_have_what_their_queries_need(unit: str, name: str) -> None:
    design, voxels = DESIGNS[unit], cloud(name)
    voxels = voxels[::-(-len(voxels) // 400)]
    sent = windows(design, voxels)
    found = list(zip(sent.query.tolist(), sent.x.tolist(), sent.y.tolist(), sent.z.tolist(), sent.index.tolist(),
                     strict=True))
    assert found == brute_windows(design, voxels) and sent.mask.all()
    blocks = np.column_stack([voxels[:, 0], voxels[:, 1:] // design.size])
    assert int(sent.window.sum()) == len(np.unique(blocks, axis=0)) > 2


# Commands ------------------------------------------------------------------------------------------


def slow_words(design: TableDesign, commands: TableCommands) -> list[tuple]:
    """Pairs command by command: a dictionary that each window empties."""
    table: dict[tuple, int] = {}
    pairs = []
    for x, y, z, index, query, mask, window, _ in zip(*vars(commands).values(), strict=True):
        if mask and query:
            for k, step in enumerate(kernel_offsets(design.half)):
                near = tuple(np.array([x, y, z]) + step)
                if near in table:
                    pairs.append((int(index), k, table[near]))
        elif mask:
            table[x, y, z] = int(index)
        if window:
            table.clear()
    return pairs


@pytest.mark.parametrize("unit", DESIGNS)
def test_golden_finds_what_was_stored_before(unit: str) -> None:
    design, found = DESIGNS[unit], 0
    for fill in (0.1, 0.6):
        commands = random_commands(design, 3, SEED + 1, fill=fill)
        hits = table_hits(design, commands)
        row, k = np.nonzero(hits >= 0)
        asked = commands.index[commands.mask & commands.query]
        pairs = list(zip(asked[row].tolist(), k.tolist(), hits[row, k].tolist(), strict=True))
        assert pairs == slow_words(design, commands)
        found += len(pairs)
    assert found > 50


@pytest.mark.parametrize("unit", DESIGNS)
def test_any_commands_in_exact_cycles(unit: str, models: dict[str, StreamModel]) -> None:
    design, pairs, clearings = DESIGNS[unit], 0, 0
    for fill in (0.1, 0.3, 1.0):
        commands = random_commands(design, 30, SEED + 2, fill=fill)
        run = check_table(design, models[unit], commands)
        pairs += len(table_pairs(unpack_words(design, run.outputs["o"])))
        cycles = table_cycles(design, commands)
        clearings += cycles.clearings
        # Stores, queries and commands without a voxel, one after the other; then the words.
        idle = len(commands) - commands.queries
        assert cycles.total == idle + design.beats * commands.queries + design.rows * cycles.clearings
        assert int(run.cycles["o"][-1]) <= design.rows + cycles.total + 3
    assert pairs > 1000 and (clearings > 5 or design.epochs > 200)


@pytest.mark.parametrize("slow", ["i", "o", "both"])
@pytest.mark.parametrize("unit", DESIGNS)
def test_nothing_is_lost_under_stalls(unit: str, slow: str, models: dict[str, StreamModel]) -> None:
    stalls = {"i": 0.5, "o": 0.5} if slow == "both" else {slow: 0.9}
    commands = random_commands(DESIGNS[unit], 10, SEED + 3, fill=0.2)
    run = check_table(DESIGNS[unit], models[unit], commands, stalls=stalls, seed=SEED)
    assert len(run.outputs["o"]) > 100


def test_no_bank_has_more_to_do_than_cycles() -> None:
    """Loads of the banks, the reason for 8 and 4 cycles."""
    for half, loads in ((False, [1, 2, 2, 2, 4, 4, 4, 8]), (True, [0, 1, 1, 1, 2, 2, 2, 4])):
        design = TableDesign(half=half)
        words = table_words(design, windows(design, canonical(cube(16, (16, 16, 16)))))
        inner = np.flatnonzero(((np.argwhere(np.ones((16,) * 3)) % 15) != 0).all(axis=1))
        by_row = np.zeros((4096, 8), int)
        np.add.at(by_row, words.out, words.mask)
        full = by_row.sum(axis=1) == (13 if half else 27)
        assert full.sum() >= len(inner) and (np.sort(by_row[full], axis=1) == loads).all()
        assert max(loads) == design.beats
        # Each bank comes to its pairs by ascending offset.
        for bank in range(8):
            mine = words.mask[:, bank]
            step = np.diff(words.out[mine] * 27 + words.k[mine, bank])
            assert (step > 0).all()


def stores(places: np.ndarray, **flags: bool) -> TableCommands:
    """Stores (or, ``query=True``, queries) of places in the window."""
    count = len(places)
    given = {name: np.full(count, flags.get(name, name == "mask")) for name in ("query", "mask")}
    ends = {name: np.arange(count) == (count - 1 if flags.get(name) else -1) for name in ("window", "last")}
    return TableCommands(*np.asarray(places).T, np.arange(count), **given, **ends)


@pytest.mark.parametrize("unit", ["small", "half"])
def test_an_old_window_is_never_found(unit: str, models: dict[str, StreamModel]) -> None:
    """Windows that only ask, behind one that fills the table, at every distance past the wrap of the epochs."""
    design = DESIGNS[unit]
    every, inside = cube(design.size + 2), cube(design.size) + 1
    for distance in range(1, 2 * design.epochs + 3):
        fill = [stores(every, window=True)]
        gap = [stores(inside[:1], query=True, window=True)] * (distance - 1)
        ask = [stores(inside, query=True, window=True, last=True)]
        commands = join_commands(fill + gap + ask)
        run = check_table(design, models[unit], commands)
        found = unpack_words(design, run.outputs["o"])
        assert not found["mask"].any() and int(found["row_last"].sum()) == len(inside) + distance - 1
    full = check_table(design, models[unit], join_commands([stores(every), stores(inside, query=True, last=True)]))
    assert len(table_pairs(unpack_words(design, full.outputs["o"]))) == len(inside) * (13 if design.half else 27)


@pytest.mark.parametrize("unit", DESIGNS)
def test_reset_forgets_everything(unit: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[unit], models[unit]
    before = join_commands([stores(cube(design.size + 2)), stores(cube(design.size)[:9] + 1, query=True)])
    after = random_commands(design, 4, SEED + 4, fill=0.3)
    check_table(design, model, before)
    wanted = table_words(design, after)
    run = model.run({"i": pack_commands(design, after)}, {"o": len(wanted.out)}, resume=True, reset_at=[0]).check()
    compare_words(design, wanted, unpack_words(design, run.outputs["o"]))
    cycles = table_cycles(design, after, wanted)
    assert np.array_equal(run.cycles["o"], cycles.o + 1) and np.array_equal(run.cycles["i"], cycles.i + 1)
    # In the middle of anything, at any cycle; what had been taken is gone.
    compared = 0
    for at in range(design.rows, design.rows + 300, 23):
        compared += check_table_reset(design, model, after, at)
    assert compared > 10


def test_a_job_without_rows_has_an_end(models: dict[str, StreamModel]) -> None:
    design = DESIGNS["small"]
    place = np.ones((1, 3), int)
    jobs = [stores(place, mask=False, last=True), stores(place, mask=False, query=True, window=True, last=True),
            stores(place, last=True), stores(place, query=True, last=True)]
    found = unpack_words(design, check_table(design, models["small"], join_commands(jobs)).outputs["o"])
    assert found["last"].tolist() == [True, True, True, False, True]
    assert found["row_last"].tolist() == [False, False, False, False, True]
    # The last job asks in the window of the one before: a job's end is no window's end.
    assert found["mask"].sum() == 1 and table_pairs(found).tolist() == [[0, 13, 0]]


def test_busy_until_the_last_word_is_taken(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["small"], models["small"]
    commands = join_commands([stores(np.ones((1, 3), int)), stores(np.ones((1, 3), int), query=True, last=True)])
    held = model.run({"i": pack_commands(design, commands)}, {"o": 2}, stalls={"o": 1.0}, partial=True, timeout=100)
    assert held.ports["busy"] and not len(held.outputs["o"]) and "output o: 0 of 2 seen (valid high" in held.deadlock
    run = model.run({}, {"o": 2}, resume=True).check()
    assert not run.ports["busy"] and len(run.outputs["o"]) == 2


@pytest.mark.parametrize("option, value", [("epoch_bits", 0), ("epoch_bits", 17), ("size", 12), ("size", 1),
                                           ("index_bits", 2), ("half", 1)])
def test_what_a_table_cannot_be(option: str, value: int) -> None:
    with pytest.raises(BitkilnError, match=f"{option}.*got {value}"):
        TableDesign(**{option: value})
