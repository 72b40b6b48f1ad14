"""Every weight quantiser against its definition in exact fractions (``weight_oracles``), weight for weight."""

from fractions import Fraction
from math import fsum

import numpy as np
import pytest
import weight_oracles as oracle
from weight_oracles import GRIDS

from bitkiln.models.design.weights import weight_type
from bitkiln.models.formats import get_format
from bitkiln.models.quantize.grids import SPECIAL_TYPES, levels
from bitkiln.models.quantize.methods import METHODS, quantize
from bitkiln.models.quantize.mixed24 import group_offsets
from bitkiln.models.quantize.pairs import OUTLIERS, decode_pairs, encode_pairs

GROUP = 8
RNG = np.random.default_rng(20241)
PLAIN = RNG.standard_normal((3, 21))
HEAVY = RNG.standard_t(2, (3, 21)).astype(np.float32).astype(np.float64)
# Ties: quarters and a largest magnitude that makes scales powers of two; a group of zeros and groups of one sign.
TIES = RNG.integers(-8, 9, (3, 21)) / 4.0
TIES[0, :8] = 0
TIES[1, :8] = np.abs(TIES[1, :8])
TIES[1, 8:16] = -np.abs(TIES[1, 8:16])
TIES[2, [0, 8, 16]] = (4.0, -6.0, 8.0)
TENSORS = {"normal": PLAIN, "heavy": HEAVY, "ties": TIES}


@pytest.fixture(params=TENSORS)
def tensor(request):
    return TENSORS[request.param]


def same(q, expected):
    """Weights equal the exact ones, each rounded to float64 once."""
    found = q.dequantise()
    assert found.shape == (len(expected), len(expected[0]))
    assert [[float(w) for w in row] for row in expected] == found.tolist()


@pytest.mark.parametrize("bits", range(2, 9))
def test_symmetric_integers(tensor, bits):
    grid = GRIDS[f"int{bits}"]
    scales = [[max(map(abs, g)) / (2 ** (bits - 1) - 1) for g in row] for row in oracle.split(tensor.tolist(), GROUP)]
    same(quantize("rtn_sym", tensor, bits, GROUP),
         oracle.on_grid(tensor.tolist(), GROUP, grid, oracle.store_uint(scales)[1]))
    for name, kind in (("fp16", np.float16), ("fp32", np.float32)):
        same(quantize("rtn_sym", tensor, bits, GROUP, scale=name),
             oracle.on_grid(tensor.tolist(), GROUP, grid, oracle.store_float(scales, kind)))


@pytest.mark.parametrize("bits", range(2, 9))
def test_asymmetric_integers(tensor, bits):
    q = quantize("rtn_asym", tensor, bits, GROUP)
    same(q, oracle.asymmetric(tensor.tolist(), GROUP, bits))
    # The stored form: signed codes and zero-points, value = (q - z) * scale.
    code = q.codes.astype(int)
    code -= (code >> (bits - 1)) << bits
    scale, zero = (np.repeat(array, q.sizes, axis=1) for array in (q.scale, q.zero))
    assert np.array_equal((code - zero) * scale, q.dequantise())
    assert -(1 << (bits - 1)) <= q.zero.min() and q.zero.max() < 1 << (bits - 1)


@pytest.mark.parametrize(("bits", "element"), [(3, "fp3"), (4, "fp4"), (5, "e2m2"), (6, "fp6_e2m3"), (6, "fp6_e3m2")])
def test_floats(tensor, bits, element):
    same(quantize("fp", tensor, bits, GROUP, element=element),
         oracle.on_grid(tensor.tolist(), GROUP, GRIDS[element]))


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("scale_bits", [8, 6, 4])
def test_bitmod(tensor, bits, scale_bits):
    q = quantize("bitmod", tensor, bits, GROUP, scale_bits=scale_bits)
    weights, special, codes = oracle.bitmod(tensor.tolist(), GROUP, bits, scale_bits)
    assert q.special_index.tolist() == special and q.scale_codes.tolist() == codes
    same(q, weights)


