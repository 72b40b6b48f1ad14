"""Ports of a generated core as other tools see them: clock, reset, AXI interfaces, streams, and what is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...models.design.registers import RegisterMap

__all__ = ["ACCESS", "AXI4", "AXI4_LITE", "AXI4_STREAM", "HANDSHAKE", "MODIFIED_WRITE", "Interface", "Ports",
           "ports_of", "register_map"]

# The register map's words for access, in IP-XACT's, which Vivado shares; and what a write does other than store.
ACCESS = {"ro": "read-only", "rw": "read-write", "wo": "write-only", "w1c": "read-write", "wc": "read-write"}
MODIFIED_WRITE = {"w1c": "oneToClear", "wc": "clear"}

AXI4, AXI4_LITE, AXI4_STREAM, HANDSHAKE = "axi4", "axi4-lite", "axi4-stream", "handshake"

_AXIS = re.compile(r"(?P<bus>[sm]_axis(?:_[a-z0-9]+)?)_(?P<signal>t[a-z]+)")
_AXIL = re.compile(r"(?P<bus>[sm]_axil)_(?P<signal>[a-z]+)")
_AXI = re.compile(r"(?P<bus>[sm]_axi)_(?P<signal>[a-z]+)")
_HANDSHAKE = re.compile(r"(?P<bus>[a-z0-9_]+?)__(?P<signal>payload|valid|ready)")


@dataclass(frozen=True)
class Interface:
    """Ports that belong together.

    Attributes
    ----------
    name : str
        ``s_axil``, ``m_axis``, ``weight``.
    kind : str
        ``axi4``, ``axi4-lite``, ``axi4-stream`` or ``handshake`` (payload, valid and ready).
    master : bool
        Whether the core drives ``valid`` of requests.
    signals : dict
        Name within the interface (``awaddr``, ``tdata``, ``payload``) -> port of the sidecar.
    """

    name: str
    kind: str
    master: bool
    signals: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Ports:
    """Ports of a core.

    Attributes
    ----------
    clock, reset : str or None
        Names; without a reset a core starts by its ``clear`` or ``last`` port.
    reset_low : bool
        Whether the reset is active low.
    interfaces : tuple of Interface
    interrupts : tuple of str
    others : tuple of dict
        Ports that belong to none of these.
    """

    clock: str | None
    reset: str | None
    reset_low: bool
    interfaces: tuple[Interface, ...]
    interrupts: tuple[str, ...]
    others: tuple[dict[str, Any], ...]

    def of_kind(self, *kinds: str) -> list[Interface]:
        """Interfaces of these kinds."""
        return [each for each in self.interfaces if each.kind in kinds]


def ports_of(ports: Sequence[dict[str, Any]]) -> Ports:
    """Ports of a sidecar, sorted out by their roles and names.

    >>> found = ports_of([{"name": "i__valid", "direction": "input", "width": 1, "role": "data"}])
    >>> (found.interfaces[0].name, found.interfaces[0].master)
    ('i', False)
    """
    clock = next((port["name"] for port in ports if port["role"] == "clock"), None)
    reset = next((port["name"] for port in ports if port["role"] == "reset"), None)
    grouped: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    interrupts, others = [], []
    for port in ports:
        name = port["name"]
        if name in (clock, reset):
            continue
        for kind, pattern in ((AXI4_STREAM, _AXIS), (AXI4_LITE, _AXIL), (AXI4, _AXI), (HANDSHAKE, _HANDSHAKE)):
            match = pattern.fullmatch(name)
            if match:
                grouped.setdefault((match["bus"], kind), {})[match["signal"]] = port
                break
        else:
            if name == "irq":
                interrupts.append(name)
            else:
                others.append(port)
    interfaces = []
    for (bus, kind), signals in grouped.items():
        request = next(signals[name] for name in ("valid", "tvalid", "awvalid", "arvalid") if name in signals)
        interfaces.append(Interface(bus, kind, request["direction"] == "output", signals))
    return Ports(clock, reset, bool(reset and reset.endswith("n")), tuple(interfaces), tuple(interrupts),
                 tuple(others))


def register_map(design: object) -> RegisterMap | None:
    """The register map of a core, or None where it has no registers."""
    from ...models.design import MatmulDesign
    from ...models.design.registers import core_registers
    from ...models.design.spconv_core import SpConvDesign
    from ...models.design.spconv_registers import spconv_registers

    if isinstance(design, MatmulDesign):
        return core_registers(design)
    return spconv_registers(design) if isinstance(design, SpConvDesign) else None
