"""Groups of packed weights with their headers: arrays to a byte stream and back.

The layout of the stream is a `GroupLayout` of `models.design.layouts`. Unpacking is strict by default, as in
`host.weights`: header fields out of range, bits that no field has and damaged codes are an error that names the byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.models.design.layouts import GroupLayout, Packing
from bitkiln.models.errors import BitkilnError

from .weights import check_codes, check_packed, decode, encode

__all__ = ["Groups", "pack_groups", "unpack_groups"]


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of a stream. Fields that its layout does not have are zeros (or None when given to `pack_groups`).

    Attributes
    ----------
    codes : integer ndarray (groups, longest)
        Each row's first ``lengths[g]`` are the group's codes.
    lengths : integer ndarray (groups,), optional
        By default all of a row.
    types, specials : integer ndarray (groups,), optional
        Selectors, 0..7 and 0..3.
    scales, negatives : integer ndarray (groups,), optional
        Scale codes.
    zeros : integer ndarray (groups,), optional
        Signed zero-points.
    """

    codes: np.ndarray
    lengths: np.ndarray | None = None
    types: np.ndarray | None = None
    specials: np.ndarray | None = None
    scales: np.ndarray | None = None
    negatives: np.ndarray | None = None
    zeros: np.ndarray | None = None


_ATTRIBUTES = {"type": "types", "special": "specials", "scale": "scales", "negative": "negatives", "zero": "zeros"}


def _column(values: np.ndarray | None, groups: int, name: str) -> np.ndarray:
    if values is None:
        return np.zeros(groups, np.int64)
    values = np.asarray(values)
    if values.shape != (groups,) or values.dtype.kind not in "iu":
        raise BitkilnError("wrong field", where=name, got=f"{values.dtype} {values.shape}",
                           expected=f"{groups} integers")
    return values.astype(np.int64)


def _limits(layout: GroupLayout) -> dict[str, tuple[int, int]]:
    """Lowest and highest value of each field of the header."""
    limits = {f.name: (0, (1 << f.width) - 1) for f in layout.header}
    if layout.select:
        limits["type"] = (0, len(layout.packings) - 1)
    if layout.zero_point:
        limits["zero"] = (-(1 << layout.zero_point - 1), (1 << layout.zero_point - 1) - 1)
    return limits


def _kinds(layout: GroupLayout, lengths: np.ndarray, types: np.ndarray) -> list[tuple[Packing, int, np.ndarray]]:
    """Groups of equal type and length: packing, length, numbers of the groups."""
    keys, which = np.unique(np.stack((types, lengths)), axis=1, return_inverse=True)
    return [(layout.packings[kind], int(length), np.flatnonzero(which == i))
            for i, (kind, length) in enumerate(keys.T)]


