"""From a design to a bitstream for a board, with the open tools; for AMD boards, to a Vivado project.

Amaranth's build plan says what goes into the files; the tools are run here, so that they are those of `bitkiln doctor`,
their reports are read, and a design that is too large or too slow is told in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import Resolved, load_design
from ..files import write_all
from ..models.errors import FAILED, MISSING_TOOL, BitkilnError
from .metrics import Metric, Metrics
from .targets import Target, get_target
from .tools import run_tool, scratch

__all__ = ["Bitstream", "Device", "bitstream", "board_design", "check_room", "synthesise_plan"]

PLACE_SECONDS = 2 * 3600
REPORT, DESIGN, METRICS = "bitstream.json", "design.json", "metrics.json"
# Yosys options of each family: those of the area models (flow.targets), but with pads, and DSP blocks on the iCE40,
# where logic is what runs out. Pads are the platform's instances: synth_gowin would give every kept module its own.
SYNTH = {"ecp5": "-nowidelut -nodsp", "ice40": "-dsp", "gowin": "-nowidelut -nodsp -noiopads"}
PRODUCTS = {"ecp5": "top.bit", "ice40": "top.bin", "gowin": "top.fs"}
PLACERS = {"ecp5": "nextpnr-ecp5", "ice40": "nextpnr-ice40", "gowin": "nextpnr-himbaechel"}
PACKERS = {"ecp5": "ecppack", "ice40": "icepack", "gowin": "gowin_pack"}
# What the placer calls the places of each kind. On iCE40 a flip-flop without a LUT before it takes a whole place too.
PLACED = {"ecp5": {"lut": "TRELLIS_COMB", "ram": "DP16KD", "dsp": "MULT18X18D"},
          "ice40": {"lut": "ICESTORM_LC", "ram": "ICESTORM_RAM", "dsp": "ICESTORM_DSP"},
          "gowin": {"lut": "LUT4", "ram": "BSRAM"}}
# A chain cell takes the place of two LUTs on ECP5.
PLACES = {"ecp5": {"lut": 1, "carry": 2}, "ice40": {"lut": 1}, "gowin": {"lut": 1, "carry": 1}}
# Memories of LUTs are no blocks of RAM: what they are called, and the LUTs that one takes (four, and two that the write
# port shuts).
LUT_RAMS = {"ecp5": ("TRELLIS_DPR16X4", 6), "gowin": ("RAM16.*", 4)}


@dataclass(frozen=True)
class Device:
    """What a board has and a synthesised design takes, of one kind.

    Attributes
    ----------
    kind : str
        ``lut``, ``ram`` or ``dsp``.
    used, available : int
    """

    kind: str
    used: int
    available: int

    @property
    def share(self) -> float:
        return self.used / self.available

    @property
    def fits(self) -> bool:
        return self.used <= self.available


@dataclass(frozen=True)
class Bitstream:
    """What `bitstream` made.

    Attributes
    ----------
    board : Board
    folder : Path
    file : Path or None
        The bitstream; None where only a project was written.
    clock_mhz, fmax_mhz : float
        Stated; reached.
    devices : tuple of Device
    metrics : Metrics or None
    cached : bool
        Everything was there already.
    files : tuple of Path
    """

    board: Any
    folder: Path
    file: Path | None
    clock_mhz: float
    fmax_mhz: float | None
    devices: tuple[Device, ...]
    metrics: Metrics | None
    cached: bool
    files: tuple[Path, ...]


def board_design(board: Any, path: Path | None = None, *, cli: dict[str, tuple[Any, str]] | None = None,
                 preset: str | None = None) -> Resolved:
    """The design for a board: a file or preset, or else the board's own, with options on top.

    Raises
    ------
    BitkilnError
        The design is illegal, or cannot sit behind a link.
    """
    from ..hw.link.linked import linkable

    given = dict(cli or {})
    other = given.get("engine", (board.engine,))[0] != board.engine
    if path is None and preset is None and not other:
        own = {"engine": board.engine, **board.settings}
        if "formats" in given or "pe" in given:
            own.pop("modes", None)
        given = {key: (value, f"board {board.name}") for key, value in own.items()} | given
    elif path is None and preset is None:
        from ..engines import engine

        entry = engine(given["engine"][0], "--engine")
        given = {key: (value, "--engine") for key, value in entry.example.items()} | given
    given.setdefault("target.fpga", (board.target, f"board {board.name}"))
    resolved = load_design(path, preset=preset, cli=given)
    linkable(resolved.design)
    return resolved


def bitstream(board: Any, resolved: Resolved, *, folder: Path | None = None, clock_mhz: float | None = None,
              baud: int | None = None, seeds: Sequence[int] = (1, 2, 3), dsp: bool = False, force: bool = False,
              progress: Callable[[str], None] = lambda text: None) -> Bitstream:
    """Make a bitstream.

    Parameters
    ----------
    board : Board
    resolved : Resolved
    folder : Path, optional
        Default ``build/<board>-<name>-<hash>``.
    clock_mhz, baud : optional
        In place of the board's.
    seeds : sequence of int
        Of place and route; the next is tried where one misses the clock.
    dsp : bool
        Allow DSP blocks on ECP5 and Gowin too.
    force : bool
        Run the tools even where the result is there.

    Raises
    ------
    BitkilnError
        Exit code 3 without a tool; 1 where the design is too large (the largest that fits is named) or no seed reaches
        the clock; 2 for clocks and rates that cannot be made.
    """
    _need_boards()
    from ..boards import top as boards_top

    settings = boards_top.clock_of(board, clock_mhz)
    identity = boards_top.identity_of(board, resolved.design, resolved.digest, clock_mhz, baud)
    folder = folder or Path("build") / f"{board.name}-{resolved.build_folder().name}"
    family = get_target(board.target).name
    progress(f"{board.name}: {resolved.name}, {identity.clock_hz / 1e6:g} MHz")
    if board.flow == "vivado":
        _, plan = boards_top.plan(board, resolved.design, identity, settings)
        return _project(board, resolved, folder, plan, identity)
    tools = _tools(family)
    synth = SYNTH[family].replace("-nodsp", "") if dsp else SYNTH[family]
    platform, plan = boards_top.plan(board, resolved.design, identity, settings, synth_opts=synth)
    key = _key(plan, tools, seeds, board.place)
    product = folder / PRODUCTS[family]
    if not force and (found := _kept(board, folder, product, key)) is not None:
        return found
    progress("synthesis")
    with scratch() as name:
        work = Path(name)
        cells = synthesise_plan(tools["yosys"], plan, work)
        devices = _devices(board, get_target(board.target), family, cells)
        check_room(board, resolved, devices, progress)
        progress("place and route")
        seed, fmax, used = _place(board, resolved, platform, family, tools, work, seeds, identity.clock_hz / 1e6,
                                  progress)
        devices = tuple(replace(each, used=used.get(PLACED[family].get(each.kind, ""), each.used)) for each in devices)
        progress("packing")
        _pack(platform, family, tools, work)
        counts = get_target(board.target).counts(cells)
        clock = identity.clock_hz / 1e6
        metrics = Metrics(board.title, {tool.name: tool.version for tool in tools.values()},
                          f"bitkiln bitstream --board {board.name}", [
                              Metric("clock", clock, "MHz", True), Metric("fmax", fmax, "MHz", True),
                              *counts, *[Metric(f"{each.kind}_available", each.available, "cells", True)
                                         for each in devices]],
                          seed=seed, cells=used, design={"config": resolved.config, "digest": resolved.digest})
        files = {product.name: (work / product.name).read_bytes(),
                 "nextpnr.log": (work / "top.tim").read_bytes(), "yosys.log": (work / "top.rpt").read_bytes(),
                 METRICS: json.dumps(metrics.as_dict(), indent=2) + "\n",
                 DESIGN: json.dumps(resolved.config, indent=2) + "\n",
                 REPORT: json.dumps({
                     "schema": "bitkiln.bitstream/1", "board": board.name, "key": key, "name": resolved.name,
                     "digest": resolved.digest, "clock_mhz": clock, "fmax_mhz": fmax, "seed": seed,
                     "baud": identity.clock_hz / identity.divisor, "file": product.name,
                     "devices": [vars(each) for each in devices]}, indent=2) + "\n"}
        files |= _sources(plan)
        write_all(folder, files)
    return Bitstream(board, folder, product, clock, fmax, devices, metrics, False,
                     tuple(folder / each for each in files))


def _need_boards() -> None:
    try:
        import amaranth_boards  # noqa: F401
    except ImportError:
        raise BitkilnError("missing package", where="boards", got="no amaranth-boards",
                           expected="the definitions of boards", help="pip install 'bitkiln[boards]'",
                           exit_code=MISSING_TOOL) from None


def _tools(family: str) -> dict[str, Any]:
    from ..sim.toolchain import require

    return {"yosys": require("yosys"), "place": require(PLACERS[family]), "pack": require(PACKERS[family])}


def _sources(plan: Any) -> dict[str, str | bytes]:
    """The plan's own files: who has the tools on PATH can run ``build_top.sh``."""
    return {name: content for name, content in plan.files.items() if not name.endswith((".debug.v", ".json", ".bat"))}


