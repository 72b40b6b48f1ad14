"""Matrix products through codebook dequantisers and MACs at full simulation speed, against golden and cycle model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.hw.dequant.codebook_array import CodebookArray, result_layout
from bitkiln.models.cost.cycles.codebook_array import ArrayCycles, array_cycles
from bitkiln.models.design.codebook import dynamic_levels
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.codebook import Codebooks, table_codes
from bitkiln.models.golden.codebook_array import ArrayStream, Product, array_results, product_stream
from bitkiln.models.quantize.normal_float import nf

from .bitserial_check import bits_of, pack_bits
from .codebook_check import load, random_floats
from .sparse_check import random_codes
from .streams import StreamModel, StreamRun

__all__ = ["ProductRun", "check_array", "check_product", "compare_cycles", "compare_results", "nf4_product",
           "normal_books", "pack_array", "random_array", "unpack_results"]


@dataclass(frozen=True)
class ProductRun:
    """What a checked product took.

    Attributes
    ----------
    results, macs, cycles, stalls : int
        Cycles from the first chunk to the last products, the dequantiser's latency not counted.
    peak : int
        Products of a cycle.
    """

    results: int
    macs: int
    cycles: int
    stalls: int
    peak: int


def pack_array(design: CodebookArrayDesign, stream: ArrayStream) -> dict[str, np.ndarray]:
    """Items of ``w``, ``a`` and, where there is one, of ``second``."""
    count, book = len(stream.first), design.codebook
    fields = [(stream.codes.reshape(count, -1), book.code_bits), (stream.mask, 1), (stream.first, 1),
              (stream.last, 1), (stream.emit, 1)]
    if book.select_bits:
        fields.append((stream.table, book.select_bits))
    if book.scale_bits:
        fields.append((stream.scale, book.scale_bits))
    if book.coded_scale:
        fields.append((stream.renew, 1))
    items = {"w": pack_bits(fields), "a": pack_bits([(stream.activations.reshape(count, -1), design.activation.bits)])}
    if book.coded_scale:
        second = stream.second if book.offset else stream.second[:, :, :1]
        items["second"] = pack_bits([(second.reshape(len(second), -1), 32)]) if len(second) else np.zeros(0, np.uint64)
    return items


def unpack_results(design: CodebookArrayDesign, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (E, rows, columns) as bits of float32, and ``last`` (E, rows, groups)."""
    lanes = design.result_lanes
    values = np.stack([bits_of(words, 32 * lane, 32) for lane in range(lanes)], axis=-1).astype(np.uint32)
    last = bits_of(words, result_layout(design)["last"].offset, 1).astype(bool)
    return values.reshape(-1, design.rows, design.columns), last.reshape(-1, design.rows, design.groups)


def normal_books(design: CodebookArrayDesign) -> tuple[Codebooks, float]:
    """All tables NF4 (NF3 with 3-bit codes), the dynamic tree code for scales; and what entries of 1 became: in
    integers and 4-bit floats the format's largest value."""
    book, fmt = design.codebook, design.weight
    gain = fmt.max if fmt.family == "int" or (fmt.family == "minifloat" and fmt.bits == 4) else 1.0
    values = get_format(f"nf{book.code_bits}").decode(np.arange(book.entries)) * gain
    return Codebooks(table_codes(book, np.tile(values, (book.tables, 1))), dynamic_levels()), float(gain)


