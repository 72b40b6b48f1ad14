"""What the codebook dequantiser gives, bit for bit.

A code becomes the entry of its block's table: a code of the output format, into which the table's values were rounded
once. An 8-bit scale becomes ``RNE(RNE(value * step) + offset)`` in float32, the two roundings of double quantisation
(QLoRA, arXiv 2305.14314, section 3), where the value is the code itself or an entry of a table of 256.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.codebook import LEVELS, CodebookDesign
from ..errors import BitkilnError

__all__ = ["ChunkStream", "Codebooks", "WordStream", "chunks_of", "dequantise", "second_level", "table_codes"]

FP32_NAN = 0x7FC00000


def table_codes(design: CodebookDesign, values: np.ndarray) -> np.ndarray:
    """Entries of tables: their values rounded to nearest even in the output format, saturating.

    Parameters
    ----------
    values : float ndarray (tables, entries)
        8 entries where codes have 4 bits: a 3-bit code means the same with a one above.

    Returns
    -------
    ndarray (tables, design.entries)
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] not in (8, design.entries) or values.shape[1] > design.entries:
        raise BitkilnError("not tables of this design", where="values", got=str(values.shape),
                           expected=f"(tables, {design.entries})" + " or (tables, 8)" * (design.entries > 8))
    values = np.tile(values, (1, design.entries // values.shape[1]))
    return design.output.encode(values, overflow="saturate")


@dataclass(frozen=True)
class Codebooks:
    """What was written before a stream.

    Attributes
    ----------
    entries : ndarray (design.tables, design.entries)
        Codes of the output format.
    levels : ndarray of float32 (256,), optional
        What the scale codes of ``table8`` stand for.
    """

    entries: np.ndarray
    levels: np.ndarray | None = None


@dataclass(frozen=True)
class ChunkStream:
    """Chunks as the unit takes them.

    Attributes
    ----------
    codes : ndarray (N, lanes)
    mask : bool ndarray (N, lanes)
    first, last, renew : bool ndarray (N,)
    table : ndarray (N,)
    scale : ndarray (N,)
        Code, or with ``fp32`` the bits of a float32.
    second : ndarray of uint32 (S, 2)
        Step and offset, bits of float32, in the order in which chunks renew them.
    """

    codes: np.ndarray
    mask: np.ndarray
    first: np.ndarray
    last: np.ndarray
    table: np.ndarray
    scale: np.ndarray
    renew: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class WordStream:
    """Words as the unit gives them.

    Attributes
    ----------
    entries : ndarray (W, word_bits / output bits)
        Codes of the output format.
    first, last : bool ndarray (W,)
    scale : ndarray of uint32 (W,)
        Bits of float32; 0 without scales.
    chunk : ndarray (W,)
        The word's last chunk.
    illegal : bool
        Something in the stream was wrong.
    """

    entries: np.ndarray
    first: np.ndarray
    last: np.ndarray
    scale: np.ndarray
    chunk: np.ndarray
    illegal: bool


def chunks_of(design: CodebookDesign, codes: np.ndarray, lengths: np.ndarray, table: np.ndarray | int = 0,
              scale: np.ndarray | int = 0, renew: np.ndarray | bool = False,
              second: np.ndarray | None = None) -> ChunkStream:
    """Blocks cut into chunks; lanes beyond a block's end are masked and hold ones.

    Parameters
    ----------
    codes : ndarray (K,)
        The blocks' codes one after the other.
    lengths : ndarray (B,)
        Of the blocks, at least 1; their sum is K.
    table, scale, renew : ndarray (B,)
    second : ndarray (S, 2), optional
    """
    codes, lengths = np.asarray(codes), np.asarray(lengths)
    if lengths.sum() != len(codes) or (len(lengths) and lengths.min() < 1):
        raise BitkilnError("lengths do not fit the codes", where="lengths", got=int(lengths.sum()),
                           expected=f"positive numbers that add up to {len(codes)}")
    counts = -(-lengths // design.lanes)
    block = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    element = place[:, None] * design.lanes + np.arange(design.lanes)
    mask = element < lengths[block][:, None]
    start = np.cumsum(lengths) - lengths
    found = codes[np.where(mask, start[block][:, None] + element, 0)] if len(codes) else np.zeros(mask.shape, int)

    def each(value: object) -> np.ndarray:
        return np.broadcast_to(np.asarray(value), lengths.shape)[block]

    return ChunkStream(np.where(mask, found, design.entries - 1), mask, place == 0, place == counts[block] - 1,
                       each(table), each(scale), each(renew).astype(bool) & (place == 0),
                       np.zeros((0, 2), np.uint32) if second is None else np.asarray(second, np.uint32))


def second_level(design: CodebookDesign, codes: np.ndarray, step: np.ndarray, offset: np.ndarray | int = 0,
                 levels: np.ndarray | None = None) -> np.ndarray:
    """Scales of 8-bit codes, as bits of float32.

    Parameters
    ----------
    codes : ndarray
        0..255.
    step, offset : ndarray of uint32
        Bits of float32; the offset counts with ``design.offset``.
    levels : ndarray of float32 (256,)
        With ``table8``.
    """
    codes = np.asarray(codes)
    if codes.size and not 0 <= codes.min() <= codes.max() < LEVELS:
        raise BitkilnError("scale code out of range", where="codes", got=f"{codes.min()} to {codes.max()}",
                           expected="0 to 255")
    if design.scale == "table8":
        if levels is None or levels.shape != (LEVELS,):
            raise BitkilnError("no table of scales", where="levels", expected="256 float32",
                               got="none" if levels is None else str(levels.shape))
        value = np.asarray(levels, np.float32)[codes]
    else:
        value = (codes.astype(np.int8) if design.scale == "int8" else codes).astype(np.float32)
    with np.errstate(all="ignore"):
        scale = value * np.asarray(step, np.uint32).view(np.float32)
        if design.offset:
            scale = scale + np.asarray(offset, np.uint32).view(np.float32)
    return np.where(np.isnan(scale), np.uint32(FP32_NAN), np.ascontiguousarray(scale).view(np.uint32))


def dequantise(design: CodebookDesign, books: Codebooks, stream: ChunkStream) -> WordStream:
    """The words of a stream of chunks, in any order of ``first`` and ``last``."""
    entries, count = np.asarray(books.entries), len(stream.first)
    if entries.shape != (design.tables, design.entries):
        raise BitkilnError("not tables of this design", where="entries", got=str(entries.shape),
                           expected=f"({design.tables}, {design.entries})")
    # What a chunk's block has chosen: the last first chunk's; table 0 and the scale 0 before there was one.
    block = np.cumsum(stream.first) - 1
    starts = np.flatnonzero(stream.first)

    def of_block(values: np.ndarray) -> np.ndarray:
        return np.append(values, np.zeros(1, values.dtype))[np.where(block < 0, len(values), block)]

    table = of_block(stream.table[starts])
    every = np.concatenate([entries, np.zeros((1, design.entries), entries.dtype)])[np.minimum(table, design.tables)]
    found = np.where(stream.mask, np.take_along_axis(every, stream.codes, axis=1), 0)
    scale = np.zeros(count, np.uint32)
    if design.scale == "fp32":
        scale = of_block(stream.scale[starts].astype(np.uint32))
    elif design.coded_scale:
        item = np.cumsum(stream.renew[starts]) - 1
        second = np.concatenate([stream.second, np.zeros((1, 2), np.uint32)])[item]
        scale = of_block(second_level(design, stream.scale[starts], second[:, 0], second[:, 1], books.levels))

    # Word and place of each chunk: a word is full, or its block ends.
    word, place = np.zeros(count, np.int64), np.zeros(count, np.int64)
    number = at = 0
    for k in range(count):
        word[k], place[k] = number, at
        at = 0 if stream.last[k] or at == design.chunks - 1 else at + 1
        number += at == 0
    entries_of = np.zeros((number + 1, design.chunks, design.lanes), entries.dtype)
    entries_of[word, place] = found
    first, ends = np.zeros(number + 1, bool), np.zeros(number + 1, np.int64)
    first[word[stream.first]] = True
    np.maximum.at(ends, word, np.arange(count))
    # What the last word lacks is still to come.
    first, ends = first[:number], ends[:number]
    inside = np.append(False, ~stream.last)[:count]
    illegal = (stream.first == inside).any() or (stream.table[starts] >= design.tables).any()
    codes = entries_of[:number].reshape(number, design.chunks * design.lanes)
    return WordStream(codes, first, stream.last[ends], scale[ends], ends, bool(illegal))
