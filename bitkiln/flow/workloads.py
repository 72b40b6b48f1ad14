"""A workload by name or from a file: YAML, CSV (``name,M,N,K`` or SCALE-Sim's convolution rows) or ONNX."""

from __future__ import annotations

from pathlib import Path

from ..models.errors import BitkilnError
from ..models.workloads.shapes import Workload
from ..models.workloads.shapes_files import workload_from_csv, workload_from_dict
from ..models.workloads.shapes_registry import get_workload
from ..sweep_schema import raise_all
from ..yamlfile import read_yaml

__all__ = ["load_workload"]

HELP = "docs/workloads.md shows the layout"


def load_workload(source: str) -> Workload:
    """The workload that ``source`` names.

    Raises
    ------
    BitkilnError
        Unknown name, or a file that is none; exit code 3 for ONNX without its package.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        document = read_yaml(path, "a workload", HELP)
        raise_all(document.errors)
        return workload_from_dict(document.data, document.where)
    if suffix == ".csv":
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise BitkilnError("cannot read workload", where=source, got=reason.lower(), help=HELP) from None
        return workload_from_csv(text, path.stem, source)
    if suffix == ".onnx":
        from ..models.workloads.onnx_shapes import import_onnx

        return import_onnx(path, weights=False).workload
    return get_workload(source)
