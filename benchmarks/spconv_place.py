"""The search unit and a 16 x 16 INT8 core on silicon: ECP5 after place and route, UltraScale+ and cell libraries.

SpOctA's figure stands beside ours with its technology; it is the paper's claim, by synthesis, with 177 KB of SRAM.
"""

from __future__ import annotations

from bitkiln.flow.pnr import place_and_route
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.spconv.core import SpConvCore
from bitkiln.hw.spconv.search import MapSearch
from bitkiln.models.design.spconv import GatherDesign, MapDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.report.table import Row

from .pe_sharing import libraries

COMMAND = "make bench SUITE=spconv ONLY=spconv_place"
CLAIM = "SpOctA: 1.06 mm2 at 40 nm, 400 MHz, 177.4 KB SRAM (synthesis)"
CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")
SEARCH = MapDesign(depth=11, batch_bits=1, capacity=2048)
# Few words of every memory for cell libraries: longer ones are SRAM macros, which the open flow has not.
CELL_TREE = MapDesign(depth=11, batch_bits=1, capacity=16, queue=2, rows=2)


def core(**options) -> SpConvDesign:
    """16 x 16 INT8 as it fits an LFE5U-85F."""
    tree = MapDesign(depth=11, batch_bits=0, capacity=2048, search="compact")
    gather = GatherDesign("int8", "int8", 16, 16, 64, "item", slots=64, feature_words=4096, mask_rows=2048,
                          index_bits=tree.index_bits, multiplier="pairs", pipeline=2)
    return SpConvDesign(tree, gather, pinned=14, output_lanes=2, **options)


def _placed(component, name: str, title: str, clock: str) -> Row:
    try:
        found = place_and_route(to_verilog(component), name, "ecp5", seeds=(1,), dsp=True, clock=clock, part="ecp5-85k",
                                goal_mhz=100)
    except BitkilnError as error:
        return Row(f"{title}: place and route", None, "MHz", None, command=COMMAND, note=f"{error.what}: {error.got}")
    note = ", ".join(f"{found.cells.get(each, 0):,} {each}" for each in CELLS)
    return Row(f"{title}: post-route clock, ECP5-85k speed 6", found.metrics[0].value, "MHz", None, "higher", COMMAND,
               f"one seed; {note}")


def run() -> list[Row]:
    design = core()
    rows = [_placed(MapSearch(SEARCH), MapSearch(SEARCH).module_name, "map search, parity, 2,048 voxels", "clk"),
            _placed(MapSearch(SEARCH.with_options(search="compact")),
                    MapSearch(SEARCH.with_options(search="compact")).module_name,
                    "map search, compact, 2,048 voxels", "clk"),
            _placed(SpConvCore(design), design.name, "16x16 INT8 core", "aclk")]
    for title, component, name in (("map search, parity", MapSearch(SEARCH), MapSearch(SEARCH).module_name),
                                   ("16x16 INT8 core", SpConvCore(design), design.name)):
        found = {each.name: each.value for each in synthesise(to_verilog(component), name, "xilinx", dsp=True).metrics}
        rows.append(Row(f"{title}, UltraScale+", found["lut"], "LUT", command=COMMAND,
                        note=", ".join(f"{found.get(part) or 0:.0f} {part}" for part in ("ff", "dsp", "ram"))))
    unit = MapSearch(CELL_TREE)
    for label, path in libraries().items():
        area = {each.name: each.value for each in synthesise(to_verilog(unit), unit.module_name, "asic",
                                                             liberty=[path]).metrics}["area"]
        rows.append(Row(f"map search, logic and {CELL_TREE.capacity} voxels as flip-flops, {label}",
                        round(area / 1e6, 4), "mm2 of cells", command=COMMAND, note=CLAIM))
    return rows
