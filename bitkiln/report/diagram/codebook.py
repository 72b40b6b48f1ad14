# amaranth: UnusedElaboratable=no
"""Block diagrams of the codebook dequantiser and of the array of MACs behind it."""

from __future__ import annotations

from ...hw.dequant.block_results import BlockResults, result_layout
from ...hw.dequant.codebook import (
    CodebookDequantiser,
    chunk_layout,
    level_layout,
    second_layout,
    table_layout,
    word_layout,
)
from ...hw.dequant.codebook_array import activation_layout, weight_layout
from ...hw.dequant.codebook_array import second_layout as array_second
from ...hw.mac.morphable import result_layout as sum_layout
from ...models.design.codebook import LEVELS, CodebookDesign
from ...models.design.codebook_array import CodebookArrayDesign
from .canvas import Diagram, bits, count
from .matmul import grid_of

__all__ = ["array_diagram", "dequantiser_diagram"]

_SCALES = {"none": "", "fp32": "float32", "uint8": "uint8 code x step", "int8": "int8 code x step",
           "table8": "table entry x step"}


def _tables(design: CodebookDesign) -> list[str]:
    return [f"{count(design.tables, 'table')} of {design.entries} x {bits(design.output.bits)}",
            "memory, a port a lane" if design.store == "lutram" else "registers, a multiplexer a lane"]


def _inputs(drawn: Diagram, ports: list[tuple[str, int, str]], block: str) -> None:
    """Ports of what is written now and then, one below the other, onto the top of a block: the first one furthest."""
    for row, (name, width, note) in enumerate(ports):
        drawn.port(name, 0, row, width, note)
        drawn.wire(f"{name}.r", f"{block}.t@{0.5 - 0.15 * row:g}", control=True)


def dequantiser_diagram(design: CodebookDesign) -> Diagram:
    """Queue of chunks, tables, word register; scale decoder beside them."""
    unit = CodebookDequantiser(design)
    drawn = Diagram("Codebook dequantiser", design.name, [
        f"{count(design.lanes, 'weight')} of {bits(design.code_bits)} a cycle, entries in {design.output.name}. "
        f"Latency {count(unit.latency, 'clock edge')} from a chunk to its word."])
    _inputs(drawn, [("table", table_layout(design).size, "while not busy")], "tables")
    drawn.port("i", 0, 1, chunk_layout(design).size, "codes of a chunk")
    drawn.block("queue", 1, 1, "queue", notes=[count(unit.depth, "chunk")])
    drawn.wire("i", "queue")
    drawn.block("tables", 2, 1, "look up", notes=_tables(design))
    drawn.wire("queue", "tables", f"{design.lanes} x {bits(design.code_bits)}")
    drawn.block("word", 3, 1, "word register", notes=[f"{count(design.chunks, 'chunk')} of {bits(design.chunk_bits)}"])
    drawn.wire("tables", "word", f"{design.lanes} x {bits(design.output.bits)}")
    drawn.port("o", 4, 1, word_layout(design).size, f"word of {bits(design.word_bits)}")
    drawn.wire("word", "o")
    if not design.scale_bits:
        return drawn
    drawn.block("scale", 1, 2, "scale of a block", notes=[_SCALES[design.scale], *["plus an offset"] * design.offset])
    drawn.block("scales", 2, 2, "queue of scales", notes=[f"{unit.depth} float32"])
    drawn.wire("i.r", "scale.l", via="v1")
    drawn.wire("scale", "scales", bits(32))
    drawn.wire("scales.r", "word.b")
    row = 3
    if design.coded_scale:
        drawn.port("second", 0, row, second_layout(design).size, "step, offset" if design.offset else "step")
        drawn.wire("second.r", "scale.b")
        row += 1
    if design.scale == "table8":
        drawn.port("level", 0, row, level_layout(design).size, f"table of {LEVELS} scales")
        drawn.wire("level.r", "scale.b@0.75", control=True)
    return drawn


def array_diagram(design: CodebookArrayDesign) -> Diagram:
    """A dequantiser for each column, MACs, results scaled block by block."""
    book, results, array = design.codebook, BlockResults(design), design.array
    unit = CodebookDequantiser(book)
    drawn = Diagram(f"Codebook array of {design.rows} x {design.columns} MACs", design.name, [
        f"{design.activation.name} by {design.weight.name} entries, {count(design.lanes, 'lane')} a MAC. "
        f"Blocks of up to {count(design.block, 'weight')}; "
        + ("a block's sum is exact." if design.accumulator == "exact" else "float32 sums, rounded each cycle.")])
    ports = [("table", table_layout(book).size, "entry, all columns")]
    if book.coded_scale:
        ports.append(("second", array_second(design).size, "steps, offsets" if design.offset else "steps"))
    if design.scale == "table8":
        ports.append(("level", level_layout(book).size, f"table of {LEVELS} scales"))
    _inputs(drawn, ports, "columns")
    top = len(ports)
    drawn.port("w", 0, top, weight_layout(design).size, "codes of all columns")
    drawn.block("columns", 1, top, "dequantisers", notes=[count(design.columns, "column"), *_tables(book)],
                copies=design.columns > 1)
    drawn.wire("w", "columns", f"{design.columns} x {design.lanes} x {bits(design.code_bits)}")
    drawn.block("masks", 1, top + 1, "queue of masks", notes=[count(2 * unit.depth, "chunk")])
    drawn.port("a", 0, top + 2, activation_layout(design).size, f"{design.rows} x {design.lanes} x "
               f"{design.activation.name}")
    drawn.block("mask", 1, top + 2, "mask lanes", notes=[f"{design.rows} x "
                                                         f"{bits(design.lanes * design.activation.bits)}"])
    drawn.wire("a", "mask")
    drawn.wire("columns.b", "masks.t", control=True)
    drawn.wire("masks.b", "mask.t", control=True)
    sums = "float32 sums" if design.accumulator == "fp32" else f"sums of {bits(array.pe.accumulator_bits)}"
    drawn.block("pes", 2, top, f"{design.rows} x {design.columns} MACs", notes=[sums], rows=3, shape="grid",
                grid=grid_of(design.rows, design.columns))
    drawn.wire("columns", "pes", f"{design.columns} x {bits(book.chunk_bits)}")
    drawn.wire("mask", "pes")
    steps = (["to float32"] if results.convert else []) + (["times scale"] if results.multiply else [])
    drawn.block("scale", 3, top, ", ".join(steps) or "float32", notes=[
        f"{count(design.result_lanes, 'result')} a cycle"])
    drawn.wire("pes", "scale", f"{design.columns} x {bits(sum_layout(array.pe).size)}")
    drawn.block("add", 3, top + 1, "add the blocks", notes=["float32, to nearest even", f"memory of {design.rows} x "
                                                            f"{design.columns} sums"])
    drawn.wire("scale.b", "add.t", f"{design.result_lanes} x {bits(32)}")
    drawn.block("queue", 3, top + 2, "queue", notes=[count(results.depth, "word")])
    drawn.wire("add.b", "queue.t")
    if results.multiply:
        drawn.wire("columns.t@0.9", "scale.t", f"scales, {design.columns} x {bits(32)}", via=f"h{top}")
    drawn.port("o", 4, top + 2, result_layout(design).size, f"{design.result_lanes} float32, last")
    drawn.wire("queue", "o")
    return drawn
