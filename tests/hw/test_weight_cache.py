# amaranth: UnusedElaboratable=no
"""Weight cache: hits, misses, slots and fetches are those of the trace model, whatever waits."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.hw.spconv.cache import WeightCache
from bitkiln.models.cost.spconv.weight_cache import (
    DRAM_PJ_PER_BIT,
    SCHEMES,
    compare,
    demands,
    granules,
    lru_misses,
    pin_mask,
    pin_profile,
    plane_uses,
    trace,
)
from bitkiln.models.design.spconv import CacheDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.bitserial_check import pack_bits
from bitkiln.sim.streams import StreamModel, build_streams
from bitkiln.sim.weight_cache_check import CacheBench, check_cache, random_items

SEED = 83
DESIGNS = {"all": CacheDesign(27, index_bits=8), "some": CacheDesign(5, index_bits=8, ahead=4),
           "none": CacheDesign(0, index_bits=8, ahead=2)}
STREAMS = ("i", "o", "o_fetch", "token", "done")


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([CacheBench(design) for design in DESIGNS.values()]), strict=True))


def sequences(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Demands: tiles of a map with a strong middle plane, any offsets, few, the same ones again, two in turn."""
    items = random_items(DESIGNS["all"], 400, 0.15, rng, skew=0.8)
    few = rng.permutation(27)[:3]
    return {"tiles": demands(items.row, items.k, 16).k, "pairs": items.k[:300], "any": rng.integers(0, 27, 250),
            "few": few[rng.integers(0, 3, 250)], "same": np.full(40, 13), "turn": np.arange(40) % 2 * 5 + 3,
            "one": np.array([26])}


def pins(design: CacheDesign, rng: np.random.Generator, count: int | None = None) -> np.ndarray:
    pinned = np.zeros(27, bool)
    pinned[rng.permutation(27)[:rng.integers(0, design.tiles + 1) if count is None else count]] = True
    return pinned


