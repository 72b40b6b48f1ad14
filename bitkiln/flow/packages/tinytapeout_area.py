"""How many tiles of a Tiny Tapeout shuttle a PE behind pins takes, and how fast its clock may be.

The area of the PE is the cost model's or a measured one; what stands around it, counted here, is three coefficients
fitted to synthesis runs (`make bench SUITE=boards ONLY=tinytapeout`, which prints their errors too).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from ...models.cost.area.area import AreaEstimate, area_estimate, technology
from ...models.cost.area.delay import delay_estimate
from ...models.design import DotDesign, MorphableDesign
from ...models.design.pins import PORT, PinsDesign
from ...models.errors import BitkilnError
from ..metrics import Metrics

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["SHUTTLES", "Area", "Shuttle", "around", "clock_ns", "counts", "fitted_area", "smaller", "tile_area"]

USABLE = 0.60          # of the rows: the target density of the projects' default configuration
LEAST_NS = 20          # the default clock period; the pins of the chip allow 66 MHz
# From a delay at the typical corner without wires to a period: slow corner 2, wires 1.3, and LibreLane's input and
# output delays leave 0.8 of the period. A rule of thumb: the timing of the hardened project decides.
MARGIN = 2 * 1.3 / 0.8
UNKNOWN_NS = 100       # where there is no delay model


@dataclass(frozen=True)
class Shuttle:
    """A process that Tiny Tapeout takes projects for.

    Attributes
    ----------
    name, pdk : str
    technology : str
        Of the cost model.
    library : str
        How the names of its liberty files begin.
    tiles : dict
        Size, as in info.yaml, to width and height of the die [um], smallest first.
    site, row : float
        Width of a placement site, height of a row [um]: 12 sites and 2 rows are margins.
    byte, select, enable : float
        Area [um2] of a flip-flop of the operand bytes, of a bit of the byte multiplexers, and what a bit of the
        accumulator saves without an enable.
    """

    name: str
    pdk: str
    technology: str
    library: str
    tiles: dict[str, tuple[float, float]]
    site: float
    row: float
    byte: float
    select: float
    enable: float


# Dies: tile_sizes.yaml of Tiny Tapeout's support tools; margins: its default configuration (LEFT_MARGIN_MULT, ...).
SHUTTLES = (
    Shuttle("sky130", "sky130A", "sky130hd", "sky130_fd_sc_hd",
            {"1x1": (161.00, 111.52), "1x2": (161.00, 225.76), "2x2": (334.88, 225.76), "3x2": (508.76, 225.76),
             "4x2": (682.64, 225.76), "6x2": (1030.40, 225.76), "8x2": (1378.16, 225.76)},
            0.46, 2.72, 19.9, 8.3, 3.6),
    Shuttle("ihp", "ihp-sg13g2", "sg13g2", "sg13g2_stdcell",
            {"1x1": (202.08, 154.98), "1x2": (202.08, 313.74), "2x2": (419.52, 313.74), "3x2": (636.96, 313.74),
             "4x2": (854.40, 313.74), "6x2": (1289.28, 313.74), "8x2": (1724.16, 313.74)},
            0.48, 3.78, 48.9, 13.6, 10.4),
)


@dataclass(frozen=True)
class Area:
    """Area of a project on one shuttle.

    Attributes
    ----------
    shuttle : Shuttle
    value, high : float
        Standard cells after synthesis [um2], and the upper end of the interval, which must fit.
    source : str
    tiles : str or None
        Smallest size that fits; None where none does.
    """

    shuttle: Shuttle
    value: float
    high: float
    source: str

    @property
    def tiles(self) -> str | None:
        return next((size for size in self.shuttle.tiles if self.high <= USABLE * tile_area(self.shuttle, size)), None)

    def share(self, size: str) -> float:
        """Share of a size's rows that the cells take, 0..1."""
        return self.value / tile_area(self.shuttle, size)


def tile_area(shuttle: Shuttle, size: str) -> float:
    """Area of a size's rows [um2]."""
    width, height = shuttle.tiles[size]
    sites, rows = int((width - 12 * shuttle.site) / shuttle.site + 1e-6), int((height - 2 * shuttle.row) / shuttle.row
                                                                              + 1e-6)
    return sites * shuttle.site * rows * shuttle.row


def counts(design: PinsDesign) -> tuple[int, int, int]:
    """Flip-flops of operand bytes, bits of byte multiplexers, bits of an accumulator without an enable."""
    bits = design.result_bits if not design.signed else PORT * design.result_bytes
    muxed = max(0, bits - PORT) + len(design.flags)
    return PORT * (design.beats - 1), muxed, 0 if design.controls else design.result_bits


