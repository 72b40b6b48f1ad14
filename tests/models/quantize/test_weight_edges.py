"""Every weight quantiser on awkward tensors, its refusals, its stored bits and its files."""

import json
import os
import zipfile

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.quantize import groupfile
from bitkiln.models.quantize.groupcheck import check
from bitkiln.models.quantize.grouped import Grouped
from bitkiln.models.quantize.methods import METHODS, applicable, quantize
from bitkiln.models.quantize.scales import SCALE_FORMATS, effective, scale_bits, store

RNG = np.random.default_rng(11)
NORMAL = RNG.standard_normal((2, 37))
EDGES = {
    "all zero": np.zeros((2, 37)), "a zero row": np.vstack([np.zeros(37), NORMAL[0]]),
    "one outlier": 9.0 * np.eye(2, 37, 5), "all equal": np.full((2, 37), 0.3), "positive": np.abs(NORMAL),
    "negative": -np.abs(NORMAL), "subnormal": NORMAL * 1e-310, "least": np.full((1, 3), 5e-324),
    "single": np.array([[0.7]]), "huge": NORMAL * 1e300, "largest": np.array([[1.79e308, -1.79e308, 1.0, 0.0]]),
    "all magnitudes": np.array([[1e300, 1e-300, 0.0, -5e-324, *[1.0] * 33]]), "vector": NORMAL[0],
    "scalar": np.float64(3.0), "four axes": RNG.standard_normal((3, 2, 3, 3)),
    "integers": np.arange(-12, 13).reshape(5, 5), "half precision": NORMAL.astype(np.float16),
}
CASES = [(name, bits) for name, method in METHODS.items() for bits in method.widths]
# Methods whose stored scales cannot reach the weights of these (fp16 at most 65504, float32 3e38, E8M0 2**127).
OUT_OF_RANGE = {"subnormal", "least", "huge", "largest", "all magnitudes"}
# Grids without a zero, or scales that are not the largest magnitude: one large weight is not theirs to keep.
COARSE = {"paretoq", "ternary", "ptq161"}


def sizes(name: str) -> list:
    method = METHODS[name]
    return ["default"] if method.block or method.rows_only else [8, 1, None]


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_edges_are_finite_and_consistent(name, bits):
    """Finite results, zeros stay zero, the error is at most the signal's, codes fit, and the file gives it all back."""
    checked = 0
    for edge, tensor in EDGES.items():
        columns = tensor.size if np.ndim(tensor) < 2 else int(np.prod(tensor.shape[1:]))
        x = np.random.default_rng(3).standard_normal((5, columns)) if METHODS[name].needs_calibration else None
        for group in sizes(name):
            with np.errstate(all="raise", under="ignore"):
                q = quantize(name, tensor, bits, group, calibration=x)
                found = q.dequantise()
                nmse = q.nmse(tensor)
            assert found.shape == np.shape(tensor) and np.isfinite(found).all() and np.isfinite(nmse), edge
            assert check(q) is q
            if edge == "all zero":
                assert not found.any() and nmse == 0 and q.sqnr_db(tensor) == np.inf
            elif name not in COARSE:
                assert nmse <= 1 + 1e-12, edge
            if edge in ("single", "scalar") and name not in COARSE | {"nf_double"} and not name.startswith("mx"):
                assert nmse < (2 ** -20 if name not in ("squeezellm", "nvfp4_ue5m3", "bitmod_compat") else 0.02), edge
            elif edge not in OUT_OF_RANGE and name not in COARSE and (bits > 2 or name == "mixed24"):
                assert nmse < 0.5, edge
            assert sum(q.bits.values()) / np.size(tensor) == q.bits_per_weight >= (1 if bits < 2 else bits)
            checked += 1
    assert checked == len(EDGES) * len(sizes(name))


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_scaling_by_a_power_of_two_changes_nothing(name, bits):
    """Codes, zero-points and choices stay; only the scales move (within the range of the stored scales)."""
    x = np.random.default_rng(3).standard_normal((5, 37)) if METHODS[name].needs_calibration else None
    first, second = (quantize(name, tensor, bits, calibration=x) for tensor in (NORMAL, NORMAL * 4))
    if name == "bitmod_compat":
        return    # its errors are fp16 numbers of the tensor's own magnitude
    assert np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.dequantise() * 4, second.dequantise()) or name == "squeezellm"


