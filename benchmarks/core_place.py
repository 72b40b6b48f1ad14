"""Cores on silicon: post-route clock and utilisation on ECP5-85k, cells for UltraScale+ and a cell library.

XR-NPE's published figures stand beside ours, with their technology; they are claims of the paper, not measured here.
"""

from __future__ import annotations

from bitkiln.flow.pnr import place_and_route
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.core import MatmulCore
from bitkiln.models.design import XR_NPE_MODES, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.report.table import Row

from .pe_sharing import libraries

COMMAND = "make bench SUITE=matmul ONLY=core_place"
EDGE_MODES = ("fp4", "int4", "int8", "fp8_e4m3")
COMB_85K = 83640   # LUT4 of the device; a CCU2C takes the place of two
LIMIT = 0.80
PIPELINE = 3
LARGEST = 6        # n x n core of XR-NPE modes that was routed (microarchitecture.md, 'Routing a full device')
CELL_WORDS = 16    # of an operand tile in a cell library: longer ones are SRAM macros, which the open flow has not
CLAIMS = ("XR-NPE claims 0.016 mm2 at 1.72 GHz for its MAC engine (28 nm), 1.4x fewer LUTs than others for its "
          "co-processor (VCU129)")
CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")


def core(size: int, modes: tuple[str, ...], k_words: int = 512, **options) -> MatmulDesign:
    """n x n core; ``options`` are those of the PE."""
    pe = MorphableDesign(modes, pipeline=PIPELINE, **options)
    return MatmulDesign(ArrayDesign(size, size, pe), bus_bits=128, output_lanes=1, k_words=k_words)


def placed(design: MatmulDesign, title: str) -> list[Row]:
    """Post-route clock and utilisation; a design that does not fit is a row without a measurement."""
    row = {"command": COMMAND}
    try:
        found = place_and_route(to_verilog(MatmulCore(design)), design.name, "ecp5", seeds=(1,), dsp=True, clock="aclk",
                                part="ecp5-85k", goal_mhz=100, routing="negotiated")
    except BitkilnError as error:
        return [Row(f"{title}: place and route", None, "MHz", None, note=f"{error.what}: {error.got}", **row)]
    cells = found.cells
    share = cells.get("TRELLIS_COMB", 0) / COMB_85K
    note = ", ".join(f"{cells.get(name, 0):,} {name}" for name in CELLS)
    return [Row(f"{title}: post-route clock, ECP5-85k speed 6", found.metrics[0].value, "MHz", None, "higher",
                note=f"one seed, pipeline {PIPELINE}", **row),
            Row(f"{title}: share of the device's LUTs", round(share, 3), "of 83,640", LIMIT, note=note, **row)]


def run() -> list[Row]:
    rows = placed(core(LARGEST, XR_NPE_MODES, multiplier="operator"), f"{LARGEST}x{LARGEST} core of XR-NPE modes")
    for size in range(LARGEST + 1, 9):
        design = core(size, XR_NPE_MODES, multiplier="operator")
        cells = {m.name: m.value for m in
                 synthesise(to_verilog(MatmulCore(design)), design.name, "ecp5", dsp=True).metrics}
        share = (cells["lut"] + 2 * (cells.get("carry") or 0)) / COMB_85K
        rows.append(Row(f"{size}x{size} core of XR-NPE modes, by Yosys counts", round(share, 3), "of 83,640",
                        command=COMMAND, note="before packing; not routed"))
    rows += placed(core(8, EDGE_MODES, implementation="packed"), "8x8 core of " + ", ".join(EDGE_MODES))

    design = core(8, XR_NPE_MODES)
    text = to_verilog(MatmulCore(design))
    found = {m.name: m.value for m in synthesise(text, design.name, "xilinx", dsp=True).metrics}
    rows.append(Row("8x8 core of XR-NPE modes, UltraScale+", found["lut"], "LUT", command=COMMAND,
                    note=", ".join(f"{found.get(name) or 0:.0f} {name}" for name in ("ff", "dsp", "ram", "srl"))
                    + f"; {CLAIMS}"))
    design = core(8, XR_NPE_MODES, k_words=CELL_WORDS)
    text = to_verilog(MatmulCore(design))
    for label, path in libraries().items():
        area = {m.name: m.value for m in synthesise(text, design.name, "asic", liberty=[path]).metrics}["area"]
        rows.append(Row(f"8x8 core of XR-NPE modes, {label}", round(area / 1e6, 3), "mm2 of cells", command=COMMAND,
                        note=f"operand tiles of {CELL_WORDS} words, as flip-flops; {CLAIMS}"))
    return rows
