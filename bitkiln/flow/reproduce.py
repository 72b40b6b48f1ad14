"""``bitkiln reproduce``: what papers claim beside what comes out here, one table.

Every row has the published figure with its citation, ours with its unit and where it is from, and the assumptions that
keep the two apart. Figures of other technologies are never asserted; what cannot be compared says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .. import __version__
from ..models.cost.area.area import technology_names
from ..models.cost.papers import Published
from ..models.cost.quantity import Quantity
from ..models.errors import BitkilnError, nearest

__all__ = ["Comparison", "ITEMS", "Options", "SCHEMA", "comparison", "item_names", "missing", "reproduce"]

SCHEMA = "bitkiln.reproduce/1"
ROUNDING = 0.01     # of a single published figure: papers print two or three digits, and means of rounded ones


@dataclass(frozen=True)
class Options:
    """What the slower parts may do.

    Attributes
    ----------
    measure : bool
        Synthesise (ECP5) instead of predicting areas alone.
    rtl : bool
        Run the product of 64 x 64 x 64 in RTL.
    words : int
        Words of g2p for accuracies; 0 for those that the store already has.
    technologies : tuple of str
        Fitted technologies of areas.
    """

    measure: bool = False
    rtl: bool = False
    words: int = 0
    progress: Callable[[str], None] = lambda text: None

    @cached_property
    def technologies(self) -> tuple[str, ...]:
        return tuple(technology_names())


@dataclass(frozen=True)
class Comparison:
    """One row.

    Attributes
    ----------
    what : str
    published : str
        The figure or statement, with its unit; empty where the row has none of its own.
    citation : str
    ours : Quantity
    assumptions : str
    low, high : float or None
        Published range, in the unit of ``ours``; None for words.
    """

    what: str
    published: str
    citation: str
    ours: Quantity
    assumptions: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str | None:
        """``within``, ``below`` or ``above`` the published range; None where there is none to compare."""
        if self.ours.value is None or self.low is None or self.high is None:
            return None
        rounding = ROUNDING * abs(self.low) if self.low == self.high else 0.0
        if self.ours.value < self.low - rounding:
            return "below"
        return "above" if self.ours.value > self.high + rounding else "within"

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "published": {"text": self.published, "low": self.low, "high": self.high,
                                                 "kind": "literature", "source": self.citation},
                "ours": self.ours.as_dict(), "verdict": self.verdict, "assumptions": self.assumptions}


def comparison(claim: Published, ours: Quantity, what: str = "", assumptions: str = "") -> Comparison:
    """A row for a claim of `papers`."""
    text = claim.claim
    if claim.low is not None:
        figure = f"{claim.low:g}" if claim.low == claim.high else f"{claim.low:g} to {claim.high:g}"
        text = f"{claim.claim}: {figure} {claim.unit}"
    return Comparison(what or claim.claim, text, claim.source, ours,
                      "; ".join(filter(None, (claim.conditions and f"theirs: {claim.conditions}", assumptions))),
                      claim.low, claim.high)


def missing(claim: Published, why: str, unit: str = "") -> Comparison:
    """A claim that nothing here answers."""
    return comparison(claim, Quantity(None, unit or claim.unit, "measured", why))


@dataclass(frozen=True)
class _Item:
    title: str
    rows: Callable[[Options], list[Comparison]]


def _items() -> dict[str, _Item]:
    from . import reproduce_arrays, reproduce_formats, reproduce_systems

    return {
        "xr-npe": _Item("XR-NPE: one SIMD PE for four formats", reproduce_systems.xr_npe),
        "bitmod": _Item("BitMoD: bit-serial mixture of data types on six language models", reproduce_systems.bitmod),
        "spocta": _Item("SpOctA: sparse convolution of point clouds", reproduce_systems.spocta),
        "fp8-int8": _Item("FP8 against INT8: cost of a multiply-accumulate unit", reproduce_formats.fp8_overhead),
        "pareto": _Item("Minifloats and integers of 3 to 8 bits: which are on the front",
                        reproduce_formats.minifloat_front),
        "split": _Item("Exponent or mantissa bits, and the size of blocks", reproduce_formats.best_splits),
        "crossover": _Item("INT8 or E4M3: signal to noise by distribution", reproduce_formats.crossover),
        "intensity": _Item("Decode intensity", reproduce_formats.decode_intensities),
        "arrays": _Item("Cycles on 16 x 16 beside SCALE-Sim, ZigZag and AccelForge", reproduce_arrays.peers),
        "memory": _Item("LLM in a flash and SN40L: tiers of memory", reproduce_arrays.memory),
    }


ITEMS = ("xr-npe", "bitmod", "spocta", "fp8-int8", "pareto", "split", "crossover", "intensity", "arrays", "memory")


def item_names() -> tuple[str, ...]:
    return ITEMS


def reproduce(names: Sequence[str] | None = None, options: Options | None = None, command: str = "bitkiln reproduce"
              ) -> dict[str, Any]:
    """The table.

    Parameters
    ----------
    names : sequence of str, optional
        Of `ITEMS`; all by default.
    options : Options, optional

    Returns
    -------
    dict
        Schema ``bitkiln.reproduce/1``: ``items``, each with ``name``, ``title``, ``seconds`` and ``rows``; a row has
        ``what``, ``published`` (``text``, ``low``, ``high``, ``kind``, ``source``), ``ours`` (``value`` or null,
        ``unit``, ``kind``, ``source``, ``low``, ``high``), ``verdict`` (within, below or above the published range, or
        null) and ``assumptions``. Where ``ours.value`` is null ``ours.source`` says why.
    """
    for name in names or ():
        if name not in ITEMS:
            raise BitkilnError("unknown item", where="--only", got=name, expected=" or ".join(ITEMS),
                               help=nearest(name, ITEMS))
    options = options or Options()
    every = _items()
    items = []
    for name in names or ITEMS:
        options.progress(every[name].title)
        started = time.perf_counter()
        rows = every[name].rows(options)
        items.append({"name": name, "title": every[name].title, "seconds": round(time.perf_counter() - started, 2),
                      "rows": [row.as_dict() for row in rows]})
    return {"schema": SCHEMA, "command": command, "version": __version__, "technologies": list(options.technologies),
            "items": items}
