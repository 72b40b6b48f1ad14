"""A progress bar for work in kinds of tasks: on a terminal only, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bars"]


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Gives ``tick(kind, done, total)``; nothing is shown where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                  console=Console(stderr=True), disable=not sys.stderr.isatty()) as shown:
        tasks: dict[str, int] = {}

        def tick(kind: str, done: int, total: int) -> None:
            if kind not in tasks:
                tasks[kind] = shown.add_task(kind, total=total)
            shown.update(tasks[kind], completed=done, total=total)

        yield tick
