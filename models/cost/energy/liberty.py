"""Standard-cell libraries from liberty text: what each cell computes, weighs, leaks and uses when it switches."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ...errors import BitkilnError, nearest
from .boolean import Function, parse_function
from .liberty_text import Group, parse_groups
from .lookup import Table, Template, templates

__all__ = ["Cell", "InternalPower", "Leakage", "Library", "Pin", "Sequential", "Timing", "parse_libraries",
           "parse_library"]

PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "k": 1e3}


@dataclass(frozen=True)
class InternalPower:
    """Energy inside a cell for one transition of a pin [library energy units].

    Attributes
    ----------
    related : tuple of str
        Inputs that cause it; none for an input pin's own.
    when : Function or None
        State it holds for; None: where no other condition holds.
    supply : str
        Supply pin whose part it is; parts of several supplies add up.
    rise, fall : Table or None
        None where the file gives no table.
    """

    related: tuple[str, ...]
    when: Function | None
    supply: str
    rise: Table | None
    fall: Table | None


@dataclass(frozen=True)
class Timing:
    """Output slews of an arc from one of ``related`` [library time units]."""

    related: tuple[str, ...]
    rise: Table
    fall: Table


@dataclass(frozen=True)
class Pin:
    """A pin; ``capacitance`` in farads, ``direction`` input, output, inout or internal."""

    name: str
    direction: str
    capacitance: float
    function: Function | None
    clock: bool
    power: tuple[InternalPower, ...]
    timing: tuple[Timing, ...]


@dataclass(frozen=True)
class Sequential:
    """What a flip-flop or latch keeps.

    Attributes
    ----------
    kind : str
        ``ff`` or ``latch``.
    states : tuple of str
        Names of the state and of its complement.
    clock, data : Function
        ``clocked_on`` and ``next_state``, or ``enable`` and ``data_in``.
    clear, preset : Function or None
    """

    kind: str
    states: tuple[str, str]
    clock: Function
    data: Function
    clear: Function | None
    preset: Function | None


@dataclass(frozen=True)
class Leakage:
    """Leakage [W] in a state; ``when`` None: where no other condition holds."""

    when: Function | None
    supply: str
    power: float


@dataclass(frozen=True)
class Cell:
    """A cell; ``area`` in the file's unit (um2), ``memory`` words and width of an SRAM macro."""

    name: str
    area: float
    leakage: tuple[Leakage, ...]
    pins: dict[str, Pin]
    sequential: Sequential | None
    memory: tuple[int, int] | None = None

    @property
    def inputs(self) -> tuple[Pin, ...]:
        return tuple(pin for pin in self.pins.values() if pin.direction == "input")

    @property
    def outputs(self) -> tuple[Pin, ...]:
        return tuple(pin for pin in self.pins.values() if pin.direction == "output")


@dataclass(frozen=True)
class Library:
    """Cells by name and the library's units.

    Attributes
    ----------
    name : str
        Names of several files are joined by ``+``.
    voltage : float
        [V], nominal.
    capacitance_unit, leakage_unit, time_unit, energy_unit : float
        [F], [W], [s], [J]: what 1 means in the file. Internal energies are in units of capacitance times voltage
        squared.
    """

    name: str
    voltage: float
    capacitance_unit: float
    leakage_unit: float
    time_unit: float
    energy_unit: float
    cells: dict[str, Cell] = field(default_factory=dict)

    def cell(self, name: str) -> Cell:
        """A cell by name.

        Raises
        ------
        BitkilnError
        """
        try:
            return self.cells[name]
        except KeyError:
            raise BitkilnError("no such cell", where=self.name, got=name, help=nearest(name, self.cells)) from None


def parse_libraries(texts: Iterable[str], where: Iterable[str] | None = None,
                    only: Collection[str] | None = None) -> Library:
    """One library of several files.

    Parameters
    ----------
    texts, where : iterable of str
        Contents of the files, and what errors call them.
    only : collection of str, optional
        Cells to read; the others are left out (large libraries are read several times faster).

    Raises
    ------
    BitkilnError
        Files of different voltages, or with different units of tables.
    """
    texts = list(texts)
    names = list(where) if where is not None else [f"liberty {at + 1}" for at in range(len(texts))]
    parts = [parse_library(text, name, only) for text, name in zip(texts, names, strict=True)]
    if not parts:
        raise BitkilnError("missing liberty file", where="liberty", expected="at least one file")
    first = parts[0]
    for part, name in zip(parts[1:], names[1:], strict=True):
        for key in ("voltage", "capacitance_unit", "time_unit", "energy_unit"):
            if getattr(part, key) != getattr(first, key):
                raise BitkilnError("libraries do not belong together", where=f"{name} {key}", got=getattr(part, key),
                                   expected=f"{getattr(first, key)} as in {names[0]}")
    return Library("+".join(part.name for part in parts), first.voltage, first.capacitance_unit, first.leakage_unit,
                   first.time_unit, first.energy_unit, {name: cell for part in parts for name, cell in
                                                        part.cells.items()})


