"""Mapped gate-level netlists: the netlist that `synthesise` measures the area of, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.errors import FAILED, BitkilnError
from ..store import Store, store
from .synth import cell_mapping
from .tools import run_yosys, scratch

__all__ = ["GateNetlist", "ZERO", "ONE", "gate_netlist"]

ZERO, ONE = 0, 1                       # nets of the constants; undefined bits are zeros


@dataclass(frozen=True)
class GateNetlist:
    """Cells and nets after mapping.

    Attributes
    ----------
    name : str
    nets : int
        Nets are 0 .. nets - 1; 0 and 1 are the constants.
    inputs, outputs : dict
        Port name to its nets, least significant bit first.
    cells : list of (type, pins)
        ``pins`` maps pin names to nets.
    area : float
        [um2].
    """

    name: str
    nets: int
    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    cells: list[tuple[str, dict[str, int]]]
    area: float

    def as_dict(self) -> dict[str, Any]:
        """JSON values; the pins of a type are written once."""
        order: dict[str, list[str]] = {}
        for kind, pins in self.cells:
            order[kind] = sorted(set(order.get(kind, [])) | set(pins))
        cells = [[kind, [pins.get(pin, -1) for pin in order[kind]]] for kind, pins in self.cells]
        return {"name": self.name, "nets": self.nets, "inputs": self.inputs, "outputs": self.outputs, "pins": order,
                "cells": cells, "area": self.area}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateNetlist:
        cells = [(kind, {pin: net for pin, net in zip(data["pins"][kind], nets, strict=True) if net >= 0})
                 for kind, nets in data["cells"]]
        return cls(data["name"], data["nets"], data["inputs"], data["outputs"], cells, data["area"])

    @classmethod
    def from_yosys(cls, data: Mapping[str, Any], top: str, area: float) -> GateNetlist:
        """The flat top module of Yosys' JSON."""
        module = data["modules"][top]
        known: dict[int | str, int] = {"0": ZERO, "x": ZERO, "z": ZERO, "1": ONE}       # four names of two nets

        def net(bit: int | str) -> int:
            return known.setdefault(bit, len(known) - 2) if isinstance(bit, int) else known[bit]

        ports: dict[str, dict[str, list[int]]] = {"input": {}, "output": {}}
        for name, port in module["ports"].items():
            if port["direction"] not in ports:
                raise BitkilnError("port of no direction", where=f"{top}.{name}", got=port["direction"],
                                   expected="input or output")
            ports[port["direction"]][name] = [net(bit) for bit in port["bits"]]
        cells = []
        for cell in module["cells"].values():
            if cell["type"].startswith("$"):
                if cell["type"] == "$scopeinfo":
                    continue
                raise BitkilnError("cell that is not of the library", where=top, got=cell["type"],
                                   expected="a netlist mapped completely", exit_code=FAILED)
            cells.append((cell["type"], {pin: net(bits[0]) for pin, bits in cell["connections"].items() if bits}))
        return cls(top, len(known) - 2, ports["input"], ports["output"], cells, area)


def gate_netlist(verilog: str, top: str, liberty: Sequence[Path], *, booth: bool = False, period_ps: int = 1000,
                 dont_use: Sequence[str] = (), constraints: str = "", keep: Store | None = None) -> GateNetlist:
    """Map ``verilog`` onto cells with the settings of `synthesise`; kept in the store.

    Parameters
    ----------
    verilog, top : str
        Self-contained Verilog-2005 text and its top module.
    liberty : sequence of Path
    booth, period_ps, dont_use, keep :
        See `synthesise`.
    constraints : str
        Driving cell and output load for ABC, which then sizes and buffers for speed. Left out of the pinned mapping.

    Raises
    ------
    BitkilnError
        Exit code 2 for unusable files, 3 without Yosys, 1 when Yosys fails.
    """
    mapping = cell_mapping(top, [Path(path) for path in liberty], booth, period_ps, dont_use)
    from ..sim.toolchain import require

    tool = require("yosys")
    area = mapping.area.replace(" -liberty", " -constr constraints.abc -liberty", 1) if constraints else mapping.area
    script = f"{mapping.prepare}; {area}; write_json netlist.json"
    inputs = {"verilog": verilog, "yosys": tool.version, "script": script, "liberty": mapping.digests(),
              "constraints": constraints, "layout": 1}

    def run() -> dict[str, Any]:
        with scratch() as name:
            folder = Path(name)
            run_yosys(tool, script, folder, {"design.v": verilog, "constraints.abc": constraints, **mapping.files})
            area = json.loads((folder / "stat.json").read_text())["design"].get("area")
            data = json.loads((folder / "netlist.json").read_text())
        return GateNetlist.from_yosys(data, top, float(area or 0.0)).as_dict()

    return GateNetlist.from_dict((keep or store()).cached("gates", inputs, run))