def nf4_product(design: CodebookArrayDesign, a: np.ndarray, weights: np.ndarray, block: int,
                seed: int = 0) -> tuple[Codebooks, Product, np.ndarray]:
    """Weights quantised by NF4 (NF3): with ``uint8`` scales the quantiser's own double quantisation, with ``int8`` and
    ``table8`` as QLoRA stores them (256 blocks share a step; with ``offset`` their mean is taken off).

    Parameters
    ----------
    a : ndarray (M, K)
        Activation codes.
    weights : float ndarray (N, K)

    Returns
    -------
    books : Codebooks
    product : Product
    quantised : float64 ndarray (N, K)
        The weights as the quantiser sees them: exact entries times the scales.
    """
    books, gain = normal_books(design)
    double = design.scale == "uint8" and not design.offset
    found = nf(weights, design.code_bits, block, double=double)
    shape, exact = found.scale.shape, np.asarray(found.scale, np.float32)
    second = np.zeros((*shape, 2), np.float32)
    number = np.arange(exact.size)
    if double:
        code = found.scale_codes.astype(np.int64)
        step = np.asarray(found.channel_scale, np.float32)[number // found.scale_block]
        second[..., 0] = (step / np.float32(gain)).reshape(shape)
    elif design.codebook.coded_scale:
        levels = books.levels if design.scale == "table8" else \
            np.arange(256, dtype=np.float32) if design.scale == "uint8" else \
            np.arange(256).astype(np.uint8).view(np.int8).astype(np.float32)
        code = np.zeros(exact.size, np.int64)
        flat = exact.ravel()
        for start in range(0, len(flat), 256):
            some = flat[start:start + 256]
            offset = some.mean(dtype=np.float32) if design.offset else np.float32(0)
            step = np.abs(some - offset).max() / np.float32(min(levels.max(), -levels.min() if levels.min() else 255))
            step = step if step else np.float32(1)
            code[start:start + 256] = np.abs(levels[:, None] - (some - offset) / step).argmin(axis=0)
            second.reshape(-1, 2)[start:start + 256] = np.array([step, offset], np.float32) / np.float32(gain)
        code = code.reshape(shape)
    else:
        code = (exact / np.float32(gain)).view(np.uint32).astype(np.int64)
    table = np.random.default_rng(seed).integers(0, design.tables, shape)
    product = Product(a, found.codes.astype(np.int64), block, table, code if design.scale != "none" else table * 0,
                      second.view(np.uint32))
    values = get_format(f"nf{design.code_bits}").decode(found.codes.astype(np.int64))
    scale = np.ones(shape) if design.scale == "none" else exact.astype(np.float64)
    return books, product, values * np.repeat(scale, found.sizes, axis=1)


def random_array(design: CodebookArrayDesign, blocks: int, seed: int, *, longest: int | None = None,
                 specials: float = 0.02, emit: float = 0.4) -> ArrayStream:
    """Blocks of mixed lengths, any table, scales of any kind of number, activations with special values.

    Parameters
    ----------
    longest : int, optional
        In weights; default ``design.block``.
    specials : float
        Share of special codes that stay among the activations' random ones.
    emit : float
        Share of blocks that complete their sums.
    """
    rng, book, lanes = np.random.default_rng(seed), design.codebook, design.lanes
    longest = min(longest or design.block, design.block)
    lengths = np.where(rng.random(blocks) < 0.5, rng.integers(1, min(2 * lanes + 2, longest + 1), blocks),
                       rng.integers(1, longest + 1, blocks))
    chunks = -(-lengths // lanes)
    which = np.repeat(np.arange(blocks), chunks)
    place = np.arange(len(which)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    mask = place[:, None] * lanes + np.arange(lanes) < lengths[which][:, None]
    first, last = place == 0, place == chunks[which] - 1
    done = rng.random(blocks) < emit
    done[-1:] = True
    renew = (rng.random(blocks) < 0.3) & book.coded_scale
    renew[:1] = book.coded_scale
    columns, count = design.columns, len(which)
    # Most products near 1, so that sums are numbers; the rest anything.
    usual = rng.random((blocks, columns)) < 0.7
    near = rng.normal(0, 1, (blocks, columns)).astype(np.float32).view(np.uint32).astype(np.int64)
    anything = random_floats(rng, blocks * columns).reshape(blocks, columns).astype(np.int64)
    scale = np.where(usual, near, anything) if design.scale == "fp32" else rng.integers(0, 256, (blocks, columns))
    steps = rng.normal(0, 1, (int(renew.sum()), columns, 2)).astype(np.float32).view(np.uint32)
    wild = random_floats(rng, steps.size).reshape(steps.shape)
    steps = np.where(rng.random(steps.shape[:2] + (1,)) < 0.7, steps, wild).astype(np.uint32)
    activations = random_codes(design.activation, (count, design.rows, lanes), rng, specials) \
        if design.activation.family in ("int", "minifloat") \
        else rng.integers(0, 1 << design.activation.bits, (count, design.rows, lanes))
    return ArrayStream(activations, rng.integers(0, book.entries, (count, columns, lanes)), mask, first, last,
                       last & done[which], first & renew[which], rng.integers(0, book.tables, (blocks, columns))[which],
                       (scale * (design.scale != "none"))[which], steps)


def compare_results(design: CodebookArrayDesign, wanted: np.ndarray, illegal: bool, run: StreamRun,
                    note: str = "") -> None:
    """Raise where results differ from the golden ones (E, rows, columns)."""
    found, last = unpack_results(design, run.outputs["o"])
    ends = np.zeros(last.shape, bool)
    ends[:, -1:, -1:] = True
    for name, seen, expected in (("values", found, wanted), ("last", last, ends)):
        bad = np.argwhere(seen != expected) if seen.shape == expected.shape else np.zeros((1, 0), int)
        if len(bad):
            first = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} {name}{list(first)}",
                               got=f"{seen[first] if first else seen.shape} ({len(bad)} differ)",
                               expected=str(expected[first] if first else expected.shape), help=note or None,
                               exit_code=FAILED)
    if bool(run.ports["illegal"]) != illegal:
        raise BitkilnError("RTL and golden model differ", where=f"{design.name} illegal", got=run.ports["illegal"],
                           expected=str(int(illegal)), help=note or None, exit_code=FAILED)


def compare_cycles(design: CodebookArrayDesign, wanted: ArrayCycles, run: StreamRun, note: str = "",
                   from_cycle: int = 0) -> None:
    """Raise where the cycle of a transfer differs from the model's."""
    for name in ("w", "a", "o"):
        seen, cycles = run.cycles[name].astype(np.int64) - from_cycle, getattr(wanted, name)
        if not np.array_equal(seen, cycles):
            at = int(np.flatnonzero(seen != cycles)[0]) if len(seen) == len(cycles) else -1
            raise BitkilnError("RTL and cycle model differ", where=f"{design.name} stream {name}[{at}]",
                               got=f"cycle {seen[at]}", expected=str(cycles[at]), help=note or None, exit_code=FAILED)


def check_array(design: CodebookArrayDesign, model: StreamModel | None, books: Codebooks, stream: ArrayStream, *,
                stalls: dict[str, float] | None = None, seed: int = 0) -> tuple[StreamRun, np.ndarray]:
    """Write the tables, run the stream, compare every result and (without stalls) every cycle and stall.

    Returns
    -------
    run : StreamRun
        Of the stream, from its first cycle.
    values : ndarray of uint32 (E, rows, columns)

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(CodebookArray(design)) if model is None else model
    # From power-up, so that `stalls` counts this stream alone.
    model.run(load(design.codebook, books), {}, seed=seed, stalls=stalls or {}).check()
    wanted, illegal = array_results(design, books, stream)
    run = model.run(pack_array(design, stream), {"o": wanted.size // design.result_lanes}, stalls=stalls or {},
                    seed=seed, resume=True).check()
    compare_results(design, wanted, illegal, run, f"seed {seed}")
    if not stalls:
        cycles = array_cycles(design, stream.first, stream.last, stream.emit)
        compare_cycles(design, cycles, run, f"seed {seed}")
        if run.ports["stalls"] != cycles.stalls:
            raise BitkilnError("RTL and cycle model differ", where=f"{design.name} stalls", got=run.ports["stalls"],
                               expected=str(cycles.stalls), help=f"seed {seed}", exit_code=FAILED)
    return run, wanted


def check_product(design: CodebookArrayDesign, model: StreamModel, m: int, n: int, k: int, block: int,
                  seed: int) -> ProductRun:
    """A product of random activations and NF4 (NF3) weights, without stalls: every result and cycle."""
    rng = np.random.default_rng(seed)
    largest = design.activation.max / 4 if design.activation.family == "int" else 1.0
    a = design.activation.encode(rng.normal(0, largest, (m, k)), overflow="saturate").astype(np.int64)
    books, product, _ = nf4_product(design, a, rng.standard_t(4, (n, k)) * 0.05, block, seed)
    stream = product_stream(design, product)
    run, values = check_array(design, model, books, stream, seed=seed)
    cycles = int(run.cycles["a"][-1] - run.cycles["a"][0]) + 1
    tiles = values.shape[0]
    return ProductRun(values.size, tiles * design.rows * design.columns * k, cycles, run.ports["stalls"],
                      design.rows * design.columns * design.lanes)
