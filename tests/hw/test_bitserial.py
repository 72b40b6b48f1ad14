# amaranth: UnusedElaboratable=no
"""The bit-serial array and its blocks: every option against golden and event model, and each corner case by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bitkiln.hw.arith.fixed_to_fp32 import FixedToFp32
from bitkiln.hw.dequant.activation import ActivationEdge
from bitkiln.hw.dequant.array import BitSerialArray, activation_layout, weight_layout
from bitkiln.hw.dequant.pe import BitSerialPe
from bitkiln.hw.dequant.scaler import GroupDequantiser
from bitkiln.hw.dequant.terms import TermDecoder
from bitkiln.models.cost.cycles.bitserial import closed_form, event_cycles, pipeline_depth
from bitkiln.models.design.bitserial import ACTIVATIONS, SCALES, BitSerialDesign
from bitkiln.models.design.weights import weight_type_names
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.bitserial import BitSerialResult, GroupStream, bitserial
from bitkiln.sim.batch import build_many, to_ints
from bitkiln.sim.bitserial_blocks import BLOCK_DESIGNS
from bitkiln.sim.bitserial_check import (
    ChunkWords,
    check_stream,
    pack_stream,
    random_activations,
    random_stream,
    run_stream,
    special_write,
    unpack_results,
)
from bitkiln.sim.block_check import blocks_of, build_blocks, check_block, check_for, has_check, port_array
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 61
STREAMS = ("w", "a", "o")
BUSY = {"w": 0.3, "a": 0.3, "o": 0.3}
FP32_NAN, FP32_INF = 0x7FC00000, 0x7F800000
NAN, INF = float("nan"), float("inf")

DESIGNS = {
    "bitmod": BitSerialDesign(("bitmod4", "bitmod3", "int6"), placement="edge", groups=8),
    "in the pe": BitSerialDesign(("int8", "bitmod4"), placement="pe", lanes=3, rows=2, groups=1, output="raw"),
    "zero-point": BitSerialDesign(("int4", "fp3"), zero_point=4, scale="uint4", lanes=1, columns=2, pipeline=0),
    "two scales": BitSerialDesign(("fp4", "bitmod3"), dual_scale=True, rows=3, columns=2, lanes=1, pipeline=2,
                                  groups=3),
    "skip": BitSerialDesign(("bitmod4", "int5"), zero_skip=True, lanes=1, columns=2, scale="uint6", output="raw"),
    "none": BitSerialDesign(("ternary", "seq2"), scale="none", groups=5, rows=2, output="raw", group=32),
    "aligned": BitSerialDesign("fp6_e2m3", accumulate="aligned", scale="ue4m3", lanes=3),
    "floating": BitSerialDesign(("bitmod4", "int6"), accumulate="floating", rows=2, columns=2, lanes=3),
    "floating, skip": BitSerialDesign(("int8", "fp3"), "bf16", accumulate="floating", rounding="rne", zero_skip=True,
                                      mantissa=12, scale="e8m0", output="raw", lanes=2, pipeline=2),
    "bf16": BitSerialDesign(("int6", "bitmod4"), "bf16", guard=0, rounding="rne", scale="e8m0", rows=2, pipeline=2),
    "bf16, skip": BitSerialDesign("nf3_int8", "bf16", guard=5, zero_skip=True, scale="ue5m3", specials=False, lanes=8,
                                  output="raw"),
    "e4m3": BitSerialDesign(("fp4", "nf4_int8"), "fp8_e4m3", scale="ue4m3", output="raw", lanes=3, placement="edge"),
    "e4m3, finite": BitSerialDesign("bitmod3", "fp8_e4m3", scale="e8m0", specials=False, pipeline=0),
    "e5m2": BitSerialDesign(("fp6_e3m2", "binary"), "fp8_e5m2", zero_point=8, lanes=3, placement="pe"),
    "int8, skip": BitSerialDesign(("int3", "bitmod4"), "int8", zero_skip=True, dual_scale=True, scale="uint4", lanes=1,
                                  group=16, groups=4),
    "int8": BitSerialDesign(("flint4", "e2m2"), "int8", scale="ue5m3", lanes=8, output="raw"),
}
TYPES = weight_type_names()
# Every type, with activations of FP16 or INT8; the exact sum of one product, in its units.
EXHAUSTIVE = {f"types {at}": BitSerialDesign(tuple(TYPES[at::4]), activation, scale="none", lanes=1, rows=2, group=1,
                                             groups=1, output="raw", placement="edge", pipeline=0)
              for at, activation in enumerate(("fp16", "fp16", "int8", "int8"))}
# The types of "bitmod" in another order, all else different too: for what must not depend on it.
OTHERWISE = DESIGNS["bitmod"].with_options(weights=("int6", "bitmod3", "bitmod4"), lanes=3, zero_skip=True, pipeline=2,
                                           placement="pe")
FIXED_STEPS = [name for name, design in DESIGNS.items() if not design.zero_skip]
SUMMED = [name for name, design in DESIGNS.items() if design.sums_channel]


@cache
def models() -> dict[str, StreamModel]:
    every = DESIGNS | EXHAUSTIVE | {"bitmod, otherwise": OTHERWISE}
    return dict(zip(every, build_streams([BitSerialArray(design) for design in every.values()]), strict=True))


def rtl(name: str) -> tuple[BitSerialDesign, StreamModel]:
    return (DESIGNS | EXHAUSTIVE)[name], models()[name]


# Streams of groups -------------------------------------------------------------------------------


def group(a: Sequence, w: Sequence, *, type: int = 0, special: int = 0, scale: int = 1, negative: int = 1,
          zero: int = 0, emit: bool = True) -> dict:
    """One group: activation codes (of all rows or of each), weight codes (of all columns or of each), metadata."""
    return {"a": np.asarray(a), "w": np.asarray(w), "types": type, "special": special, "scale": scale,
            "scale_negative": negative, "zero": zero, "emit": emit}


def stream_of(design: BitSerialDesign, *groups: dict) -> GroupStream:
    lengths = np.array([one["w"].shape[-1] for one in groups])
    acts = [np.broadcast_to(one["a"], (design.rows, length)) for one, length in zip(groups, lengths, strict=True)]
    codes = [np.broadcast_to(one["w"], (design.columns, length)) for one, length in zip(groups, lengths, strict=True)]
    fields = {name: np.stack([np.broadcast_to(one[name], design.columns) for one in groups], axis=1)
              for name in ("types", "special", "scale", "scale_negative", "zero")}
    return GroupStream(np.concatenate(acts, axis=1).astype(np.int64), np.concatenate(codes, axis=1).astype(np.int64),
                       lengths, **fields, emit=np.array([one["emit"] for one in groups]))


def checked(name: str, *groups: dict) -> BitSerialResult:
    """The groups through the RTL, at full speed and under stalls; the result, which is that of the golden model."""
    design, model = rtl(name)
    stream = stream_of(design, *groups)
    check_stream(design, stream, model=model)
    check_stream(design, stream, model=model, stalls=BUSY, seed=SEED)
    return bitserial(design, stream)


def encoded(design: BitSerialDesign, *values: float) -> np.ndarray:
    return design.activation.encode(np.array(values)).astype(np.int64)


def float_codes(*values: float) -> list[int]:
    with np.errstate(over="ignore"):
        codes = np.array(values, np.float64).astype(np.float32).view(np.uint32)
    return np.where(np.isnan(values), FP32_NAN, codes).tolist()


def equal_groups(design: BitSerialDesign, groups: int, length: int, index: int = 0, seed: int = SEED) -> GroupStream:
    """Groups of one length and type, each a result of its own."""
    rng = np.random.default_rng(seed)
    shape = (design.columns, groups)
    scale = rng.integers(0, 1 << design.scale_code_bits, (2, *shape))
    half = 1 << (design.zero_point - 1) if design.zero_point else 0
    return GroupStream(random_activations(design, (design.rows, groups * length), rng, 0.01),
                       rng.integers(0, 1 << design.weights[index].bits, (design.columns, groups * length)),
                       np.full(groups, length), np.full(shape, index), rng.integers(0, 4, shape), scale[0], scale[1],
                       rng.integers(-half, max(half, 1), shape), np.ones(groups, bool))


def channels_of(stream: GroupStream, summed: bool) -> list[tuple[int, int]]:
    """Groups (first, end) of each channel."""
    ends = (np.flatnonzero(stream.emit) if summed else np.arange(len(stream.emit))) + 1
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def part(stream: GroupStream, first: int, end: int) -> GroupStream:
    """Some of the groups."""
    at = slice(stream.starts[first], stream.starts[end])
    return GroupStream(stream.activations[:, at], stream.codes[:, at], stream.lengths[first:end],
                       *(getattr(stream, name)[:, first:end]
                         for name in ("types", "special", "scale", "scale_negative", "zero")), stream.emit[first:end])


def joined(*parts: ChunkWords) -> dict[str, np.ndarray]:
    return {name: np.concatenate([getattr(one, name) for one in parts]) for name in ("w", "a")}


def result_codes(design: BitSerialDesign, words: np.ndarray) -> np.ndarray:
    """What a result means as one array: float32 codes, or integers."""
    return unpack_results(design, words)["fp32" if design.output == "fp32" else "value"]


def expected_codes(design: BitSerialDesign, result: BitSerialResult) -> np.ndarray:
    return result.fp32 if design.output == "fp32" else result.value


# Every option ------------------------------------------------------------------------------------


def test_every_option_is_there() -> None:
    designs = list(DESIGNS.values())
    assert len(designs) == 16
    for key, values in {"scale": SCALES, "accumulate": ("exact", "aligned", "floating"), "placement": ("edge", "pe"),
                        "dual_scale": (False, True), "zero_skip": (False, True), "specials": (False, True),
                        "pipeline": (0, 1, 2), "output": ("fp32", "raw"), "lanes": (1, 2, 3, 4, 8)}.items():
        assert {getattr(design, key) for design in designs} == set(values), key
    assert {design.activation.name for design in designs} == set(ACTIVATIONS)
    for kind in ("aligned", "floating"):
        assert {design.rounding for design in designs if design.accumulate == kind} == {"trunc", "rne"}
    assert {design.zero_point for design in designs} >= {0, 4, 8}
    sides = {(design.rows, design.columns) for design in designs}
    assert {(1, 1), (3, 2)} <= sides and max(rows for rows, _ in sides) == 3
    assert {kind.name for design in EXHAUSTIVE.values() for kind in design.weights} == set(TYPES)


@pytest.mark.parametrize("name", DESIGNS)
def test_random_groups_at_full_speed(name: str) -> None:
    """Every result, every cycle of every transfer, and the stall counter."""
    design, model = rtl(name)
    assert check_stream(design, random_stream(design, 250, SEED), model=model) > 50
    assert check_stream(design, random_stream(design, 60, SEED + 1, longest=3, specials=0.3), model=model) > 10


@pytest.mark.parametrize("name", DESIGNS)
def test_random_groups_under_stalls(name: str) -> None:
    design, model = rtl(name)
    for at, (w, a, o) in enumerate(((0.3, 0.3, 0.3), (0.0, 0.6, 0.1), (0.7, 0.0, 0.7))):
        stream = random_stream(design, 120, SEED + 10 + at, specials=0.1)
        check_stream(design, stream, model=model, stalls={"w": w, "a": a, "o": o}, seed=SEED + at)


@pytest.mark.parametrize("name", DESIGNS)
def test_five_thousand_groups(name: str) -> None:
    """Fourteen designs, 360 groups each, mixed types and lengths, random stalls."""
    many_groups(name, 360, SEED + 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_half_a_million_groups(name: str) -> None:
    """Sixteen designs, 36,000 groups each."""
    for block in range(20):
        many_groups(name, 1800, SEED + 1000 + block)


def many_groups(name: str, count: int, seed: int) -> None:
    design, model = rtl(name)
    rng = np.random.default_rng(seed)
    stalls = dict(zip(STREAMS, rng.choice([0.1, 0.3, 0.6], 3).tolist(), strict=True))
    stream = random_stream(design, count, seed, longest=40)
    results = int(stream.emit.sum()) if design.sums_channel else count
    checked_now = check_stream(design, stream, model=model, stalls=stalls, seed=seed)
    assert checked_now == results * design.rows * design.columns


@pytest.mark.parametrize("name", FIXED_STEPS)
def test_equal_groups_take_the_closed_form(name: str) -> None:
    """Lengths about the one where dot product and scale take the same time; each type."""
    design, model = rtl(name)
    for index, kind in enumerate(design.weights):
        balance = -(-design.scale_cycles // kind.terms) * design.lanes
        lengths = {1, design.lanes, balance, balance + 1, max(balance - design.lanes, 1), 2 * balance + 3, design.group}
        for length in sorted(lengths):
            if not 1 <= length <= design.group:
                continue
            stream = equal_groups(design, 9, length, index)
            check_stream(design, stream, model=model)
            run = run_stream(design, stream, model=model)
            wanted = closed_form(design, 9, length, kind.terms)
            assert int(run.cycles["o"][-1]) == wanted, f"{kind.name} x {length}"
            steps, scale = -(-length // design.lanes) * kind.terms, design.scale_cycles
            assert run.stalls == 8 * max(scale - steps, design.rows - steps, 0)
            if design.rows == 1:  # reference 5.4
                bubble = 8 * (max(steps, scale, 1) - max(steps, scale))
                assert wanted == steps + 8 * max(steps, scale) + scale + pipeline_depth(design) + bubble


def test_exact_results_are_the_same_in_another_structure() -> None:
    """One stream through two arrays: lanes, placement, registers, skipping, order of types differ, results do not."""
    design, model = rtl("bitmod")
    other = models()["bitmod, otherwise"]
    stream = random_stream(design, 150, SEED + 30)
    turned = replace(stream, types=2 - stream.types)
    check_stream(OTHERWISE, turned, model=other)
    found = [run_stream(one, each, model=at, stalls=BUSY, seed=1).found["fp32"]
             for one, each, at in ((design, stream, model), (OTHERWISE, turned, other))]
    assert len(found[0]) > 30 and (found[0] == found[1]).all()


# Corner cases (reference 5.8) --------------------------------------------------------------------


def test_all_zero_group() -> None:
    for name in ("bitmod", "bf16", "int8, skip", "e5m2"):
        design, _ = rtl(name)
        some = encoded(design, 1.0, -2.0, 3.0, 1.5)
        nothing = [0] * 7
        kind = design.weights[0]
        one = int(np.flatnonzero(np.array(kind.values) == 1 if kind.unit_exponent == 0 else kind.decode(
            np.arange(1 << kind.bits)) == 1)[0])
        scale = 127 if design.scale == "e8m0" else 1
        found = checked(name, group(some, [one] * 4, scale=scale), group(nothing, nothing, scale=0),
                        group(nothing, [one] * 7, scale=scale), group([*some, *some[:3]], nothing, scale=scale),
                        group(some, [one] * 4, scale=scale))
        codes = found.fp32[:, 0, 0].tolist()
        assert codes[1:4] == [0, 0, 0] and codes[0] == codes[4] != 0


def test_special_value_never_used() -> None:
    design, model = rtl("bitmod")
    rng = np.random.default_rng(SEED)
    acts = random_activations(design, (1, 60), rng, 0)
    codes = rng.choice([code for code in range(16) if code != 8], 60)
    found = [checked("bitmod", group(acts[0], codes, special=entry, scale=77)).fp32 for entry in range(4)]
    assert all((one == found[0]).all() for one in found) and found[0].all()
    stream = stream_of(design, group(acts[0], codes, special=2, scale=77))
    assert check_stream(design, stream, model=model, tables={0: (1, 2, 3, 4)}) == 1


def test_special_value_of_either_sign() -> None:
    """BitMoD: +5, -5, +8, -8 beside FP4 and +3, -3, +6, -6 beside FP3, chosen by group."""
    design, _ = rtl("bitmod")
    acts = encoded(design, 2.0, -0.5, 4.0)
    values = {0: (5, -5, 8, -8), 1: (3, -3, 6, -6)}
    for index, specials in values.items():
        code = design.weights[index].special_code
        groups = [group(acts, [code, code, 1], type=index, special=entry, scale=10) for entry in range(4)]
        found = checked("bitmod", *groups).fp32.ravel().tolist()
        small = design.weights[index].decode(np.array([1]))[0]
        assert found == float_codes(*(10 * (1.5 * value + 4 * small) for value in specials))


def test_minus_zero_activation() -> None:
    for name in ("bitmod", "bf16", "e4m3, finite", "e5m2", "aligned"):
        design, _ = rtl(name)
        minus_zero = 1 << (design.activation.bits - 1)
        one = int(encoded(design, 1.0)[0])
        scale = {"e8m0": 127, "ue4m3": 0x38}.get(design.scale, 1)  # each of them 1
        codes = [(1 << design.weights[0].bits - 1) + 1, 1]        # a negative weight, a positive one
        found = checked(name, group([minus_zero] * 5, [codes[0]] * 5, scale=scale),
                        group([minus_zero] * 5, [codes[1]] * 5, scale=scale),
                        group([minus_zero, one, minus_zero], codes * 1 + [codes[0]], scale=scale),
                        group([one], [codes[1]], scale=scale)).fp32
        assert (found[:2] == 0).all() and (found[2] == found[3]).all() and found[3].all()


def test_one_element_group() -> None:
    for name, design in DESIGNS.items():
        stream = equal_groups(design, 40, 1)
        assert check_stream(design, stream, model=models()[name]) == 40 * design.rows * design.columns
        check_stream(design, stream, model=models()[name], stalls=BUSY, seed=SEED)


def ragged(design: BitSerialDesign, seed: int = SEED) -> GroupStream:
    """Each length up to two chunks and one, in random order, twice."""
    lengths = np.tile(np.arange(1, min(2 * design.lanes + 1, design.group) + 1), 2)
    lengths = np.random.default_rng(seed).permutation(lengths)
    whole = random_stream(design, len(lengths), seed, longest=1)
    rng = np.random.default_rng(seed)
    total = int(lengths.sum())
    return GroupStream(random_activations(design, (design.rows, total), rng, 0.02),
                       rng.integers(0, 1 << design.code_bits, (design.columns, total)), lengths, whole.types,
                       whole.special, whole.scale, whole.scale_negative, whole.zero, whole.emit)


def test_ragged_last_chunk() -> None:
    for name, design in DESIGNS.items():
        check_stream(design, ragged(design), model=models()[name])
        check_stream(design, ragged(design, SEED + 1), model=models()[name], stalls=BUSY, seed=SEED)


def run_words(name: str, words: dict[str, np.ndarray], results: int, **options) -> np.ndarray:
    """Results of chunks, in the form of `result_codes`."""
    design, model = rtl(name)
    inputs = dict(words)
    return result_codes(design, model.run(inputs, {"o": results * design.rows}, **options).check().outputs["o"])


def with_noise(design: BitSerialDesign, words: ChunkWords, what: str, seed: int) -> dict[str, np.ndarray]:
    """The same chunks with other bits where they mean nothing: in masked lanes, or metadata behind the first chunk."""
    rng = np.random.default_rng(seed)
    layout, size = weight_layout(design), weight_layout(design).size
    w, a = to_ints(words.w, size), to_ints(words.a, activation_layout(design).size)
    bits = design.activation.bits
    for at in range(len(w)):
        value, act = int(w[at]), int(a[at])
        mask = value >> layout["mask"].offset
        if what == "lanes":
            for lane in range(design.lanes):
                if mask >> lane & 1:
                    continue
                for column in range(design.columns):
                    value ^= ((1 << design.code_bits) - 1) << (column * design.lanes + lane) * design.code_bits
                for row in range(design.rows):
                    act ^= ((1 << bits) - 1) << (row * design.lanes + lane) * bits
        elif not value >> layout["first"].offset & 1:
            width = layout["groups"].shape.size
            value ^= int(rng.integers(0, 1 << 62)) % (1 << width) << layout["groups"].offset
        if what == "metadata" and not value >> layout["last"].offset & 1:
            value ^= int(rng.integers(0, 2)) << layout["emit"].offset
        w[at], a[at] = value, act
    return {"w": port_array(w.tolist(), size), "a": port_array(a.tolist(), activation_layout(design).size)}


@pytest.mark.parametrize("what", ["lanes", "metadata"])
def test_what_does_not_count_may_be_anything(what: str) -> None:
    """Masked lanes; type, scale and so on behind a group's first chunk; ``emit`` before its last."""
    for name, design in DESIGNS.items():
        stream = ragged(design, SEED + 2)
        expected = expected_codes(design, bitserial(design, stream))
        words = with_noise(design, pack_stream(design, stream), what, SEED)
        assert (words["w"] != pack_stream(design, stream).w).any() or design.lanes == 1
        assert (run_words(name, words, len(expected)) == expected).all(), name


