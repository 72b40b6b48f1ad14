"""Files that a program needs to drive a matmul core: register map in four languages, and the C driver."""

from __future__ import annotations

from importlib.resources import files

from ..models.design import MatmulDesign
from ..models.design.registers import core_registers
from .registers import c_header, collateral, core_constants

__all__ = ["core_collateral"]

DRIVER = ("bitkiln_matmul.c", "bitkiln_matmul.h")
DRIVER_HEADER = "matmul_registers.h"   # what the driver includes


def core_collateral(design: MatmulDesign, name: str) -> dict[str, str]:
    """File name to text.

    Parameters
    ----------
    design : MatmulDesign
    name : str
        Verilog module name; the constants of ``<name>_registers.h`` start with it.
    """
    registers, extra = core_registers(design), core_constants(design)
    texts = collateral(registers, name, extra)
    texts[DRIVER_HEADER] = c_header(registers, "matmul", extra)
    folder = files("bitkiln.host") / "c"
    return texts | {file: (folder / file).read_text(encoding="utf-8") for file in DRIVER}
