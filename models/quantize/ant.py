"""ANT (MICRO 2022): integers, floats, powers of two or their mixture flint, whichever suits the data."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError
from ..formats import get_format
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import store
from .search import Measure, Search, grid_error
from .symmetric import absmax_scale, assemble, default_scale_format, grid_codes

__all__ = ["RATIOS", "TYPES", "ant", "flint"]

RATIOS = np.arange(75, 151) / 100  # of the largest magnitude, in steps of 1 %
# int, flint, power of two, float. With three bits, flint and the power of two are the levels of fp3.
TYPES = {3: ("int3", "fp3"), 4: ("int4", "flint4", "e3m0", "fp4")}


def flint(tensor: np.ndarray, bits: int = 4, group: int | None = 128, *, scale: str | None = None,
          name: str = "tensor") -> GroupQuantized:
    """FLINT4: 0, 1, 2, 3, 4, 6, 8, 16 and their negatives, ``scale = max|w| / 16``, nearest.

    Ties go to the even code (the authors' kernel takes the larger value).

    Parameters
    ----------
    As for ``rtn_sym``; 4 bits.
    """
    grouped = Grouped(tensor, group, name)
    kinds = (f"flint{check_bits(bits, (4,), 'flint')}",)
    stored = store(default_scale_format(grouped, scale),
                   grouped.real(absmax_scale(grouped, get_format(kinds[0]).max)))
    return assemble("flint", grouped, kinds, stored, grid_codes(grouped, kinds, stored.values()))


def ant(tensor: np.ndarray, bits: int, group: int | None = 128, *, per: str = "tensor", scale: str | None = None,
        name: str = "tensor") -> GroupQuantized:
    """The type and the clipping of least squared error.

    Every type is tried with scales of 75 % to 150 % of the largest magnitude's, in steps of 1 %, narrow first; the
    first of equals wins.

    Parameters
    ----------
    bits : int
        3 (int3, fp3) or 4 (int4, flint4, e3m0 = powers of two, fp4).
    per : str
        ``tensor``: one type and one ratio for all, as in the paper; ``group``: each group its own.
    tensor, group, scale, name
        As for ``rtn_sym``.
    """
    if per not in ("tensor", "group"):
        raise BitkilnError("unknown value", where="per", got=str(per), expected="tensor or group")
    grouped, types = Grouped(tensor, group, name), TYPES[check_bits(bits, tuple(TYPES), "ant")]
    measure, search = Measure(grouped), Search()
    for index, kind in enumerate(types):
        fmt = get_format(kind)
        for ratio in RATIOS:
            unit_scale = absmax_scale(grouped, fmt.max) * ratio
            error = grid_error(measure, fmt, unit_scale)
            if per == "tensor":
                error = np.array([[grouped.total(error)]])
            search.offer(error, kind=index, ratio=ratio)
    chosen = np.broadcast_to(search.best["kind"], grouped.count).astype(np.uint8)
    top = np.array([get_format(name).max for name in types])[chosen]
    stored = store(default_scale_format(grouped, scale), grouped.real(grouped.amax / top * search.best["ratio"]))
    if per == "tensor":
        types, tensor_bits = (types[int(chosen[0, 0])],), (len(types) - 1).bit_length()
        return assemble("ant", grouped, types, stored, grid_codes(grouped, types, stored.values()),
                        tensor_bits=tensor_bits)
    codes = grid_codes(grouped, types, stored.values(), chosen)
    return assemble("ant", grouped, types, stored, codes, type_index=chosen)
