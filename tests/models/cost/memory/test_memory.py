"""Memory tiers: time and energy of transfers, and that a smaller or slower memory is never faster."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bitkiln.models.cost.energy.sram import sram_table
from bitkiln.models.cost.memory.memory import Hierarchy, MemoryTier
from bitkiln.models.cost.memory.memory_tiers import (
    DRAM,
    ENERGY_PJ_PER_BIT,
    dram_tier,
    flash_tier,
    register_tier,
    sram_tier,
)
from bitkiln.models.errors import USAGE, BitkilnError

CLOCK_MHZ = 200.0
MACROS = {f"{macro.words}x{macro.width}": macro for macro in sram_table()}


def usual() -> Hierarchy:
    return Hierarchy((register_tier(4096, 512), sram_tier("1024x64", 8), dram_tier("lpddr4"), flash_tier()), CLOCK_MHZ)


def test_time_is_latency_and_bytes_over_bandwidth():
    tier = MemoryTier("sram", 1 << 20, "assumed", bandwidth_bits_per_cycle=64, latency_cycles=2)
    hierarchy = Hierarchy((tier,), CLOCK_MHZ)
    assert hierarchy.cycles(tier.transfer_s(8 * 100, CLOCK_MHZ)) == 2 + 100
    # A bandwidth in cycles follows the clock, one in seconds does not.
    assert tier.bytes_per_s(400) == 2 * tier.bytes_per_s(200)
    assert dram_tier("ddr3").bytes_per_s(400) == dram_tier("ddr3").bytes_per_s(200) == pytest.approx(12.8e9)
    assert tier.transfer_s(0, CLOCK_MHZ) == 0


def test_larger_chunks_pass_faster():
    flash = flash_tier()
    chunks = [1 << shift for shift in range(9, 24)]
    rates = [flash.bytes_per_s(CLOCK_MHZ, chunk) for chunk in chunks]
    assert rates == sorted(rates)
    assert rates[-1] < flash.bytes_per_s(CLOCK_MHZ)
    times = [flash.transfer_s(1 << 24, CLOCK_MHZ, chunk) for chunk in chunks]
    assert times == sorted(times, reverse=True)
    # Doubling the chunk saves half of the overhead: what is left is the bytes.
    one, two = (flash.transfer_s(1 << 24, CLOCK_MHZ, 8192 << double) for double in (0, 1))
    assert one - two == pytest.approx((1 << 24) / 16384 * flash.chunk_overhead_ns * 1e-9)


def test_flash_gives_back_the_published_time():
    """2.4 % of OPT-6.7B's feed-forward weights in chunks of 32 KiB: 125 ms (arXiv 2312.11514, 4.1)."""
    feed_forward = 32 * 2 * 4096 * 16384 * 4
    assert flash_tier().transfer_s(0.024 * feed_forward, CLOCK_MHZ, 32 * 1024) == pytest.approx(0.125)


def random_tables(rng: random.Random) -> list[dict]:
    size, tables = 1 << rng.randint(8, 14), []
    for number in range(rng.randint(1, 4)):
        unit = rng.choice(("bandwidth_bits_per_cycle", "bandwidth_bytes_per_s"))
        tables.append({"name": f"tier{number}", "size_bits": size, "source": "assumed",
                       unit: rng.randint(1, 512) * (1e7 if "bytes" in unit else 1),
                       rng.choice(("latency_cycles", "latency_ns")): rng.randint(0, 50),
                       "chunk_overhead_ns": rng.choice((0, 0, 100))})
        size *= rng.choice((1, 3, 16))
    return tables