@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_codes_are_those_of_the_engine(bits):
    """Codes, specials and their order mean the same in the weight type that the hardware is generated from."""
    q = quantize("bitmod", np.concatenate([PLAIN, HEAVY]), bits, GROUP)
    typed = weight_type(q.types[0])
    special = np.repeat(np.array(typed.specials)[q.special_index], q.sizes, axis=1)
    assert np.array_equal(typed.decode(q.codes, special) * np.repeat(q.scale, q.sizes, axis=1), q.dequantise())
    assert (q.codes == typed.special_code).any() and len(set(q.special_index.ravel())) > 1


@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_group_of_zeros(bits):
    """Scale code 0, codes 0, index 0 (bitserial specification 5.7)."""
    q = quantize("bitmod", TIES, bits, GROUP)
    assert not q.codes[0, :8].any() and q.scale_codes[0, 0] == 0 and q.special_index[0, 0] == 0


@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_as_released(tensor, bits):
    """fp16 arithmetic, and the exact products rounded to fp16 are the released program's weights."""
    for factor in (1.0, 2.0 ** -12, 2.0 ** 10):   # the second reaches the least scale, the third errors above 1e3
        scaled = tensor * factor
        expected = np.array(oracle.join([[oracle.bitmod_released(g, bits) for g in row]
                                         for row in oracle.split(scaled.tolist(), GROUP)]))
        q = quantize("bitmod_compat", scaled, bits, GROUP)
        assert np.array_equal(q.dequantise().astype(np.float16), expected)


@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_as_released_gives_up_on_large_errors(bits):
    """A mean squared error of 1e3 or more leaves zeros; the exact quantiser does not."""
    large = PLAIN * 4000
    released, exact = (quantize(name, large, bits, GROUP) for name in ("bitmod_compat", "bitmod"))
    assert not released.dequantise().any() and exact.nmse(large) < 0.05


@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_as_released_takes_the_lower_value_midway(bits):
    # Many threes (fives) make the special value of extra resolution win, and the scale a power of two.
    weights = np.array([[4.0, 1.5, -1.5, 3.0, 3.0, 3.0, 1.0, 2.0]]) if bits == 3 else \
        np.array([[6.0, 2.5, -2.5, 5.0, 5.0, 5.0, 1.0, 2.0]])
    expected = [4, 1, -2, 3, 3, 3, 1, 2] if bits == 3 else [6, 2, -3, 5, 5, 5, 1, 2]
    assert quantize("bitmod_compat", weights, bits, 8).dequantise().tolist() == [expected]


@pytest.mark.parametrize(("name", "bits", "element"), [("afpq", 3, "fp3"), ("afpq", 4, "fp4"), ("afpq_nf", 3, "nf3"),
                                                       ("afpq_nf", 4, "nf4")])
def test_afpq(tensor, name, bits, element):
    q = quantize(name, tensor, bits, GROUP)
    same(q, oracle.two_sided(tensor.tolist(), GROUP, GRIDS[element]))
    assert q.types == (element,)


@pytest.mark.parametrize("bits", [3, 4])
def test_nf(tensor, bits):
    grid = GRIDS[f"nf{bits}"]
    amax = [[max(map(abs, g)) for g in row] for row in oracle.split(tensor.tolist(), GROUP)]
    same(quantize("nf", tensor, bits, GROUP),
         oracle.on_grid(tensor.tolist(), GROUP, grid, oracle.store_float(amax, np.float32)))
    flat = oracle.store_uint([sum(amax, [])])[1][0]     # 9 groups: one second-level scale
    again = [flat[i:i + 3] for i in range(0, 9, 3)]
    same(quantize("nf_double", tensor, bits, GROUP), oracle.on_grid(tensor.tolist(), GROUP, grid, again))


