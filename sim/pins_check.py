# amaranth: UnusedElaboratable=no
"""A PE behind pins against the golden model: words in, every byte of every result out.

`steps` are what a host does, with what it must read after each; `edges` are the pins for it, one row for each clock
edge. The files of a Tiny Tapeout project hold the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bitkiln.models.design import DotDesign
from bitkiln.models.design.pins import CLEAR_PIN, EN_PIN, PORT, PinsDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format
from bitkiln.models.golden.dot import trace

from .batch import BatchModel
from .block_check import BlockCheck, Segment
from .dot_check import extreme_codes

__all__ = ["Edges", "Step", "check_pins", "edges", "pins_block", "read", "steps"]

EXHAUSTIVE_BITS = 8        # pairs of codes of so many bits together: all, in every lane
RANDOM_WORDS = 400         # of other pairs
BLOCK_WORDS = 4000         # in `pins_block`


@dataclass(frozen=True)
class Step:
    """One word, and what is read after it.

    Attributes
    ----------
    mode : int
    clear : bool
        Sum and flags are cleared first.
    repeat : int
        The word is sent so often.
    word : int
        Operand bits.
    result : int
        Sum of all sections in units of the mode's product, or the code of a rounded or float32 result.
    flags : int
        Bits in the order of ``PinsDesign.flags``.
    """

    mode: int
    clear: bool
    repeat: int
    word: int
    result: int
    flags: int


@dataclass(frozen=True)
class Edges:
    """Pins for steps, one row for each clock edge.

    Attributes
    ----------
    rst_n, ui, uio : ndarray of int64
    reads : ndarray of int64
        First row of those that read the result's bytes, for each step.
    results : ndarray of object
        For each step.
    flags : ndarray of int64
    modes : ndarray of int64
    """

    rst_n: np.ndarray
    ui: np.ndarray
    uio: np.ndarray
    reads: np.ndarray
    results: np.ndarray
    flags: np.ndarray
    modes: np.ndarray


# What a host does ---------------------------------------------------------------------------------


def steps(design: PinsDesign, *, seed: int = 1, words: int = RANDOM_WORDS) -> list[Step]:
    """All pairs of short codes in every lane, else random and extreme ones; sums of every length up to ``depth``.

    Parameters
    ----------
    design : PinsDesign
    seed : int
    words : int
        Random words of pairs that are too many to try all.
    """
    found: list[Step] = []
    for mode in range(len(design.modes)):
        rng = np.random.default_rng((seed, mode))
        a, w = _codes(design, mode, rng, words)
        found += _traced(design, mode, a, w, rng)
        found += _extremes(design, mode)
    return found


def _dot(design: PinsDesign, mode: int) -> DotDesign:
    """The unit that computes a mode's sums, without registers: the golden model."""
    pe = design.pe
    return (pe if isinstance(pe, DotDesign) else pe.dot(pe.modes[mode])).with_options(pipeline=0)


def _codes(design: PinsDesign, mode: int, rng: np.random.Generator, words: int) -> tuple[np.ndarray, np.ndarray]:
    """Operands (words, lanes)."""
    formats, lanes = design.formats(mode)[:2], design.formats(mode)[2]
    if sum(fmt.bits for fmt in formats) <= EXHAUSTIVE_BITS:
        pairs = np.stack(np.meshgrid(*(np.arange(1 << fmt.bits) for fmt in formats), indexing="ij"), -1).reshape(-1, 2)
        both = [_any(fmt, (lanes * len(pairs), lanes), rng) for fmt in formats]
        for lane in range(lanes):
            rows = slice(lane * len(pairs), (lane + 1) * len(pairs))
            order = rng.permutation(len(pairs))
            for role in range(2):
                both[role][rows, lane] = pairs[order, role]
        return both[0], both[1]
    a, w = (_any(fmt, (words, lanes), rng) for fmt in formats)
    return a, w


