"""BitDistiller (arXiv 2402.10631): asymmetric clipping, searched for each group, before 2- to 4-bit quantisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import BitkilnError
from ..formats import Format, get_format
from .afpq import two_sided_codes
from .asymmetric import from_range, unsigned, zero_point
from .grids import encode
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .search import Measure, Search
from .symmetric import assemble

__all__ = ["STEPS", "bitdistiller"]

STEPS = 1 - np.arange(10) / 20  # of the largest and of the smallest value: from no clipping to 55 %


def _int_error(measure: Measure, bits: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    top = (1 << bits) - 1
    scale = (high - low) / top
    zero = zero_point(low, scale, top)

    def nearest(unit: np.ndarray, rows: slice) -> np.ndarray:
        wide_scale, wide_zero = (measure.grouped.expand(array[rows]) for array in (scale, zero))
        return (unsigned(unit, wide_scale, wide_zero, top) - wide_zero) * wide_scale
    return measure.error(nearest)


def _two_sided_error(measure: Measure, fmt: Format, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    def nearest(unit: np.ndarray, rows: slice) -> np.ndarray:
        scale = np.where(unit < 0, measure.grouped.expand(-low[rows]), measure.grouped.expand(high[rows]))
        return fmt.decode(encode(fmt, unit, scale)) * scale
    return measure.error(nearest)


def bitdistiller(tensor: np.ndarray, bits: int, group: int | None = 128, *, flavour: str = "int",
                 calibration: np.ndarray | None = None, scale: str | None = None,
                 name: str = "tensor") -> GroupQuantized:
    """Try 10 x 10 clippings ``max * (1 - i/20)``, ``min * (1 - j/20)`` and keep the best of each group.

    The error is that of the weights, or with calibration rows of the layer's outputs, group by group; the first of
    equals wins, and the unclipped range is tried first. A row that unclipped scales serve better once the scales are
    stored keeps those, so that no row is worse than without clipping.

    The range includes zero (``rtn_asym`` says why) and there is no least scale of 1e-5; otherwise the rules are the
    authors' initialiser's. Their NF3 divides by zero where a group has one sign; here that side's scale is 0.

    Parameters
    ----------
    bits : int
        2 to 4; ``nf``: 3.
    flavour : str
        ``int`` (asymmetric integers) or ``nf`` (NF3 with two scales, as AFPQ).
    calibration : ndarray (rows, K), optional
    tensor, group, scale, name
        As for ``rtn_sym``.
    """
    bits = check_bits(bits, (2, 3, 4), "bitdistiller")
    if flavour not in ("int", "nf") or (flavour == "nf" and bits != 3):
        raise BitkilnError("unknown flavour", where="flavour", got=str(flavour),
                           expected="int" if bits != 3 else "int or nf")
    grouped = Grouped(tensor, group, name)
    measure, search, fmt = Measure(grouped, calibration), Search(), get_format("nf3")
    for above in STEPS:
        for below in STEPS:
            low, high = grouped.bottom * below, grouped.top * above
            error = _int_error(measure, bits, low, high) if flavour == "int" \
                else _two_sided_error(measure, fmt, low, high)
            search.offer(error, low=low, high=high)

    def finish(low: np.ndarray, high: np.ndarray) -> GroupQuantized:
        if flavour == "int":
            return from_range("bitdistiller", grouped, bits, low, high, scale)
        stored = store(check_scale_format(scale, "uint8"), grouped.real(high), grouped.real(-low))
        codes = two_sided_codes(grouped, "nf3", stored.values(0), stored.values(1))
        return assemble("bitdistiller", grouped, ("nf3",), stored, codes, negative_scale_codes=stored.codes[1])

    return _never_worse(grouped, measure, finish, search.best)


def _never_worse(grouped: Grouped, measure: Measure, finish: Callable[..., GroupQuantized],
                 best: dict[str, np.ndarray]) -> GroupQuantized:
    """The searched ranges, but the full ones in rows where stored scales turn the comparison round."""
    def errors(q: GroupQuantized) -> np.ndarray:
        found = q.dequantise().reshape(grouped.rows.shape)
        # Rows apart: a row's groups weigh by their magnitude, relative to the largest of the row.
        shift = np.maximum(grouped.exponent - grouped.exponent.max(axis=1, keepdims=True), -500)
        with np.errstate(over="ignore", under="ignore"):
            unit = np.ldexp(found, grouped.expand(-grouped.exponent))
        parts = [measure.of(unit[rows] - grouped.unit[rows]) for rows in grouped.slabs()]
        return np.sum(np.ldexp(np.concatenate(parts), 2 * shift), axis=1)

    full = {"low": grouped.bottom, "high": grouped.top}
    searched, plain = finish(**best), finish(**full)
    worse = errors(searched) > errors(plain)
    if not worse.any():
        return searched
    return finish(**{key: np.where(worse[:, None], full[key], best[key]) for key in full})
