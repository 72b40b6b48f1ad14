"""Tables of targets against measurements, for benchmarks."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomically

__all__ = ["Row", "print_targets"]


@dataclass(frozen=True)
class Row:
    """One target and what was measured.

    Attributes
    ----------
    name : str
        What is measured.
    measured : float or None
        None when it could not be measured; ``note`` says why. Counts as a miss.
    unit : str
    target : float or None
        None for a figure without a target.
    better : str
        ``higher`` or ``lower``: on which side of the target a measurement passes (equality passes).
    command : str
        What repeats the measurement.
    note : str
    """

    name: str
    measured: float | None
    unit: str
    target: float | None = None
    better: str = "lower"
    command: str = ""
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """None for a row without a target."""
        if self.target is None:
            return None
        if self.measured is None or math.isnan(self.measured):
            return False
        return self.measured >= self.target if self.better == "higher" else self.measured <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.3g}"


def print_targets(rows: Iterable[Row], json_path: Path | str | None = None, *, title: str = "targets",
                  quiet: bool = False) -> bool:
    """Print the rows as a table: target, measured, command, pass or miss.

    Parameters
    ----------
    rows : iterable of Row
    json_path : path, optional
        Also written there as JSON.
    title : str
    quiet : bool
        Write the file only.

    Returns
    -------
    bool
        Whether every row with a target passed.
    """
    rows = list(rows)
    if json_path is not None:
        content = {"schema": "bitkiln.targets/1", "title": title, "rows": [row.as_dict() for row in rows]}
        write_atomically(Path(json_path), json.dumps(content, indent=2) + "\n")
    if not quiet:
        _print(rows, title)
        if json_path is not None:
            print(f"written: {json_path}")
    return all(row.passed for row in rows if row.passed is not None)


def _print(rows: list[Row], title: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("what", "target", "measured", "unit", "result", "command", "note"):
        table.add_column(column, justify="right" if column in ("target", "measured") else "left", overflow="fold")
    for row in rows:
        sign = "" if row.target is None else ">= " if row.better == "higher" else "<= "
        verdict = {None: "", True: "pass", False: "[bold]miss[/bold]"}[row.passed]
        table.add_row(escape(row.name), sign + _number(row.target) if row.target is not None else "",
                      _number(row.measured), escape(row.unit), verdict, escape(row.command), escape(row.note))
    (Console() if sys.stdout.isatty() else Console(width=200)).print(table)
    judged = [row for row in rows if row.passed is not None]
    missed = sum(not row.passed for row in judged)
    print(f"{len(judged) - missed} of {len(judged)} targets met" + (f", {missed} missed" if missed else ""))
