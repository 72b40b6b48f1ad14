"""Ternary weights of BitNet b1.58: one scale, the mean (or median) magnitude, and -1, 0 or 1 times it."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import get_format
from .grids import encode
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .symmetric import assemble, default_scale_format

__all__ = ["STATISTICS", "group_median", "ternary"]

STATISTICS = ("absmean", "absmedian")


def group_median(grouped: Grouped) -> np.ndarray:
    """Median magnitude of each group (N, G), in units."""
    magnitude = np.abs(grouped.unit)
    return np.stack([np.median(magnitude[:, start:start + size], axis=1)
                     for start, size in zip(grouped.starts, grouped.sizes, strict=True)], axis=1)


def ternary(tensor: np.ndarray, bits: float = 1.58, group: int | None = None, *, statistic: str = "absmean",
            per: str = "row", scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """``clip(round(w / scale), -1, 1)``, ties to even (0.5 to 0).

    Sources: BitNet b1.58 (arXiv 2402.17764) takes the mean magnitude of the whole tensor, b1.58 Reloaded
    (arXiv 2407.09527) the median.

    Parameters
    ----------
    statistic : str
        ``absmean`` or ``absmedian``.
    per : str
        ``row``: a scale for each row, or for each group of it; ``tensor``: one for all, as in the papers.
    group : int or None
        None: the row.
    tensor, scale, name
        As for ``rtn_sym``.
    """
    check_bits(bits, (1.58,), "ternary")
    if statistic not in STATISTICS:
        raise BitkilnError("unknown statistic", where="statistic", got=str(statistic), expected="absmean or absmedian",
                           help=nearest(statistic, STATISTICS))
    if per not in ("row", "tensor") or (per == "tensor" and group is not None):
        raise BitkilnError("contradictory options" if per == "tensor" else "unknown value", where="per", got=str(per),
                           expected="row, or tensor without a group")
    if per == "tensor":
        whole = ternary(np.asarray(tensor).ravel(), bits, None, statistic=statistic, scale=scale, name=name)
        grouped = Grouped(tensor, None, name)
        stored = store(check_scale_format(scale, "none"), np.full(grouped.count, whole.scale[0, 0]),
                       block=grouped.count[0])
    else:
        grouped = Grouped(tensor, group, name)
        value = group_median(grouped) if statistic == "absmedian" \
            else grouped.reduce(np.add, np.abs(grouped.unit)) / grouped.sizes
        stored = store(default_scale_format(grouped, scale), grouped.real(value))
    fmt, codes, values = get_format("ternary"), np.empty(grouped.rows.shape, np.uint8), stored.values()
    for rows in grouped.slabs():
        codes[rows] = encode(fmt, grouped.rows[rows], grouped.expand(values[rows]))
    return assemble("ternary", grouped, ("ternary",), stored, codes)
