"""The quantisers against published implementations, where those are installed (docs/quantisation.md has the outcome).

ml_dtypes is a test dependency. The others (gguf, torchao, bitsandbytes, compressed-tensors with torch) are not; each
test is skipped where its package is missing.
"""

import numpy as np
import pytest

from bitkiln.models.quantize.methods import quantize

RNG = np.random.default_rng(5)
WEIGHTS = RNG.standard_t(5, (32, 512)).astype(np.float32)
# Some exact ties, a block of zeros, and blocks of one sign.
WEIGHTS[0] = RNG.integers(-12, 13, 512) / 4
WEIGHTS[1, :128] = 0
WEIGHTS[2] = np.abs(WEIGHTS[2])
WEIGHTS[3] = -np.abs(WEIGHTS[3])


def signed(q, bits):
    """Two's complement codes as numbers."""
    codes = q.codes.astype(int)
    return np.where(codes >> (bits - 1), codes - (1 << bits), codes)


def plus_zero(codes, bits):
    """Codes with minus zero as zero."""
    return np.where(codes == 1 << (bits - 1), 0, codes)


@pytest.mark.parametrize(("name", "bits", "dtype"), [
    ("fp4", 4, "float4_e2m1fn"), ("fp6_e2m3", 6, "float6_e2m3fn"), ("fp6_e3m2", 6, "float6_e3m2fn"),
    ("fp8_e4m3", 8, "float8_e4m3fn"), ("fp8_e5m2", 8, "float8_e5m2")])
def test_ml_dtypes_floats(name, bits, dtype):
    """Element codes of absmax and of MX quantisation are ml_dtypes' casts of the quotients (scales of two powers)."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = getattr(ml_dtypes, dtype)
    q = quantize("fp", WEIGHTS, bits, 64, element=name, scale="e8m0")
    quotient = WEIGHTS / np.repeat(q.scale, q.sizes, axis=1)
    assert np.array_equal(plus_zero(quotient.astype(kind).view(np.uint8), bits), q.codes)
    q = quantize("mx", WEIGHTS, bits, element=f"mx{name}")
    limit = float(ml_dtypes.finfo(kind).max)     # casts above it give NaN or Inf where MX saturates
    quotient = np.clip(WEIGHTS / np.repeat(q.scale, q.sizes, axis=1), -limit, limit)
    assert np.array_equal(plus_zero(quotient.astype(kind).view(np.uint8), bits), q.codes)
    assert np.array_equal(q.scale_codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64), q.scale)


def test_ml_dtypes_integers():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for bits, kind in ((2, ml_dtypes.int2), (4, ml_dtypes.int4)):
        q = quantize("rtn_sym", WEIGHTS, bits, 64, scale="fp32")
        quotient = np.divide(WEIGHTS, np.repeat(q.scale, q.sizes, axis=1), out=np.zeros(WEIGHTS.shape),
                             where=np.repeat(q.scale, q.sizes, axis=1) != 0)
        assert np.array_equal(np.rint(quotient).astype(kind).astype(int), signed(q, bits))


def test_bitsandbytes_nf4():
    """Codes and absmax agree on every weight; double quantisation is another 8-bit format and loses the same."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    packed, state = quantize_4bit(torch.from_numpy(WEIGHTS), blocksize=64, quant_type="nf4")
    octets = packed.numpy().ravel()
    codes = np.stack([octets >> 4, octets & 15], axis=1).reshape(WEIGHTS.shape)
    q = quantize("nf", WEIGHTS, 4, 64)
    assert np.array_equal(state.absmax.numpy(), q.scale.ravel().astype(np.float32))
    filled = np.repeat(q.scale > 0, 64, axis=1)
    assert np.array_equal(codes[filled], q.codes[filled])
    assert np.allclose(dequantize_4bit(packed, state).numpy(), q.dequantise(), rtol=1e-6, atol=0)
    theirs = dequantize_4bit(*quantize_4bit(torch.from_numpy(WEIGHTS), blocksize=64, quant_type="nf4",
                                            compress_statistics=True)).numpy()
    lost = np.sum((theirs - WEIGHTS.astype(np.float64)) ** 2) / np.sum(WEIGHTS.astype(np.float64) ** 2)
    assert quantize("nf_double", WEIGHTS, 4).nmse(WEIGHTS) == pytest.approx(lost, rel=0.02)


@pytest.mark.parametrize(("name", "kind"), [("mxfp4", "float4_e2m1fn_x2"), ("mxfp6_e2m3", "fp6_e2m3"),
                                            ("mxfp6_e3m2", "fp6_e3m2"), ("mxfp8_e4m3", "float8_e4m3fn"),
                                            ("mxfp8_e5m2", "float8_e5m2")])
