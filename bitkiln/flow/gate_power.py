"""Energy of simulated activity: a library's internal power tables, the charging of loads, and leakage.

Internal energy of an output transition is the mean over the inputs that can have caused it (each table belongs to
one), over those of them that changed in the same cycle and whose condition holds; never the sum. Conditions are
evaluated on simulated states, not as probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..models.cost.energy.liberty import Cell, InternalPower, Library, Pin, Table
from .gate_compile import ONES
from .gate_sim import GateSimulator
from .gate_slew import net_loads, net_slews

__all__ = ["Energy", "switching_energy"]


@dataclass
class Energy:
    """Energies [J] summed over streams and cycles.

    Attributes
    ----------
    combinational, sequential : float
        Inside gates and flip-flops, clock pins included, and of charging what they drive.
    inputs : float
        Charging the pins that ports drive, the clock apart.
    clock : float
        Charging the flip-flops' clock pins.
    leakage : float
        Power [W], mean over streams and cycles.
    cycles : int
        Streams times clock edges.
    glitch_combinational, glitch_sequential : float or None
        As the first two, with all unit-delay transitions.
    cells : dict
        Zero-delay energy by cell type.
    """

    combinational: float = 0.0
    sequential: float = 0.0
    inputs: float = 0.0
    clock: float = 0.0
    leakage: float = 0.0
    cycles: int = 0
    glitch_combinational: float | None = None
    glitch_sequential: float | None = None
    cells: dict[str, float] = field(default_factory=dict)


class _States:
    """Values of the nets before and after every edge, a row for a net."""

    def __init__(self, history: np.ndarray):
        nets = history.shape[1]
        self.old = np.ascontiguousarray(history[:-1].transpose(1, 0, 2)).reshape(nets, -1)
        self.new = np.ascontiguousarray(history[1:].transpose(1, 0, 2)).reshape(nets, -1)


def _count(words: np.ndarray) -> np.ndarray:
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)


def switching_energy(simulator: GateSimulator, history: np.ndarray, port_slew: float, glitches: bool = True) -> Energy:
    """Energy of the activity in ``history``.

    Parameters
    ----------
    simulator : GateSimulator
    history : uint64 ndarray (cycles, nets, words)
        Settled states, as `GateSimulator.run` gives.
    port_slew : float
        [s] at input ports and the clock.
    glitches : bool
        Simulate with unit delays too.
    """
    netlist, library = simulator.netlist, simulator.library
    states = _States(history)
    loads = net_loads(simulator)
    slews = net_slews(simulator, loads, port_slew)
    edges = (history.shape[0] - 1) * history.shape[2] * 64
    toggles = _count(states.old ^ states.new)
    unit = simulator.transitions(history) if glitches else toggles
    result = Energy(cycles=edges)
    parts = np.zeros((2, 2))                             # [sequential][with glitches]
    per_toggle = library.voltage ** 2 / 2
    for kind in dict.fromkeys(kind for kind, _ in netlist.cells):
        cell = library.cell(kind)
        members = [pins for other, pins in netlist.cells if other == kind]
        group = _Group(simulator, cell, members, states, loads, slews)
        energy, glitchy = group.internal(toggles, unit)
        for pin in cell.outputs:
            nets = np.array([pins[pin.name] for pins in members if pin.name in pins], int)
            energy += float((loads[nets] * toggles[nets]).sum()) * per_toggle
            glitchy += float((loads[nets] * unit[nets]).sum()) * per_toggle
        parts[int(cell.sequential is not None)] += energy, glitchy
        result.leakage += group.leakage() / edges
        result.cells[kind] = energy
    (result.combinational, glitch), (result.sequential, glitch_sequential) = parts.tolist()
    if glitches:
        result.glitch_combinational, result.glitch_sequential = glitch, glitch_sequential
    for name, port in netlist.inputs.items():
        if name == simulator.clock:
            result.clock += float(loads[port[0]]) * 2 * per_toggle * edges
        else:
            result.inputs += float((loads[port] * toggles[port]).sum()) * per_toggle
    return result


class _Group:
    """All instances of one cell type."""

    def __init__(self, simulator: GateSimulator, cell: Cell, members: list[dict[str, int]], states: _States,
                 loads: np.ndarray, slews: np.ndarray):
        self.simulator, self.cell, self.states = simulator, cell, states
        self.count = len(members)
        self.loads, self.slews = loads, slews
        self.library: Library = simulator.library
        # -1 where a pin is not connected; a constant zero then.
        self.nets = {name: np.array([pins.get(name, -1) for pins in members]) for name in cell.pins}
        self.clock = next((pin.name for pin in cell.inputs if cell.sequential and
                           pin.name in cell.sequential.clock.pins), "")
        self.old, self.new = self._values(states.old), self._values(states.new)

    def _values(self, nets: np.ndarray) -> dict[str, np.ndarray]:
        values = {name: np.where((at >= 0)[:, None], nets[at], np.uint64(0)) for name, at in self.nets.items()}
        self._complete(values)
        return values

    def _complete(self, values: dict[str, np.ndarray]) -> None:
        """Values of flip-flop outputs that are not connected, from those that are."""
        sequential = self.cell.sequential
        if sequential is None:
            return
        outputs = {pin.name: pin.function.text for pin in self.cell.outputs if pin.function is not None}
        for name, shown in outputs.items():
            for other, text in outputs.items():
                known = (self.nets[name] < 0) & (self.nets[other] >= 0)
                values[name][known] = values[other][known] ^ (ONES if text != shown else np.uint64(0))

    def _phases(self) -> list[dict[str, np.ndarray]]:
        """Values after the edges, with the clock low and high where there is one."""
        if not self.clock:
            return [self.new]
        low = np.zeros_like(self.new[self.clock])
        return [{**self.new, self.clock: low}, {**self.new, self.clock: low ^ ONES}]

    def _holds(self, group: InternalPower, others: list[InternalPower], values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where a table's condition holds; the one without a condition where no other's does."""
        if group.when is not None:
            return np.broadcast_to(group.when(values, ONES), values[next(iter(values))].shape)
        taken = [other.when(values, ONES) for other in others if other.when is not None and
                 other.supply == group.supply and other.related == group.related]
        every = np.full_like(values[next(iter(values))], ONES)
        for each in taken:
            every = every & (each ^ ONES)
        return every

    def internal(self, toggles: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
        """Internal energy [J] at zero delay and with unit-delay transitions."""
        total = np.zeros(2)
        for pin in self.cell.pins.values():
            if not pin.power or (self.nets[pin.name] < 0).all() and pin.name != self.clock:
                continue
            if pin.name == self.clock:
                total += self._clock_energy(pin)
                continue
            energy = self._output_energy(pin) if pin.direction == "output" else self._input_energy(pin)
            nets = np.maximum(self.nets[pin.name], 0)
            used = (self.nets[pin.name] >= 0) & (unit[nets] > 0)
            # A hazard costs what settled transitions of its pin cost in the mean, or its tables where there is none.
            counted = toggles[nets] > 0
            mean = np.where(counted, energy / np.maximum(toggles[nets], 1), self._plain(pin))
            total += energy[used].sum(), (mean * unit[nets])[used].sum()
        return float(total[0]), float(total[1])

    def _read(self, table: Table | None, slews: np.ndarray, loads: np.ndarray) -> np.ndarray:
        """Table entries [J] of every instance."""
        if table is None:
            return np.zeros(self.count)
        library = self.library
        return table.at(slews / library.time_unit, loads / library.capacitance_unit) * library.energy_unit

    def _tables(self, pin: Pin, group: InternalPower) -> tuple[np.ndarray, np.ndarray]:
        nets = np.maximum(self.nets[pin.name], 0)
        load = self.loads[nets] if pin.direction == "output" else np.zeros(self.count)
        sources = [name for name in group.related if name in self.nets] if pin.direction == "output" else [pin.name]
        slews = np.mean([self.slews[np.maximum(self.nets[name], 0)] for name in sources or [pin.name]], axis=0)
        return self._read(group.rise, slews, load), self._read(group.fall, slews, load)

    def _plain(self, pin: Pin) -> np.ndarray:
        """Mean of all tables of a pin, supplies added [J]."""
        supplies = {group.supply for group in pin.power}
        return sum((np.mean([np.mean(self._tables(pin, group), axis=0) for group in pin.power
                             if group.supply == supply], axis=0) for supply in supplies), np.zeros(self.count))

    def _output_energy(self, pin: Pin) -> np.ndarray:
        old, new = self.old[pin.name], self.new[pin.name]
        total = np.zeros(self.count)
        values = {**self.new, **({self.clock: np.full_like(new, ONES)} if self.clock else {})}
        for edge, events in ((0, new & ~old), (1, old & ~new)):
            events_count = _count(events)
            for supply in dict.fromkeys(group.supply for group in pin.power):
                groups = [group for group in pin.power if group.supply == supply]
                weights, energies = [], []
                for group in groups:
                    caused = np.zeros_like(new)
                    for name in group.related:
                        if name == self.clock:
                            caused = np.full_like(new, ONES)
                        elif name in self.nets:
                            caused = caused | (self.old[name] ^ self.new[name])
                    weights.append(_count(events & caused & self._holds(group, groups, values)))
                    energies.append(self._tables(pin, group)[edge])
                weight, energy = np.array(weights, float), np.array(energies)
                weight[:, weight.sum(axis=0) == 0] = 1.0
                total += events_count * (weight * energy).sum(axis=0) / weight.sum(axis=0)
        return total

    def _input_energy(self, pin: Pin) -> np.ndarray:
        """Of data pins; a clock in a condition is high for half of the time."""
        old, new = self.old[pin.name], self.new[pin.name]
        phases = self._phases()
        total = np.zeros(self.count)
        for values in phases:
            for group in pin.power:
                holds = self._holds(group, list(pin.power), values)
                rise, fall = self._tables(pin, group)
                total += (_count(new & ~old & holds) * rise + _count(old & ~new & holds) * fall) / len(phases)
        return total

    def _clock_energy(self, pin: Pin) -> float:
        """Each rising edge sees the state before it, each falling edge the one after."""
        total = 0.0
        for group in pin.power:
            rise, fall = self._tables(pin, group)
            before, after = ({**values, pin.name: np.full_like(values[pin.name], phase)}
                             for values, phase in ((self.old, np.uint64(0)), (self.new, ONES)))
            total += float((_count(self._holds(group, list(pin.power), before)) * rise
                            + _count(self._holds(group, list(pin.power), after)) * fall).sum())
        return total

    def leakage(self) -> float:
        """Leakage power [W] summed over instances and simulated states."""
        leaks = self.cell.leakage
        phases = self._phases()
        total = 0.0
        for values in phases:
            for supply in dict.fromkeys(leak.supply for leak in leaks):
                free = np.full_like(next(iter(values.values())), ONES)
                for leak in sorted((each for each in leaks if each.supply == supply),
                                   key=lambda each: each.when is None):
                    holds = free if leak.when is None else leak.when(values, ONES) & free
                    total += float(_count(holds).sum()) * leak.power / len(phases)
                    free = free & ~holds
        return total
