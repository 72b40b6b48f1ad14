"""Error of the area models on designs that they have never seen, fitted again from the tables of synthesis runs.

A few rows of each table of an FPGA family are synthesised again, so that a table that no longer belongs to the
generators is found out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bitkiln.flow.calibrate import fit_rows, measure_sample, read_table
from bitkiln.flow.samples import drawn_units, samples
from bitkiln.models.cost.area.area import FPGA_WEIGHTS, TECH, area_estimate, metrics_of, technology, technology_names
from bitkiln.models.cost.area.calibration import measured
from bitkiln.report.table import Row
from bitkiln.store import Store

COMMAND = "make bench SUITE=pareto ONLY=area_error"
SEED = 3
AGAIN = 6
FRESH, FRESH_SEED = 40, 12
TARGETS = {("pe", "held_out", "mean"): 3.0, ("pe", "held_out", "worst"): 10.0, ("array", "held_out", "mean"): 5.0,
           ("core", "held_out", "mean"): 5.0, ("pe", "format_left_out", "mean"): 10.0}
LABELS = {"pe": "one PE", "array": "arrays", "core": "cores", "held_out": "held back",
          "format_left_out": "a pair of formats never fitted"}


def run() -> list[Row]:
    rows: list[Row] = []
    for name in technology_names():
        table = read_table(TECH / f"{name}.csv")
        known = technology(name)
        found = fit_rows(name, known.device, table, str(known.provenance["command"]))
        for (part, kind, measure), target in TARGETS.items():
            error = found.errors.get(part, {}).get(kind)
            if not error or not error["designs"]:
                continue
            note = f"{error['designs']} designs, 95 % below {100 * error['p95']:.1f} %"
            note += f", {error['refused']} refused" if error["refused"] else ""
            rows.append(Row(f"{name}, {LABELS[part]}, {LABELS[kind]}: {measure} error of area",
                            round(100 * error[measure], 2), "%", target, "lower", COMMAND, note))
        if name in FPGA_WEIGHTS:
            rows.append(_again(name, table))
        if name == "ecp5":
            rows += _fresh(name)
    return rows


def _fresh(name: str) -> list[Row]:
    """The shipped model on units drawn now and synthesised now: nobody chose a feature by their errors."""
    errors, inside, refused = [], 0, 0
    for sample in drawn_units(FRESH_SEED, FRESH):
        found = area_estimate(sample.resolve().design, name)
        if found.value is None:
            refused += 1
            continue
        row = measured(measure_sample(sample, name), name)
        area = technology(name).total(row)
        errors.append(abs(found.value - area) / area)
        inside += found.low <= area <= found.high
    note = f"{len(errors)} units, seed {FRESH_SEED}, {refused} refused; {inside} inside their 95 % interval"
    return [Row(f"{name}, one PE, drawn anew: mean error of area", round(100 * float(np.mean(errors)), 2), "%", 3.0,
                "lower", COMMAND, note),
            Row(f"{name}, one PE, drawn anew: worst error of area", round(100 * max(errors), 2), "%", 10.0, "lower",
                COMMAND, note)]


def _again(name: str, table: list[dict]) -> Row:
    """Rows of a table that another synthesis does not repeat."""
    rng = np.random.default_rng(SEED)
    by_digest = {sample.digest: sample for sample in samples("pe")}
    held = [row for row in table if row["id"] in by_digest and row["check"] == "1"]
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        keep = Store(Path(folder) / "store.sqlite")
        for at in rng.permutation(len(held))[:AGAIN]:
            row = held[int(at)]
            new = measure_sample(by_digest[row["id"]], name, keep=keep)
            different += any(float(new[metric] or 0) != float(row[metric] or 0) for metric in metrics_of(name))
    return Row(f"{name}: rows of the table that a new synthesis does not repeat", different, "rows", 0, "lower",
               COMMAND, f"{AGAIN} rows drawn, seed {SEED}")
