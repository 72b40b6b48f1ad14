"""Weight types of the bit-serial engine: a grid of integers, and each of them as a few signed powers of two.

A weight code stands for an integer in units of ``2**unit_exponent``; the engine multiplies by it one *term*
``+-2**shift`` a cycle. Which terms, is derived here from the grid alone: radix-4 Booth digits for two's complement
(their decoder is the same three-bit rule in every step), else the fewest there are: the plain bits, or the non-adjacent
form where that has fewer (no signed binary form has less; Reitwiesner, 1960). At most two for every BitMoD type
(arXiv 2411.11745, table IV).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import Format, format_names, get_format
from ..formats.checks import check_name

__all__ = ["BITMOD_TYPES", "Term", "WeightType", "booth_terms", "signed_digits", "weight_type", "weight_type_names"]

MAX_BITS = 8          # of a weight code
MAX_UNITS_BITS = 16   # of a grid value
SPECIALS = 4          # entries of the special-value table


class Term(NamedTuple):
    """``(-1)**negative * 2**shift``."""

    negative: bool
    shift: int


def signed_digits(value: int) -> tuple[Term, ...]:
    """An integer as the fewest signed powers of two, by falling significance; 0 has none.

    Of two equally short forms the plain bits: their shifts are smaller.
    """
    magnitude = abs(value)
    plain = tuple(Term(value < 0, shift) for shift in reversed(range(magnitude.bit_length())) if magnitude >> shift & 1)
    terms, shift, rest = [], 0, value
    while rest:
        if rest & 1:
            digit = 2 - (rest & 3)  # +1 or -1, so that the next bit becomes 0
            terms.append(Term(digit < 0, shift))
            rest -= digit
        rest >>= 1
        shift += 1
    return plain if len(plain) <= len(terms) else tuple(reversed(terms))


def booth_terms(value: int, bits: int) -> tuple[Term | None, ...]:
    """Radix-4 Booth digits of a two's complement number, by falling significance: one term a digit, None for 0."""
    digits: list[Term | None] = []
    for place in range(0, bits, 2):
        low = (value >> (place - 1)) & 1 if place else 0
        digit = -2 * ((value >> (place + 1)) & 1) + ((value >> place) & 1) + low
        digits.append(Term(digit < 0, place + (abs(digit) == 2)) if digit else None)
    return tuple(reversed(digits))


