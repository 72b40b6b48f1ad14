"""Bytes that the cost model counts on a core's ports are those that the driver packs."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.host.packing import keep_bytes, pack_a, pack_c, pack_w
from bitkiln.models.cost.mapping import _core_job, map_layer
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.workloads.shapes import LayerShape

PE = MorphableDesign(("int8", "fp4"), Accumulator("exact", depth=1024))
CORES = {f"{rows}x{columns}, {bus} bits": MatmulDesign(ArrayDesign(rows, columns, PE), bus_bits=bus, k_words=64,
                                                      accumulate=True)
         for rows, columns, bus in ((2, 4, 32), (4, 4, 64), (4, 8, 128), (3, 5, 64), (2, 2, 256))}


def zeros(rows: int, columns: int) -> np.ndarray:
    return np.zeros((rows, columns), np.int64)


@pytest.mark.parametrize("name", CORES)
def test_operands_and_results(name):
    design, rng = CORES[name], np.random.default_rng(11)
    for _ in range(25):
        mode, order = str(rng.choice(("int8", "fp4"))), str(rng.choice(("a", "w")))
        m, n = (int(rng.integers(1, 30)) for _ in range(2))
        k = int(rng.integers(1, design.max_k(mode) + 1))
        job = Job(mode, m, k, n, order=order, rule="raw", accumulate=bool(rng.integers(2)))
        ports = _core_job(design, job).ports
        assert ports["a"] == pack_a(design, job, zeros(m, k)).size
        assert ports["w"] == pack_w(design, job, zeros(n, k)).size
        # Partial sums and results are counted without the empty ends of their beats.
        rows = range(0, n, design.columns)
        padded = sum(min(design.columns, n - at) * design.raw_bits for at in rows) * m
        assert ports["o"] == -(-padded // 8) <= keep_bytes(design, job).sum()
        assert ("c" in ports) == job.accumulate
        if job.accumulate:
            assert ports["c"] == ports["o"] <= pack_c(design, job, zeros(m, n)).size


def test_a_layer_is_its_jobs():
    """Raw partial jobs first, then the one that makes codes: each packed by itself."""
    design = CORES["4x4, 64 bits"]
    longest = design.max_k("int8")
    layer = LayerShape("long", 9, 2 * longest + 3, 6, count=2)
    found = map_layer(design, layer, "int8")
    order = found.detail.split()[-1]
    first = Job("int8", 9, longest, 6, order=order)
    whole = sum(pack_a(design, first, zeros(9, longest)).size for _ in range(2))
    last = Job("int8", 9, 3, 6, order=order)
    assert found.ports["a"] == 2 * (whole + pack_a(design, last, zeros(9, 3)).size)
    assert found.jobs == 6
