"""How wide a text is, without a font library: the advance widths of Helvetica, Arial and Liberation Sans."""

from __future__ import annotations

__all__ = ["FAMILY", "LINE", "NOTE_LINE", "NOTE_SIZE", "SIZE", "shorten", "text_width", "wrap"]

FAMILY = "Helvetica, Arial, 'Liberation Sans', sans-serif"
SIZE, NOTE_SIZE = 14, 12        # of a text and of a note
LINE, NOTE_LINE = 18, 15        # from one line to the next

# Thousandths of the font size, by character; what is not listed counts as wide as a digit.
_WIDTHS = {
    **dict.fromkeys("ijl'", 222), **dict.fromkeys(" .,:;/!|I[]ft\\", 278), **dict.fromkeys("()-r`", 333),
    **dict.fromkeys("cksvxyzJ", 500), **dict.fromkeys("ABEKPSVXY&", 667), **dict.fromkeys("CDHNRUw", 722),
    **dict.fromkeys("FTZ", 611), **dict.fromkeys("GOQ", 778), **dict.fromkeys("mM", 833), "W": 944, "%": 889,
    **dict.fromkeys("+<>=~", 584), "*": 389, '"': 355, "@": 1015, "^": 469}
_OTHER = 556


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a line in the unit of ``size``."""
    return sum(_WIDTHS.get(character, _OTHER) for character in text) * size / 1000 * (1.08 if bold else 1)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Lines no wider than ``width``, broken at spaces, else behind underscores; a word without either stays whole."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size) <= width:
            lines[-1] = joined
            continue
        lines.append("")
        for piece in word.replace("_", "_ ").split():
            if lines[-1] and text_width(lines[-1] + piece, size) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def shorten(names: list[str], size: float, width: float) -> str:
    """Names with commas as far as they fit, then how many more there are."""
    for count in range(len(names), 0, -1):
        rest = len(names) - count
        text = ", ".join(names[:count]) + (f" and {rest} more" if rest else "")
        if text_width(text, size) <= width:
            break
    return text
