"""Datasheet sections of a dot unit."""

from __future__ import annotations

from ..models.design import DotDesign
from ..models.formats import Format

__all__ = ["dot_datasheet"]

_FLAGS = {
    "nan": "a NaN or NaR operand, infinity times zero, or infinity minus infinity",
    "inf_pos": "a product was +infinity",
    "inf_neg": "a product was -infinity",
    "illegal": "an operand code without a meaning (it counts as 0)",
    "overflow": "the exact sum did not fit the accumulator",
}


def _format_line(role: str, fmt: Format) -> str:
    kinds = [word for word, has in (("NaN/NaR", fmt.has_nan), ("infinities", fmt.has_inf),
                                    ("illegal codes", fmt.has_illegal)) if has]
    return (f"| {role} | `{fmt.name}` | {fmt.bits} | {fmt.min_positive:g} | {fmt.max:g} | "
            f"{', '.join(kinds) or 'none'} |")


def dot_datasheet(design: DotDesign) -> dict[str, str]:
    """Sections of the README: title -> Markdown."""
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
    formats = ["| operand | format | bits | smallest > 0 | largest | specials |", "|---|---|---|---|---|---|",
               _format_line("`a`", design.activation), _format_line("`w`", design.weight)]
    if design.output is not None:
        formats.append(_format_line("`o`", design.output))
    flags = [flag for flag, present in (("nan", design.has_nan), ("inf_pos", design.has_inf),
                                        ("inf_neg", design.has_inf), ("illegal", design.has_illegal),
                                        ("overflow", design.has_overflow)) if present]
    timing = (f"- Latency: {design.latency} clock edge{'s' * (design.latency > 1)} from operands with `en` to their "
              f"sum on `acc`.\n- Throughput: {design.lanes} products per clock cycle.\n"
              "- Reset: there is no reset port. `clear` sets accumulator and flags to zero at a clock edge and wins "
              f"over `en`; hold it for {design.latency} cycle{'s' * (design.latency > 1)} after power-up. "
              "`en` and `clear` travel through the pipeline with the operands.\n"
              "- Packing: lane 0 is in the least significant bits of `a` and `w`; unused lanes must be zero.")
    return {
        "Function": summary,
        "Formats": "\n".join(formats),
        "Accumulator": sums,
        "Timing": timing,
        "Flags": "\n".join(f"- `{flag}`: {_FLAGS[flag]}. Sticky until `clear`." for flag in flags) or "None.",
    }