def around(design: PinsDesign, shuttle: Shuttle) -> float:
    """What a PE behind pins takes more than the PE alone [um2]."""
    held, muxed, saved = counts(design)
    return shuttle.byte * held + shuttle.select * muxed - shuttle.enable * saved


def fitted_area(resolved: Resolved, design: PinsDesign, shuttle: Shuttle) -> Area:
    """Area of a project: of a synthesis run of the PE in its build folder, else of the cost model.

    Raises
    ------
    BitkilnError
        The model has no such part, and nothing was measured.
    """
    more = around(design, shuttle)
    measured = _measured(resolved, shuttle)
    if measured is not None:
        value, source = measured
        return Area(shuttle, value + more, 1.05 * (value + more), source)
    found, source = _modelled(design.pe, shuttle)
    if found.value is None or found.high is None:
        raise BitkilnError("no area model for this PE", where="package tinytapeout", got=design.pe.name,
                           expected="a PE that the cost model knows, or a synthesis run of this one",
                           help="`bitkiln synth` of the same design with --target asic --liberty FILE measures it")
    return Area(shuttle, found.value + more, found.high + more, source)


def _modelled(pe: DotDesign | MorphableDesign, shuttle: Shuttle) -> tuple[AreaEstimate, str]:
    tech = technology(shuttle.technology)
    found = area_estimate(pe, tech)
    if found.value is not None or isinstance(pe, DotDesign) or pe.implementation == "parallel":
        return found, found.source
    # Sharing is chosen where it is smaller.
    found = area_estimate(pe.with_options(implementation="parallel", multiplier="chains"), tech)
    return found, f"{found.source}, for dedicated lanes: an upper bound of the {pe.implementation} PE"


def _measured(resolved: Resolved, shuttle: Shuttle) -> tuple[float, str] | None:
    path = resolved.build_folder() / "metrics.json"
    try:
        metrics = Metrics.from_dict(json.loads(path.read_text(encoding="utf-8")))
        area = metrics["area"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not metrics.device.startswith(shuttle.library) or area is None:
        return None
    tools = ", ".join(f"{tool} {version}" for tool, version in metrics.tools.items())
    return float(area), f"measured: {metrics.device}, {tools}"


def clock_ns(design: PinsDesign) -> tuple[int, str]:
    """A clock period [ns] for sky130, in steps of 5, and how it was found."""
    tech = technology("sky130hd")
    pe = design.pe
    units = [pe] if isinstance(pe, DotDesign) else [pe.dot(mode).with_options(pipeline=pe.pipeline)
                                                    for mode in pe.modes]
    delays = [delay_estimate(unit, tech.delay).high for unit in units]
    known = [delay for delay in delays if delay is not None]
    if len(known) < len(delays):
        return UNKNOWN_NS, "no delay model has this PE"
    slowest = max(known) / 1000
    period = max(LEAST_NS, 5 * ceil(MARGIN * slowest / 5))
    which = "its delay" if len(units) == 1 else "the delay of its slowest mode as a unit of its own"
    return period, (f"{which} is at most {slowest:.1f} ns by the cost model (sky130hd, typical corner, without wires); "
                    f"times {MARGIN:.2f} for the slow corner, wires and pins")


def smaller(resolved: Resolved, design: PinsDesign, shuttle: Shuttle) -> str | None:
    """A choice like ``design`` that fits the largest size, as options; None where none was found."""
    for pe, option in _choices(design):
        one = PinsDesign(pe)
        found, _ = _modelled(pe, shuttle)
        if found.high is not None and Area(shuttle, 0, found.high + around(one, shuttle), "").tiles:
            return option
    return None


def _choices(design: PinsDesign) -> Iterator[tuple[DotDesign | MorphableDesign, str]]:
    pe = design.pe
    if isinstance(pe, DotDesign):
        for lanes in (32, 16, 8, 4, 2, 1):
            if lanes < pe.lanes:
                yield pe.with_options(lanes=lanes), f"--lanes {lanes}"
    else:
        for count in range(len(pe.modes) - 1, 0, -1):
            names = [mode.name for mode in pe.modes[:count]]
            try:
                yield type(pe)(tuple(names), pe.accumulator, pipeline=pe.pipeline), f"--modes {','.join(names)}"
            except BitkilnError:
                continue
