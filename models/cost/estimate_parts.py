"""Energy and timing of an estimate, put together from what its layers and its technology give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .area.area import Technology
from .area.delay import delay_estimate
from .memory.memory import Hierarchy
from .quantity import Quantity

if TYPE_CHECKING:
    from .estimate import LayerEstimate

__all__ = ["energy_parts", "timing"]


def _arithmetic(layers: Sequence[LayerEstimate], mac: Mapping[str, Quantity]) -> Quantity:
    """All products, each by its layer's mode."""
    used = {layer.mode: mac.get(layer.mode) for layer in layers}
    unknown = [found for found in used.values() if found is None or found.value is None]
    if unknown:
        first = unknown[0]
        return Quantity(None, "pJ", "model" if first is None else first.kind,
                        "no energy of a product was asked for or given" if first is None else first.source)
    macs = {mode: sum(layer.macs for layer in layers if layer.mode == mode) for mode in used}
    known = {mode: found for mode, found in used.items() if found is not None}

    def total(field_of: str) -> float | None:
        values = [getattr(found, field_of) for found in known.values()]
        return None if None in values else sum(macs[mode] * getattr(found, field_of) for mode, found in known.items())

    kinds = dict.fromkeys(found.kind for found in known.values())
    return Quantity(total("value"), "pJ", "literature" if "literature" in kinds else next(iter(kinds)),
                    "; ".join(dict.fromkeys(found.source for found in known.values())), total("low"), total("high"))


def energy_parts(layers: Sequence[LayerEstimate], memory: Hierarchy | None, mac: Mapping[str, Quantity]
                 ) -> dict[str, Quantity]:
    """Energy by part and in total [pJ]; null with the reason where a part is not known."""
    found = {"arithmetic": _arithmetic(layers, mac)}
    for tier in memory.tiers if memory is not None else ():
        values = [layer.energy_pj.get(tier.name) for layer in layers]
        total = None if None in values else sum(value for value in values if value is not None)
        kind = "assumption" if tier.source.lower().startswith("assum") else "literature"
        found[tier.name] = Quantity(total, "pJ", kind, tier.source if total is not None else
                                    f"tier {tier.name} gives no energy of a bit")
    values = [each.value for each in found.values()]
    unknown = [name for name, each in found.items() if each.value is None]
    if unknown:
        found["total"] = Quantity(None, "pJ", "model", f"not known: {', '.join(unknown)}; {found[unknown[0]].source}")
        return found
    whole, part = sum(value for value in values if value is not None), found["arithmetic"]
    if part.value is None or part.low is None or part.high is None:
        found["total"] = Quantity(whole, "pJ", "model", "sum of the parts")
    else:
        found["total"] = Quantity(whole, "pJ", "model", "sum of the parts; its interval is the arithmetic's",
                                  whole - part.value + part.low, whole - part.value + part.high)
    return found


def timing(design: object, tech: Technology) -> tuple[Quantity, Quantity]:
    """Delay [ps] and clock [MHz]."""
    found = delay_estimate(design, tech.delay, f"model: {tech.name}, fitted to delays in "
                           f"{tech.provenance.get('table', 'synthesis runs')}")
    source = "; ".join(filter(None, ("" if found.value is None else found.source, found.note,
                                     f"slowest path {found.path}" if found.path else "")))
    value, low, high = found.fmax
    return Quantity(found.value, "ps", "model", source, found.low, found.high), \
        Quantity(value, "MHz", "model", source, low, high)
