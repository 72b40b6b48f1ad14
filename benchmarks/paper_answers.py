"""`bitkiln reproduce`: what papers found, beside ours. Figures without targets: technologies and accounting differ."""

from __future__ import annotations

from bitkiln.flow.reproduce import Options, reproduce
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=paper_answers"


def run() -> list[Row]:
    rows = []
    for item in reproduce(None, Options(measure=True), COMMAND)["items"]:
        for row in item["rows"]:
            ours, paper = row["ours"], row["published"]
            if isinstance(ours["value"], (int, float)):
                theirs = f"published: {paper['text']} ({paper['source']})" if paper["text"] else ""
                rows.append(Row(f"{item['name']}: {row['what']}", ours["value"], ours["unit"], None, "lower", COMMAND,
                                "; ".join(filter(None, (theirs, f"ours: {ours['kind']}", row["assumptions"])))))
    return rows
