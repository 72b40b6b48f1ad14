"""OliVe (ISCA 2023): outliers take their neighbour's code; see ``models.quantize.pairs`` for the codes."""

from __future__ import annotations

import numpy as np

from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .pairs import LARGEST, NORMAL, TOP, decode_pairs, encode_pairs
from .scales import store
from .search import Measure, Search
from .symmetric import assemble, default_scale_format

__all__ = ["RATIOS", "olive"]

RATIOS = np.arange(50, 151, 2) / 100  # of three deviations, in steps of 2 %
SIGMAS = 3


def olive(tensor: np.ndarray, bits: int = 4, group: int | None = 128, *, scale: str | None = None,
          name: str = "tensor") -> GroupQuantized:
    """4-bit outlier-victim pairs: normal weights reach three deviations, larger ones replace their neighbour.

    The scale puts three root-mean-squares of a group on 7, times 50 % to 150 % in steps of 2 %; the plain absmax
    scale is tried first, so a group without outliers loses nothing against symmetric INT4 (but the scale's storage).
    Each pair takes the codes of least squared error; the authors' rule (beyond the normal range: outlier; of two
    outliers the odd one is dropped) decides the same except near the border.

    Parameters
    ----------
    As for ``rtn_sym``; 4 bits. A group of odd size leaves its last weight without a partner.
    """
    check_bits(bits, (4,), "olive")
    grouped = Grouped(tensor, group, name)
    measure, search = Measure(grouped), Search()
    rms = np.sqrt(grouped.reduce(np.add, grouped.unit ** 2) / grouped.sizes)
    # A scale below this cannot hold the largest weight even as an outlier.
    least = grouped.amax / LARGEST
    for unit_scale in (grouped.amax / TOP, *(np.maximum(SIGMAS * rms / TOP * ratio, least) for ratio in RATIOS)):
        def nearest(unit: np.ndarray, rows: slice, unit_scale: np.ndarray = unit_scale) -> np.ndarray:
            wide = grouped.expand(unit_scale[rows])
            return decode_pairs(encode_pairs(unit, wide, grouped.group), grouped.group) * wide
        search.offer(measure.error(nearest), scale=unit_scale)
    stored = store(default_scale_format(grouped, scale), grouped.real(search.best["scale"]))
    values, codes = stored.values(), np.empty(grouped.rows.shape, np.uint8)
    for rows in grouped.slabs():
        codes[rows] = encode_pairs(grouped.rows[rows], grouped.expand(values[rows]), grouped.group)
    return assemble("olive", grouped, (NORMAL,), stored, codes, pairs=True)
