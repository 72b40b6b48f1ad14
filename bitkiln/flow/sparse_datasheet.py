# amaranth: UnusedElaboratable=no
"""Datasheet sections of the sparse side path."""

from __future__ import annotations

from ..hw.dequant.sparse import SparseSide, chunk_layout, outlier_layout, sum_layout
from ..models.cost.cycles.sparse import GAP, sustained_density
from ..models.design.sparse import SparseDesign
from .bitserial_datasheet import layout_rows
from .datasheet import FLAGS, Datasheet, count, format_table

__all__ = ["sparse_datasheet"]

TERMS = (1, 2, 4)


def sparse_datasheet(design: SparseDesign) -> Datasheet:
    """README of a side path."""
    unit, results = SparseSide(design), design.rows * design.columns
    what = (f"One outlier ({design.value.name}"
            f"{f', times 2^{design.value_exponent}' if design.value_exponent else ''}) a cycle, multiplied with the "
            f"{design.activation.name} activations of {design.rows} row{'s' * (design.rows > 1)} at its place along K "
            f"and added to the sums of its column, one of {design.columns}. Sums are exact: integers of "
            f"{design.sum_bits} bits in units of 2^{design.exponent}, of up to {design.depth:,} outliers. The "
            f"activations are the dense engine's own stream, chunks of {design.lanes} lanes; two tiles of "
            f"{design.tile} weights along K are held. Outliers of a tile may come in any order.")
    rows = ["| cycles of the dense engine for a chunk | outliers that never make it wait, of all weights |",
            "|---|---|"]
    rows += [f"| {terms} | up to {sustained_density(design, terms):.2%} |" for terms in TERMS]
    timing = (f"- One outlier a cycle; {unit.latency} edges from the one that takes a result's last outlier to its "
              "first sum, then one sum a cycle.\n"
              "- The dense engine never waits where a tile of C chunks, t cycles each, has at most `C * t` outliers "
              f"and `{results} + {GAP} <= tiles of a result * C * t`. `stalls` counts the cycles in which it does.\n"
              f"- Up to {design.queue} outliers wait for their activations; nothing is lost under back-pressure.\n\n"
              + "\n".join(rows))
    layouts = [("`activation` payload", chunk_layout(design)), ("`outlier` payload", outlier_layout(design)),
               ("`o` payload", sum_layout(design))]
    parts = ["Codes of `activation` lie row by row, lane 0 lowest. A tile ends with `last`, of its last chunk and of "
             "its last outlier; one without outliers has an item with `mask` 0. `emit` with `last`: the sums are "
             "complete.",
             *("\n".join(layout_rows(title, layout)) for title, layout in layouts)]
    if design.flags:
        parts.append("\n".join(["| flag of `o` | set by |", "|---|---|",
                                *(f"| `{flag}` | {FLAGS[flag]} |" for flag in design.flags)]))
    formats = format_table("operand", [("activation", design.activation), ("outlier", design.value)])
    return Datasheet({"What it does": what, "Timing": timing, "Payloads": "\n\n".join(parts), "Formats": formats},
                     {"activation__": "a chunk of activations, the dense engine's", "outlier__": "an outlier",
                      "o__": "a sum, row 0 first, in each row column 0 first",
                      "busy": "a tile has begun, or sums were not taken",
                      "illegal": "an outlier of a place or column that is not there (sticky; it does not count)",
                      "stalls": "cycles in which a chunk of activations had to wait"},
                     {"Sums": f"{design.rows} x {design.columns} of {design.sum_bits} bits, exact",
                      "Operands": f"{design.activation.name} by {design.value.name}",
                      "Tile": f"{count(design.tile, 'weight')} along K, {count(design.lanes, 'lane')}",
                      "Throughput": "1 outlier a cycle", "Latency": count(unit.latency, "clock edge")})
