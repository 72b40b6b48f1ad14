"""Running Yosys and nextpnr in a scratch folder.

The WebAssembly builds see only files below the working folder under relative names, so every run gets a
folder of its own with its inputs copied in (none of them called ``lib``: a folder of that name is not found).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.errors import FAILED, BitkilnError

if TYPE_CHECKING:
    from ..sim.toolchain import Tool

__all__ = ["run_tool", "run_yosys", "scratch"]

TIMEOUT_SECONDS = 1800


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that disappears with its context."""
    return tempfile.TemporaryDirectory(prefix="bitkiln-")


def run_yosys(tool: Tool, script: str, folder: Path, files: Mapping[str, str | bytes] | None = None) -> None:
    """Run a Yosys script of commands separated by ``; ``.

    Its log goes to a file: after an ABC call inside the WebAssembly build nothing reaches the output.
    """
    commands = "\n".join(part.strip() for part in script.split("; ")) + "\n"
    run_tool(tool, ["-q", "-l", "yosys.log", "-s", "run.ys"], folder, {**(files or {}), "run.ys": commands},
             log="yosys.log")


def run_tool(tool: Tool, arguments: Sequence[str], folder: Path, files: Mapping[str, str | bytes] | None = None,
             timeout: float = TIMEOUT_SECONDS, log: str | None = None) -> str:
    """Run ``tool`` in ``folder`` after writing ``files`` there; returns its output.

    ``log`` names a file that the tool writes and that says more than its output.

    Raises
    ------
    BitkilnError
        Exit code 1 with the command and the decisive line of its log when it fails or takes too long.
    """
    for name, content in (files or {}).items():
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    command = [tool.path, *arguments]
    shown = " ".join([tool.name, *arguments])
    try:
        done = subprocess.run(command, cwd=folder, env=tool.environment(), stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", timeout=timeout,
                              check=False)
    except subprocess.TimeoutExpired:
        raise BitkilnError("tool took too long", where=shown, got=f"more than {timeout:.0f} s",
                           exit_code=FAILED) from None
    except OSError as error:
        raise BitkilnError("cannot start tool", where=tool.path, got=error.strerror, exit_code=FAILED) from None
    if done.returncode:
        written = folder / log if log else None
        text = written.read_text(errors="replace") if written and written.exists() else done.stdout
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        decisive = next((line for line in lines if "ERROR" in line or line.lower().startswith("error")), None)
        raise BitkilnError("tool failed", where=shown, got=decisive or (lines[-1] if lines else "no output"),
                           expected=f"exit code 0, not {done.returncode}", exit_code=FAILED,
                           help="last lines of its log: " + " | ".join(lines[-5:]) if lines else None)
    return done.stdout
