"""How a cocotb bench gets its parameters and says what it checked. Imported inside the simulator."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

__all__ = ["PARAMETERS", "REPORT", "parameters", "report"]

PARAMETERS = "BITKILN_BENCH_PARAMETERS"
REPORT = "BITKILN_BENCH_REPORT"


def parameters() -> dict[str, Any]:
    """The keyword arguments given to ``run_bench``."""
    with open(os.environ[PARAMETERS], "rb") as file:
        return pickle.load(file)  # written by run_bench a moment ago, for this process


def report(*, vectors: int, cycles: int = 0, **facts: float | int | str) -> None:
    """Add to the counts of this run; call it in each test after its checks.

    Parameters
    ----------
    vectors : int
        Results compared with the golden model.
    cycles : int
        Simulated clock cycles.
    **facts
        Anything else worth keeping (``seed``, ``cpu_seconds``); the last one of a name stays, and
        ``cpu_seconds`` are added up.
    """
    path = Path(os.environ[REPORT])
    known = json.loads(path.read_text()) if path.exists() else {"vectors": 0, "cycles": 0}
    known["vectors"] += int(vectors)
    known["cycles"] += int(cycles)
    if "cpu_seconds" in facts:
        facts["cpu_seconds"] = float(facts["cpu_seconds"]) + known.get("cpu_seconds", 0.0)
    path.write_text(json.dumps({**known, **facts}))
