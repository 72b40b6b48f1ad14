"""A number with its unit and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Quantity"]

KINDS = ("exact", "model", "measured", "literature", "proxy", "assumption")


@dataclass(frozen=True)
class Quantity:
    """A number with its unit and where it is from.

    Attributes
    ----------
    value : float or int or None
        None where nothing gives it; ``source`` says why.
    unit : str
    kind : str
        Of `KINDS`.
    source : str
    low, high : float, optional
        95 % interval.
    """

    value: float | None
    unit: str
    kind: str
    source: str
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "unit": self.unit, "kind": self.kind, "source": self.source, "low": self.low,
                "high": self.high}
