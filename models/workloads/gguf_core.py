"""GGUF tensors on the dequantising core, with the codes, scales and minima of their blocks as they are.

Every block of a row is a channel of a job of its own: a job is one column of blocks (32 or 256 weights of K) of as many
rows of the matrix as a job can have channels, and where the type has minima as many channels again, whose weights are
all +1. What a job returns is, for a row of activations ``a`` and a row ``n`` of the matrix,

    values     fl(fl(sum_g scale[n, g] * sum(a * code[n])) * d[n])
    minima     fl(fl(sum_g minimum[n, g] * sum(a)) * -dmin[n])

with exact integer sums and two roundings to float32 (``fl``). They are added in float64, block by block in ascending
order, values before minima. So the product is defined to the last bit, and off by less than `error_bound`.

With ``minima="host"`` the core gives only the sums of activations, ``fl(sum(a))`` of each group, once for all rows of
the matrix; host software adds up ``minimum[n, g] * fl(sum(a))`` in ascending order, times ``-dmin[n]``, all of it in
float64: one product for each group of each row, for about half the core's cycles where a group is 32 codes of 4 bits.

`design.gguf` says how codes and scales are laid out for it; `host.gguf` makes the streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..design.dequant import MAX_JOB, DequantDesign, DequantJob
from ..design.dot import _all_finite
from ..design.gguf import ONES, CoreForm, core_form
from ..errors import BitkilnError
from ..golden.dequant import DequantWeights
from .gguf_blocks import IntegerBlocks

__all__ = ["MINIMA", "GgufMatrix", "Piece", "activation_units", "add_pieces", "error_bound", "matmul", "piece_results"]

PIECE = 20          # bits of the lower part of an activation
EXACT = 1 << 53     # below, float64 holds every integer
FP32_NAN = 0x7FC00000
MINIMA = ("core", "host")


class Piece(NamedTuple):
    """What one job has of a matrix: column ``block`` of blocks, rows ``first`` to ``end - 1``."""

    block: int
    first: int
    end: int


@dataclass(frozen=True, eq=False)
class GgufMatrix:
    """A quantised GGUF matrix as jobs of a core.

    Parameters
    ----------
    design : DequantDesign
        `gguf_design` makes one.
    type : str
        Of the blocks (``q4_k``).
    blocks : IntegerBlocks
        Codes (N, K), as `GgufFile.integers` gives them.
    minima : str
        Who multiplies by the minima, for types that have them: ``core``, with a second channel for each row, or
        ``host``, with a channel of the core for each group.

    Raises
    ------
    BitkilnError
        No matrix, or a core that cannot run blocks of this type.
    """

    design: DequantDesign
    type: str
    blocks: IntegerBlocks
    minima: str = "core"

    def __post_init__(self):
        form, array = self.form, self.design.array
        if self.minima not in MINIMA:
            raise BitkilnError("unknown choice", where="minima", got=self.minima, expected=", ".join(MINIMA))
        if self.blocks.codes.ndim != 2:
            raise BitkilnError("not a matrix", where=f"{form.layout.name} tensor", got=str(self.blocks.codes.shape),
                               expected="rows and columns")
        if (self.blocks.sub, self.blocks.block) != (form.group, form.layout.weights):
            raise BitkilnError("blocks of another type", where=f"{form.layout.name} tensor",
                               got=f"blocks of {self.blocks.block} weights, {self.blocks.sub} with a scale",
                               expected=f"{form.layout.weights} and {form.group}")
        where = f"core {self.design.name}"
        names = [w.name for w in array.weights]
        for weight in form.weights:
            if weight not in array.weights:
                raise BitkilnError("core has no weight type for these blocks", where=where, got=", ".join(names),
                                   expected=f"{weight.name} for {form.layout.name}")
        if array.accumulate != "exact" or array.floating_scale or array.dual_scale or not self.design.channel_scale \
                or self.design.output.name != "fp32":
            raise BitkilnError("core cannot run GGUF blocks", where=where,
                               got=f"{array.accumulate}, scale {array.scale}, output {self.design.output.name}",
                               expected="exact sums, one integer scale, channel scales, output fp32",
                               help="bitkiln.models.design.gguf.gguf_design makes one")
        scale_bits = array.scale_bits or 1
        for what, found, needed in (("scale bits", scale_bits, form.scale_bits),
                                    ("zero-point bits", array.zero_point, form.zero_bits),
                                    ("weights of a group", array.group, form.group),
                                    ("groups of a channel", array.groups, form.layout.weights // form.group)):
            if found < needed:
                raise BitkilnError("core too small", where=where, got=f"{found} {what}",
                                   expected=f"{needed} for {form.layout.name}")
        self.job(self.pieces[0], 1)

    @cached_property
    def form(self) -> CoreForm:
        """How its blocks run."""
        return core_form(self.type)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.blocks.codes.shape

    @property
    def columns(self) -> int:
        """Blocks of a row."""
        return self.shape[1] // self.blocks.block

    @property
    def groups(self) -> int:
        """Of a block."""
        return self.blocks.block // self.blocks.sub

    @property
    def on_host(self) -> bool:
        """Whether there are minima that the host multiplies by."""
        return self.form.minimum and self.minima == "host"

    def extra(self, rows: int) -> int:
        """Channels of a job besides the values of so many rows: those of ones."""
        return self.groups if self.on_host else rows * self.form.minimum

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Its jobs for one tile of activations: column by column of blocks, from the top."""
        step = MAX_JOB - self.groups if self.on_host else MAX_JOB // self.form.channels
        return tuple(Piece(block, first, min(first + step, self.shape[0])) for block in range(self.columns)
                     for first in range(0, self.shape[0], step))

    def job(self, piece: Piece, rows: int) -> DequantJob:
        """The job of a piece for some rows of activations."""
        matrix_rows = piece.end - piece.first
        return DequantJob(self.blocks.block, self.blocks.sub, matrix_rows + self.extra(matrix_rows),
                          rows).check(self.design)

    @property
    def stream_bytes(self) -> int:
        """Of the weight streams of all pieces: channel scales, headers and padding counted."""
        layout = self.design.layout
        value, ones = (self.design.bus_bytes + self.groups * layout.group_bytes(self.blocks.sub, index)
                       for index in (self.design.array.weights.index(self.form.weights[at]) for at in (0, -1)))
        rows = [piece.end - piece.first for piece in self.pieces]
        return sum(n * value + self.extra(n) * ones for n in rows)

    def part(self, piece: Piece) -> slice:
        """Columns of the matrix that a piece has."""
        return slice(piece.block * self.blocks.block, (piece.block + 1) * self.blocks.block)

    def weights(self, piece: Piece) -> DequantWeights:
        """Channels of a piece as the core is given them: values, then minima."""
        form, array, blocks = self.form, self.design.array, self.blocks
        rows = slice(piece.first, piece.end)
        scales = self.of_groups(blocks.scales, piece)
        stored = blocks.codes[rows, self.part(piece)].astype(np.int64)
        if form.layout.values is not None:
            codes = np.searchsorted(np.array(form.layout.values), stored)
        else:
            negative = np.repeat(scales < 0, blocks.sub, axis=1)
            codes = np.where(negative, ~stored, stored + form.zero) & ((1 << form.weight.bits) - 1)
        zero = np.where(scales < 0, -1, form.zero)
        scale, types = np.abs(scales), np.full(scales.shape, array.weights.index(form.weight))
        channel = blocks.d[rows, piece.block]
        if form.minimum:
            mins, factor = self.of_groups(blocks.mins, piece), -blocks.dmin[rows, piece.block]
            if self.on_host:
                mins, factor = np.eye(self.groups, dtype=np.int64), np.ones(self.groups, np.float32)
            codes = np.concatenate((codes, np.ones((len(mins), blocks.block), np.int64)))
            scale, zero = np.concatenate((scale, mins)), np.concatenate((zero, np.zeros_like(mins)))
            types = np.concatenate((types, np.full(mins.shape, array.weights.index(ONES))))
            channel = np.concatenate((channel, factor))
        if array.scale == "none":
            scale = np.zeros_like(scale)
        none = np.zeros(scale.shape, np.int64)
        return DequantWeights(codes, types, none, scale, none, zero, channel.astype(np.float32))

    def of_groups(self, scales: np.ndarray, piece: Piece) -> np.ndarray:
        """Those of a piece, int64 (rows, groups), out of scales or minima of the matrix."""
        at = slice(piece.block * self.groups, (piece.block + 1) * self.groups)
        return scales[piece.first:piece.end, at].astype(np.int64)


