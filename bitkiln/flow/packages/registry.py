"""The one registry of packages: adding one means a module with a function of the shape below and an entry here.

``files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]``

- ``resolved``: the design (``name``, ``engine``, ``config``, ``design``);
- ``facts``: the sidecar, the JSON file beside the Verilog: ports with role, width and direction;
- ``texts``: files of the folder so far, relative path -> text: Verilog, sidecar, test bench, headers;
- the result: further files, relative path -> text. A package keeps its files in a folder of its own name, with a
  README.md that has the one command, except for files that a tool wants beside the Verilog.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...models.errors import BitkilnError, nearest

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["ALL", "PACKAGES", "Package", "chosen", "for_engine", "package_files"]

ALL = "all"


@dataclass(frozen=True)
class Package:
    """One flow.

    Attributes
    ----------
    name : str
        As ``--package`` takes it.
    summary : str
        One line.
    part : str
        ``module:function`` below ``bitkiln.flow.packages``.
    engines : tuple of str
        Engines it applies to; empty for all.
    check : str
        ``module:function`` of a function that raises for a design that cannot be packaged, before anything is made;
        empty for none.
    """

    name: str
    summary: str
    part: str
    engines: tuple[str, ...] = ()
    check: str = ""

    def applies(self, engine: str) -> bool:
        """Whether designs of ``engine`` can be packaged so."""
        return not self.engines or engine in self.engines

    def load(self) -> Callable[[Resolved, dict[str, Any], Mapping[str, str]], dict[str, str]]:
        """Its function."""
        return _named(self.part)

    def refuse(self, resolved: Resolved) -> None:
        """Raise where the design cannot be packaged so."""
        if self.check:
            _named(self.check)(resolved)

    def takes(self, resolved: Resolved) -> bool:
        """Whether the design can be packaged so."""
        try:
            self.refuse(resolved)
        except BitkilnError:
            return False
        return True


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


# Engines with a register map.
_REGISTERS = ("matmul_core", "spconv")

PACKAGES: dict[str, Package] = {
    entry.name: entry for entry in (
        Package("fusesoc", "FuseSoC core (CAPI2): lint, simulation, synthesis", "fusesoc:files"),
        Package("fusesoc-generator", "FuseSoC generator: Verilog from a description inside another core file",
                "fusesoc_generator:files"),
        Package("librelane", "LibreLane (OpenLane 2) configuration", "librelane:files"),
        Package("siliconcompiler", "SiliconCompiler script", "siliconcompiler:files"),
        Package("litex", "LiteX module with CSRs or AXI", "litex:files"),
        Package("vivado", "Vivado IP packaging (Tcl)", "vivado:files"),
        Package("systemrdl", "SystemRDL 2.0 of the register map", "systemrdl:files", _REGISTERS),
        Package("ipxact", "IP-XACT component (IEEE 1685-2014)", "ipxact:files"),
        Package("tinytapeout", "Tiny Tapeout project", "tinytapeout:files", ("dot_unit", "morphable_pe"),
                "tinytapeout:refuse"),
    )
}


def for_engine(engine: str) -> list[str]:
    """Names of the packages that apply to ``engine``."""
    return [name for name, entry in PACKAGES.items() if entry.applies(engine)]


def chosen(text: str | Iterable[str], engine: str, where: str = "--package", *,
           resolved: Resolved | None = None) -> list[str]:
    """Names out of a list with commas; ``all`` stands for every package that applies to ``engine``, and to the design
    ``resolved`` where it is given.

    Raises
    ------
    BitkilnError
        Exit code 2: an unknown name, a package that does not apply to the engine or the design, or no name at all.
    """
    given = [name.strip() for name in (text.split(",") if isinstance(text, str) else text)]
    names: list[str] = []
    for name in filter(None, given):
        if name == ALL:
            names += [one for one in for_engine(engine) if resolved is None or PACKAGES[one].takes(resolved)]
        elif name not in PACKAGES:
            raise BitkilnError("unknown package", where=where, got=name,
                               expected=f"names of packages with commas, or {ALL}", help=nearest(name, PACKAGES))
        elif not PACKAGES[name].applies(engine):
            raise BitkilnError(
                "package does not apply", where=where, got=name,
                expected=f"a package for engine {engine}; {name} is for {', '.join(PACKAGES[name].engines)}",
                help=f"choices: {', '.join([*for_engine(engine), ALL])}")
        else:
            if resolved is not None:
                PACKAGES[name].refuse(resolved)
            names.append(name)
    if not names:
        raise BitkilnError("no package named", where=where, got=text if isinstance(text, str) else ",".join(text),
                           expected=f"names of packages with commas, or {ALL}",
                           help=f"choices: {', '.join([*for_engine(engine), ALL])}")
    return list(dict.fromkeys(names))


def package_files(names: Iterable[str], resolved: Resolved, facts: dict[str, Any],
                  texts: Mapping[str, str]) -> dict[str, str]:
    """Files of several packages, relative path -> text.

    Raises
    ------
    ValueError
        Two packages, or a package and the core, want the same file.
    """
    found: dict[str, str] = {}
    for name in names:
        for path, text in PACKAGES[name].load()(resolved, facts, texts).items():
            if found.get(path, text) != text or path in texts:
                raise ValueError(f"package {name} would replace {path}")
            found[path] = text
    return found
