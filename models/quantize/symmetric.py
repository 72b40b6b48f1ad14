"""Round to nearest with the largest magnitude of each group on the largest value of a format: INT and FP."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BitkilnError
from ..formats import get_format
from .grids import element, encode
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import Stored, check_scale_format, store

__all__ = ["FLOATS", "INTS", "absmax_scale", "assemble", "default_scale_format", "fp", "grid_codes", "rtn_sym"]

INTS = (2, 3, 4, 5, 6, 7, 8)
FLOATS = {3: ("fp3",), 4: ("fp4",), 5: ("e2m2", "e3m1"), 6: ("fp6_e2m3", "fp6_e3m2"), 8: ("fp8_e4m3", "fp8_e5m2")}


def default_scale_format(grouped: Grouped, scale: str | None) -> str:
    """Scale format of a quantiser: as asked, else an 8-bit code for each group, or one float32 for a whole row."""
    return check_scale_format(scale, "none" if len(grouped.starts) == 1 else "uint8")


def absmax_scale(grouped: Grouped, fmt_max: float) -> np.ndarray:
    """(N, G), in units."""
    return grouped.amax / fmt_max


def grid_codes(grouped: Grouped, types: tuple[str, ...], scale: np.ndarray, type_index: np.ndarray | None = None,
               special_index: np.ndarray | None = None) -> np.ndarray:
    """Nearest codes (N, K) with effective scales (N, G), each group in its own type."""
    codes = np.zeros(grouped.rows.shape, np.uint8)
    zero = np.zeros(grouped.count, np.uint8)
    type_index = zero if type_index is None else type_index
    special_index = zero if special_index is None else special_index
    chosen = sorted({*zip(type_index.ravel().tolist(), special_index.ravel().tolist(), strict=True)})
    for rows in grouped.slabs():
        wide = grouped.expand(scale[rows])
        for kind, special in chosen:
            here = grouped.expand((type_index[rows] == kind) & (special_index[rows] == special))
            if here.any():
                found = encode(element(types[kind], special), grouped.rows[rows], wide)
                codes[rows] = np.where(here, found, codes[rows])
    return codes


def assemble(method: str, grouped: Grouped, types: tuple[str, ...], stored: Stored, codes: np.ndarray,
             **fields: Any) -> GroupQuantized:
    """The result of a quantiser; ``fields`` are further ones of ``GroupQuantized``."""
    return GroupQuantized(method, grouped.shape, grouped.group, types, codes, stored.codes[0], stored.format,
                          stored.channel_scale, stored.block, **fields)


def _nearest(method: str, tensor: np.ndarray, element_type: str, group: int | None, scale: str | None,
             name: str) -> GroupQuantized:
    grouped = Grouped(tensor, group, name)
    ideal = grouped.real(absmax_scale(grouped, get_format(element_type).max))
    stored = store(default_scale_format(grouped, scale), ideal)
    return assemble(method, grouped, (element_type,), stored, grid_codes(grouped, (element_type,), stored.values()))


def rtn_sym(tensor: np.ndarray, bits: int, group: int | None = 128, *, scale: str | None = None,
            name: str = "tensor") -> GroupQuantized:
    """Symmetric integers: ``scale = max|w| / (2**(b-1) - 1)``, nearest, ties to even.

    Parameters
    ----------
    tensor : ndarray (N, ...)
        Finite real numbers.
    bits : int
        2 to 8.
    group : int or None
        Weights along K that share a scale; None: the row.
    scale : str, optional
        Storage of the scales (``models.quantize.scales``); default ``uint8``, for whole rows ``none``. Codes are
        nearest under the scale as stored.

    Raises
    ------
    BitkilnError
        NaN, Inf, complex, empty or ragged input; group below 1; unknown scale format.
    """
    return _nearest("rtn_sym", tensor, f"int{check_bits(bits, INTS, 'rtn_sym')}", group, scale, name)


def fp(tensor: np.ndarray, bits: int, group: int | None = 128, *, element: str | None = None,
       scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """Small floats: ``scale = max|w| / max``, nearest, ties to even.

    Parameters
    ----------
    bits : int
        3, 4, 5, 6 or 8.
    element : str, optional
        ``fp6_e2m3`` (default of 6 bits) or ``fp6_e3m2``, ``e2m2`` or ``e3m1``, ``fp8_e4m3`` or ``fp8_e5m2``.
        Row-wise FP6 is ZeroQuant(4+2), arXiv 2312.08583.
    group, scale, name
        As for ``rtn_sym``.
    """
    choices = FLOATS[check_bits(bits, tuple(FLOATS), "fp")]
    return _nearest("fp", tensor, choose_element(element, choices), group, scale, name)


def choose_element(given: str | None, choices: tuple[str, ...]) -> str:
    """``given`` where it is one of ``choices``, the first of them for None."""
    if given is None:
        return choices[0]
    if given not in choices:
        raise BitkilnError("unknown element type", where="element", got=str(given), expected=", ".join(choices))
    return given
