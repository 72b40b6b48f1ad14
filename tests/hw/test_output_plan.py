# amaranth: UnusedElaboratable=no
"""The output lane's latency is the number that the design states (and the cycle model uses)."""

from __future__ import annotations

import itertools

import pytest

from bitkiln.hw.mac.array import MatmulArray
from bitkiln.hw.mac.output import OutputLane
from bitkiln.models.design import XR_NPE_MODES, Accumulator, ArrayDesign, MatmulDesign, MorphableDesign

BUILDS = [(("int8",), "exact"), (("int8", "int4"), "int32"), (XR_NPE_MODES, "exact"), (("bf16", "int8"), "fp32"),
          (("fp8_e5m2", "int4"), "exact"), (("fp4", "fp8_e4m3"), "exact"), (("posit16_1", "int16"), "exact")]
RULES = [None, ("raw",), ("integer",), ("float",), ("raw", "float")]


@pytest.mark.parametrize(("modes", "kind"), BUILDS)
def test_latency(modes, kind):
    checked = 0
    for implementation, rules, bias, accumulate in itertools.product(("merged", "parallel"), RULES, (0, 1), (0, 1)):
        pe = MorphableDesign(modes, Accumulator(kind), implementation=implementation) \
            if kind == "exact" or implementation == "parallel" else None
        integers = any(name.startswith("int") for name in modes) and kind != "fp32"
        if pe is None or (rules == ("integer",) and not integers):
            continue
        for block in ((), ("mxfp4",), ("nvfp4", "mxfp8_e4m3")) if "fp4" in modes and kind == "exact" else ((),):
            if any(name.split("mx")[-1] not in modes for name in block if name.startswith("mx")):
                continue
            design = MatmulDesign(ArrayDesign(4, 4, pe), rules=rules, bias=bool(bias), accumulate=bool(accumulate),
                                  block=block)
            lane = OutputLane(design)
            assert (lane.latency, lane.block_loop) == (design.output_latency, design.block_loop), design
            checked += 1
    assert checked >= 16


@pytest.mark.parametrize("links", ["broadcast", "systolic"])
def test_array_latency(links):
    for pipeline in range(5):
        design = ArrayDesign(3, 5, MorphableDesign(("int8", "fp4"), pipeline=pipeline), links=links)
        assert MatmulArray(design).latency == design.latency
