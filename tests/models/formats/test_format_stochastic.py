"""Stochastic rounding: exact counts over all random words, and no bias."""

from fractions import Fraction

import numpy as np
import pytest
from rational import model

from bitkiln.models.formats import get_format

NAMES = ["fp4", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "e1m3", "int4", "int16", "uint8", "fixed8_4", "ternary", "nf4",
         "bitmod4_er_neg", "posit4_1", "posit8_0", "posit16_1", "fp16", "bf16", "e8m0", "ue4m3"]


def inside(m, count, seed):
    """Values strictly between the ends, half of them near zero."""
    rng = np.random.default_rng(seed)
    low, high = float(m.values[0]), float(m.values[-1])
    wide = rng.uniform(max(low, -1e4), min(high, 1e4), count)
    at = rng.integers(0, len(m.V) - 1, count)
    between = m.V[at] + (m.V[at + 1] - m.V[at]) * rng.uniform(0, 1, count)
    return np.clip(np.concatenate([wide, between]), low, high)


@pytest.mark.parametrize("name", NAMES)
def test_counts_over_all_words_of_8_bits(name):
    """Of the 256 words exactly floor(256 * fraction) round away from zero."""
    f, m = get_format(name), model(name)
    words = np.arange(256, dtype=np.uint8)
    for x in inside(m, 60, 20).tolist():
        codes = f.encode(np.full(256, x), "stochastic", random_bits=words)
        low_code = int(f.encode(np.array([x]), "toward_negative")[0])
        high_code = int(f.encode(np.array([x]), "toward_positive")[0])
        assert set(codes.tolist()) <= {low_code, high_code}
        if low_code == high_code:
            continue
        low, high = (Fraction(float(f.decode(np.array([c]))[0])) for c in (low_code, high_code))
        inner, outer, outer_code = (low, high, high_code) if x >= 0 else (high, low, low_code)
        fraction = abs(Fraction(x) - inner) / (high - low)
        assert int((codes == outer_code).sum()) == int(fraction * 256)
        assert abs(outer) >= abs(inner) or m.listed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", [np.uint16, np.uint32])
def test_unbiased_within_three_sigma(name, word):
    f, m = get_format(name), model(name)
    rng = np.random.default_rng(21)
    count = 40_000
    x = inside(m, 1, 22)[1]
    while x in m.V:
        x = inside(m, 1, int(rng.integers(1 << 30)))[1]
    random_bits = rng.integers(0, np.iinfo(word).max, count, dtype=word, endpoint=True)
    got = f.decode(f.encode(np.full(count, x), "stochastic", random_bits=random_bits))
    low, high = got.min(), got.max()
    assert low <= x <= high
    sigma = np.sqrt((x - low) * (high - x) / count)
    assert abs(got.mean() - x) <= 3 * sigma + (high - low) / np.iinfo(word).max


def test_exact_values_and_specials_do_not_move():
    f = get_format("fp8_e5m2")
    finite = f.decode(np.arange(256))
    for word in (0, 255):
        random_bits = np.full(256, word, np.uint8)
        got = f.decode(f.encode(finite, "stochastic", random_bits=random_bits))
        np.testing.assert_array_equal(got, finite)
    tiny = f.encode(np.array([-1e-30, 1e-30]), "stochastic", random_bits=np.array([0, 0], np.uint8))
    assert tiny.tolist() == [0x80, 0]
    posit = get_format("posit8_0")
    assert posit.encode(np.array([1e-30, -1e-30]), "stochastic",
                        random_bits=np.zeros(2, np.uint8)).tolist() == [1, 255]


def test_overflow_policies():
    f = get_format("fp8_e4m3")
    words = np.arange(256, dtype=np.uint8)
    x = np.full(256, 456.0)     # a quarter of the way to the 480 that would follow
    assert set(f.encode(x, "stochastic", random_bits=words).tolist()) == {0x7E}
    codes = f.encode(x, "stochastic", random_bits=words, overflow="inf_nan")
    assert (codes == 0x7F).sum() == 64 and (codes == 0x7E).sum() == 192
    codes = f.encode(-x, "stochastic", random_bits=words, overflow="inf_nan")
    assert (codes == 0x7F).sum() == 64 and (codes == 0xFE).sum() == 192
    assert f.encode(np.array([1e9]), "stochastic", random_bits=words[:1], overflow="inf_nan").tolist() == [0x7F]
    e5m2 = get_format("fp8_e5m2")
    codes = e5m2.encode(np.full(256, -61440.0), "stochastic", random_bits=words, overflow="inf_nan")
    assert (codes == 0xFC).sum() == 128 and (codes == 0xFB).sum() == 128


def test_fp32():
    f = get_format("fp32")
    x = np.full(65536, 1 + 2.0**-25)     # a quarter of the last place
    words = np.arange(65536, dtype=np.uint16)
    for sign in (1, -1):
        codes = f.encode(sign * x, "stochastic", random_bits=words)
        assert (np.abs(f.decode(codes)) > 1).sum() == 16384


def test_broadcast_and_repeatability():
    f = get_format("fp4")
    values = np.linspace(-6, 6, 30).reshape(5, 6)
    row = np.random.default_rng(23).integers(0, 1 << 16, 6, dtype=np.uint16)
    one = f.encode(values, "stochastic", random_bits=row)
    np.testing.assert_array_equal(one, f.encode(values, "stochastic", random_bits=np.tile(row, (5, 1))))
    assert one.shape == values.shape and one.dtype == np.uint8
