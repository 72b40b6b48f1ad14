"""The clock generators of each FPGA family: their limits, and every setting that could be the nearest.

A family gives `Candidate` objects. Where one divider is left to choose, only its two values on either side of the
wanted frequency are given, so the nearest setting of all is among them, and so are the next ones below and above.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["FAMILIES", "Candidate", "Family", "Limits", "Range", "mhz"]

Range = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Limits:
    """What a data sheet allows: lowest and highest frequency in MHz.

    Attributes
    ----------
    input, detector, oscillator, output : Range
        Of the reference, at the phase detector, of the VCO, and of the clock that comes out.
    source : str
        Device and documents.
    """

    input: Range
    detector: Range
    oscillator: Range
    output: Range
    source: str

    @classmethod
    def of(cls, source: str, *ranges: tuple[float, float]) -> Limits:
        """Limits from decimal numbers, in the order of the attributes."""
        return cls(*((Fraction(str(low)), Fraction(str(high))) for low, high in ranges), source)


class Candidate(NamedTuple):
    """``output = input * up / down``; the lowest ``rank`` is liked best; ``dividers`` make the parameters."""

    up: int
    down: int
    rank: tuple
    dividers: tuple[int, ...]


class Family(ABC):
    """One kind of clock generator.

    Attributes
    ----------
    limits : Limits
    """

    limits: Limits

    @abstractmethod
    def candidates(self, reference: Fraction, wanted: Fraction) -> Iterator[Candidate]:
        """Settings inside the limits, among them those nearest to ``wanted`` (MHz)."""

    @abstractmethod
    def finish(self, reference: Fraction, best: Candidate) -> tuple[Fraction, Fraction, dict[str, Any]]:
        """Frequencies at the phase detector and of the oscillator in MHz, and the primitive's parameters."""

    def references(self, reference: Fraction, most: int) -> Iterator[tuple[int, Fraction]]:
        """Dividers of the reference, and the frequency at the phase detector."""
        low, high = self.limits.detector
        for divider in range(1, most + 1):
            if low <= reference / divider <= high:
                yield divider, reference / divider


