# amaranth: UnusedElaboratable=no
"""Datasheet sections of the bit-serial array."""

from __future__ import annotations

from ..hw.dequant.array import BitSerialArray, activation_layout, result_layout, weight_layout
from ..models.cost.bitserial import pipeline_depth
from ..models.design.bitserial import BitSerialDesign
from .datasheet import Datasheet

__all__ = ["array_datasheet"]


def _types(design: BitSerialDesign) -> str:
    lines = ["| type | name | bits | terms | step | largest | special values |", "|---|---|---|---|---|---|---|"]
    for index, weight in enumerate(design.weights):
        largest = max(abs(v or 0) for v in weight.values)
        special = ", ".join(f"{weight.real(v):g}" for v in weight.specials) or "-"
        lines.append(f"| {index} | {weight.name} | {weight.bits} | {weight.terms} | {weight.real(1):g} | "
                     f"{weight.real(largest):g} | {special} |")
    return "\n".join(lines)


def _fields(title: str, layout, prefix: str = "") -> list[str]:
    """Bits of a layout's fields."""
    rows = [f"| {title} | bits |", "|---|---|"]
    for name, field in layout:
        rows.append(f"| {prefix}{name} | {field.offset} to {field.offset + field.width - 1} |")
    return rows


def array_datasheet(design: BitSerialDesign) -> Datasheet:
    """README of an array."""
    array = BitSerialArray(design)
    kind = ("Sums are exact: fixed point, without any rounding." if design.accumulate == "exact" else
            f"Activations are aligned to the largest of their group so far and keep {design.guard} bits below its "
            f"significand ({design.rounding}).")
    what = (f"{design.rows} x {design.columns} PEs of {design.lanes} lanes; {design.activation.name} activations. Each "
            "weight becomes a few signed powers of two, one a cycle; a chunk is one weight and one activation a lane. "
            f"{kind} " + ("Groups of a channel are added up, times their scales, until `emit`." if design.sums_channel
                          else "Each group is a result."))
    timing = (f"- A chunk takes as many cycles as its weights have terms"
              f"{' (zero_skip: at least one)' if design.zero_skip else ''}.\n"
              f"- N groups of C chunks of t terms: `N * max(C * t, {design.scale_cycles}"
              f"{f', {design.rows}' if design.rows > 1 else ''}) + {design.scale_cycles} + {pipeline_depth(design)}` "
              "cycles to the first row of the last result; no stall where `C * t` is the largest.\n"
              f"- The queue holds {array.depth} rows of results; behind a full one the last step of a channel waits.\n"
              "- Reset is synchronous. Nothing is combinational from any `ready` to any `valid`.")
    layouts = "\n".join([
        *_fields("`w` payload", weight_layout(design)), "",
        "`codes`: by column, then lane, the first lowest. `groups`: by column, in a group's first chunk only:", "",
        *_fields("group of a column", weight_layout(design)["groups"].shape.elem_shape), "",
        f"`a` payload: {activation_layout(design).size} bits, codes by row, then lane.", "",
        *_fields("`o` payload", result_layout(design))])
    return Datasheet(
        {"What it does": what + "\n\n" + _types(design), "Timing": timing, "Payloads": layouts},
        {"w__": "weights and metadata of a group", "a__": "activations", "o__": "results, a row at a time",
         "special__": "an entry of the special-value table, taken while not busy",
         "busy": "a channel has begun and its last result was not taken", "stalls": "cycles in which a step waited"})
