"""Formats of at most 16 bits: every operation is a look-up in tables made from the definition."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np

from ..errors import BitkilnError, nearest
from .base import ROUNDINGS, Format, Special, Unpacked
from .fast import DirectTable, GuessTable, decode_chunks
from .stepping import Edge, Grid, Steps, build_steps, order_key

__all__ = ["TableFormat", "check_codes", "check_encode", "code_dtype"]

OVERFLOWS = ("saturate", "inf_nan")
FAST_FROM = 1 << 14     # values for which the tables of the fast methods are worth making
RANDOM_DTYPES = (np.uint8, np.uint16, np.uint32)


def code_dtype(bits: int) -> type:
    """Smallest unsigned NumPy type of ``bits`` bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32


def check_codes(format: Format, codes: np.ndarray) -> np.ndarray:
    """``codes`` as an integer array, refused when one is outside the format."""
    codes = np.asarray(codes)
    if codes.dtype.kind not in "ui":
        if codes.size == 0:
            return codes.astype(code_dtype(format.bits))
        raise BitkilnError("codes are not integers", where=f"{format.name} codes", got=str(codes.dtype),
                           expected="an integer array", help="use encode() to turn values into codes")
    limits = np.iinfo(codes.dtype)
    top = (1 << format.bits) - 1
    if codes.size and (limits.min < 0 or limits.max > top):
        bad = None
        if limits.min < 0 and codes.min() < 0:
            bad = codes < 0
        elif limits.max > top and codes.max() > top:
            bad = codes > top
        if bad is not None:
            raise BitkilnError("code out of range", where=f"{format.name} codes{_first(bad)}",
                               got=int(codes.flat[np.argmax(bad)]),
                               expected=f"0 to {top} ({format.bits} bits)")
    return codes


def _first(bad: np.ndarray) -> str:
    """Index of the first True, as ``[2, 3]`` (empty for a scalar)."""
    index = np.unravel_index(int(np.argmax(bad)), bad.shape)
    return f"[{', '.join(str(int(i)) for i in index)}]" if index else ""


def check_encode(format: Format, values: np.ndarray, rounding: str, random_bits: np.ndarray | None,
                 overflow: str | None) -> tuple[np.ndarray, str]:
    """Checked float array (float32 or float64) and overflow policy of an ``encode`` call."""
    if rounding not in ROUNDINGS:
        raise BitkilnError("unknown rounding", where="rounding", got=rounding, expected=", ".join(ROUNDINGS),
                           help=nearest(rounding, ROUNDINGS))
    overflow = getattr(format, "overflow", "saturate") if overflow is None else overflow
    if overflow not in OVERFLOWS:
        raise BitkilnError("unknown overflow policy", where="overflow", got=overflow,
                           expected="saturate or inf_nan", help=nearest(overflow, OVERFLOWS))
    if overflow == "inf_nan" and (format.family == "posit" or not (format.has_nan or format.has_inf)):
        reason = ("posits saturate at maxpos" if format.family == "posit"
                  else f"{format.name} has neither Inf nor NaN")
        raise BitkilnError("overflow policy not possible", where="overflow", got=overflow,
                           expected=f"saturate: {reason}")
    values = np.asarray(values)
    if values.dtype.kind == "f" and values.dtype.itemsize < 4:
        values = values.astype(np.float32)
    elif values.dtype.kind in "ui":
        wide = values.dtype.itemsize == 8 and values.size
        if wide and not -(1 << 53) <= values.min() <= values.max() <= 1 << 53:
            raise BitkilnError("integers beyond float64", where=f"{format.name} values",
                               got=f"{values.min()} to {values.max()}", expected="magnitudes up to 2**53",
                               help="convert to float64 first if rounding twice is acceptable")
        values = values.astype(np.float64)
    elif values.dtype.kind != "f":
        if values.size:
            raise BitkilnError("values are not real numbers", where=f"{format.name} values",
                               got=str(values.dtype), expected="a float array")
        values = values.astype(np.float64)
    elif values.dtype.itemsize > 8:
        raise BitkilnError("values are wider than float64", where=f"{format.name} values",
                           got=str(values.dtype), expected="float32 or float64",
                           help="values.astype(np.float64) rounds a first time")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if not format.has_nan and values.size and np.isnan(values.max()):   # max passes NaN on
        bad = np.isnan(values)
        raise BitkilnError("NaN cannot be encoded", where=f"{format.name} values{_first(bad)}",
                           got=f"{int(bad.sum())} NaN among {values.size} values",
                           expected=f"no NaN: {format.name} has no code for it",
                           help="replace them first, e.g. np.nan_to_num(values)")
    if rounding == "stochastic":
        if random_bits is None:
            raise BitkilnError("random bits missing", where="random_bits", expected="a uint32 array",
                               help="np.random.default_rng(seed).integers(0, 2**32, values.shape, np.uint32)")
        if getattr(random_bits, "dtype", None) not in RANDOM_DTYPES:
            raise BitkilnError("random bits of the wrong type", where="random_bits",
                               got=str(getattr(random_bits, "dtype", type(random_bits).__name__)),
                               expected="uint8, uint16 or uint32")
        try:
            np.broadcast_to(random_bits, values.shape)
        except ValueError:
            raise BitkilnError("shapes differ", where="random_bits", got=str(random_bits.shape),
                               expected=f"{values.shape}, one word for each value") from None
    elif random_bits is not None:
        raise BitkilnError("contradictory options", where="random_bits", got=f"random bits with {rounding}",
                           expected="rounding stochastic")
    return values, overflow


