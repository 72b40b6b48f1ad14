# amaranth: UnusedElaboratable=no
"""Codebook dequantiser: every code of every table, blocks under random stalls, table writes, resets, wrong streams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Shape

from bitkiln.host.packing import pack_w
from bitkiln.hw.dequant.codebook import CodebookDequantiser
from bitkiln.hw.dequant.queue import Queue
from bitkiln.models.cost.cycles.codebook import codebook_cycles, wait_cycles
from bitkiln.models.design import ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.codebook import CodebookDesign, dynamic_levels
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.codebook import (
    ChunkStream,
    Codebooks,
    chunks_of,
    dequantise,
    second_level,
    table_codes,
)
from bitkiln.models.quantize.normal_float import nf
from bitkiln.sim.codebook_check import (
    check_chunks,
    compare,
    load,
    pack_chunks,
    random_books,
    random_chunks,
    table_words,
    unpack_words,
)
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 71
DESIGNS = {
    "squeezellm": CodebookDesign("fp16", tables=8, word_bits=128),
    "registers": CodebookDesign("posit8_0", lanes=2, code_bits=3, tables=3, scale="fp32", store="registers"),
    "nf4": CodebookDesign("fp8_e4m3", lanes=8, scale="uint8", store="registers"),
    "qlora": CodebookDesign("int5", tables=5, scale="table8", offset=True, word_bits=60),
    "symmetric": CodebookDesign("bf16", lanes=1, scale="int8", offset=True),
}


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([CodebookDequantiser(design) for design in DESIGNS.values()]), strict=True))


def part(stream: ChunkStream, chunks: slice, second: slice = slice(None)) -> ChunkStream:
    """Some chunks of a stream."""
    names = ("codes", "mask", "first", "last", "table", "scale", "renew")
    return ChunkStream(*(getattr(stream, name)[chunks] for name in names), stream.second[second])


@pytest.mark.parametrize("name", DESIGNS)
def test_every_code_of_every_table_in_every_lane(name: str, models: dict[str, StreamModel]) -> None:
    design, books = DESIGNS[name], random_books(DESIGNS[name], SEED)
    codes = np.arange(design.entries * design.lanes) // design.lanes    # each code in all lanes
    streams = chunks_of(design, np.tile(codes, design.tables), np.full(design.tables, len(codes)),
                        np.arange(design.tables), renew=np.arange(design.tables) == 0,
                        second=np.array([[0x3F800000, 0]], np.uint32))
    # Each bit of each entry is once 0 and once 1.
    for entries in (books.entries, books.entries ^ ((1 << design.output.bits) - 1)):
        run = check_chunks(design, models[name], replace(books, entries=entries), streams, resume=True)
        # The last word of a table may not be full.
        found = unpack_words(design, run.outputs["o"])["entries"].reshape(design.tables, -1)[:, :len(codes)]
        assert (found == np.repeat(entries, design.lanes, axis=1)).all()


@pytest.mark.parametrize("name", DESIGNS)
def test_random_blocks_in_the_cycles_of_the_model(name: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    assert CodebookDequantiser(design).wait == wait_cycles(design)
    run = check_chunks(design, models[name], random_books(design, SEED), random_chunks(design, 400, SEED))
    # A chunk each cycle, and nothing behind them but the wait.
    assert run.cycles["i"][-1] == len(run.cycles["i"]) - 1
    assert run.cycles["o"][-1] <= run.cycles["i"][-1] + wait_cycles(design) + 1 and len(run.cycles["o"]) >= 400


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("slow", ["all", "i", "o", "second"])
def test_random_blocks_under_stalls(name: str, slow: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    streams = [*model.inputs, *model.outputs]
    stalls = dict.fromkeys(streams, 0.4) if slow == "all" else {slow: 0.9} if slow in streams else {"i": 0.1}
    run = check_chunks(design, model, random_books(design, SEED + 1), random_chunks(design, 150, SEED + 1, 40),
                       stalls=stalls, seed=SEED)
    assert len(run.cycles["o"]) >= 150 and not run.ports["busy"]


@pytest.mark.parametrize("name", DESIGNS)
def test_blocks_of_one_chunk_fill_both_queues(name: str, models: dict[str, StreamModel]) -> None:
    design = DESIGNS[name]
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(1, design.lanes + 1, 300)
    some = random_chunks(design, 300, SEED)
    stream = chunks_of(design, rng.integers(0, design.entries, lengths.sum()), lengths,
                       rng.integers(0, design.tables, 300), some.scale[some.first], some.renew[some.first], some.second)
    check_chunks(design, models[name], books := random_books(design, SEED), stream)
    run = check_chunks(design, models[name], books, stream, stalls={"o": 0.7}, seed=SEED)
    # Words wait at the output, chunks and scales until there is no room for another.
    behind = np.arange(300) - np.searchsorted(run.cycles["o"], run.cycles["i"], side="left")
    assert behind.max() == CodebookDequantiser(design).depth


@pytest.mark.parametrize("name", ["squeezellm", "registers", "qlora"])
def test_busy_from_a_first_chunk_to_the_last_word(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    count = 3 * design.chunks
    stream = chunks_of(design, np.zeros(count * design.lanes, int), np.array([count * design.lanes]), scale=1,
                       renew=True, second=np.zeros((1, 2)))
    items = pack_chunks(design, stream)
    assert not model.run({}, {}).ports["busy"]
    first = model.run(items | {"i": items["i"][:1]}, {}, stalls={"o": 1.0}, resume=True)
    assert first.ports["busy"]                                            # it is open
    held = {"stalls": {"o": 1.0}, "partial": True, "timeout": 100, "drain": 0, "resume": True}
    run = model.run({"i": items["i"][1:]}, {"o": 1}, **held)
    assert run.ports["busy"]                                              # words in the queue and at the output
    run = model.run({"i": items["i"][1 + len(run.cycles["i"]):]}, {"o": 2}, drain=0, resume=True)
    assert run.ports["busy"]
    run = model.run({}, {"o": 1}, sample={"o": ["busy"]}, resume=True)
    assert run.samples["o"]["busy"].all() and not run.ports["busy"]


def test_table_writes_wait_until_the_unit_is_idle(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["qlora"], models["qlora"]
    books, other = random_books(design, SEED), random_books(design, SEED + 2)
    codes = np.random.default_rng(SEED).integers(0, 16, 30)
    stream = chunks_of(design, codes, np.array([30]), 3, 99, True, np.array([[0x3F800000, 0x40000000]], np.uint32))
    wanted = dequantise(design, books, stream)
    model.run(load(design, books), {}).check()
    items, writes = pack_chunks(design, stream), load(design, other)
    begun = model.run({"i": items["i"][:-1], "second": items["second"]}, {"o": len(wanted.last) - 1}, resume=True)
    assert begun.ports["busy"]
    # Offered for a while inside the block: none is taken.
    held = model.run(writes, {}, resume=True, partial=True, timeout=200)
    assert held.deadlock and not len(held.cycles["table"]) and not len(held.cycles["level"])
    # The block's end, and its last word held back: still none, and the old entries count.
    held = model.run(writes | {"i": items["i"][-1:]}, {"o": 1}, stalls={"o": 1.0}, resume=True, partial=True,
                     timeout=200)
    assert not len(held.cycles["table"]) and not len(held.cycles["level"])
    ended = model.run(writes, {"o": 1}, stalls={"o": 0.9}, seed=SEED, resume=True).check()
    assert (ended.cycles["table"] > ended.cycles["o"][0]).all() and (ended.cycles["level"] > ended.cycles["o"][0]).all()
    words = np.concatenate([begun.outputs["o"], ended.outputs["o"]])
    compare(design, wanted, replace(ended, outputs={"o": words}))
    again = dequantise(design, other, stream)
    compare(design, again, model.run(items, {"o": len(again.last)}, resume=True).check())


def test_blocks_use_the_entries_that_were_written_when_they_began(models: dict[str, StreamModel]) -> None:
    """Writes between blocks at random, also in the cycle that takes a first chunk."""
    design, model = DESIGNS["squeezellm"], models["squeezellm"]
    rng = np.random.default_rng(SEED)
    model.run(load(design, books := random_books(design, SEED)), {}).check()
    count = 600
    where = rng.integers(0, design.tables * design.entries, count)
    values = rng.integers(0, 1 << 16, count)
    entries = books.entries.reshape(-1)
    writes = (where & 15) << 3 | where >> 4 | values << 7
    stream = random_chunks(design, 500, SEED, 12)
    run = model.run({"i": pack_chunks(design, stream)["i"], "table": writes.astype(np.uint64)}, {"o": 500},
                    stalls={"i": 0.85, "table": 0.3}, seed=SEED, sample={"table": ["busy"]}, resume=True)
    assert not run.violation and not run.samples["table"]["busy"].any()
    taken, written = run.cycles["i"], run.cycles["table"]
    assert np.isin(taken[stream.first], written).sum() > 10     # both in one cycle
    words, done = [], 0
    blocks = np.flatnonzero(stream.first)
    for start, stop in zip(blocks, [*blocks[1:], len(stream.first)], strict=True):
        now = int(np.searchsorted(written, taken[start], side="right"))
        for n in range(done, now):
            entries[where[n]] = values[n]
        done = max(done, now)
        wanted = dequantise(design, Codebooks(entries.reshape(books.entries.shape)), part(stream, slice(start, stop)))
        words.append(wanted.entries)
    assert done > 100
    assert (unpack_words(design, run.outputs["o"])["entries"] == np.concatenate(words)).all()


@pytest.mark.parametrize("name", ["squeezellm", "qlora", "symmetric"])
def test_a_reset_clears_everything_but_the_tables(name: str, models: dict[str, StreamModel]) -> None:
    design, model, books = DESIGNS[name], models[name], random_books(DESIGNS[name], SEED)
    stream = random_chunks(design, 60, SEED, 60)
    items = pack_chunks(design, stream)
    for at in (7, 40, 101):
        model.run(load(design, books), {}).check()
        run = model.run(items, None, stalls={"i": 0.1, "o": 0.3}, seed=SEED, reset_at=[at], resume=True)
        assert not run.violation
        before = int((run.cycles["i"] < at).sum())
        renewed = int((run.cycles["second"] < at).sum()) if "second" in run.cycles else 0
        first = dequantise(design, books, part(stream, slice(before)))
        words = unpack_words(design, run.outputs["o"])
        kept = int((run.cycles["o"] < at).sum())
        assert 0 < before < len(stream.first) and kept <= len(first.last)
        assert (words["entries"][:kept] == first.entries[:kept]).all()
        # Behind the reset: as if the rest were all there is; a block's rest without its beginning is told.
        rest = dequantise(design, books, part(stream, slice(before, None), slice(renewed, None)))
        compare(design, rest, replace(run, outputs={"o": run.outputs["o"][kept:]}))
        assert rest.illegal == (not stream.first[before])


@pytest.mark.parametrize("name", DESIGNS)
def test_a_reset_in_any_cycle(name: str, models: dict[str, StreamModel]) -> None:
    design, model, books = DESIGNS[name], models[name], random_books(DESIGNS[name], SEED)
    stream, again = random_chunks(design, 60, SEED, 30), random_chunks(design, 8, SEED + 1, 30)
    wanted = dequantise(design, books, again)
    for at in range(1, 40):
        model.run(load(design, books), {}, resume=at > 1).check()
        broken = model.run(pack_chunks(design, stream), None, stalls={"o": 0.4 * (at % 3)}, seed=at, limit=at,
                           partial=True, resume=True)
        assert broken.ports["busy"] and not broken.violation
        run = model.run(pack_chunks(design, again), {"o": len(wanted.last)}, reset_at=[0], resume=True).check()
        compare(design, wanted, run)
        accepted, words = codebook_cycles(design, again.first, wanted.chunk)
        assert (run.cycles["i"] == accepted + 1).all() and (run.cycles["o"] == words + 1).all()


WRONG = {"a block within a block": {"first": slice(None, None, 3)}, "chunks outside of blocks": {"first": []},
         "no block ever ends": {"last": []}, "a table that is not there": {"table": 7}}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_streams_are_told_and_do_as_documented(what: str, models: dict[str, StreamModel]) -> None:
    design, change = DESIGNS["qlora"], WRONG[what]
    stream = random_chunks(design, 30, SEED)
    for name, value in change.items():
        new = getattr(stream, name).copy()
        if name == "table":
            new[::3] = value
        else:
            new[:] = False
            new[value] = True
        stream = replace(stream, **{name: new})
    if "first" in change:
        renew = stream.renew & stream.first
        stream = replace(stream, renew=renew, second=stream.second[:renew.sum()])
    books = random_books(design, SEED)
    for stalls in ({}, {"i": 0.3, "o": 0.3}):
        # From power-up: table 0 and a step of 0 where no block has begun.
        models["qlora"].run(load(design, books), {}).check()
        wanted = dequantise(design, books, stream)
        run = models["qlora"].run(pack_chunks(design, stream), {"o": len(wanted.last)}, stalls=stalls, seed=SEED,
                                  resume=True).check()
        assert wanted.illegal and len(wanted.last) > 30
        compare(design, wanted, run)


def test_entries_of_a_table_that_is_not_there_are_dropped(models: dict[str, StreamModel]) -> None:
    for name in ("registers", "qlora"):
        design, model = DESIGNS[name], models[name]
        tables = 1 << design.select_bits
        books = random_books(design, SEED)
        model.run(load(design, books), {}).check()
        written = model.run({"table": table_words(design, np.full((tables, design.entries), 1))[
            design.tables * design.entries:]}, {}, resume=True)
        assert written.ports["illegal"]
        stream = random_chunks(design, 20, SEED)
        wanted = dequantise(design, books, replace(stream, table=np.where(stream.table == 1, tables - 1, stream.table)))
        run = model.run(pack_chunks(design, replace(stream, table=np.where(stream.table == 1, tables - 1,
                                                                           stream.table))),
                        {"o": len(wanted.last)}, resume=True)
        compare(design, wanted, run)
        assert (wanted.entries[:, 0] == 0).any()


def test_words_are_the_rows_that_the_matmul_core_reads(models: dict[str, StreamModel]) -> None:
    """Any K, elements packed tight, rows of whole beats."""
    core = MatmulDesign(ArrayDesign(2, 4, MorphableDesign(("fp8_e4m3", "int4"))), bus_bits=64)
    design, model = DESIGNS["nf4"], models["nf4"]
    assert design.word_bits == core.bus_bits
    rng, books = np.random.default_rng(SEED), random_books(design, SEED)
    model.run(load(design, books), {}).check()
    for k in (1, 8, 37, 64):
        codes = rng.integers(0, 16, (5, k))
        stream = chunks_of(design, codes.ravel(), np.full(5, k))
        run = model.run({"i": pack_chunks(design, stream)["i"]}, {"o": 5 * -(-k // 8)}, resume=True).check()
        job = Job("fp8_e4m3", 2, k, 5, order="w")
        beats = pack_w(core, job, books.entries[0][codes])
        found = unpack_words(design, run.outputs["o"])["entries"].astype(np.uint8)
        assert np.array_equal(found, beats)


def test_nf4_with_doubly_quantised_scales_of_a_real_quantiser(models: dict[str, StreamModel]) -> None:
    """Weights of ``nf(double=True)``: entries of the table, and each block's scale to float32."""
    design, model = DESIGNS["nf4"], models["nf4"]
    weights = np.random.default_rng(SEED).standard_t(4, (6, 512))
    q = nf(weights, 4, 64, double=True)
    books = Codebooks(table_codes(design, np.array([get_format("nf4").decode(np.arange(16))])))
    blocks = q.scale_codes.size
    # One float32 for 256 blocks here; the unit takes a new one whenever a block says so.
    steps = q.channel_scale.view(np.uint32)
    renew = np.arange(blocks) % q.scale_block == 0
    stream = chunks_of(design, q.codes.ravel(), np.full(blocks, 64), scale=q.scale_codes.ravel(), renew=renew,
                       second=np.stack([steps, np.zeros_like(steps)], axis=1))
    run = check_chunks(design, model, books, stream)
    words = unpack_words(design, run.outputs["o"])
    scale = words["scale"].astype(np.uint32).view(np.float32)[words["first"].astype(bool)]
    assert np.array_equal(scale, q.scale.ravel().astype(np.float32))
    found = design.output.decode(words["entries"]).reshape(blocks, 64) * scale[:, None].astype(np.float64)
    # Entries have 3 bits behind the point: within 1/16 of the exact weight each.
    exact = q.dequantise().reshape(blocks, 64)
    assert (np.abs(found - exact) <= np.abs(exact) / 16).all() and found.any()


