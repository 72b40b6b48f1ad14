"""Parameters of the bit-serial engine, shared by RTL, golden model, benches and cost entries.

Units of everything exact: an activation is an integer times ``2**activation.unit_exponent``, a weight one times
``2**weight_exponent`` (the least of the configured types), a group sum one times their product's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import BitkilnError, nearest
from ..formats import Format, get_format
from .checks import check_integer
from .weights import BITMOD_TYPES, WeightType, weight_type

__all__ = ["ACTIVATIONS", "SCALES", "BitSerialDesign", "is_serial_pe", "split_serial_pe"]

ACTIVATIONS = ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8")
ACCUMULATIONS = ("exact", "aligned", "floating")
SCALES = ("uint8", "uint6", "uint4", "none", "e8m0", "ue4m3", "ue5m3")
PLACEMENTS = ("edge", "pe")
ROUNDINGS = ("trunc", "rne")
OUTPUTS = ("fp32", "raw")
MAX_LANES, MAX_SIDE, MAX_GROUP, MAX_GROUPS = 16, 64, 1024, 1 << 16


@dataclass(frozen=True)
class BitSerialDesign:
    """Rows x columns of bit-serial processing elements with their dequantisers (after BitMoD, arXiv 2411.11745).

    Parameters
    ----------
    weights : tuple of WeightType or str
        Types that a group can have; its place in the tuple is the type selector in the stream.
    activation : Format or str
        fp16, bf16, fp8_e4m3, fp8_e5m2 or int8.
    lanes : int
        Products of a PE that take one term in the same cycle, 1..16.
    rows, columns : int
        Rows share weights (each has activations of its own), columns share activations (each has weights, types
        and scales of its own).
    accumulate : str
        ``exact``: a fixed-point sum that cannot round; ``aligned``: activations are aligned to the largest of their
        group so far, once for all columns, and lose what falls below ``guard`` bits (small, rounding); ``floating``:
        each PE aligns its products of a cycle to the largest of them and adds them to a short normalised sum, as
        BitMoD's PE does (section IV-B); the sum depends on lanes, chunks and the order of terms.
    guard, rounding : int, str
        Of ``aligned`` and ``floating``: bits kept below the significand of the largest activation (product); the rest
        is cut off (``trunc``, towards zero) or rounded to nearest even (``rne``).
    mantissa : int
        Of ``floating``: bits of the sum, sign included, 8..32.
    scale : str
        Of a group: ``uint8``, ``uint6``, ``uint4`` (integers beside a scale of the channel), ``none``, ``e8m0``,
        ``ue4m3``, ``ue5m3``.
    group : int
        Longest group; any length from 1 up to it at run time.
    groups : int
        Most groups of one channel (integer scales and ``none`` are summed over a channel without rounding).
    zero_point : int
        Bits of a group's signed zero-point, 0 for none.
    dual_scale : bool
        A second scale for negative weights (AFPQ, arXiv 2311.01792).
    zero_skip : bool
        A chunk takes as many cycles as its weights need, at least one, instead of its type's.
    specials : bool
        NaN and infinities of activations and scales are tracked; without it their codes are finite numbers.
    placement : str or None
        Where ``exact`` activations become fixed point: ``edge``, once a row, or ``pe``, in one shifter with the term's
        (fewer LUTs where terms move far, more gates elsewhere; docs/microarchitecture.md). None: the smaller on FPGAs.
    pipeline : int
        Register stages inside the PE before the accumulator, 0..2.
    output : str
        ``fp32``: each result rounded once to nearest even; ``raw``: mantissa, exponent and flags as they are.
    """

    weights: tuple[WeightType, ...]
    activation: Format = "fp16"  # type: ignore[assignment]
    lanes: int = 4
    rows: int = 1
    columns: int = 1
    accumulate: str | None = None
    guard: int = 3
    rounding: str = "trunc"
    mantissa: int = 15
    scale: str = "uint8"
    group: int = 128
    groups: int = 64
    zero_point: int = 0
    dual_scale: bool = False
    zero_skip: bool = False
    specials: bool = True
    placement: str | None = None
    pipeline: int = 1
    output: str = "fp32"

    def __post_init__(self):
        given = self.weights if isinstance(self.weights, (tuple, list)) else (self.weights,)
        types = tuple(w if isinstance(w, WeightType) else weight_type(w, where=f"weights[{i}]")
                      for i, w in enumerate(given))
        object.__setattr__(self, "weights", types)
        names = [t.name for t in types]
        if not types or len(set(names)) != len(names):
            raise BitkilnError("missing weight type" if not types else "weight type named twice", where="weights",
                               got=", ".join(names), expected="one or more different types")
        if len(types) > 8:
            raise BitkilnError("too many weight types", where="weights", got=len(types), expected="at most 8")
        fmt = get_format(self.activation, where="activation")
        if fmt.name not in ACTIVATIONS:
            raise BitkilnError("no bit-serial PE for this activation", where="activation", got=fmt.name,
                               expected=", ".join(ACTIVATIONS), help=nearest(fmt.name, ACTIVATIONS))
        object.__setattr__(self, "activation", fmt)
        if self.accumulate is None:
            object.__setattr__(self, "accumulate", "aligned" if fmt.name == "bf16" else "exact")
        # Measured on ECP5: up to four places a lane costs the same either way, and the row's shifters are shared.
        if self.placement is None:
            far = self.accumulate == "exact" and self.max_exponent > 0 and self.max_shift > 4
            object.__setattr__(self, "placement", "pe" if far or self.accumulate == "floating" else "edge")
        elif self.placement == "pe" and (self.accumulate == "aligned" or not self.max_exponent):
            raise BitkilnError("contradictory options", where="placement", got="pe",
                               expected="edge, but for exact sums of activations with exponents")
        elif self.placement == "edge" and self.accumulate == "floating":
            raise BitkilnError("contradictory options", where="placement", got="edge",
                               expected="pe with accumulate: floating")
        for key, choices in (("placement", PLACEMENTS), ("accumulate", ACCUMULATIONS), ("rounding", ROUNDINGS),
                             ("scale", SCALES), ("output", OUTPUTS)):
            if getattr(self, key) not in choices:
                raise BitkilnError(f"unknown {key}", where=key, got=getattr(self, key), expected=", ".join(choices),
                                   help=nearest(str(getattr(self, key)), choices))
        for key, low, high in (("lanes", 1, MAX_LANES), ("rows", 1, MAX_SIDE), ("columns", 1, MAX_SIDE),
                               ("guard", 0, 16), ("mantissa", 8, 32), ("group", 1, MAX_GROUP),
                               ("groups", 1, MAX_GROUPS), ("zero_point", 0, 8), ("pipeline", 0, 2)):
            check_integer(getattr(self, key), key, low, high)
        if self.accumulate != "exact":
            if fmt.name == "int8":
                raise BitkilnError("contradictory options", where="accumulate", got=self.accumulate,
                                   expected="exact with int8 activations: they have no exponent to align")
            for key in ("zero_point", "dual_scale"):
                if getattr(self, key):
                    raise BitkilnError("contradictory options", where=key, got=getattr(self, key),
                                       expected=f"none with accumulate: {self.accumulate}",
                                       help="the exact accumulator has it")
        elif fmt.name == "bf16":
            raise BitkilnError("accumulator too wide", where="accumulate", got="exact with bf16 (about 300 bits)",
                               expected="aligned or floating")
        if not self.scale.startswith("uint") and (self.zero_point or self.dual_scale):
            raise BitkilnError("contradictory options", where="scale", got=self.scale,
                               expected="uint8, uint6 or uint4: zero_point and dual_scale act in its phase")
        if self.zero_point and self.dual_scale:
            raise BitkilnError("contradictory options", where="dual_scale", got="true",
                               expected="false with a zero_point")

    def with_options(self, **options) -> BitSerialDesign:
        """A copy with some parameters changed; where activations are placed is chosen anew."""
        return replace(self, **{"placement": None, **options})

    # Units and widths ----------------------------------------------------------------------------

    @cached_property
    def weight_exponent(self) -> int:
        """Weights are integers in units of ``2**weight_exponent``, whatever their type."""
        return min(t.unit_exponent for t in self.weights)

    def offset(self, index: int) -> int:
        """Places that the units of type ``index`` stand above the common ones."""
        return self.weights[index].unit_exponent - self.weight_exponent

    @cached_property
    def max_shift(self) -> int:
        """Largest shift of any term, in common units."""
        return max(t.shifts + self.offset(i) for i, t in enumerate(self.weights))

    @cached_property
    def max_terms(self) -> int:
        return max(t.terms for t in self.weights)

    @cached_property
    def max_weight(self) -> int:
        """Largest magnitude of a weight, in common units."""
        return max(t.max_units << self.offset(i) for i, t in enumerate(self.weights))

    @cached_property
    def max_difference(self) -> int:
        """Largest magnitude of a weight less its zero-point, in common units."""
        if not self.zero_point:
            return self.max_weight
        half = 1 << self.zero_point - 1
        found = []
        for i, t in enumerate(self.weights):
            values = [v or 0 for v in t.values] + ([-t.max_units, t.max_units] if t.special_code is not None else [])
            found += [(max(values) << self.offset(i)) + (half << self.zero_shift),
                      (half - 1 << self.zero_shift) - (min(values) << self.offset(i))]
        return max(found)

    @property
    def code_bits(self) -> int:
        """Bits of a weight code's field: the widest type's."""
        return max(t.bits for t in self.weights)

    @property
    def significand_bits(self) -> int:
        """Of an activation's magnitude: hidden bit included; 8 for int8 (-128)."""
        return 8 if self.activation.family == "int" else self.activation.mantissa_bits + 1

    @property
    def max_exponent(self) -> int:
        """Largest place of an activation's significand, ``max(field, 1) - 1``; 0 for int8."""
        if self.activation.family == "int":
            return 0
        top = (1 << self.activation.exponent_bits) - 1
        return top - 1 - (self.specials and self.activation.has_inf)

    @property
    def exponent_bits(self) -> int:
        """Of the place of an activation's significand."""
        return self.max_exponent.bit_length()

    @cached_property
    def max_place(self) -> int:
        """Largest place of a group that is a result of its own; 0 for ``exact``."""
        if self.accumulate != "floating":
            return self.max_exponent if self.accumulate == "aligned" else 0
        # All steps' largest sums together outgrow the sum's bits by so many places; each step also rounds down, by less
        # than two of the last units, and 2**(mantissa - 2) units lie between one place and the next.
        steps = self.group * self.max_terms
        grown = (self.max_step_sum * steps).bit_length() - (self.mantissa - 2)
        return self.max_exponent + self.max_shift + max(grown, 0) + -(-2 * steps >> self.mantissa - 2)

    @cached_property
    def max_step_sum(self) -> int:
        """``floating``: largest magnitude of a step's aligned sum."""
        return self.max_operand * self.lanes

    @cached_property
    def max_activation(self) -> int:
        """Largest magnitude of an activation, in its units."""
        if self.activation.family == "int":
            return 128
        # The top significand of fp8_e4m3's top exponent is NaN.
        nan = self.specials and self.activation.has_nan and not self.activation.has_inf
        return ((1 << self.significand_bits) - 1 - nan) << self.max_exponent

    @property
    def product_exponent(self) -> int:
        """A group sum is an integer times ``2**product_exponent``."""
        return self.activation.unit_exponent + self.weight_exponent

    @property
    def scale_bits(self) -> int:
        """Bits of the scale's integer: what is multiplied bit by bit."""
        if self.scale in ("none", "e8m0"):
            return 0
        return 4 if self.scale in ("ue4m3", "ue5m3") else int(self.scale.removeprefix("uint"))

    @property
    def scale_code_bits(self) -> int:
        """Bits of a scale in the stream."""
        return {"none": 0, "e8m0": 8, "ue4m3": 7, "ue5m3": 8}.get(self.scale, self.scale_bits)

    @property
    def floating_scale(self) -> bool:
        """Whether scales have exponents: each group is then a result of its own."""
        return self.scale in ("e8m0", "ue4m3", "ue5m3")

    @property
    def sums_channel(self) -> bool:
        """Whether groups of a channel are summed exactly inside the PE."""
        return self.accumulate == "exact" and not self.floating_scale

    @property
    def operand_bits(self) -> int:
        """Of an activation's magnitude as the PE adds it: fixed point, or aligned with its guard bits."""
        if self.accumulate == "exact":
            return self.significand_bits + self.max_exponent
        return self.significand_bits + self.guard

    @cached_property
    def max_operand(self) -> int:
        """Largest magnitude of an activation as the PE adds it."""
        if self.accumulate == "exact":
            return self.max_activation
        top = ((1 << self.significand_bits) - 1) << self.guard
        return top

    @cached_property
    def sum_bits(self) -> int:
        """Signed width of a group sum."""
        if self.accumulate == "floating":
            return self.mantissa
        length = self.group * (self.groups if self.scale == "none" and self.sums_channel else 1)
        return 1 + (self.max_operand * self.max_weight * length).bit_length()

    @cached_property
    def max_scaled(self) -> int:
        """Largest magnitude of a scaled group sum, zero-point included."""
        if self.accumulate == "floating":
            return ((1 << self.mantissa - 1) - 1) * ((1 << self.scale_bits) - 1)
        return self.max_operand * self.group * self.max_difference * ((1 << self.scale_bits) - 1)

    @cached_property
    def result_bits(self) -> int:
        """Signed width of the integer behind a result."""
        if not self.scale_bits:
            return self.sum_bits
        return 1 + (self.max_scaled * (self.groups if self.sums_channel else 1)).bit_length()

    @property
    def result_exponent(self) -> int:
        """A result is its integer times ``2**result_exponent`` (not ``exact``: times two to the group's place too;
        floating scales: times two to the scale's exponent)."""
        fraction = self.scale_mantissa_bits if self.floating_scale else 0
        return self.product_exponent - fraction - (self.guard if self.accumulate != "exact" else 0)

    @property
    def result_exponents(self) -> tuple[int, int]:
        """Least and largest of the powers of two that come to ``result_exponent`` at run time (NaN scales apart)."""
        ranges = {"e8m0": (-127, 127 + (not self.specials)), "ue4m3": (-6, 8), "ue5m3": (-14, 16)}
        low, high = ranges.get(self.scale, (0, 0))
        return low, high + self.max_place

    @property
    def scale_mantissa_bits(self) -> int:
        """Fraction bits of a floating scale's significand."""
        return 3 if self.scale in ("ue4m3", "ue5m3") else 0

    @property
    def zero_shift(self) -> int:
        """Zero-points are integers in units of one: places above the common units of weights."""
        return max(-self.weight_exponent, 0)

    # Cycles --------------------------------------------------------------------------------------

    @property
    def scale_cycles(self) -> int:
        """Cycles of the serial scale phase (reference: arXiv 2411.11745, section IV-C; two scales take two passes)."""
        if not self.scale_bits:
            return 0
        return self.scale_bits * (2 if self.dual_scale else 1) + self.zero_point

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        parts = ["bitserial", self.activation.name, *(t.name for t in self.weights),
                 f"{self.rows}x{self.columns}", f"l{self.lanes}"]
        short = f"{self.mantissa}_" if self.accumulate == "floating" else ""
        parts.append("exact" if self.accumulate == "exact" else f"{self.accumulate}{short}{self.guard}_{self.rounding}")
        parts.append(f"s{self.scale}")
        parts.append(f"g{self.group}x{self.groups}")
        for t in self.weights:
            if t.special_code is not None:
                default = weight_type(t.name).specials if t.name in ("bitmod3", "bitmod4") else None
                if t.specials != default or t.max_terms != 2:
                    parts.append(f"sv{t.terms}" + "".join(f"_{'m' if v < 0 else ''}{abs(v)}" for v in t.specials))
        parts += [f"z{self.zero_point}"] if self.zero_point else []
        parts += [word for word, on in (("dual", self.dual_scale), ("skip", self.zero_skip),
                                        ("nospecials", not self.specials), ("raw", self.output == "raw")) if on]
        return "_".join([*parts, f"{'pe' if self.placement == 'pe' else 'p'}{self.pipeline}"])


def split_serial_pe(name: str) -> tuple[str, str]:
    """Activation and weight type of a PE name: ``bitmod4`` (with fp16), ``int8xbitmod3``, ``fp16xint4``."""
    key = name.strip().lower()
    for activation in ACTIVATIONS:
        if key.startswith(f"{activation}x"):
            return activation, key.removeprefix(f"{activation}x")
    return "fp16", key


def is_serial_pe(name: object) -> bool:
    """Whether only the bit-serial engine has the weight type of a PE name."""
    return isinstance(name, str) and split_serial_pe(name)[1] in BITMOD_TYPES
