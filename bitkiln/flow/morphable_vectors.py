"""Test vectors of a switchable PE from the golden model of its modes."""

from __future__ import annotations

import numpy as np

from ..models.design import DotDesign, Mode, MorphableDesign
from ..models.formats import Special
from ..models.golden.dot import DotResult, trace
from .dot_vectors import operands
from .vectors import Vectors

__all__ = ["morphable_vectors"]

LONGEST = 48      # cycles of one sum


def morphable_vectors(design: MorphableDesign, cycles: int, seed: int) -> Vectors:
    """Random sums, each in one mode, with corner cases and idle cycles; ``clear`` is held first, as a reset.

    Parameters
    ----------
    design : MorphableDesign
    cycles : int
        Clock cycles.
    seed : int
    """
    random = np.random.default_rng(seed)
    en = random.random(cycles) < 0.85
    clear, owner = _sums(design, cycles, random)
    # What an idle cycle's mode is must not matter.
    mode = np.where(en & ~clear, owner, random.integers(0, len(design.modes), cycles))
    words = {"a": np.zeros(cycles, np.int64), "w": np.zeros(cycles, np.int64)}
    acc = np.zeros(cycles, object)
    flags = {flag: np.zeros(cycles, np.int64) for flag in design.flags}
    for index, one in enumerate(design.modes):
        codes = [operands(fmt, (cycles, one.lanes), random) for fmt in (one.activation, one.weight)]
        active, mine = en & ~clear & (owner == index), owner == index
        for name, lanes, fmt in zip(("a", "w"), codes, (one.activation, one.weight), strict=True):
            shifts = np.arange(one.lanes, dtype=np.int64) * fmt.bits
            packed = (lanes.astype(np.int64) << shifts).sum(axis=1)
            words[name] = np.where(mode == index, packed, words[name])
        result = trace(design.dot(one), *codes, active, clear)
        acc[mine] = _port(design, one, result, codes, active, clear)[mine]
        for flag in design.flags:
            flags[flag][mine] = getattr(result, flag)[mine]

    def late(values: np.ndarray) -> list[int]:
        return [0] * design.pipeline + [int(value) for value in values[:cycles - design.pipeline]]

    inputs = {**words, "mode": mode, "en": en, "clear": clear}
    return Vectors({name: [int(value) for value in values] for name, values in inputs.items()},
                   {"acc": late(acc), **{flag: late(values) for flag, values in flags.items()}})


def _sums(design: MorphableDesign, cycles: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``clear``, and the mode of the sum that each cycle belongs to; a sum begins with its clear."""
    clear, owner = np.zeros(cycles, bool), np.zeros(cycles, np.int64)
    clear[: design.latency] = True
    at = 0
    while at < cycles:
        index = int(random.integers(len(design.modes)))
        lanes = design.modes[index].lanes
        # No longer than the accumulator promises to hold.
        most = max(1, min(LONGEST, design.accumulator.depth // lanes))
        end = at + 1 + int(random.integers(1, most + 1)) + (design.latency if at == 0 else 0)
        clear[at], owner[at:end] = True, index
        at = end
    return clear, owner


def _port(design: MorphableDesign, mode: Mode, result: DotResult, codes: list[np.ndarray], active: np.ndarray,
          clear: np.ndarray) -> np.ndarray:
    """Value of ``acc``: the sum, or the sums of single lanes side by side."""
    sections = design.sections(mode)
    if len(sections) == 1 or design.accumulator.kind != "exact":
        return np.array([int(value) for value in result.acc], object)
    # A cycle with a special product adds nothing in any lane.
    special = np.zeros(len(active), bool)
    for fmt, part in zip((mode.activation, mode.weight), codes, strict=True):
        special |= np.isin(fmt.unpack(part).special, (Special.NAN, Special.INF)).any(axis=1)
    total = np.zeros(len(active), object)
    ends = [*sections[1:], design.accumulator_bits]
    for lane, (start, end) in enumerate(zip(sections, ends, strict=True)):
        single = DotDesign(mode.activation, mode.weight, lanes=1, accumulator=design.accumulator)
        sums = trace(single, *(part[:, lane:lane + 1] for part in codes), active & ~special, clear).acc
        total += np.array([(int(value) & ((1 << (end - start)) - 1)) << start for value in sums], object)
    half = 1 << (design.accumulator_bits - 1)
    return np.array([int(value) - 2 * half if int(value) >= half else int(value) for value in total], object)