BAD = {
    "NaN": (np.array([[1.0, np.nan]]), "NaN or Inf in tensor at w[0, 1]: got nan, expected finite values (1 of 2 are "
                                       "not)"),
    "Inf": (np.array([[1.0, -np.inf]]), "NaN or Inf in tensor at w[0, 1]: got -inf, expected finite values (1 of 2 "
                                        "are not)"),
    "empty": (np.zeros((0, 4)), "empty tensor at w: got (0, 4), expected a shape of at least one element"),
    "complex": (np.ones((2, 2), complex), "wrong dtype at w: got complex128, expected real numbers (float or "
                                          "integer)\nhelp: convert it first, e.g. tensor.astype(np.float32)"),
    "objects": (np.array([[{}]], object), "wrong dtype at w: got object, expected real numbers (float or integer)\n"
                                          "help: convert it first, e.g. tensor.astype(np.float32)"),
    "ragged": ([[1.0, 2.0], [3.0]], "ragged list instead of a tensor at w: expected rows of equal length"),
}


@pytest.mark.parametrize("name", METHODS)
def test_bad_tensors(name):
    x = np.ones((2, 2)) if METHODS[name].needs_calibration else None
    for tensor, message in BAD.values():
        with pytest.raises(BitkilnError) as caught:
            quantize(name, tensor, METHODS[name].widths[-1], calibration=x, name="w")
        assert str(caught.value) == f"error: {message}"


