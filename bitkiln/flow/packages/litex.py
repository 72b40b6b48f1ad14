"""LiteX: a module around the core, with AXI interfaces, stream endpoints or CSRs, and a small SoC that has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .interfaces import AXI4, AXI4_LITE, AXI4_STREAM, HANDSHAKE, Interface, Ports, ports_of

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["class_name", "files"]

# Inputs of bare units that act in the one cycle in which they are high: bits of the register CONTROL.
STROBES = ("en", "clear", "last", "shift")


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """``litex/<name>.py`` and ``litex/README.md``."""
    name, ports = resolved.name, ports_of(facts["ports"])
    return {f"litex/{name}.py": _module(name, ports),
            "litex/README.md": README.format(name=name, cls=class_name(name), how=_how(ports))}


def class_name(name: str) -> str:
    """Python class of a Verilog module.

    >>> class_name("dot_fp4_l4_exact19")
    'DotFp4L4Exact19'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def _module(name: str, ports: Ports) -> str:
    members, wires = [], []
    if ports.clock:
        wires.append(f'i_{ports.clock}=ClockSignal("sys")')
    if ports.reset:
        wires.append(f'i_{ports.reset}={"~" if ports.reset_low else ""}ResetSignal("sys")')
    for bus in ports.interfaces:
        members.append(f"self.{bus.name} = {_interface(bus)}")
        for signal, port in bus.signals.items():
            wires.append(_wire(port, f"self.{bus.name}.{_member(bus, signal)}"))
    if not ports.of_kind(AXI4_LITE):
        more, connections = _csrs(ports)
        members += more
        wires += connections
    for port in ports.interrupts:
        members.append(f"self.{port} = Signal()")
        wires.append(f"o_{port}=self.{port}")
    if ports.of_kind(AXI4_LITE):
        wires += [_wire(port, f"self.{port['name']}") for port in ports.others]
        members += [f"self.{port['name']} = Signal({port['width']})" for port in ports.others]
    indent = "\n" + 8 * " "
    body = indent.join(members)
    connections = (",\n" + 12 * " ").join(wires)
    slave = "".join(f'        self.bus.add_slave("core", self.core.{bus.name}, '
                    "SoCRegion(0x8000_0000, 0x1000, cached=False))\n" for bus in ports.of_kind(AXI4_LITE))
    masters = "".join(f'        self.bus.add_master("core", self.core.{bus.name})\n' for bus in ports.of_kind(AXI4)
                      if bus.master)
    return MODULE.format(name=name, cls=class_name(name), body=body, connections=connections, attach=slave + masters,
                         imports=_imports(f"{body} {connections} {slave}"))


def _imports(text: str) -> str:
    """Lines of imports for the names that ``text`` uses."""
    found = {"litex.gen": ["Instance", "LiteXModule"],
             "litex.soc.integration.export": ["get_csr_csv"], "litex.soc.integration.soc_core": ["SoCMini"],
             "migen.genlib.io": ["CRG"]}
    for module, names in (("litex.gen", ("ClockSignal", "ResetSignal", "Signal")),
                          ("litex.soc.integration.soc", ("SoCRegion",)),
                          ("litex.soc.interconnect", ("axi", "stream")),
                          ("litex.soc.interconnect.csr", ("CSRField", "CSRStatus", "CSRStorage"))):
        used = [name for name in names if re.search(rf"\b{name}\b", text)]
        found[module] = sorted([*found.get(module, []), *used])
    return "\n".join(f"from {module} import {', '.join(names)}" for module, names in sorted(found.items()) if names)


def _interface(bus: Interface) -> str:
    signals = bus.signals
    if bus.kind == AXI4_LITE:
        return f"axi.AXILiteInterface(data_width={signals['wdata']['width']}, address_width=32)"
    if bus.kind == AXI4:
        return (f"axi.AXIInterface(data_width={signals['wdata']['width']}, address_width="
                f"{signals['awaddr']['width']}, id_width={signals['awid']['width']}, bursting=True)")
    if bus.kind == AXI4_STREAM:
        keep = f", keep_width={signals['tkeep']['width']}" if "tkeep" in signals else ""
        return f"axi.AXIStreamInterface(data_width={signals['tdata']['width']}{keep})"
    return f'stream.Endpoint([("data", {signals["payload"]["width"]})])'


def _member(bus: Interface, signal: str) -> str:
    """LiteX's name of a signal of ours: ``awaddr`` is ``aw.addr``, ``tdata`` is ``data``."""
    if bus.kind == HANDSHAKE:
        return "data" if signal == "payload" else signal
    if bus.kind == AXI4_STREAM:
        return signal[1:]
    channel = signal[:2] if signal[:2] in ("aw", "ar") else signal[:1]
    return f"{channel}.{signal[len(channel):]}"


