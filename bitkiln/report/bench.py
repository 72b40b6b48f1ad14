"""Running a suite of benchmarks.

A suite is ``benchmarks/<suite>.py`` with ``MODULES``, the names of modules beside it; each has
``run() -> list[Row]``. Benchmarks are no part of the installed package: they need a checkout.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..models.errors import FAILED, MISSING_TOOL, BitkilnError, nearest
from .table import Row

__all__ = ["run_suite", "suites"]


def _folder() -> Path:
    return Path.cwd() / "benchmarks"


def suites() -> list[str]:
    """Suites of the checkout in the working folder."""
    return sorted(path.stem for path in _folder().glob("*.py") if "MODULES" in path.read_text(encoding="utf-8"))


def run_suite(suite: str, *, only: str | None = None,
              progress: Callable[[str], None] = lambda text: None) -> list[Row]:
    """All rows of a suite.

    Parameters
    ----------
    suite : str
    only : str, optional
        One of its modules.
    progress : callable

    Raises
    ------
    BitkilnError
        No checkout here, or an unknown suite or module.
    """
    if not _folder().is_dir():
        raise BitkilnError("no benchmarks here", where="benchmarks/", expected="a checkout of bitkiln",
                           help="change to the source folder first")
    if suite not in suites():
        raise BitkilnError("unknown suite", where="bitkiln bench", got=suite, expected=" or ".join(suites()) or "none",
                           help=nearest(suite, suites()))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    modules = list(importlib.import_module(f"benchmarks.{suite}").MODULES)
    if only is not None and only not in modules:
        raise BitkilnError("unknown benchmark", where="--only", got=only, expected=f"a module of suite {suite}",
                           help=nearest(only, modules))
    rows: list[Row] = []
    for name in [only] if only else modules:
        progress(f"benchmark {name}")
        started = time.perf_counter()
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run()
        except BitkilnError as error:
            if error.exit_code not in (FAILED, MISSING_TOOL):
                raise
            rows.append(Row(name, None, "", 0, command=f"make bench SUITE={suite} ONLY={name}", note=str(error)))
        progress(f"benchmark {name}: {time.perf_counter() - started:.0f} s")
    return rows
