"""ParetoQ (arXiv 2502.02631): one rule for each width from 1 to 4 bits, here with its initial scales, untrained."""

from __future__ import annotations

import numpy as np

from ..formats import get_format
from .grids import encode
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import store
from .symmetric import assemble, default_scale_format

__all__ = ["paretoq"]

TYPES = {1: "binary", 1.58: "ternary", 2: "seq2", 3: "int3", 4: "int4"}
CLIP = 0.99  # stretched elastic quantisation stops short of the next level


def _codes(kind: str, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes (n, K) with the effective scale of one step (of +-1 for binary), each by the paper's own rounding."""
    if kind == "binary":
        return (values >= 0).astype(np.uint8)
    if kind not in ("ternary", "seq2"):
        return encode(get_format(kind), values, scale)
    # scale = a * 2/3 for ternary (levels -1, 0, 1) and a for 2 bits (levels -3/4 .. 3/4).
    a = scale * 1.5 if kind == "ternary" else scale
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.clip(np.divide(values, a, out=np.zeros_like(values), where=a != 0), -CLIP, CLIP)
    if kind == "ternary":
        return np.rint(ratio * 1.5).astype(np.int64).astype(np.uint8) & 3
    return (np.rint(ratio * 2 - 0.5) + 2).astype(np.uint8)


def paretoq(tensor: np.ndarray, bits: float, group: int | None = None, *, scale: str | None = None,
            name: str = "tensor") -> GroupQuantized:
    """Binary, ternary, 2-bit without a zero, INT3 or INT4, scaled as the paper initialises.

    ====  =========  =====================================  ================================================
    bits  type       initial ``a``                           weight
    ====  =========  =====================================  ================================================
    1     binary     ``mean|w|``                             ``sign(w) * a`` (sign(0) = 1: there is no zero)
    1.58  ternary    ``max|w|``                              ``a * round(clip(w/a, .99) * 1.5) / 1.5``
    2     seq2       ``max|w|``                              ``a * (round(clip(w/a, .99) * 2 - .5) + .5) / 2``
    3, 4  int3, 4    ``max|w| / (2**(b-1) - 1)``             ``a * clip(round(w/a))``
    ====  =========  =====================================  ================================================

    Rounding is half to even. The scale of ternary codes is ``a * 2/3``. The authors keep ``a`` above 1e-5; here a
    group of zeros has scale 0.

    Parameters
    ----------
    bits : float
        1, 1.58, 2, 3 or 4.
    group : int or None
        None (default): one scale a row, as the paper learns them.
    tensor, scale, name
        As for ``rtn_sym``.
    """
    grouped = Grouped(tensor, group, name)
    kind = TYPES[check_bits(bits, tuple(TYPES), "paretoq")]
    if kind == "binary":
        ideal = grouped.reduce(np.add, np.abs(grouped.unit)) / grouped.sizes
    else:
        ideal = grouped.amax * {"ternary": 2 / 3, "seq2": 1.0, "int3": 1 / 3, "int4": 1 / 7}[kind]
    stored = store(default_scale_format(grouped, scale), grouped.real(ideal))
    values, codes = stored.values(), np.empty(grouped.rows.shape, np.uint8)
    for rows in grouped.slabs():
        codes[rows] = _codes(kind, grouped.rows[rows], grouped.expand(values[rows]))
    return assemble("paretoq", grouped, (kind,), stored, codes)
