# amaranth: UnusedElaboratable=no
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
from bitkiln.models.golden.dot import DotResult, dot, trace

from .batch import BatchModel, build_many, from_ints, pack_lanes, to_ints
from .block_check import BlockCheck, Segment, port_array
from .dot_check import FLAGS, CheckResult, Stimulus, _golden, stimuli

__all__ = ["check_pe", "check_pes", "lane_codes", "ordinary_words", "pe_block", "sum_of_sections"]

SWITCH_CYCLES = 20_000
SWITCH_CYCLES_FP32 = 2_000  # the golden model steps through float32 sums one by one
ISOLATION_CYCLES = 512
BLOCK_PAIRS = 4000          # random pairs of each mode in `pe_block`; `check_pe` takes all where they are few
SPECIAL_EVENTS = ("nan", "inf_pos", "inf_neg")


@dataclass(frozen=True)
class _Run:
    """Inputs of one run from power-up, one row for each cycle."""

    words: tuple[np.ndarray, np.ndarray]   # a, w
    mode: np.ndarray
    en: np.ndarray
    clear: np.ndarray
    last: np.ndarray
    shift: np.ndarray
    i: np.ndarray                          # Python ints

    def ports(self, design: MorphableDesign, drain: bool) -> dict[str, np.ndarray]:
        ports = {"a": self.words[0], "w": self.words[1], "mode": self.mode, "en": self.en, "clear": self.clear}
        if drain:
            ports |= {"last": self.last, "shift": self.shift, "i": port_array(self.i, result_layout(design).size)}
        return ports


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
    component = MorphablePe(design, drain)
    model = BatchModel(component) if model is None else model
    check, lanes = pe_block(component), np.array([mode.lanes for mode in design.modes])
    parts: dict[str, int] = {}
    found: list[str] = []
    mismatches = multiplied = 0
    for part, segment in pe_segments(design, seed, pairs, drain):
        wrong = check.wrong(model, segment)
        parts[part] = parts.get(part, 0) + segment.rows
        multiplied += int(((segment.inputs["en"] & ~segment.inputs["clear"]) * lanes[segment.inputs["mode"]]).sum())
        if wrong.any():
            mismatches += int(wrong.sum())
            row = int(np.flatnonzero(wrong)[0])
            found.append(f"{part}, row {row}: {check.row(model, segment, row)}")
    rng = np.random.default_rng(seed)
    for mode in design.modes if design.accumulator.kind != "fp32" else ():
        rows, wrong_rows = _isolation(design, model, mode, rng, drain)
        parts["lane isolation"] = parts.get("lane isolation", 0) + rows
        if wrong_rows:
            mismatches += wrong_rows
            found.append(f"{mode.name}: a lane's operands move more than its share")
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


def _sections(design: MorphableDesign, mode: Mode, codes: list[np.ndarray], en: np.ndarray, clear: np.ndarray,
              pipeline: int) -> DotResult:
    """`trace` with the sums of a mode's lanes in their sections, as the ``acc`` port has them, unsigned."""
    dot_design, sections = design.dot(mode).with_options(pipeline=pipeline), design.sections(mode)
    result = _golden(dot_design, Stimulus("", *codes, en, clear))
    width = 32 if design.accumulator.kind == "fp32" else design.accumulator_bits
    if len(sections) == 1:
        acc = result.acc.astype(object) % (1 << width)
    else:
        # A cycle with a NaN or an infinity in any lane adds nothing in any other.
        each = dot(dot_design, *(lanes[:, None] for lanes in codes))
        ordinary = en & ~(each.nan | each.inf_pos | each.inf_neg)
        one = dot_design.with_options(lanes=1)
        acc = np.zeros(len(en), object)
        for lane, (start, end) in enumerate(zip(sections, [*sections[1:], width], strict=True)):
            share = trace(one, *(lanes[:, lane:lane + 1] for lanes in codes), ordinary, clear).acc
            acc += share.astype(object) % (1 << (end - start)) << start
    return DotResult(acc, *(getattr(result, flag) for flag in FLAGS), None)


def _rows(result: DotResult, rows: np.ndarray) -> DotResult:
    return DotResult(result.acc[rows], *(getattr(result, flag)[rows] for flag in FLAGS), None)


def _states(design: MorphableDesign, mode: Mode, run: _Run) -> tuple[DotResult, DotResult]:
    """What accumulator and flags of a PE that stays in one mode show after edge t, and what the sum with word t is;
    without the pipeline's delay."""
    en, last = run.en & ~run.clear & (run.mode == design.index(mode)), run.last
    # A sum that ends is a clear between two cycles.
    at = np.arange(len(en)) + np.cumsum(last) - last
    length = len(en) + int(last.sum())
    codes = []
    for words, fmt in zip(run.words, (mode.activation, mode.weight), strict=True):
        full = np.zeros((length, mode.lanes), np.int64)
        full[at] = lane_codes(words, fmt, mode.lanes)
        codes.append(full)
    enable, restart = np.zeros(length, bool), np.ones(length, bool)
    enable[at], restart[at] = en, run.clear
    result = _sections(design, mode, codes, enable, restart, 0)
    return _rows(result, at + last), _rows(result, at)


# Vectors ------------------------------------------------------------------------------------------


