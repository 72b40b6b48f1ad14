"""Round-to-nearest quantisation: one scale for a tensor, a channel or a group, then the nearest code.

``value = code value * scale``. The scale puts the largest magnitude on the format's largest value
(``absmax``), or is the best of a few by squared error (``mse``). Three kinds of format need different care:

* Even grids and narrow floats (int, fixed, fp4 ... fp8, codebooks): ``absmax`` loses nothing at 8 bits. Below
  that, ``mse`` clips rare large values and gives smaller steps to the many (ternary needs it).
* Posits are densest around 1 and have hardly any precision near their largest value, so ``absmax`` would
  put the data where the format is worst. ``mse`` tries largest magnitudes of sqrt(2)**k from 1 upwards: the
  data's bulk comes to lie around 1, the largest values where the tapered end still holds them.
* Floats of 36 or more binades (fp16, bf16) have the same relative precision everywhere: the scale is the
  power of two that puts the largest magnitude into [1, 2): no rounding, and far from overflow.

``auto`` is ``mse`` for posits and for formats of at most 4 bits, else ``absmax``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import Format, get_format

__all__ = ["METHODS", "Quantized", "rtn"]

METHODS = ("auto", "absmax", "mse")
WIDE = 2.0 ** 36
SMALLEST_SCALE = 2.0 ** -1000  # tensors of denormals: no division by zero
CLIPPING = 2.0 ** (-np.arange(17) / 8)  # mse: from no clipping down to a quarter of the range
POSIT_STEPS = 15  # mse: largest magnitude at 1, sqrt(2), ... 128, within the format


@dataclass(frozen=True)
class Quantized:
    """Codes and scales of one tensor.

    Attributes
    ----------
    codes : ndarray of uint8 or uint16
        Shape of the tensor.
    scale : ndarray of float64
        Per tensor: shape (). Per channel: the tensor's shape with every other axis 1. Per group:
        (..., groups).
    format : Format
    axis : int or None
        The channel axis, None for one scale (or for groups).
    group : int or None
        Elements that share a scale along the last axis.
    """

    codes: np.ndarray
    scale: np.ndarray
    format: Format
    axis: int | None = None
    group: int | None = None

    def dequantise(self) -> np.ndarray:
        """float64 values ``decode(codes) * scale``."""
        values = self.format.decode(self.codes)
        if self.group is None:
            return values * self.scale
        grouped = values.reshape(*values.shape[:-1], -1, self.group) * self.scale[..., None]
        return grouped.reshape(values.shape)

    def nmse(self, tensor: np.ndarray) -> float:
        """Squared error over squared magnitude of the original ``tensor`` (0 where both are 0)."""
        tensor = np.asarray(tensor, np.float64)
        error, power = np.sum((self.dequantise() - tensor) ** 2), np.sum(tensor ** 2)
        return float(error / power) if power else float(error and np.inf)

    def sqnr_db(self, tensor: np.ndarray) -> float:
        """Signal to quantisation noise in decibels; infinite where nothing was lost."""
        nmse = self.nmse(tensor)
        return float(-10 * np.log10(nmse)) if nmse else float("inf")


def checked(tensor: np.ndarray, name: str) -> np.ndarray:
    """``tensor`` as float64, or a BitkilnError that says what is wrong with it."""
    try:
        tensor = np.asarray(tensor)
    except ValueError as error:  # ragged nested lists
        raise BitkilnError("ragged list instead of a tensor", where=name,
                           expected="rows of equal length") from error
    if tensor.dtype.kind not in "fiu":
        raise BitkilnError("wrong dtype", where=name, got=tensor.dtype,
                           expected="real numbers (float or integer)",
                           help="convert it first, e.g. tensor.astype(np.float32)")
    if tensor.size == 0:
        raise BitkilnError("empty tensor", where=name, got=tensor.shape,
                           expected="a shape of at least one element")
    with np.errstate(over="ignore"):
        tensor = tensor.astype(np.float64)
    bad = ~np.isfinite(tensor)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BitkilnError("NaN or Inf in tensor", where=f"{name}[{', '.join(map(str, first))}]",
                           got=tensor[first],
                           expected=f"finite values ({int(bad.sum())} of {bad.size} are not)")
    return tensor


def rtn(tensor: np.ndarray, format: Format | str, *, axis: int | None = None, group: int | None = None,
        method: str = "auto", power_of_two: bool = False, name: str = "tensor") -> Quantized:
    """Quantise ``tensor`` by rounding each element to the nearest code.

    Parameters
    ----------
    tensor : ndarray
        Finite real numbers, at least one.
    format : Format or str
    axis : int, optional
        The channel axis: one scale for each index along it. Without it, one scale for the tensor.
    group : int, optional
        One scale for each ``group`` elements along the last axis instead; must divide its length.
    method : str
        ``auto``, ``absmax`` or ``mse``: how the scale is chosen (module docstring).
    power_of_two : bool
        Only scales 2**n: the next one above, so that nothing saturates that did not.
    name : str
        For error messages.

    Returns
    -------
    Quantized
        A channel of zeros gets scale 1.
    """
    fmt = get_format(format)
    if method not in METHODS:
        raise BitkilnError("unknown method", where="method", got=method, expected=", ".join(METHODS),
                           help=nearest(method, METHODS))
    values = checked(tensor, name)
    if group is not None:
        if axis is not None:
            raise BitkilnError("contradictory options", where="axis and group", got=(axis, group),
                               expected="one of them")
        if isinstance(group, bool) or not isinstance(group, int) or group < 1 or values.ndim == 0 \
                or values.shape[-1] % group:
            raise BitkilnError("group size does not divide the last axis", where=name, got=group,
                               expected=f"a divisor of {values.shape[-1] if values.ndim else 1}")
        rows = values.reshape(-1, group)
        scale_shape = (*values.shape[:-1], values.shape[-1] // group)
    elif axis is not None:
        if not isinstance(axis, (int, np.integer)) or not -values.ndim <= axis < values.ndim:
            raise BitkilnError("axis out of range", where=name, got=axis,
                               expected=f"{-values.ndim} to {values.ndim - 1}" if values.ndim
                               else "no axis (a scalar)")
        axis = int(axis) % values.ndim
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        scale_shape = tuple(extent if i == axis else 1 for i, extent in enumerate(values.shape))
    else:
        rows, scale_shape = values.reshape(1, -1), ()
    scale = _scales(rows, fmt, method, power_of_two)
    codes = fmt.encode(rows / scale[:, None])
    scale = scale.reshape(scale_shape)
    if axis is not None:
        codes = np.moveaxis(codes.reshape(values.shape[axis], *np.delete(values.shape, axis)), 0, axis)
    return Quantized(np.ascontiguousarray(codes.reshape(values.shape)), scale, fmt, axis, group)


def _scales(rows: np.ndarray, fmt: Format, method: str, power_of_two: bool) -> np.ndarray:
    """The scale of each row."""
    magnitude = np.abs(rows).max(axis=1)
    posit = fmt.family == "posit"
    if method == "auto":
        method = "mse" if posit or fmt.bits <= 4 else "absmax"
    if fmt.max / fmt.min_positive >= WIDE and not posit:
        # Mantissa in [0.5, 1): one less than frexp's exponent puts the largest magnitude into [1, 2).
        candidates = np.ldexp(1.0, np.frexp(magnitude)[1] - 1)[None]
    elif method == "absmax":
        candidates = magnitude[None] / fmt.max
    elif posit:
        tops = np.sqrt(2.0) ** np.arange(POSIT_STEPS)
        candidates = magnitude / tops[tops <= fmt.max, None]
    else:
        candidates = magnitude / fmt.max * CLIPPING[:, None]
    if power_of_two:
        mantissa, exponent = np.frexp(candidates)
        candidates = np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))
    candidates = np.maximum(candidates, SMALLEST_SCALE)
    best, least = candidates[0], None
    if len(candidates) > 1:
        for scale in candidates:
            # Relative to the largest magnitude, so that squares neither overflow nor vanish.
            reference = np.where(magnitude == 0, 1, magnitude)[:, None]
            error = (fmt.decode(fmt.encode(rows / scale[:, None])) * scale[:, None] - rows) / reference
            error = np.mean(error ** 2, axis=1)
            if least is None:
                best, least = scale.copy(), error
            else:
                better = error < least  # the first (least clipping) wins ties
                best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.where(magnitude == 0, 1.0, best)
