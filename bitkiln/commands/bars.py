"""What is going on, on standard error: a bar or a running clock on a terminal, plain lines elsewhere.

One display for the whole process: the next line, anything on standard output, or the end of the command ends what is
shown.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["bars", "close", "colours", "say", "tick", "work"]

LONG = 2.0          # seconds from which a finished step says how long it took
BETWEEN = 10.0      # seconds between two plain lines of one kind


def colours() -> bool:
    """Whether colours and bold type are wanted where there is a terminal (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def _terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Guard:
    """Standard output while something is shown: the first character ends the show."""

    def __init__(self, real: Any):
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def write(self, text: str) -> int:
        close()
        return self.real.write(text)


class _Display:
    """What is shown now: a step with a clock, or bars of kinds of tasks."""

    def __init__(self) -> None:
        self.shown: Progress | None = None
        self.guard: _Guard | None = None
        self.step, self.started, self.keep = "", 0.0, True
        self.tasks: dict[str, Any] = {}
        self.last: dict[str, float] = {}

    def open(self, *, counted: bool) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn()) if counted else (
                       SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        console = Console(stderr=True, color_system="auto" if colours() else None)
        # Steps leave their line when they end, bars stay as they are.
        self.shown = Progress(*columns, console=console, transient=not counted, redirect_stdout=False,
                              redirect_stderr=False)
        self.shown.start()
        if not isinstance(sys.stdout, _Guard):
            # Kept: `print` of Python 3.11 and 3.12 only borrows the stream that it writes to.
            self.guard = _Guard(sys.stdout)
            sys.stdout = self.guard  # type: ignore[assignment]
        return self.shown

    def close(self) -> None:
        if isinstance(sys.stdout, _Guard):
            sys.stdout = sys.stdout.real
        shown, step, tasks = self.shown, self.step, self.tasks
        self.shown, self.step, self.tasks, self.last = None, "", {}, {}
        if shown is not None:
            shown.stop()
        if step and self.keep and not tasks:
            seconds = time.perf_counter() - self.started
            print(step + (f"  {seconds:.1f} s" if seconds >= LONG else ""), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        if text.startswith("error:"):       # a failed check that others follow: to be seen everywhere
            self.close()
            print(text, file=sys.stderr, flush=True)
        elif _terminal():
            self.close()
            self.step, self.started, self.keep = text, time.perf_counter(), True
            self.open(counted=False).add_task(text.splitlines()[0], total=None)
        else:
            print(text, file=sys.stderr, flush=True)

    def work(self, text: str) -> None:
        """A clock on a terminal, and nothing anywhere else: for what is mostly done at once."""
        if _terminal():
            self.say(text)
            self.keep = False

    def tick(self, kind: str, done: int, total: int, step: str = "") -> None:
        """``done`` of ``total`` tasks of a kind are done; ``step`` names the next one where there is no bar."""
        if _terminal():
            if self.step or self.shown is None:
                self.close()
                self.open(counted=True)
            assert self.shown is not None
            if kind not in self.tasks:
                self.tasks[kind] = self.shown.add_task(kind, total=total)
            self.shown.update(self.tasks[kind], completed=done, total=total)
        elif step:
            print(step, file=sys.stderr, flush=True)
        else:
            now = time.perf_counter()
            # A kind's first line comes after a while too: what is done at once needs none.
            before = self.last.setdefault(kind, now - (BETWEEN - LONG))
            if now - before >= BETWEEN:
                self.last[kind] = now
                print(f"{kind}: {done:,} of {total:,}", file=sys.stderr, flush=True)


_DISPLAY = _Display()
say, work, tick, close = _DISPLAY.say, _DISPLAY.work, _DISPLAY.tick, _DISPLAY.close


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Gives ``tick(kind, done, total)`` for work in kinds of tasks."""
    try:
        yield tick
    finally:
        close()
