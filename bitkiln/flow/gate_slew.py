"""Loads and slews of a mapped netlist: what the tables of a library are read at.

Loads are pin capacitances only: no wires. Slews come from one forward pass over the tables, each gate's output slew
being the mean over its arcs and edges at its inputs' slews; ports and clock are driven as by an inverter that drives
four like itself.
"""

from __future__ import annotations

import numpy as np

from ..models.cost.energy.liberty import Cell, Library, Pin
from ..models.errors import BitkilnError
from .gate_sim import GateSimulator

__all__ = ["fanout_of_four_slew", "net_loads", "net_slews"]

FANOUT = 4


def net_loads(simulator: GateSimulator) -> np.ndarray:
    """Sum of the pin capacitances [F] on every net, the driver's own included (0 in most libraries)."""
    loads = np.zeros(simulator.netlist.nets)
    for kind, pins in simulator.netlist.cells:
        cell = simulator.library.cell(kind)
        for pin, net in pins.items():
            loads[net] += cell.pins[pin].capacitance
    return loads


def fanout_of_four_slew(library: Library) -> float:
    """Output slew [s] of the smallest inverter that drives four of itself, itself driven so.

    Raises
    ------
    BitkilnError
        A library without an inverter.
    """
    inverters = [cell for cell in library.cells.values() if _is_inverter(cell)]
    if not inverters:
        raise BitkilnError("no inverter in the library", where=library.name, expected="a cell with function !A")
    cell = min(inverters, key=lambda each: (each.area, each.inputs[0].capacitance, each.name))
    pin, slew = cell.outputs[0], 0.0
    for _ in range(8):                                   # converges within a few rounds
        slew = _output_slew(library, pin, {cell.inputs[0].name: slew}, FANOUT * cell.inputs[0].capacitance)
    return slew


def _is_inverter(cell: Cell) -> bool:
    if len(cell.inputs) != 1 or len(cell.outputs) != 1 or cell.sequential is not None:
        return False
    pin = cell.outputs[0]
    return pin.function is not None and len(pin.function.pins) == 1 and pin.function.truth() == 1 and bool(pin.timing)


def _output_slew(library: Library, pin: Pin, slews: dict[str, float], load: float) -> float:
    """Mean over the arcs from the inputs whose slew [s] is given, and over both edges; 0 without an arc."""
    units, time = load / library.capacitance_unit, library.time_unit
    found = [float(table.at(slews[name] / time, units)) * time for arc in pin.timing for name in arc.related
             if name in slews for table in (arc.rise, arc.fall)]
    return max(float(np.mean(found)), 0.0) if found else 0.0


def net_slews(simulator: GateSimulator, loads: np.ndarray, port_slew: float) -> np.ndarray:
    """Slew [s] of every net by one forward pass."""
    library, netlist = simulator.library, simulator.netlist
    slews = np.full(netlist.nets, port_slew)
    driven: list[tuple[int, int, Cell, Pin, dict[str, int]]] = []
    for kind, pins in netlist.cells:
        cell = library.cell(kind)
        for pin in cell.outputs:
            if pin.name in pins:
                level = 0 if cell.sequential else simulator.levels[pins[pin.name]]
                driven.append((level, pins[pin.name], cell, pin, pins))
    for _, net, cell, pin, pins in sorted(driven, key=lambda item: item[:2]):
        sources = (each for each in cell.inputs if not cell.sequential or each.clock or _clocks(cell, each))
        known = {each.name: float(slews[pins[each.name]]) for each in sources if each.name in pins}
        slews[net] = _output_slew(library, pin, known, loads[net])
    return slews


def _clocks(cell: Cell, pin: Pin) -> bool:
    return cell.sequential is not None and pin.name in cell.sequential.clock.pins
