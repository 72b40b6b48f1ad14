"""Hypothesis: any parameters, any float."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rational import MODES, FloatModel, IntegerModel, ListModel, PositModel

from bitkiln.models.formats import Codebook, Fixed, Minifloat, Posit
from bitkiln.models.formats.stepping import order_key

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
any_float = st.floats(allow_nan=False, width=64)


@st.composite
def minifloats(draw):
    e = draw(st.integers(1, 6))
    signed = draw(st.booleans())
    m = draw(st.integers(0 if signed or e > 1 else 1, 9 - e))
    bias = draw(st.one_of(st.none(), st.integers(-6, 40)))
    choices = ["none", "nan"] + (["ieee"] if m > 0 and e > 1 else [])
    if signed and e == 1 and m == 0:
        m = 1
    specials = draw(st.sampled_from(choices))
    return (e, m, bias, specials, signed)


def values_near(draw, m):
    spots = [float(v) for v in m.values] + [float(t) for t in m.ties]
    near = draw(st.lists(st.tuples(st.sampled_from(spots), st.integers(-2, 2)), min_size=1, max_size=12))
    far = draw(st.lists(any_float, max_size=8))
    found = []
    for x, steps in near:
        for _ in range(abs(steps)):
            x = np.nextafter(x, np.inf if steps > 0 else -np.inf)
        found.append(float(x))
    return found + far


def check(f, m, values):
    for mode in MODES:
        got = f.encode(np.array(values), mode).tolist()
        assert got == [m.encode_one(x, mode) for x in values], (repr(f), mode, values)
    mode = MODES[len(values) % len(MODES)]
    for kind in (np.float32, np.float64):
        x = np.array(values, kind)
        table = f._fast(mode, "saturate", kind is np.float32)
        np.testing.assert_array_equal(table(x), f._steps(mode, "saturate")(order_key(x)))


@SETTINGS
@given(st.data(), minifloats())
def test_any_minifloat(data, parameters):
    e, m, bias, specials, signed = parameters
    f = Minifloat(e, m, bias=bias, specials=specials, signed=signed)
    oracle = FloatModel(e, m, bias, specials, signed)
    np.testing.assert_array_equal(f.decode(np.arange(1 << f.bits)), oracle.decode())
    assert f.max == float(oracle.values[-1])
    with np.errstate(over="ignore"):
        check(f, oracle, values_near(data.draw, oracle))


@SETTINGS
@given(st.data(), st.integers(2, 11).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, min(max(n - 3, 0), 4)))))
def test_any_posit(data, parameters):
    f, oracle = Posit(*parameters), PositModel(*parameters)
    np.testing.assert_array_equal(f.decode(np.arange(1 << f.bits)), oracle.decode())
    with np.errstate(over="ignore"):
        check(f, oracle, values_near(data.draw, oracle))


@SETTINGS
@given(st.data(), st.integers(2, 11).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.booleans())))
def test_any_fixed_point(data, parameters):
    f, oracle = Fixed(*parameters), IntegerModel(*parameters)
    np.testing.assert_array_equal(f.decode(np.arange(1 << f.bits)), oracle.decode())
    with np.errstate(over="ignore"):
        check(f, oracle, values_near(data.draw, oracle))


entry = st.one_of(st.none(), st.integers(-100, 100), st.floats(-1e6, 1e6, allow_subnormal=False).filter(
    lambda v: v == 0 or abs(v) > 1e-30))


@SETTINGS
@given(st.data(), st.integers(1, 4).flatmap(lambda b: st.lists(entry, min_size=2**b, max_size=2**b)).filter(
    lambda v: len({float(x) for x in v if x is not None}) > 1 and max(x for x in v if x is not None) > 0))
def test_any_codebook(data, values):
    """Full float64 entries: their midpoints need not be float64, which the rational model gets right anyway."""
    f, oracle = Codebook("own", tuple(values)), ListModel(values)
    np.testing.assert_array_equal(f.decode(np.arange(1 << f.bits)), oracle.decode())
    units = f.units(np.arange(1 << f.bits)).tolist()
    assert max(abs(u) for u in units) == f.max_units
    with np.errstate(over="ignore"):
        check(f, oracle, values_near(data.draw, oracle))


@SETTINGS
@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.sampled_from(MODES))
def test_rounding_is_monotone_and_idempotent(values, mode):
    from bitkiln.models.formats import get_format

    for name in ("fp4", "fp8_e5m2", "posit8_0", "posit16_1", "bf16"):
        f = get_format(name)
        x = np.sort(np.array([v for v in values if v == v], np.float32))
        rounded = f.decode(f.encode(x, mode))
        finite = rounded[~np.isnan(rounded)]
        assert np.all(np.diff(finite[np.isfinite(finite)]) >= 0)
        np.testing.assert_array_equal(f.encode(finite, mode), f.encode(x, mode)[~np.isnan(rounded)])
