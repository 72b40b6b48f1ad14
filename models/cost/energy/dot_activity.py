"""Switching activity of a dot unit at the level of its numbers: operands, products, lane sums, accumulator.

Computed from the golden arithmetic in milliseconds, it is what the energy model multiplies structure with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ...design import DotDesign
from ...errors import BitkilnError
from .traces import trace_statistics

__all__ = ["DotActivity", "dot_activity"]


@dataclass(frozen=True)
class DotActivity:
    """Activity per cycle, mean over streams.

    Attributes
    ----------
    activation, weight : float
        Transitions of an operand bit per cycle, 0 to 1.
    activation_zeros, weight_zeros : float
        Share of operands that are zero.
    product : float
        Transitions per cycle of the lanes' products, all bits of all lanes (two's complement).
    lane_sum : float
        Of the sum of the lanes.
    accumulator : float
        Of the accumulator.
    partial_products : float
        Transitions per cycle of all ANDs of an activation's bit and a weight's bit.
    sign : float
        Transitions per cycle of the products' signs.
    nonzero : float
        Share of products that are not zero.
    """

    activation: float
    weight: float
    activation_zeros: float
    weight_zeros: float
    product: float
    lane_sum: float
    accumulator: float
    partial_products: float
    sign: float
    nonzero: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def dot_activity(design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> DotActivity:
    """Activity of a unit that takes the operands one cycle after another, from a cleared accumulator.

    Parameters
    ----------
    design : DotDesign
        With an exact accumulator.
    a_codes, w_codes : integer ndarray (cycles, streams, lanes)
        Finite codes, see `trace_codes`.

    Raises
    ------
    BitkilnError
        An accumulator that is not exact, operands of other shapes.
    """
    if design.accumulator.kind == "fp32":
        raise BitkilnError("no activity model", where="accumulator.kind", got="fp32", expected="exact or int32")
    if a_codes.shape != w_codes.shape or a_codes.ndim != 3 or a_codes.shape[2] != design.lanes:
        raise BitkilnError("wrong shape", where="operands", got=f"{a_codes.shape} and {w_codes.shape}",
                           expected=f"(cycles, streams, {design.lanes}) both")
    a, w = (trace_statistics(fmt, codes) for fmt, codes in ((design.activation, a_codes), (design.weight, w_codes)))
    terms = len(a_codes) * design.lanes
    kind = np.int64 if (design.max_product * terms).bit_length() < 62 else object
    products = design.activation.units(a_codes).astype(kind) * design.weight.units(w_codes).astype(kind)
    sums = products.sum(axis=2)
    bits = design.product_bits + 1
    # The sign that hardware forms from the operands' signs, whatever the magnitude.
    negative = design.activation.unpack(a_codes).sign ^ design.weight.unpack(w_codes).sign
    return DotActivity(a.mean_toggle_rate, w.mean_toggle_rate, a.zero_fraction, w.zero_fraction,
                       _transitions(products, bits) * design.lanes,
                       _transitions(sums, (design.max_product * design.lanes).bit_length() + 1),
                       _transitions(np.cumsum(sums, axis=0), design.accumulator_bits),
                       _partial_products(a_codes, w_codes) * design.lanes,
                       float((negative[1:] != negative[:-1]).mean()) * design.lanes, float((products != 0).mean()))


def _transitions(values: np.ndarray, bits: int) -> float:
    """Transitions per cycle of a ``bits`` wide two's complement number, mean over the other axes."""
    changed = (values[1:] ^ values[:-1]) & ((1 << bits) - 1 if bits < 63 or values.dtype == object else -1)
    if changed.dtype == object:
        return float(np.mean([int(value).bit_count() for value in changed.ravel()]))
    return float(np.bitwise_count(changed.view(np.uint64)).mean())


def _partial_products(a: np.ndarray, w: np.ndarray) -> float:
    """Bits that change in the outer product of two codes' bits, mean over cycles, streams and lanes."""
    def ones(codes: np.ndarray) -> np.ndarray:
        return np.bitwise_count(codes.astype(np.uint64)).astype(np.int64)

    before, after = ones(a[:-1]) * ones(w[:-1]), ones(a[1:]) * ones(w[1:])
    both = ones(a[1:] & a[:-1]) * ones(w[1:] & w[:-1])
    return float((before + after - 2 * both).mean())
