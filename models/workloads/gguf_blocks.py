"""Values of GGUF tensors: blocks of bytes to integers with scales, and to float32.

The integers are the form that a bit-serial dequantiser takes: codes, a small integer scale for each sub-block, and two
factors for each block, ``w = d * scale * code - dmin * minimum``. The products have 23 significant bits at most and are
exact in float32; only taking the minimum off rounds, so the float32 value of a weight is the exact one rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..design.layouts_blocks import BlockLayout, block_layout
from ..errors import BitkilnError

__all__ = ["IntegerBlocks", "decode_blocks", "decode_floats", "integer_blocks", "pack_blocks", "unpack_blocks"]

PIECE = 1 << 14  # blocks that are taken apart at a time: temporaries stay in the cache
FLOATS: dict[str, np.dtype] = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "bf16": np.dtype("<u2")}


@dataclass(frozen=True, eq=False)
class IntegerBlocks:
    """A quantised tensor as integers: ``w = d * scales * codes - dmin * mins``.

    Attributes
    ----------
    codes : int8 ndarray (..., K)
        -128..127; the type's bias is taken off already.
    scales : int8 ndarray (..., K / sub)
        -128..127, of ``sub`` consecutive codes; 1 where the type has none.
    mins : uint8 ndarray (..., K / sub)
        0..63; 0 where the type has none.
    d, dmin : float32 ndarray (..., K / block)
        Half-precision numbers. Types with a half-precision minimum ``m`` have ``dmin = -m`` and ``mins`` 1.
    sub, block : int
        Weights of a sub-block and of a block.
    """

    codes: np.ndarray
    scales: np.ndarray
    mins: np.ndarray
    d: np.ndarray
    dmin: np.ndarray
    sub: int
    block: int

    def values(self, dtype: type = np.float64) -> np.ndarray:
        """The weights: exact in float64, the exact value rounded once in float32."""
        per_block = self.block // self.sub
        with np.errstate(invalid="ignore"):  # a factor may be infinite or NaN
            factor = np.repeat(self.d, per_block, axis=-1).astype(dtype) * self.scales
            out = (factor[..., None] * self._subs(self.codes)).astype(dtype)
            if self.mins.any():
                out -= (np.repeat(self.dmin, per_block, axis=-1).astype(dtype) * self.mins)[..., None]
        return out.reshape(self.codes.shape)

    def _subs(self, codes: np.ndarray) -> np.ndarray:
        return codes.reshape(*codes.shape[:-1], -1, self.sub)


def _checked(layout: BlockLayout | str, data: np.ndarray) -> tuple[BlockLayout, np.ndarray]:
    layout = block_layout(layout) if isinstance(layout, str) else layout
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != layout.bytes:
        raise BitkilnError("not blocks of this type", where=layout.name, got=f"{data.dtype} {data.shape}",
                           expected=f"uint8 (blocks, {layout.bytes})")
    return layout, data


def unpack_blocks(layout: BlockLayout | str, data: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of blocks as they are stored.

    Parameters
    ----------
    layout : BlockLayout or name
    data : uint8 ndarray (blocks, bytes of a block)

    Returns
    -------
    dict of ndarray (blocks, items)
        uint8 (int8 for fields in two's complement), float16 for ``d``, ``dmin`` and ``m``; biases still in.
    """
    layout, data = _checked(layout, data)
    fields: dict[str, np.ndarray] = {}
    for name, planes in layout.fields.items():
        if len(planes) == 2 and planes[1].width == 8:
            start = planes[0].bits[0] // 8
            fields[name] = np.ascontiguousarray(data[:, start:start + 2]).view("<f2").astype(np.float16)
            continue
        total, low = np.zeros((len(data), len(planes[0].bits)), np.uint8), 0
        for width, bits in planes:
            byte, shift = np.divmod(np.array(bits), 8)
            part = (data[:, byte] >> shift.astype(np.uint8)) & np.uint8((1 << width) - 1)
            total |= part << np.uint8(low)
            low += width
        fields[name] = total.view(np.int8) if name in layout.signed else total
    if layout.trits is not None:
        byte, digit = np.array(layout.trits).T
        shifted = data[:, byte] * (3 ** digit).astype(np.uint8)  # modulo 256: the digits before this one are gone
        fields["codes"] = (shifted.astype(np.uint16) * 3 >> 8).astype(np.uint8)
    return fields