def pe_block(component: MorphablePe, seed: int = 1, pairs: str | int = BLOCK_PAIRS) -> BlockCheck:
    """All vectors of a PE (`pe_segments`) as the check of one block."""
    design, drain = component.design, component.drain

    def segments() -> Iterator[Segment]:
        yield from (segment for _, segment in pe_segments(design, seed, pairs, drain))

    def view(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return outputs | {"o": _seen(design, outputs["o"])} if drain else outputs

    return BlockCheck("switchable pe", False, segments, view)


def pe_segments(design: MorphableDesign, seed: int, pairs: str | int, drain: bool) -> Iterator[tuple[str, Segment]]:
    """Runs from power-up with what every port must be, section by section of ``acc``, and their names."""
    idle = {"last": 0, "shift": 0, "i": 0} if drain else {}
    for mode in design.modes:
        dot_design = design.dot(mode).with_options(pipeline=design.pipeline)
        for stimulus in stimuli(dot_design, seed=seed, pairs=pairs):
            inputs = {**stimulus.ports(dot_design), "mode": design.index(mode), **idle}
            result = _sections(design, mode, [stimulus.a, stimulus.w], stimulus.en, stimulus.clear, design.pipeline)
            yield f"{mode.name}: {stimulus.part}", Segment(inputs, _state_ports(design, result), design.latency - 1)
    for run in _switching(design, np.random.default_rng(seed), drain):
        yield "mode switches", _switched(design, run, drain)


def _state_ports(design: MorphableDesign, result: DotResult) -> dict[str, np.ndarray]:
    """Accumulator and flags as a batch model returns them."""
    width = design.accumulator_bits
    if design.accumulator.kind == "fp32":
        acc = result.acc.astype(np.int64)
    elif width > 64:
        acc = from_ints(result.acc.tolist(), width)
    else:
        acc = np.where(result.acc >> (width - 1), result.acc - (1 << width), result.acc).astype(np.int64)
    return {"acc": acc, **{flag: getattr(result, flag) for flag in design.flags}}


def _result_words(design: MorphableDesign, result: DotResult) -> np.ndarray:
    """Drained results as Python ints."""
    layout = result_layout(design)
    words = result.acc.astype(object)
    for flag in design.flags:
        words = words | getattr(result, flag).astype(object) << layout[flag].offset
    return words


def _seen(design: MorphableDesign, words: np.ndarray) -> np.ndarray:
    """The result register's port as limbs; 0 where its sum is arbitrary, for it has a NaN or an infinity."""
    layout = result_layout(design)
    limbs = words if words.ndim == 2 else words.astype("<u8")[:, None].view("<u4")
    special = np.zeros(len(limbs), bool)
    for flag in set(SPECIAL_EVENTS) & set(design.flags):
        limb, bit = divmod(layout[flag].offset, 32)
        special |= (limbs[:, limb] >> bit & 1).astype(bool)
    flags_alone = from_ints([(1 << layout.size) - (1 << layout["acc"].width)], 32 * limbs.shape[1])
    return np.where(special[:, None], limbs & flags_alone, limbs)


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
        shift, i = rng.random(length) < 0.1, np.zeros(length, object)
        if drain:
            size = result_layout(design).size
            i[:] = [int.from_bytes(rng.bytes(64), "little") % (1 << size) for _ in range(length)]
        # What the result register powers up with is shifted out before the first comparison.
        shift[:design.latency] = True
        yield _Run((words[0], words[1]), applied, en, clear, last, shift, i)


def _owners(run: _Run) -> np.ndarray:
    """Mode of the sum that each cycle shows: that of its words. A clear belongs to the sum before it."""
    owner = np.where(run.en & ~run.clear, run.mode, -1)
    start = np.concatenate([[True], (run.clear | run.last)[:-1]])
    group = np.cumsum(start)
    known = np.zeros(group[-1] + 1, np.int64)
    known[group[owner >= 0]] = owner[owner >= 0]
    return known[group]


def _switched(design: MorphableDesign, run: _Run, drain: bool) -> Segment:
    length, delay = len(run.mode), design.pipeline
    owner = _owners(run)
    none = np.zeros(length, bool)
    state, ended = (DotResult(np.zeros(length, object), *(none.copy() for _ in FLAGS), None) for _ in range(2))
    for index, mode in enumerate(design.modes):
        mine = owner == index
        for whole, part in zip((state, ended), _states(design, mode, run), strict=True):
            for name in ("acc", *FLAGS):
                getattr(whole, name)[mine] = getattr(part, name)[mine]
    expected = {name: np.roll(value, delay, axis=0) for name, value in _state_ports(design, state).items()}
    if drain:
        finished = np.roll(run.last, delay)
        finished[:delay] = False
        taken = np.where(finished, np.roll(_result_words(design, ended), delay), run.i)
        held = np.maximum.accumulate(np.where(finished | run.shift, np.arange(length), 0))
        size = result_layout(design).size
        expected["o"] = _seen(design, port_array(taken[held], size))
    return Segment(run.ports(design, drain), expected, delay)


def _isolation(design: MorphableDesign, model: BatchModel, mode: Mode, rng: np.random.Generator,
               drain: bool) -> tuple[int, int]:
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
        return model.run(_Run(padded, index, en, clear, none, none, index * 0).ports(design, drain), ["acc"])["acc"]

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
    return rows, wrong
