# amaranth: UnusedElaboratable=no
"""Datasheet sections of the bit-serial array."""

from __future__ import annotations

from ..hw.dequant.array import BitSerialArray, activation_layout, result_layout, weight_layout
from ..hw.dequant.core import activation_word_layout
from ..hw.dequant.results import output_layout
from ..hw.dequant.walk import job_layout
from ..models.cost.cycles.bitserial import pipeline_depth
from ..models.design.bitserial import BitSerialDesign
from ..models.design.dequant import DequantDesign
from .datasheet import Datasheet, count

__all__ = ["array_datasheet", "core_datasheet", "layout_rows"]


def _types(design: BitSerialDesign) -> str:
    lines = ["| type | name | bits | terms | step | largest | special values |", "|---|---|---|---|---|---|---|"]
    for index, weight in enumerate(design.weights):
        largest = max(abs(v or 0) for v in weight.values)
        special = ", ".join(f"{weight.real(v):g}" for v in weight.specials) or "-"
        lines.append(f"| {index} | {weight.name} | {weight.bits} | {weight.terms} | {weight.real(1):g} | "
                     f"{weight.real(largest):g} | {special} |")
    return "\n".join(lines)


def layout_rows(title: str, layout, prefix: str = "") -> list[str]:
    """Bits of a layout's fields."""
    rows = [f"| {title} | bits |", "|---|---|"]
    for name, field in layout:
        rows.append(f"| {prefix}{name} | {field.offset} to {field.offset + field.width - 1} |")
    return rows


def array_datasheet(design: BitSerialDesign) -> Datasheet:
    """README of an array."""
    array = BitSerialArray(design)
    kind = {"exact": "Sums are exact: fixed point, without any rounding.",
            "aligned": f"Activations are aligned to the largest of their group so far and keep {design.guard} bits "
                       f"below its significand ({design.rounding}).",
            "floating": f"The products of a cycle are aligned to the largest of them, keep {design.guard} bits below "
                        f"its significand ({design.rounding}) and are added to a normalised sum of {design.mantissa} "
                        "bits.",
            }[design.accumulate]
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
        *layout_rows("`w` payload", weight_layout(design)), "",
        "`codes`: by column, then lane, the first lowest. `groups`: by column, in a group's first chunk only:", "",
        *layout_rows("group of a column", weight_layout(design)["groups"].shape.elem_shape), "",
        f"`a` payload: {activation_layout(design).size} bits, codes by row, then lane.", "",
        *layout_rows("`o` payload", result_layout(design))])
    return Datasheet(
        {"What it does": what + "\n\n" + _types(design), "Timing": timing, "Payloads": layouts},
        {"w__": "weights and metadata of a group", "a__": "activations", "o__": "results, a row at a time",
         "special__": "an entry of the special-value table, taken while not busy",
         "busy": "a channel has begun and its last result was not taken", "stalls": "cycles in which a step waited"},
        {"Array": f"{design.rows} x {design.columns} PEs of {count(design.lanes, 'lane')}",
         "Weights": ", ".join(weight.name for weight in design.weights), "Activations": design.activation.name,
         "Sum": f"{design.accumulate}, {design.sum_bits} bits",
         "Groups": f"up to {count(design.group, 'weight')}, scale {design.scale}",
         "Cycles a weight": ", ".join(f"{weight.terms} {weight.name}" for weight in design.weights),
         "Results": "float32" if design.output == "fp32" else "raw sums"})


def core_datasheet(design: DequantDesign) -> Datasheet:
    """README of a core."""
    array = design.array
    inner = array_datasheet(array)
    sums = ("Groups are summed exactly, times their integer scales, and rounded to float32 once" if array.sums_channel
            else "Each group is rounded to float32 and added in float32 in ascending order")
    what = (f"Activations times packed weights: up to {array.rows} rows against any number of channels in a job. "
            f"{sums}; " + ("then comes the channel's float32 scale, one rounding. " if design.channel_scale else "")
            + (f"Results leave as {design.output.name} (nearest even, saturating)."
               if design.output.name != "fp32" else "Results leave as float32."))
    layout = design.layout
    header = "\n".join(["| header of a group | bits |", "|---|---|",
                        *(f"| {f.name} | {f.bit} to {f.bit + f.width - 1} |" for f in layout.header)])
    rows = ["| type | packing | bytes of a full group | bits a weight |", "|---|---|---|---|"]
    for index, weight in enumerate(array.weights):
        size = layout.group_bytes(array.group, index)
        rows.append(f"| {weight.name} | {layout.packings[index].name} | {size} | {8 * size / array.group:.3f} |")
    stream = (f"Words of {8 * design.bus_bytes} bits. Channels in tiles of {array.columns}: "
              + ("their float32 scales, one a word, then " if design.channel_scale else "")
              + "group by group, channel by channel, a header and the codes, each group filled up to a word "
              "(docs/weight_layouts.md draws the bits).\n\n" + "\n".join(rows) + "\n\n" + header)
    payloads = "\n".join([*layout_rows("`job` payload", job_layout(design)), "",
                          *layout_rows("`activation` payload", activation_word_layout(design)), "",
                          f"Activations: chunk by chunk of {array.lanes}, row by row ({array.rows} rows, zeros where "
                          "the job has fewer); every group begins a new chunk; `last` with the job's last word.", "",
                          *layout_rows("`o` payload", output_layout(design)), "",
                          "Results: tile by tile, row by row, channel by channel; `last` with the job's last one."])
    return Datasheet(
        {"What it does": what + "\n\n" + inner.sections["What it does"], "Timing": inner.sections["Timing"],
         "Weights": stream, "Payloads": payloads},
        {"job__": "k, group size, channels, rows", "weight__": "packed groups", "activation__": "codes of a chunk",
         "o__": "results", "special__": "an entry of the special-value table, taken between jobs",
         "busy": "a job is under way", "mismatch": "a job's activations were too few or too many (sticky)",
         "stalls": "cycles in which the array held a step back", "starved": "cycles in which it waited for operands"},
        {**inner.glance, "Results": design.output.name, "Weight stream": f"{8 * design.bus_bytes} bits",
         "Longest K": f"{count(design.k_chunks * array.lanes, 'weight')}"
                      + (f", {count(array.groups, 'group')}" if array.sums_channel else "")})
