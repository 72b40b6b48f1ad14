"""A trained network as SqueezeLLM stores it (arXiv 2306.07629): tables in float, every outlier through the RTL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.golden.sparse import SparseStream
from bitkiln.models.quantize.squeezellm import squeezellm
from bitkiln.models.workloads import digits

from .sparse_check import check_sparse, unpack_sums
from .streams import StreamModel

__all__ = ["DigitsRun", "outlier_stream", "run_sparse_digits", "sums_of"]

BITS = 3
OUTLIERS = 0.5      # per cent


@dataclass(frozen=True)
class DigitsRun:
    """Accuracies in float, with the tables alone, and with the side path's sums; what went through the RTL."""

    exact: float
    dense: float
    both: float
    sums: int
    outliers: int
    weights: int
    stalls: int


def outlier_stream(design: SparseDesign, a: np.ndarray, channels: int, row: np.ndarray, column: np.ndarray,
                   value: np.ndarray) -> SparseStream:
    """The tiles of ``A[M, K] @ S[N, K].T`` for a sparse S: columns of results outside, rows inside, K in tiles.

    Parameters
    ----------
    a : ndarray (M, K)
        Activation codes.
    channels : int
        N.
    row, column, value : ndarray
        Of each outlier: its output channel, its place along K, its code.
    """
    m, k = a.shape
    down, across, along = -(-m // design.rows), -(-channels // design.columns), -(-k // design.tile)
    filled = np.zeros((down * design.rows, -(-k // design.lanes) * design.lanes), np.int64)
    filled[:m, :k] = a
    width = filled.shape[1]
    bounds = [(t * design.tile, min((t + 1) * design.tile, width)) for t in range(along)]
    strips = filled.reshape(down, design.rows, width)
    items, number = [], 0
    for c in range(across):
        parts = []
        for low, high in bounds:
            at = np.flatnonzero((row // design.columns == c) & (column >= low) & (column < high))
            place = column[at] - low
            fields = np.stack([place // design.lanes, place % design.lanes, row[at] % design.columns, value[at],
                               np.ones(len(at), np.int64)])
            parts.append(fields if len(at) else np.zeros((5, 1), np.int64))
        for _ in range(down):
            for part in parts:
                items.append(np.concatenate([np.full((1, part.shape[1]), number), part]))
                number += 1
    tile, chunk, lane, col, code, mask = np.concatenate(items, axis=1)
    lengths = np.tile([(high - low) // design.lanes for low, high in bounds], down * across)
    activations = np.tile(strips, (across, 1, 1)).transpose(1, 0, 2).reshape(design.rows, -1)
    return SparseStream(activations, lengths, np.tile(np.arange(along) == along - 1, down * across), tile, chunk, lane,
                        col, code, mask.astype(bool))


def sums_of(design: SparseDesign, values: np.ndarray, m: int, n: int) -> np.ndarray:
    """(M, N) of the sums (results, rows, columns) of a product's stream."""
    down, across = -(-m // design.rows), -(-n // design.columns)
    found = values.reshape(across, down, design.rows, design.columns).transpose(1, 2, 0, 3)
    return found.reshape(down * design.rows, across * design.columns)[:m, :n]


def run_sparse_digits(design: SparseDesign, model: StreamModel, images: int) -> DigitsRun:
    """Accuracy of the digits MLP with 3-bit tables for each channel and 0.5 % outliers in fp16.

    The tables' products are float64 arithmetic, the outliers' the RTL's exact sums of the rounded activations, each
    compared with the golden model in bits and cycles.
    """
    data = digits.load()
    network = data.network("mlp")
    x, labels = digits.scale_images(data.images[:images]), data.labels[:images]
    both = dense = x.reshape(len(x), -1)
    sums = outliers = weights = stalls = 0
    for layer in network.layers:
        q = squeezellm(layer.weight, BITS, outliers=OUTLIERS, name=layer.name)
        channels, k = layer.weight.shape
        table = np.take_along_axis(q.codebook.astype(np.float64), q.codes.astype(np.int64), axis=1)
        largest = design.activation.max if design.activation.family == "int" else 1.0
        unit = np.abs(both).max() / largest or 1.0
        a = design.activation.encode(both / unit, overflow="saturate").astype(np.int64)
        value = q.outlier_value.view(np.uint16).astype(np.int64)
        stream = outlier_stream(design, a, channels, q.outlier_row.astype(np.int64), q.outlier_column.astype(np.int64),
                                value)
        run = check_sparse(design, model, stream)
        found = unpack_sums(design, run.outputs["o"])["value"].astype(np.float64) * 2.0 ** design.exponent
        side = sums_of(design, found, len(a), channels) * unit
        both, dense = both @ table.T + side + layer.bias, dense @ table.T + layer.bias
        if layer.relu:
            both, dense = np.maximum(both, 0), np.maximum(dense, 0)
        sums, outliers, weights = sums + found.size, outliers + len(value), weights + channels * k
        stalls += int(run.ports["stalls"])
    scores = (network.forward(x)[0], dense, both)
    exact, without, together = (float(np.mean(score.argmax(axis=1) == labels)) for score in scores)
    return DigitsRun(exact, without, together, sums, outliers, weights, stalls)
