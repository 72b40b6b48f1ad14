"""Parameters of the switchable PE: lanes, widths, sections, flags, names and refusals."""

import itertools

import pytest

from bitkiln.models.design import XR_NPE_MODES, Accumulator, DotDesign, Mode, MorphableDesign
from bitkiln.models.design.morphable import COMMON_MODES
from bitkiln.models.errors import BitkilnError


@pytest.mark.parametrize("name, lanes, weight_word_bits", [
    ("fp4", 4, 16), ("int8", 2, 16), ("posit16_1", 1, 16), ("int8xint4", 2, 8), ("int8xfp4", 2, 8),
    ("int16xint8", 1, 8), ("int16xint4", 1, 4),
])
def test_lanes_fill_a_word(name, lanes, weight_word_bits):
    mode = Mode.of(name)
    assert (mode.lanes, mode.weight_word_bits, mode.name) == (lanes, weight_word_bits, name)
    assert mode.dot().lanes == lanes


def test_common_modes_are_modes():
    exact = [name for name in COMMON_MODES if name != "bf16"]
    assert MorphableDesign(exact).flags == ("nan", "inf_pos", "inf_neg")
    assert MorphableDesign(COMMON_MODES, Accumulator(kind="fp32")).flags == ()
    assert set(XR_NPE_MODES) < set(COMMON_MODES)


def test_width_is_that_of_the_widest_mode():
    design = MorphableDesign(XR_NPE_MODES)
    assert design.result_bits == DotDesign.from_pe("posit16_1").accumulator_bits == 124
    assert MorphableDesign(("fp4", "int8")).result_bits == 26
    assert MorphableDesign(("int8",), Accumulator(kind="int32")).result_bits == 32
    assert MorphableDesign(("int8",), Accumulator(kind="fp32")).result_bits == 32
    assert design.dot("fp4").accumulator is design.accumulator


def test_sections_hold_their_lanes_share():
    """Sections do not overlap, and each holds the largest sum that its lane can reach."""
    tried = 0
    for modes in itertools.chain.from_iterable(itertools.combinations(
            ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "int8", "posit16_1", "int16"), n) for n in (1, 2, 3)):
        for depth in (1, 7, 1024):
            design = MorphableDesign(modes, Accumulator(depth=depth), implementation="merged")
            for mode in design.modes:
                ends = [*design.sections(mode)[1:], design.accumulator_bits]
                assert design.accumulator_bits >= design.result_bits and design.sections(mode)[0] == 0
                if not design.sectioned or mode.lanes == 1:
                    assert design.sections(mode) == (0,)
                    continue
                assert len(design.sections(mode)) == mode.lanes
                tried += 1
                for lane, (start, end) in enumerate(zip(design.sections(mode), ends, strict=True)):
                    most = len(range(lane, depth, mode.lanes)) * mode.dot().max_product
                    assert most < 1 << (end - start - 1)
    assert tried > 50


def test_dedicated_lanes_share_one_sum():
    design = MorphableDesign(XR_NPE_MODES, implementation="parallel")
    assert {design.sections(mode) for mode in design.modes} == {(0,)}
    assert design.accumulator_bits == design.result_bits


def test_flags_exist_where_a_mode_has_them():
    assert MorphableDesign(("fp4", "int8")).flags == ()
    assert MorphableDesign(("fp4", "posit8_0")).flags == ("nan",)
    assert MorphableDesign(("fp4", "fp8_e5m2")).flags == ("nan", "inf_pos", "inf_neg")
    assert MorphableDesign(("int16",), Accumulator(kind="int32")).flags == ("overflow",)
    assert MorphableDesign(("int8",), Accumulator(kind="int32")).flags == ()


def test_modes_by_name():
    design = MorphableDesign(("fp4", "int8xfp4", Mode.of("int8")))
    assert design.mode_bits == 2 and MorphableDesign(("fp4",)).mode_bits == 1
    assert [design.index(mode) for mode in ("fp4", "int8xfp4", design.modes[2])] == [0, 1, 2]
    assert design.latency == 1 and design.with_options(pipeline=2).latency == 3


