"""What Yosys is told for each FPGA family, and which cells count as what.

The commands are those of the published peer comparison: no DSP blocks (a whole 18x18 block would be spent on
a 4x4 product) and on ECP5 no wide multiplexers (they inflate LUT counts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..models.errors import BitkilnError, nearest
from .metrics import Metric

__all__ = ["PARTS", "TARGETS", "Target", "get_target"]


@dataclass(frozen=True)
class Target:
    """One FPGA family.

    Attributes
    ----------
    name : str
    device : str
        What is recorded as the device of a synthesis run.
    synth : str
        Yosys command; ``{dsp}`` becomes empty or the option that forbids (or allows) DSP blocks.
    no_dsp, with_dsp : str
        What ``{dsp}`` stands for.
    cells : dict
        Metric -> regular expression of cell types.
    place : str or None
        Tool that places and routes.
    """

    name: str
    device: str
    synth: str
    no_dsp: str
    with_dsp: str
    cells: dict[str, str]
    place: str | None = None

    def script(self, top: str, dsp: bool = False) -> str:
        return " ".join(f"{self.synth} {self.with_dsp if dsp else self.no_dsp} -top {top}".split())

    def counts(self, cells: dict[str, int]) -> list[Metric]:
        """Metrics of a mapped netlist's cell counts."""
        return [
            Metric(name, sum(n for cell, n in cells.items() if re.fullmatch(pattern, cell)), "cells")
            for name, pattern in self.cells.items()
        ]


TARGETS = {
    target.name: target
    for target in (
        Target(
            "ecp5", "Lattice ECP5", "synth_ecp5 -nowidelut", "-nodsp", "",
            {"lut": "LUT4", "carry": "CCU2C", "ff": "TRELLIS_FF", "wide_mux": "PFUMX|L6MUX21",
             "dsp": "MULT18X18D|ALU54B", "ram": "DP16KD|TRELLIS_DPR16X4"},
            "nextpnr-ecp5",
        ),
        Target(
            "ice40", "Lattice iCE40", "synth_ice40", "", "-dsp",
            {"lut": "SB_LUT4", "carry": "SB_CARRY", "ff": "SB_DFF.*", "dsp": "SB_MAC16", "ram": "SB_RAM40.*"},
            "nextpnr-ice40",
        ),
        Target(
            "gowin", "Gowin GW1N", "synth_gowin -nowidelut -noiopads", "-nodsp", "",
            {"lut": "LUT[1-4]", "carry": "ALU", "ff": "DFF.*", "wide_mux": "MUX2_LUT.*",
             "dsp": "MULT.*|PADD.*", "ram": "SP|SDP.*|DP.*|RAM16.*"},
            "nextpnr-himbaechel",
        ),
        Target(
            "xilinx", "Xilinx UltraScale+", "synth_xilinx -flatten -family xcup -noiopad -noclkbuf", "-nodsp", "",
            {"lut": "LUT[1-6]", "carry": "CARRY[48]", "ff": "FD[RSCP]E", "wide_mux": "MUXF[789]",
             "dsp": "DSP48E2", "ram": "RAMB.*|RAM32.*|RAM64.*", "srl": "SRL.*"},
        ),
    )
}

ALIASES = {"ecp5-25k": "ecp5", "lfe5u-25f": "ecp5", "ecp5-85k": "ecp5", "lfe5u-85f": "ecp5", "xcup": "xilinx",
           "ultrascale+": "xilinx", "ice40hx8k": "ice40", "ice40-up5k": "ice40", "ice40up5k": "ice40"}
# Parts of a family that place and route knows, by names of theirs; others mean the family's first part.
PARTS = {"ecp5-85k": "ecp5-85k", "lfe5u-85f": "ecp5-85k", "ice40-up5k": "ice40-up5k", "ice40up5k": "ice40-up5k"}


def get_target(name: str, where: str = "target") -> Target:
    """The family called ``name``."""
    key = ALIASES.get(name.lower(), name.lower())
    if key not in TARGETS:
        raise BitkilnError("unknown target", where=where, got=name, expected=f"{', '.join(TARGETS)} or asic",
                           help=nearest(key, [*TARGETS, "asic"]))
    return TARGETS[key]