def test_nf_double_shares_scales_of_256_blocks():
    tensor = np.random.default_rng(3).standard_normal((3, 64 * 100))
    q = quantize("nf_double", tensor, 4)
    assert q.channel_scale.shape == (2,) and q.scale_block == 256
    amax = np.abs(tensor).reshape(-1, 64).max(axis=1)
    assert np.array_equal(q.channel_scale, [np.float32(amax[:256].max() / 255), np.float32(amax[256:].max() / 255)])


def _int_measure(bits):
    def measure(weights, low, high):
        scale = Fraction((high - low) / (2 ** bits - 1))
        return oracle.error(weights, oracle.asymmetric_group(weights, scale, low, bits))
    return measure


def _better_rows(tensor, searched, plain):
    """Row by row what the quantiser keeps: the searched ranges unless plain ones end up with less error."""
    return [s if oracle.error(row, s) <= oracle.error(row, p) else p
            for row, s, p in zip(tensor.tolist(), searched, plain, strict=True)]


@pytest.mark.parametrize("bits", [2, 3])
def test_bitdistiller_integers(tensor, bits):
    ranges = oracle.clipped_ranges(tensor.tolist(), GROUP, _int_measure(bits))
    expected = _better_rows(tensor, oracle.asymmetric(tensor.tolist(), GROUP, bits, ranges),
                            oracle.asymmetric(tensor.tolist(), GROUP, bits))
    same(quantize("bitdistiller", tensor, bits, GROUP), expected)


def test_bitdistiller_nf(tensor):
    def measure(weights, low, high):
        return oracle.error(weights, [oracle.nearest(GRIDS["nf3"], w, Fraction(-low if w < 0 else high))
                                      for w in weights])
    ranges = oracle.clipped_ranges(tensor.tolist(), GROUP, measure)
    expected = _better_rows(tensor, oracle.two_sided(tensor.tolist(), GROUP, GRIDS["nf3"], ranges),
                            oracle.two_sided(tensor.tolist(), GROUP, GRIDS["nf3"]))
    same(quantize("bitdistiller", tensor, 3, GROUP, flavour="nf"), expected)


def test_bitdistiller_measures_outputs():
    """With calibration the winner of a group has the least error of ``x . (w' - w)`` among all clippings."""
    x = np.random.default_rng(9).standard_normal((12, 8)) * np.array([30, 1, 1, 1, 1, 1, 1, 0.01])
    tensor = HEAVY[:, :8]

    def measure(weights, low, high):
        scale = Fraction((high - low) / 7)
        gap = [f - Fraction(w) for w, f in zip(weights, oracle.asymmetric_group(weights, scale, low, 3), strict=True)]
        return sum(sum(Fraction(a) * d for a, d in zip(row, gap, strict=True)) ** 2 for row in x.tolist())
    ranges = oracle.clipped_ranges(tensor.tolist(), None, measure)
    blind = oracle.clipped_ranges(tensor.tolist(), None, _int_measure(3))
    assert ranges != blind
    same(quantize("bitdistiller", tensor, 3, 8, calibration=x, scale="uint8"),
         oracle.asymmetric(tensor.tolist(), None, 3, ranges))


def _paretoq(w, a, bits):
    """One weight by the published formulas, exact; ``a`` is the initial scale."""
    if bits == 1:
        return a if w >= 0 else -a
    if not a:
        return Fraction(0)
    if bits in (3, 4):
        return min(max(oracle.half_even(w / a), -2 ** (bits - 1)), 2 ** (bits - 1) - 1) * a
    ratio = min(max(w / a, Fraction(-99, 100)), Fraction(99, 100))
    if bits == 2:
        return a * (oracle.half_even(ratio * 2 - Fraction(1, 2)) + Fraction(1, 2)) / 2
    return a * oracle.half_even(ratio * Fraction(3, 2)) / Fraction(3, 2)


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4])
def test_paretoq(tensor, bits):
    expected = []
    for row in tensor.tolist():
        amax = max(map(abs, row))
        ideal = fsum(map(abs, row)) / len(row) if bits == 1 else amax * 2 / 3 if bits == 1.58 else \
            amax if bits == 2 else amax / (2 ** (bits - 1) - 1)
        stored = Fraction(float(np.float32(ideal)))
        a = stored * Fraction(3, 2) if bits == 1.58 else stored
        expected.append([_paretoq(Fraction(w), a, bits) for w in row])
    same(quantize("paretoq", tensor, bits), expected)


