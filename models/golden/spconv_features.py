"""Sparse convolution, its features: exact sums over a map's pairs, then the output rule of the matmul core.

    sums[out, :] = sum over the pairs (out, k, inp) of weight[:, k, :] @ x[inp, :]

A zero activation (-0 too, and a code without meaning) adds nothing whatever the weight is: the hardware does not even
fetch it. So a NaN or an infinity among the weights shows only where it meets an activation that is not zero; NaN, NaR
and infinite activations are not zero. All else is as in the dot unit: infinity times a zero weight is NaN.
"""

from __future__ import annotations

import numpy as np

from ..design.matmul import Job, MatmulDesign
from ..errors import BitkilnError
from ..formats import Format, get_format
from .matmul import _codes, _Events, _expect, _meet, _raw_codes
from .requantise import Records, Sums, requantise
from .spconv import ConvMap
from .wide import Wide, exact_product

__all__ = ["conv_layer", "conv_sums", "feature_sums", "sum_bits"]

BLOCK = 1 << 14   # pairs at a time: their products stay in the cache


def sum_bits(map: ConvMap, channels: int, activation: Format | str, weight: Format | str) -> int:
    """Signed width that holds every sum of a map with so many input channels."""
    units = get_format(activation).max_units * get_format(weight).max_units
    return 1 + (map.offsets * channels * units).bit_length()