@pytest.mark.parametrize(("call", "message"), [
    (lambda: quantize("bitmd", NORMAL, 3), "unknown method at method: got 'bitmd', expected a method of `bitkiln "
                                           "quantize`\nhelp: did you mean bitmod, bitmod_compat?"),
    (lambda: quantize("bitmod", NORMAL, 5), "width not offered at bits: got '5 bits', expected 3, 4 for bitmod\n"
                                            "help: methods of that width: rtn_sym, rtn_asym, fp, awq, dense_sparse"),
    (lambda: quantize("bitmod", NORMAL), "missing width at bits: expected 3, 4 for bitmod"),
    (lambda: quantize("rtn_sym", NORMAL, 4, 0), "out of range at group: got 0, expected a group size of 1 or more"),
    (lambda: quantize("rtn_sym", NORMAL, 4, 2.5), "not an integer at group: got '2.5', expected a group size of 1 or "
                                                  "more"),
    (lambda: quantize("mxfp4", NORMAL, 4, 16), "block size is fixed at group: got '16', expected 32, the block of "
                                               "mxfp4\nhelp: leave the group out"),
    (lambda: quantize("rtn_sym", NORMAL, 4, scale="uint9"),
     "unknown scale format at scale: got 'uint9', expected none, uint2, uint3, uint4, uint5, uint6, uint7, uint8, "
     "e8m0, ue4m3, ue5m3, fp16, fp32\nhelp: did you mean uint8, uint7, uint6?"),
    (lambda: quantize("rtn_sym", NORMAL, 4, 8, scale="none"), "scales differ within a channel at scale: got 'none', "
                                                              "expected a format with a code for each group, such as "
                                                              "uint8"),
    (lambda: quantize("rtn_sym", NORMAL, 4, scales="fp16"), "unknown option at method rtn_sym: got 'scales', expected "
                                                            "scale\nhelp: did you mean scale?"),
    (lambda: quantize("bitmod_compat", NORMAL, 4, x=1), "unknown option at method bitmod_compat: got 'x', expected "
                                                        "none"),
    (lambda: quantize("rtn_sym", NORMAL, 4, calibration=NORMAL),
     "calibration without meaning at calibration: got 'method rtn_sym', expected a method that takes activations: "
     "bitmod, mofq, bitdistiller, awq, ptq161"),
    (lambda: quantize("awq", NORMAL, 4), "no calibration data at calibration: expected activation rows (rows, K) for "
                                         "awq"),
    (lambda: quantize("awq", NORMAL, 4, calibration=NORMAL[:, :5]),
     "calibration does not fit the weights at calibration: got '5 columns', expected rows of 37 activations, one for "
     "each input channel"),
    (lambda: quantize("awq", NORMAL, 4, calibration=NORMAL * np.nan),
     "NaN or Inf in tensor at calibration[0, 0]: got nan, expected finite values (74 of 74 are not)"),
    (lambda: quantize("awq", NORMAL, 4, calibration=NORMAL, fold=1), "not a truth value at fold: got '1', expected "
                                                                     "true or false"),
    (lambda: quantize("awq", NORMAL, 3, calibration=NORMAL, base="olive"),
     "width not offered at bits of olive: got '3 bits', expected 4 for olive\nhelp: methods of that width: rtn_sym, "
     "rtn_asym, fp, bitmod, afpq, afpq_nf, mofq, nf, nf_double, bitdistiller, paretoq, ant, awq, squeezellm, "
     "dense_sparse"),
    (lambda: quantize("fp", NORMAL, 6, element="fp4"), "unknown element type at element: got 'fp4', expected "
                                                       "fp6_e2m3, fp6_e3m2"),
    (lambda: quantize("mx", NORMAL, 6, element="mxfp4"), "unknown element type at element: got 'mxfp4', expected "
                                                         "mxfp6_e2m3, mxfp6_e3m2\nhelp: did you mean mxfp6_e3m2, "
                                                         "mxfp6_e2m3?"),
    (lambda: quantize("rtn_asym", NORMAL, 4, zero_bits=3), "out of range at zero_bits: got 3, expected 4 to 16"),
    (lambda: quantize("bitmod", NORMAL, 4, scale_bits=9), "out of range at scale_bits: got 9, expected 2 to 8\n"
                                                          "help: none stores fp16 scales"),
    (lambda: quantize("nf", NORMAL, 4, double="yes"), "not a truth value at double: got 'yes', expected true or "
                                                      "false"),
    (lambda: quantize("nvfp4", NORMAL, scale="e8m0"), "unknown scale format at scale: got 'e8m0', expected ue4m3 or "
                                                      "ue5m3"),
    (lambda: quantize("bitdistiller", NORMAL, 4, flavour="nf"), "unknown flavour at flavour: got 'nf', expected int"),
    (lambda: quantize("ternary", NORMAL, statistic="mean"), "unknown statistic at statistic: got 'mean', expected "
                                                            "absmean or absmedian\nhelp: did you mean absmean, "
                                                            "absmedian?"),
    (lambda: quantize("ternary", NORMAL, per="layer"), "unknown value at per: got 'layer', expected row, or tensor "
                                                       "without a group"),
    (lambda: quantize("ternary", NORMAL, 1.58, 8, per="tensor"), "contradictory options at per: got 'tensor', "
                                                                 "expected row, or tensor without a group"),
    (lambda: quantize("ant", NORMAL, 4, per="row"), "unknown value at per: got 'row', expected tensor or group"),
    (lambda: quantize("ptq161", NORMAL, salient=2), "out of range at salient: got '2', expected 0 to 1"),
    (lambda: quantize("mixed24", NORMAL, wide="all"), "out of range at wide: got 'all', expected 0 to 1"),
    (lambda: quantize("mixed24", NORMAL, alignment=0), "out of range at alignment: got 0, expected 1 to 512"),
])
def test_messages(call, message):
    with pytest.raises(BitkilnError) as caught:
        call()
    assert str(caught.value) == f"error: {message}" and caught.value.exit_code == 2


@pytest.mark.parametrize("method", [m for m in METHODS.values() if not m.wraps and m.name[:2] not in ("mx", "nv")
                                    or m.name in ("mx", "nvfp4")], ids=lambda m: m.name)
def test_functions_refuse_other_widths_themselves(method):
    """The same without the registry in between."""
    for bits in (0, 9, 3.5, True):
        with pytest.raises(BitkilnError, match="width not offered at bits: got "):
            method.function(NORMAL, bits, None)


