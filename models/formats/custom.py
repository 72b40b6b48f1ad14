"""Own formats from a mapping, as a YAML file gives it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BitkilnError, nearest
from .base import Format
from .checks import check_name
from .codebook import Codebook
from .integers import Fixed, Int
from .minifloat import Minifloat
from .posit import Posit
from .registry import get_format

__all__ = ["FAMILIES", "format_from_dict"]

# family: class, required keys, optional keys
FAMILIES = {
    "minifloat": (Minifloat, ("exponent_bits", "mantissa_bits"), ("bias", "specials", "overflow", "signed")),
    "posit": (Posit, ("bits", "es"), ()),
    "codebook": (Codebook, ("values",), ("weight_only",)),
    "fixed": (Fixed, ("bits", "fraction_bits"), ("signed",)),
    "int": (Int, ("bits",), ("signed",)),
}


def format_from_dict(name: str | Mapping, parameters: Mapping | None = None, *,
                     where: str | None = None) -> Format:
    """A format from its family and parameters; it is not registered.

    Parameters
    ----------
    name : str or mapping
        Name of the new format, or the whole mapping with a key ``name``.
    parameters : mapping
        ``family`` (minifloat, posit, codebook, fixed or int) and the parameters of that class.
    where : str, optional
        Key path for errors, default ``formats_defined.<name>``.

    Raises
    ------
    BitkilnError
        Unknown or missing keys, values out of range, or a name in use.
    """
    if isinstance(name, Mapping):
        parameters = dict(name)
        name = parameters.pop("name", None)
    place = where or f"formats_defined.{name}"
    check_name(name, f"{place} name" if where else "formats_defined")
    if not isinstance(parameters, Mapping):
        raise BitkilnError("not a mapping", where=place, got=str(parameters),
                           expected="family and its parameters")
    given = dict(parameters)
    family = given.pop("family", None)
    if family not in FAMILIES:
        raise BitkilnError("unknown family" if family is not None else "missing key", where=f"{place}.family",
                           got=family, expected=", ".join(FAMILIES), help=nearest(family, FAMILIES))
    kind, required, optional = FAMILIES[family]
    allowed = (*required, *optional)
    for key in given:
        if key not in allowed:
            raise BitkilnError("unknown key", where=f"{place}.{key}", got=str(key),
                               expected=", ".join(allowed), help=nearest(key, allowed))
    for key in required:
        if given.get(key) is None:
            raise BitkilnError("missing key", where=f"{place}.{key}",
                               expected=f"{', '.join(required)} for {family}")
    for key in ("signed", "weight_only"):
        if key in given and not isinstance(given[key], bool):
            raise BitkilnError("not a truth value", where=f"{place}.{key}", got=str(given[key]),
                               expected="true or false")
    try:
        format = kind(name=name, **given)
    except BitkilnError as error:
        raise BitkilnError(error.what, where=f"{place} ({error.where})", got=error.got,
                           expected=error.expected, help=error.help) from None
    try:
        present = get_format(name)
    except BitkilnError as error:
        if error.what != "unknown format":
            raise BitkilnError("reserved name", where=place, got=name,
                               expected="a name that no built-in rule uses") from None
    else:
        if present != format:
            raise BitkilnError("name already in use", where=place, got=name, expected="a new name")
    return format
