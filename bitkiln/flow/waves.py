"""Waves: the file that is meant, a bench that writes one, and the viewer that opens it with its signal list."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Resolved
from ..models.errors import FAILED, MISSING_TOOL, BitkilnError, nearest

__all__ = ["VIEWERS", "WAVE_SUFFIXES", "Viewing", "bench_waves", "find_waves", "newest_waves", "open_viewer", "viewing"]

WAVE_SUFFIXES = (".fst", ".vcd", ".ghw")
LISTS = {"gtkwave": ".gtkw", "surfer": ".sucl"}      # signal list of each viewer, beside the waves
VIEWERS = tuple(LISTS)
GET = "apt-get install gtkwave, or Surfer from surfer-project.org (also in a browser: app.surfer-project.org)"
HOW = "`bitkiln view fp4` runs a bench and writes some, `WAVES=1 bitkiln sim fp4` too"
PATIENCE = 1.0      # seconds in which a viewer that cannot start says so
# First bytes: FST's header block and its length (or a compressed file), a VCD keyword, GHW's name.
MAGIC = {".fst": (b"\x00\x00\x00\x00\x00\x00\x00\x01\x49", b"\xfe"), ".vcd": (b"$",), ".ghw": (b"GHDLwave",)}


@dataclass(frozen=True)
class Viewing:
    """What would be opened.

    Attributes
    ----------
    waves : Path
    lists : list of Path
        Signal lists beside it.
    viewer : str or None
        Program; None where there is none.
    command : list of str
        That opens it; where there is no viewer the first one's.
    """

    waves: Path
    lists: list[Path]
    viewer: str | None
    command: list[str]


def find_waves(path: Path) -> Path:
    """The wave file that a path means: itself, the one of a signal list, or the newest one of a folder.

    Raises
    ------
    BitkilnError
        Exit code 2: there is none, or it is something else.
    """
    if path.is_dir():
        found = _in(path)
        if not found:
            raise BitkilnError("no waves in this folder", where=str(path), expected=", ".join(WAVE_SUFFIXES), help=HOW)
        path = found[-1]
    if path.suffix in LISTS.values():
        found = [path.with_suffix(suffix) for suffix in WAVE_SUFFIXES if path.with_suffix(suffix).is_file()]
        if not found:
            raise BitkilnError("no waves beside this signal list", where=str(path), help=HOW)
        path = found[0]
    if not path.is_file():
        raise BitkilnError("no such file", where=str(path), help=HOW)
    if path.suffix.lower() not in WAVE_SUFFIXES:
        raise BitkilnError("not a wave file", where=str(path), got=path.suffix or "no suffix",
                           expected=", ".join(WAVE_SUFFIXES))
    with path.open("rb") as file:
        start = file.read(64).lstrip() if path.suffix.lower() == ".vcd" else file.read(64)
    if not start.startswith(MAGIC[path.suffix.lower()]):
        raise BitkilnError("not a wave file", where=str(path), got="an empty file" if not start else "other content",
                           expected=f"what a simulator writes as {path.suffix}")
    return path


def newest_waves() -> Path | None:
    """The waves that a bench wrote last, if any."""
    from ..sim.cache import build_root

    root = build_root()
    found = [path for folder in (root.iterdir() if root.is_dir() else ()) if folder.is_dir() for path in _in(folder)]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else _near(newest)


def _in(folder: Path) -> list[Path]:
    """Wave files of a folder, oldest first."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in WAVE_SUFFIXES and path.is_file()),
                  key=lambda path: path.stat().st_mtime)


def bench_waves(resolved: Resolved, seed: int, progress: Callable[[str], None] = lambda text: None) -> Path:
    """Run the cocotb bench of a design with waves; their file.

    Raises
    ------
    BitkilnError
        Exit code 2 for an engine without such a bench, 1 where the bench fails, 3 for a missing tool.
    """
    from ..engines import engine as find_engine
    from ..engines import engine_names

    run = resolved.engine.load("run_bench")
    if run is None:
        having = [name for name in engine_names() if find_engine(name).run_bench]
        raise BitkilnError("no cocotb bench that writes waves", where="bitkiln view", got=resolved.engine.name,
                           expected=f"an engine with one: {', '.join(having)}",
                           help="the Verilog test bench of `bitkiln generate` writes a .vcd file with -DWAVES"
                           if resolved.engine.vectors else None)
    from ..sim.toolchain import require

    for tool in ("verilator", "cxx"):
        require(tool)
    progress(f"{resolved.name}: cocotb bench with waves")
    with _waves_on():
        found: Any = run(resolved, seed)
    return _near(Path(found.facts["waves"]))


def _near(path: Path) -> Path:
    """A path below the working folder without it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextmanager
def _waves_on() -> Iterator[None]:
    before = os.environ.get("WAVES")
    os.environ["WAVES"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["WAVES"]
        else:
            os.environ["WAVES"] = before


def viewing(waves: Path, viewer: str | None = None) -> Viewing:
    """The viewer on PATH, or the one that is asked for by name or path, and its command line.

    Raises
    ------
    BitkilnError
        Exit code 2 for a viewer that is not known, 3 for one that is asked for and not there.
    """
    if viewer is not None and Path(viewer).name not in VIEWERS:
        raise BitkilnError("unknown viewer", where="--viewer", got=viewer, expected=" or ".join(VIEWERS),
                           help=nearest(Path(viewer).name, VIEWERS))
    found = next((program for name in ((viewer,) if viewer else VIEWERS) if (program := shutil.which(name))), None)
    if viewer is not None and found is None:
        raise BitkilnError("missing tool", where="bitkiln view", got=f"no {viewer} on PATH", expected=viewer, help=GET,
                           exit_code=MISSING_TOOL)
    lists = [path for suffix in LISTS.values() if (path := waves.with_suffix(suffix)).is_file()]
    name = Path(found).name if found else VIEWERS[0]
    own = waves.with_suffix(LISTS[name])
    extra = [str(own)] if own in lists else []
    command = [found or name, *(["-c", *extra] if name == "surfer" and extra else []), str(waves),
               *(extra if name == "gtkwave" else [])]
    return Viewing(waves, lists, found, command)


def open_viewer(found: Viewing) -> None:
    """Start the viewer in the background.

    Raises
    ------
    BitkilnError
        Exit code 3 without one, 1 where it stops at once.
    """
    import shlex

    line = shlex.join(found.command)
    if found.viewer is None:
        raise BitkilnError("missing tool", where="bitkiln view", got="no viewer on PATH",
                           expected=" or ".join(VIEWERS), help=f"{GET}; then `{line}`", exit_code=MISSING_TOOL)
    with tempfile.TemporaryFile() as log:
        try:
            started = subprocess.Popen(found.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
            code = started.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return          # it is open
        except OSError as error:
            raise BitkilnError("cannot start the viewer", where=found.viewer,
                               got=(error.strerror or str(error)).lower(), exit_code=FAILED) from None
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if code != 0:
        raise BitkilnError("the viewer stopped", where=line, got=said[-1] if said else f"exit code {code}",
                           help="without a screen: copy the waves and their signal list to a machine with one",
                           exit_code=FAILED)
