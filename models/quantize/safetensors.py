"""A strict reader of safetensors files: eight bytes of header length, a JSON header, then the tensors' bytes."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np

from ..errors import BitkilnError
from ..formats import get_format

__all__ = ["read_safetensors"]

LONGEST_HEADER = 100_000_000
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
_CODED = {"BF16": ("<u2", "bf16"), "F8_E4M3": ("u1", "fp8_e4m3"), "F8_E5M2": ("u1", "fp8_e5m2")}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file in their own dtype; BF16 and FP8 decoded to float64.

    Raises
    ------
    BitkilnError
        A header that is too long, no JSON object, or names a tensor twice; an unknown dtype; a shape, offsets and
        size that differ; tensors that overlap, leave gaps or reach beyond the file.
    """
    raw = path.read_bytes()

    def fail(got: str, expected: str, name: str | None = None) -> BitkilnError:
        place = str(path) if name is None else f"{path} {name!r}"
        return BitkilnError("damaged file", where=place, got=got, expected=expected)

    if len(raw) < 8:
        raise fail(f"{len(raw)} bytes", "a header length of 8 bytes")
    length = int.from_bytes(raw[:8], "little")
    if length > min(len(raw) - 8, LONGEST_HEADER):
        raise fail(f"a header of {length} bytes", f"at most {min(len(raw) - 8, LONGEST_HEADER)}")
    try:
        header = json.loads(raw[8:8 + length].decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise fail(f"a header that is no JSON ({' '.join(str(error).split())[:80]})", "a JSON object") from None
    if not isinstance(header, dict):
        raise fail("a header of another kind", "a JSON object")
    header.pop("__metadata__", None)
    body = memoryview(raw)[8 + length:]
    found, spans = {}, []
    for name, entry in header.items():
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise fail("an incomplete entry", "dtype, shape and data_offsets", name)
        kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in _PLAIN and kind not in _CODED:
            raise fail(f"dtype {kind}", ", ".join([*_PLAIN, *_CODED]), name)
        if not isinstance(shape, list) or not all(map(_count, shape)):
            raise fail(f"shape {shape}", "a list of sizes", name)
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_count, offsets)) \
                or not offsets[0] <= offsets[1] <= len(body):
            raise fail(f"offsets {offsets}", f"two rising numbers up to {len(body)}", name)
        stored, coded = _CODED.get(kind, (_PLAIN.get(kind), None))
        size = prod(shape) * np.dtype(stored).itemsize
        if size != offsets[1] - offsets[0]:
            raise fail(f"{offsets[1] - offsets[0]} bytes", f"{size} for {kind} {shape}", name)
        array = np.frombuffer(body[offsets[0]:offsets[1]], stored).reshape(shape)
        found[name] = get_format(coded).decode(array) if coded else array
        spans.append((offsets[0], offsets[1], name))
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise fail(f"data at byte {start}", f"byte {end}, without gap or overlap", name)
        end = stop
    if end != len(body):
        raise fail(f"{len(body) - end} bytes after the last tensor", "none")
    return found
