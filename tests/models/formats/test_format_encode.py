"""Encoding: every tie and boundary, random values, all deterministic rounding modes."""

import gfloat
import ml_dtypes
import numpy as np
import pytest
from rational import MODES, ListModel, model
from stress import boundaries, random_values
from test_format_decode import EXTRA, GFLOAT, ML_DTYPES, NAMES

from bitkiln.models.formats import Codebook, get_format
from bitkiln.models.formats.fast import DirectTable, GuessTable
from bitkiln.models.formats.stepping import order_key

COUNT = 100_000
NARROW = [n for n in NAMES + EXTRA if get_format(n).bits <= 8]
WIDE = [n for n in NAMES + EXTRA if get_format(n).bits > 8]


def compare(f, m, values, mode, overflow="saturate"):
    got, expected = f.encode(values, mode, overflow=overflow), m.encode(values, mode)
    wrong = np.flatnonzero(got != expected)
    assert wrong.size == 0, [(float(values[i]).hex(), int(got[i]), int(expected[i])) for i in wrong[:5]]


@pytest.mark.parametrize("name", NARROW)
def test_narrow_formats_equal_model(name):
    f, m = get_format(name), model(name)
    m.check_floats()
    single = np.concatenate([boundaries(m, np.float32), random_values(m, COUNT, 1, np.float32)])
    double = np.concatenate([boundaries(m), random_values(m, COUNT, 2)])
    assert min(single.size, double.size) > COUNT
    for mode in MODES:
        compare(f, m, single, mode)
        compare(f, m, double, mode)