def parse_library(text: str, where: str = "liberty", only: Collection[str] | None = None) -> Library:
    """A library of one liberty file; ``only`` names the cells to read.

    Raises
    ------
    BitkilnError
        A damaged file, no library, a unit that is none, no nominal voltage.
    """
    group = parse_groups(text, where)
    voltage = group.number("nom_voltage")
    if voltage is None:
        conditions = group.first("operating_conditions")
        voltage = conditions.number("voltage") if conditions else None
    if not voltage:
        raise BitkilnError("no supply voltage", where=where, expected="nom_voltage or operating_conditions")
    capacitance = _capacitance_unit(group.attributes.get("capacitive_load_unit", "1, pf"), where)
    volt = _unit(group.attributes.get("voltage_unit", "1V"), "V", f"{where} voltage_unit")
    leak = _unit(group.attributes.get("leakage_power_unit", "1nW"), "W", f"{where} leakage_power_unit")
    time = _unit(group.attributes.get("time_unit", "1ns"), "s", f"{where} time_unit")
    library = Library(group.name, voltage, capacitance, leak, time, capacitance * volt * volt)
    reader = _Reader(library, templates(group), where, group.number("default_input_pin_cap") or 0.0)
    library.cells.update({inner.name: reader.cell(inner) for inner in group.of("cell")
                          if only is None or inner.name in only})
    return library


def _unit(text: str, symbol: str, where: str) -> float:
    match = re.fullmatch(rf"\s*([\d.]+)\s*([munpfk]?){symbol}\s*", text, re.I)
    if match is None:
        raise BitkilnError("not a unit", where=where, got=text, expected=f"a number and {symbol}, m{symbol}, ...")
    return float(match[1]) * PREFIXES[match[2].lower()]


def _capacitance_unit(text: str, where: str) -> float:
    number, _, unit = text.partition(",")
    return _unit(number.strip() + unit.strip().strip('"'), "F", f"{where} capacitive_load_unit")


class _Reader:
    """Groups to cells."""

    def __init__(self, library: Library, known: dict[str, Template], where: str, input_capacitance: float):
        self.library, self.known, self.where = library, known, where
        self.input_capacitance = input_capacitance

    def function(self, group: Group, name: str, where: str) -> Function | None:
        text = group.attributes.get(name, "").strip()
        return parse_function(text, f"{where} {name}") if text else None

    def cell(self, group: Group) -> Cell:
        where = f"{self.where} cell {group.name}"
        memory = group.first("memory")
        shape = None
        if memory is not None:
            shape = (1 << int(memory.number("address_width") or 0), int(memory.number("word_width") or 0))
        pins: dict[str, Pin] = {}
        for outer in group.of("pin", "bus", "bundle"):
            inner = list(outer.of("pin")) if outer.kind != "pin" else []
            for pin in inner or [outer]:
                direction = pin.attributes.get("direction") or outer.attributes.get("direction", "input")
                for name in pin.arguments:
                    pins[name] = self.pin(pin, name, direction, f"{where} pin {name}")
        return Cell(group.name, group.number("area") or 0.0, self.leakage(group, where), pins,
                    self.sequential(group, where), shape)

    def leakage(self, group: Group, where: str) -> tuple[Leakage, ...]:
        found = [Leakage(self.function(inner, "when", where), inner.attributes.get("related_pg_pin", ""),
                         (inner.number("value") or 0.0) * self.library.leakage_unit)
                 for inner in group.of("leakage_power")]
        default = group.number("cell_leakage_power")
        if default is not None and not any(leak.when is None for leak in found):
            found.append(Leakage(None, "", default * self.library.leakage_unit))
        return tuple(found)

    def sequential(self, group: Group, where: str) -> Sequential | None:
        for kind, clock, data in (("ff", "clocked_on", "next_state"), ("latch", "enable", "data_in")):
            inner = group.first(kind)
            if inner is not None and len(inner.arguments) == 2:
                edge, value = self.function(inner, clock, where), self.function(inner, data, where)
                if edge is None or value is None:
                    continue                       # a set/reset latch: nothing that the mapping uses
                return Sequential(kind, (inner.arguments[0], inner.arguments[1]), edge, value,
                                  self.function(inner, "clear", where), self.function(inner, "preset", where))
        return None

    def pin(self, group: Group, name: str, direction: str, where: str) -> Pin:
        capacitance = group.number("capacitance")
        if capacitance is None:
            capacitance = self.input_capacitance if direction == "input" else 0.0
        power = []
        for inner in group.of("internal_power"):
            both = inner.first("power")
            rise, fall = (inner.first(f"{edge}_power") or both for edge in ("rise", "fall"))
            power.append(InternalPower(tuple(inner.attributes.get("related_pin", "").split()),
                                       self.function(inner, "when", where),
                                       inner.attributes.get("related_pg_pin", ""),
                                       *(Table(table, self.known, where) if table else None
                                         for table in (rise, fall))))
        timing = []
        for inner in group.of("timing") if direction == "output" else ():
            rise, fall = inner.first("rise_transition"), inner.first("fall_transition")
            if rise is not None and fall is not None:
                timing.append(Timing(tuple(inner.attributes.get("related_pin", "").split()),
                                     Table(rise, self.known, where), Table(fall, self.known, where)))
        return Pin(name, direction, capacitance * self.library.capacitance_unit,
                   self.function(group, "function", where) if direction == "output" else None,
                   group.attributes.get("clock", "false") == "true", tuple(power), tuple(timing))
