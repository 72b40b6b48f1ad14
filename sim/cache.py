"""Build results kept under a content hash: built in a temporary folder, renamed when complete."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bitkiln.models.errors import FAILED, BitkilnError

__all__ = ["build_root", "cached", "digest", "write_atomic"]


def build_root() -> Path:
    """``$BITKILN_BUILD``, else ``build/`` in the nearest folder above the current one that has a
    ``pyproject.toml`` or ``.git``, else ``build/`` here."""
    if named := os.environ.get("BITKILN_BUILD"):
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder / "build"
    return here / "build"


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts; where one ends counts."""
    state = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Folder with the result of ``build``, made once per key.

    Parameters
    ----------
    kind : str
        Subfolder of ``build/cache`` (``"models"``, ``"runtime"``, ...).
    key : str
        From `digest` over everything the result depends on, tool identities included.
    build : callable
        Fills the (temporary, empty) folder it is given. Where it raises, nothing is kept.

    Returns
    -------
    Path
        A folder that is complete and must not be changed.

    Raises
    ------
    BitkilnError
        The build folder cannot be written.
    """
    folder = build_root() / "cache" / kind
    final = folder / key[:32]
    if final.is_dir():
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BitkilnError("cannot write the build folder", where=str(folder), got=error.strerror,
                           help="set BITKILN_BUILD to a writable folder", exit_code=FAILED) from None
    with _lock(folder / f".{key[:32]}.lock"):
        if final.is_dir():  # somebody else built it while we waited
            return final
        temporary = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=folder))
        try:
            build(temporary)
            os.replace(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def write_atomic(path: Path, text: str) -> None:
    """Write through a temporary file in the same folder."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Exclusive between processes and threads; released by the system when a process dies.
    The file stays: removing it would let two waiters hold locks on different files."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
