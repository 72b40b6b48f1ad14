"""The one schema of measured and predicted results (DESIGN 3): every number has a unit, null when unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Metric", "Metrics", "SCHEMA"]

SCHEMA = "bitkiln.metrics/1"


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes
    ----------
    name, unit : str
    value : float or int or None
        None when it was not measured; ``note`` says why.
    higher_is_better : bool
    error : float, optional
        Half the spread (max - min) / 2 of repeated measurements, in ``unit``.
    note : str, optional
    """

    name: str
    value: float | int | None
    unit: str
    higher_is_better: bool = False
    error: float | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        row = {
            "name": self.name, "value": self.value, "unit": self.unit,
            "higher_is_better": self.higher_is_better, "error": self.error,
        }
        return {**row, "note": self.note} if self.note else row


@dataclass
class Metrics:
    """Results of one run with their provenance.

    Attributes
    ----------
    device : str
        FPGA part, family or liberty library.
    kind : str
        ``measured``, ``model`` or ``literature``.
    tools : dict
        Tool name -> version.
    command : str
        What reproduces it.
    seed : int or list of int, optional
    design : dict
        ``config`` and ``digest``.
    metrics : list of Metric
    cells : dict
        Cell type -> count after mapping.
    """

    device: str
    tools: dict[str, str]
    command: str
    metrics: list[Metric]
    kind: str = "measured"
    seed: int | list[int] | None = None
    design: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | int | None:
        """Value of a metric; None where it was not measured.

        Raises
        ------
        KeyError
            No such metric.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric.value
        raise KeyError(name)

    def names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "design": self.design,
            "provenance": {
                "kind": self.kind, "tools": self.tools, "command": self.command, "device": self.device,
                "seed": self.seed,
            },
            "metrics": [metric.as_dict() for metric in self.metrics],
            "cells": self.cells,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Metrics:
        provenance = data["provenance"]
        return cls(
            provenance["device"], provenance["tools"], provenance["command"],
            [Metric(**metric) for metric in data["metrics"]], provenance["kind"], provenance["seed"],
            data["design"], data["cells"],
        )

    @classmethod
    def joined(cls, parts: Iterable[Metrics]) -> Metrics:
        """One result of several runs on the same device."""
        first, *others = parts
        result = cls.from_dict(first.as_dict())
        for other in others:
            result.tools |= other.tools
            result.command += f" && {other.command}"
            result.seed = other.seed if other.seed is not None else result.seed
            if other.device.startswith(result.device):
                result.device = other.device
            result.metrics += other.metrics
        return result
