"""The one registry of engines: everything the tool needs to know about each.

Adding an engine means one entry here; the parts it names are looked up only when used.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from .models.errors import BitkilnError, nearest

__all__ = ["Engine", "engine", "engine_names"]


@dataclass(frozen=True)
class Engine:
    """Where the parts of an engine live, each as ``module:name`` relative to ``bitkiln``.

    Attributes
    ----------
    config : pydantic model of its YAML keys.
    build : effective configuration and own formats -> frozen design dataclass of ``models.design``.
    component : design -> Amaranth component.
    golden : bit-exact result per clock cycle.
    check, bench : unit check and cocotb bench module.
    vectors : design -> stimuli and expected outputs of the generated Verilog test bench.
    datasheet : design -> Markdown sections of the generated README.
    """

    name: str
    summary: str
    config: str
    build: str
    component: str
    golden: str
    check: str
    bench: str
    vectors: str
    datasheet: str

    def load(self, part: str) -> Any:
        """The object behind an attribute of this entry."""
        module, _, name = getattr(self, part).partition(":")
        loaded = importlib.import_module(f"bitkiln.{module}")
        return getattr(loaded, name) if name else loaded


_ENGINES = {
    entry.name: entry for entry in (
        Engine(
            name="dot_unit",
            summary="multi-lane dot product with one exact accumulator",
            config="config:DotUnitConfig",
            build="config:build_dot_unit",
            component="hw.mac.dot:DotUnit",
            golden="models.golden.dot:trace",
            check="sim.dot_check:check_dot",
            bench="sim.benches.dot",
            vectors="flow.dot_vectors:dot_vectors",
            datasheet="flow.dot_datasheet:dot_datasheet",
        ),
    )
}


def engine_names() -> list[str]:
    return list(_ENGINES)


def engine(name: object, where: str = "engine") -> Engine:
    """The registry entry of ``name``."""
    if not isinstance(name, str) or name not in _ENGINES:
        raise BitkilnError("unknown engine", where=where, got=name, expected=" or ".join(_ENGINES),
                           help=nearest(name, _ENGINES))
    return _ENGINES[name]