@pytest.mark.parametrize("statistic", ["absmean", "absmedian"])
@pytest.mark.parametrize("per", ["row", "tensor"])
def test_ternary(tensor, statistic, per):
    def scale(weights):
        ordered = sorted(map(abs, weights))
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        return Fraction(float(np.float32(fsum(ordered) / len(ordered) if statistic == "absmean" else middle)))
    whole = [w for row in tensor.tolist() for w in row]
    expected = [[min(max(oracle.half_even(Fraction(w) / s), -1), 1) * s if s else Fraction(0) for w in row]
                for row in tensor.tolist() for s in [scale(row if per == "row" else whole)]]
    same(quantize("ternary", tensor, statistic=statistic, per=per), expected)


def test_flint(tensor):
    same(quantize("flint", tensor, 4, GROUP), oracle.on_grid(tensor.tolist(), GROUP, GRIDS["flint4"]))


@pytest.mark.parametrize("per", ["tensor", "group"])
def test_ant(per):
    """Type and ratio of least error among 4 x 76, by exhaustion."""
    tensor = np.stack([PLAIN[0, :16], HEAVY[0, :16], np.repeat([8.0, 0.1], 8) * np.sign(PLAIN[1, :16])])
    tensor[2] *= 1 + PLAIN[2, :16] / 50
    types = ("int4", "flint4", "e3m0", "fp4")
    groups = oracle.split(tensor.tolist(), GROUP)
    tried = [(kind, percent / 100) for kind in types for percent in range(75, 151)]

    def approximate(g, kind, ratio):
        scale = max(map(abs, g)) / float(max(GRIDS[kind])) * ratio
        return oracle.error(g, [oracle.nearest(GRIDS[kind], w, Fraction(scale)) for w in g])
    errors = [[[approximate(g, *choice) for choice in tried] for g in row] for row in groups]
    if per == "tensor":
        best = oracle.first_least([sum(cells) for cells in zip(*(e for row in errors for e in row), strict=True)])
        chosen = [[tried[best]] * 2 for _ in groups]
    else:
        chosen = [[tried[oracle.first_least(e)] for e in row] for row in errors]
    ideal = [[max(map(abs, g)) / float(max(GRIDS[kind])) * ratio for g, (kind, ratio) in zip(row, line, strict=True)]
             for row, line in zip(groups, chosen, strict=True)]
    exact = oracle.store_uint(ideal)[1]
    q = quantize("ant", tensor, 4, GROUP, per=per)
    same(q, oracle.join([[[oracle.nearest(GRIDS[kind], w, s) for w in g]
                          for g, (kind, _), s in zip(row, line, scales, strict=True)]
                         for row, line, scales in zip(groups, chosen, exact, strict=True)]))
    kinds = {kind for line in chosen for kind, _ in line}
    assert set(q.types) >= kinds and (len(kinds) > 1) == (per == "group")


# OliVe ------------------------------------------------------------------------------------------------

OUTLIER = {code: (-1 if code & 8 else 1) * (2 + (code & 1)) * 2 ** ((code >> 1 & 3) + 2)
           for code in range(16) if code & 7}   # 1.m * 2**(e + 3)


