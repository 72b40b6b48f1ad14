"""Voxels into an octree, what its memories hold, and the maps between two levels, against golden and event model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.lib import data

from bitkiln.hw.spconv.layouts import (
    item_layout,
    kept_layout,
    key_layout,
    node_write_layout,
    voxel_layout,
    word_layout,
)
from bitkiln.models.cost.spconv.octree import build_cycles, level_map_cycles
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import (
    ConvMap,
    Tree,
    build_tree,
    canonicalise,
    decode_keys,
    down2,
    generative2,
    inverse2,
)
from bitkiln.models.golden.spconv_cloud import encode_keys, inside

from .bitserial_check import bits_of, pack_bits
from .octree_path import FLAGS, ask_layout, job_layout
from .streams import StreamModel, StreamRun

__all__ = ["OPS", "Accepted", "accept", "check_build", "check_clear", "check_encoder", "check_maps", "check_memories",
           "clear", "fields_of", "held", "keys_of", "odd_voxels", "pack", "pack_voxels", "same", "swapped_pairs",
           "tree_of"]

OPS = {"down2": 0, "inverse2": 1, "generative2": 2}


# Packing -------------------------------------------------------------------------------------------


def pack(layout: data.StructLayout, **values: np.ndarray) -> np.ndarray:
    """Payloads of a layout's fields, 0 where none is given."""
    count = len(next(iter(values.values())))
    return pack_bits([(values.get(name, np.zeros(count, np.int64)), field.width) for name, field in layout])


