"""Bytes that have to move: chains of operators with and without fusion, and weights with a window of reuse.

Both are traffic alone; `memory` gives its time and energy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import BitkilnError

__all__ = ["bundle_bytes", "chain_bytes", "window_rows"]


def chain_bytes(activations: Sequence[int], weights: Sequence[int] = (), *, fused: bool) -> int:
    """Off-chip bytes of a chain of operators.

    Parameters
    ----------
    activations : sequence of int
        Bytes of the chain's input, of every tensor between two operators, and of its output: one more than operators.
    weights : sequence of int
        Bytes of each operator's weights; none by default.
    fused : bool
        Then only the input, the output and the weights move (SN40L, arXiv 2405.07518); else each tensor between two
        operators goes out and comes in again.
    """
    if len(activations) < 2 or weights and len(weights) != len(activations) - 1:
        raise BitkilnError("lengths do not match", where="chain_bytes",
                           got=f"{len(activations)} activations, {len(weights)} weights",
                           expected="one activation more than operators, one weight each or none")
    if min(*activations, *weights) < 0:
        raise BitkilnError("negative bytes", where="chain_bytes", got=min(*activations, *weights), expected="0 or more")
    ends = activations[0] + activations[-1] + sum(weights)
    return ends if fused else ends + 2 * sum(activations[1:-1])


def bundle_bytes(row_bytes: int, rows: int = 2) -> int:
    """The chunk when ``rows`` rows used together lie together: a row of the up-projection and the column of the
    down-projection that goes with it are 2 (row-column bundling, arXiv 2312.11514)."""
    if row_bytes < 1 or rows < 1:
        raise BitkilnError("out of range", where="bundle_bytes", got=(row_bytes, rows), expected="1 or more each")
    return row_bytes * rows


def window_rows(active: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of weights that each token loads when those of the last tokens stay (windowing, arXiv 2312.11514).

    Parameters
    ----------
    active : bool ndarray (tokens, rows)
        Which rows a token needs.
    window : int
        Tokens whose rows are kept, the present one not counted; 0 keeps nothing.

    Returns
    -------
    loaded : ndarray (tokens,)
        Rows that come in for each token.
    held : ndarray (tokens,)
        Rows held while it is worked on: its own and those of the window.
    """
    active = np.asarray(active)
    if active.ndim != 2 or active.dtype != bool:
        raise BitkilnError("bad shape", where="active", got=f"{active.dtype} {active.shape}",
                           expected="bool (tokens, rows)")
    if window < 0:
        raise BitkilnError("out of range", where="window", got=window, expected="0 or more")
    loaded, held = np.zeros(len(active), np.int64), np.zeros(len(active), np.int64)
    for token, needs in enumerate(active):
        kept = active[max(token - window, 0):token].any(axis=0)
        loaded[token] = np.count_nonzero(needs & ~kept)
        held[token] = np.count_nonzero(needs | kept)
    return loaded, held
