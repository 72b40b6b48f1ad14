"""Matrix products on the bit-serial engine: quantised weights to what the engine is given, and its results, fast.

``golden.bitserial`` defines the results group by group; here whole matrices are computed with float64 products of short
integers, exactly, so that thousands of words of a real network take seconds. Tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..design.bitserial import BitSerialDesign
from ..design.dot import _all_finite
from ..errors import BitkilnError
from ..golden.bitserial import GroupStream
from ..quantize.groups import GroupQuantized

__all__ = ["EngineMatrix", "design_for", "matmul"]

HALF = 24          # bits of the lower part of a group sum
PIECE = 20         # bits of the lower part of an activation
PRODUCTS = 1 << 18 # of a group's matrices at once: they stay in the cache, and OpenBLAS starts no threads for them
EXACT = 1 << 53    # below, float64 holds every integer, so products of matrices of them are exact in any order


def design_for(quantised: GroupQuantized, **options) -> BitSerialDesign:
    """The smallest engine that runs a quantised matrix.

    Raises
    ------
    BitkilnError
        A method whose weights the engine has no way for.
    """
    for name, what in (("codebook", "a codebook for each row"), ("salient_scale_codes", "salient columns"),
                       ("outlier_value", "outliers beside the codes")):
        if getattr(quantised, name) is not None:
            raise BitkilnError("not for the bit-serial array", where=f"method {quantised.method}", got=what,
                               expected="grids of small integers with a scale for each group",
                               help="the codebook_dequantiser takes codebooks, the sparse path outliers")
    if quantised.pairs:
        raise BitkilnError("not for the bit-serial array", where=f"method {quantised.method}",
                           got="outlier-victim pairs", expected="grids of small integers with a scale for each group")
    if quantised.scale_format not in ("uint8", "uint6", "uint4", "none", "e8m0", "ue4m3", "ue5m3"):
        raise BitkilnError("scales that the bit-serial dequantiser does not take", where=f"method {quantised.method}",
                           got=quantised.scale_format, expected="uint8, uint6, uint4, e8m0, ue4m3, ue5m3",
                           help="second-level scales: scale_format uint8")
    options = {"group": max(quantised.group, 1), "groups": max(quantised.groups, 1), "scale": quantised.scale_format,
               "zero_point": quantised.zero_bits if quantised.zero is not None else 0,
               "dual_scale": quantised.negative_scale_codes is not None, **options}
    return BitSerialDesign(quantised.types, **options)


@dataclass(frozen=True)
class EngineMatrix:
    """A weight matrix as the engine takes it.

    Parameters
    ----------
    design : BitSerialDesign
    quantised : GroupQuantized
        N output channels with K weights each.
    """

    design: BitSerialDesign
    quantised: GroupQuantized

    def __post_init__(self):
        need = design_for(self.quantised)
        names = [t.name for t in self.design.weights]
        missing = [t.name for t in need.weights if t.name not in names]
        if missing:
            raise BitkilnError("weight type that the engine was not built for", where=f"method {self.quantised.method}",
                               got=missing[0], expected=", ".join(names))
        for key in ("scale", "zero_point", "dual_scale"):
            if getattr(need, key) != getattr(self.design, key):
                raise BitkilnError("engine built for another kind of group", where=key, got=getattr(self.design, key),
                                   expected=str(getattr(need, key)))
        for key in ("group", "groups"):
            if getattr(self.design, key) < getattr(need, key):
                raise BitkilnError("engine too small", where=key, got=getattr(self.design, key),
                                   expected=f"at least {getattr(need, key)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.quantised.matrix

    @property
    def lengths(self) -> np.ndarray:
        """Weights of each group of a channel."""
        return self.quantised.sizes

    @cached_property
    def types(self) -> np.ndarray:
        """Type selectors (N, G)."""
        names = [t.name for t in self.design.weights]
        of_type = np.array([names.index(name) for name in self.quantised.types])
        index = self.quantised.type_index
        shape = (self.shape[0], len(self.lengths))
        return np.full(shape, of_type[0]) if index is None else of_type[index]

    def _metadata(self, name: str) -> np.ndarray:
        found = getattr(self.quantised, name)
        shape = (self.shape[0], len(self.lengths))
        return np.zeros(shape, np.int64) if found is None else found.astype(np.int64)

    @cached_property
    def special(self) -> np.ndarray:
        return self._metadata("special_index")

    @cached_property
    def scale(self) -> np.ndarray:
        return self._metadata("scale_codes")

    @cached_property
    def scale_negative(self) -> np.ndarray:
        return self._metadata("negative_scale_codes")

    @cached_property
    def zero(self) -> np.ndarray:
        return self._metadata("zero")

    @cached_property
    def channel_scale(self) -> np.ndarray:
        """float32 (N,): what a channel's sum is multiplied by in the end; 1 where there is none."""
        scale = self.quantised.channel_scale
        if scale is None:
            return np.ones(self.shape[0], np.float32)
        if len(scale) == 1:
            return np.full(self.shape[0], scale[0], np.float32)
        if len(scale) != self.shape[0]:
            raise BitkilnError("second-level scales of another shape", where=f"method {self.quantised.method}",
                               got=f"{len(scale)}", expected=f"one for each of {self.shape[0]} channels, or one in all")
        return scale.astype(np.float32)

    @cached_property
    def units(self) -> np.ndarray:
        """Weights as integers of the design's units (N, K), zero-points not taken off."""
        out = np.zeros(self.shape, np.int64)
        types, special = (np.repeat(part, self.lengths, axis=1) for part in (self.types, self.special))
        for index, weight in enumerate(self.design.weights):
            at = types == index
            values = np.array([*weight.specials, 0, 0, 0, 0][:4], np.int64) if weight.special_code is not None else None
            found = weight.units(self.quantised.codes[at] & ((1 << weight.bits) - 1),
                                 None if values is None else values[special[at]])
            out[at] = found << self.design.offset(index)
        return out

    @cached_property
    def scaled_units(self) -> np.ndarray:
        """int64 (N, K): weights less their zero-points, times the integers of their scales."""
        value = self.units
        if self.design.zero_point:
            value = value - np.repeat(self.zero << self.design.zero_shift, self.lengths, axis=1)
        scale = self._scale_parts(self.scale)[0]
        if self.design.dual_scale:
            scale = np.where(value < 0, self._scale_parts(self.scale_negative)[0], scale)
        return value * scale

    def _scale_parts(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integers and exponents of scale codes, (N, K)."""
        integer, exponent = _multiplier(self.design, np.repeat(codes, self.lengths, axis=1))
        return np.broadcast_to(integer, self.shape), np.broadcast_to(exponent, self.shape)

    @cached_property
    def factors(self) -> np.ndarray:
        """float64 (K, N), exact: what each unit of an activation adds to a result."""
        return np.ascontiguousarray(np.ldexp(self.scaled_units.astype(np.float64),
                                             self.design.result_exponent + self._scale_parts(self.scale)[1]).T)

    @cached_property
    def reach(self) -> int:
        """Largest sum of magnitudes of ``scaled_units`` of a channel."""
        return int(np.abs(self.scaled_units).sum(axis=1).max(initial=0))

    def tile(self, activations: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> GroupStream:
        """The stream of one tile: rows of activation codes (R, K) against channels (C); an index of -1 stands for
        a row or channel that is not there (zeros)."""
        def pick(values: np.ndarray, at: np.ndarray) -> np.ndarray:
            return np.where((at >= 0)[:, None], values[np.maximum(at, 0)], 0)

        return GroupStream(pick(activations, rows), pick(self.quantised.codes.astype(np.int64), columns), self.lengths,
                           *(pick(part, columns) for part in (self.types, self.special, self.scale,
                                                              self.scale_negative, self.zero)),
                           np.arange(len(self.lengths)) == len(self.lengths) - 1)


def matmul(matrix: EngineMatrix, activations: np.ndarray) -> np.ndarray:
    """Results of the engine before the channel scales.

    Parameters
    ----------
    activations : ndarray (M, K)
        Codes of the design's activation format, finite.

    Returns
    -------
    ndarray of float32
        (M, N), each the exact sum of its channel rounded once; with floating scales (M, N, G), one for each group.
    """
    design = matrix.design
    if design.accumulate != "exact":
        raise BitkilnError("exact sums only", where="accumulate", got=design.accumulate, expected="exact")
    fmt = design.activation if design.specials else _all_finite(design.activation)
    if np.any(fmt.unpack(activations).special):
        raise BitkilnError("NaN or Inf among activations", where="activations", expected="finite values")
    units = fmt.units(activations).astype(np.int64) << (fmt.unit_exponent - design.activation.unit_exponent)
    if int(np.abs(units).max(initial=0)) * matrix.reach < EXACT:
        return _short(matrix, units.astype(np.float64))
    high, low = (units >> PIECE).astype(np.float64), (units & ((1 << PIECE) - 1)).astype(np.float64)
    starts = np.concatenate(([0], np.cumsum(matrix.lengths)))
    shape = (len(activations), matrix.shape[0])
    upper, lower = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    parts = []
    for g in range(len(matrix.lengths)):
        at = slice(starts[g], starts[g + 1])
        weights = matrix.units[:, at].astype(np.float64)

        def total(w: np.ndarray, at: slice = at) -> np.ndarray:
            # Both products stay below 2**53: 21 + 16 + 10 bits.
            return ((high[:, at] @ w.T).astype(np.int64) << PIECE) + (low[:, at] @ w.T).astype(np.int64)

        pairs = [(weights, matrix.scale[:, g])]
        if design.dual_scale:
            pairs = [(np.maximum(weights, 0), matrix.scale[:, g]),
                     (np.minimum(weights, 0), matrix.scale_negative[:, g])]
        for w, scale in pairs:
            value = total(w)
            if design.zero_point:
                value -= units[:, at].sum(axis=1)[:, None] * (matrix.zero[:, g] << design.zero_shift)
            multiplier, exponent = _multiplier(design, scale)
            upper += (value >> HALF) * multiplier
            lower += (value & ((1 << HALF) - 1)) * multiplier
            if design.floating_scale:
                parts.append(_round(upper, lower, design.result_exponent + exponent))
                upper, lower = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    return np.stack(parts, axis=2) if design.floating_scale else _round(upper, lower, design.result_exponent)


def _short(matrix: EngineMatrix, units: np.ndarray) -> np.ndarray:
    """Results where no sum can leave float64's integers (times a power of two, in each channel and group)."""
    channels = matrix.shape[0]
    if not matrix.design.floating_scale:
        return (units @ matrix.factors + 0.0).astype(np.float32)
    found = np.empty((len(matrix.lengths), len(units), channels), np.float32)
    ends = np.cumsum(matrix.lengths)
    step = max(1, PRODUCTS // (channels * int(matrix.lengths.max(initial=1))))
    for top in range(0, len(units), step):
        some = units[top:top + step]
        for g, (start, end) in enumerate(zip(ends - matrix.lengths, ends, strict=True)):
            with np.errstate(over="ignore"):
                found[g, top:top + step] = some[:, start:end] @ matrix.factors[start:end] + 0.0
    return np.moveaxis(found, 0, 2)


def _multiplier(design: BitSerialDesign, code: np.ndarray) -> tuple[np.ndarray | int, np.ndarray | int]:
    if design.scale == "none":
        return 1, 0
    if design.scale.startswith("uint"):
        return code, 0
    if design.scale == "e8m0":
        return 1, code - 127
    field, fraction = code >> 3, code & 7
    return fraction + 8 * (field > 0), np.maximum(field, 1) - (7 if design.scale == "ue4m3" else 15)


def _round(upper: np.ndarray, lower: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """``(upper * 2**HALF + lower) * 2**exponent`` as float32, rounded once to nearest even."""
    upper = upper + (lower >> HALF)
    lower = lower & ((1 << HALF) - 1)
    # Where the upper part alone has the 26 bits that rounding looks at, its last one stands for all below.
    wide = np.abs(upper) >> 28 > 0
    short = np.ldexp(upper.astype(np.float64), HALF) + lower   # at most 53 bits
    jam = np.ldexp((upper | (lower != 0)).astype(np.float64), HALF)
    with np.errstate(over="ignore"):
        return (np.ldexp(np.where(wide, jam, short), exponent) + 0.0).astype(np.float32)


def quantise_for(design: BitSerialDesign, index: int, tensor: np.ndarray, name: str = "tensor") -> GroupQuantized:
    """A weight matrix in type ``index`` of a design, with the kind of scales, zero-points and groups that it has.

    Raises
    ------
    BitkilnError
        No quantiser gives this type with these scales.
    """
    from ..quantize.methods import quantize

    weight = design.weights[index]
    group, scale = min(design.group, tensor.shape[-1]), design.scale
    kind = weight.name.rstrip("0123456789")
    if weight.special_code is not None and scale.startswith("uint") and not design.zero_point and not design.dual_scale:
        return quantize("bitmod", tensor, weight.bits, group, scale_bits=design.scale_bits, name=name)
    if design.zero_point and kind == "int":
        return quantize("rtn_asym", tensor, weight.bits, group, scale=scale, zero_bits=design.zero_point, name=name)
    if design.dual_scale and weight.name in ("fp3", "fp4"):
        return quantize("afpq", tensor, weight.bits, group, scale=scale, name=name)
    if not design.zero_point and not design.dual_scale and scale != "none":
        if weight.name == "fp4" and scale == "e8m0":
            return quantize("mxfp4", tensor, 4, group, name=name)
        if kind == "int":
            return quantize("rtn_sym", tensor, weight.bits, group, scale=scale, name=name)
        if weight.name in ("fp3", "fp4", "fp6_e2m3", "fp6_e3m2"):
            return quantize("fp", tensor, weight.bits, group, scale=scale, element=weight.name, name=name)
        if weight.name == "ternary":
            return quantize("ternary", tensor, 1.58, group, scale=scale, name=name)
        if weight.name == "flint4":
            return quantize("flint", tensor, 4, group, scale=scale, name=name)
        if weight.name in ("binary", "seq2"):
            return quantize("paretoq", tensor, {"binary": 1, "seq2": 2}[weight.name], group, scale=scale, name=name)
    raise BitkilnError("no quantiser for this type and its scales", where=weight.name, got=f"scale {scale}"
                       + (f", zero_point {design.zero_point}" if design.zero_point else "")
                       + (", dual" if design.dual_scale else ""),
                       expected="bitmod, fp or ternary with integer scales; int with or without zero_point; afpq")


def product_of(matrix: EngineMatrix, activations: np.ndarray, results: np.ndarray) -> np.ndarray:
    """float64 (M, N): the engine's results times the channels' scales; groups with floating scales are added in
    float32 in ascending order (DESIGN 4, block scales)."""
    if results.ndim == 3:
        total = np.zeros(results.shape[:2], np.float32)
        for g in range(results.shape[2]):
            total = total + results[:, :, g]
        results = total
    return (results * matrix.channel_scale).astype(np.float64)
