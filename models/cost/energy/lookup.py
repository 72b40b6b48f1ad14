"""Lookup tables of liberty files: a number, a row over one variable, or a grid over input slew and output load."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...errors import BitkilnError
from .liberty_text import Group, numbers

__all__ = ["Table", "Template", "templates"]

SLEW_NAMES = {"input_transition_time", "input_net_transition", "constrained_pin_transition"}
LOAD_NAMES = {"total_output_net_capacitance", "equal_or_opposite_output_net_capacitance"}


class Template:
    """Axes of tables: what each variable is, and indices for tables that give none."""

    def __init__(self, group: Group):
        self.axes = tuple(_axis(group.attributes[name]) for name in ("variable_1", "variable_2", "variable_3")
                          if name in group.attributes)
        self.indices = tuple(group.attributes.get(f"index_{at + 1}", "") for at in range(len(self.axes)))


def _axis(name: str) -> str:
    return "slew" if name in SLEW_NAMES else "load" if name in LOAD_NAMES else name


def templates(library: Group) -> dict[str, Template]:
    """Templates of a library by name."""
    return {group.name: Template(group) for group in library.of("lu_table_template", "power_lut_template")}


class Table:
    """One table; its text is read when it is first used.

    Parameters
    ----------
    group : Group
        ``cell_rise``, ``rise_power``, ...
    known : dict
        Templates of the library.
    where : str
        For errors.
    """

    def __init__(self, group: Group, known: dict[str, Template], where: str):
        self._group, self._known, self._where = group, known, where

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slews, loads and values (slews, loads), one entry long where the table does not depend on them."""
        group = self._group
        values = np.array(numbers(group.attributes.get("values", "")))
        template = self._known.get(group.name) or Template(Group("lu_table_template", ""))
        axes = template.axes
        if not axes and len(values) != 1:
            raise BitkilnError("unknown table template", where=self._where, got=group.name,
                               expected="an lu_table_template or power_lut_template of the library")
        one = np.zeros(1)
        indices = {"slew": one, "load": one}
        order = []
        for at, axis in enumerate(axes):
            if axis not in indices:
                raise BitkilnError("unknown table variable", where=self._where, got=axis,
                                   expected="input slew or output load")
            indices[axis] = np.array(numbers(group.attributes.get(f"index_{at + 1}", template.indices[at])))
            order.append(axis)
        shape = [len(indices[axis]) for axis in order] or [1]
        if len(values) != np.prod(shape) or any((np.diff(index) <= 0).any() for index in indices.values()):
            raise BitkilnError("damaged table", where=self._where, got=f"{len(values)} values",
                               expected=f"{' x '.join(map(str, shape))} values over rising indices")
        grid = values.reshape(shape)
        if order == ["load", "slew"]:
            grid = grid.T
        elif order == ["load"]:
            grid = grid[None, :]
        elif order != ["slew", "load"]:
            grid = grid.reshape(-1, 1)
        return indices["slew"], indices["load"], grid

    def at(self, slew: np.ndarray | float, load: np.ndarray | float) -> np.ndarray:
        """Linear between the entries, and beyond the outermost ones; library units, arrays of one shape or numbers."""
        slews, loads, grid = self._grid
        row, along = _place(slews, slew)
        column, across = _place(loads, load)
        next_row, next_column = min(1, len(slews) - 1), min(1, len(loads) - 1)
        low = grid[row, column] * (1 - across) + grid[row, column + next_column] * across
        high = grid[row + next_row, column] * (1 - across) + grid[row + next_row, column + next_column] * across
        return low * (1 - along) + high * along


def _place(index: np.ndarray, value: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The entry below, and how far towards the next; (0, 0) on an axis of one entry."""
    if len(index) == 1:
        return np.zeros(np.shape(value), int), np.zeros(np.shape(value))
    at = np.minimum(np.maximum(np.searchsorted(index, value) - 1, 0), len(index) - 2)
    return at, (value - index[at]) / (index[at + 1] - index[at])