def mhz(value: Fraction) -> str:
    """A frequency as people write it: six decimals, no trailing zeros."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _multiples(unit: Fraction, allowed: Range, low: int, high: int) -> tuple[int, int]:
    """First and last n of ``low..high`` with ``n * unit`` in a range (the last before the first: none)."""
    return max(low, math.ceil(allowed[0] / unit)), min(high, math.floor(allowed[1] / unit))


def _around(value: Fraction, low: int, high: int, times: int = 1) -> set[int]:
    """The numbers of ``low..high`` next to ``value * times``, one on either side."""
    if low > high:
        return set()
    up, down = value.numerator * times, value.denominator      # whole numbers: this is the inner loop
    return {min(max(n, low), high) for n in (up // down, -(-up // down))}


def _between(value: Fraction, allowed: Range, times: int, low: int, high: int) -> tuple[int, int]:
    """First and last n of ``low..high`` with ``value * times / n`` in a range."""
    up, down = value.numerator * times, value.denominator
    least, most = allowed
    return (max(low, -(-up * most.denominator // (down * most.numerator))),
            min(high, up * least.denominator // (down * least.numerator)))


class Ecp5(Family):
    """EHXPLLL, its loop closed through output CLKOP.

    CLKOP = detector * CLKFB_DIV and oscillator = CLKOP * CLKOP_DIV. The second output, CLKOS, divides the oscillator
    by CLKOS_DIV and so reaches more frequencies.
    """

    # Lattice gives jitter for a phase detector at 10 MHz or more; 3.125 is the lower end that ecppll uses.
    limits = Limits.of("ECP5: Lattice FPGA-DS-02012; lowest detector frequency and divider ranges as in ecppll",
                       (8, 400), (3.125, 400), (400, 800), (3.125, 400))
    feedbacks, outputs, middle = 80, 128, 600

    def candidates(self, reference: Fraction, wanted: Fraction) -> Iterator[Candidate]:
        limits = self.limits
        for divider, detector in self.references(reference, 128):
            loops = _multiples(detector, limits.output, 1, self.feedbacks)
            for feedback in _around(wanted / detector, *loops):
                first, last = _multiples(detector * feedback, limits.oscillator, 1, self.outputs)
                output = min(range(first, last + 1), key=lambda n, f=detector * feedback: abs(f * n - self.middle))
                yield Candidate(feedback, divider, (0, divider), (divider, feedback, output, 0))
            first, last = _multiples(detector, limits.oscillator, 1, self.feedbacks * self.outputs)
            ratio, (middle, scale) = detector / wanted, (self.middle / detector).as_integer_ratio()
            for times in range(first, last + 1):
                if loop := _ecp5_loop(times, *loops, self.outputs):
                    seconds = _between(detector, limits.output, times, 1, self.outputs)
                    for second in _around(ratio, *seconds, times=times):
                        yield Candidate(times, divider * second, (1, divider, abs(times * scale - middle), second),
                                        (divider, *loop, second))

    def finish(self, reference: Fraction, best: Candidate) -> tuple[Fraction, Fraction, dict[str, Any]]:
        divider, feedback, output, second = best.dividers
        # A coarse phase of DIV - 1 is none.
        parameters = {"CLKI_DIV": divider, "CLKFB_DIV": feedback, "CLKOP_DIV": output, "CLKOP_CPHASE": output - 1}
        parameters["CLKOS_ENABLE"] = "ENABLED" if second else "DISABLED"
        if second:
            parameters |= {"CLKOS_DIV": second, "CLKOS_CPHASE": second - 1}
        return reference / divider, reference / divider * feedback * output, parameters


@lru_cache(maxsize=4096)
def _ecp5_loop(times: int, low: int, high: int, outputs: int) -> tuple[int, int] | None:
    """CLKFB_DIV from ``low..high`` and CLKOP_DIV with a given product; the slowest CLKOP there is."""
    return next(((feedback, times // feedback) for feedback in range(low, high + 1)
                 if times % feedback == 0 and times // feedback <= outputs), None)


class Ice40(Family):
    """SB_PLL40_*, feedback SIMPLE: oscillator = detector * (DIVF + 1), output = oscillator / 2**DIVQ.

    DIVF may be up to 127: the usage guide's 63 holds for the other feedback paths.
    """

    limits = Limits.of("iCE40 UltraPlus: Lattice FPGA-DS-02008; ranges of DIVF and FILTER_RANGE as in icepll",
                       (10, 133), (10, 133), (533, 1066), (16, 275))

    def candidates(self, reference: Fraction, wanted: Fraction) -> Iterator[Candidate]:
        low, high = self.limits.output
        for divider, detector in self.references(reference, 16):
            feedbacks = _multiples(detector, self.limits.oscillator, 1, 128)
            for power in range(1, 7):
                for feedback in _around(wanted * 2**power / detector, *feedbacks):
                    if low <= detector * feedback / 2**power <= high:
                        yield Candidate(feedback, divider * 2**power, (divider, -feedback), (divider, feedback, power))

    def finish(self, reference: Fraction, best: Candidate) -> tuple[Fraction, Fraction, dict[str, Any]]:
        divider, feedback, power = best.dividers
        detector = reference / divider
        filter_range = 1 + sum(detector >= edge for edge in (17, 26, 44, 66, 101))
        return detector, detector * feedback, {"DIVR": divider - 1, "DIVF": feedback - 1, "DIVQ": power,
                                               "FILTER_RANGE": filter_range}


class Gowin(Family):
    """rPLL of the GW1NR-9C: output = detector * (FBDIV_SEL + 1), oscillator = output * ODIV_SEL."""

    limits = Limits.of("GW1NR-9C C6/I5: Gowin DS117", (3, 400), (3, 400), (400, 1200), (3.125, 600))
    outputs = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)

    def candidates(self, reference: Fraction, wanted: Fraction) -> Iterator[Candidate]:
        low, high = self.limits.oscillator
        for divider, detector in self.references(reference, 64):
            for feedback in _around(wanted / detector, *_multiples(detector, self.limits.output, 1, 64)):
                output = max(n for n in self.outputs if low <= detector * feedback * n <= high)
                yield Candidate(feedback, divider, (divider,), (divider, feedback, output))

    def finish(self, reference: Fraction, best: Candidate) -> tuple[Fraction, Fraction, dict[str, Any]]:
        divider, feedback, output = best.dividers
        return reference / divider, reference / divider * feedback * output, {
            "FCLKIN": mhz(reference), "DEVICE": "GW1NR-9C", "IDIV_SEL": divider - 1, "FBDIV_SEL": feedback - 1,
            "ODIV_SEL": output}


class Mmcm(Family):
    """MMCME2_BASE and MMCME4_BASE: multiplier and output divider in eighths; an output divider is 1, or 2 and more."""

    def __init__(self, limits: Limits, multiplier: int):
        self.limits, self.multiplier = limits, multiplier

    def candidates(self, reference: Fraction, wanted: Fraction) -> Iterator[Candidate]:
        for divider, detector in self.references(reference, 106):
            first, last = _multiples(detector / 8, self.limits.oscillator, 16, 8 * self.multiplier)
            ratio = detector / wanted
            for times in range(first, last + 1):
                low, high = _between(detector, self.limits.output, times, 8, 1024)
                outputs = _around(ratio, low, high, times=times)
                if outputs and min(outputs) < 16:
                    outputs = {n for n in (8, 16) if low <= n <= high}
                for output in outputs:
                    fractional = times % 8 != 0 or output % 8 != 0
                    yield Candidate(times, divider * output, (fractional, divider, -times), (divider, times, output))

    def finish(self, reference: Fraction, best: Candidate) -> tuple[Fraction, Fraction, dict[str, Any]]:
        divider, times, output = best.dividers
        # The period in whole picoseconds, as the tools keep it.
        return reference / divider, reference / divider * times / 8, {
            "CLKIN1_PERIOD": float(round(1000 / reference, 3)), "DIVCLK_DIVIDE": divider,
            "CLKFBOUT_MULT_F": times / 8, "CLKOUT0_DIVIDE_F": output / 8}


FAMILIES: dict[str, Family] = {
    "ecp5": Ecp5(),
    "ice40": Ice40(),
    "gowin": Gowin(),
    "xilinx7": Mmcm(Limits.of("Artix-7 speed grade -1: AMD DS181, UG472",
                              (10, 800), (10, 450), (600, 1200), (4.69, 800)), 64),
    "ultrascale+": Mmcm(Limits.of("UltraScale+ speed grade -2: AMD DS923, DS925, UG572",
                                  (10, 933), (10, 500), (800, 1600), (6.25, 775)), 128),
}
