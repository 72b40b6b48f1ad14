"""Where the bits of packed weights lie: codes in bytes, headers of groups, groups in a stream.

A group is a header, then its codes::

    select   scale   negative   zero     codes ...
    1 byte   1 byte  1 byte     1 byte   ceil(length * bits / 8) bytes, first code in the lowest bits

Each byte of the header is there only when the layout has its field. Groups lie one after the other and every one
starts on a word (``align`` bytes). With ``bundle`` above 1 that many headers stand together before the codes of their
groups, so that short headers fill whole words (four MX blocks: a word of scales, 16 words of codes, nothing wasted).

Sizes, offsets and bit positions only, for RTL and host alike; `host.weights` moves arrays. Pictures:
docs/weight_layouts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import BitkilnError
from ..formats import Format, get_group_format, group_format_names
from ..formats.checks import check_integer
from ..formats.registry import canonical_name
from .layouts_codes import Packing, Place, packing_of
from .weights import WeightType, weight_type, weight_type_names

if TYPE_CHECKING:
    from .bitserial import BitSerialDesign

__all__ = ["Field", "GroupLayout", "Offsets", "Packing", "Place", "bits_per_weight", "group_bytes", "group_layout",
           "packing_of"]

TYPE_BITS, SPECIAL_BITS = 3, 2
MAX_TYPES, MAX_ALIGN, MAX_BUNDLE = 1 << TYPE_BITS, 64, 64


class Field(NamedTuple):
    """A field of a group's header at ``bit`` (bit ``b % 8`` of byte ``b // 8``)."""

    name: str
    bit: int
    width: int
    signed: bool


class Offsets(NamedTuple):
    """Byte numbers in a stream of groups."""

    headers: np.ndarray  # int64 (groups,)
    codes: np.ndarray    # int64 (groups,)
    total: int


