"""Parameters of the run-time-switchable PE, shared by RTL, golden model, benches and cost entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import BitkilnError, nearest
from ..formats import Format
from .dot import MULTIPLIERS, Accumulator, DotDesign, parse_pe

__all__ = ["COMMON_MODES", "Mode", "MorphableDesign", "WORD_BITS", "XR_NPE_MODES"]

WORD_BITS = 16
OPERAND_BITS = (4, 8, 16)
IMPLEMENTATIONS = ("merged", "parallel", "packed")
MAX_PE_PIPELINE = 4
MERGED_MODES = ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "int8xfp4", "int8xint4",
                "posit16_1", "int16")
PACKED_MODES = ("fp4", "int4", "fp8_e4m3", "int8", "int8xfp4", "int8xint4")
# Accumulators and modes of the implementations that share multipliers; parallel takes all.
SHARED = {"merged": (("exact",), MERGED_MODES), "packed": (("exact", "int32"), PACKED_MODES)}
SHIFT_BLOCK = 32  # places of one step of the coarse shift of 16-bit formats
# What the issue of such a PE usually holds; any pair of plain formats of 4, 8 or 16 bits is a mode.
COMMON_MODES = ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "int8xfp4", "int8xint4",
                "posit16_1", "int16", "bf16")
XR_NPE_MODES = ("fp4", "posit4_1", "posit8_0", "posit16_1")


@dataclass(frozen=True)
class Mode:
    """One pair of formats in a 16-bit operand word, lane 0 in the least significant bits.

    The wider operand fills the word: 4 lanes of 4 bits, 2 of 8, 1 of 16. A narrower weight leaves the upper bits of
    its word zero (``int8xint4``: two weights in the low byte).
    """

    activation: Format
    weight: Format

    def __post_init__(self):
        for role in ("activation", "weight"):
            fmt = getattr(self, role)
            if fmt.bits not in OPERAND_BITS:
                raise BitkilnError("no SIMD mode for this format", where=f"modes.{role}", got=fmt.name,
                                   expected="a format of 4, 8 or 16 bits")
        if self.weight.bits > self.activation.bits:
            raise BitkilnError("no SIMD mode for this pair", where="modes", got=self.name,
                               expected="weights no wider than activations")

    @classmethod
    def of(cls, name: str) -> Mode:
        """The mode of a PE name (DESIGN 4): ``fp4``, ``int8xfp4``, ..."""
        return cls(*parse_pe(name))

    @property
    def name(self) -> str:
        a, w = self.activation.name, self.weight.name
        return a if a == w else f"{a}x{w}"

    @property
    def lanes(self) -> int:
        """Products per cycle."""
        return WORD_BITS // self.activation.bits

    @property
    def weight_word_bits(self) -> int:
        """Bits of one step's weights in memory (8 where two steps share a word)."""
        return self.lanes * self.weight.bits

    def dot(self, accumulator: Accumulator | None = None) -> DotDesign:
        """The dot unit that computes the same sums."""
        return DotDesign(self.activation, self.weight, lanes=self.lanes, accumulator=accumulator or Accumulator())


