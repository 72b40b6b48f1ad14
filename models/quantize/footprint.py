"""Stored bits of a quantised matrix, part by part, with all metadata and padding."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from .grids import special_count, type_bits
from .scales import scale_bits

if TYPE_CHECKING:
    from .groups import GroupQuantized

__all__ = ["choice_bits", "code_bits", "group_words", "stored_bits"]

TRITS_IN_A_BYTE = 5


def choice_bits(count: int) -> int:
    """Bits that tell ``count`` things apart."""
    return (count - 1).bit_length()


def group_words(q: GroupQuantized) -> np.ndarray:
    """int (N, G): memory words of ``q.alignment`` bits that the codes of each group take."""
    width = np.array([type_bits(name) for name in q.types])
    each = width[0] if q.type_index is None else width[q.type_index]
    return -(-np.broadcast_to(each * q.sizes, q.scale_codes.shape) // q.alignment)


def code_bits(q: GroupQuantized) -> int:
    """Bits of all codes.

    Ternary codes are packed five to a byte, row by row, which pads the last byte of a row; aligned groups are padded
    to whole words; everything else is packed without gaps.
    """
    rows, columns = q.matrix
    if q.codebook is not None:
        return rows * columns * choice_bits(q.codebook.shape[1])
    if q.salient is not None:
        plain, salient = (type_bits(name) for name in q.types)
        count = int(np.count_nonzero(q.salient))
        return rows * (count * salient + (columns - count) * plain)
    if q.types == ("ternary",):
        return rows * 8 * -(-columns // TRITS_IN_A_BYTE)
    return int(group_words(q).sum()) * q.alignment


def stored_bits(q: GroupQuantized) -> dict[str, int]:
    """Bits by part; parts that do not exist are left out."""
    rows, columns = q.matrix
    groups = rows * q.groups
    width = scale_bits(q.scale_format)
    specials = max((special_count(name) for name in q.types), default=0)
    outliers = 0 if q.outlier_value is None else len(q.outlier_value)
    found = {
        "codes": code_bits(q),
        "scales": groups * width if q.codebook is None else 0,
        "negative scales": groups * width if q.negative_scale_codes is not None else 0,
        "salient scales": groups * width if q.salient_scale_codes is not None else 0,
        "channel scales": 32 * len(q.channel_scale) if q.channel_scale is not None else 0,
        "zero-points": groups * q.zero_bits if q.zero is not None else 0,
        "selectors": groups * (choice_bits(len(q.types)) if q.type_index is not None else 0)
        + groups * (choice_bits(specials) if q.special_index is not None else 0) + q.tensor_bits,
        "mask": columns if q.salient is not None else 0,
        "codebooks": 16 * prod(q.codebook.shape) if q.codebook is not None else 0,
        "outlier values": 16 * outliers,
        # Compressed rows: a column for each outlier, and where each row's outliers begin.
        "outlier columns": (16 if columns <= 1 << 16 else 32) * outliers,
        "outlier rows": 32 * ceil(rows + 1) if q.outlier_value is not None else 0,
        "input scales": 32 * columns if q.input_scale is not None and not q.folded else 0,
    }
    return {part: bits for part, bits in found.items() if bits or part == "codes"}