def test_group_not_multiple_of_lanes() -> None:
    tried = 0
    for name, design in DESIGNS.items():
        length = next((one for one in range(design.group, 1, -1) if one % design.lanes), None)
        if length is None:
            continue
        tried += 1
        check_stream(design, equal_groups(design, 6, length), model=models()[name])
    assert tried == sum(design.lanes > 1 for design in DESIGNS.values()) and DESIGNS["in the pe"].group % 3


def test_scale_0_and_255() -> None:
    design, _ = rtl("bitmod")
    acts = encoded(design, 3.0, -7.0)
    scales = (0, 255, 0, 0, 255, 255, 1, 254)
    found = checked("bitmod", *(group(acts, [2, 3], scale=scale) for scale in scales)).fp32.ravel().tolist()
    assert found == float_codes(*(0.0 - scale * 7.5 for scale in scales))
    summed = checked("bitmod", *(group(acts, [2, 3], scale=scale, emit=at == len(scales) - 1)
                                 for at, scale in enumerate(scales))).fp32.ravel().tolist()
    assert summed == float_codes(sum(scales) * -7.5)
    for name, high in (("skip", 63), ("zero-point", 15)):
        design, _ = rtl(name)
        checked(name, *(group(encoded(design, 3.0, -7.0), [2, 3], scale=scale, zero=0) for scale in (0, high, high, 0)))