@dataclass(frozen=True)
class MorphableDesign:
    """One PE whose mode is chosen at run time.

    Every cycle with ``en`` the products of the mode's lanes are added to one accumulator. The mode may change
    every cycle, but a sum only means something within one mode.

    Parameters
    ----------
    modes : sequence of Mode or str
        At least one; the index in this tuple is the value of the ``mode`` port.
    accumulator : Accumulator
        ``exact``, ``fp32`` (obligatory with bf16 or fp16) or ``int32`` (integer modes only).
    implementation : str, optional
        ``merged`` (one reconfigurable multiplier, shifter and accumulator), ``parallel`` (dedicated lanes before
        one accumulator) or ``packed`` (all products in two DSP blocks); by default the one of the first two that was
        measured smaller for these modes.
    pipeline : int
        Register stages between operands and accumulator, 0..4.
    multiplier : str
        As in `DotDesign`: ``chains``, ``luts`` (of ``parallel`` lanes only) or ``operator``, which gives products of
        5 x 5 bits and more, and all of a ``merged`` PE's multiplier, to DSP blocks.
    """

    modes: tuple[Mode, ...]
    accumulator: Accumulator = field(default_factory=Accumulator)
    implementation: str | None = None
    pipeline: int = 0
    multiplier: str = "chains"

    def __post_init__(self):
        modes = self.modes
        if isinstance(modes, str) or not isinstance(modes, Sequence) or not modes:
            raise BitkilnError("no modes", where="modes", got=modes, expected="a list of PE names, such as fp4, int8")
        modes = tuple(mode if isinstance(mode, Mode) else Mode.of(mode) for mode in modes)
        object.__setattr__(self, "modes", modes)
        names = [mode.name for mode in modes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BitkilnError("mode named twice", where="modes", got=twice, expected="each mode once")
        if self.implementation is None:
            object.__setattr__(self, "implementation", self._smaller())
        if self.implementation not in IMPLEMENTATIONS:
            raise BitkilnError("unknown implementation", where="implementation", got=self.implementation,
                               expected="merged, parallel or packed",
                               help=nearest(self.implementation, IMPLEMENTATIONS))
        if isinstance(self.pipeline, bool) or not isinstance(self.pipeline, int) \
                or not 0 <= self.pipeline <= MAX_PE_PIPELINE:
            raise BitkilnError("out of range", where="pipeline", got=self.pipeline, expected=f"0 to {MAX_PE_PIPELINE}")
        if self.multiplier not in MULTIPLIERS:
            raise BitkilnError("unknown multiplier", where="multiplier", got=self.multiplier,
                               expected="chains, luts or operator", help=nearest(self.multiplier, MULTIPLIERS))
        legal = {"merged": ("chains", "operator"), "parallel": MULTIPLIERS, "packed": ("chains",)}[self.implementation]
        if self.multiplier not in legal:
            raise BitkilnError("contradictory options", where="multiplier", got=self.multiplier,
                               expected=f"{' or '.join(legal)} with implementation {self.implementation}",
                               help="implementation parallel has every choice")
        if self.accumulator.bits is not None:
            raise BitkilnError("contradictory options", where="accumulator.bits", got=self.accumulator.bits,
                               expected="no width with several modes; it follows from depth")
        for mode in modes:
            wide = {"bf16", "fp16", "fp32"} & {mode.activation.name, mode.weight.name}
            if wide and self.accumulator.kind != "fp32":
                raise BitkilnError("accumulator does not fit this mode", where="accumulator.kind",
                                   got=self.accumulator.kind, expected=f"fp32 with {mode.name}")
            mode.dot(self.accumulator)  # int32 needs integers
        missing = self._unfit(self.implementation)
        if missing:
            kinds, names = SHARED[self.implementation]
            raise BitkilnError(f"no {self.implementation} PE for this", where="implementation",
                               got=f"{self.implementation} with {missing}",
                               expected=f"an {' or '.join(kinds)} accumulator and modes of {', '.join(names)}",
                               help="implementation parallel takes every mode")

    def _smaller(self) -> str:
        # Measured (docs/microarchitecture.md, 'Switchable PE'): sharing pays where a 16-bit mode has the multiplier,
        # shifter and accumulator that narrower lanes fit into. E5M2 lanes fit into no accumulator but their own.
        narrow = [mode.name for mode in self.modes if mode.lanes > 1]
        shares = len(narrow) in range(1, len(self.modes)) and "fp8_e5m2" not in narrow
        return "merged" if shares and self.multiplier != "luts" and self._unfit("merged") is None else "parallel"

    def _unfit(self, implementation: str) -> str | None:
        """What an implementation has no place for; None where it fits."""
        if implementation not in SHARED:
            return None
        kinds, names = SHARED[implementation]
        if self.accumulator.kind not in kinds:
            return f"an {self.accumulator.kind} accumulator"
        return next((mode.name for mode in self.modes if mode.name not in names), None)

    def with_options(self, **options) -> MorphableDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    # Modes --------------------------------------------------------------------------------------

    @property
    def mode_bits(self) -> int:
        """Width of the ``mode`` port (at least 1)."""
        return max(1, (len(self.modes) - 1).bit_length())

    def index(self, mode: Mode | str, where: str = "mode") -> int:
        """Value of the ``mode`` port for a mode."""
        name = mode.name if isinstance(mode, Mode) else str(mode)
        names = [m.name for m in self.modes]
        if name not in names:
            raise BitkilnError("this PE has no such mode", where=where, got=name, expected=" or ".join(names),
                               help=nearest(name, names))
        return names.index(name)

    def dot(self, mode: Mode | str) -> DotDesign:
        """The dot unit of a mode with this PE's accumulator: the golden model of the PE."""
        return self.modes[self.index(mode)].dot(self.accumulator)

    # Accumulator ----------------------------------------------------------------------------------

    @property
    def result_bits(self) -> int:
        """Signed width of a finished sum of any mode."""
        if self.accumulator.kind != "exact":
            return 32
        return max(self.dot(mode).exact_bits for mode in self.modes)

    def lane_bits(self, mode: Mode) -> int:
        """Signed width of one lane's share of an exact sum (``depth / lanes`` products)."""
        share = -(-self.accumulator.depth // mode.lanes)
        return 1 + (share * mode.dot().max_product).bit_length()

    @property
    def sectioned(self) -> bool:
        """Whether lanes accumulate in sections of their own (merged): no adder tree, but one sum more at the end."""
        return self.implementation == "merged"

    @cached_property
    def section_starts(self) -> tuple[int, int, int, int]:
        """Lowest bits of the four sections of ``acc``; lanes 0 and 2 of four share those of two.

        With a 16-bit float mode starts are multiples of 32, the block of its shifter, so that placing a lane costs no
        multiplexer input.
        """
        def widest(lanes: int) -> int:
            return max((self.lane_bits(mode) for mode in self.modes if mode.lanes == lanes), default=0)

        block = SHIFT_BLOCK if any(mode.lanes == 1 and mode.dot().product_exponent for mode in self.modes) else 1
        quarter = -(-widest(4) // block) * block
        reach = max((mode.dot().product_bits + 1 for mode in self.modes if mode.lanes == 2), default=0)
        half = max(2 * quarter, widest(2))
        if block > 1 and half:  # past lane 0 by whole blocks
            first = max(reach, block)
            half = first + -(-(half - first) // block) * block
        return 0, quarter, half, half + quarter

    @cached_property
    def accumulator_bits(self) -> int:
        """Width of the ``acc`` port: ``result_bits``, or more where the sections of all lanes need it."""
        ends = [self.sections(mode)[-1] + self.lane_bits(mode) for mode in self.modes if self.sectioned]
        return max([self.result_bits, *ends])

    def sections(self, mode: Mode) -> tuple[int, ...]:
        """Lowest bit of each section of ``acc`` in a mode; a section ends where the next begins (the last at
        ``accumulator_bits``). The result is the sum of the sections, each signed, in units of
        ``2**product_exponent`` of the mode."""
        if not self.sectioned or mode.lanes == 1:
            return (0,)
        starts = self.section_starts
        return starts if mode.lanes == 4 else starts[::2]

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the sticky flag ports: the union of the modes' flags."""
        have = {flag for mode in self.modes for flag in self.dot(mode).flags}
        return tuple(flag for flag in ("nan", "inf_pos", "inf_neg", "illegal", "overflow") if flag in have)

    @property
    def latency(self) -> int:
        """Clock edges from operands with ``en`` to their sum on ``acc``."""
        return 1 + self.pipeline

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        acc = self.accumulator
        kind = f"exact{acc.depth}" if acc.kind == "exact" else acc.kind
        parts = ["pe", *(mode.name for mode in self.modes), self.implementation, kind]
        if acc.overflow == "saturate":
            parts.append("sat")
        if self.pipeline:
            parts.append(f"p{self.pipeline}")
        if self.multiplier != "chains":
            parts.append(self.multiplier)
        return "_".join(parts)
