"""LAS and LAZ files, by the package laspy."""

from __future__ import annotations

import io
import logging

import numpy as np

from ..errors import MISSING_TOOL, BitkilnError
from .pointcloud_file import PointFile, Table, short

__all__ = ["read_las"]

COMMAND = "pip install 'bitkiln[pointclouds]'"


def read_las(file: PointFile) -> Table:
    """Coordinates (scaled) and intensity of a LAS or LAZ file.

    Raises
    ------
    BitkilnError
        Not a LAS file, or damaged; laspy or a decompressor is missing (exit code 3).
    """
    if not file.data.startswith(b"LASF"):
        file.wrong_header(short(file.data[:8]), "LASF")
    try:
        import laspy
    except ImportError:
        raise BitkilnError("missing package", where="laspy", expected="laspy 2.5 or newer for LAS files", help=COMMAND,
                           exit_code=MISSING_TOOL) from None
    # It also logs what it raises, on the console unless somebody listens.
    logging.getLogger("laspy").addHandler(logging.NullHandler())
    try:
        with laspy.open(io.BytesIO(file.data)) as reader:
            header = reader.header
            count, compressed = header.point_count, header.are_points_compressed
            if compressed and not laspy.LazBackend.detect_available():
                raise BitkilnError("missing package", where="lazrs", expected="a decompressor of LAZ files",
                                   help=COMMAND, exit_code=MISSING_TOOL)
            if not compressed:
                file.need(header.offset_to_point_data, count * header.point_format.size, f"{count} points")
            if not count:
                file.fail("no points", 0, "one or more", "header")
            points = reader.read()
        xyz = np.stack([points.x, points.y, points.z], axis=1, dtype=np.float64)
        intensity = np.asarray(points.intensity, np.float64)
    except (BitkilnError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:    # the decompressor is Rust, whose panics are no Exception
        file.fail("damaged LAS file", short(str(error).partition("\n")[0]) or type(error).__name__, "a whole LAS file",
                  help="fetch or write the file again")
    if len(xyz) != count:
        file.fail("truncated LAS file", f"{len(xyz)} points", f"{count} as the header says")
    return Table(xyz, intensity)