class TableFormat(Format):
    """A format described by the unpacked form of each of its ``2**bits`` codes."""

    nan_code: int | None = None
    inf_codes: tuple[int, int] | None = None   # (positive, negative)

    @abstractmethod
    def _definition(self) -> Unpacked:
        """Sign, exponent, significand and special of the codes 0, 1, ... ``2**bits - 1``."""

    # Tables ------------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> Unpacked:
        sign, exponent, significand, special = self._definition()
        table = Unpacked(np.asarray(sign, np.uint8), np.asarray(exponent, np.int32),
                         np.asarray(significand, np.int64), np.asarray(special, np.uint8))
        for column in table:
            column.setflags(write=False)
        return table

    @cached_property
    def _values(self) -> np.ndarray:
        t = self._table
        values = np.ldexp(t.significand.astype(np.float64), t.exponent)
        values = np.where((t.sign == 1) & ((values != 0) | self.has_negative_zero), -values, values)
        values[t.special == Special.NAN] = np.nan
        infinite = t.special == Special.INF
        values[infinite] = np.where(t.sign[infinite] == 1, -np.inf, np.inf)
        values.setflags(write=False)
        return values

    @cached_property
    def _units(self) -> np.ndarray:
        units = super().units(np.arange(1 << self.bits))
        units.setflags(write=False)
        return units

    @cached_property
    def _extent(self) -> tuple[int, int]:
        """unit_exponent and max_units, in Python integers."""
        t = self._table
        used = t.significand != 0
        significand, exponent = t.significand[used], t.exponent[used].astype(np.int64)
        trailing = np.log2((significand & -significand).astype(np.float64)).astype(np.int64)  # powers of two
        unit = int((exponent + trailing).min())
        top = int(np.argmax(np.ldexp(significand.astype(np.float64), exponent)))
        s, e = int(significand[top]), int(exponent[top])
        return unit, s << (e - unit) if e >= unit else s >> (unit - e)

    @property
    def unit_exponent(self) -> int:
        return self._extent[0]

    @property
    def max_units(self) -> int:
        return self._extent[1]

    @property
    def has_negative_zero(self) -> bool:
        """Whether a code stands for -0."""
        return False

    @cached_property
    def max(self) -> float:
        return float(self._grid.values[-1])

    @cached_property
    def min(self) -> float:
        """Most negative finite value (the least one of an unsigned format)."""
        return float(self._grid.values[0])

    @cached_property
    def min_positive(self) -> float:
        values = self._grid.values
        return float(values[values > 0][0])

    # Codes to values -----------------------------------------------------------------------------

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return decode_chunks(self._values, check_codes(self, codes))

    def unpack(self, codes: np.ndarray) -> Unpacked:
        codes = check_codes(self, codes)
        return Unpacked(*(np.take(column, codes) for column in self._table))

    def units(self, codes: np.ndarray) -> np.ndarray:
        return np.take(self._units, check_codes(self, codes))

    # Values to codes -----------------------------------------------------------------------------

    @cached_property
    def _grid(self) -> Grid:
        codes = np.flatnonzero(self._table.special == Special.NONE)
        keys, first = np.unique(order_key(self._values[codes]), return_index=True)  # lowest code of equals
        codes = codes[first]
        start = keys.copy()
        if not self.has_negative_zero:
            start[keys == 0] = -1
        return Grid(self._values[codes], codes.astype(np.int64), start, keys)

    @cached_property
    def _steps_cache(self) -> dict[tuple[str, str], Steps]:
        return {}

    @cached_property
    def _fast_cache(self) -> dict[tuple[str, str, bool], DirectTable | GuessTable]:
        return {}

    def _steps(self, rounding: str, overflow: str) -> Steps:
        steps = self._steps_cache.get((rounding, overflow))
        if steps is None:
            low, high = self._edges(rounding, overflow)
            nan = int(self._grid.codes[-1]) if self.nan_code is None else self.nan_code
            steps = build_steps(self._grid, rounding, self._ties(), low, high, nan, code_dtype(self.bits))
            self._adjust(steps)
            self._steps_cache[rounding, overflow] = steps
        return steps

    def _fast(self, rounding: str, overflow: str, single: bool) -> DirectTable | GuessTable:
        """The fastest exact way from float32 (``single``) or float64 values to codes."""
        key = (rounding, overflow, single)
        if key not in self._fast_cache:
            steps = self._steps(rounding, overflow)
            self._fast_cache[key] = ((DirectTable.build(steps) if single else None)
                                     or GuessTable.build(steps, single))
        return self._fast_cache[key]

    def _ties(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Tie points where they are not the arithmetic midpoints: first key at or above, and exactness."""
        return None

    def _adjust(self, steps: Steps) -> None:
        """Last changes of a family to its thresholds, in place."""

    def _next_beyond_max(self) -> float:
        """Where the next value above ``max`` would be (overflow threshold of ``inf_nan``)."""
        raise NotImplementedError

    def _edges(self, rounding: str, overflow: str) -> tuple[Edge, Edge]:
        low_code, high_code = int(self._grid.codes[0]), int(self._grid.codes[-1])
        inf_high, inf_low = self.inf_codes or (high_code, low_code)
        if overflow == "saturate":
            return Edge(low_code, None, inf_low), Edge(high_code, None, inf_high)
        if self.inf_codes is None:
            inf_high = inf_low = self.nan_code
        middle = int(order_key(np.array([(self.max + self._next_beyond_max()) / 2]))[0])
        outward = int(order_key(np.array([self.max]))[0]) + 1
        nearest_first = middle + (rounding == "nearest_even" and high_code % 2 == 0)
        first = {"nearest_even": nearest_first, "nearest_away": nearest_first}.get(rounding)
        up, down = (outward if rounding == mode else first for mode in ("toward_positive", "toward_negative"))
        if not self.signed:
            return Edge(low_code, None, low_code), Edge(inf_high, up, inf_high)
        return Edge(inf_low, down, inf_low), Edge(inf_high, up, inf_high)

    def encode(self, values: np.ndarray, rounding: str = "nearest_even", *,
               random_bits: np.ndarray | None = None, overflow: str | None = None) -> np.ndarray:
        values, overflow = check_encode(self, values, rounding, random_bits, overflow)
        if rounding == "stochastic":
            with np.errstate(invalid="ignore"):
                values = np.asarray(values, np.float64)
            return self._stochastic(values, np.asarray(random_bits), overflow)
        single = values.dtype == np.float32
        if values.size >= FAST_FROM or (rounding, overflow, single) in self._fast_cache:
            return self._fast(rounding, overflow, single)(values)
        return self._steps(rounding, overflow)(order_key(values)).reshape(values.shape)

    def _stochastic(self, values: np.ndarray, random_bits: np.ndarray, overflow: str) -> np.ndarray:
        """Away from zero when ``floor(fraction * 2**width) + random >= 2**width`` (a carry of an adder)."""
        low_code = self._steps("toward_negative", "saturate")(order_key(values))
        high_code = self._steps("toward_positive", "saturate")(order_key(values))
        low, high = self._values[low_code], self._values[high_code]
        if overflow == "inf_nan":
            beyond = self._next_beyond_max()
            over, infinity = np.abs(values) > self.max, (self.inf_codes or (self.nan_code,) * 2)
            up, down = over & (values > 0), over & (values < 0) & self.signed
            high, high_code = np.where(up, beyond, high), np.where(up, infinity[0], high_code)
            low, low_code = np.where(down, -beyond, low), np.where(down, infinity[1], low_code)
        positive = values >= 0
        inner, outer = np.where(positive, low, high), np.where(positive, high, low)
        width = 8 * random_bits.dtype.itemsize
        # Both sides are exact in float64: the distances are short differences, the factors below 2**33.
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(values - inner) * 2.0**width
            need = (2.0**width - random_bits.astype(np.float64)) * np.abs(outer - inner)
            away = (distance >= need) & (outer != inner)
        codes = np.where(away == positive, high_code, low_code)
        special = ~np.isfinite(values)
        if special.any():
            codes = np.where(special, self._steps("toward_zero", overflow)(order_key(values)), codes)
        return codes.astype(code_dtype(self.bits)).reshape(values.shape)

