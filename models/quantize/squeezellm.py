"""SqueezeLLM (arXiv 2306.07629): a codebook for each row, and the largest weights kept apart in a sparse matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import BitkilnError
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .kmeans import kmeans_rows, nearest_entry
from .rtn import checked

__all__ = ["OUTLIERS", "dense_sparse", "squeezellm"]

OUTLIERS = 0.45  # per cent of the weights


def _outliers(grouped: Grouped, percent: float) -> np.ndarray:
    """bool (N, K): the largest magnitudes of the tensor; of equals the first, and never a zero."""
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 50:
        raise BitkilnError("out of range", where="outliers", got=str(percent), expected="0 to 50 per cent")
    magnitude = np.abs(grouped.rows).ravel()
    count = min(int(percent * magnitude.size / 100), int(np.count_nonzero(magnitude)))
    chosen = np.zeros(magnitude.size, bool)
    if count:
        border = np.partition(magnitude, -count)[-count]
        chosen[magnitude > border] = True
        equal = np.flatnonzero(magnitude == border)
        chosen[equal[:count - np.count_nonzero(chosen)]] = True
    return chosen.reshape(grouped.rows.shape)


def _with_outliers(q: GroupQuantized, method: str, grouped: Grouped, chosen: np.ndarray) -> GroupQuantized:
    """What the dense codes leave of the outliers, as fp16, added."""
    row, column = np.nonzero(chosen)
    limit = np.finfo(np.float16).max
    rest = grouped.rows[row, column] - q.dequantise().reshape(grouped.rows.shape)[row, column]
    return replace(q, method=method, outlier_row=row.astype(np.uint32), outlier_column=column.astype(np.uint32),
                   outlier_value=np.clip(rest, -limit, limit).astype(np.float16))


def dense_sparse(tensor: np.ndarray, bits: int, group: int | None = 128, *, base: str = "rtn_sym",
                 outliers: float = OUTLIERS, name: str = "tensor", **options: object) -> GroupQuantized:
    """Another method for all but the largest weights, which are kept as fp16 beside it.

    Parameters
    ----------
    base : str
        Any method of ``models.quantize.methods`` but the wrapping ones; ``options`` are its own. It sees zeros where
        the outliers were.
    outliers : float
        Per cent of the tensor's weights, 0 to 50.
    tensor, bits, group, name
        As for ``rtn_sym``.
    """
    from .methods import plain_method

    method = plain_method(base, bits)
    grouped = Grouped(tensor, None, name)
    chosen = _outliers(grouped, outliers)
    dense = np.where(chosen, 0.0, grouped.rows).reshape(grouped.shape)
    return _with_outliers(method.function(dense, bits, group, name=name, **options), f"dense_sparse({base})", grouped,
                          chosen)


def squeezellm(tensor: np.ndarray, bits: int, group: int | None = None, *, outliers: float = OUTLIERS,
               sensitivity: np.ndarray | None = None, name: str = "tensor") -> GroupQuantized:
    """Codebooks of 8 or 16 fp16 entries for each row by weighted k-means, outliers in a sparse matrix.

    Parameters
    ----------
    bits : int
        3 or 4.
    group : None
        The codebook is the row's.
    outliers : float
        Per cent of the tensor's weights that the codebooks leave out, 0 to 50.
    sensitivity : ndarray, optional
        Weights of the squared errors (in the paper the diagonal of the Fisher information), shape of the tensor.
    tensor, name
        As for ``rtn_sym``.
    """
    bits = check_bits(bits, (3, 4), "squeezellm")
    if group is not None:
        raise BitkilnError("group without meaning", where="group", got=str(group), expected="none: a codebook a row",
                           help="leave the group out")
    grouped = Grouped(tensor, None, name)
    weights = np.ones(grouped.rows.shape)
    if sensitivity is not None:
        weights = checked(sensitivity, "sensitivity")
        if weights.shape != grouped.shape or (weights < 0).any():
            raise BitkilnError("sensitivity does not fit the weights", where="sensitivity", got=str(weights.shape),
                               expected=f"shape {grouped.shape}, no negative number")
        weights = np.ldexp(weights, -int(np.frexp(weights.max())[1])).reshape(grouped.rows.shape)
    chosen = _outliers(grouped, outliers)
    inside = np.where(chosen, 0.0, grouped.rows)
    # Rows by their own power of two, so that sums of squares stay finite.
    shift = np.frexp(np.abs(inside).max(axis=1, keepdims=True))[1]
    unit = np.ldexp(inside, -shift)
    limit = np.finfo(np.float16).max
    book, codes = np.empty((len(unit), 1 << bits), np.float16), np.empty(unit.shape, np.uint8)
    for rows in grouped.slabs():
        centres = kmeans_rows(unit[rows], np.where(chosen[rows], 0.0, weights[rows]), 1 << bits)
        with np.errstate(over="ignore", under="ignore"):
            book[rows] = np.clip(np.ldexp(centres, shift[rows]), -limit, limit).astype(np.float16) + np.float16(0)
        codes[rows] = nearest_entry(inside[rows], book[rows].astype(np.float64))
    q = GroupQuantized("squeezellm", grouped.shape, grouped.group, (), codes, np.zeros(grouped.count, np.uint8),
                       "none", codebook=book)
    return q if not chosen.any() else _with_outliers(q, "squeezellm", grouped, chosen)
