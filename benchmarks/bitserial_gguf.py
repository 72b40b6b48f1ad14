"""GGUF blocks on the dequantising core's RTL: cycles and streamed bits of a weight, type by type.

A core of 2 x 4 PEs with four lanes, float16 activations, a 256 x 1,024 matrix of hard blocks; every result is compared
with the golden model. Cycles of a weight are those of one column: terms over lanes is the least there can be for the
values alone.
"""

from __future__ import annotations

import numpy as np

from bitkiln.hw.dequant.core import DequantCore
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.gguf import core_form, gguf_design
from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.workloads.gguf_blocks import integer_blocks
from bitkiln.models.workloads.gguf_core import GgufMatrix
from bitkiln.report.table import Row
from bitkiln.sim.gguf_check import GgufProduct, hard_activations, hard_blocks
from bitkiln.sim.streams import StreamModel, build_streams

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_gguf"
ROWS, COLUMNS = 2, 4
SHAPE = (256, 1024)
SEED = 31
# Above terms / lanes: groups of 32 hide their scales, and so do those of 16 with two terms or more.
SLACK = 1.06


def measured(name: str, design: DequantDesign, model: StreamModel, minima: str) -> tuple[GgufMatrix, GgufProduct]:
    """A product through the RTL, equal to the golden model in every bit."""
    rng, layout = np.random.default_rng(SEED), BLOCKS[name]
    raw = hard_blocks(layout, SHAPE[0] * SHAPE[1] // layout.weights, rng)
    matrix = GgufMatrix(design, name, integer_blocks(layout, raw, SHAPE), minima)
    product = GgufProduct(design, model)
    product.matmul(matrix, hard_activations(design, (ROWS, SHAPE[1]), rng), name)
    return matrix, product


def run() -> list[Row]:
    own = {name: gguf_design(name, rows=ROWS, columns=COLUMNS) for name in BLOCKS}
    every = gguf_design(rows=ROWS, columns=COLUMNS)
    models = build_streams([DequantCore(design) for design in (*own.values(), every)])
    rows = []
    for (name, design), model in zip(own.items(), models, strict=False):
        form = core_form(name)
        least = form.weight.terms / design.array.lanes
        hidden = form.group // design.array.lanes * form.weight.terms >= design.array.scale_cycles
        for minima in ("core", "host") if form.minimum else ("core",):
            matrix, product = measured(name, design, model, minima)
            per_weight = product.cycles * COLUMNS / (SHAPE[0] * SHAPE[1])
            _, all_types = measured(name, every, models[-1], minima)
            slower = all_types.cycles * COLUMNS / (SHAPE[0] * SHAPE[1])
            what = f"{name}, minima by the {minima}" if form.minimum else name
            target = SLACK * least if hidden and not (form.minimum and minima == "core") else None
            rows.append(Row(f"{what}: cycles of a column for a weight", round(per_weight, 3), "cycles", target,
                            command=COMMAND, note=f"{least:g} for the terms; {slower:.3f} on the core of all types"))
            rows.append(Row(f"{what}: weight stream", round(8 * matrix.stream_bytes / (SHAPE[0] * SHAPE[1]), 3),
                            "bits/weight", command=COMMAND,
                            note=f"{form.layout.bits_per_weight:g} in the file; words of {design.bus_bytes} bytes"))
    return rows
