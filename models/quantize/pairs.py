"""Outlier-victim pairs (OliVe, ISCA 2023): a neighbour's code makes room for a large value.

Two neighbouring weights of a group are a pair. Normal weights are int4 codes, -7 to 7. The code 1000 (-8) is no
number: it marks its weight as the *victim*, worth 0, and says that the other code of the pair is an outlier, a sign
and three bits of an adaptive-bias float ``1.m * 2**(e + 3)``: 12, 16, 24, 32, 48, 64, 96 (its code 000, which would
be 8, is not used: -0 would read as a victim). The last weight of a group of odd size has no partner and is normal.
"""

from __future__ import annotations

import numpy as np

from ..formats import Codebook, get_format
from .grids import encode, levels

__all__ = ["NORMAL", "OUTLIERS", "TOP", "VICTIM", "decode_pairs", "encode_pairs"]

NORMAL = "int4"
VICTIM = 0b1000
TOP = 7  # of a normal weight
_ABFLOAT = (None, 12, 16, 24, 32, 48, 64, 96)
OUTLIERS = Codebook("olive_abfloat", (*_ABFLOAT, *(None if v is None else -v for v in _ABFLOAT)))
LARGEST = 96.0


def _partners(columns: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second column of each pair."""
    inside = np.arange(columns) % group
    first = np.flatnonzero((inside % 2 == 0) & (inside + 1 < group))
    return first[first + 1 < columns], first[first + 1 < columns] + 1


def decode_pairs(codes: np.ndarray, group: int) -> np.ndarray:
    """float64 (n, K): levels of 4-bit codes."""
    normal, outlier = levels(NORMAL), OUTLIERS.decode(np.arange(16))
    found = np.where(codes == VICTIM, 0.0, normal[codes])
    first, second = _partners(codes.shape[1], group)
    for victim, other in ((first, second), (second, first)):
        found[:, other] = np.where(codes[:, victim] == VICTIM, outlier[codes[:, other]], found[:, other])
    return found


def encode_pairs(values: np.ndarray, scale: np.ndarray, group: int) -> np.ndarray:
    """uint8 (n, K): for each pair the codes of least squared error: both normal, or one an outlier and one a victim.

    Of equals: both normal, then an outlier in front.
    """
    unit = np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)
    one = np.ones_like(unit)
    codes = encode(get_format(NORMAL), np.clip(unit, -TOP, TOP), one)
    first, second = _partners(values.shape[1], group)
    outlier = OUTLIERS.encode(unit)
    # Errors in steps, capped so that squares stay finite: beyond the largest outlier only the order matters.
    reach = np.clip(unit, -1e100, 1e100)
    normal_error = (reach - levels(NORMAL)[codes]) ** 2
    outlier_error = (reach - OUTLIERS.decode(outlier)) ** 2
    plain = normal_error[:, first] + normal_error[:, second]
    front = outlier_error[:, first] + reach[:, second] ** 2
    back = outlier_error[:, second] + reach[:, first] ** 2
    use_front, use_back = (front < plain) & (front <= back), (back < plain) & (back < front)
    codes[:, first] = np.where(use_front, outlier[:, first], np.where(use_back, VICTIM, codes[:, first]))
    codes[:, second] = np.where(use_back, outlier[:, second], np.where(use_front, VICTIM, codes[:, second]))
    return codes
