"""OCP MX and NVFP4 weights, by ``models.formats.blocks``: fixed block sizes and scale formats."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import PowerOfTwo, get_group_format
from .grouped import Grouped, check_bits
from .groups import GroupQuantized

__all__ = ["MX", "block_scaled", "mx", "nvfp4"]

MX = {4: ("mxfp4",), 6: ("mxfp6_e2m3", "mxfp6_e3m2"), 8: ("mxfp8_e4m3", "mxfp8_e5m2", "mxint8")}


def block_scaled(tensor: np.ndarray, format: str, group: int | None = None, *,
                 name: str = "tensor") -> GroupQuantized:
    """Blocks along K of a group format (``mxfp4``, ``nvfp4``, ...); the last block of a row may be shorter.

    Parameters
    ----------
    format : str
        A name that ``models.formats.get_group_format`` knows.
    group : int, optional
        The format's block size, which is fixed.

    Raises
    ------
    BitkilnError
        A group of another size.
    """
    fmt = get_group_format(format)
    if group is not None and group != fmt.block_size:
        raise BitkilnError("block size is fixed", where="group", got=str(group),
                           expected=f"{fmt.block_size}, the block of {fmt.name}", help="leave the group out")
    grouped = Grouped(tensor, fmt.block_size, name)
    encoded = fmt.encode(grouped.rows, pad=True)
    count = grouped.count[0] * grouped.count[1]
    scale_format = "e8m0" if isinstance(fmt.scale, PowerOfTwo) else fmt.scale.name
    codes = encoded.codes[:, :grouped.rows.shape[1]]
    if getattr(fmt.element, "has_negative_zero", False):
        codes = np.where(codes == 1 << (fmt.element.bits - 1), 0, codes)
    channel = None if encoded.tensor_scale is None else np.array([encoded.tensor_scale], np.float32)
    return GroupQuantized(fmt.name, grouped.shape, grouped.group, (fmt.element.name,),
                          np.ascontiguousarray(codes.astype(np.uint8)), encoded.scale_codes.astype(np.uint8),
                          scale_format, channel, count)


def mx(tensor: np.ndarray, bits: int, group: int | None = None, *, element: str | None = None,
       name: str = "tensor") -> GroupQuantized:
    """OCP MX v1.0: blocks of 32 with a power-of-two scale.

    Parameters
    ----------
    bits : int
        4 (mxfp4), 6 (mxfp6_e2m3, mxfp6_e3m2) or 8 (mxfp8_e4m3, mxfp8_e5m2, mxint8).
    element : str, optional
        One of those of the width; default the first.
    """
    bits = check_bits(bits, tuple(MX), "mx")
    if element is not None and element not in MX[bits]:
        raise BitkilnError("unknown element type", where="element", got=str(element), expected=", ".join(MX[bits]),
                           help=nearest(element, MX[bits]))
    return block_scaled(tensor, element or MX[bits][0], group, name=name)


def nvfp4(tensor: np.ndarray, bits: int = 4, group: int | None = None, *, scale: str = "ue4m3",
          name: str = "tensor") -> GroupQuantized:
    """NVFP4: blocks of 16 with a UE4M3 scale and a float32 for the tensor; ``scale="ue5m3"``: one without."""
    check_bits(bits, (4,), "nvfp4")
    if scale not in ("ue4m3", "ue5m3"):
        raise BitkilnError("unknown scale format", where="scale", got=str(scale), expected="ue4m3 or ue5m3")
    return block_scaled(tensor, "nvfp4" if scale == "ue4m3" else "nvfp4_ue5m3", group, name=name)