def _key(plan: Any, tools: dict[str, Any], seeds: Sequence[int], place: Sequence[str]) -> str:
    text = hashlib.sha256()
    for name, content in sorted(plan.files.items()):
        text.update(name.encode() + b"\0" + (content.encode() if isinstance(content, str) else content) + b"\0")
    versions = [[tool.name, tool.version] for tool in tools.values()]
    text.update(json.dumps([versions, list(seeds), list(place)]).encode())
    return text.hexdigest()[:16]


def _kept(board: Any, folder: Path, product: Path, key: str) -> Bitstream | None:
    """The result of an earlier run with the same inputs."""
    try:
        report = json.loads((folder / REPORT).read_text())
        metrics = Metrics.from_dict(json.loads((folder / METRICS).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if report.get("key") != key or not product.exists():
        return None
    return Bitstream(board, folder, product, report["clock_mhz"], report["fmax_mhz"],
                     tuple(Device(**each) for each in report["devices"]), metrics, True,
                     tuple(sorted(folder.iterdir())))


# Steps ---------------------------------------------------------------------------------------------


def synthesise_plan(yosys: Any, plan: Any, work: Path) -> dict[str, int]:
    """Write a plan's files into ``work`` and run its synthesis; cells by type."""
    for name, content in plan.files.items():
        (work / name).write_bytes(content.encode() if isinstance(content, str) else content)
    script = (work / "top.ys").read_text()
    (work / "top.ys").write_text(script + "\ntee -q -o stat.json stat -json\n")
    run_tool(yosys, ["-q", "-l", "top.rpt", "top.ys"], work, log="top.rpt", timeout=PLACE_SECONDS)
    stat = json.loads((work / "stat.json").read_text())
    found = stat["design"]["num_cells_by_type"]
    return {cell: count["count"] if isinstance(count, dict) else count for cell, count in found.items()}


def _devices(board: Any, target: Target, family: str, cells: dict[str, int]) -> tuple[Device, ...]:
    counted = {metric.name: int(metric.value or 0) for metric in target.counts(cells)}
    pattern, places = LUT_RAMS.get(family, ("", 0))
    small = sum(count for cell, count in cells.items() if re.fullmatch(pattern, cell))
    used = {"lut": sum(weight * counted[name] for name, weight in PLACES[family].items()) + places * small,
            "ram": counted.get("ram", 0) - small, "dsp": counted.get("dsp", 0)}
    return tuple(Device(kind, used[kind], available) for kind, available in board.capacity.items())


def check_room(board: Any, resolved: Resolved, devices: Sequence[Device], progress: Callable[[str], None]) -> None:
    """Raise BitkilnError where a design does not fit; it names the largest array that does."""
    over = [each for each in devices if not each.fits]
    if over:
        from .largest import largest_array

        worst = max(over, key=lambda each: each.share)
        luts = next((each.used for each in devices if each.kind == "lut"), None)
        raise BitkilnError("design too large", where=f"board {board.name}", got=f"{worst.used:,} {worst.kind}",
                           expected=f"at most {worst.available:,}",
                           help=largest_array(board, resolved, progress, luts), exit_code=FAILED)


def _options(platform: Any, family: str) -> list[str]:
    """Device, package and constraint options of the placer, as the platform gives them."""
    if family == "ecp5":
        return [platform._nextpnr_device_options[platform.device], "--package",
                platform._nextpnr_package_options[platform.package].upper(), "--speed", platform.speed,
                "--lpf", "top.lpf", "--textcfg", "top.config"]
    if family == "ice40":
        return [platform._nextpnr_device_options[platform.device], "--package", platform.package.lower(),
                "--pcf", "top.pcf", "--asc", "top.asc"]
    return ["--device", platform.part, "--vopt", f"family={platform._chipdb_device}", "--vopt", "cst=top.cst",
            "--write", "top.pnr.json"]


def _place(board: Any, resolved: Resolved, platform: Any, family: str, tools: dict[str, Any], work: Path,
           seeds: Sequence[int], clock_mhz: float,
           progress: Callable[[str], None]) -> tuple[int, float, dict[str, int]]:
    """Seed, clock reached and cells used of the first run that meets the clock."""
    netlist = "top.syn.json" if family == "gowin" else "top.json"
    reached: dict[int, float] = {}
    for seed in seeds:
        try:
            run_tool(tools["place"], ["--json", netlist, *_options(platform, family), *board.place, "--seed",
                                      str(seed), "--freq", f"{clock_mhz:g}", "--report", "report.json",
                                      "--timing-allow-fail", "-q", "--log", "top.tim"], work, timeout=PLACE_SECONDS,
                     log="top.tim")
        except BitkilnError:
            check_room(board, resolved, _packed(board, family, work / "top.tim"), progress)
            raise
        report = json.loads((work / "report.json").read_text())
        # Of the core's clock, the slowest of what the tool saw.
        clocks = [(entry["achieved"], entry["constraint"]) for entry in report["fmax"].values()]
        reached[seed] = min(achieved * clock_mhz / constraint for achieved, constraint in clocks)
        progress(f"seed {seed}: {reached[seed]:.1f} MHz of {clock_mhz:g}")
        if reached[seed] >= clock_mhz:
            used = {name: entry["used"] for name, entry in report["utilization"].items() if entry["used"]}
            return seed, round(reached[seed], 2), used
    best = max(reached.values())
    raise BitkilnError("timing not met", where=f"board {board.name}", got=f"{best:.1f} MHz at best of "
                       f"{len(reached)} seeds", expected=f"{clock_mhz:g} MHz", exit_code=FAILED,
                       help=f"--clock {int(best * 0.98)} should do; or more registers: --pipeline")


def _packed(board: Any, family: str, log: Path) -> tuple[Device, ...]:
    """What a placer that gave up had found: it says so before it places."""
    text = log.read_text(errors="replace") if log.exists() else ""
    found = {name: int(used) for name, used in re.findall(r"(\w+):\s+(\d+)/\s*\d+\s+\d+%", text)}
    return tuple(Device(kind, found.get(PLACED[family].get(kind, ""), 0), available)
                 for kind, available in board.capacity.items())


def _pack(platform: Any, family: str, tools: dict[str, Any], work: Path) -> None:
    if family == "ecp5":
        arguments = ["--input", "top.config", "--bit", "top.bit", "--svf", "top.svf"]
    elif family == "ice40":
        arguments = ["top.asc", "top.bin"]
    else:
        arguments = ["-d", platform._chipdb_device, "-o", "top.fs", "top.pnr.json"]
    run_tool(tools["pack"], arguments, work)


def _project(board: Any, resolved: Resolved, folder: Path, plan: Any, identity: Any) -> Bitstream:
    """A Vivado project: Verilog, constraints, and the script that makes the bitstream of them."""
    files = _sources(plan) | {
        DESIGN: json.dumps(resolved.config, indent=2) + "\n",
        REPORT: json.dumps({"schema": "bitkiln.bitstream/1", "board": board.name, "name": resolved.name,
                            "digest": resolved.digest, "clock_mhz": identity.clock_hz / 1e6, "fmax_mhz": None,
                            "baud": identity.clock_hz / identity.divisor, "file": None}, indent=2) + "\n"}
    write_all(folder, files)
    script = folder / "build_top.sh"
    if script.exists():
        os.chmod(script, 0o755)
    return Bitstream(board, folder, None, identity.clock_hz / 1e6, None, (), None, False,
                     tuple(folder / name for name in files))

