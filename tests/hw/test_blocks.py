# amaranth: UnusedElaboratable=no
"""Every arithmetic block of the dot units on its own: exhaustive up to 20 input bits, else random and corners; and the
blocks of the switchable PEs that have numbers on their ports."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bitkiln.hw.arith.fp32_step import Fp32Step
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.hw.mac.merged_decode import PositPairDecoder
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design import Accumulator, DotDesign, MorphableDesign
from bitkiln.sim.block_check import BlockCheck, blocks_of, build_blocks, check_block, check_for, has_check

SEED = 20
EXACT = Accumulator(depth=64)
PES = ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "posit4_1", "posit8_0", "posit16_1", "int2", "int4",
       "int8", "int16", "ternary", "int8xfp4", "int8xternary", "fp8_e4m3xfp4", "bf16xint4")
OUTPUTS = {"fp4": ("fp4", "int8"), "fp8_e4m3": ("fp8_e4m3", "fp16"), "fp8_e5m2": ("fp8_e5m2", "posit16_1"),
           "posit8_0": ("fp8_e4m3", "posit8_0"), "int4": ("int4", "posit16_1"), "int8": ("int8",),
           "posit4_1": ("bf16", "posit4_1"), "posit16_1": ("posit16_1",)}


# A fixed place, a NaN without infinities, a least bit above and below that of float32.
FP32_MODES = (("int8",), ("posit16_1", "int8"), ("fp16", "fp8_e4m3"), ("fp8_e5m2", "bf16"))


def designs() -> list[DotDesign]:
    found = []
    for pe in PES:
        base = DotDesign.from_pe(pe, lanes=1)
        found += [base, base.with_options(specials=False)] if base.flags else [base]
        found += [base.with_options(output=output, accumulator=EXACT) for output in OUTPUTS.get(pe, ())]
    found.append(DotDesign.from_pe("fp8_e5m2", lanes=2, pipeline=3))
    found += [DotDesign.from_pe(pe, lanes=1, pipeline=4)
              for pe in ("int4", "int8", "fp8_e4m3", "posit8_0", "posit16_1", "int8xfp4", "int8xternary")]
    found.append(DotDesign.from_pe("int8", lanes=2, accumulator=Accumulator(kind="int32", overflow="saturate")))
    return found


@cache
def blocks() -> dict[str, object]:
    """Every distinct block of the designs, the dot units themselves left out (`test_dot.py` has them)."""
    found: dict[str, object] = {PositPairDecoder().module_name: PositPairDecoder()}
    for modes in FP32_MODES:
        pe = MorphablePe(MorphableDesign(modes, Accumulator("fp32"), implementation="parallel"))
        found.update((name, block) for name, block in blocks_of(pe).items() if isinstance(block, Fp32Step))
    for design in designs():
        unit = DotUnit(design)
        found.update((name, block) for name, block in blocks_of(unit).items() if block is not unit)
    return found


@cache
def models() -> dict[str, object]:
    return build_blocks(blocks())


def test_every_block_has_a_check() -> None:
    missing = {name: type(block).__name__ for name, block in blocks().items() if not has_check(block)}
    assert not missing


@pytest.mark.parametrize("kind", ["decoder", "multiplier", "shift sum", "shifter", "signed shifter",
                                  "lane product", "rounder", "fp32 step", "posit pair decoder"])
def test_blocks_equal_their_golden_function(kind: str) -> None:
    checked, rows = 0, 0
    for name, block in blocks().items():
        if check_for(block, SEED).kind == kind:
            rows += check_block(block, seed=SEED, model=models()[name])
            checked += 1
    assert checked and rows > 1000 * checked or kind in ("decoder", "multiplier")
    assert checked and rows


def test_a_check_fails_on_a_wrong_block() -> None:
    """The decoder of one format is not the decoder of its neighbour."""
    e4m3, e5m2 = (next(block for block in blocks().values() if getattr(block, "module_name", "") == name)
                  for name in ("decode_fp8_e4m3", "decode_fp8_e5m2"))
    check: BlockCheck = check_for(e4m3, SEED)
    segment = next(iter(check.segments()))
    assert check.wrong(models()["decode_fp8_e4m3"], segment).sum() == 0
    other = models()["decode_fp8_e5m2"].run(segment.inputs)
    assert (check.view(other | {"nan": np.zeros(256)})["value"] != segment.expected["value"]).sum() > 100
    assert e5m2 is not e4m3
