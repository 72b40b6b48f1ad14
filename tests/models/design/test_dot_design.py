"""Parameters of the dot unit: widths by the sizing rule, names, defaults and refusals."""

import pytest

from bitkiln.models.design import Accumulator, DotDesign, parse_pe
from bitkiln.models.errors import BitkilnError


@pytest.mark.parametrize("pe, max_product, exponent, bits", [
    # max |product| in units of its least bit, and 1 + bitlength(1024 * that): independent of the code by hand.
    ("fp4", 144, -2, 19),                       # 6 * 6 / 0.25
    ("int4", 64, 0, 18),
    ("int8", 1 << 14, 0, 26),
    ("ternary", 1, 0, 12),
    ("posit4_1", 1 << 16, -8, 28),
    ("posit8_0", 1 << 24, -12, 36),
    ("posit16_1", 1 << 112, -56, 124),
    ("fp8_e4m3", (448 * 512) ** 2, -18, 47),
    ("fp8_e5m2", (57344 << 16) ** 2, -32, 75),
    ("int8xfp4", 128 * 12, -1, 22),
])
def test_exact_width_follows_the_sizing_rule(pe, max_product, exponent, bits):
    design = DotDesign.from_pe(pe)
    assert (design.max_product, design.product_exponent, design.accumulator_bits) == (max_product, exponent, bits)
    assert not design.has_overflow


def test_width_depends_on_depth_and_not_on_lanes():
    one = DotDesign.from_pe("fp4", lanes=1, accumulator=Accumulator(depth=7))
    assert one.accumulator_bits == 11  # 7 * 144 = 1008 < 2**10
    assert one.with_options(lanes=8).accumulator_bits == 11


def test_flags_exist_where_they_can_be_set():
    assert DotDesign.from_pe("fp4").flags == ()
    assert DotDesign.from_pe("fp8_e4m3").flags == ("nan",)
    assert DotDesign.from_pe("fp8_e5m2").flags == ("nan", "inf_pos", "inf_neg")
    assert DotDesign.from_pe("int8xternary").flags == ("illegal",)
    assert DotDesign.from_pe("int4", accumulator=Accumulator(bits=10)).flags == ("overflow",)
    assert DotDesign.from_pe("fp8_e5m2", accumulator=Accumulator(kind="fp32")).flags == ()
    assert DotDesign.from_pe("fp8_e4m3", specials=False).flags == ()


def test_without_specials_a_minifloat_is_all_finite():
    design = DotDesign.from_pe("fp8_e4m3", specials=False)
    assert design.activation.max == 480 and not design.activation.has_nan


def test_defaults_of_wide_floats():
    design = DotDesign.from_pe("bf16xint4")
    assert (design.accumulator.kind, design.lanes) == ("fp32", 1)
    assert DotDesign.from_pe("bf16xint4", accumulator=Accumulator()).lanes == 4
    assert DotDesign.from_pe("nf4").activation.name == "fp16"


def test_names_tell_designs_apart():
    base = DotDesign.from_pe("posit8_0")
    variants = [base, base.with_options(lanes=2), base.with_options(pipeline=1), base.with_options(output="int8"),
                base.with_options(specials=False), base.with_options(multiplier="luts"),
                base.with_options(accumulator=Accumulator(depth=16)),
                base.with_options(accumulator=Accumulator(bits=20)),
                base.with_options(accumulator=Accumulator(kind="fp32")), DotDesign("posit8_0", "fp4")]
    assert len({design.name for design in variants}) == len(variants)
    assert base.name == "dot_posit8_0_l4_exact36"


@pytest.mark.parametrize("name, activation, weight", [
    ("fp4", "fp4", "fp4"), ("int8xfp4", "int8", "fp4"), ("fp8_e4m3xfp4", "fp8_e4m3", "fp4"),
    ("BF16xINT4", "bf16", "int4"), ("nf4", "fp16", "nf4"), ("int8xternary", "int8", "ternary"),
])
def test_pe_names(name, activation, weight):
    assert tuple(fmt.name for fmt in parse_pe(name)) == (activation, weight)


@pytest.mark.parametrize("make, message", [
    (lambda: DotDesign("fp4", "fp4", lanes=0), "error: out of range at lanes: got 0, expected 1 to 64"),
    (lambda: DotDesign("fp4", "fp4", lanes=True),
     "error: not an integer at lanes: got True, expected an integer 1 to 64"),
    (lambda: DotDesign("fp4", "fp4", pipeline=-1), "error: out of range at pipeline: got -1, expected 0 to 6"),
    (lambda: DotDesign("fp4", "fp4", multiplier="booth"),
     "error: unknown multiplier at multiplier: got 'booth', expected chains, luts or operator\n"
     "help: choices: chains, luts, operator"),
    (lambda: DotDesign("fp4", "int8", accumulator=Accumulator(kind="int32")),
     "error: contradictory options at accumulator.kind: got 'int32', expected integer formats on both sides, or kind "
     "exact"),
    (lambda: DotDesign("fp4", "fp4", output="nf4"),
     "error: no output stage for this format at output: got 'nf4', expected no codebook format\n"
     "help: leave output out and round the raw accumulator later"),
    (lambda: Accumulator(kind="exakt"),
     "error: unknown accumulator at accumulator.kind: got 'exakt', expected exact, fp32 or int32\n"
     "help: did you mean exact?"),
    (lambda: Accumulator(kind="fp32", bits=40),
     "error: contradictory options at accumulator.bits: got 40, expected no width with kind fp32 (it is 32 bits)"),
    (lambda: Accumulator(overflow="saturate"),
     "error: contradictory options at accumulator.overflow: got 'saturate', expected wrap with kind exact; only int32 "
     "saturates"),
])
def test_refusals(make, message):
    with pytest.raises(BitkilnError) as caught:
        make()
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
