"""Which clock period to ask an ASIC flow for."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from ...models.errors import BitkilnError

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["DEFAULT_NS", "clock_period"]

TECHNOLOGY = "sky130hd"
DEFAULT_NS = 40.0
# Measured and modelled delays are of gates alone: what wires and the clock tree add is guessed.
MARGIN = 1.5


def clock_period(resolved: Resolved) -> tuple[float, str]:
    """Period [ns], and where it is from, for sky130.

    The delay that `bitkiln synth --liberty` measured with sky130 cells, else the one that the delay model predicts,
    each times 1.5 for wires; else 40 ns.
    """
    measured = _measured(resolved)
    if measured is not None:
        return _rounded(measured), f"{measured:,.0f} ps of gates measured by `bitkiln synth`, times {MARGIN} for wires"
    predicted = _predicted(resolved.design)
    if predicted is not None:
        return _rounded(predicted), (f"{predicted:,.0f} ps of gates predicted by the delay model of {TECHNOLOGY}, "
                                     f"times {MARGIN} for wires")
    return DEFAULT_NS, "a default; neither measured nor predicted"


def _rounded(picoseconds: float) -> float:
    """Half nanoseconds, upwards."""
    return math.ceil(2 * MARGIN * picoseconds / 1000) / 2


def _measured(resolved: Resolved) -> float | None:
    from ..metrics import Metrics

    try:
        found = Metrics.from_dict(json.loads((resolved.build_folder() / "metrics.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if "sky130" not in found.device:
        return None
    return next((each.value for each in found.metrics if each.name == "delay" and each.unit == "ps" and each.value),
                None)


def _predicted(design: object) -> float | None:
    from ...models.cost.area.area import technology
    from ...models.cost.area.delay import delay_estimate

    try:
        return delay_estimate(design, technology(TECHNOLOGY).delay).value
    except BitkilnError:         # an engine without a model
        return None