def test_fp16_max_times_int8_min_x128() -> None:
    """The width bound is reached exactly: 63 bits, none to spare (reference 5.5)."""
    design, _ = rtl("in the pe")
    top, bottom = encoded(design, 65504.0, -65504.0)
    found = checked("in the pe", group([bottom] * 128, [0x80] * 128, scale=255),
                    group([top] * 128, [0x80] * 128, scale=255), group([bottom] * 128, [0x80] * 128, scale=255))
    most = 65504 * 2 ** 24 * 128 * 128 * 255
    unit = 2 ** -design.weight_exponent
    assert found.value[:, 0, 0].tolist() == [most * unit, -most * unit, most * unit]
    assert (most * unit).bit_length() == design.result_bits - 1 == 62 + unit.bit_length() - 1


@pytest.mark.parametrize("name", SUMMED)
def test_largest_channels(name: str) -> None:
    """As many groups as a channel can have, of the largest length, activation, weight and scale, of either sign."""
    design, model = rtl(name)
    fmt = design.activation
    if fmt.family == "int":
        high, low = 127, 128
    else:
        high = int(encoded(design, fmt.max)[0])
        low = high | 1 << (fmt.bits - 1)
    count = min(design.groups, 8)
    metadata = {"scale": (1 << design.scale_bits) - 1, "negative": (1 << design.scale_bits) - 1,
                "zero": -(1 << design.zero_point - 1) if design.zero_point else 0}
    groups = []
    for index, kind in enumerate(design.weights):
        units = kind.units(np.arange(1 << kind.bits), max(kind.specials, default=0))
        for code in (int(units.argmax()), int(units.argmin())):
            for act in (high, low):
                groups += [group([act] * design.group, [code] * design.group, type=index, emit=at == count - 1,
                                 **metadata) for at in range(count)]
    stream = stream_of(design, *groups)
    assert check_stream(design, stream, model=model) == 4 * len(design.weights) * design.rows * design.columns
    sizes = [abs(int(value)).bit_length() for value in bitserial(design, stream).value.ravel()]
    assert max(sizes) >= design.result_bits - (3 if design.groups == count else 7)