# Scales -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SCALE_FORMATS)
def test_scale_formats(name):
    """Every stored scale is the nearest of its format (E8M0: the next power of two), and nothing becomes infinite."""
    scale = np.array([[0.0, 1.0, 0.37], [1e-3, 3e-3, 2.5], [0.0, 0.0, 0.0], [0.25, 0.5, 2.0 ** -9]])
    if name == "none":
        scale = scale[:, :1]
    stored = store(name, scale)
    found = stored.values()
    assert scale_bits(name) == {"none": 0, "e8m0": 8, "ue4m3": 8, "ue5m3": 8, "fp16": 16, "fp32": 32}.get(
        name, int(name[-1]) if name.startswith("uint") else -1)
    assert np.array_equal(effective(name, stored.codes[0], stored.channel_scale, stored.block), found)
    if name == "e8m0":
        used = scale > 0
        assert (found[used] >= scale[used]).all() and (found[used] < 2 * scale[used]).all()
        assert (np.frexp(found)[0] == 0.5).all()
    elif name.startswith("uint"):
        top = scale.max(axis=1, keepdims=True)
        assert np.abs(found - scale).max() <= (top / (2 ** int(name[-1]) - 1)).max() / 2 * (1 + 1e-6)
        assert stored.codes[0].max(axis=1).tolist() == [2 ** int(name[-1]) - 1] * 2 + [0] + [2 ** int(name[-1]) - 1]
    else:
        relative = {"none": 2 ** -24, "fp32": 2 ** -24, "fp16": 2 ** -11, "ue4m3": 2 ** -4, "ue5m3": 2 ** -4}[name]
        # Subnormal floats at the end of ue4m3's range: 2**-9 of the largest, 448.
        assert np.all(np.abs(found - scale) <= np.maximum(relative * scale * (1 + 1e-6), 2.6 * 2 ** -10 / 448))
    for extreme in (1e300, 1e-300):
        assert np.isfinite(store(name, np.full((2, 1), extreme)).values()).all()


def test_scale_codes_round_half_to_even():
    """2.5 steps of the channel's largest / 255 are code 2, 3.5 are 4."""
    scale = np.array([[255.0, 2.5, 3.5, 0.5, 1.5, 0.49]])
    assert store("uint8", scale).codes[0].tolist() == [[255, 2, 4, 0, 2, 0]]


@pytest.mark.parametrize("name", METHODS)
def test_scales_of_zeros_are_plus_zero(name):
    """A group of zeros has scale code 0 wherever 0 is a scale: no sign of a minus zero."""
    method = METHODS[name]
    extra = {"calibration": np.ones((2, 16))} if method.needs_calibration else {}
    for scale in ("uint8", "fp16", "fp32") if "scale" in method.options and name != "nvfp4" else (None,):
        options = {**extra, **({} if scale is None else {"scale": scale})}
        q = quantize(name, np.zeros((2, 16)), method.widths[0], **options)
        clamped = name == "bitmod_compat"   # its least scale is 1e-5
        for codes in (q.scale_codes, q.negative_scale_codes, q.salient_scale_codes):
            assert codes is None or clamped or not codes.any()
        assert q.channel_scale is None or not np.signbit(q.channel_scale).any()


def test_float_scales_by_name():
    q = quantize("rtn_sym", NORMAL, 4, 8, scale="ue4m3")
    assert q.bits["scales"] == 8 * 10 and q.bits["channel scales"] == 32 and q.scale_block == 10
    assert quantize("fp", NORMAL, 6, None, scale="e8m0").bits == {"codes": 6 * 74, "scales": 16}


