"""Block-scaled formats against a scalar model of OCP MX and NVFP4."""

import math
from fractions import Fraction

import numpy as np
import pytest
from rational import IntegerModel, model

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import BlockScaled, get_format, get_group_format, group_format_names

MX = {"mxfp4": "fp4", "mxfp6_e2m3": "fp6_e2m3", "mxfp6_e3m2": "fp6_e3m2", "mxfp8_e4m3": "fp8_e4m3",
      "mxfp8_e5m2": "fp8_e5m2", "mxint8": None}
EMAX = {"mxfp4": 2, "mxfp6_e2m3": 2, "mxfp6_e3m2": 4, "mxfp8_e4m3": 8, "mxfp8_e5m2": 15, "mxint8": 0}


def floor_log2(x: Fraction) -> int:
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def exact_quotient(m, quotient: Fraction) -> int:
    """Nearest-even saturating code of a Fraction that need not be a float."""
    if quotient >= m.values[-1]:
        return m.codes[-1]
    if quotient <= m.values[0]:
        return m.codes[0]
    distances = [abs(v - quotient) for v in m.values]
    best = min(distances)
    at = [i for i, d in enumerate(distances) if d == best]
    if len(at) == 2:
        at = [i for i in at if m.codes[i] % 2 == 0]
    return m.codes[at[0]]


def tensors(seed, block):
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal(block), np.exp2(rng.uniform(-20, 20, block)), np.zeros(block),
            rng.standard_normal(block) * 1e-38, rng.standard_normal(block) * 1e-44, np.full(block, 3.4028235e38),
            rng.standard_normal(block) * 1e38]
    for k in (-130, -127, -126, -100, -1, 0, 1, 5, 100, 127):
        for x in (2.0**k, np.nextafter(np.float32(2.0**k), np.float32(0)), 1.5 * 2.0**k, 1.75 * 2.0**k):
            row = rng.uniform(-1, 1, block) * x
            row[int(rng.integers(block))] = x
            rows.append(row)
    with np.errstate(over="ignore"):
        found = np.array(rows, np.float32)
    return np.where(np.isfinite(found), found, np.float32(1))


@pytest.mark.parametrize("name", MX)
def test_mx_blocks_equal_scalar_model(name):
    group = get_group_format(name)
    m = IntegerModel(8, 6) if name == "mxint8" else model(MX[name])
    values = tensors(30, 32)
    blocks = group.encode(values)
    assert blocks.codes.shape == values.shape and blocks.scale_codes.shape == (len(values), 1)
    assert blocks.tensor_scale is None
    decoded = group.decode(blocks.codes, blocks.scale_codes)
    for row, codes, scale_code, back in zip(values.tolist(), blocks.codes.tolist(),
                                            blocks.scale_codes[:, 0].tolist(), decoded.tolist(), strict=True):
        amax = max(abs(Fraction(v)) for v in row)
        exponent = -127 if amax == 0 else min(max(floor_log2(amax) - EMAX[name], -127), 127)
        assert scale_code == exponent + 127
        scale = Fraction(2) ** exponent
        for v, code, b in zip(row, codes, back, strict=True):
            word = m.words[code]
            assert Fraction(b) == word * scale
            assert word == m.words[exact_quotient(m, Fraction(v) / scale)]
            if word == 0 and m.signed_zero:
                assert (code == m.negative_zero_code) == (math.copysign(1, v) < 0)


def nearest_scale(m, ratio: Fraction) -> int:
    return exact_quotient(m, max(ratio, min(v for v in m.values if v > 0)))


@pytest.mark.parametrize(("name", "scale_name"), [("nvfp4", "ue4m3"), ("nvfp4_ue5m3", "ue5m3")])
def test_nvfp4_equals_scalar_model(name, scale_name):
    group, m, s = get_group_format(name), model("fp4"), model(scale_name)
    every = tensors(31, 32)
    for values in (every[:2], every[3:5], every[7:], np.zeros((1, 32), np.float32), every[:1] * np.float32(1e-3)):
        blocks = group.encode(values)
        assert blocks.scale_codes.shape == (len(values), 2)
        amax = max(abs(Fraction(v)) for v in values.ravel().tolist())
        tensor = Fraction(1)
        if name == "nvfp4":
            scale = np.float32(float(amax / (448 * 6)))
            tensor = Fraction(1) if amax == 0 else Fraction(float(max(scale, np.float32(1e-45))))
            assert Fraction(float(blocks.tensor_scale)) == tensor
        else:
            assert blocks.tensor_scale is None
        decoded = group.decode(*blocks)
        for i, row in enumerate(values.tolist()):
            for b in range(2):
                part = [Fraction(v) for v in row[16 * b:16 * b + 16]]
                largest = max(abs(v) for v in part)
                code = int(blocks.scale_codes[i, b])
                assert code == (0 if largest == 0 else nearest_scale(s, largest / (6 * tensor)))
                scale = s.words[code] * tensor
                for k, v in enumerate(part):
                    element = m.words[int(blocks.codes[i, 16 * b + k])]
                    expected = m.words[exact_quotient(m, v / scale)] if largest else 0
                    assert element == expected
                    assert decoded[i, 16 * b + k] == float(element * scale)


