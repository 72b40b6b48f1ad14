"""AFPQ (arXiv 2311.01792): a scale for the positive and one for the negative weights of each group."""

from __future__ import annotations

import numpy as np

from ..formats import get_format
from .grids import encode, levels
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .symmetric import assemble, choose_element

__all__ = ["GRIDS", "afpq", "two_sided_codes"]

GRIDS = {3: ("fp3", "nf3"), 4: ("fp4", "nf4")}


def two_sided_codes(grouped: Grouped, element: str, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Nearest codes (N, K) where weights below zero are divided by ``negative``, the others by ``positive``."""
    fmt, codes = get_format(element), np.empty(grouped.rows.shape, np.uint8)
    for rows in grouped.slabs():
        values = grouped.rows[rows]
        scale = np.where(values < 0, grouped.expand(negative[rows]), grouped.expand(positive[rows]))
        codes[rows] = encode(fmt, values, scale)
    return codes


def afpq(tensor: np.ndarray, bits: int, group: int | None = 128, *, element: str | None = None,
         scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """Two-sided absmax: ``s+ = max(w, 0) / max``, ``s- = max(-w, 0) / max``, nearest value on each side.

    A group without positive (negative) weights has ``s+`` (``s-``) 0. (The authors' program passes groups without a
    positive value through unquantised, and takes the lower value midway; here ties go to the even code.)

    Parameters
    ----------
    bits : int
        3 or 4.
    element : str, optional
        ``fp3``/``fp4`` (default) or ``nf3``/``nf4``.
    scale : str, optional
        Storage of the scales; default ``uint8`` for both with one float32 for the channel: 16 bits a group, as
        asymmetric INT takes with an 8-bit scale and a zero-point in 8 bits.
    tensor, group, name
        As for ``rtn_sym``.
    """
    grouped = Grouped(tensor, group, name)
    kind = choose_element(element, GRIDS[check_bits(bits, tuple(GRIDS), "afpq")])
    top, bottom = levels(kind).max(), -levels(kind).min()
    stored = store(check_scale_format(scale, "uint8"), grouped.real(grouped.top / top),
                   grouped.real(-grouped.bottom / bottom))
    codes = two_sided_codes(grouped, kind, stored.values(0), stored.values(1))
    return assemble("afpq", grouped, (kind,), stored, codes, negative_scale_codes=stored.codes[1])
