"""Blocks on a grid and wires with right angles between them: a block diagram before it is ink (`svg`).

A drawing says what stands in which column and row and what leads where; sizes and places follow from the texts.
Channels for wires lie between the columns (``v2``: before column 2) and between the rows (``h1``: above row 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...flow.datasheet import count
from .lettering import LINE, NOTE_LINE, NOTE_SIZE, SIZE, text_width, wrap

__all__ = ["COPIES", "MARGIN", "RULE", "SHADOW", "Block", "Box", "Diagram", "Wire", "bits", "count"]

PAD_X, PAD_Y = 13, 9
MARGIN, GAP, ROW_GAP = 22, 44, 26
TITLE = 24
SHADOW, COPIES = 5, 2       # of a stack: places of a shadow, number of shadows
SLANT = 22                  # of a tree
SLOT, TURN = 9, 15          # between wires of a channel; from a corner to the arrow's block
RULE = "---"                # as a line of a block: a dashed rule


def bits(number: int) -> str:
    """``1 bit``, ``19 bits``."""
    return count(number, "bit")


@dataclass(frozen=True)
class Block:
    """A block (`Diagram.block`) or, with shape ``port``, a port; ``width`` is a port's bits."""

    name: str
    column: int
    row: int
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    columns: int = 1
    rows: int = 1
    shape: str = "block"
    copies: bool = False
    grid: tuple[int, int] = (0, 0)
    width: int | None = None

    @property
    def shadow(self) -> float:
        """Room that its shadows take above and to the right."""
        return SHADOW * COPIES if self.copies else 0

    def size(self) -> tuple[float, float]:
        """Least width and height."""
        width = max([text_width(line, SIZE) for line in self.lines if line != RULE]
                    + [text_width(note, NOTE_SIZE) for note in self.notes])
        height = LINE * len(self.lines) + NOTE_LINE * len(self.notes)
        if self.shape == "port":
            return width, height
        slant = SLANT if self.shape == "tree" else 0
        return width + 2 * PAD_X + self.shadow + slant, height + 2 * PAD_Y + self.shadow + slant


@dataclass(frozen=True)
class Wire:
    """A wire (`Diagram.wire`)."""

    start: str
    end: str
    label: str
    control: bool
    via: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """Where a block is, its shadows left out."""

    x: float
    y: float
    width: float
    height: float


