"""Energy of a unit from the switching activity of its gates under an operand trace.

Before layout: no wires and no clock tree, the load of a net is its pins. Zero-delay activity is a lower bound, every
unit-delay transition an upper one (nothing is filtered by inertia).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..models.cost.energy.liberty import Library, parse_libraries
from ..models.cost.energy.traces import Trace, trace_codes, trace_statistics
from ..models.design import DotDesign
from ..models.errors import BitkilnError
from ..store import Store, store
from .gate_power import switching_energy
from .gate_sim import GateSimulator, pack_bits
from .gate_slew import fanout_of_four_slew
from .gates import GateNetlist, gate_netlist
from .metrics import Metric, Metrics
from .synth import cell_mapping

__all__ = ["dot_stimulus", "energy", "netlist_energy"]

REVISION = 1                           # of the way energies are computed: kept results of others are not used
PICO = 1e12
NOTE = "no wires, no clock tree"


def energy(design: DotDesign, activation: Trace | str = "uniform", weight: Trace | str = "uniform", *,
           liberty: Sequence[Path], clock_mhz: float = 500.0, cycles: int = 128, streams: int = 128, seed: int = 0,
           glitches: bool = True, booth: bool = False, dont_use: Sequence[str] = (), port_slew_ps: float | None = None,
           keep: Store | None = None) -> Metrics:
    """Energy of a dot unit that takes operands every cycle, from a cleared accumulator.

    Parameters
    ----------
    design : DotDesign
    activation, weight : Trace or str
        Operand traces, see `models.cost.energy.traces`.
    liberty : sequence of Path
        Files of one library.
    clock_mhz : float
        Clock that leakage is spread over.
    cycles, streams : int
        Length of each run, and independent runs (a multiple of 64).
    seed : int
        Of the operands.
    glitches : bool
        Unit-delay simulation too.
    booth, dont_use :
        See `synthesise`.
    port_slew_ps : float, optional
        Slew of ports and clock; default: of an inverter that drives four like itself.
    keep : Store, optional

    Returns
    -------
    Metrics
        ``energy`` and its parts ``combinational``, ``sequential`` (clock pins' internal energy included), ``inputs``
        and ``clock_pins`` (charging of the pins that ports drive) and ``leakage`` [pJ/cycle], ``energy_glitch``
        [pJ/cycle] (None without ``glitches``), ``energy_per_mac``, ``area`` [um2], and toggle rates [1/bit/cycle]
        and zero fractions of the operands.

    Raises
    ------
    BitkilnError
        Exit code 2 for unusable options or files, 3 without Yosys, 1 when Yosys fails.
    """
    activation, weight = (Trace.parse(each) if isinstance(each, str) else each for each in (activation, weight))
    stimulus, a_codes, w_codes = dot_stimulus(design, activation, weight, cycles, streams, seed)
    netlist = gate_netlist(_verilog(design), design.name, liberty, booth=booth, dont_use=dont_use, keep=keep)
    result = netlist_energy(netlist, stimulus, liberty, clock_mhz=clock_mhz, warm_up=design.latency + 1,
                            glitches=glitches, port_slew_ps=port_slew_ps, keep=keep)
    result.seed = seed
    result.command = f"energy of {design.name}, activation {activation}, weight {weight}: {result.command}"
    value = result["energy"]
    result.metrics.append(Metric("energy_per_mac", None if value is None else value / design.lanes, "pJ/MAC"))
    for name, fmt, codes in (("activation", design.activation, a_codes), ("weight", design.weight, w_codes)):
        found = trace_statistics(fmt, codes)
        result.metrics += [Metric(f"{name}_toggle_rate", found.mean_toggle_rate, "1/bit/cycle"),
                           Metric(f"{name}_zeros", found.zero_fraction, "share")]
    return result


@lru_cache(maxsize=2)
def _library(texts: tuple[str, ...], where: tuple[str, ...]) -> Library:
    return parse_libraries(texts, where)


@lru_cache(maxsize=64)
def _verilog(design: DotDesign) -> str:
    from ..hw.emit import to_verilog
    from ..hw.mac.dot import DotUnit

    return to_verilog(DotUnit(design), design.name)


def dot_stimulus(design: DotDesign, activation: Trace, weight: Trace, cycles: int, streams: int,
                 seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Port values of a dot unit, cleared while its pipeline fills and enabled all the time, and both operands' codes
    (cycles, streams, lanes)."""
    if cycles < design.latency + 3:
        raise BitkilnError("too few cycles", where="cycles", got=cycles,
                           expected=f"{design.latency + 3} or more at latency {design.latency}")
    if streams < 64 or streams % 64:
        raise BitkilnError("out of range", where="streams", got=streams, expected="64, 128, ...")
    a_codes = trace_codes(design.activation, activation, cycles, streams, design.lanes, seed=2 * seed)
    w_codes = trace_codes(design.weight, weight, cycles, streams, design.lanes, seed=2 * seed + 1)
    enable = np.ones((cycles, streams), np.int64)
    clear = np.zeros((cycles, streams), np.int64)
    clear[:1] = 1
    stimulus = {"a": pack_bits(a_codes, design.activation.bits), "w": pack_bits(w_codes, design.weight.bits),
                "en": pack_bits(enable, 1), "clear": pack_bits(clear, 1)}
    return stimulus, a_codes, w_codes


def netlist_energy(netlist: GateNetlist, stimulus: Mapping[str, np.ndarray], liberty: Sequence[Path], *,
                   clock: str = "clk", clock_mhz: float = 500.0, warm_up: int = 0, glitches: bool = True,
                   port_slew_ps: float | None = None, keep: Store | None = None) -> Metrics:
    """Energy per cycle of a mapped netlist under given port values.

    Parameters
    ----------
    netlist : GateNetlist
    stimulus : mapping
        Input port to packed words (cycles, bits, words), see `GateSimulator.run`.
    warm_up : int
        Cycles at the beginning that are not counted.
    clock : str
        Clock port.
    others :
        See `energy`.
    """
    if not clock_mhz > 0:
        raise BitkilnError("out of range", where="clock_mhz", got=clock_mhz, expected="more than 0")
    mapping = cell_mapping(netlist.name, [Path(path) for path in liberty])
    digest = hashlib.sha256()
    for name in sorted(stimulus):
        digest.update(f"{name} {stimulus[name].shape}".encode())
        digest.update(np.ascontiguousarray(stimulus[name]).tobytes())
    inputs = {"revision": REVISION, "netlist": json.dumps(netlist.as_dict()), "liberty": mapping.digests(),
              "stimulus": digest.hexdigest(), "clock": clock, "warm_up": warm_up, "glitches": glitches,
              "slew": port_slew_ps}

    def run() -> dict[str, Any]:
        library = _library(tuple(mapping.files.values()), tuple(str(path) for path in liberty))
        slew = fanout_of_four_slew(library) if port_slew_ps is None else port_slew_ps * 1e-12
        simulator = GateSimulator(netlist, library, clock)
        history = simulator.run(stimulus)[warm_up:]
        found = switching_energy(simulator, history, slew, glitches)
        per_cycle = {name: getattr(found, name) / found.cycles * PICO for name in
                     ("combinational", "sequential", "inputs", "clock", *(
                         ("glitch_combinational", "glitch_sequential") if glitches else ()))}
        return {**per_cycle, "leakage": found.leakage, "cycles": found.cycles, "slew": slew, "depth": simulator.depth,
                "area_sequential": sum(cell.area for kind, _ in netlist.cells
                                       if (cell := library.cell(kind)).sequential is not None),
                "cells": {name: value / found.cycles * PICO for name, value in found.cells.items()}}

    found = (keep or store()).cached("energy", inputs, run)
    leakage = found["leakage"] / (clock_mhz * 1e6) * PICO
    fixed = found["inputs"] + found["clock"] + leakage
    glitch = found["glitch_combinational"] + found["glitch_sequential"] + fixed if glitches else None
    metrics = [
        Metric("energy", found["combinational"] + found["sequential"] + fixed, "pJ/cycle", note=f"zero delay, {NOTE}"),
        Metric("energy_glitch", glitch, "pJ/cycle", note=f"all unit-delay transitions, {NOTE}" if glitches
               else "not simulated"),
        Metric("combinational", found["combinational"], "pJ/cycle"),
        Metric("sequential", found["sequential"], "pJ/cycle", note="internal energy of clock pins included"),
        Metric("inputs", found["inputs"], "pJ/cycle", note="charging of the pins that ports drive"),
        Metric("clock_pins", found["clock"], "pJ/cycle", note="charging of clock pins, no clock tree"),
        Metric("leakage", leakage, "pJ/cycle", note=f"at {clock_mhz:g} MHz"),
        Metric("combinational_glitch", found.get("glitch_combinational"), "pJ/cycle"),
        Metric("sequential_glitch", found.get("glitch_sequential"), "pJ/cycle"),
        Metric("area", netlist.area, "um2"),
        Metric("area_sequential", found["area_sequential"], "um2"),
    ]
    from ..sim.toolchain import require

    counts: dict[str, int] = {}
    for kind, _ in netlist.cells:
        counts[kind] = counts.get(kind, 0) + 1
    command = (f"{found['cycles']} cycles, ports' and clock's slew {found['slew'] * PICO:.1f} ps, slews by one forward "
               "pass, internal energy: mean over the inputs that changed")
    return Metrics(mapping.device, {"yosys": require("yosys").version}, command, metrics, cells=counts)
