"""Reading tensors: ``.npy``, ``.npz`` and ``.safetensors``, nothing of which is ever unpickled or executed."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import BitkilnError, nearest
from .rtn import checked
from .safetensors import read_safetensors

__all__ = ["read_array", "read_tensors"]

SUFFIXES = (".npy", ".npz", ".safetensors")
# What damaged files make NumPy and zipfile raise, beside OSError.
_DAMAGED = (ValueError, KeyError, EOFError, MemoryError, NotImplementedError, RuntimeError, TypeError, SyntaxError,
            OverflowError, zipfile.BadZipFile, zlib.error)


def _damaged(path: Path, error: Exception, kind: str) -> BitkilnError:
    reason = " ".join(str(error).split()) or type(error).__name__
    with path.open("rb") as file:
        start = file.read(6)
    if "pickle" in reason and not start.startswith((b"\x93NUMPY", b"PK", b"\x80")):
        reason = "neither an array nor an archive"   # NumPy takes every unknown start for a pickle
    elif "pickle" in reason or "Object arrays" in reason or "Python objects" in reason:
        return BitkilnError("array of Python objects", where=str(path), got="pickled data",
                            expected="numbers: pickles can run code and are never read",
                            help="save it as float32, e.g. numpy.save(path, array.astype('float32'))")
    return BitkilnError("damaged file", where=str(path), got=reason[:120], expected=f"a complete {kind} file")


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; a ``.npy`` file's is called by the file's name."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BitkilnError("unknown kind of file", where=str(path), got=suffix or "no suffix",
                           expected=", ".join(SUFFIXES))
    try:
        if path.is_dir():
            raise BitkilnError("not a file", where=str(path), got="a folder", expected=", ".join(SUFFIXES))
        if path.stat().st_size == 0:
            raise BitkilnError("damaged file", where=str(path), got="an empty file",
                               expected=f"a complete {suffix} file")
        if suffix == ".safetensors":
            return read_safetensors(path)
        # Mapped: a header that promises more than the file holds is refused before memory is taken.
        loaded = np.load(path, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if suffix == ".npz":
                raise BitkilnError("damaged file", where=str(path), got="a single array", expected="a .npz archive")
            return {path.stem: np.array(loaded)}
        with loaded as archive:
            if suffix == ".npy":
                raise BitkilnError("damaged file", where=str(path), got="an archive", expected="a single array",
                                   help="rename it to .npz")
            return {key: archive[key] for key in archive.files}
    except BitkilnError:
        raise
    except FileNotFoundError:
        raise BitkilnError("no such file", where=str(path)) from None
    except OSError as error:
        raise BitkilnError("cannot read", where=str(path), got=(error.strerror or str(error)).lower()) from None
    except _DAMAGED as error:
        raise _damaged(path, error, suffix) from None


def read_tensors(path: str | Path, name: str | None = None) -> dict[str, np.ndarray]:
    """Real tensors of a file as float64, by name.

    Parameters
    ----------
    path : path
        ``.npy`` (one array), ``.npz`` or ``.safetensors``.
    name : str, optional
        Only this one; without it every real-valued array of two or more axes (of a ``.npy`` file: its array).

    Raises
    ------
    BitkilnError
        Missing, damaged or pickled file, unknown suffix or name, no such array, or one with NaN or Inf.
    """
    path = Path(path)
    arrays = _load(path)
    if name is not None:
        if name not in arrays:
            raise BitkilnError("no such tensor", where=str(path), got=name, expected="a tensor of the file",
                               help=nearest(name, arrays) if arrays else None)
        arrays = {name: arrays[name]}
    elif path.suffix.lower() != ".npy":
        arrays = {key: array for key, array in arrays.items() if array.dtype.kind in "fiu" and array.ndim >= 2}
        if not arrays:
            raise BitkilnError("no tensor to quantise", where=str(path),
                               expected="a real-valued array of two or more axes", help="--tensor takes any by name")
    return {key: checked(array, f"{path.name} {key}") for key, array in arrays.items()}


def read_array(path: str | Path, what: str) -> np.ndarray:
    """The only tensor of a file, float64."""
    found = read_tensors(path)
    if len(found) != 1:
        raise BitkilnError(f"several tensors as {what}", where=str(path), got=len(found), expected="one")
    return next(iter(found.values()))
