"""The golden matmul core against one element at a time in fractions and Python integers, written from the rules."""

import bisect
import math
from fractions import Fraction

import numpy as np
import pytest

from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format, get_group_format
from bitkiln.models.golden.matmul import Records, matmul, raw_values
from bitkiln.models.golden.requantise import float_sums, integer_sums, requantise
from bitkiln.models.golden.wide import Wide, exact_product, odd_float64

NAN, INF = math.nan, math.inf
EXACT_MODES = ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "int8xfp4", "int8xint4",
               "posit16_1", "int16")


def core(modes, accumulator=None, **options):
    pe = MorphableDesign(tuple(modes), accumulator or Accumulator(), implementation="parallel")
    return MatmulDesign(ArrayDesign(2, 2, pe), **options)


# The reference -------------------------------------------------------------------------------------
# A number is a Fraction (exact sums) or a Python float that holds a float32; specials are floats in both.


def to_fp32(x):
    """Nearest float32, ties to even; overflow gives infinity."""
    if x == 0:
        return 0.0
    exponent = abs(x).numerator.bit_length() - abs(x).denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - 23, -149)
    magnitude = round(abs(x) / unit) * unit
    value = INF if magnitude >= Fraction(2) ** 128 else float(magnitude)
    return -value if x < 0 else value


def add(f, x):
    """RNE(f + x), f a float32, x a Fraction or a special."""
    if math.isfinite(f) and math.isfinite(x):
        return to_fp32(Fraction(f) + Fraction(x))
    return float(f) + float(x) if not math.isnan(f) else NAN


def times(f, g):
    """RNE(f * g) of two float32."""
    if math.isfinite(f) and math.isfinite(g) and f and g:
        return to_fp32(Fraction(f) * Fraction(g))
    return f * g


def fp32_code(f):
    return 0x7FC00000 if math.isnan(f) else int(np.float32(f).view(np.uint32))


def fp32_value(code):
    return float(np.uint32(code).view(np.float32))


def numbers(fmt, codes):
    values = fmt.decode(np.asarray(codes))
    return [Fraction(v) if math.isfinite(v) else v for v in values.tolist()]


def product(x, y):
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x * y
    return float(x) * float(y)   # specials: IEEE 754's table, inf * 0 included


def total(products):
    """Exact sum; NaN, or infinities of both signs, win."""
    specials = {str(p) for p in products if isinstance(p, float)}
    if "nan" in specials or {"inf", "-inf"} <= specials:
        return NAN
    return float(specials.pop()) if specials else sum(products, Fraction(0))


