"""What the dequantising matrix core computes: results of the bit-serial array, then float32, each step rounded once.

Groups whose scales are floats are added in float32 in ascending order from +0 (DESIGN 4, block scales); the channel's
float32 scale is one multiplication; the output format one encoding, saturating.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..design.dequant import DequantDesign, DequantJob
from .bitserial import FP32_NAN, GroupStream, bitserial

__all__ = ["DequantWeights", "dequant_matmul"]


@dataclass(frozen=True)
class DequantWeights:
    """Packed channels, before packing.

    Attributes
    ----------
    codes : ndarray (N, K)
    types, special, scale, scale_negative, zero : ndarray (N, G)
        As `GroupStream` has them.
    channel_scale : ndarray of float32 (N,)
    """

    codes: np.ndarray
    types: np.ndarray
    special: np.ndarray
    scale: np.ndarray
    scale_negative: np.ndarray
    zero: np.ndarray
    channel_scale: np.ndarray


def dequant_matmul(design: DequantDesign, job: DequantJob, activations: np.ndarray, weights: DequantWeights,
                   tables: dict[int, tuple[int, ...]] | None = None) -> np.ndarray:
    """Results of a job.

    Parameters
    ----------
    activations : ndarray (rows, K)
        Codes.

    Returns
    -------
    ndarray (rows, N)
        Codes of the output format (float32 codes as uint32).
    """
    array = design.array
    lengths = np.array(job.lengths)
    padded = np.zeros((array.rows, job.k), np.int64)
    padded[:job.rows] = activations
    results = np.zeros((job.rows, job.channels), np.uint32)
    for start in range(0, job.channels, array.columns):
        at = slice(start, min(start + array.columns, job.channels))
        width = at.stop - at.start

        def tile(part: np.ndarray, at: slice = at, width: int = width) -> np.ndarray:
            return np.concatenate((part[at], np.zeros((array.columns - width, part.shape[1]), part.dtype)))

        stream = GroupStream(padded, tile(weights.codes), lengths,
                             *(tile(part) for part in (weights.types, weights.special, weights.scale,
                                                       weights.scale_negative, weights.zero)),
                             np.arange(len(lengths)) == len(lengths) - 1)
        found = bitserial(array, stream, tables).fp32[:, :job.rows, :width].view(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            total = found[0]
            if not array.sums_channel:
                total = np.zeros_like(total)
                for group in found:
                    total = total + group
            if design.channel_scale:
                total = total * weights.channel_scale[at].astype(np.float32)
        results[:, at] = np.where(np.isnan(total), np.uint32(FP32_NAN), total.view(np.uint32))
    if design.output.name == "fp32":
        return results
    return encode_results(design, results)


def encode_results(design: DequantDesign, codes: np.ndarray) -> np.ndarray:
    """Float32 codes in the output format: nearest even, saturating; NaN gives its NaN, or 0 where it has none."""
    fmt = design.output
    value = codes.view(np.float32).astype(np.float64)
    nan = np.isnan(value)
    top = fmt.max if fmt.family == "minifloat" else float(np.finfo(np.float32).max)
    value = np.where(nan, 0.0, np.clip(value, -top if fmt.signed else 0.0, top))
    out = fmt.encode(value, overflow="saturate") if fmt.family == "minifloat" else fmt.encode(value)
    missing = int(fmt.encode(np.array([np.nan]))[0]) if fmt.has_nan else 0
    return np.where(nan, missing, out)
