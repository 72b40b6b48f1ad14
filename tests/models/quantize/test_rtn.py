"""Round-to-nearest quantisation: scales, error bounds and refusals."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.quantize import rtn

RNG = np.random.default_rng(7)
TENSOR = RNG.standard_normal((6, 40))
NAMES = ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "posit4_1", "posit8_0", "posit16_1", "int2",
         "int4", "int8", "int16", "ternary", "nf4", "bf16", "fp16")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_codes_are_nearest(name, axis):
    """Each code is the format's nearest to value / scale, with one scale for each channel."""
    fmt = get_format(name)
    q = rtn(TENSOR, fmt, axis=axis)
    shape = () if axis is None else tuple(n if i == axis % 2 else 1 for i, n in enumerate(TENSOR.shape))
    assert q.scale.shape == shape and q.codes.shape == TENSOR.shape
    assert np.array_equal(q.codes, fmt.encode(TENSOR / q.scale))
    assert np.array_equal(q.dequantise(), fmt.decode(q.codes) * q.scale)


@pytest.mark.parametrize(("name", "least_db"), [("int8", 36), ("int4", 15), ("fp4", 16), ("fp8_e4m3", 29),
                                                ("posit8_0", 36), ("posit4_1", 13), ("posit16_1", 75),
                                                ("ternary", 6), ("int16", 80), ("bf16", 50)])
def test_noise(name, least_db):
    """Signal to noise on normal data, per channel. The bounds are a little below what was measured."""
    tensor = np.random.default_rng(3).standard_normal((8, 512))
    assert rtn(tensor, name, axis=0).sqnr_db(tensor) > least_db


def test_absmax_puts_the_largest_on_the_maximum():
    q = rtn(TENSOR, "int8", axis=0, method="absmax")
    assert np.allclose(q.scale[:, 0], np.abs(TENSOR).max(axis=1) / 127, rtol=1e-15)
    assert np.abs(q.dequantise() - TENSOR).max() <= q.scale.max() / 2 * (1 + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_search_is_never_worse(name):
    best, plain = (rtn(TENSOR, name, axis=0, method=m).nmse(TENSOR) for m in ("mse", "absmax"))
    assert best <= plain + 1e-15


def test_posit_absmax_is_bad():
    """Why ``auto`` searches for posits: the largest value is where they have no precision."""
    assert rtn(TENSOR, "posit8_0", method="absmax").nmse(TENSOR) > 20 * rtn(TENSOR, "posit8_0").nmse(TENSOR)


def test_power_of_two_is_the_next_above():
    for method in ("absmax", "mse"):
        q = rtn(TENSOR, "int8", axis=0, method=method, power_of_two=True)
        assert np.all(np.frexp(q.scale)[0] == 0.5)
    q = rtn(TENSOR, "int8", axis=0, power_of_two=True)
    plain = np.abs(TENSOR).max(axis=1, keepdims=True) / 127
    assert np.all((q.scale >= plain) & (q.scale < 2 * plain))
    assert rtn(np.array([127.0]), "int8", power_of_two=True).scale == 1


def test_groups_equal_separate_channels():
    q = rtn(TENSOR, "fp4", group=8)
    assert q.scale.shape == (6, 5)
    alone = rtn(TENSOR.reshape(30, 8), "fp4", axis=0)
    assert np.array_equal(q.codes.reshape(30, 8), alone.codes)
    assert np.array_equal(q.dequantise().reshape(30, 8), alone.dequantise())


def test_zero_channel_has_scale_one():
    tensor = TENSOR.copy()
    tensor[2] = 0
    q = rtn(tensor, "posit8_0", axis=0)
    assert q.scale[2] == 1 and not q.dequantise()[2].any()
    zero = rtn(np.zeros(3), "int4")
    assert zero.scale == 1 and zero.nmse(np.zeros(3)) == 0 and zero.sqnr_db(np.zeros(3)) == float("inf")


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_magnitudes_stay_finite(name, size):
    q = rtn(np.array([size, -size / 2, 0]), name)
    assert np.isfinite(q.scale) and q.scale > 0 and np.isfinite(q.dequantise()).all()


def test_axis_in_the_middle():
    tensor = RNG.standard_normal((3, 4, 5))
    q = rtn(tensor, "int8", axis=1)
    for i in range(4):
        one = rtn(tensor[:, i], "int8")
        assert one.scale == q.scale[0, i, 0] and np.array_equal(one.codes, q.codes[:, i])


def test_small_dtypes_and_scalars():
    assert rtn(np.array([1, -2], np.int8), "int8").dequantise().tolist() == pytest.approx([1, -2], rel=0.01)
    assert rtn(np.float32(3), "fp4").dequantise() == pytest.approx(3)


def bad(tensor, **options):
    with pytest.raises(BitkilnError) as caught:
        rtn(tensor, options.pop("format", "int8"), **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_refusals():
    hole = np.ones((2, 6), np.float32)
    hole[0, 5] = np.nan
    hole[1, 1] = -np.inf
    assert bad(hole, name="conv1.weight") == (
        "error: NaN or Inf in tensor at conv1.weight[0, 5]: got nan, "
        "expected finite values (2 of 12 are not)")
    assert bad(np.zeros((3, 0)), name="w") == (
        "error: empty tensor at w: got (3, 0), expected a shape of at least one element")
    for wrong, dtype in (([1j], "complex128"), (["a"], "<U1"), ([None], "object"), ([True], "bool")):
        assert bad(np.array(wrong), name="w") == (
            f"error: wrong dtype at w: got {dtype}, expected real numbers (float or integer)\n"
            "help: convert it first, e.g. tensor.astype(np.float32)")
    assert bad([[1.0], [1.0, 2.0]], name="w") == (
        "error: ragged list instead of a tensor at w: expected rows of equal length")
    assert bad(np.ones(3), method="mean") == (
        "error: unknown method at method: got 'mean', expected auto, absmax, mse\nhelp: did you mean mse?")
    assert bad(np.ones((2, 3)), axis=2, name="w") == "error: axis out of range at w: got 2, expected -2 to 1"
    assert bad(np.float64(1), axis=0, name="w") == (
        "error: axis out of range at w: got 0, expected no axis (a scalar)")
    assert bad(np.ones((2, 6)), group=4, name="w") == (
        "error: group size does not divide the last axis at w: got 4, expected a divisor of 6")
    assert bad(np.ones((2, 6)), group=3, axis=0) == (
        "error: contradictory options at axis and group: got (0, 3), expected one of them")
    assert "unknown format" in bad(np.ones(3), format="posit80")
