"""Blocks of quantised GGUF tensors: which bit of a block belongs to which code, scale or minimum.

A weight is ``d * scale * code - dmin * minimum`` with half-precision ``d`` and ``dmin`` of the block and small integers
for the rest (``scale`` 1 and ``minimum`` 0 where a type has none; the older types have a half-precision minimum ``m``:
``d * code + m``). Everything else is a permutation of bits, written down here as one number for each item: where its
bits start.

Written from the format's description (GGUF, and the block structures of ggml, which give sizes and order of members)
and checked against the PyPI package gguf. Pictures: docs/weight_layouts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import BitkilnError, nearest

__all__ = ["BLOCKS", "BlockLayout", "IQ4_NL_VALUES", "Plane", "block_layout"]

IQ4_NL_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


class Plane(NamedTuple):
    """``width`` bits of each item of a field, those of item ``i`` from ``bits[i]`` upwards, all in one byte.

    Bit ``b`` is bit ``b % 8`` of byte ``b // 8`` of the block.
    """

    width: int
    bits: tuple[int, ...]


@dataclass(frozen=True)
class BlockLayout:
    """A type of block.

    Attributes
    ----------
    name : str
        Lower case, as ggml has it (``q4_k``).
    number : int
        Of the type in GGUF files.
    weights, bytes : int
        Of a block.
    sub : int
        Consecutive weights that share a scale (and a minimum).
    fields : mapping of str to tuple of Plane
        Planes of ``codes``, ``scales``, ``mins``, ``d``, ``dmin`` or ``m``, each field's low bits first.
    signed : tuple of str
        Fields in two's complement.
    code_bias, scale_bias : int
        Subtracted from the stored number.
    values : tuple of int, optional
        What codes stand for, if not for themselves.
    trits : tuple of (byte, digit), optional
        Of each code, instead of planes: the byte is ``ceil(256 / 243 * number)`` with five base-3 digits in
        ``number``, digit 0 the most significant one.
    """

    name: str
    number: int
    weights: int
    bytes: int
    sub: int
    fields: Mapping[str, tuple[Plane, ...]] = field(repr=False)
    signed: tuple[str, ...] = ()
    code_bias: int = 0
    scale_bias: int = 0
    values: tuple[int, ...] | None = None
    trits: tuple[tuple[int, int], ...] | None = field(default=None, repr=False)

    @property
    def bits_per_weight(self) -> float:
        """Of a block, everything counted."""
        return 8 * self.bytes / self.weights

    def places(self, name: str, index: int) -> tuple[tuple[int, int], ...]:
        """``(bit, width)`` of the parts of item ``index`` of a field, low bits first."""
        return tuple((plane.bits[index], plane.width) for plane in self.fields[name])


def _half(byte: int) -> tuple[Plane, ...]:
    """A 16-bit number at ``byte``."""
    return Plane(8, (8 * byte,)), Plane(8, (8 * byte + 8,))


def _bytes(byte: int, count: int) -> tuple[Plane, ...]:
    return (Plane(8, tuple(8 * (byte + i) for i in range(count))),)


def _rows(byte: int, width: int, run: int, count: int) -> Plane:
    """Runs of ``run`` items side by side: the first run has the lowest bits of ``run`` bytes, the next run the bits
    above, and so on; when they are full the next ``run`` bytes follow."""
    layers = 8 // width
    return Plane(width, tuple(8 * (byte + i // (run * layers) * run + i % run) + width * (i // run % layers)
                              for i in range(count)))


def _six_bits(byte: int, low: int, shift: int) -> tuple[Plane, ...]:
    """Eight 6-bit numbers of a q4_k or q5_k block: the first four in the low bits of four bytes at ``byte``; of the
    others the low four bits in a nibble of the bytes at ``low``, the upper two on top of the first four."""
    return (Plane(4, tuple(8 * (byte + i) if i < 4 else 8 * (low + i - 4) + shift for i in range(8))),
            Plane(2, tuple(8 * (byte + i % 4) + (4 if i < 4 else 6) for i in range(8))))


def _q3_k_scales(byte: int) -> tuple[Plane, ...]:
    return (Plane(4, tuple(8 * (byte + i % 8) + 4 * (i // 8) for i in range(16))),
            Plane(2, tuple(8 * (byte + 8 + i % 4) + 2 * (i // 4) for i in range(16))))


_K_SCALES = {"d": _half(0), "dmin": _half(2), "scales": _six_bits(4, 12, 0), "mins": _six_bits(8, 12, 4)}
_TQ1_TRITS = (*((i % 32, i // 32) for i in range(160)), *((32 + i % 16, i // 16) for i in range(80)),
              *((48 + i % 4, i // 4) for i in range(16)))

BLOCKS: Mapping[str, BlockLayout] = {layout.name: layout for layout in (
    BlockLayout("q4_0", 2, 32, 18, 32, {"d": _half(0), "codes": (_rows(2, 4, 16, 32),)}, code_bias=8),
    BlockLayout("q4_1", 3, 32, 20, 32, {"d": _half(0), "m": _half(2), "codes": (_rows(4, 4, 16, 32),)}),
    BlockLayout("q5_0", 6, 32, 22, 32,
                {"d": _half(0), "codes": (_rows(6, 4, 16, 32), Plane(1, tuple(range(16, 48))))}, code_bias=16),
    BlockLayout("q5_1", 7, 32, 24, 32,
                {"d": _half(0), "m": _half(2), "codes": (_rows(8, 4, 16, 32), Plane(1, tuple(range(32, 64))))}),
    BlockLayout("q8_0", 8, 32, 34, 32, {"d": _half(0), "codes": _bytes(2, 32)}, signed=("codes",)),
    BlockLayout("q2_k", 10, 256, 84, 16,
                {"scales": (Plane(4, tuple(8 * i for i in range(16))),),
                 "mins": (Plane(4, tuple(8 * i + 4 for i in range(16))),),
                 "codes": (_rows(16, 2, 32, 256),), "d": _half(80), "dmin": _half(82)}),
    BlockLayout("q3_k", 11, 256, 110, 16,
                {"codes": (_rows(32, 2, 32, 256), _rows(0, 1, 32, 256)), "scales": _q3_k_scales(96), "d": _half(108)},
                code_bias=4, scale_bias=32),
    BlockLayout("q4_k", 12, 256, 144, 32, {**_K_SCALES, "codes": (_rows(16, 4, 32, 256),)}),
    BlockLayout("q5_k", 13, 256, 176, 32, {**_K_SCALES, "codes": (_rows(48, 4, 32, 256), _rows(16, 1, 32, 256))}),
    BlockLayout("q6_k", 14, 256, 210, 16,
                {"codes": (_rows(0, 4, 64, 256), _rows(128, 2, 32, 256)), "scales": _bytes(192, 16), "d": _half(208)},
                signed=("scales",), code_bias=32),
    BlockLayout("iq4_nl", 20, 32, 18, 32, {"d": _half(0), "codes": (_rows(2, 4, 16, 32),)}, values=IQ4_NL_VALUES),
    BlockLayout("tq1_0", 34, 256, 54, 256, {"d": _half(52)}, code_bias=1, trits=_TQ1_TRITS),
    BlockLayout("tq2_0", 35, 256, 66, 256, {"codes": (_rows(0, 2, 32, 256),), "d": _half(64)}, code_bias=1),
)}


def block_layout(name: str, where: str = "block type") -> BlockLayout:
    """The layout of a type's blocks (``q4_k``; any case).

    Raises
    ------
    BitkilnError
        Unknown name.
    """
    key = str(name).lower()
    if key not in BLOCKS:
        raise BitkilnError("unknown block type", where=where, got=str(name), expected=", ".join(BLOCKS),
                           help=nearest(key, BLOCKS))
    return BLOCKS[key]
