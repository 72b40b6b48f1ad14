"""The roofline of a workload: fewest cycles that arithmetic and every memory or bus allow, and which of them it is.

After S. Williams, A. Waterman and D. Patterson, "Roofline", CACM 52(4), 2009, with a roof for each tier. Numbers are
kept exact: no engine is faster than ``cycles``, not by a part of a cycle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational

from ...errors import BitkilnError, nearest

__all__ = ["COMPUTE", "FLOPS_PER_MAC", "Roofline", "decode_intensity", "roofline"]

COMPUTE = "compute"
FLOPS_PER_MAC = 2
Number = int | float | Rational


@dataclass(frozen=True)
class Roofline:
    """A workload under the roofs of an engine.

    Attributes
    ----------
    bounds : dict of str to Fraction
        Cycles that each roof asks for: ``compute`` and the tiers.
    macs_per_byte : dict of str to float
        Intensity seen from each tier; infinite where nothing moves.
    ridge : dict of str to float
        MACs per byte from which on the tier is no longer the limit.
    """

    bounds: dict[str, Fraction]
    macs_per_byte: dict[str, float]
    ridge: dict[str, float]

    @property
    def cycles(self) -> int:
        """Whole cycles that no engine with these roofs beats."""
        return math.ceil(max(self.bounds.values()))

    @property
    def roof(self) -> str:
        """The lowest one: ``compute``, or a tier's name. Of equal ones the first."""
        return max(self.bounds, key=lambda name: self.bounds[name])

    @property
    def flops_per_byte(self) -> dict[str, float]:
        """A product and its addition are two operations."""
        return {name: FLOPS_PER_MAC * each for name, each in self.macs_per_byte.items()}


def _exact(value: Number, where: str, *, positive: bool) -> Fraction:
    expected = "a number above 0" if positive else "a number, 0 or more"
    if isinstance(value, bool) or not isinstance(value, (int, float, Rational)) or not math.isfinite(value):
        raise BitkilnError("not a number", where=where, got=value, expected=expected)
    if value < 0 or (positive and value == 0):
        raise BitkilnError("out of range", where=where, got=value, expected=expected)
    return Fraction(value)


def roofline(macs: Number, bytes_by_tier: Mapping[str, Number], peak_macs_per_cycle: Number,
             bytes_per_cycle_by_tier: Mapping[str, Number]) -> Roofline:
    """Bounds of a workload.

    Parameters
    ----------
    macs : number
        Useful products.
    bytes_by_tier : mapping of str to number
        What must be moved over each tier (a memory, or a bus). Parts of a byte are fine.
    peak_macs_per_cycle : number
        Above 0.
    bytes_per_cycle_by_tier : mapping of str to number
        Bandwidth of each of these tiers, above 0; further tiers play no part.

    Returns
    -------
    Roofline

    Raises
    ------
    BitkilnError
        A negative or infinite number, a tier without bandwidth, or one called ``compute``.
    """
    work, peak = _exact(macs, "macs", positive=False), _exact(peak_macs_per_cycle, "peak_macs_per_cycle", positive=True)
    bounds, intensity, ridge = {COMPUTE: work / peak}, {}, {}
    for name, amount in bytes_by_tier.items():
        if name == COMPUTE:
            raise BitkilnError("reserved name of a tier", where="bytes_by_tier", got=name, expected="another name")
        if name not in bytes_per_cycle_by_tier:
            raise BitkilnError("no bandwidth for this tier", where="bytes_per_cycle_by_tier", got=name,
                               expected=" or ".join(bytes_per_cycle_by_tier) or "an entry",
                               help=nearest(name, list(bytes_per_cycle_by_tier)))
        moved = _exact(amount, f"bytes_by_tier.{name}", positive=False)
        width = _exact(bytes_per_cycle_by_tier[name], f"bytes_per_cycle_by_tier.{name}", positive=True)
        bounds[name] = moved / width
        intensity[name] = float(work / moved) if moved else math.inf
        ridge[name] = float(peak / width)
    return Roofline(bounds, intensity, ridge)


def decode_intensity(bits_per_weight: Number) -> float:
    """FLOP per byte of weights when one token is decoded: each weight is read once and used once, ``16 / bits``.

    1 with 16-bit weights, 3.94 with 4.0625 bits (4-bit codes and 8 bits of metadata for 128 of them), 5.22 with 3.0625.
    """
    bits = _exact(bits_per_weight, "bits_per_weight", positive=True)
    return roofline(1, {"weights": bits / 8}, 1, {"weights": 1}).flops_per_byte["weights"]