def wrapped(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def encode_float(job, g):
    """(code, invalid) of the float rule's encoding."""
    fmt = get_format(job.output)
    if fmt.name == "fp32":
        return fp32_code(g), False
    if fmt.family == "int":
        low, high = (-1 << fmt.bits - 1, (1 << fmt.bits - 1) - 1) if fmt.signed else (0, (1 << fmt.bits) - 1)
        if math.isnan(g):
            y = 0
        else:
            y = round(Fraction(g)) if math.isfinite(g) else int(math.copysign(1 << 50, g))
        return min(max(y + job.zero_point, low), high) % (1 << fmt.bits), math.isnan(g)
    if math.isnan(g):
        if fmt.family == "posit":
            return 1 << (fmt.bits - 1), False
        return {"fp4": 0, "fp8_e4m3": 0x7F, "fp8_e5m2": 0x7E, "bf16": 0x7FC0, "fp16": 0x7E00}[fmt.name], not fmt.has_nan
    if math.isinf(g):
        g = math.copysign(fmt.max, g)
    # The nearest of all codes; of two as near the even one; beyond the ends the end. Posits never round to zero and
    # have their ties at the value of one more bit: here the format, checked elsewhere, decides.
    if fmt.family == "posit":
        return int(fmt.encode(np.array([g]))[0]), False
    sign = math.copysign(1, g) < 0
    values = fmt.decode(np.arange(1 << (fmt.bits - 1)))
    values = values[np.isfinite(values)].tolist()      # rising with the code
    near = bisect.bisect(values, abs(g))
    finite = [(abs(Fraction(values[code]) - abs(Fraction(g))), code & 1, code)
              for code in range(max(near - 2, 0), min(near + 2, len(values)))]
    return min(finite)[2] | sign << (fmt.bits - 1), False


def element(design, job, a, w, c, record, scales):
    """(code, invalid) of one result. a, w: codes of one row each."""
    mode = design.pe.modes[design.pe.index(job.mode)]
    kind = design.pe.accumulator.kind
    x, y = numbers(mode.activation, a), numbers(mode.weight, w)
    products = [product(p, q) for p, q in zip(x, y, strict=True)]
    bias, scale, shift = record
    floating = kind == "fp32" or job.block is not None
    unit = Fraction(2) ** (mode.activation.unit_exponent + mode.weight.unit_exponent)
    if job.block is not None:
        group, f = get_group_format(job.block), 0.0
        for b, (left, right) in enumerate(zip(*scales, strict=True)):
            s = total(products[b * group.block_size:(b + 1) * group.block_size])
            factor = product(*numbers(group.scale, [left, right]))
            f = add(f, product(s, factor))
    elif kind == "fp32":
        f = 0.0
        for k in range(0, len(products), mode.lanes):
            f = add(f, total(products[k:k + mode.lanes]))
    elif kind == "int32":
        state = 0
        for k in range(0, len(products), mode.lanes):
            state += int(sum(products[k:k + mode.lanes]))
            if design.pe.accumulator.overflow == "saturate":
                state = min(max(state, -1 << 31), (1 << 31) - 1)
            state = wrapped(state, 32)
        s = state
    else:
        s = total(products)
        s = int(s / unit) if isinstance(s, Fraction) else s
    if floating:
        if job.accumulate:
            f = add(f, fp32_value(c))
        if job.bias:
            f = add(f, fp32_value(bias % (1 << 32)))
        if job.rule == "raw":
            return fp32_code(f), False
    else:
        bits = design.raw_bits
        top = 1 << (bits - 1)
        special = {} if kind == "int32" else {top: NAN, top - 1: INF, top + 1: -INF}
        if job.accumulate:
            given = special.get(c, c)
            s = total([Fraction(v) if isinstance(v, int) else v for v in (s, given)])
            s = int(s) if isinstance(s, Fraction) else s
        if job.bias and isinstance(s, int):
            s += bias << (8 * job.bias_shift)
        s = wrapped(s, bits) if isinstance(s, int) else s
        if job.rule == "raw":
            if isinstance(s, int):
                return s % (1 << bits), False
            return next(code for code, v in special.items() if str(v) == str(s)), False
        if job.rule == "integer":
            fmt = get_format(job.output)
            low, high = (-1 << fmt.bits - 1, (1 << fmt.bits - 1) - 1) if fmt.signed else (0, (1 << fmt.bits) - 1)
            if isinstance(s, int):
                s = min(max(s, -1 << 47), (1 << 47) - 1)
                result = round(Fraction(s * scale, 1 << shift)) + job.zero_point
            else:
                result = job.zero_point if math.isnan(s) else high if s > 0 else low
            if job.clamp is not None:
                result = min(max(result, job.clamp[0]), job.clamp[1])
            return min(max(result, low), high) % (1 << fmt.bits), not isinstance(s, int)
        f = to_fp32(s * unit) if isinstance(s, int) else s
    g = times(f, fp32_value(scale))
    if job.clamp is not None:
        low, high = (float(np.float32(limit)) for limit in job.clamp)
        g = low if g < low else g
        g = high if g > high else g
    return encode_float(job, g)


def check(design, job, a, w, c=None, records=None, a_scales=None, w_scales=None):
    result = matmul(design, job, a, w, c=c, records=records, a_scales=a_scales, w_scales=w_scales)
    assert result.codes.shape == result.invalid.shape == result.overflow.shape == (job.m, job.n)
    for i in range(job.m):
        for j in range(job.n):
            if records is not None:
                record = int(records.bias[j]), int(records.scale[j]), int(records.shift[j])
            else:
                record = 0, job.scale if job.rule == "integer" else fp32_code(np.float32(job.scale)), job.shift
            scales = None if a_scales is None else (a_scales[i].tolist(), w_scales[j].tolist())
            expected = element(design, job, a[i], w[j], None if c is None else int(c[i, j]), record, scales)
            assert (int(result.codes[i, j]), bool(result.invalid[i, j])) == expected, (job, i, j)
    return result


# Jobs at random ------------------------------------------------------------------------------------


def random_codes(rng, fmt, shape, specials=0.02):
    """Any codes, but special ones rarely (they hide everything else)."""
    every = np.arange(1 << fmt.bits)
    special = fmt.unpack(every).special > 0
    codes = rng.choice(every[~special], shape)
    if special.any():
        hit = rng.random(shape) < specials
        codes = np.where(hit, rng.choice(every[special], shape), codes)
    return codes


def random_raw(rng, design, shape, floating):
    """C: small, any, special, or float32 codes."""
    if floating:
        values = (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)).astype(np.float32)
        rare = rng.choice(np.array([NAN, INF, -INF, -0.0], np.float32), shape)
        values = np.where(rng.random(shape) < 0.1, rare, values)
        codes = values.view(np.uint32).astype(object)
    else:
        bits, top = design.raw_bits, 1 << (design.raw_bits - 1)
        codes = np.empty(shape, object)
        for at in np.ndindex(shape):
            kind = rng.integers(0, 4)
            size = int(rng.integers(1, bits + 1))
            value = int.from_bytes(rng.bytes(bits // 8), "little") % (1 << size)
            codes[at] = [value, -value % (1 << bits), int(rng.choice([-1, 0, 1])) % (1 << bits),
                         top + int(rng.integers(-2, 3))][kind]
    return codes.astype(np.uint64) if design.raw_bits <= 64 else codes


def random_scale(rng, bits):
    """A float32 scale near what brings sums of ``bits`` bits to 8 bits; now and then anything."""
    if rng.random() < 0.1:
        return rng.choice(np.array([0.0, -0.0, 1e38, 1e-45, NAN, INF], np.float32))
    return np.float32(rng.choice([-1, 1, 1, 1]) * 2.0 ** rng.uniform(-12, 4))


def random_job(rng, design, mode, k=None):
    dot = design.pe.dot(mode)
    floating = design.floating
    m, n = (int(v) for v in rng.integers(1, 5, 2))
    k = int(rng.integers(1, 20)) if k is None else k
    outputs = [name for name in design.outputs if get_format(name).family == "int"]
    may_integer = not floating and dot.accumulator_bits <= 48 and outputs
    rule = str(rng.choice(["raw", "float", "integer"] if may_integer else ["raw", "float"]))
    per_channel = bool(rng.random() < 0.6)
    bias = per_channel and bool(rng.random() < 0.7)
    options = {"rule": rule, "per_channel": per_channel, "bias": bias, "accumulate": bool(rng.random() < 0.5),
               "bias_shift": int(rng.integers(0, 16)) if rng.random() < 0.3 else int(rng.integers(0, 3)),
               "order": str(rng.choice(["a", "w"]))}
    if rule == "integer":
        far = 40 if rng.random() < 0.8 else 1 << 15
        options.update(output=str(rng.choice(outputs)), shift=int(rng.integers(0, 63)),
                       scale=int(rng.integers(0, 1 << int(rng.integers(1, 32)))),
                       zero_point=int(rng.integers(-far, far)))
        if rng.random() < 0.4:
            options["clamp"] = tuple(int(v) for v in np.sort(rng.integers(-140, 140, 2)))
    elif rule == "float":
        options.update(output=str(rng.choice(design.outputs)), scale=float(random_scale(rng, dot.exact_bits)),
                       zero_point=int(rng.integers(-40, 40)))
        if rng.random() < 0.4:
            limits = tuple(float(v) for v in np.sort(rng.normal(0, 3, 2)))
            options["clamp"] = (0.0, INF) if rng.random() < 0.5 else limits
    return Job(design.pe.modes[design.pe.index(mode)].name, m, k, n, **options)


def random_records(rng, job, floating):
    if not job.per_channel:
        return None
    n = job.n
    if floating:
        bias = rng.standard_normal(n).astype(np.float32) * np.float32(rng.choice([0.1, 10, 1e6]))
    else:
        bias = rng.integers(-1 << int(rng.integers(1, 32)), 1 << int(rng.integers(1, 31)), n)
    if job.rule == "float":
        scale = np.array([random_scale(rng, 0) for _ in range(n)], np.float32)
    else:
        scale = rng.integers(0, 1 << int(rng.integers(1, 32)), n)
    return Records.of(n, bias, scale, rng.integers(0, 63, n))


def run_random(design, mode, rng, **options):
    job = random_job(rng, design, mode, **options)
    entry = design.pe.modes[design.pe.index(mode)]
    a = random_codes(rng, entry.activation, (job.m, job.k))
    w = random_codes(rng, entry.weight, (job.n, job.k))
    c = random_raw(rng, design, (job.m, job.n), design.floating) if job.accumulate else None
    check(design, job, a, w, c, random_records(rng, job, design.floating))
    return job


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_random_jobs_exact(mode):
    """All modes in one core (raw 128 bits) and each alone (raw 32 or more bits)."""
    rng = np.random.default_rng([1, *mode.encode()])
    jobs = [run_random(core(EXACT_MODES), mode, rng) for _ in range(60)]
    outputs = tuple(dict.fromkeys((mode.split("x")[0], "int8", "fp8_e5m2", "uint8", "fp32")))
    jobs += [run_random(core([mode], outputs=outputs), mode, rng) for _ in range(90)]
    assert {job.rule for job in jobs} >= {"raw", "float"}


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("mode", ["int4", "int8", "int16", "int8xint4"])
def test_random_jobs_int32(mode, overflow):
    rng = np.random.default_rng([2, len(overflow), *mode.encode()])
    design = core(["int4", "int8", "int16", "int8xint4"], Accumulator(kind="int32", overflow=overflow))
    assert design.raw_bits == 32
    for _ in range(60):
        run_random(design, mode, rng)


@pytest.mark.parametrize("mode", ["fp4", "posit8_0", "int8", "bf16", "posit16_1", "fp8_e5m2"])
def test_random_jobs_fp32(mode):
    rng = np.random.default_rng([3, *mode.encode()])
    design = core(["fp4", "posit8_0", "int8", "bf16", "posit16_1", "fp8_e5m2"], Accumulator(kind="fp32"))
    for _ in range(60):
        run_random(design, mode, rng)


BLOCKS = ("mxfp4", "nvfp4", "nvfp4_ue5m3", "mxfp8_e4m3", "mxfp8_e5m2")


@pytest.mark.parametrize("block", BLOCKS)
def test_random_jobs_block(block):
    rng = np.random.default_rng([4, *block.encode()])
    design = core(["fp4", "fp8_e4m3", "fp8_e5m2", "int8"], block=BLOCKS)
    group = get_group_format(block)
    for _ in range(40):
        mode = group.element.name
        job = random_job(rng, design, mode, k=int(rng.integers(1, 100)))
        if job.rule == "integer":
            continue
        job = Job(**{**vars(job), "block": block})
        blocks = -(-job.k // group.block_size)
        # Scales close to each other, so that blocks of a sum interact; rarely anything, NaN included.
        middle = int(rng.integers(20, 100))
        scales = [np.where(rng.random((rows, blocks)) < 0.03, rng.integers(0, 1 << group.scale.bits, (rows, blocks)),
                           rng.integers(middle - 8, middle + 8, (rows, blocks))) for rows in (job.m, job.n)]
        c = random_raw(rng, design, (job.m, job.n), True) if job.accumulate else None
        a = random_codes(rng, group.element, (job.m, job.k), 0.003)
        w = random_codes(rng, group.element, (job.n, job.k), 0.003)
        check(design, job, a, w, c, random_records(rng, job, True), *scales)


# Corners -------------------------------------------------------------------------------------------


def one(design, job, sum_, **options):
    """Code and ``invalid`` of a single sum given as an integer, or as flags."""
    flags = {"nan": (True, False, False), "inf": (False, True, False), "-inf": (False, False, True),
             "both": (False, True, True)}.get(sum_, (False, False, False))
    values = np.array([[0 if isinstance(sum_, str) else sum_]], object)
    codes, invalid = requantise(design, job, integer_sums(design, values, *flags), **options)
    return int(codes[0, 0]), bool(invalid[0, 0])


@pytest.mark.parametrize("sum_, scale, shift, zero, expected", [
    (1, 1, 1, 0, 0), (3, 1, 1, 0, 2), (5, 1, 1, 0, 2), (-1, 1, 1, 0, 0), (-3, 1, 1, 0, -2),       # ties to even
    (1 << 24, 1, 25, 0, 0), (3 << 24, 1, 25, 0, 2), ((3 << 24) + 1, 1, 25, 0, 2), ((1 << 24) + 1, 1, 25, 0, 1),
    (1 << 23, 1, 24, 0, 0), (3 << 23, 1, 24, 0, 2), ((1 << 23) + 1, 1, 24, 0, 1), (-(1 << 23) - 1, 1, 24, 0, -1),
    (1 << 22, 1, 23, 0, 0), ((1 << 22) + 1, 1, 23, 0, 1), (3 << 22, 1, 23, 0, 2),
    (127, 1, 0, 0, 127), (128, 1, 0, 0, 127), (-129, 1, 0, 0, -128), (-300, 1, 0, 200, -100),        # saturation
    (100, 0, 0, 7, 7), (-(1 << 47), (1 << 31) - 1, 62, 0, -128), ((1 << 47) - 1, (1 << 31) - 1, 62, 0, 127),
    ((1 << 47) - 1, (1 << 31) - 1, 0, -(1 << 15), 127), (-(1 << 47), (1 << 31) - 1, 0, (1 << 15) - 1, -128),
    # Sums of more than 48 bits saturate.
    ((1 << 47) - 1, 1, 42, 0, 32), (1 << 47, 1, 42, 0, 32), ((1 << 62) + 5, 1, 42, 0, 32), (-(1 << 63), 1, 42, 0, -32),
    (-(1 << 47) - 1, 1, 42, 0, -32),
])
def test_integer_rule(sum_, scale, shift, zero, expected):
    design = core(["int8", "fp8_e4m3"])   # 64 raw bits
    assert design.raw_bits == 64
    job = Job("int8", 1, 1, 1, rule="integer", output="int8", scale=scale, shift=shift, zero_point=zero)
    assert one(design, job, sum_) == (expected % 256, False)
    records = Records.of(1, 0, scale, shift)
    assert one(design, Job(**{**vars(job), "per_channel": True, "scale": 1, "shift": 0}), sum_, records=records) == (
        expected % 256, False)


def test_halves_of_the_multiplication_agree_with_integers():
    """Every shift, sums of all sizes, ties on purpose: the split product against Python integers."""
    rng = np.random.default_rng(5)
    design = core(["int16", "fp8_e4m3"])
    for shift in range(63):
        sums = rng.integers(-1 << 47, 1 << 47, (40, 8)) >> rng.integers(0, 44, (40, 8))
        scale = int(rng.integers(0, 1 << 31)) >> int(rng.integers(0, 31))
        if shift % 3 == 0:     # scale a power of two: ties
            scale = 1 << int(rng.integers(0, 31))
            sums = (2 * (sums >> 40) | 1) << min(max(0, shift - scale.bit_length()), 38)
        job = Job("int16", 40, 1, 8, rule="integer", output="int16", scale=scale, shift=shift)
        codes, _ = requantise(design, job, integer_sums(design, sums))
        for s, code in zip(sums.reshape(-1).tolist(), codes.reshape(-1).tolist(), strict=True):
            y = min(max(round(Fraction(s * scale, 1 << shift)), -1 << 15), (1 << 15) - 1)
            assert code == y % (1 << 16), (s, scale, shift)


def test_clamp_of_the_integer_rule():
    design = core(["int8"])
    relu = Job("int8", 1, 1, 1, rule="integer", output="int8", zero_point=-100, clamp=(-100, 127))
    assert [one(design, relu, s)[0] for s in (-5, 0, 5, 500)] == [156, 156, 161, 127]
    wider = Job("int8", 1, 1, 1, rule="integer", output="int8", clamp=(-1000, 1000))
    assert one(design, wider, 500)[0] == 127
    crossed = Job("int8", 1, 1, 1, rule="integer", output="int8", clamp=(9, 3))   # the upper limit has the last word
    assert one(design, crossed, 5)[0] == 3


def test_special_sums():
    design = core(["int8", "fp8_e5m2"], outputs=("int8", "fp4", "fp8_e4m3", "fp8_e5m2", "posit8_0", "bf16", "fp32"))
    bits = design.raw_bits
    assert bits == 128
    raw = Job("fp8_e5m2", 1, 1, 1)
    top = 1 << 127
    assert [one(design, raw, s)[0] for s in ("nan", "inf", "-inf", "both")] == [top, top - 1, top + 1, top]
    integer = Job("int8", 1, 1, 1, rule="integer", output="int8", zero_point=5, clamp=(-20, 90))
    assert [one(design, integer, s) for s in ("nan", "inf", "-inf", "both")] == [
        (5, True), (90, True), (236, True), (5, True)]
    expected = {"int8": ((5, True), (127, False), (128, False)), "fp4": ((0, True), (7, False), (15, False)),
                "fp8_e4m3": ((0x7F, False), (0x7E, False), (0xFE, False)),
                "fp8_e5m2": ((0x7E, False), (0x7B, False), (0xFB, False)),
                "posit8_0": ((0x80, False), (0x7F, False), (0x81, False)),
                "bf16": ((0x7FC0, False), (0x7F7F, False), (0xFF7F, False)),
                "fp32": ((0x7FC00000, False), (0x7F800000, False), (0xFF800000, False))}
    for output, wanted in expected.items():
        job = Job("fp8_e5m2", 1, 1, 1, rule="float", output=output, zero_point=5)
        assert tuple(one(design, job, s) for s in ("nan", "inf", "-inf")) == wanted, output
    zero = Job("fp8_e5m2", 1, 1, 1, rule="float", output="fp32", scale=0.0)
    assert one(design, zero, "inf")[0] == 0x7FC00000   # infinity times zero
    clamped = Job("fp8_e5m2", 1, 1, 1, rule="float", output="fp32", clamp=(-2.0, 3.0))
    assert [one(design, clamped, s)[0] for s in ("nan", "inf", "-inf")] == [0x7FC00000, 0x40400000, 0xC0000000]


E5M2 = {"one": 0x3C, "minus": 0xBC, "zero": 0, "minus zero": 0x80, "inf": 0x7C, "minus inf": 0xFC, "nan": 0x7D}


def test_what_infinities_meet():
    """Every pair of kinds of operands, beside an ordinary product; infinities of both signs from two products."""
    kinds = list(E5M2.values())
    job = Job("fp8_e5m2", 7, 3, 7)
    a, w = (np.array([[0x3C, code, 0x40] for code in kinds]) for _ in range(2))
    check(core(["fp8_e5m2"]), job, a, w)
    two = np.array([[0x7C, x] for x in kinds]), np.array([[0x3C, y] for y in kinds])
    check(core(["fp8_e5m2"]), Job("fp8_e5m2", 7, 2, 7), *two)
    block = core(["fp8_e5m2"], block=("mxfp8_e5m2",))
    ones = np.full((7, 1), 127)
    for m in (a, two[0]):
        check(block, Job("fp8_e5m2", 7, m.shape[1], 7, block="mxfp8_e5m2"), m, w if m is a else two[1], None, None,
              ones, ones)
    # In blocks of their own, where a NaN scale is in one of them.
    a = np.zeros((7, 64), int)
    a[:, 0], a[:, 32] = 0x7C, kinds
    scales = np.full((7, 2), 127)
    scales[3, 1] = 255
    check(block, Job("fp8_e5m2", 7, 64, 1, block="mxfp8_e5m2"), a, np.full((1, 64), 0x3C), None, None, scales,
          np.full((1, 2), 127))


def test_blocks_are_rounded_once():
    """1 + (2**-24 + 2**-56): rounded to 53 bits before, it would be a tie."""
    fmt = get_format("fp8_e5m2")
    a = np.zeros((2, 64))
    a[:, 0], a[:, 32], a[:, 33] = 1, 1, [2.0 ** -16, -(2.0 ** -16)]
    w = np.abs(a[:1])
    scales = np.array([[127, 103]] * 2)
    job = Job("fp8_e5m2", 2, 64, 1, block="mxfp8_e5m2")
    result = check(core(["fp8_e5m2"], block=("mxfp8_e5m2",)), job, fmt.encode(a), fmt.encode(w), None, None, scales,
                   np.array([[127, 127]]))
    assert result.codes[:, 0].tolist() == [0x3F800001, 0x3F800000]


@pytest.mark.parametrize("modes, raw_bits", [(["int8"], 32), (["fp8_e4m3"], 64), (["fp8_e5m2"], 128)])
def test_accumulated_specials_are_sticky(modes, raw_bits):
    design = core(modes)
    assert design.raw_bits == raw_bits
    top = 1 << (raw_bits - 1)
    job = Job(modes[0], 1, 1, 1, accumulate=True)

    def put(c):
        return np.array([[c]], np.uint64 if raw_bits <= 64 else object)

    for code in (top, top - 1, top + 1):
        assert one(design, job, 5, c=put(code))[0] == code
    assert one(design, job, 5, c=put(top - 2))[0] == top + 3            # wraps
    assert one(design, job, "inf", c=put(top + 1))[0] == top           # +Inf - Inf
    assert one(design, job, "inf", c=put(top - 1))[0] == top - 1
    assert one(design, job, "inf", c=put(top))[0] == top
    assert one(design, job, -7, c=put(6))[0] == (1 << raw_bits) - 1


def test_int32_sums_have_no_special_codes():
    design = core(["int8"], Accumulator(kind="int32"))
    job = Job("int8", 1, 1, 1, accumulate=True)
    for c in (1 << 31, (1 << 31) - 1, (1 << 31) + 1):
        assert one(design, job, 1, c=np.array([[c]], np.uint64))[0] == (c + 1) % (1 << 32)


def test_int32_overflow_is_reported():
    for overflow, code in (("wrap", 2 * (1 << 30) % (1 << 32)), ("saturate", (1 << 31) - 1)):
        design = core(["int16"], Accumulator(kind="int32", overflow=overflow))
        w = np.array([[0x8000, 0x8000], [0x8000, 0]])
        result = matmul(design, Job("int16", 1, 2, 2), np.array([[0x8000, 0x8000]]), w)
        assert result.overflow.tolist() == [[True, False]]
        assert result.codes.tolist() == [[code, 1 << 30]]


def test_bias_reaches_every_place():
    design = core(["fp8_e5m2"])
    for bias_shift in range(16):
        job = Job("fp8_e5m2", 1, 1, 1, per_channel=True, bias=True, bias_shift=bias_shift)
        for bias in (-1, 1, (1 << 31) - 1, -(1 << 31)):
            code, _ = one(design, job, 3, records=Records.of(1, bias))
            assert code == (3 + (bias << 8 * bias_shift)) % (1 << 128)


def test_float32_rounding_of_wide_sums():
    """Sums next to every kind of tie, far beyond 53 bits."""
    design = core(["posit16_1"], rules=("raw", "float"), outputs=("fp32",))
    job = Job("posit16_1", 1, 1, 1, rule="float", output="fp32")
    unit = Fraction(2) ** -56
    rng = np.random.default_rng(6)
    sums = [0, 1, -1]
    for bits in range(1, 125):
        top = 1 << bits
        half = top >> 24
        for base in (top, top + 2 * half, 2 * top - 2 * half, top + half, top + 3 * half, 2 * top - half,
                     int.from_bytes(rng.bytes(16), "little") % top):
            sums += [base, base + 1, base - 1, -base, -base - 1, -base + 1]
    sums = [s for s in sums if abs(s) < 1 << 126]
    codes, _ = requantise(design, job, integer_sums(design, np.array(sums, object)[None]))
    assert codes[0].tolist() == [fp32_code(to_fp32(s * unit)) for s in sums]


def test_float32_overflow_and_underflow():
    design = core(["bf16"], Accumulator(kind="fp32"))
    bf16 = get_format("bf16")
    tiny, huge = int(bf16.encode(np.array([-2.0 ** -133]))[0]), 0x7F7F
    small = 1
    job = Job("bf16", 1, 1, 1)
    result = matmul(design, job, np.array([[tiny]]), np.array([[small]]))
    assert result.codes.tolist() == [[0x80000000]]                       # underflow keeps its sign
    assert matmul(design, job, np.array([[huge]]), np.array([[huge]])).codes.tolist() == [[0x7F800000]]
    sums = float_sums(np.array([[0x80000000]], np.uint32))
    added, _ = requantise(design, Job("bf16", 1, 1, 1, accumulate=True), sums, c=np.array([[0x80000000]], np.uint64))
    assert added.tolist() == [[0]]                                      # an exact zero is +0
    halves = [0x00000001, 0x00000003, 0x80000003, 0x00800000, 0x00800001, 0x7F7FFFFF]
    for scale in (0.5, 0.25, 2.0, 3.0, -0.5):
        job = Job("bf16", 1, 1, 6, rule="float", output="fp32", scale=scale)
        codes, _ = requantise(design, job, float_sums(np.array([halves], np.uint32)))
        assert codes[0].tolist() == [fp32_code(times(fp32_value(code), scale)) for code in halves]


def test_float32_arithmetic_is_ieee():
    """Multiplication and addition against float64, in which a product and most sums of float32 are exact."""
    rng = np.random.default_rng(7)
    design = core(["bf16"], Accumulator(kind="fp32"))
    codes = rng.integers(0, 1 << 32, (100, 1000), dtype=np.uint64)
    f = codes.astype(np.uint32).view(np.float32)
    scales = rng.integers(0, 0x7F800000, 1000).astype(np.uint32)
    job = Job("bf16", 1, 1, 1, rule="float", output="fp32", per_channel=True)
    got, _ = requantise(design, job, float_sums(codes.astype(np.uint32)), records=Records.of(1000, 0, scales))
    with np.errstate(all="ignore"):
        wanted = (f.astype(np.float64) * scales.view(np.float32).astype(np.float64)).astype(np.float32)
    assert np.array_equal(got, np.where(np.isnan(wanted), np.uint32(0x7FC00000), wanted.view(np.uint32)))
    with np.errstate(all="ignore"):   # of similar size: the float64 sum is exact
        c = (f * rng.uniform(0.01, 100, f.shape)).astype(np.float32)
        wanted = (f.astype(np.float64) + c.astype(np.float64)).astype(np.float32)
    got, _ = requantise(design, Job("bf16", 1, 1, 1, accumulate=True), float_sums(codes.astype(np.uint32)),
                        c=c.view(np.uint32).astype(np.uint64))
    assert np.array_equal(got, np.where(np.isnan(wanted), np.uint64(0x7FC00000), wanted.view(np.uint32)))


def test_fp32_sums_depend_on_the_words():
    """Beside 2**12 a product of 2**-12 is lost by rounding, but two lanes of a word are summed before."""
    design = core(["posit8_0", "posit16_1"], Accumulator(kind="fp32"))
    for mode, expected in (("posit8_0", 2.0 ** 12 + 2.0 ** -11), ("posit16_1", 2.0 ** 12)):
        codes = get_format(mode).encode(np.array([[64, 0, 2.0 ** -6, 2.0 ** -6]]))
        result = check(design, Job(mode, 1, 4, 1), codes, codes)
        assert result.codes.tolist() == [[fp32_code(expected)]]


def test_raw_values():
    design = core(["posit16_1", "int8"])
    job = Job("posit16_1", 2, 3, 2)
    values = np.array([[1.5, -2, 0.25], [0, 4, 8]])
    codes = get_format("posit16_1").encode(values)
    result = matmul(design, job, codes, codes)
    assert np.array_equal(raw_values(design, job, result.codes), values @ values.T)
    nar = codes.copy()
    nar[0, 0] = 0x8000
    found = np.isnan(raw_values(design, job, matmul(design, job, nar, codes).codes))
    assert found.tolist() == [[True] * 2, [False] * 2]
    floats = core(["bf16"], Accumulator(kind="fp32"))
    assert raw_values(floats, Job("bf16", 1, 1, 1), np.array([[0x3FC00000]], np.uint64)).tolist() == [[1.5]]


# Wide integers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [32, 64, 128, 256, 512])
def test_wide_integers(bits):
    rng = np.random.default_rng(bits)
    values = [0, 1, -1, (1 << (bits - 1)) - 1, -1 << (bits - 1), 1 << (bits // 2), -1 << 31]

    def anything():
        return int.from_bytes(rng.bytes(bits // 8), "little", signed=True)

    values += [anything() >> int(rng.integers(0, bits)) for _ in range(200)]
    others = [anything() for _ in values]
    x, y = (Wide.of(np.array(v, object), bits) for v in (values, others))
    assert x.shape == (len(values),)
    assert x.integers().tolist() == [wrapped(v, bits) for v in values]
    assert x.codes().tolist() == [v % (1 << bits) for v in values]
    assert (x + y).integers().tolist() == [wrapped(v + o, bits) for v, o in zip(values, others, strict=True)]
    assert x.saturated(20).tolist() == [min(max(v, -1 << 19), (1 << 19) - 1) for v in x.integers().tolist()]
    low, fits = x.int64()
    assert [int(v) for v, f in zip(low, fits, strict=True) if f] == [v for v in values if -1 << 61 <= v < 1 << 61]
    assert np.array_equal(Wide.of(x.codes(), bits).data, x.data)
    small = np.array([-5, 7, -1 << 40, (1 << 62) + 1])
    assert Wide.of(small, bits).integers().tolist() == [wrapped(int(v), bits) for v in small]
    got = x.float64(-40)
    for v, f in zip(values, got.tolist(), strict=True):
        # To odd: exact, or the odd neighbour; float32 of it is the once-rounded value.
        exact = Fraction(v) / (1 << 40)
        assert Fraction(f) == exact or abs(Fraction(f) - exact) < abs(exact) / (1 << 32)
        with np.errstate(over="ignore"):
            assert float(np.float32(f)) == to_fp32(exact)


def test_odd_rounding_of_int64():
    values = np.array([0, 1, -1, (1 << 53) - 1, (1 << 53) + 1, (1 << 62) + 1, -(1 << 63), (1 << 63) - 1])
    for v, f in zip(values.tolist(), odd_float64(values, 0).tolist(), strict=True):
        assert float(np.float32(f)) == to_fp32(Fraction(v))


@pytest.mark.parametrize("a_bits, w_bits, k", [(3, 3, 5), (8, 8, 1024), (57, 57, 300), (33, 5, 70), (1, 60, 9),
                                               (26, 26, 3)])
def test_exact_product(a_bits, w_bits, k):
    rng = np.random.default_rng(a_bits)
    a = rng.integers(-1 << (a_bits - 1), 1 << (a_bits - 1), (4, k))
    w = rng.integers(-1 << (w_bits - 1), 1 << (w_bits - 1), (3, k))
    a[0], w[0] = -1 << (a_bits - 1), -1 << (w_bits - 1)
    exact = a.astype(object) @ w.astype(object).T
    for bits in (32, 64, 128, 256):
        wanted = [[wrapped(v, bits) for v in row] for row in exact.tolist()]
        assert exact_product(a, w, bits).integers().tolist() == wanted
        assert exact_product(a.astype(object), w, bits).integers().tolist() == wanted


# Refusals ------------------------------------------------------------------------------------------


def refuse(job, **operands):
    given = {"a": np.zeros((job.m, job.k), int), "w": np.zeros((job.n, job.k), int)} | operands
    with pytest.raises(BitkilnError) as caught:
        matmul(core(["fp4", "int8"], block=("mxfp4",)), job, given.pop("a"), given.pop("w"), **given)
    return str(caught.value)


def test_refusals():
    job = Job("int8", 2, 3, 4)
    assert refuse(job, a=np.zeros((2, 4), int)) == "error: wrong shape at a: got (2, 4), expected (2, 3)"
    assert refuse(job, w=np.full((4, 3), 256)) == (
        "error: code outside the format at w[0, 0]: got 256, expected 0 to 255 (int8)")
    assert refuse(job, a=np.zeros((2, 3))) == (
        "error: wrong dtype at a: got 'float64', expected integer codes\n"
        "help: encode values with format.encode first")
    assert refuse(job, c=np.zeros((2, 4), int)) == (
        "error: unexpected operand at c: expected none without job.accumulate")
    more = Job("int8", 2, 3, 4, accumulate=True)
    assert refuse(more) == "error: operand missing at c: expected an array with job.accumulate"
    assert refuse(more, c=np.full((2, 4), -1)) == (
        "error: code outside the raw width at c: got -1, expected 0 to 2**32 - 1")
    assert refuse(more, c=np.zeros((4, 2), int)) == "error: wrong shape at c: got (4, 2), expected (2, 4)"
    assert refuse(more, c=np.zeros((2, 4))) == (
        "error: wrong dtype at c: got 'float64', expected raw codes (integers)")
    channel = Job("int8", 2, 3, 4, per_channel=True)
    assert refuse(channel) == (
        "error: operand missing at records: expected an array with job.per_channel")
    assert refuse(channel, records=Records.of(3)) == "error: wrong shape at records: got 3, expected 4 records"
    block = Job("fp4", 2, 33, 4, block="mxfp4")
    scales = {"a_scales": np.zeros((2, 2), int), "w_scales": np.zeros((4, 1), int)}
    assert refuse(block, **scales) == "error: wrong shape at w_scales: got (4, 1), expected (4, 2)"
    with pytest.raises(BitkilnError) as caught:
        Records.of(2, [1, 1 << 31])
    assert str(caught.value) == (
        "error: out of range at records.bias: got 2147483648, expected -2147483648 to 2147483647")
    with pytest.raises(BitkilnError) as caught:
        Records.of(2, [1, 2, 3])
    assert str(caught.value) == "error: wrong shape at records.bias: got (3,), expected (2,)"


def test_records_travel_as_128_bits():
    records = Records.of(2, [-1, 5], np.array([1.0, 0.5], np.float32), [0, 62])
    assert records.words().tolist() == [[0xFFFFFFFF, 0x3F800000, 0, 0], [5, 0x3F000000, 62, 0]]
    assert records.columns(1, 2).words().tolist() == [[5, 0x3F000000, 62, 0]]
