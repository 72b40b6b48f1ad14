# amaranth: UnusedElaboratable=no
"""Codebook dequantisers and MACs together: bits and cycles, NF4 of the quantiser, stalls, resets, wrong streams."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from bitkiln.hw.dequant.codebook_array import CodebookArray
from bitkiln.models.cost.cycles.codebook_array import array_cycles, block_cycles, never_waits, result_latency
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.codebook import Codebooks
from bitkiln.models.golden.codebook_array import ArrayStream, Product, array_results, product_stream, results_of
from bitkiln.sim.codebook_array_check import (
    check_array,
    compare_cycles,
    compare_results,
    nf4_product,
    normal_books,
    pack_array,
    random_array,
    unpack_results,
)
from bitkiln.sim.codebook_check import load, random_books
from bitkiln.sim.streams import StreamModel

SEED = 83
DESIGNS = {
    "nf4": CodebookArrayDesign("fp8_e4m3", "fp8_e4m3", 2, 2, scale="uint8", block=64),
    "plain": CodebookArrayDesign("int8", "int4", 1, 1, code_bits=3, scale="none", pipeline=0, store="registers"),
    "squeezellm": CodebookArrayDesign("fp16", "fp16", 2, 4, tables=3, scale="fp32", result_lanes=2),
    "qlora": CodebookArrayDesign("int8", "int8", 3, 2, scale="table8", offset=True, links="systolic", block=48),
    "posit": CodebookArrayDesign("posit8_0", "posit8_0", 2, 2, tables=2, scale="int8", block=48, store="registers"),
    "packed": CodebookArrayDesign("fp4", "fp4", 2, 3, scale="fp32", implementation="packed", pipeline=2, block=96),
}
# One of them shows nearly everything; a build takes some ten seconds.
NAMES = [pytest.param(name, marks=[] if name == "nf4" else pytest.mark.slow) for name in DESIGNS]


@functools.cache
def model(name: str) -> StreamModel:
    return StreamModel(CodebookArray(DESIGNS[name]))


def some(stream: ArrayStream, chunks: slice, second: slice) -> ArrayStream:
    """Some chunks of a stream."""
    names = ("activations", "codes", "mask", "first", "last", "emit", "renew", "table", "scale")
    return replace(stream, **{name: getattr(stream, name)[chunks] for name in names}, second=stream.second[second])


@pytest.mark.parametrize("name", DESIGNS)
def test_latencies_of_the_model(name: str) -> None:
    design = DESIGNS[name]
    unit = CodebookArray(design)
    assert unit.results.latency == result_latency(design)
    assert unit.array.latency == design.array.latency
    assert unit.latency == unit.array.latency + unit.results.latency
    # A result each cycle: the queue is longer than the way to it.
    assert unit.results.depth > unit.results.latency


@pytest.mark.parametrize("activation", ["int4", "fp4", "int8", "fp8_e4m3", "fp8_e5m2", "posit8_0", "fixed8_4", "int16",
                                        "posit16_1", "fp16", "bf16"])
def test_latencies_of_all_formats(activation: str) -> None:
    """The way to float32 is as long as sum and exponent make it."""
    for options in ({}, {"scale": "uint8", "offset": True, "pipeline": 0}, {"scale": "none", "links": "systolic"},
                    {"accumulator": "fp32", "rows": 3}, {"block": 1 << 16, "columns": 8}):
        design = CodebookArrayDesign(activation, activation, **({"rows": 2, "columns": 4} | options))
        assert CodebookArray(design).results.latency == result_latency(design)


@pytest.mark.parametrize("name", NAMES)
def test_random_blocks_in_the_cycles_of_the_model(name: str) -> None:
    design, stalled = DESIGNS[name], 0
    for longest in (4, 30, None):
        run, values = check_array(design, model(name), random_books(design.codebook, SEED),
                                  random_array(design, 150, SEED, longest=longest))
        assert len(values) > 40 and not run.ports["busy"]
        stalled += run.ports["stalls"]
    assert stalled


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slow", ["all", "w", "a", "second", "o"])
def test_nothing_is_lost_under_stalls(name: str, slow: str) -> None:
    design, unit = DESIGNS[name], model(name)
    streams = [*unit.inputs, *unit.outputs]
    stalls = dict.fromkeys(streams, 0.4) if slow == "all" else {slow: 0.9} if slow in streams else {"w": 0.1}
    for longest in (6, 40):
        run, values = check_array(design, unit, random_books(design.codebook, SEED + 1),
                                  random_array(design, 80, SEED + 1, longest=longest), stalls=stalls, seed=SEED)
        assert len(values) and not run.ports["busy"]


@pytest.mark.parametrize("name", NAMES)
def test_nf4_weights_of_the_quantiser(name: str) -> None:
    """A matrix product with edges in every direction: bits, cycles, no bubble, and close to the quantised weights'."""
    design, rng = DESIGNS[name], np.random.default_rng(SEED)
    block, k = 48, 3 * 48 + 17
    m, n = 2 * design.rows + 1, 3 * design.columns - (design.columns > 1)
    real = rng.normal(0, 1, (m, k))
    low = design.activation.max / 4 if design.activation.family == "int" else 1.0
    a = design.activation.encode(real * low, overflow="saturate").astype(np.int64)
    books, product, weights = nf4_product(design, a, rng.standard_t(4, (n, k)) * 0.05, block)
    stream = product_stream(design, product)
    run, values = check_array(design, model(name), books, stream)
    lengths = [48, 48, 48, 17]
    # The last block of a row is short; it is the only one that may wait, and only where it is too short.
    if all(never_waits(design, length) for length in lengths):
        assert run.ports["stalls"] == 0
        assert (np.diff(run.cycles["a"].astype(np.int64)) == 1).all()
    assert never_waits(design, 48)
    found = results_of(design, product, values).view(np.float32).astype(np.float64)
    gain = normal_books(design)[1] if design.scale == "none" else 1.0
    exact = design.activation.decode(a) @ weights.T * gain
    # Entries are rounded to the weights' format; QLoRA's code of the scales has few places near 1.
    rough = {"fp8_e4m3": 0.03, "int8": 0.02, "fp16": 0.001, "posit8_0": 0.02}.get(design.weight.name, 0.2)
    error = np.sqrt(np.mean((found - exact) ** 2)) / np.sqrt(np.mean(exact ** 2))
    assert error < rough
    # The same under stalls, from another state.
    check_array(design, model(name), books, stream, stalls={"w": 0.2, "a": 0.2, "o": 0.3}, seed=SEED)


