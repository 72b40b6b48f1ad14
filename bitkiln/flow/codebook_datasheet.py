# amaranth: UnusedElaboratable=no
"""Datasheet sections of the codebook dequantiser."""

from __future__ import annotations

from ..hw.dequant.codebook import CodebookDequantiser, chunk_layout, second_layout, table_layout, word_layout
from ..models.design.codebook import CodebookDesign
from .bitserial_datasheet import layout_rows
from .datasheet import Datasheet

__all__ = ["codebook_datasheet"]


def codebook_datasheet(design: CodebookDesign) -> Datasheet:
    """README of a codebook dequantiser."""
    unit = CodebookDequantiser(design)
    scales = {"none": "No scale.", "fp32": "Each block's float32 scale comes beside its words.",
              "uint8": "Scales are unsigned 8-bit codes times a float32 step.",
              "int8": "Scales are signed 8-bit codes times a float32 step.",
              "table8": "Scales are codes of a table of 256 float32 values, times a float32 step."}[design.scale]
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
                      "(sticky)"})