def test_torchao_mx(name, kind):
    """Scales and elements of every block equal torchao's FLOOR mode, the OCP rule."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchao")
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_mx
    scales, data = to_mx(torch.from_numpy(WEIGHTS), getattr(torch, kind, kind), 32, ScaleCalculationMode.FLOOR)
    codes, bits = data.view(torch.uint8).numpy(), {"mxfp4": 4}.get(name, 6 if "fp6" in name else 8)
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    q = quantize(name, WEIGHTS)
    assert np.array_equal(plus_zero(codes.reshape(WEIGHTS.shape), bits), q.codes)
    assert np.array_equal(scales.view(torch.uint8).numpy(), q.scale_codes)


def test_torchao_nvfp4():
    """All codes and scales equal but for blocks of zeros, where torchao keeps its least scale."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchao")
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale
    weights = torch.from_numpy(WEIGHTS)
    tensor_scale = per_tensor_amax_to_scale(weights.abs().max())
    scales, data = nvfp4_quantize(weights, 16, tensor_scale)
    codes = data.view(torch.uint8).numpy()
    q = quantize("nvfp4", WEIGHTS)
    assert q.channel_scale[0] == np.float32(tensor_scale)
    filled = np.abs(WEIGHTS).reshape(32, 32, 16).max(axis=2) > 0
    assert np.array_equal(scales.view(torch.uint8).numpy().reshape(32, 32)[filled], q.scale_codes[filled])
    assert np.array_equal(plus_zero(np.stack([codes & 15, codes >> 4], axis=-1).reshape(WEIGHTS.shape), 4), q.codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_torchao_integers(bits):
    """Asymmetric: every integer, zero-point and scale. Symmetric: torchao spreads 2**b - 1 steps over twice the range.

    Without row 0: its ranges are symmetric, so the zero-point is midway, and falls with the scale's last bit.
    """
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchao")
    from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine
    rows = WEIGHTS[1:]
    weights, top = torch.from_numpy(rows), (1 << bits) - 1
    scale, zero = choose_qparams_affine(weights, MappingType.ASYMMETRIC, (1, 128), torch.uint8, 0, top, eps=1e-12,
                                        scale_dtype=torch.float32)
    codes = quantize_affine(weights, (1, 128), scale, zero, torch.uint8, 0, top).numpy().astype(int)
    q = quantize("rtn_asym", rows, bits, 128, scale="fp32")
    used = q.scale > 0
    assert np.allclose(scale.numpy().reshape(used.shape)[used], q.scale[used], rtol=2e-7)
    assert np.array_equal(zero.numpy().reshape(used.shape)[used], (q.zero + (1 << bits - 1))[used])
    wide = np.repeat(used, 128, axis=1)
    assert np.array_equal(codes[wide], (signed(q, bits) + (1 << bits - 1))[wide])
    scale, _ = choose_qparams_affine(weights, MappingType.SYMMETRIC, (1, 128), torch.int8, -(1 << bits - 1),
                                     (1 << bits - 1) - 1, eps=1e-12, scale_dtype=torch.float32)
    q = quantize("rtn_sym", rows, bits, 128, scale="fp32")
    ratio = scale.numpy().reshape(used.shape)[used] / q.scale[used]
    assert np.allclose(ratio, ((1 << bits - 1) - 1) / (top / 2), rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors_integers(bits):
    """Asymmetric group quantisation, signed as ours: the same integers and zero-points (row 0 as for torchao)."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize as forward
    from compressed_tensors.quantization.utils.helpers import calculate_qparams
    rows = WEIGHTS[1:]
    weights = torch.from_numpy(rows)
    arguments = QuantizationArgs(num_bits=bits, symmetric=False, strategy="group", group_size=128)
    groups = weights.reshape(31, 4, 128)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
    codes = forward(weights, scale, zero, arguments, dtype=torch.int8).numpy().astype(int)
    q = quantize("rtn_asym", rows, bits, 128, scale="fp32")
    used = q.scale > 0
    assert np.allclose(scale.numpy()[used], q.scale[used], rtol=2e-7)
    assert np.array_equal(zero.numpy()[used], q.zero[used])
    wide = np.repeat(used, 128, axis=1)
    assert np.array_equal(codes[wide], signed(q, bits)[wide])


def test_gguf_mxfp4():
    """The same weights: gguf's scale rule is OCP's, its rounding differs on ties only."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType.MXFP4
    weights = WEIGHTS[1:]
    theirs = gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind)
    assert np.allclose(theirs, quantize("mxfp4", weights).dequantise(), rtol=1e-6, atol=0)


def test_gguf_q8_0():
    """Symmetric INT8, blocks of 32, fp16 scales: equal scales; their codes are chosen before the scale is rounded."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType.Q8_0
    raw = gguf.quants.quantize(WEIGHTS, kind).reshape(32, 16, 34)
    q = quantize("rtn_sym", WEIGHTS, 8, 32, scale="fp16")
    assert np.array_equal(raw[..., :2].copy().view(np.uint16)[..., 0], q.scale_codes)
    codes = raw[..., 2:].copy().view(np.int8).reshape(WEIGHTS.shape).astype(int)
    difference = np.abs(codes - signed(q, 8))
    assert difference.max() <= 1 and (difference[1:] > 0).mean() < 0.02
