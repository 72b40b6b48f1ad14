"""Layers, choices and budgets of the assignment of formats, with their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ...errors import BitkilnError, nearest

__all__ = ["Assignment", "Budget", "Choice", "KINDS", "Layer", "Pe", "SHARING", "check_layers"]

KINDS = ("latency", "bytes", "area")
SHARING = ("max", "union", "built")


def _finite(value: float, where: str, *, positive: bool = False) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or positive and value == 0:
        raise BitkilnError("bad value", where=where, got=value,
                           expected="a finite number above 0" if positive else "a finite number, 0 or more")


@dataclass(frozen=True)
class Choice:
    """A format that a layer may have.

    Attributes
    ----------
    format : str
    cost : float
        Cycles or bytes of the layer in it; for an area budget the area of a PE (or of the part of one) for it, the
        same in all layers.
    error : float
        What the network loses when this layer alone is in this format, 0 or more.
    """

    format: str
    cost: float
    error: float

    def __post_init__(self) -> None:
        _finite(self.cost, f"choice {self.format}.cost")
        _finite(self.error, f"choice {self.format}.error")


@dataclass(frozen=True)
class Layer:
    """``group``: whose errors are of one metric; ``pinned``: the only format allowed."""

    name: str
    choices: tuple[Choice, ...]
    group: str = ""
    pinned: str | None = None

    def __post_init__(self) -> None:
        if not self.choices:
            raise BitkilnError("no choices", where=f"layer {self.name}", expected="one format or more")
        if len(self.by_format) < len(self.choices):
            raise BitkilnError("format offered twice", where=f"layer {self.name}",
                               got=", ".join(choice.format for choice in self.choices), expected="each format once")
        if self.pinned is not None and self.pinned not in self.by_format:
            raise BitkilnError("pinned to a format that is not offered", where=f"layer {self.name}", got=self.pinned,
                               expected=" or ".join(self.by_format), help=nearest(self.pinned, self.by_format))

    @cached_property
    def by_format(self) -> dict[str, Choice]:
        return {choice.format: choice for choice in self.choices}


@dataclass(frozen=True)
class Pe:
    """A PE that was built and measured with several formats to switch among."""

    name: str
    formats: frozenset[str]
    area: float

    def __post_init__(self) -> None:
        _finite(self.area, f"pe {self.name}.area", positive=True)


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes
    ----------
    kind : str
        ``latency``, ``bytes``: sums over layers. ``area``: one PE runs all layers, so it supports every format in use.
    limit : float
    unit : str
        Of the costs: cycles and bytes by default; area says it itself (um2, LUT4).
    sharing : str
        How formats share a PE's area: ``union`` (``base_area`` and a part for each format in use: dedicated lanes),
        ``max`` (the largest alone: everything shared, a lower bound) or ``built`` (the area of one of ``pes`` that
        supports them all: no model, measured).
    base_area : float
    pes : tuple of Pe
    """

    kind: str
    limit: float
    unit: str = ""
    sharing: str = "union"
    base_area: float = 0.0
    pes: tuple[Pe, ...] = field(default=())

    def __post_init__(self) -> None:
        for value, where, choices in ((self.kind, "budget.kind", KINDS), (self.sharing, "budget.sharing", SHARING)):
            if value not in choices:
                raise BitkilnError("unknown choice", where=where, got=value, expected=" or ".join(choices),
                                   help=nearest(value, choices))
        _finite(self.limit, "budget.limit")
        _finite(self.base_area, "budget.base_area")
        if not self.unit:
            if self.kind == "area":
                raise BitkilnError("area without a unit", where="budget.unit", expected="um2, LUT4, ...")
            object.__setattr__(self, "unit", {"latency": "cycles", "bytes": "bytes"}[self.kind])
        if (self.sharing == "built") != bool(self.pes):
            raise BitkilnError("PEs and sharing disagree", where="budget.pes", got=len(self.pes),
                               expected="one or more with sharing built, else none")

    def with_limit(self, limit: float) -> Budget:
        return replace(self, limit=limit)

    def cost(self, chosen: Sequence[Choice]) -> tuple[float, str | None]:
        """Cost of a choice for each layer, and the PE it needs where PEs are given; inf when none supports it."""
        if self.kind != "area":
            return math.fsum(choice.cost for choice in chosen), None
        areas = {choice.format: choice.cost for choice in chosen}
        if self.sharing == "union":
            return self.base_area + math.fsum(areas.values()), None
        if self.sharing == "max":
            return max(areas.values()), None
        able = [pe for pe in self.pes if pe.formats >= areas.keys()]
        pe = min(able, key=lambda each: each.area, default=None)
        return (math.inf, None) if pe is None else (pe.area, pe.name)


@dataclass(frozen=True)
class Assignment:
    """A format for each layer.

    Attributes
    ----------
    layers, formats : tuple of str
    cost : float
        In ``budget.unit``.
    error : float
        Weighted sum of ``group_errors``.
    group_errors : mapping of str to float
    budget : Budget
    pe : str or None
        The one of ``budget.pes`` that is needed.
    """

    layers: tuple[str, ...]
    formats: tuple[str, ...]
    cost: float
    error: float
    group_errors: Mapping[str, float]
    budget: Budget
    pe: str | None = None

    def as_dict(self) -> dict[str, str]:
        return dict(zip(self.layers, self.formats, strict=True))

    def summary(self) -> str:
        """How many layers have which format, most first."""
        counts = sorted(((self.formats.count(name), name) for name in set(self.formats)), reverse=True)
        return ", ".join(f"{count} x {name}" for count, name in counts) + f" at {self.cost:g} {self.budget.unit}"


def check_layers(layers: Sequence[Layer], budget: Budget, error_limits: Mapping[str, float],
                 weights: Mapping[str, float] | None = None) -> None:
    """Refuses what cannot be a problem at all.

    Raises
    ------
    BitkilnError
        No layers, a name twice, an unknown group, or a format with several areas under an area budget.
    """
    if not layers:
        raise BitkilnError("no layers", where="layers", expected="one or more")
    names = [layer.name for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise BitkilnError("layer named twice", where="layers", got=name, expected="unique names")
    groups = {layer.group for layer in layers}
    for where, table in (("error_limits", error_limits), ("weights", weights or {})):
        for group, value in table.items():
            if group not in groups:
                raise BitkilnError("unknown group", where=where, got=group, help=nearest(group, groups),
                                   expected=" or ".join(sorted(groups)))
            _finite(value, f"{where}.{group}")
    if budget.kind != "area" or budget.sharing == "built":
        return
    areas: dict[str, float] = {}
    for layer in layers:
        for choice in layer.choices:
            if areas.setdefault(choice.format, choice.cost) != choice.cost:
                raise BitkilnError("one format with two areas", where=f"layer {layer.name}", got=choice.cost,
                                   expected=f"{areas[choice.format]} as in the layers before ({choice.format})")
