"""What the dequantising core is sent: a job, its weight stream and activations; and the order of its results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.design.dequant_streams import (
    activation_fields,
    job_fields,
    result_fields,
    special_fields,
    special_terms,
    term_fields,
)
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.dequant import DequantWeights

from .fields import pack_fields, unpack_fields
from .weights_groups import Groups, pack_groups

__all__ = ["activation_beats", "activation_chunks", "job_beats", "order_results", "result_codes", "special_beats",
           "weight_stream"]


def job_beats(design: DequantDesign, jobs: Sequence[DequantJob]) -> np.ndarray:
    """Beats of ``job``, one for each job."""
    fields = job_fields(design)
    return pack_fields(fields, {name: np.array([getattr(job, name) for job in jobs]) for name in fields})


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


def activation_beats(design: DequantDesign, job: DequantJob, activations: np.ndarray) -> np.ndarray:
    """Beats of ``activation``: `activation_chunks`, the last one marked."""
    chunks = activation_chunks(design, job, activations)
    return pack_fields(activation_fields(design), {"codes": chunks, "last": np.arange(len(chunks)) == len(chunks) - 1})


def special_beats(array: BitSerialDesign, writes: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Beats of ``special``.

    Parameters
    ----------
    writes : sequence of (int, int, int)
        Number of a weight type, entry of its table, value in units of the type.

    Raises
    ------
    BitkilnError
        A value that has not so few terms, a type without special values.
    """
    fields = special_fields(array)
    del fields["terms"]
    values = {name: np.array([write[at] for write in writes], np.int64) for at, name in enumerate(fields)}
    rows = [_terms(array, index, value) for index, _, value in writes]
    for at in range(special_terms(array)):
        for name, bits in term_fields(array).items():
            fields[f"{name}{at}"] = bits
            values[f"{name}{at}"] = np.array([row[at][name] if at < len(row) else 0 for row in rows], np.int64)
    return pack_fields(fields, values)


def _terms(array: BitSerialDesign, index: int, value: int) -> list[dict[str, int]]:
    weight = array.weights[index]
    if weight.special_code is None:
        raise BitkilnError("this type has no special values", where=f"weights[{index}]", got=weight.name,
                           expected="a type with a table, as bitmod3 and bitmod4")
    return [{"neg": int(term.negative), "valid": 1, "shift": term.shift + array.offset(index)}
            for term in weight.check_special(value)]


def result_codes(design: DequantDesign, job: DequantJob, beats: np.ndarray) -> np.ndarray:
    """Results (rows, channels) of a job's beats of ``o``; raises BitkilnError where the job does not end with them."""
    found = unpack_fields(result_fields(design), beats)
    ends = np.flatnonzero(found["last"])
    if ends.tolist() != [job.rows * job.channels - 1]:
        raise BitkilnError("wrong end of a job", where=f"{len(beats)} results", got=f"last at {ends[:4].tolist()}",
                           expected=str(job.rows * job.channels - 1), exit_code=FAILED)
    return order_results(design, job, found["value"].astype(np.uint32))


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
