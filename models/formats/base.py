"""What every number format offers.

A format is an immutable description; codes are unsigned integers of ``bits`` bits. Three views of a
code are exact and agree with each other:

* ``decode``: the value as float64 (every value of every format here is a float64),
* ``unpack``: sign, exponent and integer significand,
* ``units``: the value as a signed integer in units of ``2**unit_exponent``.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

__all__ = ["Format", "Special", "Unpacked", "ROUNDINGS"]

ROUNDINGS = ("nearest_even", "nearest_away", "toward_zero", "toward_positive", "toward_negative", "odd",
             "stochastic")


class Special(enum.IntEnum):
    """What a code is when it is not an ordinary number."""

    NONE = 0
    NAN = 1       # NaN or NaR
    INF = 2       # infinity, its sign in ``sign``
    ILLEGAL = 3   # a code without a meaning (ternary 0b10): decodes to 0 and raises a flag


class Unpacked(NamedTuple):
    """Arrays of equal shape.

    ``value = (-1)**sign * significand * 2.0**exponent`` where ``special`` is NONE.
    """

    sign: np.ndarray         # uint8
    exponent: np.ndarray     # int32, weight of the significand's least bit
    significand: np.ndarray  # int64 >= 0; 0 for zero, specials and illegal codes
    special: np.ndarray      # uint8, a Special


class Format(ABC):
    """A number format of ``bits`` bits.

    Attributes
    ----------
    name : str
        Registry name, lower case (``fp8_e4m3``, ``posit8_0``, ``int4``).
    bits : int
        Code width.
    family : str
        ``int``, ``fixed``, ``minifloat``, ``posit`` or ``codebook``.
    signed : bool
        Whether negative values exist.
    unit_exponent : int
        All finite values are integer multiples of ``2**unit_exponent`` and this is the largest such
        exponent (the weight of the least bit of an exact fixed-point number).
    max_units : int
        Largest ``|value| / 2**unit_exponent`` over the finite values (a Python int).
    has_nan, has_inf, has_illegal : bool
        Whether some code is NaN/NaR, infinite, or has no meaning.
    """

    name: str
    bits: int
    family: str
    signed: bool
    unit_exponent: int
    max_units: int
    has_nan: bool = False
    has_inf: bool = False
    has_illegal: bool = False

    @abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Exact float64 values of ``codes`` (any integer array shape). NaN/NaR give NaN."""

    @abstractmethod
    def encode(self, values: np.ndarray, rounding: str = "nearest_even", *,
               random_bits: np.ndarray | None = None, overflow: str | None = None) -> np.ndarray:
        """Codes (uint8 or uint16) of float ``values``, each rounded once."""

    @abstractmethod
    def unpack(self, codes: np.ndarray) -> Unpacked:
        """Sign, exponent, integer significand and special kind of each code."""

    @property
    @abstractmethod
    def max(self) -> float:
        """Largest finite value."""

    @property
    @abstractmethod
    def min_positive(self) -> float:
        """Smallest value above zero."""

    def units(self, codes: np.ndarray) -> np.ndarray:
        """Exact signed integers in units of ``2**unit_exponent`` (0 for specials).

        int64 where they fit (``max_units < 2**62``), else an object array of Python ints.
        """
        u = self.unpack(codes)
        shift = u.exponent.astype(np.int64) - self.unit_exponent
        shift = np.where(u.significand == 0, 0, shift)
        if self.max_units < 1 << 62:
            magnitude = u.significand << np.maximum(shift, 0) >> np.maximum(-shift, 0)
        else:
            magnitude = u.significand.astype(object) << np.maximum(shift, 0).astype(object)
            magnitude = magnitude >> np.maximum(-shift, 0).astype(object)
        return np.where(u.sign.astype(bool), -magnitude, magnitude)

    def fixed_point(self) -> tuple[int, int]:
        """``(integer_bits, fraction_bits)`` of the smallest exact fixed-point number, sign bit not counted.

        ``integer_bits`` may be negative when every value is below one half.
        """
        return self.max_units.bit_length() + self.unit_exponent, -self.unit_exponent
