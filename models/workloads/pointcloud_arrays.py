"""Points as plain arrays: float32 records (.bin of KITTI and nuScenes) and NumPy files."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import BitkilnError
from .pointcloud_file import PointFile, Table, choose_columns, short, stacked

__all__ = ["BIN_FIELDS", "read_bin", "read_npy"]

BIN_FIELDS = {"kitti": ("x", "y", "z", "intensity"), "nuscenes": ("x", "y", "z", "intensity", "ring")}
_FLOAT = np.dtype("<f4")
MAX_RING = 255


def read_bin(file: PointFile, fields: Sequence[str] | None) -> Table:
    """Records of float32, little-endian, without a header.

    Without ``fields`` the size of the file decides: a multiple of 16 bytes is KITTI's (x y z intensity), of 20 bytes
    nuScenes' (x y z intensity ring). Where it is both, the file is KITTI's, unless as nuScenes' every fifth number were
    a ring (a whole number, 0 to 255) and not all of the other numbers were whole.

    Raises
    ------
    BitkilnError
        A size that is no whole number of records.
    """
    data = file.data
    fields = fields or _bin_fields(file)
    width = len(fields) * _FLOAT.itemsize
    if len(data) % width:
        file.fail("wrong size of a file of float32 records", f"{len(data)} bytes",
                  f"a multiple of {width}: {' '.join(fields)}")
    columns = choose_columns(file, fields, "fields")
    values = np.frombuffer(data, _FLOAT).reshape(-1, len(fields))
    return _table([values[:, column] for column in columns], False)


def _bin_fields(file: PointFile) -> tuple[str, ...]:
    size = len(file.data)
    fitting = [fields for fields in BIN_FIELDS.values() if size % (len(fields) * _FLOAT.itemsize) == 0]
    if not fitting:
        file.fail("wrong size of a file of float32 records", f"{size} bytes",
                  "a multiple of 16 (x y z intensity) or of 20 (x y z intensity ring)",
                  help="name the numbers of a record: fields x,y,z,...")
    if len(fitting) == 1:
        return fitting[0]
    with np.errstate(invalid="ignore"):    # NaN and infinities
        whole = np.frombuffer(file.data, _FLOAT).reshape(-1, 5) % 1 == 0
    ring = np.frombuffer(file.data, _FLOAT)[4::5]
    rings = whole[:, 4].all() and ring.min() >= 0 and ring.max() <= MAX_RING and not whole[:, :4].all()
    return BIN_FIELDS["nuscenes" if rings else "kitti"]


def read_npy(file: PointFile, fields: Sequence[str] | None) -> Table:
    """An array (N, C) with C >= 3, an image (H, W, C) of points, or a structured array (N,) or (H, W).

    Plain columns are x y z, of 4 or 5 columns the fourth is the intensity, and ``fields`` names them otherwise.

    Raises
    ------
    BitkilnError
        Not a NumPy file, damaged, holding Python objects, or an array of another shape.
    """
    array = _load(file)
    if array.dtype.names:
        if fields:
            raise BitkilnError("fields of a file that names them", where=f"{file.path}", got=" ".join(fields),
                               expected=f"none: it has {short(' '.join(array.dtype.names))}")
        columns = choose_columns(file, array.dtype.names, "dtype")
        names = [array.dtype.names[column] for column in columns]
        for name in names:
            if array.dtype[name].kind not in "iuf":
                file.fail("wrong type in a NumPy file", str(array.dtype[name]), f"numbers for {short(name)}", "dtype")
        if array.ndim not in (1, 2):
            file.fail("wrong shape of a NumPy file", array.shape, "(N,) or (H, W) of a structured array")
        return _table([array[name].reshape(-1) for name in names], array.ndim == 2 and len(array) > 1)
    if array.dtype.kind not in "iuf":
        file.fail("wrong type in a NumPy file", str(array.dtype), "integers or floats", "dtype")
    if array.ndim not in (2, 3) or array.shape[-1] < 3:
        file.fail("wrong shape of a NumPy file", array.shape, "(N, 3 or more) or (H, W, 3 or more)")
    width = array.shape[-1]
    fields = fields or ("x", "y", "z", *(("intensity", "ring")[:width - 3] if width <= 5 else ["_"] * (width - 3)))
    if len(fields) != width:
        file.fail("wrong number of fields", " ".join(fields), f"{width}, one for each column")
    values = array.reshape(-1, width)
    return _table([values[:, column] for column in choose_columns(file, fields, "fields")],
                  array.ndim == 3 and len(array) > 1)


def _table(columns: Sequence[np.ndarray], organised: bool) -> Table:
    values = stacked(columns)
    return Table(np.ascontiguousarray(values[:3].T), values[3] if len(values) == 4 else None, organised)


def _load(file: PointFile) -> np.ndarray:
    """The array; its size is checked before memory is taken for it."""
    stream = io.BytesIO(file.data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
    except Exception as error:    # NumPy evaluates the header as Python text: nearly any error can come of it
        file.wrong_header(short(f"{error}") or type(error).__name__, "the header of a NumPy file")
    if dtype.hasobject:
        file.fail("Python objects in a NumPy file", str(dtype)[:40], "plain numbers", "dtype",
                  help="save the array after astype(np.float32)")
    if not dtype.itemsize:
        file.fail("wrong type in a NumPy file", str(dtype), "numbers", "dtype")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        file.wrong_header(short(str(shape)), "a shape", "shape")
    count, start = math.prod(shape), stream.tell()
    if not count:
        file.fail("no points", shape, "one or more", "shape")
    file.need(start, count * dtype.itemsize, f"an array of shape {short(str(shape))}")
    if start + count * dtype.itemsize != len(file.data):
        file.fail("bytes behind the array", len(file.data) - start, f"{count * dtype.itemsize}", f"byte {start}")
    values = np.frombuffer(file.data, dtype, count, start)
    return values.reshape(shape[::-1]).transpose() if fortran else values.reshape(shape)
