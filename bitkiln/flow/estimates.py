"""Estimates of designs, those of engines without an area model too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..models.cost.area.area import AreaEstimate, Technology, technology
from ..models.cost.area.area_blocks import design_blocks
from ..models.cost.estimate import Estimate, estimate
from ..models.errors import BitkilnError
from ..models.workloads.shapes import Workload

__all__ = ["estimate_any"]


def estimate_any(design: object, workload: Workload, tech: Technology | str, **options: Any) -> Estimate:
    """As `estimate`; where the engine has no area model the area is null and says so.

    Parameters
    ----------
    design : dataclass of models.design
    workload : Workload
    tech : Technology or str
    **options
        The other ones of `estimate`.

    Raises
    ------
    BitkilnError
        As `estimate`.
    """
    try:
        design_blocks(design)
    except BitkilnError as error:
        found = estimate(design, workload, technology=None, **options)
        tech = technology(tech) if isinstance(tech, str) else tech
        return replace(found, area=AreaEstimate(None, None, None, tech.unit, {}, {}, False, f"model: {tech.name}",
                                                error.what))
    return estimate(design, workload, technology=tech, **options)
