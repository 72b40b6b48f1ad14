"""Every code of every format of at most 16 bits, against rational models and other libraries."""

from fractions import Fraction

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat import formats as gfloat_formats
from rational import model

from bitkiln.models.formats import Special, format_names, get_format

NAMES = [n for n in format_names() if n != "fp32"]
EXTRA = ["fixed8_4", "ufixed8_4", "fixed8_6", "fixed16_16", "fixed2_0", "ufixed1_1", "ufixed16_3"]
ML_DTYPES = {
    "fp4": ml_dtypes.float4_e2m1fn, "fp6_e2m3": ml_dtypes.float6_e2m3fn, "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn, "fp8_e5m2": ml_dtypes.float8_e5m2, "fp8_e3m4": ml_dtypes.float8_e3m4,
    "fp8_e4m3_ieee": ml_dtypes.float8_e4m3, "fp16": np.float16, "bf16": ml_dtypes.bfloat16,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
GFLOAT = {
    "fp4": gfloat_formats.format_info_ocp_e2m1, "fp6_e2m3": gfloat_formats.format_info_ocp_e2m3,
    "fp6_e3m2": gfloat_formats.format_info_ocp_e3m2, "fp8_e4m3": gfloat_formats.format_info_ocp_e4m3,
    "fp8_e5m2": gfloat_formats.format_info_ocp_e5m2, "fp16": gfloat_formats.format_info_binary16,
    "bf16": gfloat_formats.format_info_bfloat16, "e8m0": gfloat_formats.format_info_ocp_e8m0,
    "fixed8_6": gfloat_formats.format_info_ocp_int8,
}


def codes_of(f):
    return np.arange(1 << f.bits, dtype=np.uint8 if f.bits <= 8 else np.uint16)


def assert_same(got, expected, sign_of_zero=True):
    np.testing.assert_array_equal(got, expected)   # NaN equals NaN here
    if sign_of_zero:
        zero = got == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def test_all_families_are_listed():
    assert len(NAMES) >= 130
    assert {get_format(n).family for n in NAMES} == {"int", "minifloat", "posit", "codebook"}


@pytest.mark.parametrize("name", NAMES + EXTRA)
def test_decode_and_unpack_equal_rational_model(name):
    f, m = get_format(name), model(name)
    assert f.bits == m.bits
    codes = codes_of(f)
    assert_same(f.decode(codes), m.decode(), sign_of_zero=False)
    sign, exponent, significand, special = (column.tolist() for column in f.unpack(codes))
    units = f.units(codes).tolist()
    # In integer multiples of a power of two at or below every value, which is much faster than Fractions.
    base = min(-max(w.denominator.bit_length() for w in m.words if isinstance(w, Fraction)), f.unit_exponent,
               min(exponent))
    words = {Special.NAN: "nan", Special.ILLEGAL: "illegal"}
    for code, word in enumerate(m.words):
        if isinstance(word, Fraction):
            assert special[code] == Special.NONE
            whole = (word.numerator << -base) // word.denominator if base < 0 else word.numerator
            magnitude = significand[code] << (exponent[code] - base)
            assert (-magnitude if sign[code] else magnitude) == whole
            assert units[code] << (f.unit_exponent - base) == whole
        else:
            assert significand[code] == 0 and units[code] == 0
            if special[code] == Special.INF:
                assert word == ("-inf" if sign[code] else "inf")
            else:
                assert words[special[code]] == word
    assert (f.has_nan, f.has_inf, f.has_illegal) == tuple(
        any(w in m.words for w in kind) for kind in (("nan",), ("inf", "-inf"), ("illegal",)))


@pytest.mark.parametrize("name", NAMES + EXTRA)
def test_attributes_equal_rational_model(name):
    f, m = get_format(name), model(name)
    assert Fraction(f.max) == m.values[-1] and Fraction(f.min) == m.values[0]
    assert Fraction(f.min_positive) == min(v for v in m.values if v > 0)
    assert f.signed == (m.values[0] < 0)
    unit = Fraction(2) ** f.unit_exponent
    integers = [v / unit for v in m.values]
    assert all(i.denominator == 1 for i in integers) and any(i.numerator % 2 for i in integers)
    assert f.max_units == max(abs(i) for i in integers)
    integer_bits, fraction_bits = f.fixed_point()
    assert all(abs(v) < Fraction(2) ** integer_bits for v in m.values)
    assert fraction_bits == -f.unit_exponent
    assert f.has_negative_zero == m.signed_zero
    if m.signed_zero:
        assert np.signbit(f.decode(np.array([m.negative_zero_code]))[0])


@pytest.mark.parametrize("name", ML_DTYPES)
def test_decode_equals_ml_dtypes(name):
    f = get_format(name)
    codes = codes_of(f)
    with np.errstate(invalid="ignore"):
        expected = codes.view(ML_DTYPES[name]).astype(np.float64)
    assert_same(f.decode(codes), expected)


@pytest.mark.parametrize("name", GFLOAT)
def test_decode_equals_gfloat(name):
    f = get_format(name)
    codes = codes_of(f)
    assert_same(f.decode(codes), np.asarray(gfloat.decode_ndarray(GFLOAT[name], codes), np.float64))


@pytest.mark.parametrize(("bits", "es", "convert"), [(8, 0, "convertP8ToDouble"), (16, 1, "convertP16ToDouble")])
def test_decode_equals_softposit(bits, es, convert):
    softposit = pytest.importorskip("softposit")
    f = get_format(f"posit{bits}_{es}")
    kind = softposit.posit8 if bits == 8 else softposit.posit16
    values = []
    for code in range(0, 1 << bits, 1 if bits == 8 else 7):
        if code == f.nan_code:
            values.append(np.nan)     # the wrapper turns NaR into infinity
            continue
        posit = kind(0)
        posit.fromBits(code)
        values.append(float(posit))
    assert_same(f.decode(np.arange(0, 1 << bits, 1 if bits == 8 else 7)), np.array(values), sign_of_zero=False)


def test_values_published():
    """Maxima and minima as printed in OCP FP8 1.0, OCP MX 1.0, IEEE 754 and the UE5M3 papers."""
    facts = {
        "fp8_e5m2": (57344.0, 2.0**-14, 2.0**-16), "fp8_e4m3": (448.0, 2.0**-6, 2.0**-9),
        "fp6_e3m2": (28.0, 0.25, 0.0625), "fp6_e2m3": (7.5, 1.0, 0.125), "fp4": (6.0, 1.0, 0.5),
        "fp8_e4m3_ieee": (240.0, 2.0**-6, 2.0**-9), "fp8_e3m4": (15.5, 2.0**-2, 2.0**-6),
        "fp16": (65504.0, 2.0**-14, 2.0**-24), "ue5m3": (114688.0, 2.0**-14, 2.0**-17),
        "ue4m3": (448.0, 2.0**-6, 2.0**-9),
        "fp32": (float(np.finfo(np.float32).max), 2.0**-126, 2.0**-149),
    }
    for name, (largest, normal, smallest) in facts.items():
        f = get_format(name)
        assert (f.max, f.min_normal, f.min_positive) == (largest, normal, smallest), name
    assert get_format("e1m2").decode(np.arange(8)).tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert get_format("e8m0").max == 2.0**127 and get_format("e8m0").min_positive == 2.0**-127
    assert get_format("posit8_0").max == 64 and get_format("posit16_1").max == 2.0**28


def test_canonical_nan_codes():
    expected = {"fp8_e4m3": 0x7F, "fp8_e5m2": 0x7E, "fp32": 0x7FC00000, "fp16": 0x7E00, "bf16": 0x7FC0,
                "fp8_e4m3_ieee": 0x7C, "fp8_e3m4": 0x78, "e8m0": 0xFF, "ue4m3": 0x7F, "ue5m3": 0xFF,
                "posit8_0": 0x80, "posit16_1": 0x8000}
    for name, code in expected.items():
        f = get_format(name)
        for rounding in ("nearest_even", "toward_zero", "odd"):
            got = f.encode(np.array([np.nan, -np.nan]), rounding)
            assert got.tolist() == [code, code], name


def test_shapes_types_and_layouts():
    f = get_format("fp8_e4m3")
    grid = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for view in (grid, grid[::-1, :, ::2], grid.T, np.asfortranarray(grid), grid.astype(">i4")):
        np.testing.assert_array_equal(f.decode(view), f.decode(view.ravel()).reshape(view.shape))
        assert f.decode(view).dtype == np.float64
        assert f.unpack(view).exponent.shape == view.shape
        values = f.decode(view)
        np.testing.assert_array_equal(f.encode(values), view)
        np.testing.assert_array_equal(f.encode(values.astype(">f4")), view)
    assert f.decode(np.uint8(1)).shape == () and f.encode(np.float64(1.0)).shape == ()
    assert f.decode(np.empty((0, 3), np.uint8)).shape == (0, 3)
    assert f.encode(np.empty((0, 3))).dtype == np.uint8
    assert f.encode([1, 2, 3]).tolist() == [0x38, 0x40, 0x44]
    assert f.encode(np.array([1.0, 2.0], np.float16)).tolist() == [0x38, 0x40]
    assert get_format("fp32").unpack(np.array([0x3F800000])).significand.dtype == np.int64
    u = f.unpack(grid)
    assert [c.dtype for c in u] == [np.uint8, np.int32, np.int64, np.uint8]


def test_big_arrays_decode_in_chunks():
    rng = np.random.default_rng(5)
    for name in ("fp4", "posit16_1", "bf16"):
        f = get_format(name)
        codes = rng.integers(0, 1 << f.bits, 70_001).astype(np.uint16)
        np.testing.assert_array_equal(f.decode(codes), f._values[codes])


def test_fp32_unpack_and_units():
    f = get_format("fp32")
    codes = np.array([0, 0x80000000, 1, 0x007FFFFF, 0x00800000, 0x3F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
                      0xFF800000, 0x7FC00000, 0x7F800001], np.uint32)
    u = f.unpack(codes)
    with np.errstate(invalid="ignore"):
        values = codes.view(np.float32).astype(np.float64)
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            exact = (-1) ** int(u.sign[i]) * int(u.significand[i]) * Fraction(2) ** int(u.exponent[i])
            assert exact == Fraction(value) == int(f.units(codes)[i]) * Fraction(2) ** -149
    assert u.special.tolist() == [0] * 8 + [Special.INF] * 2 + [Special.NAN] * 2
    assert_same(f.decode(codes), values)
    assert f.max_units == int(Fraction(f.max) * 2**149)
