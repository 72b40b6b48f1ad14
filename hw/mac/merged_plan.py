# amaranth: UnusedElaboratable=no
"""What modes share: their classes and reachable products, and of a merged PE the hosts of its 4-bit formats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from bitkiln.models.design.morphable import Mode, MorphableDesign
from bitkiln.models.formats import Format, Special, get_format

from ..formats.minifloat import MinifloatDecoder
from ..formats.posit import _rows

__all__ = ["MergedPlan", "ModePlan", "codes_in", "fields_of", "signed_bits", "signed_reach"]

HOSTS = ("posit8_0", "int8", "fp8_e4m3", "fp8_e5m2")  # cheapest first
LANE_BITS = 8       # of a significand in a half word


@lru_cache(maxsize=32)
def fields_of(fmt: Format) -> tuple[tuple[int, int], ...]:
    """(signed significand, shift) in which the wide path gets every finite code that is not zero: value =
    significand << shift units."""
    if fmt.bits == 4:  # weights of an asymmetric mode: recoded to integers
        return tuple((int(v), 0) for v in fmt.units(np.arange(16)) if v)
    if fmt.family == "posit":
        return tuple(_rows(fmt.bits, fmt.es))
    if fmt.family == "minifloat":
        decoder = MinifloatDecoder(fmt)
        return tuple((sign * significand, shift - decoder.min_shift) for significand, shift in decoder.fields()
                     for sign in (1, -1) if significand)
    half = 1 << fmt.bits - 1
    return tuple((v, 0) for v in range(-half, half) if v)


def codes_in(fmt: Format, host: Format) -> list[int] | None:
    """Codes of ``host`` with the same number of units as the codes of ``fmt``; None where one is missing."""
    special = host.unpack(np.arange(1 << host.bits)).special
    codes = {int(v): code for code, v in reversed(list(enumerate(host.units(np.arange(1 << host.bits)))))
             if special[code] == Special.NONE}
    nans = [code for code in range(1 << host.bits) if special[code] == Special.NAN]
    table = []
    for code, units in enumerate(fmt.units(np.arange(1 << fmt.bits))):
        nan = fmt.unpack(code).special == Special.NAN
        if nan and not nans or not nan and int(units) not in codes:
            return None
        table.append(nans[0] if nan else codes[int(units)])
    return table


def signed_bits(values: Iterable[int], default: int = 1) -> int:
    """Signed width that holds all of ``values``; ``default`` where there are none."""
    return max(((~value if value < 0 else value).bit_length() + 1 for value in values), default=default)


def signed_reach(pairs: list[tuple[Format, Format]]) -> dict[int, int]:
    """Total shift -> signed width that products need with it, also where they lack their plus one."""
    out: dict[int, int] = {}
    for formats in pairs:
        spans = []
        for fmt in formats:
            by_shift: dict[int, list[int]] = {}
            for significand, shift in fields_of(fmt):
                by_shift.setdefault(shift, []).append(significand)
            spans.append({shift: (min(s), max(s)) for shift, s in by_shift.items()})
        for shift_a, a in spans[0].items():
            for shift_w, w in spans[1].items():
                width = signed_bits(i * j - owed for i in a for j in w for owed in (0, 1))
                out[shift_a + shift_w] = max(out.get(shift_a + shift_w, 1), width)
    return out


@dataclass(frozen=True)
class ModePlan:
    """What follows from the modes alone."""

    design: MorphableDesign

    def modes(self, lanes: int) -> list[Mode]:
        return [mode for mode in self.design.modes if mode.lanes == lanes]

    def formats(self, role: str, lanes: int) -> list[Format]:
        """Distinct operand formats of the modes of so many lanes."""
        return list(dict.fromkeys(getattr(mode, role) for mode in self.modes(lanes)))


class MergedPlan(ModePlan):
    """Of a PE whose modes share one multiplier and one shifter."""

    @cached_property
    def wide(self) -> list[Mode]:
        return self.modes(1)

    @cached_property
    def halves(self) -> list[Mode]:
        return self.modes(2)

    @cached_property
    def nibbles(self) -> tuple[Format, ...]:
        return tuple(mode.activation for mode in self.modes(4))

    def host(self, fmt: Format) -> Format | None:
        """The 8-bit format as which lanes 0 and 2 of a 4-bit mode are computed."""
        own = {mode.name for mode in self.halves}
        return next((get_format(name) for name in HOSTS if name in own and codes_in(fmt, get_format(name))), None)

    @cached_property
    def hosted(self) -> tuple[Format, ...]:
        """4-bit formats that take the shared multiplier in lanes 0 and 2: all or none, for a section is filled with one
        lane's sign only."""
        return self.nibbles if all(self.host(fmt) is not None for fmt in self.nibbles) else ()

    def guests(self, host: Format) -> tuple[Format, ...]:
        return tuple(fmt for fmt in self.hosted if self.host(fmt) == host)

    def alone(self, lane: int) -> tuple[Format, ...]:
        """4-bit formats with a product of their own in a lane."""
        return tuple(fmt for fmt in self.nibbles if lane % 2 or fmt not in self.hosted)

    @cached_property
    def multiplies(self) -> bool:
        return bool(self.wide or self.halves)

    @cached_property
    def wide_reach(self) -> dict[int, int]:
        return signed_reach([(mode.activation, mode.weight) for mode in self.wide])

    @cached_property
    def half_reach(self) -> dict[int, int]:
        return signed_reach([(mode.activation, mode.weight) for mode in self.halves])

    @cached_property
    def wide_bits(self) -> int:
        """Signed width of a wide significand."""
        return signed_bits((s for mode in self.wide for s, _ in fields_of(mode.activation)), LANE_BITS)

    @cached_property
    def lane_bits(self) -> int:
        """Signed width of a half's significand."""
        formats = [fmt for mode in self.halves for fmt in (mode.activation, mode.weight)]
        return signed_bits(s for fmt in formats for s, _ in fields_of(fmt))

    @cached_property
    def full(self) -> tuple[bool, bool]:
        """Whether a weight fills its digits."""
        half = any(fmt.name == "int8" for fmt in self.formats("weight", 2))
        return half, half or self.wide_bits == 16

    @cached_property
    def base(self) -> int:
        """Place of lane 1 in the shifter."""
        reach = max((mode.dot().product_bits + 1 for mode in self.halves), default=0)
        return max(reach, 32, 2 * self.wide_bits if self.wide else 0)

    def shift_bits(self, lanes: int) -> int:
        """Width of an operand's shift."""
        return max([shift.bit_length() for mode in self.modes(lanes) for fmt in (mode.activation, mode.weight)
                    for shift in (max(s for _, s in fields_of(fmt)),)], default=0)
