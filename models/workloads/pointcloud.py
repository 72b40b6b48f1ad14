"""Point clouds from files: KITTI and nuScenes .bin, .pcd, .ply, .npy, .las and .laz.

    file -> reader of the format -> Table -> points that are not finite: dropped or refused -> PointCloud

Every reader takes the file as untrusted: sizes are compared with what is there before memory is taken, and a file that
breaks a rule gives one error that names the place.

Points that are not finite. In an organised cloud (the image of a depth camera: .pcd with HEIGHT > 1, .npy of shape
(H, W, C), .ply with num_rows > 1) a point whose x, y and z are all NaN is a pixel without a return: it is dropped and
counted. Any other NaN or infinity, of a coordinate or of the intensity, is an error that gives their number and the
first, unless ``drop_nan`` asks to drop those points too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BitkilnError, nearest
from .pointcloud_arrays import BIN_FIELDS, read_bin, read_npy
from .pointcloud_file import PointFile, Table, short
from .pointcloud_las import read_las
from .pointcloud_pcd import read_pcd
from .pointcloud_ply import read_ply

__all__ = ["FORMATS", "PointCloud", "parse_points", "read_points"]

# Formats that name their fields themselves.
_NAMED: dict[str, Callable[[PointFile], Table]] = {"pcd": read_pcd, "ply": read_ply, "las": read_las}
FORMATS = ("bin", *BIN_FIELDS, *_NAMED, "npy")
SUFFIXES = {".bin": "bin", ".pcd": "pcd", ".ply": "ply", ".npy": "npy", ".las": "las", ".laz": "las"}
_MAGIC = {b"\x93NUMPY": "npy", b"ply": "ply", b"# .PCD": "pcd", b"VERSION": "pcd", b"LASF": "las"}
_KINDS = {"bin": "point cloud", "npy": "NumPy", "pcd": "PCD", "ply": "PLY", "las": "LAS"}


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points that are all finite.

    Attributes
    ----------
    points : float64 ndarray (N, 3)
        x, y, z as the file has them.
    intensity : float64 ndarray (N,) or None
        In the file's own unit.
    source : str
        The file, or the generator and its seed.
    no_return : int
        Pixels without a return that an organised cloud had besides.
    dropped : int
        Other points that were not finite and were dropped because ``drop_nan`` asked for it.
    """

    points: np.ndarray
    intensity: np.ndarray | None
    source: str
    no_return: int = 0
    dropped: int = 0

    def __post_init__(self):
        if self.points.ndim != 2 or self.points.shape[1] != 3 or not len(self.points):
            raise BitkilnError("wrong shape of points", where=self.source, got=self.points.shape,
                               expected="(N, 3) with one point or more")
        if self.intensity is not None and self.intensity.shape != (len(self.points),):
            raise BitkilnError("wrong shape of intensities", where=self.source, got=self.intensity.shape,
                               expected=f"({len(self.points)},)")
        if not np.isfinite(self.points).all():
            raise BitkilnError("points that are not finite", where=self.source, expected="finite coordinates")

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"<PointCloud {self.source}: {len(self)} points{'' if self.intensity is None else ' with intensity'}>"


def read_points(path: str | Path, *, format: str | None = None, fields: Sequence[str] | None = None,
                drop_nan: bool = False) -> PointCloud:
    """Read a point cloud.

    Parameters
    ----------
    path : str or Path
    format : str, optional
        One of `FORMATS`; by default the ending of the name decides (``.pcd.bin`` is nuScenes'), or the first bytes.
        A ``bin`` whose size fits both KITTI and nuScenes is KITTI's unless every fifth number is a ring; see
        `pointcloud_arrays.read_bin`.
    fields : sequence of str, optional
        Names of the numbers of a point in a file that does not name them (``bin``, ``npy``), e.g.
        ``("x", "y", "z", "intensity", "ring", "time")``.
    drop_nan : bool
        Drop points that are not finite instead of refusing the file.

    Raises
    ------
    BitkilnError
        No such file, one that breaks a rule of its format, points that are not finite, or none at all. A package that
        is missing (LAS) has exit code 3.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BitkilnError("cannot read", where=str(path), got=getattr(error, "strerror", None) or str(error),
                           expected="a file with points") from error
    return parse_points(data, path, format=format, fields=fields, drop_nan=drop_nan)


def parse_points(data: bytes, path: str | Path, *, format: str | None = None, fields: Sequence[str] | None = None,
                 drop_nan: bool = False) -> PointCloud:
    """The points in the bytes of a file; ``path`` is its name, for the format and for errors. See `read_points`."""
    path = Path(path)
    if not data:
        raise BitkilnError("empty file", where=str(path), expected="a file with points")
    if data.startswith(b"version https://git-lfs"):
        raise BitkilnError("Git LFS pointer instead of a point cloud", where=str(path), help="git lfs pull")
    name = _format(path, data) if format is None else format
    if name not in FORMATS:
        raise BitkilnError("unknown format of points", where=str(path), got=str(name), expected=", ".join(FORMATS),
                           help=nearest(name, FORMATS))
    if name in BIN_FIELDS:
        if fields is not None and tuple(fields) != BIN_FIELDS[name]:
            raise BitkilnError("contradictory options", where="fields", got=" ".join(fields),
                               expected=f"{' '.join(BIN_FIELDS[name])} of {name}", help="use format bin")
        fields, name = BIN_FIELDS[name], "bin"
    file = PointFile(path, data, _KINDS[name])
    if name in _NAMED:
        if fields is not None:
            raise BitkilnError("fields of a file that names them", where=str(path), got=" ".join(fields),
                               expected=f"none for {name}")
        table = _NAMED[name](file)
    else:
        table = (read_bin if name == "bin" else read_npy)(file, fields)
    return _finite(file, table, drop_nan)


def _format(path: Path, data: bytes) -> str:
    if path.name.lower().endswith(".pcd.bin"):
        return "nuscenes"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    raise BitkilnError("unknown kind of file", where=str(path), got=short(suffix) or "no ending",
                       expected=", ".join(SUFFIXES), help=f"say format: {', '.join(FORMATS)}")


def _finite(file: PointFile, table: Table, drop_nan: bool) -> PointCloud:
    points, intensity = table.points, table.intensity
    empty = np.isnan(points).all(axis=1) if table.organised else np.zeros(len(points), bool)
    good = np.isfinite(points).all(axis=1)
    if intensity is not None:
        good &= np.isfinite(intensity)
    bad = ~good & ~empty
    count, missing = int(bad.sum()), int(empty.sum())
    if count and not drop_nan:
        first = int(bad.argmax())
        where = f"line {table.lines[first]}" if table.lines else f"point {first}"
        values = [*points[first], *([] if intensity is None else [intensity[first]])]
        file.fail("NaN or infinite points", f"{count} of {len(points)}, the first " +
                  " ".join(f"{value:g}" for value in values), "finite coordinates and intensity", where,
                  help="drop them with --drop-nan (drop_nan=True)")
    if not good.any():
        file.fail("no points", f"{len(points)} without a return or not finite", "one or more")
    if not good.all():
        points, intensity = points[good], None if intensity is None else intensity[good]
    return PointCloud(points, intensity, str(file.path), no_return=missing, dropped=count)
