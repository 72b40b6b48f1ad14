"""The search unit and a 16 x 16 INT8 core on silicon: ECP5 after place and route, UltraScale+ and cell libraries.

SpOctA's figure stands beside ours with its technology; it is the paper's claim, by synthesis, with 177 KB of SRAM.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import NamedTuple

from bitkiln.config import load_design
from bitkiln.flow.pnr import place_and_route
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.spconv.core import SpConvCore
from bitkiln.hw.spconv.search import MapSearch
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.report.table import Row

from .pe_sharing import libraries

COMMAND = "make bench SUITE=spconv ONLY=spconv_place"
CLAIM = "SpOctA: 1.06 mm2 at 40 nm, 400 MHz, 177.4 KB SRAM (synthesis)"
CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")
SEARCH = MapDesign(depth=11, batch_bits=1, capacity=2048)
# Memories of so many words are SRAM macros; queues and tables below are flip-flops.
SRAM_WORDS = 32
PERIOD_PS = 5000
# A one-port macro of 2048 x 64; our memories have a port to read and one to write, which takes more.
MACRO = "ihp_sg13g2_sram/RM_IHPSG13_1P_2048x64_c2_bm_bist_typ_1p20V_25C.lib.gz"
MACRO_BITS = 2048 * 64


def core() -> SpConvDesign:
    """16 x 16 INT8 as it fits an LFE5U-85F."""
    return load_design(preset="spconv_edge").design


def run() -> list[Row]:
    design, compact = core(), SEARCH.with_options(search="compact")
    search = _unit("map search, parity", MapSearch(SEARCH), MapSearch(SEARCH).module_name)
    whole = _unit("16x16 INT8 core", SpConvCore(design), design.name)
    rows = [_placed(search, "clk"),
            _placed(_unit("map search, compact", MapSearch(compact), MapSearch(compact).module_name), "clk"),
            _placed(whole, "aclk")]
    for unit in (search, whole):
        found = {each.name: each.value for each in synthesise(unit.text, unit.top, "xilinx", dsp=True).metrics}
        rows.append(Row(f"{unit.title}, UltraScale+", found["lut"], "LUT", command=COMMAND,
                        note=", ".join(f"{found.get(part) or 0:.0f} {part}" for part in ("ff", "dsp", "ram"))))
    libs = libraries()
    rows += [_cells(search, label, path) for label, path in libs.items()]
    # A quarter of an hour for each library.
    rows += [_cells(whole, label, path) for label, path in libs.items() if label.startswith("IHP")]
    return rows


class _Unit(NamedTuple):
    title: str
    top: str
    text: str


def _unit(title: str, component, top: str) -> _Unit:
    """With its Verilog, which takes long to emit."""
    return _Unit(title, top, to_verilog(component))


def _placed(unit: _Unit, clock: str) -> Row:
    try:
        found = place_and_route(unit.text, unit.top, "ecp5", seeds=(1,), dsp=True, clock=clock, part="ecp5-85k",
                                goal_mhz=100)
    except BitkilnError as error:
        return Row(f"{unit.title}: place and route", None, "MHz", None, command=COMMAND,
                   note=f"{error.what}: {error.got}")
    note = ", ".join(f"{found.cells.get(each, 0):,} {each}" for each in CELLS)
    return Row(f"{unit.title}: post-route clock, ECP5-85k speed 6", found.metrics[0].value, "MHz", None, "higher",
               COMMAND, f"one seed, {'router2' if 'router2' in found.command else 'router1'}; {note}")


def _cells(unit: _Unit, label: str, path: Path) -> Row:
    """Logic on a cell library; memories as macros where there is one."""
    found = {each.name: each.value for each in synthesise(
        unit.text, unit.top, "asic", liberty=[path], period_ps=PERIOD_PS, sram_words=SRAM_WORDS).metrics}
    note = f"and {found['sram'] / 8192:.1f} KiB in {found['sram_macros']} memories"
    macro = path.parent / MACRO
    if label.startswith("IHP") and macro.is_file():
        area = float(re.search(r"area\s*:\s*([\d.]+)", gzip.decompress(macro.read_bytes()).decode())[1])
        note += f", {found['sram'] * area / MACRO_BITS / 1e6:.2f} mm2 if as dense as the 2048x64 one-port macro"
    return Row(f"{unit.title}, logic, {label}", round(found["area"] / 1e6, 3), "mm2 of cells", command=COMMAND,
               note=f"{note}; {CLAIM}")
