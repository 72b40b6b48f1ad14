"""Block diagrams of every engine, drawn from its design object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["draw"]


def draw(resolved: Resolved) -> str:
    """The block diagram of a design as SVG."""
    from .svg import to_svg

    drawn = resolved.engine.load("diagram")(resolved.design)
    drawn.name = resolved.name
    return to_svg(drawn)
