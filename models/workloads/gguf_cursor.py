"""The bytes of a GGUF file, read forwards and never beyond the end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import BitkilnError

__all__ = ["Cursor", "open_mapped"]

MAGIC = b"GGUF"
MAX_NESTING = 4  # of arrays in arrays

# Types of metadata values, in the order of their numbers; string and array have no fixed size.
_VALUE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
                "uint64", "int64", "float64")


class Cursor:
    """Reads forward; nothing is read before it is known to be there."""

    def __init__(self, data: np.ndarray, path: Path):
        self.data, self.path, self.at, self.end = data.data, path, 0, len(data)

    def fail(self, what: str, got: object, expected: str, where: str = "") -> NoReturn:
        raise BitkilnError(what, where=f"{self.path} {where or f'byte {self.at}'}", got=got, expected=expected,
                           help="fetch the file again" if what.startswith("truncated") else None)

    def take(self, count: int, what: str) -> int:
        """Where ``count`` bytes start that are then behind the cursor."""
        if count > self.end - self.at:
            self.fail("truncated GGUF file", f"{self.end - self.at} bytes left", f"{count} for {what}")
        self.at += count
        return self.at - count

    def number(self, code: str, what: str) -> Any:
        return struct.unpack_from(f"<{code}", self.data, self.take(struct.calcsize(code), what))[0]

    def string(self, what: str, limit: int | None = None) -> str:
        length = self.number("Q", f"the length of {what}")
        if limit is not None and not 1 <= length <= limit:
            self.fail("bad length", length, f"1 to {limit} bytes for {what}")
        start = self.take(length, what)
        try:
            return str(self.data[start:self.at], "utf-8")
        except UnicodeDecodeError as error:
            self.fail("bad string", error.reason, f"UTF-8 in {what}")

    def value_type(self, what: str) -> str:
        number = self.number("I", f"the type of {what}")
        if number >= len(_VALUE_TYPES):
            self.fail("unknown value type", number, f"0 to {len(_VALUE_TYPES) - 1} for {what}")
        return _VALUE_TYPES[number]

    def value(self, kind: str, what: str, depth: int = 0) -> Any:
        if kind == "string":
            return self.string(what)
        if kind == "array":
            return self.array(what, depth + 1)
        values = self.numbers(kind, 1, what)
        return values[0].item()

    def numbers(self, kind: str, count: int, what: str) -> np.ndarray:
        dtype = np.dtype(np.uint8 if kind == "bool" else kind)
        start = self.take(count * dtype.itemsize, what)
        values = np.frombuffer(self.data, dtype.newbyteorder("<"), count, start).astype(dtype)
        if kind != "bool":
            return values
        if values.size and values.max() > 1:
            self.fail("bad truth value", int(values.max()), f"0 or 1 in {what}")
        return values.astype(bool)

    def array(self, what: str, depth: int) -> np.ndarray | tuple:
        if depth > MAX_NESTING:
            self.fail("arrays nested too deep", depth, f"at most {MAX_NESTING} in {what}")
        kind = self.value_type(f"the items of {what}")
        count = self.number("Q", f"the length of {what}")
        smallest = {"string": 8, "array": 12}.get(kind, 1)
        if count > (self.end - self.at) // smallest:
            self.fail("truncated GGUF file", f"{self.end - self.at} bytes left", f"{count} items of {what}")
        if kind not in ("string", "array"):
            return self.numbers(kind, count, what)
        return tuple(self.value(kind, f"item {i} of {what}", depth) for i in range(count))


def open_mapped(path: Path) -> np.ndarray:
    """The file as bytes, mapped."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith(MAGIC) and len(head) >= 8:
            return np.memmap(path, np.uint8, "r").view(np.ndarray)
    except OSError as error:
        raise BitkilnError("cannot read", where=str(path), got=error.strerror or str(error),
                           expected="a GGUF file") from error
    what = "not a GGUF file" if head else "empty file"
    if head.startswith(b"version https://git-lfs"):
        what = "Git LFS pointer instead of a GGUF file"
    elif MAGIC.startswith(head[:4]) and head:
        what = "truncated GGUF file"
    raise BitkilnError(what, where=str(path), got=head[:8] or None, expected="the bytes GGUF and a version",
                       help="fetch the file again")
