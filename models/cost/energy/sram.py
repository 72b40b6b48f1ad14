"""Energy and area of SRAM macros: a table of real ones and a linear model between them.

IHP SG13G2 one-port macros (typical, 1.2 V, 25 C, Apache-2.0) as their liberty files give them: the internal energy of a
clock edge that reads or writes; transitions of address and data pins come on top and are not in it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ...errors import BitkilnError
from .liberty import Cell, Library
from .regression import LinearFit, leave_one_out, mean_and_worst

__all__ = ["SramEstimate", "SramMacro", "sram_errors", "sram_estimate", "sram_macro", "sram_table"]

TABLE = Path(__file__).parents[1] / "tech" / "sram_ihp_sg13g2.csv"
QUANTITIES = ("read_pj", "write_pj", "area_um2", "leakage_nw")


@dataclass(frozen=True)
class SramMacro:
    """One macro.

    Attributes
    ----------
    words, width : int
        Width in bits.
    read_pj, write_pj : float
        [pJ] per access.
    area_um2 : float
        [um2].
    leakage_nw : float
        [nW].
    """

    words: int
    width: int
    read_pj: float
    write_pj: float
    area_um2: float
    leakage_nw: float


@dataclass(frozen=True)
class SramEstimate(SramMacro):
    """A macro between those of the table; errors are mean leave-one-out errors of the model.

    Attributes
    ----------
    error : float
        [%], the largest of the mean errors of energy and area.
    extrapolated : bool
        Outside the table's sizes: the error does not hold.
    source : str
    """

    error: float
    extrapolated: bool
    source: str


def sram_macro(library: Library, clock: str = "A_CLK", enable: str = "A_MEN", read: str = "A_REN",
               write: str = "A_WEN") -> SramMacro:
    """The one macro of a liberty file.

    Raises
    ------
    BitkilnError
        No memory cell, or no energy of a read or write on its clock pin.
    """
    cells = [cell for cell in library.cells.values() if cell.memory is not None]
    if len(cells) != 1 or cells[0].memory is None or clock not in cells[0].pins:
        raise BitkilnError("not an SRAM macro", where=library.name, got=f"{len(cells)} memory cells",
                           expected=f"one memory with clock {clock}")
    cell = cells[0]
    scale = library.energy_unit * 1e12
    read_pj, write_pj = (_clock_energy(library, cell, clock, {enable: 1, read: reads, write: 1 - reads}) * scale
                         for reads in (1, 0))
    leakage = sum(leak.power for leak in cell.leakage if leak.when is None) * 1e9
    words, width = cells[0].memory
    return SramMacro(words, width, round(read_pj, 4), round(write_pj, 4), round(cell.area, 4), round(leakage, 4))


def _clock_energy(library: Library, cell: Cell, clock: str, state: dict[str, int]) -> float:
    for group in cell.pins[clock].power:
        if group.when is not None and set(group.when.pins) <= set(state) and group.when(state, 1):
            return sum(float(table.at(0.0, 0.0)) for table in (group.rise, group.fall) if table is not None)
    raise BitkilnError("no access energy", where=f"{library.name} {cell.name} pin {clock}",
                       expected=f"internal_power with a condition on {', '.join(state)}")


@cache
def sram_table() -> tuple[SramMacro, ...]:
    """All macros of the table, by words and width."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = [SramMacro(int(row["words"]), int(row["width"]), *(float(row[name]) for name in QUANTITIES))
            for row in csv.DictReader(lines)]
    return tuple(sorted(rows, key=lambda row: (row.words, row.width)))


def _features(words: np.ndarray, width: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(len(words)), words * width, width, words], axis=1).astype(float)


def _data(macros: Sequence[SramMacro], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    x = _features(np.array([row.words for row in macros]), np.array([row.width for row in macros]))
    return x, np.array([getattr(row, quantity) for row in macros])


@cache
def _fits() -> dict[str, LinearFit]:
    return {quantity: LinearFit.fit(*_data(sram_table(), quantity)) for quantity in QUANTITIES}


@cache
def sram_errors() -> dict[str, tuple[float, float]]:
    """Mean and worst leave-one-out error [%] by quantity."""
    found = {}
    for quantity in QUANTITIES:
        x, y = _data(sram_table(), quantity)
        found[quantity] = mean_and_worst(leave_one_out(x, y), y)
    return found


def sram_estimate(words: int, width: int) -> SramEstimate:
    """A macro of ``words`` times ``width`` bits: the table's where it is there, else the model's.

    Raises
    ------
    BitkilnError
        No words or no bits.
    """
    if words < 1 or width < 1:
        raise BitkilnError("out of range", where="words and width", got=f"{words} x {width}", expected="1 or more")
    table = sram_table()
    known = next((row for row in table if (row.words, row.width) == (words, width)), None)
    if known is not None:
        return SramEstimate(**asdict(known), error=0.0, extrapolated=False, source="IHP SG13G2 macro")
    x = _features(np.array([words]), np.array([width]))
    smallest = {quantity: min(getattr(row, quantity) for row in table) for quantity in QUANTITIES}
    # A straight line can cross zero below the smallest macro; nothing is smaller than half of that one.
    values = {quantity: max(float(fit.predict(x)[0]), smallest[quantity] / 2) for quantity, fit in _fits().items()}
    inside = (min(row.words for row in table) <= words <= max(row.words for row in table)
              and min(row.width for row in table) <= width <= max(row.width for row in table)
              and words * width <= max(row.words * row.width for row in table))
    error = max(sram_errors()[quantity][0] for quantity in QUANTITIES[:3])
    return SramEstimate(words, width, **values, error=error, extrapolated=not inside,
                        source="model of IHP SG13G2 macros: 1, bits, width, words")
