"""Facts of a format as plain data: for tables, JSON and datasheets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import BitkilnError
from .base import Format, Special
from .binary32 import Binary32
from .blocks import BlockScaled, get_group_format, group_format_names
from .codebook import Codebook
from .minifloat import Minifloat, PowerOfTwo
from .posit import Posit
from .registry import aliases_of, format_names, get_format, is_weight_only

__all__ = ["describe", "list_formats", "markdown_table"]

TABLE_BITS = 6


def describe(format: str | Format | BlockScaled) -> dict[str, Any]:
    """Everything about a format, JSON-ready (Python ints may exceed 64 bits).

    Keys: name, aliases, family, summary, bits, signed, weight_only, max, min, min_positive, min_normal
    (None without subnormals), precision_bits (longest significand), dynamic_range_binades, unit_exponent,
    max_units, integer_bits, fraction_bits, specials (codes by kind), negative_zero, overflow, parameters,
    definition, and up to 6 bits table (code, binary, value, special). Block-scaled formats have element,
    scale, block_size, tensor_scale and bits_per_value instead of values.
    """
    if isinstance(format, str):
        try:
            format = get_format(format)
        except BitkilnError as error:
            if error.what != "block-scaled format":
                raise
            format = get_group_format(format)
    if isinstance(format, BlockScaled):
        return {"name": format.name, "aliases": [], "family": format.family, "summary": summary(format),
                "element": format.element.name, "scale": format.scale.name, "block_size": format.block_size,
                "tensor_scale": format.tensor_scale, "bits_per_value": format.bits_per_value,
                "definition": repr(format)}
    integer_bits, fraction_bits = format.fixed_point()
    facts = {
        "name": format.name, "aliases": list(aliases_of(format.name)), "family": format.family,
        "summary": summary(format), "bits": format.bits, "signed": format.signed,
        "weight_only": is_weight_only(format), "max": float(format.max), "min": float(format.min),
        "min_positive": float(format.min_positive), "min_normal": getattr(format, "min_normal", None),
        "precision_bits": precision(format),
        "dynamic_range_binades": math.log2(format.max) - math.log2(format.min_positive),
        "unit_exponent": format.unit_exponent, "max_units": format.max_units,
        "integer_bits": integer_bits, "fraction_bits": fraction_bits, "specials": specials(format),
        "negative_zero": format.has_negative_zero, "overflow": getattr(format, "overflow", "saturate"),
        "parameters": parameters(format), "definition": repr(format),
    }
    if format.bits <= TABLE_BITS:
        facts["table"] = value_table(format)
    return facts


def list_formats() -> list[dict[str, Any]]:
    """One row for each named format: name, aliases, family, bits, min_positive, max, specials, summary."""
    rows = []
    for name in format_names():
        f = get_format(name)
        kinds = [word for word, has in ((nan_word(f), f.has_nan), ("Inf", f.has_inf),
                                        ("illegal code", f.has_illegal)) if has]
        rows.append({"name": name, "aliases": list(aliases_of(name)), "family": f.family, "bits": f.bits,
                     "min_positive": float(f.min_positive), "max": float(f.max),
                     "specials": ", ".join(kinds) or "none", "summary": summary(f)})
    for name in group_format_names():
        group = get_group_format(name)
        rows.append({"name": name, "aliases": [], "family": group.family, "bits": group.element.bits,
                     "min_positive": None, "max": None, "specials": "none", "summary": summary(group)})
    return rows


def markdown_table(names: Iterable[str]) -> str:
    """The reference table of docs/formats.md."""
    rows = ["| name | bits | max | least > 0 | significand bits | exact fixed point | special codes | what |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name in names:
        facts = describe(name)
        words = {"nan": nan_word(get_format(name)), "inf": "Inf", "illegal": "illegal"}
        codes = {kind: "/".join(f"0x{code:X}" for code in listed[:2]) for kind, listed in facts["specials"].items()}
        special = ", ".join(f"{words[kind]} {text}" for kind, text in codes.items())
        point = f"{facts['integer_bits']} + {facts['fraction_bits']}"
        rows.append(f"| `{name}` | {facts['bits']} | {_short(facts['max'])} | {_short(facts['min_positive'])} | "
                    f"{facts['precision_bits']} | {point} | {special or 'none'} | {facts['summary']} |")
    return "\n".join(rows) + "\n"


def _short(value: float) -> str:
    """Powers of two outside a readable range as ``2^-14``."""
    mantissa, exponent = math.frexp(value)
    if mantissa == 0.5 and not 2.0**-4 <= value <= 1024:
        return f"2^{exponent - 1}"
    return f"{value:.10g}" if 1e-4 < value < 1e6 else f"{value:.4g}"


def nan_word(format: Format) -> str:
    """``NaR`` for posits."""
    return "NaR" if format.family == "posit" else "NaN"


def precision(format: Format) -> int:
    """Bits of the longest significand, leading one included, trailing zeros not."""
    if isinstance(format, Binary32):
        return 24
    significand = format.unpack(np.arange(1 << format.bits)).significand
    used = significand[significand != 0]
    return int((used // (used & -used)).max()).bit_length()


def specials(format: Format) -> dict[str, list[int]]:
    """Codes (at most four of a kind, the canonical one first) of NaN, Inf and illegal codes."""
    if isinstance(format, Binary32):
        return {"nan": [format.nan_code], "inf": list(format.inf_codes)}
    kinds = format.unpack(np.arange(1 << format.bits)).special
    found: dict[str, list[int]] = {}
    for kind, word in ((Special.NAN, "nan"), (Special.INF, "inf"), (Special.ILLEGAL, "illegal")):
        codes = [int(c) for c in np.flatnonzero(kinds == kind)]
        if kind == Special.NAN and codes:
            codes.remove(format.nan_code)
            codes.insert(0, format.nan_code)
        if codes:
            found[word] = codes[:4]
    return found


def parameters(format: Format) -> dict[str, Any]:
    """What the family's class takes, without the name."""
    if isinstance(format, Binary32 | Minifloat):
        keys = ("exponent_bits", "mantissa_bits", "bias", "specials", "signed")
    elif isinstance(format, PowerOfTwo):
        keys = ("exponent_bits", "bias")
    elif isinstance(format, Posit):
        keys = ("bits", "es")
    elif isinstance(format, Codebook):
        keys = ("values", "weight_only")
    else:
        keys = ("bits", "fraction_bits", "signed")
    return {key: list(value) if isinstance(value := getattr(format, key), tuple) else value for key in keys}