# Bits -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "bits", "group", "options", "parts"), [
    ("rtn_sym", 4, 128, {}, {"codes": 4 * 1200, "scales": 8 * 12, "channel scales": 32 * 4}),
    ("rtn_sym", 4, None, {}, {"codes": 4 * 1200, "channel scales": 32 * 4}),
    ("rtn_asym", 3, 100, {"scale": "fp16"}, {"codes": 3 * 1200, "scales": 16 * 12, "zero-points": 3 * 12}),
    ("rtn_asym", 4, 100, {"zero_bits": 8}, {"codes": 4800, "scales": 96, "zero-points": 96, "channel scales": 128}),
    ("bitmod", 3, 128, {}, {"codes": 3600, "scales": 96, "channel scales": 128, "selectors": 2 * 12}),
    ("bitmod", 4, 128, {"scale_bits": 6}, {"codes": 4800, "scales": 72, "channel scales": 128, "selectors": 24}),
    ("bitmod", 4, 128, {"scale_bits": None}, {"codes": 4800, "scales": 192, "selectors": 24}),
    ("bitmod_compat", 4, 128, {}, {"codes": 4800, "scales": 192, "selectors": 24}),
    ("afpq", 4, 100, {}, {"codes": 4800, "scales": 96, "negative scales": 96, "channel scales": 128}),
    ("mofq", 4, 100, {}, {"codes": 4800, "scales": 96, "channel scales": 128, "selectors": 1}),
    ("nf", 4, "default", {}, {"codes": 4800, "scales": 32 * 20}),
    ("nf_double", 4, "default", {}, {"codes": 4800, "scales": 8 * 20, "channel scales": 32}),
    ("paretoq", 1, None, {}, {"codes": 1200, "channel scales": 128}),
    ("paretoq", 1.58, None, {}, {"codes": 8 * 60 * 4, "channel scales": 128}),
    ("ternary", 1.58, None, {"per": "tensor"}, {"codes": 8 * 60 * 4, "channel scales": 32}),
    ("ant", 4, 100, {}, {"codes": 4800, "scales": 96, "channel scales": 128, "selectors": 2}),
    ("ant", 4, 100, {"per": "group"}, {"codes": 4800, "scales": 96, "channel scales": 128, "selectors": 24}),
    ("mxfp4", 4, "default", {}, {"codes": 4800, "scales": 8 * 40}),
    ("nvfp4", 4, "default", {}, {"codes": 4800, "scales": 8 * 76, "channel scales": 32}),
    ("ptq161", 1.61, None, {}, {"codes": 4 * (60 * 4 + 240), "scales": 64, "salient scales": 64, "mask": 300}),
    ("mixed24", 2, 100, {}, {"codes": 32 * (9 * 7 + 3 * 13), "scales": 96, "channel scales": 128,
                             "zero-points": 4 * 12, "selectors": 12}),
])
def test_stored_bits(name, bits, group, options, parts):
    """Every part counted by hand, for a matrix of 4 x 300."""
    q = quantize(name, np.random.default_rng(2).standard_normal((4, 300)), bits, group, **options)
    assert q.bits == parts
    assert q.bits_per_weight == sum(parts.values()) / 1200


def test_published_bits_per_weight():
    """QLoRA's 4.127 and 4.5, BitMoD's 10 bits a group, AFPQ as asymmetric INT with as wide a zero-point, PTQ1.61."""
    tensor = np.random.default_rng(0).standard_normal((256, 4096)).astype(np.float32)
    assert quantize("nf", tensor, 4).bits_per_weight == 4.5
    assert quantize("nf_double", tensor, 4).bits_per_weight == 4 + 8 / 64 + 32 / (64 * 256) == 4.126953125
    assert quantize("bitmod", tensor, 3, 128).bits_per_weight == 3 + 10 / 128 + 32 / 4096
    assert quantize("mxfp4", tensor).bits_per_weight == 4.25
    assert quantize("nvfp4", tensor).bits_per_weight == 4.5 + 32 / tensor.size
    for scale, width in (("uint8", 8), ("fp16", 16)):
        two_sided = quantize("afpq", tensor, 4, 128, scale=scale)
        zero_point = quantize("rtn_asym", tensor, 4, 128, scale=scale, zero_bits=width)
        assert two_sided.bits_per_weight == zero_point.bits_per_weight
    assert quantize("fp", tensor, 6, None).bits["codes"] == 6 * tensor.size
    square = np.lib.stride_tricks.as_strided(tensor, (4096, 4096), (0, 4))   # equal rows: only the count matters
    q = quantize("ptq161", square)
    assert q.bits["mask"] / square.size == pytest.approx(0.0002, abs=5e-5)
    assert round(q.bits_per_weight, 2) == 1.61


def test_shapes_and_ragged_groups():
    """Higher ranks are matrices of the first axis; the last group of a row is what is left."""
    tensor = RNG.standard_normal((4, 3, 5, 5))
    q = quantize("rtn_asym", tensor, 4, 32)
    flat = quantize("rtn_asym", tensor.reshape(4, 75), 4, 32)
    assert np.array_equal(q.codes, flat.codes) and q.matrix == (4, 75) and q.sizes.tolist() == [32, 32, 11]
    assert np.array_equal(q.dequantise(), flat.dequantise().reshape(tensor.shape))
    last = quantize("rtn_asym", tensor.reshape(4, 75)[:, 64:], 4, None, scale="fp32")
    assert np.array_equal(quantize("rtn_asym", tensor, 4, 32, scale="fp32").codes[:, 64:], last.codes)
    assert quantize("rtn_sym", tensor, 4, 1000).group == 75
    assert Grouped(tensor, None).count == (4, 1)


