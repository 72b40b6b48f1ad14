# amaranth: UnusedElaboratable=no
"""Gather-MAC-scatter: exact sums under random stalls, the event model's cycles and counters, zeros that never count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from bitkiln.hw.spconv.gather import ROWS, GatherCore, sum_layout
from bitkiln.models.cost.spconv.gather import gather_cycles, lane_loads
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.gather import WorkStream, gather, something
from bitkiln.sim.bitserial_check import bits_of
from bitkiln.sim.gather_check import (
    GatherBench,
    check_gather,
    check_stuck,
    compare_counters,
    compare_cycles,
    compare_sums,
    interleaved_work,
    load,
    pack_work,
    random_features,
    random_weights,
    random_work,
)
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 83
SIZES = {"feature_words": 512, "mask_rows": 64, "index_bits": 6}
ITEM, ROW = {**SIZES, "pack": "item"}, {**SIZES, "pack": "row", "slots": 1}
DESIGNS = {
    "int8 item": GatherDesign(lanes=4, outputs=2, channels=16, slots=8, weight_tiles=27, pipeline=2, **ITEM),
    "int8 row": GatherDesign(lanes=4, outputs=8, channels=8, window=2, weight_tiles=27, pipeline=0, **ROW),
    "fp8 item": GatherDesign("fp8_e4m3", "fp8_e4m3", lanes=2, outputs=2, channels=6, slots=4, weight_tiles=5, **ITEM),
    "posit row": GatherDesign("posit8_0", "posit8_0", lanes=2, outputs=1, channels=4, window=4, weight_tiles=9,
                              pipeline=3, **ROW),
}
MORE = {
    "pairs": GatherDesign(lanes=8, outputs=16, channels=16, slots=16, weight_tiles=27, pipeline=3, multiplier="pairs",
                          **ITEM),
    "pairs row": GatherDesign("int8", "int4", lanes=1, outputs=2, channels=3, window=32, weight_tiles=3, pipeline=1,
                              multiplier="pairs", **ROW),
    "one slot": GatherDesign("uint8", "int6", lanes=4, outputs=1, channels=4, slots=1, weight_tiles=2, pipeline=6,
                             **ITEM),
    "one lane": GatherDesign("int5", "uint4", lanes=1, outputs=1, channels=8, slots=2, weight_tiles=3, pipeline=4,
                             **ITEM),
    "infinities": GatherDesign("fp8_e5m2", "fp8_e5m2", lanes=2, outputs=8, channels=8, window=8, weight_tiles=5, **ROW),
    "ternary": GatherDesign("int8", "ternary", lanes=4, outputs=2, channels=8, slots=4, weight_tiles=5, **ITEM),
    "wide": GatherDesign("posit16_1", "fp16", lanes=2, outputs=1, channels=4, slots=2, weight_tiles=5, pipeline=6,
                         **ITEM),
    "operator": GatherDesign("int16", "int12", lanes=2, outputs=2, channels=8, window=8, weight_tiles=9, pipeline=4,
                             multiplier="operator", **ROW),
    "wide lanes": GatherDesign(lanes=16, outputs=2, channels=48, window=8, weight_tiles=27, pipeline=2, **ROW),
}
STALLS = ({}, {"i": 0.4}, {"o": 0.9}, {"i": 0.3, "o": 0.5})


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([GatherBench(design) for design in DESIGNS.values()]), strict=True))


def contents(design: GatherDesign, groups: int, rng: np.random.Generator, zeros: float = 0.5,
             specials: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Features and weights; weights are NaN or infinite more often than features are."""
    return (random_features(design.activation, 48, groups * design.lanes, rng, zeros=zeros, specials=specials / 4),
            random_weights(design, rng, specials=specials))


