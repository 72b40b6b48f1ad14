# amaranth: UnusedElaboratable=no
"""Block diagram of a dot unit."""

from __future__ import annotations

from ...hw.formats.decode import Decoder, decoder_for
from ...hw.mac.dot import cuts_of, fused_fp32
from ...hw.mac.product import LaneProduct
from ...models.design import DotDesign
from ...models.formats import Format
from .canvas import Diagram, bits, count

__all__ = ["accumulator_notes", "decoder_notes", "dot_diagram"]

_KINDS = {"exact": "exact accumulator", "fp32": "float32 accumulator", "int32": "32-bit accumulator"}
# What stands before each register of a pipeline.
_CUTS = {"decode": "decode", "rows": "the multiplier's rows", "multiply": "multiply", "align": "align",
         "tree": "the adder tree's middle", "sum": "the sum of the lanes"}


def decoder_notes(fmt: Format, decoder: Decoder | None) -> list[str]:
    """What a code becomes."""
    if decoder is None:
        return [f"{fmt.name}: as it is"]
    shape = decoder.significand_shape
    places = f"shift {decoder.min_shift} to {decoder.max_shift}" if decoder.has_shift else ""
    if shape.signed:
        return [f"{fmt.name} to", f"{shape.width}-bit integer" + (f", {places}" if places else "")]
    sign = "sign, " if decoder.has_sign else ""
    return [f"{fmt.name} to {sign}{shape.width}-bit", f"significand{f', {places}' if places else ''}"]


def accumulator_notes(kind: str, depth: int, width: int, overflow: str = "") -> list[str]:
    """Width and what it holds."""
    if kind == "fp32":
        return [bits(32), "rounded each cycle"]
    return [f"{width} bits, signed", overflow or f"{count(depth, 'product')}, no rounding"]


def dot_diagram(design: DotDesign) -> Diagram:
    """Lanes, adder tree, accumulator, rounding."""
    fused, many, accumulator = fused_fp32(design), design.lanes > 1, design.accumulator
    lane = LaneProduct(design.activation, design.weight, cuts_of(design) - {"sum", "tree"}, align=not fused,
                       multiplier=design.multiplier)
    caption = [f"Latency {count(design.latency, 'clock edge')}, {count(design.lanes, 'product')} a cycle."]
    if accumulator.kind != "fp32" and design.product_exponent:
        caption[0] += f" The sum's least bit is worth 2^{design.product_exponent}."
    cuts = [_CUTS[name] for name in _CUTS if name in cuts_of(design)]
    caption += [f"Registers behind {', '.join(cuts)}."] if cuts else ["No registers before the accumulator."]
    drawn = Diagram("Dot unit" + (f", {design.lanes} lanes" if many else ""), design.name, caption)

    shapes = []
    for row, (port, fmt) in enumerate((("a", design.activation), ("w", design.weight))):
        decoder = decoder_for(fmt)
        drawn.port(port, 0, row, design.lanes * fmt.bits, f"{design.lanes} x {fmt.name}" if many else fmt.name)
        width = decoder.significand_shape.width if decoder else fmt.bits
        shapes.append(width)
        if decoder is None:
            drawn.wire(port, "multiply", bits(fmt.bits))
            continue
        drawn.block(f"decode {port}", 1, row, f"decode {port}", notes=decoder_notes(fmt, decoder), copies=many)
        drawn.wire(port, f"decode {port}", bits(fmt.bits))
        drawn.wire(f"decode {port}", "multiply", bits(width))
    signs = max(shapes) == 1
    drawn.block("multiply", 2, 0, "join signs" if signs else "multiply",
                notes=["powers of two: no", "multiplier"] if signs else [f"{shapes[0]} x {shapes[1]} bits"], rows=2,
                copies=many)
    last, column = "multiply", 3
    product = bits(lane.multiplier.o_shape.width)
    if lane.shifted and not fused:
        drawn.block("align", 3, 0, "align", notes=[f"by 0 to {lane.max_shift - lane.drop}"], rows=2, copies=many)
        drawn.wire("multiply", "align", product)
        last, column = "align", 4
    exact = f"sign, shift, {product}" if fused else bits(lane.value_shape.width)
    if many:
        drawn.block("tree", column, 0, "adder", "tree", notes=[f"of {design.lanes}"], rows=2, shape="tree")
        drawn.wire(last, "tree", exact)
        last, column = "tree", column + 1
        exact = bits((design.lanes * design.max_product).bit_length() + 1)
    lost = ""
    if design.has_overflow:
        lost = "saturates, with a flag" if accumulator.overflow == "saturate" else "wraps, with a flag"
    kind = _KINDS[accumulator.kind].split()
    drawn.block("sum", column, 0, " ".join(kind[:1]), kind[1], rows=2,
                notes=accumulator_notes(accumulator.kind, accumulator.depth, design.accumulator_bits, lost))
    drawn.wire(last, "sum", exact)
    drawn.port("en, clear", 0, 2)
    drawn.wire("en, clear.r", "sum.b", control=True)
    # What leaves.
    if design.output is not None and accumulator.kind != "fp32":
        drawn.block("round", column + 1, 0, "round", notes=["once, nearest even,", f"to {design.output.name}"])
        drawn.wire("sum", "round")
        drawn.port("o", column + 2, 0, design.output.bits, design.output.name)
        drawn.wire("round", "o", bits(design.output.bits))
    elif design.output is not None:
        drawn.port("o", column + 1, 0, 32, "float32")
        drawn.wire("sum", "o", bits(32))
    out = column + 2 if design.output is not None and accumulator.kind != "fp32" else column + 1
    drawn.port("acc", out, 1, design.accumulator_bits, "float32" if accumulator.kind == "fp32" else "signed")
    drawn.wire("sum", "acc", bits(design.accumulator_bits))
    if design.flags:
        drawn.port("flags", out, 2, name=", ".join(design.flags), note="sticky flags" if len(design.flags) > 1
                   else "sticky flag")
        drawn.wire("sum.b@0.8", "flags", control=True, via="")
    return drawn
