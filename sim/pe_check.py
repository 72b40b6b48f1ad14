"""Switchable PEs against the golden model of their modes through the batch simulator.

In each mode a PE must be the dot unit of that mode: the stimuli of `dot_check` run unchanged, all pairs of codes in
every lane where they have at most 8 bits. On top of that come mode switches, results that leave through the result
register, and that a lane's operands move nothing but that lane's share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bitkiln.hw.mac.morphable import MorphablePe, result_layout
from bitkiln.models.design import DotDesign
from bitkiln.models.design.morphable import WORD_BITS, Mode, MorphableDesign
from bitkiln.models.formats import Format, Special
from bitkiln.models.golden.dot import DotResult, trace

from .batch import BatchModel, build_many, from_ints, pack_lanes, to_ints
from .dot_check import FLAGS, CheckResult, _golden, stimuli

__all__ = ["check_pe", "check_pes", "lane_codes", "ordinary_words", "pe_golden", "sum_of_sections"]

SWITCH_CYCLES = 20_000
SWITCH_CYCLES_FP32 = 2_000  # the golden model steps through float32 sums one by one
ISOLATION_CYCLES = 512
SPECIAL_EVENTS = ("nan", "inf_pos", "inf_neg")


@dataclass(frozen=True)
class _Run:
    """Inputs of one run from power-up, one row for each cycle."""

    words: tuple[np.ndarray, np.ndarray]   # a, w
    mode: np.ndarray
    en: np.ndarray
    clear: np.ndarray
    last: np.ndarray

    def ports(self, drain: bool) -> dict[str, np.ndarray | int]:
        ports = {"a": self.words[0], "w": self.words[1], "mode": self.mode, "en": self.en, "clear": self.clear}
        return {**ports, "last": self.last, "shift": 0, "i": 0} if drain else ports


def check_pe(design: MorphableDesign, *, seed: int = 1, pairs: str | int = "auto", drain: bool = False,
             model: BatchModel | None = None) -> CheckResult:
    """Compare a PE's RTL with the golden model, bit for bit after every clock edge.

    Parameters
    ----------
    design : MorphableDesign
    seed : int
    pairs : "auto" or int
        As in `dot_check.check_dot`, for each mode.
    drain : bool
        The PE with a result register.
    model : BatchModel, optional
        The PE, where it is built already, or another netlist of the same ports.
    """
    started = time.perf_counter()
    model = BatchModel(MorphablePe(design, drain)) if model is None else model
    rng = np.random.default_rng(seed)
    parts: dict[str, int] = {}
    found: list[str] = []
    mismatches = multiplied = 0

    def note(part: str, rows: int, wrong: int, description: str | None) -> None:
        nonlocal mismatches
        parts[part] = parts.get(part, 0) + rows
        mismatches += wrong
        found.extend([description] if description else [])

    for mode in design.modes:
        for part, rows, products, wrong, description in _single_mode(design, model, mode, seed, pairs, drain):
            multiplied += products
            note(part, rows, wrong, description)
        if design.accumulator.kind != "fp32":
            note("lane isolation", *_isolation(design, model, mode, rng, drain))
    for run in _switching(design, rng, drain):
        wrong, description = _compare(design, model, run, drain)
        note("mode switches", len(run.mode), wrong, description)
    exhaustive = pairs == "auto" and all(mode.activation.bits <= 8 for mode in design.modes)
    return CheckResult(model.top, seed, sum(parts.values()), multiplied, exhaustive, mismatches,
                       found[0] if found else None, parts, time.perf_counter() - started)


def check_pes(designs: list[MorphableDesign], *, seed: int = 1, pairs: str | int = "auto",
              drain: bool = False) -> list[CheckResult]:
    """`check_pe` of many designs whose models are compiled side by side first."""
    models = build_many([MorphablePe(design, drain) for design in designs])
    return [check_pe(design, seed=seed, pairs=pairs, drain=drain, model=model)
            for design, model in zip(designs, models, strict=True)]


# Words and sums ----------------------------------------------------------------------------------


def lane_codes(words: np.ndarray, fmt: Format, lanes: int) -> np.ndarray:
    """``(..., lanes)`` codes of operand words."""
    shifts = np.arange(lanes, dtype=np.int64) * fmt.bits
    return (np.asarray(words).astype(np.int64)[..., None] >> shifts) & ((1 << fmt.bits) - 1)


def ordinary_words(rng: np.random.Generator, mode: Mode, count: int, calm: np.ndarray | bool,
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Random operand words; where ``calm`` is true without NaN, infinities and illegal codes."""
    words = []
    for fmt in (mode.activation, mode.weight):
        codes = rng.integers(0, 1 << fmt.bits, (count, mode.lanes))
        special = fmt.unpack(codes).special != Special.NONE
        codes = np.where(special & np.broadcast_to(calm, count)[:, None], 0, codes)
        words.append(pack_lanes(codes, fmt.bits).astype(np.int64))
    return words[0], words[1]


