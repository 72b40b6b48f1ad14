"""A drawing as SVG text: the few shapes that the figures of docs/concepts need.

White ground and dark ink, so that a picture reads the same on a light and on a dark page. Numbers have two decimals at
most: the same drawing is the same bytes.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

__all__ = ["BLUE", "Drawing", "GREY", "INK", "LIGHT", "ORANGE"]

INK, GREY, LIGHT, BLUE, ORANGE = "#1b263b", "#5c677d", "#dbe3ef", "#2f6db5", "#c2571a"


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Drawing:
    """Shapes in pixels, origin at the upper left."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = INK, width: float = 1,
             dash: str = "") -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=color, stroke_width=width, stroke_dasharray=dash)

    def ticks(self, places: list[float], y1: float, y2: float, color: str = INK, width: float = 1) -> None:
        """Short vertical lines, as one path."""
        text = "".join(f"M{number(x)} {number(y1)}V{number(y2)}" for x in places)
        self._add("path", d=text, stroke=color, stroke_width=width)

    def path(self, points: list[tuple[float, float]], color: str = INK, width: float = 1.5) -> None:
        text = "M" + " L".join(f"{number(x)} {number(y)}" for x, y in points)
        self._add("path", d=text, fill="none", stroke=color, stroke_width=width, stroke_linejoin="round")

    def box(self, x: float, y: float, width: float, height: float, fill: str = "none", stroke: str = "none",
            radius: float = 0) -> None:
        self._add("rect", x=x, y=y, width=width, height=height, fill=fill, stroke=stroke, rx=radius)

    def dot(self, x: float, y: float, radius: float, fill: str = INK) -> None:
        self._add("circle", cx=x, cy=y, r=radius, fill=fill)

    def text(self, x: float, y: float, words: str, anchor: str = "start", color: str = INK, size: int = 13,
             mono: bool = False) -> None:
        family = ' font-family="DejaVu Sans Mono, Menlo, monospace"' if mono else ""
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" fill="{color}" font-size="{size}" '
                          f'text-anchor="{anchor}"{family}>{escape(words)}</text>')

    def _add(self, name: str, **attributes: str | float) -> None:
        given = {key.replace("_", "-"): value if isinstance(value, str) else number(value)
                 for key, value in attributes.items()}
        self.parts.append(f"<{name} " + " ".join(f'{key}="{value}"' for key, value in given.items() if value != "") +
                          "/>")

    def svg(self) -> str:
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" font-family="Helvetica, Arial, sans-serif">')
        ground = f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", ground, *self.parts, "</svg>"]) + "\n"
