"""Matrix products through a simulated PE or array, as the checks and networks of `bitkiln sim` use them.

The RTL makes the sums; what becomes of them (bias, scale, rounding), which is the core's work, is the golden model's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np

from bitkiln.hw.mac.array import MatmulArray, WeightArray
from bitkiln.hw.mac.morphable import MorphablePe, result_layout
from bitkiln.models.design import ArrayDesign, Job, MatmulDesign, Mode, MorphableDesign
from bitkiln.models.design.morphable import WORD_BITS
from bitkiln.models.formats import Special
from bitkiln.models.golden.matmul import Records, matmul
from bitkiln.models.golden.requantise import float_sums, integer_sums, requantise

from .batch import BatchModel, from_ints, pack_lanes, to_ints
from .dot_check import CheckResult
from .pe_check import sum_of_sections

__all__ = ["ArrayProducts", "PeProducts", "Products", "WeightProducts", "check_products", "products_of"]

CHUNK = 1 << 20           # cycles simulated at a time
FLAGS = ("nan", "inf_pos", "inf_neg", "illegal", "overflow")
SPECIALS = FLAGS[:3]
SPECIAL_CHANCE = 0.3      # random products with special codes among their operands


class Products(ABC):
    """Sums of any two matrices of codes by simulation.

    Attributes
    ----------
    design : MatmulDesign
        The core around the array: it says what the sums mean.
    cycles : int
        Clock cycles of all calls.
    peak : int
        PEs.
    """

    def __init__(self, array: ArrayDesign, model: BatchModel):
        self.design, self.model = MatmulDesign(replace(array, dataflow="output")), model
        self.pe = array.pe
        self.cycles = 0
        self.peak = array.rows * array.columns

    @abstractmethod
    def sums(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Values of the accumulators (M, N) and their flags, of codes (M, K) and (N, K)."""

    def execute(self, job: Job, a: np.ndarray, w: np.ndarray, records: Records | None,
                c: np.ndarray | None) -> np.ndarray:
        """Result codes of a job (``models.workloads.mixed.Execute``)."""
        mode = self.pe.modes[self.pe.index(job.mode)]
        acc, flags = self.sums(mode, np.asarray(a), np.asarray(w))
        if self.pe.accumulator.kind == "fp32":
            sums = float_sums(acc.astype(np.uint32))
        else:
            sums = integer_sums(self.design, acc, *(flags.get(name, False) for name in SPECIALS))
        return requantise(self.design, job, sums, records=records, c=c)[0]

    def _words(self, codes: np.ndarray, bits: int, lanes: int) -> np.ndarray:
        """Operand words (rows, words); lanes beyond K hold the code 0."""
        codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % lanes)))
        shifts = np.arange(lanes, dtype=np.int64) * bits
        return (codes.reshape(len(codes), -1, lanes).astype(np.int64) << shifts).sum(axis=2)

    def _operands(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (self._words(a, mode.activation.bits, mode.lanes), self._words(w, mode.weight.bits, mode.lanes))

    def _results(self, mode: Mode, port: np.ndarray, columns: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(rows, columns) accumulators and flags of rows of a ``result`` port."""
        layout = result_layout(self.pe)
        wide = layout["acc"].width
        whole = [int(v) for v in to_ints(port, 32 * port.shape[-1] if port.ndim == 2 else 64)]
        fields = [(v >> (c * layout.size)) & ((1 << layout.size) - 1) for v in whole for c in range(columns)]
        acc = [v & ((1 << wide) - 1) for v in fields]
        flags = {flag: np.array([(v >> layout[flag].offset) & 1 for v in fields], bool).reshape(-1, columns)
                 for flag in self.pe.flags}
        if self.pe.accumulator.kind == "fp32":
            values = np.array(acc, np.int64)
        else:
            signed = [v - ((v >> (wide - 1)) << wide) for v in acc]
            values = np.array(signed, np.int64) if wide <= 64 else from_ints(signed, wide)
            values = np.asarray(sum_of_sections(self.pe, mode, values))
            values = np.array([int(v) for v in to_ints(values, wide, True)], object) if values.ndim == 2 else values
        return values.reshape(-1, columns), flags


class PeProducts(Products):
    """One PE: a cycle with ``clear`` before each sum."""

    def __init__(self, pe: MorphableDesign, model: BatchModel | None = None):
        super().__init__(ArrayDesign(1, 1, pe), BatchModel(MorphablePe(pe)) if model is None else model)

    def sums(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        a_words, w_words = self._operands(mode, a, w)
        step = max(1, CHUNK // ((a_words.shape[1] + 1) * len(w)))
        parts = [self._stream(mode, a_words[at:at + step], w_words) for at in range(0, len(a), step)]
        return np.concatenate([acc for acc, _ in parts]), {
            flag: np.concatenate([flags[flag] for _, flags in parts]) for flag in self.pe.flags}

    def _stream(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        shape, period, delay = (len(a), len(w)), a.shape[1] + 1, self.pe.pipeline
        # Idle cycles in front, so that the last cycle of a period is the one in which a sum is there.
        idle = -delay % period
        body = slice(idle, idle + shape[0] * shape[1] * period)
        rows = body.stop + delay
        clear, en = np.zeros(rows, bool), np.zeros(rows, bool)
        clear[idle:body.stop:period] = True
        en[body] = ~clear[body]
        ports = {"clear": clear, "en": en, "mode": self.pe.index(mode)}
        for name, words in (("a", a[:, None]), ("w", w[None])):
            stream = np.zeros(rows, np.uint16)
            stream[body].reshape(*shape, period)[:, :, 1:] = words
            ports[name] = stream
        found = self.model.run(ports, ["acc", *self.pe.flags], every=period)
        first = (idle + delay) // period
        kept = {name: values[first:first + shape[0] * shape[1]] for name, values in found.items()}
        acc = np.asarray(sum_of_sections(self.pe, mode, kept["acc"]))
        if acc.ndim == 2:
            acc = to_ints(acc, self.pe.accumulator_bits, True)
        self.cycles += body.stop - idle + delay
        return acc.reshape(shape), {flag: kept[flag].astype(bool).reshape(shape) for flag in self.pe.flags}


class ArrayProducts(Products):
    """An output-stationary array: tiles one after the other, drained meanwhile."""

    def __init__(self, array: ArrayDesign, model: BatchModel | None = None):
        self.unit = MatmulArray(array)
        super().__init__(array, BatchModel(self.unit) if model is None else model)

    def sums(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        design, latency = self.unit.design, self.unit.latency
        rows, columns = design.rows, design.columns
        a_words, w_words = self._operands(mode, a, w)
        words = a_words.shape[1]
        left = _tiles(a_words, rows)                   # (tiles, words, rows)
        right = _tiles(w_words, columns)
        # A tile may end when the results of the one before have left.
        period = max(words, rows + latency - (1 + self.pe.latency))
        count = len(left) * len(right)
        head = latency + 1                             # clears what the PEs power up with
        length = head + count * period + latency + rows
        ports: dict[str, np.ndarray | int] = {"mode": self.pe.index(mode), "clear": np.arange(length) < head}
        en, last, shift = (np.zeros(length, bool) for _ in range(3))
        body = slice(head, head + count * period)
        en[body].reshape(count, period)[:, -words:] = True
        last[body].reshape(count, period)[:, -1] = True
        ready = head + period * np.arange(1, count + 1) + latency - 2
        for row in range(1, rows):
            shift[ready + row] = True
        for name, tiles, lanes in (("a", left[:, None], rows), ("w", right[None], columns)):
            stream = np.zeros((length, lanes), np.uint16)
            stream[body].reshape(len(left), len(right), period, lanes)[:, :, -words:] = tiles
            ports[name] = pack_lanes(stream, WORD_BITS)
        out = self.model.run({**ports, "en": en, "last": last, "shift": shift}, ["result"])["result"]
        self.cycles += count * period + latency + rows
        taken = out[(ready[:, None] + np.arange(rows)).reshape(-1)]
        acc, flags = self._results(mode, taken, columns)

        def whole(values: np.ndarray) -> np.ndarray:
            tiled = values.reshape(len(left), len(right), rows, columns).transpose(0, 2, 1, 3)
            return tiled.reshape(len(left) * rows, len(right) * columns)[:len(a), :len(w)]

        return whole(acc), {flag: whole(value) for flag, value in flags.items()}


class WeightProducts(Products):
    """A weight-stationary array: all rows of A for one block of weights, then the next block with their sums."""

    def __init__(self, array: ArrayDesign, model: BatchModel | None = None):
        self.unit = WeightArray(array)
        super().__init__(array, BatchModel(self.unit) if model is None else model)

    def sums(self, mode: Mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        design = self.unit.design
        rows, columns = design.rows, design.columns
        a_words, w_words = self._operands(mode, a, w)
        missing = -a_words.shape[1] % rows
        a_words, w_words = (np.pad(words, ((0, 0), (0, missing))) for words in (a_words, w_words))
        parts = []
        for column in range(0, len(w), columns):
            block = np.pad(w_words[column:column + columns], ((0, max(0, column + columns - len(w))), (0, 0)))
            carried: np.ndarray | None = None
            for word in range(0, a_words.shape[1], rows):
                at = slice(word, word + rows)
                carried = self._pass(mode, a_words[:, at], block[:, at], carried)
            parts.append(self._results(mode, carried, columns))
        join = [np.concatenate([acc for acc, _ in parts], axis=1)[:, :len(w)]]
        return join[0], {flag: np.concatenate([flags[flag] for _, flags in parts], axis=1)[:, :len(w)]
                         for flag in self.pe.flags}

    def drive(self, mode: Mode, a: np.ndarray, w: np.ndarray, carried: np.ndarray | None, length: int) -> np.ndarray:
        """``result`` in each of ``length`` cycles of a pass: weights, then vectors, with the sums ``carried``."""
        rows = self.unit.design.rows
        vectors = slice(rows, rows + len(a))
        port_a, port_w = np.zeros((length, rows), np.uint16), np.zeros((length, w.shape[0]), np.uint16)
        load, en, swap = (np.zeros(length, bool) for _ in range(3))
        # The last row first, and at once before the first vector, which brings the swap.
        port_w[:rows], load[:rows] = w.T[::-1], True
        port_a[vectors], en[vectors], swap[rows] = a, True, True
        start: np.ndarray | int = 0
        if carried is not None:
            start = np.zeros((length, *carried.shape[1:]), carried.dtype)
            start[vectors] = carried
        return self.model.run({"a": pack_lanes(port_a, WORD_BITS), "w": pack_lanes(port_w, WORD_BITS),
                               "mode": self.pe.index(mode), "en": en, "swap": swap, "load": load, "i": start},
                              ["result"])["result"]

    def _pass(self, mode: Mode, a: np.ndarray, w: np.ndarray, carried: np.ndarray | None) -> np.ndarray:
        rows, latency = self.unit.design.rows, self.unit.latency
        length = rows + len(a) + latency
        out = self.drive(mode, a, w, carried, length)
        self.cycles += length
        first = rows + latency - 1
        return out[first:first + len(a)]


def _tiles(words: np.ndarray, size: int) -> np.ndarray:
    """(rows, words) to (tiles, words, size), filled with zeros."""
    padded = np.pad(words, ((0, -len(words) % size), (0, 0)))
    return padded.reshape(-1, size, words.shape[1]).transpose(0, 2, 1)


def products_of(design: MorphableDesign | ArrayDesign) -> Products:
    """The simulated unit of a design."""
    if isinstance(design, MorphableDesign):
        return PeProducts(design)
    return WeightProducts(design) if design.dataflow == "weight" else ArrayProducts(design)


def check_products(products: Products, *, seed: int = 0, count: int = 40, size: int = 40) -> CheckResult:
    """Random products in every mode against the golden model.

    Parameters
    ----------
    products : Products
    seed : int
    count : int
        Products of matrices.
    size : int
        Largest M, K and N.

    Returns
    -------
    CheckResult
        ``vectors`` counts results, ``pairs`` the products of operands in them.
    """
    design, pe = products.design, products.pe
    rng = np.random.default_rng(seed)
    checked = pairs = wrong = 0
    first = None
    parts: dict[str, int] = {}
    for index in range(count):
        mode = pe.modes[index % len(pe.modes)]
        m, n, k = (int(rng.integers(1, size + 1)) for _ in range(3))
        k = min(k, design.max_k(mode))
        special = rng.random() < SPECIAL_CHANCE
        a, w = (_codes(rng, fmt, shape, special) for fmt, shape in ((mode.activation, (m, k)), (mode.weight, (n, k))))
        job = Job(mode.name, m, k, n)
        wanted = matmul(design, job, a, w).codes
        got = products.execute(job, a, w, None, None)
        differs = np.asarray(got != wanted, bool)
        if first is None and differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            first = f"{mode.name}, {m} x {k} x {n}, element {at}: {got[at]}, expected {wanted[at]}"
        checked, pairs, wrong = checked + differs.size, pairs + m * n * k, wrong + int(differs.sum())
        parts[mode.name] = parts.get(mode.name, 0) + differs.size
    return CheckResult(products.model.top, seed, checked, pairs, False, wrong, first, parts)


def _codes(rng: np.random.Generator, fmt, shape: tuple[int, int], special: bool) -> np.ndarray:
    """Any codes; NaN and infinities are rare or not there."""
    codes = rng.integers(0, 1 << fmt.bits, shape)
    odd = fmt.unpack(codes).special != Special.NONE
    keep = rng.random(shape) < 0.1 if special else np.zeros(shape, bool)
    return np.where(odd & ~keep, 0, codes)