def value_table(format: Format) -> list[dict[str, Any]]:
    """Rows ``code``, ``binary``, ``value`` (None for specials) and ``special`` ('' for numbers)."""
    codes = np.arange(1 << format.bits)
    rows = []
    for code, value, kind in zip(codes, format.decode(codes), format.unpack(codes).special, strict=True):
        word = {Special.NONE: "", Special.NAN: nan_word(format), Special.ILLEGAL: "illegal",
                Special.INF: "-Inf" if value < 0 else "Inf"}[Special(int(kind))]
        rows.append({"code": int(code), "binary": f"{int(code):0{format.bits}b}",
                     "value": None if word else float(value), "special": word})
    return rows


def summary(format: Format | BlockScaled) -> str:
    """One line in words."""
    f = format
    if isinstance(f, BlockScaled):
        tensor = ", one float32 scale per tensor" if f.tensor_scale else ""
        return f"{f.element.name} elements, one {f.scale.name} scale for {f.block_size}{tensor}"
    if isinstance(f, PowerOfTwo):
        return f"unsigned power of two, bias {f.bias}, top code NaN, no zero"
    if isinstance(f, Binary32):
        return "IEEE 754 binary32"
    if isinstance(f, Minifloat):
        top = "one NaN code per sign, no Inf" if f.signed else "top code NaN, no Inf"
        words = {"none": "all codes finite", "nan": top, "ieee": "Inf and NaN as in IEEE 754"}
        sign = "" if f.signed else "unsigned "
        fields = f"{f.exponent_bits} exponent and {f.mantissa_bits} mantissa bits, bias {f.bias}"
        return f"{sign}float, {fields}, {words[f.specials]}"
    if isinstance(f, Posit):
        if f.es == 2:
            note = "2022 standard"
        elif (f.bits, f.es) in ((8, 0), (16, 1)):
            note = "classic parameters, before the 2022 standard"
        else:
            note = "parametric"
        return f"posit({f.bits}, {f.es}), {note}"
    if isinstance(f, Codebook):
        if f.name == "ternary":
            return "-1, 0, 1 in two's complement; code 10 is illegal and reads as 0"
        return f"{len(f.values)} listed values"
    kind = "two's complement" if f.signed else "unsigned"
    return f"{kind} integer" if f.family == "int" else f"{kind}, {f.fraction_bits} fraction bits"
