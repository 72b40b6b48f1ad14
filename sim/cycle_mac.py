"""Random jobs through dot units, PEs, arrays and the core; what each took beside its cycle model.

PEs and arrays have no handshake: a result counts from the cycle in which its sum is on the port. Their operands are 1
and 2 (and -1, -2), or what is next to them in the format, so that sums are small multiples of a product's unit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.hw.mac.stream import StreamDotUnit, operand_layout
from bitkiln.models.cost.cycles.mac_cycles import DotJob, array_period, weight_latency
from bitkiln.models.design import ArrayDesign, DotDesign, Job, MatmulDesign, Mode, MorphableDesign
from bitkiln.models.design.morphable import WORD_BITS
from bitkiln.models.design.registers import core_registers
from bitkiln.models.errors import FAILED, BitkilnError

from .batch import BatchModel, pack_lanes, to_ints
from .bitserial_check import pack_bits
from .core_run import CoreModel, random_job, run_job
from .cycle_record import CycleRun, record
from .pe_check import sum_of_sections
from .products import ArrayProducts, WeightProducts, products_of
from .streams import StreamModel

__all__ = ["COUNTERS", "array_cycles", "array_runs", "core_run", "core_runs", "dot_runs", "pe_cycles", "pe_runs"]

COUNTERS = ("COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN", "MACS")
CORE_SIZE = 24      # largest M, K and N


# Dot unit ------------------------------------------------------------------------------------------


def dot_runs(design: DotDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Dot products of any lengths back to back, random codes."""
    model = StreamModel(StreamDotUnit(design))
    for _ in range(jobs):
        job = DotJob(tuple(int(n) for n in rng.integers(1, 6 * design.lanes + 1, int(rng.integers(1, 12)))))
        last = np.concatenate([np.arange(words) == words - 1 for words in job.words(design.lanes)])
        layout = operand_layout(design)
        items = pack_bits([(rng.integers(0, 1 << fmt.bits, (len(last), design.lanes)), fmt.bits)
                           for fmt in (design.activation, design.weight)] + [(last, 1)])
        assert layout.size == design.lanes * (design.activation.bits + design.weight.bits) + 1
        run = model.run({"i": items}, {"o": len(job.lengths)}).check()
        yield record("dot_unit", design, job, run.cycles["o"][-1] - run.cycles["i"][0] + 1,
                     {"i": len(items), "o": len(run.outputs["o"])}, shape=job.lengths)


# PE and arrays -------------------------------------------------------------------------------------


def _operands(rng: np.random.Generator, rows: int, k: int) -> np.ndarray:
    return rng.integers(1, 3, (rows, k))


def _words(fmt_bits: int, codes: np.ndarray, lanes: int) -> np.ndarray:
    codes = np.pad(codes.astype(np.int64), ((0, 0), (0, -codes.shape[1] % lanes)))
    shifts = np.arange(lanes, dtype=np.int64) * fmt_bits
    return (codes.reshape(len(codes), -1, lanes) << shifts).sum(axis=2)


