"""NormalFloat (QLoRA, arXiv 2305.14314): quantiles of the normal distribution, one absmax scale a block."""

from __future__ import annotations

import numpy as np

from ..errors import BitkilnError
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .symmetric import assemble, grid_codes

__all__ = ["SCALE_BLOCK", "nf"]

SCALE_BLOCK = 256


def nf(tensor: np.ndarray, bits: int, group: int | None = 64, *, double: bool = False, scale: str | None = None,
       name: str = "tensor") -> GroupQuantized:
    """NF4 or NF3: ``scale = max|w|`` of a block, nearest entry.

    Parameters
    ----------
    bits : int
        3 or 4.
    double : bool
        Double quantisation: 8-bit scales and one float32 for each 256 blocks in row-major order, 4.127 bits a weight
        at blocks of 64 against 4.5 with float32 scales. The codes are plain integers here, since the serial
        dequantiser multiplies by those; QLoRA subtracts the mean and uses an 8-bit float.
    scale : str, optional
        Storage of the scales without ``double``; default ``fp32``.
    tensor, group, name
        As for ``rtn_sym``.
    """
    if not isinstance(double, bool):
        raise BitkilnError("not a truth value", where="double", got=str(double), expected="true or false")
    grouped = Grouped(tensor, group, name)
    kind = f"nf{check_bits(bits, (3, 4), 'nf')}"
    stored = store("uint8", grouped.real(grouped.amax), block=SCALE_BLOCK) if double \
        else store(check_scale_format(scale, "fp32"), grouped.real(grouped.amax))
    return assemble("nf", grouped, (kind,), stored, grid_codes(grouped, (kind,), stored.values()))