def activation_units(matrix: GgufMatrix, activations: np.ndarray) -> np.ndarray:
    """Integers of activation codes, in units of ``2**activation.unit_exponent``.

    Raises
    ------
    BitkilnError
        Codes of NaN or infinity, or not (rows, K).
    """
    design = matrix.design.array
    if activations.ndim != 2 or activations.shape[1] != matrix.shape[1]:
        raise BitkilnError("shape mismatch", where="activations", got=str(activations.shape),
                           expected=f"(rows, {matrix.shape[1]})")
    fmt = design.activation if design.specials else _all_finite(design.activation)
    if np.any(fmt.unpack(activations).special):
        raise BitkilnError("NaN or Inf among activations", where="activations", expected="finite values")
    return fmt.units(activations).astype(np.int64) << (fmt.unit_exponent - design.activation.unit_exponent)


def _exact(units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``units @ weights.T`` as int64, exact: magnitudes below 2**41 and sums of weights of a row up to 2**20."""
    reach = int(np.abs(weights).sum(axis=1).max(initial=0))
    factors = weights.T.astype(np.float64)
    if int(np.abs(units).max(initial=0)) * reach < EXACT:
        return (units.astype(np.float64) @ factors).astype(np.int64)
    high, low = (units >> PIECE).astype(np.float64), (units & ((1 << PIECE) - 1)).astype(np.float64)
    return ((high @ factors).astype(np.int64) << PIECE) + (low @ factors).astype(np.int64)


def piece_results(matrix: GgufMatrix, piece: Piece, units: np.ndarray) -> np.ndarray:
    """What the job of a piece returns.

    Parameters
    ----------
    units : int64 ndarray (M, block)
        Activations as integers of their unit.

    Returns
    -------
    float32 ndarray (M, channels)
        Values, then minima (or sums of activations); NaN is the canonical one.
    """
    blocks, rows = matrix.blocks, slice(piece.first, piece.end)
    codes = blocks.codes[rows, matrix.part(piece)].astype(np.int64)
    sums = [_exact(units, codes * np.repeat(matrix.of_groups(blocks.scales, piece), blocks.sub, axis=1))]
    factor = [blocks.d[rows, piece.block]]
    if matrix.form.minimum:
        groups = units.reshape(len(units), -1, blocks.sub).sum(axis=2)
        sums.append(groups if matrix.on_host else groups @ matrix.of_groups(blocks.mins, piece).T)
        factor.append(np.ones(matrix.groups) if matrix.on_host else -blocks.dmin[rows, piece.block])
    # An int64 becomes the nearest float32 at once; the power of two is exact, for no sum is subnormal or too large.
    rounded = np.ldexp(np.concatenate(sums, axis=1).astype(np.float32), matrix.design.array.result_exponent)
    with np.errstate(invalid="ignore", over="ignore"):
        found = rounded * np.concatenate(factor).astype(np.float32)
    return np.where(np.isnan(found), np.uint32(FP32_NAN).view(np.float32), found)


def add_pieces(matrix: GgufMatrix, results: Iterable[np.ndarray], magnitudes: bool = False) -> np.ndarray:
    """The product, from the results of `GgufMatrix.pieces` in their order.

    Parameters
    ----------
    results : iterable of float32 ndarray (M, channels)
    magnitudes : bool
        The sum of the magnitudes of all terms instead.

    Returns
    -------
    float64 ndarray (M, N)
        Added up from +0 in ascending order of blocks, values before minima.
    """
    total = np.zeros((0, matrix.shape[0]))
    for piece, found in zip(matrix.pieces, results, strict=True):
        if piece is matrix.pieces[0]:
            total = np.zeros((len(found), matrix.shape[0]))
        rows = piece.end - piece.first
        values, ones = found[:, :rows].astype(np.float64), found[:, rows:].astype(np.float64)
        if magnitudes:
            values, ones = np.abs(values), np.abs(ones)
        with np.errstate(invalid="ignore"):  # factors may be infinite or NaN
            total[:, piece.first:piece.end] += values
            if matrix.on_host:
                mins = matrix.of_groups(matrix.blocks.mins, piece).astype(np.float64)
                factor = -matrix.blocks.dmin[piece.first:piece.end, piece.block].astype(np.float64)
                products = np.zeros_like(values)
                for g in range(matrix.groups):
                    products += ones[:, g, None] * mins[:, g]
                ones = products * (np.abs(factor) if magnitudes else factor)
            if matrix.form.minimum:
                total[:, piece.first:piece.end] += ones
    return total


def matmul(matrix: GgufMatrix, activations: np.ndarray) -> np.ndarray:
    """Product of a matrix with rows of activations, bit for bit as the core and `add_pieces` give it.

    Parameters
    ----------
    activations : ndarray (M, K)
        Codes of the design's activation format, finite.

    Returns
    -------
    float64 ndarray (M, N)
    """
    units = activation_units(matrix, np.asarray(activations))
    return add_pieces(matrix, (piece_results(matrix, piece, units[:, matrix.part(piece)])
                               for piece in matrix.pieces))


def error_bound(matrix: GgufMatrix, activations: np.ndarray) -> np.ndarray:
    """Most that `matmul` can be off the exact product of the dequantised weights, float64 (M, N).

    A term (one or two a block) is an exact sum rounded to float32 and multiplied by a factor with one more rounding;
    neither is ever subnormal (sums are multiples of 2**-24 or more, half-precision factors too) nor overflows. T terms
    take T - 1 roundings of float64 at most, and minima that the host multiplies by two more and one for each group. So
    each part comes in times ``(1 + e)**2 (1 + f)**n`` with ``|e| <= 2**-24``, ``|f| <= 2**-53`` (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., 3.1), and the error is at most the parts' magnitudes, added up, times
    ``(1 + 2**-24)**2 (1 + 2**-53)**n - 1``. The magnitudes are taken from the rounded parts; a factor of 1 + 2**-20
    makes up for it. Factors that are infinite or NaN have no bound.
    """
    units = activation_units(matrix, np.asarray(activations))
    sizes = add_pieces(matrix, (piece_results(matrix, piece, units[:, matrix.part(piece)])
                                for piece in matrix.pieces), magnitudes=True)
    roundings = matrix.columns * matrix.form.channels + matrix.groups + 2
    return sizes * (2.0 ** -23 + 2.0 ** -48 + roundings * 2.0 ** -52) * (1 + 2.0 ** -20)
