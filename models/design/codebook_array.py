"""Parameters of the array of MACs behind codebook dequantisers, shared by RTL, golden model and checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import BitkilnError, nearest
from ..formats import Format, get_format
from .checks import check_integer
from .codebook import FAMILIES, STORES, CodebookDesign
from .dot import Accumulator
from .matmul import ArrayDesign
from .morphable import Mode, MorphableDesign

__all__ = ["KINDS", "CodebookArrayDesign"]

KINDS = ("exact", "fp32")
IMPLEMENTATIONS = ("parallel", "packed")   # those whose sums are one number
FLOATS = ("fp16", "bf16")                  # only with fp32 accumulators (MorphableDesign)
USUAL_BLOCK = 64                           # of NF4
MAX_BLOCK = 1 << 16


@dataclass(frozen=True)
class CodebookArrayDesign:
    """Rows x columns of MACs; a codebook dequantiser for each column's weights, one float32 scale for each block.

    A *block* is a run along K with one scale (and table) in each column; a *sum* is one result over any number of
    blocks.

    Parameters
    ----------
    activation, weight : Format or str
        Operands of the MACs: int, fixed, minifloat or posit of 4, 8 or 16 bits, weights no wider than activations.
        ``weight`` is the format of the table entries.
    rows, columns : int
        1..64; a row has its own activations, a column its own weights.
    code_bits, tables, scale, offset, store : as of `CodebookDesign`
        Tables are common to all columns; each column's block chooses one.
    block : int
        Longest block in weights, 1..65,536: the exact accumulator's depth.
    accumulator : str, optional
        ``exact``: a block's sum is an integer; ``fp32``: rounded with each word of products (needed by fp16 and bf16).
    links, implementation, pipeline, multiplier : as of `ArrayDesign` and `MorphableDesign`
    result_lanes : int, optional
        Results that are scaled in one cycle, a divisor of ``columns``; by default the fewest that keep up with blocks
        of 64 weights.
    """

    activation: Format = "fp8_e4m3"  # type: ignore[assignment]
    weight: Format = "fp8_e4m3"  # type: ignore[assignment]
    rows: int = 1
    columns: int = 1
    code_bits: int = 4
    tables: int = 1
    scale: str = "fp32"
    offset: bool = False
    block: int = 256
    accumulator: str = None  # type: ignore[assignment]
    links: str = "broadcast"
    implementation: str = "parallel"
    pipeline: int = 1
    multiplier: str = "chains"
    result_lanes: int = None  # type: ignore[assignment]
    store: str = "lutram"

    def __post_init__(self):
        put = object.__setattr__
        for key in ("activation", "weight"):
            fmt = get_format(getattr(self, key), where=key)
            if fmt.family not in FAMILIES or fmt.bits not in (4, 8, 16):
                raise BitkilnError("no operand of this format", where=key, got=fmt.name,
                                   expected="an int, fixed, minifloat or posit format of 4, 8 or 16 bits",
                                   help="look weights up in a table of fp8_e4m3 or int8" if key == "weight" else None)
            put(self, key, fmt)
        if self.weight.bits > self.activation.bits:
            raise BitkilnError("weights wider than activations", where="weight", got=self.weight.name,
                               expected=f"at most the {self.activation.bits} bits of {self.activation.name}")
        check_integer(self.block, "block", 1, MAX_BLOCK)
        if self.accumulator is None:
            floats = {self.activation.name, self.weight.name} & set(FLOATS)
            put(self, "accumulator", "fp32" if floats else "exact")
        for key, choices in (("accumulator", KINDS), ("implementation", IMPLEMENTATIONS), ("store", STORES)):
            if getattr(self, key) not in choices:
                raise BitkilnError(f"unknown {key}", where=key, got=getattr(self, key), expected=" or ".join(choices),
                                   help=nearest(str(getattr(self, key)), choices))
        array, _ = self.array, self.codebook   # with their own checks
        if self.result_lanes is None:
            chunks = max(USUAL_BLOCK // self.lanes - array.latency, 1)
            fits = [n for n in range(1, self.columns + 1) if self.columns % n == 0]
            put(self, "result_lanes", next((n for n in fits if self.rows * self.columns // n <= chunks), fits[-1]))
        check_integer(self.result_lanes, "result_lanes", 1, self.columns)
        if self.columns % self.result_lanes:
            raise BitkilnError("does not divide the columns", where="result_lanes", got=self.result_lanes,
                               expected=f"a divisor of {self.columns}")

    def with_options(self, **options) -> CodebookArrayDesign:
        """A copy with some parameters changed; what followed from them (``result_lanes``, ``accumulator``) stays."""
        return replace(self, **options)

    @cached_property
    def array(self) -> ArrayDesign:
        """The MACs: one mode, output-stationary."""
        pe = MorphableDesign((Mode(self.activation, self.weight),),
                             Accumulator(kind=self.accumulator, depth=max(self.block, 16 // self.activation.bits)),
                             self.implementation, self.pipeline, self.multiplier)
        return ArrayDesign(self.rows, self.columns, pe, "output", self.links)

    @cached_property
    def codebook(self) -> CodebookDesign:
        """The dequantiser of one column: a chunk is a word of the array."""
        return CodebookDesign(self.weight, self.lanes, self.code_bits, self.tables, self.scale, self.offset,
                              store=self.store)

    @property
    def mode(self) -> Mode:
        return self.array.pe.modes[0]

    @property
    def lanes(self) -> int:
        """Products of a MAC in one cycle: weights of a column's chunk."""
        return 16 // self.activation.bits

    @property
    def groups(self) -> int:
        """Words of results of a row."""
        return self.columns // self.result_lanes

    @property
    def sum_bits(self) -> int:
        """Signed width of a block's exact sum, in units of ``2**exponent``."""
        return self.array.pe.result_bits

    @property
    def exponent(self) -> int:
        return self.array.pe.dot(self.mode).product_exponent

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        parts = ["codebook", self.array.name, f"c{self.code_bits}", f"t{self.tables}", f"s{self.scale}",
                 *["offset"] * self.offset, self.store, f"r{self.result_lanes}"]
        return "_".join(parts)