@pytest.mark.parametrize("shape", [(9, 40), (50, 9)])
def test_slabs_do_not_matter(shape, monkeypatch):
    """Large layers are worked on piece by piece, with the same result."""
    from bitkiln.models.quantize import grouped, groups
    tensor = RNG.standard_normal(shape)
    x = RNG.standard_normal((4, shape[1]))
    for name, bits in CASES:
        extra = {"calibration": x} if METHODS[name].takes_calibration else {}
        monkeypatch.setattr(grouped, "SLAB", 1 << 19)
        whole = quantize(name, tensor, bits, **extra)
        monkeypatch.setattr(grouped, "SLAB", 80)
        monkeypatch.setattr(groups, "SLAB", 120)
        pieces = quantize(name, tensor, bits, **extra)
        assert np.array_equal(whole.codes, pieces.codes) and np.array_equal(whole.dequantise(), pieces.dequantise())


def test_registry():
    """What a comparison shows, and what each method says about itself."""
    assert {m.name for m in applicable(4, False)} < {m.name for m in applicable(4, True)}
    assert {m.name for m in applicable(1.58, False)} == {"paretoq", "ternary"}
    assert "mx" not in {m.name for m in applicable(8, True)} and applicable(9, True) == []
    assert METHODS["awq"].needs_calibration and not METHODS["mofq"].needs_calibration
    assert METHODS["mofq"].takes_calibration and METHODS["nf"].default_group == 64
    assert METHODS["nvfp4"].default_group == 16 and METHODS["paretoq"].default_group is None
    assert "calibration" not in METHODS["awq"].options
    for method in METHODS.values():
        assert method.summary and list(method.widths) == sorted(method.widths)


# Files ------------------------------------------------------------------------------------------------

@pytest.fixture
def saved(tmp_path):
    q = quantize("bitmod", NORMAL, 3, 8)
    groupfile.save(tmp_path / "q.npz", q)
    return q, tmp_path / "q.npz"


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_files_give_everything_back(name, bits, tmp_path):
    x = np.random.default_rng(3).standard_normal((5, 37)) if METHODS[name].needs_calibration else None
    q = quantize(name, NORMAL, bits, calibration=x)
    groupfile.save(tmp_path / "q.npz", {"layer.weight": q})
    again = groupfile.load(tmp_path / "q.npz", "layer.weight")
    for field in (*groupfile.PLAIN, *groupfile.ARRAYS):
        mine, theirs = getattr(q, field), getattr(again, field)
        assert (mine is None) == (theirs is None)
        assert np.array_equal(mine, theirs) and getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)
    assert again.bits == q.bits and np.array_equal(again.dequantise(), q.dequantise())
    assert os.listdir(tmp_path) == ["q.npz"]


def test_several_tensors_in_a_file(tmp_path):
    both = {"a": quantize("fp", NORMAL, 4), "b/c": quantize("awq", NORMAL, 4, calibration=NORMAL)}
    groupfile.save(tmp_path / "new" / "q.npz", both)
    assert list(groupfile.load_all(tmp_path / "new" / "q.npz")) == ["a", "b/c"]
    with pytest.raises(BitkilnError, match="which tensor at .*q.npz: expected one of 2 names"):
        groupfile.load(tmp_path / "new" / "q.npz")
    with pytest.raises(BitkilnError, match="no such tensor at .*q.npz: got 'aa'"):
        groupfile.load(tmp_path / "new" / "q.npz", "aa")


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    q, path = saved
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(BitkilnError) as caught:
        groupfile.save(path, quantize("fp", NORMAL, 4))
    assert str(caught.value).startswith(f"error: cannot write at {path}: got 'no space left on device'")
    assert caught.value.exit_code == 1
    assert path.read_bytes() == before and os.listdir(path.parent) == ["q.npz"]


