"""Area of the bit-serial PE and of what stands beside it, between registers, by the published PE's flow and on ECP5.

The published BitMoD PE (RTL of arXiv 2411.11745, read by the slang front end, the same commands) has 3149 cells with
its registers: exponent matching 356, bit-serial multiplication 1662, group accumulation 962, dequantisation 169. It
aligns its operands itself, as ``floating`` does with the same 3 guard bits and 15-bit sum. The decoding of activations
is not in it: the PE with a row's edge of its own is what an array of one column needs. Its term decoder is apart too.
"""

from __future__ import annotations

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.report.table import Row

from .bitserial_cells import cell, decoder, edge, pe, size

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_area"
PUBLISHED = 3149
PARTS = {"PE + dequantiser": pe, "row edge": edge, "term decoder": decoder, "PE + dequantiser + own row edge": cell}
ALL = tuple(PARTS)
SHARED = ALL[:3]
BASE = {"weights": ("bitmod4", "bitmod3", "int8", "int6"), "activation": "fp16", "lanes": 4, "scale": "uint8"}
ALIGNED = {"accumulate": "aligned", "guard": 3, "specials": False}
EXACT = {"accumulate": "exact", "specials": False}
FLOATING = {"accumulate": "floating", "guard": 3, "mantissa": 15, "specials": False}
DESIGNS: dict[str, tuple[dict, tuple[str, ...]]] = {
    "aligned": (ALIGNED, ALL),
    "aligned, NaN and Inf": ({**ALIGNED, "specials": True}, SHARED),
    "floating": (FLOATING, ALL),
    "floating, NaN and Inf": ({**FLOATING, "specials": True}, SHARED),
    "floating, to nearest": ({**FLOATING, "rounding": "rne"}, ALL),
    "exact, placed at the edge": ({**EXACT, "placement": "edge"}, ALL),
    "exact, placed in the PE": ({**EXACT, "placement": "pe"}, ALL),
    "exact in the PE, NaN and Inf": ({**EXACT, "placement": "pe", "specials": True}, SHARED),
    "exact in the PE, zero-point": ({**EXACT, "placement": "pe", "zero_point": 4}, SHARED),
    "exact in the PE, two scales": ({**EXACT, "placement": "pe", "dual_scale": True}, SHARED),
    "aligned, zero skipping": ({**ALIGNED, "zero_skip": True}, ("term decoder",)),
}
# Engines for one format of `bitkiln run g2p --weights` alone. Each row's name is the format's.
FORMATS: dict[str, dict] = {
    "int8": {"weights": "int8"}, "int6": {"weights": "int6"}, "int4_asym": {"weights": "int4", "zero_point": 4},
    "fp4": {"weights": "fp4"}, "flint4": {"weights": "flint4"}, "bitmod4": {"weights": "bitmod4"},
    "afpq4": {"weights": "fp4", "dual_scale": True}, "nf4_int8": {"weights": "nf4_int8"},
    "mxfp4": {"weights": "fp4", "scale": "e8m0", "group": 32},
    "nvfp4": {"weights": "fp4", "scale": "ue4m3", "group": 16},
    "int3_asym": {"weights": "int3", "zero_point": 3}, "fp3": {"weights": "fp3"}, "bitmod3": {"weights": "bitmod3"},
    "afpq3": {"weights": "fp3", "dual_scale": True}, "ternary": {"weights": "ternary"},
}
NOT_ALIGNED = ("zero_point", "dual_scale")
HELD = ("PE + dequantiser", "PE + dequantiser + own row edge")


def run() -> list[Row]:
    rows = []
    for name, (options, parts) in DESIGNS.items():
        design = BitSerialDesign(**BASE, **options)
        for part in parts:
            found = size(PARTS[part](design))
            note = f"{found.flip_flops} of them flip-flops; {found.ecp5}"
            target = None
            if part in HELD:
                note += f"; {found.cells / PUBLISHED:.2f} x the published PE ({PUBLISHED})"
                target = PUBLISHED - 1 if name in ("aligned", "floating") else None
            rows.append(Row(f"{name}: {part}", found.cells, "cells", target, command=COMMAND, note=note))
    return rows + alone()


def alone() -> list[Row]:
    """Engines of one format, in exact and, where it has a way, aligned sums."""
    rows = []
    for name, options in FORMATS.items():
        for sums in (EXACT, ALIGNED):
            if sums is ALIGNED and any(key in options for key in NOT_ALIGNED):
                continue
            design = BitSerialDesign(**{**BASE, **sums, **options})
            found, own, row = (size(PARTS[part](design)) for part in ("PE + dequantiser", "term decoder", "row edge"))
            rows.append(Row(f"{name} alone, {sums['accumulate']}: PE + dequantiser", found.cells, "cells",
                            command=COMMAND, note=f"{found.ecp5}; term decoder {own.cells} cells, {own.lut} LUT4; "
                            f"row edge {row.cells} cells, {row.lut} LUT4"))
    return rows
