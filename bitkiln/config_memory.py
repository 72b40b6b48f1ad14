"""Memory tiers from YAML: a file of their own, or the key ``memory`` of a design space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .models.cost.memory.memory import Hierarchy, MemoryTier
from .models.cost.memory.memory_tiers import dram_tier, sram_tier
from .models.errors import BitkilnError
from .sweep_schema import MemoryConfig, raise_all, validate
from .yamlfile import Document, read_yaml

__all__ = ["default_memory", "load_memory", "memory_of"]


RESERVED = ("arithmetic", "compute", "total")     # rows of an estimate beside the tiers


def default_memory() -> Hierarchy:
    """A scratchpad of 2 Mbit (16 macros of IHP SG13G2) and a channel of LPDDR4, at 200 MHz."""
    return Hierarchy((sram_tier("2048x64", 16, "scratchpad"), dram_tier("lpddr4")), 200.0)


def load_memory(path: Path) -> Hierarchy:
    """Memory tiers from a YAML file with the keys of ``memory``.

    Raises
    ------
    ConfigErrors
    """
    document = read_yaml(path, "memory tiers", "keys clock_mhz and tiers; docs/cost_model.md has an example")
    config = validate(MemoryConfig, document)
    errors: list[BitkilnError] = []
    found = memory_of(config, document, (), errors)
    raise_all(errors)
    assert found is not None
    return found


def memory_of(config: MemoryConfig, document: Document, path: tuple, errors: list[BitkilnError]) -> Hierarchy | None:
    """The tiers at ``path`` of a document, or None and what is wrong with them in ``errors``."""
    def failed(error: BitkilnError, *place: Any) -> None:
        whole = (*path, "tiers", *place)
        got = None if error.got == (None, None) else error.got
        errors.append(BitkilnError(error.what, where=f"{document.where(whole)} {'.'.join(map(str, whole))}", got=got,
                                   expected=error.expected, help=error.help))

    tiers, before, seen = [], len(errors), {}
    for number, tier in enumerate(config.tiers):
        if tier.name in seen:
            failed(BitkilnError("tier named twice", got=tier.name, expected="each name once"), number, "name")
        if tier.name in RESERVED or tier.name.startswith("port "):
            failed(BitkilnError("reserved name", got=tier.name, expected=f"none of {', '.join(RESERVED)}, port ..."),
                   number, "name")
        seen[tier.name] = number
        try:
            tiers.append(MemoryTier.from_dict(tier.model_dump()))
        except BitkilnError as error:
            key = (error.where or "").removeprefix(f"memory tier {tier.name}").lstrip(".")
            failed(error, number, *filter(None, [key]))
    if len(errors) == before:
        try:
            return Hierarchy(tuple(tiers), config.clock_mhz)
        except BitkilnError as error:
            failed(error)
    return None