def _rewrite(path, change):
    """The file with its entries changed by ``change(dict of arrays, header)``."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    header = json.loads(bytes(arrays[groupfile.HEADER]).decode())
    change(arrays, header)
    arrays[groupfile.HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(("change", "message"), [
    (lambda a, h: h.update(layout=9), "file of another layout"),
    (lambda a, h: a.pop("0/codes"), "damaged file"),
    (lambda a, h: a.update({"0/codes": a["0/codes"][:, :5]}), "wrong shape (codes: (2, 5))"),
    (lambda a, h: a.update({"0/codes": a["0/codes"].astype(float)}), "wrong dtype (codes: float64)"),
    (lambda a, h: a.update({"0/codes": a["0/codes"] + np.uint8(8)}), "out of range (codes: 8 to 15)"),
    (lambda a, h: a.update({"0/special_index": a["0/special_index"] + np.uint8(4)}), "out of range (special_index"),
    (lambda a, h: a.update({"0/scale_codes": a["0/scale_codes"].astype(np.uint16) + 256}), "out of range (scale_cod"),
    (lambda a, h: h["tensors"][0].update(scale_format="ue4m3"), "code out of range"),
    (lambda a, h: a.update({"0/channel_scale": a["0/channel_scale"] * np.nan}), "NaN or Inf (channel_scale"),
    (lambda a, h: a.update({"0/channel_scale": np.ones(3, np.float32)}), "wrong shape (channel_scale: (3,))"),
    (lambda a, h: h["tensors"][0].update(shape=[2, -37]), "not a size (shape"),
    (lambda a, h: h["tensors"][0].update(group=0), "not a size (shape"),
    (lambda a, h: h["tensors"][0].update(group=38), "out of range (group: 38)"),
    (lambda a, h: h["tensors"][0].update(types=["bitmod9"]), "unknown format"),
    (lambda a, h: h["tensors"][0].update(types=[]), "wrong number (types: 0)"),
    (lambda a, h: h["tensors"][0].update(scale_format="uint99"), "unknown scale format"),
    (lambda a, h: h["tensors"][0].update(zero_bits=1000), "not a size (zero_bits"),
    (lambda a, h: h["tensors"][0].pop("method"), "damaged file"),
    (lambda a, h: h.update(tensors=7), "damaged file"),
    (lambda a, h: a.update({"0/outlier_value": np.ones(1, np.float16)}), "missing part (outlier_row"),
    (lambda a, h: a.update({"0/outlier_value": np.ones(1, np.float16), "0/outlier_row": np.array([2], np.uint32),
                            "0/outlier_column": np.array([0], np.uint32)}), "out of range (outlier_row: 2 to 2)"),
    (lambda a, h: a.update({"0/input_scale": np.zeros(37, np.float32)}), "out of range (input_scale"),
])
def test_damaged_contents(saved, change, message):
    _, path = saved
    _rewrite(path, change)
    with pytest.raises(BitkilnError) as caught:
        groupfile.load(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_damaged_files(saved, tmp_path):
    """Cut anywhere, changed bytes, other files: one clear error, never another exception."""
    _, path = saved
    raw = path.read_bytes()
    for end in (0, 1, 3, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(BitkilnError, match="damaged file"):
            groupfile.load(path)
    changed = 0
    for position in range(0, len(raw), 13):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1:])
        try:
            groupfile.load(path)
        except BitkilnError:
            changed += 1
    assert changed > len(raw) / 13 / 3       # the rest are bytes that zip does not read twice
    for other in (b"hello", b"\x93NUMPY\x01\x00"):
        path.write_bytes(other)
        with pytest.raises(BitkilnError, match="damaged file"):
            groupfile.load(path)
    np.save(path.with_suffix(".npy"), NORMAL)
    path.with_suffix(".npy").rename(path)
    with pytest.raises(BitkilnError, match="damaged file"):
        groupfile.load(path)
    np.savez(path, **{groupfile.HEADER: np.array([{}], object)})
    with pytest.raises(BitkilnError, match="damaged file"):
        groupfile.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(BitkilnError, match="damaged file"):
        groupfile.load(path)
    with pytest.raises(BitkilnError, match="no such file"):
        groupfile.load(tmp_path / "none.npz")
    with pytest.raises(BitkilnError, match="damaged file"):
        groupfile.load(tmp_path)