@dataclass(frozen=True)
class WeightType:
    """What the codes of a weight mean.

    Parameters
    ----------
    name : str
    bits : int
        Of a code, 1..8.
    values : tuple of int or None
        The integer of each code, in units of ``2**unit_exponent``; None for a code without a meaning, which counts
        as 0. The entry of ``special_code`` is what the code means where no special value is chosen.
    unit_exponent : int
    special_code : int or None
        The code that stands for the group's special value (BitMoD: minus zero).
    specials : tuple of int
        Values of the special-value table after reset, in the same units; at most four.
    booth : bool
        Two's complement integers whose terms are Booth digits.
    max_terms : int or None
        Fewest terms that the engine gives this type, whatever its table holds: room for special values that are
        written later. None: as many as the grid and ``specials`` need.
    """

    name: str
    bits: int
    values: tuple[int | None, ...]
    unit_exponent: int = 0
    special_code: int | None = None
    specials: tuple[int, ...] = ()
    booth: bool = False
    max_terms: int | None = None

    def __post_init__(self):
        check_name(self.name)
        where = f"weight type {self.name}"
        if not 1 <= self.bits <= MAX_BITS or len(self.values) != 1 << self.bits:
            raise BitkilnError("wrong number of values", where=where, got=len(self.values),
                               expected=f"2**bits values, bits 1 to {MAX_BITS}")
        widest = max((abs(v) for v in (*self.values, *self.specials) if v is not None), default=0)
        if widest == 0 or widest.bit_length() > MAX_UNITS_BITS:
            raise BitkilnError("grid does not fit the engine", where=where, got=f"largest magnitude {widest} units",
                               expected=f"1 to {(1 << MAX_UNITS_BITS) - 1} units of its least step",
                               help="a codebook of arbitrary values runs on the codebook_dequantiser, or rounded to "
                                    "8-bit entries (nf4_int8)")
        if self.special_code is None and self.specials:
            raise BitkilnError("special values without a code", where=where, got=str(self.specials),
                               expected="special_code")
        if self.special_code is not None and (self.booth or not 0 <= self.special_code < len(self.values)):
            raise BitkilnError("no place for a special value", where=where, got=f"special_code {self.special_code}",
                               expected=f"a code of {self.bits} bits, of a type without Booth digits")
        if len(self.specials) > SPECIALS:
            raise BitkilnError("too many special values", where=where, got=len(self.specials),
                               expected=f"at most {SPECIALS}")
        if self.max_terms is not None:
            for value in self.specials:
                self._check_terms(value)

    @cached_property
    def terms(self) -> int:
        """Terms of a weight: clock cycles of a chunk of lanes."""
        if self.booth:
            return -(-self.bits // 2)
        grid = max(len(signed_digits(v or 0)) for v in self.values)
        return max(grid, self.max_terms or 0, *(len(signed_digits(v)) for v in self.specials), 1)

    @cached_property
    def shifts(self) -> int:
        """Largest shift of any term; special values that are written later must do with it."""
        used = [term.shift for code in range(len(self.values)) for term in self.code_terms(code) if term is not None]
        used += [term.shift for value in self.specials for term in signed_digits(value)]
        return max(used)

    @cached_property
    def max_units(self) -> int:
        """Largest magnitude that a weight can have, in units: of the grid, or of any special value with these terms
        that the table can be given."""
        grid = max(abs(v or 0) for v in self.values)
        if self.special_code is None:
            return grid
        return max(grid, sum(1 << (self.shifts - i) for i in range(self.terms) if self.shifts >= i))

    def code_terms(self, code: int, special: int | None = None) -> tuple[Term | None, ...]:
        """Terms of a code; ``special`` is the value that the special code stands for."""
        value = self.values[code] or 0
        if self.booth:
            return booth_terms(value, self.bits)
        if code == self.special_code and special is not None:
            return signed_digits(special)
        return signed_digits(value)

    def _check_terms(self, value: int) -> tuple[Term, ...]:
        terms = signed_digits(value)
        limit = self.max_terms if self.max_terms is not None else self.terms
        if len(terms) > limit:
            raise BitkilnError("special value has too many terms", where=f"{self.name} special value",
                               got=f"{self.real(value):g} = {len(terms)} signed powers of two",
                               expected=f"at most {limit}",
                               help=f"the nearest that fit are {self._neighbours(value, limit)}; or configure "
                                    f"special_terms: {len(terms)}")
        return terms

    def check_special(self, value: int) -> tuple[Term, ...]:
        """The terms of a special value (in units) that an engine built for this type is to be given.

        Raises
        ------
        BitkilnError
            More terms than the engine has cycles for, or a shift beyond its shifter.
        """
        terms = self._check_terms(value)
        if terms and terms[0].shift > self.shifts:
            raise BitkilnError("special value out of range", where=f"{self.name} special value",
                               got=f"{self.real(value):g}",
                               expected=f"terms of at most {self.real(1 << self.shifts):g}",
                               help="list it among the special values of the design: its shifter is then built for it")
        return terms

    def real(self, units: int) -> float:
        """A number of units as float64."""
        return float(Fraction(units) * Fraction(2) ** self.unit_exponent)

    def _neighbours(self, value: int, limit: int) -> str:
        most = (1 << MAX_UNITS_BITS) - 1
        sides = (range(value - 1, -most - 1, -1), range(value + 1, most + 1))
        beside = [next((v for v in side if len(signed_digits(v)) <= limit), None) for side in sides]
        return " and ".join(f"{self.real(v):g}" for v in beside if v is not None)

    def with_specials(self, values: tuple[float, ...], max_terms: int | None = None) -> WeightType:
        """The type with other special values (in real numbers), each checked."""
        unit = Fraction(2) ** self.unit_exponent
        units = []
        for value in values:
            if not math.isfinite(value):
                raise BitkilnError("not a usable number", where=f"{self.name} special value", got=str(value),
                                   expected="a finite number")
            exact = Fraction(value) / unit
            if exact.denominator != 1:
                raise BitkilnError("special value is not on the grid", where=f"{self.name} special value", got=value,
                                   expected=f"a multiple of {float(unit):g}")
            units.append(int(exact))
        return replace(self, specials=tuple(units), max_terms=max_terms or self.max_terms)

    def units(self, codes: np.ndarray, special: np.ndarray | int | None = None) -> np.ndarray:
        """Integers of codes, int64; ``special`` broadcasts: the value in units where the special code stands."""
        codes = np.asarray(codes)
        found = np.array([v or 0 for v in self.values], np.int64)[codes]
        if self.special_code is not None and special is not None:
            found = np.where(codes == self.special_code, special, found)
        return found

    def decode(self, codes: np.ndarray, special: np.ndarray | int | None = None) -> np.ndarray:
        """float64 values of codes."""
        return np.ldexp(self.units(codes, special).astype(np.float64), self.unit_exponent)


# The four special values of each BitMoD type, in the order of the selector (er+, er-, ea+, ea-): table IV.
BITMOD_TYPES = {"bitmod3": ("fp3", (3, -3, 6, -6)), "bitmod4": ("fp4", (5, -5, 8, -8))}
ROUNDED = {"nf4_int8": ("nf4", 127), "nf3_int8": ("nf3", 127)}  # codebooks rounded to multiples of 1/127
_PLAIN = ("ternary", "binary", "seq2", *(f"int{n}" for n in range(2, 9)), "fp3", "fp4", "fp6_e2m3", "fp6_e3m2",
          "e2m2", "e3m1", "flint4")


def weight_type_names() -> list[str]:
    """The types worth naming in a message; every integer, minifloat or codebook format of small range is one."""
    return [*BITMOD_TYPES, *_PLAIN, *ROUNDED]


@cache
def weight_type(name: str | Format, where: str = "weights") -> WeightType:
    """The weight type of a name: ``bitmod4``, ``bitmod3``, ``nf4_int8``, or a number format.

    Raises
    ------
    BitkilnError
        Unknown name, or a format whose values are no small integers.
    """
    if isinstance(name, str) and name.strip().lower() in BITMOD_TYPES:
        key = name.strip().lower()
        fmt, specials = BITMOD_TYPES[key]
        base = _of_format(get_format(fmt))
        typed = replace(base, name=key, special_code=1 << (base.bits - 1), max_terms=2)
        return typed.with_specials(tuple(float(s) for s in specials))
    if isinstance(name, str) and name.strip().lower() in ROUNDED:
        key = name.strip().lower()
        source, steps = ROUNDED[key]
        fmt = get_format(source)
        values = tuple(int(v) for v in np.rint(fmt.decode(np.arange(1 << fmt.bits)) * steps))
        return WeightType(key, fmt.bits, values)
    try:
        fmt = get_format(name, where=where)
    except BitkilnError as error:
        if error.what != "unknown format":
            raise
        raise BitkilnError("unknown weight type", where=where, got=name, expected="a weight type",
                           help=nearest(str(name).lower(), [*weight_type_names(), *format_names()])) from None
    return _of_format(fmt, where)


def _of_format(fmt: Format, where: str = "weights") -> WeightType:
    if fmt.bits > MAX_BITS or fmt.has_nan or fmt.has_inf or fmt.max_units.bit_length() > MAX_UNITS_BITS:
        raise BitkilnError("not a weight type of the bit-serial engine", where=where, got=fmt.name,
                           expected="a finite format of 8 bits or less and small range",
                           help=nearest(fmt.name, weight_type_names()))
    codes = np.arange(1 << fmt.bits)
    illegal = fmt.unpack(codes).special != 0
    values = tuple(None if bad else int(v) for bad, v in zip(illegal, fmt.units(codes), strict=True))
    return WeightType(fmt.name, fmt.bits, values, fmt.unit_exponent,
                      booth=fmt.family in ("int", "fixed") and fmt.signed and fmt.bits > 1)
