"""Generated parts of docs/matmul_core.md: tables that come from the designs, the cycle model and the register map.

``python -m bitkiln.report.core_sheet`` writes them anew.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from ..flow.registers import markdown
from ..host.packing import best_order
from ..models.cost.cycles.cycles import matmul_cycles
from ..models.design import XR_NPE_MODES, Accumulator, ArrayDesign, Job, MatmulDesign, Mode, MorphableDesign
from ..models.design.morphable import COMMON_MODES
from ..models.design.registers import (
    DESCRIPTOR_REGISTERS,
    NEXT_WORD,
    WORD_BYTES,
    core_registers,
)
from ..models.errors import FAILED, BitkilnError

__all__ = ["PARTS", "default_core", "part_of", "parts", "update"]

SHEET = Path("docs/matmul_core.md")
COMMAND = "python -m bitkiln.report.core_sheet"
DEPTH = 1024
SMALL_MODES = ("fp4", "int4", "int8", "fp8_e4m3")
# Shapes of the utilisation table: m, k, n.
SHAPES = ((64, 64, 64), (64, 256, 64), (256, 512, 256), (60, 500, 60), (1, 512, 256))


def default_core() -> MatmulDesign:
    """The core whose registers the datasheet lists: 4 x 4 PEs of the four XR-NPE modes, everything else by default."""
    return MatmulDesign(ArrayDesign(4, 4, MorphableDesign(XR_NPE_MODES)))


def _cores() -> dict[str, MatmulDesign]:
    eight = MorphableDesign(SMALL_MODES)
    return {"4 x 4, XR-NPE modes": default_core(),
            "8 x 8, small modes": MatmulDesign(ArrayDesign(8, 8, eight), bus_bits=128),
            "8 x 8, small modes, 256-bit bus": MatmulDesign(ArrayDesign(8, 8, eight), bus_bits=256)}


def _table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _modes() -> str:
    rows: list[list[object]] = []
    for name in COMMON_MODES:
        mode = Mode.of(name)
        wide = mode.activation.name == "bf16"
        dot = mode.dot(Accumulator(kind="fp32" if wide else "exact", depth=DEPTH))
        specials = ", ".join(flag for flag in dot.flags if flag not in ("illegal", "overflow")) or "none"
        specials = "as float32" if wide else specials
        unit = "float32" if wide else f"2^{dot.product_exponent}"
        bits = 32 if wide else dot.exact_bits
        rows.append([f"`{name}`", mode.lanes, f"{mode.lanes} x {mode.activation.bits}",
                     f"{mode.lanes} x {mode.weight.bits}", unit, bits, specials])
    return _table(["mode", "products a cycle", "A word", "W word", "unit of a sum", f"bits of a sum, depth {DEPTH}",
                   "flags"], rows)


def _latency() -> str:
    pe = MorphableDesign(("int8",))
    variants: dict[str, MatmulDesign] = {
        "int8, rule raw only, no bias, no C": MatmulDesign(ArrayDesign(4, 4, pe), rules=("raw",), bias=False,
                                                           accumulate=False),
        "int8, rules raw and integer": MatmulDesign(ArrayDesign(4, 4, pe), rules=("raw", "integer")),
        "int8, all rules": MatmulDesign(ArrayDesign(4, 4, pe)),
        "XR-NPE modes, all rules": default_core(),
        "the same, PE pipeline 2": MatmulDesign(ArrayDesign(4, 4, MorphableDesign(XR_NPE_MODES, pipeline=2))),
        "the same, systolic links": MatmulDesign(ArrayDesign(4, 4, MorphableDesign(XR_NPE_MODES), links="systolic")),
        "bf16 (fp32 sums), all rules": MatmulDesign(ArrayDesign(4, 4, MorphableDesign(
            ("bf16",), Accumulator(kind="fp32")))),
        "fp4 with mxfp4 blocks, all rules": MatmulDesign(ArrayDesign(4, 4, MorphableDesign(("fp4",))),
                                                         block=("mxfp4",)),
    }
    rows = [[name, design.array_delay, design.output_latency] for name, design in variants.items()]
    return _table(["core (4 x 4)", "D", "L"], rows)


def _utilisation() -> str:
    rows: list[list[object]] = []
    for title, design in _cores().items():
        for mode in (design.pe.modes[0].name, design.pe.modes[-1].name):
            for m, k, n in SHAPES:
                job = Job(mode, m=m, k=k, n=n, rule="float", output=mode)
                job = replace(job, order=best_order(design, job))
                cycles = matmul_cycles(design, job)
                words = -(-k // design.pe.modes[design.pe.index(mode)].lanes)
                rows.append([title, f"`{mode}`", f"{m} x {k} x {n}", job.order, words, f"{cycles.cycles:,}",
                             cycles.fill, cycles.drain, f"{100 * cycles.utilisation:.1f} %"])
                title = ""
    return _table(["core", "mode", "m x k x n", "order", "words", "cycles", "fill", "drain", "utilisation"], rows)


def _descriptor() -> str:
    rows: list[list[object]] = [[f"`{WORD_BYTES * at:02X}`", at, f"`{name}`"]
                                for at, name in enumerate(DESCRIPTOR_REGISTERS)]
    rows.append([f"`{WORD_BYTES * NEXT_WORD:02X}`", NEXT_WORD, "address of the next descriptor, bits 31:0; 0 ends"])
    half = -(-len(rows) // 2)
    pairs = [[*left, *right] for left, right in zip(rows[:half], rows[half:], strict=True)]
    return _table(["byte", "word", "register"] * 2, pairs)


def _registers() -> str:
    return markdown(core_registers(default_core()), heading=2).strip()


PARTS = {"modes": _modes, "latency": _latency, "utilisation": _utilisation, "descriptor": _descriptor,
         "registers": _registers}


def parts() -> dict[str, str]:
    """Every generated part by its name."""
    return {name: make() for name, make in PARTS.items()}


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: generated by {COMMAND} -->\n", f"\n<!-- end of {name} -->"


def part_of(sheet: str, name: str) -> str:
    """The text of a part in the datasheet.

    Raises
    ------
    BitkilnError
        There is none of that name.
    """
    start, end = _marks(name)
    found = re.search(re.escape(start) + "(.*?)" + re.escape(end), sheet, re.S)
    if not found:
        raise BitkilnError("no such part of the datasheet", where=name, expected=start.strip(), exit_code=FAILED)
    return found[1]


def update(sheet: str) -> str:
    """The datasheet with every part made anew."""
    for name, text in parts().items():
        start, end = _marks(name)
        sheet = sheet.replace(start + part_of(sheet, name) + end, start + text + end)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the generated parts of the core's datasheet.")
    parser.add_argument("sheet", nargs="?", type=Path, default=SHEET, help="default: %(default)s")
    path = parser.parse_args().sheet
    path.write_text(update(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
