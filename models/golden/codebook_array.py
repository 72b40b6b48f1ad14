"""What the array of MACs behind codebook dequantisers gives, bit for bit.

Weights are the entries that `golden.codebook` looks up. A block's sum is exact (or follows the rule of fp32
accumulators); then, in float32, each step rounded to nearest even:

    f = RNE(f + RNE(RNE(block sum) * scale))      blocks in ascending order, f from +0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.codebook_array import CodebookArrayDesign
from ..errors import BitkilnError
from ..workloads.matmul import matmul as dot_matmul
from .codebook import ChunkStream, Codebooks, dequantise

__all__ = ["ArrayStream", "Product", "array_results", "product_stream", "results_of"]

FP32_NAN = 0x7FC00000


@dataclass(frozen=True)
class ArrayStream:
    """Chunks as the array takes them.

    Attributes
    ----------
    activations : ndarray (N, rows, lanes)
        Codes; masked lanes do not count.
    codes : ndarray (N, columns, lanes)
    mask : bool ndarray (N, lanes)
    first, last, emit, renew : bool ndarray (N,)
        ``emit``: with this block the sums are complete.
    table, scale : ndarray (N, columns)
        In a block's first chunk.
    second : ndarray of uint32 (S, columns, 2)
        Step and offset, bits of float32, in the order in which chunks renew them.
    """

    activations: np.ndarray
    codes: np.ndarray
    mask: np.ndarray
    first: np.ndarray
    last: np.ndarray
    emit: np.ndarray
    renew: np.ndarray
    table: np.ndarray
    scale: np.ndarray
    second: np.ndarray

    def column(self, index: int) -> ChunkStream:
        """What the dequantiser of one column takes."""
        return ChunkStream(self.codes[:, index], self.mask, self.first, self.last, self.table[:, index],
                           self.scale[:, index], self.renew, self.second[:, index])


@dataclass(frozen=True)
class Product:
    """Matrix product ``O[M, N] = A[M, K] @ (table(W) * scale)[N, K].T`` in blocks along K.

    Attributes
    ----------
    a : ndarray (M, K)
        Activation codes.
    w : ndarray (N, K)
        Weight codes.
    block : int
        The last one of a row may be shorter.
    table : ndarray (N, B)
        Of each block.
    scale : ndarray (N, B)
        8-bit code, bits of a float32 with scale ``fp32``; of no account with ``none``.
    second : ndarray of uint32 (N, B, 2)
        Step and offset of each block's scale code.
    """

    a: np.ndarray
    w: np.ndarray
    block: int
    table: np.ndarray
    scale: np.ndarray
    second: np.ndarray


def product_stream(design: CodebookArrayDesign, product: Product) -> ArrayStream:
    """The product tile by tile (columns outside, rows inside), blocks ascending; edges are filled with zeros.

    Raises
    ------
    BitkilnError
        Shapes that do not fit each other, or a block longer than the design's.
    """
    k, (n, k_of_w), block = product.a.shape[1], product.w.shape, product.block
    blocks = -(-k // block)
    for name, got, wanted in (("w", k_of_w, k), ("table", product.table.shape, (n, blocks)),
                              ("scale", product.scale.shape, (n, blocks)),
                              ("second", product.second.shape, (n, blocks, 2))):
        if got != wanted:
            raise BitkilnError("wrong shape", where=name, got=str(got), expected=str(wanted))
    if not 1 <= block <= design.block:
        raise BitkilnError("block too long", where="block", got=block, expected=f"1 to {design.block}")
    lanes, rows, columns = design.lanes, design.rows, design.columns
    lengths = np.minimum(block, k - np.arange(blocks) * block)
    chunks = -(-lengths // lanes)
    which = np.repeat(np.arange(blocks), chunks)
    place = np.arange(chunks.sum()) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    inside = place[:, None] * lanes + np.arange(lanes)
    mask = inside < lengths[which][:, None]
    at = np.where(mask, which[:, None] * block + inside, 0)

    def tiles(values: np.ndarray, size: int) -> np.ndarray:
        """(tiles, size, ...) of rows, the last ones zeros."""
        filled = np.zeros((-(-len(values) // size) * size, *values.shape[1:]), values.dtype)
        filled[:len(values)] = values
        return filled.reshape(-1, size, *values.shape[1:])

    a, w = tiles(product.a, rows), tiles(product.w, columns)
    count, first = len(a) * len(w), place == 0
    activations = np.where(mask, a[:, :, at], 0).transpose(0, 2, 1, 3)
    codes = np.where(mask, w[:, :, at], 0).transpose(0, 2, 1, 3)

    def of_tiles(values: np.ndarray) -> np.ndarray:
        """(chunks of all tiles, columns, ...) from (N, blocks, ...)."""
        chosen = np.moveaxis(tiles(values, columns)[:, :, which], 1, 2)
        return np.repeat(chosen, len(a), axis=0).reshape(count * len(which), columns, *values.shape[2:])

    starts, second = np.tile(first, count), of_tiles(product.second)
    known = second[starts]
    changed = np.append(True, (known[1:] != known[:-1]).any(axis=(1, 2))) if len(known) else np.zeros(0, bool)
    renew = np.zeros(len(starts), bool)
    renew[np.flatnonzero(starts)] = changed & design.codebook.coded_scale
    return ArrayStream(np.tile(activations, (len(w), 1, 1, 1)).reshape(-1, rows, lanes),
                       np.repeat(codes, len(a), axis=0).reshape(-1, columns, lanes), np.tile(mask, (count, 1)), starts,
                       np.tile(place == chunks[which] - 1, count),
                       np.tile((place == chunks[which] - 1) & (which == blocks - 1), count), renew,
                       of_tiles(product.table), of_tiles(product.scale), second[renew])


def results_of(design: CodebookArrayDesign, product: Product, values: np.ndarray) -> np.ndarray:
    """(M, N) of the values (tiles, rows, columns) of a product's stream."""
    m, n = len(product.a), len(product.w)
    down, across = -(-m // design.rows), -(-n // design.columns)
    found = values.reshape(across, down, design.rows, design.columns).transpose(1, 2, 0, 3)
    return found.reshape(down * design.rows, across * design.columns)[:m, :n]


def array_results(design: CodebookArrayDesign, books: Codebooks, stream: ArrayStream) -> tuple[np.ndarray, bool]:
    """Results (E, rows, columns) as bits of float32, and whether something in the stream was wrong."""
    words = [dequantise(design.codebook, books, stream.column(c)) for c in range(design.columns)]
    illegal = any(word.illegal for word in words)
    weights = np.stack([word.entries for word in words], axis=0)          # (columns, chunks, lanes)
    scales = np.stack([word.scale for word in words], axis=0)
    activations = np.where(stream.mask[:, None], stream.activations, 0)
    dot = design.array.pe.dot(design.mode)
    ends = np.flatnonzero(stream.last)
    total = np.zeros((design.rows, design.columns), np.float32)
    results, start = [], 0
    for end in ends:
        a = activations[start:end + 1].transpose(1, 0, 2).reshape(design.rows, -1)
        found = dot_matmul(dot, a, weights[:, start:end + 1].reshape(design.columns, -1))
        with np.errstate(all="ignore"):
            value = found.value(dot).astype(np.float32)
            if design.scale != "none":
                value = value * scales[:, end].astype(np.uint32).view(np.float32)
            total = total + value
        start = int(end) + 1
        if stream.emit[end]:
            bits = np.ascontiguousarray(total).view(np.uint32)
            results.append(np.where(np.isnan(total), np.uint32(FP32_NAN), bits))
            total = np.zeros_like(total)
    shape = (len(results), design.rows, design.columns)
    return (np.stack(results) if results else np.zeros(shape, np.uint32)), illegal
