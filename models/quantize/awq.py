"""AWQ (arXiv 2306.00978): input channels with large activations get larger weights, and so finer steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import BitkilnError
from .grouped import Grouped
from .groups import GroupQuantized
from .search import SAME, checked_calibration, output_error

__all__ = ["ALPHAS", "awq", "channel_scale"]

ALPHAS = np.arange(20) / 20
LEAST = 1e-4  # of a scale before normalisation


def channel_scale(calibration: np.ndarray, alpha: float) -> np.ndarray:
    """float32 (K,): ``mean|x|**alpha``, at least 1e-4, with the largest and the smallest balanced around 1."""
    scale = np.maximum(np.mean(np.abs(calibration), axis=0) ** alpha, LEAST)
    return (scale / np.sqrt(scale.max() * scale.min())).astype(np.float32)


def awq(tensor: np.ndarray, bits: float, group: int | None = 128, *, calibration: np.ndarray,
        base: str = "rtn_asym", fold: bool = True, name: str = "tensor", **options: object) -> GroupQuantized:
    """Scale the input channels, quantise by another method, keep the exponent of least layer-output error.

    ``w' = quantise(w * s) / s`` with ``s = mean|x|**alpha``, alpha = 0, 0.05 .. 0.95: alpha 0 is the method alone and
    is tried first, so the outputs on the calibration rows are never worse than without scaling.

    Parameters
    ----------
    calibration : ndarray (rows, K)
        Activations; scaled as a whole to a largest magnitude in [0.5, 1).
    base : str
        Any method of ``models.quantize.methods`` but the wrapping ones; ``options`` are its own.
    fold : bool
        The operation before (a norm, a linear layer) divides by ``s``, so nothing is stored; else a float32 for each
        input channel is counted.
    tensor, bits, group, name
        As for ``rtn_sym``.

    Returns
    -------
    GroupQuantized
        With ``input_scale`` = s, float32. ``dequantise(scaled=True)`` are the weights that the hardware holds.
    """
    from .methods import plain_method

    method = plain_method(base, bits)
    if not isinstance(fold, bool):
        raise BitkilnError("not a truth value", where="fold", got=str(fold), expected="true or false")
    grouped = Grouped(tensor, None, name)
    x = checked_calibration(calibration, grouped.rows.shape[1])
    limit = np.finfo(np.float64).max

    def attempt(alpha: float) -> tuple[float, GroupQuantized]:
        scale = channel_scale(x, alpha)
        with np.errstate(over="ignore"):
            scaled = np.clip(grouped.rows * scale.astype(np.float64), -limit, limit)
        q = method.function(scaled.reshape(grouped.shape), bits, group, name=name, **options)
        q = replace(q, method=f"awq({base})", input_scale=scale, folded=fold)
        return output_error(grouped.rows, q.dequantise().reshape(grouped.rows.shape), x), q

    least, best = attempt(ALPHAS[0])
    for alpha in ALPHAS[1:]:
        error, q = attempt(alpha)
        if error < least * (1 - SAME):
            least, best = error, q
    return best
