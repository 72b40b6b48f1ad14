"""Settings of the clock generators of FPGAs: the dividers that come nearest to a wanted frequency.

::

    input ──► ÷ reference ──► phase detector ──► oscillator (VCO) ──► ÷ output ──► clock
                                   ▲                    │
                                   └──── ÷ feedback ◄───┘

All arithmetic is exact. Every setting inside the data sheet's limits counts; of those equally near

1. the slower clock comes before the faster one,
2. then whole dividers before fractional ones (Xilinx), and the first output before the second (ECP5),
3. then the highest frequency at the phase detector: least jitter,
4. then the oscillator as the vendor's tool chooses it: nearest to 600 MHz (ECP5), else the highest.

The limits are those of the generator; what the clock network and the logic behind it bear, timing analysis says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from bitkiln.models.errors import BitkilnError, nearest

from .pll_families import FAMILIES, Range, mhz

__all__ = ["PllSettings", "pll_settings"]


@dataclass(frozen=True)
class PllSettings:
    """One clock generator, set.

    Attributes
    ----------
    family : str
        Key of `FAMILIES`.
    input_mhz, requested_mhz : Fraction
        As asked for.
    output_mhz, detector_mhz, vco_mhz : Fraction
        What comes out, exactly; at the phase detector; of the oscillator.
    parameters : mapping
        Those parameters of the primitive that depend on the frequencies. `bitkiln.boards.clocking` adds the others.
    """

    family: str
    input_mhz: Fraction
    requested_mhz: Fraction
    output_mhz: Fraction
    detector_mhz: Fraction
    vco_mhz: Fraction
    parameters: Mapping[str, int | float | str] = field(hash=False)

    @property
    def error_ppm(self) -> float:
        """Distance from the frequency asked for, in millionths of it; positive when the clock is faster."""
        return float((self.output_mhz / self.requested_mhz - 1) * 1_000_000)

    def __str__(self) -> str:
        error = "" if self.output_mhz == self.requested_mhz else \
            f" ({self.error_ppm:+.0f} ppm of {mhz(self.requested_mhz)})"
        return (f"{mhz(self.input_mhz)} -> {mhz(self.output_mhz)} MHz{error}, "
                f"phase detector {mhz(self.detector_mhz)} MHz, VCO {mhz(self.vco_mhz)} MHz")


def pll_settings(family: str, input_mhz: float | str | Fraction, output_mhz: float | str | Fraction,
                 tolerance: float = 0.001) -> PllSettings:
    """The settings whose output is nearest to the wanted frequency.

    Parameters
    ----------
    family : str
        ``ecp5``, ``ice40``, ``gowin`` (GW1NR-9C), ``xilinx7`` (Artix-7) or ``ultrascale+``.
    input_mhz, output_mhz : float, str or Fraction
        A float means the decimal number it is written as: 33.3 is 333/10; ``"100/3"`` is a third exactly.
    tolerance : float
        Largest error accepted, relative to ``output_mhz`` (0.001 is 1,000 ppm; 0 asks for the exact frequency).

    Raises
    ------
    BitkilnError
        Unknown family, a frequency out of range, or nothing near enough: then the nearest frequencies are named.
    """
    if family not in FAMILIES:
        raise BitkilnError("unknown family", where="clock generator", got=str(family), expected=", ".join(FAMILIES),
                           help=nearest(family, FAMILIES))
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        raise BitkilnError("out of range", where="tolerance of the clock", got=tolerance, expected="0 to below 1")
    spec = FAMILIES[family]
    reference = _frequency(input_mhz, f"input of the {family} clock generator", spec.limits.input)
    wanted = _frequency(output_mhz, f"output of the {family} clock generator", spec.limits.output)

    # Errors are compared as whole numbers: output - wanted = (scale * up - goal * down) / (down * a constant).
    scale, goal = reference.numerator * wanted.denominator, wanted.numerator * reference.denominator
    best, best_error, best_rank = None, 0, ()
    for candidate in spec.candidates(reference, wanted):
        error = scale * candidate.up - goal * candidate.down
        rank = (error > 0, *candidate.rank)
        if best is not None:
            mine, other = abs(error) * best.down, best_error * candidate.down
            if mine > other or (mine == other and rank >= best_rank):
                continue
        best, best_error, best_rank = candidate, abs(error), rank
    if best is None or abs(reference * best.up / best.down - wanted) > Fraction(str(tolerance)) * wanted:
        raise _unreachable(family, reference, wanted, tolerance)
    detector, vco, parameters = spec.finish(reference, best)
    return PllSettings(family, reference, wanted, reference * best.up / best.down, detector, vco, parameters)


def _unreachable(family: str, reference: Fraction, wanted: Fraction, tolerance: float) -> BitkilnError:
    reached = {reference * c.up / c.down for c in FAMILIES[family].candidates(reference, wanted)}
    around = [max((f for f in reached if f < wanted), default=None),
              min((f for f in reached if f > wanted), default=None)]
    near = " and ".join(f"{mhz(f)} MHz" for f in around if f is not None)
    return BitkilnError("clock not reachable", where=f"{family} clock generator at {mhz(reference)} MHz",
                        got=f"{mhz(wanted)} MHz", expected=f"a frequency within {tolerance * 100:g} %",
                        help=f"nearest: {near}" if near else "choose another frequency")


def _frequency(value: object, where: str, allowed: Range) -> Fraction:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = value if isinstance(value, Fraction) else Fraction(str(value))
    except (TypeError, ValueError, ZeroDivisionError):
        raise BitkilnError("not a frequency", where=where, got=str(value), expected="a number of MHz") from None
    if not allowed[0] <= number <= allowed[1]:
        raise BitkilnError("out of range", where=where, got=f"{mhz(number)} MHz",
                           expected=f"{mhz(allowed[0])} to {mhz(allowed[1])} MHz")
    return number
