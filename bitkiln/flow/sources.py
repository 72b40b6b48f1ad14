"""Digests of the sources behind a number: part of the key under which the store keeps it."""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from pathlib import Path

from .. import __version__

__all__ = ["sources_digest"]

SUFFIXES = (".py", ".json", ".csv", ".npz", ".cpp", ".h")


@cache
def sources_digest(*names: str) -> str:
    """Digest of the tool's version and of all sources and tables of some of its rooms or modules.

    Parameters
    ----------
    *names : str
        Below the tool's package: ``models``, ``hw.mac``, ``flow.sweep``.

    >>> sources_digest("store") == sources_digest("store") != sources_digest("files")
    True
    """
    package, total = __name__.split(".")[0], hashlib.sha256(__version__.encode())
    for name in names:
        module = importlib.import_module(f"{package}.{name}")
        for folder in map(Path, getattr(module, "__path__", [])):
            for path in sorted(folder.rglob("*")):
                if path.suffix in SUFFIXES:
                    total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        if not hasattr(module, "__path__"):
            total.update(Path(str(module.__file__)).read_bytes())
    return total.hexdigest()[:16]
