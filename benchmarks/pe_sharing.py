"""One switchable PE against dedicated units of the same throughput: does sharing pay?

Baseline: the foundation's dot units, one for each mode with the mode's lanes and the same depth, each with the
accumulator that its own products need. That favours the baseline twice: it has no multiplexer that chooses a result
and no operand isolation.
"""

from __future__ import annotations

import os
from pathlib import Path

from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.models.design import XR_NPE_MODES, MorphableDesign
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=matmul ONLY=pe_sharing"
LIMIT = 0.80
CLAIM = "XR-NPE claims -42 % area against the best published MACs (28 nm)"
LIBERTY = {"IHP sg13g2 130 nm": "ihp_sg13g2_typ_1p20V_25C.lib.gz", "sky130hd": "sky130hd_tt.lib.gz"}
SUBSETS = (XR_NPE_MODES, ("fp4", "posit4_1"), ("fp4", "int4", "int8", "fp8_e4m3"), ("int4", "int8", "int16"),
           ("int8", "int8xint4"), ("posit8_0", "posit16_1"), ("int8", "fp8_e4m3"))


def libraries() -> dict[str, Path]:
    """Liberty files found in $BITKILN_DATA/liberty."""
    folder = Path(os.environ.get("BITKILN_DATA", "")) / "liberty"
    return {name: folder / file for name, file in LIBERTY.items() if (folder / file).is_file()}


def sizes(component, name: str, libs: dict[str, Path]) -> dict[str, float]:
    """Metric -> size of one unit."""
    text = to_verilog(component)
    found = {}
    for target, label in (("ecp5", "ECP5 LUT4"), ("xilinx", "UltraScale+ LUT")):
        cells = {m.name: m.value for m in synthesise(text, name, target).metrics}
        found[label] = cells["lut"]
        if target == "ecp5":
            found["ECP5 LUT4 + 2 CCU2C"] = cells["lut"] + 2 * (cells.get("carry") or 0)
            found["ECP5 FF"] = cells["ff"]
    for label, path in libs.items():
        cells = {m.name: m.value for m in synthesise(text, name, "asic", liberty=[path]).metrics}
        found[f"{label} area"] = cells["area"]
    return found


def run() -> list[Row]:
    libs = libraries()
    rows = []
    for modes in SUBSETS:
        base = MorphableDesign(modes)
        parts = [sizes(DotUnit(base.dot(mode)), base.dot(mode).name, libs) for mode in base.modes]
        dedicated = {metric: sum(part[metric] for part in parts) for metric in parts[0]}
        target = modes == XR_NPE_MODES
        for implementation in ("merged", "parallel"):
            design = base.with_options(implementation=implementation)
            shared = sizes(MorphablePe(design), design.name, libs)
            default = " (default)" if base.implementation == implementation else ""
            for metric, size in shared.items():
                if metric == "ECP5 FF":
                    continue
                note = f"{size:.0f} against {dedicated[metric]:.0f}" + (f"; {CLAIM}" if target else "")
                held = target and default and "CCU2C" not in metric
                rows.append(Row(f"{'+'.join(modes)}, {implementation}{default}: {metric}",
                                round(size / dedicated[metric], 3), "x dedicated", LIMIT if held else None,
                                command=COMMAND, note=note))
    if not libs:
        rows.append(Row("liberty area", None, "", None, command=COMMAND,
                        note="set BITKILN_DATA to a folder with liberty/*.lib.gz"))
    return rows
