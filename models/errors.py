"""The one exception class of the command line and of the Python API."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BitkilnError", "USAGE", "FAILED", "MISSING_TOOL", "nearest"]

FAILED = 1
USAGE = 2
MISSING_TOOL = 3


class BitkilnError(ValueError):
    """Something a user can mend: bad input, failed work or a missing tool.

    Parameters
    ----------
    what : str
        What was wrong, e.g. ``"unknown format"``.
    where : str, optional
        File and line, or key path (``"my.yaml:3 array.rows"``).
    got : object, optional
        The offending value.
    expected : str, optional
        The rule or the valid choices.
    help : str, optional
        What to do next: the nearest valid choice, or the command that installs a tool.
    exit_code : int
        2 usage or configuration (default), 1 failed work, 3 missing tool.
    """

    def __init__(self, what: str, *, where: str | None = None, got: object = None,
                 expected: str | None = None, help: str | None = None, exit_code: int = USAGE):
        self.what, self.where, self.got = what, where, got
        self.expected, self.help, self.exit_code = expected, help, exit_code
        super().__init__(self.render())

    def render(self) -> str:
        """``error: <what> at <where>: got X, expected Y`` and a ``help:`` line."""
        line = f"error: {self.what}"
        if self.where:
            line += f" at {self.where}"
        facts = []
        if self.got is not None:
            facts.append(f"got {self.got!r}" if isinstance(self.got, str) else f"got {self.got}")
        if self.expected:
            facts.append(f"expected {self.expected}")
        if facts:
            line += ": " + ", ".join(facts)
        return line + (f"\nhelp: {self.help}" if self.help else "")


def nearest(name: object, choices: Iterable[str], count: int = 3, all_by: str | None = None) -> str:
    """``did you mean a, b?`` for the closest choices.

    Where nothing is close it lists the first ones; with ``all_by``, the command that lists all of them, it names
    that and still the nearest.
    """
    names = list(choices)
    close = difflib.get_close_matches(str(name).lower(), names, n=count, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    if all_by:
        close = difflib.get_close_matches(str(name).lower(), names, n=count, cutoff=0.0)
        return f"nearest names: {', '.join(close)}; `{all_by}` lists all"
    shown = ", ".join(names[:12])
    return f"choices: {shown}{', ...' if len(names) > 12 else ''}"
