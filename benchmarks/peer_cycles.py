"""The same layers on 256 MACs: our core's RTL and model beside SCALE-Sim, ZigZag and AccelForge (their own figures).

Ours has 16 x 8 PEs of two INT8 lanes, theirs 16 x 16 of one. None of the tools checks its figures against RTL here;
ours are the counters of the simulated core, which the model equals.
"""

from __future__ import annotations

import numpy as np

from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.cost.mapping import map_layer, peak_macs
from bitkiln.models.cost.peers import FIGURES, peer_layers
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.golden.matmul import matmul
from bitkiln.report.table import Row
from bitkiln.sim.core_run import CoreModel, JobCase

from .core_utilisation import counters

COMMAND = "make bench SUITE=pareto ONLY=peer_cycles"
SEED = 5
SIMULATED = ("gemm-64", "gemm-256", "bert-qkv")


def core() -> MatmulDesign:
    """16 x 8 PEs of two lanes, buses that feed them."""
    pe = MorphableDesign(("int8",), Accumulator(depth=1024), pipeline=1)
    return MatmulDesign(ArrayDesign(16, 8, pe), bus_bits=256, k_words=512, accumulate=False)


def run() -> list[Row]:
    rows, design, rng = [], core(), np.random.default_rng(SEED)
    model = CoreModel(design)
    for name, layer in peer_layers().items():
        mapped = map_layer(design, layer)
        ideal = layer.macs / peak_macs(design)
        note = "; ".join(f"{each.tool}{f' {each.dataflow}' if each.dataflow else ''} {each.cycles:,}"
                         for each in FIGURES if each.layer == name)
        rows.append(Row(f"{name} ({ideal:,.0f} cycles at full use): our core, model", mapped.cycles, "cycles", None,
                        "lower", COMMAND, note))
        least = min(each.cycles for each in FIGURES if each.layer == name and each.tool.startswith("ZigZag"))
        rows.append(Row(f"{name}: our cycles by ZigZag's", round(mapped.cycles / least, 3), "x", None, "lower", COMMAND,
                        "it reads operands from SRAM beside the array; our core's come over its buses"))
        if name in SIMULATED:
            job = Job("int8", layer.m, layer.k, layer.n, order=mapped.detail.removeprefix("order "), rule="integer",
                      output="int8", scale=1 << 20, shift=30, per_channel=False).check(design)
            a, w = rng.integers(0, 256, (layer.m, layer.k)), rng.integers(0, 256, (layer.n, layer.k))
            golden = matmul(design, job, a, w)
            seen = counters(model, JobCase(job, a, w, None, None, None, None, golden.codes, bool(golden.invalid.any()),
                                           bool(np.any(golden.overflow))))
            difference = seen["CYCLES"] - matmul_cycles(design, job).cycles
            rows.append(Row(f"{name}: the RTL's cycles less the model's", difference, "cycles", 0,
                            "lower", COMMAND, f"{seen['CYCLES']:,} cycles, results equal the golden model"))
    return rows