@dataclass(frozen=True)
class GroupLayout:
    """Groups in a byte stream.

    Parameters
    ----------
    packings : tuple of Packing or type names
        One for each weight type of the stream, at most eight; the place in the tuple is the type selector.
    select : bool or None
        Whether headers have the byte with type and special-value selector. None: with two types or more.
    scale_bits : int
        Of a scale code, 0..8; 0 for no scale.
    dual_scale : bool
        A second scale code, for negative weights (AFPQ, arXiv 2311.01792).
    zero_point : int
        Bits of a signed zero-point, 0..8; 0 for none. In memory it fills its byte, sign-extended.
    align : int
        Bytes of a word: groups (bundles of groups) start on a multiple of it. A power of two, 1..64.
    bundle : int
        Groups whose headers stand together, 1..64; a row ends its last bundle wherever it ends.
    """

    packings: tuple[Packing, ...]
    select: bool | None = None
    scale_bits: int = 8
    dual_scale: bool = False
    zero_point: int = 0
    align: int = 4
    bundle: int = 1

    def __post_init__(self):
        given = self.packings if isinstance(self.packings, (tuple, list)) else (self.packings,)
        packings = tuple(packing_of(p, where=f"packings[{i}]") for i, p in enumerate(given))
        object.__setattr__(self, "packings", packings)
        if not 1 <= len(packings) <= MAX_TYPES:
            raise BitkilnError("wrong number of weight types", where="packings", got=len(packings),
                               expected=f"1 to {MAX_TYPES}")
        if self.select is None:
            object.__setattr__(self, "select", len(packings) > 1)
        if len(packings) > 1 and not self.select:
            raise BitkilnError("contradictory options", where="select", got="False",
                               expected=f"a type selector with {len(packings)} weight types")
        check_integer(self.scale_bits, "scale_bits", 0, 8)
        check_integer(self.zero_point, "zero_point", 0, 8)
        check_integer(self.align, "align", 1, MAX_ALIGN)
        check_integer(self.bundle, "bundle", 1, MAX_BUNDLE)
        if self.align & (self.align - 1):
            raise BitkilnError("out of range", where="align", got=self.align, expected="a power of two, 1 to 64")
        if self.dual_scale and not self.scale_bits:
            raise BitkilnError("contradictory options", where="dual_scale", got="True", expected="scale_bits above 0")

    @classmethod
    def of(cls, design: BitSerialDesign, *, packings: tuple[str | None, ...] | None = None, align: int = 4,
           bundle: int = 1) -> GroupLayout:
        """The groups that an engine takes; ``packings`` names one for each weight type (None: the usual one)."""
        names = packings or (None,) * len(design.weights)
        if len(names) != len(design.weights):
            raise BitkilnError("wrong number of packings", where="packings", got=len(names),
                               expected=f"{len(design.weights)}, one for each weight type")
        special = any(t.special_code is not None for t in design.weights)
        return cls(tuple(packing_of(t, p) for t, p in zip(design.weights, names, strict=True)),
                   select=special or len(names) > 1, scale_bits=design.scale_code_bits,
                   dual_scale=design.dual_scale, zero_point=design.zero_point, align=align, bundle=bundle)

    @property
    def header(self) -> tuple[Field, ...]:
        """Fields of a group's header; bits that none of them covers are zero."""
        fields, byte = [], 0
        if self.select:
            fields += [Field("type", 0, TYPE_BITS, False), Field("special", TYPE_BITS, SPECIAL_BITS, False)]
            byte = 1
        for name, width, signed in (("scale", self.scale_bits, False),
                                    ("negative", self.scale_bits * self.dual_scale, False),
                                    ("zero", 8 * bool(self.zero_point), True)):
            if width:
                fields.append(Field(name, 8 * byte, width, signed))
                byte += 1
        return tuple(fields)

    @property
    def header_bytes(self) -> int:
        """Of one group, 0..4."""
        return bool(self.select) + bool(self.scale_bits) + self.dual_scale + bool(self.zero_point)

    def offsets(self, lengths: np.ndarray, types: np.ndarray, per_row: int | None = None) -> Offsets:
        """Where each group of a stream lies.

        Parameters
        ----------
        lengths : integer ndarray (groups,)
            Codes of each group.
        types : integer ndarray (groups,)
            Type selector of each group.
        per_row : int, optional
            Groups of a row (a channel); bundles end with it. By default all groups are one row.
        """
        lengths, types = np.asarray(lengths, np.int64), np.asarray(types)
        groups = len(lengths)
        if not groups:
            return Offsets(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
        per_row = per_row or groups
        row, at = np.divmod(np.arange(groups), per_row)
        bundle = row * -(-per_row // self.bundle) + at // self.bundle
        sizes = np.choose(types, [p.code_bytes(lengths) for p in self.packings])
        before = np.cumsum(sizes) - sizes
        first = np.searchsorted(bundle, np.arange(bundle[-1] + 1))
        heads = self.header_bytes * np.bincount(bundle)
        used = heads + np.add.reduceat(sizes, first)
        room = -(-used // self.align) * self.align
        start = np.cumsum(room) - room
        headers = start[bundle] + self.header_bytes * (at % self.bundle)
        codes = (start + heads)[bundle] + before - before[first][bundle]
        return Offsets(headers, codes, int(room.sum()))

    def bundle_bytes(self, lengths: tuple[int, ...], types: tuple[int, ...] | None = None) -> int:
        """Bytes of one bundle of groups, padding included."""
        kinds = types or (0,) * len(lengths)
        used = sum(self.header_bytes + self.packings[t].code_bytes(n) for n, t in zip(lengths, kinds, strict=True))
        return -(-used // self.align) * self.align

    def group_bytes(self, length: int, type: int = 0) -> int:
        """Bytes of a group that stands alone, padding included."""
        return self.bundle_bytes((length,), (type,))

    def bits_per_weight(self, length: int, type: int = 0, *, groups: int | None = None, row_bits: int = 0) -> float:
        """Bits in memory for each weight, headers and padding included.

        Parameters
        ----------
        length : int
            Of every group.
        groups : int, optional
            In a row, by default a full bundle.
        row_bits : int
            What a row has besides (a float32 scale of the channel: 32).
        """
        groups = groups or self.bundle
        full, rest = divmod(groups, self.bundle)
        size = full * self.bundle_bytes((length,) * self.bundle, (type,) * self.bundle)
        size += self.bundle_bytes((length,) * rest, (type,) * rest) if rest else 0
        return (8 * size + row_bits) / (groups * length)

    def aligned(self, length: int, type: int = 0) -> bool:
        """Whether in full bundles of such groups the codes of each start on a word and no byte is padding."""
        heads, codes = self.header_bytes * self.bundle, self.packings[type].code_bytes(length)
        return heads % self.align == 0 and codes % self.align == 0


def group_layout(type: str | WeightType | Format | Packing, *, packing: str | None = None,
                 **options: Any) -> GroupLayout:
    """The layout of groups of one weight type.

    Parameters
    ----------
    type : str or object
        Weight type, number format, or block-scaled format (``mxfp4``, ``nvfp4``: headers are one scale byte, and four
        blocks share a bundle).
    packing : str, optional
        As of `packing_of`.
    **options
        Further parameters of `GroupLayout`; types with special values have the select byte by default.
    """
    key = canonical_name(type) if isinstance(type, str) else None
    if key in group_format_names():
        blocks = get_group_format(key)
        return GroupLayout((packing_of(blocks.element, packing),),
                           **{"scale_bits": blocks.scale.bits, "bundle": 4, **options})
    packed = packing_of(type, packing)
    kind = weight_type(key) if key in weight_type_names() else type
    if isinstance(kind, WeightType):
        options = {"select": kind.special_code is not None, **options}
    return GroupLayout((packed,), **options)


def group_bytes(type: str | WeightType | Format | Packing, length: int, **options: Any) -> int:
    """Bytes of a group that stands alone (options of `group_layout`)."""
    return group_layout(type, **options).group_bytes(check_integer(length, "length", 1, 1 << 20))


def bits_per_weight(type: str | WeightType | Format | Packing, length: int, *, groups: int | None = None,
                    row_bits: int = 0, **options: Any) -> float:
    """Bits in memory for each weight of such groups (`GroupLayout.bits_per_weight`, options of `group_layout`)."""
    layout = group_layout(type, **options)
    return layout.bits_per_weight(check_integer(length, "length", 1, 1 << 20), groups=groups, row_bits=row_bits)
