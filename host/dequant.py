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
    columns, bus, layout = design.array.columns, design.bus_bytes, design.layout
    lengths = np.array(job.lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    padded = np.zeros((job.channels, len(lengths), int(lengths.max())), weights.codes.dtype)
    for g, length in enumerate(lengths):
        padded[:, g, :length] = weights.codes[:, starts[g]:starts[g] + length]
    channel, group = (part.reshape(-1) for part in np.indices((job.channels, len(lengths))))
    order = np.lexsort((channel, group, channel // columns))
    channel, group = channel[order], group[order]
    fields = {f.name for f in layout.header}
    named = {"types": ("type", weights.types), "specials": ("special", weights.special),
             "scales": ("scale", weights.scale), "negatives": ("negative", weights.scale_negative),
             "zeros": ("zero", weights.zero)}
    groups = Groups(padded[channel, group], lengths[group],
                    **{key: part[channel, group] if name in fields else None for key, (name, part) in named.items()})
    packed = pack_groups(layout, groups)
    if not design.channel_scale:
        return packed
    words = np.zeros((job.channels, bus), np.uint8)
    words[:, :4] = weights.channel_scale[:job.channels, None].astype("<f4").view(np.uint8)
    types = groups.types if groups.types is not None else np.zeros(len(group), np.int64)
    first = np.flatnonzero((group == 0) & (channel % columns == 0))
    tiles = np.split(packed, layout.offsets(lengths[group], types).headers[first][1:])
    return np.concatenate([part for tile, data in enumerate(tiles)
                           for part in (words[tile * columns:(tile + 1) * columns].reshape(-1), data)])


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
