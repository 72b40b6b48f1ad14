"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .models.errors import FAILED, USAGE, BitkilnError

__all__ = ["write_atomically", "write_all"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` by way of a temporary file beside it.

    Raises
    ------
    BitkilnError
        Exit code 1 when the folder cannot be written or the disk is full, 2 when it is a file; nothing is left behind.
    """
    write_all(path.parent, {path.name: content})


def write_all(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write several files into ``folder`` (made when missing); all are complete before the first is renamed.

    Names may lead into folders below (``doc/README.md``); those are made too.
    """
    temporary: list[tuple[str, Path]] = []
    made_folders: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            raw = content.encode("utf-8") if isinstance(content, str) else content
            path = folder / name
            for below in reversed([path.parent, *path.parent.parents]):
                if below.is_relative_to(folder) and not below.is_dir():
                    below.mkdir()
                    made_folders.append(below)
            handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            temporary.append((made, path))
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
        umask = os.umask(0)
        os.umask(umask)
        for made, path in temporary:
            os.chmod(made, 0o666 & ~umask)           # mkstemp makes private files
            os.replace(made, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BitkilnError("cannot write", where=str(error.filename2 or error.filename or folder), got=reason,
                           expected="a writable folder with room", help="choose another place",
                           exit_code=USAGE if isinstance(error, (FileExistsError, NotADirectoryError)) else FAILED
                           ) from None
    finally:
        for made, _ in temporary:
            if os.path.exists(made):
                os.unlink(made)
        for below in reversed(made_folders):
            with contextlib.suppress(OSError):       # holds files: all went well
                below.rmdir()