def pack_blocks(layout: BlockLayout | str, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Blocks of fields: the inverse of `unpack_blocks`.

    Returns
    -------
    uint8 ndarray (blocks, bytes of a block)

    Raises
    ------
    BitkilnError
        A field is missing, of the wrong shape, or a number does not fit its bits.
    """
    layout = block_layout(layout) if isinstance(layout, str) else layout
    expected = dict.fromkeys(layout.fields) | ({"codes": None} if layout.trits else {})
    if set(fields) != set(expected):
        raise BitkilnError("wrong fields", where=layout.name, got=", ".join(fields), expected=", ".join(expected))
    blocks = len(next(iter(fields.values())))
    out = np.zeros((blocks, layout.bytes), np.uint8)
    for name, planes in layout.fields.items():
        values = np.asarray(fields[name])
        if len(planes) == 2 and planes[1].width == 8:
            start = planes[0].bits[0] // 8
            out[:, start:start + 2] = values.astype("<f2").reshape(blocks, 1).view(np.uint8)
            continue
        width = sum(plane.width for plane in planes)
        signed = name in layout.signed
        values = _in_range(layout, name, values, (blocks, len(planes[0].bits)), -(1 << width - 1) if signed else 0,
                           (1 << width - signed) - 1)
        for plane in planes:
            part = (values & ((1 << plane.width) - 1)).astype(np.uint8)
            values = values >> plane.width
            byte, shift = np.divmod(np.array(plane.bits), 8)
            for one in range(8):  # a byte has at most one item at each shift
                at = np.flatnonzero(shift == one)
                out[:, byte[at]] |= part[:, at] << np.uint8(one)
    if layout.trits is not None:
        codes = _in_range(layout, "codes", np.asarray(fields["codes"]), (blocks, layout.weights), 0, 2)
        byte, digit = np.array(layout.trits).T
        number = np.zeros((blocks, layout.bytes), np.int64)
        for one in range(5):
            at = np.flatnonzero(digit == one)
            number[:, byte[at]] += codes[:, at] * 3 ** (4 - one)
        used = np.unique(byte)
        out[:, used] = (number[:, used] * 256 + 242) // 243
    return out


def _in_range(layout: BlockLayout, name: str, values: np.ndarray, shape: tuple[int, int], low: int,
              high: int) -> np.ndarray:
    """Integers of that shape, none beyond the limits."""
    if values.shape != shape or values.dtype.kind not in "iu":
        raise BitkilnError("wrong field", where=f"{layout.name} {name}", got=f"{values.dtype} {values.shape}",
                           expected=f"integers {shape}")
    if values.size and (values.min() < low or values.max() > high):
        raise BitkilnError("out of range", where=f"{layout.name} {name}",
                           got=int(values.min() if values.min() < low else values.max()), expected=f"{low} to {high}")
    return values.astype(np.int64)


def integer_blocks(layout: BlockLayout | str, data: np.ndarray, shape: tuple[int, ...] | None = None) -> IntegerBlocks:
    """Blocks as integers with scales.

    Parameters
    ----------
    layout : BlockLayout or name
    data : uint8 ndarray (blocks, bytes of a block)
    shape : tuple of int, optional
        Of the tensor, its last axis made of whole blocks; by default (blocks * weights,).
    """
    layout, data = _checked(layout, data)
    stored = unpack_blocks(layout, data)
    blocks, subs = len(data), layout.weights // layout.sub
    codes = stored["codes"].view(np.int8)
    if layout.values is not None:
        codes = np.array(layout.values, np.int8)[stored["codes"]]
    elif layout.code_bias:
        codes = codes - np.int8(layout.code_bias)
    scales = stored["scales"].view(np.int8) - np.int8(layout.scale_bias) if "scales" in stored else \
        np.ones((blocks, subs), np.int8)
    if "m" in stored:
        mins, dmin = np.ones((blocks, subs), np.uint8), -stored["m"]
    else:
        mins = stored.get("mins", np.zeros((blocks, subs), np.uint8))
        dmin = stored.get("dmin", np.zeros((blocks, 1), np.float16))
    lead = (*(shape or (codes.size,))[:-1], -1)
    return IntegerBlocks(codes.reshape(lead), scales.reshape(lead), mins.reshape(lead),
                         stored["d"].astype(np.float32).reshape(lead), dmin.astype(np.float32).reshape(lead),
                         layout.sub, layout.weights)


def decode_blocks(layout: BlockLayout | str, data: np.ndarray) -> np.ndarray:
    """float32 values (blocks, weights): each the exact value rounded once."""
    layout, data = _checked(layout, data)
    out = np.empty((len(data), layout.weights), np.float32)
    for at in range(0, len(data), PIECE):
        piece = data[at:at + PIECE]
        out[at:at + PIECE] = integer_blocks(layout, piece, (len(piece), layout.weights)).values(np.float32)
    return out


def decode_floats(type: str, data: np.ndarray) -> np.ndarray:
    """float32 values of the bytes of an ``f32``, ``f16`` or ``bf16`` tensor."""
    raw = np.ascontiguousarray(data).view(FLOATS[type])
    if type == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)
