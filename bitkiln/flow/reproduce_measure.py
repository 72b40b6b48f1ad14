"""What `bitkiln reproduce` synthesises and simulates when asked to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..models.design import DotDesign, MatmulDesign, MorphableDesign

__all__ = ["ecp5_cells", "rtl_gemm"]


def ecp5_cells(design: DotDesign | MorphableDesign, progress: Callable[[str], None] = lambda text: None) -> float:
    """LUT4 and twice the CCU2C of a synthesised unit."""
    from ..hw.emit import to_verilog
    from ..hw.mac.dot import DotUnit
    from ..hw.mac.morphable import MorphablePe
    from .synth import synthesise

    progress(f"synthesis of {design.name}")
    component = DotUnit(design) if isinstance(design, DotDesign) else MorphablePe(design)
    cells = {metric.name: metric.value or 0.0 for metric in
             synthesise(to_verilog(component, design.name), design.name, "ecp5").metrics}
    return cells["lut"] + 2 * cells.get("carry", 0.0)


def rtl_gemm(design: MatmulDesign, size: int, order: str) -> tuple[int, int]:
    """Predicted and simulated cycles of one INT8 product of ``size`` cubed, its results checked bit for bit."""
    from ..sim.core_run import CoreModel
    from ..sim.cycle_mac import core_run

    run = core_run(CoreModel(design), np.random.default_rng(0), size=size, mode="int8", rule="integer", m=size, k=size,
                   n=size, order=order, output="int8", per_channel=True, bias=False, accumulate=False)
    return run.predicted, run.simulated
