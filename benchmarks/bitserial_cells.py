"""Parts of the bit-serial array between registers, and their size in generic two-input cells and on ECP5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.flow.synth import synthesise
from bitkiln.flow.tools import run_yosys, scratch
from bitkiln.hw.dequant.activation import ActivationEdge
from bitkiln.hw.dequant.pe import BitSerialPe
from bitkiln.hw.dequant.scaler import GroupDequantiser
from bitkiln.hw.dequant.terms import TermDecoder
from bitkiln.hw.emit import to_verilog
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.sim.toolchain import require
from bitkiln.store import store

__all__ = ["Between", "Size", "cell", "decoder", "edge", "pe", "size"]

# The flow of the published figures (reference: BitMoD's PE, read by the slang front end, then these commands).
GENERIC = ("read_verilog design.v; hierarchy -check -top {top}; setattr -mod -unset keep_hierarchy *; flatten; "
           "synth -flatten -top {top}; abc -g AND,OR,XOR,MUX; opt_clean")


class Between(wiring.Component):
    """Units between registers: one on every input and every output.

    Parameters
    ----------
    name : str
        Module name.
    units : mapping of str to wiring.Component
    links : mapping of (unit, input) to (unit, output, stages)
        Inputs driven from within; ``stages`` registers lie between. Outputs that drive others leave only if no link
        takes them.
    """

    def __init__(self, name: str, units: Mapping[str, wiring.Component],
                 links: Mapping[tuple[str, str], tuple[str, str, int]] | None = None):
        self.name, self.units, self.links = name, dict(units), dict(links or {})
        taken = {source[:2] for source in self.links.values()}
        members = {}
        for unit, component in self.units.items():
            for port, member in component.signature.members.items():
                if (member.flow == In and (unit, port) not in self.links) or \
                        (member.flow == Out and (unit, port) not in taken):
                    members[f"{unit}_{port}"] = member
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.name

    def elaborate(self, platform) -> Module:
        m = Module()

        def held(value: Any, name: str) -> Value:
            register = Signal(len(Value.cast(value)), name=name, reset_less=True)
            m.d.sync += register.eq(Value.cast(value))
            return register

        for unit, component in self.units.items():
            m.submodules[unit] = component
            for port, member in component.signature.members.items():
                inside, outside = getattr(component, port), f"{unit}_{port}"
                if (unit, port) in self.links:
                    source, output, stages = self.links[unit, port]
                    value = Value.cast(getattr(self.units[source], output))
                    for stage in range(stages):
                        value = held(value, f"{outside}_{stage}")
                    m.d.comb += Value.cast(inside).eq(value)
                elif member.flow == In:
                    m.d.comb += Value.cast(inside).eq(held(getattr(self, outside), f"r_{outside}"))
                elif outside in self.signature.members:
                    m.d.comb += Value.cast(getattr(self, outside)).eq(held(inside, f"r_{outside}"))
        return m


def _sum_links(sums: BitSerialPe) -> dict[tuple[str, str], tuple[str, str, int]]:
    return {("scale", port): ("pe", port, 0) for port in ("sum", "sum_negative", "flags")
            if port in sums.signature.members}


def pe(design: BitSerialDesign) -> Between:
    """A processing element with its dequantiser: what there is once for each row and column."""
    sums = BitSerialPe(design)
    return Between("pe_and_scale", {"pe": sums, "scale": GroupDequantiser(design)}, _sum_links(sums))


def edge(design: BitSerialDesign) -> Between:
    """What there is once for each row."""
    return Between("row_edge", {"edge": ActivationEdge(design)})


def decoder(design: BitSerialDesign) -> Between:
    """What there is for each lane of a column."""
    return Between("term_decoder", {"terms": TermDecoder(design)})


def cell(design: BitSerialDesign) -> Between:
    """A processing element with its dequantiser and a row's edge of its own, which nothing shares."""
    row, sums = ActivationEdge(design), BitSerialPe(design)
    links = {("pe", port): ("edge", port, design.pipeline if port == "drop" else 0)
             for port in ("operands", "nan", "drop") if port in row.signature.members}
    return Between("unshared_pe", {"edge": row, "pe": sums, "scale": GroupDequantiser(design)},
                   {**links, **_sum_links(sums)})


@dataclass(frozen=True)
class Size:
    """Of one part.

    Attributes
    ----------
    cells : int
        Generic: inverters, AND, OR, XOR, two-way multiplexers and flip-flops, each one cell.
    flip_flops : int
        Of these.
    lut, carry, ff : int
        ECP5: LUT4, CCU2C, TRELLIS_FF.
    """

    cells: int
    flip_flops: int
    lut: int
    carry: int
    ff: int

    @property
    def ecp5(self) -> str:
        return f"ECP5 {self.lut} LUT4 + {self.carry} CCU2C + {self.ff} FF"


def size(component: Between) -> Size:
    """Synthesised both ways; results are kept in the store."""
    text = to_verilog(component)
    generic = _generic(text, component.module_name)
    metrics = {m.name: m.value for m in synthesise(text, component.module_name, "ecp5").metrics}
    return Size(sum(generic.values()), sum(n for kind, n in generic.items() if "DFF" in kind),
                *(int(metrics[name] or 0) for name in ("lut", "carry", "ff")))


def _generic(verilog: str, top: str) -> dict[str, int]:
    """Cells by type."""
    tool = require("yosys")
    script = GENERIC.format(top=top)

    def run() -> dict[str, int]:
        with scratch() as name:
            folder = Path(name)
            run_yosys(tool, f"{script}; tee -q -o stat.json stat -json", folder, {"design.v": verilog})
            found = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        counts = {kind: int(count["count"] if isinstance(count, dict) else count) for kind, count in found.items()}
        counts.pop("$scopeinfo", None)      # what the flattened modules were called
        odd = [kind for kind in counts if not kind.startswith("$_")]
        if odd:
            raise AssertionError(f"cells left that are no gates: {odd}")
        return counts

    return store().cached("generic cells", {"verilog": verilog, "yosys": tool.version, "script": script}, run)
