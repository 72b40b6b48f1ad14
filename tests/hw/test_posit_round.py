"""Posit output stages of every shape: short posits, accumulators too coarse or too narrow for them, all ties."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.arith.posit_round import PositRounder
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.formats import get_format
from bitkiln.models.formats.posit import decode_magnitudes
from bitkiln.models.golden.integers import to_float64_odd
from bitkiln.sim.batch import BatchModel, from_ints
from bitkiln.sim.block_check import build_blocks, check_block
from bitkiln.sim.dot_check import check_many

# (format, accumulator bits, weight of its lowest bit as a power of two)
SMALL = [("posit2_0", 8, -3), ("posit3_0", 8, -3), ("posit3_0", 8, 2), ("posit4_1", 12, -8), ("posit4_1", 10, 3),
         ("posit4_1", 8, -20), ("posit5_0", 14, -6), ("posit5_2", 16, -12), ("posit6_3", 16, -6), ("posit7_4", 18, -4),
         ("posit8_0", 16, -12), ("posit8_0", 16, -3), ("posit8_0", 10, 4), ("posit8_0", 9, -30), ("posit8_0", 3, -1),
         ("posit8_1", 2, 0), ("posit8_2", 16, -6), ("posit16_1", 18, 0)]


def test_every_accumulator_of_small_stages() -> None:
    stages = [PositRounder(bits, unit, get_format(name)) for name, bits, unit in SMALL]
    stages += [PositRounder(12, -8, get_format("posit4_1"), ("nan", "inf_pos", "inf_neg")),
               PositRounder(12, -6, get_format("posit6_0"), ("nan", "inf_pos", "inf_neg"))]
    blocks = {stage.module_name: stage for stage in stages}
    models = build_blocks(blocks)
    for name, stage in blocks.items():
        assert check_block(stage, model=models[name]) == 1 << stage.width + len(stage.flags)


@pytest.mark.parametrize(("es", "bits", "unit"), [(0, 64, -30), (1, 128, -56), (2, 140, -60)])
def test_every_tie_of_16_bits(es: int, bits: int, unit: int) -> None:
    """Ties are the odd codes of the posit of one more bit; the even ones are the values themselves."""
    scales, significands = decode_magnitudes(17, es)
    places = (scales - max(14 - es, 0) - unit).tolist()
    points = {value << place if place >= 0 else value >> -place
              for value, place in zip(significands.tolist(), places, strict=True)}
    limit = 1 << bits - 1
    numbers = np.array([signed for point in sorted(points) for step in (-1, 0, 1)
                        for signed in (point + step, -point - step) if -limit <= signed < limit], object)
    stage = PositRounder(bits, unit, get_format(f"posit16_{es}"))
    ports = from_ints(numbers, bits) if bits > 64 else numbers.astype(np.int64).view(np.uint64)
    answers = BatchModel(stage).run({"i": ports})["o"].astype(np.int64)
    wanted = stage.format.encode(np.asarray(to_float64_odd(numbers, unit), np.float64) + 0.0)
    assert len(numbers) > 300_000 and not (answers != wanted).any()


def test_dot_units_with_posit_outputs() -> None:
    designs = [DotDesign.from_pe("posit8_0", lanes=1, output="posit8_0", accumulator=Accumulator(depth=127, bits=32)),
               DotDesign.from_pe("posit16_1", lanes=1, output="posit8_0"), DotDesign.from_pe("fp4", output="posit8_0"),
               DotDesign.from_pe("int4", output="posit16_1"), DotDesign.from_pe("fp8_e5m2", output="posit16_1"),
               DotDesign.from_pe("int8", output="posit8_0", accumulator=Accumulator(bits=12)),
               DotDesign.from_pe("posit8_0", lanes=2, pipeline=3, output="posit8_2")]
    for result in check_many(designs, seed=3, pairs=4000):
        result.raise_on_mismatch()
