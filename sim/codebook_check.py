"""Random blocks through the codebook dequantiser at full simulation speed, against golden and cycle model."""

from __future__ import annotations

import numpy as np

from bitkiln.hw.dequant.codebook import CodebookDequantiser, table_layout, word_layout
from bitkiln.models.cost.cycles.codebook import codebook_cycles
from bitkiln.models.design.codebook import LEVELS, CodebookDesign, dynamic_levels
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.codebook import ChunkStream, Codebooks, WordStream, chunks_of, dequantise

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["check_chunks", "level_words", "load", "pack_chunks", "random_books", "random_chunks", "table_words",
           "unpack_words"]


def table_words(design: CodebookDesign, entries: np.ndarray) -> np.ndarray:
    """Items of ``table`` that write all tables (T, entries), which may be more than there are."""
    table, code = np.indices(entries.shape)
    fields = [(table.ravel(), design.select_bits)] if design.select_bits else []
    words = pack_bits([*fields, (code.ravel(), design.code_bits), (entries.ravel(), design.output.bits)])
    assert table_layout(design).size <= 64
    return words


def level_words(levels: np.ndarray) -> np.ndarray:
    """Items of ``level`` that write the table of scale codes."""
    bits = np.asarray(levels, np.float32).view(np.uint32)
    return bits.astype(np.uint64) << np.uint64(8) | np.arange(LEVELS, dtype=np.uint64)


def pack_chunks(design: CodebookDesign, stream: ChunkStream) -> dict[str, np.ndarray]:
    """Items of ``i`` and, where there is one, of ``second``."""
    fields = [(stream.codes, design.code_bits), (stream.mask, 1), (stream.first, 1), (stream.last, 1)]
    if design.select_bits:
        fields.append((stream.table, design.select_bits))
    if design.scale_bits:
        fields.append((stream.scale, design.scale_bits))
    if design.coded_scale:
        fields.append((stream.renew, 1))
    items = {"i": pack_bits(fields)}
    if design.coded_scale:
        second = stream.second.astype(np.uint64)
        items["second"] = second[:, 0] | second[:, 1] << np.uint64(32) if design.offset else second[:, 0]
    return items


def unpack_words(design: CodebookDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of ``o``: ``entries`` (W, elements), ``first``, ``last`` and, where there is one, ``scale``."""
    layout, bits = word_layout(design), design.output.bits
    found = {"entries": np.stack([bits_of(words, at, bits) for at in range(0, design.word_bits, bits)], axis=1)}
    for name, field in layout:
        if name != "word":
            found[name] = bits_of(words, field.offset, field.width)
    return found


def random_books(design: CodebookDesign, seed: int) -> Codebooks:
    """Any entries; the dynamic tree code, with a few values that only a careless checkpoint holds."""
    rng = np.random.default_rng(seed)
    entries = rng.integers(0, 1 << design.output.bits, (design.tables, design.entries))
    levels = dynamic_levels()
    levels[[3, 77, 130, 200, 255]] = np.array([np.nan, -np.inf, np.inf, -0.0, 1e-42], np.float32)
    return Codebooks(entries, levels)


def random_floats(rng: np.random.Generator, count: int) -> np.ndarray:
    """Bits of float32: usual sizes, any pattern, zeros, subnormals, infinities and NaN."""
    usual = rng.normal(0, 1, count).astype(np.float32).view(np.uint32)
    codes = np.where(rng.random(count) < 0.6, usual, rng.integers(0, 1 << 32, count, dtype=np.uint32))
    kind = rng.random(count)
    codes = np.where(kind < 0.05, codes & 0x807FFFFF, codes)
    codes = np.where((kind >= 0.05) & (kind < 0.1), codes & 0x80000000, codes)
    codes = np.where((kind >= 0.1) & (kind < 0.12), codes | 0x7F800000, codes)
    return np.where((kind >= 0.12) & (kind < 0.14), codes & 0x80000000 | 0x7F800000, codes).astype(np.uint32)


def random_chunks(design: CodebookDesign, blocks: int, seed: int, longest: int = 96) -> ChunkStream:
    """Blocks of mixed lengths, tables and scales; a new step and offset every few blocks."""
    rng = np.random.default_rng(seed)
    short = rng.random(blocks) < 0.5
    lengths = np.where(short, rng.integers(1, 2 * design.lanes + 2, blocks), rng.integers(1, longest + 1, blocks))
    scale = random_floats(rng, blocks) if design.scale == "fp32" else rng.integers(0, LEVELS, blocks)
    renew = (rng.random(blocks) < 0.3) & design.coded_scale
    if blocks and design.coded_scale:
        renew[0] = True
    second = random_floats(rng, 2 * int(renew.sum())).reshape(-1, 2)
    return chunks_of(design, rng.integers(0, design.entries, int(lengths.sum())), lengths,
                     rng.integers(0, design.tables, blocks), scale * (design.scale != "none"), renew, second)


def load(design: CodebookDesign, books: Codebooks) -> dict[str, np.ndarray]:
    """Items that write all tables."""
    items = {"table": table_words(design, books.entries)}
    if books.levels is not None and design.scale == "table8":
        items["level"] = level_words(books.levels)
    return items


def check_chunks(design: CodebookDesign, model: StreamModel | None, books: Codebooks, stream: ChunkStream, *,
                 stalls: dict[str, float] | None = None, seed: int = 0, resume: bool = False) -> StreamRun:
    """Write the tables, run the stream, compare every word and (without stalls) every cycle.

    Parameters
    ----------
    model : StreamModel, optional
        Of the design.
    resume : bool
        Go on with the model as it is.

    Returns
    -------
    StreamRun
        Of the chunks.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(CodebookDequantiser(design)) if model is None else model
    model.run(load(design, books), {}, seed=seed, stalls=stalls or {}, resume=resume).check()
    wanted = dequantise(design, books, stream)
    run = model.run(pack_chunks(design, stream), {"o": len(wanted.last)}, stalls=stalls or {}, seed=seed,
                    resume=True).check()
    compare(design, wanted, run, f"seed {seed}")
    if not stalls:
        accepted, words = codebook_cycles(design, stream.first, wanted.chunk)
        for name, cycles in (("i", accepted), ("o", words)):
            seen = run.cycles[name].astype(np.int64)
            if not np.array_equal(seen, cycles):
                at = int(np.flatnonzero(seen != cycles)[0])
                raise BitkilnError("RTL and cycle model differ", where=f"{design.name} stream {name}[{at}]",
                                   got=f"cycle {seen[at]}", expected=str(cycles[at]), help=f"seed {seed}",
                                   exit_code=FAILED)
    return run


def compare(design: CodebookDesign, wanted: WordStream, run: StreamRun, note: str = "") -> None:
    """Raise where words or flags differ from the golden ones."""
    found = unpack_words(design, run.outputs["o"])
    for name, seen in found.items():
        expected = getattr(wanted, name)
        bad = np.argwhere(seen != expected) if seen.shape == expected.shape else np.zeros((1, 0), int)
        if len(bad):
            first = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} {name}{list(first)}",
                               got=f"{seen[first] if first else seen.shape}",
                               expected=str(expected[first] if first else expected.shape), help=note or None,
                               exit_code=FAILED)
    if bool(run.ports["illegal"]) != wanted.illegal:
        raise BitkilnError("RTL and golden model differ", where=f"{design.name} illegal", got=run.ports["illegal"],
                           expected=str(int(wanted.illegal)), help=note or None, exit_code=FAILED)
