"""What the dequantising core is sent: a job's weight stream, its activations, and the order of its results."""

from __future__ import annotations

import numpy as np

from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.golden.dequant import DequantWeights

from .weights_groups import Groups, pack_groups

__all__ = ["activation_chunks", "order_results", "weight_stream"]


def weight_stream(design: DequantDesign, job: DequantJob, weights: DequantWeights) -> np.ndarray:
    """Bytes of a job's weights, a multiple of the bus word.

    Tile by tile: the channels' float32 scales, one a word; then group by group, channel by channel.
    """
    columns, bus = design.array.columns, design.bus_bytes
    lengths = np.array(job.lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    longest = int(lengths.max())
    parts = []
    for first in range(0, job.channels, columns):
        channels = np.arange(first, min(first + columns, job.channels))
        if design.channel_scale:
            words = np.zeros((len(channels), bus), np.uint8)
            words[:, :4] = weights.channel_scale[channels].astype("<f4").view(np.uint8).reshape(-1, 4)
            parts.append(words.reshape(-1))
        codes = np.zeros((len(lengths), len(channels), longest), np.int64)
        for g, length in enumerate(lengths):
            codes[g, :, :length] = weights.codes[channels, starts[g]:starts[g] + length]

        def groupwise(part: np.ndarray, channels: np.ndarray = channels) -> np.ndarray:
            return part[channels].T.reshape(-1)

        fields = {f.name for f in design.layout.header}
        named = {"types": ("type", weights.types), "specials": ("special", weights.special),
                 "scales": ("scale", weights.scale), "negatives": ("negative", weights.scale_negative),
                 "zeros": ("zero", weights.zero)}
        groups = Groups(codes.reshape(-1, longest), np.repeat(lengths, len(channels)),
                        **{key: groupwise(part) if name in fields else None for key, (name, part) in named.items()})
        parts.append(pack_groups(design.layout, groups))
    return np.concatenate(parts)


def activation_chunks(design: DequantDesign, job: DequantJob, activations: np.ndarray) -> np.ndarray:
    """Codes of a job's activation words (words, lanes): chunk by chunk, row by row; zeros where there is nothing.

    Parameters
    ----------
    activations : ndarray (rows, K)
        Codes.
    """
    array = design.array
    padded = np.zeros((array.rows, job.k), np.int64)
    padded[:len(activations)] = activations
    parts, start = [], 0
    for length in job.lengths:
        size = -(-length // array.lanes) * array.lanes
        group = np.zeros((array.rows, size), np.int64)
        group[:, :length] = padded[:, start:start + length]
        parts.append(group.reshape(array.rows, -1, array.lanes))
        start += length
    return np.concatenate(parts, axis=1).transpose(1, 0, 2).reshape(-1, array.lanes)


def order_results(design: DequantDesign, job: DequantJob, values: np.ndarray) -> np.ndarray:
    """Results as they come, (rows * channels,), as a matrix (rows, channels)."""
    out = np.zeros((job.rows, job.channels), values.dtype)
    at = 0
    for first in range(0, job.channels, design.array.columns):
        width = min(design.array.columns, job.channels - first)
        size = job.rows * width
        out[:, first:first + width] = values[at:at + size].reshape(job.rows, width)
        at += size
    return out
