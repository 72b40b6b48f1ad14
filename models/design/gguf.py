"""What the dequantising core needs for the blocks of GGUF tensors: types of codes, scales, zero-points, widths.

A weight of a block is ``d * scale * code - dmin * minimum`` (`layouts_blocks`). On the core each block of a row is a
channel of a job of its own: ``d`` is the channel's float32 scale, ``scale`` that of a group, and the codes are two's
complement numbers. Two things go through the zero-point ``z`` of a group, whose sum is ``sum(a * (c - z))``:

- an unsigned code ``q`` of b bits is ``c = q - 2**(b - 1)`` with ``z = -2**(b - 1)``: four bits are two Booth digits,
  two terms, where the plain number needs three;
- a negative scale becomes its magnitude, and the codes its complement ``c = ~q`` with ``z = -1``, for ``-q`` is
  ``~q + 1``: the codes keep their width, although ``-q`` does not fit it where ``q`` is the least of its numbers.

Minima are channels too: all codes +1 (one bit each), the groups' scales are the minima, the channel's is ``-dmin``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BitkilnError
from .bitserial import BitSerialDesign
from .dequant import DequantDesign
from .layouts_blocks import BLOCKS, BlockLayout, block_layout
from .weights import WeightType, weight_type

__all__ = ["CoreForm", "ONES", "core_form", "gguf_design"]

ONES = weight_type("binary")    # code 1 is +1: the weights of a minimum
SCALES = ("uint4", "uint6", "uint8")


@dataclass(frozen=True)
class CoreForm:
    """How the blocks of a type run on the core.

    Attributes
    ----------
    layout : BlockLayout
    weight : WeightType
        Of the codes ``c``.
    zero : int
        Zero-point of groups whose scale is not negative.
    signed_scale : bool
        Groups with a negative scale have complemented codes and zero-point -1.
    scale_bits : int
        Of the scales' magnitudes and of the minima; 1 where all are 1.
    minimum : bool
        Each block has a second channel.
    """

    layout: BlockLayout
    weight: WeightType
    zero: int
    signed_scale: bool
    scale_bits: int
    minimum: bool

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.layout.sub

    @property
    def channels(self) -> int:
        """Of a block of one row."""
        return 2 if self.minimum else 1

    @property
    def weights(self) -> tuple[WeightType, ...]:
        """Weight types that its groups have."""
        return (self.weight, ONES) if self.minimum else (self.weight,)

    @property
    def zero_bits(self) -> int:
        """Of its zero-points, in two's complement; 0 where all are 0."""
        return (-self.zero - 1).bit_length() + 1 if self.zero else int(self.signed_scale)


def _widths(layout: BlockLayout, name: str) -> int:
    return sum(plane.width for plane in layout.fields[name])


def core_form(type: str | BlockLayout) -> CoreForm:
    """How a type of block runs on the core.

    Raises
    ------
    BitkilnError
        Unknown type.
    """
    layout = type if isinstance(type, BlockLayout) else block_layout(type, where="GGUF type")
    bits = 2 if layout.trits is not None else _widths(layout, "codes")
    half = 1 << bits - 1
    zero = 0
    if layout.values is not None:
        weight = WeightType(layout.name, bits, layout.values)
    else:
        weight = weight_type(f"int{bits}")
        zero = 0 if "codes" in layout.signed or layout.trits is not None else layout.code_bias - half
    scale_bits, signed = 1, False
    if "scales" in layout.fields:
        scale_bits = _widths(layout, "scales")
        signed = "scales" in layout.signed or layout.scale_bias > 0
    return CoreForm(layout, weight, zero, signed, scale_bits, "mins" in layout.fields or "m" in layout.fields)


def gguf_design(types: str | Iterable[str] = tuple(BLOCKS), *, rows: int = 1, columns: int = 1, lanes: int = 4,
                activation: str = "fp16", bus_bytes: int | None = None, **options) -> DequantDesign:
    """The smallest dequantising core that runs tensors of some GGUF types (by default of every type).

    Results are float32, one for each block: host software adds them (`workloads.gguf_core`).

    Parameters
    ----------
    types : name or names of block types
    rows, columns, lanes, activation, **options
        Of `BitSerialDesign`.
    bus_bytes : int, optional
        Of the weight stream. By default the smallest word with which groups arrive as fast as they are used.
    """
    forms = [core_form(type) for type in ([types] if isinstance(types, str) else types)]
    if not forms:
        raise BitkilnError("no GGUF type", where="types", got="none", expected=f"some of {', '.join(BLOCKS)}")
    weights = tuple({w.name: w for form in forms for w in form.weights}.values())
    zero_bits = max(form.zero_bits for form in forms)
    scale_bits = max(form.scale_bits for form in forms)
    plain = scale_bits == 1 and not zero_bits
    scale = "none" if plain else next(s for s in SCALES if int(s.removeprefix("uint")) >= scale_bits)
    array = BitSerialDesign(weights, activation, lanes, rows, columns, scale=scale,
                            group=max(form.group for form in forms),
                            groups=max(form.layout.weights // form.group for form in forms), zero_point=zero_bits,
                            **options)
    chunks = max(form.layout.weights // form.group * -(-form.group // lanes) for form in forms)
    design = DequantDesign(array, bus_bytes=bus_bytes, k_chunks=max(chunks, 16), channel_scale=True)
    while bus_bytes is None and design.bus_bytes < 32 and not all(_keeps_up(design, form) for form in forms):
        design = design.with_options(bus_bytes=2 * design.bus_bytes)
    return design


def _keeps_up(design: DequantDesign, form: CoreForm) -> bool:
    """Whether a block's words of all columns take no more cycles than its terms, scales and results."""
    array, layout = design.array, form.layout
    groups = layout.weights // form.group
    at = array.weights.index(form.weight)
    words = array.columns * (groups * design.layout.group_bytes(form.group, at) // design.bus_bytes + 1)
    busy = groups * max(-(-form.group // array.lanes) * form.weight.terms, array.scale_cycles)
    return words <= max(busy, array.rows * array.columns)