def _encoded(mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Operand words of small integers."""
    return tuple(_words(fmt.bits, fmt.encode(values.astype(np.float64)), mode.lanes)
                 for fmt, values in ((mode.activation, a), (mode.weight, w)))


def _nearest(mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The operands' values in a mode's formats: some have no 2, or no negative numbers."""
    return tuple(fmt.decode(fmt.encode(values.astype(np.float64)))
                 for fmt, values in ((mode.activation, a), (mode.weight, w)))


def _expected(pe: MorphableDesign, mode: Mode, sums: np.ndarray) -> np.ndarray:
    """What the accumulator holds for sums that it holds exactly."""
    if pe.accumulator.kind == "fp32":
        return sums.astype(np.float32).view(np.uint32).astype(object)
    unit = pe.dot(mode).product_exponent
    return np.array([int(value * 2.0 ** -unit) for value in sums.ravel()], object).reshape(sums.shape)


def _random_job(pe: MorphableDesign, rng: np.random.Generator, size: int) -> Job:
    mode = pe.modes[int(rng.integers(len(pe.modes)))]
    k = min(int(rng.integers(1, 6 * mode.lanes + 1)), pe.accumulator.depth)
    return Job(mode.name, int(rng.integers(1, size + 1)), k, int(rng.integers(1, size + 1)))


def pe_runs(design: MorphableDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """All sums of a product one after the other; the last one counts when it is on ``acc``."""
    model = BatchModel(MorphablePe(design))
    for _ in range(jobs):
        job = _random_job(design, rng, 4)
        yield record("morphable_pe", design, job, pe_cycles(model, design, job),
                     shape=(job.mode, job.m, job.k, job.n))


def pe_cycles(model: BatchModel, design: MorphableDesign, job: Job) -> int:
    """Cycles from the first operand to the last of a job's sums, one after the other on a simulated PE.

    Raises
    ------
    BitkilnError
        Sums that do not come.
    """
    mode = design.modes[design.index(job.mode)]
    words = _encoded(mode, np.ones((1, job.k)), np.ones((1, job.k)))
    period, sums = words[0].shape[1] + 1, job.m * job.n
    rows = sums * period + design.latency + 2
    clear, en = np.arange(rows) % period == 0, np.arange(rows) < sums * period
    ports = {"clear": clear | ~en, "en": en & ~clear, "mode": design.index(mode)}
    for name, each in zip("aw", words, strict=True):
        stream = np.zeros(rows, np.uint16)
        stream[:sums * period].reshape(sums, period)[:, 1:] = each
        ports[name] = stream
    acc = sum_of_sections(design, mode, model.run(ports, ["acc"])["acc"])
    values = to_ints(acc, design.accumulator_bits, True) if np.ndim(acc) == 2 else np.asarray(acc).astype(object)
    one = _nearest(mode, np.ones((1, 1)), np.ones((1, 1)))
    full = _expected(design, mode, np.array([job.k * one[0][0, 0] * one[1][0, 0]]))[0]
    # Sums rise, so each is complete in one cycle only, in which the clear of the next one follows.
    there = np.flatnonzero(values == full)
    if len(there) < sums:
        raise BitkilnError("sums do not come", where=design.name, got=len(there), expected=str(sums),
                           help=str(job), exit_code=FAILED)
    return int(there[sums - 1]) + 1


def array_runs(design: ArrayDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Products of tiles as close to each other, and results as early, as gives the right sums."""
    products = products_of(design)
    for _ in range(jobs):
        job = _random_job(design.pe, rng, 3 * max(design.rows, design.columns))
        yield record("matmul_array", design, job, array_cycles(products, job, rng),
                     shape=(job.mode, job.m, job.k, job.n))


def array_cycles(products: ArrayProducts | WeightProducts, job: Job, rng: np.random.Generator) -> int:
    """Least cycles in which a simulated array gives a job's sums; 0 where none of the schedules does."""
    return (_weight_cycles if isinstance(products, WeightProducts) else _tile_cycles)(products, job, rng)


def _tiles(words: np.ndarray, size: int) -> np.ndarray:
    """(rows, words) to (tiles, words, size)."""
    return words.reshape(-1, size, words.shape[1]).transpose(0, 2, 1)


def _telling(rng: np.random.Generator, down: int, across: int, design: ArrayDesign,
             k: int) -> tuple[np.ndarray, np.ndarray]:
    """Operands of whole tiles whose rows of results differ, in every column, from those before and after: a result that
    is taken too early shows."""
    sign = [1]
    for _ in range(down - 1):
        sign.append(-sign[-1] * (-1) ** (across - 1))
    rows = np.concatenate([each * (1 + np.arange(design.rows) % 2) for each in sign])
    columns = np.concatenate([(-1) ** tile * rng.integers(1, 3, design.columns) for tile in range(across)])
    return np.repeat(rows[:, None], k, axis=1), np.repeat(columns[:, None], k, axis=1)


def _tile_cycles(products: ArrayProducts, job: Job, rng: np.random.Generator) -> int:
    """Least cycles of schedules around the model's that give the right sums (output-stationary)."""
    design, pe = products.unit.design, products.pe
    mode = pe.modes[pe.index(job.mode)]
    down, across = -(-job.m // design.rows), -(-job.n // design.columns)
    a, w = _nearest(mode, *_telling(rng, down, across, design, job.k))
    left, right = (_tiles(words, size) for words, size in
                   zip(_encoded(mode, a, w), (design.rows, design.columns), strict=True))
    words, tiles = left.shape[1], len(left) * len(right)
    wanted = (a @ w.T).reshape(len(left), design.rows, len(right), design.columns).transpose(0, 2, 1, 3)
    wanted = _expected(pe, mode, wanted.reshape(tiles * design.rows, design.columns))

    def right_sums(period: int, latency: int) -> bool:
        head = products.unit.latency + 1            # clears what the PEs power up with
        last = head + words - 1 + period * np.arange(tiles)
        length = int(last[-1]) + latency + design.rows
        en, ends, shift = (np.zeros(length, bool) for _ in range(3))
        streams = [np.zeros((length, lanes), np.uint16) for lanes in (design.rows, design.columns)]
        for tile, end in enumerate(last.tolist()):
            at = slice(end - words + 1, end + 1)
            en[at] = True
            streams[0][at], streams[1][at] = left[tile // len(right)], right[tile % len(right)]
        ends[last] = True
        first = last + latency - 1                  # row 0 of each tile
        for row in range(1, design.rows):
            shift[first + row] = True
        out = products.model.run({"mode": pe.index(mode), "clear": np.arange(length) < head, "en": en, "last": ends,
                                  "shift": shift, "a": pack_lanes(streams[0], WORD_BITS),
                                  "w": pack_lanes(streams[1], WORD_BITS)}, ["result"])["result"]
        taken = out[(first[:, None] + np.arange(design.rows)).ravel()]
        return bool((products._results(mode, taken, design.columns)[0] == wanted).all())

    period, latency = array_period(design, words), design.latency
    # A tile cannot take fewer cycles than words, and one alone shows no period.
    shows = period > words and tiles > 1
    feasible = [words + (tiles - 1) * p + late + design.rows - 2
                for p in range(period - shows, period + 2) for late in range(latency - 1, latency + 2)
                if right_sums(p, late)]
    return min(feasible, default=0)


def _weight_cycles(products: WeightProducts, job: Job, rng: np.random.Generator) -> int:
    """Cycles of all passes, each from its first weights to its last sum (weight-stationary)."""
    unit, pe = products.unit, products.pe
    design = unit.design
    mode = pe.modes[pe.index(job.mode)]
    a, w = _nearest(mode, _operands(rng, job.m, job.k), _operands(rng, job.n, job.k))
    a_words, w_words = _encoded(mode, a, w)
    missing = -a_words.shape[1] % design.rows
    a_words, w_words = (np.pad(words, ((0, 0), (0, missing))) for words in (a_words, w_words))
    lanes = mode.lanes * design.rows
    total = 0
    for column in range(0, job.n, design.columns):
        block = np.pad(w_words[column:column + design.columns],
                       ((0, max(0, column + design.columns - job.n)), (0, 0)))
        carried: np.ndarray | None = None
        for number, word in enumerate(range(0, a_words.shape[1], design.rows)):
            at = slice(word, word + design.rows)
            trace, carried = _weight_pass(products, mode, a_words[:, at], block[:, at], carried)
            part = a[:, :(number + 1) * lanes] @ w[column:column + design.columns, :(number + 1) * lanes].T
            wanted = _expected(pe, mode, np.pad(part, ((0, 0), (0, design.columns - part.shape[1]))))
            total += _first_match(products._results(mode, trace, design.columns)[0], wanted, design.rows) + 1
    return total


def _weight_pass(products: WeightProducts, mode: Mode, a: np.ndarray, w: np.ndarray,
                 carried: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """``result`` in every cycle of a pass, and its last rows."""
    rows, late = products.unit.design.rows, weight_latency(products.unit.design)
    out = products.drive(mode, a, w, carried, rows + len(a) + late + 1)
    return out, out[rows + late - 1:rows + late - 1 + len(a)]


def _first_match(trace: np.ndarray, wanted: np.ndarray, begin: int) -> int:
    """First cycle from ``begin`` on in which all wanted rows have been on the port, one each cycle."""
    for at in range(begin, len(trace) - len(wanted) + 1):
        if (trace[at:at + len(wanted)] == wanted).all():
            return at + len(wanted) - 1
    return -1


# Core ----------------------------------------------------------------------------------------------


def core_run(model: CoreModel, rng: np.random.Generator, **fixed) -> CycleRun:
    """One random job alone on a core of streams, its results checked; ``fixed`` as of `random_job`."""
    design: MatmulDesign = model.design
    registers = core_registers(design)
    case = random_job(design, rng, **{"size": CORE_SIZE, **fixed})
    model.write(registers["CTRL"].offset, registers["CTRL"].pack(clear_counters=1))
    run_job(model, case)
    seen = {name: model.read(registers[name].offset)[1] for name in ("CYCLES", *COUNTERS)}
    beats = {name: len(each) for name, each in case.beats(design).items()}
    beats["o"] = len(case.results(design)[0])
    job = case.job
    return record("matmul_core", design, job, seen.pop("CYCLES"), beats, seen,
                  shape=(job.mode, job.m, job.k, job.n, job.order, job.rule, job.output, job.block))


def core_runs(design: MatmulDesign, rng: np.random.Generator, jobs: int) -> Iterator[CycleRun]:
    """Random jobs, each alone."""
    model = CoreModel(design)
    for _ in range(jobs):
        yield core_run(model, rng)
