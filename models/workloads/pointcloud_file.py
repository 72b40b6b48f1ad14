"""What the readers of point clouds share: a file's bytes and lines, errors that name a place, tables of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import BitkilnError

__all__ = ["INTENSITY_NAMES", "PointFile", "Table", "ascii_columns", "choose_columns", "short", "stacked"]

AXES = ("x", "y", "z")
# Names that programs give the strength of the return (CloudCompare puts "scalar_" before all of its own).
INTENSITY_NAMES = ("intensity", "i", "reflectance", "reflectivity", "scalar_intensity")


@dataclass(frozen=True, eq=False)
class Table:
    """Points as a file has them, nothing checked yet.

    Attributes
    ----------
    points : float64 ndarray (N, 3)
    intensity : float64 ndarray (N,) or None
    organised : bool
        An image of points, in which NaN marks a pixel without a return.
    lines : sequence of int, optional
        Line of each point in a text file.
    """

    points: np.ndarray
    intensity: np.ndarray | None
    organised: bool = False
    lines: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class PointFile:
    """A file's bytes; ``kind`` is what it ought to be (``PCD``)."""

    path: Path
    data: bytes
    kind: str

    def fail(self, what: str, got: object, expected: str, where: str = "", help: str | None = None) -> NoReturn:
        if help is None and what.startswith("truncated"):
            help = "fetch or write the file again"
        raise BitkilnError(what, where=f"{self.path} {where}".strip(), got=got, expected=expected, help=help)

    def wrong_header(self, got: object, expected: str, where: str = "", help: str | None = None) -> NoReturn:
        self.fail(f"wrong header of a {self.kind} file", got, expected, where, help)

    def need(self, start: int, count: int, what: str) -> None:
        """``count`` bytes are there from ``start``."""
        left = max(len(self.data) - start, 0)
        if count > left:
            self.fail(f"truncated {self.kind} file", f"{left} bytes left", f"{count} for {what}", f"byte {start}")

    def lines(self, start: int = 0, number: int = 1, newline: bytes = b"\n") -> Iterator[tuple[int, bytes, int]]:
        """(number, line without its end, byte behind it) for each line from ``start``."""
        while start < len(self.data):
            end = self.data.find(newline, start)
            end = len(self.data) if end < 0 else end
            line = self.data[start:end]
            start = min(end + len(newline), len(self.data))
            yield number, line, start
            number += 1

    def whole(self, word: str, where: str, low: int, expected: str) -> int:
        """A whole number of a header."""
        if not (word.isascii() and word.isdigit()) or len(word) > 18 or int(word) < low:
            self.wrong_header(short(word), expected, where)
        return int(word)

    def number(self, text: bytes, where: str) -> float:
        """A word of a text file as a number."""
        try:
            return _number(text)
        except ValueError:
            self.fail(f"wrong value in a {self.kind} file", short(text), "a number", where)


def short(text: str | bytes) -> str:
    """Something of a file, for an error message: printable and not long."""
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= 40 else text[:40] + "..."


def stacked(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns of any type of number as float64 (columns, rows)."""
    with np.errstate(invalid="ignore"):    # NumPy warns of signalling NaN, which are refused with all others later
        return np.stack(columns, dtype=np.float64, casting="unsafe")


def choose_columns(file: PointFile, names: Sequence[str], where: str) -> list[int]:
    """Places of x, y, z and, if there is one, of the intensity among ``names``; case does not matter."""
    lower = [name.lower() for name in names]
    for axis in AXES:
        if lower.count(axis) != 1:
            what = "missing coordinates" if axis not in lower else "coordinate given twice"
            file.fail(what, short(" ".join(names)), "x, y and z once each", where)
    found = [lower.index(name) for name in INTENSITY_NAMES if name in lower]
    return [lower.index(axis) for axis in AXES] + found[:1]


def ascii_columns(file: PointFile, start: int, number: int, rows: int, width: int, columns: Sequence[int],
                  newline: bytes = b"\n") -> tuple[np.ndarray, list[int], int]:
    """Columns of a text table as float64 (len(columns), rows), the line of each row, and the byte behind the last.

    Empty lines do not count; every row has ``width`` words. Lines are counted from ``number``.
    """
    words: list[list[bytes]] = []
    numbers: list[int] = []
    end = start
    for at, line, behind in file.lines(start, number, newline):
        if len(words) == rows:
            break
        row = line.split()
        if not row:
            continue
        if len(row) != width:
            file.fail(f"wrong row of a {file.kind} file", f"{len(row)} values", f"{width}", f"line {at}")
        words.append(row)
        numbers.append(at)
        end = behind
    if len(words) < rows:
        file.fail(f"truncated {file.kind} file", f"{len(words)} rows", f"{rows} as the header says")
    values = np.empty((len(columns), rows))
    for place, column in enumerate(columns):
        try:
            values[place] = [_number(row[column]) for row in words]
        except ValueError:
            for row, at in zip(words, numbers, strict=True):
                file.number(row[column], f"line {at}, value {column + 1}")
    return values, numbers, end


def _number(text: bytes) -> float:
    if b"_" in text:    # Python reads 1_000 as a number, which no writer of tables means
        raise ValueError
    return float(text)
