"""Names of formats: the built-in ones, the grammar, aliases and the user's own."""

from __future__ import annotations

import re
from functools import cache

from ..errors import BitkilnError, nearest
from .base import Format
from .binary32 import Binary32
from .checks import check_name
from .codebook import builtin_codebooks
from .integers import Fixed, Int
from .minifloat import Minifloat, PowerOfTwo
from .posit import MAX_ES, Posit

__all__ = ["aliases_of", "canonical_name", "format_names", "get_format", "is_weight_only", "register"]

ALIASES = {
    "fp3": ("e2m0",),
    "fp4": ("e2m1", "fp4_e2m1", "mxfp4_e2m1", "float4_e2m1fn"),
    "fp6_e2m3": ("e2m3", "float6_e2m3fn"),
    "fp6_e3m2": ("e3m2", "float6_e3m2fn"),
    "fp8_e4m3": ("fp8_e4m3fn", "e4m3fn", "float8_e4m3fn", "fp8_e4m3_ocp"),
    "fp8_e4m3_ieee": ("e4m3_ieee", "float8_e4m3"),
    "fp8_e5m2": ("e5m2", "float8_e5m2"),
    "fp8_e3m4": ("e3m4", "float8_e3m4"),
    "fp16": ("e5m10", "float16", "half"),
    "bf16": ("e8m7", "bfloat16"),
    "fp32": ("e8m23", "float32", "single"),
    "e8m0": ("ue8m0", "float8_e8m0fnu"),
    "ue4m3": ("fp8_ue4m3",),
    "ue5m3": ("fp8_ue5m3",),
}
_CANONICAL = {alias: name for name, aliases in ALIASES.items() for alias in aliases}

_AMBIGUOUS = {
    "e4m3": "fp8_e4m3 is the OCP format (max 448, one NaN code per sign, no Inf); "
            "fp8_e4m3_ieee is the IEEE-like one (max 240, Inf and NaN)",
    "fp8": "fp8_e4m3 (OCP, max 448), fp8_e5m2 (OCP, max 57344), fp8_e3m4 and fp8_e4m3_ieee are the 8-bit "
           "floats",
    "fp6": "fp6_e2m3 (max 7.5) and fp6_e3m2 (max 28) are the 6-bit floats",
    "posit": "posits are positN_es: posit8_0, posit16_1 (classic), posit8_2, posit16_2 (2022 standard)",
}

_GROUP = re.compile(r"(mx(fp\d\w*|int8)|nvfp4\w*)\Z")
_INT = re.compile(r"(u?)int_?(\d+)\Z")
_FIXED = re.compile(r"(u?)fixed_?(\d+)_(\d+)\Z")
_POSIT = re.compile(r"posit_?(\d+)_(?:es_?)?(\d+)\Z")
_MINIFLOAT = re.compile(r"(u?)e(\d+)m(\d+)\Z")

_registered: dict[str, Format] = {}


@cache
def _fixed_names() -> dict[str, Format]:
    """Formats whose names no grammar gives."""
    named = [
        Minifloat(2, 0, name="fp3"),
        Minifloat(2, 1, name="fp4"),
        Minifloat(2, 3, name="fp6_e2m3"),
        Minifloat(3, 2, name="fp6_e3m2"),
        Minifloat(4, 3, specials="nan", name="fp8_e4m3"),
        Minifloat(5, 2, specials="ieee", name="fp8_e5m2"),
        Minifloat(3, 4, specials="ieee", name="fp8_e3m4"),
        Minifloat(4, 3, specials="ieee", name="fp8_e4m3_ieee"),
        Minifloat(5, 10, specials="ieee", name="fp16"),
        Minifloat(8, 7, specials="ieee", name="bf16"),
        Binary32(),
        PowerOfTwo(name="e8m0"),
        Minifloat(4, 3, specials="nan", signed=False, name="ue4m3"),
        Minifloat(5, 3, specials="nan", signed=False, name="ue5m3"),
        *builtin_codebooks(),
    ]
    return {format.name: format for format in named}


@cache
def _from_grammar(key: str) -> Format | None:
    """The format that a canonical spelling describes; None where no rule of the grammar fits."""
    if match := _INT.match(key):
        return Int(int(match[2]), signed=not match[1])
    if match := _FIXED.match(key):
        return Fixed(int(match[2]), int(match[3]), signed=not match[1])
    if match := _POSIT.match(key):
        return Posit(int(match[1]), int(match[2]))
    if (match := _MINIFLOAT.match(key)) and not match[1]:
        exponent, mantissa = int(match[2]), int(match[3])
        width = 1 + exponent + mantissa
        if not 3 <= width <= 8 or exponent == 0:
            if exponent == 0:
                raise BitkilnError("out of range", where="minifloat exponent_bits", got=0,
                                   expected="1 or more",
                                   help="with no exponent bits it is a fixed-point number: fixed4_2, int4")
            raise BitkilnError("out of range", where="minifloat width", got=f"{width} bits",
                               expected="3 to 8 bits",
                               help="e{x}m{y} has 1 + x + y bits; wider floats are fp16, bf16 and fp32")
        return Minifloat(exponent, mantissa)
    return None


