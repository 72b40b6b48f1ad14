"""Packed weights: arrays of codes to bytes and back (`host.weights_groups`: groups with headers to streams and back).

Where each bit lies is written down in `models.design.layouts`; here arrays are moved accordingly, any number of groups
at once. Unpacking is strict by default: bytes that no packer writes (padding that is not zero, trit bytes above 242)
are an error that names the byte. With ``strict=False`` they are read as decoders in hardware read them: illegal codes
and trit bytes are zero, padding is not looked at.
"""

from __future__ import annotations

import numpy as np

from bitkiln.models.design.layouts_codes import TRIT_BYTES, TRIT_POWERS, TRITS, Packing, packing_of, trit_codes
from bitkiln.models.design.weights import WeightType
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Format

__all__ = ["pack", "unpack"]

Type = str | Format | WeightType | Packing

_TRIT_CODES = np.array([trit_codes(byte) or (0,) * TRITS for byte in range(256)], np.uint8)
_TRIT_DIGITS = np.array([0, 1, 0, 2], np.uint8)  # of the two's complement code; 2 is illegal


def pack(codes: np.ndarray, type: Type, packing: str | None = None) -> np.ndarray:
    """The codes of a group as bytes; several groups of one length at once.

    Parameters
    ----------
    codes : integer ndarray (..., length)
        Unsigned codes of the type.
    type : weight type, number format, its name, or a Packing
    packing : str, optional
        ``dense``, ``trits``, ``4+2``, ... as of `packing_of`.

    Returns
    -------
    uint8 ndarray (..., bytes)
        The last byte of each plane is filled up with zeros.

    Raises
    ------
    BitkilnError
        A code that the type does not have, or without a meaning.
    """
    layout, codes = packing_of(type, packing), np.asarray(codes)
    if codes.dtype.kind not in "iu" or not codes.ndim:
        raise BitkilnError("not codes", where="codes", got=f"{codes.dtype} {codes.shape}",
                           expected="an integer array (..., length)")
    check_codes(layout, codes)
    return encode(layout, codes.astype(np.uint8))


def check_codes(layout: Packing, codes: np.ndarray, rows: np.ndarray | None = None) -> None:
    """An error for codes that cannot be packed; ``rows`` are the numbers that the first axis has for the caller."""
    wrong = (codes < 0) | (codes >> layout.bits != 0) | np.isin(codes, layout.illegal)
    if not wrong.any():
        return
    place = np.unravel_index(int(np.argmax(wrong)), codes.shape)
    first = place[0] if rows is None else rows[place[0]]
    rule = f", not {', '.join(map(str, layout.illegal))}" if layout.illegal else ""
    raise BitkilnError("illegal code", where=f"codes[{', '.join(str(int(i)) for i in (first, *place[1:]))}]",
                       got=int(codes[place]), expected=f"0 to {(1 << layout.bits) - 1}{rule}")


def encode(layout: Packing, codes: np.ndarray) -> np.ndarray:
    """Bytes of uint8 codes that are known to be good."""
    if layout.trits:
        lead, length = codes.shape[:-1], codes.shape[-1]
        digits = np.zeros((*lead, layout.code_bytes(length) * TRITS), np.uint8)
        digits[..., :length] = _TRIT_DIGITS[codes]
        return digits.reshape(*lead, -1, TRITS) @ np.array(TRIT_POWERS, np.uint8)
    parts, low = [], 0
    for width in layout.planes:
        bits = (codes[..., None] >> np.arange(low, low + width, dtype=np.uint8)) & np.uint8(1)
        parts.append(np.packbits(bits.reshape(*codes.shape[:-1], codes.shape[-1] * width), axis=-1, bitorder="little"))
        low += width
    return np.concatenate(parts, axis=-1)


def unpack(data: np.ndarray, length: int, type: Type, packing: str | None = None, *,
           strict: bool = True) -> np.ndarray:
    """The codes in packed bytes.

    Parameters
    ----------
    data : uint8 ndarray (..., bytes)
    length : int
        Codes of each group.
    type, packing
        As of `pack`.
    strict : bool
        Refuse bytes that `pack` never writes.

    Returns
    -------
    uint8 ndarray (..., length)
    """
    layout, data = packing_of(type, packing), np.asarray(data)
    if data.dtype != np.uint8 or not data.ndim or data.shape[-1] != layout.code_bytes(length):
        raise BitkilnError("wrong number of bytes", where="data", got=f"{data.dtype} {data.shape}",
                           expected=f"uint8 (..., {layout.code_bytes(length)}) for {length} codes")
    codes = decode(layout, data, length)
    if strict:
        check_packed(layout, data, codes, np.arange(data.size).reshape(data.shape))
    return codes


def decode(layout: Packing, data: np.ndarray, length: int) -> np.ndarray:
    """Codes as a decoder reads them."""
    lead = data.shape[:-1]
    if layout.trits:
        return _TRIT_CODES[data].reshape(*lead, data.shape[-1] * TRITS)[..., :length]
    codes, start, low = np.zeros((*lead, length), np.uint8), 0, 0
    for width, size in zip(layout.planes, layout.plane_bytes(length), strict=True):
        bits = np.unpackbits(data[..., start:start + size], axis=-1, count=length * width, bitorder="little")
        bits = bits.reshape(*lead, length, width)
        for place in range(width):
            codes |= bits[..., place] << np.uint8(low + place)
        start, low = start + size, low + width
    codes[np.isin(codes, layout.illegal)] = 0
    return codes


def check_packed(layout: Packing, data: np.ndarray, codes: np.ndarray, places: np.ndarray) -> None:
    """An error where ``data`` is not what the codes pack to; ``places`` are the byte numbers of ``data``."""
    wrong = encode(layout, codes) != data
    if not wrong.any():
        return
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    byte = int(data[at])
    if layout.trits and byte >= TRIT_BYTES:
        raise BitkilnError("illegal trit byte", where=f"byte {places[at]}", got=byte,
                           expected=f"0 to {TRIT_BYTES - 1}")
    rule = f" and no code {', '.join(map(str, layout.illegal))}" if layout.illegal else ""
    raise BitkilnError("damaged codes", where=f"byte {places[at]}", got=byte,
                       expected=f"zeros behind the last code{rule}")
