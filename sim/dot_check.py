"""Dot units against the golden model through the batch simulator, exhaustively where that is possible.

One cycle checks one operand pair per lane: the accumulator runs on, is compared after every edge, and is
cleared where the golden trace would leave the exact range. So a million pairs take about a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bitkiln.hw.emit import Port
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format, Special
from bitkiln.models.golden.dot import DotResult, dot, trace

from .batch import BatchModel, build_many, from_ints, pack_lanes, to_ints

__all__ = ["CheckResult", "Stimulus", "check_dot", "check_many", "extreme_codes", "port_values", "stimuli"]

EXHAUSTIVE_BITS = 8       # formats up to this width: all pairs
RANDOM_PAIRS = 1_000_000  # wider ones
SHORT_SUM = 2             # cycles between clears of fp32 sums, which the golden model can do side by side
CHUNK = 1 << 16           # cycles simulated and compared at a time
FLAGS = ("nan", "inf_pos", "inf_neg", "illegal", "overflow")


@dataclass(frozen=True)
class CheckResult:
    """What was compared.

    Attributes
    ----------
    name : str
        Module name of the unit.
    seed : int
    vectors : int
        Cycles whose output ports all were compared.
    pairs : int
        Operand pairs multiplied in them (``vectors`` times lanes, idle cycles excluded).
    exhaustive : bool
        Whether each lane saw every pair of codes.
    mismatches : int
    first : str or None
        Description of the first mismatch.
    parts : dict
        Vectors of each part.
    seconds : float
    """

    name: str
    seed: int
    vectors: int
    pairs: int
    exhaustive: bool
    mismatches: int
    first: str | None
    parts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def raise_on_mismatch(self) -> None:
        """Raise BitkilnError (exit code 1) where RTL and golden model differ, or nothing was compared."""
        if self.mismatches:
            raise BitkilnError("RTL and golden model differ", where=self.name,
                               got=f"{self.mismatches} of {self.vectors}", expected="0",
                               help=f"seed {self.seed}; first: {self.first}", exit_code=FAILED)
        if not self.vectors:
            raise BitkilnError("nothing was checked", where=self.name, exit_code=FAILED)


@dataclass(frozen=True)
class Stimulus:
    """Inputs of one run from power-up."""

    part: str
    a: np.ndarray      # (T, lanes) codes
    w: np.ndarray
    en: np.ndarray     # (T,) bool
    clear: np.ndarray

    def ports(self, design: DotDesign) -> dict[str, np.ndarray]:
        """Array of each input port."""
        return {"a": pack_lanes(self.a, design.activation.bits), "w": pack_lanes(self.w, design.weight.bits),
                "en": self.en, "clear": self.clear}


def check_dot(design: DotDesign, *, seed: int = 1, pairs: str | int = "auto", model: BatchModel | None = None,
              ) -> CheckResult:
    """Compare a dot unit's RTL with the golden model, bit for bit after every clock edge.

    Parameters
    ----------
    design : DotDesign
    seed : int
    pairs : "auto" or int
        ``auto``: all pairs of codes in every lane, the other lanes random, where both formats have at most 8
        bits; else a million random pairs and all pairs of extreme codes. A number asks for that many random
        pairs instead.
    model : BatchModel, optional
        The unit, where it is built already (`check_many`), or another netlist of the same ports (a mutant).

    Returns
    -------
    CheckResult
        Count of differences; `CheckResult.raise_on_mismatch` turns them into an error.
    """
    started = time.perf_counter()
    model = BatchModel(design) if model is None else model
    exhaustive = _exhaustive(design, pairs)
    parts: dict[str, int] = {}
    mismatches, multiplied, first = 0, 0, None
    for stimulus in stimuli(design, seed=seed, pairs=pairs):
        wrong, description = _compare(design, model, stimulus)
        parts[stimulus.part] = parts.get(stimulus.part, 0) + len(stimulus.en)
        multiplied += int((stimulus.en & ~stimulus.clear).sum()) * design.lanes
        mismatches += wrong
        first = first or description
    wrong, description, count = _order_independence(design, model, np.random.default_rng(seed + 1))
    parts["order"] = count
    return CheckResult(design.name, seed, sum(parts.values()), multiplied, exhaustive, mismatches + wrong,
                       first or description, parts, time.perf_counter() - started)


def check_many(designs: list[DotDesign], *, seed: int = 1, pairs: str | int = "auto") -> list[CheckResult]:
    """`check_dot` of many designs whose models are compiled side by side first."""
    models = build_many(designs)
    return [check_dot(design, seed=seed, pairs=pairs, model=model)
            for design, model in zip(designs, models, strict=True)]


# Stimuli -----------------------------------------------------------------------------------------


def extreme_codes(fmt: Format) -> np.ndarray:
    """Codes where rounding, carries and special cases live: 0, largest, smallest, powers of two and their
    neighbours, alternating bits, every kind of special."""
    count = 1 << fmt.bits
    walking = 1 << np.arange(fmt.bits, dtype=np.int64)
    picked = [np.array([0, count - 1, count // 3, count - 1 - count // 3]), walking, walking - 1, count - 1 - walking,
              count - walking]
    codes = np.arange(count, dtype=np.int64)
    values = fmt.decode(codes)
    finite = np.where(np.isfinite(values), values, 0.0)
    picked.append(np.array([finite.argmax(), finite.argmin(), np.where(finite > 0, finite, np.inf).argmin(),
                            np.where(finite < 0, finite, -np.inf).argmax()]))
    special = fmt.unpack(codes).special
    for kind in (Special.NAN, Special.INF, Special.ILLEGAL):
        found = np.flatnonzero(special == kind)
        picked += [found[:2], found[-2:]]
    return np.unique(np.concatenate(picked) % count)


def _exhaustive(design: DotDesign, pairs: str | int) -> bool:
    return pairs == "auto" and max(design.activation.bits, design.weight.bits) <= EXHAUSTIVE_BITS


def stimuli(design: DotDesign, *, seed: int = 1, pairs: str | int = "auto") -> Iterator[Stimulus]:
    """The vectors of `check_dot`, which mutation runs use too."""
    rng, exhaustive = np.random.default_rng(seed), _exhaustive(design, pairs)
    ba, bw = design.activation.bits, design.weight.bits
    if exhaustive:
        every_a, every_w = (grid.ravel() for grid in np.meshgrid(np.arange(1 << ba), np.arange(1 << bw), indexing="ij"))
        for lane in range(design.lanes):
            order = rng.permutation(len(every_a))
            yield from _with_background(design, rng, "all pairs", lane, every_a[order], every_w[order])
    else:
        edge_a, edge_w = (grid.ravel() for grid in np.meshgrid(extreme_codes(design.activation),
                                                               extreme_codes(design.weight), indexing="ij"))
        for lane in range(design.lanes):
            order = rng.permutation(len(edge_a))
            yield from _with_background(design, rng, "extreme pairs", lane, edge_a[order], edge_w[order])
        cycles = -(-(RANDOM_PAIRS if pairs == "auto" else int(pairs)) // design.lanes)
        for at in range(0, cycles, CHUNK):
            length = min(CHUNK, cycles - at)
            yield _timed(design, rng, "random pairs", _random_codes(rng, ba, (length, design.lanes)),
                         _random_codes(rng, bw, (length, design.lanes)))
    yield from _long_sums(design)
    yield _control(design, rng)


def _random_codes(rng: np.random.Generator, bits: int, shape: tuple[int, int]) -> np.ndarray:
    """Uniform codes, and stretches of 8 cycles whose codes lie near each other.

    Uniform codes of a wide float hardly ever have exponents close enough for sums to round or cancel.
    """
    count, blocks = 1 << bits, -(-shape[0] // 8)
    base = np.repeat(rng.integers(0, count, (blocks, shape[1])), 8, axis=0)[:shape[0]]
    spread = np.repeat(rng.choice([2, max(2, count // 48), count], blocks), 8)[:shape[0], None]
    sign = rng.integers(0, 2, shape) << (bits - 1)
    return ((base + np.floor((rng.random(shape) - 0.5) * 2 * spread).astype(np.int64)) % count) ^ sign


def _with_background(design: DotDesign, rng, part: str, lane: int, a_codes, w_codes) -> Iterator[Stimulus]:
    """The given pairs in one lane, random codes in the others.

    Where special codes exist, every second round leaves the other lanes ordinary, so that a sticky flag
    does not hide what the lane under test does.
    """
    for at in range(0, len(a_codes), CHUNK):
        length = len(a_codes[at:at + CHUNK])
        a = rng.integers(0, 1 << design.activation.bits, (length, design.lanes))
        w = rng.integers(0, 1 << design.weight.bits, (length, design.lanes))
        if design.has_nan or design.has_inf or design.has_illegal:
            calm = (np.arange(length) // 64) % 4 != 0
            a = np.where(calm[:, None], _ordinary(design.activation, a), a)
            w = np.where(calm[:, None], _ordinary(design.weight, w), w)
        a[:, lane], w[:, lane] = a_codes[at:at + CHUNK], w_codes[at:at + CHUNK]
        yield _timed(design, rng, part, a, w)


def _ordinary(fmt: Format, codes: np.ndarray) -> np.ndarray:
    """``codes`` with special ones replaced by code 0."""
    return np.where(fmt.unpack(codes).special == Special.NONE, codes, 0)


def _timed(design: DotDesign, rng, part: str, a: np.ndarray, w: np.ndarray) -> Stimulus:
    """Put pairs on cycles: a clear follows every special event and comes after ``depth`` products, so that each
    pair meets an accumulator that is not stuck already; the first cycles clear."""
    head = design.latency
    events = _specials(design, a, w)
    # After a cycle with a special code, clear; and at the latest when the exact range could be left.
    limit = max(1, design.accumulator.depth // design.lanes)
    if design.accumulator.kind == "fp32":
        limit = SHORT_SUM
    groups = np.concatenate([[0], np.cumsum(events[:-1])]) if len(events) else events
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    since = np.arange(len(a)) - np.repeat(starts, np.diff([*starts, len(a)]))
    before = (since % limit == 0) if not design.has_overflow else (since % (4 * limit) == 0)
    slots = np.arange(len(a)) + np.cumsum(before) + head  # each clear takes a cycle of its own
    length = int(slots[-1]) + 1 + design.latency if len(a) else head
    all_a, all_w = np.zeros((length, design.lanes), np.int64), np.zeros((length, design.lanes), np.int64)
    en, clear = np.zeros(length, bool), np.ones(length, bool)
    all_a[slots], all_w[slots], en[slots] = a, w, True
    clear[slots] = False
    clear[slots[-1] + 1:] = False  # the pipeline runs empty
    # While clearing, operands and en are anything.
    idle = clear & (rng.random(length) < 0.5)
    all_a[idle] = rng.integers(0, 1 << design.activation.bits, (int(idle.sum()), design.lanes))
    all_w[idle] = rng.integers(0, 1 << design.weight.bits, (int(idle.sum()), design.lanes))
    en[idle] = True
    return Stimulus(part, all_a, all_w, en, clear)


def _specials(design: DotDesign, a: np.ndarray, w: np.ndarray) -> np.ndarray:
    special = (design.activation.unpack(a).special != 0) | (design.weight.unpack(w).special != 0)
    return special.any(axis=1)


def _long_sums(design: DotDesign) -> Iterator[Stimulus]:
    """``depth`` products at each extreme: largest positive, most negative, and both mixed. Exact sums must not
    overflow; sums that are meant to wrap, saturate or overflow to infinity must do it as the golden model."""
    extremes = []
    for fmt in (design.activation, design.weight):
        values = fmt.decode(np.arange(1 << fmt.bits))
        finite = np.where(np.isfinite(values), values, 0.0)
        extremes.append((int(finite.argmax()), int(finite.argmin())))
    cycles = min(-(-design.accumulator.depth // design.lanes), CHUNK)
    for a_code in extremes[0]:
        for w_code in extremes[1]:
            shape = (cycles + design.latency * 2, design.lanes)
            clear = np.zeros(shape[0], bool)
            clear[:design.latency] = True
            en = np.ones(shape[0], bool)
            en[design.latency + cycles:] = False
            yield Stimulus(f"sum of {design.accumulator.depth} extremes", np.full(shape, a_code),
                            np.full(shape, w_code), en, clear)


def _control(design: DotDesign, rng) -> Stimulus:
    """Random ``en`` gaps and clears, all codes."""
    length = 4096
    a = rng.integers(0, 1 << design.activation.bits, (length, design.lanes))
    w = rng.integers(0, 1 << design.weight.bits, (length, design.lanes))
    calm = (np.arange(length) // 256) % 2 == 0
    a = np.where(calm[:, None], _ordinary(design.activation, a), a)
    w = np.where(calm[:, None], _ordinary(design.weight, w), w)
    clear = rng.random(length) < 0.05
    clear[:design.latency] = True
    return Stimulus("en and clear", a, w, rng.random(length) < 0.6, clear)


# Comparison --------------------------------------------------------------------------------------


def _compare(design: DotDesign, model: BatchModel, stimulus: Stimulus) -> tuple[int, str | None]:
    outputs = _run(design, model, stimulus)
    golden = port_values(_golden(design, stimulus), model.outputs)
    settled = design.latency - 1  # before that the pipeline holds what it powered up with
    bad = np.zeros(len(stimulus.en), bool)
    for name, wanted in golden.items():
        bad |= _differs(outputs[name], wanted)
    bad[:settled] = False
    if not bad.any():
        return 0, None
    row = int(np.flatnonzero(bad)[0])
    name = next(name for name, wanted in golden.items() if _differs(outputs[name], wanted)[row])
    source = max(0, row - design.pipeline)
    return int(bad.sum()), (f"{stimulus.part}, cycle {row}: {name} is {_text(outputs[name][row])}, expected "
                            f"{_text(golden[name][row])}, with a {stimulus.a[source].tolist()} w "
                            f"{stimulus.w[source].tolist()}")


def _golden(design: DotDesign, stimulus: Stimulus) -> DotResult:
    """`trace`, or for fp32 accumulators that are cleared often the same from many short `dot` at once: trace goes
    through fp32 sums one cycle at a time."""
    active = stimulus.en & ~stimulus.clear
    done = np.cumsum(active)
    terms = done - np.maximum.accumulate(np.where(stimulus.clear, done, 0))
    if design.accumulator.kind != "fp32" or terms.max(initial=0) > SHORT_SUM or not stimulus.clear[0]:
        return trace(design, stimulus.a, stimulus.w, stimulus.en, stimulus.clear)
    used = np.flatnonzero(active)
    length, delay = len(done), design.pipeline
    flags = {flag: np.zeros(length, bool) for flag in FLAGS}
    acc = np.zeros(length, np.uint32)
    zero = None if design.output is None else design.output.encode(np.zeros(1))[0]
    output = None if zero is None else np.full(length, zero, np.int64)
    for count in range(1, SHORT_SUM + 1):
        rows = np.flatnonzero(terms == count)
        if not len(rows):
            continue
        operands = used[done[rows][:, None] - np.arange(count, 0, -1)]
        result = dot(design, stimulus.a[operands], stimulus.w[operands])
        acc[rows] = result.acc
        for flag in FLAGS:
            flags[flag][rows] = getattr(result, flag)
        if output is not None:
            output[rows] = result.o

    def later(values: np.ndarray, start: int) -> np.ndarray:
        return np.concatenate([np.full(delay, start, values.dtype), values[:length - delay]])

    return DotResult(acc=later(acc, 0), **{flag: later(values, 0) for flag, values in flags.items()},
                     o=None if output is None else later(output, int(zero)))


def _run(design: DotDesign, model: BatchModel, stimulus: Stimulus) -> dict[str, np.ndarray]:
    return model.run(stimulus.ports(design))


def port_values(golden: DotResult, outputs: Mapping[str, Port]) -> dict[str, np.ndarray]:
    """Golden results in the form in which a batch model returns each of its output ports."""
    ports = {}
    for name, port in outputs.items():
        value = getattr(golden, name)
        if port.width > 64:
            ports[name] = from_ints(value.tolist(), port.width)
        else:
            ports[name] = np.asarray(value).astype(np.int64 if port.signed else np.uint64)
    return ports


def _differs(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return (got != wanted).any(axis=1) if got.ndim == 2 else got != wanted


def _text(value) -> str:
    if np.ndim(value):
        return hex(int(to_ints(np.asarray(value)[None], 32 * len(value))[0]))
    return str(int(value))


def _order_independence(design: DotDesign, model: BatchModel, rng) -> tuple[int, str | None, int]:
    """Exact sums of the same pairs in two orders end equal (RTL against RTL; not for fp32 or saturating sums,
    whose result depends on the order by definition)."""
    if design.accumulator.kind == "fp32" or design.accumulator.overflow == "saturate":
        return 0, None, 0
    terms = max(design.lanes, min(design.accumulator.depth, 1024) // design.lanes * design.lanes)
    sums, count = [], 0
    a = _ordinary(design.activation, rng.integers(0, 1 << design.activation.bits, terms))
    w = _ordinary(design.weight, rng.integers(0, 1 << design.weight.bits, terms))
    for _ in range(4):
        order = rng.permutation(terms)
        cycles = terms // design.lanes
        length = cycles + 2 * design.latency
        all_a, all_w = np.zeros((length, design.lanes), np.int64), np.zeros((length, design.lanes), np.int64)
        en, clear = np.zeros(length, bool), np.zeros(length, bool)
        body = slice(design.latency, design.latency + cycles)
        all_a[body], all_w[body] = a[order].reshape(-1, design.lanes), w[order].reshape(-1, design.lanes)
        en[body], clear[:design.latency] = True, True
        outputs = _run(design, model, Stimulus("order", all_a, all_w, en, clear))
        sums.append(np.atleast_1d(outputs["acc"][-1]).tolist())
        count += length
    wrong = sum(one != sums[0] for one in sums)
    return wrong, (f"order of terms: {sums}" if wrong else None), count

