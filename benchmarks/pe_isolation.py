"""Operand isolation: toggles inside the blocks that a mode does not use, from a waveform of random operands."""

from __future__ import annotations

from bitkiln.models.design import XR_NPE_MODES, MorphableDesign
from bitkiln.report.table import Row
from bitkiln.sim.pe_check import unused_toggles

COMMAND = "make bench SUITE=matmul ONLY=pe_isolation"
MODES = (XR_NPE_MODES, ("fp4", "int4", "int8", "fp8_e4m3"))


def run() -> list[Row]:
    rows = []
    for modes in MODES:
        for implementation in ("merged", "parallel"):
            design = MorphableDesign(modes, implementation=implementation)
            for mode, (unused, used) in unused_toggles(design).items():
                rows.append(Row(f"{'+'.join(modes)}, {implementation}, mode {mode}: toggles in unused blocks", unused,
                                "toggles", 0, command=COMMAND, note=f"{used:,} toggles in the blocks in use"))
    return rows
