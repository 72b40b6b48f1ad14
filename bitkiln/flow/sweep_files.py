"""Files of a sweep's result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..report.sweep import write_csv, write_report, write_static

__all__ = ["write_sweep"]


def write_sweep(found: dict[str, Any], folder: Path) -> list[Path]:
    """sweep.json, sweep.csv, pareto.png, pareto.svg and report.html, in this order.

    Raises
    ------
    BitkilnError
        Exit code 3 without matplotlib or plotly (the JSON and CSV are there then), 1 when a file cannot be written.
    """
    path = folder / "sweep.json"
    write_atomically(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    table = write_csv(found, folder / "sweep.csv")
    return [path, table, *write_static(found, folder), write_report(found, folder / "report.html")]