def test_blocks_of_64_never_leave_a_bubble() -> None:
    design = DESIGNS["nf4"]
    a = np.random.default_rng(SEED).integers(0, 100, (6, 512))
    books, product, _ = nf4_product(design, a, np.random.default_rng(SEED).normal(0, 1, (4, 512)), 64)
    stream = product_stream(design, product)
    run, _ = check_array(design, model("nf4"), books, stream)
    chunks = 3 * 2 * 512 // design.lanes
    assert run.ports["stalls"] == 0 and len(run.cycles["a"]) == chunks
    # Chunks, the dequantiser's and the array's latency, a word of results each cycle.
    unit = CodebookArray(design)
    last = chunks - 1 + unit.dequantiser.latency + unit.latency + design.rows * design.groups - 1
    assert run.cycles["o"][-1] == last


def test_default_result_lanes_keep_up_with_blocks_of_64() -> None:
    for rows, columns, activation in ((4, 4, "fp8_e4m3"), (8, 8, "int8"), (4, 12, "fp4"), (8, 4, "fp16")):
        design = CodebookArrayDesign(activation, activation, rows, columns)
        assert never_waits(design, 64)
        if design.result_lanes > 1:
            fewer = max(n for n in range(1, design.result_lanes) if columns % n == 0)
            assert block_cycles(replace(design, result_lanes=fewer)) > -(-64 // design.lanes)


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_in_any_cycle(name: str) -> None:
    design, unit, books = DESIGNS[name], model(name), random_books(DESIGNS[name].codebook, SEED)
    stream, again = random_array(design, 40, SEED, longest=20), random_array(design, 8, SEED + 1, longest=20)
    wanted, illegal = array_results(design, books, again)
    cycles = array_cycles(design, again.first, again.last, again.emit)
    unit.run(load(design.codebook, books), {}).check()
    for at in range(1, 80, 1 if name == "nf4" else 3):
        broken = unit.run(pack_array(design, stream), None, stalls={"o": 0.4 * (at % 3)}, seed=at, limit=at,
                          partial=True, resume=True)
        assert broken.ports["busy"] and not broken.violation
        run = unit.run(pack_array(design, again), {"o": wanted.size // design.result_lanes}, reset_at=[0],
                       resume=True).check()
        compare_results(design, wanted, illegal, run, f"reset after {at}")
        compare_cycles(design, cycles, run, f"reset after {at}", from_cycle=1)
        assert run.ports["stalls"] == cycles.stalls


def one_block(design: CodebookArrayDesign, a: list[list[int]], code: list[list[int]], scale: float,
              mask: list[bool] | None = None) -> ArrayStream:
    """One sum of one block, a row or column for each list of codes."""
    chunks = len(a[0]) // design.lanes
    shape = (chunks, design.lanes)
    place = np.arange(chunks)
    step = np.zeros((1, design.columns, 2), np.float32)
    step[..., 0] = scale
    return ArrayStream(np.array(a).reshape(design.rows, *shape).transpose(1, 0, 2),
                       np.array(code).reshape(design.columns, *shape).transpose(1, 0, 2),
                       np.ones(shape, bool) if mask is None else np.array(mask).reshape(shape), place == 0,
                       place == chunks - 1, place == chunks - 1, place == 0, np.zeros((chunks, design.columns), int),
                       np.ones((chunks, design.columns), int), step.view(np.uint32))


def test_special_values() -> None:
    """NaN among the activations, in lanes that count and in masked ones; scales of NaN, infinity and zero."""
    design, unit = DESIGNS["nf4"], model("nf4")
    books = normal_books(design)[0]
    nan, one, zero = 0x7F, 0x38, 0
    code = [[15, 7], [0, 7]]                                  # 1 and 0; -1 and 0
    cases = [
        ([[one, one], [one, nan]], 2.0, None, [[2, -2], [np.nan, np.nan]]),
        ([[one, one], [one, nan]], 2.0, [True, False], [[2, -2], [2, -2]]),
        ([[one, one], [zero, zero]], np.inf, None, [[np.inf, -np.inf], [np.nan, np.nan]]),
        ([[one, one], [zero, one]], np.nan, None, [[np.nan, np.nan], [np.nan, np.nan]]),
        ([[one, one], [zero, one]], 0.0, None, [[0, 0], [0, 0]]),
        ([[0x7E, 0x7E], [0xFE, one]], 3e38, None, [[np.inf, -np.inf], [-np.inf, np.inf]]),
    ]
    for a, scale, mask, wanted in cases:
        run, values = check_array(design, unit, books, one_block(design, a, code, scale, mask))
        assert np.array_equal(values[0].view(np.float32), np.array(wanted, np.float32), equal_nan=True)
        # Zero is +0, NaN the canonical one.
        assert not (values == 1 << 31).any() and set(values[np.isnan(values.view(np.float32))]) <= {0x7FC00000}
        assert np.array_equal(unpack_results(design, run.outputs["o"])[0], values)


WRONG = {"a block within a block": {"first": slice(None, None, 3)}, "chunks outside of blocks": {"first": []},
         "blocks end within blocks": {"last": slice(None, None, 2)}}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_streams_are_told(what: str) -> None:
    design, change = DESIGNS["nf4"], WRONG[what]
    stream = random_array(design, 40, SEED, longest=20)
    for name, at in change.items():
        new = getattr(stream, name).copy()
        new[:-1 if name == "last" else None] = False
        new[at] = True
        stream = replace(stream, **{name: new})
    emit = stream.last & (stream.emit | (np.arange(len(stream.last)) % 3 == 0))
    emit[-1] = True
    renew = stream.renew & stream.first
    stream = replace(stream, emit=emit, renew=renew, second=stream.second[:renew.sum()])
    books = random_books(design.codebook, SEED)
    assert array_results(design, books, stream)[1]
    for stalls in ({}, {"w": 0.3, "o": 0.4}):
        check_array(design, model("nf4"), books, stream, stalls=stalls, seed=SEED)


def test_table_writes_wait_for_the_blocks_inside() -> None:
    design, unit = DESIGNS["nf4"], model("nf4")
    books, other = random_books(design.codebook, SEED), random_books(design.codebook, SEED + 2)
    stream = random_array(design, 1, SEED, longest=20)
    wanted, _ = array_results(design, books, stream)
    unit.run(load(design.codebook, books), {}).check()
    items, writes = pack_array(design, stream), load(design.codebook, other)
    # No activations: the block stays inside, and no entry is taken.
    begun = unit.run({"w": items["w"], "second": items["second"]}, {}, resume=True)
    assert len(begun.cycles["w"]) == len(items["w"]) and begun.ports["busy"]
    held = unit.run(writes, {"o": 1}, resume=True, partial=True, timeout=100)
    assert held.deadlock and not len(held.cycles["table"])
    ended = unit.run({"a": items["a"], **writes}, {"o": wanted.size}, resume=True).check()
    assert (unpack_results(design, ended.outputs["o"])[0] == wanted).all()
    assert ended.cycles["table"][0] > ended.cycles["a"][-1]
    again, _ = array_results(design, other, stream)
    run = unit.run(items, {"o": wanted.size}, resume=True).check()
    assert (unpack_results(design, run.outputs["o"])[0] == again).all() and (again != wanted).any()


def test_busy_until_the_last_result_is_taken() -> None:
    design, unit = DESIGNS["nf4"], model("nf4")
    stream = random_array(design, 3, SEED, emit=0.0)
    items, count = pack_array(design, stream), design.rows * design.columns
    unit.run(load(design.codebook, random_books(design.codebook, SEED)), {}).check()
    cut = int(np.flatnonzero(stream.last)[0]) + 1
    taken = int(stream.renew[:cut].sum())
    run = unit.run({"w": items["w"][:cut], "a": items["a"][:cut], "second": items["second"][:taken]}, {}, drain=100,
                   resume=True)
    assert run.ports["busy"]                            # a sum is open
    held = unit.run({"w": items["w"][cut:], "a": items["a"][cut:], "second": items["second"][taken:]}, {"o": count},
                    stalls={"o": 1.0}, resume=True, partial=True, timeout=200)
    assert held.ports["busy"]                           # results wait
    run = unit.run({}, {"o": count}, sample={"o": ["busy"]}, resume=True).check()
    assert run.samples["o"]["busy"].all() and not run.ports["busy"]


def test_the_check_finds_a_wrong_entry_and_a_wrong_cycle() -> None:
    design, unit, books = DESIGNS["nf4"], model("nf4"), normal_books(DESIGNS["nf4"])[0]
    stream = random_array(design, 20, SEED, specials=0)
    unit.run(load(design.codebook, books), {}).check()
    run = unit.run(pack_array(design, stream), None, resume=True)
    wrong = Codebooks(books.entries ^ (np.arange(16) == 5))
    with pytest.raises(BitkilnError, match="RTL and golden model differ at codebook_array.* values"):
        compare_results(design, *array_results(design, wrong, stream), run)
    cycles = array_cycles(design, stream.first, stream.last, stream.emit)
    with pytest.raises(BitkilnError, match=r"RTL and cycle model differ at .* stream o\[0\]"):
        compare_cycles(design, replace(cycles, o=cycles.o + 1), run)


def test_products_that_do_not_fit() -> None:
    design, zeros = DESIGNS["nf4"], np.zeros
    product = Product(zeros((2, 64), int), zeros((2, 64), int), 64, zeros((2, 1), int), zeros((2, 1), int),
                      zeros((2, 1, 2), np.uint32))
    for change, message in (({"w": zeros((2, 63), int)}, "wrong shape at w: got '63', expected 64"),
                            ({"block": 65}, "block too long at block: got 65, expected 1 to 64"),
                            ({"scale": zeros((2, 2), int)}, r"at scale: got '\(2, 2\)', expected \(2, 1\)")):
        with pytest.raises(BitkilnError, match=message):
            product_stream(design, replace(product, **change))
