"""`make sim PE=fp4` from nothing (no environment, packages from the registry) and again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.report.table import Row

__all__ = ["run"]

COMMAND = "make sim PE=fp4"


def _tracked() -> list[str]:
    """Files a clean clone would have, uncommitted changes included."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, text=True,
                          check=True)
    return [name for name in done.stdout.split("\0") if name and Path(name).is_file()]


def _seconds(folder: str) -> float:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    started = time.perf_counter()
    done = subprocess.run(COMMAND.split(), cwd=folder, env=kept, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise BitkilnError("make sim failed", where=COMMAND, got=last, exit_code=FAILED)
    return time.perf_counter() - started


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bitkiln-clone-") as folder:
        for name in _tracked():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, target)
        cold = _seconds(folder)
        warm = _seconds(folder)
    return [Row("make sim PE=fp4, cold", round(cold, 1), "s", 240, command=f"{COMMAND} in a clean clone",
                note="environment made, packages downloaded, simulator compiled"),
            Row("make sim PE=fp4, warm", round(warm, 1), "s", 20, command=COMMAND)]
