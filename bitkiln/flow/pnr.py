"""Place and route with nextpnr: Fmax and utilisation of any Verilog module.

A bare unit's ports are no pins and paths from them have no clock, so it is measured between registers: a
wrapper clocks every input and output. On ECP5 the wrapped unit is placed out of context; iCE40 and Gowin have
no such mode and too few pins, so there the registers form two shift registers with one pin each.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..models.design.checks import check_choice
from ..models.errors import BitkilnError
from ..store import Store, store
from .metrics import Metric, Metrics
from .targets import PARTS, get_target
from .tools import run_tool, run_yosys, scratch

__all__ = ["DENSE_CELLS", "ROUTING", "chosen_routing", "clock_port", "place_and_route", "wrapper"]

# The tool optimises towards this clock; above what any unit reaches, so that it never stops early.
GOAL_MHZ = 400
# A core that fills a large device takes over half an hour for each seed.
PLACE_SECONDS = 4 * 3600

_RUNS: dict[str, tuple[str, list[str]]] = {
    "ecp5": ("LFE5U-25F, speed grade 6, out of context",
             ["--25k", "--speed", "6", "--package", "CABGA381", "--out-of-context"]),
    "ecp5-85k": ("LFE5U-85F, speed grade 6, out of context",
                 ["--85k", "--speed", "6", "--package", "CABGA756", "--out-of-context"]),
    "ice40-up5k": ("iCE40UP5K-SG48, between shift registers", ["--up5k", "--package", "sg48"]),
    "ice40": ("iCE40HX8K-CT256, between shift registers", ["--hx8k", "--package", "ct256"]),
    "gowin": ("GW1NR-9C QN88 C6/I5, between shift registers",
              ["--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C", "--vopt", "cst=pins.cst"]),
}

# How hard the wires are to place. The first gives the best clock where there is room, and did not end in an hour on a
# device three quarters full; the second diverges where wires meet in few places; the third ends there too.
ROUTING = {"plain": [], "negotiated": ["--router", "router2"],
           "dense": ["--placer", "static", "--router", "router2", "--router2-alt-weights"]}
# Cells of logic from which on a design on the large part is routed as a dense one.
DENSE_CELLS = 16_000
LOGIC_CELLS = {"LUT4": 1, "CCU2C": 2}

# Gowin: pads belong to the wrapper only (synth_gowin would put them on every kept module), at given pins.
_FINISH = {"gowin": "setattr -mod -unset keep_hierarchy *; flatten; "
                    "iopadmap -bits -inpad IBUF O:I -outpad OBUF I:O; opt_clean; "}
_FILES = {"gowin": {"pins.cst": 'IO_LOC "clk" 52;\nIO_LOC "i" 25;\nIO_LOC "o" 26;\n'}}


def wrapper(top: str, ports: Sequence[tuple[str, str, int]], clock: str = "clk", *, serial: bool = False) -> str:
    """Verilog of ``<top>_timed``, which holds ``top`` between registers.

    Parameters
    ----------
    top : str
        Module to wrap.
    ports : sequence of (name, "input" or "output", width)
    clock : str
        Name of the clock input; added when ``top`` is combinational.
    serial : bool
        One input and one output pin: inputs come from a shift register, outputs are captured and folded
        into a second one.
    """
    data = [port for port in ports if port[0] != clock]
    inputs = [port for port in data if port[1] == "input"]
    outputs = [port for port in data if port[1] == "output"]
    wire, total_in, total_out = [], sum(p[2] for p in inputs), sum(p[2] for p in outputs)
    connections = [f".{clock}({clock})"] if any(name == clock for name, _, _ in ports) else []
    low = 0
    for name, _, width in inputs:
        connections.append(f".{name}(i_q[{low + width - 1}:{low}])")
        low += width
    low = 0
    for name, _, width in outputs:
        connections.append(f".{name}(o_d[{low + width - 1}:{low}])")
        low += width
    i, o = max(total_in, 1), max(total_out, 1)
    pins = ("input i, output o" if serial else f"input [{i - 1}:0] i, output reg [{o - 1}:0] o")
    wire += [f"module {top}_timed(input {clock}, {pins});", f"  reg [{i - 1}:0] i_q;", f"  wire [{o - 1}:0] o_d;"]
    if serial:
        shift = f"{{i_q[{i - 2}:0], i}}" if i > 1 else "i"
        fold = f"{{o_s[{o - 2}:0], 1'b0}}" if o > 1 else "1'b0"
        wire += [f"  reg [{o - 1}:0] o_q, o_s;",
                 f"  always @(posedge {clock}) begin i_q <= {shift}; o_q <= o_d; o_s <= o_q ^ {fold}; end",
                 f"  assign o = o_s[{o - 1}];"]
    else:
        wire.append(f"  always @(posedge {clock}) begin i_q <= i; o <= o_d; end")
    return "\n".join([*wire, f"  {top} unit ({', '.join(connections)});", "endmodule", ""])


def clock_port(component: Any) -> str:
    """Name of a component's clock input: ``clk`` where it says nothing of its ports' roles."""
    roles = getattr(component, "port_roles", {})
    return next((name for name, role in roles.items() if role == "clock"), "clk")


def place_and_route(verilog: str, top: str, target: str = "ecp5", *, seeds: Sequence[int] = (1, 2, 3, 4, 5),
                    dsp: bool = False, clock: str = "clk", part: str | None = None, goal_mhz: int = GOAL_MHZ,
                    routing: str | None = None, keep: Store | None = None,
                    progress: Callable[[str], None] = lambda text: None) -> Metrics:
    """Fmax of ``top``, the median over ``seeds``.

    Parameters
    ----------
    verilog, top : str
        Verilog text and its top module.
    target : str
        ``ecp5`` (LFE5U-25F), ``ecp5-85k``, ``ice40`` (HX8K), ``ice40-up5k`` or ``gowin``; others give null with the
        reason.
    seeds : sequence of int
        One run each.
    dsp : bool
        Allow DSP blocks.
    clock : str
        The module's clock port.
    part : str, optional
        A part of the target's family (``ecp5-85k``); by default the one that ``target`` names.
    goal_mhz : int
        Clock that the tool optimises towards; large designs place sooner with one they can reach.
    routing : str, optional
        ECP5: ``plain`` (the tool's defaults), ``negotiated`` (the second router) or ``dense`` (the second router with
        lighter weights after electrostatic placement: it ends where much wire meets in few places). By default plain,
        or dense where a design fills a good part of an ``ecp5-85k``.
    keep : Store, optional
        Where results are kept.
    progress : callable
        Told what begins.

    Returns
    -------
    Metrics
        ``fmax`` [MHz] (median; ``error`` is half the spread).

    Raises
    ------
    BitkilnError
        Exit code 3 without the tool, 1 when every run fails; 2 for another ``routing``.
    """
    family = get_target(target)
    if routing is not None:
        check_choice(routing, "routing", tuple(ROUTING))
    if family.place is None:
        metric = Metric("fmax", None, "MHz", True, note=f"no open place and route for {family.device}")
        return Metrics(family.device, {}, "none", [metric])
    if not seeds:
        raise BitkilnError("missing value", where="--seeds", got=0, expected="at least one place-and-route run")
    from ..sim.toolchain import require

    yosys, nextpnr = require("yosys"), require(family.place)
    part = part or PARTS.get(target.lower(), family.name)
    device, options = _RUNS[part]
    if part != "ecp5-85k":
        routing = routing or "plain"
    options = [*options, *(ROUTING[routing] if routing else ())]
    serial = family.name != "ecp5"
    finish = _FINISH.get(family.name, "")
    inputs = {"verilog": verilog, "top": top, "clock": clock, "yosys": yosys.version, "nextpnr": nextpnr.version,
              "synth": family.script(f"{top}_timed", dsp), "options": options, "seeds": list(seeds),
              "goal_mhz": goal_mhz, "wrapper": serial, "finish": finish,
              **({} if routing else {"routing": ROUTING, "dense_cells": DENSE_CELLS})}

    def run() -> dict[str, Any]:
        with scratch() as name:
            folder = Path(name)
            run_yosys(yosys, f"read_verilog design.v; proc; hierarchy -top {top}; write_json ports.json",
                      folder, {"design.v": verilog})
            wrapped = wrapper(top, _ports(folder / "ports.json", top), clock, serial=serial)
            netlist = f"read_verilog design.v wrapper.v; {inputs['synth']}; {finish}write_json netlist.json"
            run_yosys(yosys, netlist, folder, {"wrapper.v": wrapped, **_FILES.get(family.name, {})})
            chosen = options if routing else options + ROUTING[chosen_routing(folder / "netlist.json", f"{top}_timed")]
            reached, used = [], {}
            for number, seed in enumerate(seeds, 1):
                progress(f"place and route, run {number} of {len(seeds)}")
                run_tool(nextpnr, ["--json", "netlist.json", *chosen, "--seed", str(seed), "--freq", str(goal_mhz),
                                   "--report", "report.json", "--timing-allow-fail", "-q", "--log", "nextpnr.log"],
                         folder, timeout=PLACE_SECONDS, log="nextpnr.log")
                report = json.loads((folder / "report.json").read_text())
                clocks = [entry["achieved"] for entry in report.get("fmax", {}).values()]
                reached.append(min(clocks) if clocks else None)
                used = {name: entry["used"] for name, entry in report["utilization"].items() if entry["used"]}
        command = f"{nextpnr.name} --json netlist.json {' '.join(chosen)} --freq {goal_mhz} --seed SEED"
        known = [value for value in reached if value is not None]
        metric = Metric(
            "fmax", round(statistics.median(known), 2) if known else None, "MHz", True,
            error=round((max(known) - min(known)) / 2, 2) if len(known) > 1 else None,
            note=f"median of {len(known)} seeds, registers at all ports" if known else "no path between registers")
        return Metrics(device, {"yosys": yosys.version, nextpnr.name: nextpnr.version}, command, [metric],
                       seed=list(seeds), cells=used).as_dict()

    return Metrics.from_dict((keep or store()).cached("place_and_route", inputs, run))


def chosen_routing(path: Path, top: str) -> str:
    """Of `ROUTING`, for a netlist of Yosys on the large part; parts that were kept stand in modules of their own."""
    modules = json.loads(path.read_text())["modules"]

    @cache
    def cells(module: str) -> int:
        kinds = Counter(cell["type"] for cell in modules[module].get("cells", {}).values())
        return sum(count * (LOGIC_CELLS[kind] if kind in LOGIC_CELLS else cells(kind) if kind in modules else 0)
                   for kind, count in kinds.items())

    return "dense" if cells(top) >= DENSE_CELLS else "plain"


def _ports(path: Path, top: str) -> list[tuple[str, str, int]]:
    ports = json.loads(path.read_text())["modules"][top]["ports"]
    return [(name, port["direction"], len(port["bits"])) for name, port in ports.items()]
