"""Data files of installed packages that are never imported."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from ..errors import MISSING_TOOL, BitkilnError

__all__ = ["package_file"]


def package_file(package: str, file: str, version: str, command: str) -> Path:
    """A data file of an installed distribution, which is not imported."""
    def missing(got: str) -> BitkilnError:
        return BitkilnError("missing package", where=package, got=got, expected=f"{package} {version}",
                            help=command, exit_code=MISSING_TOOL)

    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise missing("not installed") from None
    for entry in distribution.files or ():
        if entry.name == file:
            path = Path(entry.locate())
            if path.is_file():
                return path
    raise missing(f"version {distribution.version} without {file}")
