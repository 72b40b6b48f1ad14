"""GGUF files, read strictly: metadata, tensor directory, and tensors as float32 or as integers with scales.

A GGUF file (version 2 or 3, little-endian) is a header, key-value pairs, a directory of tensors and, aligned, their
data. The file is mapped into memory and nothing of it is trusted: every length is checked against what is left of the
file before it is used, and a file that breaks a rule gives one error that names the place.

Source of the format: the GGUF specification of the ggml project (docs/gguf.md there).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..design.layouts_blocks import BLOCKS
from ..errors import BitkilnError, nearest
from .gguf_blocks import FLOATS, IntegerBlocks, decode_blocks, decode_floats, integer_blocks
from .gguf_cursor import Cursor, open_mapped

__all__ = ["GgufFile", "TensorInfo", "read_gguf"]

VERSIONS = (2, 3)
ALIGNMENT = 32          # unless the file says otherwise
MAX_KEY, MAX_NAME, MAX_DIMENSIONS = 65535, 64, 4
SMALLEST_PAIR, SMALLEST_TENSOR = 8 + 1 + 4 + 1, 8 + 1 + 4 + 8 + 4 + 8  # bytes

class _Size(NamedTuple):
    name: str
    weights: int
    bytes: int


# Tensor types by number: those that are decoded, and those of which only the size is known.
_TYPES = {0: _Size("f32", 1, 4), 1: _Size("f16", 1, 2), 30: _Size("bf16", 1, 2),
          **{b.number: _Size(b.name, b.weights, b.bytes) for b in BLOCKS.values()},
          9: _Size("q8_1", 32, 36), 15: _Size("q8_k", 256, 292), 16: _Size("iq2_xxs", 256, 66),
          17: _Size("iq2_xs", 256, 74), 18: _Size("iq3_xxs", 256, 98), 19: _Size("iq1_s", 256, 50),
          21: _Size("iq3_s", 256, 110), 22: _Size("iq2_s", 256, 82), 23: _Size("iq4_xs", 256, 136),
          24: _Size("i8", 1, 1), 25: _Size("i16", 1, 2), 26: _Size("i32", 1, 4), 27: _Size("i64", 1, 8),
          28: _Size("f64", 1, 8), 29: _Size("iq1_m", 256, 56), 39: _Size("mxfp4", 32, 17), 40: _Size("nvfp4", 64, 36)}


@dataclass(frozen=True)
class TensorInfo:
    """An entry of the directory.

    Attributes
    ----------
    name : str
    type : str
        Lower case: ``f32``, ``q4_1``, ``q6_k``, ...
    shape : tuple of int
        In NumPy's order: the last axis is contiguous (files list it first).
    offset, bytes : int
        Of the data, from the start of the file.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    bytes: int


