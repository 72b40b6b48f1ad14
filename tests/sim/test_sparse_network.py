"""Streams of outliers of whole matrices, before any hardware."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.golden.sparse import sparse
from bitkiln.sim.sparse_network import outlier_stream, sums_of


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 21), (4, 8, 64), (5, 9, 37)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_streams_of_a_matrix(shape: tuple[int, int, int], density: float) -> None:
    """Edges in M, N and K, tiles without outliers: the sums are the sparse product, exactly."""
    m, n, k = shape
    rng = np.random.default_rng(97)
    design = SparseDesign("int8", "int8", rows=2, columns=4, lanes=2, tile=16)
    a = rng.integers(0, 256, (m, k))
    row, column = np.nonzero(rng.random((n, k)) < density)
    value = rng.integers(0, 256, len(row))
    stream = outlier_stream(design, a, n, row, column, value)
    assert stream.emit.sum() == -(-m // 2) * -(-n // 4) and stream.chunks.max() <= design.chunks
    found = sums_of(design, sparse(design, stream).value, m, n)
    matrix = np.zeros((n, k), np.int64)
    matrix[row, column] = value.astype(np.uint8).view(np.int8)
    assert (found == a.astype(np.uint8).view(np.int8).astype(np.int64) @ matrix.T).all()