@pytest.mark.parametrize("seed", range(40))
def test_smaller_or_slower_is_never_faster(seed):
    rng = random.Random(seed)
    tables = random_tables(rng)
    whole = Hierarchy.from_dicts(tables, CLOCK_MHZ)
    size = rng.randint(1, tables[-1]["size_bits"] // 8)
    passes, chunk = rng.randint(1, 5), rng.choice((None, 64, 1024))
    time_s = whole.stream_s(size, passes, chunk)
    for number, table in enumerate(tables):
        worse = [{**table, "size_bits": max(table["size_bits"] // 2, tables[number - 1]["size_bits"] if number else 1)}]
        worse += [{**table, key: table[key] / 2} for key in table if key.startswith("bandwidth")]
        worse += [{**table, key: table[key] + 10} for key in table if key.startswith(("latency", "chunk"))]
        for changed in worse:
            if number + 1 == len(tables) and changed["size_bits"] < 8 * size:
                continue
            other = Hierarchy.from_dicts([*tables[:number], changed, *tables[number + 1:]], CLOCK_MHZ)
            assert other.stream_s(size, passes, chunk) >= time_s
    assert whole.stream_s(size, passes + 1, chunk) > time_s


def test_a_memory_that_holds_the_data_serves_the_later_passes():
    hierarchy = usual()
    small, large = 32 * 1024, 4 << 20
    assert hierarchy.tiers[hierarchy.holder(small)].name == "sram"
    once, twice = hierarchy.stream_s(small, 1), hierarchy.stream_s(small, 2)
    assert twice - once == pytest.approx(hierarchy.fetch_s(1, small)) and twice - once < once / 2
    assert hierarchy.stream_s(large, 2) - hierarchy.stream_s(large, 1) == pytest.approx(hierarchy.fetch_s(2, large))


def test_switching_a_model():
    hierarchy = usual()
    model = 100e6
    # Bytes over the slower bandwidth of the two.
    slower = min(tier.bytes_per_s(CLOCK_MHZ, model) for tier in hierarchy.tiers[2:])
    assert hierarchy.switch_s(model, "flash", "lpddr4") == pytest.approx(model / slower)
    assert hierarchy.switch_s(2 * model, "flash", "lpddr4") == pytest.approx(
        2 * hierarchy.switch_s(model, "flash", "lpddr4"), rel=1e-3)
    with pytest.raises(BitkilnError, match="does not fit at memory tier sram"):
        hierarchy.switch_s(model, "flash", "sram")
    with pytest.raises(BitkilnError, match="a switch goes inwards"):
        hierarchy.switch_s(model, "lpddr4", "flash")


def test_energy():
    hierarchy = usual()
    found = hierarchy.energy_pj({"sram": 8, "lpddr4": 1, "flash": 1}, {"sram": 16})
    macro = MACROS["1024x64"]
    assert found["sram"] == pytest.approx(macro.read_pj + 2 * macro.write_pj)
    assert found["lpddr4"] == 8 * 8
    assert found["flash"] is None       # not known is not zero
    with pytest.raises(BitkilnError, match="unknown tier.*'dram'"):
        hierarchy.energy_pj({"dram": 1})


def test_every_figure_has_a_source():
    for constant in ENERGY_PJ_PER_BIT.values():
        assert constant.source and constant.value > 0 and constant.unit == "pJ/bit"
    for tier in (*usual().tiers, *(dram_tier(kind) for kind in DRAM), *(sram_tier(name) for name in MACROS)):
        assert len(tier.source) > 20
    for macro in MACROS.values():
        assert macro.write_pj > macro.read_pj
    assert MACROS["256x64"].read_pj == pytest.approx(49.6, abs=0.05)
    assert MACROS["256x64"].write_pj == pytest.approx(63.4, abs=0.05)


GOOD = {"name": "sram", "size_bits": 1024, "bandwidth_bits_per_cycle": 64, "source": "assumed"}


@pytest.mark.parametrize(("change", "message"), [
    ({"size": 3}, "unknown key.*\nhelp: keys carry their unit: size_bits"),
    ({"bandwidth": 3}, "keys carry their unit: bandwidth_bits_per_cycle or bandwidth_bytes_per_s"),
    ({"sorce": "x"}, "did you mean source"),
    ({"size_bits": 0}, r"tier sram.size_bits: got 0"),
    ({"size_bits": 10.5}, r"tier sram.size_bits: got 10.5"),
    ({"bandwidth_bits_per_cycle": -1}, "above 0"),
    ({"bandwidth_bits_per_cycle": 0}, "above 0"),
    ({"bandwidth_bytes_per_s": 1e9}, "bandwidth needs one unit"),
    ({"bandwidth_bits_per_cycle": None}, "bandwidth needs one unit"),
    ({"latency_cycles": 1, "latency_ns": 1}, "latency needs one unit"),
    ({"latency_ns": float("inf")}, "latency_ns"),
    ({"energy_pj_per_bit": -1}, "energy_pj_per_bit"),
    ({"source": " "}, "without a source"),
])
def test_bad_tiers(change, message):
    with pytest.raises(BitkilnError, match=message) as caught:
        Hierarchy.from_dicts([{**GOOD, **change}], CLOCK_MHZ)
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("key", ["name", "size_bits", "source"])
def test_missing_keys(key):
    with pytest.raises(BitkilnError, match=rf"missing key at memory.tiers\[0\].{key}"):
        Hierarchy.from_dicts([{name: value for name, value in GOOD.items() if name != key}], CLOCK_MHZ)


def test_bad_hierarchies():
    tier = MemoryTier.from_dict(GOOD)
    with pytest.raises(BitkilnError, match="smaller than the one inside"):
        Hierarchy((tier, replace(tier, name="dram", size_bits=512)), CLOCK_MHZ)
    with pytest.raises(BitkilnError, match="named twice"):
        Hierarchy((tier, tier), CLOCK_MHZ)
    with pytest.raises(BitkilnError, match="no tiers"):
        Hierarchy((), CLOCK_MHZ)
    with pytest.raises(BitkilnError, match="clock_mhz"):
        Hierarchy((tier,), 0)
    with pytest.raises(BitkilnError, match="larger than every memory"):
        Hierarchy((tier,), CLOCK_MHZ).stream_s(129)
    with pytest.raises(BitkilnError, match="passes"):
        Hierarchy((tier,), CLOCK_MHZ).stream_s(1, 0)
    with pytest.raises(BitkilnError, match="did you mean lpddr4"):
        dram_tier("lpddr")
    with pytest.raises(BitkilnError, match="unknown memory"):
        sram_tier("3x3")
