"""Synthesis with Yosys: cell counts on an FPGA family, area and delay with a liberty file.

``synthesise`` takes any Verilog text; results are kept in the store.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.errors import FAILED, BitkilnError
from ..store import Store, store
from .metrics import Metric, Metrics
from .targets import get_target
from .tools import run_yosys, scratch

__all__ = ["CellMapping", "cell_mapping", "read_liberty", "refuse_cell_options", "synthesise"]

# ABC's script for delay: map for speed, buffer, then size; `stime -d` leaves stats.txt (its printed lines do
# not reach the log in WebAssembly).
ABC_DELAY = """strash
&get -n
&dch -f
&nf
&put
topo
buffer -c -N 16
topo
stime
upsize -D {period}
dnsize -D {period}
stime -d
"""

MACRO = "SRAM"                         # cell type of a memory that is left to a macro
SKY130_EXCLUDED = "*lpflow*"          # power-gating cells: no logic of ours uses them


def synthesise(verilog: str, top: str, target: str = "ecp5", *, dsp: bool = False, booth: bool = False,
               liberty: Path | Sequence[Path] | None = None, period_ps: int = 1000, dont_use: Sequence[str] = (),
               sram_words: int = 0, keep: Store | None = None) -> Metrics:
    """Map ``verilog`` onto ``target``.

    Parameters
    ----------
    verilog : str
        Self-contained Verilog-2005 text.
    top : str
        Top module.
    target : str
        ``ecp5``, ``ice40``, ``gowin``, ``xilinx`` (UltraScale+) or ``asic``.
    dsp : bool
        Allow DSP blocks (FPGA).
    booth : bool
        Booth multipliers (``asic``).
    liberty : Path or several
        Liberty files (``asic``); ``.gz`` is unpacked.
    period_ps : int
        Delay target of ABC [ps] (``asic``).
    dont_use : sequence of str
        Cell names or globs that the mapping avoids (``asic``).
    sram_words : int
        Memories of so many words or more are SRAM macros (``asic``): left out of the area, their bits counted; 0: every
        memory is flip-flops.
    keep : Store, optional
        Where results are kept (default: the working folder's store).

    Returns
    -------
    Metrics
        FPGA: ``lut``, ``carry``, ``ff``, ... [cells]. ASIC: ``area`` and ``area_sequential`` [um2],
        ``delay`` [ps] of the longest combinational path between flip-flops and ports without wires,
        ``area_at_delay`` [um2] of the netlist that the delay belongs to; with ``sram_words`` also ``sram`` [bits] and
        ``sram_macros``, a memory each.

    Raises
    ------
    BitkilnError
        Exit code 2 for unusable options, 3 without Yosys, 1 when Yosys fails.
    """
    if target.lower() == "asic":
        paths = [Path(liberty)] if isinstance(liberty, (str, Path)) else [Path(p) for p in liberty or ()]
        return _asic(verilog, top, paths, booth, period_ps, tuple(dont_use), sram_words, keep)
    family = get_target(target)
    refuse_cell_options(family.name, liberty is not None, booth, sram_words)
    from ..sim.toolchain import require

    tool = require("yosys")
    script = f"read_verilog design.v; hierarchy -check -top {top}; {family.script(top, dsp)}"
    inputs = {"verilog": verilog, "yosys": tool.version, "script": script}

    def run() -> dict[str, Any]:
        with scratch() as name:
            folder = Path(name)
            run_yosys(tool, f"{script}; tee -q -o stat.json stat -json", folder, {"design.v": verilog})
            cells = _cells(folder / "stat.json")
        return Metrics(family.device, {"yosys": tool.version}, f"yosys -p '{script}'", family.counts(cells),
                       cells=cells).as_dict()

    return Metrics.from_dict((keep or store()).cached("synthesis", inputs, run))


def refuse_cell_options(target: str, liberty: bool, booth: bool, sram_words: int) -> None:
    """Raise where an option of cell libraries is given with an FPGA."""
    for option, given in (("--liberty", liberty), ("--booth", booth), ("--sram-words", sram_words)):
        if given:
            raise BitkilnError("contradictory options", where=option, got=f"with target {target}",
                               expected="target asic")


def _cells(path: Path) -> dict[str, int]:
    """Cell counts over the whole hierarchy, instances of the design's own modules left out."""
    stat = _stat(path)
    modules = {name.lstrip("\\") for name in stat["modules"]}
    return {cell: int(count) for cell, count in stat["design"]["num_cells_by_type"].items()
            if cell not in modules}


def _stat(path: Path) -> dict[str, Any]:
    stat = json.loads(path.read_text())
    for module in (*stat["modules"].values(), stat["design"]):
        for cell, count in module.get("num_cells_by_type", {}).items():
            module["num_cells_by_type"][cell] = count["count"] if isinstance(count, dict) else count
    return stat


def read_liberty(path: Path) -> tuple[str, str]:
    """Library name and text of a liberty file, unpacked.

    Raises
    ------
    BitkilnError
        Missing, unreadable, damaged, or no liberty file.
    """
    where = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BitkilnError("cannot read liberty file", where=where, got=(error.strerror or str(error)).lower(),
                           help="--liberty takes the path of a .lib or .lib.gz file") from None
    if not raw:
        raise BitkilnError("not a liberty file", where=where, got="an empty file", expected="library (...) { ... }")
    if raw.startswith(b"version https://git-lfs"):
        raise BitkilnError("not the file itself", where=where, got="a Git LFS pointer", help="run `git lfs pull`")
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise BitkilnError("damaged file", where=where, got=str(error).lower(),
                               expected="a complete gzip file") from None
    text = raw.decode("utf-8", errors="replace")
    match = re.search(r'\blibrary\s*\(\s*"?([\w.+-]+)"?\s*\)\s*\{', text)
    if match is None:
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        raise BitkilnError("not a liberty file", where=where, got=first[:60], expected="library (...) { ... }")
    opened, closed = text.count("{"), text.count("}")
    if opened != closed:
        raise BitkilnError("damaged file", where=where, got=f"{opened} opening and {closed} closing braces",
                           expected="a complete liberty file")
    return match[1], text


@dataclass(frozen=True)
class CellMapping:
    """How a design is mapped onto cells, pinned: synthesis and energy share it.

    Attributes
    ----------
    device : str
        Library names joined by ``+``.
    files : dict
        Names in the working folder to liberty texts.
    use, avoid : str
        Options that name the files and the cells not to use.
    prepare, area : str
        Yosys commands: up to mapped flip-flops, and on to a netlist mapped for area.
    """

    device: str
    files: dict[str, str]
    use: str
    avoid: str
    prepare: str
    area: str

    def digests(self) -> list[str]:
        """SHA-256 of each liberty text."""
        return [hashlib.sha256(text.encode()).hexdigest() for text in self.files.values()]


def cell_mapping(top: str, liberty: Sequence[Path], booth: bool = False, period_ps: int = 1000,
                 dont_use: Sequence[str] = (), sram_words: int = 0) -> CellMapping:
    """The pinned mapping of ``top`` onto liberty files; parameters as of ``synthesise``.

    Raises
    ------
    BitkilnError
        No file, or one that cannot be used.
    """
    if not liberty:
        raise BitkilnError("missing option", where="--liberty", expected="a liberty file for target asic",
                           help="for example --liberty cells.lib")
    libraries = [read_liberty(path) for path in liberty]
    if any(name.startswith("sky130") for name, _ in libraries):
        dont_use = (*dont_use, SKY130_EXCLUDED)
    files = {f"cells{index}.liberty": text for index, (_, text) in enumerate(libraries)}
    use = " ".join(f"-liberty {name}" for name in files)
    avoid = "".join(f" -dont_use {cell}" for cell in dont_use)
    # -noalumacc keeps product and sum apart whether flattened or not, so hierarchy may go.
    synth = f"synth -flatten -noalumacc{' -booth' if booth else ''} -top {top}"
    if sram_words:
        # What no cell of the library is, is neither mapped nor cut off: its ports end paths.
        synth = (f"{synth} -run begin:fine; select -set sram t:$mem_v2 r:SIZE>={sram_words} %i; "
                 f"tee -q -o sram.txt dump @sram; setattr -set keep 1 @sram; chtype -set {MACRO} @sram; "
                 f"{synth} -run fine:check")
    prepare = (f"read_verilog design.v; hierarchy -check -top {top}; setattr -mod -unset keep_hierarchy *; "
               f"{synth}; dfflibmap {use}{avoid}")
    area = f"abc -D {period_ps} {use}{avoid}; opt_clean -purge; tee -q -o stat.json stat {use} -json"
    return CellMapping("+".join(name for name, _ in libraries), files, use, avoid, prepare, area)


def _asic(verilog: str, top: str, liberty: list[Path], booth: bool, period_ps: int, dont_use: tuple[str, ...],
          sram_words: int, keep: Store | None) -> Metrics:
    mapping = cell_mapping(top, liberty, booth, period_ps, dont_use, sram_words)
    from ..sim.toolchain import require

    tool = require("yosys")
    device, files, prepare, area = mapping.device, mapping.files, mapping.prepare, mapping.area
    delay = f"abc -D {period_ps} {mapping.use}{mapping.avoid} -script delay.abc"
    script = f"{prepare}; {area}; {delay}"
    inputs = {"verilog": verilog, "yosys": tool.version, "script": script, "abc": ABC_DELAY,
              "liberty": mapping.digests()}

    def run() -> dict[str, Any]:
        with scratch() as name:
            folder = Path(name)
            try:
                run_yosys(tool, f"{prepare}; design -save mapped; {area}; design -load mapped; {delay}", folder,
                          {"design.v": verilog, "delay.abc": ABC_DELAY.format(period=period_ps), **files})
            except BitkilnError as error:
                if "ABC output file" not in str(error.got):
                    raise
                raise BitkilnError("ABC cannot map onto this library", where=device, exit_code=FAILED,
                                   expected="an inverter, a buffer and two-input gates") from error
            cells, total = _cells(folder / "stat.json"), _stat(folder / "stat.json")["design"]
            timing = folder / "stats.txt"
            fields = timing.read_text().split() if timing.exists() else []
            macros = _macros(folder / "sram.txt") if sram_words else None
        cells.pop(MACRO, None)
        picoseconds = float(fields[5]) if len(fields) > 5 else None
        unknown = None if fields else "ABC gave no timing (no combinational logic?)"
        metrics = [
            Metric("area", _number(total.get("area")), "um2"),
            Metric("area_sequential", _number(total.get("sequential_area")), "um2"),
            Metric("cells", sum(cells.values()), "cells"),
            Metric("delay", picoseconds, "ps", note=unknown),
            Metric("area_at_delay", _at_speed(fields, total), "um2", note=unknown),
        ]
        if macros is not None:
            metrics += [Metric("sram", sum(words * width for words, width in macros), "bits", note="not in the area"),
                        Metric("sram_macros", len(macros), "memories")]
        return Metrics(device, {"yosys": tool.version}, f"yosys -p '{script}'", metrics, cells=cells).as_dict()

    return Metrics.from_dict((keep or store()).cached("synthesis", inputs, run))


def _macros(path: Path) -> list[tuple[int, int]]:
    """Words and width of the memories in Yosys' dump."""
    text = path.read_text()
    words, widths = ([int(found, 2) for found in re.findall(rf"parameter (?:signed )?\\{name} \d+'([01]+)", text)]
                     or [int(found) for found in re.findall(rf"parameter (?:signed )?\\{name} (\d+)$", text, re.M)]
                     for name in ("SIZE", "WIDTH"))
    return list(zip(words, widths, strict=True))


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)


def _at_speed(fields: list[str], total: dict[str, Any]) -> float | None:
    """Area of the netlist sized for delay: ABC counts the logic, flip-flops stay as they were."""
    if len(fields) <= 5:
        return None
    return round(float(fields[4]) + float(total.get("sequential_area") or 0), 3)