def various(design: GatherDesign, model: StreamModel, rng: np.random.Generator) -> list[int]:
    """Runs with all numbers of groups, few and many zeros, rows in tiles or alone, under stalls. Rows of each."""
    counts = []
    for at, groups in enumerate(sorted({1, max(design.groups // 2, 1), design.groups})):
        for zeros in (0.0, 0.5, 0.9):
            features, weights = contents(design, groups, rng, zeros)
            tile = design.slots if at else min(3, design.slots)
            work = random_work(design, 60, len(features), rng, pairs=(0.7, 5, 12)[at], tile=tile)
            for stalls in (STALLS[0], STALLS[1 + (at + int(2 * zeros)) % 3]):
                # Bases with low bits and, under stalls, the highest ones; 48 of 64 rows are used.
                run, _ = check_gather(design, model, work, features, weights, stalls=stalls, seed=SEED,
                                      base=7 * at + 320 * bool(stalls), stride=groups + at,
                                      mask_base=16 if stalls else 3 * at)
                assert not stalls.get("o") or "o" not in stalls or run.total
                counts.append(len(run.outputs["o"]))
    return counts


@pytest.mark.parametrize("name", DESIGNS)
def test_sums_cycles_and_counters(name: str, models: dict[str, StreamModel]) -> None:
    print("seed", SEED)
    counts = various(DESIGNS[name], models[name], np.random.default_rng(SEED))
    assert len(counts) >= 12 and min(counts) == max(counts) == 60


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_formats_and_sizes(name: str) -> None:
    design = MORE[name]
    counts = various(design, StreamModel(GatherBench(design)), np.random.default_rng(SEED))
    assert len(counts) >= 6 and min(counts) == max(counts) == 60


@pytest.mark.parametrize("name", ["int8 item", "fp8 item"])
def test_slots_that_come_back_at_once(name: str, models: dict[str, StreamModel]) -> None:
    """One, two, three items after each other to one row, of one or several cycles; rows end and begin between."""
    design, rng = DESIGNS[name], np.random.default_rng(SEED)
    distances: set[int] = set()
    for zeros, groups in ((0.5, 1), (0.9, 1), (0.5, design.groups), (0.9, design.groups)):
        features, weights = contents(design, groups, rng, zeros)
        work = interleaved_work(design, 400, len(features), rng)
        for stalls in STALLS:
            run, _ = check_gather(design, models[name], work, features, weights, stalls=stalls, seed=SEED)
            assert len(run.outputs["o"]) == work.final.sum() > 60
        again = [np.flatnonzero(work.slot == slot) for slot in range(design.slots)]
        distances |= set(np.concatenate([np.diff(each) for each in again]).tolist())
    assert distances >= {1, 2, 3, 4}


def test_every_format_knows_its_zeros() -> None:
    for name, zeros in (("int8", [0]), ("fp8_e4m3", [0, 128]), ("posit8_0", [0]), ("ternary", [0])):
        fmt = get_format(name)
        assert np.flatnonzero(~something(fmt, np.arange(1 << fmt.bits))).tolist() == zeros
    assert something(get_format("posit8_0"), np.array([128])).all()     # NaR
    assert something(get_format("fp8_e4m3"), np.array([127, 255])).all()     # NaN


@pytest.mark.parametrize("name, nan", [("fp8 item", 0x7F), ("posit row", 0x80)])
def test_a_zero_adds_nothing_whatever_its_weight(name: str, nan: int, models: dict[str, StreamModel]) -> None:
    """NaN weights meet zeros of both signs, in lanes that others keep waiting; then one NaN meets something."""
    design, rng = DESIGNS[name], np.random.default_rng(SEED)
    channels = design.channels
    features = random_features(design.activation, 48, channels, rng, zeros=0.0, empty=0.0)
    none = rng.random(features.shape) < 0.5
    features = np.where(none, rng.choice([0, 0x80] if nan == 0x7F else [0], features.shape), features)
    weights = np.full((design.weight_tiles, design.outputs, channels), nan)
    # Row n meets tile n with NaN wherever its channel is zero.
    work = random_work(design, 40, len(features), rng, pairs=2, tile=1)
    work = replace(work, source=work.weight.copy())
    for tile in range(design.weight_tiles):
        weights[tile] = np.where(none[tile], nan, rng.integers(1, 0x70, (design.outputs, channels)))
    wanted = gather(design, work, features, weights)
    assert not wanted.nan.any() and none[:design.weight_tiles].any() and (wanted.value != 0).any()
    check_gather(design, models[name], work, features, weights)
    check_gather(design, models[name], work, features, weights, stalls=STALLS[3], seed=SEED)
    tile, channel = np.argwhere(~none[:design.weight_tiles])[0]
    weights[tile, 0, channel] = nan
    wanted = gather(design, work, features, weights)
    met = work.out[work.pair & (work.source == tile)]
    assert np.array_equal(np.unique(wanted.out[wanted.nan[:, 0]]), np.unique(met))
    assert 0 < wanted.nan[:, 0].sum() < 40 and not wanted.nan[:, 1:].any()
    check_gather(design, models[name], work, features, weights)
    # A NaN (or NaR) among the features is something, whatever it meets.
    features[0, 0] = nan
    weights[0, :, 0] = 0
    wanted = gather(design, work, features, weights)
    assert wanted.nan[np.isin(wanted.out, work.out[work.pair & (work.source == 0)])].all()
    check_gather(design, models[name], work, features, weights)


def job_of(design: GatherDesign, groups: int, **more) -> dict[str, int]:
    return {"groups": groups, "in_base": 0, "in_stride": groups, "mask_base": 0, "clear": 0, **more}


@pytest.mark.parametrize("name", DESIGNS)
def test_jobs_without_rows_and_rows_without_pairs(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    rng = np.random.default_rng(SEED)
    features, weights = contents(design, 1, rng, specials=0)
    none, one = np.zeros(1, np.int64), np.ones(1, bool)
    end = WorkStream(none, none, none, none, ~one, ~one, ~one, ~one, one)
    run, cycles = check_gather(design, model, end, features, weights)
    assert len(run.outputs["o"]) == 1 and cycles.items == run.ports["items"] == 0
    layout = sum_layout(design)
    assert [bits_of(run.outputs["o"], layout[name].offset, 1).tolist() for name in ("row", "last")] == [[0], [1]]
    # Rows without any pair, and rows whose pairs are all zero.
    features[:] = 0
    work = random_work(design, 50, len(features), rng, pairs=1)
    assert (~work.pair).any() and work.pair.any()
    run, cycles = check_gather(design, model, work, features, weights)
    assert cycles.issued == 0 and cycles.items == cycles.dropped == work.pair.sum() and len(run.outputs["o"]) == 50
    sums = bits_of(run.outputs["o"], layout["sums"].offset, design.sum_bits * design.outputs)
    assert not sums.any()


@pytest.mark.parametrize("name", ["int8 item", "posit row"])
def test_a_reset_in_any_cycle_forgets_everything(name: str, models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS[name], models[name]
    rng = np.random.default_rng(SEED)
    features, weights = contents(design, design.groups, rng)
    held = job_of(design, design.groups)
    first, again = (random_work(design, rows, len(features), rng, pairs=3) for rows in (60, 12))
    wanted = gather(design, again, features, weights)
    cycles = gather_cycles(design, again, lane_loads(design, again, features), design.groups)
    model.run(load(design, features, weights), held=held).check()
    for at in range(1, 70):
        broken = model.run({"i": pack_work(design, first)}, None, stalls={"o": 0.6 * (at % 2)}, seed=at, held=held,
                           limit=at, partial=True, resume=True)
        assert broken.deadlock and broken.ports["busy"]
        run = model.run({"i": pack_work(design, again)}, {"o": len(wanted.out)}, held=held, reset_at=[0],
                        resume=True).check()
        compare_sums(design, wanted, run.outputs["o"])
        compare_counters(design, cycles, run)
        # As from power-up, a cycle later.
        compare_cycles(design, cycles, replace(run, cycles={key: each - 1 for key, each in run.cycles.items()}))


@pytest.mark.parametrize("name", DESIGNS)
def test_items_that_come_late(name: str, models: dict[str, StreamModel]) -> None:
    """The event model from the cycles in which items were taken gives the same outputs."""
    design, model = DESIGNS[name], models[name]
    rng = np.random.default_rng(SEED)
    features, weights = contents(design, design.groups, rng)
    work = random_work(design, 80, len(features), rng)
    model.run(load(design, features, weights), held=job_of(design, design.groups)).check()
    for share in (0.1, 0.6, 0.9):
        run = model.run({"i": pack_work(design, work)}, {"o": 80}, stalls={"i": share}, seed=SEED,
                        held=job_of(design, design.groups, clear=0), resume=True, reset_at=[0]).check()
        cycles = gather_cycles(design, work, lane_loads(design, work, features), design.groups,
                               offered=run.cycles["i"].astype(np.int64))
        compare_cycles(design, cycles, run)
        compare_counters(design, cycles, run)


def test_an_output_that_nobody_takes_stops_the_lanes(models: dict[str, StreamModel]) -> None:
    for name, model in models.items():
        design = DESIGNS[name]
        rng = np.random.default_rng(SEED)
        features, weights = contents(design, 1, rng, specials=0)
        work = random_work(design, 60, len(features), rng, pairs=2)
        run = check_stuck(design, model, work, features, weights)
        assert run.deadlock and run.ports["busy"] and run.ports["stalls"] > 400 and not len(run.outputs["o"])
        # What is inside stays, and nothing more comes in.
        assert ROWS <= len(run.cycles["i"]) < len(work) and run.cycles["i"][-1] < 400


class Watched(wiring.Component):
    """The bench, and whether weights of a tile are read once it is released; tiles are released in order."""

    def __init__(self, design: GatherDesign):
        self.design, self.bench = design, GatherBench(design)
        super().__init__({**self.bench.signature.members, "late": Out(1)})

    @property
    def module_name(self) -> str:
        return f"watched_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.bench = bench = self.bench
        for name, member in bench.signature.members.items():
            mine, theirs = getattr(self, name), getattr(bench, name)
            if member.is_signature:
                pair = (wiring.flipped(mine), theirs) if member.flow == wiring.In else (theirs, wiring.flipped(mine))
                wiring.connect(m, *pair)
            else:
                m.d.comb += theirs.eq(mine) if member.flow == wiring.In else mine.eq(theirs)
        unit, gone = bench.core.unit, bench.releases + bench.released
        for lane in range(self.design.lanes):
            with m.If(unit.weight_en[lane] & (unit.read_weight[lane] < gone * self.design.groups)):
                m.d.sync += self.late.eq(1)
        return m


@pytest.mark.parametrize("pack", ["item", "row"])
def test_a_tile_is_released_when_it_is_read_no_more(pack: str) -> None:
    """Tiles that leave one after the other, some soon, some late in a row, as far ahead as lanes may run."""
    options = {"slots": 4, **ITEM} if pack == "item" else {"window": 8, **ROW}
    design = GatherDesign(lanes=4, outputs=1, channels=12, weight_tiles=64, pipeline=1, **options)
    model, rng = StreamModel(Watched(design)), np.random.default_rng(SEED)
    for zeros in (0.0, 0.5, 0.95):
        features, weights = contents(design, 3, rng, zeros)
        work = random_work(design, 50, len(features), rng, pairs=4, tile=1)
        tile = np.minimum(np.cumsum(rng.random(len(work)) < 0.25), 63)
        release = np.append(tile[1:] != tile[:-1], True)
        work = replace(work, weight=tile, release=release)
        for stalls in STALLS:
            model.run(load(design, features, weights), held=job_of(design, 3)).check()
            run = model.run({"i": pack_work(design, work)}, {"o": 50}, stalls=stalls, seed=SEED, held=job_of(design, 3),
                            sample={"o": ["releases"]}, resume=True).check()
            compare_sums(design, gather(design, work, features, weights), run.outputs["o"])
            assert run.ports["releases"] == release.sum() > 30 and not run.ports["late"]
            if not stalls and pack == "item":
                model_cycles = gather_cycles(design, work, lane_loads(design, work, features), 3)
                seen = run.samples["o"]["releases"].astype(np.int64)
                assert np.array_equal(seen, np.searchsorted(model_cycles.released, model_cycles.o))


def test_the_check_finds_what_is_wrong(models: dict[str, StreamModel]) -> None:
    design, model = DESIGNS["fp8 item"], models["fp8 item"]
    rng = np.random.default_rng(SEED)
    features, weights = contents(design, 3, rng)
    work = random_work(design, 20, len(features), rng)
    run, cycles = check_gather(design, model, work, features, weights)
    wanted = gather(design, work, features, weights)
    plain = np.argwhere(~wanted.nan)[0]
    value, nan = wanted.value.copy(), wanted.nan.copy()
    value[tuple(plain)] += 1
    nan[tuple(plain)] = True
    for wrong in (replace(wanted, value=value), replace(wanted, nan=nan), replace(wanted, out=wanted.out + 1),
                  replace(wanted, last=~wanted.last)):
        with pytest.raises(BitkilnError, match="RTL and golden model differ"):
            compare_sums(design, wrong, run.outputs["o"])
    with pytest.raises(BitkilnError, match="RTL and event model differ"):
        compare_cycles(design, replace(cycles, o=cycles.o + 1), run)
    for counter in ("items", "dropped", "issued", "skipped", "idle", "cycles"):
        with pytest.raises(BitkilnError, match=counter):
            compare_counters(design, replace(cycles, **{counter: getattr(cycles, counter) + 1}), run)
    with pytest.raises(BitkilnError, match="a sum without a beginning"):
        gather(design, replace(work, first=np.zeros(len(work), bool)), features, weights)


def test_designs_that_cannot_be() -> None:
    for options, message in (({"activation": "fp8_e4m3", "multiplier": "pairs"}, "no pairs of products"),
                             ({"weight": "int12", "multiplier": "pairs"}, "no pairs of products"),
                             ({"weight": "uint8", "multiplier": "pairs"}, "no pairs of products"),
                             ({"outputs": 1, "multiplier": "pairs"}, "contradictory options"),
                             ({"multiplier": "booth"}, "unknown multiplier"),
                             ({"channels": 40}, "a broken word of channels"),
                             ({"pack": "row"}, "contradictory options")):
        with pytest.raises(BitkilnError, match=message):
            GatherDesign(**options)


def test_names_carry_what_changes_the_netlist() -> None:
    base = GatherDesign()
    names = {GatherCore(base.with_options(**{key: value})).module_name for key, value in (
        ("lanes", 16), ("lanes", 8), ("outputs", 8), ("channels", 32), ("slots", 8), ("feature_words", 64),
        ("mask_rows", 64), ("weight_tiles", 8), ("index_bits", 6), ("pipeline", 2), ("multiplier", "pairs"))}
    assert len(names) == 11