def pack_groups(layout: GroupLayout, groups: Groups, per_row: int | None = None) -> np.ndarray:
    """A stream of groups.

    Parameters
    ----------
    layout : GroupLayout
    groups : Groups
    per_row : int, optional
        Groups of a row; bundles end with it. By default all are one row.

    Returns
    -------
    uint8 ndarray (bytes,)

    Raises
    ------
    BitkilnError
        A number that its field cannot hold, a field that the header does not have, or an illegal code.
    """
    codes = np.asarray(groups.codes)
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise BitkilnError("not codes", where="codes", got=f"{codes.dtype} {codes.shape}",
                           expected="an integer array (groups, length)")
    count, longest = codes.shape
    lengths = np.full(count, longest) if groups.lengths is None else _column(groups.lengths, count, "lengths")
    _check_shape(lengths, longest, per_row, count)
    limits, columns = _limits(layout), {}
    for name, attribute in _ATTRIBUTES.items():
        values = _column(getattr(groups, attribute), count, attribute)
        low, high = limits.get(name, (0, 0))
        wrong = (values < low) | (values > high)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BitkilnError("out of range", where=f"{attribute}[{at}]", got=int(values[at]),
                               expected=f"{low} to {high}" if name in limits else "0: the header has no such field")
        columns[name] = values
    place = layout.offsets(lengths, columns["type"], per_row)
    out = np.zeros(place.total, np.uint8)
    for f in layout.header:
        out[place.headers + f.bit // 8] |= ((columns[f.name] & ((1 << f.width) - 1)) << f.bit % 8).astype(np.uint8)
    for packing, length, which in _kinds(layout, lengths, columns["type"]):
        check_codes(packing, codes[which, :length], which)
        data = encode(packing, codes[which, :length].astype(np.uint8))
        out[place.codes[which, None] + np.arange(data.shape[1])] = data
    return out


def _check_shape(lengths: np.ndarray, longest: int, per_row: int | None, count: int) -> None:
    wrong = (lengths < 1) | (lengths > longest)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BitkilnError("out of range", where=f"lengths[{at}]", got=int(lengths[at]), expected=f"1 to {longest}")
    if per_row is not None and (per_row < 1 or count % per_row):
        raise BitkilnError("rows do not fit", where="per_row", got=per_row, expected=f"a divisor of {count} groups")


def unpack_groups(layout: GroupLayout, data: np.ndarray, lengths: np.ndarray, per_row: int | None = None, *,
                  strict: bool = True) -> Groups:
    """The groups of a stream; their types, and so their sizes, are read from it.

    Parameters
    ----------
    layout : GroupLayout
    data : uint8 ndarray (bytes,)
    lengths : integer ndarray (groups,)
        Codes of each group: known from the shape of the matrix, not in the stream.
    per_row : int, optional
        As of `pack_groups`.
    strict : bool
        Refuse bytes that `pack_groups` never writes. A type selector that no type has is always refused.

    Returns
    -------
    Groups
        Every field an array; codes uint8, zeros behind a group's length.
    """
    data, lengths = np.asarray(data), np.asarray(lengths)
    count = len(lengths)
    _check_shape(lengths, max(int(lengths.max(initial=1)), 1), per_row, count)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise BitkilnError("not bytes", where="data", got=f"{data.dtype} {data.shape}", expected="uint8 (bytes,)")
    place = layout.offsets(lengths, _types(layout, data, lengths, per_row), per_row)
    if place.total != len(data):
        raise BitkilnError("wrong number of bytes", where="data", got=len(data),
                           expected=f"{place.total} for {count} groups")
    columns = {name: np.zeros(count, np.int64) for name in _ATTRIBUTES}
    limits, known = _limits(layout), np.zeros(len(data), np.uint8)
    for f in layout.header:
        byte = data[place.headers + f.bit // 8].astype(np.int64)
        values = (byte >> f.bit % 8) & ((1 << f.width) - 1)
        known[place.headers + f.bit // 8] |= ((1 << f.width) - 1) << f.bit % 8
        if f.signed:
            values -= (values >> f.width - 1) << f.width
        low, high = limits[f.name]
        wrong = (values < low) | (values > high)
        if strict and wrong.any():
            at = int(np.argmax(wrong))
            raise BitkilnError("out of range", where=f"byte {place.headers[at] + f.bit // 8} ({f.name})",
                               got=int(values[at]), expected=f"{low} to {high}")
        if f.signed:  # a decoder takes the low bits
            values = (values - low) % (high - low + 1) + low
        columns[f.name] = values
    codes = np.zeros((count, int(lengths.max(initial=0))), np.uint8)
    for packing, length, which in _kinds(layout, lengths, columns["type"]):
        places = place.codes[which, None] + np.arange(packing.code_bytes(length))
        codes[which, :length] = decode(packing, data[places], length)
        known[places] = 255
        if strict:
            check_packed(packing, data[places], codes[which, :length], places)
    if strict and (data & ~known).any():
        at = int(np.argmax(data & ~known))
        raise BitkilnError("padding is not zero", where=f"byte {at}", got=int(data[at]),
                           expected="zero in bits that no field has")
    return Groups(codes, lengths, **{_ATTRIBUTES[name]: values for name, values in columns.items()})


def _types(layout: GroupLayout, data: np.ndarray, lengths: np.ndarray, per_row: int | None) -> np.ndarray:
    """Type selectors of a stream: bundle by bundle, for a bundle's size depends on the types in it."""
    count = len(lengths)
    types = np.zeros(count, np.int64)
    if len(layout.packings) == 1:
        return types
    per_row, at, group = per_row or count, 0, 0
    while group < count:
        in_bundle = min(layout.bundle, per_row - group % per_row, count - group)
        heads = data[at:at + in_bundle * layout.header_bytes:layout.header_bytes] & 7
        if len(heads) < in_bundle:
            raise BitkilnError("truncated stream", where=f"byte {at}", got=f"{len(data)} bytes",
                               expected=f"a header of group {group + len(heads)}", exit_code=1)
        if heads.max() >= len(layout.packings):
            bad = int(np.argmax(heads >= len(layout.packings)))
            raise BitkilnError("unknown weight type", where=f"byte {at + bad * layout.header_bytes}",
                               got=int(heads[bad]), expected=f"a selector of 0 to {len(layout.packings) - 1}")
        types[group:group + in_bundle] = heads
        at += layout.bundle_bytes(tuple(int(n) for n in lengths[group:group + in_bundle]), tuple(map(int, heads)))
        group += in_bundle
    return types
