"""Vivado: a Tcl script that packages the core as an IP for the block designer, interfaces and registers included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...models.design.registers import ADDRESS_BITS, DATA_BITS, RegisterMap
from .interfaces import (
    ACCESS,
    AXI4,
    AXI4_LITE,
    AXI4_STREAM,
    MODIFIED_WRITE,
    Interface,
    Ports,
    ports_of,
    register_map,
)

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files", "tcl_word"]

PART = "xc7a35ticsg324-1L"
KINDS = {AXI4: "aximm", AXI4_LITE: "aximm", AXI4_STREAM: "axis"}


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """``vivado/package_ip.tcl`` and ``vivado/README.md``."""
    name = resolved.name
    script = _script(name, resolved.engine.summary, ports_of(facts["ports"]), register_map(resolved.design))
    return {"vivado/package_ip.tcl": script, "vivado/README.md": README.format(name=name, part=PART)}


def tcl_word(text: str) -> str:
    r"""``text`` as one word of Tcl, with nothing substituted.

    >>> tcl_word("plain"), tcl_word("two words"), tcl_word("a } b")
    ('plain', '{two words}', 'a\\ \\}\\ b')
    """
    if re.fullmatch(r"[A-Za-z0-9_.:/-]+", text):
        return text
    if not re.search(r"[{}\\]", text):
        return f"{{{text}}}"
    return re.sub(r"([^A-Za-z0-9_.:/-])", r"\\\1", text)


def _script(name: str, summary: str, ports: Ports, registers: RegisterMap | None) -> str:
    parts = [HEAD.format(name=name, part=PART, summary=tcl_word(summary), version=_version())]
    for kind, port, mode, more in _signals(ports):
        signal = {"clock": "CLK", "reset": "RST", "interrupt": "INTERRUPT"}[kind]
        parts.append(f"interface $core {port} signal:{kind} {mode} {{{signal} {port}}}\n"
                     + "".join(f"parameter $core {port} {key} {value}\n" for key, value in more.items()))
    buses = ports.of_kind(*KINDS)
    parts += [_bus(bus) for bus in buses]
    if ports.clock and buses:
        parts.append("".join(f"ipx::associate_bus_interfaces -busif {bus.name} -clock {ports.clock} $core\n"
                             for bus in buses))
    if ports.clock and ports.reset:
        parts.append(f"parameter $core {ports.clock} ASSOCIATED_RESET {ports.reset}\n")
    lite = ports.of_kind(AXI4_LITE)
    if registers is not None and lite:
        parts.append(_registers(lite[0].name, registers))
    return "\n".join([*parts, TAIL.format(name=name)])


def _version() -> str:
    """Vivado wants numbers only, and at most four."""
    return ".".join(re.findall(r"\d+", __version__)[:3])


def _signals(ports: Ports) -> list[tuple[str, str, str, dict[str, str]]]:
    found = []
    if ports.clock:
        found.append(("clock", ports.clock, "slave", {}))
    if ports.reset:
        found.append(("reset", ports.reset, "slave",
                      {"POLARITY": "ACTIVE_LOW" if ports.reset_low else "ACTIVE_HIGH"}))
    return found + [("interrupt", port, "master", {"SENSITIVITY": "LEVEL_HIGH"}) for port in ports.interrupts]


def _bus(bus: Interface) -> str:
    pairs = "".join(f"    {signal.upper()} {port['name']}\n" for signal, port in bus.signals.items())
    mode = "master" if bus.master else "slave"
    lines = f"interface $core {bus.name} interface:{KINDS[bus.kind]} {mode} {{\n{pairs}}}\n"
    if bus.kind == AXI4_LITE:
        lines += f"parameter $core {bus.name} PROTOCOL AXI4LITE\n"
    if bus.kind == AXI4 and bus.master:
        bits = bus.signals["awaddr"]["width"]
        lines += (f"set space [ipx::add_address_space {bus.name} $core]\nset_property range {1 << bits} $space\n"
                  f"set_property width {bits} $space\nset_property master_address_space_ref {bus.name} "
                  f"[ipx::get_bus_interfaces {bus.name} -of_objects $core]\n")
    return lines


def _registers(bus: str, registers: RegisterMap) -> str:
    lines = [f"set map [ipx::add_memory_map {bus} $core]",
             f"set_property slave_memory_map_ref {bus} [ipx::get_bus_interfaces {bus} -of_objects $core]",
             "set block [ipx::add_address_block registers $map]",
             f"set_property range {1 << ADDRESS_BITS} $block", f"set_property width {DATA_BITS} $block",
             "set_property usage register $block"]
    for register in registers:
        lines.append(f"set register [add_register $block {register.name} {register.offset:#x} "
                     f"{tcl_word(register.description)}]")
        for f in register.fields:
            lines.append(f"add_field $register {f.name} {f.low} {f.bits} {ACCESS[f.access]} "
                         f"{MODIFIED_WRITE.get(f.access, 'modify')} {tcl_word(f.description)}")
    return "\n".join(lines) + "\n"


HEAD = """# Packages {name} as an IP for Vivado's block designer:
#   vivado -mode batch -source package_ip.tcl -tclargs PART
# The IP is in the folder ip beside this script; add that folder to the IP repositories of a project.

