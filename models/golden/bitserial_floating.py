"""Group sums of the ``floating`` bit-serial PE: products aligned step by step, a short normalised sum.

In every step each lane has one term of its weight, ``+-2**shift``. The products of a step are aligned to the largest
exponent among those that are not zero and keep ``guard`` bits below its significand; their sum and the sum so far are
aligned to the larger exponent of the two, added, and moved down until they fit ``mantissa`` bits. Moving a sum down
rounds it down (two's complement), cutting a product cuts its magnitude. BitMoD, arXiv 2411.11745, section IV-B; what
the paper leaves open is settled here: a step whose sum is zero changes nothing, and the sum lies between
``-2**(mantissa - 1)`` and ``2**(mantissa - 1)``, both excluded.

The sum depends on lanes, chunks, order of terms and ``zero_skip``, as the hardware's does.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..design.bitserial import BitSerialDesign
from ..design.weights import SPECIALS, Term

__all__ = ["cut", "floating_error_bound", "floating_sums"]

BLOCK = 1 << 21   # products that are held at a time


def floating_sums(design: BitSerialDesign, sign: np.ndarray, whole: np.ndarray, place: np.ndarray, codes: np.ndarray,
                  types: np.ndarray, special: np.ndarray, lengths: np.ndarray,
                  tables: dict[int, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of all groups.

    Parameters
    ----------
    sign, whole, place : ndarray (R, K)
        Activations ``(-1)**sign * whole * 2**place``, in their units.
    codes : ndarray (C, K)
    types, special : ndarray (C, G)
    lengths : ndarray (G,)
    tables : dict
        Special values by type selector, where they are not those of the design.

    Returns
    -------
    sums, places : int64 ndarray (G, R, C)
        A group's sum is ``sums * 2**(places - guard)``, in units of ``2**design.product_exponent``.
    """
    count, lanes = len(lengths), design.lanes
    rows, columns = len(whole), len(codes)
    sums, places = (np.zeros((count, rows, columns), np.int64) for _ in range(2))
    if not count:
        return sums, places
    chunks = -(-int(lengths.max()) // lanes)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    powers, shifts = _term_tables(design, tables)
    together = max(BLOCK // (rows * columns * lanes), 1)
    for low in range(0, count, together):
        some = slice(low, min(low + together, count))
        size = lengths[some]
        for chunk in range(chunks):
            lane = chunk * lanes + np.arange(lanes)
            inside = lane < size[:, None]                                        # (g, L)
            at = np.where(inside, starts[some][:, None] + lane, 0)
            if not inside.any():
                break
            a_sign, a_whole, a_place = (part[:, at].transpose(1, 0, 2)[:, :, None] for part in (sign, whole, place))
            kind, entry = (part[:, some].T[:, :, None] for part in (types, special))
            code = codes[:, at].transpose(1, 0, 2)                               # (g, C, L)
            term = np.where(inside[:, None, :, None], powers[kind, entry, code], 0)
            shift = shifts[kind, entry, code]                                    # (g, C, L, T)
            for step in range(term.shape[-1]):
                signed = np.where(a_sign, -1, 1) * term[:, None, ..., step]
                exponent = a_place + shift[:, None, ..., step]
                added, at_place = _step(design, signed * (a_whole != 0), a_whole, exponent)
                sums[some], places[some] = _add(design, sums[some], places[some], added, at_place)
    assert places.max() <= design.max_place
    return sums, places


def _term_tables(design: BitSerialDesign, tables: dict[int, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Sign (0: no term) and shift of each step, by type, special-value entry and code."""
    shape = (len(design.weights), SPECIALS, 1 << design.code_bits, design.max_terms)
    signs, shifts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, kind in enumerate(design.weights):
        written = [*tables.get(index, kind.specials), 0, 0, 0, 0][:SPECIALS]
        for entry in range(SPECIALS):
            for code in range(1 << design.code_bits):
                own = code & ((1 << kind.bits) - 1)        # a narrower type reads its own bits
                terms: tuple[Term | None, ...] = kind.check_special(written[entry]) if own == kind.special_code \
                    else kind.code_terms(own)
                if design.zero_skip:
                    terms = tuple(term for term in terms if term is not None)
                for step, term in enumerate(terms):
                    if term is not None:
                        signs[index, entry, code, step] = -1 if term.negative else 1
                        shifts[index, entry, code, step] = term.shift + design.offset(index)
    return signs, shifts


def _step(design: BitSerialDesign, signed: np.ndarray, whole: np.ndarray, exponent: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray]:
    """Sum over the last axis of ``signed * whole * 2**exponent``, aligned; and its place, 0 where there is none."""
    exponent = np.where(signed != 0, exponent, 0)
    largest = exponent.max(axis=-1)
    return (signed * cut(design, whole, largest[..., None] - exponent)).sum(axis=-1), largest


def cut(design: BitSerialDesign, whole: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Significands with their guard bits, ``below`` places under the largest: what is left of them."""
    wide, below = whole << design.guard, np.minimum(below, 62)
    kept = wide >> below
    if design.rounding == "rne":
        rest = wide - (kept << below)
        half = np.where(below > 0, np.int64(1) << np.maximum(below - 1, 0), 1 << 61)
        kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    return kept


def _add(design: BitSerialDesign, total: np.ndarray, place: np.ndarray, added: np.ndarray, at_place: np.ndarray
         ) -> tuple[np.ndarray, np.ndarray]:
    """Both at the larger place, added and normalised."""
    at_place = np.where(added != 0, at_place, 0)
    larger = np.maximum(place, at_place)
    total = (total >> np.minimum(larger - place, 62)) + (added >> np.minimum(larger - at_place, 62))
    limit = 1 << design.mantissa - 1
    while (high := np.abs(total) >= limit).any():
        total, larger = total >> high, larger + high
    return total, larger


def floating_error_bound(design: BitSerialDesign, products: int, steps: int, place: int) -> Fraction:
    """Most that the sum of a group can be off, in units of ``2**design.product_exponent``.

    Places never fall, so every error counts at most in units of the last place: a cut product one (a rounded one a
    half), and in each step less than one for the alignment and less than one for the normalisation.

    Parameters
    ----------
    products : int
        Terms of the group that are not zero.
    steps : int
        Cycles that the group takes.
    place : int
        Of the group's sum.
    """
    each = Fraction(1, 2) if design.rounding == "rne" else 1
    return (each * products + 2 * steps) * Fraction(2) ** (place - design.guard)
