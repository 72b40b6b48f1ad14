"""LibreLane (OpenLane 2): one JSON configuration, from Verilog to GDS on sky130."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .clock import clock_period
from .interfaces import ports_of

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files"]

# Of the core's area: datapaths of adders and multiplexers route well at this; placement gets some air above it.
UTILISATION, DENSITY = 40, 50


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """``librelane/config.json`` and ``librelane/README.md``."""
    name, ports = resolved.name, ports_of(facts["ports"])
    period, origin = clock_period(resolved)
    config: dict[str, Any] = {"meta": {"version": 2, "flow": "Classic"}, "DESIGN_NAME": name,
                              "VERILOG_FILES": [f"dir::../{name}.v"]}
    if ports.clock:
        config |= {"CLOCK_PORT": ports.clock, "CLOCK_PERIOD": period}
    config |= {"FP_CORE_UTIL": UTILISATION, "PL_TARGET_DENSITY_PCT": DENSITY,
               # Synthesis of the generated text: nothing is inferred to be a latch, and nothing has two drivers.
               "LINTER_ERROR_ON_LATCH": True, "LINTER_ERROR_ON_MULTIDRIVEN": True, "ERROR_ON_SYNTH_CHECKS": True}
    return {"librelane/config.json": json.dumps(config, indent=2) + "\n",
            "librelane/README.md": README.format(name=name, period=period, origin=origin, utilisation=UTILISATION)}


README = """# LibreLane

    librelane config.json

in this folder: from `../{name}.v` to GDS with LibreLane's Classic flow on sky130A (`--pdk` names another; LibreLane
fetches it at the first run).

- Clock period: {period} ns ({origin}). Change `CLOCK_PERIOD` by what the flow's timing reports say.
- The die is sized for {utilisation} % of its core filled (`FP_CORE_UTIL`). Many pins on a small design need a larger
  die: lower that number.
- Memories become flip-flops. Replace large ones (the operand buffers of a core) by SRAM macros of your process first.
"""
