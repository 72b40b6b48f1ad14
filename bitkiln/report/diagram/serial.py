# amaranth: UnusedElaboratable=no
"""Block diagrams of the bit-serial array and of the dequantising core around it."""

from __future__ import annotations

from ...hw.dequant.array import (
    BitSerialArray,
    activation_layout,
    result_layout,
    special_write_layout,
    weight_layout,
)
from ...hw.dequant.core import activation_word_layout
from ...hw.dequant.results import output_layout
from ...hw.dequant.walk import job_layout
from ...models.design.bitserial import BitSerialDesign
from ...models.design.dequant import DequantDesign
from ...models.design.dequant_streams import special_terms
from .canvas import RULE, Diagram, bits, count
from .lettering import NOTE_SIZE, shorten
from .matmul import grid_of

__all__ = ["array_diagram", "core_diagram"]

WIDE = 170.0


def _types(design: BitSerialDesign) -> str:
    return shorten([weight.name for weight in design.weights], NOTE_SIZE, WIDE)


def _caption(design: BitSerialDesign) -> list[str]:
    weights = ", ".join(f"{weight.name} {weight.terms}" for weight in design.weights)
    group = f"Groups of up to {count(design.group, 'weight')}"
    return [f"A weight is a few signed powers of two, one a cycle; terms of a weight: {weights}"
            + (" at most (zeros are skipped)." if design.zero_skip else "."),
            group + (f", {design.groups:,} of them summed in a channel." if design.sums_channel
                     else ", each a result of its own.")]


def _scaler_notes(design: BitSerialDesign) -> list[str]:
    if not design.scale_bits:
        return ["no multiplication" if design.scale == "none" else f"{design.scale}: exponents only"]
    more = [f"zero-point of {bits(design.zero_point)}"] if design.zero_point else []
    more += ["a scale for each sign"] if design.dual_scale else []
    return [f"{design.scale}, a bit a cycle:", count(design.scale_cycles, "cycle"), *more]


def _draw_array(drawn: Diagram, design: BitSerialDesign, column: int, row: int) -> None:
    """The array from its term decoders to its queue, in two rows and five columns."""
    array = BitSerialArray(design)
    drawn.block("terms", column, row, "term decoders", notes=[
        f"{design.columns} x {count(design.lanes, 'lane')}", f"codes of {bits(design.code_bits)}", _types(design)],
        copies=design.columns * design.lanes > 1)
    where = {"exact": f"to {design.operand_bits}-bit fixed point", "aligned": "aligned to the largest",
             "floating": "sign, exponent, significand"}[design.accumulate]
    if design.placement == "pe" and design.accumulate == "exact":
        where = "placed in the PEs"
    drawn.block("rows", column, row + 1, "activation edges", notes=[
        f"{count(design.rows, 'row')} of {count(design.lanes, 'lane')}", f"{design.activation.name}, {where}"],
        copies=design.rows > 1)
    drawn.block("pes", column + 1, row, f"{design.rows} x {design.columns} PEs", notes=[
        count(design.lanes, "lane") + " each", f"sums of {bits(design.sum_bits)}", {
            "exact": "exact", "aligned": f"aligned, {design.guard} guard bits",
            "floating": f"floating, {design.guard} guard bits"}[design.accumulate]],
        rows=2, shape="grid", grid=grid_of(design.rows, design.columns))
    drawn.wire("terms", "pes", "terms")
    drawn.wire("rows", "pes", "operands")
    drawn.block("scalers", column + 2, row, "dequantisers", notes=[f"{design.rows} x {design.columns}",
                                                                   *_scaler_notes(design)],
                copies=design.rows * design.columns > 1)
    drawn.wire("pes", "scalers", bits(design.sum_bits))
    fp32 = design.output == "fp32"
    drawn.block("round", column + 2, row + 1, "round to float32" if fp32 else "raw integers", notes=[
        f"{count(design.columns, 'column')}, a row at a time"], copies=fp32 and design.columns > 1)
    drawn.wire("scalers.b", "round.t", bits(design.result_bits))
    drawn.block("queue", column + 3, row + 1, "queue", notes=[count(array.depth, "row")])
    drawn.wire("round", "queue")


