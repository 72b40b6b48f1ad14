"""Checks of design parameters."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BitkilnError, nearest

__all__ = ["check_choice", "check_integer", "check_power_of_two"]


def check_integer(value: object, where: str, low: int, high: int) -> int:
    """``value`` when it is an int (bool is not) from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BitkilnError("not an integer", where=where, got=value, expected=f"an integer {low} to {high}")
    if not low <= value <= high:
        raise BitkilnError("out of range", where=where, got=value, expected=f"{low} to {high}")
    return value


def check_power_of_two(value: int, where: str, expected: str = "1, 2, 4, 8, ...") -> None:
    if value & (value - 1):
        raise BitkilnError("not a power of two", where=where, got=value, expected=expected)


def check_choice(value: object, where: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BitkilnError("unknown choice", where=where, got=value, expected=" or ".join(choices),
                           help=nearest(value, choices))
