"""Energy of a product by design and technology: the gate-level model where there is one, a cited table where asked.

The model (`models.cost.energy.dot_energy`) is of dot units in SKY130 HD at 1.8 V. Its operands are a named trace:
normal values on both sides, new in every cycle, which is what a layer without reuse does and more than one with zeros
or held weights does. Other libraries and FPGAs have no model: their figure is null, or that of the literature's table
for the same operation in a 45 nm process, labelled so.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import hypot
from pathlib import Path

from ..models.cost.area.area import area_estimate, technology, technology_names
from ..models.cost.area.delay_paths import pe_of
from ..models.cost.energy.dot_energy import dot_energy
from ..models.cost.energy.literature import SOURCE, literature_energy
from ..models.cost.mapping import choices
from ..models.cost.quantity import Quantity
from ..models.design import DotDesign
from ..models.design.checks import check_choice
from ..models.errors import BitkilnError

__all__ = ["ENERGY_CHOICES", "TRACE", "mac_energy"]

ENERGY_CHOICES = ("model", "literature", "none")
TRACE = "gaussian"
CYCLES, STREAMS = 128, 16
# Technologies whose energies follow from the table of SKY130 HD; a Booth netlist is another one than it was fitted to.
TABLES = {"sky130hd": "", "sky130hd+booth": "coefficients of plain multipliers"}
LANES_ONLY = "lanes only, without edges and control"
# Intervals are so many times as wide where the model was never fitted to what it is used for.
WIDER = {"": 1.0, "booth": 1.5, "parallel": 1.5, "merged": 2.5, "packed": 2.5}


def mac_energy(design: object, tech: str, source: str = "model", trace: str = TRACE) -> dict[str, Quantity]:
    """Energy of one product in each mode.

    Parameters
    ----------
    design : dataclass of models.design
    tech : str
        Technology, see `area.technology`; its file need not be there.
    source : str
        ``model``; ``literature``: the table of 45 nm where there is no model; ``none``.
    trace : str
        Operand statistics of both operands (`models.cost.energy.traces`).

    Returns
    -------
    dict of str to Quantity
        Mode -> [pJ], null with the reason where nothing gives it; empty with ``none``.

    Raises
    ------
    BitkilnError
        Another source, a trace that is not there.
    """
    check_choice(source, "energy", ENERGY_CHOICES)
    if source == "none":
        return {}
    found = {}
    for mode in choices(design):
        each = _modelled(design, mode, tech, trace)
        if each.value is None and source == "literature":
            each = _literature(_unit(design, mode)) or replace(
                each, source=f"{each.source}; these formats are not in the table of {SOURCE}")
        found[mode] = each
    return found


def _unit(design: object, mode: str) -> DotDesign | None:
    """The dot unit that multiplies in a mode."""
    if isinstance(design, DotDesign):
        return design
    pe = pe_of(design)
    return None if pe is None else pe.dot(mode)


def _unknown(reason: str) -> Quantity:
    return Quantity(None, "pJ", "model", reason)


def _modelled(design: object, mode: str, tech: str, trace: str) -> Quantity:
    unit, tech = _unit(design, mode), Path(tech).stem if tech.endswith(".json") else tech
    if tech not in TABLES:
        return _unknown(f"no energy model for {tech or 'no technology'}, only for {' and '.join(TABLES)}")
    if tech not in technology_names():
        return _unknown(f"no area model of {tech}, which the energy model needs (`bitkiln calibrate` makes one)")
    if unit is None:
        return _unknown("no energy model for this engine")
    try:
        pj, half = _unit_energy(unit, tech, trace)
    except BitkilnError as error:
        if (error.where or "").startswith("trace"):
            raise
        return _unknown(f"{error.what}: {error.got}" if error.got else error.what)
    notes = [f"gate-level energies of SKY130 HD, 1.8 V, zero delay, no wires, operands {trace} x {trace}", TABLES[tech]]
    wider = WIDER["booth" if TABLES[tech] else ""]
    pe = pe_of(design)
    if pe is not None:
        wider = max(wider, WIDER[pe.implementation or "parallel"])
        notes += [LANES_ONLY, "" if pe.implementation == "parallel" else f"as if it were no {pe.implementation} PE"]
    half *= wider
    return Quantity(pj, "pJ", "model", "model: " + "; ".join(filter(None, notes)), max(pj - half, 0.0), pj + half)


@lru_cache(maxsize=1 << 14)
def _unit_energy(unit: DotDesign, tech: str, trace: str) -> tuple[float, float]:
    """Energy of a product and half its interval [pJ], the area model's error included."""
    area = area_estimate(unit, technology(tech))
    if area.value is None or area.low is None:
        raise BitkilnError("no area of this unit", where=unit.name, got=area.note)
    found = dot_energy(unit, trace, trace, areas=(area.metrics["logic"], area.metrics["registers"]), cycles=CYCLES,
                       streams=STREAMS)
    half = hypot(found.high - found.energy, found.energy * (1 - area.low / area.value))
    return found.energy / unit.lanes, half / unit.lanes


def _literature(unit: DotDesign | None) -> Quantity | None:
    """Product and sum in the table's process; None for formats that it does not have."""
    if unit is None or unit.activation != unit.weight:
        return None
    bits, family = unit.activation.bits, unit.activation.family
    kind = "integer" if family == "int" else "float" if unit.activation.name in ("fp16", "fp32") else None
    try:
        parts = [literature_energy(f"{kind}_{operation}", size) for operation, size in
                 (("multiply", bits), ("add", 32)) if kind is not None]
    except BitkilnError:
        return None
    if not parts:
        return None
    what = " + ".join(f"{part.operation} of {part.bits} bits" for part in parts)
    return Quantity(round(sum(part.energy_pj for part in parts), 6), "pJ", "literature",
                    f"{SOURCE}: {what}; another process, published tables differ by up to a factor of five")
