"""Operand isolation: toggles inside blocks that belong to one mode while another one runs, from a waveform.

Shared blocks (multiplier, shifter, quire) work in every mode; the gates in front of a block see the operands by nature.
"""

from __future__ import annotations

import numpy as np

from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design import XR_NPE_MODES, MorphableDesign
from bitkiln.models.design.morphable import IMPLEMENTATIONS
from bitkiln.report.table import Row
from bitkiln.sim.toggles import count_toggles

COMMAND = "make bench SUITE=matmul ONLY=pe_isolation"
BUILDS = ((XR_NPE_MODES, ("merged", "parallel")), (("fp4", "int4", "int8", "fp8_e4m3"), IMPLEMENTATIONS))
CYCLES, SEED = 500, 9


def owner(signal: str, modes: tuple[str, ...], implementation: str) -> str | None:
    """The mode whose own block a signal is in; None for shared blocks."""
    # The decoder of a packed PE is its format's own; in a merged one 4-bit formats may be guests of it.
    own = ("recode_{}_", "{}_lane", *(("units_{}_", "decode_{}_") if implementation == "packed" else ()))
    for block in signal.split(".")[:-1]:
        for mode in modes:
            if block == mode or block.startswith(tuple(name.format(mode) for name in own)):
                return mode
        if block in ("low", "high") and "posit4_1" in modes:   # decoders of the one-hot exponent
            return "posit4_1"
    return None


def run() -> list[Row]:
    rows, rng = [], np.random.default_rng(SEED)
    for modes, implementations in BUILDS:
        for implementation in implementations:
            pe = MorphableDesign(modes, implementation=implementation)
            for index, mode in enumerate(modes):
                toggles = count_toggles(MorphablePe(pe), {
                    "a": rng.integers(0, 1 << 16, CYCLES), "w": rng.integers(0, 1 << 16, CYCLES), "mode": index,
                    "clear": 0, "en": 1}, skip=pe.latency)
                owners = {name: owner(name, modes, implementation) for name in toggles if not name.endswith("clk")}
                unused = sum(toggles[name] for name, its in owners.items() if its not in (None, mode))
                watched = sum(its not in (None, mode) for its in owners.values())
                used = sum(toggles[name] for name, its in owners.items() if its in (None, mode))
                default = " (default)" if MorphableDesign(modes).implementation == implementation else ""
                rows.append(Row(f"{'+'.join(modes)}, {implementation}{default}, mode {mode}: toggles in unused blocks",
                                unused, "toggles", 0, command=COMMAND,
                                note=f"{watched} signals watched; {used:,} toggles elsewhere, {CYCLES} cycles"))
    return rows
