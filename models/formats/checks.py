"""Checks of format parameters."""

from __future__ import annotations

import re

from ..errors import BitkilnError

__all__ = ["check_integer", "check_name"]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def check_integer(value: object, where: str, low: int, high: int, *, help: str | None = None) -> int:
    """``value`` when it is an int (bool is not) from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BitkilnError("not an integer", where=where, got=value, expected=f"an integer {low} to {high}",
                           help=help)
    if not low <= value <= high:
        expected = f"{low} to {high}" if low != high else str(low)
        raise BitkilnError("out of range", where=where, got=value, expected=expected, help=help)
    return value


def check_name(name: object, where: str = "format name") -> str:
    """Format names become parts of Verilog identifiers."""
    if not isinstance(name, str):
        raise BitkilnError("not a name", where=where, got=f"{name} ({type(name).__name__})",
                           expected="a string: a letter, then letters, digits and _")
    if not _NAME.match(name) or "__" in name or len(name) > 40:
        raise BitkilnError("not a format name", where=where, got=name,
                           expected="a lower-case letter, then up to 39 letters, digits and single _")
    return name
