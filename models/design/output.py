"""Pipeline depth of the core's output lane, as the cycle model needs it; a test holds it against the RTL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formats import get_format, get_group_format
from .limits import INTEGER_BITS

if TYPE_CHECKING:
    from .matmul import MatmulDesign

__all__ = ["BLOCK_LOOP", "output_latency"]

BLOCK_LOOP = 4              # cycles between two additions to one partial sum of a block-scaled job
FLOAT_ADD = 3
UNPACK = 1
MULTIPLY = 2
CLAMP = 2
ENCODE = 2
NORMALISE_LEVELS = 3        # levels of a normaliser between two registers
LEAST_EXPONENT = -149       # of float32


def _to_float(bits: int) -> int:
    """A signed integer to a float: normalise, then round."""
    stages = (bits - 1).bit_length()
    return max(-(-stages // NORMALISE_LEVELS) - 1, 0) + 2


def output_latency(design: MatmulDesign) -> int:
    """Clock edges from a sum at an output lane to its code."""
    pe, exact = design.pe, not design.floating
    floating = "float" in design.rules
    names = [name for name in design.outputs if name != "fp32"]
    integers = [name for name in names if get_format(name).family == "int"]
    narrow = [mode for mode in pe.modes if pe.dot(mode).accumulator_bits <= INTEGER_BITS]
    scaled = "integer" in design.rules and exact and bool(integers) and bool(narrow)
    groups = [get_group_format(name) for name in design.block]
    added = design.accumulate or design.bias

    edges = int(any(len(pe.sections(mode)) > 1 for mode in pe.modes))
    if exact and added:
        edges = 2
    finest = min(pe.dot(mode).product_exponent for mode in pe.modes)
    by_adder = exact and (bool(groups) or (floating and finest < LEAST_EXPONENT))
    bits = design.raw_bits if added else pe.result_bits
    if by_adder:
        factor = max((2 * (1 + group.scale.mantissa_bits) for group in groups if group.scale.mantissa_bits), default=0)
        block = max((1 + (group.block_size * pe.dot(group.element.name).max_product).bit_length()
                     for group in groups), default=0)
        edges += bool(factor) + _to_float(max(bits, block + factor)) + FLOAT_ADD
    elif exact and floating:
        edges += _to_float(bits)
    if not exact or groups:
        edges += FLOAT_ADD * (design.accumulate + design.bias)
    if floating and (by_adder or not exact):
        edges += UNPACK
    if floating or scaled:
        edges += MULTIPLY + 1 + floating
    edges += CLAMP * floating
    if names if floating else scaled:
        edges += ENCODE * (1 + floating)
    return edges
