"""Our energies of an 8x8 multiplier and an INT8 MAC beside those of a current OpenSTA.

The reference figures: OpenSTA 3.1 on the activity of 1000 random vectors, zero delay, netlists of Yosys 0.23 (0.70 for
ASAP7) that ABC sized and buffered for a driving cell and an output load: pJ per cycle inside and behind gates
(combinational) and flip-flops (sequential), without the charging of what ports drive. Each row says which mapping ours
has: `sized` as the reference's, or `pinned` as everywhere else in this project.

A known difference: where a pin has tables with conditions and one without, OpenSTA adds the one without to the others;
here it stands for the states that no condition names (the liberty rule). Of these libraries IHP's has such pins: adding
would take its `pinned` from 1.04 + 1.51 to 1.10 + 2.54 pJ.

Liberty files come from $BITKILN_DATA/liberty and Debian's qflow-tech-osu018.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bitkiln.flow.gate_sim import pack_bits
from bitkiln.flow.gates import gate_netlist
from bitkiln.flow.metrics import Metrics
from bitkiln.flow.power import netlist_energy
from bitkiln.models.cost.energy.traces import trace_codes
from bitkiln.models.formats import get_format
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=energy_reference"
CYCLES, STREAMS = 65, 128
MUL8 = """module mul8(input clk, input [7:0] a, b, output reg [15:0] o);
  reg [7:0] x, y;
  always @(posedge clk) begin x <= a; y <= b; o <= x * y; end
endmodule
"""
MAC8 = """module mac8(input clk, clear, input signed [7:0] x, w, output reg signed [31:0] s);
  wire signed [15:0] p = x * w;
  always @(posedge clk) if (clear) s <= 0; else s <= s + p;
endmodule
"""
# Combinational and sequential pJ per cycle, area of mul8 [um2], total with unit-delay glitches.
REFERENCE = {"osu018": (15.5, 5.5, 14638, 40.0), "sky130hd": (1.99, 1.88, 2624, 5.49),
             "IHP sg13g2": (1.50, 2.61, 5022, 5.79), "ASAP7": (0.065, 0.079, 39.6, None)}
MAC_UNIFORM, MAC_RELU = 6.17, 4.63
DRIVERS = {"osu018": "INVX1", "sky130hd": "sky130_fd_sc_hd__inv_2", "IHP sg13g2": "sg13g2_inv_1",
           "ASAP7": "INVx1_ASAP7_75t_R"}
LOAD = 10                              # [fF] on every output


def libraries() -> dict[str, list[Path]]:
    """Files of the libraries that are there."""
    folder = Path(os.environ.get("BITKILN_DATA", "")) / "liberty"
    osu = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
    found = {"osu018": [osu], "sky130hd": sorted(folder.glob("sky130hd_tt.lib*")),
             "IHP sg13g2": sorted(folder.glob("ihp_sg13g2_typ*.lib*")),
             "ASAP7": sorted(folder.glob("asap7_rvt_tt/*.lib*"))}
    return {name: paths for name, paths in found.items() if paths and all(path.exists() for path in paths)}


def multiplier(liberty: list[Path], driver: str = "") -> Metrics:
    """The registered multiplier under uniform operands; sized where a driving cell is given."""
    netlist = gate_netlist(MUL8, "mul8", liberty, period_ps=200, constraints=_constraints(driver))
    fmt = get_format("uint8")
    stimulus = {name: pack_bits(trace_codes(fmt, "uniform", CYCLES, STREAMS, seed=seed), 8)
                for seed, name in enumerate("ab")}
    return netlist_energy(netlist, stimulus, liberty, clock_mhz=1000, warm_up=3)


def mac(liberty: list[Path], activation: str, driver: str = "") -> Metrics:
    """An INT8 MAC with a 32-bit accumulator, operands from outside."""
    netlist = gate_netlist(MAC8, "mac8", liberty, period_ps=200, constraints=_constraints(driver))
    fmt = get_format("int8")
    stimulus = {"x": pack_bits(trace_codes(fmt, activation, 1024, 64, seed=1), 8),
                "w": pack_bits(trace_codes(fmt, "uniform", 1024, 64, seed=2), 8),
                "clear": pack_bits((np.arange(1024) == 0)[:, None] * np.ones((1, 64), int), 1)}
    return netlist_energy(netlist, stimulus, liberty, clock_mhz=1000, warm_up=2, glitches=False)


def _constraints(driver: str) -> str:
    return f"set_driving_cell {driver}\nset_load {LOAD} [all_outputs]\n" if driver else ""


def _beside(seen: float, theirs: float) -> str:
    return f"OpenSTA 3.1: {theirs}, {100 * (seen / theirs - 1):+.0f} %"


def multiplier_rows(name: str, liberty: list[Path]) -> list[Row]:
    """Both mappings beside the reference."""
    combinational, sequential, area, glitch = REFERENCE[name]
    rows = []
    for label, driver in (("sized", DRIVERS[name]), ("pinned", "")):
        ours = multiplier(liberty, driver)
        note = f"; area {ours['area']:.4g} um2, reference {area}"
        for part, theirs in (("combinational", combinational), ("sequential", sequential)):
            rows.append(Row(f"{name}: mul8 {label}, {part}", ours[part], "pJ/cycle", command=COMMAND,
                            note=_beside(ours[part], theirs) + note))
        total = ours["combinational_glitch"] + ours["sequential_glitch"]
        rows.append(Row(f"{name}: mul8 {label}, all unit-delay transitions", total, "pJ/cycle", command=COMMAND,
                        note=_beside(total, glitch) if glitch else "no reference"))
    return rows


def mac_rows(liberty: list[Path]) -> list[Row]:
    """How operand statistics move an INT8 MAC."""
    rows = []
    for label, driver in (("sized", DRIVERS["sky130hd"]), ("pinned", "")):
        found = {kind: mac(liberty, kind, driver) for kind in ("uniform", "relu")}
        inside = {kind: each["combinational"] + each["sequential"] for kind, each in found.items()}
        area = f"; area {found['uniform']['area']:.0f} um2, reference 4338"
        rows += [Row(f"sky130hd: INT8 MAC {label}, {kind}", inside[kind], "pJ/cycle", command=COMMAND,
                     note=_beside(inside[kind], theirs) + area)
                 for kind, theirs in (("uniform", MAC_UNIFORM), ("relu", MAC_RELU))]
        rows.append(Row(f"sky130hd: INT8 MAC {label}, relu / uniform", inside["relu"] / inside["uniform"], "x",
                        command=COMMAND, note=f"reference {MAC_RELU / MAC_UNIFORM:.2f}"))
    return rows


def run() -> list[Row]:
    found = libraries()
    rows = []
    for name in REFERENCE:
        rows += multiplier_rows(name, found[name]) if name in found else [
            Row(f"{name}: mul8", None, "pJ/cycle", command=COMMAND, note="no liberty file here: set BITKILN_DATA")]
    return rows + (mac_rows(found["sky130hd"]) if "sky130hd" in found else [])