def test_subnormal_only_activations() -> None:
    for name in ("bitmod", "bf16", "e4m3, finite", "e5m2", "aligned", "bf16, skip"):
        design, model = rtl(name)
        mantissa = design.activation.mantissa_bits
        stream = equal_groups(design, 50, 9, seed=SEED + 3)
        rng = np.random.default_rng(SEED)
        acts = rng.integers(0, 1 << mantissa, stream.activations.shape)
        acts |= rng.integers(0, 2, acts.shape) << (design.activation.bits - 1)
        stream = replace(stream, activations=acts)
        check_stream(design, stream, model=model)
        small = bitserial(design, stream)
        assert not small.exponent.any() or design.floating_scale
        assert (small.value != 0).mean() > 0.5


def test_full_cancellation_gives_plus_zero() -> None:
    """Inside a chunk, over chunks, over groups of a channel; the largest and the smallest numbers."""
    design, _ = rtl("bitmod")
    big, tiny = encoded(design, 65504.0, 2.0 ** -24)
    minus = 0x8000
    found = checked("bitmod",
                    group([big, big | minus], [7, 7]),
                    group([big, tiny, 0, 0, 0, big | minus, tiny | minus], [7, 3, 1, 1, 1, 7, 3]),
                    group([big, big], [7, 15]),
                    group([big] * 5, [7] * 5, scale=200, emit=False), group([big] * 5, [15] * 5, scale=200),
                    group([tiny | minus], [1])).fp32.ravel().tolist()
    assert found == [0, 0, 0, 0, *float_codes(-2.0 ** -25)]
    for name in ("aligned", "bf16"):
        design, _ = rtl(name)
        one = int(encoded(design, 48.0)[0])
        sign, scale = 1 << (design.activation.bits - 1), {"e8m0": 127, "ue4m3": 0x38}[design.scale]
        found = checked(name, group([one, one | sign], [5, 5], scale=scale),
                        group([one, 0, 0, 0, 0, one | sign], [5, 1, 1, 1, 1, 5], scale=scale)).fp32
        assert (found == 0).all()


@pytest.mark.parametrize("name", [name for name, design in DESIGNS.items() if len(design.weights) > 1])
def test_back_to_back_groups_of_mixed_types_and_lengths(name: str) -> None:
    """Neighbours differ in type and length, in each column on its own; no cycle is lost but those of the model."""
    design, model = rtl(name)
    stream = random_stream(design, 200, SEED + 4, longest=4 * design.lanes + 1)
    changes = (np.diff(stream.types, axis=1) != 0) & (np.diff(stream.lengths) != 0)
    assert changes.sum() > 30
    check_stream(design, stream, model=model)