def feature_sums(map: ConvMap, x_codes: np.ndarray, w_codes: np.ndarray, activation: Format | str,
                 weight: Format | str, bits: int | None = None) -> Sums:
    """Sums of all output rows, without any rounding.

    Parameters
    ----------
    map : ConvMap
    x_codes : integer ndarray (inputs, Ci)
    w_codes : integer ndarray (Co, k0, k1, k2, Ci)
        spconv's order; or (Co, offsets, Ci).
    activation, weight : Format or str
    bits : int, optional
        Width of the sums, in units of the product's least bit; raised to 32 or a multiple of 64, and wider sums wrap.
        By default wide enough.

    Returns
    -------
    Sums of (rows, Co)
        Integers, and NaN, +Inf and -Inf among their products; without meaning where one of these is set. Rows without
        a pair are 0.
    """
    activation, weight = get_format(activation), get_format(weight)
    x, w = _operands(map, x_codes, w_codes, activation, weight)
    bits = sum_bits(map, x.shape[1], activation, weight) if bits is None else bits
    bits = 32 if bits <= 32 else -(-bits // 64) * 64
    shape = map.rows, len(w)
    total = Wide.of(np.zeros(shape, np.int64), bits)
    nan, inf_pos, inf_neg = (np.zeros(shape, bool) for _ in range(3))
    x_units, w_units = activation.units(x), weight.units(w)
    special = _has_specials(activation, x) or _has_specials(weight, w)
    order = np.argsort(map.k, kind="stable")
    ends = np.cumsum(np.bincount(map.k, minlength=map.offsets))
    for k, (start, end) in enumerate(zip(np.append(0, ends), ends, strict=False)):
        if special:
            right = _Events(weight, w[:, k])
        for at in range(start, end, BLOCK):
            pair = order[at:min(at + BLOCK, end)]
            out, inp = map.out[pair], map.inp[pair]     # no row twice: an offset has one pair of a row
            part = exact_product(x_units[inp], w_units[:, k], bits)
            if total.narrow:
                total.data[out] += part.data
            else:
                total.data[:, out] += part.data         # limbs below 2**32: 27 of them leave int64 far away
            if special:
                found = _flags(_Events(activation, x[inp]), right)
                for flag, event in zip((nan, inf_pos, inf_neg), found, strict=True):
                    flag[out] |= event
    # The sum with nothing wraps and carries.
    return Sums(total + Wide.of(np.zeros(shape, np.int64), bits), nan, inf_pos, inf_neg)


def conv_sums(design: MatmulDesign, job: Job, map: ConvMap, x_codes: np.ndarray, w_codes: np.ndarray) -> Sums:
    """`feature_sums` in the formats of a job's mode and the width of the core's sums."""
    mode = design.pe.modes[design.pe.index(job.mode, "job.mode")]
    held = design.pe.accumulator
    if held.kind != "exact":
        raise BitkilnError("no exact sums", where="accumulator", got=held.kind, expected="exact")
    terms = map.offsets * np.shape(x_codes)[-1]
    if terms > held.depth:
        raise BitkilnError("sums too long", where="accumulator.depth", got=held.depth,
                           expected=f"at least {terms}: {map.offsets} offsets of {np.shape(x_codes)[-1]} channels")
    return feature_sums(map, x_codes, w_codes, mode.activation, mode.weight, design.raw_bits)


def conv_layer(design: MatmulDesign, job: Job, map: ConvMap, x_codes: np.ndarray, w_codes: np.ndarray,
               records: Records | None = None, *, c: np.ndarray | None = None) -> np.ndarray:
    """Result codes (rows, Co) of a layer.

    Parameters
    ----------
    design : MatmulDesign
        Whose output stage takes the sums; exact accumulator.
    job : Job
        Mode and output rule; m, k and n do not matter. ReLU is its clamp.
    map, x_codes, w_codes
        As of `feature_sums`.
    records : Records of Co columns, with ``job.per_channel``
        Bias, scale and shift.
    c : ndarray (rows, Co), with ``job.accumulate``
        Raw codes to add: an earlier part of the input channels.
    """
    job = job.check(design)
    outputs = len(w_codes)
    if job.block is not None:
        raise BitkilnError("no block scales in a sparse convolution", where="job.block", got=job.block, expected="none")
    _expect(job.per_channel, records, "records", "job.per_channel")
    if job.per_channel and len(records) != outputs:
        raise BitkilnError("wrong shape", where="records", got=len(records), expected=f"{outputs} records")
    _expect(job.accumulate, c, "c", "job.accumulate")
    if job.accumulate and map.rows:
        c = _raw_codes(design, c, (map.rows, outputs))
    sums = conv_sums(design, job, map, x_codes, w_codes)
    return requantise(design, job, sums, records=records, c=c)[0]


def _operands(map: ConvMap, x: np.ndarray, w: np.ndarray, activation: Format,
              weight: Format) -> tuple[np.ndarray, np.ndarray]:
    """Checked codes, the weights as (Co, offsets, Ci)."""
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim != 2:
        raise BitkilnError("wrong shape", where="x", got=x.shape, expected=f"({map.inputs}, channels)")
    side = (map.kernel,) * 3
    if w.ndim == 5 and w.shape[1:4] == side:
        w = w.reshape(len(w), map.offsets, w.shape[4])
    if w.ndim != 3 or w.shape[1:] != (map.offsets, x.shape[1]):
        raise BitkilnError("wrong shape", where="w", got=w.shape, expected=f"(outputs, {map.kernel}, {map.kernel}, "
                           f"{map.kernel}, {x.shape[1]})")
    return _codes(x, activation, "x", (map.inputs, x.shape[1])), _codes(w, weight, "w", w.shape)


def _has_specials(fmt: Format, codes: np.ndarray) -> bool:
    return (fmt.has_nan or fmt.has_inf) and bool(fmt.unpack(codes).special.any())


def _flags(left: _Events, right: _Events) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN, +Inf and -Inf among the products of pairs and output channels, but not of zero activations."""
    nan = left.nan.any(axis=1)[:, None] | _meet(~left.zero, right.nan)
    inf_pos = inf_neg = np.zeros(nan.shape, bool)
    if left.inf.any() or right.inf.any():
        nan = nan | _meet(left.inf, right.zero)
        inf_pos = (_meet(left.inf_pos, right.positive) | _meet(left.inf_neg, right.negative)
                   | _meet(left.positive, right.inf_pos) | _meet(left.negative, right.inf_neg))
        inf_neg = (_meet(left.inf_pos, right.negative) | _meet(left.inf_neg, right.positive)
                   | _meet(left.positive, right.inf_neg) | _meet(left.negative, right.inf_pos))
    return nan, inf_pos, inf_neg