def sum_of_sections(design: MorphableDesign, mode: Mode, acc: np.ndarray) -> np.ndarray:
    """Sums of a mode from values of the ``acc`` port: int64 up to 62 bits, else Python ints; codes for fp32."""
    if design.accumulator.kind == "fp32":
        return acc.astype(np.int64)
    sections = design.sections(mode)
    width = design.accumulator_bits
    if len(sections) == 1 and acc.ndim == 1:
        return acc.astype(np.int64)
    ends = [*sections[1:], width]
    fields = [_field(acc, start, end) for start, end in zip(sections, ends, strict=True)]
    return sum(fields[1:], start=fields[0])


def _field(acc: np.ndarray, start: int, end: int) -> np.ndarray:
    width = end - start
    if width > 62:
        values = to_ints(acc, 32 * acc.shape[1] if acc.ndim == 2 else 64)
        half, full = 1 << (width - 1), 1 << width
        values = np.array([(int(value) >> start) % full for value in values], dtype=object)
        return np.where(values >= half, values - full, values)
    limbs = acc if acc.ndim == 2 else np.stack([acc.astype(np.uint64) & np.uint64(0xFFFFFFFF),
                                                acc.astype(np.uint64) >> np.uint64(32)], axis=1)
    value = np.zeros(len(acc), np.uint64)
    for at in range(start // 32, (end - 1) // 32 + 1):
        limb, move = limbs[:, at].astype(np.uint64), 32 * at - start
        value |= limb << np.uint64(move) if move >= 0 else limb >> np.uint64(-move)
    return (value << np.uint64(64 - width)).astype(np.int64) >> (64 - width)


def pe_golden(design: MorphableDesign, mode: Mode, a: np.ndarray, w: np.ndarray, en: np.ndarray, clear: np.ndarray,
              last: np.ndarray) -> tuple[DotResult, DotResult]:
    """State and ended sums of a PE that stays in one mode, from operand words, without the pipeline's delay.

    Returns
    -------
    (DotResult, DotResult)
        What the accumulator and its flags show after edge t, and what the sum with word t is.
    """
    dot = design.dot(mode)
    # A sum that ends is a clear between two cycles.
    at = np.arange(len(en)) + np.cumsum(last) - last
    length = len(en) + int(last.sum())
    codes = []
    for words, fmt in ((a, mode.activation), (w, mode.weight)):
        full = np.zeros((length, mode.lanes), np.int64)
        full[at] = lane_codes(words, fmt, mode.lanes)
        codes.append(full)
    enable, restart = np.zeros(length, bool), np.ones(length, bool)
    enable[at], restart[at] = en, clear
    result = trace(dot, *codes, enable, restart)
    return _rows(result, at + last), _rows(result, at)


def _rows(result: DotResult, rows: np.ndarray) -> DotResult:
    return DotResult(result.acc[rows], *(getattr(result, flag)[rows] for flag in FLAGS), None)


# Parts of the check ------------------------------------------------------------------------------


def _single_mode(design: MorphableDesign, model: BatchModel, mode: Mode, seed: int, pairs: str | int, drain: bool,
                 ) -> Iterator[tuple[str, int, int, int, str | None]]:
    dot = design.dot(mode).with_options(pipeline=design.pipeline)
    idle = {"last": 0, "shift": 0, "i": 0} if drain else {}
    for stimulus in stimuli(dot, seed=seed, pairs=pairs):
        ports = stimulus.ports(dot)
        outputs = model.run({**ports, "mode": design.index(mode), **idle})
        golden = _golden(dot, stimulus)
        wrong = _differences(design, mode, outputs, golden)
        wrong[:design.latency - 1] = False
        text = None
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            source = max(0, row - design.pipeline)
            text = (f"{mode.name}, {stimulus.part}, cycle {row}: acc "
                    f"{int(sum_of_sections(design, mode, outputs['acc'][row:row + 1])[0])}, expected "
                    f"{int(golden.acc[row])}, with a {stimulus.a[source].tolist()} w {stimulus.w[source].tolist()}")
        products = int((stimulus.en & ~stimulus.clear).sum()) * mode.lanes
        yield f"{mode.name}: {stimulus.part}", len(wrong), products, int(wrong.sum()), text


def _differences(design: MorphableDesign, mode: Mode, outputs: dict[str, np.ndarray], golden: DotResult) -> np.ndarray:
    """Rows in which a port differs; a flag that the mode cannot raise must stay down."""
    acc = outputs["acc"]
    if len(design.sections(mode)) == 1 and acc.ndim == 2:
        wrong = (acc != from_ints(golden.acc.tolist(), design.accumulator_bits)).any(axis=1)
    else:
        wrong = np.asarray(sum_of_sections(design, mode, acc) != golden.acc.astype(
            np.int64 if acc.ndim == 1 else golden.acc.dtype), bool)
    for flag in design.flags:
        wrong |= outputs[flag].astype(bool) != getattr(golden, flag)
    return wrong


def _switching(design: MorphableDesign, rng: np.random.Generator, drain: bool) -> Iterator[_Run]:
    """Modes that change every few cycles, then every second cycle. Each sum starts with a clear (or after ``last``);
    cycles without ``en`` have any mode and operands."""
    fp32 = design.accumulator.kind == "fp32"
    length = SWITCH_CYCLES_FP32 if fp32 else SWITCH_CYCLES
    for longest in (6, 1):
        mode, sums = np.zeros(length, np.int64), np.zeros(length, np.int64)
        en, clear, last = rng.random(length) < 0.7, np.zeros(length, bool), np.zeros(length, bool)
        clear[:design.latency] = True
        at, count = design.latency, 0
        while at < length:
            cycles = int(rng.integers(1, longest + 1))
            end = min(at + cycles, length)
            mode[at:end] = rng.integers(len(design.modes))
            sums[at:end] = count
            if drain and rng.random() < 0.8 and end - at == cycles:
                last[end - 1] = en[end - 1] = True
            elif end < length:
                clear[end] = True
                sums[end] = count
                end += 1
            at, count = end, count + 1
        any_mode = rng.integers(0, len(design.modes), length)
        calm = rng.random(count + 1)[sums] < 0.7
        applied = np.where(en & ~clear, mode, any_mode)
        words = [rng.integers(0, 1 << WORD_BITS, length) for _ in range(2)]
        for index, one in enumerate(design.modes):
            rows = np.flatnonzero(applied == index)
            for role, drawn in enumerate(ordinary_words(rng, one, len(rows), calm[rows])):
                words[role][rows] = drawn
        yield _Run((words[0], words[1]), applied, en, clear, last)


def _owners(run: _Run) -> np.ndarray:
    """Mode of the sum that each cycle shows: that of its words. A clear belongs to the sum before it."""
    owner = np.where(run.en & ~run.clear, run.mode, -1)
    start = np.concatenate([[True], (run.clear | run.last)[:-1]])
    group = np.cumsum(start)
    known = np.zeros(group[-1] + 1, np.int64)
    known[group[owner >= 0]] = owner[owner >= 0]
    return known[group]


def _compare(design: MorphableDesign, model: BatchModel, run: _Run, drain: bool) -> tuple[int, str | None]:
    outputs = model.run(run.ports(drain))
    delay = design.pipeline
    owner = _owners(run)
    wrong = np.zeros(len(run.mode), bool)
    layout = result_layout(design)
    for index, mode in enumerate(design.modes):
        mine = run.en & ~run.clear & (run.mode == index)
        state, ended = pe_golden(design, mode, run.words[0], run.words[1], mine, run.clear, run.last)
        rows = np.flatnonzero(owner == index)
        rows = rows[rows + delay < len(wrong)]
        seen = {name: value[rows + delay] for name, value in outputs.items()}
        wrong[rows] |= _differences(design, mode, seen, _rows(state, rows))
        if drain:
            rows = rows[run.last[rows]]
            words = outputs["o"][rows + delay]
            expected = _rows(ended, rows)
            special = np.zeros(len(rows), bool)
            for flag in design.flags:
                field = layout[flag]
                got = _field(words, field.offset, field.offset + 1) != 0
                wrong[rows] |= got != getattr(expected, flag)
                special |= getattr(expected, flag) & (flag in SPECIAL_EVENTS)
            acc = _field(words, 0, 32) & 0xFFFFFFFF if design.accumulator.kind == "fp32" else \
                _low(words, design.accumulator_bits)
            got = sum_of_sections(design, mode, acc)
            wrong[rows] |= np.asarray(got != expected.acc, bool) & ~special
    if not wrong.any():
        return 0, None
    row = int(np.flatnonzero(wrong)[0])
    return int(wrong.sum()), f"mode switches, cycle {row}, mode {design.modes[owner[row]].name}"


def _low(words: np.ndarray, width: int) -> np.ndarray:
    """The low bits of a port, in the form of a signed port of that width."""
    if width <= 64:
        return _field(words, 0, width) if width <= 62 else np.array(
            [int(v) - ((int(v) >> (width - 1)) << width) for v in _ints(words, width)], dtype=np.int64)
    return from_ints(_ints(words, width), width)


def _ints(words: np.ndarray, width: int) -> list[int]:
    return [int(value) % (1 << width) for value in to_ints(words, 32 * words.shape[-1])]


def _isolation(design: MorphableDesign, model: BatchModel, mode: Mode, rng: np.random.Generator,
               drain: bool) -> tuple[int, int, str | None]:
    """Other operands in one lane change the sum by the difference of that lane's products, and no other section."""
    cycles = max(1, min(ISOLATION_CYCLES, design.accumulator.depth // mode.lanes))
    length = cycles + 2 * design.latency
    body = slice(design.latency, design.latency + cycles)
    en, clear, none = np.zeros(length, bool), np.zeros(length, bool), np.zeros(length, bool)
    en[body], clear[:design.latency] = True, True
    index = np.full(length, design.index(mode))

    def run(words: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        padded = tuple(np.concatenate([np.zeros(design.latency, np.int64), word, np.zeros(design.latency, np.int64)])
                       for word in words)
        return model.run(_Run(padded, index, en, clear, none).ports(drain), ["acc"])["acc"]

    one = DotDesign(mode.activation, mode.weight, lanes=1, accumulator=design.accumulator)
    before = ordinary_words(rng, mode, cycles, True)
    first = run(before)
    sums = sum_of_sections(design, mode, first).astype(object)
    sections = design.sections(mode)
    rows = wrong = 0
    for lane in range(mode.lanes):
        other = ordinary_words(rng, mode, cycles, True)
        masks = [((1 << fmt.bits) - 1) << (lane * fmt.bits) for fmt in (mode.activation, mode.weight)]
        after = tuple((word & ~mask) | (new & mask) for word, new, mask in zip(before, other, masks, strict=True))
        second = run(after)
        contributions = []
        for words in (before, after):
            codes = [lane_codes(word, fmt, mode.lanes)[:, lane:lane + 1]
                     for word, fmt in zip(words, (mode.activation, mode.weight), strict=True)]
            contributions.append(trace(one, *codes, np.ones(cycles, bool), np.zeros(cycles, bool)).acc.astype(object))
        change = (sum_of_sections(design, mode, second).astype(object) - sums)[body.start + design.pipeline:][:cycles]
        differs = np.asarray(change - (contributions[1] - contributions[0]), object) != 0
        if len(sections) > 1:
            ends = [*sections[1:], design.accumulator_bits]
            for section, (start, end) in enumerate(zip(sections, ends, strict=True)):
                if section != lane:
                    moved = _field(first, start, end) != _field(second, start, end)
                    differs |= moved[body.start + design.pipeline:][:cycles]
        rows += length
        wrong += int(differs.sum())
    return rows, wrong, f"{mode.name}: a lane's operands move more than its share" if wrong else None