def _wire(port: Mapping[str, Any], target: str) -> str:
    """A connection as wide as the port, where LiteX's signal may be wider."""
    cut = f"[:{port['width']}]" if port["width"] > 1 else ""
    return f"{port['direction'][0]}_{port['name']}={target}{cut}"


def _csrs(ports: Ports) -> tuple[list[str], list[str]]:
    """Registers for ports without an interface: strobes in one control register, inputs, outputs."""
    members, wires = [], []
    strobes = [port for port in ports.others if port["name"] in STROBES and port["width"] == 1]
    if strobes:
        fields = (",\n" + 12 * " ").join(f'CSRField("{port["name"]}", pulse=True)' for port in strobes)
        members.append(f"self.control = CSRStorage(fields=[\n            {fields}])")
        wires += [f"i_{port['name']}=self.control.fields.{port['name']}" for port in strobes]
    for port in ports.others:
        if port in strobes:
            continue
        kind, value = ("CSRStorage", "storage") if port["direction"] == "input" else ("CSRStatus", "status")
        members.append(f'self.{port["name"]} = {kind}({port["width"]}, name="{port["name"]}")')
        wires.append(f"{port['direction'][0]}_{port['name']}=self.{port['name']}.{value}")
    return members, wires


def _how(ports: Ports) -> str:
    lines = []
    if ports.of_kind(AXI4_LITE):
        lines.append("- `s_axil` goes to the SoC's bus (`soc.bus.add_slave`); registers as in the core's own headers.")
    if ports.of_kind(AXI4_STREAM):
        lines.append("- Streams are `axi.AXIStreamInterface`: " + ", ".join(
            f"`{bus.name}`" for bus in ports.of_kind(AXI4_STREAM)) + "; connect them to DMAs or to your own blocks.")
    if ports.of_kind(AXI4):
        lines.append("- `m_axi` is a bus master (`soc.bus.add_master`).")
    if ports.of_kind(HANDSHAKE):
        lines.append("- Streams are `stream.Endpoint` with one field `data`, laid out as the core's README says: "
                     + ", ".join(f"`{bus.name}`" for bus in ports.of_kind(HANDSHAKE)) + ".")
    if any(port["name"] in STROBES for port in ports.others):
        names = [port["name"] for port in ports.others if port["name"] in STROBES]
        lines.append("- Software writes the operand registers, then `control`, whose bits are high for one cycle: "
                     + ", ".join(f"`{name}`" for name in names) + "; results are status registers.")
    return "\n".join(lines)


MODULE = '''"""{name} as a LiteX module; run as a program it writes the Verilog of a SoC around it."""

import os

from litex.build.generic_platform import GenericPlatform, Pins, Subsignal
{imports}

HERE = os.path.dirname(os.path.abspath(__file__))


class {cls}(LiteXModule):
    def __init__(self):
        {body}
        self.specials += Instance("{name}",
            {connections})

    @staticmethod
    def add_sources(platform):
        platform.add_source(os.path.join(HERE, "..", "{name}.v"))


class Platform(GenericPlatform):
    """Four pins and no device: enough to write Verilog."""

    def __init__(self):
        serial = ("serial", 0, Subsignal("tx", Pins(1)), Subsignal("rx", Pins(1)))
        super().__init__("none", [("clk", 0, Pins(1)), ("rst", 0, Pins(1)), serial], name="soc_{name}")


class Soc(SoCMini):
    """The core on the bus of a SoC without CPU, whose master is a serial port (`litex_server --uart`)."""

    def __init__(self):
        platform = Platform()
        super().__init__(platform, clk_freq=int(50e6), ident="{name}")
        self.crg = CRG(platform.request("clk"), platform.request("rst"))
        self.add_uartbone()
        self.core = {cls}()
        self.core.add_sources(platform)
{attach}

def main():
    soc, folder = Soc(), os.path.join(HERE, "build")
    soc.finalize()
    os.makedirs(folder, exist_ok=True)
    soc.platform.get_verilog(soc, name="soc").write(os.path.join(folder, "soc.v"))
    with open(os.path.join(folder, "csr.csv"), "w", encoding="utf-8") as file:
        file.write(get_csr_csv(soc.csr_regions, soc.constants, soc.mem_regions))
    print(f"soc.v and csr.csv in {{folder}}")


if __name__ == "__main__":
    main()
'''

README = """# LiteX

    pip install litex
    python {name}.py

writes a SoC around the core, as Verilog with a list of registers, in `build/`: no CPU, a serial port as the bus's
master. In your own SoC:

    self.core = {cls}()
    self.core.add_sources(platform)

{how}
"""
