"""Look-up formats: any list of values, one for each code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError
from .base import Special, Unpacked
from .checks import check_name
from .tables import TableFormat

__all__ = ["Codebook", "builtin_codebooks"]


@dataclass(frozen=True)
class Codebook(TableFormat):
    """A value for each code.

    Parameters
    ----------
    name : str
    values : tuple of float or None
        ``2**bits`` values, 2 to 256 of them; None is a code without a meaning (decodes to 0). Magnitudes
        are 0 or 2**-126 to 2**128. Of equal values the lowest code is used for encoding.
    weight_only : bool
        Whether the type is meant for weights, with activations of another format.
    """

    name: str
    values: tuple[float | None, ...]
    weight_only: bool = True
    family = "codebook"
    overflow = "saturate"

    def __post_init__(self):
        check_name(self.name)
        where = f"codebook {self.name} values"
        if isinstance(self.values, (str, bytes)) or not hasattr(self.values, "__iter__"):
            raise BitkilnError("not a list", where=where, got=self.values, expected="a list of numbers")
        values = list(self.values)
        if len(values) not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise BitkilnError("wrong number of values", where=where, got=len(values),
                               expected="2, 4, 8, ... or 256, one for each code")
        for code, value in enumerate(values):
            if value is None:
                continue
            number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            if not number or not (value == 0 or 2.0**-126 <= abs(value) < 2.0**128):
                raise BitkilnError("not a usable number", where=f"{where}[{code}]", got=str(value),
                                   expected="a finite number, 0 or of magnitude 2^-126 to 2^128")
            values[code] = float(value) + 0.0   # -0.0 becomes 0.0
        if len({*values} - {None}) < 2 or max(v for v in values if v is not None) <= 0:
            raise BitkilnError("too few different values", where=where, got=str(values),
                               expected="2 or more, one of them positive")
        object.__setattr__(self, "values", tuple(values))

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    @property
    def signed(self) -> bool:
        return any(v is not None and v < 0 for v in self.values)

    @property
    def has_illegal(self) -> bool:
        return None in self.values

    def _definition(self) -> Unpacked:
        ratios = [(0.0 if v is None else v).as_integer_ratio() for v in self.values]
        depth = max(d.bit_length() - 1 for n, d in ratios if n)
        integers = [n << depth >> (d.bit_length() - 1) for n, d in ratios]
        shared = min((n & -n).bit_length() - 1 for n in integers if n)
        exponents = [shared - depth] * len(integers)
        magnitudes = [abs(n) >> shared for n in integers]
        if max(magnitudes).bit_length() > 62:   # one unit for all is too wide: odd significands
            twos = [(n & -n).bit_length() - 1 if n else 0 for n in magnitudes]
            exponents = [e + t for e, t in zip(exponents, twos, strict=True)]
            magnitudes = [n >> t for n, t in zip(magnitudes, twos, strict=True)]
        special = [Special.ILLEGAL if v is None else Special.NONE for v in self.values]
        return Unpacked(np.array([n < 0 for n in integers]), np.array(exponents),
                        np.array(magnitudes, np.int64), np.array(special))


# NF4 and NF3: quantiles of the normal distribution (QLoRA, arXiv 2305.14314; AFPQ, arXiv 2311.01792), the
# published float32 constants, kept exactly.
_NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
        0.7229568362236023, 1.0)
_NF3 = (-1.0, -0.5350227355957031, -0.2469314038753510, 0.0, 0.1833375245332718, 0.3819939494132996,
        0.6229856610298157, 1.0)
# FLINT4 (ANT, MICRO 2022): sign and first-one coded magnitude, code 4 = 16, 5 = 8, 6 and 7 = 4 and 6.
_FLINT4 = (0, 1, 2, 3, 16, 8, 4, 6)
# BitMoD (arXiv 2411.11745, table IV): sign-magnitude FP3/FP4 whose code "minus zero" is one special value.
_BITMOD = {3: (0, 1, 2, 4), 4: (0, 0.5, 1, 1.5, 2, 3, 4, 6)}
_SPECIAL_VALUES = {3: {"er": 3, "ea": 6}, 4: {"er": 5, "ea": 8}}


def builtin_codebooks() -> list[Codebook]:
    """ternary, binary, seq2, nf3, nf4, flint4 and the eight BitMoD types."""
    books = [
        Codebook("ternary", (0, 1, None, -1), weight_only=False),
        # Grids without a zero (ParetoQ, arXiv 2502.02631): the sign, and two bits of stretched elastic quantisation.
        Codebook("binary", (-1, 1)),
        Codebook("seq2", (-0.75, -0.25, 0.25, 0.75)),
        Codebook("nf3", tuple(float(np.float32(v)) for v in _NF3)),
        Codebook("nf4", tuple(float(np.float32(v)) for v in _NF4)),
        Codebook("flint4", (*_FLINT4, *(-v for v in _FLINT4))),
    ]
    for bits, grid in _BITMOD.items():
        for kind, special in _SPECIAL_VALUES[bits].items():
            for sign, word in ((1, "pos"), (-1, "neg")):
                negative = (sign * special, *(-v for v in grid[1:]))
                books.append(Codebook(f"bitmod{bits}_{kind}_{word}", (*grid, *negative)))
    return books
