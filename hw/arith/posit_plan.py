"""What each bit of a rounded posit is, for every class of magnitudes; no hardware here.

A class is one regime: values whose leading bit weighs ``2**(k*2**es)`` up to the next regime. Within a class (and, with
exponent bits, for a given exponent) each bit of the code is the sign, its complement or one fixed bit of the
accumulator. Negative numbers are encoded from their raw two's complement bits with regime and exponent
complemented, so nothing is ever negated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bitkiln.models.formats import Posit

__all__ = ["SIGN", "NOT_SIGN", "STICKY", "AnyBelow", "Bit", "PositPlan"]

SIGN, NOT_SIGN = "sign", "not sign"
STICKY = "sticky"  # row name; the others are places in the code: n-2 is below the sign, -1 is the guard bit


class Bit(NamedTuple):
    """Accumulator bit of weight ``2**weight``."""

    weight: int


class AnyBelow(NamedTuple):
    """Whether any accumulator bit up to ``2**weight``, or one of the ``others``, is set."""

    weight: int
    others: tuple = ()


@dataclass(frozen=True)
class PositPlan:
    """Classes and code bits of one rounding stage.

    Parameters
    ----------
    format : Posit
    bottom, top : int
        The accumulator has bits of weight ``2**bottom`` to ``2**(top - 1)`` below its sign. Where ``bottom`` is above
        minpos, the lowest must be a constant 0: a negative power of two is recognised by the bit below it.
    """

    format: Posit
    bottom: int
    top: int

    @property
    def regimes(self) -> range:
        """All k, the last one being maxpos and beyond."""
        largest = self.format.bits - 2
        return range(-largest if self.format.es else 0, largest + 1)

    @property
    def code_bits(self) -> int:
        """Width of the class number."""
        bits = self.format.bits
        return (bits - 1).bit_length() + bool(self.format.es)

    def class_code(self, k: int) -> int:
        """Number of a class; 0 is what lies below all of them.

        With exponent bits the top bit tells ``k >= 0`` and the others give the length of the regime, so that all
        ones (number 0, complemented) is longer than any. Without them, the code is linear below 1: no such classes.
        """
        return k + 1 if not self.format.es else k + (1 << (self.format.bits - 1).bit_length())

    @cached_property
    def classes(self) -> dict[int, range]:
        """Regime -> weights whose highest set bit puts a value there; only regimes that can occur."""
        step, found = 1 << self.format.es, {}
        for k in self.regimes:
            high = self.top if k == self.regimes[-1] else (k + 1) * step
            weights = range(max(k * step, self.bottom), min(high, self.top))
            if weights:
                found[k] = weights
        return found

    @property
    def exponents(self) -> range:
        return range(1 << self.format.es)

    def exponent_rows(self) -> dict[int, dict[int, object]]:
        """Exponent j -> {class: the accumulator bit that is set when the exponent is j or a larger one hides it}."""
        return {j: {self.class_code(k): Bit((k << self.format.es) + j) for k in self.classes if k < self.regimes[-1]}
                for j in self.exponents[1:]}

    def rows(self, exponent: int) -> dict[object, dict[int, object]]:
        """Place in the code (or STICKY) -> {class: source}, for one exponent.

        With exponent bits the regime is left out; places that are always regime have no row.
        """
        found: dict[object, dict[int, object]] = {STICKY: {0: AnyBelow(self._minpos - 1)}}
        if self.format.es:
            # Never to zero: below minpos the guard bit rounds away from it (a negative one is all ones already).
            found[-1] = {0: NOT_SIGN}
        else:
            self._put(found, 0, self._below_one())
        for k in self.classes:
            self._put(found, self.class_code(k), self._string(k, exponent))
        return found

    @property
    def _minpos(self) -> int:
        return self.format.unit_exponent

    @staticmethod
    def _put(rows: dict, code: int, sources: dict) -> None:
        for place, source in sources.items():
            rows.setdefault(place, {})[code] = source

    def _below_one(self) -> dict[object, object]:
        """es = 0: fixed point; the bit of weight 1 lies below the sign."""
        bits = self.format.bits
        return {bits - 2 - i: Bit(-i) for i in range(bits)} | {STICKY: AnyBelow(-bits)}

    def _string(self, k: int, exponent: int) -> dict[object, object]:
        bits, es = self.format.bits, self.format.es
        if k == self.regimes[-1]:  # saturated: regime ones to the end, not rounded
            regime = {} if es else dict.fromkeys(range(1, bits - 1), NOT_SIGN)
            return regime | {0: 1, -1: 0}
        length = k + 2 if k >= 0 else 1 - k
        lead = (k << es) + exponent
        regime = [] if es else [NOT_SIGN] * (length - 1) + [SIGN]
        fields = [NOT_SIGN if exponent >> i & 1 else SIGN for i in reversed(range(es))]
        if es == 1:  # the accumulator bit says the same for both exponents: no choice
            fields = [Bit((k << es) + 1)]
        room = bits - length  # behind the regime, guard bit included
        fraction = [Bit(lead - 1 - i) for i in range(room - es)]
        string = [*regime, *fields[:room], *fraction]
        first = bits - 2 if regime else bits - 2 - length
        placed = {first - i: source for i, source in enumerate(string)}
        return placed | {STICKY: AnyBelow(lead - 1 - len(fraction), tuple(fields[room:]))}
