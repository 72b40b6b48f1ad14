# amaranth: UnusedElaboratable=no
"""A PE behind eight pins on standard cells: what was tried around it, and what the area estimates are wrong by.

Liberty files come from $BITKILN_DATA/liberty. The coefficients of ``bitkiln/flow/packages/tinytapeout_area.py`` are
fitted again to the runs of `DESIGNS` and printed beside those in use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Member

from bitkiln.flow.packages.tinytapeout_area import SHUTTLES, Shuttle, around, counts
from bitkiln.flow.synth import cell_mapping, synthesise
from bitkiln.flow.tools import run_yosys, scratch
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.hw.mac.morphable import MorphablePe
from bitkiln.hw.mac.pins import PinsPe, chosen
from bitkiln.models.cost.area.area import area_estimate
from bitkiln.models.design import DotDesign, MorphableDesign
from bitkiln.models.design.pins import PORT, PinsDesign
from bitkiln.report.table import Row
from bitkiln.sim.toolchain import require

COMMAND = "make bench SUITE=boards ONLY=tinytapeout"
FILES = {"sky130": "sky130hd_tt.lib.gz", "ihp": "ihp_sg13g2_typ_1p20V_25C.lib.gz"}
WORST = 10.0        # % of a dot unit's area; switchable PEs are the cost model's to predict


def _dot(pe: str, lanes: int, **options) -> DotDesign:
    return DotDesign.from_pe(pe, lanes=lanes, **options)


DESIGNS = [*(_dot(pe, lanes) for pe in ("fp4", "int4", "posit4_1") for lanes in (1, 2, 4)), _dot("fp4", 8),
           *(_dot(pe, lanes) for pe in ("posit8_0", "int8") for lanes in (1, 2)), _dot("int8xfp4", 1),
           _dot("int8xfp4", 4), _dot("int8xternary", 4), _dot("fp8_e4m3", 1), _dot("fp4", 1, output="fp8_e4m3"),
           _dot("posit8_0", 1, output="posit8_0"),
           *(MorphableDesign(modes) for modes in (("fp4", "posit4_1"), ("fp4", "int8"), ("fp4", "posit8_0", "int8")))]
PLAIN = [_dot("fp4", 1), _dot("fp4", 4), _dot("posit8_0", 1), _dot("int8", 1)]
TRIED = [_dot("fp4", 1), _dot("fp4", 4), _dot("posit8_0", 2)]


class Serial(PinsDesign):
    """Words of two bytes one after the other, with an enable, instead of both at once without."""

    parallel = False

    @property
    def name(self) -> str:
        return f"{super().name}_serial"


# What was tried --------------------------------------------------------------------------------------


class Tried(PinsPe):
    """Another way in or out; strobes that it needs more than `PinsPe` are ports of their own.

    Parameters
    ----------
    design : PinsDesign
    way : str
        ``counted``: the byte to read is counted, not chosen. ``shifted``: the result is copied into a register and
        shifted out. ``held``: the earlier bytes move up only with a strobe. ``lanes``: each byte has a register with an
        enable, chosen by pins. ``counted lanes``: chosen by a counter.
    """

    MORE = {"counted": {"next": 1}, "shifted": {"load": 1}, "held": {"push": 1}, "lanes": {"at": 2, "push": 1},
            "counted lanes": {"push": 1}}

    def __init__(self, design: PinsDesign, way: str):
        self.way = way
        super().__init__(design)

    def _members(self) -> dict[str, Member]:
        return super()._members() | {name: In(bits) for name, bits in self.MORE[self.way].items()}

    @property
    def module_name(self) -> str:
        return f"{super().module_name}_{self.way.replace(' ', '_')}"

    @property
    def parameters(self) -> dict:
        return super().parameters | {"way": self.way}

    def _byte(self, m: Module, parts: Sequence[Value]) -> Value:
        if self.way == "counted":
            at = Signal(range(len(parts)), reset_less=True)
            with m.If(self.clear | self.en):
                m.d.sync += at.eq(0)
            with m.Elif(self.next):
                m.d.sync += at.eq(at + 1)
            return chosen(at, parts)
        if self.way == "shifted":
            held = Signal(PORT * len(parts), reset_less=True)
            whole = Cat(*(Cat(part, Const(0, PORT - len(part))) for part in parts))
            m.d.sync += held.eq(Mux(self.load, whole, held >> PORT))
            return held[:PORT]
        return super()._byte(m, parts)

    def _word(self, m: Module) -> Value:
        if self.way not in ("held", "lanes", "counted lanes"):
            return super()._word(m)
        count = self.design.beats - 1
        held = [Signal(PORT, name=f"byte_{at}", reset_less=True) for at in range(count)]
        if self.way == "held":
            with m.If(self.push):
                m.d.sync += [one.eq(above) for one, above in zip(held, [*held[1:], self.i], strict=True)]
            return Cat(*held, self.i)
        at = self.at if self.way == "lanes" else Signal(range(count + 1), reset_less=True)
        for index, one in enumerate(held):
            with m.If(self.push & (at == index)):
                m.d.sync += one.eq(self.i)
        if self.way == "counted lanes":
            with m.If(self.en | ~self.rst_n):
                m.d.sync += at.eq(0)
            with m.Elif(self.push):
                m.d.sync += at.eq(at + 1)
        return Cat(*held, self.i)


# Areas --------------------------------------------------------------------------------------------------


def _liberty(shuttle: Shuttle) -> Path | None:
    path = Path(os.environ.get("BITKILN_DATA", "")) / "liberty" / FILES[shuttle.name]
    return path if "BITKILN_DATA" in os.environ and path.exists() else None


def area(component, liberty: Path) -> float:
    """Cells of a component [um2], as `bitkiln synth` measures them."""
    metrics = synthesise(to_verilog(component), component.module_name, "asic", liberty=liberty)
    return float(metrics["area"] or 0)


def plain_area(component, liberty: Path) -> float:
    """The same with the pass alumacc, which LibreLane runs and the pinned settings leave out."""
    mapping = cell_mapping(component.module_name, [liberty])
    with scratch() as name:
        folder = Path(name)
        run_yosys(require("yosys"), f"{mapping.prepare.replace(' -noalumacc', '')}; {mapping.area}", folder,
                  {"design.v": to_verilog(component), **mapping.files})
        return float(json.loads((folder / "stat.json").read_text())["design"]["area"])


def _tried(liberty: Path) -> list[Row]:
    rows = []
    for pe in TRIED:
        design = PinsDesign(pe)
        best = area(PinsPe(design), liberty)
        rows.append(Row(f"{design.name}: bytes shifted in, result read through multiplexers", round(best), "um2",
                        command=COMMAND, note="as built"))
        ways = ["counted", "shifted", *(["held", "lanes", "counted lanes"] if design.beats > 1 else [])]
        for way in ways:
            found = area(Tried(design, way), liberty)
            rows.append(Row(f"{design.name}: {way}", round(found), "um2", command=COMMAND,
                            note=f"{found - best:+,.0f} um2, {100 * (found / best - 1):+.1f} %"))
    for pe in (_dot("fp4", 2), _dot("posit8_0", 1)):
        best, found = (area(PinsPe(design), liberty) for design in (PinsDesign(pe), Serial(pe)))
        rows.append(Row(f"{PinsDesign(pe).name}: both bytes at once", round(best), "um2", command=COMMAND,
                        note="as built: one edge for a word, every edge adds"))
        rows.append(Row(f"{PinsDesign(pe).name}: one after the other", round(found), "um2", command=COMMAND,
                        note=f"{found - best:+,.0f} um2, {100 * (found / best - 1):+.1f} %, two edges for a word"))
    return rows


def _errors(shuttle: Shuttle, liberty: Path) -> list[Row]:
    rows, facts, more, total = [], [], [], []
    for pe in DESIGNS:
        design = PinsDesign(pe)
        alone = area(DotUnit(pe) if isinstance(pe, DotDesign) else MorphablePe(pe), liberty)
        whole = area(PinsPe(design), liberty)
        found = area_estimate(pe, shuttle.technology)
        value, high = (float(one or 0) + around(design, shuttle) for one in (found.value, found.high))
        error = 100 * (value / whole - 1)
        plain = f", {plain_area(PinsPe(design), liberty):,.0f} with alumacc" if pe in PLAIN else ""
        rows.append(Row(f"{shuttle.name}, {pe.name}: error of the area", round(abs(error), 1), "%",
                        WORST if isinstance(pe, DotDesign) else None, "lower", COMMAND,
                        f"{whole:,.0f} um2{plain} (the PE alone {alone:,.0f}), predicted {value:,.0f}, at most "
                        f"{high:,.0f}"))
        facts.append(counts(design))
        more.append(whole - alone)
        total.append(whole)
    columns = np.array(facts, float) * (1, 1, -1)
    weights = 1 / np.array(total)
    fitted, *_ = np.linalg.lstsq(columns * weights[:, None], np.array(more) * weights, rcond=None)
    for name, new, used in zip(("byte", "select", "enable"), fitted, (shuttle.byte, shuttle.select, shuttle.enable),
                               strict=True):
        rows.append(Row(f"{shuttle.name}, fitted again: {name}", round(float(new), 1), "um2 a bit", command=COMMAND,
                        note=f"in use: {used}"))
    return rows


def run() -> list[Row]:
    rows: list[Row] = []
    for shuttle in SHUTTLES:
        liberty = _liberty(shuttle)
        if liberty is None:
            rows.append(Row(f"{shuttle.name}: {FILES[shuttle.name]}", None, "um2", command=COMMAND,
                            note="not there: $BITKILN_DATA/liberty"))
            continue
        if shuttle is SHUTTLES[0]:
            rows += _tried(liberty)
        rows += _errors(shuttle, liberty)
    return rows
