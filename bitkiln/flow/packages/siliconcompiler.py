"""SiliconCompiler: a Python script for lint and for the way from Verilog to GDS on sky130."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .clock import clock_period
from .interfaces import ports_of

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files"]


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """``siliconcompiler/make.py``, ``siliconcompiler/<name>.sdc`` and ``siliconcompiler/README.md``."""
    name, clock = resolved.name, ports_of(facts["ports"]).clock
    period, origin = clock_period(resolved)
    sdc = f"create_clock -name {clock} -period {period} [get_ports {{{clock}}}]\n" if clock else \
        f"create_clock -name virtual -period {period}\n"
    return {"siliconcompiler/make.py": SCRIPT.format(name=name), f"siliconcompiler/{name}.sdc": sdc,
            "siliconcompiler/README.md": README.format(name=name, period=period, origin=origin)}


SCRIPT = '''"""{name} in SiliconCompiler: `python make.py lint` or `python make.py asic`."""

import sys

from siliconcompiler import ASIC, Design, Lint
from siliconcompiler.flows.lintflow import LintFlow
from siliconcompiler.targets import skywater130_demo

NAME = "{name}"


class Core(Design):
    """The generated Verilog and its clock."""

    def __init__(self):
        super().__init__(NAME)
        self.set_dataroot("core", __file__)
        with self.active_dataroot("core"):
            with self.active_fileset("rtl"):
                self.set_topmodule(NAME)
                self.add_file(f"../{{NAME}}.v")
            with self.active_fileset("sdc"):
                self.add_file(f"{{NAME}}.sdc")


def lint():
    """Slang reads the Verilog (it comes with SiliconCompiler)."""
    project = Lint(Core())
    project.add_fileset("rtl")
    project.set_flow(LintFlow())
    return project


def asic():
    """From Verilog to GDS; Yosys, OpenROAD and KLayout must be installed (`sc-install -group asic`)."""
    project = ASIC(Core())
    project.add_fileset(["rtl", "sdc"])
    skywater130_demo(project)
    return project


if __name__ == "__main__":
    flows = {{"lint": lint, "asic": asic}}
    if len(sys.argv) != 2 or sys.argv[1] not in flows:
        sys.exit("usage: python make.py " + "|".join(flows))
    chosen = flows[sys.argv[1]]()
    chosen.run()
    chosen.summary()
'''

README = """# SiliconCompiler

    pip install siliconcompiler
    python make.py lint

`python make.py asic` goes on to GDS on sky130 and needs Yosys, OpenROAD and KLayout (`sc-install -group asic`).
Clock period: {period} ns ({origin}); it is in `{name}.sdc`.
"""
