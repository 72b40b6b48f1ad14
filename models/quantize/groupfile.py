"""Quantised tensors as one ``.npz`` file: arrays as they are, everything else as JSON; nothing is pickled.

Entry ``bitkiln.json`` (bytes) holds the layout's version and the plain fields of each tensor; entry ``i/field`` is an
array of tensor i.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FAILED, BitkilnError, nearest
from .groupcheck import check
from .groups import GroupQuantized

__all__ = ["VERSION", "load", "load_all", "save"]

VERSION = 1
HEADER = "bitkiln.json"
PLAIN = ("method", "shape", "group", "types", "scale_format", "scale_block", "zero_bits", "folded", "pairs",
         "alignment", "tensor_bits")
ARRAYS = tuple(field.name for field in fields(GroupQuantized) if field.name not in PLAIN)


def save(path: str | Path, tensors: GroupQuantized | Mapping[str, GroupQuantized]) -> None:
    """Write one result, or several by name, by way of a temporary file beside ``path``.

    Raises
    ------
    BitkilnError
        Exit code 1 where the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if isinstance(tensors, GroupQuantized):
        tensors = {"tensor": tensors}
    header = {"layout": VERSION, "tensors": [{"name": name, **{key: getattr(q, key) for key in PLAIN}}
                                             for name, q in tensors.items()]}
    arrays: dict[str, Any] = {HEADER: np.frombuffer(json.dumps(header, default=int).encode(), np.uint8)}
    for index, q in enumerate(tensors.values()):
        arrays |= {f"{index}/{key}": getattr(q, key) for key in ARRAYS if getattr(q, key) is not None}
    made = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(made, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(made, path)
    except OSError as error:
        raise BitkilnError("cannot write", where=str(path), got=(error.strerror or str(error)).lower(),
                           expected="a writable folder with room", help="choose another place",
                           exit_code=FAILED) from None
    finally:
        if made is not None and os.path.exists(made):
            os.unlink(made)


def load_all(path: str | Path) -> dict[str, GroupQuantized]:
    """All tensors of a file, by name.

    Raises
    ------
    BitkilnError
        The file is missing, damaged, of another layout, or its arrays do not fit each other.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        header = json.loads(bytes(arrays.pop(HEADER)).decode())
        if header["layout"] != VERSION:
            raise BitkilnError("file of another layout", where=str(path), got=str(header["layout"]),
                               expected=f"layout {VERSION}")
        found = {}
        for index, entry in enumerate(header["tensors"]):
            plain = {key: entry[key] for key in PLAIN}
            plain |= {"shape": tuple(plain["shape"]), "types": tuple(plain["types"])}
            parts = {key: arrays[f"{index}/{key}"] for key in ARRAYS if f"{index}/{key}" in arrays}
            found[entry["name"]] = check(GroupQuantized(**plain, **parts))
        return found
    except BitkilnError as error:
        if error.where == str(path):
            raise
        raise BitkilnError("damaged file", where=str(path), got=f"{error.what} ({error.where}: {error.got})",
                           expected="what save wrote") from None
    except FileNotFoundError:
        raise BitkilnError("no such file", where=str(path)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, NotImplementedError,
            RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BitkilnError("damaged file", where=str(path), got=reason[:120],
                           expected="an .npz file that save wrote") from None


def load(path: str | Path, name: str | None = None) -> GroupQuantized:
    """One tensor of a file: the only one, or that of a name."""
    found = load_all(path)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise BitkilnError("which tensor" if name is None else "no such tensor", where=str(path), got=name,
                           expected=f"one of {len(found)} names", help=nearest(name or "", found))
    return found[name]
