"""The outputs of a sweep: an interactive page, static pictures and a table, all from one JSON.

The producer of the JSON (schema ``bitkiln.sweep/1``) and these writers share nothing else, so a report can be made
again from a stored file, on another machine and years later.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_all, write_atomically
from .sweep_data import check_sweep
from .sweep_figure import draw_fronts
from .sweep_page import render_page

__all__ = ["csv_table", "write_csv", "write_report", "write_static"]

ROOFLINE = {"intensity": "roofline_intensity_macs_per_byte", "macs_per_cycle": "roofline_macs_per_cycle",
            "peak": "roofline_peak_macs_per_cycle", "bandwidth": "roofline_bandwidth_bytes_per_cycle",
            "roof": "roofline_roof"}


def write_report(sweep: Mapping[str, Any], path: Path) -> Path:
    """Write the interactive page.

    Parameters
    ----------
    sweep : mapping
        Schema ``bitkiln.sweep/1``.
    path : Path
        Of the HTML file; it needs no other file and no network.

    Returns
    -------
    Path

    Raises
    ------
    BitkilnError
        Exit code 2 for a sweep that breaks its schema, 3 without plotly, 1 when the file cannot be written.
    """
    write_atomically(Path(path), render_page(check_sweep(sweep)))
    return Path(path)


def write_static(sweep: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``pareto.png`` and ``pareto.svg``: every front that the sweep lists, four at most.

    The same sweep gives the same bytes with the same matplotlib.

    Raises
    ------
    BitkilnError
        Exit code 2 for a sweep that breaks its schema, 3 without matplotlib, 1 when a file cannot be written.
    """
    pictures = draw_fronts(check_sweep(sweep), ("png", "svg"))
    write_all(Path(folder), {f"pareto.{kind}": content for kind, content in pictures.items()})
    return [Path(folder) / f"pareto.{kind}" for kind in pictures]


def write_csv(sweep: Mapping[str, Any], path: Path) -> Path:
    """Write the table of `csv_table`: a header and a row for each point.

    Raises
    ------
    BitkilnError
        Exit code 2 for a sweep that breaks its schema, 1 when the file cannot be written.
    """
    rows = csv_table(sweep)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(Path(path), text.getvalue())
    return Path(path)


def csv_table(sweep: Mapping[str, Any]) -> list[list[Any]]:
    """Header and rows; every column of numbers has its unit in its name.

    For each metric: value, low, high, kind, source, and where anything was measured the measured value, its source and
    the error of the prediction in percent of it. A missing value is an empty cell.
    """
    sweep = check_sweep(sweep)
    points = sweep["points"]
    configs = _keys(point["config"] for point in points)
    parts = _keys(point["area_parts"] for point in points)
    area_unit = next((_word(metric["unit"]) for metric in sweep["metrics"] if metric["name"] == "area"), "")
    measured = _keys(point["measured"] for point in points)
    has_roofline = any(point["roofline"] for point in points)

    header = ["id", "name", "engine", "family", *[f"config_{key}" for key in configs]]
    for metric in sweep["metrics"]:
        name, unit = metric["name"], _word(metric["unit"])
        header += [_join(name, unit), _join(name, "low", unit), _join(name, "high", unit), f"{name}_kind",
                   f"{name}_source"]
        if name in measured:
            header += [_join(name, "measured", unit), f"{name}_measured_source", f"{name}_error_percent"]
    header += [_join("area_part", _word(part), area_unit) for part in parts]
    header += list(ROOFLINE.values()) if has_roofline else []
    header += ["fronts", "command"]

    rows: list[list[Any]] = [header]
    for point in points:
        row = [point["id"], point["name"], point["engine"], point["family"]]
        row += [_cell(point["config"].get(key)) for key in configs]
        for metric in sweep["metrics"]:
            name = metric["name"]
            entry = point["metrics"].get(name) or {}
            row += [_cell(entry.get(key)) for key in ("value", "low", "high", "kind", "source")]
            if name in measured:
                seen = point["measured"].get(name) or {}
                row += [_cell(seen.get("value")), _cell(seen.get("source")),
                        _cell(_error_percent(entry.get("value"), seen.get("value")))]
        row += [_cell(point["area_parts"].get(part)) for part in parts]
        row += [_cell((point["roofline"] or {}).get(key)) for key in ROOFLINE] if has_roofline else []
        rows.append(row + [";".join(point["fronts"]), point["command"]])
    return rows


def _keys(entries: Any) -> list[str]:
    """Keys of all entries, in the order in which they first appear."""
    return list(dict.fromkeys(key for entry in entries for key in entry))


def _error_percent(predicted: float | None, measured: float | None) -> float | None:
    return None if predicted is None or not measured else 100.0 * (predicted - measured) / measured


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, bool)) else value


def _word(unit: str) -> str:
    """A unit as part of a column's name."""
    words = unit.replace("%", "percent").replace("/", "_per_").replace("µ", "u").replace("²", "2")
    return re.sub(r"\W+", "_", words).strip("_")


def _join(*words: str) -> str:
    return "_".join(word for word in words if word)