def _pair_value(first, second):
    """What two codes mean."""
    normal = oracle.integers(4)
    if first == 8:
        return 0, OUTLIER[second] if second != 8 else 0
    if second == 8:
        return OUTLIER[first], 0
    return normal[first], normal[second]


def test_olive_outliers_are_the_published_values():
    assert sorted({abs(v) for v in OUTLIER.values()}) == [12, 16, 24, 32, 48, 64, 96]
    assert {code: float(v) for code, v in enumerate(OUTLIERS.values) if v is not None} == OUTLIER


def test_olive_codes_round_trip():
    """All pairs that mean something decode to their values and encode to themselves."""
    legal = [(a, b) for a in range(16) for b in range(16)
             if not (a == b == 8) and not (a == 8 and b & 7 == 0) and not (b == 8 and a & 7 == 0)]
    assert len(legal) == 15 * 15 + 2 * 14
    codes = np.array(legal, np.uint8)
    values = decode_pairs(codes, 2)
    assert values.tolist() == [list(map(float, _pair_value(a, b))) for a, b in legal]
    assert np.array_equal(encode_pairs(values, np.ones_like(values), 2), codes)
    wide = decode_pairs(codes.reshape(1, -1), codes.size)    # the same pairs side by side
    assert np.array_equal(wide.ravel(), values.ravel())


def test_olive_takes_the_best_codes_of_each_pair():
    """Exhaustive over all 253 code pairs; an odd last weight of a group is a normal one."""
    tensor = np.random.default_rng(8).standard_t(1.2, (4, 25)) * 5
    q = quantize("olive", tensor, 4, 24)
    legal = {(a, b): _pair_value(a, b) for a in range(16) for b in range(16)
             if not (a == b == 8) and not (a == 8 and b & 7 == 0) and not (b == 8 and a & 7 == 0)}
    scale = np.repeat(q.scale, q.sizes, axis=1)
    found = q.dequantise() / scale
    for row in range(4):
        for column in range(0, 24, 2):
            pair = [Fraction(tensor[row, column + i]) / Fraction(scale[row, column]) for i in (0, 1)]
            least = min(oracle.error(pair, map(Fraction, value)) for value in legal.values())
            assert oracle.error(pair, [Fraction(v) for v in found[row, column:column + 2]]) == least
        last = Fraction(tensor[row, 24]) / Fraction(scale[row, 24])
        assert found[row, 24] == min(range(-7, 8), key=lambda v: abs(v - last))
    assert (q.codes == 8).any()


def test_olive_scale_is_the_best_of_those_tried():
    """The absmax scale and three deviations times 50 to 150 per cent."""
    tensor = HEAVY[:1, :8]
    rms = float(np.sqrt(np.mean(tensor ** 2)))
    amax = float(np.abs(tensor).max())
    tried = [amax / 7] + [max(3 * rms / 7 * percent / 100, amax / 96) for percent in range(50, 151, 2)]
    errors = []
    for scale in tried:
        wide = np.full_like(tensor, scale)
        errors.append(np.sum((decode_pairs(encode_pairs(tensor, wide, 8), 8) * wide - tensor) ** 2))
    assert quantize("olive", tensor, 4, 8).scale[0, 0] == np.float32(tried[int(np.argmin(errors))])


# Blocks, wrappers and the rest --------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "bits", "element", "emax"), [
    ("mxfp4", 4, "fp4", 2), ("mxfp6_e2m3", 6, "fp6_e2m3", 2), ("mxfp6_e3m2", 6, "fp6_e3m2", 4)])
def test_mx(name, bits, element, emax):
    tensor = np.concatenate([PLAIN, HEAVY, TIES], axis=1)[:, :50]   # blocks of 32 and 18
    expected = []
    for row in oracle.split(tensor.tolist(), 32):
        expected.append([])
        for block in row:
            exponent = max(int(np.floor(np.log2(max(map(abs, block))))) - emax, -127)
            expected[-1].append([oracle.nearest(GRIDS[element], w, Fraction(2) ** exponent) for w in block])
    for q in (quantize(name, tensor), quantize("mx", tensor, bits, element=name)):
        same(q, oracle.join(expected))
        assert q.scale_format == "e8m0" and q.codes.shape == tensor.shape


