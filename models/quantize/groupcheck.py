"""Whether the parts of a quantised tensor fit each other: a file may hold anything."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import BitkilnError
from .footprint import choice_bits
from .grids import special_count, type_bits
from .groups import GroupQuantized
from .scales import check_scale_format, decode_codes, scale_bits

__all__ = ["check"]


def _require(good: bool, what: str, field: str, got: object) -> None:
    if not good:
        raise BitkilnError(what, where=field, got=str(got), expected="a consistent quantised tensor")


def _array(q: GroupQuantized, field: str, kinds: str, shape: tuple[int, ...] | None) -> None:
    """A field's type and shape, where it is there."""
    array = getattr(q, field)
    if array is None:
        return
    _require(isinstance(array, np.ndarray) and array.dtype.kind in kinds, "wrong dtype", field,
             getattr(array, "dtype", type(array).__name__))
    _require(shape is None or array.shape == shape, "wrong shape", field, array.shape)
    _require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), "NaN or Inf", field, "not finite")


def _below(q: GroupQuantized, field: str, limit: int) -> None:
    array = getattr(q, field)
    if array is not None and array.size:
        _require(array.min() >= 0 and array.max() < limit, "out of range", field, f"{array.min()} to {array.max()}")


def check(q: GroupQuantized) -> GroupQuantized:
    """``q`` where all shapes, types and ranges fit.

    Raises
    ------
    BitkilnError
        What does not, with the field's name.
    """
    sizes = (q.group, q.scale_block, q.alignment, *q.shape)
    _require(all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes), "not a size", "shape",
             sizes)
    _require(all(isinstance(n, int) and 0 <= n <= 64 for n in (q.zero_bits, q.tensor_bits)), "not a size",
             "zero_bits", (q.zero_bits, q.tensor_bits))
    _require(isinstance(q.method, str) and all(isinstance(name, str) for name in q.types), "not a name", "types",
             q.types)
    rows, columns = q.matrix
    _require(q.group <= columns, "out of range", "group", q.group)
    per_group = (rows, q.groups)
    check_scale_format(q.scale_format, "")
    _array(q, "codes", "u", (rows, columns))
    for field in ("scale_codes", "negative_scale_codes", "salient_scale_codes"):
        _array(q, field, "u", per_group)
        _below(q, field, 1 << max(scale_bits(q.scale_format), 1))
        if getattr(q, field) is not None and q.scale_format != "none":
            _require(bool(np.isfinite(decode_codes(q.scale_format, getattr(q, field))).all()), "NaN or Inf", field,
                     "a code that is no number")
    _array(q, "channel_scale", "f", (-(-prod(per_group) // q.scale_block),))
    for field, kinds in (("type_index", "u"), ("special_index", "u"), ("zero", "i")):
        _array(q, field, kinds, per_group)
    _array(q, "salient", "b", (columns,))
    _array(q, "input_scale", "f", (columns,))
    _require(q.input_scale is None or bool((q.input_scale > 0).all()), "out of range", "input_scale", "not positive")
    if q.codebook is not None:
        _array(q, "codebook", "f", None)
        _require(q.codebook.ndim == 2 and len(q.codebook) == rows, "wrong shape", "codebook", q.codebook.shape)
        width = choice_bits(q.codebook.shape[1])
        _below(q, "codes", q.codebook.shape[1])
    else:
        _require(1 <= len(q.types) <= 16, "wrong number", "types", len(q.types))
        width = max(type_bits(name) for name in q.types)
    _require(q.salient is None or len(q.types) == 2, "wrong number", "types", len(q.types))
    _below(q, "codes", 1 << width)
    _below(q, "type_index", max(len(q.types), 1))
    _below(q, "special_index", max([special_count(name) for name in q.types] or [0]))
    count = 0 if q.outlier_value is None else q.outlier_value.size
    for field, kinds, limit in (("outlier_row", "u", rows), ("outlier_column", "u", columns),
                                ("outlier_value", "f", None)):
        _require((getattr(q, field) is None) == (q.outlier_value is None), "missing part", field, "none")
        _array(q, field, kinds, (count,))
        if limit is not None:
            _below(q, field, limit)
    return q
