"""What a workload costs on a design: cycles, stalls, bytes, energy and area, each number with where it is from.

    from bitkiln.models.cost.estimate import estimate

    found = estimate(design, get_workload("resnet18"), technology="ecp5", memory=hierarchy)
    found.cycles.value, found.utilisation, found.layers[0].roof

Cycles are those of the exact models (`mapping`) as long as the memories keep up. Every layer's operands go through all
tiers; a tier sees each operand once where the tier inside it holds the whole layer, else as often as the engine's ports
do. Transfers overlap with computing, and the slowest of all sets the pace of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..workloads.shapes import LayerShape, Workload
from .area.area import AreaEstimate, Technology, area_estimate
from .area.area import technology as read_technology
from .cycles.roofline import COMPUTE, roofline
from .estimate_parts import energy_parts, timing
from .mapping import Mapped, layer_modes, map_layer, operand_bits, peak_macs, port_bytes
from .memory.memory import Hierarchy
from .quantity import KINDS, Quantity

__all__ = ["Estimate", "KINDS", "LayerEstimate", "Quantity", "SCHEMA", "estimate"]

SCHEMA = "bitkiln.estimate/1"
EXACT = "cycle model that equals the RTL's counters (streams always ready)"
# Of what stands in JSON as a bare number: unit and where from.
UNITS = {
    "macs": "products; exact", "peak_macs_per_cycle": "products/cycle; exact, of several modes the mean over products",
    "utilisation": "share; products / (peak x cycles)", "bytes.port *": "bytes; exact",
    "bytes.*": "bytes; model: what does not fit the tier inside is read again", "stalls.memory": "cycles; model",
    "stalls.*": "cycles; exact", "area.metrics.*, area.parts.*": "the area's unit, or cells by name; model: its parts",
    "roofline.bound_cycles": "cycles; exact, no design can be faster", "layers.macs, layers.cycles, layers.compute":
    "as above, of one layer", "layers.bounds.*": "cycles", "layers.energy_pj.*": "pJ; as energy"}
LIMITED = "cycle model and memory tiers: the slower of the two for each layer"


@dataclass(frozen=True)
class LayerEstimate:
    """One layer.

    Attributes
    ----------
    name, mode, detail : str
    macs : int
    cycles, compute : int
    stalls : dict of str to int
        By cause, the memories' included; ``compute`` and these are all ``cycles``.
    bytes : dict of str to int
        Over each port (``port a``) and tier.
    bounds : dict of str to float
        Cycles that each roof asks for.
    roof : str
        The lowest: ``compute``, a port or a tier.
    energy_pj : dict of str to (float or None)
        By part.
    """

    name: str
    mode: str
    detail: str
    macs: int
    cycles: int
    compute: int
    stalls: dict[str, int]
    bytes: dict[str, int]
    bounds: dict[str, float]
    roof: str
    energy_pj: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "mode": self.mode, "detail": self.detail, "macs": self.macs, "cycles": self.cycles,
                "compute": self.compute, "stalls": self.stalls, "bytes": self.bytes, "bounds": self.bounds,
                "roof": self.roof, "energy_pj": self.energy_pj}


@dataclass(frozen=True)
class Estimate:
    """A workload on a design.

    Attributes
    ----------
    design, workload : str
    layers : tuple of LayerEstimate
    cycles : Quantity
        [cycles].
    macs : int
    peak : float
        Products in a cycle at full use, of the first layer's mode.
    bytes : dict of str to int
    stalls : dict of str to int
    energy : dict of str to Quantity
        By part [pJ]; ``total`` is None where a part is not known.
    area : AreaEstimate or None
    bound : int
        Cycles that no engine with these roofs beats.
    delay : Quantity or None
        Of the slowest path between registers [ps].
    fmax : Quantity or None
        Clock that this delay allows [MHz].
    """

    design: str
    workload: str
    layers: tuple[LayerEstimate, ...]
    cycles: Quantity
    macs: int
    peak: float
    bytes: dict[str, int]
    stalls: dict[str, int]
    energy: dict[str, Quantity]
    area: AreaEstimate | None
    bound: int
    config: dict[str, Any] = field(default_factory=dict)
    delay: Quantity | None = None
    fmax: Quantity | None = None

    @property
    def seconds(self) -> Quantity:
        """Time at the highest clock [s]; its interval is that of the clock. The memories' speed is that of the clock
        that they were given."""
        total = self.cycles.value
        if self.fmax is None or not self.fmax.value or total is None:
            return Quantity(None, "s", "model", "no clock" if self.fmax is None else self.fmax.source)
        low, high = self.fmax.low, self.fmax.high
        return Quantity(total / (self.fmax.value * 1e6), "s", "model", f"cycles / fmax; {self.fmax.source}",
                        total / (high * 1e6) if high else None, total / (low * 1e6) if low else None)

    @property
    def utilisation(self) -> float:
        """Useful products by what the engine could do in these cycles."""
        return sum(layer.bounds[COMPUTE] for layer in self.layers) / self.cycles.value if self.cycles.value else 0.0

    @property
    def roof(self) -> str:
        """The roof that bounds most of the time."""
        time: dict[str, float] = {}
        for layer in self.layers:
            time[layer.roof] = time.get(layer.roof, 0.0) + layer.bounds[layer.roof]
        return max(time, key=lambda name: time[name])

    def as_dict(self) -> dict[str, Any]:
        """For JSON (schema ``bitkiln.estimate/1``, docs/cost_model.md)."""
        area = None
        if self.area is not None:
            found = self.area
            area = {"total": Quantity(found.value, found.unit, "model", f"{found.source}{'; ' * bool(found.note)}"
                                      f"{found.note}", found.low, found.high).as_dict(),
                    "metrics": found.metrics, "parts": found.parts, "known": found.known}
        return {"schema": SCHEMA, "design": {"name": self.design, "config": self.config}, "workload": self.workload,
                "units": UNITS, "cycles": self.cycles.as_dict(), "macs": self.macs, "peak_macs_per_cycle": self.peak,
                "utilisation": self.utilisation, "bytes": self.bytes, "stalls": self.stalls,
                "energy": {name: each.as_dict() for name, each in self.energy.items()}, "area": area,
                "delay": self.delay and self.delay.as_dict(), "fmax": self.fmax and self.fmax.as_dict(),
                "seconds": self.seconds.as_dict(), "roofline": {"bound_cycles": self.bound, "roof": self.roof},
                "layers": [layer.as_dict() for layer in self.layers]}


def _traffic(layer: LayerShape, mapped: Mapped, bits: tuple[float, float], memory: Hierarchy | None) -> dict[str, int]:
    """Bytes that each tier moves."""
    if memory is None:
        return {}
    out = mapped.ports.get("o", 0)
    once = -(-int(layer.inputs * bits[0] + layer.weights * bits[1]) // 8) + out
    found, inner = {}, None
    for tier in memory.tiers:
        again = inner is None or 8 * once > inner.size_bits
        found[tier.name] = max(mapped.moved, once) if again else once
        inner = tier
    return found


def _layer(design: object, layer: LayerShape, mode: str, memory: Hierarchy | None, mac_pj: float | None
           ) -> LayerEstimate:
    mapped = map_layer(design, layer, mode)
    tiers = _traffic(layer, mapped, operand_bits(design, mode), memory)
    widths = port_bytes(design, mode)
    moved = {f"port {name}": mapped.ports[name] for name in widths if name in mapped.ports} | tiers
    speed: dict[str, float] = {f"port {name}": width for name, width in widths.items()}
    slowest = 0
    energy: dict[str, float | None] = {"arithmetic": None if mac_pj is None else mac_pj * layer.macs}
    if memory is not None:
        for tier in memory.tiers:
            speed[tier.name] = tier.bytes_per_s(memory.clock_mhz) / (memory.clock_mhz * 1e6)
            slowest = max(slowest, memory.cycles(tier.transfer_s(tiers[tier.name], memory.clock_mhz)))
            written = mapped.ports.get("o", 0)
            energy[tier.name] = tier.energy_pj(tiers[tier.name] - written, written)
    roofs = roofline(layer.macs, moved, peak_macs(design, mode), speed)
    stalls = {cause: cycles for cause, cycles in mapped.stalls.items() if cycles}
    if slowest > mapped.cycles:
        stalls["memory"] = slowest - mapped.cycles
    bounds = {name: float(value) for name, value in roofs.bounds.items()}
    return LayerEstimate(layer.name, mode, mapped.detail, layer.macs, max(mapped.cycles, slowest), mapped.compute,
                         stalls, moved, bounds, roofs.roof, energy)


def _peak(design: object, layers: tuple[LayerEstimate, ...]) -> float:
    """Products in a cycle at full use; where modes differ in it, the mean over the products of the workload."""
    peaks = {peak_macs(design, layer.mode) for layer in layers}
    return peaks.pop() if len(peaks) == 1 else \
        sum(layer.macs for layer in layers) / sum(layer.bounds[COMPUTE] for layer in layers)


def estimate(design: object, workload: Workload, *, assignment: dict[str, str] | str | None = None,
             technology: Technology | str | None = None, memory: Hierarchy | None = None,
             mac_energy: dict[str, Quantity] | None = None, name: str | None = None,
             config: dict[str, Any] | None = None) -> Estimate:
    """Cost of a workload on a design.

    Parameters
    ----------
    design : dataclass of models.design
        ``dot_unit``, ``morphable_pe``, ``matmul_array``, ``matmul_core`` or ``bitserial_array``.
    workload : Workload
    assignment : dict or str, optional
        Mode of each layer, by name, by class (``first``, ``body``, ...) or ``default``; by default the design's first.
    technology : Technology or str, optional
        Gives the area and the clock.
    memory : Hierarchy, optional
        Tiers from the innermost out; without it operands are always there.
    mac_energy : dict of str to Quantity, optional
        Mode -> energy of a product [pJ].

    Raises
    ------
    BitkilnError
        An engine, mode, layer or technology that is not there.
    """
    mac_energy = mac_energy or {}
    tech = technology if technology is None or isinstance(technology, Technology) else read_technology(technology)
    delay, fmax = (None, None) if tech is None else timing(design, tech)
    layers = tuple(
        _layer(design, layer, mode, memory, mac_energy[mode].value if mode in mac_energy else None)
        for layer, mode in layer_modes(design, workload.layers, assignment))
    total = sum(layer.cycles for layer in layers)
    limited = any("memory" in layer.stalls for layer in layers)
    names = dict.fromkeys(key for layer in layers for key in layer.bytes)
    causes = dict.fromkeys(key for layer in layers for key in layer.stalls)
    return Estimate(
        design=name or getattr(design, "name", type(design).__name__), workload=workload.name, layers=layers,
        cycles=Quantity(total, "cycles", "model" if limited else "exact", LIMITED if limited else EXACT),
        macs=sum(layer.macs for layer in layers), peak=_peak(design, layers),
        bytes={key: sum(layer.bytes.get(key, 0) for layer in layers) for key in names},
        stalls={key: sum(layer.stalls.get(key, 0) for layer in layers) for key in causes},
        energy=energy_parts(layers, memory, mac_energy),
        area=None if tech is None else area_estimate(design, tech),
        bound=sum(int(-(-max(layer.bounds.values()) // 1)) for layer in layers), config=config or {}, delay=delay,
        fmax=fmax)
