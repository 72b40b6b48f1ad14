"""What the bit-serial engine computes, bit for bit.

``exact``: a group sum is the exact integer ``sum(a * w)``; times an integer scale, and summed over a channel, it is
still exact, and is rounded once. So lanes, order of terms, chunks and skipping cannot show. ``aligned``: activations
lose what stands below the guard bits of the group's largest exponent so far, and the sum falls with it (arithmetic
shift); that is defined chunk by chunk here, in integers too. ``floating``: see `bitserial_floating`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..design.bitserial import BitSerialDesign
from ..design.dot import _all_finite
from ..errors import BitkilnError
from ..formats import Special, get_format
from .bitserial_floating import cut, floating_sums
from .integers import to_float64_odd

__all__ = ["BitSerialResult", "GroupStream", "aligned_error_bound", "bitserial"]

FP32_NAN = 0x7FC00000


@dataclass(frozen=True)
class GroupStream:
    """Groups one after the other: what rows and columns are given.

    Attributes
    ----------
    activations : ndarray (R, K)
        Codes, the groups' elements one after the other.
    codes : ndarray (C, K)
        Weight codes.
    lengths : ndarray (G,)
        Elements of each group; their sum is K.
    types, special, scale, scale_negative, zero : ndarray (C, G)
        Type selector, special-value selector, scale code(s) and signed zero-point of each group; those that the
        design has none of are ignored.
    emit : ndarray of bool (G,)
        The channel ends with this group.
    """

    activations: np.ndarray
    codes: np.ndarray
    lengths: np.ndarray
    types: np.ndarray
    special: np.ndarray
    scale: np.ndarray
    scale_negative: np.ndarray
    zero: np.ndarray
    emit: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First element of each group, and the end of the last (G + 1,)."""
        return np.concatenate(([0], np.cumsum(self.lengths)))


@dataclass(frozen=True)
class BitSerialResult:
    """Results in the order in which channels (or groups) end.

    Attributes
    ----------
    value : ndarray of object (E, R, C)
        Integers, in units of ``2**(design.result_exponent + exponent)``.
    exponent : ndarray (E, R, C)
        Of groups that are not ``exact``, and of floating scales; else 0.
    nan, pos, neg : bool ndarray (E, R, C)
    scale_nan : bool ndarray (E, C)
    fp32 : ndarray of uint32 (E, R, C)
        Rounded once to nearest even.
    """

    value: np.ndarray
    exponent: np.ndarray
    nan: np.ndarray
    pos: np.ndarray
    neg: np.ndarray
    scale_nan: np.ndarray
    fp32: np.ndarray


def _weights(design: BitSerialDesign, stream: GroupStream, tables: dict[int, tuple[int, ...]]) -> np.ndarray:
    """Integers of common units, (C, K)."""
    group_of = np.repeat(np.arange(len(stream.lengths)), stream.lengths)
    types = stream.types[:, group_of]
    selected = stream.special[:, group_of]
    out = np.zeros(stream.codes.shape, np.int64)
    for index, weight in enumerate(design.weights):
        at = types == index
        special = None
        if weight.special_code is not None:
            table = [*tables.get(index, weight.specials), 0, 0, 0, 0][:4]
            special = np.array(table, np.int64)[selected[at]]
        # A stream word holds the widest type's bits; a narrower type reads its own.
        codes = stream.codes[at] & ((1 << weight.bits) - 1)
        out[at] = weight.units(codes, special) << design.offset(index)
    return out


