"""Small npz files: written so that equal arrays give equal bytes, read with one-line errors."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import BitkilnError

__all__ = ["read", "write"]


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` as an npz file whose bytes depend on nothing else.

    ``np.savez`` leaves the member date and order to the library; here the date is fixed, names are sorted
    and nothing is compressed (compressors differ between versions).
    """
    path = Path(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, member.getvalue())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BitkilnError("cannot write", where=str(path), got=error.strerror, exit_code=1) from error


def read(path: str | Path, expected: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """All arrays of an npz file.

    Parameters
    ----------
    path : str or Path
    expected : mapping, optional
        Names that must be there and their number of dimensions.

    Raises
    ------
    BitkilnError
        No such file, not an npz file, damaged, holding Python objects, or lacking an array.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if not head.startswith(b"PK"):
            what = "empty weight archive" if not head else "not a weight archive"
            if head.startswith(b"version https://git-lfs"):
                what = "Git LFS pointer instead of a weight archive"
            raise BitkilnError(what, where=str(path), got=head[:8] or None, expected="an npz file",
                               help="fetch the file again")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise BitkilnError("cannot read", where=str(path), got=error.strerror or str(error),
                           expected="an npz file") from error
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        if isinstance(error, BitkilnError):
            raise
        if "allow_pickle" in str(error):
            raise BitkilnError("Python objects in a weight archive", where=str(path),
                               expected="plain number arrays",
                               help="save the arrays with np.savez after astype(np.float32)") from error
        raise BitkilnError("damaged weight archive", where=str(path), got=str(error),
                           expected="a whole npz file", help="fetch the file again") from error
    for name, dimensions in (expected or {}).items():
        if name not in arrays:
            raise BitkilnError("missing array", where=str(path), got=", ".join(sorted(arrays)), expected=name)
        if arrays[name].ndim != dimensions:
            raise BitkilnError("shape mismatch", where=f"{path} {name}", got=arrays[name].shape,
                               expected=f"{dimensions} dimensions")
    return arrays
