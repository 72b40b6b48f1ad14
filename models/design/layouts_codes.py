"""How the codes of one group of weights lie in bytes: tight, as bit planes, or as trits.

Dense little-endian packing for every width, bit planes (6 bits as 4 + 2), and five ternary codes a byte. Sizes and bit
positions only; pictures are in docs/weight_layouts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import Format, format_names, get_format
from ..formats.base import Special
from ..formats.checks import check_integer
from .weights import WeightType, weight_type, weight_type_names

__all__ = ["Packing", "Place", "TRIT_BYTES", "TRIT_CODES", "TRIT_POWERS", "TRITS", "packing_of", "trit_codes"]

TRITS = 5                    # of a byte
TRIT_POWERS = (1, 3, 9, 27, 81)
TRIT_BYTES = 3 ** TRITS      # bytes from here up to 255 are illegal
TRIT_CODES = (0, 1, 3)       # two's complement code of digit 0, 1, 2: the value modulo 3, so that a zero byte is zeros


def trit_codes(byte: int) -> tuple[int, ...] | None:
    """Codes of the five trits of a byte, first one first; None for the illegal bytes 243..255 (decoders: five zeros
    and a flag)."""
    return None if byte >= TRIT_BYTES else tuple(TRIT_CODES[byte // power % 3] for power in TRIT_POWERS)


Lengths = TypeVar("Lengths", int, np.ndarray)


class Place(NamedTuple):
    """Some bits of a code: ``width`` of them from bit ``low`` of the code lie at ``bit`` of the group's codes.

    Bit ``b`` is bit ``b % 8`` of byte ``b // 8``. A place may cross from one byte into the next.
    """

    bit: int
    width: int
    low: int


@dataclass(frozen=True)
class Packing:
    """How the codes of one group lie in bytes.

    Parameters
    ----------
    bits : int
        Of a code, 1..8.
    planes : tuple of int
        Widths of bit planes, that of the code's low bits first; they add up to ``bits``. Each plane holds its bits of
        all codes, packed tight, and starts on a byte. One plane is the dense little-endian packing.
    trits : bool
        Five ternary codes a byte, the first in the least significant base-3 digit.
    illegal : tuple of int
        Codes without a meaning: packers refuse them, decoders give zero and a flag.
    """

    bits: int
    planes: tuple[int, ...] = ()
    trits: bool = False
    illegal: tuple[int, ...] = ()

    def __post_init__(self):
        check_integer(self.bits, "packing bits", 1, 8)
        if self.trits and (self.bits != 2 or self.planes):
            raise BitkilnError("contradictory options", where="packing", got=f"trits of {self.bits} bits",
                               expected="ternary codes of 2 bits without planes")
        if not self.planes:
            object.__setattr__(self, "planes", (self.bits,))
        object.__setattr__(self, "planes", tuple(check_integer(w, "packing planes", 1, 8) for w in self.planes))
        if sum(self.planes) != self.bits:
            raise BitkilnError("planes do not fit", where="packing planes", got=str(self.planes),
                               expected=f"widths that add up to {self.bits}")

    @property
    def name(self) -> str:
        """``dense``, ``trits``, or the widths of the planes (``4+2``)."""
        return "trits" if self.trits else "dense" if len(self.planes) == 1 else "+".join(map(str, self.planes))

    def plane_bytes(self, length: Lengths) -> tuple[Lengths, ...]:
        """Bytes of each plane of a group; ``length`` may be an integer array."""
        if self.trits:
            return (-(-length // TRITS),)
        return tuple(-(-length * width // 8) for width in self.planes)

    def code_bytes(self, length: Lengths) -> Lengths:
        """Bytes of the codes of a group; ``length`` may be an integer array."""
        total, *others = self.plane_bytes(length)
        for size in others:
            total = total + size
        return total

    def places(self, index: int, length: int) -> tuple[Place, ...]:
        """Where the bits of code ``index`` lie, low bits first; of trits, the byte that the code shares with others."""
        if self.trits:
            return (Place(8 * (index // TRITS), 8, 0),)
        found, start, low = [], 0, 0
        for width, size in zip(self.planes, self.plane_bytes(length), strict=True):
            found.append(Place(8 * start + index * width, width, low))
            start, low = start + size, low + width
        return tuple(found)


def packing_of(type: str | Format | WeightType | Packing, packing: str | None = None,
               where: str = "weights") -> Packing:
    """How codes of a type are packed.

    Parameters
    ----------
    type : name of a weight type or number format, or the object
    packing : str, optional
        ``dense``, ``trits``, or widths of bit planes such as ``4+2`` (low bits first). By default trits for ternary,
        dense for all others.

    Raises
    ------
    BitkilnError
        Unknown type, more than 8 bits, or a packing that the type cannot have.
    """
    if isinstance(type, Packing):
        return type if packing is None else packing_of_bits(type.bits, type.illegal, packing, where)
    if isinstance(type, str) and type.strip().lower() in weight_type_names():
        type = weight_type(type)
    if not isinstance(type, WeightType):
        try:
            type = get_format(type, where=where)
        except BitkilnError as error:
            if error.what != "unknown format":
                raise
            raise BitkilnError("unknown weight type", where=where, got=type, expected="a weight type or number format",
                               help=nearest(str(type).lower(), [*weight_type_names(), *format_names()])) from None
        check_integer(type.bits, f"{where} bits of {type.name}", 1, 8)
        special = type.unpack(np.arange(1 << type.bits)).special
        illegal = tuple(int(code) for code in np.flatnonzero(special == Special.ILLEGAL))
    else:
        illegal = tuple(code for code, value in enumerate(type.values) if value is None)
    return packing_of_bits(type.bits, illegal, packing, where)


def packing_of_bits(bits: int, illegal: tuple[int, ...], packing: str | None, where: str) -> Packing:
    """The packing of a name for codes of some bits."""
    ternary = bits == 2 and illegal == (2,)
    if packing is None:
        packing = "trits" if ternary else "dense"
    key = str(packing).replace(" ", "").lower()
    if key == "trits":
        if not ternary:
            raise BitkilnError("not a ternary type", where=where, got=f"trits of {bits}-bit codes",
                               expected="trits for ternary codes only")
        return Packing(bits, trits=True, illegal=illegal)
    if key == "dense":
        return Packing(bits, illegal=illegal)
    widths = key.split("+")
    if not all(word.isascii() and word.isdigit() for word in widths):
        raise BitkilnError("unknown packing", where=where, got=str(packing),
                           expected="dense, trits, or widths of planes such as 4+2")
    return Packing(bits, tuple(int(word) for word in widths), illegal=illegal)
