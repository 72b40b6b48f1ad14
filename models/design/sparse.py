"""Parameters of the sparse side path, shared by RTL, golden model, cycle model and checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import BitkilnError, nearest
from ..formats import Format, get_format
from .bitserial import BitSerialDesign
from .checks import check_integer, check_power_of_two
from .dot import Accumulator, DotDesign

__all__ = ["ACTIVATIONS", "VALUES", "SparseDesign", "SumDesign"]

ACTIVATIONS = ("fp16", "fp8_e4m3", "fp8_e5m2", "int8")
VALUES = ("fp16", "int16", "int12", "int8")
MAX_LANES, MAX_SIDE, MAX_TILE, MAX_DEPTH, MAX_QUEUE = 16, 64, 1 << 14, 1 << 20, 1 << 10
OUTPUTS = ("fp32", "raw")
PIPELINE = 4     # registers inside the product


@dataclass(frozen=True)
class SparseDesign:
    """Outliers of a weight matrix, multiplied and summed exactly beside a dense engine (arXiv 2306.07629, section 4.2).

    Parameters
    ----------
    activation : Format or str
        fp16, fp8_e4m3, fp8_e5m2 or int8.
    value : Format or str
        Of the outliers: fp16, int16, int12 or int8.
    value_exponent : int
        An outlier is its value times ``2**value_exponent``: integer outliers in the units of the dense weights.
    lanes, rows, columns : int
        Of the dense engine: activations of a row in one chunk, rows of activations, columns of weights.
    tile : int
        Most weights of a column along K whose activations are held together, a multiple of ``lanes``.
    depth : int
        Most outliers of one result.
    queue : int
        Outliers that can wait, a power of two.
    specials : bool
        NaN and infinities of activations and outliers are tracked; without it their codes are finite numbers.
    """

    activation: Format = "fp16"  # type: ignore[assignment]
    value: Format = "fp16"  # type: ignore[assignment]
    value_exponent: int = 0
    lanes: int = 4
    rows: int = 1
    columns: int = 1
    tile: int = 128
    depth: int = 1024
    queue: int = 16
    specials: bool = True

    def __post_init__(self):
        for key, choices in (("activation", ACTIVATIONS), ("value", VALUES)):
            fmt = get_format(getattr(self, key), where=key)
            if fmt.name not in choices:
                raise BitkilnError(f"no side path for this {key}", where=key, got=fmt.name,
                                   expected=", ".join(choices), help=nearest(fmt.name, choices))
            object.__setattr__(self, key, fmt)
        for key, low, high in (("value_exponent", -64, 64), ("lanes", 1, MAX_LANES), ("rows", 1, MAX_SIDE),
                               ("columns", 1, MAX_SIDE), ("tile", 1, MAX_TILE), ("depth", 1, MAX_DEPTH),
                               ("queue", 2, MAX_QUEUE)):
            check_integer(getattr(self, key), key, low, high)
        if self.tile % self.lanes:
            raise BitkilnError("a tile of broken chunks", where="tile", got=self.tile,
                               expected=f"a multiple of the {self.lanes} lanes")
        check_power_of_two(self.queue, "queue", "2, 4, 8, ...")

    def with_options(self, **options) -> SparseDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @cached_property
    def dot(self) -> DotDesign:
        """The same sums as a dot unit's: width, flags and meaning of special values."""
        return DotDesign(self.activation, self.value, lanes=1, accumulator=Accumulator(depth=self.depth),
                         pipeline=PIPELINE, specials=self.specials)

    @property
    def chunks(self) -> int:
        """Most chunks of a tile."""
        return self.tile // self.lanes

    @property
    def sum_bits(self) -> int:
        """Signed width of a sum."""
        return self.dot.exact_bits

    @property
    def exponent(self) -> int:
        """A sum is an integer times ``2**exponent``."""
        return self.dot.product_exponent + self.value_exponent

    @property
    def flags(self) -> tuple[str, ...]:
        """Special events of a sum: of nan, inf_pos, inf_neg those that can happen."""
        return self.dot.flags

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        exponent = f"e{'m' if self.value_exponent < 0 else ''}{abs(self.value_exponent)}"
        parts = ["sparse", self.activation.name, self.value.name, exponent, f"{self.rows}x{self.columns}",
                 f"l{self.lanes}", f"k{self.tile}", f"d{self.depth}", f"q{self.queue}"]
        return "_".join([*parts, *["nospecials"] * (not self.specials)])


@dataclass(frozen=True)
class SumDesign:
    """Addition of the sums of a side path to the raw results of a bit-serial array.

    Parameters
    ----------
    dense : BitSerialDesign
        With raw output, its groups summed over a channel: results are integers of one unit.
    sparse : SparseDesign
        Of as many rows and columns.
    output : str
        ``fp32``: rounded once; ``raw``.
    """

    dense: BitSerialDesign
    sparse: SparseDesign
    output: str = "fp32"

    def __post_init__(self):
        dense, sparse = self.dense, self.sparse
        if dense.output != "raw" or not dense.sums_channel:
            raise BitkilnError("dense results are no integers of one unit", where="dense",
                               got=f"output {dense.output}, accumulate {dense.accumulate}, scale {dense.scale}",
                               expected="raw output, exact sums and integer scales or none")
        shapes = [f"{d.rows} x {d.columns} of {d.activation.name}" for d in (dense, sparse)]
        if shapes[0] != shapes[1]:
            raise BitkilnError("dense and sparse results differ", where="sparse", got=shapes[1], expected=shapes[0])
        if self.output not in OUTPUTS:
            raise BitkilnError("unknown output", where="output", got=self.output, expected=", ".join(OUTPUTS),
                               help=nearest(str(self.output), OUTPUTS))

    @property
    def exponent(self) -> int:
        """A sum is an integer times ``2**exponent``."""
        return min(self.dense.result_exponent, self.sparse.exponent)

    @property
    def dense_shift(self) -> int:
        """Places that the dense units stand above those of the sum."""
        return self.dense.result_exponent - self.exponent

    @property
    def side_shift(self) -> int:
        """Places that the side path's units stand above those of the sum."""
        return self.sparse.exponent - self.exponent

    @property
    def sum_bits(self) -> int:
        """Signed width of a sum."""
        return 1 + max(self.dense.result_bits + self.dense_shift, self.sparse.sum_bits + self.side_shift)

    @property
    def dense_flags(self) -> tuple[str, ...]:
        """Special events of a dense result."""
        activation = self.dense.activation
        found = ("nan",) * activation.has_nan + ("inf_pos", "inf_neg") * activation.has_inf
        return found if self.dense.specials else ()

    @property
    def flags(self) -> tuple[str, ...]:
        """Special events of a result."""
        return max(self.dense_flags, self.sparse.flags, key=len)

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        dense = self.dense
        e = [f"{'m' if e < 0 else 'p'}{abs(e)}" for e in (dense.result_exponent, self.sparse.exponent)]
        return "_".join(["sparse_sum", f"{dense.columns}", f"s{dense.result_bits}{e[0]}",
                         f"s{self.sparse.sum_bits}{e[1]}", f"f{len(self.dense_flags)}{len(self.sparse.flags)}",
                         self.output])
