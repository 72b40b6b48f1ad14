"""Files of a sweep's result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ..files import write_atomically
from ..report.sweep import write_csv, write_report, write_static
from .sweep import MEMORY_FILE, WORKLOAD_FILE

__all__ = ["write_sweep"]


def write_sweep(found: dict[str, Any], folder: Path) -> list[Path]:
    """sweep.json, sweep.csv, pareto.png, pareto.svg and report.html, in this order.

    Behind them the memory tiers and the workload that a space has of its own, which the points' commands name.

    Raises
    ------
    BitkilnError
        Exit code 3 without matplotlib or plotly (the JSON and CSV are there then), 1 when a file cannot be written.
    """
    path = folder / "sweep.json"
    write_atomically(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    table = write_csv(found, folder / "sweep.csv")
    own = {folder / name: found["space"][key] for name, key in ((MEMORY_FILE, "memory"), (WORKLOAD_FILE, "workload"))
           if isinstance(found["space"][key], dict)}
    for place, data in own.items():
        write_atomically(place, yaml.safe_dump(_without_null(data), sort_keys=False))
    return [path, table, *write_static(found, folder), write_report(found, folder / "report.html"), *own]


def _without_null(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_null(value) for key, value in data.items() if value is not None}
    return [_without_null(each) for each in data] if isinstance(data, list) else data