def test_scale_ignores_float_log2_errors():
    """One ulp below a power of two the shared exponent must not round up."""
    group = get_group_format("mxfp4")
    for k in (-20, 0, 3, 90):
        below = np.full(32, np.nextafter(np.float32(2.0**k), np.float32(0)))
        assert group.encode(below).scale_codes[0] == k - 1 - 2 + 127
        assert group.encode(np.full(32, 2.0**k)).scale_codes[0] == k - 2 + 127


def test_nan_scale_makes_the_block_nan():
    group = get_group_format("mxfp4")
    decoded = group.decode(np.zeros((1, 64), np.uint8), np.array([[255, 127]], np.uint8))
    assert np.isnan(decoded[0, :32]).all() and (decoded[0, 32:] == 0).all()
    nv = get_group_format("nvfp4")
    assert np.isnan(nv.decode(np.ones(16, np.uint8), np.array([0x7F]), 1.0)).all()


def test_padding_rounding_and_axes():
    group = get_group_format("mxfp8_e4m3")
    values = np.random.default_rng(32).standard_normal((2, 3, 40))
    blocks = group.encode(values, pad=True)
    assert blocks.codes.shape == (2, 3, 64) and blocks.scale_codes.shape == (2, 3, 2)
    assert (group.decode(*blocks[:2])[..., 40:] == 0).all()
    full = values[..., :32]
    for mode, sign in (("toward_negative", -1), ("toward_positive", 1)):
        codes, scales, _ = group.encode(full, mode)
        clipped = np.abs(full) > 448 * group.scale.decode(scales)
        assert np.all((sign * (group.decode(codes, scales) - full) >= 0) | clipped) and not clipped.all()
    bits = np.random.default_rng(33).integers(0, 1 << 32, values.shape, dtype=np.uint32)
    back = group.decode(*group.encode(values, "stochastic", random_bits=bits, pad=True)[:2])[..., :40]
    assert np.abs(back - values).max() < 0.3


def test_names_and_description():
    assert group_format_names() == ["mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8",
                                    "nvfp4", "nvfp4_ue5m3"]
    assert get_group_format("MXFP4") is get_group_format("mxfp4")
    assert get_group_format(get_group_format("nvfp4")).name == "nvfp4"
    assert get_group_format("mxfp4").bits_per_value == 4.25
    own = BlockScaled("own", "int4", "ue5m3", 8)
    x = np.arange(16.0)
    np.testing.assert_allclose(own.decode(*own.encode(x)), x, atol=1.2)
    assert own == BlockScaled("own", get_format("int4"), get_format("ue5m3"), 8)


def message(call) -> str:
    with pytest.raises(BitkilnError) as caught:
        call()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_errors():
    group = get_group_format("mxfp4")
    bad = np.zeros((2, 32))
    bad[1, 5] = np.nan
    bad[1, 7] = np.inf
    zero = np.zeros(32)
    codes = np.zeros(32, np.uint8)
    for call, text in [
        (lambda: group.encode(bad), "error: value cannot be block-scaled at mxfp4 values[1, 5]: got '2 NaN or "
         "Inf among 64 values', expected finite values\nhelp: one such value would spoil its whole block"),
        (lambda: group.encode(zero[:30]), "error: size is not a multiple of the block at mxfp4 values: got "
         "'last axis 30', expected a multiple of 32\nhelp: pad=True appends zeros"),
        (lambda: group.encode(np.zeros((3, 0))), "error: no values at mxfp4 values: got 'shape (3, 0)', "
         "expected shape (..., K), K a multiple of 32"),
        (lambda: group.encode(np.array(["a"])), "error: values are not real numbers at mxfp4 values: got "
         "'<U1', expected float32 or float64"),
        (lambda: group.decode(codes, np.zeros(2, np.uint8)), "error: shapes differ at mxfp4 scale_codes: got "
         "'codes (32,), scales (2,)', expected one scale for 32 codes of the last axis"),
        (lambda: group.decode(codes, np.zeros(1, np.uint8), 2.0),
         "error: unexpected tensor scale at mxfp4 tensor_scale: got '2.0', expected none"),
        (lambda: get_group_format("nvfp4").decode(codes, np.zeros(2, np.uint8)),
         "error: tensor scale missing at nvfp4 tensor_scale: got 'None', expected the float32 scale of encode()"),
        (lambda: BlockScaled("x", "fp4", "e8m0", 24), "error: out of range at x block_size: got 24, expected a "
         "power of two\nhelp: MX formats use 32, NVFP4 16"),
        (lambda: BlockScaled("x", "fp4", "e8m0", 0), "error: out of range at x block_size: got 0, expected 2 "
         "to 1024"),
        (lambda: BlockScaled("x", "fp4", "fp8_e4m3", 32), "error: not a scale format at x scale: got "
         "'fp8_e4m3', expected e8m0, ue4m3 or ue5m3"),
        (lambda: BlockScaled("x", "fp4", "e8m0", 32, True), "error: contradictory options at x tensor_scale: "
         "got 'true', expected no tensor scale with a power-of-two scale (its range is float32's)"),
        (lambda: get_group_format("mxfp5"), "error: unknown block-scaled format at format: got 'mxfp5', "
         "expected mxfp4, mxfp6_e2m3, mxfp6_e3m2, mxfp8_e4m3, mxfp8_e5m2, mxint8, nvfp4, nvfp4_ue5m3\nhelp: "
         "did you mean mxfp4"),
        (lambda: get_group_format(4), "error: not a format name at format: got '4 (int)', expected a string"),
    ]:
        assert message(call).startswith(text), message(call)