def test_names_tell_designs_apart():
    base = MorphableDesign(("fp4", "int8"), implementation="parallel")
    variants = [base, base.with_options(implementation="merged"), base.with_options(pipeline=1),
                base.with_options(implementation="packed"),
                base.with_options(implementation="merged", multiplier="operator"),
                base.with_options(multiplier="operator"),
                base.with_options(modes=("int8", "fp4")), base.with_options(modes=("fp4",)),
                base.with_options(accumulator=Accumulator(depth=16)),
                base.with_options(accumulator=Accumulator(kind="fp32")),
                MorphableDesign(("int4", "int8"), Accumulator(kind="int32"), "parallel"),
                MorphableDesign(("int4", "int8"), Accumulator(kind="int32", overflow="saturate"), "parallel")]
    assert len({design.name for design in variants}) == len(variants)
    assert base.name == "pe_fp4_int8_parallel_exact1024"


@pytest.mark.parametrize("make, message", [
    (lambda: MorphableDesign(()), "error: no modes at modes: got (), expected a list of PE names, such as fp4, int8"),
    (lambda: MorphableDesign("fp4"),
     "error: no modes at modes: got 'fp4', expected a list of PE names, such as fp4, int8"),
    (lambda: MorphableDesign((4,)), "error: unknown PE at PE: got 4, expected a format name or AxW"),
    (lambda: MorphableDesign(("fp4", "int8", "fp4")),
     "error: mode named twice at modes: got 'fp4', expected each mode once"),
    (lambda: MorphableDesign(("fp6_e2m3",)),
     "error: no SIMD mode for this format at modes.activation: got 'fp6_e2m3', expected a format of 4, 8 or 16 bits"),
    (lambda: MorphableDesign(("int8xternary",)),
     "error: no SIMD mode for this format at modes.weight: got 'ternary', expected a format of 4, 8 or 16 bits"),
    (lambda: MorphableDesign(("int4xint8",)),
     "error: no SIMD mode for this pair at modes: got 'int4xint8', expected weights no wider than activations"),
    (lambda: MorphableDesign(("fp4",), implementation="merge"),
     "error: unknown implementation at implementation: got 'merge', expected merged, parallel or packed\n"
     "help: did you mean merged?"),
    (lambda: MorphableDesign(("fp4",), multiplier="dsp"),
     "error: unknown multiplier at multiplier: got 'dsp', expected chains, luts or operator\n"
     "help: choices: chains, luts, operator"),
    (lambda: MorphableDesign(("fp4", "int8"), implementation="merged", multiplier="luts"),
     "error: contradictory options at multiplier: got 'luts', expected chains or operator with implementation merged\n"
     "help: implementation parallel has every choice"),
    (lambda: MorphableDesign(("fp4", "int8"), implementation="packed", multiplier="luts"),
     "error: contradictory options at multiplier: got 'luts', expected chains with implementation packed\n"
     "help: implementation parallel has every choice"),
    (lambda: MorphableDesign(("fp4", "posit8_0"), implementation="packed"),
     "error: no packed PE for this at implementation: got 'packed with posit8_0', expected an exact or int32 "
     "accumulator and modes of fp4, int4, fp8_e4m3, int8, int8xfp4, int8xint4\n"
     "help: implementation parallel takes every mode"),
    (lambda: MorphableDesign(("fp4",), Accumulator("fp32"), implementation="packed"),
     "error: no packed PE for this at implementation: got 'packed with an fp32 accumulator', expected an exact or "
     "int32 accumulator and modes of fp4, int4, fp8_e4m3, int8, int8xfp4, int8xint4\n"
     "help: implementation parallel takes every mode"),
    (lambda: MorphableDesign(("fp4",), pipeline=5), "error: out of range at pipeline: got 5, expected 0 to 4"),
    (lambda: MorphableDesign(("fp4",), pipeline=True), "error: out of range at pipeline: got True, expected 0 to 4"),
    (lambda: MorphableDesign(("fp4",), Accumulator(bits=40)),
     "error: contradictory options at accumulator.bits: got 40, expected no width with several modes; it follows from "
     "depth"),
    (lambda: MorphableDesign(("int8", "bf16")),
     "error: accumulator does not fit this mode at accumulator.kind: got 'exact', expected fp32 with bf16"),
    (lambda: MorphableDesign(("fp16xint4",)),
     "error: accumulator does not fit this mode at accumulator.kind: got 'exact', expected fp32 with fp16xint4"),
    (lambda: MorphableDesign(("int8", "fp4"), Accumulator(kind="int32")),
     "error: contradictory options at accumulator.kind: got 'int32', expected integer formats on both sides, or kind "
     "exact"),
    (lambda: MorphableDesign(("fp4", "int8")).index("int4"),
     "error: this PE has no such mode at mode: got 'int4', expected fp4 or int8\nhelp: did you mean int8?"),
])
def test_refusals(make, message):
    with pytest.raises(BitkilnError) as caught:
        make()
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
