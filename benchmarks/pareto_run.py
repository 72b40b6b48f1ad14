"""`make pareto` as a user meets it: the default space with an empty store, and again with a full one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=pareto_run"


def run() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "BITKILN_STORE": str(Path(folder) / "store.sqlite")}
        seconds, texts = [], []
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "bitkiln", "sweep", "formats", "-o", folder], check=True,
                           env=environment, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
            texts.append((Path(folder) / "sweep.json").read_bytes())
        points = len(json.loads(texts[0])["points"])
        known = sum(row["metrics"]["area"]["value"] is not None for row in json.loads(texts[0])["points"])
        page = (Path(folder) / "report.html").stat().st_size
    rows.append(Row("make pareto, empty store", round(seconds[0], 1), "s", 300, "lower", COMMAND,
                    f"accuracy of digits and g2p, page of {page / 1e6:.1f} MB"))
    rows.append(Row("make pareto again, full store", round(seconds[1], 1), "s", 60, "lower", COMMAND))
    rows.append(Row("designs", points, "points", 300, "higher", COMMAND, f"{known} with a predicted area"))
    rows.append(Row("the second result differs", int(texts[0] != texts[1]), "files", 0, "lower", COMMAND))
    return rows
