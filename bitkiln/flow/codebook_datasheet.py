# amaranth: UnusedElaboratable=no
"""Datasheet sections of the codebook dequantiser, alone and before an array of MACs."""

from __future__ import annotations

from ..hw.dequant.codebook import CodebookDequantiser, chunk_layout, second_layout, table_layout, word_layout
from ..hw.dequant.codebook_array import CodebookArray, activation_layout, result_layout, weight_layout
from ..hw.dequant.codebook_array import second_layout as array_second
from ..models.cost.cycles.codebook_array import block_cycles
from ..models.design.codebook import CodebookDesign
from ..models.design.codebook_array import CodebookArrayDesign
from .bitserial_datasheet import layout_rows
from .datasheet import Datasheet, count, format_table

__all__ = ["array_datasheet", "codebook_datasheet"]

CODED = {"uint8": "Scales are unsigned 8-bit codes times a float32 step.",
         "int8": "Scales are signed 8-bit codes times a float32 step.",
         "table8": "Scales are codes of a table of 256 float32 values, times a float32 step."}


def codebook_datasheet(design: CodebookDesign) -> Datasheet:
    """README of a codebook dequantiser."""
    unit = CodebookDequantiser(design)
    scales = {"none": "No scale.", "fp32": "Each block's float32 scale comes beside its words.", **CODED}[design.scale]
    what = (f"{design.lanes} weights of {design.code_bits} bits a cycle, looked up in one of {design.tables} table"
            f"{'s' * (design.tables > 1)} of {design.entries} entries in {design.output.name}, written at run time. "
            f"{scales}" + (" A float32 offset is added." if design.offset else "")
            + f" Words of {design.word_bits} bits leave in the order of the codes, lane 0 lowest: the weight operands "
              "of a MAC engine of this format.")
    timing = (f"- Latency {unit.latency} edges from a chunk to its word.\n- One chunk a cycle, back to back over "
              "blocks of any length; a word leaves when it is full or its block ends.\n"
              f"- Queues of {unit.depth} chunks; nothing is lost under back-pressure.\n"
              "- Tables are written while no block is open; they survive a reset.")
    parts = ["\n".join(layout_rows("`i` payload", chunk_layout(design))),
             "\n".join(layout_rows("`table` payload", table_layout(design))),
             "\n".join(layout_rows("`o` payload", word_layout(design)))]
    if design.coded_scale:
        parts.insert(1, "\n".join(layout_rows("`second` payload", second_layout(design))))
    return Datasheet({"What it does": what, "Timing": timing, "Payloads": "\n\n".join(parts)},
                     {"i__": "a chunk of codes", "o__": "a word of table entries", "table__": "an entry of a table",
                      "second__": "step and offset of the scales", "level__": "an entry of the table of scale codes",
                      "busy": "a block is open or a word was not taken", "illegal": "a broken block or a missing table "
                      "(sticky)"},
                     {"Throughput": f"{count(design.lanes, 'weight')} of {design.code_bits} bits a cycle",
                      "Tables": f"{design.tables} of {design.entries} entries, {design.output.name}",
                      "Scales": design.scale + ", with offset" * design.offset,
                      "Output": f"words of {design.word_bits} bits", "Latency": count(unit.latency, "clock edge")})


def array_datasheet(design: CodebookArrayDesign) -> Datasheet:
    """README of an array behind codebook dequantisers."""
    unit, book = CodebookArray(design), design.codebook
    scales = {"none": "Blocks have no scale.", "fp32": "Each column's block has a float32 scale.",
              **CODED}[design.scale]
    sums = f"Products of a block are summed exactly ({design.sum_bits} bits, blocks of up to {design.block} weights)" \
        if design.accumulator == "exact" else "Each cycle's products are added to a float32 sum"
    what = (f"{design.rows} x {design.columns} MACs of {design.lanes} lanes, {design.activation.name} by "
            f"{design.weight.name}. Each column's weights are codes of {design.code_bits} bits, looked up in one of "
            f"{design.tables} table{'s' * (design.tables > 1)} of {book.entries} entries that are written at run time. "
            f"{scales}" + (" A float32 offset is added." if design.offset else "")
            + f" {sums}; then, in float32, `f = RNE(f + RNE(RNE(sum) * scale))` over the blocks of a result, from +0."
            + (" Without scale nothing is multiplied." if design.scale == "none" else ""))
    period = block_cycles(design)
    timing = (f"- A chunk of each column and a word of activations for each row every cycle; activations meet their "
              f"weights {unit.dequantiser.latency} edges after those came.\n"
              f"- Blocks of at least {period * design.lanes} weights ({period} chunks) follow each other without a "
              "bubble; the last chunk of a shorter one waits (`stalls` counts the cycles).\n"
              f"- Latency {unit.latency} edges from the last products of a sum to its first result; "
              f"{design.result_lanes} result{'s' * (design.result_lanes > 1)} a cycle, row 0 first.\n"
              "- Nothing is lost under back-pressure. Tables are written while no block is inside the dequantisers; "
              "they survive a reset.")
    layouts = [("`w` payload", weight_layout(design)), ("`a` payload", activation_layout(design)),
               ("`table` payload", table_layout(book)), ("`o` payload", result_layout(design))]
    parts = ["\n".join(layout_rows(title, layout)) for title, layout in layouts]
    order = [f"Codes of `w` lie column by column, those of `a` row by row, lane 0 lowest; every "
             f"{second_layout(book).size} bits of `second` are a column's." if book.coded_scale else
             "Codes of `w` lie column by column, those of `a` row by row, lane 0 lowest."]
    if book.coded_scale:
        rows = layout_rows(f"`second` payload, of {array_second(design).length} columns", second_layout(book))
        parts.insert(2, "\n".join(rows))
    formats = format_table("operand", [("activation", design.activation), ("table entry", design.weight)])
    return Datasheet({"What it does": what, "Timing": timing, "Payloads": "\n\n".join([*order, *parts]),
                      "Formats": formats},
                     {"w__": "a chunk of codes for every column", "a__": "activations of every row, for one chunk",
                      "o__": "float32 results of neighbouring columns",
                      "table__": "an entry of a table, for all columns",
                      "second__": "step and offset of each column's scales",
                      "level__": "an entry of the table of scale codes, for all columns",
                      "busy": "a block or sum has begun, or results were not taken",
                      "illegal": "a broken block or a missing table (sticky)",
                      "stalls": "cycles in which both operands were there and waited for the sums before"},
                     {"Array": f"{design.rows} x {design.columns} MACs of {count(design.lanes, 'lane')}",
                      "Operands": f"{design.activation.name} by {design.weight.name}",
                      "Tables": f"{design.tables} of {book.entries} entries for codes of {design.code_bits} bits",
                      "Scales": design.scale + ", with offset" * design.offset,
                      "Sum": f"{design.sum_bits} bits, blocks of up to {design.block:,}"
                             if design.accumulator == "exact" else "float32, rounded each cycle",
                      "Products a cycle": f"{design.rows * design.columns * design.lanes:,}",
                      "Latency": count(unit.latency, "clock edge")})
