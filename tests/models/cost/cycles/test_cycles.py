"""Cycle model of the core by itself: bounds, speed on large shapes. Against the RTL: tests/sim/test_core_cycles.py."""

from __future__ import annotations

import time

import pytest

from bitkiln.models.cost.cycles.cycles import matmul_cycles, panel_beats
from bitkiln.models.design import ArrayDesign, Job, MatmulDesign, MorphableDesign


def core(rows=4, columns=4, **options) -> MatmulDesign:
    return MatmulDesign(ArrayDesign(rows, columns, MorphableDesign(("int8", "fp4"))), **options)


def test_panels():
    design = core(bus_bits=64, block=("mxfp4",))
    assert panel_beats(design, Job("int8", 9, 20, 9), "a", 4) == 4 * 3
    assert panel_beats(design, Job("int8", 9, 20, 9, per_channel=True), "w", 1) == 2 + 3
    # 5 block scales of 8 bits fill one beat, 130 codes of 4 bits nine.
    assert panel_beats(design, Job("fp4", 9, 130, 9, block="mxfp4"), "a", 2) == 2 * (1 + 9)


@pytest.mark.parametrize(("bus", "lanes", "k", "tile"), [
    (128, 4, 512, 256),       # compute bound: 256 words of two lanes
    (32, 4, 512, 4 * 128 + 1),  # bus bound: four rows of 128 beats, one cycle between panels
    (128, 1, 8, 16 + 3 + 1),  # drain bound: 16 groups, the array's delay, one cycle
])
def test_steady_state(bus, lanes, k, tile):
    design = core(bus_bits=bus, output_lanes=lanes)
    assert design.array_delay == 3

    def cycles(columns: int) -> int:
        return matmul_cycles(design, Job("int8", 4, k, columns, rule="integer", output="int8")).cycles

    assert cycles(4 * 41) - cycles(4 * 40) == tile
    assert cycles(4 * 141) - cycles(4 * 41) == 100 * tile


def test_counts_add_up():
    for job in (Job("int8", 33, 70, 21), Job("fp4", 5, 9, 64, order="w"), Job("int8", 40, 8, 40, rule="integer",
                                                                                output="int8")):
        found = matmul_cycles(core(), job)
        assert found.macs == job.m * job.k * job.n
        assert found.cycles == 1 + found.compute + found.stall_a + found.stall_w + found.stall_drain + found.drain - 1
        assert 0 < found.utilisation <= 1
        assert found.fill <= found.stall_a + found.stall_w


def test_large_shapes_take_no_time():
    start = time.process_time()
    found = matmul_cycles(core(16, 16, bus_bits=512), Job("int8", 65535, 1024, 65535, rule="integer", output="int8"))
    assert found.utilisation > 0.98
    assert time.process_time() - start < 5
