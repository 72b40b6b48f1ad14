"""PCD files of the Point Cloud Library: text, binary, and binary compressed by LZF.

The header is text, one key a line, DATA last; behind it come the points:

    ascii               one line each
    binary              records, little-endian, fields in the order of the header
    binary_compressed   compressed size (uint32), size (uint32), LZF stream of all x, then all y, ...

Sources: "The PCD file format" of the Point Cloud Library's documentation, and the description of LZF's format in the
wiki of the compress-lzf project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import BitkilnError
from .pointcloud_file import PointFile, Table, ascii_columns, choose_columns, short, stacked

__all__ = ["decompress_lzf", "read_pcd"]

VERSIONS = ("0.7", ".7", "0.6", ".6", "0.5", ".5")
KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
ENCODINGS = ("ascii", "binary", "binary_compressed")
NUMBERS = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
PADDING = "_"          # name of fields that only fill space
MAX_RECORD = 1 << 20    # bytes of a point
# A back reference of LZF makes at most 264 bytes of 3.
MAX_EXPANSION = 88


class _Field(NamedTuple):
    name: str
    dtype: np.dtype
    count: int

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * self.count


class _Header(NamedTuple):
    fields: list[_Field]
    points: int
    height: int
    encoding: str
    start: int    # of the points
    line: int


def read_pcd(file: PointFile) -> Table:
    """Coordinates and intensity of a PCD file.

    Raises
    ------
    BitkilnError
        A header that breaks a rule, or points that are not as the header says.
    """
    header = _header(file)
    columns = choose_columns(file, [field.name for field in header.fields], "FIELDS")
    for column in columns:
        if header.fields[column].count != 1:
            file.wrong_header(header.fields[column].count,
                      f"1 for {header.fields[column].name}", "COUNT")
    lines = None
    if header.encoding == "ascii":
        values, lines = _ascii(file, header, columns)
    elif header.encoding == "binary":
        values = _binary(file, header, columns)
    else:
        values = _compressed(file, header, columns)
    return Table(np.ascontiguousarray(values[:3].T), values[3] if len(columns) == 4 else None,
                 organised=header.height > 1, lines=lines)


# Header --------------------------------------------------------------------------------------------


def _header(file: PointFile) -> _Header:
    found: dict[str, tuple[list[str], str]] = {}
    start = line_number = 0
    for number, line, behind in file.lines():
        key, *words = line.decode("ascii", "replace").split() or ("#",)
        if key.startswith("#"):
            continue
        if key not in KEYS:
            file.wrong_header(short(line), f"one of {', '.join(KEYS)}", f"line {number}")
        if key in found:
            file.wrong_header(f"{key} again", "each key once", f"line {number}")
        found[key] = words, f"line {number} {key}"
        if key == "DATA":
            start, line_number = behind, number + 1
            break
    for key in ("FIELDS", "SIZE", "TYPE", "DATA"):
        if key not in found:
            file.wrong_header(f"no {key}", "FIELDS, SIZE, TYPE, ..., DATA",
                      help="is the file truncated?" if key == "DATA" else None)
    _one_of(file, found, "VERSION", VERSIONS)
    points, height = _size(file, found)
    return _Header(_fields(file, found), points, height, _one_of(file, found, "DATA", ENCODINGS), start, line_number)


def _one_of(file: PointFile, found: dict, key: str, choices: Sequence[str]) -> str:
    words, where = found.get(key, ([choices[0]], ""))
    if len(words) != 1 or words[0] not in choices:
        file.wrong_header(short(" ".join(words)), " or ".join(choices), where)
    return words[0]


def _fields(file: PointFile, found: dict) -> list[_Field]:
    names, where = found["FIELDS"]
    for key in ("SIZE", "TYPE", "COUNT"):
        words, place = found.get(key, (["1"] * len(names), ""))
        if len(words) != len(names):
            file.wrong_header(f"{len(words)} values", f"{len(names)}, one for each field", place)
    counts, count_place = found.get("COUNT", (["1"] * len(names), ""))
    fields = []
    for name, size, kind, count in zip(names, found["SIZE"][0], found["TYPE"][0], counts, strict=True):
        if kind not in NUMBERS:
            file.wrong_header(short(kind), " or ".join(NUMBERS), found["TYPE"][1])
        if size not in map(str, NUMBERS[kind]):
            file.wrong_header(short(size),
                      f"{' or '.join(map(str, NUMBERS[kind]))} bytes for type {kind}", found["SIZE"][1])
        dtype = np.dtype(f"<{kind.lower()}{size}")
        many = file.whole(count, count_place, 1, f"1 or more for {short(name)}")
        fields.append(_Field(name, dtype, many))
        if sum(field.bytes for field in fields) > MAX_RECORD:
            file.wrong_header(many, f"points of at most {MAX_RECORD} bytes", count_place)
    return fields


def _size(file: PointFile, found: dict) -> tuple[int, int]:
    """Points, and height of the image they are."""
    numbers = {}
    for key in ("WIDTH", "HEIGHT", "POINTS"):
        if key in found:
            words, where = found[key]
            if len(words) != 1:
                file.wrong_header(f"{len(words)} values", "one", where)
            numbers[key] = file.whole(words[0], where, 0, "a whole number")
    if "POINTS" not in numbers and "WIDTH" not in numbers:
        file.wrong_header("no POINTS and no WIDTH", "one of them at least")
    height = numbers.get("HEIGHT", 1)
    points = numbers.get("POINTS", numbers.get("WIDTH", 0) * height)
    if "WIDTH" in numbers and numbers["WIDTH"] * height != points:
        file.wrong_header(f"{points} points", f"WIDTH x HEIGHT = {numbers['WIDTH'] * height}",
                          found["POINTS"][1])
    if not points:
        file.fail("no points", 0, "one or more", "POINTS")
    return points, height


# Points --------------------------------------------------------------------------------------------


def _ascii(file: PointFile, header: _Header, columns: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    starts = np.cumsum([0] + [field.count for field in header.fields])
    values, lines, end = ascii_columns(file, header.start, header.line, header.points, int(starts[-1]),
                                       [int(starts[column]) for column in columns])
    _nothing_behind(file, header, end)
    return values, lines


def _binary(file: PointFile, header: _Header, columns: Sequence[int]) -> np.ndarray:
    record = np.dtype([(f"f{at}", field.dtype, (field.count,)) for at, field in enumerate(header.fields)])
    size = header.points * record.itemsize
    file.need(header.start, size, f"{header.points} points of {record.itemsize} bytes")
    _nothing_behind(file, header, header.start + size)
    records = np.frombuffer(file.data, record, header.points, header.start)
    return stacked([records[f"f{column}"][:, 0] for column in columns])


def _compressed(file: PointFile, header: _Header, columns: Sequence[int]) -> np.ndarray:
    file.need(header.start, 8, "the sizes of the compressed points")
    packed, size = np.frombuffer(file.data, "<u4", 2, header.start).tolist()
    start = header.start + 8
    file.need(start, packed, "the compressed points")
    _nothing_behind(file, header, start + packed)
    # Some writers leave out fields that only fill space.
    for stored in (header.fields, [field for field in header.fields if field.name != PADDING]):
        if header.points * sum(field.bytes for field in stored) == size:
            break
    else:
        expected = header.points * sum(field.bytes for field in header.fields)
        file.fail("wrong size of the compressed points", size, f"{expected} bytes for {header.points} points",
                  f"byte {header.start + 4}")
    plain = decompress_lzf(memoryview(file.data)[start:start + packed], size, f"{file.path}", start)
    ends = np.cumsum([field.bytes * header.points for field in stored])
    values = []
    for column in columns:
        field = header.fields[column]
        place = next(at for at, each in enumerate(stored) if each is field)
        values.append(np.frombuffer(plain, field.dtype, header.points, int(ends[place]) - field.bytes * header.points))
    return stacked(values)


def _nothing_behind(file: PointFile, header: _Header, end: int) -> None:
    """Zeros and white space may follow: the library fills files up to whole pages of memory."""
    rest = file.data[end:].strip(b"\0 \t\r\n")
    if rest:
        file.fail("points behind the last one", f"{len(file.data) - end} bytes",
                  f"the end of the file after {header.points} points", f"byte {end}")


def decompress_lzf(data: bytes | memoryview, size: int, where: str = "LZF stream", start: int = 0) -> bytes:
    """Expand an LZF stream to exactly ``size`` bytes.

    The stream is a row of segments, told apart by the three high bits of the first byte:

        000LLLLL                    the next L + 1 bytes as they are
        RRRXXXXX XXXXXXXX           R + 2 bytes that start X + 1 bytes back, R = 1..6
        111XXXXX RRRRRRRR XXXXXXXX  R + 9 bytes that start X + 1 bytes back

    A reference may reach into what it makes: the bytes then repeat.

    Parameters
    ----------
    data : bytes
    size : int
    where, start : str, int
        Of the stream, for errors.

    Raises
    ------
    BitkilnError
        The stream ends within a segment, refers to bytes before its start, or makes another number of bytes.
    """
    def fail(got: str, expected: str, at: int):
        raise BitkilnError("damaged LZF data", where=f"{where} byte {start + at}", got=got, expected=expected,
                           help="fetch or write the file again")

    if size > len(data) * MAX_EXPANSION:
        fail(f"{len(data)} compressed bytes", f"{-(-size // MAX_EXPANSION)} or more for {size}", 0)
    data = bytes(data)
    out = bytearray()
    at, end = 0, len(data)
    while at < end:
        segment = at
        control = data[at]
        at += 1
        if control < 32:
            stop = at + control + 1
            if stop > end:
                fail(f"{end - at} bytes left", f"{control + 1} literal bytes", segment)
            out += data[at:stop]
            at = stop
        else:
            length = (control >> 5) + 2
            if at + (1 if length < 9 else 2) > end:
                fail("the end of the data", "a whole reference", segment)
            if length == 9:
                length += data[at]
                at += 1
            back = ((control & 31) << 8 | data[at]) + 1
            at += 1
            first = len(out) - back
            if first < 0:
                fail(f"a reference {back} bytes back", f"at most {len(out)}", segment)
            if back >= length:
                out += out[first:first + length]
            else:
                out += (out[first:] * (length // back + 1))[:length]
        if len(out) > size:
            fail("more bytes", f"{size} in all", segment)
    if len(out) != size:
        fail(f"{len(out)} bytes", f"{size} in all", end)
    return bytes(out)
