# amaranth: UnusedElaboratable=no
"""Encoders of the output formats: alone and several in one shifter, every boundary of every format."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bitkiln.hw.formats.encode import Encoder
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.sim.block_check import build_blocks
from bitkiln.sim.output_check import part_check

SEED = 11
FORMATS = ("fp4", "e3m0", "e1m2", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3_ieee", "fp8_e3m4", "e7m0", "ue5m3", "fp16", "bf16",
           "posit4_1", "posit8_0", "posit8_2", "posit16_0", "posit16_1", "posit16_2", "int4", "int8", "int16", "uint8")
GROUPS = (("fp4", "posit4_1", "posit8_0", "posit16_1"), ("fp4", "int4", "int8", "fp8_e4m3"),
          ("bf16", "fp16", "posit8_2", "uint8", "int16"), FORMATS)
SCALED = (("int8",), ("int4", "uint8", "int16"), ("int8", "fp4"))


def encoders() -> list[Encoder]:
    found = [Encoder([get_format(name)]) for name in ("fp4", "fp8_e5m2", "bf16", "posit8_0", "posit16_1", "int8")]
    found += [Encoder([get_format(name) for name in names]) for names in GROUPS]
    found += [Encoder([get_format(name) for name in names], floating, True) for names in SCALED
              for floating in (False, True) if floating or "fp4" not in names]
    return found


@cache
def models() -> dict:
    return build_blocks({unit.module_name: unit for unit in encoders()})


@pytest.mark.parametrize("unit", encoders(), ids=lambda unit: unit.module_name[:60])
def test_encoder_equals_the_format(unit: Encoder) -> None:
    check, segments = part_check(unit, SEED), 0
    for segment in check.segments():
        bad = check.wrong(models()[unit.module_name], segment)
        row = int(np.argmax(bad))
        assert not bad.any(), (f"seed {SEED}: {int(bad.sum())} rows, first {row}",
                               check.row(models()[unit.module_name], segment, row))
        segments += 1
    assert segments >= len(unit.formats)


def test_the_check_tells_formats_apart() -> None:
    """The codes of one format are not those of its neighbour."""
    names = GROUPS[1]
    unit = Encoder([get_format(name) for name in names])
    segment = next(iter(part_check(unit, SEED, rows=2000).segments()))
    wrong = type(segment)({**segment.inputs, "index": 3}, segment.expected, segment.skip)
    assert part_check(unit).wrong(models()[unit.module_name], wrong).sum() > 1000


@pytest.mark.parametrize("name", ["e8m0", "posit16_4", "fixed8_6"])
def test_formats_without_an_encoder_are_refused(name: str) -> None:
    with pytest.raises(BitkilnError, match="no output stage"):
        Encoder([get_format(name)])