@pytest.mark.parametrize("name", DESIGNS)
def test_hits_and_misses_are_the_traces(name: str, models: dict[str, StreamModel]) -> None:
    design, rng, seen = DESIGNS[name], np.random.default_rng(SEED), np.zeros(3, int)
    for count in sorted({0, design.tiles // 2, design.tiles}):
        for kind, k in sequences(rng).items():
            pinned = pins(design, rng, count)
            seen += trace(k, pinned).counts
            for seed, load_cycles in enumerate((1, 20)):
                stalls = {} if seed else dict.fromkeys(STREAMS, 0.4)
                run = check_cache(design, models[name], k, pinned, seed=SEED + seed, stalls=stalls,
                                  load_cycles=load_cycles)
                assert len(run.outputs["o"]) == len(k) and not run.ports["busy"], kind
    assert seen[1] and seen[2] and bool(seen[0]) == (design.tiles > 0)


@pytest.mark.parametrize("slow", STREAMS)
@pytest.mark.parametrize("name", DESIGNS)
def test_nothing_is_lost_where_one_stream_is_slow(name: str, slow: str, models: dict[str, StreamModel]) -> None:
    design, rng = DESIGNS[name], np.random.default_rng(SEED + 1)
    for kind in ("tiles", "few", "any"):
        check_cache(design, models[name], sequences(rng)[kind], pins(design, rng), stalls={slow: 0.9}, seed=SEED)


def test_pins_beyond_the_capacity_do_not_count(models: dict[str, StreamModel]) -> None:
    design, rng = DESIGNS["some"], np.random.default_rng(SEED)
    run = check_cache(design, models["some"], sequences(rng)["any"], np.ones(27, bool))
    assert run.ports["fetches"] == design.tiles + run.ports["misses"] and run.ports["pinned_hits"]


def offsets(*k: int) -> np.ndarray:
    return pack_bits([(np.array(k), 5)])


def test_the_next_tile_comes_while_one_is_used(models: dict[str, StreamModel]) -> None:
    """Two of three missing tiles are fetched at once, past a pinned one; the third when the first is released."""
    model, pinned = models["some"], np.arange(27) == 13
    held = {"pinned": pin_mask(pinned), "load_cycles": 1}
    model.run({"go": 1, "token": 1}, {"o_fetch": 1}, held=held).check()
    run = model.run({"i": offsets(2, 13, 20, 21), "token": 2}, {"o": 3, "o_fetch": 2}, resume=True).check()
    assert run.outputs["o_fetch"].tolist() == [2 | 5 << 5, 20 | 6 << 5]
    assert run.cycles["o_fetch"].tolist() == [2, 4] and run.cycles["o"].tolist() == [4, 5, 6]
    assert run.ports["busy"] and run.ports["misses"] == 2
    held = model.run({"done": 0}, {}, resume=True).check()
    assert not len(held.outputs["o_fetch"])
    run = model.run({"done": 1, "token": 1}, {"o": 1, "o_fetch": 1}, resume=True).check()
    assert run.outputs["o_fetch"].tolist() == [21 | 5 << 5] and run.cycles["o_fetch"][0] == run.cycles["done"][0] + 2
    assert not model.run({"done": 3}, {}, resume=True).check().ports["busy"]


def test_a_pinned_tile_is_used_as_soon_as_it_is_there(models: dict[str, StreamModel]) -> None:
    model, design = models["all"], DESIGNS["all"]
    run = model.run({"go": 1, "i": offsets(0, 1, 26), "token": 27, "done": 3}, {"o": 3, "o_fetch": 27},
                    held={"pinned": (1 << 27) - 1, "load_cycles": 50}).check()
    there, o = run.cycles["token"].astype(int), run.cycles["o"].astype(int)
    assert np.array_equal(o, there[[0, 1, 26]] + 2) and design.slots == 29
    assert there[26] >= 27 * 50 and run.ports["fetches"] == 27 and not run.ports["busy"]


@pytest.mark.parametrize("name", DESIGNS)
def test_nothing_is_fetched_before_the_start(name: str, models: dict[str, StreamModel]) -> None:
    run = models[name].run({}, None, held={"pinned": (1 << 27) - 1, "load_cycles": 1}, reset_at=[0])
    assert not len(run.outputs["o_fetch"]) and not run.ports["busy"]


@pytest.mark.parametrize("name", DESIGNS)
def test_demands_are_looked_up_ahead_of_their_turn(name: str, models: dict[str, StreamModel]) -> None:
    """As many as the queue holds, one that is looked up, and one more."""
    design, model = DESIGNS[name], models[name]
    run = model.run({"go": 1, "i": np.full(80, 3, np.uint64), "token": 1}, None, stalls={"o": 1.0}, partial=True,
                    timeout=200, held={"pinned": 0, "load_cycles": 1})
    assert len(run.cycles["i"]) == design.ahead + 2 and run.ports["misses"] == 1
    assert run.ports["buffer_hits"] == design.ahead - 1


def test_at_most_63_demands_are_not_released(models: dict[str, StreamModel]) -> None:
    model = models["all"]
    run = model.run({"go": 1, "i": np.full(100, 3, np.uint64), "token": 1}, None, partial=True, timeout=200,
                    held={"pinned": 8, "load_cycles": 1})
    assert len(run.outputs["o"]) == 63 == run.ports["pinned_hits"]
    run = model.run({"i": np.full(35, 3, np.uint64), "done": 100}, {"o": 37}, resume=True).check()
    assert not run.ports["busy"]


@pytest.mark.parametrize("name", DESIGNS)
def test_a_reset_in_any_cycle_forgets_everything(name: str, models: dict[str, StreamModel]) -> None:
    design, model, rng = DESIGNS[name], models[name], np.random.default_rng(SEED)
    k, again, pinned = sequences(rng)["any"], sequences(rng)["tiles"][:60], pins(design, rng)
    held = {"pinned": pin_mask(pinned), "load_cycles": 3}
    for at in range(2, 90, 3):
        broken = model.run({"go": 1, "i": pack_bits([(k, 5)]), "token": 200, "done": 200}, None, limit=at, seed=at,
                           stalls={"o": 0.3 * (at % 2)}, partial=True, held=held)
        assert broken.deadlock and broken.ports["busy"]
        check_cache(design, model, again, pins(design, rng), reset_at=[0], resume=True, seed=at)


def test_jobs_one_after_the_other(models: dict[str, StreamModel]) -> None:
    """Nothing of a job is left for the next one; counters start again."""
    design, rng = DESIGNS["some"], np.random.default_rng(SEED)
    for job in range(12):
        k = rng.integers(0, 27, rng.integers(0, 30))
        run = check_cache(design, models["some"], k, pins(design, rng), resume=job > 0, stalls={"token": 0.3}, seed=job)
        assert run.ports["pinned_hits"] + run.ports["buffer_hits"] + run.ports["misses"] == len(k)


# Model -------------------------------------------------------------------------------------------


def test_trace_is_the_policy() -> None:
    rng = np.random.default_rng(SEED)
    kinds = np.zeros(3, int)
    for _ in range(60):
        count = int(rng.integers(1, 8))
        sequence, pinned = rng.integers(0, count, rng.integers(0, 80)), rng.random(count) < rng.choice([0, 0.3, 1])
        buffer, recent, kind, side = [-1, -1], 1, [], []
        for each in sequence:
            if pinned[each]:
                kind.append(0)
                side.append(-1)
                continue
            kind.append(1 if each in buffer else 2)
            recent = buffer.index(each) if each in buffer else 1 - recent
            buffer[recent] = each
            side.append(recent)
        found = trace(sequence, pinned)
        assert found.kind.tolist() == kind and found.side.tolist() == side
        assert found.misses == lru_misses(sequence[~pinned[sequence]], 2)
        kinds += found.counts
    assert kinds.all()


def test_pins_are_the_most_used_ones() -> None:
    uses = np.array([3, 9, 3, 0, 9, 3])
    assert pin_profile(uses, 3).tolist() == [True, True, False, False, True, False]
    assert pin_profile(uses, 6).tolist() == (uses > 0).tolist() and not pin_profile(uses, 0).any()
    both = pin_profile(np.stack([uses, uses], axis=1), 3)
    assert both.shape == (6, 2) and both[1].all() and both[4].tolist() == [True, False]
    assert pin_mask(pin_profile(uses, 3)) == 0b10011
    # No other choice of as many has fewer misses where each demand is another tile's.
    rng = np.random.default_rng(SEED)
    sequence = np.repeat(np.arange(6), uses)[rng.permutation(uses.sum())]
    least = trace(granules(sequence, 3), pin_profile(np.repeat(uses, 3), 9)).misses
    assert least == 3 * (uses.sum() - 9 - 9 - 3)


def test_demands_of_a_map() -> None:
    out, k = np.array([0, 0, 1, 5, 5, 6, 7]), np.array([3, 13, 13, 2, 13, 13, 2])
    found = demands(out, k, 2)
    assert found.tile.tolist() == [0, 0, 2, 2, 3, 3] and found.k.tolist() == [3, 13, 2, 13, 2, 13]
    assert found.pairs.tolist() == [1, 2, 1, 1, 1, 1] and found.uses[[2, 3, 13]].tolist() == [2, 1, 3]
    assert np.array_equal(demands(out, k, 1).k, k) and len(demands(out, k, 8).k) == 3
    with pytest.raises(BitkilnError, match="error: out of range at tile_rows: got 0, expected 1 or more"):
        demands(out, k, 0)


def test_schemes_at_equal_size() -> None:
    items = random_items(CacheDesign(index_bits=8), 600, 0.1, np.random.default_rng(SEED), skew=0.9)
    pairs = demands(items.row, items.k, 1)
    found = compare(pairs, 96, 96, 96 << 10)
    assert tuple(found) == SCHEMES
    # Six granules to an offset, 64 on the chip.
    count, capacity = 6 * len(pairs.k), 64
    assert found["none"].fetched == count == found["none"].demands and found["none"].saving == 0
    fill = 27 * 6 * capacity / 162
    assert found["uniform"].fetched == pytest.approx(count * (1 - capacity / 162) + fill)
    pinned = pin_profile(np.repeat(pairs.uses, 6), 62)
    assert found["non-uniform"].fetched == (~pinned[granules(pairs.k, 6)]).sum() + 62
    assert found["lru"].fetched == lru_misses(granules(pairs.k, 6), 64)
    assert found["passes"].fetched == 6 * len(np.unique(pairs.k))
    assert found["passes"].saving > found["non-uniform"].saving > found["uniform"].saving + 0.2
    few = compare(pairs, 96, 96, 8 * 96 * 16)["passes"]
    once = pin_profile(pairs.uses, 6)
    assert few.fetched == 6 * (6 + trace(pairs.k, once).misses) and trace(pairs.k, once).misses
    assert found["none"].dram_bytes == count * 96 * 16
    assert found["none"].energy_uj == pytest.approx(found["none"].dram_bytes * 8 * 15e-6) and DRAM_PJ_PER_BIT == 15
    # A memory for all weights: the first fill is all there is.
    whole = compare(pairs, 16, 16, 64 << 10)
    assert {name: each.fetched for name, each in whole.items() if name != "none"} == dict.fromkeys(
        SCHEMES[1:], len(np.unique(pairs.k)))
    with pytest.raises(BitkilnError, match="error: broken granules at outputs: got 24, expected a multiple of 16"):
        compare(pairs, 16, 24, 1 << 16)
    with pytest.raises(BitkilnError, match="error: too small a memory at sram_bytes: got 512, expected at least three"):
        compare(pairs, 16, 16, 512)


def test_planes() -> None:
    uses = np.arange(27)
    k = np.stack(np.unravel_index(np.arange(27), (3, 3, 3))) - 1
    for axis in range(3):
        found = plane_uses(uses, axis)
        assert found == {"centre": 13, "middle": uses[k[axis] == 0].sum() - 13, "upper": uses[k[axis] == 1].sum(),
                         "lower": uses[k[axis] == -1].sum()}


def test_the_name_tells_the_design() -> None:
    names = {CacheDesign(**options).name for options in ({}, {"tiles": 5}, {"tile_rows": 8}, {"ahead": 4},
                                                         {"index_bits": 9})}
    assert len(names) == 5 and WeightCache(CacheDesign()).module_name in names
    with pytest.raises(BitkilnError, match="error: not a power of two at ahead: got 3, expected 1, 2, 4, 8, ..."):
        CacheDesign(ahead=3)
