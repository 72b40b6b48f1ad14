"""Block-scaled formats: element codes, one scale code for each block, maybe one scale for the tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from ..errors import BitkilnError, nearest
from .base import Format
from .checks import check_integer, check_name
from .minifloat import Minifloat, PowerOfTwo
from .registry import canonical_name, get_format

__all__ = ["BlockScaled", "Blocks", "get_group_format", "group_format_names"]


class Blocks(NamedTuple):
    """An encoded tensor."""

    codes: np.ndarray            # element codes, blocks along the last axis
    scale_codes: np.ndarray      # shape (..., K / block_size)
    tensor_scale: np.float32 | None


@dataclass(frozen=True)
class BlockScaled:
    """``value = element * scale [* tensor_scale]``, one scale for ``block_size`` elements of the last axis.

    Parameters
    ----------
    name : str
    element : Format or str
    scale : PowerOfTwo, unsigned Minifloat with NaN, or name
        ``e8m0``: the OCP rule, ``2**(floor(log2(amax)) - emax)`` from the exponent bits of ``amax``.
        ``ue4m3``, ``ue5m3``: ``amax / element.max`` rounded to nearest even, at least the smallest positive
        scale unless the block is all zeros.
    block_size : int
        A power of two, 2 to 1024.
    tensor_scale : bool
        A further float32 scale ``amax / (scale.max * element.max)`` of the whole tensor (NVFP4).

    Sources: OCP Microscaling Formats 1.0 (MX), NVIDIA NVFP4, arXiv 2509.17791 (UE5M3 scales).
    """

    name: str
    element: Format
    scale: Format
    block_size: int
    tensor_scale: bool = False
    family = "block-scaled"

    def __post_init__(self):
        check_name(self.name)
        for key in ("element", "scale"):
            object.__setattr__(self, key, get_format(getattr(self, key), where=f"{self.name} {key}"))
        check_integer(self.block_size, f"{self.name} block_size", 2, 1024)
        if self.block_size & (self.block_size - 1):
            raise BitkilnError("out of range", where=f"{self.name} block_size", got=self.block_size,
                               expected="a power of two", help="MX formats use 32, NVFP4 16")
        if not isinstance(self.scale, PowerOfTwo) and not (
                isinstance(self.scale, Minifloat) and not self.scale.signed and self.scale.has_nan):
            raise BitkilnError("not a scale format", where=f"{self.name} scale", got=self.scale.name,
                               expected="e8m0, ue4m3 or ue5m3")
        if self.tensor_scale and isinstance(self.scale, PowerOfTwo):
            raise BitkilnError("contradictory options", where=f"{self.name} tensor_scale", got="true",
                               expected="no tensor scale with a power-of-two scale (its range is float32's)")

    @property
    def bits_per_value(self) -> float:
        """Element bits and the share of the block scale."""
        return self.element.bits + self.scale.bits / self.block_size

    @property
    def emax(self) -> int:
        """Exponent of the element's largest power of two."""
        return int(np.frexp(self.element.max)[1]) - 1

    def _blocks(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape[:-1], -1, self.block_size)

    def encode(self, values: np.ndarray, rounding: str = "nearest_even", *,
               random_bits: np.ndarray | None = None, pad: bool = False) -> Blocks:
        """Scales and element codes of finite ``values``; elements saturate.

        Parameters
        ----------
        values : array of float, shape (..., K)
        rounding, random_bits
            Of the elements; scales are always rounded as the class says.
        pad : bool
            Fill the last block with zeros when ``block_size`` does not divide K.

        Notes
        -----
        Element quotients are float64 divisions. For float32 values this equals one exact rounding: quotients
        by powers of two are exact, and the others (28-bit divisors) never come within 2**-53 of a tie.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fui" or values.dtype.itemsize > 8:
            raise BitkilnError("values are not real numbers", where=f"{self.name} values",
                               got=str(values.dtype), expected="float32 or float64")
        values = values.astype(np.float64)
        if values.ndim == 0 or values.size == 0:
            raise BitkilnError("no values", where=f"{self.name} values", got=f"shape {values.shape}",
                               expected=f"shape (..., K), K a multiple of {self.block_size}")
        finite = np.isfinite(values)
        if not finite.all():
            index = np.unravel_index(int(np.argmin(finite)), values.shape)
            place = ", ".join(str(int(i)) for i in index)
            count = values.size - int(finite.sum())
            raise BitkilnError("value cannot be block-scaled", where=f"{self.name} values[{place}]",
                               got=f"{count} NaN or Inf among {values.size} values",
                               expected="finite values", help="one such value would spoil its whole block")
        missing = -values.shape[-1] % self.block_size
        if missing and not pad:
            raise BitkilnError("size is not a multiple of the block", where=f"{self.name} values",
                               got=f"last axis {values.shape[-1]}",
                               expected=f"a multiple of {self.block_size}", help="pad=True appends zeros")
        if missing:
            values = np.concatenate((values, np.zeros((*values.shape[:-1], missing))), axis=-1)
            if random_bits is not None:
                filler = np.zeros((*values.shape[:-1], missing), random_bits.dtype)
                random_bits = np.concatenate((random_bits, filler), axis=-1)
        blocks = self._blocks(values)
        amax = np.abs(blocks).max(axis=-1)
        tensor = None
        if isinstance(self.scale, PowerOfTwo):
            exponent = np.frexp(amax)[1] - 1 - self.emax
            top = (1 << self.scale.bits) - 2
            scale_codes = np.where(amax == 0, 0, np.clip(exponent + self.scale.bias, 0, top)).astype(np.uint8)
        else:
            tensor = self._tensor_scale(amax.max())
            ratio = amax / (self.element.max * float(1 if tensor is None else tensor))
            floor = np.where(amax == 0, 0, self.scale.min_positive)
            scale_codes = self.scale.encode(np.maximum(ratio, floor))
        scale = self.scale.decode(scale_codes) * float(1 if tensor is None else tensor)
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = np.where(amax[..., None] == 0, 0, blocks / np.where(scale == 0, 1, scale)[..., None])
        codes = self.element.encode(quotient.reshape(values.shape), rounding, random_bits=random_bits,
                                    overflow="saturate")
        return Blocks(codes, scale_codes, tensor)

    def _tensor_scale(self, amax: float) -> np.float32 | None:
        if not self.tensor_scale:
            return None
        with np.errstate(over="ignore"):
            scale = np.float32(amax / (self.scale.max * self.element.max))
        if amax == 0:
            return np.float32(1)
        smallest, largest = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
        return min(max(scale, smallest), largest)

    def decode(self, codes: np.ndarray, scale_codes: np.ndarray,
               tensor_scale: float | None = None) -> np.ndarray:
        """Exact float64 values; a NaN scale makes its whole block NaN."""
        codes, scale_codes = np.asarray(codes), np.asarray(scale_codes)
        expected = (*codes.shape[:-1], codes.shape[-1] // self.block_size) if codes.ndim else ()
        if not codes.ndim or codes.shape[-1] % self.block_size or scale_codes.shape != expected:
            raise BitkilnError("shapes differ", where=f"{self.name} scale_codes",
                               got=f"codes {codes.shape}, scales {scale_codes.shape}",
                               expected=f"one scale for {self.block_size} codes of the last axis")
        if self.tensor_scale != (tensor_scale is not None):
            raise BitkilnError("tensor scale missing" if self.tensor_scale else "unexpected tensor scale",
                               where=f"{self.name} tensor_scale", got=str(tensor_scale),
                               expected="the float32 scale of encode()" if self.tensor_scale else "none")
        scale = self.scale.decode(scale_codes) * float(1 if tensor_scale is None else tensor_scale)
        return (self._blocks(self.element.decode(codes)) * scale[..., None]).reshape(codes.shape)


@cache
def _groups() -> dict[str, BlockScaled]:
    e8m0, fp4 = get_format("e8m0"), get_format("fp4")
    mx = [BlockScaled(f"mx{name}", get_format(name), e8m0, 32)
          for name in ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2")]
    groups = [*mx, BlockScaled("mxint8", get_format("fixed8_6"), e8m0, 32),
              BlockScaled("nvfp4", fp4, get_format("ue4m3"), 16, tensor_scale=True),
              BlockScaled("nvfp4_ue5m3", fp4, get_format("ue5m3"), 16)]
    return {group.name: group for group in groups}


def group_format_names() -> list[str]:
    """Names that ``get_group_format`` knows."""
    return list(_groups())


def get_group_format(name: str | BlockScaled, where: str = "format") -> BlockScaled:
    """The block-scaled format of a name (``mxfp4``, ``nvfp4``, ...)."""
    if isinstance(name, BlockScaled):
        return name
    if not isinstance(name, str):
        raise BitkilnError("not a format name", where=where, got=f"{name} ({type(name).__name__})",
                           expected="a string")
    key = canonical_name(name)
    if key not in _groups():
        raise BitkilnError("unknown block-scaled format", where=where, got=name,
                           expected=", ".join(_groups()), help=nearest(key, _groups()))
    return _groups()[key]
