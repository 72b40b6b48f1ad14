"""Streams of a job against a slow description of them, bit by bit."""

import dataclasses

import numpy as np
import pytest

from bitkiln.host.packing import (
    Records,
    a_beats,
    beats_of,
    best_order,
    c_beats,
    keep_bytes,
    pack_a,
    pack_c,
    pack_results,
    pack_rows,
    pack_w,
    result_beats,
    unpack_results,
    unpack_rows,
    w_beats,
)
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format, get_group_format

SEED = 20260


def core(modes=("fp4", "int8", "int8xint4", "int16"), rows=3, columns=4, bus=64, block=(), **options):
    accumulator = Accumulator(kind=options.pop("kind", "exact"), depth=4096)
    pe = MorphableDesign(modes, accumulator, implementation="parallel")
    return MatmulDesign(ArrayDesign(rows, columns, pe), k_words=64, bus_bits=bus, block=block, **options)


# The slow description ------------------------------------------------------------------------------


def slow_row(codes, bits, bus):
    """Beats (ints) of one row."""
    word = sum((int(code) % (1 << bits)) << (bits * at) for at, code in enumerate(codes))
    return [word >> (bus * beat) & ((1 << bus) - 1) for beat in range(-(-len(codes) * bits // bus))]


def spans(count, size):
    return [range(at, min(at + size, count)) for at in range(0, count, size)]


def slow_panel(design, job, codes, lines, bits, scales, records=None):
    beats = []
    if records is not None:
        for n in lines:
            record = (int(records.bias[n]) % (1 << 32)) | int(records.scale[n]) << 32 | int(records.shift[n]) << 64
            beats += slow_row([record], 128, design.bus_bits)
    if scales is not None:
        for line in lines:
            beats += slow_row(scales[line], 8, design.bus_bits)
    for line in lines:
        beats += slow_row(codes[line], bits, design.bus_bits)
    return beats


def slow_streams(design, job, a, w, c, results, a_scales=None, w_scales=None, records=None):
    """All beats of A, W, C and the results, with the bytes kept of each result beat."""
    mode = design.pe.modes[design.pe.index(job.mode)]
    rows, columns = spans(job.m, design.rows), spans(job.n, design.columns)
    out_a, out_w, out_c, out, keep = [], [], [], [], []
    width = design.raw_bits if job.rule == "raw" else get_format(job.output).bits

    def panel_a(i):
        out_a.extend(slow_panel(design, job, a, rows[i], mode.activation.bits, a_scales))

    def panel_w(j):
        out_w.extend(slow_panel(design, job, w, columns[j], mode.weight.bits, w_scales, records))

    def tile(i, j):
        for m in rows[i]:
            out_c.extend(slow_row(c[m, columns[j]], design.raw_bits, design.bus_bits))
            beats = slow_row(results[m, columns[j]], width, design.bus_bits)
            out.extend(beats)
            used = -(-len(columns[j]) * width // 8)
            keep.extend(min(design.bus_bits // 8, used - beat * design.bus_bits // 8) for beat in range(len(beats)))

    if job.order == "a":
        for i in range(len(rows)):
            panel_a(i)
            for j in range(len(columns)):
                panel_w(j)
                tile(i, j)
    else:
        for j in range(len(columns)):
            panel_w(j)
            for i in range(len(rows)):
                panel_a(i)
                tile(i, j)
    return out_a, out_w, out_c, out, keep


def as_ints(beats):
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]


def as_beats(ints, bus):
    return np.array([list(value.to_bytes(bus // 8, "little")) for value in ints], np.uint8).reshape(-1, bus // 8)


def random_case(rng, design):
    """A job with everything the design allows, and its matrices."""
    mode = design.pe.modes[rng.integers(len(design.pe.modes))]
    m, n = (int(x) for x in rng.integers(1, 12, 2))
    k = int(rng.integers(1, min(design.max_k(mode), 70) + 1))
    rule = str(rng.choice(["raw", "float"]))
    output = str(rng.choice(design.outputs)) if rule != "raw" else None
    per_channel = bool(rng.integers(2))
    block = next((b for b in design.block if get_group_format(b).element.name == mode.name), None)
    job = Job(mode.name, m, k, n, rule=rule, output=output, order=str(rng.choice(["a", "w"])), per_channel=per_channel,
              accumulate=True, block=block if rng.integers(2) else None).check(design)
    case = {"a": rng.integers(0, 1 << mode.activation.bits, (m, k)),
            "w": rng.integers(0, 1 << mode.weight.bits, (n, k))}
    floating = design.floating or job.block is not None

    def wide(bits):
        values = np.empty((m, n), object)
        values.reshape(-1)[:] = [int.from_bytes(rng.bytes(80), "little") % (1 << bits) for _ in range(m * n)]
        return values if bits > 64 else values.astype(np.uint64)

    case["c"] = wide(32 if floating else design.raw_bits)
    case["results"] = case["c"] if rule == "raw" else wide(get_format(output).bits)
    if job.block:
        blocks = -(-k // get_group_format(job.block).block_size)
        case["a_scales"], case["w_scales"] = (rng.integers(0, 256, (count, blocks)) for count in (m, n))
    if per_channel:
        case["records"] = Records(rng.integers(-(1 << 31), 1 << 31, n), rng.integers(0, 1 << 32, n),
                                  rng.integers(0, 63, n))
    return job, case


@pytest.mark.parametrize("bus", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("options", [{}, {"rows": 1, "columns": 1}, {"modes": ("posit16_1", "fp8_e4m3"), "columns": 5},
                                     {"modes": ("bf16", "fp8_e5m2"), "kind": "fp32"},
                                     {"modes": ("fp4", "int8xfp4"), "block": ("mxfp4", "nvfp4"), "rows": 2}],
                         ids=["four modes", "one by one", "wide sums", "fp32 sums", "block scales"])
def test_streams_equal_the_description(bus, options):
    design = core(bus=bus, **options)
    rng = np.random.default_rng([SEED, bus])
    orders = set()
    for _ in range(25):
        job, case = random_case(rng, design)
        orders.add(job.order)
        slow = slow_streams(design, job, **case)
        a = pack_a(design, job, case["a"], case.get("a_scales"))
        w = pack_w(design, job, case["w"], case.get("records"), case.get("w_scales"))
        c = pack_c(design, job, case["c"])
        assert [as_ints(a), as_ints(w), as_ints(c)] == list(slow[:3]), job
        assert keep_bytes(design, job).tolist() == slow[4]
        count = beats_of(design, job)
        assert (count.a, count.w, count.c, count.results) == tuple(len(part) for part in slow[:4])
        results = unpack_results(design, job, as_beats(slow[3], bus))
        assert as_ints(pack_results(design, job, case["results"])) == slow[3]
        assert (results == case["results"]).all() and results.shape == (job.m, job.n)
    assert orders == {"a", "w"}


@pytest.mark.parametrize("bits", [4, 8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("elements", [1, 2, 3, 7, 16, 33])
def test_rows_round_trip(bits, elements):
    rng = np.random.default_rng([SEED, bits, elements])
    codes = np.empty((3, elements), object)
    codes.reshape(-1)[:] = [int.from_bytes(rng.bytes(32), "little") % (1 << bits) for _ in range(3 * elements)]
    codes[0, 0], codes[-1, -1] = (1 << bits) - 1, 1 << (bits - 1)
    packed = pack_rows(codes, bits, 8)
    assert packed.shape == (3, -(-elements * bits // 64) * 8)
    assert (unpack_rows(packed, elements, bits) == codes).all()
    signed = np.where(codes >> (bits - 1) == 1, codes - (1 << bits), codes)
    assert (pack_rows(signed, bits, 8) == packed).all()


def test_panels_add_up():
    design = core(block=("mxfp4",))
    job = Job("fp4", 7, 70, 9, per_channel=True, accumulate=True, block="mxfp4", order="w").check(design)
    # 70 elements of 4 bits: 5 beats; 3 scales: 1 beat; a record: 2 beats; a raw result has 64 bits.
    assert (a_beats(design, job, 3), w_beats(design, job, 4)) == (18, 32)
    assert (c_beats(design, job, 3, 4), result_beats(design, job, 3, 4)) == (12, 12)
    total = beats_of(design, job)
    assert (total.a, total.w, total.c, total.results) == (3 * 42, 72, 7 * 9, 7 * 9)
    assert total.streamed == 198


def test_best_order_streams_less():
    design = core(rows=4, columns=4)
    tall, flat = Job("int8", 64, 32, 4), Job("int8", 4, 32, 64)
    assert (best_order(design, tall), best_order(design, flat)) == ("w", "a")
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        m, k, n = (int(x) for x in rng.integers(1, 71, 3))
        job = Job("int8xint4", m, k, n)
        chosen = beats_of(design, dataclasses.replace(job, order=best_order(design, job))).streamed
        assert chosen == min(beats_of(design, dataclasses.replace(job, order=order)).streamed for order in "aw")


def test_wrong_arrays_are_refused():
    design = core(block=("mxfp4",))
    job = Job("fp4", 2, 8, 3, per_channel=True, block="mxfp4")
    a, w = np.zeros((2, 8), int), np.zeros((3, 8), int)
    scales, records = np.zeros((2, 1), int), Records.of(3)
    for call, message in (
            (lambda: pack_a(design, job, a.T, scales), "wrong shape at a: got (8, 2), expected (2, 8)"),
            (lambda: pack_a(design, job, a.astype(float), scales), "not codes at a: got float64"),
            (lambda: pack_a(design, job, a), "scales do not fit the job at a_scales: got 'none'"),
            (lambda: pack_w(design, job, w, records, scales), "wrong shape at w_scales: got (2, 1), expected (3, 1)"),
            (lambda: pack_w(design, job, w, None, scales), "records do not fit the job"),
            (lambda: pack_w(design, job, w, Records(np.zeros(3, int), np.full(3, 1 << 32), np.zeros(3, int)),
                            np.zeros((3, 1), int)),
             "out of range at records.scale: got 4294967296, expected 32 bits"),
            (lambda: unpack_results(design, job, np.zeros((5, 8), np.uint8)), "wrong number of beats")):
        with pytest.raises(BitkilnError) as caught:
            call()
        assert message in str(caught.value)
