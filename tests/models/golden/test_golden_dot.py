"""The golden dot product against rational arithmetic that shares no code with it."""

from fractions import Fraction

import numpy as np
import pytest

from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Special
from bitkiln.models.golden import dot, trace

PAIRS = ["fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "posit4_1", "posit8_0", "posit16_1", "int2",
         "int4", "int8", "int16", "ternary", "int8xfp4", "int8xternary", "fp8_e4m3xfp4", "posit8_0xfp4"]


def finite_value(fmt, code):
    """Value of a code as a Fraction, 0 for specials."""
    value = float(fmt.decode(np.array([code]))[0])
    return Fraction(value) if np.isfinite(value) else Fraction(0)


def rational_dot(design, a, w):
    total = Fraction(0)
    for x, y in zip(a.reshape(-1), w.reshape(-1), strict=True):
        total += finite_value(design.activation, x) * finite_value(design.weight, y)
    return total


def operands(design, shape, seed):
    """Random codes of ordinary numbers."""
    rng, out = np.random.default_rng(seed), []
    for fmt in (design.activation, design.weight):
        codes = rng.integers(0, 1 << fmt.bits, shape)
        out.append(np.where(fmt.unpack(codes).special == Special.NONE, codes, 0))
    return out


@pytest.mark.parametrize("pe", PAIRS)
def test_exact_sum_equals_rational_arithmetic(pe):
    design = DotDesign.from_pe(pe)
    a, w = operands(design, (40, 5, design.lanes), 11)
    result = dot(design, a, w)
    unit = Fraction(2) ** design.product_exponent
    for i in range(len(a)):
        assert int(result.acc[i]) * unit == rational_dot(design, a[i], w[i])


@pytest.mark.parametrize("pe", PAIRS)
def test_order_of_terms_does_not_change_an_exact_result(pe):
    design = DotDesign.from_pe(pe)
    a, w = operands(design, (8, 16, design.lanes), 12)
    rng = np.random.default_rng(13)
    order = rng.permutation(16 * design.lanes)
    shuffled = [x.reshape(8, -1)[:, order].reshape(x.shape) for x in (a, w)]
    np.testing.assert_array_equal(dot(design, a, w).acc, dot(design, *shuffled).acc)


@pytest.mark.parametrize("pe", PAIRS)
def test_depth_extreme_products_fit_and_one_more_bit_would_not_be_needed(pe):
    design = DotDesign.from_pe(pe)
    activation, weight = design.activation, design.weight
    units_a = [int(v) for v in activation.units(np.arange(1 << activation.bits))]
    units_w = [int(v) for v in weight.units(np.arange(1 << weight.bits))]
    extreme_a = [units_a.index(min(units_a)), units_a.index(max(units_a))]
    extreme_w = [units_w.index(min(units_w)), units_w.index(max(units_w))]
    cycles = design.accumulator.depth // design.lanes
    for x in extreme_a:
        for y in extreme_w:
            a = np.full((cycles, design.lanes), x)
            w = np.full((cycles, design.lanes), y)
            exact = design.accumulator.depth * units_a[x] * units_w[y]
            assert int(dot(design, a, w).acc[0]) == exact
            assert -(1 << design.accumulator_bits - 1) <= exact < 1 << design.accumulator_bits - 1


@pytest.mark.parametrize("pe", ["fp4", "posit16_1", "fp8_e5m2", "int8xternary"])
@pytest.mark.parametrize("pipeline", [0, 3])
def test_trace_equals_dot_of_each_segment(pe, pipeline):
    design = DotDesign.from_pe(pe, pipeline=pipeline)
    cycles = 200
    a, w = operands(design, (cycles, design.lanes), 14)
    rng = np.random.default_rng(15)
    en, clear = rng.random(cycles) < 0.7, rng.random(cycles) < 0.05
    result = trace(design, a, w, en, clear)
    for t in range(pipeline, cycles):
        last = t - pipeline
        start = max([k + 1 for k in range(last + 1) if clear[k]], default=0)
        chosen = [k for k in range(start, last + 1) if en[k]]
        part = dot(design, a[chosen][None], w[chosen][None]) if chosen else None
        assert int(result.acc[t]) == (int(part.acc[0]) if part else 0)
        for flag in ("nan", "inf_pos", "inf_neg", "illegal"):
            assert bool(getattr(result, flag)[t]) == (bool(getattr(part, flag)[0]) if part else False)


def test_narrow_accumulator_wraps_with_a_sticky_flag():
    design = DotDesign.from_pe("int4", lanes=1, accumulator=Accumulator(bits=8))
    a = np.full((6, 1), 8)  # -8 * -8 = 64 each
    result = trace(design, a, a, np.ones(6, bool), np.array([0, 0, 0, 0, 0, 1], bool))
    assert result.acc.tolist() == [64, -128, -64, 0, 64, 0]
    assert result.overflow.tolist() == [False, True, True, True, True, False]


