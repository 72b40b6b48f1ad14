"""Loading a bitstream into a board by whatever loader is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from ..models.errors import FAILED, MISSING_TOOL, BitkilnError

__all__ = ["program"]

SECONDS = 300


def program(board: Any, made: Any, progress: Callable[[str], None]) -> None:
    """Load ``made`` (`flow.bitstream.Bitstream`) with the first of the board's loaders that is there.

    Raises
    ------
    BitkilnError
        Exit code 3 without a loader, 1 where it fails, 2 where there is no bitstream.
    """
    if made.file is None:
        raise BitkilnError("no bitstream to load", where=f"board {board.name}", got="a Vivado project",
                           expected="a bitstream", help=f"run Vivado in {made.folder} first")
    for line in board.program:
        command = [word.format(file=made.file) for word in line.split()]
        if shutil.which(command[0]) is None:
            continue
        progress(" ".join(command))
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, errors="replace", timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise BitkilnError("loader took too long", where=command[0], got=f"more than {SECONDS} s",
                               exit_code=FAILED) from None
        if done.returncode:
            said = [text.strip() for text in done.stdout.splitlines() if text.strip()]
            raise BitkilnError("loader failed", where=" ".join(command), got=said[-1] if said else "no output",
                               expected="exit code 0", help="is the board plugged in, and may you use it?",
                               exit_code=FAILED)
        return
    names = [line.split()[0] for line in board.program]
    raise BitkilnError("missing tool", where=f"board {board.name}", expected=" or ".join(names),
                       help=f"apt-get install {names[0].lower()}" if names else None, exit_code=MISSING_TOOL)