def _any(fmt: Format, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A third extremes, the rest any code; special ones are rare, for they stick."""
    codes = rng.integers(0, 1 << fmt.bits, shape)
    codes = np.where(rng.random(shape) < 1 / 3, rng.choice(extreme_codes(fmt), shape), codes)
    return np.where((fmt.unpack(codes).special != 0) & (rng.random(shape) < 0.9), 0, codes)


def _traced(design: PinsDesign, mode: int, a: np.ndarray, w: np.ndarray, rng: np.random.Generator,
            repeat: np.ndarray | None = None, clear: np.ndarray | None = None) -> list[Step]:
    dot, count = _dot(design, mode), len(a)
    repeat = np.ones(count, int) if repeat is None else repeat
    if clear is None:
        clear = rng.random(count) < 1 / 8
        clear[::max(1, design.pe.accumulator.depth // dot.lanes)] = True
    # A clear is an edge of its own, before those of its word.
    source = np.repeat(np.arange(count), repeat + clear)
    ends = np.cumsum(repeat + clear) - 1
    first = np.zeros(len(source), bool)
    first[ends - repeat - clear + 1] = True
    cleared = first & clear[source]
    result = trace(dot, a[source], w[source], ~cleared, cleared)
    values = result.acc if result.o is None else result.o
    flags = sum((np.asarray(getattr(result, flag), np.int64) << bit for bit, flag in enumerate(design.flags)),
                start=np.zeros(len(source), np.int64))
    packed = _packed(a, dot.activation.bits) + (_packed(w, dot.weight.bits) << design.a_bits)
    return [Step(mode, bool(clear[row]), int(repeat[row]), int(packed[row]), int(values[end]), int(flags[end]))
            for row, end in enumerate(ends)]


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    shifts = np.array([lane * bits for lane in range(codes.shape[1])], object)
    return (codes.astype(object) << shifts).sum(axis=1)


def _extremes(design: PinsDesign, mode: int) -> list[Step]:
    """Sums of ``depth`` products of each pair of extremes, read after each half."""
    dot = _dot(design, mode)
    ends = []
    for fmt in (dot.activation, dot.weight):
        codes = np.arange(1 << fmt.bits)
        values = np.where(fmt.unpack(codes).special == 0, fmt.decode(codes), 0.0)
        ends.append((int(values.argmax()), int(values.argmin())))
    pairs = np.repeat([(x, y) for x in ends[0] for y in ends[1]], 2, axis=0)
    half = max(1, design.pe.accumulator.depth // dot.lanes // 2)
    a, w = (np.repeat(pairs[:, role:role + 1], dot.lanes, axis=1) for role in range(2))
    return _traced(design, mode, a, w, np.random.default_rng(0), np.full(len(pairs), half),
                   np.arange(len(pairs)) % 2 == 0)


# Pins ---------------------------------------------------------------------------------------------


def edges(design: PinsDesign, todo: list[Step], *, seed: int = 1) -> Edges:
    """The pins for ``todo``, with idle edges between, clears of both kinds, and every byte read after each step.

    What must not matter is random: operands of idle edges, bytes before a word, ``en`` and mode under a clear.
    """
    rng = np.random.default_rng((seed, 77))
    byte = iter(rng.integers(0, 256, 1 << 14).tolist() * (1 + len(todo)))
    chance = iter(rng.random(1 << 14).tolist() * (1 + len(todo)))
    rows: list[tuple[int, int, int]] = []
    reads = []

    def any_mode() -> int:
        return next(byte) % len(design.modes) << (CLEAR_PIN - design.mode_bits)

    def idle() -> None:
        if design.controls:
            rows.append((1, next(byte), _low(design, next(byte)) | any_mode()))
        else:
            rows.append((1, next(byte) % (1 << design.select_bits), 0))

    for step in todo:
        if step.clear:
            pin = design.controls and next(chance) < 0.5
            controls = (pin << CLEAR_PIN) | (next(byte) & 1) << EN_PIN | any_mode() if design.controls else 0
            rows.append((int(pin), next(byte), controls | _low(design, next(byte))))
        if next(chance) < 0.1:
            idle()
        for _ in range(step.repeat):
            rows += _word(design, step)
        for _ in range(design.latency - 1):
            idle()
        reads.append(len(rows))
        for index in range(design.bytes):
            above = next(byte) & -(1 << design.select_bits) if design.controls else 0
            rows.append((1, above & 0xFF | index, 0))
    rst_n, ui, uio = np.array(rows, np.int64).T
    results = np.array([step.result for step in todo] + [None], object)[:-1]
    return Edges(rst_n, ui, uio, np.array(reads), results, np.array([step.flags for step in todo]),
                 np.array([step.mode for step in todo]))


def _low(design: PinsDesign, bits: int) -> int:
    """Random operand bits where uio has operands."""
    return bits & (1 << max(0, design.word_bits - PORT)) - 1 if design.parallel else 0


def _word(design: PinsDesign, step: Step) -> Iterator[tuple[int, int, int]]:
    mode = step.mode << (CLEAR_PIN - design.mode_bits)
    for beat in range(design.beats):
        last = beat == design.beats - 1
        controls = last << EN_PIN | mode if design.controls else 0
        upper = step.word >> PORT if design.parallel else 0
        yield 1, step.word >> (PORT * beat) & 0xFF, controls | upper


def read(design: PinsDesign, mode: int, raw: list[int]) -> tuple[int, int]:
    """Result and flags from the bytes that a host reads."""
    number = int.from_bytes(bytes(raw[:design.result_bytes]), "little")
    flags = raw[design.result_bytes] if design.flags else 0
    if not design.signed:
        return number, flags
    pe = design.pe
    sections = (0,) if isinstance(pe, DotDesign) else pe.sections(pe.modes[mode])
    total = 0
    for start, end in zip(sections, [*sections[1:], PORT * design.result_bytes], strict=True):
        part = number >> start & (1 << (end - start)) - 1
        total += part - (part >> (end - start - 1) << (end - start))
    return total, flags


# Checks -------------------------------------------------------------------------------------------


def _seen(design: PinsDesign, pins: Edges, o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Results and flags of all steps."""
    raw = np.stack([o[pins.reads + index] for index in range(design.bytes)], axis=1).astype(int).tolist()
    both = [read(design, int(mode), one) for mode, one in zip(pins.modes, raw, strict=True)]
    return (np.array([result for result, _ in both] + [None], object)[:-1],
            np.array([flags for _, flags in both], np.int64))


def check_pins(design: PinsDesign, model: BatchModel, *, seed: int = 1) -> int:
    """Compare a Tiny Tapeout top module with the golden model.

    Parameters
    ----------
    design : PinsDesign
    model : BatchModel
        With ports ``rst_n``, ``ui_in``, ``uio_in``, ``ena``, ``uo_out``, ``uio_out`` and ``uio_oe``.

    Returns
    -------
    int
        Words whose result was compared.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    todo = steps(design, seed=seed)
    pins = edges(design, todo, seed=seed)
    seen = model.run({"rst_n": pins.rst_n, "ui_in": pins.ui, "uio_in": pins.uio, "ena": 1})
    results, flags = _seen(design, pins, seen["uo_out"])
    has_flag = bool(design.controls and design.flags)
    wrong = (results != pins.results) | (flags != pins.flags)
    wrong |= seen["uio_out"][pins.reads] != (pins.flags != 0) * (has_flag << 7)
    oe = seen["uio_oe"] != has_flag << 7
    if wrong.any() or oe.any():
        row = int(np.flatnonzero(wrong)[0]) if wrong.any() else 0
        raise BitkilnError("RTL and golden model differ", where=model.top, exit_code=FAILED,
                           got=f"{int(wrong.sum())} of {len(todo)} words" if wrong.any() else "other directions of uio",
                           expected="0", help=f"seed {seed}, first: {todo[row]}, read {results[row]} {flags[row]}")
    return len(todo)


def pins_block(component, seed: int) -> BlockCheck:
    """The check of a `PinsPe`: one segment of steps and idle edges."""
    design = component.design
    pins = edges(design, steps(design, seed=seed, words=BLOCK_WORDS), seed=seed)
    inputs = {"rst_n": pins.rst_n, "i": (pins.ui | pins.uio << PORT) & (1 << len(component.i)) - 1}
    if design.controls:
        inputs |= {"en": pins.uio >> EN_PIN & 1, "clear": pins.uio >> CLEAR_PIN & 1}
    if design.mode_bits:
        inputs["mode"] = pins.uio >> (CLEAR_PIN - design.mode_bits) & (1 << design.mode_bits) - 1
    care = np.zeros(len(pins.ui), bool)
    last = pins.reads + design.bytes - 1
    care[last] = True

    def at_last(values: np.ndarray) -> np.ndarray:
        found = np.zeros(len(care), object)
        found[last] = values
        return found

    expected = {"result": at_last(pins.results), "flags": at_last(pins.flags)}
    if "flag" in component.signature.members:
        expected["flag"] = at_last((pins.flags != 0).astype(int))

    def view(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(outputs["o"]) < len(care):        # the head of the segment
            kept = last < len(outputs["o"])
            padded = np.zeros(len(care), np.int64)
            padded[:len(outputs["o"])] = outputs["o"]
        else:
            kept, padded = np.ones(len(last), bool), outputs["o"]
        results, flags = _seen(design, pins, padded)
        seen = {"result": at_last(np.where(kept, results, 0)), "flags": at_last(np.where(kept, flags, 0))}
        seen = {name: value[:len(outputs["o"])] for name, value in seen.items()}
        if "flag" in outputs:
            seen["flag"] = outputs["flag"].astype(object)
        return seen

    return BlockCheck("pins", False, lambda: iter([Segment(inputs, expected, 0, care)]), view)
