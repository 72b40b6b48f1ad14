"""Golden sums and layers of sparse convolution against masked dense convolution, fractions and the matmul core."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.matmul import matmul
from bitkiln.models.golden.requantise import Records
from bitkiln.models.golden.spconv import (
    ConvMap,
    canonicalise,
    decode_keys,
    down2,
    generative2,
    inverse2,
    stride3,
    submanifold,
)
from bitkiln.models.golden.spconv_features import conv_layer, conv_sums, feature_sums, sum_bits

SEED = 317
DEPTH, SHAPE, BATCHES = 4, (9, 10, 7), 2
OPERATORS = {
    "submanifold": lambda keys: submanifold(keys, DEPTH),
    "down2": lambda keys: down2(keys, DEPTH, SHAPE),
    "down2_drop": lambda keys: down2(keys, DEPTH, SHAPE, edge="drop"),
    "inverse2": lambda keys: inverse2(keys),
    "generative2": lambda keys: generative2(keys),
    "stride3": lambda keys: stride3(keys, DEPTH, spatial_shape=SHAPE),
    "stride3_parents": lambda keys: stride3(keys, DEPTH, "parents", SHAPE),
}


def keys_of(density: float = 0.15, seed: int = SEED, batches: int = BATCHES, shape=SHAPE) -> np.ndarray:
    indices = np.argwhere(np.random.default_rng(seed).random((batches, *shape)) < density)
    return canonicalise(indices, shape, batches, depth=DEPTH).keys


def codes_of(fmt, shape, rng) -> np.ndarray:
    """Random codes, a third of them zero."""
    return np.where(rng.random(shape) < 1 / 3, 0, rng.integers(0, 1 << fmt.bits, shape))


def weights_of(fmt, map: ConvMap, outputs: int, inputs: int, rng) -> np.ndarray:
    return rng.integers(0, 1 << fmt.bits, (outputs, *[map.kernel] * 3, inputs))


def core(pe: str, channels: int = 64, **options) -> MatmulDesign:
    return MatmulDesign(ArrayDesign(1, 2, MorphableDesign((pe,), Accumulator(depth=27 * channels),
                                                          implementation="parallel")), **options)


def flagged(sums) -> np.ndarray:
    return sums.nan | sums.inf_pos | sums.inf_neg


# Masked dense convolution ------------------------------------------------------------------------------


def dense_sums(name: str, x: np.ndarray, keys: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output indices in lexicographic order and their sums, computed on whole grids of int64.

    ``x`` are values (inputs, Ci), ``w`` values (Co, k, k, k, Ci).
    """
    fine = decode_keys(keys, DEPTH)
    sides, octants = np.array(SHAPE), np.unique(fine // [1, 2, 2, 2], axis=0)
    if name == "inverse2":
        given = decode_keys(np.unique(keys >> 3), DEPTH - 1)
        sides = (sides + 1) // 2
    else:
        given = fine
    grid = np.zeros((BATCHES, *(sides + 4), x.shape[1]), np.int64)      # two more on each side
    there = np.zeros((BATCHES, *(sides + 4)), bool)
    at = tuple(given.T + np.array([[0], [2], [2], [2]]))
    grid[at], there[at] = x, True

    if name in ("inverse2", "generative2"):     # transposed: each place of the large grid has one weight
        sums = np.zeros((BATCHES, *2 * sides, len(w)), np.int64)
        inner = grid[:, 2:-2, 2:-2, 2:-2]
        for i, j, k in itertools.product((0, 1), repeat=3):
            sums[:, i::2, j::2, k::2] = inner @ w[:, i, j, k].T
        whole = np.repeat(np.repeat(np.repeat(there[:, 2:-2, 2:-2, 2:-2], 2, 1), 2, 2), 2, 3)
        wanted = fine if name == "inverse2" else np.argwhere(whole)
    else:
        size, stride, low = {"submanifold": (sides, 1, 1), "down2": ((sides + 1) // 2, 2, 2),
                             "down2_drop": (sides // 2, 2, 2)}.get(name, ((sides - 1) // 2 + 1, 2, 1))
        low = 2 - (low == 1)    # padding 1, or none
        sums, met = np.zeros((BATCHES, *size, len(w)), np.int64), np.zeros((BATCHES, *size), bool)
        for offset in itertools.product(range(w.shape[1]), repeat=3):
            cut = tuple(slice(low + o, low + o + stride * (n - 1) + 1, stride)
                        for o, n in zip(offset, size, strict=True))
            sums += grid[(slice(None), *cut)] @ w[(slice(None), *offset)].T
            met |= there[(slice(None), *cut)]
        wanted = {"submanifold": fine, "stride3_parents": octants}.get(name, np.argwhere(met))
    wanted = wanted[np.lexsort(wanted.T[::-1])]
    return wanted, sums[tuple(wanted.T)]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("density", (0.02, 0.3, 1.0))
def test_int8_equals_masked_dense_convolution(density: float, name: str) -> None:
    print(f"seed {SEED}")
    rng, int8 = np.random.default_rng(SEED), get_format("int8")
    keys = keys_of(density)
    map = OPERATORS[name](keys)
    x = codes_of(int8, (map.inputs, 5), rng)
    w = weights_of(int8, map, 6, 5, rng)
    found = feature_sums(map, x, w, "int8", "int8", 32)
    indices, wanted = dense_sums(name, int8.units(x), keys, int8.units(w))
    mine = decode_keys(map.out_keys, DEPTH + {"submanifold": 0, "inverse2": 0, "generative2": 1}.get(name, -1))
    order = np.lexsort(mine.T[::-1])
    assert np.array_equal(mine[order], indices) and map.rows > 4
    assert np.array_equal(found.exact.integers()[order], wanted) and wanted.any()
    assert not flagged(found).any() and found.exact.bits == 32


# One product at a time in fractions --------------------------------------------------------------------


def pairs_by_brute_force(name: str, keys: np.ndarray, map: ConvMap) -> list[list[tuple[int, int]]]:
    """For each output row its (k, input row), found by trying every input."""
    depth = DEPTH + {"submanifold": 0, "inverse2": 0, "generative2": 1}.get(name, -1)
    outputs = decode_keys(map.out_keys, depth).tolist()
    inputs = decode_keys(keys, DEPTH).tolist()
    if name == "inverse2":
        inputs = decode_keys(np.unique(keys >> 3), DEPTH - 1).tolist()
    found = []
    for out_batch, *out in outputs:
        row = []
        for number, (batch, *inp) in enumerate(inputs):
            if batch != out_batch:
                continue
            if name in ("inverse2", "generative2"):
                step = [o - 2 * i for o, i in zip(out, inp, strict=True)]
            else:
                stride = 1 if name == "submanifold" else 2
                step = [i - stride * o for o, i in zip(out, inp, strict=True)]
            low = -1 if map.kernel == 3 else 0
            if all(low <= each <= 1 for each in step):
                x, y, z = (each - low for each in step)
                row.append(((x * map.kernel + y) * map.kernel + z, number))
        found.append(row)
    return found


def numbers(fmt, codes) -> list:
    """Nested lists of fractions, specials as floats."""
    if codes.ndim > 1:
        return [numbers(fmt, part) for part in codes]
    return [Fraction(v) if math.isfinite(v) else v for v in fmt.decode(codes).tolist()]


def exact(pairs, x: list, w: list) -> list:
    """Fraction or special of each output channel of a row."""
    results = []
    for weights in w:
        total, specials = Fraction(0), set()
        for k, inp in pairs:
            for a, b in zip(x[inp], weights[k], strict=True):
                if a == 0:
                    continue
                if isinstance(a, Fraction) and isinstance(b, Fraction):
                    total += a * b
                else:
                    specials.add(str(float(a) * float(b)))
        if "nan" in specials or {"inf", "-inf"} <= specials:
            results.append(math.nan)
        else:
            results.append(float(specials.pop()) if specials else total)
    return results


def check_sums(name: str, activation: str, weight: str, keys: np.ndarray, x, w, map: ConvMap) -> int:
    """Compares with fractions; returns the number of special results."""
    a, b = get_format(activation), get_format(weight)
    found = feature_sums(map, x, w, activation, weight)
    unit = Fraction(2) ** (a.unit_exponent + b.unit_exponent)
    integers = found.exact.integers()
    assert found.exact.bits >= sum_bits(map, x.shape[1], activation, weight)
    x_values, w_values = numbers(a, x), numbers(b, w.reshape(len(w), map.offsets, -1))
    special = 0
    for row, pairs in enumerate(pairs_by_brute_force(name, keys, map)):
        for channel, wanted in enumerate(exact(pairs, x_values, w_values)):
            flags = bool(found.nan[row, channel]), bool(found.inf_pos[row, channel]), bool(found.inf_neg[row, channel])
            if isinstance(wanted, Fraction):
                assert not any(flags) and int(integers[row, channel]) * unit == wanted
            else:
                special += 1
                nan = flags[0] or (flags[1] and flags[2])
                assert nan == math.isnan(wanted) and (nan or flags[1:] == (wanted > 0, wanted < 0))
    return special


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("fmt", ("int8", "fp8_e4m3", "posit8_0"))
def test_every_operator_equals_fractions(fmt: str, name: str) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    keys = keys_of(0.03)
    map = OPERATORS[name](keys)
    x = codes_of(get_format(fmt), (map.inputs, 3), rng)
    w = weights_of(get_format(fmt), map, 2, 3, rng)
    assert map.pairs > 10
    check_sums(name, fmt, fmt, keys, x, w, map)


@pytest.mark.parametrize("activation, weight", [
    ("fp4", "fp4"), ("int4", "int4"), ("posit4_1", "posit4_1"), ("int16", "int16"), ("fp8_e5m2", "fp8_e5m2"),
    ("posit16_1", "posit16_1"), ("fp16", "fp16"), ("int8", "int4"), ("int8", "fp4"), ("int8", "fp8_e4m3"),
    ("fp8_e5m2", "posit8_0"), ("int8", "ternary"), ("fp8_e4m3", "fp8_e5m2")])
def test_formats_equal_fractions(activation: str, weight: str) -> None:
    print(f"seed {SEED}")
    rng, a, b = np.random.default_rng(SEED), get_format(activation), get_format(weight)
    keys = keys_of(0.04, batches=1)
    map = submanifold(keys, DEPTH)
    x, w = codes_of(a, (map.inputs, 3), rng), weights_of(b, map, 3, 3, rng)
    check_sums("submanifold", activation, weight, keys, x, w, map)
    # Few and many specials: in some rows, in some weights.
    special_x, special_w = (np.flatnonzero(fmt.unpack(np.arange(1 << fmt.bits)).special) for fmt in (a, b))
    if len(special_x):
        x[::5, 1] = np.resize(special_x, len(x[::5]))
    if len(special_w):
        w[1, ::2, 0, 1, 2] = special_w[0]
        w[2, 1, 1, 1, :] = np.resize(special_w, 3)
    seen = check_sums("submanifold", activation, weight, keys, x, w, map)
    assert (seen > 0) == bool(a.has_nan or b.has_nan or a.has_inf or b.has_inf)


def one_voxel() -> ConvMap:
    return submanifold(np.array([5]), 1)


def centre(codes) -> np.ndarray:
    """Weights (1, 3, 3, 3, Ci) of one output: ``codes`` at the centre, NaN of every other place never counts."""
    w = np.full((1, 3, 3, 3, len(codes)), 0x7F)
    w[0, 1, 1, 1] = codes
    return w


@pytest.mark.parametrize("weight, code", [("fp8_e4m3", 0x7F), ("fp8_e5m2", 0x7E), ("fp8_e5m2", 0x7C),
                                          ("fp8_e5m2", 0xFC), ("posit8_0", 0x80)])
@pytest.mark.parametrize("activation, zeros", [("fp8_e4m3", (0, 0x80)), ("fp8_e5m2", (0, 0x80)), ("posit8_0", (0,)),
                                               ("int8", (0,))])
def test_zero_activation_adds_nothing_whatever_the_weight(activation: str, zeros, weight: str, code: int) -> None:
    """Zeros meet NaN and infinite weights (also -0); a number beside them still counts."""
    one = int(get_format(activation).encode(np.array([1.0]))[0])
    unit = int(get_format(weight).encode(np.array([1.0]))[0])
    found = feature_sums(one_voxel(), np.array([[*zeros, one]]), centre([*[code] * len(zeros), unit]), activation,
                         weight)
    scale = get_format(activation).unit_exponent + get_format(weight).unit_exponent
    assert not flagged(found).any() and found.exact.integers().tolist() == [[1 << -scale]]
    met = feature_sums(one_voxel(), np.array([[one]]), centre([code]), activation, weight)
    assert flagged(met).all()


def test_nar_and_infinity_are_not_zero() -> None:
    for fmt, code in (("posit8_0", 0x80), ("fp8_e4m3", 0x7F), ("fp8_e4m3", 0xFF), ("fp8_e5m2", 0x7D)):
        found = feature_sums(one_voxel(), np.array([[code]]), centre([0]), fmt, fmt)
        assert found.nan.tolist() == [[True]]       # NaN times zero is NaN
    inf = feature_sums(one_voxel(), np.array([[0x7C]]), centre([0]), "fp8_e5m2", "fp8_e5m2")
    assert inf.nan.all() and not inf.inf_pos.any()  # infinity times zero too
    inf = feature_sums(one_voxel(), np.array([[0xFC]]), centre([0x3C]), "fp8_e5m2", "fp8_e5m2")
    assert (bool(inf.nan), bool(inf.inf_pos), bool(inf.inf_neg)) == (False, False, True)


def test_a_special_stays_in_its_output_row_and_channel() -> None:
    keys = keys_of(0.1)
    map = submanifold(keys, DEPTH)
    x = np.full((map.inputs, 2), 0x38)
    w = np.full((2, 3, 3, 3, 2), 0x38)
    w[1, 0, 0, 0, 1] = 0x7F     # k = 0
    found = feature_sums(map, x, w, "fp8_e4m3", "fp8_e4m3")
    wanted = np.isin(np.arange(map.rows), map.out[map.k == 0])
    assert np.array_equal(found.nan[:, 1], wanted) and not found.nan[:, 0].any() and 0 < wanted.sum() < map.rows
    x[7, 0] = 0x7F
    found = feature_sums(map, x, w[:1], "fp8_e4m3", "fp8_e4m3")
    assert np.array_equal(np.flatnonzero(found.nan[:, 0]), map.out[map.inp == 7])


def test_narrow_sums_wrap() -> None:
    map = submanifold(np.arange(64), 2)
    rng = np.random.default_rng(SEED)
    x, w = rng.integers(0, 1 << 16, (64, 9)), rng.integers(0, 1 << 16, (2, 27, 9))
    wide = feature_sums(map, x, w, "int16", "int16")
    narrow, raised = (feature_sums(map, x, w, "int16", "int16", bits) for bits in (32, 33))
    assert [sums.exact.bits for sums in (wide, narrow, raised)] == [64, 32, 64]
    low = (wide.exact.integers() + (1 << 31)) % (1 << 32) - (1 << 31)
    assert np.array_equal(narrow.exact.integers(), low) and (low != wide.exact.integers()).any()


# Layers ------------------------------------------------------------------------------------------------


def as_matrix(map: ConvMap, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The layer as one matrix product: all neighbours of a row side by side, zeros where there is none."""
    a = np.zeros((map.rows, map.offsets, x.shape[1]), np.int64)
    a[map.out, map.k] = x[map.inp]
    return a.reshape(map.rows, -1), w.reshape(len(w), -1)


# Formats, output rule, and the power of two of the float scales (integer rule: the shift).
LAYERS = {
    "int8": ("int8", -14, {"rule": "integer", "output": "int8", "clamp": (0, 127)}),
    "int8 with zero point": ("int8", -14, {"rule": "integer", "output": "int8", "zero_point": -5, "clamp": (-5, 100)}),
    "int8, high bias": ("int8", -14, {"rule": "integer", "output": "int8", "bias_shift": 1}),
    "int8 to fp8_e4m3": ("int8", -11, {"rule": "float", "output": "fp8_e4m3", "clamp": (0.0, math.inf)}),
    "int8 to posit8_0": ("int8", -11, {"rule": "float", "output": "posit8_0"}),
    "fp8_e4m3": ("fp8_e4m3", -4, {"rule": "float", "output": "fp8_e4m3", "clamp": (0.0, math.inf)}),
    "fp8_e4m3 raw": ("fp8_e4m3", 0, {"rule": "raw"}),
    "posit8_0": ("posit8_0", -4, {"rule": "float", "output": "posit8_0"}),
    "posit8_0 clamped": ("posit8_0", -4, {"rule": "float", "output": "posit8_0", "clamp": (0.0, 6.0)}),
}


@pytest.mark.parametrize("operator", ("submanifold", "down2", "inverse2", "generative2", "stride3"))
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_matmul_core(name: str, operator: str) -> None:
    """Without specials a layer is a matrix product with zeros in place of absent neighbours."""
    print(f"seed {SEED}")
    pe, power, options = LAYERS[name]
    fmt, rng = get_format(pe), np.random.default_rng(SEED)
    map = OPERATORS[operator](keys_of(0.1))
    good = np.flatnonzero(fmt.unpack(np.arange(256)).special == 0)
    x = np.where(rng.random((map.inputs, 4)) < 0.4, 0, rng.choice(good, (map.inputs, 4)))
    w = rng.choice(good, (6, *[map.kernel] * 3, 4))
    bias = rng.integers(-9999, 9999, 6) >> 8 * options.get("bias_shift", 0) << max(-2 * fmt.unit_exponent - 12, 0)
    if options["rule"] == "integer":
        records = Records.of(6, bias, rng.integers(1, 99, 6), -power)
    else:
        records = Records.of(6, bias, np.ldexp(rng.uniform(0.1, 2, 6), power).astype(np.float32))
    design = core(pe, outputs=("int8", "fp8_e4m3", "posit8_0"))
    job = Job(pe, 1, 1, 6, per_channel=True, bias=True, **options)
    found = conv_layer(design, job, map, x, w, records)
    a, b = as_matrix(map, x, w)
    whole = matmul(design, replace(job, m=map.rows, k=a.shape[1]), a, b, records=records)
    assert found.shape == (map.rows, 6) and np.array_equal(found, whole.codes)
    assert len(np.unique(found)) > 10       # neither all clamped nor all saturated


def test_rows_without_pairs_get_the_bias() -> None:
    cloud = canonicalise(np.argwhere(np.ones((1, 3, 3, 3))), (3, 3, 3), depth=2)
    drop = down2(cloud.keys, 2, (3, 3, 3), edge="drop")
    back = inverse2(cloud.keys, drop.out_keys)
    assert (back.rows, back.pairs, back.inputs) == (27, 8, 1)
    x, w = np.full((1, 2), 3), np.full((3, 2, 2, 2, 2), 2)
    sums = feature_sums(back, x, w, "int8", "int8")
    assert (sums.exact.integers() == np.isin(np.arange(27), back.out)[:, None] * 12).all()
    job = Job("int8", 1, 1, 3, rule="integer", output="int8", per_channel=True, bias=True, clamp=(0, 127))
    found = conv_layer(core("int8"), job, back, x, w, Records.of(3, [10, -10, 0], 1, 0)).astype(np.int8)
    alone = ~np.isin(np.arange(27), back.out)
    assert alone.sum() == 19 and (found[alone] == [10, 0, 0]).all() and (found[~alone] == [22, 2, 12]).all()


def test_special_sums_in_layers() -> None:
    """NaN of a row becomes the format's NaN or NaR, through ReLU too; in INT8 outputs there is none."""
    map = one_voxel()
    for fmt, nan in (("fp8_e4m3", 0x7F), ("posit8_0", 0x80)):
        job = Job(fmt, 1, 1, 1, rule="float", output=fmt, clamp=(0.0, math.inf))
        assert conv_layer(core(fmt), job, map, np.array([[nan]]), centre([0x40])).tolist() == [[nan]]
        assert conv_layer(core(fmt), job, map, np.array([[0]]), centre([nan])).tolist() == [[0]]


def test_input_channels_in_two_parts() -> None:
    """A raw result of some channels is C for the rest."""
    rng, design = np.random.default_rng(SEED), core("int8", 64)
    map = submanifold(keys_of(), DEPTH)
    x, w = rng.integers(0, 256, (map.inputs, 10)), rng.integers(0, 256, (4, 3, 3, 3, 10))
    last = Job("int8", 1, 1, 4, rule="integer", output="int8", scale=77, shift=17)
    whole = conv_layer(design, last, map, x, w)
    raw = conv_layer(design, Job("int8", 1, 1, 4), map, x[:, :6], w[..., :6])
    assert raw.dtype == np.uint64
    parts = conv_layer(design, replace(last, accumulate=True), map, x[:, 6:], w[..., 6:], c=raw)
    assert np.array_equal(parts, whole) and len(np.unique(whole)) > 50


@pytest.mark.parametrize("name", OPERATORS)
def test_empty_cloud(name: str) -> None:
    map = OPERATORS[name](np.zeros(0, np.int64))
    w = np.zeros((5, *[map.kernel] * 3, 4), int)
    sums = feature_sums(map, np.zeros((0, 4), int), w, "fp8_e4m3", "fp8_e4m3")
    assert sums.exact.shape == sums.nan.shape == (0, 5)
    job = Job("int8", 1, 1, 5, rule="integer", output="int8", per_channel=True, bias=True)
    found = conv_layer(core("int8"), job, map, np.zeros((0, 4), int), w, Records.of(5, 1, 1))
    assert found.shape == (0, 5) and found.dtype == np.uint8
    raw = Job("posit16_1", 1, 1, 5, accumulate=True)
    c = np.zeros((0, 5), object)
    assert conv_layer(core("posit16_1"), raw, map, np.zeros((0, 4), int), w, c=c).shape == (0, 5)


def test_duplicates_keep_first() -> None:
    """The first row's feature counts."""
    indices = np.array([[0, 1, 1, 1], [0, 2, 1, 1], [0, 1, 1, 1], [0, 9, 9, 9]])
    cloud = canonicalise(indices, (4, 4, 4), depth=2)
    x = np.array([[3], [5], [100], [100]])
    sums = feature_sums(submanifold(cloud.keys, 2), x[cloud.perm], np.ones((1, 27, 1), int), "int8", "int8")
    assert sums.exact.integers().tolist() == [[8], [8]] and cloud.perm.tolist() == [0, 1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), *[st.integers(0, 6)] * 3), max_size=40, unique=True),
       st.randoms(use_true_random=False), st.sampled_from(("submanifold", "down2", "stride3", "generative2")),
       st.sampled_from(("int8", "fp8_e4m3")))
def test_input_order_does_not_show(rows: list, random, name: str, fmt: str) -> None:
    indices = np.array(rows, np.int64).reshape(-1, 4)
    turn = np.array(random.sample(range(len(rows)), len(rows)), np.int64)
    rng = np.random.default_rng(SEED)
    x, results = rng.integers(0, 256, (len(rows), 3)), []
    for order in (np.arange(len(rows)), turn):
        cloud = canonicalise(indices[order], (7, 7, 7), 2, depth=DEPTH)
        map = OPERATORS[name](cloud.keys)
        w = weights_of(get_format(fmt), map, 2, 3, np.random.default_rng(SEED + 1))
        results.append((map.out_keys, feature_sums(map, x[order][cloud.perm], w, fmt, fmt)))
    (one_keys, one), (two_keys, two) = results
    assert np.array_equal(one_keys, two_keys) and np.array_equal(one.nan, two.nan)
    assert np.array_equal(one.exact.integers(), two.exact.integers())


def test_many_pairs_of_one_offset_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitkiln.models.golden import spconv_features
    map, rng = submanifold(keys_of(0.5), DEPTH), np.random.default_rng(SEED)
    x, w = rng.integers(0, 256, (map.inputs, 3)), rng.integers(0, 256, (2, 27, 3))
    whole = feature_sums(map, x, w, "fp8_e4m3", "fp8_e4m3")
    monkeypatch.setattr(spconv_features, "BLOCK", 7)
    parts = feature_sums(map, x, w, "fp8_e4m3", "fp8_e4m3")
    assert np.array_equal(whole.exact.integers(), parts.exact.integers()) and np.array_equal(whole.nan, parts.nan)


def test_wrong_operands_are_refused() -> None:
    map, x, w = one_voxel(), np.zeros((1, 2), int), np.zeros((4, 3, 3, 3, 2), int)
    for bad_x, bad_w, message in (
            (x[:, :1], w, r"wrong shape at w: got \(4, 27, 2\), expected \(outputs, 3, 3, 3, 1\)"),
            (x, w[:, :2, :2, :2], "wrong shape at w"), (x[0], w, r"wrong shape at x: got \(2,\)"),
            (np.zeros((2, 2), int), w, r"wrong shape at x: got \(2, 2\), expected \(1, 2\)"),
            (x + 256, w, r"code outside the format at x\[0, 0\]: got 256"), (x, w - 1, r"code outside the format at w"),
            (x / 2, w, "wrong dtype at x")):
        with pytest.raises(BitkilnError, match=message):
            feature_sums(map, bad_x, bad_w, "int8", "int8")
    job = Job("int8", 1, 1, 4, rule="integer", output="int8")
    with pytest.raises(BitkilnError, match="sums too long at accumulator.depth: got 27, expected at least 54"):
        conv_layer(core("int8", 1), job, map, x, w)
    with pytest.raises(BitkilnError, match="operand missing at records"):
        conv_layer(core("int8"), replace(job, per_channel=True), map, x, w)
    with pytest.raises(BitkilnError, match="wrong shape at records: got 3, expected 4 records"):
        conv_layer(core("int8"), replace(job, per_channel=True), map, x, w, Records.of(3))
    with pytest.raises(BitkilnError, match="unexpected operand at c"):
        conv_layer(core("int8"), job, map, x, w, c=x)
    floating = MatmulDesign(ArrayDesign(1, 2, MorphableDesign(("int8",), Accumulator(kind="fp32"),
                                                              implementation="parallel")))
    with pytest.raises(BitkilnError, match="no exact sums at accumulator: got 'fp32', expected exact"):
        conv_sums(floating, Job("int8", 1, 1, 4), map, x, w)
