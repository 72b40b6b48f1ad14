"""Windows of voxels through the voxel table at full simulation speed, against golden words and the cycle model."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from bitkiln.hw.spconv.layouts import command_layout, hits_layout
from bitkiln.hw.spconv.table import VoxelTable
from bitkiln.models.cost.spconv.map_baselines import table_cycles
from bitkiln.models.design.spconv import TableDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.voxel_table import TableCommands, TableWords, table_words

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["check_table", "check_table_reset", "compare_words", "join_commands", "pack_commands", "random_commands",
           "table_pairs", "unpack_words"]

BANKS = 8


def pack_commands(design: TableDesign, commands: TableCommands) -> np.ndarray:
    """Items of ``i``."""
    return pack_bits([(getattr(commands, name), field.width) for name, field in command_layout(design)])


def unpack_words(design: TableDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of ``o``; by bank (n, 8) where a word has eight."""
    found = {}
    for name, field in hits_layout(design):
        each = 1 if name in ("out", "row_last", "last") else BANKS
        width = field.width // each
        columns = [bits_of(words, field.offset + bank * width, width) for bank in range(each)]
        found[name] = np.stack(columns, axis=1) if each > 1 else columns[0]
    found["index"] = found.pop("in")
    return {name: values.astype(bool) if name in ("mask", "row_last", "last") else values
            for name, values in found.items()}


def table_pairs(words: TableWords | dict[str, np.ndarray]) -> np.ndarray:
    """(pairs, 3): output row, kernel offset, input row, by output row, then offset."""
    word = words if isinstance(words, dict) else vars(words)
    row, bank = np.nonzero(word["mask"])
    pairs = np.stack([word["out"][row], word["k"][row, bank], word["index"][row, bank]], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def join_commands(parts: list[TableCommands]) -> TableCommands:
    """One job after the other."""
    return TableCommands(*(np.concatenate([getattr(part, field.name) for part in parts])
                           for field in fields(TableCommands)))


def random_commands(design: TableDesign, jobs: int, seed: int, *, length: int = 40, fill: float = 0.5) -> TableCommands:
    """Anything the table may meet: places stored twice, queries before stores, windows and jobs that end anywhere.

    Parameters
    ----------
    length : int
        About so many commands a window.
    fill : float
        Places come from a corner of so much of the window's side: the smaller it is, the more neighbours there are.
    """
    rng = np.random.default_rng(seed)
    count = jobs * 4 * length
    query, mask = rng.random(count) < 0.4, rng.random(count) < 0.95
    corner = rng.random((count // length, 3)) < 0.5
    reach = max(int(design.size * fill), 2)
    place = rng.integers(0, reach + 1, (count, 3))
    place = np.where(corner[np.arange(count) // length], place, design.size + 1 - place)
    place = np.where(query[:, None], np.clip(place, 1, design.size), place)
    window = rng.random(count) < 1 / length
    last = window & (rng.random(count) < 0.25) | (rng.random(count) < 0.25 / length)
    last[-1] = True
    return TableCommands(*place.T, rng.integers(0, 1 << design.index_bits, count), query, mask, window, last)


def _differs(design: TableDesign, name: str, seen: np.ndarray, wanted: np.ndarray, note: str) -> None:
    if seen.shape == wanted.shape and np.array_equal(seen, wanted):
        return
    at = tuple(np.argwhere(seen != wanted)[0].tolist()) if seen.shape == wanted.shape else ()
    raise BitkilnError("RTL and model differ", where=f"{design.name} {name}{list(at)}",
                       got=str(seen[at] if at else seen.shape), expected=str(wanted[at] if at else wanted.shape),
                       help=note or None, exit_code=FAILED)


def compare_words(design: TableDesign, wanted: TableWords, found: dict[str, np.ndarray], note: str = "") -> None:
    """Raise where a field differs; offset and input row count only where there is a pair."""
    for name, seen in found.items():
        expected = getattr(wanted, name)
        if name in ("k", "index") and seen.shape == expected.shape:
            seen = np.where(wanted.mask, seen, -1)
        _differs(design, name, seen, expected, note)


def check_table(design: TableDesign, model: StreamModel | None, commands: TableCommands, *,
                stalls: dict[str, float] | float = 0.0, seed: int = 0) -> StreamRun:
    """Run commands from power-up; compare every word and, without stalls, every cycle.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(VoxelTable(design)) if model is None else model
    wanted, note = table_words(design, commands), f"seed {seed}"
    run = model.run({"i": pack_commands(design, commands)}, {"o": len(wanted.out)}, stalls=stalls, seed=seed,
                    timeout=design.rows + 1000).check()
    compare_words(design, wanted, unpack_words(design, run.outputs["o"]), note)
    if not stalls:
        cycles = table_cycles(design, commands, wanted)
        for name in ("i", "o"):
            _differs(design, f"cycles of {name}", run.cycles[name].astype(np.int64), getattr(cycles, name), note)
    if run.ports["busy"]:
        raise BitkilnError("busy without work", where=f"{design.name} busy", help=note, exit_code=FAILED)
    return run


def check_table_reset(design: TableDesign, model: StreamModel, commands: TableCommands, at: int) -> bool:
    """A reset in cycle ``at``, under stalls: the commands taken before are gone, those after it get their words.

    Returns whether there were both.
    """
    run = model.run({"i": pack_commands(design, commands)}, None, stalls=0.3, seed=at, reset_at=[at],
                    drain=design.rows + 100).check()
    taken = int((run.cycles["i"] < at).sum())
    rest = TableCommands(*(each[taken:] for each in vars(commands).values()))
    found = unpack_words(design, run.outputs["o"][run.cycles["o"] > at])
    compare_words(design, table_words(design, rest), found, f"reset at {at}")
    return taken > 0 and len(found["out"]) > 0
