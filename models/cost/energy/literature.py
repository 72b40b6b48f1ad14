"""Energies from the literature: a labelled fallback, never mixed silently with figures of our own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import BitkilnError, nearest

__all__ = ["SOURCE", "LiteratureEnergy", "literature_energy", "literature_table"]

TABLE = Path(__file__).parents[1] / "tech" / "literature_45nm.csv"
SOURCE = "Horowitz, ISSCC 2014, figure 1.1.9, 45 nm, 0.9 V"


@dataclass(frozen=True)
class LiteratureEnergy:
    """One entry.

    Attributes
    ----------
    operation : str
        ``integer_add``, ``integer_multiply``, ``float_add``, ``float_multiply``, ``cache_access``, ``dram_access``.
    bits : int
        Of an operand or of an access.
    capacity_bytes : int
        Of the memory; 0 where there is none.
    energy_pj, energy_high_pj : float
        [pJ]; the second is the upper end of a range.
    kind, source : str
        ``literature`` and the citation.
    """

    operation: str
    bits: int
    capacity_bytes: int
    energy_pj: float
    energy_high_pj: float
    kind: str = "literature"
    source: str = SOURCE


@cache
def literature_table() -> tuple[LiteratureEnergy, ...]:
    """All entries."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return tuple(LiteratureEnergy(row["operation"], int(row["bits"]), int(row["capacity_bytes"]),
                                  float(row["energy_pj"]), float(row["energy_high_pj"]))
                 for row in csv.DictReader(lines))


def literature_energy(operation: str, bits: int, capacity_bytes: int = 0) -> LiteratureEnergy:
    """An entry of exactly this operation and size: nothing is scaled.

    Raises
    ------
    BitkilnError
        Not in the table.
    """
    entries = [entry for entry in literature_table() if entry.operation == operation]
    if not entries:
        names = dict.fromkeys(entry.operation for entry in literature_table())
        raise BitkilnError("no such operation in the table", where="operation", got=operation,
                           help=nearest(operation, names))
    for entry in entries:
        if (entry.bits, entry.capacity_bytes) == (bits, capacity_bytes):
            return entry
    sizes = ", ".join(f"{entry.bits} bits" + (f" of {entry.capacity_bytes} bytes" if entry.capacity_bytes else "")
                      for entry in entries)
    raise BitkilnError("size that is not in the table", where=operation, got=f"{bits} bits of {capacity_bytes} bytes"
                       if capacity_bytes else f"{bits} bits", expected=sizes)
