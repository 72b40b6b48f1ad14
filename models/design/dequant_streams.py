"""What the streams of the dequantising core carry: fields and their widths, the first in the lowest bits.

The hardware makes its layouts of these, the drivers pack beats by them.
"""

from __future__ import annotations

from .bitserial import BitSerialDesign
from .dequant import DequantDesign
from .registers import WORD_BYTES, Field, Register, RegisterMap
from .weights import SPECIALS

__all__ = ["JOB_BITS", "STATUS", "activation_fields", "job_fields", "link_registers", "result_fields", "special_fields",
           "special_terms", "term_fields"]

JOB_BITS = 16          # of numbers that the core's size does not bound

# What the core shows beside its streams.
STATUS = {"busy": 1, "mismatch": 1, "stalls": 32, "starved": 32}


def link_registers() -> RegisterMap:
    """The core has no registers of its own: what it shows, as registers that a link can read."""
    return RegisterMap("dequant_link", tuple(
        Register(name.upper(), WORD_BYTES * at, (Field("value", 0, bits, "ro", f"the core's {name}"),),
                 f"The core's {name}.") for at, (name, bits) in enumerate(STATUS.items())))


def job_fields(design: DequantDesign) -> dict[str, int]:
    """A `DequantJob`."""
    return {"k": JOB_BITS, "group": design.array.group.bit_length(), "channels": JOB_BITS,
            "rows": design.array.rows.bit_length()}


def activation_fields(design: DequantDesign) -> dict[str, int]:
    """A row's codes of one chunk, lane 0 lowest; ``last`` with the job's last one."""
    return {"codes": design.array.lanes * design.array.activation.bits, "last": 1}


def result_fields(design: DequantDesign) -> dict[str, int]:
    """One result; ``last`` with the last one of a job."""
    return {"value": 32 if design.output.name == "fp32" else design.output.bits, "last": 1}


def term_fields(array: BitSerialDesign) -> dict[str, int]:
    """``(-1)**neg * 2**shift``, or nothing where ``valid`` is 0."""
    return {"neg": 1, "valid": 1, "shift": max(array.max_shift.bit_length(), 1)}


def special_terms(array: BitSerialDesign) -> int:
    """Terms of the special-value table's entries; 0 where no type has special values."""
    return max((t.terms for t in array.weights if t.special_code is not None), default=0)


def special_fields(array: BitSerialDesign) -> dict[str, int]:
    """An entry of the special-value table of a type: its terms, by falling significance."""
    return {"type": max((len(array.weights) - 1).bit_length(), 1), "entry": (SPECIALS - 1).bit_length(),
            "terms": special_terms(array) * sum(term_fields(array).values())}
