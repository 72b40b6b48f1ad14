"""SRAM macros: extraction from liberty text, the table and the model between its entries."""

import pytest

from bitkiln.models.cost.energy.liberty import parse_library
from bitkiln.models.cost.energy.literature import literature_energy, literature_table
from bitkiln.models.cost.energy.sram import sram_errors, sram_estimate, sram_macro, sram_table
from bitkiln.models.errors import BitkilnError

MACRO = """library (m) { nom_voltage : 1.2; capacitive_load_unit (1, ff); leakage_power_unit : "1nW";
  cell (ram) { area : 123.5; cell_leakage_power : 4.5; memory () { type : ram; address_width : 6; word_width : 10; }
    pin (A_CLK) { direction : input; clock : true;
      internal_power () { when : "!A_MEN"; rise_power (scalar) { values (1); } fall_power (scalar) { values (0); } }
      internal_power () { when : "A_MEN & !A_WEN & A_REN"; rise_power (scalar) { values (3000); }
                          fall_power (scalar) { values (500); } }
      internal_power () { when : "A_MEN & A_WEN & !A_REN"; rise_power (scalar) { values (7000); } }
    } } }"""


def test_extraction():
    macro = sram_macro(parse_library(MACRO))
    assert (macro.words, macro.width, macro.area_um2, macro.leakage_nw) == (64, 10, 123.5, 4.5)
    assert (macro.read_pj, macro.write_pj) == (3.5, 7.0)
    with pytest.raises(BitkilnError, match="not an SRAM macro at m: got '0 memory cells'"):
        sram_macro(parse_library(MACRO.replace("memory ()", "memo ()")))
    with pytest.raises(BitkilnError, match="no access energy"):
        sram_macro(parse_library(MACRO.replace("A_WEN & !A_REN", "A_WEN & A_REN")))


def test_table_is_plausible():
    rows = sram_table()
    assert len(rows) >= 18 and len({(row.words, row.width) for row in rows}) == len(rows)
    for row in rows:
        assert 0 < row.read_pj < row.write_pj and row.area_um2 / (row.words * row.width) > 2
    for low in rows:
        for high in rows:
            if low.words <= high.words and low.width <= high.width:
                assert low.read_pj <= high.read_pj and low.area_um2 <= high.area_um2


def test_model_between_macros():
    errors = sram_errors()
    assert errors["area_um2"][0] < 5 and errors["read_pj"][0] < 8 and errors["write_pj"][0] < 8
    known = sram_estimate(1024, 32)
    assert known.error == 0 and known.read_pj == next(row.read_pj for row in sram_table()
                                                      if (row.words, row.width) == (1024, 32))
    between = sram_estimate(1024, 24)
    assert sram_estimate(1024, 16).read_pj < between.read_pj < known.read_pj
    assert between.error > 0 and not between.extrapolated and "model" in between.source


def test_outside_the_table_it_says_so():
    small, large = sram_estimate(4, 2), sram_estimate(1 << 16, 256)
    assert small.extrapolated and large.extrapolated
    assert small.read_pj > 0 and small.area_um2 > 0
    with pytest.raises(BitkilnError, match="out of range"):
        sram_estimate(0, 8)


def test_literature_is_labelled_and_not_scaled():
    assert all(entry.kind == "literature" and "45 nm" in entry.source for entry in literature_table())
    wide, narrow = (literature_energy("integer_multiply", bits).energy_pj for bits in (32, 8))
    assert wide > 10 * narrow
    large, small = (literature_energy("cache_access", 64, size).energy_pj for size in (32768, 8192))
    assert large > small
    dram = literature_energy("dram_access", 64)
    assert dram.energy_pj < dram.energy_high_pj
    with pytest.raises(BitkilnError, match="size that is not in the table at integer_multiply: got '16 bits'"):
        literature_energy("integer_multiply", 16)
    with pytest.raises(BitkilnError, match="did you mean integer_multiply"):
        literature_energy("integer_mul", 8)
