"""PLY files: text, or binary of either byte order.

A text header lists elements (vertex, face, ...) and their properties: numbers, or lists of numbers with their length
before them. The rows of the elements follow in that order. Points are the element vertex; what is before it is skipped
row by row, what is behind it is not read.

Source of the format: Greg Turk, "The PLY Polygon File Format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .pointcloud_file import PointFile, Table, ascii_columns, choose_columns, short, stacked

__all__ = ["read_ply"]

ENCODINGS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
          "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
          "float32": "f4", "float64": "f8"}
_STRUCT = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}


class _Property(NamedTuple):
    name: str
    type: str
    length: str | None = None    # type of the number before a list


@dataclass
class _Element:
    name: str
    rows: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def lists(self) -> bool:
        return any(each.length for each in self.properties)


@dataclass
class _Header:
    encoding: str
    newline: bytes
    elements: list[_Element] = field(default_factory=list)
    image: dict[str, int] = field(default_factory=dict)    # num_cols, num_rows
    start: int = 0
    line: int = 1


def read_ply(file: PointFile) -> Table:
    """Coordinates and intensity of the vertices of a PLY file.

    Raises
    ------
    BitkilnError
        A header that breaks a rule, no vertices, or rows that are not as the header says.
    """
    header = _header(file)
    names = [element.name for element in header.elements]
    if "vertex" not in names:
        file.wrong_header(short(", ".join(names)), "an element vertex", "element")
    vertex = header.elements[names.index("vertex")]
    columns = choose_columns(file, [each.name for each in vertex.properties], "element vertex")
    for column in columns:
        if vertex.properties[column].length:
            file.wrong_header("a list", f"a number for {vertex.properties[column].name}", "element vertex")
    if not vertex.rows:
        file.fail("no points", 0, "one or more", "element vertex")
    before = header.elements[:names.index("vertex")]
    lines = None
    if header.encoding == "ascii":
        values, lines = _ascii(file, header, before, vertex, columns)
    else:
        values = _binary(file, header, before, vertex, columns)
    return Table(np.ascontiguousarray(values[:3].T), values[3] if len(columns) == 4 else None,
                 organised=_organised(header, vertex), lines=lines)


def _organised(header: _Header, vertex: _Element) -> bool:
    rows, columns = header.image.get("num_rows", 1), header.image.get("num_cols", 1)
    return rows > 1 and rows * columns == vertex.rows


# Header --------------------------------------------------------------------------------------------


def _header(file: PointFile) -> _Header:
    end = len(file.data)
    newline = b"\r" if b"\r" in file.data[3:4] and file.data[4:5] != b"\n" else b"\n"
    header = None
    for number, raw, behind in file.lines(newline=newline):
        words = raw.decode("ascii", "replace").split()
        where = f"line {number}"
        if number == 1:
            if words != ["ply"]:
                file.wrong_header(short(raw), "ply", where)
        elif number == 2:
            if len(words) != 3 or words[0] != "format" or words[1] not in ENCODINGS or words[2] != "1.0":
                file.wrong_header(short(raw), f"format, one of {', '.join(ENCODINGS)}, and 1.0", where)
            header = _Header(words[1], newline)
        elif words == ["end_header"]:
            header.start, header.line = behind, number + 1
            return header
        elif words and words[0] not in ("comment", "obj_info"):
            _declaration(file, header, raw, words, where)
        elif len(words) == 3 and words[1] in ("num_cols", "num_rows") and words[2].isascii() and words[2].isdigit():
            header.image[words[1]] = int(words[2][:9])
    file.fail("truncated PLY file", "the end of the file", "end_header", f"byte {end}")


def _declaration(file: PointFile, header: _Header, raw: bytes, words: list[str], where: str) -> None:
    """An element or a property."""
    if words[0] == "element" and len(words) == 3:
        if any(element.name == words[1] for element in header.elements):
            file.wrong_header(f"element {short(words[1])} again", "each element once", where)
        header.elements.append(_Element(words[1], file.whole(words[2], where, 0, "a number of rows")))
        return
    plain = len(words) == 3 and words[0] == "property" and words[1] in _TYPES
    listed = len(words) == 5 and words[:2] == ["property", "list"] and words[2] in _TYPES and words[3] in _TYPES
    if not header.elements or not (plain or listed and _TYPES[words[2]][0] != "f"):
        file.wrong_header(short(raw), "element NAME ROWS, then property TYPE NAME or property list TYPE TYPE NAME",
                          where)
    length = _TYPES[words[2]] if listed else None
    header.elements[-1].properties.append(_Property(words[-1], _TYPES[words[-2]], length))


# Text ----------------------------------------------------------------------------------------------


def _ascii(file: PointFile, header: _Header, before: list[_Element], vertex: _Element,
           columns: list[int]) -> tuple[np.ndarray, list[int]]:
    start, number = header.start, header.line
    left = sum(element.rows for element in before if element.properties)
    lines = file.lines(start, number, header.newline)
    while left:
        at, line, start = next(lines, (0, None, 0))
        if line is None:
            file.fail("truncated PLY file", f"{left} rows missing", "the rows of " +
                      short(", ".join(element.name for element in before)))
        left -= bool(line.split())
        number = at + 1
    if not vertex.lists:
        values, numbers, _ = ascii_columns(file, start, number, vertex.rows, len(vertex.properties), columns,
                                           header.newline)
        return values, numbers
    rows, numbers = [], []
    for at, line, _ in file.lines(start, number, header.newline):
        if len(rows) == vertex.rows:
            break
        words = line.split()
        if words:
            rows.append(_walk_text(file, vertex, columns, words, f"line {at}"))
            numbers.append(at)
    if len(rows) < vertex.rows:
        file.fail("truncated PLY file", f"{len(rows)} rows", f"{vertex.rows} as the header says")
    return np.array(rows).T, numbers


def _walk_text(file: PointFile, vertex: _Element, columns: list[int], words: list[bytes], where: str) -> list[float]:
    """The values of a row that has lists."""
    starts, at = [], 0
    for each in vertex.properties:
        starts.append(at)
        if each.length and at < len(words):
            at += file.whole(words[at].decode("ascii", "replace"), where, 0, f"a length for {short(each.name)}")
        at += 1
    if at != len(words):
        file.fail("wrong row of a PLY file", f"{len(words)} values", f"{at}", where)
    return [file.number(words[starts[column]], f"{where}, value {starts[column] + 1}") for column in columns]


# Binary --------------------------------------------------------------------------------------------


def _binary(file: PointFile, header: _Header, before: list[_Element], vertex: _Element,
            columns: list[int]) -> np.ndarray:
    order, start = ENCODINGS[header.encoding], header.start
    for element in before:
        if element.lists:
            start, _ = _walk(file, order, element, [], start)
        else:
            size = sum(int(each.type[1]) for each in element.properties) * element.rows
            file.need(start, size, f"the element {short(element.name)}")
            start += size
    if vertex.lists:
        return _walk(file, order, vertex, columns, start)[1]
    record = np.dtype([(f"f{at}", order + each.type) for at, each in enumerate(vertex.properties)])
    file.need(start, vertex.rows * record.itemsize, f"{vertex.rows} vertices of {record.itemsize} bytes")
    records = np.frombuffer(file.data, record, vertex.rows, start)
    return stacked([records[f"f{column}"] for column in columns])


def _walk(file: PointFile, order: str, element: _Element, columns: list[int],
          start: int) -> tuple[int, np.ndarray]:
    """Byte behind an element that has lists, and some of its values (columns, rows)."""
    what = f"the element {short(element.name)}"
    # Every row has a byte at least, so a number of rows that cannot be is found before memory is taken for it.
    file.need(start, element.rows, what)
    readers = [(struct.Struct(order + _STRUCT[each.length or each.type]), int(each.type[1]) if each.length else 0,
                columns.index(place) if place in columns else None) for place, each in enumerate(element.properties)]
    values = np.empty((len(columns), element.rows))
    data, end = file.data, len(file.data)
    for row in range(element.rows):
        for reader, item, column in readers:
            behind = start + reader.size
            if behind > end:
                file.need(start, reader.size, what)
            number, = reader.unpack_from(data, start)
            start = behind
            if item:
                if number < 0:
                    file.fail("wrong length of a list", number, "0 or more", f"byte {start - reader.size}")
                file.need(start, number * item, what)
                start += number * item
            elif column is not None:
                values[column, row] = number
    return start, values
