# amaranth: UnusedElaboratable=no
"""The output lane and its arithmetic parts against integers of any size."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned

from bitkiln.hw.arith.delay import DelayLine
from bitkiln.hw.arith.float_add import FloatAdd
from bitkiln.hw.arith.float_clamp import FloatClamp
from bitkiln.hw.arith.float_convert import FixedToFloat, FloatUnpack
from bitkiln.hw.arith.scale import PipelinedMultiplier, Scaler
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.output import OutputLane
from bitkiln.models.design import XR_NPE_MODES, Accumulator, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.block_check import build_blocks
from bitkiln.sim.output_check import check_lane, part_check

SEED = 7


def design(*modes: str, kind: str = "exact", implementation: str = "parallel", rows: int = 4, columns: int = 4,
           **options) -> MatmulDesign:
    pe = MorphableDesign(modes, accumulator=Accumulator(kind), implementation=implementation)
    return MatmulDesign(ArrayDesign(rows, columns, pe), **options)


LANES = {
    "integers only": design("int8", rules=("integer",), outputs=("int8",)),
    "all rules": design("int8"),
    "raw only": design("fp4", rules=("raw",), bias=False, accumulate=False),
    "nothing added": design("int8", "fp4", bias=False, accumulate=False),
    "int32": design("int8", "int4", kind="int32"),
    "fp32": design("bf16", "fp8_e5m2", kind="fp32"),
    "blocks": design("fp4", block=("mxfp4", "nvfp4")),
    "few slots": design("fp4", "int8", rows=1, columns=2, output_lanes=2, block=("nvfp4",), bias=False),
    "xr-npe": design(*XR_NPE_MODES),
}
SLOW_LANES = {
    "sections": design(*XR_NPE_MODES, implementation="merged"),
    "mixed": design("fp4", "int4", "int8", "fp8_e4m3", rows=8, columns=8),
    "wide blocks": design("fp8_e5m2", "fp8_e4m3", "int8", block=("mxfp8_e5m2", "mxfp8_e4m3")),
    "below float32": design("posit16_3", outputs=("posit16_1", "fp32")),
    "beyond float32": design("posit16_2", "int16", outputs=("posit16_2", "int16", "fp32")),
    "unsigned": design("int8", outputs=("uint8", "int16", "int4", "ue5m3")),
}


def parts() -> list:
    return [FixedToFloat(8), FixedToFloat(16), FixedToFloat(33), FixedToFloat(124), FixedToFloat(33, 26, rounded=False),
            FixedToFloat(70, 70, rounded=False), FloatUnpack(), FloatAdd(), FloatAdd(26), FloatAdd(45), FloatClamp(),
            PipelinedMultiplier(unsigned(24), unsigned(24)), PipelinedMultiplier(signed(48), unsigned(31)),
            PipelinedMultiplier(signed(32), unsigned(31), "chains"), PipelinedMultiplier(signed(9), unsigned(1)),
            Scaler(32, False), Scaler(0, True), Scaler(48, True), Scaler(32, True, "chains"),
            DelayLine(7, 1), DelayLine(7, 3), DelayLine(64, 3), DelayLine(48, 4), DelayLine(70, 9), DelayLine(32, 16)]


@cache
def part_models() -> dict:
    return build_blocks({unit.module_name: unit for unit in parts()})


@cache
def lane_models() -> dict:
    return build_blocks({name: OutputLane(one) for name, one in LANES.items()}, size=5)


@pytest.mark.parametrize("unit", parts(), ids=lambda unit: unit.module_name)
def test_part_equals_integers(unit) -> None:
    check = part_check(unit, SEED)
    for segment in check.segments():
        bad = check.wrong(part_models()[unit.module_name], segment)
        row = int(np.argmax(bad))
        assert not bad.any(), (f"seed {SEED}: {int(bad.sum())} of {segment.rows} rows, first {row}",
                               check.row(part_models()[unit.module_name], segment, row))


def test_part_check_notices_what_a_stalled_part_does() -> None:
    """A part that goes on while it should stand still."""
    for unit in (DelayLine(7, 3), FloatUnpack(), Scaler(48, True)):
        check = part_check(unit, SEED, rows=2000)
        for segment in check.segments():
            assert check.wrong(part_models()[unit.module_name], segment, {"en": 1}).sum() > 500


@pytest.mark.parametrize("name", LANES)
def test_lane_equals_integers(name: str) -> None:
    assert check_lane(LANES[name], seed=SEED, rows=80, model=lane_models()[name]) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LANES, *SLOW_LANES])
@pytest.mark.parametrize("multiplier", ["operator", "chains"])
def test_lane_equals_integers_at_length(name: str, multiplier: str) -> None:
    seed = int.from_bytes(os.urandom(3), "little")
    one = {**LANES, **SLOW_LANES}[name]
    print(f"seed {seed}")
    assert check_lane(one, seed=seed, rows=1500, multiplier=multiplier) > 1000


def test_lane_check_fails_on_another_lane() -> None:
    """A lane that ignores a flag of the job, and one that mixes up its output formats."""
    lane = LANES["integers only"]
    other = BatchModel(OutputLane(lane.with_options(outputs=("int4",))))
    with pytest.raises(BitkilnError, match="output lane differs"):
        check_lane(lane, seed=SEED, rows=50, model=other)


@pytest.mark.parametrize("name", LANES)
def test_only_what_is_needed(name: str) -> None:
    text = to_verilog(OutputLane(LANES[name]))
    one = LANES[name]
    assert ("module float_clamp" in text) == ("float" in one.rules)
    assert ("module float_add" in text) == (bool(one.block) or one.floating)
    assert ("module encode" in text) == (one.rules != ("raw",))
    assert "module scale" in text or one.rules == ("raw",)
    assert not any(word in text.split() for word in ("rst", "rst;")), "no reset"


def test_latency_is_what_the_parts_take() -> None:
    assert OutputLane(LANES["raw only"]).latency == 0
    assert OutputLane(LANES["integers only"]).latency == 7
    assert OutputLane(LANES["blocks"]).block_loop == 4 and OutputLane(LANES["all rules"]).block_loop == 1
