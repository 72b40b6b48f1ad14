"""Datasheet sections of a dot unit."""

from __future__ import annotations

from ..models.design import DotDesign
from .datasheet import FLAGS, Datasheet, count, format_table

__all__ = ["dot_datasheet"]

def dot_datasheet(design: DotDesign) -> Datasheet:
    """README of a dot unit."""
    accumulator, exponent = design.accumulator, design.product_exponent
    bound = design.accumulator.depth * design.max_product
    summary = (f"Each clock cycle with `en`, the {design.lanes} product{'s' * (design.lanes > 1)} "
               f"`{design.activation.name}` x `{design.weight.name}` are summed ")
    if accumulator.kind == "fp32":
        summary += "exactly and added to a float32 accumulator with one rounding to nearest even per cycle."
        sums = "`acc` is the code of a float32 (subnormals kept, NaN is 0x7FC00000)."
    else:
        summary += "and added to the accumulator without any rounding."
        sums = (f"`acc` is a two's complement integer of {design.accumulator_bits} bits; its value is "
                f"`acc * 2^{exponent}`. ")
        if design.has_overflow:
            rule = "saturates" if accumulator.overflow == "saturate" else "wraps"
            sums += (f"{accumulator.depth:,} products can reach +-{bound:,} and would need {design.exact_bits} bits: "
                     f"it {rule}, and the sticky flag `overflow` tells.")
        else:
            sums += (f"Any {accumulator.depth:,} products stay within +-{bound:,}, which needs {design.exact_bits} "
                     "bits: the sum of up to that many products can never overflow, in any order.")
    if design.output is not None:
        sums += f" `o` is `acc` rounded once to nearest even into `{design.output.name}`, combinationally."
    formats = [("`a`", design.activation), ("`w`", design.weight)]
    if design.output is not None:
        formats.append(("`o`", design.output))
    timing = (f"- Latency: {design.latency} clock edge{'s' * (design.latency > 1)} from operands with `en` to their "
              f"sum on `acc`.\n- Throughput: {design.lanes} products per clock cycle.\n"
              "- Reset: there is no reset port. `clear` sets accumulator and flags to zero at a clock edge and wins "
              f"over `en`; hold it for {design.latency} cycle{'s' * (design.latency > 1)} after power-up. "
              "`en` and `clear` travel through the pipeline with the operands.\n"
              "- Packing: lane 0 is in the least significant bits of `a` and `w`; unused lanes must be zero.")
    glance = {
        "Operands": f"{design.lanes} x {design.activation.name} by {design.weight.name}",
        "Sum": "float32, rounded each cycle" if accumulator.kind == "fp32" else
               f"{design.accumulator_bits} bits, {count(accumulator.depth, 'product')}"
               + (", with an overflow flag" if design.has_overflow else " without rounding"),
        "Output": "the sum" if design.output is None else f"the sum, and rounded to {design.output.name}",
        "Latency": count(design.latency, "clock edge"),
        "Throughput": f"{count(design.lanes, 'product')} a cycle"}
    return Datasheet({
        "Function": summary,
        "Formats": format_table("operand", formats),
        "Accumulator": sums,
        "Timing": timing,
        "Flags": "\n".join(f"- `{flag}`: {FLAGS[flag]}. Sticky until `clear`." for flag in design.flags) or "None.",
    }, {"en": "accumulate this cycle", "clear": "zero the accumulator, wins over en", **dict.fromkeys(FLAGS, "flag")},
        glance)