def test_mxint8():
    """Two's complement of unit 1/64: the largest magnitude has exponent 0, 2 - 1/64 is the end."""
    tensor = np.concatenate([PLAIN, HEAVY, TIES], axis=1)[:, :50]
    expected = []
    for row in oracle.split(tensor.tolist(), 32):
        expected.append([])
        for block in row:
            unit = Fraction(2) ** int(np.floor(np.log2(max(map(abs, block))))) / 64
            expected[-1].append([min(max(oracle.half_even(Fraction(w) / unit), -128), 127) * unit for w in block])
    for q in (quantize("mxint8", tensor), quantize("mx", tensor, 8, element="mxint8")):
        same(q, oracle.join(expected))


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_ue5m3"])
def test_nvfp4(name):
    tensor = np.concatenate([PLAIN, HEAVY], axis=1)[:, :40]   # blocks of 16, 16 and 8
    bias, top = (7, 448) if name == "nvfp4" else (15, 114688)
    values = [Fraction(m if e == 0 else 8 + m) * Fraction(2) ** (max(e, 1) - bias - 3)
              for e in range(32 if bias == 15 else 16) for m in range(8)][:-1]
    assert values[-1] == top
    whole = Fraction(float(np.float32(np.abs(tensor).max() / (top * 6)))) if name == "nvfp4" else Fraction(1)
    expected = []
    for row in oracle.split(tensor.tolist(), 16):
        expected.append([])
        for block in row:
            ratio = Fraction(max(map(abs, block))) / 6 / whole
            code = max(oracle.nearest_code(values, ratio), 1)
            expected[-1].append([oracle.nearest(GRIDS["fp4"], w, values[code] * whole) for w in block])
    same(quantize(name, tensor), oracle.join(expected))


def test_mofq_chooses_by_error():
    """INT for even weights, FP for heavy tails; INT where both are equal."""
    even, heavy = np.linspace(-1, 1, 210).reshape(3, 70), np.random.default_rng(1).standard_t(2, (3, 70))
    for tensor, kind in ((even, "int4"), (heavy, "fp4"), (np.zeros((2, 9)), "int4")):
        q = quantize("mofq", tensor, 4, 32)
        errors = {kind: quantize(name, tensor, 4, 32).nmse(tensor) for name, kind in (("rtn_sym", "int4"),
                                                                                    ("fp", "fp4"))}
        assert q.types == (kind,) and q.nmse(tensor) == min(errors.values()) and q.bits["selectors"] == 1


def test_mofq_by_outputs_may_choose_otherwise():
    """Weights that only some inputs reach: the error of the outputs is what those see."""
    rng = np.random.default_rng(2)
    tensor = np.concatenate([np.linspace(-1, 1, 64)[None].repeat(2, 0), rng.standard_t(1.5, (2, 64))], axis=1)
    x = np.concatenate([rng.standard_normal((30, 64)) * 100, rng.standard_normal((30, 64)) * 1e-3], axis=1)
    chosen = {}
    for calibration in (None, x, x[:, ::-1]):
        q = quantize("mofq", tensor, 4, 64, calibration=calibration)
        chosen[id(calibration)] = q.types
        if calibration is not None:
            errors = []
            for name in ("rtn_sym", "fp"):
                gap = quantize(name, tensor, 4, 64).dequantise() - tensor
                errors.append(np.sum((calibration @ gap.T) ** 2))
            assert q.types == (("int4", "fp4")[int(np.argmin(errors))],)
    assert len(set(chosen.values())) == 2