def test_scales_as_qlora_stores_them(models: dict[str, StreamModel]) -> None:
    """Mean taken off, 8-bit dynamic tree code, step: 256 codes through the RTL against plain float32 arithmetic."""
    design, model = DESIGNS["qlora"], models["qlora"]
    levels = dynamic_levels()
    scales = np.abs(np.random.default_rng(SEED).normal(0.02, 0.005, 256)).astype(np.float32)
    offset = scales.mean(dtype=np.float32)
    step = np.abs(scales - offset).max()
    codes = np.abs(levels[:, None] - ((scales - offset) / step)).argmin(axis=0)
    second = np.array([[step, offset]], np.float32).view(np.uint32)
    stream = chunks_of(design, np.zeros(256 * 8, int), np.full(256, 8), scale=codes,
                       renew=np.arange(256) == 0, second=second)
    run = check_chunks(design, model, Codebooks(random_books(design, SEED).entries, levels), stream)
    found = unpack_words(design, run.outputs["o"])["scale"].astype(np.uint32).view(np.float32)
    assert np.array_equal(found, levels[codes] * step + offset) and len(set(codes)) > 60
    assert np.abs(found - scales).max() < 0.02 * step


@pytest.mark.parametrize("name", ["nf4", "qlora", "symmetric"])
def test_scales_of_every_kind_of_number(name: str, models: dict[str, StreamModel]) -> None:
    """Zeros, subnormals, neighbours of powers of two, the largest, infinities and NaN, of either sign, all together."""
    design, rng = DESIGNS[name], np.random.default_rng(SEED)
    half = np.array([0, 1, 0x7FFFFF, 0x800000, 0x800001, 0x3F7FFFFF, 0x3F800000, 0x3FC00000, 0x42FEDCBA, 0x7F7FFFFF,
                     0x7F800000, 0x7F800001, 0x7FC00000, *rng.integers(0x00800000, 0x7F800000, 3)], np.uint32)
    floats = np.concatenate([half, half | np.uint32(1 << 31)])
    codes = np.array([0, 1, 3, 127, 128, 129, 255] if design.scale != "table8" else range(len(floats)))
    levels = np.resize(floats, 256).view(np.float32)
    code, step, offset = (part.ravel() for part in np.meshgrid(codes, floats, floats, indexing="ij"))
    # Also sums that nearly or wholly cancel.
    near = second_level(design.with_options(offset=False), code, step, levels=levels)
    offset = np.where(rng.random(len(code)) < 0.3, (near ^ (1 << 31)) + rng.integers(-1, 2, len(code)), offset)
    count = len(code)
    stream = chunks_of(design, np.zeros(count, int), np.ones(count, int), scale=code, renew=True,
                       second=np.stack([step, offset], axis=1))
    run = check_chunks(design, models[name], Codebooks(random_books(design, SEED).entries, levels), stream)
    scale = unpack_words(design, run.outputs["o"])["scale"]
    assert count > 7000 and len(np.unique(scale)) > 100 and {0x80000000, 0x7F800000, 0x7FC00000} <= set(scale.tolist())


def test_the_check_finds_a_wrong_entry(models: dict[str, StreamModel]) -> None:
    design, books = DESIGNS["registers"], random_books(DESIGNS["registers"], SEED)
    stream = random_chunks(design, 40, SEED)
    models["registers"].run(load(design, books), {}).check()
    run = models["registers"].run(pack_chunks(design, stream), None, resume=True)
    wrong = Codebooks(books.entries ^ (np.arange(books.entries.size).reshape(books.entries.shape) == 5))
    with pytest.raises(BitkilnError, match="RTL and golden model differ"):
        compare(design, dequantise(design, wrong, stream), run)


def test_queue_depths() -> None:
    for depth in (0, 1, 3, 12):
        with pytest.raises(ValueError, match=f"power of two, 2 or more, not {depth}"):
            Queue(Shape(8), depth)
    # Never shorter than what arrives while a scale is computed.
    for design in DESIGNS.values():
        unit = CodebookDequantiser(design)
        assert unit.depth > unit.wait and unit.latency == unit.wait + 1
