"""Area of the gather unit, and area and clock of the structures of its products, on ECP5 (LFE5U-85F, speed grade 6).

A column is what one output takes: 16 lanes of products and their sum. The whole unit has its memories with it, 64 KB of
features, 29 weight tiles of 64 channels; `spconv_place` has the clock of a core that contains one.
"""

from __future__ import annotations

from bitkiln.flow.pnr import place_and_route
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.spconv.gather import GatherCore
from bitkiln.hw.spconv.gather_array import ProductColumn
from bitkiln.hw.spconv.gather_digits import DigitColumn
from bitkiln.hw.spconv.gather_pairs import PairColumn
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=spconv ONLY=gather_area"
BASE = GatherDesign(lanes=16, outputs=16, channels=64)
COLUMNS = {
    "LaneProduct, int8": (ProductColumn, {"pipeline": 4}), "digits, int8": (DigitColumn, {"pipeline": 4}),
    "pairs, int8 (two outputs)": (PairColumn, {"pipeline": 5, "multiplier": "pairs"}),
    "LaneProduct, fp8_e4m3": (ProductColumn, {"activation": "fp8_e4m3", "weight": "fp8_e4m3", "pipeline": 4}),
    "LaneProduct, posit8_0": (ProductColumn, {"activation": "posit8_0", "weight": "posit8_0", "pipeline": 4}),
}
ROW = {"pack": "row", "slots": 1}
UNITS = {
    "item, digits": {"pipeline": 4}, "item, pairs": {"pipeline": 5, "multiplier": "pairs"},
    "row, pairs": {"pipeline": 5, "multiplier": "pairs", **ROW},
}


def _area(cells: dict[str, int]) -> str:
    kinds = ("CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D")
    return ", ".join(f"{cells[cell]} {cell}" for cell in kinds if cells.get(cell))


def run() -> list[Row]:
    rows = []
    for name, (kind, options) in COLUMNS.items():
        column, dsp = kind(BASE.with_options(**options)), "multiplier" in options
        text = to_verilog(column)
        cells = synthesise(text, column.module_name, "ecp5", dsp=dsp).cells
        clock = place_and_route(text, column.module_name, "ecp5", part="ecp5-85k", dsp=dsp, seeds=(1,),
                                goal_mhz=150, routing="negotiated").metrics[0].value
        rows += [Row(f"column of 16 lanes: {name}", cells["LUT4"], "LUT4", command=COMMAND, note=_area(cells)),
                 Row(f"column of 16 lanes: {name}", clock, "MHz", None, "higher", COMMAND, "one seed")]
    for name, options in UNITS.items():
        unit = GatherCore(BASE.with_options(**options))
        cells = synthesise(to_verilog(unit), unit.module_name, "ecp5", dsp="multiplier" in options).cells
        rows.append(Row(f"unit of 256 products: {name}", cells["LUT4"], "LUT4", command=COMMAND, note=_area(cells)))
    return rows