def test_int32_saturates_or_wraps():
    a = np.full((1 << 14, 1), 0x8000)
    wrap = DotDesign.from_pe("int16", lanes=1, accumulator=Accumulator(kind="int32"))
    saturate = DotDesign.from_pe("int16", lanes=1, accumulator=Accumulator(kind="int32", overflow="saturate"))
    few = a[:3]
    assert dot(wrap, few, few).acc[0] == 3 * (1 << 30) - (1 << 32)
    assert dot(saturate, few, few).acc[0] == (1 << 31) - 1
    assert dot(saturate, few, few).overflow[0]


def test_fp32_accumulator_rounds_each_cycle_like_numpy_where_one_lane_is_exact():
    design = DotDesign.from_pe("bf16xint4", lanes=1)
    rng = np.random.default_rng(16)
    values = (rng.standard_normal((50, 30, 1)) * np.exp2(rng.integers(-20, 20, (50, 30, 1)))).astype(np.float32)
    a = design.activation.encode(values)
    w = rng.integers(0, 16, a.shape)
    products = (design.activation.decode(a) * design.weight.decode(w)).astype(np.float64)
    acc = np.zeros(50, np.float32)
    for k in range(30):
        # Both terms and their sum are exact in long double (64 bits cover the 24+40 bits in play).
        acc = (acc.astype(np.longdouble) + products[:, k, 0].astype(np.longdouble)).astype(np.float32)
    np.testing.assert_array_equal(dot(design, a, w).acc, acc.view(np.uint32))


def test_a_cycle_with_a_special_product_only_sets_the_flag():
    design = DotDesign.from_pe("fp8_e4m3", lanes=2)
    one, nan = 0x38, 0x7F
    a = np.array([[one, one], [nan, one], [one, one]])
    result = trace(design, a, np.full((3, 2), one), np.ones(3, bool), np.zeros(3, bool))
    unit = 2.0 ** design.product_exponent
    assert (result.acc * unit).tolist() == [2.0, 2.0, 4.0]
    assert result.nan.tolist() == [False, True, True]


def test_nan_and_infinity_are_sticky_and_cancel_to_nan():
    design = DotDesign.from_pe("fp8_e5m2", lanes=1)
    inf, minus_inf, nan, one, zero = 0x7C, 0xFC, 0x7E, 0x3C, 0x00
    rows = [([inf], [one]), ([minus_inf], [one]), ([nan], [one]), ([inf], [zero]), ([one], [one])]
    flags = []
    for x, y in rows:
        r = dot(design, np.array([[x]]), np.array([[y]]))
        flags.append((bool(r.nan[0]), bool(r.inf_pos[0]), bool(r.inf_neg[0])))
    assert flags == [(False, True, False), (False, False, True), (True, False, False), (True, False, False),
                     (False, False, False)]
    both = dot(design, np.array([[[inf], [minus_inf]]]), np.array([[[one], [one]]]))
    assert np.isnan(both.value(design)[0])


@pytest.mark.parametrize("output", ["fp8_e4m3", "fp4", "int8", "posit8_0", "bf16", "fp32"])
def test_output_is_rounded_once(output):
    design = DotDesign.from_pe("fp8_e4m3", output=output)
    a, w = operands(design, (300, 3, design.lanes), 17)
    result = dot(design, a, w)
    exact = [rational_dot(design, x, y) for x, y in zip(a, w, strict=True)]
    as_float = np.array([float(v) for v in exact])  # 45 bits: exact
    np.testing.assert_array_equal(result.o, design.output.encode(as_float))


def test_bad_operands_are_refused():
    design = DotDesign.from_pe("fp4")
    good = np.zeros((2, 4), int)
    with pytest.raises(BitkilnError, match=r"error: shape mismatch at a and w: got '\(1, 2, 4\) and \(1, 3, 4\)', "
                                           r"expected equal shapes \(\.\.\., cycles, lanes\)"):
        dot(design, good, np.zeros((3, 4), int))
    with pytest.raises(BitkilnError, match=r"error: code outside the format at w\[5\]: got 16, "
                                           r"expected 0 to 15 \(fp4\)"):
        bad = good.copy()
        bad[1, 1] = 16
        dot(design, good, bad)
    with pytest.raises(BitkilnError, match="error: wrong dtype at a: got 'float64', expected integer codes"):
        dot(design, good.astype(float), good)
    with pytest.raises(BitkilnError, match=r"error: wrong shape at a: got \(1, 2, 3\), "
                                           r"expected \(\.\.\., cycles, 4 lanes\)"):
        dot(design, good[:, :3], good[:, :3])
