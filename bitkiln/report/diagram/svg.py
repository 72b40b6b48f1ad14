"""A placed block diagram as SVG: light on paper and in other programs, dark on a dark screen."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from .canvas import COPIES, MARGIN, RULE, SHADOW, Block, Diagram, Wire
from .lettering import FAMILY, LINE, NOTE_LINE, NOTE_SIZE, SIZE, wrap

__all__ = ["to_svg"]

# Each kind of thing: its colour on paper and on a dark screen. A class of its name overrides the attribute there.
PAPER = {"paper": "#ffffff", "block": "#eef3fb", "ink": "#1b263b", "faint": "#5c677d", "wire": "#33415c",
         "control": "#8a99b5", "grid": "#b9c4d9"}
DARK = {"paper": "#12161d", "block": "#1e2835", "ink": "#e6ebf2", "faint": "#a3afc0", "wire": "#a9b8d0",
        "control": "#6f80a0", "grid": "#3d4c63"}
TIP = 8     # length of an arrow


def to_svg(drawn: Diagram) -> str:
    """A document of its own, without scripts, fonts or links; ports carry ``data-port`` and ``data-bits``."""
    drawn.place()
    room = drawn.width - 2 * MARGIN
    captions = [line for text in drawn.caption for line in wrap(text, NOTE_SIZE, room)]
    low = max([drawn.bottom, *(y + 8 for wire in drawn.wires for _, y in drawn.path(wire))])
    width, height = _n(drawn.width), _n(low + 14 + NOTE_LINE * len(captions) + (12 if captions else 0))
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
             f'height="{height}" role="img" aria-label={quoteattr(drawn.title)} font-family="{FAMILY}" '
             f'font-size="{SIZE}">', f"<title>{escape(f'{drawn.title}: {drawn.name}' if drawn.name else drawn.title)}"
             "</title>", f"<style>@media screen and (prefers-color-scheme: dark){{{_dark()}}}</style>",
             f'<rect class="bk-paper" width="100%" height="100%" fill="{PAPER["paper"]}"/>']
    y: float = MARGIN + 10
    lines.append(_text(MARGIN, y, drawn.title, "ink", SIZE, "start", ' font-weight="bold"'))
    for index, line in enumerate(drawn.names(), 1):
        lines.append(_text(MARGIN, y + (NOTE_LINE + 1) * index, line, "faint", NOTE_SIZE, "start"))
    for key, block in drawn.blocks.items():
        lines += _shape(drawn, key, block)
    for wire in drawn.wires:
        lines += _wire(drawn, wire)
    for key, block in drawn.blocks.items():
        lines += _writing(drawn, key, block)
    for index, text in enumerate(captions):
        lines.append(_text(MARGIN, low + 22 + NOTE_LINE * index, text, "faint", NOTE_SIZE, "start"))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _dark() -> str:
    """CSS rules of the dark colours."""
    d = DARK
    rules = {"paper": f"fill:{d['paper']}", "block": f"fill:{d['block']};stroke:{d['wire']}", "ink": f"fill:{d['ink']}",
             "faint": f"fill:{d['faint']}", "wire": f"stroke:{d['wire']}", "wire-tip": f"fill:{d['wire']}",
             "control": f"stroke:{d['control']}", "control-tip": f"fill:{d['control']}", "grid": f"stroke:{d['grid']}",
             "halo": f"stroke:{d['block']}"}
    return "".join(f".bk-{name}{{{rule}}}" for name, rule in rules.items())


def _shape(drawn: Diagram, key: str, block: Block) -> list[str]:
    if block.shape == "port":
        return []
    box = drawn.boxes[key]
    x, y, w, h = box.x, box.y, box.width, box.height
    style = f'class="bk-block" fill="{PAPER["block"]}" stroke="{PAPER["wire"]}" stroke-width="1.3"'
    if block.shape == "tree":
        return [f'<path {style} d="M{_n(x)} {_n(y)} L{_n(x + w)} {_n(y + 16)} V{_n(y + h - 16)} L{_n(x)} {_n(y + h)} '
                'z"/>']
    lines = [f'<rect {style} x="{_n(x + SHADOW * n)}" y="{_n(y - SHADOW * n)}" width="{_n(w)}" height="{_n(h)}" '
             'rx="5"/>' for n in range(COPIES if block.copies else 0, -1, -1)]
    rows, columns = block.grid
    ruled = [f"M{_n(x + 8)} {_n(y + h * n / rows)} H{_n(x + w - 8)}" for n in range(1, rows)]
    ruled += [f"M{_n(x + w * n / columns)} {_n(y + 8)} V{_n(y + h - 8)}" for n in range(1, columns)]
    if ruled:
        lines.append(f'<path class="bk-grid" d="{" ".join(ruled)}" fill="none" stroke="{PAPER["grid"]}"/>')
    return lines


def _writing(drawn: Diagram, key: str, block: Block) -> list[str]:
    box = drawn.boxes[key]
    anchor, at = "middle", box.x + box.width / 2
    if block.shape == "port":
        anchor, at = ("end", box.x + box.width) if block.column == 0 else ("start", box.x)
    more = f' stroke="{PAPER["block"]}" stroke-width="5" paint-order="stroke"' if any(block.grid) else ""
    port = f' data-port="{block.name}" data-bits="{block.width}"' if block.width is not None else ""
    y = box.y + (box.height - LINE * len(block.lines) - NOTE_LINE * len(block.notes)) / 2
    lines = []
    for line in block.lines:
        if line == RULE:
            lines.append(f'<path class="bk-wire" d="M{_n(box.x + 8)} {_n(y + LINE / 2)} H{_n(box.x + box.width - 8)}" '
                         f'stroke="{PAPER["wire"]}" stroke-dasharray="3 3"/>')
        else:
            lines.append(_text(at, y + LINE - 4, line, "ink", SIZE, anchor, more + port))
        y += LINE
    for note in block.notes:
        if note:
            lines.append(_text(at, y + NOTE_LINE - 4, note, "faint", NOTE_SIZE, anchor, more))
        y += NOTE_LINE
    return lines


def _wire(drawn: Diagram, wire: Wire) -> list[str]:
    points = drawn.path(wire)
    kind = "control" if wire.control else "wire"
    (before_x, before_y), (x, y) = points[-2:]
    dx, dy = (x > before_x) - (x < before_x), (y > before_y) - (y < before_y)
    tip = [(x, y), (x - TIP * dx - 4 * dy, y - TIP * dy - 4 * dx), (x - TIP * dx + 4 * dy, y - TIP * dy + 4 * dx)]
    line = [*points[:-1], (x - TIP / 2 * dx, y - TIP / 2 * dy)]
    lines = [f'<path class="bk-{kind}" d="{_path(line)}" fill="none" stroke="{PAPER[kind]}" stroke-width="1.3"/>',
             f'<path class="bk-{kind}-tip" d="{_path(tip)} z" fill="{PAPER[kind]}"/>']
    if not wire.label:
        return lines
    parts = list(zip(points[:-1], points[1:], strict=True))
    level = [part for part in parts if abs(part[0][1] - part[1][1]) < 0.5]
    if not level:
        (x1, y1), (_, y2) = parts[0]
        return [*lines, _text(x1 + 7, (y1 + y2) / 2 + 4, wire.label, "faint", NOTE_SIZE, "start")]
    (x1, y1), (x2, y2) = max(level, key=lambda part: abs(part[1][0] - part[0][0]))
    # The arrow takes some of the room.
    middle = (x1 + x2) / 2 - (TIP / 2 * dx if (x2, y2) == (x, y) else 0)
    return [*lines, _text(middle, y1 - 5, wire.label, "faint", NOTE_SIZE)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """A coordinate with two decimals at most, so that a drawing is the same text everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(x: float, y: float, text: str, kind: str, size: int = SIZE, anchor: str = "middle", more: str = "") -> str:
    halo = " bk-halo" if "paint-order" in more else ""
    return (f'<text class="bk-{kind}{halo}" x="{_n(x)}" y="{_n(y)}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{PAPER[kind]}"{more}>{escape(text)}</text>')