def _scale(design: BitSerialDesign, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integer, exponent and NaN of scale codes."""
    none = np.zeros(codes.shape, np.int64)
    if design.scale == "none":
        return none + 1, none, none > 0
    if design.scale.startswith("uint"):
        return codes.astype(np.int64), none, none > 0
    if design.scale == "e8m0":
        return none + 1, codes.astype(np.int64) - 127, (codes == 255) & design.specials
    bias = get_format(design.scale).bias
    field, fraction = codes.astype(np.int64) >> 3, codes.astype(np.int64) & 7
    top = (1 << design.scale_code_bits) - 1
    return fraction + 8 * (field > 0), np.maximum(field, 1) - bias, (codes == top) & design.specials


def bitserial(design: BitSerialDesign, stream: GroupStream,
              tables: dict[int, tuple[int, ...]] | None = None) -> BitSerialResult:
    """The results of a stream of groups.

    Parameters
    ----------
    tables : dict, optional
        Special values (in units of their type) by type selector, where they were written; else those of the design.
    """
    _check(design, stream)
    fmt = design.activation if design.specials else _all_finite(design.activation)
    unpacked = fmt.unpack(stream.activations)
    units = fmt.units(stream.activations) << (fmt.unit_exponent - design.activation.unit_exponent)
    weights = _weights(design, stream, tables or {})
    multiplier, scale_exponent, scale_nan = _scale(design, stream.scale)
    negative_multiplier = _scale(design, stream.scale_negative)[0] if design.dual_scale else multiplier
    shape = (stream.activations.shape[0], stream.codes.shape[0])
    wide = design.sum_bits > 62
    starts = stream.starts
    flags = ("nan", "pos", "neg")
    results: dict[str, list[np.ndarray]] = {name: [] for name in ("value", "exponent", "scale_nan", *flags)}
    total = np.zeros(shape, object)
    seen = {name: np.zeros(shape, bool) for name in flags}
    special_rows = unpacked.special != Special.NONE
    whole = place = np.zeros(0, np.int64)
    if design.accumulate != "exact":
        whole, place = _significands(design, unpacked.significand, unpacked.exponent - fmt.unit_exponent)
    if design.accumulate == "floating":
        sums, places = floating_sums(design, unpacked.sign.astype(bool), whole, place, stream.codes, stream.types,
                                     stream.special, stream.lengths, tables or {})
    for g in range(len(stream.lengths)):
        at = slice(starts[g], starts[g + 1])
        w = weights[:, at]
        exponent = np.zeros(shape, np.int64)
        if design.accumulate == "aligned":
            group, at_place = _aligned_sum(design, unpacked.sign[:, at], whole[:, at], place[:, at], w)
            exponent += at_place[:, None]
            scaled = group.astype(object) * multiplier[:, g].astype(object)
        elif design.accumulate == "floating":
            exponent += places[g]
            scaled = sums[g].astype(object) * multiplier[:, g].astype(object)
        else:
            a = units[:, at].astype(object) if wide else units[:, at].astype(np.int64)
            w_all = w.astype(object) if wide else w
            if design.dual_scale:
                above = a @ np.where(w > 0, w, 0).astype(w_all.dtype).T
                below = a @ np.where(w < 0, w, 0).astype(w_all.dtype).T
                scaled = above.astype(object) * multiplier[:, g].astype(object) \
                    + below.astype(object) * negative_multiplier[:, g].astype(object)
            else:
                group = (a @ w_all.T).astype(object)
                if design.zero_point:
                    point = stream.zero[:, g].astype(object) << design.zero_shift
                    group = group - a.sum(axis=1).astype(object)[:, None] * point
                scaled = group * multiplier[:, g].astype(object)
        if special_rows[:, at].any():
            events = _events(design, unpacked, special_rows, at, w, stream, g, multiplier, negative_multiplier)
            for name in flags:
                seen[name] = seen[name] | events[name]
        exponent = exponent + scale_exponent[:, g]
        total = total + scaled if design.sums_channel else scaled
        if stream.emit[g] or not design.sums_channel:
            for name, value in (("value", total), ("exponent", exponent), ("scale_nan", scale_nan[:, g]),
                                *seen.items()):
                results[name].append(value)
            total = np.zeros(shape, object)
            seen = {name: np.zeros(shape, bool) for name in flags}
    stacked = {name: np.array(values).reshape(len(values), *((shape[1],) if name == "scale_nan" else shape))
               for name, values in results.items()}
    nan = (stacked["nan"] | (stacked["pos"] & stacked["neg"]) | stacked["scale_nan"][:, None, :])
    return BitSerialResult(**stacked, fp32=_fp32(design, stacked, nan))


def _check(design: BitSerialDesign, stream: GroupStream) -> None:
    rows, columns = design.rows, design.columns
    total = int(stream.lengths.sum())
    if stream.activations.shape != (rows, total) or stream.codes.shape != (columns, total):
        raise BitkilnError("shape mismatch", where="activations and codes",
                           got=f"{stream.activations.shape} and {stream.codes.shape}",
                           expected=f"({rows}, {total}) and ({columns}, {total})")
    if len(stream.lengths) and (stream.lengths.min() < 1 or stream.lengths.max() > design.group):
        raise BitkilnError("group length out of range", where="lengths",
                           got=f"{stream.lengths.min()} to {stream.lengths.max()}", expected=f"1 to {design.group}")
    if design.sums_channel and len(stream.emit):
        longest = np.diff(np.flatnonzero(np.concatenate(([True], stream.emit, [True])))).max()
        if longest > design.groups:
            raise BitkilnError("too many groups in a channel", where="emit", got=int(longest),
                               expected=f"at most {design.groups}")


def _events(design: BitSerialDesign, unpacked, special_rows: np.ndarray, at: slice, w: np.ndarray, stream: GroupStream,
            g: int, multiplier: np.ndarray, negative_multiplier: np.ndarray) -> dict[str, np.ndarray]:
    """Special values of a group, by the weights that count: zero-point and scale included."""
    kind = unpacked.special[:, at]
    nan, inf = kind == Special.NAN, kind == Special.INF
    point = (stream.zero[:, g].astype(np.int64) << design.zero_shift)[:, None] if design.zero_point else 0
    w = w - point
    scale = np.where(w < 0, negative_multiplier[:, g][:, None], multiplier[:, g][:, None])
    sign = np.sign(w) * (scale != 0)
    direction = np.where(unpacked.sign[:, at].astype(bool), -1, 1)
    product = direction[:, None, :] * sign[None]
    lost = nan.any(axis=1)[:, None] | (inf[:, None, :] & (product == 0)).any(axis=2)
    return {"nan": lost, "pos": (inf[:, None, :] & (product > 0)).any(axis=2),
            "neg": (inf[:, None, :] & (product < 0)).any(axis=2)}


def _significands(design: BitSerialDesign, significand: np.ndarray, exponent: np.ndarray
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Integers of an activation's significand bits and their places, ``max(field, 1) - 1``, from the values: unpacked
    subnormals may be normalised."""
    value = significand.astype(object) * (1 << np.maximum(exponent, 0).astype(object))
    length_bits = np.array([int(v).bit_length() for v in value.ravel()], np.int64).reshape(value.shape)
    place = np.maximum(length_bits - design.significand_bits, 0)
    return (value // (1 << place.astype(object))).astype(np.int64), place


def _aligned_sum(design: BitSerialDesign, sign: np.ndarray, whole: np.ndarray, place: np.ndarray,
                 w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of one group (R, C) and its place (R,)."""
    rows, length = sign.shape
    total = np.zeros((rows, len(w)), np.int64)
    group = np.zeros(rows, np.int64)
    empty = np.ones(rows, bool)
    for start in range(0, length, design.lanes):
        at = slice(start, min(start + design.lanes, length))
        some = whole[:, at] != 0
        largest = np.where(some, place[:, at], -1).max(axis=1)
        new = np.where(some.any(axis=1) & (empty | (largest > group)), largest, group)
        drop = np.where(empty, 0, new - group)
        total = total >> np.minimum(drop, 62)[:, None]
        empty = empty & ~some.any(axis=1)
        group = new
        below = np.where(some, group[:, None] - place[:, at], 0)
        kept = cut(design, whole[:, at], below)
        signed = np.where(sign[:, at].astype(bool), -kept, kept)
        total = total + signed @ w[:, at].T
    return total, group


def aligned_error_bound(design: BitSerialDesign, weights: int, place: int) -> Fraction:
    """Most that the sum of an ``aligned`` group can be off, in units of ``2**design.product_exponent``.

    In units of its last guard bit a cut activation is off by less than one (a rounded one by a half or less), times its
    weight. Where the group's exponent grows the sum is rounded down; floors of floors are one floor, so all of them
    together lose less than one of the last units.

    Parameters
    ----------
    weights : int
        Sum of the magnitudes of the group's weights, in common units.
    place : int
        Of the group, ``BitSerialResult.exponent`` where the scale has none.
    """
    each = Fraction(1, 2) if design.rounding == "rne" else 1
    return (each * weights + 1) * Fraction(2) ** (place - design.guard)


def _fp32(design: BitSerialDesign, found: dict[str, np.ndarray], nan: np.ndarray) -> np.ndarray:
    value = np.empty(found["value"].shape, np.float64)
    for exponent in np.unique(found["exponent"]):
        at = found["exponent"] == exponent
        value[at] = to_float64_odd(found["value"][at], design.result_exponent + int(exponent))
    value = np.where(found["pos"], np.inf, np.where(found["neg"], -np.inf, value))
    with np.errstate(over="ignore"):
        codes = value.astype(np.float32).view(np.uint32)
    return np.where(nan, np.uint32(FP32_NAN), codes)
