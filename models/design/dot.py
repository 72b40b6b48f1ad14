"""Parameters of the dot-product unit, shared by RTL, golden model, benches and cost entries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import BitkilnError, nearest
from ..formats import Format, Minifloat, get_format
from .checks import check_integer

__all__ = ["Accumulator", "DotDesign", "parse_pe", "ACCUMULATORS", "MAX_LANES", "MAX_PIPELINE"]

ACCUMULATORS = ("exact", "fp32", "int32")
MULTIPLIERS = ("chains", "luts", "operator")
MAX_LANES = 64
MAX_PIPELINE = 6
MAX_ACCUMULATOR_BITS = 2048


@dataclass(frozen=True)
class Accumulator:
    """How products are summed (DESIGN 4, 'Accumulator sizing').

    Parameters
    ----------
    kind : str
        ``exact``: two's complement fixed point in units of the product's least bit; ``fp32``: each cycle
        ``RNE(acc + exact sum of the lane products)``; ``int32``: integer formats only, 32 bits.
    depth : int
        Number of products (over all lanes) that an exact sum holds without overflow.
    bits : int, optional
        Overrides the exact width. Below the width that ``depth`` needs it wraps, and a sticky
        ``overflow`` flag is added.
    overflow : str
        ``wrap`` (default) or ``saturate``; ``saturate`` for ``int32`` only.
    """

    kind: str = "exact"
    depth: int = 1024
    bits: int | None = None
    overflow: str = "wrap"

    def __post_init__(self):
        if self.kind not in ACCUMULATORS:
            raise BitkilnError("unknown accumulator", where="accumulator.kind", got=self.kind,
                               expected="exact, fp32 or int32", help=nearest(self.kind, ACCUMULATORS))
        check_integer(self.depth, "accumulator.depth", 1, 1 << 24)
        if self.bits is not None:
            check_integer(self.bits, "accumulator.bits", 2, MAX_ACCUMULATOR_BITS)
            if self.kind != "exact":
                raise BitkilnError("contradictory options", where="accumulator.bits", got=self.bits,
                                   expected=f"no width with kind {self.kind} (it is 32 bits)")
        if self.overflow not in ("wrap", "saturate"):
            raise BitkilnError("unknown overflow rule", where="accumulator.overflow", got=self.overflow,
                               expected="wrap or saturate", help=nearest(self.overflow, ("wrap", "saturate")))
        if self.overflow == "saturate" and self.kind != "int32":
            raise BitkilnError("contradictory options", where="accumulator.overflow", got="saturate",
                               expected=f"wrap with kind {self.kind}; only int32 saturates")


def parse_pe(name: str) -> tuple[Format, Format]:
    """Activation and weight format of a PE name (DESIGN 4, 'PE names').

    An exact registry name wins; else the name is split at an ``x`` where both halves are registered.
    A weight-only type alone (``nf4``, ``bitmod4_er_pos``, ...) takes fp16 activations.
    """
    from ..formats import format_names, is_weight_only

    if not isinstance(name, str) or not name:
        raise BitkilnError("unknown PE", where="PE", got=name, expected="a format name or AxW")
    key = name.strip().lower()
    try:
        alone = get_format(key)
        return (get_format("fp16"), alone) if is_weight_only(alone) else (alone, alone)
    except BitkilnError as error:
        first = error
    for at, character in enumerate(key):
        if character == "x" and 0 < at < len(key) - 1:
            try:
                return get_format(key[:at]), get_format(key[at + 1:])
            except BitkilnError as error:
                # The first half that is a known kind of name with a wrong number says most.
                first = error if first.what == "unknown format" else first
    if first.what != "unknown format":
        raise first
    choices = [*format_names(), "int8xfp4", "int8xternary", "fp8_e4m3xfp4", "bf16xint4"]
    raise BitkilnError("unknown PE", where="PE", got=name, expected="a format name or AxW (activation x weight)",
                       help=nearest(key, choices, all_by="bitkiln formats"))


def _all_finite(fmt: Format) -> Format:
    """The minifloat whose special codes are ordinary numbers; other families as they are."""
    if fmt.family != "minifloat" or not fmt.has_nan or fmt.bits > 16:
        return fmt
    return Minifloat(fmt.exponent_bits, fmt.mantissa_bits, fmt.bias, specials="none", signed=fmt.signed,
                     name=f"{fmt.name}_finite")


@dataclass(frozen=True)
class DotDesign:
    """One multi-lane dot-product unit.

    Every cycle with ``en`` the products of all lanes are summed into one accumulator.

    Parameters
    ----------
    activation, weight : Format or str
        Operand formats.
    lanes : int
        Products per cycle, 1..64.
    accumulator : Accumulator
    pipeline : int
        Register stages between the operands and the accumulator, 0..6.
    output : Format or str, optional
        Rounds the accumulator into this format once, on port ``o``.
    specials : bool
        Without them there are no flag ports and a minifloat's special codes are the finite numbers that their
        bits spell (size comparisons with peers that have no NaN logic). NaR still adds nothing.
    multiplier : str
        ``chains`` (default): rows of a signed multiplier are added by carry chains, the fewest cells; ``luts``: all
        but the last by LUTs, where carry cells are scarce; ``operator``: left to the synthesis tool, which may
        use DSP blocks.
    """

    activation: Format
    weight: Format
    lanes: int = 4
    accumulator: Accumulator = field(default_factory=Accumulator)
    pipeline: int = 0
    output: Format | None = None
    specials: bool = True
    multiplier: str = "chains"

    def __post_init__(self):
        for key in ("activation", "weight", "output"):
            value = getattr(self, key)
            if isinstance(value, str):
                object.__setattr__(self, key, get_format(value, where=key))
        if not self.specials:
            for key in ("activation", "weight"):
                object.__setattr__(self, key, _all_finite(getattr(self, key)))
        check_integer(self.lanes, "lanes", 1, MAX_LANES)
        check_integer(self.pipeline, "pipeline", 0, MAX_PIPELINE)
        if self.multiplier not in MULTIPLIERS:
            raise BitkilnError("unknown multiplier", where="multiplier", got=self.multiplier,
                               expected="chains, luts or operator", help=nearest(self.multiplier, MULTIPLIERS))
        if self.accumulator.kind == "int32" and self.product_exponent != 0:
            raise BitkilnError("contradictory options", where="accumulator.kind", got="int32",
                               expected="integer formats on both sides, or kind exact")
        if self.output is not None:
            fp32 = self.accumulator.kind == "fp32"
            if self.output.family == "codebook" or (fp32 and self.output.name != "fp32"):
                rule = "fp32 (an fp32 accumulator is its own output)" if fp32 else "no codebook format"
                raise BitkilnError("no output stage for this format", where="output", got=self.output.name,
                                   expected=rule, help="leave output out and round the raw accumulator later")
        if self.accumulator.kind == "exact" and self.accumulator_bits > MAX_ACCUMULATOR_BITS:
            raise BitkilnError("accumulator too wide", where="accumulator", got=self.accumulator_bits,
                               expected=f"at most {MAX_ACCUMULATOR_BITS} bits", help="use kind: fp32")

    @classmethod
    def from_pe(cls, name: str, **options) -> DotDesign:
        """The default unit of a PE name: exact sums, or fp32 where an operand is bf16 or fp16 (exact would
        be hundreds of bits wide), then with one lane unless asked otherwise: an exact sum of several lanes
        before one float32 rounding takes eight times the LUTs (docs/microarchitecture.md)."""
        activation, weight = parse_pe(name)
        if {"bf16", "fp16", "fp32"} & {activation.name, weight.name}:
            options.setdefault("accumulator", Accumulator(kind="fp32"))
            if options["accumulator"].kind == "fp32":
                options.setdefault("lanes", 1)
        return cls(activation, weight, **options)

    def with_options(self, **options) -> DotDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    # Widths ------------------------------------------------------------------------------------

    @cached_property
    def product_exponent(self) -> int:
        """Weight of the product's least bit is ``2**product_exponent``."""
        return self.activation.unit_exponent + self.weight.unit_exponent

    @cached_property
    def max_product(self) -> int:
        """Largest magnitude of a product, in units of the product's least bit."""
        return self.activation.max_units * self.weight.max_units

    @cached_property
    def product_bits(self) -> int:
        """Bits of the magnitude of one product."""
        return self.max_product.bit_length()

    @cached_property
    def exact_bits(self) -> int:
        """Signed width that holds ``depth`` products of any sign (DESIGN 4)."""
        return 1 + (self.accumulator.depth * self.max_product).bit_length()

    @property
    def accumulator_bits(self) -> int:
        """Width of the ``acc`` port."""
        if self.accumulator.kind != "exact":
            return 32
        return self.accumulator.bits or self.exact_bits

    # Flags: each is a sticky port that exists only when it can ever be set -----------------------

    @property
    def nan_possible(self) -> bool:
        """A product can be NaN/NaR (also Inf x 0)."""
        return self.activation.has_nan or self.weight.has_nan or self.inf_possible

    @property
    def inf_possible(self) -> bool:
        """A product can be infinite."""
        return self.activation.has_inf or self.weight.has_inf

    @property
    def has_nan(self) -> bool:
        """Port ``nan`` exists (an fp32 accumulator holds NaN and infinities in its own code)."""
        return self.specials and self.nan_possible and self.accumulator.kind != "fp32"

    @property
    def has_inf(self) -> bool:
        """Ports ``inf_pos`` and ``inf_neg`` exist."""
        return self.specials and self.inf_possible and self.accumulator.kind != "fp32"

    @property
    def has_illegal(self) -> bool:
        return self.specials and (self.activation.has_illegal or self.weight.has_illegal)

    @property
    def has_overflow(self) -> bool:
        """The accumulator can overflow within ``depth`` products."""
        kind = self.accumulator.kind
        if kind == "fp32":
            return False
        return self.accumulator_bits < self.exact_bits

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the flag ports that this design has."""
        flags = ("nan",) * self.has_nan + ("inf_pos", "inf_neg") * self.has_inf
        return flags + ("illegal",) * self.has_illegal + ("overflow",) * self.has_overflow

    @property
    def latency(self) -> int:
        """Clock edges from operands with ``en`` to their sum on ``acc`` (and on ``o``, which is combinational)."""
        return 1 + self.pipeline

    @property
    def pe_name(self) -> str:
        a, w = self.activation.name, self.weight.name
        return a if a == w else f"{a}x{w}"

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        acc = self.accumulator
        kind = f"exact{self.accumulator_bits}" if acc.kind == "exact" else acc.kind
        parts = ["dot", self.pe_name, f"l{self.lanes}", kind]
        if acc.kind == "exact" and self.has_overflow:
            parts.append("ovf")
        if acc.overflow == "saturate":
            parts.append("sat")
        if self.pipeline:
            parts.append(f"p{self.pipeline}")
        if self.output is not None:
            parts.append(f"to_{self.output.name}")
        if not self.specials:
            parts.append("nospecials")
        if self.multiplier != "chains":
            parts.append(self.multiplier)
        return "_".join(parts)