set here [file dirname [file normalize [info script]]]
set part {part}
if {{[info exists argv] && [llength $argv] > 0}} {{
    set part [lindex $argv 0]
}}

# An interface of $core whose port maps are a list of logical and physical names.
proc interface {{core name kind mode maps}} {{
    set bus [ipx::add_bus_interface $name $core]
    set_property bus_type_vlnv xilinx.com:$kind:1.0 $bus
    set_property abstraction_type_vlnv xilinx.com:${{kind}}_rtl:1.0 $bus
    set_property interface_mode $mode $bus
    foreach {{logical physical}} $maps {{
        set_property physical_name $physical [ipx::add_port_map $logical $bus]
    }}
}}

proc parameter {{core interface name value}} {{
    set bus [ipx::get_bus_interfaces $interface -of_objects $core]
    set_property value $value [ipx::add_bus_parameter $name $bus]
}}

proc add_register {{block name offset description}} {{
    set register [ipx::add_register $name $block]
    set_property address_offset $offset $register
    set_property size 32 $register
    set_property description $description $register
    return $register
}}

proc add_field {{register name low bits access modified description}} {{
    set field [ipx::add_field $name $register]
    set_property bit_offset $low $field
    set_property bit_width $bits $field
    set_property access $access $field
    set_property modified_write_value $modified $field
    set_property description $description $field
}}

create_project -force package_ip [file join $here project] -part $part
add_files -norecurse [file join $here .. {name}.v]
set_property top {name} [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir [file join $here ip] -vendor bitkiln -library cores -taxonomy /UserIP \\
    -import_files -force
set core [ipx::current_core]
set_property name {name} $core
set_property version {version} $core
set_property display_name {name} $core
set_property description {summary} $core

# What Vivado guessed from names gives way to what the core has.
ipx::remove_all_bus_interface $core
foreach map [ipx::get_memory_maps -of_objects $core] {{
    ipx::remove_memory_map [get_property name $map] $core
}}
"""

TAIL = """ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
puts "{name} is packaged in [file join $here ip]"
"""

README = """# Vivado

    vivado -mode batch -source package_ip.tcl

in this folder packages `{name}` as an IP into `ip/`; add that folder to a project's IP repositories. `-tclargs PART`
names another part than {part} (the IP itself is for all families). The AXI interfaces are bound to their clock, and the
registers have their fields, so that the address editor and exported hardware know them.

Bitkiln's tests have no Vivado: they check the script's syntax, run it in a plain Tcl interpreter that records Vivado's
commands, and compare these with the core's ports and registers.
"""
