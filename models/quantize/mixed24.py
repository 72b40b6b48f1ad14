"""Two bits for most groups and four for those of wide range, each group in whole memory words (arXiv 2311.16442)."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError
from ..formats.checks import check_integer
from .asymmetric import asymmetric_codes
from .footprint import group_words
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import store
from .symmetric import assemble, default_scale_format

__all__ = ["ALIGNMENT", "WIDE", "group_offsets", "mixed24"]

WIDE = 0.25
ALIGNMENT = 32


def mixed24(tensor: np.ndarray, bits: float = 2, group: int | None = 128, *, wide: float = WIDE,
            alignment: int = ALIGNMENT, scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """Asymmetric int2, but int4 for the share ``wide`` of groups whose range (max - min) is the largest.

    Parameters
    ----------
    wide : float
        Share of int4 groups, 0 to 1; their number is rounded down. Of equal ranges the first in row-major order.
    alignment : int
        Bits of a memory word, 1 to 512: every group's codes begin at one, and the rest of the last is padding.
    tensor, group, scale, name
        As for ``rtn_asym``.

    Returns
    -------
    GroupQuantized
        Types (int2, int4); zero-points take 4 bits in every group, so that the metadata is of one size.
    """
    check_bits(bits, (2,), "mixed24")
    if isinstance(wide, bool) or not isinstance(wide, (int, float)) or not 0 <= wide <= 1:
        raise BitkilnError("out of range", where="wide", got=str(wide), expected="0 to 1")
    check_integer(alignment, "alignment", 1, 512)
    grouped = Grouped(tensor, group, name)
    span = grouped.top - grouped.bottom
    rank = np.ldexp(span, np.maximum(grouped.exponent - grouped.exponent.max(), -1000)).ravel()
    kind = np.zeros(rank.size, np.uint8)
    kind[np.argsort(-rank, kind="stable")[:int(wide * rank.size)]] = 1
    kind = kind.reshape(grouped.count)
    width = np.where(kind == 1, 4, 2)
    stored = store(default_scale_format(grouped, scale), grouped.real(span / ((1 << width) - 1)))
    codes, zero = asymmetric_codes(grouped, width, stored.values(), grouped.real(grouped.bottom))
    return assemble("mixed24", grouped, ("int2", "int4"), stored, codes, type_index=kind, zero=zero, zero_bits=4,
                    alignment=alignment)


def group_offsets(q: GroupQuantized) -> np.ndarray:
    """int (N, G): the memory word of ``q.alignment`` bits at which each group's codes begin, in row-major order."""
    words = group_words(q).ravel()
    return (np.cumsum(words) - words).reshape(q.scale_codes.shape)
