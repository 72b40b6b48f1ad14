"""A netlist made ready to run: gates grouped by function, flip-flops by type, nets by depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..models.cost.energy.boolean import Function
from ..models.cost.energy.liberty import Cell, Library, Sequential
from ..models.errors import FAILED, BitkilnError
from .gates import ONE, ZERO, GateNetlist

__all__ = ["ONES", "FlipFlops", "Gates", "flip_flops", "gate_groups", "levelise"]

ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
CellPins = tuple[Cell, dict[str, int]]


@dataclass
class Gates:
    """Gates of one function, the deepest last."""

    function: Function
    pins: np.ndarray                   # (inputs, gates) nets
    out: np.ndarray
    level: np.ndarray

    def evaluate(self, values: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        operands = {str(at): values[nets[part]] for at, nets in enumerate(self.pins)}
        result = self.function(operands, ONES)
        if not self.function.pins:                                        # tie cells
            return np.broadcast_to(np.asarray(result, np.uint64), (len(self.out[part]), values.shape[1]))
        return result


@dataclass
class FlipFlops:
    """Flip-flops of one cell type."""

    sequential: Sequential
    pins: dict[str, np.ndarray]
    state: np.ndarray                  # indices into the states
    outputs: list[tuple[np.ndarray, bool]]                                # nets, and whether they show the complement

    def next(self, values: np.ndarray, states: np.ndarray) -> np.ndarray:
        sequential = self.sequential
        operands = {pin: values[nets] for pin, nets in self.pins.items()}
        own = states[self.state]
        operands |= {sequential.states[0]: own, sequential.states[1]: own ^ ONES}
        result = sequential.data(operands, ONES)
        if sequential.clear is not None:
            result = result & (sequential.clear(operands, ONES) ^ ONES)
        return result | sequential.preset(operands, ONES) if sequential.preset is not None else result


def flip_flops(netlist: GateNetlist, library: Library, clock_net: int | None,
               found: list[CellPins]) -> list[FlipFlops]:
    """Flip-flops by type.

    Raises
    ------
    BitkilnError
        Latches, derived or falling clocks, asynchronous set or reset that is not tied off.
    """
    groups, start = [], 0
    for name in dict.fromkeys(cell.name for cell, _ in found):
        cell = library.cell(name)
        where = f"{netlist.name} cell {name}"
        sequential = cell.sequential
        members = [pins for other, pins in found if other.name == name]
        if sequential is None or sequential.kind != "ff":
            raise BitkilnError("latch in the netlist", where=where, expected="flip-flops only")
        clock = sequential.clock
        if clock.tree[0] != "pin" or any(pins.get(clock.text.strip()) != clock_net for pins in members):
            raise BitkilnError("flip-flop without the clock", where=where, got=clock.text,
                               expected="the rising edge of the clock port, not gated")
        for function in (each for each in (sequential.clear, sequential.preset) if each is not None):
            for pins in members:
                tied = {pin: pins.get(pin, ZERO) for pin in function.pins}
                if max(tied.values()) > ONE or function(tied, 1):
                    raise BitkilnError("asynchronous set or reset", where=where, got=function.text,
                                       expected="synchronous resets: the pin tied off")
        outputs = []
        for pin in (each for each in cell.outputs if any(each.name in pins for pins in members)):
            shown = pin.function.text.strip() if pin.function else ""
            if shown not in sequential.states:
                raise BitkilnError("flip-flop output that is not its state", where=f"{where} pin {pin.name}", got=shown)
            nets = np.array([pins.get(pin.name, -1) for pins in members])
            outputs.append((nets, shown == sequential.states[1]))
        inputs = {pin.name: np.array([pins.get(pin.name, ZERO) for pins in members]) for pin in cell.inputs}
        groups.append(FlipFlops(sequential, inputs, np.arange(start, start + len(members)), outputs))
        start += len(members)
    return groups


def levelise(netlist: GateNetlist, cells: list[CellPins]) -> dict[int, int]:
    """Longest path [gates] to each net that a gate drives, every gate after those it reads.

    Raises
    ------
    BitkilnError
        A combinational loop.
    """
    driver = {pins[pin.name]: (cell, pins) for cell, pins in cells for pin in cell.outputs if pin.name in pins}
    level: dict[int, int] = {}
    open_nets: set[int] = set()
    for start in driver:
        stack = [start]
        while stack:
            net = stack[-1]
            if net in level:
                stack.pop()
                continue
            cell, pins = driver[net]
            before = [pins[pin.name] for pin in cell.inputs if pin.name in pins and pins[pin.name] in driver]
            missing = [other for other in before if other not in level]
            if not missing:
                level[net] = 1 + max((level[other] for other in before), default=0)
                stack.pop()
                open_nets.discard(net)
                continue
            if net in open_nets:
                raise BitkilnError("combinational loop", where=netlist.name, got=f"through a {cell.name}",
                                   exit_code=FAILED)
            open_nets.add(net)
            stack += missing
    return level


def gate_groups(netlist: GateNetlist, cells: list[CellPins], levels: dict[int, int]) -> list[Gates]:
    """Gates by function, whatever their cells are called.

    Raises
    ------
    BitkilnError
        A cell without a function.
    """
    found: dict[tuple, list[tuple[int, list[int], int]]] = {}
    functions: dict[tuple, Function] = {}
    for cell, pins in cells:
        for pin in cell.outputs:
            if pin.name not in pins:
                continue
            if pin.function is None:
                raise BitkilnError("cell without a function", where=f"{netlist.name} cell {cell.name}",
                                   got=f"pin {pin.name}", expected="gates and flip-flops")
            names = {name: str(at) for at, name in enumerate(pin.function.pins)}
            key = _renamed(pin.function.tree, names)
            functions.setdefault(key, Function(pin.function.text, key, tuple(names.values())))
            net = pins[pin.name]
            found.setdefault(key, []).append((levels[net], [pins.get(name, ZERO) for name in names], net))
    groups = []
    for key, members in found.items():
        members.sort(key=lambda member: member[0])
        level, read, out = (np.array(part) for part in zip(*members, strict=True))
        groups.append(Gates(functions[key], read.T, out, level))
    return groups


def _renamed(tree: tuple, names: Mapping[str, str]) -> tuple:
    if tree[0] == "pin":
        return ("pin", names[tree[1]])
    if tree[0] == "const":
        return tree
    return (tree[0], *(_renamed(part, names) for part in tree[1:]))