@cache
def _grammar_names() -> tuple[str, ...]:
    minifloats = [f"e{e}m{w - 1 - e}" for w in range(3, 9) for e in range(1, w)]
    posits = [f"posit{n}_{es}" for n in range(2, 17) for es in range(min(max(n - 3, 0), MAX_ES) + 1)]
    return (*(f"int{n}" for n in range(2, 17)), *(f"uint{n}" for n in range(1, 17)),
            *(n for n in minifloats if n not in _CANONICAL and n not in _AMBIGUOUS), *posits)


def canonical_name(name: str) -> str:
    """Lower case, ``_`` for each run of other characters, aliases resolved (``Posit(8, 0)``: posit8_0)."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if match := _INT.match(key):
        return f"{match[1]}int{int(match[2])}"
    if match := _FIXED.match(key):
        return f"{match[1]}fixed{int(match[2])}_{int(match[3])}"
    if match := _POSIT.match(key):
        return f"posit{int(match[1])}_{int(match[2])}"
    return _CANONICAL.get(key, key)


def aliases_of(name: str) -> tuple[str, ...]:
    """Other spellings of a canonical name."""
    return ALIASES.get(name, ())


def format_names() -> list[str]:
    """All canonical names, the user's own last (``fixedN_F`` and ``ufixedN_F`` are not listed)."""
    return [*_fixed_names(), *_grammar_names(), *_registered]


def get_format(name: str | Format, where: str = "format") -> Format:
    """The format of a name, an alias or a format object itself.

    Parameters
    ----------
    name : str or Format
    where : str
        Key path or option named in errors.

    Raises
    ------
    BitkilnError
        Unknown or ambiguous name (``what`` is "unknown format" or "ambiguous format"), or parameters out
        of range.
    """
    if isinstance(name, Format):
        return name
    if not isinstance(name, str):
        raise BitkilnError("not a format name", where=where, got=f"{name} ({type(name).__name__})",
                           expected="a string", help="quote it: YAML reads a bare no, yes, on or off as a "
                           "truth value" if isinstance(name, bool) else None)
    key = canonical_name(name)
    if key in _registered:
        return _registered[key]
    if key in _fixed_names():
        return _fixed_names()[key]
    if key in _AMBIGUOUS:
        raise BitkilnError("ambiguous format", where=where, got=name, help=_AMBIGUOUS[key])
    if _GROUP.match(key):
        raise BitkilnError("block-scaled format", where=where, got=name, expected="an element format",
                           help="groups have scales beside the codes: use get_group_format; "
                                "a unit computes with the element format, e.g. fp4")
    try:
        format = _from_grammar(key)
    except BitkilnError as error:
        place = error.where if where == "format" else f"{where} ({error.where})"
        raise BitkilnError(error.what, where=place, got=error.got, expected=error.expected,
                           help=error.help) from None
    if format is None:
        raise BitkilnError("unknown format", where=where, got=name, expected="a format name",
                           help=nearest(key, format_names()))
    return format


def is_weight_only(format: str | Format) -> bool:
    """Whether a type is meant for weights only, beside activations of another format (codebooks)."""
    return getattr(get_format(format), "weight_only", False)


def register(format: Format) -> Format:
    """Make an own format known under its name.

    Raises
    ------
    BitkilnError
        A different format has that name already, or the name is reserved by the grammar.
    """
    if not isinstance(format, Format):
        raise BitkilnError("not a format", where="register", got=type(format).__name__, expected="a Format")
    check_name(format.name)
    key = canonical_name(format.name)
    try:
        present = get_format(key)
    except BitkilnError as error:
        if error.what != "unknown format":
            raise BitkilnError("reserved name", where="register", got=format.name,
                               expected="a name that no built-in rule uses") from None
        present = None
    if present is not None and present != format:
        raise BitkilnError("name already in use", where="register", got=format.name,
                           expected=f"a new name: {format.name} is {present!r}")
    if present is None:
        _registered[key] = format
    return format if present is None else present


def unregister(name: str) -> None:
    """Forget an own format (for tests)."""
    _registered.pop(canonical_name(name), None)
