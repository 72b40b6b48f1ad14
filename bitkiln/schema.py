"""What the schemas of all engines share: strict models, common keys, checks of names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .models.errors import BitkilnError

__all__ = ["AsicConfig", "FormatsConfig", "SCHEMA_VERSION", "Strict", "TargetConfig", "Where", "check_name",
           "check_target", "relocate"]

SCHEMA_VERSION = 1


# Names the place of a key path: ``where(("array", "rows"))`` is ``my.yaml:3 array.rows``.
Where = Callable[[tuple], str]


class Strict(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FormatsConfig(Strict):
    activation: str = Field(description="Format of the activations (`bitkiln formats`).")
    weight: str = Field(description="Format of the weights.")


class AsicConfig(Strict):
    liberty: str = Field(description="Path of a liberty file (.lib or .lib.gz), from the folder of this file.")


class TargetConfig(Strict):
    fpga: Literal["ecp5-25k", "ecp5-85k", "ice40", "ice40-up5k", "gowin", "xilinx"] | None = Field(
        None, description="FPGA family or device that `bitkiln synth` measures on.")
    asic: AsicConfig | None = Field(None, description="Standard cells instead of an FPGA.")


def check_name(name: Any, where: str) -> list[BitkilnError]:
    """Errors of a Verilog module name."""
    if not isinstance(name, str):
        return []
    from .hw.emit import KEYWORDS

    if name in KEYWORDS:
        return [BitkilnError("illegal module name", where=where, got=name, expected="no Verilog keyword",
                             help=f"use {name}_unit")]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        legal = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:60] or "core"
        legal = f"core_{legal}" if legal[0].isdigit() else legal
        return [BitkilnError("illegal module name", where=where, got=name,
                             expected="a letter or _, then letters, digits or _, at most 64", help=f"use {legal}")]
    return []


def check_target(target: Any, where: str) -> list[BitkilnError]:
    """Errors of the ``target`` key beyond its schema."""
    if isinstance(target, dict) and target.get("fpga") is not None and target.get("asic") is not None:
        return [BitkilnError("contradictory keys", where=where, got="fpga and asic", expected="one of them")]
    return []


def relocate(error: BitkilnError, where: str) -> BitkilnError:
    """The same error at another place."""
    return BitkilnError(error.what, where=where, got=error.got, expected=error.expected, help=error.help,
                        exit_code=error.exit_code)
