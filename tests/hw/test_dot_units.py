"""Dot units of every format pair, RTL against golden on every output bit after every clock edge.

The 17 named PEs run always; every pair of the formats, pipeline depths, accumulators and outputs run with
``make test-full``. Formats of 8 bits or fewer: all operand pairs in each lane; wider: a million random pairs and all
pairs of boundary codes; sums of ``depth`` products at the extremes; random ``en`` and ``clear``.
"""

import pytest

from bitkiln.models.design import MAX_PIPELINE, Accumulator, DotDesign
from bitkiln.sim.dot_check import EXHAUSTIVE_BITS, RANDOM_PAIRS, check_many

SEED = 2026
FORMATS = ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "posit4_1", "posit8_0", "posit16_1", "int2", "int4",
           "int8", "int16", "ternary")
NAMED = (*FORMATS, "int8xfp4", "int8xternary", "fp8_e4m3xfp4", "bf16xint4")


def _agree(designs):
    for design, result in zip(designs, check_many(designs, seed=SEED), strict=True):
        result.raise_on_mismatch()
        narrow = max(design.activation.bits, design.weight.bits) <= EXHAUSTIVE_BITS
        assert result.exhaustive == narrow
        pairs = design.lanes << (design.activation.bits + design.weight.bits) if narrow else RANDOM_PAIRS
        assert result.pairs >= pairs, f"{result.name}: {result.pairs} pairs"
        sums = result.parts[f"sum of {design.accumulator.depth} extremes"]
        assert sums >= design.accumulator.depth // design.lanes


@pytest.mark.parametrize("pe", NAMED)
def test_named_pe(pe):
    _agree([DotDesign.from_pe(pe)])


@pytest.mark.slow
@pytest.mark.parametrize("activation", FORMATS)
def test_every_weight_format(activation):
    _agree([DotDesign.from_pe(f"{activation}x{weight}", lanes=2) for weight in FORMATS])


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["bf16", "fp16"])
def test_float_activations(activation):
    _agree([DotDesign.from_pe(f"{activation}x{weight}") for weight in ("int4", "int8", "fp4", "ternary", "fp8_e5m2")])


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", range(1, MAX_PIPELINE + 1))
def test_every_pipeline_depth(pipeline):
    pes = ("fp4", "fp8_e5m2", "posit8_0", "posit16_1", "int8", "int8xfp4", "posit4_1", "ternary", "bf16xint4")
    _agree([DotDesign.from_pe(pe, pipeline=pipeline) for pe in pes])


@pytest.mark.slow
def test_other_structures():
    _agree([
        DotDesign.from_pe("int8", multiplier="luts"),
        DotDesign.from_pe("int8", multiplier="operator"),
        DotDesign.from_pe("posit16_1", multiplier="luts", lanes=1),
        DotDesign.from_pe("fp8_e4m3", specials=False),
        DotDesign.from_pe("posit8_0", specials=False),
        DotDesign.from_pe("posit8_0", lanes=1, accumulator=Accumulator(depth=127)),
        DotDesign.from_pe("fp8_e5m2", lanes=7, accumulator=Accumulator(depth=64)),
        DotDesign.from_pe("int16", accumulator=Accumulator(kind="int32", overflow="saturate")),
        DotDesign.from_pe("int8", accumulator=Accumulator(bits=18)),
        DotDesign.from_pe("fp8_e4m3", accumulator=Accumulator(kind="fp32"), lanes=2),
    ])


@pytest.mark.slow
@pytest.mark.parametrize("output", ["fp4", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32", "int4", "int8",
                                    "posit4_1", "posit8_0", "posit16_1"])
def test_every_output_format(output):
    accumulator = Accumulator(depth=64)
    _agree([DotDesign.from_pe(pe, lanes=2, output=output, accumulator=accumulator)
            for pe in ("fp4", "fp8_e5m2", "posit8_0", "int8")])
