"""MoFQ for weights (arXiv 2305.12356): integers or floats of the same width, whichever loses less in this layer.

``models.quantize.mofq`` chooses modes of weights and activations for a whole network; here one matrix is quantised in
groups, twice, and the better result is kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .grouped import check_bits
from .groups import GroupQuantized
from .search import SAME, checked_calibration, output_error
from .symmetric import fp, rtn_sym

__all__ = ["mofq"]


def mofq(tensor: np.ndarray, bits: int, group: int | None = 128, *, calibration: np.ndarray | None = None,
         scale: str | None = None, name: str = "tensor") -> GroupQuantized:
    """INT or FP of one width for the whole tensor; INT on a tie.

    Parameters
    ----------
    bits : int
        3, 4, 6 or 8: int3/fp3, int4/fp4, int6/fp6_e2m3, int8/fp8_e4m3.
    calibration : ndarray (rows, K), optional
        Activations: compares the error of the layer's outputs instead of the weights'.
    tensor, group, scale, name
        As for ``rtn_sym``.

    Returns
    -------
    GroupQuantized
        One bit for the choice is counted for the tensor.
    """
    bits = check_bits(bits, (3, 4, 6, 8), "mofq")
    found = [method(tensor, bits, group, scale=scale, name=name) for method in (rtn_sym, fp)]
    if calibration is None:
        errors = [q.nmse(tensor) for q in found]
    else:
        rows, columns = found[0].matrix
        x = checked_calibration(calibration, columns)
        exact = np.asarray(tensor, np.float64).reshape(rows, columns)
        errors = [output_error(exact, q.dequantise().reshape(rows, columns), x) for q in found]
    better = found[1] if errors[1] < errors[0] * (1 - SAME) else found[0]
    return replace(better, method="mofq", tensor_bits=1)