@pytest.mark.parametrize("name", WIDE)
def test_wide_formats_equal_model(name):
    f, m = get_format(name), model(name)
    rng = np.random.default_rng(3)
    stress = boundaries(m)
    if stress.size > COUNT // 2 and name not in ("fp16", "bf16", "posit16_1", "int16"):
        stress = rng.choice(stress, COUNT // 2, replace=False)
    double = np.concatenate([stress, random_values(m, COUNT // 2, 4)])
    single = random_values(m, COUNT // 2, 5, np.float32)
    compare(f, m, double, "nearest_even")
    compare(f, m, single, "nearest_even")
    for mode in MODES[1:]:
        sample = rng.choice(double, 20_000)
        compare(f, m, sample, mode)
        compare(f, m, single[:20_000], mode)


@pytest.mark.parametrize("name", NAMES + EXTRA)
def test_definition_one_by_one(name):
    """The scalar definition in Fractions, also with inf_nan, on a sample; and the search on the same values."""
    f, m = get_format(name), model(name)
    rng = np.random.default_rng(6)
    stress = boundaries(m)
    values = np.concatenate([rng.choice(stress, min(stress.size, 150), replace=False), stress[-12:],
                             random_values(m, 60, 7)])
    policies = ["saturate"]
    if f.family != "posit" and (f.has_nan or f.has_inf):
        policies.append("inf_nan")
        top, beyond = float(m.values[-1]), float(m.beyond)
        edge = np.array([top, beyond, (top + beyond) / 2])
        edge = np.concatenate([edge, np.nextafter(edge, 0), np.nextafter(edge, np.inf)])
        values = np.concatenate([values, edge, -edge])
    for overflow in policies:
        for mode in MODES:
            expected = [m.encode_one(x, mode, overflow) for x in values.tolist()]
            got = f._steps(mode, overflow)(order_key(values)).tolist()
            assert got == expected, [(x.hex(), a, b) for x, a, b in zip(values.tolist(), got, expected, strict=True)
                                     if a != b][:5]
            assert f._fast(mode, overflow, False)(values).tolist() == expected
            with np.errstate(over="ignore"):
                single = values.astype(np.float32)
            assert np.array_equal(f._fast(mode, overflow, True)(single), f._steps(mode, overflow)(order_key(single)))


@pytest.mark.parametrize("name", NAMES + EXTRA)
def test_every_code_comes_back(name):
    f, m = get_format(name), model(name)
    codes = np.flatnonzero([not isinstance(w, str) for w in m.words])
    values = f.decode(codes)
    for mode in MODES:
        back = f.encode(values, mode)
        np.testing.assert_array_equal(f.decode(back), values)
        np.testing.assert_array_equal(np.signbit(f.decode(back)), np.signbit(values))
    if f.family != "codebook" and name != "fp3":
        np.testing.assert_array_equal(f.encode(values), codes)


@pytest.mark.parametrize("name", [n for n in ML_DTYPES if n != "e8m0"])
def test_nearest_even_equals_ml_dtypes(name):
    """float32-exact inputs inside the range: there the library rounds once."""
    f, m = get_format(name), model(name)
    values = np.concatenate([boundaries(m, np.float32), random_values(m, 2 * COUNT, 8, np.float32)])
    values = values[np.abs(values) <= f.max]
    assert values.size > COUNT
    expected = values.astype(ML_DTYPES[name]).view(np.uint8 if f.bits <= 8 else np.uint16)
    np.testing.assert_array_equal(f.encode(values), expected)
    np.testing.assert_array_equal(f.encode(values.astype(np.float64)), expected)


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "fp8_e3m4", "fp8_e4m3_ieee", "fp16", "bf16"])
def test_inf_nan_equals_ml_dtypes(name):
    """ml_dtypes overflows to Inf, or to NaN in E4M3; its NaN keeps the sign, ours is canonical."""
    f, m = get_format(name), model(name)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.concatenate([boundaries(m, np.float32), random_values(m, COUNT, 9, np.float32)])
        expected = values.astype(ML_DTYPES[name]).astype(np.float64)
    np.testing.assert_array_equal(f.decode(f.encode(values, overflow="inf_nan")), expected)


GFLOAT_MODES = {"nearest_even": gfloat.RoundMode.TiesToEven, "nearest_away": gfloat.RoundMode.TiesToAway,
                "toward_zero": gfloat.RoundMode.TowardZero, "toward_positive": gfloat.RoundMode.TowardPositive,
                "toward_negative": gfloat.RoundMode.TowardNegative}


@pytest.mark.parametrize("mode", GFLOAT_MODES)
@pytest.mark.parametrize("name", [n for n in GFLOAT if n != "e8m0"])
def test_float64_equals_gfloat(name, mode):
    """Exact from float64, saturating; finite inputs (gfloat saturates infinities, we keep them)."""
    f, m = get_format(name), model(name)
    stress = boundaries(m) if m.bits <= 8 else np.random.default_rng(11).choice(boundaries(m), 20_000)
    values = np.concatenate([stress, random_values(m, COUNT if mode == "nearest_even" else 20_000, 10)])
    values = values[np.isfinite(values)]
    with np.errstate(all="ignore"):
        expected = gfloat.round_ndarray(GFLOAT[name], values, GFLOAT_MODES[mode], sat=True)
    got = f.decode(f.encode(values, mode))
    np.testing.assert_array_equal(got, expected)
    if f.has_negative_zero:
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("name", ["posit8_0", "posit16_1"])
def test_posits_equal_softposit(name):
    softposit = pytest.importorskip("softposit")
    f, m = get_format(name), model(name)
    values = np.concatenate([np.random.default_rng(12).choice(boundaries(m), 3_000), random_values(m, 3_000, 13)])
    values = values[np.isfinite(values)]
    convert = softposit.convertDoubleToP8 if name == "posit8_0" else softposit.convertDoubleToP16
    assert f.encode(values).tolist() == [convert(x).v for x in values.tolist()]


def test_known_differences_between_libraries():
    """docs/formats.md lists these; a new library version that changes its mind should be noticed."""
    # ml_dtypes rounds float64 twice: just above the tie of 1.0 and 1.125 it falls to the even side.
    x = np.array([1.0625 + 2.0**-40])
    assert x.astype(ml_dtypes.float8_e4m3fn).astype(float)[0] == 1.0
    f = get_format("fp8_e4m3")
    assert f.decode(f.encode(x))[0] == 1.125
    # E4M3 overflow: NaN in ml_dtypes, saturation here unless inf_nan is asked for.
    assert np.isnan(np.array([500.0]).astype(ml_dtypes.float8_e4m3fn).astype(float)[0])
    assert f.decode(f.encode(np.array([500.0, -np.inf]))).tolist() == [448.0, -448.0]
    assert f.encode(np.array([464.0, np.nextafter(464.0, 500), np.inf]), overflow="inf_nan").tolist() == [
        0x7E, 0x7F, 0x7F]
    # E8M0 ties: 3.0 is halfway between the codes of 2 and 4; we take the even code 128.
    e8m0 = get_format("e8m0")
    assert e8m0.decode(e8m0.encode(np.array([3.0, 1.5, 6.0]))).tolist() == [2.0, 2.0, 8.0]
    assert e8m0.encode(np.array([0.0, -1.0, np.inf, 2.0**200, np.nan])).tolist() == [0, 0, 254, 254, 255]
    # gfloat's NaN code of E4M3 is 0xff, the canonical one here 0x7f.
    assert GFLOAT["fp8_e4m3"].code_of_nan == 0xFF
    assert f.encode(np.array([np.nan])).tolist() == [0x7F]


def test_signs_of_zero():
    values = np.array([0.0, -0.0, 1e-30, -1e-30, 1e-300, -1e-300])
    for name in ("fp4", "fp8_e4m3", "fp8_e5m2", "fp16", "fp32", "e3m1"):
        f = get_format(name)
        np.testing.assert_array_equal(np.signbit(f.decode(f.encode(values, "toward_zero"))), np.signbit(values))
    for name in ("int8", "ternary", "nf4", "uint4", "fixed8_4"):
        f = get_format(name)
        assert not np.signbit(f.decode(f.encode(values))).any()
        assert set(f.encode(values).tolist()) == {int(f.encode(np.array([0.0]))[0])}
    f = get_format("posit8_0")
    assert f.encode(values).tolist() == [0, 0, 1, 0xFF, 1, 0xFF]


def test_posits_never_reach_zero_or_nar():
    for name in ("posit2_0", "posit4_1", "posit8_0", "posit16_1", "posit16_4"):
        f = get_format(name)
        top, low = int(f.encode(np.array([f.max]))[0]), int(f.encode(np.array([f.min]))[0])
        for mode in MODES:
            tiny = np.array([5e-324, -5e-324, 1e-200, -1e-200])
            assert f.encode(tiny, mode).tolist() == [1, (1 << f.bits) - 1] * 2
            assert f.encode(np.array([1e300, -1e300]), mode).tolist() == [top, low]
            assert f.encode(np.array([np.inf, -np.inf, np.nan]), mode).tolist() == [f.nan_code] * 3


def test_infinities():
    f = get_format("fp8_e5m2")
    both = np.array([np.inf, -np.inf])
    for overflow in ("saturate", "inf_nan"):
        assert f.encode(both, overflow=overflow).tolist() == [0x7C, 0xFC]
    assert f.decode(f.encode(np.array([1e9, -1e9]))).tolist() == [57344.0, -57344.0]
    assert f.encode(np.array([1e9, -1e9]), overflow="inf_nan").tolist() == [0x7C, 0xFC]
    assert f.encode(np.array([1e9, -1e9]), "toward_positive", overflow="inf_nan").tolist() == [0x7C, 0xFB]
    assert get_format("int8").encode(both).tolist() == [127, 128]
    assert get_format("uint4").encode(both).tolist() == [15, 0]
    assert get_format("fp4").encode(both).tolist() == [7, 15]
    assert get_format("nf4").encode(both).tolist() == [15, 0]


@pytest.mark.parametrize("overflow", ["saturate", "inf_nan"])
@pytest.mark.parametrize("mode", MODES)
def test_fp32_from_float64(mode, overflow):
    rng = np.random.default_rng(14)
    f = get_format("fp32")
    base = np.concatenate([rng.integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32),
                           np.array([0, 1e-45, 1.1754944e-38, 3.4028235e38], np.float32)])
    base = base[np.isfinite(base)].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        up = np.nextafter(base.astype(np.float32), np.float32(np.inf)).astype(np.float64)
        ties = base + (np.where(np.isinf(up), 2.0**128, up) - base) / 2
        values = np.concatenate([base, ties, np.nextafter(ties, -np.inf), np.nextafter(ties, np.inf), -ties,
                                 [0.0, -0.0, 1e300, -1e300, 5e-324, -5e-324, 2.0**128, np.inf, -np.inf, np.nan]])
    got = f.decode(f.encode(values, mode, overflow=overflow))
    with np.errstate(over="ignore", invalid="ignore"):
        near = values.astype(np.float32)
        low = np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
        high = np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
        distance = np.abs(values - low) == np.abs(high.astype(np.float64) - values)
    odd = np.where(low.view(np.uint32) & 1 == 1, low, high)
    zero = np.where(values > 0, low, high)
    expected = {"nearest_even": near, "toward_negative": low, "toward_positive": high, "toward_zero": zero,
                "odd": np.where(low == high, low, np.where(np.isinf(odd), zero, odd)),
                "nearest_away": np.where(distance & (low != high), np.where(values > 0, high, low), near)}[mode]
    expected = expected.astype(np.float64)
    finite = np.isfinite(values)
    if overflow == "saturate":
        expected = np.where(finite & np.isinf(expected), np.sign(expected) * f.max, expected)
    elif mode == "nearest_away":
        expected = np.where(np.abs(values) == 2.0**128 - 2.0**103, np.copysign(np.inf, values), expected)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(values[number]))


def test_tables_of_the_fast_methods_are_used():
    """Narrow float32 encodes are one look-up; buckets that need a search are few."""
    for name in NARROW:
        if name not in ("nf3", "nf4"):
            assert isinstance(get_format(name)._fast("nearest_even", "saturate", True), DirectTable), name
    for name in WIDE:
        table = get_format(name)._fast("nearest_even", "saturate", False)
        assert isinstance(table, GuessTable)
        assert table.uneven is None or table.uneven.sum() <= 64, name


def test_direct_table_refuses_what_18_bits_cannot_decide():
    assert DirectTable.build(get_format("nf4")._steps("nearest_even", "saturate")) is None
    assert DirectTable.build(get_format("fp16")._steps("nearest_even", "saturate")) is None


@pytest.mark.parametrize(("values", "expected"), [
    ((1, -1), 1), ((-1, 1), -1), ((1, 3, -1, -3), 1), ((-1, -3, 1, 3), 1), ((-2, 1, 3, -3), -2), ((2, -1, 3, -3), 2),
])
def test_codebooks_without_zero(values, expected):
    """Zero of either sign is a tie where the neighbours are symmetric: even code, else the positive one."""
    f, m = Codebook("own", values), ListModel(values)
    zeros, others = np.array([0.0, -0.0]), np.array([1e-300, -1e-300, -0.5, 0.5, 5e-324, -5e-324])
    if -values[0] in values:
        assert f.decode(f.encode(zeros)).tolist() == [expected] * 2
        assert f.decode(f.encode(zeros, "nearest_away")).tolist() == [abs(expected)] * 2
    for mode in MODES:
        for x in (zeros, others):
            assert f.encode(x, mode).tolist() == [m.encode_one(v, mode) for v in x.tolist()], mode
            for single in (np.float32, np.float64):
                table = f._fast(mode, "saturate", single is np.float32)
                np.testing.assert_array_equal(table(x.astype(single)),
                                              f._steps(mode, "saturate")(order_key(x.astype(single))))
