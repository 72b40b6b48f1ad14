"""GGUF matrices for the dequantising core: weight streams of their jobs, and the product from the core's results.

>>> matrix = GgufMatrix(gguf_design("q4_k", rows=2, columns=4), "q4_k", file.integers("blk.0.ffn_up.weight"))
>>> for piece in matrix.pieces:                 # jobs of one tile of activations, in this order
...     send(matrix.job(piece, rows), piece_stream(matrix, piece), piece_activations(matrix, piece, codes))
>>> product = collect(matrix, rows, [receive(...) for piece in matrix.pieces])

Weight streams do not depend on the activations: they can be made once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.gguf_core import GgufMatrix, Piece, add_pieces

from .dequant import activation_chunks, order_results, weight_stream

__all__ = ["collect", "piece_activations", "piece_stream"]


def piece_stream(matrix: GgufMatrix, piece: Piece) -> np.ndarray:
    """Bytes of a piece's weight stream (`weight_stream`)."""
    return weight_stream(matrix.design, matrix.job(piece, 1), matrix.weights(piece))


def piece_activations(matrix: GgufMatrix, piece: Piece, activations: np.ndarray) -> np.ndarray:
    """Codes of a piece's activation words (words, lanes).

    Parameters
    ----------
    activations : ndarray (rows, K)
        Codes of all of the tile's rows.
    """
    return activation_chunks(matrix.design, matrix.job(piece, len(activations)), activations[:, matrix.part(piece)])


def collect(matrix: GgufMatrix, rows: int, results: Sequence[np.ndarray]) -> np.ndarray:
    """The product of a tile of activations, float64 (rows, N).

    Parameters
    ----------
    results : sequence of uint32 ndarray (rows * channels,)
        Float32 codes of each piece's job as the core gives them, in the order of ``matrix.pieces``.

    Raises
    ------
    BitkilnError
        Not as many results as the jobs have.
    """
    parts = []
    for piece, codes in zip(matrix.pieces, results, strict=True):
        job = matrix.job(piece, rows)
        if codes.shape != (rows * job.channels,):
            raise BitkilnError("wrong number of results", where=f"column {piece.block} of blocks", got=len(codes),
                               expected=f"{rows * job.channels}")
        parts.append(order_results(matrix.design, job, codes.astype(np.uint32)).view(np.float32))
    return add_pieces(matrix, parts)