def fields_of(layout: data.StructLayout, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of payloads, unsigned."""
    words = words if len(words) else np.zeros((0, -(-layout.size // 32)), np.uint32)
    return {name: bits_of(words, field.offset, field.width) for name, field in layout}


def pack_voxels(indices: np.ndarray, ends: bool = True) -> np.ndarray:
    """Items of ``i``: every row of ``indices``; a cloud without any has one that is none."""
    mask = np.ones(max(len(indices), 1), np.int64)
    if not len(indices):
        indices, mask[:] = np.zeros((1, 4), np.int64), 0
    last = (np.arange(len(mask)) == len(mask) - 1) & ends
    batch, x, y, z = np.asarray(indices, np.int64).T
    return pack(voxel_layout(), batch=batch, x=x, y=y, z=z, mask=mask, last=last)


def held(design: MapDesign, shape: tuple[int, int, int] | None = None, batches: int | None = None,
         strict: bool = False, clear: bool = False) -> dict[str, int]:
    """Plain inputs of `TreePath`; by default the whole grid."""
    sides = shape or (1 << design.depth,) * 3
    return {**dict(zip(("shape_x", "shape_y", "shape_z"), sides, strict=True)),
            "batches": design.batches if batches is None else batches, "strict": int(strict), "clear": int(clear)}


def keys_of(design: MapDesign, indices: np.ndarray, inputs: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Key of each row of ``indices`` (0 where out of range), and which are in range."""
    indices = np.asarray(indices, np.int64).reshape(-1, 4)
    good = inside(indices, tuple(inputs[f"shape_{axis}"] for axis in "xyz")) & (indices[:, 0] >= 0)
    good &= indices[:, 0] < inputs["batches"]
    keys = np.zeros(len(indices), np.int64)
    keys[good] = encode_keys(indices[good], design.depth)
    return keys, good


@dataclass(frozen=True)
class Accepted:
    """What becomes of each row.

    Attributes
    ----------
    keep : bool ndarray (rows,)
        It is a voxel of the cloud.
    flags : dict of str to bool
        The error, if there is one: no row is kept from that of the error on.
    duplicates : int
        Rows again, before the error.
    """

    keep: np.ndarray
    flags: dict[str, bool]
    duplicates: int


def accept(design: MapDesign, keys: np.ndarray, good: np.ndarray, strict: bool = False) -> Accepted:
    """Which rows are kept, one after the other as the hardware has them: not sorted."""
    keep, flags, duplicates = np.zeros(len(keys), bool), dict.fromkeys(FLAGS, False), 0
    before, counts = None, [0] * (design.depth + 1)
    for at, (key, mask) in enumerate(zip(keys.tolist(), good.tolist(), strict=True)):
        again = mask and before == key
        opened = [level for level in range(design.depth + 1)
                  if mask and (before is None or before >> 3 * level != key >> 3 * level)]
        if mask and before is not None and key < before:
            flags["unsorted"] = True
        elif any(counts[level] == design.held(level) for level in opened):
            flags["overflow"] = True
        elif strict and (again or not mask):
            flags["rejected"] = True
        duplicates += again
        if any(flags.values()):
            break
        for level in opened:
            counts[level] += 1
        keep[at] = bool(opened)
        before = key if mask else before
    return Accepted(keep, flags, duplicates)


# Checks --------------------------------------------------------------------------------------------


def same(where: str, found, wanted, note: str = "") -> None:
    """Raise where two arrays differ."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape == wanted.shape and (found == wanted).all():
        return
    if found.shape != wanted.shape:
        raise BitkilnError("RTL and golden model differ", where=where, got=f"{found.shape}",
                           expected=f"{wanted.shape}", help=note, exit_code=FAILED)
    at = tuple(int(each) for each in np.argwhere(found != wanted)[0])
    raise BitkilnError("RTL and golden model differ", where=f"{where}{list(at)}", got=found[at],
                       expected=str(wanted[at]), help=note, exit_code=FAILED)


@dataclass(frozen=True)
class Place:
    """Where the nodes of a level lie, in rank order."""

    walk: np.ndarray
    bank: np.ndarray
    row: np.ndarray


def places(design: MapDesign, tree: Tree, level: int) -> Place:
    """As MapDesign and the layouts define it."""
    keys = tree.levels[level]
    rank = np.arange(len(keys))
    walk = rank + (design.walk_base(level) if level > 1 else 0)
    if design.search == "compact":
        return Place(walk, rank % 8, design.compact_base(level) + rank // 8)
    if level == design.depth:
        bank, row = np.zeros(len(keys), np.int64), rank
    else:
        bank, row = keys & 7, np.searchsorted(tree.levels[level + 1], keys >> 3)
    return Place(walk, bank, row + (design.row_base(level) if level > 1 else 0))


def tree_of(design: MapDesign, indices: np.ndarray, inputs: dict[str, int] | None = None) -> Tree:
    """The tree of a cloud, from sorted keys."""
    keys, good = keys_of(design, indices, inputs or held(design))
    return build_tree(np.unique(keys[good]), design.depth)


def clear(model: StreamModel, inputs: dict[str, int]) -> None:
    """Forget the cloud."""
    model.run(held=inputs | {"clear": 1}, resume=True, drain=1)
    model.run(held=inputs, resume=True, drain=1)


def check_clear(design: MapDesign, model: StreamModel, indices: np.ndarray) -> None:
    """Voxels that come while ``clear`` is high wait for its end: all rows of a cloud without an error are kept."""
    items = pack_voxels(indices)
    early = model.run({"i": items}, held=held(design, clear=True), resume=True, limit=20, partial=True)
    same("voxels taken while clear is high", len(early.cycles["i"]), 1)
    run = model.run({"i": items[1:]}, {"o": len(items), "finished": 1}, held=held(design), resume=True).check()
    same("o.index", fields_of(kept_layout(design), run.outputs["o"])["index"], np.arange(len(items)))


def check_build(design: MapDesign, model: StreamModel, indices: np.ndarray, *, inputs: dict[str, int] | None = None,
                stalls: float | dict[str, float] = 0.0, seed: int = 0, **options) -> StreamRun:
    """Send a cloud; compare tokens, every write, the counters, the flags and (without stalls) every cycle.

    Parameters
    ----------
    indices : integer ndarray (rows, 4)
        Ascending by key where in range, else it is a cloud with an error.
    inputs : dict, optional
        As of `held`.
    options
        Of `StreamModel.run`: ``resume``.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    inputs, note = inputs or held(design), f"seed {seed}"
    keys, good = keys_of(design, indices, inputs)
    known = accept(design, keys, good, bool(inputs["strict"]))
    if not any(known.flags.values()):
        shape = tuple(inputs[f"shape_{axis}"] for axis in "xyz")
        cloud = canonicalise(np.asarray(indices).reshape(-1, 4), shape, inputs["batches"], depth=design.depth)
        same("kept rows", np.flatnonzero(known.keep), cloud.perm, note)
        same("duplicates", known.duplicates, cloud.duplicates, note)
    if not len(keys):
        keys, good = np.zeros(1, np.int64), np.zeros(1, bool)
        known = accept(design, keys, good)
    items, keep = len(keys), known.keep
    tree = build_tree(keys[keep], design.depth)
    run = model.run({"i": pack_voxels(indices)}, {"o": items, "finished": 1, "leaf": tree.counts[1],
                                                  "upper": sum(tree.counts[2:])},
                    held=inputs, stalls=stalls, seed=seed, **options).check()
    tokens = fields_of(kept_layout(design), run.outputs["o"])
    same("o.keep", tokens["keep"], keep, note)
    same("o.index", tokens["index"][keep], np.arange(keep.sum()), note)
    same("o.last", tokens["last"], np.arange(items) == items - 1, note)
    counts = [run.ports["counts"] >> design.count_bits * level & (1 << design.count_bits) - 1
              for level in range(design.depth + 1)]
    same("counts", counts, tree.counts, note)
    for name, wanted in {"dropped": len(indices) - good.sum(), "voxels": len(indices), "done": 1,
                         "duplicates": known.duplicates, **known.flags}.items():
        same(name, run.ports[name], wanted, note)
    _check_writes(design, tree, run, note)
    if not stalls and not any(known.flags.values()):
        cycles = build_cycles(design, keys, good)
        # A key is the builder's one cycle after it was a voxel.
        same("cycles of i", run.cycles["i"].astype(np.int64), _before(cycles.taken), note)
        same("cycles of o", run.cycles["o"].astype(np.int64), cycles.token + 1, note)
        same("cycle of done", run.cycles["finished"].astype(np.int64), [cycles.done + 1], note)
    return run


def odd_voxels(design: MapDesign, count: int, seed: int) -> np.ndarray:
    """Voxels in the grid, and as many one of whose numbers is negative or too large by any single bit of it."""
    rng = np.random.default_rng(seed)
    indices = np.concatenate([rng.integers(0, design.batches, (count, 1)),
                              rng.integers(0, 1 << design.depth, (count, 3))], axis=1)
    wild = indices.copy()
    at, bit = np.arange(count) % 4, np.arange(count) // 4 % 32
    own = np.where(at, design.depth, design.batch_bits)
    wild[np.arange(count), at] += np.where(bit == 31, -(1 << 31), 1 << np.maximum(bit, own))
    return np.concatenate([indices, wild])[rng.permutation(2 * count)]


def check_encoder(design: MapDesign, model: StreamModel, indices: np.ndarray, inputs: dict[str, int], *,
                  stalls: float | dict[str, float] = 0.0, seed: int = 0) -> np.ndarray:
    """Voxels through the encoder alone: keys, marks, counters and (without stalls) cycles; which are in range.

    Parameters
    ----------
    inputs : dict
        Plain inputs of `VoxelEncoder`.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    note, count = f"seed {seed}", len(indices)
    keys, good = keys_of(design, indices, inputs)
    # One voxel comes in, and its key is offered, where nobody takes it.
    stuck = model.run({"i": pack_voxels(indices)}, {"o": count}, held=inputs, stalls={"o": 1.0}, partial=True,
                      timeout=9)
    same("encoder takes", [len(stuck.cycles["i"]), "seen (valid high" in stuck.deadlock], [1, True], note)
    run = model.run({"i": pack_voxels(indices)}, {"o": count}, held=inputs, stalls=stalls, seed=seed).check()
    found = fields_of(key_layout(design), run.outputs["o"])
    for name, seen, wanted in (("mask", found["mask"], good), ("dropped", found["dropped"], ~good),
                               ("key", found["key"][good], keys[good]),
                               ("last", found["last"], np.arange(count) == count - 1),
                               ("count of voxels", run.ports["voxels"], count),
                               ("count of dropped", run.ports["dropped"], (~good).sum())):
        same(f"encoder {name}", seen, wanted, note)
    if not stalls:
        same("encoder cycles", run.cycles["o"].astype(int), np.arange(count) + 1, note)
    return good


def swapped_pairs(design: MapDesign) -> list[np.ndarray]:
    """Clouds of two voxels, the larger key first, that differ most in any one bit of the key."""
    found = []
    for bit in range(design.key_bits):
        for low in (0, (1 << bit) - 1):
            for high in (0, (1 << design.key_bits) - (2 << bit)):
                found.append(decode_keys(np.array([high | 1 << bit, high | low]), design.depth).astype(np.int64))
    return found


def _before(taken: np.ndarray) -> np.ndarray:
    """Cycles in which voxels are taken: each when the key before it leaves the encoder."""
    return np.concatenate([[0], taken[:-1] + 1])


def _check_writes(design: MapDesign, tree: Tree, run: StreamRun, note: str) -> None:
    """Each node once, at its place; nodes of a level in rank order."""
    for name, levels in (("leaf", [1]), ("upper", range(2, design.depth + 1))):
        found = fields_of(node_write_layout(design, leaf=name == "leaf"), run.outputs[name])
        order = np.argsort(found["walk"], kind="stable")
        wanted = [places(design, tree, level) for level in levels]
        for field in ("walk", "bank", "row"):
            parts = [getattr(place, field) for place in wanted] or [np.zeros(0, np.int64)]
            same(f"{name}.{field}", found[field][order], np.concatenate(parts), note)
        for field, values in (("mask", tree.masks), ("base", tree.bases)):
            parts = [values[level] for level in levels] or [np.zeros(0, np.int64)]
            same(f"{name}.{field}", found[field][order], np.concatenate(parts), note)


def check_memories(design: MapDesign, model: StreamModel, tree: Tree, *, stalls: float = 0.0, seed: int = 0) -> int:
    """Read every word of the search memories of the tree that was just built; returns how many."""
    asked, upper, wanted = [], [], []
    for level in range(1, design.depth + 1):
        place = places(design, tree, level)
        for row in np.unique(place.row):
            mine = np.flatnonzero(place.row == row)
            words = {int(place.bank[n]): (int(tree.masks[level][n]), int(tree.bases[level][n])) for n in mine}
            asked.append(int(row))
            upper.append(level > 1)
            wanted.append(words)
    if not asked:
        return 0
    rng = np.random.default_rng(seed)
    turn = rng.permutation(len(asked))
    layout = ask_layout(design)
    rows = np.repeat(np.array(asked, np.int64)[turn, None], 8, axis=1)
    items = pack_bits([(rows, layout["rows"].shape.elem_shape), (np.array(upper, np.int64)[turn], 1)])
    run = model.run({"ask": items}, {"answer": len(asked)}, resume=True, stalls=stalls, seed=seed).check()
    word, words = word_layout(design), 0
    for bank in range(8):
        found = {name: bits_of(run.outputs["answer"], bank * word.size + field.offset, field.width)
                 for name, field in word}
        for at, n in enumerate(turn):
            if bank in wanted[n]:
                words += 1
                same(f"word of row {asked[n]} in bank {bank}", [int(found["mask"][at]), int(found["base"][at])],
                      wanted[n][bank], f"seed {seed}")
    return words


def golden_map(op: str, keys: np.ndarray, depth: int) -> ConvMap:
    """The map of the keys of a level."""
    return down2(keys, depth) if op == "down2" else inverse2(keys) if op == "inverse2" else generative2(keys)


def check_maps(design: MapDesign, model: StreamModel, tree: Tree, jobs: list[tuple[str, int]], *,
               stalls: float | dict[str, float] = 0.0, seed: int = 0) -> int:
    """Maps (operator, level) of the tree that was just built; returns the number of pairs.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    wanted, counts = [], []
    for op, level in jobs:
        counts.append(tree.counts[level + (op != "generative2")])
        found = golden_map(op, tree.levels[level], design.depth - level)
        out, k, inp = (np.asarray(each) for each in (found.out, found.k, found.inp))
        ends = np.append(out[1:] != out[:-1], True)[:max(len(out), 1)]
        pair = np.ones(max(len(out), 1), bool)
        if not len(out):
            pair[:], ends[:], (out, k, inp) = False, False, [np.zeros(1, np.int64)] * 3
        last = np.arange(len(out)) == len(out) - 1
        wanted.append(np.stack([out, k, inp, np.full(len(out), level), pair, ends, last]))
    items = pack(job_layout(design), op=np.array([OPS[op] for op, _ in jobs]),
                 level=np.array([level for _, level in jobs]), count=np.array(counts))
    expected = np.concatenate(wanted, axis=1)
    run = model.run({"job": items}, {"item": expected.shape[1]}, resume=True, stalls=stalls, seed=seed).check()
    fields = fields_of(item_layout(design), run.outputs["item"])
    for name, values in zip(("out", "k", "in", "level", "pair", "row_last", "last"), expected, strict=True):
        rows = expected[4].astype(bool) if name in ("out", "k", "in") else np.ones(expected.shape[1], bool)
        same(f"item.{name}", fields[name][rows], values[rows], f"seed {seed}, {jobs}")
    if run.ports["busy"]:
        raise BitkilnError("still busy", where=f"{design.name} busy", got=1, expected="0", exit_code=FAILED)
    if not stalls:
        start, cycles = run.cycles["job"].astype(np.int64), []
        for at, part in enumerate(wanted):
            end = start[at] + level_map_cycles(part.shape[1])
            cycles += range(end - part.shape[1] + 1, end + 1)
            if at + 1 < len(start):
                same("cycle of the next job", start[at + 1], end + 1, f"seed {seed}")
        same("cycles of item", run.cycles["item"].astype(np.int64), cycles, f"seed {seed}")
    return int(expected[4].sum())
