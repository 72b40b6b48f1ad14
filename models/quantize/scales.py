"""How the scales of groups are stored: a code for each group, and maybe a second scale for some of them together.

``scale = code value * channel scale``, rounded nowhere: the code value is a small integer, a float of at most 24
significant bits or a power of two, and the channel scale a float32.

=============  ==========================================================================================
``none``       no code: one float32 for each channel (or tensor)
``uint2..8``   an integer times the channel's float32 (VS-Quant; BitMoD, arXiv 2411.11745, section III)
``e8m0``       a power of two, the next one above (OCP MX v1.0 rounds down; see ``models.formats.blocks``)
``ue4m3`` ...  an unsigned float times the tensor's float32 (NVFP4), also ``ue5m3``
``fp16``       one IEEE binary16, saturating at 65504
``fp32``       one IEEE binary32, saturating
=============  ==========================================================================================
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import get_format

__all__ = ["SCALE_FORMATS", "Stored", "check_scale_format", "decode_codes", "effective", "scale_bits", "store"]

_UINT = re.compile(r"uint([2-8])\Z")
SCALE_FORMATS = ("none", *(f"uint{bits}" for bits in range(2, 9)), "e8m0", "ue4m3", "ue5m3", "fp16", "fp32")
_FLOATS = {"fp16": (np.float16, np.uint16), "fp32": (np.float32, np.uint32)}


class Stored(NamedTuple):
    """Scales as bits."""

    format: str
    codes: tuple[np.ndarray, ...]     # one (N, G) array for each array of scales; none with format ``none``
    channel_scale: np.ndarray | None  # float32
    block: int                        # groups, in row-major order, that share an entry of channel_scale

    def values(self, index: int = 0) -> np.ndarray:
        """Effective scales, float64 (N, G)."""
        return effective(self.format, self.codes[index], self.channel_scale, self.block)


def check_scale_format(name: str | None, default: str) -> str:
    """``name``, or ``default`` for None."""
    if name is None:
        return default
    if name not in SCALE_FORMATS:
        raise BitkilnError("unknown scale format", where="scale", got=str(name), expected=", ".join(SCALE_FORMATS),
                           help=nearest(name, SCALE_FORMATS))
    return name


def scale_bits(name: str) -> int:
    """Stored bits of a scale code; NVFP4 keeps the seven bits of a UE4M3 in a byte."""
    if name == "none":
        return 0
    match = _UINT.match(name)
    return int(match[1]) if match else 8 if name == "ue4m3" else get_format(name).bits


def decode_codes(name: str, codes: np.ndarray) -> np.ndarray:
    """float64 values of scale codes."""
    if _UINT.match(name):
        return codes.astype(np.float64)
    if name in _FLOATS:
        return np.ascontiguousarray(codes).view(_FLOATS[name][0]).astype(np.float64)
    return get_format(name).decode(codes)


def effective(name: str, codes: np.ndarray, channel_scale: np.ndarray | None, block: int) -> np.ndarray:
    """Scales of codes (N, G), float64, exact. With format ``none`` the codes only give the shape."""
    found = np.ones(codes.shape) if name == "none" else decode_codes(name, codes)
    if channel_scale is None:
        return found
    index = np.arange(codes.size).reshape(codes.shape) // block
    return found * channel_scale.astype(np.float64)[index]


def _float(values: np.ndarray, kind: type) -> np.ndarray:
    """Nearest floats of ``kind``; never infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return np.minimum(values.astype(kind), np.finfo(kind).max)


def store(name: str, *scales: np.ndarray, block: int | None = None) -> Stored:
    """Stored form of scales.

    Parameters
    ----------
    name : str
        One of ``SCALE_FORMATS``.
    *scales : ndarray of float64 (N, G)
        Not negative. Several arrays (scales of positive and of negative values) share their channel scales.
    block : int, optional
        Groups that share a second-level scale, in row-major order; default a row, for unsigned floats the tensor.

    Notes
    -----
    uintS: ``code = RNE(scale / (largest of the channel / (2**S - 1)))`` (bitserial specification 5.7), all 0 for a
    channel of zeros or one whose float32 scale underflows. Everything saturates; nothing becomes infinite.
    """
    scales = tuple(scale + 0.0 for scale in scales)  # no minus zero: its sign would be a bit of a float code
    shape = scales[0].shape
    count = shape[0] * shape[1]
    zero = np.zeros(shape, np.uint8)
    if name in _FLOATS:
        kind, word = _FLOATS[name]
        return Stored(name, tuple(_float(scale, kind).view(word) for scale in scales), None, count)
    if name == "e8m0":
        # 2**ceil(log2(scale)) from the exponent bits; a scale of zero has the smallest code.
        codes = []
        for scale in scales:
            mantissa, exponent = np.frexp(scale)
            power = np.where(scale == 0, -127, exponent - (mantissa == 0.5))
            codes.append((np.clip(power, -127, 127) + 127).astype(np.uint8))
        return Stored(name, tuple(codes), None, count)
    block = block or (count if name in ("ue4m3", "ue5m3") else shape[1])
    starts = np.arange(0, count, block)
    largest = np.maximum.reduceat(np.max(scales, axis=0).ravel(), starts)
    if name == "none":
        if any((np.abs(scale.ravel() - np.repeat(largest, block)[:count]) > 0).any() for scale in scales):
            raise BitkilnError("scales differ within a channel", where="scale", got=name,
                               expected="a format with a code for each group, such as uint8")
        return Stored(name, (zero,) * len(scales), _float(largest, np.float32), block)
    match = _UINT.match(name)
    steps = (1 << int(match[1])) - 1 if match else get_format(name).max
    step = largest / steps
    channel = _float(step, np.float32)
    divisor = np.repeat(np.where(channel == 0, 0, step), block)[:count].reshape(shape)
    codes = []
    for scale in scales:
        ratio = np.divide(scale, divisor, out=np.zeros(shape), where=divisor != 0)
        codes.append(np.minimum(np.rint(ratio), steps).astype(np.uint8) if match
                     else get_format(name).encode(ratio, overflow="saturate"))
    return Stored(name, tuple(codes), channel, block)