def test_awq_lowers_the_error_of_the_outputs():
    """Salient channels: better than the method alone, and the scale folds into the operation before."""
    rng = np.random.default_rng(4)
    tensor = rng.standard_normal((24, 64))
    loud = np.where(np.arange(64) % 16 == 3, 30.0, 1.0)
    x = rng.standard_normal((100, 64)) * loud
    for base in ("rtn_asym", "bitmod"):
        plain, q = quantize(base, tensor, 3, 32), quantize("awq", tensor, 3, 32, calibration=x, base=base)
        def lost(weights):
            return np.sum((x @ (weights - tensor).T) ** 2)
        assert lost(q.dequantise()) < 0.5 * lost(plain.dequantise())
        assert q.method == f"awq({base})" and q.input_scale.dtype == np.float32
        assert set(np.argsort(q.input_scale)[-4:]) == set(np.flatnonzero(loud > 1))
        # Float output unchanged by the scale itself: (x / s) . (w * s) is x . w.
        s = q.input_scale.astype(np.float64)
        assert np.allclose((x / s) @ (tensor * s).T, x @ tensor.T, rtol=1e-12, atol=1e-9)
        assert np.array_equal(q.dequantise(scaled=True) / s, q.dequantise())
        inner = quantize(base, tensor * s, 3, 32)
        assert np.array_equal(inner.codes, q.codes) and inner.bits == q.bits


def test_awq_is_never_worse_than_its_base():
    """Alpha 0 is among those tried; with even activations it wins."""
    x = np.ones((5, 21))
    q, plain = (quantize(name, PLAIN, 4, 8, **extra) for name, extra in (("awq", {"calibration": x}), ("rtn_asym", {})))
    assert np.array_equal(q.input_scale, np.ones(21, np.float32))
    assert np.array_equal(q.codes, plain.codes)
    stored = quantize("awq", PLAIN, 4, 8, calibration=x, fold=False).bits
    assert stored == {**plain.bits, "input scales": 32 * 21}


def test_awq_scales_are_the_published_formula():
    from bitkiln.models.quantize.awq import ALPHAS, channel_scale
    x = np.array([[1.0, -4.0, 0.0], [3.0, 0.0, 0.0]])    # mean magnitudes 2, 2, 0
    assert ALPHAS.tolist() == [i / 20 for i in range(20)]
    assert channel_scale(x, 0.0).tolist() == [1, 1, 1]
    expected = [2 ** 0.5 / (2 ** 0.5 * 1e-4) ** 0.5] * 2 + [1e-4 / (2 ** 0.5 * 1e-4) ** 0.5]
    assert np.allclose(channel_scale(x, 0.5), expected, rtol=1e-6)


