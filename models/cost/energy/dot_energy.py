"""Energy of a dot unit from its description and its operands' statistics alone: traces, activity, areas, model."""

from __future__ import annotations

from ...design import DotDesign
from ...errors import FAILED, BitkilnError
from .dot_activity import dot_activity
from .energy import DotStructure, EnergyEstimate, EnergyModel, sky130_model
from .traces import Trace, trace_codes

__all__ = ["TECHNOLOGY", "dot_energy"]

TECHNOLOGY = "sky130hd"                # whose areas the shipped model is fitted to


def dot_energy(design: DotDesign, activation: Trace | str = "gaussian", weight: Trace | str = "gaussian", *,
               areas: tuple[float, float] | None = None, model: EnergyModel | None = None, cycles: int = 128,
               streams: int = 64, seed: int = 0) -> EnergyEstimate:
    """Energy [pJ/cycle] of a unit that takes operands every cycle, from a cleared accumulator.

    Parameters
    ----------
    design : DotDesign
        With an exact or int32 accumulator.
    activation, weight : Trace or str
        Operand statistics, see `traces`.
    areas : (float, float), optional
        Logic and flip-flops [um2]; default: the area model's for sky130hd. The interval does not hold its error.
    model : EnergyModel, optional
        Default: the shipped one, of sky130hd, 1.8 V.
    cycles, streams, seed : int
        Length, number and seed of the traces that activity is counted on.

    Raises
    ------
    BitkilnError
        An fp32 accumulator, or no area of this unit.
    """
    if areas is None:
        areas = _estimated(design)
    codes = [trace_codes(fmt, trace, cycles, streams, design.lanes, seed=2 * seed + at)
             for at, (fmt, trace) in enumerate(((design.activation, activation), (design.weight, weight)))]
    return (model or sky130_model()).predict(DotStructure.of(design, *areas), dot_activity(design, *codes))


def _estimated(design: DotDesign) -> tuple[float, float]:
    from ..area.area import area_estimate

    found = area_estimate(design, TECHNOLOGY)
    if not {"logic", "registers"} <= set(found.metrics):
        raise BitkilnError("no area model for this unit", where=design.name, got=found.note, exit_code=FAILED,
                           expected=f"a unit of kinds that were fitted for {TECHNOLOGY}")
    return found.metrics["logic"], found.metrics["registers"]