class Diagram:
    """A block diagram.

    Parameters
    ----------
    title : str
        Heading.
    name : str
        Module name, below it.
    caption : sequence of str
        Lines below the picture, wrapped to its width.

    Attributes
    ----------
    blocks : dict of str to Block
        Ports among them.
    wires : list of Wire
    boxes : dict of str to Box
    width, bottom : float
        Of the picture; where its rows end. Like ``boxes`` there after `place`.
    """

    def __init__(self, title: str, name: str = "", caption: Sequence[str] = ()):
        self.title, self.name, self.caption = title, name, tuple(caption)
        self.blocks: dict[str, Block] = {}
        self.wires: list[Wire] = []
        self.boxes: dict[str, Box] = {}

    def block(self, key: str, column: int, row: int, *lines: str, notes: Iterable[str] = (), columns: int = 1,
              rows: int = 1, shape: str = "block", copies: bool = False, grid: tuple[int, int] = (0, 0)) -> None:
        """A block with its lines of text.

        Parameters
        ----------
        notes : iterable of str
            Smaller lines below.
        columns, rows : int
            Cells that it takes.
        shape : str
            ``block``; ``tree``: narrower to the right; ``grid``: with ``grid`` rows and columns drawn in it.
        copies : bool
            Drawn as the first of a stack.
        """
        self.blocks[key] = Block(key, column, row, lines, tuple(notes), columns, rows, shape, copies, grid)

    def port(self, key: str, column: int, row: int, width: int | None = None, note: str = "", name: str = "") -> None:
        """A port: its name, its width, what it carries. In column 0 it stands left of its wire, else right of it."""
        notes = tuple(text for text in (bits(width) if width is not None else "", note) if text)
        self.blocks[key] = Block(name or key, column, row, (name or key,), notes, shape="port", width=width)

    def wire(self, start: str, end: str, label: str = "", *, control: bool = False, via: str = "") -> None:
        """A wire with an arrow at its end.

        Parameters
        ----------
        start, end : str
            ``block``, ``block.side`` (l, r, t, b) or ``block.side@0.3``: a fraction of the side from its top or left.
        label : str
            Above the longest horizontal part, or beside a vertical one.
        via : str
            Channels with spaces between, in turn horizontal and vertical: ``"v2 h1 v4"``; ``v2+1`` is one place
            further right or down.
        """
        self.wires.append(Wire(start, end, label, control, tuple(via.split())))

    # Places -----------------------------------------------------------------------------------------

    def place(self) -> None:
        """Give every block its box."""
        columns = max(b.column + b.columns for b in self.blocks.values())
        rows = max(b.row + b.rows for b in self.blocks.values())
        gaps, row_gaps = [0.0] + [GAP] * (columns - 1) + [0.0], [0.0] + [ROW_GAP] * (rows - 1) + [0.0]
        for wire in self.wires:
            first, last = (self.blocks[end.partition(".")[0]] for end in (wire.start, wire.end))
            at = first.column + first.columns
            if wire.label and last.column == at and not wire.via and _side(wire.start, first, last) == "r":
                turn = TURN if _side(wire.end, last, first) == "l" else 0
                gaps[at] = max(gaps[at], text_width(wire.label, NOTE_SIZE) + 20 + turn)
        widths, heights = [0.0] * columns, [0.0] * rows
        for b in sorted(self.blocks.values(), key=lambda b: (b.columns, b.rows)):
            width, height = b.size()
            _widen(widths, gaps, b.column, b.columns, width)
            _widen(heights, row_gaps, b.row, b.rows, height)
        self.width = 2 * MARGIN + sum(widths) + sum(gaps)
        # The topmost channel, where it is used, lies between the names and the first row.
        channel = any(via.startswith("h0") for wire in self.wires for via in wire.via)
        top = MARGIN + TITLE + NOTE_LINE * len(self.names()) + 8 + 10 * channel
        self._gaps, self._row_gaps = gaps, row_gaps
        self._x = [MARGIN + sum(widths[:c]) + sum(gaps[:c + 1]) for c in range(columns)]
        self._y = [top + sum(heights[:r]) + sum(row_gaps[:r + 1]) for r in range(rows)]
        self.bottom = top + sum(heights) + sum(row_gaps)
        self.boxes = {key: self._box(b, widths, heights) for key, b in self.blocks.items()}

    def names(self) -> list[str]:
        """Lines of the module name."""
        return wrap(self.name, NOTE_SIZE, self.width - 2 * MARGIN)

    def _box(self, b: Block, widths: list[float], heights: list[float]) -> Box:
        right, low = b.column + b.columns - 1, b.row + b.rows - 1
        x, width = self._x[b.column], self._x[right] + widths[right] - self._x[b.column]
        height = self._y[low] + heights[low] - self._y[b.row]
        own_width, own_height = b.size()
        if b.shape == "port":
            x, width = (x + width - own_width if b.column == 0 else x), own_width
        # As wide as its column, but in one row only as high as its text.
        shown = height if b.rows > 1 else own_height
        y = self._y[b.row] + (height - shown + b.shadow) / 2 if b.rows == 1 else self._y[b.row] + b.shadow
        return Box(x, y, width - b.shadow, shown - b.shadow)

    def _channel(self, text: str) -> float:
        found = re.fullmatch(r"[vh](\d+)([+-][\d.]+)?", text)
        if not found:
            raise ValueError(f"no such channel: {text}")
        index, slot = int(found[1]), float(found[2] or 0)
        starts, gaps = (self._x, self._gaps) if text[0] == "v" else (self._y, self._row_gaps)
        if index == len(starts):
            return (self.width - MARGIN / 2 if text[0] == "v" else self.bottom + 14) + SLOT * slot
        return starts[index] - (gaps[index] / 2 if index else 12) + SLOT * slot

    def _point(self, end: str, other: str, starts: bool) -> tuple[float, float, str]:
        """Where a wire begins or ends, and on which side of its block."""
        key, across = end.partition(".")[0], other.partition(".")[0]
        block, box, far = self.blocks[key], self.boxes[key], self.boxes[across]
        side = _side(end, block, self.blocks[across])
        level = side in "lr"
        low, length = (box.y, box.height) if level else (box.x, box.width)
        far_low, far_length = (far.y, far.height) if level else (far.x, far.width)
        mine, theirs = (text.partition("@")[2] for text in (end, other))
        faces = other.partition(".")[2][:1] in (("l", "r") if level else ("t", "b"))
        at = low + length / 2
        wanted = low + length * float(mine) if mine else far_low + far_length * float(theirs or 0.5)
        # A neighbour that says where, and one that is smaller, decides the place of a straight wire.
        if mine or (theirs and faces or not theirs and far_length <= length) and low + 6 <= wanted <= low + length - 6:
            at = wanted
        clear = 6 if block.shape == "port" else 0
        if level:
            return (box.x - clear if side == "l" else box.x + box.width + clear + block.shadow * starts), at, side
        return at, (box.y - block.shadow * (not starts) if side == "t" else box.y + box.height), side

    def path(self, wire: Wire) -> list[tuple[float, float]]:
        """Corners of a wire, its ends included; after `place`."""
        x, y, side = self._point(wire.start, wire.end, True)
        end_x, end_y, end_side = self._point(wire.end, wire.start, False)
        points = [(x, y)]
        for channel in wire.via:
            at = self._channel(channel)
            x, y = (at, y) if channel[0] == "v" else (x, at)
            points.append((x, y))
        level = wire.via[-1][0] == "h" if wire.via else side in "lr"
        ends_level = end_side in "lr"
        if level and ends_level and abs(y - end_y) > 0.5:
            turn = end_x - TURN if end_side == "l" else end_x + TURN
            points += [(turn, y), (turn, end_y)]
        elif not level and not ends_level and abs(x - end_x) > 0.5:
            points += [(x, (y + end_y) / 2), (end_x, (y + end_y) / 2)]
        elif level != ends_level:
            points.append((end_x, y) if level else (x, end_y))
        points.append((end_x, end_y))
        return [point for index, point in enumerate(points) if not index or point != points[index - 1]]


def _side(end: str, block: Block, other: Block) -> str:
    """Side of a wire's end: as it says, else the one that faces the other block."""
    side = end.partition(".")[2]
    if side:
        return side[0]
    if other.column >= block.column + block.columns:
        return "r"
    if other.column + other.columns <= block.column:
        return "l"
    return "b" if other.row > block.row else "t"


def _widen(sizes: list[float], gaps: list[float], first: int, number: int, wanted: float) -> None:
    have = sum(sizes[first:first + number]) + sum(gaps[first + 1:first + number])
    for index in range(first, first + number):
        sizes[index] += max(wanted - have, 0) / number