@pytest.mark.parametrize("salient", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("calibrated", [False, True])
def test_ptq161(tensor, salient, calibrated):
    x = np.random.default_rng(6).standard_normal((7, 21)) * np.arange(21) if calibrated else None
    count = int(salient * 21)
    strength = [sum(Fraction(w) ** 2 for w in column) * (1 if x is None else sum(Fraction(a) ** 2 for a in line))
                for column, line in zip(tensor.T.tolist(), (tensor if x is None else x).T.tolist(), strict=True)]
    flagged = sorted(range(21), key=lambda j: (-strength[j], j))[:count]
    expected = []
    for row in tensor.tolist():
        expected.append([])
        for start, stop in oracle.spans(21, GROUP):
            plain = [abs(row[j]) for j in range(start, stop) if j not in flagged]
            top = [abs(row[j]) for j in range(start, stop) if j in flagged]
            a = Fraction(float(np.float16(fsum(plain) / len(plain)))) if plain else 0
            s = Fraction(float(np.float16(max(top) / 7))) if top else 0
            expected[-1] += [oracle.nearest(GRIDS["int4"], row[j], s) if j in flagged else Fraction(a if row[j] >= 0
                                                                                                   else -a)
                             for j in range(start, stop)]
    q = quantize("ptq161", tensor, 1.61, GROUP, salient=salient, calibration=x)
    assert np.flatnonzero(q.salient).tolist() == sorted(flagged)
    same(q, expected)


@pytest.mark.parametrize("wide", [0.25, 0.0, 1.0, 0.5])
def test_mixed24(tensor, wide):
    groups = oracle.split(tensor.tolist(), GROUP)
    spans = [(max(*g, 0.0) - min(*g, 0.0), r, c) for r, row in enumerate(groups) for c, g in enumerate(row)]
    chosen = {(r, c) for _, r, c in sorted(spans, key=lambda s: (-s[0], s[1], s[2]))[:int(wide * 9)]}
    width = [[4 if (r, c) in chosen else 2 for c in range(3)] for r in range(3)]
    ideal = [[(max(*g, 0.0) - min(*g, 0.0)) / (2 ** b - 1) for g, b in zip(row, line, strict=True)]
             for row, line in zip(groups, width, strict=True)]
    exact = oracle.store_uint(ideal)[1]
    q = quantize("mixed24", tensor, 2, GROUP, wide=wide)
    same(q, oracle.join([[oracle.asymmetric_group(g, s, min(*g, 0.0), b) for g, s, b in zip(*line, strict=True)]
                         for line in zip(groups, exact, width, strict=True)]))
    assert q.type_index.tolist() == [[int(b == 4) for b in line] for line in width]


@pytest.mark.parametrize(("group", "alignment"), [(16, 32), (128, 32), (16, 64), (7, 32), (5, 1), (40, 128)])
def test_mixed24_is_aligned(group, alignment):
    """Every group begins at a word, words do not overlap, and padding is counted."""
    tensor = np.random.default_rng(5).standard_t(3, (6, 145))
    q = quantize("mixed24", tensor, 2, group, alignment=alignment)
    offsets, place = group_offsets(q), 0
    for row in range(6):
        for g, (start, stop) in enumerate(oracle.spans(145, group)):
            assert offsets[row, g] * alignment == place
            place += -(-(stop - start) * (4 if q.type_index[row, g] else 2) // alignment) * alignment
    assert q.bits["codes"] == place and place % alignment == 0
    bare = sum((stop - start) * (4 if q.type_index[r, g] else 2) for r in range(6)
               for g, (start, stop) in enumerate(oracle.spans(145, group)))
    assert (place == bare) == (alignment == 1 or (group, alignment) == (40, 1))


def test_every_method_has_its_oracle_and_known_types():
    """Nothing in the registry is untested here, and every type that a result names exists for the hardware."""
    tested = {"rtn_sym", "rtn_asym", "fp", "bitmod", "bitmod_compat", "afpq", "afpq_nf", "mofq", "nf", "nf_double",
              "bitdistiller", "paretoq", "ternary", "flint", "ant", "olive", "mx", "mxfp4", "mxfp6_e2m3",
              "mxfp6_e3m2", "mxint8", "nvfp4", "nvfp4_ue5m3", "awq", "ptq161", "mixed24"}
    # test_weight_sparse.py has the k-means and outlier methods, test_weight_packages.py the eight-bit floats.
    elsewhere = {"squeezellm", "dense_sparse", "mxfp8_e4m3", "mxfp8_e5m2"}
    assert set(METHODS) == tested | elsewhere
    for method in METHODS.values():
        for bits in method.widths:
            extra = {"calibration": np.ones((2, 21))} if method.needs_calibration else {}
            for name in quantize(method.name, PLAIN, bits, **extra).types:
                if name in SPECIAL_TYPES:
                    continue
                assert np.array_equal(levels(name), np.nan_to_num(get_format(name).decode(
                    np.arange(1 << get_format(name).bits)), nan=0, posinf=0, neginf=0))
                if not name.startswith(("nf", "fp8", "fixed")):
                    assert np.array_equal(weight_type(name).decode(np.arange(1 << weight_type(name).bits)),
                                          levels(name))
