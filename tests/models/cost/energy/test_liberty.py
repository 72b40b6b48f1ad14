"""Liberty text, tables and cells."""

from pathlib import Path

import numpy as np
import pytest

from bitkiln.models.cost.energy.liberty import parse_libraries, parse_library
from bitkiln.models.cost.energy.liberty_text import parse_groups
from bitkiln.models.errors import BitkilnError

TINY = (Path(__file__).parents[3] / "bitkiln" / "data" / "tiny.lib").read_text()
SMALL = """/* { not a brace } */
library ("small") {
  time_unit : "10ps"; voltage_unit : "1V"; leakage_power_unit : 1uW; capacitive_load_unit (2, "ff");
  nom_voltage : 0.7
  define (odd, cell, string);
  power_lut_template (flipped) { variable_1 : total_output_net_capacitance; variable_2 : input_transition_time;
    index_1 ("1, 3, 5"); index_2 ("10, 30"); }
  lu_table_template (row) { variable_1 : input_net_transition; index_1 ("1, 2"); }
  cell (G) { area : 1.5;
    leakage_power () { value : 2; when : "A"; related_pg_pin : VDD; }
    leakage_power () { value : 7; related_pg_pin : VDD; }
    sdf_cond : "A == 1"
    pin ("A", B) { direction : input; capacitance : 3; }
    pin (Y) { direction : output; function : "A' + B";
      internal_power () { related_pin : "A B";
        rise_power (flipped) { values ("1, 2", \\
          "3, 6", "5, 30"); }
        fall_power (row) { index_1 ("0, 4"); values ("0, 8"); } } } }
  cell (ram) { area : 9; memory () { type : ram; address_width : 5; word_width : 12; }
    bus (Q) { direction : output; pin (Q[0]) { } pin (Q[11:1]) { capacitance : 0.5; } } }
  cell (L) { latch (IQ, IQN) { enable : "G"; data_in : "D"; clear : "!R"; } pin (D) { direction : input; } }
}
"""


def test_units_and_cells():
    library = parse_library(SMALL)
    assert library.name == "small" and library.voltage == 0.7
    assert (library.time_unit, library.capacitance_unit, library.energy_unit) == pytest.approx((1e-11, 2e-15, 2e-15))
    cell = library.cell("G")
    assert cell.area == 1.5 and [pin.name for pin in cell.inputs] == ["A", "B"]
    assert cell.pins["B"].capacitance == pytest.approx(6e-15)
    assert [(leak.when.text if leak.when else None, leak.power) for leak in cell.leakage] == \
        [("A", pytest.approx(2e-6)), (None, pytest.approx(7e-6))]
    assert cell.pins["Y"].function.truth() == 0b1101
    assert library.cell("ram").memory == (32, 12)
    assert {name: pin.direction for name, pin in library.cell("ram").pins.items()} == \
        {"Q[0]": "output", "Q[11:1]": "output"}
    latch = library.cell("L").sequential
    assert latch.kind == "latch" and latch.states == ("IQ", "IQN") and latch.clear({"R": 0}, 1) == 1
    assert parse_library(SMALL, only={"L"}).cells.keys() == {"L"}


def test_tables_with_axes_in_either_order():
    power, = parse_library(SMALL).cell("G").pins["Y"].power
    assert power.related == ("A", "B")
    assert power.rise.at(10, 1) == 1 and power.rise.at(30, 5) == 30 and power.rise.at(10, 5) == 5
    assert power.rise.at(20, 2) == pytest.approx((1 + 2 + 3 + 6) / 4)
    assert power.rise.at(10, 7) == pytest.approx(7)                # beyond: on along the last segment
    assert power.rise.at(50, 5) == pytest.approx(55)
    assert power.fall.at(1, 99) == pytest.approx(2)                # index_1 of the table wins over the template's
    slews, loads = np.array([10, 20, 50.0]), np.array([1, 2, 5.0])
    assert power.rise.at(slews, loads) == pytest.approx([float(power.rise.at(*pair)) for pair in
                                                         zip(slews, loads, strict=True)])


def test_a_real_looking_library():
    library = parse_library(TINY)
    assert list(library.cells) == ["BUF", "INV", "NAND2", "NOR2", "XOR2", "DFF"]
    flip_flop = library.cell("DFF")
    assert flip_flop.sequential.clock.text == "CK" and flip_flop.pins["CK"].clock
    assert len(flip_flop.pins["CK"].power) == 3 and flip_flop.pins["CK"].power[1].when.pins == ("D", "Q")
    assert library.cell("NAND2").pins["Y"].timing[1].related == ("B",)
    assert float(library.cell("INV").pins["Y"].timing[0].rise.at(0.01, 0.001)) == pytest.approx(0.022)
    assert library.energy_unit == pytest.approx(1e-12) and library.leakage_unit == pytest.approx(1e-9)


def test_several_files():
    both = parse_libraries([SMALL, SMALL.replace("cell (G)", "cell (H)").replace('"small"', '"other"')])
    assert both.name == "small+other" and {"G", "H", "ram"} <= set(both.cells)
    with pytest.raises(BitkilnError, match="do not belong together at b voltage: got 0.9, expected 0.7 as in a"):
        parse_libraries([SMALL, SMALL.replace("0.7", "0.9")], ["a", "b"])
    with pytest.raises(BitkilnError, match="missing liberty file"):
        parse_libraries([])


@pytest.mark.parametrize("change, message", [
    (("area : 1.5;", "area 1.5;"), r"damaged liberty file at f:9: got 'area 1.5"),
    (("area : 9;", "area : 9; }"), "a closing brace too many"),
    (("\n}\n", "\n"), r"library \(small\) is not closed"),
    (("library", "bibliography"), "not a liberty file at f"),
    (("10ps", "10 parsec"), "not a unit at f time_unit: got '10 parsec'"),
    (('"ff"', '"farad"'), "not a unit at f capacitive_load_unit"),
    (("nom_voltage : 0.7", ""), "no supply voltage at f"),
    (("A' + B", "A' + "), "not a boolean function at f cell G pin Y function"),
])
def test_damaged_files(change, message):
    assert change[0] in SMALL
    where = SMALL.rfind(change[0]) if change[0] == "\n}\n" else SMALL.find(change[0])
    text = SMALL[:where] + change[1] + SMALL[where + len(change[0]):]
    with pytest.raises(BitkilnError, match=message):
        parse_library(text, "f")


@pytest.mark.parametrize("old, new, message", [
    ('("1, 2", \\\n          "3, 6", "5, 30")', '("1, 2, 3")', "damaged table at liberty cell G pin Y: got '3 values', "
     "expected 3 x 2 values"),
    ("rise_power (flipped)", "rise_power (unheard)", "unknown table template"),
    ('index_1 ("1, 3, 5")', 'index_1 ("1, 5, 3")', "rising indices"),
])
def test_damaged_tables_are_found_when_they_are_used(old, new, message):
    assert old in SMALL
    library = parse_library(SMALL.replace(old, new))
    with pytest.raises(BitkilnError, match=message):
        library.cell("G").pins["Y"].power[0].rise.at(1, 1)


def test_no_such_cell_and_line_numbers():
    with pytest.raises(BitkilnError, match="no such cell at tiny: got 'NAND3'\nhelp: .*NAND2"):
        parse_library(TINY).cell("NAND3")
    group = parse_groups("library (x) { a : 1; a : 2; b (3, 4); }")
    assert group.attributes == {"a": "2", "b": "3, 4"} and group.number("b") == 3 and group.number("c") is None
