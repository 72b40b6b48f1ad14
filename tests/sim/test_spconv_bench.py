"""The sparse-convolution core behind AXI: cocotb, networks under stalls, errors, resets."""

from __future__ import annotations

from bitkiln.hw.spconv.core import SpConvCore
from bitkiln.models.design.spconv import GatherDesign, MapDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.sim.runner import run_bench

SEED = 5


def test_core_behind_axi():
    tree = MapDesign(depth=4, batch_bits=1, capacity=128, queue=4, rows=4)
    gather = GatherDesign("int8", "int8", 2, 2, 8, "item", slots=4, feature_words=1024, mask_rows=512)
    design = SpConvDesign(tree, gather, pinned=5, trees=2, output_lanes=1, queue=4)
    result = run_bench(SpConvCore(design), "bitkiln.sim.benches.spconv", seed=SEED,
                       parameters={"design": design, "seed": SEED, "voxels": 40})
    print("seed", SEED)
    assert result.tests == 3 and result.vectors > 100
