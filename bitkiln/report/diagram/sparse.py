# amaranth: UnusedElaboratable=no
"""Block diagram of the sparse side path."""

from __future__ import annotations

from ...hw.dequant.sparse import SparseSide, chunk_layout, outlier_layout, sum_layout
from ...models.design.sparse import SparseDesign
from .canvas import RULE, Diagram, bits, count

__all__ = ["sparse_diagram"]


def sparse_diagram(design: SparseDesign) -> Diagram:
    """Two tiles of activations, a product for each row, two banks of sums."""
    unit = SparseSide(design)
    drawn = Diagram(f"Sparse side path of {design.rows} x {design.columns} sums", design.name, [
        f"One outlier a cycle, for all rows; {count(unit.latency, 'clock edge')} from a result's last outlier to its "
        f"first sum. A sum holds {count(design.depth, 'outlier')} exactly, in units of 2^{design.exponent}."])
    drawn.port("activation", 0, 0, chunk_layout(design).size, f"{design.rows} x {design.lanes} x "
               f"{design.activation.name}")
    drawn.block("tiles", 1, 0, "activations, tile 0", RULE, "activations, tile 1",
                notes=[f"{count(design.chunks, 'chunk')} each"])
    drawn.wire("activation", "tiles")
    drawn.port("outlier", 0, 1, outlier_layout(design).size, f"place, column, {design.value.name}")
    drawn.block("queue", 1, 1, "queue", notes=[count(design.queue, "outlier")])
    drawn.wire("outlier", "queue")
    drawn.wire("queue.t", "tiles.b", "place", control=True)
    drawn.block("products", 2, 0, "multiply", notes=[count(design.rows, "row"), f"{design.activation.bits} x "
                                                     f"{bits(design.value.bits)}", f"{design.dot.pipeline} registers"],
                copies=design.rows > 1, rows=2)
    drawn.wire("tiles", "products", f"{design.rows} x {bits(design.activation.bits)}")
    drawn.wire("queue", "products", bits(design.value.bits))
    drawn.block("add", 3, 0, "add", notes=["to the sums", "of one column"], copies=design.rows > 1)
    drawn.wire("products", "add", f"{design.rows} x {bits(unit.lane.value_shape.width)}")
    drawn.block("sums", 3, 1, "sums, bank 0", RULE, "sums, bank 1", notes=[
        f"{design.rows} x {design.columns} of {bits(design.sum_bits)}"])
    drawn.wire("add.b@0.3", "sums.t@0.3")
    drawn.wire("sums.t@0.7", "add.b@0.7")
    drawn.port("o", 4, 1, sum_layout(design).size, ", ".join(["sum", *design.flags, "last"]))
    drawn.wire("sums", "o")
    return drawn
