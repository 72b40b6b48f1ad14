"""Area of the gather unit and of the structures of its products, and its clock on ECP5 (LFE5U-85F, speed grade 6).

A column is what one output takes: 16 lanes of products and their sum. The whole unit has its memories with it, 64 KB of
features, 29 weight tiles of 64 channels; its ports are registers.
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
    "LaneProduct, int8": (ProductColumn, {"pipeline": 3}), "digits, int8": (DigitColumn, {"pipeline": 2}),
    "pairs, int8 (two outputs)": (PairColumn, {"pipeline": 3, "multiplier": "pairs"}),
    "LaneProduct, fp8_e4m3": (ProductColumn, {"activation": "fp8_e4m3", "weight": "fp8_e4m3", "pipeline": 3}),
    "LaneProduct, posit8_0": (ProductColumn, {"activation": "posit8_0", "weight": "posit8_0", "pipeline": 3}),
}
ROW = {"pack": "row", "slots": 1}
UNITS = {
    "item, digits": {"pipeline": 2}, "item, pairs": {"pipeline": 3, "multiplier": "pairs"},
    "row, digits": {"pipeline": 2, **ROW}, "row, pairs": {"pipeline": 3, "multiplier": "pairs", **ROW},
    "item, digits, 8 x 32": {"pipeline": 2, "lanes": 8, "outputs": 32, "feature_words": 8192},
    "row, digits, 8 x 32": {"pipeline": 2, "lanes": 8, "outputs": 32, "feature_words": 8192, **ROW},
    "row, digits, 4 x 64": {"pipeline": 2, "lanes": 4, "outputs": 64, "feature_words": 16384, **ROW},
}
PLACED = {"item, digits", "item, pairs", "row, digits"}
GOAL = 80      # MHz


def _area(cells: dict[str, int]) -> str:
    kinds = ("CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D")
    return ", ".join(f"{cells[cell]} {cell}" for cell in kinds if cells.get(cell))


def run() -> list[Row]:
    rows = []
    for name, (kind, options) in COLUMNS.items():
        column = kind(BASE.with_options(**options))
        cells = synthesise(to_verilog(column), column.module_name, "ecp5", dsp="multiplier" in options).cells
        rows.append(Row(f"column of 16 lanes: {name}", cells["LUT4"], "LUT4", command=COMMAND, note=_area(cells)))
    for name, options in UNITS.items():
        unit, dsp = GatherCore(BASE.with_options(**options)), "multiplier" in options
        text = to_verilog(unit)
        cells = synthesise(text, unit.module_name, "ecp5", dsp=dsp).cells
        rows.append(Row(f"unit of 256 products: {name}", cells["LUT4"], "LUT4", command=COMMAND, note=_area(cells)))
        if name in PLACED:
            metrics = place_and_route(text, unit.module_name, "ecp5", part="ecp5-85k", dsp=dsp, seeds=(1,),
                                      goal_mhz=100)
            rows.append(Row(f"unit of 256 products: {name}", metrics.metrics[0].value, "MHz", GOAL, "higher", COMMAND,
                            f"one seed; {metrics.cells}"))
    return rows