def _draw_special(drawn: Diagram, design: BitSerialDesign, when: str) -> None:
    """The table of special values, above the term decoders."""
    drawn.port("special", 0, 0, special_write_layout(design).size, when)
    drawn.block("table", 1, 0, "special values", notes=["registers"])
    drawn.wire("special", "table")
    drawn.wire("table.r", "terms.t")


def array_diagram(design: BitSerialDesign) -> Diagram:
    """Term decoders and activation edges, PEs, dequantisers, rounding."""
    drawn = Diagram(f"Bit-serial array of {design.rows} x {design.columns} PEs", design.name, _caption(design))
    top = int(bool(special_terms(design)))
    _draw_array(drawn, design, 2, top)
    for row, (port, layout, what) in enumerate((("w", weight_layout(design), "codes, scales"),
                                                ("a", activation_layout(design), "codes")), top):
        drawn.port(port, 0, row, layout.size, what)
        drawn.block(f"chunk {port}", 1, row, "chunk register", notes=["held for all", "terms of its weights"]
                    if port == "w" else ())
        drawn.wire(port, f"chunk {port}")
    drawn.wire("chunk w", "terms", f"{design.columns} x {design.lanes} x {bits(design.code_bits)}")
    drawn.wire("chunk a", "rows", f"{design.rows} x {design.lanes} x {bits(design.activation.bits)}")
    drawn.port("o", 6, top + 1, result_layout(design).size, f"{design.columns} "
               + ("float32" if design.output == "fp32" else "raw sums"))
    drawn.wire("queue", "o")
    if top:
        _draw_special(drawn, design, "while not busy")
    return drawn


def core_diagram(design: DequantDesign) -> Diagram:
    """Readers of packed groups and activation buffers before the array, scales and output format behind it."""
    array, layout = design.array, design.layout
    packings = ", ".join(f"{weight.name} {packing.name}" for weight, packing in
                         zip(array.weights, layout.packings, strict=True))
    chunks = 1 << (design.k_chunks - 1).bit_length()
    kib = 2 * array.rows * chunks * array.lanes * array.activation.bits / 8192
    drawn = Diagram(f"Dequantising core, {array.rows} x {array.columns} bit-serial PEs", design.name, [
        *_caption(array), f"Packing of codes in memory: {packings}. A group has a header of "
        f"{count(layout.header_bytes, 'byte')} and fills whole words. Activation buffers hold {kib:g} KiB."])
    top = int(bool(special_terms(array)))
    drawn.port("job", 0, top, job_layout(design).size, "k, group, channels, rows")
    drawn.block("walk", 1, top, "distributor, sequencer", notes=["of groups and tiles"])
    drawn.wire("job", "walk")
    drawn.port("weight", 0, top + 1, 8 * design.bus_bytes, "packed groups")
    drawn.block("readers", 1, top + 1, "group readers", notes=[count(array.columns, "column"),
                                                               f"windows of {count(array.lanes, 'code')}"],
                copies=array.columns > 1)
    drawn.wire("weight", "readers", bits(8 * design.bus_bytes))
    drawn.port("activation", 0, top + 2, activation_word_layout(design).size,
               f"{array.lanes} x {array.activation.name}")
    drawn.block("buffers", 1, top + 2, "activations, buffer 0", RULE, "activations, buffer 1", notes=[
        f"{count(array.rows, 'row')} of {count(chunks, 'chunk')}"])
    drawn.wire("activation", "buffers", bits(array.lanes * array.activation.bits))
    _draw_array(drawn, array, 2, top + 1)
    drawn.wire("readers", "terms", "codes")
    drawn.wire("buffers", "rows", "codes")
    drawn.wire("walk.b", "readers.t", control=True)
    notes = [] if array.sums_channel else ["groups added in float32"]
    notes += ["times the channel's scale"] if design.channel_scale else []
    drawn.block("results", 5, top + 1, f"results to {design.output.name}", notes=[*notes, "one a cycle"])
    drawn.wire("queue.t", "results.b")
    if design.channel_scale:
        drawn.block("scales", 4, top, "channel scales", notes=["float32, queue"])
        drawn.wire("walk", "scales", "of the weight stream")
        drawn.wire("scales.r", "results.t")
    drawn.port("o", 6, top + 1, output_layout(design).size, f"{design.output.name}, last")
    drawn.wire("results", "o")
    if top:
        _draw_special(drawn, array, "between jobs")
    return drawn
