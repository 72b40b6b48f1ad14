"""SystemRDL 2.0: the register map that `generate` writes for every core with registers, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..registers import systemrdl
from .interfaces import register_map

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files"]


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """``systemrdl/README.md``, and ``<name>.rdl`` beside the Verilog where it is not yet."""
    registers, path = register_map(resolved.design), f"{resolved.name}.rdl"
    if registers is None:
        raise ValueError(f"engine {resolved.engine.name} has no registers")
    found = {} if path in texts else {path: systemrdl(registers)}
    return found | {"systemrdl/README.md": README.format(name=resolved.name, top=registers.name)}


README = """# SystemRDL

`../{name}.rdl` describes the registers (addrmap `{top}`) in SystemRDL 2.0. With PeakRDL, in this folder:

    pip install peakrdl
    peakrdl html ../{name}.rdl -o html

writes browsable documentation; `peakrdl c-header`, `peakrdl ip-xact` and other exporters read the same file.
"""