@dataclass(frozen=True, eq=False)
class GgufFile:
    """A file that has been checked and mapped into memory.

    Attributes
    ----------
    path : Path
    version : int
        2 or 3.
    alignment : int
        Bytes; every tensor's data starts on a multiple of it.
    metadata : mapping
        int, float, bool, str; arrays of numbers as ndarray, other arrays as tuple.
    tensors : mapping of str to TensorInfo
        In the order of the file.
    data : uint8 ndarray
        The whole file, read-only.
    """

    path: Path
    version: int
    alignment: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    data: np.ndarray

    def __repr__(self) -> str:
        return f"<GgufFile {self.path.name}: version {self.version}, {len(self.tensors)} tensors>"

    def value(self, key: str, kind: type, default: Any = None) -> Any:
        """A metadata value of type ``kind`` (int, float, bool, str, tuple or ndarray).

        Raises
        ------
        BitkilnError
            Missing without a default, or of another type.
        """
        if key not in self.metadata:
            if default is not None:
                return default
            raise BitkilnError("missing metadata", where=str(self.path), got="no such key", expected=key,
                               help=nearest(key, self.metadata))
        value = self.metadata[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BitkilnError("wrong metadata", where=f"{self.path} {key}", got=type(value).__name__,
                               expected=kind.__name__)
        return value

    def info(self, name: str) -> TensorInfo:
        """The directory entry of a tensor."""
        if name not in self.tensors:
            raise BitkilnError("no such tensor", where=str(self.path), got=name, expected="a tensor of the file",
                               help=nearest(name, self.tensors))
        return self.tensors[name]

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor, uint8, read-only."""
        info = self.info(name)
        return self.data[info.offset:info.offset + info.bytes]

    def tensor(self, name: str) -> np.ndarray:
        """A tensor as float32; each value is the exact one, rounded once.

        Raises
        ------
        BitkilnError
            No such tensor, or a type that is not decoded here.
        """
        info = self.info(name)
        if info.type in FLOATS:
            return decode_floats(info.type, self.raw(name)).reshape(info.shape)
        blocks = self._blocks(info, FLOATS)
        return decode_blocks(BLOCKS[info.type], blocks).reshape(info.shape)

    def integers(self, name: str) -> IntegerBlocks:
        """A quantised tensor as codes, scales and minima: ``w = d * scale * code - dmin * minimum``.

        Raises
        ------
        BitkilnError
            No such tensor, or not of a quantised type that is decoded here.
        """
        info = self.info(name)
        blocks = self._blocks(info, ())
        return integer_blocks(BLOCKS[info.type], blocks, info.shape)

    def _blocks(self, info: TensorInfo, others: Iterable[str]) -> np.ndarray:
        """The blocks of a quantised tensor; ``others`` are types that would have been good as well."""
        if info.type not in BLOCKS:
            raise BitkilnError("tensor type is not decoded", where=f"{self.path} {info.name}", got=info.type,
                               expected=", ".join([*others, *BLOCKS]))
        return self.raw(info.name).reshape(-1, BLOCKS[info.type].bytes)


def read_gguf(path: str | Path) -> GgufFile:
    """Map a GGUF file and check its metadata and its directory.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    BitkilnError
        Not a GGUF file, another version or byte order, truncated, a number that cannot be right, two things of one
        name, or data that overlaps or lies outside the file.
    """
    path = Path(path)
    data = open_mapped(path)
    cursor = Cursor(data, path)
    cursor.take(4, "the magic")
    version = cursor.number("I", "the version")
    if version not in VERSIONS:
        big = version & 0xFFFF == 0 and version >> 24 in (1, *VERSIONS)
        cursor.fail("big-endian GGUF file" if big else "unknown GGUF version", version, "little-endian version 2 or 3")
    tensors, pairs = cursor.number("Q", "the number of tensors"), cursor.number("Q", "the number of metadata pairs")
    room = cursor.end - cursor.at
    if pairs * SMALLEST_PAIR + tensors * SMALLEST_TENSOR > room:
        cursor.fail("truncated GGUF file", f"{room} bytes left", f"{pairs} metadata pairs and {tensors} tensors")
    metadata = _metadata(cursor, pairs)
    alignment = _alignment(cursor, metadata)
    directory = _directory(cursor, tensors, alignment)
    return GgufFile(path, version, alignment, MappingProxyType(metadata), MappingProxyType(directory), data)


def _metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for number in range(count):
        key = cursor.string(f"key {number}", MAX_KEY)
        if not key.isascii() or not key.isprintable() or key in metadata:
            cursor.fail("metadata key given twice" if key in metadata else "bad metadata key", key,
                        "different keys of ASCII characters")
        metadata[key] = cursor.value(cursor.value_type(key), key)
    return metadata


def _alignment(cursor: Cursor, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT)
    good = isinstance(alignment, int) and not isinstance(alignment, bool) and 8 <= alignment <= 1 << 20
    if not good or alignment & (alignment - 1):
        cursor.fail("bad alignment", str(alignment), "a power of two, 8 to 2^20", "general.alignment")
    return alignment


def _directory(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    for number in range(count):
        name = cursor.string(f"the name of tensor {number}", MAX_NAME)
        if name in found:
            cursor.fail("tensor given twice", name, "different names")
        dimensions = cursor.number("I", f"the dimensions of {name}")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            cursor.fail("bad number of dimensions", dimensions, f"1 to {MAX_DIMENSIONS}", name)
        shape = tuple(cursor.number("Q", f"the shape of {name}") for _ in range(dimensions))
        kind, offset = cursor.number("I", f"the type of {name}"), cursor.number("Q", f"the offset of {name}")
        if kind not in _TYPES:
            cursor.fail("unknown tensor type", kind, "a type of ggml", name)
        type = _TYPES[kind]
        if not all(shape) or shape[0] % type.weights:
            cursor.fail("bad shape", str(shape), f"sizes of 1 and more, the first a multiple of {type.weights}", name)
        if offset % alignment:
            cursor.fail("data is not aligned", offset, f"an offset that is a multiple of {alignment}", name)
        size = math.prod(shape) // type.weights * type.bytes
        found[name] = TensorInfo(name, type.name, shape[::-1], offset, size)
    start = -(-cursor.at // alignment) * alignment
    end = start
    for info in sorted(found.values(), key=lambda info: info.offset):
        offset = start + info.offset
        if offset < end:
            cursor.fail("tensors overlap", offset, f"an offset of {end} or more in the file", info.name)
        end = offset + info.bytes
        if end > cursor.end:
            cursor.fail("truncated GGUF file", f"{cursor.end} bytes", f"{end} for the data of {info.name}", info.name)
        found[info.name] = TensorInfo(info.name, info.type, info.shape, offset, info.bytes)
    return found