@pytest.mark.parametrize("name", [name for name in FIXED_STEPS if DESIGNS[name].scale_cycles])
def test_dequantiser_bound_stream(name: str) -> None:
    """G < L * Sc / t: each group but the first waits for what its scale takes longer."""
    design, model = rtl(name)
    tried = 0
    for index, kind in enumerate(design.weights):
        for chunks in range(1, design.scale_cycles // kind.terms + 1):
            length = chunks * design.lanes
            if length > design.group or chunks * kind.terms >= design.scale_cycles:
                continue
            stream = equal_groups(design, 20, length, index)
            check_stream(design, stream, model=model)
            assert run_stream(design, stream, model=model).stalls == 19 * (design.scale_cycles - chunks * kind.terms)
            tried += 1
    assert tried


@pytest.mark.parametrize("name", FIXED_STEPS)
def test_stall_free_condition(name: str) -> None:
    """C * t >= Sc (and >= rows): no stall; one chunk less: stalls."""
    design, model = rtl(name)
    need = max(design.scale_cycles, design.rows)
    exact = 0
    for index, kind in enumerate(design.weights):
        chunks = -(-need // kind.terms)
        exact += chunks * kind.terms == need
        runs = [run_stream(design, equal_groups(design, 30, count * design.lanes, index), model=model)
                for count in (chunks, chunks + 1)]
        assert [run.stalls for run in runs] == [0, 0]
        assert (np.diff(runs[0].cycles["w"].astype(int)) == kind.terms).all()
        if chunks > 1:
            below = run_stream(design, equal_groups(design, 30, (chunks - 1) * design.lanes, index), model=model)
            assert below.stalls == 29 * (need - (chunks - 1) * kind.terms) > 0
    assert exact or name != "bitmod"  # there 16 elements of 2 terms take the 8 cycles of the scale


@pytest.mark.parametrize("stream", STREAMS)
def test_backpressure_at_each_stage(stream: str) -> None:
    for at, (name, design) in enumerate(DESIGNS.items()):
        check_stream(design, random_stream(design, 40, SEED + 40 + at, longest=12), model=models()[name],
                     stalls={stream: 0.9}, seed=SEED)


@pytest.mark.parametrize("name", ["two scales", "in the pe", "none", "bitmod"])
def test_blocked_results_stop_the_input_and_come_out_later(name: str) -> None:
    """With ``o`` never taken, no more chunks go in than the queue has room for, and none is lost."""
    design, model = rtl(name)
    stream = equal_groups(design, 200, design.lanes)
    words = pack_stream(design, stream)
    inputs = {"w": words.w, "a": words.a}
    stopped = model.run(inputs, {"o": 200 * design.rows}, stalls={"o": 1.0}, partial=True, timeout=500)
    taken = len(stopped.cycles["w"])
    rows = BitSerialArray(design).depth // design.rows
    assert stopped.deadlock and len(stopped.outputs["o"]) == 0 and rows <= taken <= rows + 2
    rest = {key: value[taken:] for key, value in inputs.items()}
    after = model.run(rest, {"o": 200 * design.rows}, resume=True).check()
    assert (result_codes(design, after.outputs["o"]) == expected_codes(design, bitserial(design, stream))).all()


def test_busy_from_the_first_chunk_to_the_last_result() -> None:
    for name, design in DESIGNS.items():
        model = models()[name]
        stream = equal_groups(design, 3, min(2 * design.lanes, design.group))
        words = joined(pack_stream(design, stream))
        opened = model.run({key: value[:1] for key, value in words.items()}, {}, sample={"w": ["busy"]})
        assert opened.samples["w"]["busy"].tolist() == [0] and opened.ports["busy"] == 1
        ended = model.run({key: value[1:] for key, value in words.items()}, {"o": 3 * design.rows}, resume=True,
                          stalls={"o": 0.8}, seed=SEED, sample={"o": ["busy"]}).check()
        assert ended.samples["o"]["busy"].tolist() == [1] * 3 * design.rows and ended.ports["busy"] == 0


# The special-value table -------------------------------------------------------------------------


def test_special_value_write_while_busy_waits() -> None:
    """A write offered in the middle of a channel is taken after its last result; the channel keeps the old value."""
    design, model = rtl("bitmod")
    acts = encoded(design, 1.0, 2.0, 3.0, 4.0, 5.0)
    stream = stream_of(design, group(acts, [8] * 5, special=1, emit=False), group(acts, [8] * 5, special=1, scale=2),
                       group(acts, [8] * 5, special=1), group(acts, [8] * 5, special=0))
    words = pack_stream(design, stream)
    write = np.array([special_write(design, 0, 1, 14)], np.uint64)   # 7 instead of -5

    opened = model.run({"w": words.w[:3], "a": words.a[:3]}, {})
    assert len(opened.cycles["w"]) == 3 and opened.ports["busy"] == 1
    waiting = model.run({"special": write}, {}, resume=True, partial=True, timeout=200)
    assert waiting.deadlock and len(waiting.cycles["special"]) == 0
    ended = model.run({"w": words.w[3:4], "a": words.a[3:4], "special": write}, {"o": 1}, resume=True,
                      sample={"special": ["busy"], "o": ["busy"]}).check()
    assert ended.cycles["special"][0] == ended.cycles["o"][0] + 1
    assert ended.samples["special"]["busy"].tolist() == [0] and ended.samples["o"]["busy"].tolist() == [1]
    after = model.run({"w": words.w[4:], "a": words.a[4:]}, {"o": 2}, resume=True).check()
    found = [*ended.outputs["o"] & 0xFFFFFFFF, *after.outputs["o"] & 0xFFFFFFFF]
    assert found == float_codes(-5 * 15 * 3, 7 * 15, 5 * 15) and after.ports["busy"] == 0


@pytest.mark.parametrize("name, seed", [("bitmod", 1), ("bitmod", 2), ("two scales", 3), ("bf16", 4), ("int8, skip", 5),
                                        ("in the pe", 6), ("e4m3, finite", 7)])
def test_written_values_hold_for_channels_that_begin_after_them(name: str, seed: int) -> None:
    """Writes between random channels: each channel has the table of the cycle in which its first chunk was taken."""
    design, model = rtl(name)
    rng = np.random.default_rng(SEED + seed)
    stream = random_stream(design, 160, SEED + seed, longest=2 * design.lanes + 1)
    kinds = [index for index, kind in enumerate(design.weights) if kind.special_code is not None]
    writes = []
    for _ in range(24):
        index, entry = int(rng.choice(kinds)), int(rng.integers(0, 4))
        kind = design.weights[index]
        legal = [value for value in range(-kind.max_units, kind.max_units + 1) if _fits(kind, value)]
        writes.append((index, entry, int(rng.choice(legal))))
    words = pack_stream(design, stream)
    channels = channels_of(stream, design.sums_channel)
    stalls = {"w": 0.93, "a": 0.2, "o": 0.2, "special": 0.9}
    run = model.run({"w": words.w, "a": words.a, "special": np.array([special_write(design, *one) for one in writes],
                                                                     np.uint64)},
                    {"o": len(channels) * design.rows}, stalls=stalls, seed=seed, sample={"special": ["busy"]}).check()
    assert not run.samples["special"]["busy"].any() and len(run.cycles["special"]) == len(writes)
    taken, ended = run.cycles["w"].astype(int), run.cycles["o"].astype(int).reshape(-1, design.rows)[:, -1]
    written = run.cycles["special"].astype(int)
    chunks = np.concatenate(([0], np.cumsum(-(-stream.lengths // design.lanes))))
    tables = {index: [*design.weights[index].specials, 0, 0, 0, 0][:4] for index in kinds}
    expected, done, used = [], 0, set()
    for at, (first, end) in enumerate(channels):
        begin = taken[chunks[first]]
        # None is taken between a channel's first chunk and its last result.
        assert not ((written > begin) & (written <= ended[at])).any()
        while done < len(writes) and written[done] <= begin:
            index, entry, value = writes[done]
            tables[index][entry] = value
            done += 1
        used.add(done)
        now = {index: tuple(values) for index, values in tables.items()}
        expected.append(expected_codes(design, bitserial(design, part(stream, first, end), now)))
    assert (result_codes(design, run.outputs["o"]) == np.concatenate(expected)).all() and len(used) > 5


def _fits(kind, value: int) -> bool:
    try:
        kind.check_special(value)
    except BitkilnError:
        return False
    return True


def toggled(words: list[int]) -> int:
    """Bits that are not the same in all of them."""
    return int(np.bitwise_or.reduce(words) & ~np.bitwise_and.reduce(words))


@pytest.mark.parametrize("name", ["bitmod", "two scales", "bf16"])
def test_every_entry_of_the_special_value_table(name: str) -> None:
    """Each entry is given values that set and clear each bit of its terms; after each write all entries are read. A
    reset gives all of them their first values back."""
    design, model = rtl(name)
    kinds = [index for index, kind in enumerate(design.weights) if kind.special_code is not None]
    one = encoded(design, 1.0)
    scale = 127 if design.scale == "e8m0" else 3
    reads = stream_of(design, *(group(one, [design.weights[index].special_code], type=index, special=entry, scale=scale,
                                      negative=5) for index in kinds for entry in range(4)))
    read = joined(pack_stream(design, reads))
    tables = {index: [*design.weights[index].specials, 0, 0, 0, 0][:4] for index in kinds}

    def check() -> None:
        run = model.run(read, {"o": len(reads.emit) * design.rows}, resume=True).check()
        golden = bitserial(design, reads, {index: tuple(values) for index, values in tables.items()})
        assert (result_codes(design, run.outputs["o"]) == expected_codes(design, golden)).all(), tables

    model.run(read, {"o": len(reads.emit) * design.rows}).check()
    rng = np.random.default_rng(SEED)
    for index in kinds:
        kind = design.weights[index]
        legal = [value for value in range(-kind.max_units, kind.max_units + 1) if _fits(kind, value)]
        for entry in range(4):
            values = [*rng.permutation(legal)[:14].tolist(), kind.max_units, 0, 1, -kind.max_units]
            words = [special_write(design, index, entry, value) for value in values]
            assert toggled(words) == toggled([special_write(design, index, entry, value) for value in legal])
            for value, word in zip(values, words, strict=True):
                assert len(model.run({"special": np.array([word], np.uint64)}, {}, resume=True, drain=0)
                           .cycles["special"]) == 1
                tables[index][entry] = value
                check()
    model.run({}, {}, resume=True, reset_at=[0])
    tables = {index: [*design.weights[index].specials, 0, 0, 0, 0][:4] for index in kinds}
    check()


def test_special_value_with_too_many_terms_refused() -> None:
    design, _ = rtl("bitmod")
    with pytest.raises(BitkilnError) as caught:
        special_write(design, 0, 0, 11)
    assert str(caught.value) == (
        "error: special value has too many terms at bitmod4 special value: got '5.5 = 3 signed powers of two', "
        "expected at most 2\nhelp: the nearest that fit are 5 and 6; or configure special_terms: 3")
    with pytest.raises(BitkilnError, match="special value out of range at bitmod3 special value: got '7'"):
        special_write(design, 1, 0, 7)


def test_reset_restores_the_special_values() -> None:
    design, model = rtl("bitmod")
    stream = stream_of(design, group(encoded(design, 3.0), [8], special=0))
    words = pack_stream(design, stream)
    inputs = {"w": words.w, "a": words.a}
    written = model.run({"special": np.array([special_write(design, 0, 0, 1)], np.uint64)}, {}).check()
    assert len(written.cycles["special"]) == 1
    assert model.run(inputs, {"o": 1}, resume=True).outputs["o"][0] & 0xFFFFFFFF == float_codes(1.5)[0]
    assert model.run(inputs, {"o": 1}, resume=True, reset_at=[0]).outputs["o"][0] & 0xFFFFFFFF == float_codes(15.0)[0]


# NaN and infinities ------------------------------------------------------------------------------


SPECIAL_CASES = [
    # activations (NaN, infinities, ordinary), weights, metadata, result by IEEE 754 rules (reference 5.5)
    ("bitmod", [NAN, 1], [1, 1], {}, NAN), ("bitmod", [NAN], [0], {}, NAN), ("bitmod", [NAN], [1], {"scale": 0}, NAN),
    ("bitmod", [INF, 1], [1, 1], {}, INF), ("bitmod", [INF], [9], {}, -INF), ("bitmod", [-INF], [9], {}, INF),
    ("bitmod", [-INF, 1, 1, 1, 1, 1], [1] * 6, {}, -INF), ("bitmod", [INF, INF], [1, 2], {}, INF),
    ("bitmod", [1] * 5 + [INF], [1] * 6, {}, INF), ("bitmod", [INF, INF], [1, 9], {}, NAN),
    ("bitmod", [INF, -INF], [1, 1], {}, NAN), ("bitmod", [INF, 0, 0, 0, -INF], [1] * 5, {}, NAN),
    ("bitmod", [INF], [0], {}, NAN), ("bitmod", [INF, INF], [0, 1], {}, NAN), ("bitmod", [INF], [1], {"scale": 0}, NAN),
    ("bitmod", [INF], [8], {"special": 1}, -INF), ("bitmod", [INF, NAN], [1, 1], {}, NAN),
    ("zero-point", [INF], [3], {"zero": 3}, NAN), ("zero-point", [INF], [3], {"zero": 4}, -INF),
    ("zero-point", [INF], [0], {"zero": -1}, INF), ("zero-point", [-INF], [0], {"zero": -8}, -INF),
    ("zero-point", [INF], [0], {"zero": 0}, NAN), ("zero-point", [INF], [3], {"zero": 1, "scale": 0}, NAN),
    ("zero-point", [INF, INF], [2, 4], {"zero": 3}, NAN),
    ("two scales", [INF], [1], {"negative": 0}, INF), ("two scales", [INF], [9], {"negative": 0}, NAN),
    ("two scales", [INF], [9], {"scale": 0}, -INF), ("two scales", [INF], [1], {"scale": 0}, NAN),
    ("two scales", [INF], [0], {}, NAN), ("two scales", [INF, INF], [1, 9], {}, NAN),
    ("aligned", [NAN], [0], {"scale": 0x38}, NAN), ("aligned", [INF, 1], [1, 1], {"scale": 0x38}, INF),
    ("aligned", [INF], [0], {"scale": 0x38}, NAN), ("aligned", [1], [1], {"scale": 0x7F}, NAN),
    ("aligned", [INF], [1], {"scale": 0}, NAN),
    ("bf16", [INF], [1], {"scale": 0}, INF), ("bf16", [-INF, 1], [1, 1], {"scale": 255}, NAN),
    ("bf16", [1], [0], {"scale": 255}, NAN), ("bf16", [NAN, 0], [1, 1], {"scale": 127}, NAN),
    ("bf16", [INF, -INF], [1, 1], {"scale": 127}, NAN),
    ("e5m2", [INF], [1], {"zero": 0}, INF), ("e5m2", [NAN], [1], {}, NAN), ("e5m2", [INF], [0], {"zero": 0}, NAN),
    ("e4m3, finite", [1], [1], {"scale": 255}, 2.0 ** 128),
]


def test_inf_nan() -> None:
    """Each combination, then ordinary groups behind it: nothing lasts longer than its channel."""
    by_design: dict[str, list] = {}
    for name, *case in SPECIAL_CASES:
        by_design.setdefault(name, []).append(case)
    for name, cases in by_design.items():
        design, _ = rtl(name)
        fmt = design.activation
        top = ((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits
        plain = group(encoded(design, 1.0), [1], scale={"e8m0": 127, "ue4m3": 0x38}.get(design.scale, 1))
        groups = []
        for acts, codes, metadata, _ in cases:
            coded = [top | 1 if np.isnan(act) else top | (act < 0) << (fmt.bits - 1) if np.isinf(act)
                     else int(encoded(design, act)[0]) for act in acts]
            groups += [group(coded, codes, **metadata), plain]
        found = checked(name, *groups).fp32
        for at, (_, _, _, wanted) in enumerate(cases):
            assert (found[2 * at] == float_codes(wanted)[0]).all(), f"{name} {cases[at]}"
        ordinary = found[1::2]
        assert (ordinary == ordinary[0, 0, 0]).all() and ordinary[0, 0, 0] & 0x7FFFFFFF < FP32_INF


@pytest.mark.parametrize("name", [name for name, design in DESIGNS.items() if design.specials
                                  and design.activation.has_nan])
def test_special_values_in_every_lane(name: str) -> None:
    """One NaN or infinity in a group, or two, in any row and lane, beside weights of either sign and of zero."""
    design, model = rtl(name)
    rng, fmt = np.random.default_rng(SEED + 90), design.activation
    count, length = 500, min(2 * design.lanes + 1, design.group)
    streams = [equal_groups(design, count, length, index, seed=SEED + 91) for index in range(len(design.weights))]
    top = ((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits
    for stream in streams:
        acts = random_activations(design, stream.activations.shape, rng, 0)
        index = int(stream.types[0, 0])
        zeros = [code for code, value in enumerate(design.weights[index].values) if not value]
        for g in range(count):
            for _ in range(int(rng.choice([1, 1, 1, 2]))):
                at = g * length + int(rng.integers(length))
                nan = rng.random() < 0.2 or not fmt.has_inf
                special = top | ((1 << fmt.mantissa_bits) - 1 if not fmt.has_inf else int(nan))
                acts[rng.integers(design.rows), at] = int(rng.integers(2)) << (fmt.bits - 1) | special
                if zeros and rng.random() < 0.3:
                    stream.codes[rng.integers(design.columns), at] = zeros[0]
        scale = np.where(rng.random(stream.scale.shape) < 0.9, np.maximum(stream.scale, 1), stream.scale)
        emit = rng.random(count) < 0.7
        emit[design.groups - 1::design.groups] = emit[-1] = True
        done = replace(stream, activations=acts, scale=np.minimum(scale, 126) if design.floating_scale else scale,
                       emit=emit if design.sums_channel else stream.emit)
        check_stream(design, done, model=model)
        found = bitserial(design, done)
        kinds = [found.nan, found.pos & ~found.neg & ~found.nan, found.neg & ~found.pos & ~found.nan]
        assert kinds[0].sum() > 50 and (not fmt.has_inf or min(kind.sum() for kind in kinds) > 20)


def test_nan_code_of_e4m3_and_codes_that_are_finite_without_specials() -> None:
    found = checked("e4m3", group([0x7F, 0x38], [2, 2], scale=0x38), group([0x7E], [2], scale=0x38),
                    group([0xFF], [0], scale=0), group([0x38], [2], scale=0x7F))
    assert found.nan[:, 0, 0].tolist() == [True, False, True, False]
    assert found.scale_nan[:, 0].tolist() == [False, False, False, True]
    finite = checked("e4m3, finite", group([0x7F], [1], scale=127), group([0xFF], [2], scale=127)).fp32[:, 0, 0]
    assert finite.tolist() == float_codes(480, -960)


# Reset and abort ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DESIGNS)
def test_reset_mid_group(name: str) -> None:
    """A reset in each of 60 cycles: what was complete came out, the rest is forgotten, what follows is right and on
    time."""
    design, model = rtl(name)
    before, after = (random_stream(design, 14, SEED + 50 + at, longest=3 * design.lanes, specials=0.1) for at in (0, 1))
    first, second = pack_stream(design, before), pack_stream(design, after)
    accepted, results, _ = event_cycles(design, first.steps, first.last, first.emit)
    later_accepted, later_results, stalls = event_cycles(design, second.steps, second.last, second.emit)
    early = expected_codes(design, bitserial(design, before))
    late = expected_codes(design, bitserial(design, after))
    flat = early.reshape(-1, design.columns), late.reshape(-1, design.columns)
    for reset in range(60):
        taken, out = int((accepted < reset).sum()), int((results < reset).sum())
        if taken == len(accepted):
            break
        inputs = {key: np.concatenate([getattr(first, key)[:taken], getattr(second, key)]) for key in ("w", "a")}
        run = model.run(inputs, {"o": out + len(later_results)}, reset_at=[reset]).check()
        found = unpack_rows(design, run.outputs["o"])
        assert (found == np.concatenate([flat[0][:out], flat[1]])).all(), f"reset in cycle {reset}"
        assert (run.cycles["w"][taken:] == later_accepted + reset + 1).all()
        assert (run.cycles["o"][out:] == later_results + reset + 1).all()
        assert run.ports["stalls"] == stalls and run.ports["busy"] == 0
    assert reset > 20


def unpack_rows(design: BitSerialDesign, words: np.ndarray) -> np.ndarray:
    """Values (rows of results, columns) where the last channel may be cut."""
    missing = -len(words) % design.rows
    padded = np.concatenate([words, words[:1].repeat(missing, axis=0)]) if missing else words
    return result_codes(design, padded).reshape(-1, design.columns)[:len(words)]


def test_resets_at_random_under_stalls() -> None:
    """Three resets in each run; behind the last one every channel that began afterwards is right."""
    for name, design in DESIGNS.items():
        stream = random_stream(design, 30, SEED + 60, longest=2 * design.lanes)
        words = pack_stream(design, stream)
        model = models()[name]
        rng = np.random.default_rng(SEED)
        lost = joined(words)
        for seed in range(6):
            resets = np.sort(rng.choice(np.arange(5, 200), 3, replace=False)).tolist()
            model.run(lost, {}, stalls=BUSY, seed=seed, reset_at=resets, limit=resets[-1] + 1, partial=True)
            after = model.run(joined(words), {"o": len(bitserial(design, stream).value) * design.rows}, stalls=BUSY,
                              seed=seed, reset_at=[0], resume=True).check()
            expected = expected_codes(design, bitserial(design, stream))
            assert (result_codes(design, after.outputs["o"]) == expected).all()


def aborted(design: BitSerialDesign, words: ChunkWords, chunk: int, first: bool) -> dict[str, np.ndarray]:
    """The chunks before ``chunk``, then a last one whose mask is 0, then nothing."""
    layout, size = weight_layout(design), weight_layout(design).size
    source = int(to_ints(words.w[chunk:chunk + 1], size)[0])
    source &= ~(((1 << design.lanes) - 1) << layout["mask"].offset)
    for name, value in (("last", 1), ("emit", 1), ("first", int(first))):
        source = source & ~(1 << layout[name].offset) | value << layout[name].offset
    return {"w": np.concatenate([words.w[:chunk], port_array([source], size)]), "a": words.a[:chunk + 1]}


@pytest.mark.parametrize("name", DESIGNS)
def test_abort_by_a_last_chunk_without_lanes(name: str) -> None:
    """``last`` with mask 0: the sum so far, or zero where the group had nothing; then an ordinary stream."""
    design, model = rtl(name)
    stream = equal_groups(design, 1, 4 * design.lanes if design.group >= 4 * design.lanes else design.group)
    words, following = pack_stream(design, stream), random_stream(design, 6, SEED + 70, longest=9)
    after = pack_stream(design, following)
    for chunk in range(len(words.last)):
        cut = chunk * design.lanes
        inputs = aborted(design, words, chunk, first=chunk == 0)
        both = {key: np.concatenate([inputs[key], getattr(after, key)]) for key in ("w", "a")}
        if cut:
            short = replace(stream, activations=stream.activations[:, :cut], codes=stream.codes[:, :cut],
                            lengths=np.array([cut]))
            wanted = expected_codes(design, bitserial(design, short))
        else:
            wanted = np.zeros((1, design.rows, design.columns), object)
        expected = np.concatenate([wanted, expected_codes(design, bitserial(design, following))])
        for stalls in ({}, BUSY):
            run = model.run(both, {"o": len(expected) * design.rows}, stalls=stalls, seed=chunk).check()
            found = result_codes(design, run.outputs["o"])
            nan = wanted[0] == 0
            assert (found[1:] == expected[1:]).all() and (found[0] == wanted[0])[~nan].all(), f"chunk {chunk}"
            # A NaN of the scale alone makes an empty group NaN.
            empty = found[0][nan]
            assert ((empty == 0) | (empty == FP32_NAN) & (design.floating_scale and design.specials)).all()


# Every code --------------------------------------------------------------------------------------


def sixty_four_activations(design: BitSerialDesign) -> np.ndarray:
    """Zeros, subnormals, powers of two, the largest, and ordinary numbers; NaN and infinities where there are any."""
    if design.activation.family == "int":
        return np.concatenate([[0, 1, 2, 127, 128, 129, 255, 254], np.arange(8, 120, 2)])[:64]
    rng = np.random.default_rng(SEED)
    picked = [0, 0x8000, 1, 0x8001, 0x3FF, 0x83FF, 0x400, 0x8400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01,
              0xFFFF, 0x3C00, 0xBC00, 0x3555, 0x3BFF, 0x4000]
    return np.array([*picked, *rng.integers(0, 1 << 16, 64 - len(picked))])


@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_every_weight_code_times_64_activations(name: str) -> None:
    """All codes of all 21 types, with each special value, one product a group; two activations at a time."""
    design, model = rtl(name)
    acts = sixty_four_activations(design).reshape(-1, design.rows)
    cases = [(index, code, entry) for index, kind in enumerate(design.weights) for code in range(1 << kind.bits)
             for entry in range(4 if code == kind.special_code else 1)]
    product = [(case, some) for case in cases for some in acts]
    types, codes, entries = np.array([case for case, _ in product]).T[:, None, :]
    count, none = len(product), np.zeros((1, len(product)), np.int64)
    stream = GroupStream(np.array([some for _, some in product]).T, codes, np.ones(count, np.int64), types, entries,
                         none, none, none, np.ones(count, bool))
    assert check_stream(design, stream, model=model) == 64 * len(cases)
    # The golden value once more, from the formats' own numbers.
    kinds = design.weights
    real = np.array([kinds[t].real(kinds[t].specials[e] if c == kinds[t].special_code else kinds[t].values[c] or 0)
                     for t, c, e in cases])
    values = np.nan_to_num(design.activation.decode(stream.activations.T), posinf=0, neginf=0)
    wanted = np.repeat(real, len(acts))[:, None] * values
    found = bitserial(design, stream).value[:, :, 0].astype(np.float64) * 2.0 ** design.result_exponent
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["e4m3", "e4m3, finite", "e5m2"])
def test_every_fp8_activation_times_every_weight_code(name: str) -> None:
    """256 x all codes of all types, one product a group; rows and columns with codes of their own."""
    design, model = rtl(name)
    groups = []
    scale = {"e8m0": 127, "ue4m3": 0x38}.get(design.scale, 1)
    for index, kind in enumerate(design.weights):
        for entry in range(4 if kind.special_code is not None else 1):
            for code in range(1 << kind.bits):
                if entry and code != kind.special_code:
                    continue
                columns = (code + np.arange(design.columns)[:, None]) % (1 << kind.bits)
                for act in range(0, 256, design.rows):
                    rows = (act + np.arange(design.rows)[:, None]) % 256
                    groups.append(group(rows, columns, type=index, special=entry, scale=scale))
    stream = stream_of(design, *groups)
    assert check_stream(design, stream, model=model) == len(groups) * design.rows * design.columns > 256 * 8


# Blocks ------------------------------------------------------------------------------------------


def blocks(kind: type) -> list:
    """Blocks of one class, of each design that makes a difference to it."""
    if kind is FixedToFp32:
        exponents = [FixedToFp32(d.result_bits, d.result_exponent, d.result_exponents) for d in BLOCK_DESIGNS.values()]
        # Without an exponent at run time: about the least numbers, about the largest, and one of few bits.
        fixed = [FixedToFp32(40, -160), FixedToFp32(64, 90), FixedToFp32(9, -152), FixedToFp32(30, -300)]
        # With one: its range within that of the normal numbers, beyond it at either end, and far below the least.
        ranges = [(33, -40, (-8, 7)), (33, -150, (1, 254)), (30, -130, (-16, 15)), (54, -25, (-256, 255)),
                  (49, -300, (2, 508)), (12, -150, (-100, 3)), (24, -20, (-3, -3))]
        return [*exponents, *fixed, *(FixedToFp32(*numbers) for numbers in ranges)]
    return [kind(design) for design in BLOCK_DESIGNS.values()]


@pytest.mark.parametrize("kind", [TermDecoder, GroupDequantiser, FixedToFp32], ids=lambda kind: kind.__name__)
def test_blocks_equal_their_golden_function(kind: type) -> None:
    found = {block.module_name: block for block in blocks(kind)}
    built = build_blocks(found)
    for name, block in found.items():
        assert check_block(block, seed=SEED, model=built[name]) > 30


def test_every_short_integer_at_every_exponent_of_float32() -> None:
    """All 4,096 numbers at all powers of two from far below the least subnormal number to beyond the largest."""
    low, high = -170, 130
    block = FixedToFp32(12, low, (0, high - low))
    numbers, exponents = (part.ravel() for part in np.meshgrid(np.arange(-2048, 2048), np.arange(high - low + 1)))
    model = build_blocks({block.module_name: block})[block.module_name]
    found = model.run({"i": port_array(numbers, 12), "exponent": port_array(exponents, block.exponent_bits),
                       **{name: np.zeros(len(numbers), np.uint64) for name in ("nan", "pos", "neg")}})["o"]
    with np.errstate(over="ignore"):
        wanted = np.ldexp(numbers.astype(np.float64), low + exponents).astype(np.float32).view(np.uint32)
    delay = block.latency - 1
    np.testing.assert_array_equal(found[delay:], wanted[:len(wanted) - delay])
    assert len(np.unique(wanted)) > 400_000


@pytest.mark.parametrize("kind", [ActivationEdge, BitSerialPe], ids=lambda kind: kind.__name__)
def test_blocks_with_a_reset_equal_their_golden_function(kind: type) -> None:
    found = blocks(kind)
    for block, built in zip(found, build_many(found), strict=True):
        assert check_block(block, seed=SEED, model=built) > 5000


def test_every_block_of_the_array_has_a_check() -> None:
    for name in ("bitmod", "in the pe", "aligned", "two scales"):
        array = BitSerialArray(DESIGNS[name])
        missing = [name for name, block in blocks_of(array).items() if block is not array and not has_check(block)]
        assert not missing, missing
    kinds = {check_for(block).kind for kind in (TermDecoder, ActivationEdge, BitSerialPe, GroupDequantiser, FixedToFp32)
             for block in blocks(kind)[:1]}
    assert kinds == {"term decoder", "activation edge", "bit-serial pe", "group dequantiser", "fixed to fp32"}


def test_a_check_fails_on_a_wrong_block() -> None:
    """A decoder of one type is not that of another with as many bits; flint4 differs from FP4."""
    fp4, flint4 = (TermDecoder(BitSerialDesign(name, "int8", scale="none")) for name in ("fp4", "flint4"))
    models = build_blocks({block.module_name: block for block in (fp4, flint4)})
    check_block(fp4, model=models[fp4.module_name])
    with pytest.raises(BitkilnError, match="block and golden function differ"):
        check_block(fp4, model=models[flint4.module_name])


# The check itself --------------------------------------------------------------------------------


def test_the_check_sees_wrong_results_and_wrong_cycles() -> None:
    """The array against what another order of types, another sum and another latency would give."""
    design, model = rtl("bitmod")
    stream = random_stream(design, 60, SEED + 80)
    for other, message in (({"weights": ("bitmod4", "int6", "bitmod3")}, "RTL and golden model differ"),
                           ({"specials": False}, "RTL and golden model differ"),
                           ({"pipeline": 2}, "RTL and event model differ"),
                           ({"groups": 9}, None)):
        if message is None:  # the same results
            assert check_stream(design.with_options(**other), stream, model=model) > 10
            continue
        with pytest.raises(BitkilnError, match=message):
            check_stream(design.with_options(**other), stream, model=model)
