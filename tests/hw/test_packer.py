"""Result packer and group reader against packing in Python integers, under random stalls."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from bitkiln.hw.mac.packer import GroupReader, ResultPacker
from bitkiln.models.design import ArrayDesign, MatmulDesign, MorphableDesign

SEED = 20


def design(bus: int, columns: int, lanes: int, **options) -> MatmulDesign:
    pe = MorphableDesign(("posit16_1", "int8", "int4"))
    return MatmulDesign(ArrayDesign(4, columns, pe), bus_bits=bus, output_lanes=lanes, **options)


def beats_of(row: list[int], width: int, bus: int) -> list[tuple[int, int]]:
    """(data, keep) of one row."""
    bits = sum(code << (at * width) for at, code in enumerate(row))
    size = len(row) * width
    out = []
    for low in range(0, size, bus):
        used = min(bus, size - low)
        out.append(((bits >> low) & ((1 << bus) - 1), (1 << -(-used // 8)) - 1))
    return out


CASES = [(32, 8, 1), (64, 8, 2), (64, 8, 8), (128, 8, 4), (32, 6, 2), (256, 2, 2), (64, 1, 1)]


@pytest.mark.parametrize(("bus", "columns", "lanes"), CASES)
def test_packer(bus, columns, lanes):
    chosen = design(bus, columns, lanes)
    packer = ResultPacker(chosen)
    rng = random.Random(SEED + bus + columns + lanes)
    jobs, wanted = [], []
    for _ in range(12):
        at = rng.randrange(len(packer.widths))
        width, rows = packer.widths[at], rng.randint(1, 4)
        groups = []
        for row in range(rows):
            codes = [rng.getrandbits(width) for _ in range(rng.randint(1, columns))]
            beats = beats_of(codes, width, bus)
            wanted += [(*beat, row == rows - 1 and n == len(beats) - 1) for n, beat in enumerate(beats)]
            for base in range(0, len(codes), lanes):
                end = base + lanes >= len(codes)
                groups.append((codes[base:base + lanes], end, end and row == rows - 1))
        jobs.append((at, groups))
    seen = []

    async def drive(ctx):
        for at, groups in jobs:
            ctx.set(packer.width, at)
            for codes, row_end, job_end in groups:
                while rng.random() < 0.2:
                    await ctx.tick()
                # Lanes beyond the row's end hold anything.
                filled = codes + [rng.getrandbits(packer.code_bits) for _ in range(lanes - len(codes))]
                ctx.set(packer.codes, sum(code << (n * packer.code_bits) for n, code in enumerate(filled)))
                ctx.set(packer.count, len(codes) - 1)
                ctx.set(packer.row_end, row_end)
                ctx.set(packer.job_end, job_end)
                ctx.set(packer.valid, 1)
                *_, ready = await ctx.tick().sample(packer.ready)
                while not ready:
                    *_, ready = await ctx.tick().sample(packer.ready)
                ctx.set(packer.valid, 0)

    async def sink(ctx):
        while len(seen) < len(wanted):
            ctx.set(packer.o.ready, rng.random() < 0.6)
            *_, valid, ready, payload = await ctx.tick().sample(packer.o.valid, packer.o.ready, packer.o.payload)
            if valid and ready:
                seen.append((payload.data, payload.keep, bool(payload.last)))

    simulator = Simulator(packer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.add_testbench(sink)
    simulator.run_until(2e-2)
    assert len(wanted) > 20
    assert seen == wanted


@pytest.mark.parametrize(("bus", "columns", "lanes"), CASES)
def test_reader(bus, columns, lanes):
    chosen = design(bus, columns, lanes)
    reader = GroupReader(chosen)
    raw = chosen.raw_bits
    rng = random.Random(SEED + bus + columns + lanes)
    groups, beats = [], []
    for _ in range(40):
        codes = [rng.getrandbits(raw) for _ in range(rng.randint(1, columns))]
        beats += [data for data, _ in beats_of(codes, raw, bus)]
        for base in range(0, len(codes), lanes):
            groups.append((codes[base:base + lanes], base + lanes >= len(codes)))
    checked = []

    async def source(ctx):
        for data in beats:
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(reader.i.payload, data)
            ctx.set(reader.i.valid, 1)
            *_, ready = await ctx.tick().sample(reader.i.ready)
            while not ready:
                *_, ready = await ctx.tick().sample(reader.i.ready)
            ctx.set(reader.i.valid, 0)

    async def sink(ctx):
        for codes, row_end in groups:
            # Before the group is wanted, its size may be anything.
            ctx.set(reader.wanted, 0)
            while rng.random() < 0.3:
                ctx.set(reader.count, rng.randrange(lanes))
                ctx.set(reader.row_end, rng.randrange(2))
                await ctx.tick()
            ctx.set(reader.wanted, 1)
            ctx.set(reader.count, len(codes) - 1)
            ctx.set(reader.row_end, row_end)
            while True:
                await ctx.delay(1e-8)
                take = bool(ctx.get(reader.valid)) and rng.random() < 0.6
                ctx.set(reader.take, take)
                *_, group = await ctx.tick().sample(reader.group)
                ctx.set(reader.take, 0)
                if take:
                    break
            assert [group >> (n * raw) & ((1 << raw) - 1) for n in range(len(codes))] == codes
            checked.append(codes)

    simulator = Simulator(reader)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(sink)
    simulator.run_until(5e-3)
    assert len(checked) == len(groups)
