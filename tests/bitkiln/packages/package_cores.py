"""Small cores with all their packages, made once for all tests of packages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bitkiln.config import load_design
from bitkiln.flow.generate import generate
from bitkiln.flow.packages.interfaces import Ports, ports_of

__all__ = ["DESIGNS", "Core", "make"]

# A unit and a PE with test benches, a core with registers and streams, one that is a bus master, an engine with
# valid and ready only, and an array without either.
DESIGNS = {
    "unit": {"pe": "fp4"},
    "pe": {"engine": "morphable_pe", "modes": ["fp4", "int8"]},
    "array": {"engine": "matmul_array", "modes": ["fp4"], "array.rows": 2, "array.columns": 2},
    "serial": {"engine": "bitserial_array", "weights": ["int4"], "activation": "int8", "array.rows": 1,
               "array.columns": 1},
    "core": {"engine": "matmul_core", "modes": ["fp4"], "array.rows": 2, "array.columns": 2},
    "master": {"engine": "matmul_core", "modes": ["fp4"], "array.rows": 2, "array.columns": 2, "descriptors": True},
}


@dataclass(frozen=True)
class Core:
    """A generated folder with every package of its engine."""

    resolved: object
    folder: Path

    @property
    def name(self) -> str:
        return self.resolved.name

    @cached_property
    def facts(self) -> dict:
        return json.loads((self.folder / f"{self.name}.json").read_text())

    @property
    def ports(self) -> Ports:
        return ports_of(self.facts["ports"])

    def widths(self, direction: str | None = None) -> dict[str, int]:
        """Width of every port (of one direction)."""
        return {port["name"]: port["width"] for port in self.facts["ports"]
                if direction in (None, port["direction"])}


def make(key: str, folder: Path) -> Core:
    """The design ``key`` of `DESIGNS`, named so, with all packages."""
    description = DESIGNS[key] | {"name": key}
    resolved = load_design(cli={name: (value, name) for name, value in description.items()})
    generate(resolved, folder / key, cycles=64, packages=["all"])
    return Core(resolved, folder / key)
