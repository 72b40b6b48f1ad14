"""Beats of a stream by their fields: widths as `bitkiln.models.design` lists them, the first in the lowest bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["beat_width", "pack_fields", "unpack_fields"]


def beat_width(fields: Mapping[str, int]) -> int:
    """Bytes of a beat."""
    return -(-sum(fields.values()) // 8)


def pack_fields(fields: Mapping[str, int], values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Beats out of the values of their fields.

    Parameters
    ----------
    fields : mapping of str to int
        Bits.
    values : mapping of str to integer ndarray (n,) or (n, m)
        Of every field; several in a row share its bits, the first lowest. Two's complement where negative.

    Returns
    -------
    uint8 ndarray (n, bytes)
    """
    parts = []
    for name, bits in fields.items():
        column = np.asarray(values[name], np.int64)
        column = column[:, None] if column.ndim == 1 else column
        each, rest = divmod(bits, column.shape[1])
        assert not rest
        # Bit by bit over the whole column: the intermediate stays a byte a bit.
        bare = np.empty((*column.shape, each), np.uint8)
        for bit in range(each):
            bare[:, :, bit] = column >> bit & 1
        parts.append(bare.reshape(len(column), bits))
    return np.packbits(np.concatenate(parts, axis=1), axis=1, bitorder="little")


def unpack_fields(fields: Mapping[str, int], beats: np.ndarray) -> dict[str, np.ndarray]:
    """The values of each field, (n,) uint64: what `pack_fields` packed, of at most 64 bits each."""
    bits = np.unpackbits(np.ascontiguousarray(beats, np.uint8), axis=1, bitorder="little")
    found, at = {}, 0
    for name, width in fields.items():
        found[name] = bits[:, at:at + width].astype(np.uint64) @ (np.uint64(1) << np.arange(width, dtype=np.uint64))
        at += width
    return found
